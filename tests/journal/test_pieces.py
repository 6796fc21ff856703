# SPDX-License-Identifier: LGPL-2.1-or-later
"""A batch goes into the journal record by record, and other calls of the daemon's come between them. Its
last record decides: whoever dies before, or after, there is nothing by half."""

import array
import json
import os
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from client import Client
from fds import MAX_FDS, close, describe, eventfd
from journaltest import JournalTest
from patience import eventually

N = 2000  # objects of the batch, each of one descriptor: eight records
SO_PEEK_OFF = 42


class Pieces(JournalTest):
    pid1_options = {"nofile": 20000}

    def setUp(self):
        super().setUp()
        self.one, self.vm_ = eventfd(), self.vm("vm")
        self.vm_.store([describe("eventfd", "first", N + 1)], [eventfd()])
        (name,) = self.daemon.names()
        self.journal = socket.socket(fileno=self.daemon.get(name))
        self.addCleanup(self.journal.close)
        self.journal.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)
        while self.next_record():
            pass

    def next_record(self):
        """Of the journal, in which it stays. None: there is none yet."""
        try:
            size = socket.CMSG_SPACE(MAX_FDS * 4)
            data, control, _, _ = self.journal.recvmsg(65536, size, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        fds = [fd for part in control for fd in array.array("i", part[2])]
        if data == b"M":
            data = os.pread(fds[-1], 1 << 24, 0)
        for fd in fds:
            os.close(fd)
        return json.loads(data)

    def record(self):
        """The next one, as soon as it is there: the queue is never empty, so that poll() does not tell."""
        deadline = time.monotonic() + 60
        while not (record := self.next_record()):
            self.assertLess(time.monotonic(), deadline, "there is no record")
        return record

    def last_is_written(self):
        """Of what is in the journal, and was not read before."""
        return any([record.get("last") for record in iter(self.next_record, None)])

    def begin(self):
        """Has the batch stored. Returns its first record."""
        for at in range(0, N, MAX_FDS):
            n = min(MAX_FDS, N - at)
            objects = [describe("eventfd", f"e{at + i}", at + i + 1, i) for i in range(n)]
            parameters = {"objects": objects, "continues": at + n < N}
            if at + n < N:
                self.vm_.call("Store", parameters, [self.one] * n)
        self.vm_.start("call", self.vm_.current, "Store", parameters, fds=[self.one] * n)
        return self.record()

    def store_until(self, is_reached):
        """The same, and kills the daemon at that record of it. Whether the batch is whole by then."""
        record = self.begin()
        whole = record["last"]
        self.assertTrue(record["first"])
        while not is_reached(record):
            record = self.record()
            whole = record["last"]
        self.daemon.kill()
        whole = self.last_is_written() or whole
        self.vm_.answer()
        self.daemon.start()
        return whole

    def assertWhole(self, vm, whole):
        """All of the batch is there, or nothing, and what was there before it."""
        held = vm.fetch()
        for _, fds in held:
            for fd in fds:
                close(fd)
        names = [item["name"] for item, _ in held]
        self.assertEqual(names, ["first"] + ([f"e{i}" for i in range(N)] if whole else []))

    def test_killed_after_the_first_piece_nothing_was_stored(self):
        whole = self.store_until(lambda record: True)
        self.assertEqual(self.vm_.attach("vm")["start"], "resumed")
        self.assertWhole(self.vm_, whole)
        if whole:
            self.skipTest("the daemon was faster than its killer")
        # What is left of it is in nobody's way.
        self.vm_.store([describe("eventfd", "next", N + 2)], [self.one])
        self.daemon.restart()
        self.assertEqual(self.vm_.attach("vm"), {"start": "resumed", "objects": 2})

    def test_killed_in_the_middle_with_its_holder_there_is_an_orphan(self):
        count = iter(range(4))
        whole = self.store_until(lambda record: record["last"] or next(count) == 3)
        self.vm_.kill()
        successor = self.vm()
        self.assertEqual(successor.attach("vm")["start"], "claimed")
        self.assertWhole(successor, whole)

    def test_killed_after_the_last_piece_all_was_stored(self):
        self.assertTrue(self.store_until(lambda record: record["last"]))
        self.assertEqual(self.vm_.attach("vm")["start"], "resumed")
        self.assertWhole(self.vm_, True)

    def test_a_holder_that_dies_between_two_pieces_leaves_all(self):
        self.begin()
        self.vm_.kill()
        successor = self.vm()
        self.assertEqual(successor.attach("vm"), {"start": "claimed", "objects": N + 1})
        self.assertWhole(successor, True)

    def test_a_release_between_two_pieces_closes_all(self):
        self.begin()
        self.journal.close()
        with Client(self.daemon) as client:
            client.call("Release", {"name": "vm"})
        self.vm_.kill()
        self.assertStored(0)
        self.assertTrue(eventually(lambda: self.daemon.fds() <= self.idle_fds))

    def test_the_end_of_the_daemon_between_two_pieces_leaks_nothing(self):
        """Its sanitizers, and its own look at its descriptors, would tell."""
        self.begin()
        self.daemon.terminate()
        self.vm_.answer()
        self.daemon.start()
        self.daemon.wait_ready()
        self.assertIn(self.vm_.attach("vm")["objects"], (1, N + 1))
