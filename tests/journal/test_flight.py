# SPDX-License-Identifier: LGPL-2.1-or-later
"""What journals hold is in flight, which the kernel limits for the daemon's user and all its sessions
together (RLIMIT_NOFILE, as the daemon has no capability): what one user lets die in its journals, and
what it wants more, is at nobody else's expense."""

import array
import os
import shutil
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from daemon import DAEMON
from fds import MAX_FDS, close, describe, eventfd, eventfds
from journaltest import VM, JournalTest
from patience import eventually
from process import Process

DAEMON_UID, GREEDY, VICTIM = 61234, 61235, 61236
NOFILE = 4096
SETPRIV = shutil.which("setpriv") or ""
UNPRIVILEGED = [
    SETPRIV,
    f"--reuid={DAEMON_UID}",
    f"--regid={DAEMON_UID}",
    "--clear-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
    DAEMON,
]


class Sender(Process):
    """A process of the daemon's user, which has descriptors of its own in flight."""

    def do_fill(self, _fds, n):
        self.ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ends[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        message = array.array("i", eventfds(1) * MAX_FDS)
        for _ in range(n // MAX_FDS + 1):
            self.ends[0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, message)])
        return True, []


class Flight(JournalTest):
    pid1_options = {"command": UNPRIVILEGED, "nofile": NOFILE}

    def setUp(self):
        if not SETPRIV:
            self.skipTest("setpriv is not installed")
        super().setUp()

    def vm_of(self, uid, name=None):
        vm = VM(self.daemon, uid)
        self.addCleanup(vm.kill)
        if name:
            self.assertEqual(vm.attach(name)["start"], "new")
        return vm

    def hold(self, name):
        victim, fds = self.vm_of(VICTIM, name), eventfds(3)
        victim.store([describe("eventfd", "e", 1, count=3)], fds)
        return victim, fds

    def assertClaimed(self, name, fds):
        successor = self.vm_of(VICTIM)
        self.assertEqual(successor.attach(name), {"start": "claimed", "objects": 1})
        self.assertHeld(successor, ["e"], fds)
        successor.call("Commit")
        return successor

    def test_dead_records_of_one_user_fail_no_claim_of_another(self):
        victim, fds = self.hold("victim")
        same = eventfds(MAX_FDS)
        for name in ("one", "two"):
            greedy = self.vm_of(GREEDY, name)
            for _ in range(60):  # more than may be in flight; each is dead by the next
                greedy.store([describe("eventfd", "v", 1, count=MAX_FDS)], same)
            greedy.kill()
        victim.kill()
        successor = self.assertClaimed("victim", fds)
        self.restart()
        self.assertEqual(successor.attach("victim")["start"], "resumed")
        self.assertHeld(successor, ["e"], fds)

    def test_who_wants_more_than_may_fly_is_refused_and_others_are_served(self):
        victim, fds = self.hold("victim")
        victim.kill()
        greedy, at = self.vm_of(GREEDY, "greedy"), 0
        with self.refused("QuotaExceeded"):
            while True:
                more = eventfds(MAX_FDS)
                greedy.store([describe("eventfd", f"v{at}", at + 1, count=MAX_FDS)], more)
                at += 1
                for fd in more:
                    close(fd)
        self.assertGreater(at, 0)
        self.assertClaimed("victim", fds)
        greedy.call("Remove", {"kind": "eventfd", "name": "v0"})
        greedy.store([describe("eventfd", "last", 100)], [eventfd()])

    def fill_from_outside(self):
        """No accounting of the daemon's knows of these. Returns who ends it by its death."""
        sender = Sender(DAEMON_UID)
        self.addCleanup(sender.kill)
        sender.start("fill", NOFILE)
        self.assertIs(sender.answer()[0], True)
        return sender

    def test_a_claim_is_not_failed_for_what_is_in_flight_and_kept_when_it_can_be(self):
        victim, fds = self.hold("victim")
        self.daemon.allowed = ["lacks its state"]
        victim.kill()
        self.client().show("victim")
        sender = self.fill_from_outside()
        successor = self.vm_of(VICTIM)
        self.assertEqual(successor.attach("victim"), {"start": "claimed", "objects": 1})
        self.assertIn("lacks its state", self.status()["warning"])
        with self.refused("QuotaExceeded", "in journals"):
            successor.store([describe("eventfd", "f", 9)], [eventfd()])
        sender.kill()
        self.assertTrue(eventually(lambda: not self.status().get("warning")))
        self.restart()
        self.assertEqual(successor.attach("victim")["start"], "resumed")
        self.assertHeld(successor, ["e"], fds)

    def test_a_claim_waits_for_what_is_in_flight(self):
        victim, fds = self.hold("victim")
        victim.kill()
        self.client().show("victim")
        sender, successor = self.fill_from_outside(), self.vm_of(VICTIM)
        successor.current = successor.connect()
        successor.start("call", successor.current, "Attach", {"name": "victim"})
        sender.kill()
        self.assertEqual(successor.finish()[0], {"start": "claimed", "objects": 1})
        self.assertIsNone(self.status().get("warning"))
        self.assertHeld(successor, ["e"], fds)

    def test_a_holder_that_removes_and_stores_again_is_never_refused(self):
        vm = self.vm_of(VICTIM, "vm")
        for at in range(30):
            more = eventfds(MAX_FDS)
            vm.store([describe("eventfd", "v", 1, count=MAX_FDS)], more)
            for fd in more:
                close(fd)
            vm.call("Remove", {"kind": "eventfd", "name": "v"})
        self.assertStored(1)
