# SPDX-License-Identifier: LGPL-2.1-or-later
"""Storing: what is taken, what is refused, and that a refusal loses and leaks nothing."""

import array
import errno
import fcntl
import os
import select
import socket

from client import SESSION, Closed, VarlinkError, encode
from daemontest import StoreTest
from fds import close_all_but, describe, eventfd, eventfds, make_table, memfd, state_memfd, track
from patience import eventually


class Store(StoreTest):
    def test_up_to_253_descriptors_come_in_one_message(self):
        for n in (1, 252, 253):
            fds = eventfds(n)
            self.vm.store([describe("eventfd", f"run{n}", n, count=n)], fds)
            held = self.vm.fetch_all()
            back = [fd for o, item in held for fd in item if o["name"] == f"run{n}"]
            self.assertSameFiles(back, fds)
            self.vm.call("Remove", {"kind": "eventfd", "name": f"run{n}"})
        self.assertIntact()

    def test_the_kernel_lets_no_more_than_253_into_a_message(self):
        fds = eventfds(254)
        for control in ([fds], [fds[:253], fds[253:]]):
            with self.assertRaises(OSError) as caught:
                self.vm.socket.sendmsg(
                    [b"x"],
                    [
                        (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", part))
                        for part in control
                    ],
                )
            self.assertEqual(caught.exception.errno, errno.EINVAL)
        self.assertIntact()

    def test_descriptors_in_two_control_messages_are_one_list(self):
        fds = eventfds(5)
        message = encode(SESSION + "Store", {"objects": [describe("eventfd", "e", 1, count=5)]})
        self.vm.socket.sendmsg(
            [message],
            [
                (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", part))
                for part in (fds[:2], fds[2:])
            ],
        )
        self.assertEqual(self.vm.receive()[0], {})
        self.assertSameFiles(self.vm.fetch_all()[1][1], fds)

    def test_253_objects_come_in_one_message(self):
        fds = eventfds(253)
        self.vm.store([describe("eventfd", f"e{i}", i + 1, i) for i in range(253)], fds)
        held = self.vm.fetch_all()[1:]
        self.assertEqual([o["name"] for o, _ in held], [f"e{i}" for i in range(253)])
        self.assertSameFiles([item[0] for _, item in held], fds)

    def test_2048_vectors_come_in_batches_and_go_back_in_order(self):
        fds = eventfds(2048)
        for first in range(0, 2048, 253):
            part = fds[first : first + 253]
            item = describe("eventfd", "msix", 1, first=first, count=len(part), irqIndex=2)
            self.vm.store([item], part, continues=first + 253 < 2048)
        session = self.vm.show("vm")["session"]
        self.assertEqual(session["objects"], [{"kind": "eventfd", "count": 2049}])
        held = self.vm.fetch_all()
        runs = [(o["first"], o["count"]) for o, _ in held if o["name"] == "msix"]
        self.assertEqual(sum(count for _, count in runs), 2048)
        self.assertEqual([first for first, _ in runs], sorted(first for first, _ in runs))
        self.assertLessEqual(len(held), 1 + 9 + 1)
        self.assertSameFiles([fd for o, i in held if o["name"] == "msix" for fd in i], fds)

    def test_a_batch_takes_effect_only_when_finished(self):
        self.vm.store([describe("eventfd", "a", 1)], [eventfd()], continues=True)
        self.vm.store([describe("eventfd", "b", 2)], [eventfd()], continues=True)
        self.assertEqual(len(self.vm.show("vm")["objects"]), 1)
        self.assertEqual(len(self.vm.fetch_all()), 1)
        self.vm.store([])
        self.assertEqual([o["name"] for o, _ in self.vm.fetch_all()], ["kept", "a", "b"])

    def test_an_unfinished_batch_goes_with_its_connection(self):
        self.vm.store([describe("eventfd", "a", 1, count=253)], eventfds(253), continues=True)
        self.vm.close()
        self.vm = self.client()
        self.assertEqual(self.vm.attach("vm"), {"start": "resumed", "objects": 1})
        self.assertIntact()

    def test_an_unfinished_batch_goes_with_its_process(self):
        holder = self.holder()
        holder.attach("other")
        holder.store([describe("eventfd", "a", 1)], [eventfd()])
        holder.store([describe("eventfd", "b", 2, count=9)], eventfds(9), continues=True)
        holder.kill()
        self.assertEqual([o["name"] for o in self.vm.show("other")["objects"]], ["a"])
        self.vm.call("Release", {"name": "other"})
        self.assertIntact()

    def test_a_batch_with_one_bad_message_is_dropped_whole(self):
        for bad in (
            ([describe("eventfd", "c", 3)], []),
            ([describe("memory", "c", 3)], [eventfd()]),
            ([describe("eventfd", "c", 2)], [eventfd()]),
            ({}, [eventfd()]),
            ("x", []),
        ):
            self.vm.store([describe("eventfd", "b", 2)], [eventfd()], continues=True)
            with self.assertRaises(VarlinkError):
                self.vm.store(*bad)
            self.vm.store([])
            self.assertIntact()

    def test_storing_the_same_again_is_success_and_changes_nothing(self):
        fds = eventfds(4)
        memory, table = memfd(), make_table()
        objects = [
            describe("eventfd", "e", 1, 0, count=4),
            describe("memory", "ram", 2, 4),
            describe("table", "s0", 3, 5),
        ]
        self.vm.store(objects, [*fds, memory, table])
        before = self.daemon.fds()
        self.vm.store(objects, [*fds, memory, table])
        self.vm.store([describe("eventfd", "e", 1, first=1, count=2)], fds[1:3])
        self.vm.store(objects, [os.dup(fd) for fd in fds] + [memory, table])
        self.assertTrue(eventually(lambda: self.daemon.fds() == before))
        held = self.vm.fetch_all()
        self.assertSameFiles([fd for _, i in held[1:] for fd in i], [*fds, memory, table])

    def test_another_file_under_a_held_name_already_exists(self):
        memory, other = memfd(), memfd()
        self.vm.store([describe("memory", "ram", 2)], [memory])
        # A second open description of the same memory is another file too.
        again = track(os.open(f"/proc/self/fd/{memory}", os.O_RDWR | os.O_CLOEXEC))
        for fd in (other, again):
            with self.refused("AlreadyExists", "ram"):
                self.vm.store([describe("memory", "ram", 2)], [fd])
        with self.refused("AlreadyExists"):
            self.vm.store([describe("eventfd", "kept", 1000)], [eventfd()])
        with self.refused("AlreadyExists"):
            both = [describe("eventfd", "twice", 5, 0), describe("eventfd", "twice", 5, 1)]
            self.vm.store(both, eventfds(2))
        self.assertSameFiles(self.vm.fetch_all()[1][1], [memory])
        self.vm.call("Remove", {"kind": "memory", "name": "ram"})
        self.assertIntact()

    def test_ids_are_unique_and_stay_with_their_object(self):
        with self.refused("AlreadyExists", "1000"):
            self.vm.store([describe("memory", "ram", 1000)], [memfd()])
        with self.refused("AlreadyExists"):
            self.vm.store([describe("eventfd", "kept", 999)], [self.kept])
        with self.refused("AlreadyExists"):
            both = [describe("memory", "a", 5, 0), describe("memory", "b", 5, 1)]
            self.vm.store(both, [memfd(), memfd()])
        self.assertIntact()
        # A name is unique for its kind only.
        self.vm.store([describe("memory", "kept", 5)], [memfd()])
        self.assertEqual(len(self.vm.fetch_all()), 2)

    def test_the_descriptors_must_be_exactly_those_named(self):
        two = eventfds(2)
        e = lambda *a, **k: describe("eventfd", *a, **k)
        for objects, fds in (
            ([e("a", 1, 0)], []),
            ([e("a", 1, 1)], two[:1]),
            ([e("a", 1, 0, count=2)], two[:1]),
            ([e("a", 1, 0, count=254)], two),
            ([e("a", 1, 0)], two),
            ([e("a", 1, 1)], two),
            ([], two),
            ([e("a", 1, 0), e("b", 2, 0)], two),
            ([e("a", 1, 0, count=2), e("b", 2, 1)], two),
            ([e("a", 1, -1)], two[:1]),
            ([e("a", 1, -(2**63))], two[:1]),
            ([e("a", 1, 2**63 - 1)], two[:1]),
            ([e("a", 1, 253)], two[:1]),
            ([e("a", 1, 254)], two[:1]),
            ([{"id": 1, "kind": "eventfd", "name": "a"}], two[:1]),
            ([{"id": 1, "kind": "eventfd", "name": "a"}], []),
        ):
            with self.subTest(objects=objects, fds=len(fds)):
                with self.refused("InvalidParameter"):
                    self.vm.store(objects, fds)
        self.assertIntact()

    def test_runs_out_of_bounds_are_refused(self):
        big = 2**63 - 1
        for first, count in (
            (-1, 1),
            (0, 0),
            (0, -1),
            (0, 65537),
            (65536, 1),
            (65535, 2),
            (big, 1),
            (1, big),
            (big, big),
            (0, big),
            (-big, big),
            (-big - 1, 1),
        ):
            with self.subTest(first=first, count=count):
                with self.refused("InvalidParameter"):
                    self.vm.store(
                        [describe("eventfd", "a", 1, first=first, count=count)], [eventfd()]
                    )
                with self.refused("InvalidParameter"):
                    self.vm.store(
                        [describe("eventfd", "a", 1, 1, first=first, count=count)], eventfds(2)
                    )
        self.assertIntact()

    def test_only_eventfds_come_in_runs(self):
        for fields in ({"count": 2}, {"first": 1, "count": 2}):
            with self.refused("InvalidParameter"):
                self.vm.store([describe("memory", "m", 1, **fields)], [memfd(), memfd()])
        with self.refused("InvalidParameter"):
            self.vm.store([describe("state", "m", 1, first=1)], [state_memfd()])
        self.assertIntact()

    def test_gaps_can_be_filled_later_and_come_back_as_gaps(self):
        a, b, c = eventfds(2), eventfds(1), eventfds(2)
        self.vm.store([describe("eventfd", "v", 1, first=7, count=2)], a)
        self.vm.store([describe("eventfd", "v", 1, first=3)], b)
        held = self.vm.fetch_all()[1:]
        self.assertEqual([(o["first"], o["count"]) for o, _ in held], [(3, 1), (7, 2)])
        self.assertSameFiles([fd for _, i in held for fd in i], [*b, *a])
        self.vm.store([describe("eventfd", "v", 1, first=4, count=2)], c)
        held = self.vm.fetch_all()[1:]
        self.assertEqual([(o["first"], o["count"]) for o, _ in held], [(3, 3), (7, 2)])
        self.assertSameFiles([fd for _, i in held for fd in i], [*b, *c, *a])

    def test_malformed_objects_are_refused(self):
        good = describe("eventfd", "a", 1)
        for change in (
            {"id": 0},
            {"id": -1},
            {"id": 2**32},
            {"id": "1"},
            {"id": 1.5},
            {"kind": "socket"},
            {"kind": ""},
            {"kind": 3},
            {"name": ""},
            {"name": "x" * 256},
            {"name": "a\nb"},
            {"name": "a\x1b[31m"},
            {"name": "a\u009b"},
            {"name": "a\u202eb"},
            {"name": "a\u200bb"},
            {"space": "a\u2028b"},
            {"device": "a\u2066b"},
            {"name": 5},
            {"name": None},
            {"device": ""},
            {"device": "a\tb"},
            {"space": "x" * 256},
            {"first": "0"},
            {"count": []},
            {"irqIndex": "msix"},
            {"unknown": 1},
            {"firstFileDescriptor": True},
        ):
            with self.subTest(**change):
                with self.refused("InvalidParameter"):
                    self.vm.store([{**good, **change}], [eventfd()])
        for objects in ([1], ["x"], [[good]], [None], good, 7, None):
            with self.subTest(objects=objects):
                with self.refused("InvalidParameter"):
                    self.vm.store(objects, [eventfd()])
        self.assertIntact()

    def test_names_may_be_any_printable_text(self):
        for i, name in enumerate(("x" * 255, "Gerät 7 – 日本", '"\\/', " ", "%s%n", "../../etc")):
            self.vm.store([describe("eventfd", name, i + 1)], [eventfd()])
            self.assertEqual(self.vm.fetch_all()[-1][0]["name"], name)
            self.vm.call("Remove", {"kind": "eventfd", "name": name})
        self.assertIntact()

    def test_a_state_is_replaced_by_the_next_of_its_name(self):
        self.vm.store([describe("state", "pci", 1)], [state_memfd(b"old")])
        before = self.daemon.fds()
        new = state_memfd(b"newer")
        self.vm.store([describe("state", "pci", 1)], [new])
        (_, (_, fds)) = held = self.vm.fetch_all()
        self.assertEqual(held[1][0]["size"], 5)
        self.assertEqual(os.pread(fds[0], 99, 0), b"newer")
        self.assertSameFiles(fds, [new])
        self.assertTrue(eventually(lambda: self.daemon.fds() == before))
        # Under another id too, if that is free; and within a batch.
        self.vm.store([describe("state", "pci", 2)], [state_memfd(b"third")])
        self.vm.store([describe("state", "pci", 2)], [state_memfd(b"4th")], continues=True)
        self.vm.store([describe("state", "pci", 2)], [state_memfd(b"fifth!")])
        ((_, _), (item, (fd,))) = self.vm.fetch_all()
        self.assertEqual((item["id"], os.pread(fd, 99, 0)), (2, b"fifth!"))
        with self.refused("AlreadyExists"):
            self.vm.store([describe("state", "pci", 1000)], [state_memfd(b"x")])
        self.vm.call("Remove", {"kind": "state", "name": "pci"})
        self.assertIntact()

    def test_memory_is_stored_without_being_changed(self):
        memory = memfd(8192)
        seals = fcntl.fcntl(memory, fcntl.F_GET_SEALS)
        self.vm.store([describe("memory", "ram", 1)], [memory])
        self.assertEqual(fcntl.fcntl(memory, fcntl.F_GET_SEALS), seals)

    def test_storing_needs_a_session(self):
        other = self.client()
        with self.refused("NotHolder"):
            other.store([describe("eventfd", "a", 1)], [eventfd()])
        other.close()
        self.assertIntact()

    def test_a_fetch_from_any_cursor_is_harmless(self):
        self.vm.store([describe("eventfd", "e", 1, count=10)], eventfds(10))
        for cursor in (5, 11, 12, 2**31, 2**32, 2**63 - 1):
            answer, fds = self.vm.call("Fetch", {"cursor": cursor})
            self.assertEqual(len(fds), max(0, 11 - cursor))
            self.assertNotIn("next", answer)
        for cursor in (-1, -(2**63)):
            with self.refused("InvalidParameter"):
                self.vm.call("Fetch", {"cursor": cursor})
        self.vm.call("Remove", {"kind": "eventfd", "name": "e"})
        self.assertIntact()


    def test_a_fetch_with_more_brings_the_same_in_one_call(self):
        fds = eventfds(1000)
        for i, first in enumerate((0, 200, 450, 700)):  # with a gap behind each
            part = fds[250 * i : 250 * i + (200 if i == 0 else 249)]
            self.vm.store([describe("eventfd", "e", 1, first=first + 5, count=len(part))], part)
        self.vm.store([describe("memory", "ram", 2)], [memfd(4096)])
        paged, streamed = self.vm.fetch_all(), self.vm.fetch_all(more=True)
        self.assertEqual([item for item, _ in streamed], [item for item, _ in paged])
        for (_, one), (_, other) in zip(streamed, paged):
            self.assertSameFiles(one, other)
        answers = list(self.vm.call_more("Fetch", {"cursor": 0}))
        self.assertGreater(len(answers), 3)
        self.assertFalse([a for a in answers if "next" in a])
        # From any cursor; and what need not be told in several is one answer.
        total = sum(len(part) for _, part in paged)
        for cursor in (1, 300, 10**6):
            pages = list(self.vm.call_more_with_fds("Fetch", {"cursor": cursor}))
            self.assertLessEqual(sum(len(part) for _, part in pages), total)
        self.assertEqual(len(pages), 1)
        self.vm.call("Remove", {"kind": "eventfd", "name": "e"})
        self.vm.call("Remove", {"kind": "memory", "name": "ram"})
        self.assertIntact()

    def test_a_fetch_with_more_that_wants_no_answer_gets_none(self):
        self.vm.store([describe("eventfd", "e", 1, count=253)], eventfds(253))
        self.vm.store([describe("eventfd", "f", 2, count=253)], eventfds(253))
        self.vm.send(SESSION + "Fetch", {"cursor": 0}, more=True, oneway=True)
        self.vm.call("Remove", {"kind": "eventfd", "name": "e"})  # the answer to this is the first
        self.vm.call("Remove", {"kind": "eventfd", "name": "f"})
        self.assertIntact()

    def fill(self, client):
        """Stores so much that the answers to one Fetch do not fit into a socket."""
        for i in range(40):
            objects = [
                describe("eventfd", f"{j:0250}", j + 1, j - 100 * i)
                for j in range(100 * i, 100 * i + 100)
            ]
            client.store(objects, eventfds(100))

    def test_a_fetch_with_more_that_is_read_slowly_is_whole(self):
        slow = self.client()
        slow.attach("slow")
        self.fill(slow)
        slow.send(SESSION + "Fetch", {"cursor": 0}, more=True)
        # Others are served while its answers wait.
        self.assertEqual(len(self.client().call("List")[0]["sessions"]), 2)
        names, message = [], {"continues": True}
        while message.get("continues"):
            message, fds = slow.receive_message()
            self.assertEqual(len(fds), len(message["parameters"]["objects"]))
            names += [item["name"] for item in message["parameters"]["objects"]]
        self.assertEqual(names, [f"{j:0250}" for j in range(4000)])
        slow.call("Release")

    def test_a_fetch_with_more_that_is_not_read_does_not_hold_up_a_release(self):
        slow, other = self.client(), self.client()
        slow.attach("slow")
        self.fill(slow)
        before = self.daemon.fds()
        slow.send(SESSION + "Fetch", {"cursor": 0}, more=True)
        self.assertTrue(eventually(lambda: select.select([slow.socket], [], [], 0)[0]))
        other.call("Release", {"name": "slow"})
        with self.assertRaises((VarlinkError, Closed)):
            while True:
                slow.receive()
        slow.close()
        close_all_but([])
        self.assertTrue(eventually(lambda: self.daemon.fds() < before - 3900))
        other.close()
