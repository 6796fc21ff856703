# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the daemon finds in systemd's store and cannot read."""

import os
import select
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from client import Client, VarlinkError
from fds import close, describe, eventfd, eventfds, is_same_file, make_table, memfd, track
from journaltest import JournalTest, append, copy_of, pair, planted, recorded
from patience import eventually


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


class BadObject(JournalTest):
    """An object that this daemon cannot use is one bad object, and its session goes on without it."""

    GOOD = describe("eventfd", "good", 1)

    def plant(self, *objects, fds, more=()):
        """A journal with a good object, then these, whose descriptors are after its own."""
        self.daemon.allowed = ["cannot be used"]
        self.good = eventfd()
        self.daemon.kill()
        records = copy_of(objects=[self.GOOD, *objects], fds=[self.good, *fds])
        planted(self.daemon, *records[:3], *more, records[3], twin=False)
        self.daemon.start()
        self.daemon.wait_ready()

    def pipes(self, n):
        """Reading ends, which tell when all copies of the writing ends are closed; and these."""
        ends = [os.pipe() for _ in range(n)]
        return [track(end[0]) for end in ends], [track(end[1]) for end in ends]

    def check(self, n_bad, reason, item):
        """The session is usable but for that item, which is there as it came, whatever is done to
        the others, until the release."""
        for _ in range(2):
            info = self.sessions()["vm"]
            self.assertEqual(info["state"], "orphaned")
            self.assertRegex(info["warning"], f"^{n_bad} object.*{reason}")
            self.assertRegex(self.daemon.log(), f"session vm: {n_bad} object.*{reason}")
            vm = self.claim("vm", 1)
            self.assertHeld(vm, ["good"], [self.good])
            vm.store([describe("eventfd", "x", 77)], [eventfd()])
            vm.call("Remove", {"kind": "eventfd", "name": "x"})  # the journal is written anew
            self.assertStored(1)
            found = recorded(self.daemon)
            self.assertIn(item, [o for record, _ in found for o in record.get("objects", [])])
            for fd in [fd for _, fds in found for fd in fds]:
                close(fd)
            vm.kill()
            self.restart()
        self.release("vm")
        self.assertStored(0)

    def test_an_object_of_a_kind_or_with_a_field_that_is_not_known(self):
        for item, reason in (
            (describe("teapot", "t", 2, 1), 'teapot "t": kind "teapot" is unknown'),
            ({**describe("eventfd", "t", 2, 1), "colour": "red"}, 'eventfd "t": .*colour'),
            (describe("eventfd", "", 2, 1), "names are 1 to 255"),
            ({**describe("eventfd", "t", 2, 1), "id": "two"}, "eventfd"),
            ("no object at all", "an object"),
        ):
            with self.subTest(reason=reason):
                readers, writers = self.pipes(1)
                self.plant(item, fds=writers)
                close(writers[0])
                self.assertFalse(select.select(readers, [], [], 0)[0])
                self.check(1, reason, item)
                self.assertTrue(eventually(lambda: select.select(readers, [], [], 0)[0]), "it is held")

    def test_what_is_held_and_not_understood_is_counted(self):
        device = {**describe("device", "0000:3b:00.0", 2, 1, space="dma"), "colour": "red"}
        self.plant(device, fds=eventfds(1))
        self.assertEqual(self.status()["descriptors"], 2)
        vm = self.claim("vm", 1)
        vm.kill()
        held = "died; 2 descriptors are held"
        self.assertTrue(eventually(lambda: held in self.daemon.log()), self.daemon.log())
        self.release("vm")
        self.assertEqual(self.status()["descriptors"], 0)

    def test_an_object_of_more_descriptors_than_came(self):
        self.plant(describe("eventfd", "t", 2, 1, count=5), fds=eventfds(2))
        item = describe("eventfd", "t", 2, 1, count=5)
        self.check(1, "5 descriptors from 1 on are named, but 3", item)

    def test_its_descriptors_keep_their_numbers_when_it_is_written_anew(self):
        fds = eventfds(3)
        last = describe("eventfd", "last", 3, 3)
        self.plant(describe("teapot", "t", 2, 1, count=2), last, fds=fds)
        vm = self.claim("vm", 2)
        vm.call("Remove", {"kind": "eventfd", "name": "last"})
        self.assertStored(1)
        (got,) = [got for record, got in recorded(self.daemon)
                  if any(o.get("kind") == "teapot" for o in record.get("objects", []))]
        self.assertSameFiles(fds[:2], got[1:3])
        self.assertFalse(any(is_same_file(fd, fds[2]) or is_same_file(fd, self.good) for fd in got))

    def test_of_two_with_one_name_or_id_the_later_one_is_used(self):
        for first, second in (
            (describe("eventfd", "e", 2), describe("eventfd", "e", 3)),
            (describe("eventfd", "e", 2), describe("eventfd", "f", 2)),
        ):
            fds = eventfds(2)
            more = [({"op": "objects", "objects": [o], "first": True, "last": True}, [fd])
                    for o, fd in zip((first, second), fds)]
            self.plant(fds=[], more=more)
            self.assertRegex(self.sessions()["vm"]["warning"], "stored later by its name or id")
            for _ in range(2):
                vm = self.claim("vm", 2)
                self.assertHeld(vm, ["good", second["name"]], [self.good, fds[1]])
                vm.store([describe("eventfd", "x", 77)], [eventfd()])
                vm.call("Remove", {"kind": "eventfd", "name": "x"})
                vm.kill()
                self.restart()
            self.assertIn("1 object (1 descriptor)", self.sessions()["vm"]["warning"])
            self.release("vm")

    def test_a_removal_of_it_counts(self):
        readers, writers = self.pipes(1)
        gone = {"op": "remove", "kind": "teapot", "name": "t"}
        self.plant(describe("teapot", "t", 2, 1), fds=writers, more=[gone])
        self.assertTrue(eventually(lambda: not self.sessions()["vm"]["warning"]))
        self.assertHeld(self.claim("vm", 1), ["good"], [self.good])

    def test_a_session_of_nothing_else_stays_when_its_holder_dies(self):
        vm = self.vm()
        pidfd = track(os.pidfd_open(vm.pid))
        self.daemon.allowed = ["cannot be used"]
        self.daemon.kill()
        item = describe("teapot", "t", 2)
        records = copy_of(objects=[item], fds=[eventfd()], state=0, pid=vm.pid, holder=[pidfd])
        planted(self.daemon, *records, twin=False)
        self.daemon.start()
        self.daemon.wait_ready()
        vm.kill()
        self.assertTrue(eventually(lambda: self.sessions()["vm"]["state"] == "orphaned"))
        self.assertStored(1)

    def test_a_table_that_its_owner_has_wiped_takes_nothing_with_it(self):
        vm = self.vm("vm")
        table, event = make_table(), eventfd()
        vm.store([describe("table", "dma", 1), describe("eventfd", "e", 2, 1)], [table, event])
        os.pwrite(table, bytes(64), 0)
        self.restart()
        self.resume(vm, "vm", 2)
        self.assertHeld(vm, ["dma", "e"], [table, event])
