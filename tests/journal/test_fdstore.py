# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stores that are small, slow, old or not there."""

import os
import re
import resource
import select
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from client import VarlinkError
from daemon import BUILD, DAEMON
from daemontest import DaemonTest
from fds import describe, eventfd, eventfds
from journaltest import JournalTest, copy_of, planted
from patience import eventually
from pid1 import Pid1


class StoreLimit(JournalTest):
    """A store for few."""

    pid1_options = {"maximum": 14}

    def test_one_session_too_many_is_refused_with_the_reason_and_the_others_live_on(self):
        holders = []
        with self.refused("QuotaExceeded", "raise FileDescriptorStoreMax"):
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
        with self.refused("QuotaExceeded", "raise FileDescriptorStoreMax"):
            self.client().attach("more")
        holders[0].call("Release")
        self.vm("again")


class TinyStore(JournalTest):
    pid1_options = {"maximum": 4}

    def test_with_a_store_of_four_the_third_session_at_the_latest_is_refused(self):
        with self.refused("QuotaExceeded", "raise FileDescriptorStoreMax"):
            for i in range(3):
                self.vm(f"s{i}")
        self.assertEqual(self.daemon.told["overflow"], 0)


class LongNames(JournalTest):
    """What is short is not entries, but room in the variable that tells the next daemon of all."""

    pid1_options = {"maximum": 100000}

    def setUp(self):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if hard < 16384:
            self.skipTest(f"RLIMIT_NOFILE is {hard}, and this needs 16384")
        super().setUp()

    def fill(self, name):
        """Sessions until one is refused; their number."""
        for n in range(1000):
            client = self.client()
            try:
                client.attach(f"{name}-{n}")
            except VarlinkError as error:
                self.assertEqual(error.short, "QuotaExceeded")
                self.assertIn("release a session; no larger FileDesc", error.parameters["message"])
                return n
        self.fail("none was refused")

    def restart_and_count(self):
        """systemd's execve() takes what it has to tell, and all is there again."""
        names = self.daemon.names()
        self.restart()
        self.assertEqual(self.status()["sessions"], len(names))
        return names

    def test_more_sessions_than_systemd_can_hand_over_are_refused_and_all_come_back(self):
        self.client().attach("first")
        self.daemon.kill()
        for n in range(4600):
            planted(self.daemon, *copy_of(f"old-{n}"), number=n, twin=False)
        self.daemon.start()
        self.daemon.wait_ready()
        self.assertGreater(self.fill("new"), 20)
        names = self.restart_and_count()
        self.assertEqual(sum(".0.first-r" in name for name in names), 1)
        self.assertLess(len("LISTEN_FDNAMES=vfio-cprd.socket:" + ":".join(names)), 128 << 10)
        # What needs a new journal meanwhile finds room for it.
        vm = self.claim("old-0", 0)
        vm.store([describe("eventfd", "f", 1)], [eventfd()])
        vm.call("Remove", {"kind": "eventfd", "name": "f"})
        self.assertEqual(self.fill("more"), 0)
        vm.call("Release")
        self.assertEqual(self.fill("more"), 1)
        self.restart_and_count()


class LyingStore(JournalTest):
    """systemd keeps less than it told."""

    pid1_options = {"maximum": 2, "told": 64}

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


class NobodyThere(JournalTest):
    """NOTIFY_SOCKET is set, and nobody is behind it, or who does not answer."""

    def status_comes_to(self, survives, warning):
        self.assertTrue(eventually(lambda: re.search(warning, self.status().get("warning") or "")),
                        self.status())
        self.assertIs(self.status()["survivesRestart"], survives)
        self.assertRegex(self.daemon.log(), f"warning: {warning}")

    def test_a_notify_socket_that_nobody_listens_at_is_told_and_not_trusted(self):
        self.daemon.allowed = ["could not be stored"]
        for how in ("closed", "gone"):
            self.daemon.kill()
            path = os.path.join(self.daemon.directory, "nobody")
            if how == "closed":
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nobody:
                    nobody.bind(path)
            else:
                os.unlink(path)
            self.daemon.env["NOTIFY_SOCKET"] = path
            self.daemon.start()
            self.status_comes_to(False, "nobody listens where systemd should")
            with self.refused("KernelFailure"):
                self.client().attach("vm")

    def test_a_systemd_that_is_slow_at_the_start_is_told_and_keeps_what_it_has(self):
        vm = self.vm("vm")
        vm.store([describe("eventfd", "e", 1)], [eventfd()])
        with self.daemon.deaf():
            self.daemon.kill(lose=True)
            self.daemon.start()
            self.resume(vm, "vm", 1)
            self.status_comes_to(True, "systemd has not answered for 10 seconds")
        self.vm("other")  # its barrier is answered
        self.assertIsNone(self.status().get("warning"))


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
