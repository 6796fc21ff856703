# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the journal have in common: a daemon whose PID 1 is pid1.py, holders that come
back, and journals of the test's own."""

import array
import json
import os
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from client import Client
from daemontest import DaemonTest
from fds import close, close_all, memfd, track
from holder import Holder
from patience import eventually, is_asleep
from pid1 import Pid1


class VM(Holder):
    """A holder process; attach() is over a connection of its own each time."""

    current = None

    def attach(self, name, **parameters):
        self.current = self.connect()
        return self.call("Attach", {"name": name, **parameters})[0]

    def call(self, method, parameters=None, fds=()):
        return self.do("call", self.current, method, parameters, fds=fds)

    def fetch(self):
        """[(object, [descriptors])]"""
        held, cursor = [], 0
        while cursor is not None:
            answer, fds = self.call("Fetch", {"cursor": cursor})
            for item in answer["objects"]:
                index = item["firstFileDescriptor"]
                held.append((item, fds[index : index + item.get("count", 1)]))
            cursor = answer.get("next")
        return held


def pair():
    """An empty journal of our own: its receiving and its sending end, tracked."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return [track(end.detach()) for end in ends]


def append(end, record, fds=()):
    data = record if isinstance(record, bytes) else json.dumps(record).encode()
    if len(data) > 2048:  # INLINE_BYTES of daemon/journal.c
        data, fds = b"M", [*fds, memfd(content=data, size=0)]
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    with socket.socket(fileno=os.dup(end)) as sender:
        sender.sendmsg([data], control)


class JournalTest(DaemonTest):
    pid1_options = {}

    def setUp(self):
        self.addCleanup(close_all)
        self.daemon = Pid1(**self.pid1_options)
        self.addCleanup(self.end_daemon)
        self.status()
        self.wait_until_asleep()  # its message to systemd is out, and our question's pidfd is closed
        self.idle_fds = self.daemon.fds()

    def wait_until_asleep(self):
        self.assertTrue(eventually(lambda: is_asleep(self.daemon.pid)))

    def tearDown(self):
        """It has asked nothing of systemd that systemd would refuse."""
        if self.daemon:
            told = self.daemon.told
            wrong = {what: told[what] for what in ("not main", "bad", "duplicates", "hung up")}
            self.assertEqual(set(wrong.values()), {0}, wrong)

    def vm(self, name=None):
        vm = VM(self.daemon)
        self.addCleanup(vm.kill)
        if name:
            self.assertEqual(vm.attach(name)["start"], "new")
        return vm

    def restart(self, **how):
        self.daemon.restart(**how)

    def resume(self, vm, name, objects):
        self.assertEqual(vm.attach(name), {"start": "resumed", "objects": objects})

    def claim(self, name, objects):
        vm = self.vm()
        self.assertEqual(vm.attach(name), {"start": "claimed", "objects": objects})
        return vm

    def sessions(self):
        with Client(self.daemon) as client:
            return {name: s for (_, name), s in client.sessions().items()}

    def status(self):
        with Client(self.daemon) as client:
            return client.call("Status")[0]

    def release(self, name):
        with Client(self.daemon) as client:
            client.call("Release", {"name": name})

    def assertHeld(self, vm, names, fds):
        """These objects, in this order, and these open files."""
        held = vm.fetch()
        found = []
        for item, _ in held:
            if not found or found[-1] != item["name"]:
                found.append(item["name"])
        self.assertEqual(found, list(names))
        got = [fd for _, part in held for fd in part]
        self.assertSameFiles(fds, got)
        for fd in got:
            close(fd)
        return [item for item, _ in held]

    def assertStored(self, sessions, more=()):
        """The store has the receiving ends of as many journals, and what is named."""

        def is_so():
            names = [n for n in self.daemon.names() if n not in more]
            return len(names) == sessions and len(self.daemon.names()) - len(names) == len(more)

        self.assertTrue(eventually(is_so), self.daemon.names())


def sending_end(pid1, name):
    """That of the daemon's own journal of this name in the store, which its first record brings."""
    receive = pid1.get(name)
    with socket.socket(fileno=receive) as end:
        end.setsockopt(socket.SOL_SOCKET, 42, 0)  # SO_PEEK_OFF
        flags = socket.MSG_PEEK | socket.MSG_DONTWAIT
        control = end.recvmsg(4096, socket.CMSG_SPACE(4), flags)[1]  # recv_fds() forgets the flags
    return track(array.array("i", control[0][2])[0])


def recorded(pid1):
    """What is in the one journal of the store: [(record, its descriptors, tracked)]."""
    (name,) = [name for name in pid1.names() if name.endswith("-r")]
    found = []
    with socket.socket(fileno=pid1.get(name)) as end:
        end.setsockopt(socket.SOL_SOCKET, 42, 0)  # SO_PEEK_OFF
        while True:
            try:
                flags = socket.MSG_PEEK | socket.MSG_DONTWAIT
                data, control, _, _ = end.recvmsg(65536, socket.CMSG_SPACE(253 * 4), flags)
            except BlockingIOError:
                return found
            fds = [track(fd) for part in control for fd in array.array("i", part[2])]
            if data == b"M":  # it is in a memfd
                data = os.pread(fds[-1], 1 << 24, 0)
                close(fds.pop())
            found.append((json.loads(data), fds))


def planted(pid1, *records, number=1, name=None, twin=True):
    """A journal of the test's own, of (record, descriptors) or records, into the fd store. twin: with
    its sending end, as daemons before 0.3.0 have it; else that is in the first record."""
    receive, send = pair()
    name = name or f"journal-{number:016x}"
    for i, record in enumerate(records):
        record, fds = record if isinstance(record, tuple) else (record, [])
        append(send, record, fds if twin or i else [send, *fds])
    pid1.put(receive, f"{name}-r")
    if twin:
        pid1.put(send, f"{name}-s")
    close(receive)
    close(send)


def copy_of(name="vm", uid=0, objects=(), fds=(), **state):
    """The records of a session's whole copy; state: fields of its state record, or descriptors of
    it as "holder", or more of its first record as "open"."""
    holder = state.pop("holder", [])
    more = state.pop("open", {})
    fields = {"state": 2, "since": time.monotonic_ns() // 1000, "pid": 0, "spaces": [], **state}
    return [
        {"op": "open", "version": 1, "generation": 1, "name": name, "uid": uid, **more},
        ({"op": "state", **fields}, holder),
        ({"op": "objects", "objects": list(objects), "first": True, "last": True}, list(fds)),
        {"op": "complete"},
    ]
