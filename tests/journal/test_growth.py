# SPDX-License-Identifier: LGPL-2.1-or-later
"""Journals that grow, and those that are full."""

import array
import json
import os
import random
import shutil
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from client import Closed
from daemon import DAEMON
from fds import close, describe, eventfd, eventfds, fdinfo, is_same_file, state_memfd
from journaltest import JournalTest

UNCAPABLE = [shutil.which("setpriv") or "", "--bounding-set=-all", "--inh-caps=-all", DAEMON]

SO_PEEK_OFF, PEEK = 42, socket.MSG_PEEK | socket.MSG_DONTWAIT


class Growth(JournalTest):
    def test_a_state_put_thousands_of_times_takes_no_more_room(self):
        vm = self.vm("vm")
        fd = eventfd()
        vm.store([describe("eventfd", "e", 1)], [fd])
        for i in range(3000):
            state = state_memfd(b"state %d" % i)
            vm.store([describe("state", "s", 2)], [state])
            if i < 2999:
                close(state)
        self.assertStored(1)
        self.restart()
        self.resume(vm, "vm", 2)
        self.assertHeld(vm, ["e", "s"], [fd, state])
        self.assertEqual(os.pread(state, 100, 0), b"state 2999")

    def queued(self, name):
        """[descriptors] of each record in the session's journal, all of which end with this."""
        found = []
        with socket.socket(fileno=self.daemon.get(name)) as end:
            end.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)
            while True:
                try:
                    data, control, _, _ = end.recvmsg(1 << 16, socket.CMSG_SPACE(253 * 4), PEEK)
                except BlockingIOError:
                    return found
                fds = array.array("i", b"".join(part for _, _, part in control))
                for fd in fds:
                    os.close(fd)
                found.append((json.loads(data)["op"] if data != b"M" else "M", len(fds)))

    def test_what_is_held_is_not_journaled_again(self):
        vm = self.vm("vm")
        fds, state = eventfds(100), state_memfd(b"state")
        objects = [describe("eventfd", "e", 1, count=50), describe("state", "s", 2, 50)]
        vm.store(objects, [*fds[:50], state])
        (name,) = self.daemon.names()
        before = self.queued(name)
        for _ in range(10):
            vm.store(objects, [*fds[:50], state])
            vm.store([describe("eventfd", "e", 1, first=10, count=20)], fds[10:30])
            vm.store([])
            self.assertEqual(self.queued(name), before)
        # Of what is held in part only the rest is.
        vm.store([describe("eventfd", "e", 1, first=25, count=75)], fds[25:])
        self.assertEqual(self.queued(name), [*before, ("objects", 50)])
        self.restart()
        self.resume(vm, "vm", 2)
        self.assertHeld(vm, ["e", "s"], [*fds, state])

    def test_thousands_of_changes_one_by_one_are_all_there(self):
        vm = self.vm("vm")
        fds = eventfds(2500)
        for i, fd in enumerate(fds):
            vm.store([describe("eventfd", f"e{i}", i + 1)], [fd])
        for i in range(0, 2500, 25):
            vm.call("Remove", {"kind": "eventfd", "name": f"e{i}"})
        left = [i for i in range(2500) if i % 25]
        self.assertStored(1)
        self.restart()
        self.resume(vm, "vm", len(left))
        self.assertHeld(vm, [f"e{i}" for i in left], [fds[i] for i in left])

    def test_a_journal_written_anew_survives_a_kill_at_any_point(self):
        vm = self.vm("vm")
        times = random.Random(3)
        fds = []
        for i in range(60):
            fds.append(eventfd())
            vm.store([describe("eventfd", f"e{i}", i + 1)], fds[-1:])
            # A removal writes it anew.
            vm.start("call", vm.current, "Remove", {"kind": "eventfd", "name": f"e{i}"})
            time.sleep(times.uniform(0, 0.003))
            self.daemon.kill(lose=times.random() < 0.5)
            self.daemon.start()
            try:
                vm.finish()
                removed = True
            except (Closed, ConnectionError):
                removed = None
            count = vm.attach("vm")["objects"]
            if removed:
                self.assertEqual(count, 0)
            if count:
                self.assertHeld(vm, [f"e{i}"], fds[-1:])
                vm.call("Remove", {"kind": "eventfd", "name": f"e{i}"})
            self.assertStored(1)

    def test_as_many_descriptors_as_fit_into_one_session(self):
        limit = self.status()["descriptorLimit"]
        n = min(20000, limit - 64)
        vm = self.vm("vm")
        ids, sample = [], {}
        self.assertGreater(n, 1000)
        for at in range(0, n, 250):
            fds = eventfds(min(250, n - at))
            ids += [fdinfo(fd, "eventfd-id") for fd in fds]
            more = {"continues": True} if at % 5000 else {}
            vm.store([describe("eventfd", f"e{at}", at + 1, count=len(fds))], fds, **more)
            for fd in fds[1:]:
                close(fd)
            sample[at] = fds[0]
        vm.store([])
        begun = time.monotonic()
        self.restart()
        took = time.monotonic() - begun
        self.resume(vm, "vm", len(sample))
        found, cursor = 0, 0
        while cursor is not None:
            answer, fds = vm.call("Fetch", {"cursor": cursor})
            for fd in fds:
                self.assertEqual(fdinfo(fd, "eventfd-id"), ids[found])
                if found in sample:
                    self.assertTrue(is_same_file(fd, sample[found]))
                found += 1
                close(fd)
            cursor = answer.get("next")
        self.assertEqual(found, n)
        print(f"     {n} descriptors in one session (limit {limit}), back in {took * 1000:.0f} ms")
        self.assertStored(1)


class SmallQueue(Growth):
    """The same where the daemon has no capability: its queues are as net.core.wmem_max allows."""

    pid1_options = {"command": UNCAPABLE}

    def setUp(self):
        if not UNCAPABLE[0]:
            self.skipTest("setpriv is not installed")
        super().setUp()

    def test_the_daemon_has_no_capability(self):
        with open(f"/proc/{self.daemon.pid}/status") as status:
            self.assertIn("CapEff:\t0000000000000000", status.read())
