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


def table_size(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("FDSize:"))


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

    stores = 0  # calls of Store so far

    def stage_many(self, client, first, n, one):
        for at in range(first, first + n, 250):
            part = [describe("eventfd", f"e{i}", i + 1, i - at) for i in range(at, at + 250)]
            client.store(part, [one] * 250, continues=True)
            self.stores += 1

    def stage_run(self, client, fds):
        for at in range(0, len(fds), 250):
            run = [describe("eventfd", "run", 1_000_000, first=at, count=250)]
            client.store(run, fds[at : at + 250], continues=True)
            self.stores += 1

    def assertEndsInTurns(self, client, method):
        """The batch ends; another peer's call that comes meanwhile is done before."""
        quiet = self.client()
        quiet.wait_until_received()
        with self.daemon.stopped():
            client.send("io.vfiocpr.Session.Store", {"objects": []})
            quiet.send(f"io.vfiocpr.Session.{method}")
        quiet.receive()
        client.receive()
        self.stores += 1
        (call,) = self.calls(os.getuid(), method, 1)
        self.assertLess(call, self.calls(os.getuid(), "Store", self.stores)[-1])

    def test_a_batch_of_thousands_does_not_keep_others_waiting(self):
        client, one = self.client(), eventfd()
        client.attach("vm")
        # Into an empty session, and into one that holds some.
        for first, method in ((0, "List"), (2000, "Status")):
            self.stage_many(client, first, 2000, one)
            self.assertEndsInTurns(client, method)
        (held,) = client.show("vm")["session"]["objects"]
        self.assertEqual(held["count"], 4000)

    def test_what_is_held_is_compared_and_left_out_in_turns(self):
        client, fds = self.client(), eventfds(4000)
        client.attach("vm")
        for held, method in ((2000, "List"), (4000, "Status")):
            self.stage_run(client, fds[:held])
            self.stage_many(client, 0, 250, fds[0])
            self.assertEndsInTurns(client, method)
        (held,) = client.show("vm")["session"]["objects"]
        self.assertEqual(held["count"], 4250)

    def test_a_batch_whose_peer_dies_is_held_whole_or_not_at_all(self):
        one = eventfd()
        batch = [describe("eventfd", f"e{i}", i + 1, i) for i in range(250)]
        for n in range(5):
            vm = self.holder()
            vm.attach(f"vm{n}")
            vm.store([describe("eventfd", "first", 999)], [one])
            vm.store(batch, [one] * 250, continues=True)
            with self.daemon.stopped():
                vm.do("send_raw", 0, encode("io.vfiocpr.Session.Store", {"objects": []}))
                vm.kill()
            state = lambda n=n: self.client().show(f"vm{n}")["session"]["state"]
            self.assertTrue(eventually(lambda: state() == "orphaned"))
            (held,) = self.client().show(f"vm{n}")["session"]["objects"]
            self.assertIn(held["count"], (1, 251))

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
        for name, n in (("e{}", 60), ("e{}" + "x" * 200, 200)):
            objects = [describe("eventfd", name.format(i), i + 1, i) for i in range(n)]
            greedy, quiet = self.client(), self.client()
            greedy.attach("vm")
            status = self.daemon.log().count("Status done in")
            stored = self.daemon.log().count("Store done in")
            with self.daemon.stopped():
                greedy.send("io.vfiocpr.Session.Store", {"objects": objects}, fds=[one] * n)
                quiet.send("io.vfiocpr.Session.Status")
            quiet.receive()
            greedy.receive()
            user = os.getuid()
            call = self.calls(user, "Status", status + 1)[status]
            done = self.calls(user, "Store", stored + 1)[stored]
            self.assertLess(call, done)
            greedy.call("Release")

    def test_descriptors_have_room_from_the_start_on(self):
        """Else each doubling of their table is a sleep in recvmsg(), which no turn ends."""
        before = table_size(self.daemon.pid)
        client, one = self.client(), eventfd()
        client.attach("vm")
        self.stage_run(client, [one] * 2000)
        self.assertGreaterEqual(self.daemon.fds(), 2000)
        self.assertEqual(table_size(self.daemon.pid), before)

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
