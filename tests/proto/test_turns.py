# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turns: one call of each user, and then the next user's, however much one has asked for."""

import os
import re
import unittest

from client import SERVICE, encode
from daemontest import DaemonTest
from fds import describe, eventfd, eventfds
from holder import NOBODY
from patience import eventually

LIST = encode("io.vfiocpr.Session.List", oneway=True)


class Turns(DaemonTest):
    """What the daemon has done, in which order, is in its log at debug level."""

    options = ("--mode", "0666")
    env = {"G_MESSAGES_DEBUG": "vfio-cprd"}

    def calls(self, uid, method, n):
        """Where in the log the user's n calls of that method are done."""
        line = rf"\(uid {uid}\): [\w.]*{method} done in"
        found = lambda: [match.start() for match in re.finditer(line, self.daemon.log())]
        self.assertTrue(eventually(lambda: len(found()) >= n))
        return found()

    def assertBetween(self, quiet, greedy, n, all):
        """The only call of the one was done after at most n of the other's."""
        (call,) = self.calls(*quiet, 1)
        before = [at for at in self.calls(*greedy, all) if at < call]
        self.assertLessEqual(len(before), n)

    def test_the_calls_of_one_peer_do_not_keep_another_waiting(self):
        greedy, quiet = self.client(), self.client()
        with self.daemon.stopped():
            greedy.send_raw(LIST * 75)
            greedy.send(SERVICE + "GetInfo")
            quiet.send("io.vfiocpr.Session.Status")
        greedy.receive()
        quiet.receive()
        self.assertBetween((os.getuid(), "Status"), (os.getuid(), "List"), 2, 75)

    @unittest.skipUnless(os.getuid() == 0, "only root can be another user")
    def test_a_user_of_many_connections_has_no_more_turns_than_one_of_one(self):
        greedy, quiet = self.holder(uid=NOBODY), self.holder(uid=NOBODY - 1)
        connections = [greedy.connect() for _ in range(50)]
        quiet.connect()
        with self.daemon.stopped():
            for connection in connections:
                greedy.do("send_raw", connection, LIST * 5 + encode(SERVICE + "GetInfo"))
            quiet.do("send_raw", 0, encode("io.vfiocpr.Session.Status") * 3)
        for connection in connections:
            greedy.do("receive", connection)
        for _ in range(3):
            quiet.do("receive", 0)
        last = self.calls(NOBODY - 1, "Status", 3)[2]
        before = [at for at in self.calls(NOBODY, "List", 250) if at < last]
        self.assertLessEqual(len(before), 5)

    def test_a_stream_of_answers_is_one_answer_a_turn(self):
        """And a call of another connection comes in between."""
        greedy, quiet = self.client(), self.client()
        greedy.attach("vm")
        for i in range(8):
            greedy.store([describe("eventfd", f"e{i}", i + 1, count=250)], eventfds(250))
        with self.daemon.stopped():
            greedy.send("io.vfiocpr.Session.Fetch", {"cursor": 0}, more=True)
            quiet.send("io.vfiocpr.Session.Status")
        quiet.receive()
        answers = [greedy.receive_message()[0]]
        while answers[-1].get("continues"):
            answers.append(greedy.receive_message()[0])
        self.assertEqual(len(answers), 8)
        self.assertBetween((os.getuid(), "Status"), (os.getuid(), "Fetch"), 0, 1)

    def test_a_store_of_many_objects_is_several_turns(self):
        """Parsed by the loop, or by a thread."""
        one = eventfd()
        for name in ("e{}", "e{}" + "x" * 200):
            objects = [describe("eventfd", name.format(i), i + 1, i) for i in range(200)]
            greedy, quiet = self.client(), self.client()
            greedy.attach("vm")
            status = self.daemon.log().count("Status done in")
            stored = self.daemon.log().count("Store done in")
            with self.daemon.stopped():
                greedy.send("io.vfiocpr.Session.Store", {"objects": objects}, fds=[one] * 200)
                quiet.send("io.vfiocpr.Session.Status")
            quiet.receive()
            greedy.receive()
            user = os.getuid()
            call = self.calls(user, "Status", status + 1)[status]
            done = self.calls(user, "Store", stored + 1)[stored]
            self.assertLess(call, done)
            greedy.call("Release")

    def test_a_peer_that_closes_while_it_waits_for_its_turn_is_forgotten(self):
        fd, vm = eventfd(), self.client()
        vm.attach("vm")
        vm.store([describe("eventfd", "e", 1)], [fd])
        base = self.daemon.fds() - self.idle_fds
        clients = [self.client() for _ in range(20)]
        with self.daemon.stopped():
            for client in clients:
                client.send_raw(LIST * 20)
                client.close()
        self.assertIdle(base)
        self.assertSameFiles(vm.fetch_all()[0][1], [fd])
