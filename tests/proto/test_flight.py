# SPDX-License-Identifier: LGPL-2.1-or-later
"""Descriptors in flight: the kernel counts what the daemon has sent and nobody has received, for all
users together, and a daemon that has no capability can send no more than RLIMIT_NOFILE of it."""

import os
import unittest

from client import Client, encode
from daemontest import DaemonTest
from fds import describe, eventfd, eventfds
from holder import NOBODY
from patience import eventually

FETCH = encode("io.vfiocpr.Session.Fetch", {"cursor": 0})
MESSAGE = 253  # descriptors


@unittest.skipUnless(os.getuid() == 0, "only root can start a daemon as another user")
class Flight(DaemonTest):
    options = ("--mode", "0666")
    nofile = 2000
    uid = NOBODY - 9  # no other process has it, whose descriptors in flight would count too

    def setUp(self):
        super().setUp()
        self.fds = eventfds(MESSAGE)

    def greedy(self, uid, fetches=20):
        """A holder that asks for much more than the kernel lets fly, and reads nothing."""
        holder = self.holder(uid=uid)
        holder.attach("greedy")
        holder.store([describe("eventfd", "e", 1, count=MESSAGE)], self.fds)
        holder.do("send_raw", 0, FETCH * fetches)
        return holder

    def orphan(self, uid):
        """A session that waits for a successor."""
        dead = self.holder(uid=uid)
        dead.attach("vm")
        dead.store([describe("eventfd", "e", 1)], [self.fds[0]])
        dead.kill()

    def assertReads(self, holder):
        (answer, fds), _ = holder.do("receive", 0)
        self.assertEqual((answer["objects"][0]["count"], len(fds)), (MESSAGE, MESSAGE))

    def assertClaims(self, uid):
        successor = self.holder(uid=uid)
        self.assertEqual(successor.attach("vm"), {"start": "claimed", "objects": 1})
        answer, fds = successor.call("Fetch", {"cursor": 0})
        self.assertEqual(len(answer["objects"]), 1)
        self.assertSameFiles(fds, self.fds[:1])
        successor.call("Commit")
        successor.call("Release")
        successor.kill()

    def test_answers_that_one_user_does_not_read_make_no_claim_of_another_fail(self):
        self.orphan(NOBODY - 1)
        greedy = self.greedy(NOBODY)
        self.assertClaims(NOBODY - 1)
        self.assertReads(greedy)
        greedy.kill()

    def test_nor_do_those_of_several_users_together_and_root_is_served_too(self):
        self.orphan(NOBODY - 1)
        self.orphan(0)
        greedy = [self.greedy(uid) for uid in range(NOBODY - 6, NOBODY - 2)]
        self.assertClaims(NOBODY - 1)
        self.assertClaims(0)
        for holder in greedy:
            holder.kill()

    def test_what_a_peer_leaves_unread_counts_after_the_end_of_its_connection(self):
        """Its end is in its hands: what was sent is in flight until it reads, or closes."""
        self.orphan(NOBODY - 1)
        greedy = self.greedy(NOBODY, fetches=1)
        for connection in range(1, 12):
            greedy.do("shutdown", connection - 1)
            greedy.connect()
            self.assertTrue(eventually(lambda: self.resumes(greedy, connection)))
            greedy.do("send_raw", connection, FETCH)
        self.assertClaims(NOBODY - 1)
        greedy.kill()

    def resumes(self, holder, connection):
        return holder.call("Attach", {"name": "greedy"}, connection=connection)[0]["start"] == "resumed"

    def test_who_has_to_wait_is_answered_when_it_has_read(self):
        """Neither an error, nor a closed connection, nor a hang."""
        greedy = self.greedy(NOBODY)
        for _ in range(20):
            self.assertReads(greedy)
        greedy.call("Release")
        greedy.kill()

    def test_who_reads_nothing_and_wants_more_is_cut_off(self):
        greedy = self.greedy(NOBODY)
        self.assertTrue(eventually(lambda: "leaves its answer unread: cut off" in self.daemon.log()))
        self.assertReads(greedy)
        greedy.kill()
        with Client(self.daemon) as root:
            root.call("Release", {"name": "greedy", "uid": NOBODY})
        self.assertIdle()

    def test_descriptors_in_flight_that_are_not_the_daemons_make_an_answer_wait(self):
        """Another process of its uid has filled what the kernel lets fly."""
        other = self.holder(uid=self.uid)
        fd = eventfd()
        vm = self.client()
        vm.attach("vm")
        vm.store([describe("eventfd", "e", 1)], [fd])
        other.do("fill_flight", self.nofile + 1, fds=[fd])
        vm.send_raw(FETCH)
        self.assertTrue(eventually(lambda: vm.unsent() == 0))
        self.assertEqual(self.client().sessions()[(0, "vm")]["state"], "active")
        self.assertFalse(vm.is_closed())
        other.kill()
        self.assertSameFiles(vm.receive()[1], [fd])
