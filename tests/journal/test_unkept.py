# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd has dropped the journals and takes no new ones: each change says what that means for it."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fds import describe, eventfd, eventfds
from journaltest import JournalTest


class Unkept(JournalTest):
    def lose_journals(self):
        self.daemon.allowed = ["journal"]
        for name in self.daemon.names():
            self.daemon.drop(name)
        self.daemon.maximum = 0

    def take_journals(self):
        self.daemon.maximum = 64

    def test_a_new_session_is_refused_and_gone(self):
        self.lose_journals()
        with self.refused("KernelFailure", "could not be stored"):
            self.vm("vm")
        self.assertEqual(self.sessions(), {})
        self.take_journals()
        self.vm("vm")
        self.assertStored(1)

    def test_a_claim_is_told_as_one_that_is_not_kept(self):
        vm = self.vm("vm")
        fds = [eventfd()]
        vm.store([describe("eventfd", "e", 1)], fds)
        vm.kill()
        self.client().show("vm")
        self.lose_journals()
        successor = self.vm()
        with self.refused("KernelFailure", "is claimed, but that is not kept"):
            successor.attach("vm")
        self.assertHeld(successor, ["e"], fds)
        self.take_journals()
        successor.call("Commit")
        self.assertStored(1)
        self.restart()
        self.resume(successor, "vm", 1)

    def test_a_change_is_made_all_the_same_and_kept_by_the_next(self):
        vm = self.vm("vm")
        fds = eventfds(2)
        vm.store([describe("eventfd", "e", 1)], fds[:1])
        vm.store([describe("eventfd", "f", 2)], fds[1:])
        self.lose_journals()
        with self.refused("KernelFailure", "the change is made, but not kept"):
            vm.call("Commit")
        with self.refused("KernelFailure", "systemd still holds"):
            vm.call("Remove", {"kind": "eventfd", "name": "e"})
        self.assertHeld(vm, ["f"], fds[1:])
        self.take_journals()
        vm.call("Commit")
        self.restart()
        self.resume(vm, "vm", 1)
        self.assertHeld(vm, ["f"], fds[1:])

    def test_what_is_stored_is_refused_and_what_was_held_stays(self):
        vm = self.vm("vm")
        fds = eventfds(2)
        vm.store([describe("eventfd", "e", 1)], fds[:1])
        self.lose_journals()
        with self.refused("QuotaExceeded", "takes no more"):
            vm.store([describe("eventfd", "f", 2)], fds[1:])
        self.assertHeld(vm, ["e"], fds[:1])
        self.take_journals()
        vm.store([describe("eventfd", "f", 2)], fds[1:])
        self.restart()
        self.resume(vm, "vm", 2)

