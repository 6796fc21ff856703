# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the daemon finds in systemd's store and cannot read."""

import os
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from client import Client, VarlinkError
from fds import describe, eventfd, eventfds, memfd, track
from journaltest import JournalTest, append, pair


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

    def test_a_journal_of_a_user_that_there_cannot_be(self):
        for uid in (-1, 2**32 - 1, 2**32, 2**32 + 1000, 2**63 - 1):
            with self.subTest(uid=uid):
                self.plant(self.journal(self.opening(uid=uid)))

    def test_a_journal_of_a_process_that_there_cannot_be(self):
        for pid in (-1, 2**31, 2**32, 2**32 + 1, 2**63 - 1):
            with self.subTest(pid=pid):
                state = {"op": "state", "state": 2, "since": 1, "pid": pid, "spaces": []}
                self.plant(self.journal(self.opening(), state))

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

    def test_a_journal_with_a_record_that_names_more_descriptors_than_came(self):
        item = describe("eventfd", "e", 1, count=5)
        batch = {"op": "objects", "objects": [item], "first": True, "last": True}
        self.plant(self.journal(self.opening(), (batch, eventfds(2))))

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
