# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's own death loses nothing: what is in the journals is there again, whatever was under
way. PID 1 and its fd store are played by pid1.py."""

import array
import contextlib
import json
import os
import random
import re
import select
import shutil
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from client import SESSION, Client, Closed, VarlinkError
from daemon import BUILD, DAEMON
from daemontest import DaemonTest
from fds import (
    close, close_all, describe, eventfd, eventfds, fdinfo, is_same_file, make_table, memfd,
    state_memfd, track,
)
from holder import NOBODY, Holder, unit
from patience import eventually, is_asleep
from pid1 import Pid1

VM_UNIT = f"vfio-cpr-{os.getpid()}-vm.service"

UNCAPABLE = [shutil.which("setpriv") or "", "--bounding-set=-all", "--inh-caps=-all", DAEMON]


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
        """The store has both ends of as many journals, and what is named."""

        def is_so():
            names = [n for n in self.daemon.names() if n not in more]
            return len(names) == 2 * sessions and len(self.daemon.names()) - len(names) == len(more)

        self.assertTrue(eventually(is_so), self.daemon.names())


class Survival(JournalTest):
    def test_objects_of_every_kind_come_back_in_order_with_all_that_is_known_of_them(self):
        vm = self.vm("vm")
        ram, state = memfd(8192), state_memfd(b"device state")
        table = make_table([{"iova": 0x1000}], slots=4)
        vectors, more = eventfds(5), eventfds(2)
        vm.store(
            [
                describe("memory", "ram", 1),
                describe("table", "type1", 2, 1),
                describe("eventfd", "0000:01:00.0/msix", 3, 2, count=5, irqIndex=2, irqAction=0),
            ],
            [ram, table, *vectors],
        )
        vm.store([describe("state", "msi", 4)], [state])
        # A gap, of numbers 5 to 9.
        vm.store([describe("eventfd", "0000:01:00.0/msix", 3, first=10, count=2)], more)
        before = [item for item, _ in vm.fetch()]
        self.restart()
        self.resume(vm, "vm", 4)
        names = ["ram", "type1", "0000:01:00.0/msix", "msi"]
        after = self.assertHeld(vm, names, [ram, table, *vectors, *more, state])
        self.assertEqual(after, before)
        self.assertEqual(self.sessions()["vm"]["mappings"], 1)
        self.assertStored(1)

    def test_a_living_holder_is_active_still_and_nobody_else_gets_the_session(self):
        vm = self.vm("vm")
        vm.store([describe("eventfd", "e", 1)], [eventfd()])
        since = self.sessions()["vm"]["ageUsec"]
        self.restart()
        info = self.sessions()["vm"]
        self.assertEqual((info["state"], info["holder"]["pid"]), ("active", vm.pid))
        self.assertGreaterEqual(info["ageUsec"], since)
        with self.refused("Busy"):
            self.client().attach("vm")
        self.resume(vm, "vm", 1)
        with self.refused("Busy"):
            self.client().attach("vm")

    def test_a_session_that_holds_nothing_stays_its_holders(self):
        vm = self.vm("vm")
        self.restart(lose=True)
        self.resume(vm, "vm", 0)
        vm.kill()
        self.assertStored(0)

    def test_a_holder_that_dies_while_the_daemon_is_dead_leaves_an_orphan(self):
        vm, empty = self.vm("vm"), self.vm("empty")
        fd = eventfd()
        vm.store([describe("eventfd", "e", 1)], [fd])
        self.daemon.kill()
        vm.kill()
        empty.kill()
        self.daemon.start()
        self.daemon.wait_ready()
        self.assertTrue(eventually(lambda: self.sessions()["vm"]["state"] == "orphaned"))
        self.assertHeld(self.claim("vm", 1), ["e"], [fd])
        self.assertStored(1)  # what held nothing ended with its holder

    def test_an_orphan_stays_one_and_a_restoring_session_stays_restoring(self):
        vm = self.vm("vm")
        fds = eventfds(3)
        vm.store([describe("eventfd", "e", 1, count=3)], fds)
        vm.kill()
        self.assertTrue(eventually(lambda: self.sessions()["vm"]["state"] == "orphaned"))
        self.restart()
        self.assertEqual(self.sessions()["vm"]["state"], "orphaned")
        vm = self.claim("vm", 1)
        self.restart()
        info = self.sessions()["vm"]
        self.assertEqual((info["state"], info["holder"]["pid"]), ("restoring", vm.pid))
        self.resume(vm, "vm", 1)
        self.assertEqual(self.sessions()["vm"]["state"], "restoring")
        vm.call("Commit", {})
        self.restart()
        self.assertEqual(self.sessions()["vm"]["state"], "active")
        self.daemon.kill()
        vm.kill()
        self.daemon.start()
        self.assertHeld(self.claim("vm", 1), ["e"], fds)

    def test_an_eventfd_has_its_count_still(self):
        vm = self.vm("vm")
        fd = eventfd(7)
        vm.store([describe("eventfd", "e", 1)], [fd])
        for _ in range(3):
            self.restart()
        self.assertEqual(self.sessions()["vm"]["pendingInterrupts"], 7)
        self.assertEqual(os.eventfd_read(fd), 7)

    def test_a_session_is_its_users_still(self):
        vm = VM(self.daemon, uid=NOBODY)
        self.addCleanup(vm.kill)
        vm.attach("vm")
        vm.store([describe("eventfd", "e", 1)], [eventfd()])
        self.restart()
        self.assertEqual(vm.attach("vm")["start"], "resumed")
        with Client(self.daemon) as client:
            self.assertEqual(list(client.sessions()), [(NOBODY, "vm")])

    def test_what_was_acknowledged_needs_nothing_that_was_queued_for_systemd(self):
        vm = self.vm("vm")
        fds = []
        for i in range(10):
            fds.append(eventfd())
            vm.store([describe("eventfd", f"e{i}", i + 1)], fds[-1:])
            self.restart(lose=True)
            self.resume(vm, "vm", i + 1)
        vm.call("Remove", {"kind": "eventfd", "name": "e3"})
        self.restart(lose=True)
        self.resume(vm, "vm", 9)
        self.assertHeld(vm, [f"e{i}" for i in range(10) if i != 3], fds[:3] + fds[4:])
        self.assertStored(1)

    def test_a_batch_that_was_not_finished_is_gone(self):
        vm = self.vm("vm")
        kept, lost = eventfd(), eventfds(2)
        vm.store([describe("eventfd", "kept", 1)], [kept])
        vm.store([describe("eventfd", "lost", 2)], lost[:1], continues=True)
        # The same in the journal: the first record of two.
        name = next(n for n in self.daemon.names() if n.endswith("-s"))
        end = track(self.daemon.get(name))
        record = describe("eventfd", "half", 3, count=1)
        self.daemon.kill()
        append(end, {"op": "objects", "objects": [record], "first": True, "last": False}, lost[1:])
        self.daemon.start()
        self.resume(vm, "vm", 1)
        more = eventfd()
        vm.store([describe("eventfd", "more", 2)], [more])
        self.restart()
        self.resume(vm, "vm", 2)
        self.assertHeld(vm, ["kept", "more"], [kept, more])

    def test_a_batch_of_many_messages_is_there_whole(self):
        vm = self.vm("vm")
        fds = eventfds(1500)
        for at in range(0, 1500, 250):
            vm.store(
                [describe("eventfd", f"e{at}", at + 1, count=250)],
                fds[at : at + 250],
                **({"continues": True} if at < 1250 else {}),
            )
        self.restart()
        self.resume(vm, "vm", 6)
        self.assertHeld(vm, [f"e{at}" for at in range(0, 1500, 250)], fds)

    def test_a_release_is_for_good(self):
        vm, other = self.vm("vm"), self.vm("other")
        vm.store([describe("eventfd", "e", 1)], [eventfd()])
        other.store([describe("eventfd", "e", 1)], [eventfd()])
        vm.call("Release")
        self.assertStored(1)
        self.restart()
        self.assertEqual(list(self.sessions()), ["other"])
        self.release("other")
        self.assertStored(0)
        self.assertIdle()

    def test_sigterm_leaves_everything_with_systemd(self):
        vm, dead = self.vm("vm"), self.vm("dead")
        fds = eventfds(2)
        vm.store([describe("eventfd", "e", 1)], fds[:1])
        dead.store([describe("eventfd", "e", 1)], fds[1:])
        dead.kill()
        self.daemon.terminate()
        self.assertStored(2)
        self.daemon.start()
        self.resume(vm, "vm", 1)
        self.assertHeld(vm, ["e"], fds[:1])
        self.assertHeld(self.claim("dead", 1), ["e"], fds[1:])

    def test_who_calls_while_there_is_no_daemon_waits_in_the_backlog(self):
        vm = self.vm("vm")
        fd = eventfd()
        vm.store([describe("eventfd", "e", 1)], [fd])
        self.daemon.kill()
        again, fresh = vm.connect(), self.client()
        vm.current = again
        vm.start("call", again, "Attach", {"name": "vm"})
        fresh.send(SESSION + "Attach", {"name": "fresh"})
        time.sleep(0.2)
        self.daemon.start()
        self.assertEqual(vm.finish()[0], {"start": "resumed", "objects": 1})
        self.assertEqual(fresh.receive()[0]["start"], "new")
        self.assertHeld(vm, ["e"], [fd])

    def test_nothing_is_left_over_in_the_daemon_after_many_restarts(self):
        vm = self.vm("vm")
        vm.store([describe("eventfd", "e", 1, count=20)], eventfds(20))
        self.restart()
        with Client(self.daemon) as client:
            client.call("Status")
        self.wait_until_asleep()
        before = self.daemon.fds()
        for _ in range(20):
            self.restart()
        self.assertTrue(eventually(lambda: self.daemon.fds() == before), self.daemon.links())
        self.assertStored(1)

    def test_with_a_store_it_says_that_nothing_would_be_lost(self):
        status = self.status()
        self.assertTrue(status["survivesRestart"])
        self.assertNotIn("warning", status)


class Recovery(JournalTest):
    def test_recovery_can_be_killed_at_any_point(self):
        holders = [self.vm(f"s{i}") for i in range(12)]
        fds = {}
        for i, vm in enumerate(holders):
            fds[i] = eventfds(20 * i + 1)
            vm.store([describe("eventfd", "e", 1, count=len(fds[i]))], fds[i])
            if i % 3 == 0:
                vm.kill()
        self.restart()
        times = random.Random(7)
        for _ in range(200):
            self.daemon.kill()
            self.daemon.start()
            time.sleep(times.uniform(0, 1.3 * self.daemon.ready_after))
        self.daemon.wait_ready()
        for i, vm in enumerate(holders):
            if i % 3 == 0:
                vm = self.claim(f"s{i}", 1)
            else:
                self.resume(vm, f"s{i}", 1)
            self.assertHeld(vm, ["e"], fds[i])
            vm.call("Release")
        self.assertStored(0)

    def two_generations(self, holder_dies):
        """Both copies of a journal at once, as if the daemon had died before it dropped the old."""
        vm = self.vm("vm")
        fds = eventfds(3)
        for i in range(3):
            vm.store([describe("eventfd", f"e{i}", i + 1)], fds[i : i + 1])
        old = {name: track(self.daemon.get(name)) for name in self.daemon.names()}
        vm.call("Remove", {"kind": "eventfd", "name": "e0"})
        if not eventually(lambda: not set(self.daemon.names()) & set(old), 2):
            self.skipTest("a removal does not write the journal anew")
        new = self.daemon.names()
        self.daemon.kill()
        if holder_dies:
            vm.kill()
        for name, fd in old.items():
            self.daemon.put(fd, name)
            close(fd)
        self.daemon.start()
        if holder_dies:
            vm = self.claim("vm", 2)
        else:
            self.resume(vm, "vm", 2)
        self.assertHeld(vm, ["e1", "e2"], fds[1:])
        self.assertTrue(eventually(lambda: self.daemon.names() == new), self.daemon.names())
        self.restart()
        self.resume(vm, "vm", 2)
        vm.call("Release")
        self.assertStored(0)

    def test_of_two_copies_the_newest_wins_and_the_older_is_dropped(self):
        for _ in range(8):  # their names are random, and so is their order
            self.two_generations(False)

    def test_of_two_copies_of_an_orphan_the_newest_wins_too(self):
        for _ in range(8):
            self.two_generations(True)

    def test_a_journal_without_its_sending_end_is_written_anew(self):
        vm = self.vm("vm")
        fd = eventfd()
        vm.store([describe("eventfd", "e", 1)], [fd])
        self.daemon.kill()
        self.daemon.drop(next(n for n in self.daemon.names() if n.endswith("-s")))
        self.daemon.start()
        self.resume(vm, "vm", 1)
        more = eventfd()
        vm.store([describe("eventfd", "f", 2)], [more])
        self.assertStored(1)
        self.restart()
        self.resume(vm, "vm", 2)
        self.assertHeld(vm, ["e", "f"], [fd, more])

    def test_a_sending_end_alone_is_dropped(self):
        ends = pair()
        self.daemon.put(ends[1], "journal-00000000000000aa-s")
        self.restart()
        self.assertStored(0)
        self.assertEqual(self.sessions(), {})


def planted(pid1, *records, number=1):
    """A journal of the test's own, of (record, descriptors) or records, into the fd store."""
    receive, send = pair()
    for record in records:
        append(send, *record) if isinstance(record, tuple) else append(send, record)
    pid1.put(receive, f"journal-{number:016x}-r")
    pid1.put(send, f"journal-{number:016x}-s")


def copy_of(name="vm", uid=0, objects=(), fds=(), **state):
    """The records of a session's whole copy; state: fields of its state record, or descriptors of
    it as "holder"."""
    holder = state.pop("holder", [])
    fields = {"state": 2, "since": time.monotonic_ns() // 1000, "pid": 0, "spaces": [], **state}
    return [
        {"op": "open", "version": 1, "generation": 1, "name": name, "uid": uid},
        ({"op": "state", **fields}, holder),
        ({"op": "objects", "objects": list(objects), "first": True, "last": True}, list(fds)),
        {"op": "complete"},
    ]


class Known(JournalTest):
    """What is known of a session besides what it holds."""

    def test_the_unit_of_an_orphan_and_of_a_holder_is_known_after_a_restart(self):
        with contextlib.ExitStack() as stack:
            add = stack.enter_context(unit(VM_UNIT))
            if not add:
                self.skipTest("there is no cgroup2 in which this user may make groups")
            vms = {}
            for name in ("living", "orphan", "late"):
                vms[name] = self.vm()
                stack.callback(vms[name].kill)
                add(vms[name].pid)
                self.assertEqual(vms[name].attach(name)["start"], "new")
                vms[name].store([describe("eventfd", "e", 1)], [eventfd()])
            vms["orphan"].kill()
            self.assertTrue(eventually(lambda: self.sessions()["orphan"]["state"] == "orphaned"))
            for _ in range(2):
                # One dies while no daemon is there to see it.
                self.daemon.kill()
                vms["late"].kill()
                self.daemon.start()
                self.daemon.wait_ready()
                units = {name: s["unit"] for name, s in self.sessions().items()}
                self.assertEqual(units, dict.fromkeys(vms, VM_UNIT))

    def test_a_holder_whose_unit_an_older_daemon_did_not_keep_is_looked_up(self):
        with contextlib.ExitStack() as stack:
            add = stack.enter_context(unit(VM_UNIT))
            if not add:
                self.skipTest("there is no cgroup2 in which this user may make groups")
            vm = self.vm()
            stack.callback(vm.kill)
            add(vm.pid)
            pidfd = track(os.pidfd_open(vm.pid))
            self.daemon.kill()
            event = describe("eventfd", "e", 1)
            planted(
                self.daemon,
                *copy_of(objects=[event], fds=[eventfd()], state=0, pid=vm.pid, holder=[pidfd]),
            )
            self.daemon.start()
            self.daemon.wait_ready()
            self.assertEqual(self.sessions()["vm"]["unit"], VM_UNIT)
            self.assertEqual(self.sessions()["vm"]["holder"]["pid"], vm.pid)

    def held_by(self, vm, objects, **state):
        """A daemon that finds the journal of an active session "vm" of that process. A journal is
        believed, so that an eventfd in it may be anything."""
        pidfd = track(os.pidfd_open(vm.pid))
        fds = eventfds(len(objects))
        objects = [
            describe(kind, name, i + 1, i, space="dma") for i, (kind, name) in enumerate(objects)
        ]
        self.daemon.kill()
        planted(
            self.daemon,
            *copy_of(objects=objects, fds=fds, state=0, pid=vm.pid, holder=[pidfd], **state),
        )
        self.daemon.start()
        self.daemon.wait_ready()

    def logged(self, pattern):
        text = eventually(lambda: re.search(f"^vfio-cprd: {pattern}", self.daemon.log(), re.M))
        self.assertTrue(text, self.daemon.log())

    def test_the_log_of_a_death_names_process_unit_and_devices(self):
        devices = [f"0000:0{i}:00.0" for i in range(1, 7)]
        for n, told, spaces, settled in (
            (0, "1 descriptor is held", 1, "; its address space was settled in"),
            (1, f"2 descriptors are held, with device {devices[0]}", 1, ";"),
            (4, f", with devices {', '.join(devices[:4])}$", 0, ""),
            (6, rf", with devices {', '.join(devices[:4])} \+2", 2, "; its 2 address spaces were"),
        ):
            with self.subTest(devices=n):
                vm = self.vm()
                objects = [("device", device) for device in devices[:n]]
                objects += [("container", f"dma{i}") for i in range(spaces)]
                self.held_by(vm, objects, unit="some-vm.service")
                vm.kill()
                self.logged(
                    f"session vm is orphaned: process {vm.pid} of some-vm.service died; "
                    f".*{told}{settled}"
                )
                self.release("vm")

    def test_many_address_spaces_that_fail_are_a_few_lines_of_the_log(self):
        vm = self.vm()
        self.held_by(vm, [("container", f"dma{i}") for i in range(20)])
        vm.kill()
        self.logged("session vm is orphaned: ")
        self.assertEqual(self.daemon.log().count("vfio-cprd: warning: session vm"), 9)

    def test_what_the_kernel_refused_is_told_by_list_until_the_vm_is_back(self):
        vm = self.vm()
        self.held_by(vm, [("container", "b"), ("container", "a"), ("container", "c")])
        self.assertIsNone(self.sessions()["vm"].get("warning"))
        vm.kill()
        self.logged("session vm is orphaned: ")
        told = self.sessions()["vm"]["warning"]
        self.assertRegex(told, "^address space a: the DMA addresses could not be invalidated: .*"
                               r" \(2 more address spaces have a warning\)$")
        self.restart()
        self.assertEqual(self.sessions()["vm"]["warning"], told)
        successor = self.claim("vm", 3)
        self.assertEqual(self.sessions()["vm"]["warning"], told)
        successor.call("Commit")
        self.assertIsNone(self.sessions()["vm"].get("warning"))

    def test_a_device_is_one_however_its_address_is_written(self):
        vm = self.vm()
        self.held_by(vm, [("device", "0000:00:0A.0"), ("eventfd", "e")])
        self.resume(vm, "vm", 2)
        self.assertEqual(self.sessions()["vm"]["devices"], ["0000:00:0a.0"])
        with self.refused("NoSuchObject", "no device 0000:00:0b.0"):
            vm.call("Remove", {"kind": "device", "name": "0000:00:0B.0"})
        vm.call("Remove", {"kind": "device", "name": "0000:00:0A.0"})
        self.assertEqual(self.sessions()["vm"]["devices"], [])
        self.restart()
        self.resume(vm, "vm", 1)

    def test_the_log_of_the_return_tells_how_long_there_was_no_vmm(self):
        for at in ("while it is orphaned", "while it is restoring", None):
            vm = self.vm("vm")
            vm.store([describe("eventfd", "e", 1)], [eventfd()])
            vm.call("Commit")  # it was never away
            vm.kill()
            self.logged(rf"session vm is orphaned: process {vm.pid}\b")
            if at == "while it is orphaned":
                self.restart()
            vm = self.claim("vm", 1)
            if at == "while it is restoring":
                self.restart()
                self.resume(vm, "vm", 1)
            vm.call("Commit")
            vm.call("Commit")
            again = f"session vm is active again, held by process {vm.pid}"
            self.logged(rf"{again}( of \S+)?; it was without a VMM for \d+(\.\d)? m?s\n")
            self.assertEqual(self.daemon.log().count(again), 1)
            self.release("vm")
            vm.kill()

    def test_an_orphan_that_nobody_comes_for_is_warned_of_once(self):
        minutes = 60 * 1000 * 1000
        now = time.monotonic_ns() // 1000
        device = {**describe("device", "0000:3b:00.0", 1, space="dma")}
        event = describe("eventfd", "e", 1)
        self.daemon.kill()
        old = {"since": now - 15 * minutes, "fds": eventfds(1)}
        for number, records in enumerate(
            (
                copy_of("old", objects=[device], unit="vm@old.service", **old),
                copy_of("-odd", uid=1000, objects=[event], **old),
                copy_of("young", objects=[event], fds=eventfds(1), since=now - 5 * minutes),
            )
        ):
            planted(self.daemon, *records, number=number)
        self.daemon.start()
        self.daemon.wait_ready()
        self.logged(
            r"warning: session old of vm@old\.service is orphaned since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d,"
            r".* 1 descriptor is held, with device 0000:3b:00\.0,.*: vfio-cprctl release old$"
        )
        self.logged(
            r"warning: session -odd is orphaned since .* vfio-cprctl release --uid 1000 -- -odd$"
        )
        for _ in range(20):
            self.status()
        warnings = [line for line in self.daemon.log().splitlines() if "is orphaned since" in line]
        self.assertEqual(len(warnings), 2, warnings)
        # The time counts from the orphan's beginning: the next daemon knows it, and claims end it.
        vm = self.claim("old", 1)
        self.restart()
        self.logged("(?s:.*)warning: session -odd(?s:.*)warning: session -odd")
        self.resume(vm, "old", 1)
        self.assertEqual(self.daemon.log().count("warning: session old"), 1)
        self.assertNotIn("session young", self.daemon.log())

    def test_an_outage_that_began_while_no_daemon_was_there_is_not_measured(self):
        vm = self.vm("vm")
        vm.store([describe("eventfd", "e", 1)], [eventfd()])
        self.daemon.kill()
        vm.kill()
        self.daemon.start()
        self.daemon.wait_ready()
        vm = self.claim("vm", 1)
        self.restart()
        self.resume(vm, "vm", 1)
        vm.call("Commit")
        self.logged(rf"session vm is active again, held by process {vm.pid}( of \S+)?\n")

    def test_devices_are_told_sorted_and_fields_of_a_later_version_are_passed_over(self):
        # A journal is believed, so an eventfd may be a device here.
        names = ["0000:3b:00.1", "0000:3b:00.0", "0000:04:00.0"]
        objects = [
            describe("device", name, i + 1, i, space="dma") for i, name in enumerate(names)
        ]
        self.daemon.kill()
        planted(self.daemon, *copy_of(objects=objects, fds=eventfds(3), colour="red"))
        self.daemon.start()
        self.daemon.wait_ready()
        info = self.sessions()["vm"]
        self.assertEqual(info["devices"], sorted(names))
        self.assertIsNone(info["unit"])


class Unreadable(JournalTest):
    """What this daemon cannot read is kept, shown, and can be released by who says so."""

    def setUp(self):
        super().setUp()
        self.daemon.allowed = ["kept aside"]
        self.bystander = self.vm("bystander")
        self.bystander.store([describe("eventfd", "e", 1)], [eventfd()])

    def plant(self, fds, kept=None):
        """Into the store: {name: descriptor}. They must stay, be shown, and go on release."""
        self.daemon.kill()
        for name, fd in fds.items():
            self.daemon.put(fd, name)
        self.daemon.start()
        for _ in range(3):
            self.daemon.wait_ready()
            self.resume(self.bystander, "bystander", 1)
            shown = {n: s for n, s in self.sessions().items() if s["state"] == "unreadable"}
            self.assertEqual(len(shown), 1, self.sessions())
            self.assertIsNone(next(iter(shown.values()))["devices"])
            self.assertStored(1, list(fds))
            self.assertEqual(self.status()["sessions"], 2)
            self.assertIn("kept aside", self.daemon.log())
            self.restart()
        name = next(iter(shown))
        self.assertEqual(self.client().show(name)["session"]["state"], "unreadable")
        with Client(self.daemon) as client, self.assertRaises(VarlinkError):
            client.attach(name)
        self.release(name)
        self.assertStored(1)
        self.restart()
        self.assertEqual(list(self.sessions()), ["bystander"])

    def journal(self, *records):
        receive, send = pair()
        for record in records:
            append(send, *record) if isinstance(record, tuple) else append(send, record)
        return {"journal-1122334455667788-r": receive, "journal-1122334455667788-s": send}

    def opening(self, **fields):
        return {"op": "open", "version": 1, "generation": 1, "name": "vm", "uid": 0, **fields}

    def test_a_journal_of_a_version_to_come(self):
        record = describe("eventfd", "e", 1)
        self.plant(
            self.journal(self.opening(version=99, news=[]), ({"op": "x", "objects": [record]}, [eventfd()]))
        )

    def test_a_journal_with_a_record_that_is_unknown(self):
        self.plant(self.journal(self.opening(), {"op": "dance"}))

    def test_a_journal_that_is_no_json(self):
        self.plant(self.journal(b"\xff\x00garbage"))

    def test_a_journal_that_is_empty(self):
        self.plant(self.journal())

    def test_a_journal_whose_first_record_is_not_the_first(self):
        self.plant(self.journal({"op": "complete"}))

    def test_a_journal_that_was_never_finished(self):
        """A journal that was never finished, and no other of that session"""
        batch = {"op": "objects", "objects": [describe("eventfd", "e", 1)], "first": True, "last": True}
        self.plant(self.journal(self.opening(), (batch, [eventfd()])))

    def test_a_journal_with_a_record_that_names_more_descriptors_than_came(self):
        item = describe("eventfd", "e", 1, count=5)
        batch = {"op": "objects", "objects": [item], "first": True, "last": True}
        self.plant(self.journal(self.opening(), (batch, eventfds(2))))

    def batch(self, *objects):
        """A record of these objects, an eventfd each."""
        record = {"op": "objects", "objects": objects, "first": True, "last": True}
        return record, eventfds(len(objects))

    def test_a_journal_in_which_two_objects_have_one_id(self):
        one, other = (describe("eventfd", name, 1, i) for i, name in enumerate("ef"))
        self.plant(self.journal(self.opening(), self.batch(one, other), {"op": "complete"}))

    def test_a_journal_in_which_a_later_object_has_an_earlier_ones_name(self):
        one, other = (describe("eventfd", "e", id) for id in (1, 2))
        records = self.batch(one), self.batch(other), {"op": "complete"}
        self.plant(self.journal(self.opening(), *records))

    def test_a_receiving_end_alone_that_is_no_journal(self):
        receive, send = pair()
        append(send, b"?")
        self.plant({"journal-1122334455667788-r": receive})

    def test_a_descriptor_that_is_no_socket(self):
        self.plant({"something": memfd()})

    def test_a_descriptor_named_like_a_journal_that_is_no_socket(self):
        self.plant({"journal-1122334455667788-r": eventfd()})

    def test_a_socket_that_does_not_listen(self):
        a, b = socket.socketpair()
        self.addCleanup(b.close)
        self.plant({"stream": track(a.detach())})


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


class StoreLimit(JournalTest):
    """A store for few."""

    pid1_options = {"maximum": 14}

    def test_one_session_too_many_is_refused_with_the_reason_and_the_others_live_on(self):
        holders = []
        with self.refused("QuotaExceeded", "FileDescriptorStoreMax"):
            for i in range(20):
                vm = self.vm()
                vm.attach(f"s{i}")
                holders.append(vm)
        self.assertGreaterEqual(len(holders), 2)
        fds = eventfds(len(holders))
        for i, vm in enumerate(holders):
            vm.store([describe("eventfd", "e", 1)], fds[i : i + 1])
            vm.store([describe("eventfd", "f", 2)], [eventfd()])
            vm.call("Remove", {"kind": "eventfd", "name": "f"})
        self.assertEqual(self.daemon.told["overflow"], 0)
        self.assertStored(len(holders))
        self.restart()
        for i, vm in enumerate(holders):
            self.resume(vm, f"s{i}", 1)
            self.assertHeld(vm, ["e"], fds[i : i + 1])
        with self.refused("QuotaExceeded", "FileDescriptorStoreMax"):
            self.client().attach("more")
        holders[0].call("Release")
        self.vm("again")


class TinyStore(JournalTest):
    pid1_options = {"maximum": 4}

    def test_with_a_store_of_four_the_third_session_at_the_latest_is_refused(self):
        with self.refused("QuotaExceeded", "FileDescriptorStoreMax"):
            for i in range(3):
                self.vm(f"s{i}")
        self.assertEqual(self.daemon.told["overflow"], 0)


class LyingStore(JournalTest):
    """systemd keeps less than it told."""

    pid1_options = {"maximum": 4, "told": 64}

    def test_what_systemd_has_dropped_is_noticed_and_nothing_is_acknowledged_in_vain(self):
        kept = [self.vm("s0"), self.vm("s1")]
        for vm in kept:
            vm.store([describe("eventfd", "e", 1)], [eventfd()])
        self.daemon.allowed = ["journal"]
        third = self.vm()
        acknowledged = 0
        try:
            third.attach("s2")
            acknowledged = None
            third.store([describe("eventfd", "e", 1)], [eventfd()])
            acknowledged = 1
        except VarlinkError as error:
            self.assertIn("systemd", error.parameters["message"])
        self.assertGreater(self.daemon.told["overflow"], 0)
        self.assertIsNotNone(acknowledged, "a session was acknowledged that is not kept")
        self.restart()
        for i, vm in enumerate(kept):
            self.resume(vm, f"s{i}", 1)
        held = [s["objects"] for name, s in self.sessions().items() if name == "s2"]
        self.assertEqual(bool(held), bool(acknowledged), "what was acknowledged is there, and no more")

    def test_a_journal_that_is_dropped_later_is_written_anew(self):
        vm = self.vm("vm")
        fds = eventfds(2)
        vm.store([describe("eventfd", "e", 1)], fds[:1])
        for name in self.daemon.names():
            self.daemon.drop(name)
        vm.store([describe("eventfd", "f", 2)], fds[1:])
        self.assertStored(1)
        self.restart()
        self.resume(vm, "vm", 2)
        self.assertHeld(vm, ["e", "f"], fds)


class SlowSystemd(JournalTest):
    def test_a_session_is_acknowledged_once_systemd_has_it_and_nobody_else_waits(self):
        vm = self.vm("vm")
        other, new = self.client(), self.vm()
        new.current = new.connect()
        with self.daemon.deaf():
            new.start("call", new.current, "Attach", {"name": "new"})
            time.sleep(0.5)  # so that it has come to the daemon; later would be no fault
            other.call("Status")
            vm.store([describe("eventfd", "e", 1)], [eventfd()])
            self.assertFalse(select.select([new.channel], [], [], 0.3)[0], "it is acknowledged")
        self.assertEqual(new.finish()[0], {"start": "new", "objects": 0})
        self.restart(lose=True)
        self.resume(new, "new", 0)

    def test_a_session_that_systemd_never_took_was_never_acknowledged(self):
        new = self.vm()
        new.current = new.connect()
        with self.daemon.deaf():
            new.start("call", new.current, "Attach", {"name": "new"})
            time.sleep(0.3)
            self.daemon.kill(lose=True)
        with self.assertRaises(ConnectionError):
            new.finish()
        self.daemon.start()
        self.assertEqual(new.attach("new"), {"start": "new", "objects": 0})
        self.assertStored(1)


class WithoutStore(DaemonTest):
    def test_by_hand_it_works_and_says_what_is_not_protected(self):
        client = self.client()
        client.attach("vm")
        client.store([describe("eventfd", "e", 1)], [eventfd()])
        status = client.call("Status")[0]
        self.assertFalse(status["survivesRestart"])
        self.assertTrue(status["warning"])
        self.assertIn(status["warning"], self.daemon.log())


class OldSystemd(JournalTest):
    """systemd before 254: it does not tell of its store, and empties it when the service is stopped."""

    pid1_options = {"told": False, "command": [DAEMON, "--fdstore-max=4096"]}

    def test_an_old_systemd_keeps_all_over_a_restart_and_a_stop_is_warned_of(self):
        fd = eventfd()
        vm = self.vm("vm")
        vm.store([describe("eventfd", "e", 1)], [fd])
        status = self.status()
        self.assertIs(status["survivesRestart"], True)
        self.assertIn("systemctl stop", status["warning"])
        self.assertIn(f"is ready: {status['warning']}", self.daemon.log())
        self.restart()
        self.resume(vm, "vm", 1)
        self.assertHeld(vm, ["e"], [fd])
        listed = subprocess.run(
            [os.path.join(BUILD, "vfio-cprctl"), "--socket", self.daemon.path, "list"],
            capture_output=True,
            text=True,
        )
        self.assertEqual(listed.returncode, 0, listed.stderr)
        self.assertIn(status["warning"], listed.stderr)
        self.daemon.terminate()
        self.assertRegex(self.daemon.log(), "warning: stays in .*: 1 session, 1 descriptor; if .* stop")

    def test_a_systemd_that_tells_of_its_store_is_not_warned_of(self):
        self.end_daemon()
        self.daemon = Pid1()
        self.vm("vm").store([describe("eventfd", "e", 1)], [eventfd()])
        status = self.status()
        self.assertIs(status["survivesRestart"], True)
        self.assertIsNone(status.get("warning"))
        self.daemon.terminate()
        self.assertRegex(self.daemon.log(), "vfio-cprd: stays in systemd's fd store: 1 session, 1 desc")
        self.assertNotIn("warning", self.daemon.log())


class NoStore(JournalTest):
    """systemd, and no store (FileDescriptorStoreMax=0)."""

    pid1_options = {"maximum": 0}

    def test_without_a_store_it_works_and_says_what_is_not_protected(self):
        self.vm("vm").store([describe("eventfd", "e", 1)], [eventfd()])
        status = self.status()
        self.assertFalse(status["survivesRestart"])
        self.assertIn("FileDescriptorStoreMax", status["warning"])
        self.assertEqual(self.daemon.names(), [])
