# SPDX-License-Identifier: LGPL-2.1-or-later
"""Mapping tables from a hostile holder: the daemon believes no byte of them, and stays sane."""

import fcntl
import mmap
import os
import random
import threading

from daemontest import DaemonTest
from fds import (
    HEADER, MAX_SLOTS, SEALS_STATE, SEALS_TABLE, TABLE_MAGIC, describe, make_table, memfd,
)
from patience import eventually

STATES = ("mapped", "mapping", "unmapping")


class Table(DaemonTest):
    def setUp(self):
        super().setUp()
        self.vm = self.client()
        self.vm.attach("vm")

    def store(self, *entries, **lies):
        self.vm.store([describe("table", "s0", 1)], [make_table(entries, **lies)])

    def view(self):
        """What the daemon makes of it; every number must be one that can be."""
        shown = self.vm.show("vm")
        (space,) = shown["spaces"]
        listed = self.vm.sessions()[(os.getuid(), "vm")]
        mappings, cursor = [], 0
        while cursor is not None:
            answer = self.vm.call("Mappings", {"name": "vm", "space": "s0", "cursor": cursor})[0]
            mappings += answer["mappings"]
            last, cursor = cursor, answer.get("next")
            if cursor is not None:
                self.assertGreater(cursor, last)
        for number in (space["mappings"], space["bytes"], listed["mappings"], shown["session"]["mappings"]):
            self.assertGreaterEqual(number, 0)
        for mapping in mappings:
            iova, size = int(mapping["iova"], 16), int(mapping["size"], 16)
            self.assertGreater(size, 0)
            self.assertLessEqual(iova + size, 2**64)
            self.assertEqual((iova | size | int(mapping["offset"], 16)) % 4096, 0)
            self.assertIn(mapping["state"], STATES)
        return space, mappings

    def test_a_table_that_lies_in_its_header_is_refused(self):
        before = self.daemon.fds()
        for lies in (
            {"magic": 0},
            {"magic": TABLE_MAGIC ^ 1 << 63},
            {"version": 0},
            {"version": 2},
            {"slot_size": 0},
            {"slot_size": 31},
            {"slot_size": 64},
            {"header_slots": 0},
            {"header_slots": 9},
            {"header_slots": 11},
            {"header_slots": 2**32 - 1},
            {"header_slots": 2**27},
            {"slots": MAX_SLOTS + 1},
            {"length": 0},
            {"length": 63},
            {"length": 64},
            {"length": 64 + 10 * 32 - 1},
            {"length": 64 + 10 * 32 + 1},
            {"seals": 0},
            {"seals": fcntl.F_SEAL_SHRINK},
            {"seals": fcntl.F_SEAL_GROW},
            {"seals": fcntl.F_SEAL_WRITE},
        ):
            with self.subTest(**lies):
                with self.refused("Refused", "libvfio-cpr"):
                    self.store(**{"slots": 10, **lies})
        self.assertEqual(self.vm.fetch_all(), [])
        self.assertTrue(eventually(lambda: self.daemon.fds() == before))

    def test_a_table_of_the_largest_size_is_taken(self):
        self.store({"iova": 4096}, slots=MAX_SLOTS)
        space, mappings = self.view()
        self.assertEqual((space["mappings"], len(mappings)), (1, 1))

    def test_a_table_sealed_against_writing_is_taken(self):
        self.store({"iova": 4096}, seals=SEALS_STATE)
        self.assertEqual(self.view()[0]["mappings"], 1)

    def test_used_beyond_the_slots_is_cut_to_them(self):
        self.store({"iova": 4096}, slots=4, used=2**32 - 1)
        space, mappings = self.view()
        self.assertEqual((space["mappings"], len(mappings)), (1, 1))

    def test_slots_that_cannot_be_mappings_are_passed_over(self):
        top = 2**64
        self.store(
            {"size": 0},
            {"iova": top - 4096, "size": 8192},
            {"iova": 4096, "size": top - 4096},  # ends at 2^64 exactly: possible
            {"iova": 8192, "size": top - 4096},
            {"iova": 1},
            {"size": 1},
            {"offset": 1},
            {"iova": 4095},
            {"state": 4},
            {"state": 255},
            {"iova": 0x10000, "prot": 255, "region": 255, "object": 2**32 - 1},
            {"iova": top - 4096, "size": 4096, "offset": top - 4096},
        )
        space, mappings = self.view()
        self.assertEqual(
            [(m["iova"], m["size"]) for m in mappings],
            [("0x1000", "0xfffffffffffff000"), ("0x10000", "0x1000"), ("0xfffffffffffff000", "0x1000")],
        )
        self.assertEqual(space["mappings"], 3)

    def test_sums_beyond_63_bits_are_told_as_the_largest_number(self):
        huge = {"iova": 0, "size": 2**64 - 4096}
        self.store(*[huge] * 5)
        self.assertEqual(self.view()[0]["bytes"], 2**63 - 1)

    def test_overlapping_mappings_are_told_as_they_stand(self):
        self.store({"iova": 0, "size": 8192}, {"iova": 4096, "size": 8192}, {"iova": 0, "size": 8192})
        space, mappings = self.view()
        self.assertEqual((space["mappings"], space["bytes"], len(mappings)), (3, 24576, 3))

    def test_random_bytes_do_no_harm(self):
        rng = random.Random(1)
        for turn in range(10):
            content = bytearray(rng.randbytes(64 + 500 * 32))
            content[:24] = HEADER.pack(TABLE_MAGIC, 1, 32, 500, rng.getrandbits(32))[:24]
            for i in range(500):  # page multiples, so that many are taken
                for field in range(3):
                    content[64 + i * 32 + field * 8] = 0
                    content[64 + i * 32 + field * 8 + 1] &= 0xF0
                content[64 + i * 32 + 28] %= 5
            fd = memfd(len(content), SEALS_TABLE, bytes(content))
            self.vm.store([describe("table", "s0", 1)], [fd])
            self.view()
            self.vm.call("Remove", {"kind": "table", "name": "s0"})

    def test_a_table_that_changes_while_it_is_read_does_no_harm(self):
        fd = make_table([{"iova": i * 4096} for i in range(2000)], slots=2000)
        self.vm.store([describe("table", "s0", 1)], [fd])
        size = 64 + 2000 * 32
        stop = threading.Event()
        with mmap.mmap(fd, size) as memory:

            def scribble():
                rng = random.Random(2)
                while not stop.is_set():
                    at = rng.randrange(0, size - 1024)
                    memory[at : at + 1024] = rng.randbytes(1024)
                    memory[20:24] = rng.randbytes(4)

            writer = threading.Thread(target=scribble)
            writer.start()
            try:
                for _ in range(60):
                    self.view()
            finally:
                stop.set()
                writer.join()

    def test_a_killed_holders_hostile_table_does_not_keep_its_session_from_a_claim(self):
        holder = self.holder()
        holder.attach("hostile")
        fd = make_table([{"iova": 1, "state": 9}, {"iova": 0, "size": 2**64 - 4096}], used=2**32 - 1)
        holder.store([describe("table", "s0", 1)], [fd])
        holder.kill()
        client = self.client()
        self.assertEqual(client.attach("hostile"), {"start": "claimed", "objects": 1})
        self.assertSameFiles(client.fetch_all()[0][1], [fd])

    def test_a_removed_table_is_no_space_any_more(self):
        self.store({"iova": 4096})
        self.vm.call("Remove", {"kind": "table", "name": "s0"})
        self.assertEqual(self.vm.show("vm")["spaces"], [])
        with self.refused("NoSuchObject"):
            self.vm.call("Mappings", {"name": "vm", "space": "s0"})
