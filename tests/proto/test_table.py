# SPDX-License-Identifier: LGPL-2.1-or-later
"""Mapping tables from a hostile holder: the daemon believes no byte of them, and stays sane."""

import ctypes
import fcntl
import mmap
import os
import random
import struct
import threading
import unittest

from daemontest import DaemonTest
from fds import (
    CHANGES_AT, HEADER, MAX_SLOTS, SEALS_STATE, SEALS_TABLE, SLOT, TABLE_MAGIC, describe, make_table,
    memfd, slot, track,
)
from patience import eventually

HUGE_PAGES = "/proc/sys/vm/nr_hugepages"
HUGE_PAGE = 2 * 1024 * 1024
HUGE_SLOTS = (HUGE_PAGE - HEADER.size) // SLOT.size  # a table of just a page

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
            content[:24] = HEADER.pack(TABLE_MAGIC, 1, 32, 500, rng.getrandbits(32), 0)[:24]
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

    def write(self, fd, index, changes=None, **entry):
        """As a holder's library does, or one of before the header had changes."""
        os.pwrite(fd, slot(**entry), HEADER.size + index * SLOT.size)
        if changes is not None:
            os.pwrite(fd, struct.pack("<Q", changes), CHANGES_AT)

    def assertShown(self, n):
        """Counts may be a moment old."""
        shown = lambda: self.vm.show("vm")["spaces"][0]["mappings"]
        self.assertTrue(eventually(lambda: shown() == n), shown())

    def test_a_table_is_counted_once_for_each_change_that_it_tells(self):
        fd = make_table([{"iova": 4096}], slots=4, used=4, changes=1)
        self.vm.store([describe("table", "s0", 1)], [fd])
        self.assertEqual(self.view()[0]["mappings"], 1)
        self.write(fd, 1, iova=8192)  # what is not told is not seen before long
        self.assertEqual(self.vm.show("vm")["spaces"][0]["mappings"], 1)
        self.write(fd, 2, changes=2, iova=16384)
        self.assertShown(3)
        self.assertEqual(self.vm.sessions()[(os.getuid(), "vm")]["mappings"], 3)

    def test_a_table_that_does_not_tell_of_changes_is_counted_for_each_look(self):
        fd = make_table([{"iova": 4096}], slots=8, used=8)
        self.vm.store([describe("table", "s0", 1)], [fd])
        for i in range(1, 8):
            self.assertShown(i)
            self.assertEqual(self.vm.sessions()[(os.getuid(), "vm")]["mappings"], i)
            self.write(fd, i, iova=i << 20)

    def test_looking_at_sparse_tables_makes_no_memory(self):
        tables = [make_table([{"iova": 4096}], slots=MAX_SLOTS, used=MAX_SLOTS) for _ in range(20)]
        self.vm.store([describe("table", f"s{i}", i + 1, i) for i in range(20)], tables)
        before = [os.fstat(fd).st_blocks for fd in tables], self.shmem()
        # So much is read in pieces, and nobody waits for all of it.
        counts = lambda: [space["mappings"] for space in self.vm.show("vm")["spaces"]]
        self.assertTrue(eventually(lambda: counts() == [1] * 20))
        self.assertEqual(self.vm.sessions()[(os.getuid(), "vm")]["mappings"], 20)
        for answer in self.vm.pages("Mappings", name="vm", space="s3"):
            self.assertLessEqual(len(answer["mappings"]), 1)
        self.assertEqual(([os.fstat(fd).st_blocks for fd in tables], self.shmem()), before)
        holder = self.holder()
        holder.attach("sparse")
        holder.store([describe("table", "s", 1)], [tables[0]])
        holder.kill()
        self.vm.show("sparse")
        self.assertEqual(([os.fstat(fd).st_blocks for fd in tables], self.shmem()), before)

    def shmem(self):
        """What of shared memory the daemon has in its address space: nothing, as it maps none."""
        with open(f"/proc/{self.daemon.pid}/status", encoding="ascii") as status:
            return next(line for line in status if line.startswith("RssShmem:"))

    def huge_table(self):
        """A table of a huge page, and how many of these the host had before."""
        try:
            with open(HUGE_PAGES, encoding="ascii") as file:
                before = file.read()
            self.addCleanup(self.set_huge_pages, before)
            self.set_huge_pages(str(int(before) + 1))
            fd = track(
                os.memfd_create("table", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | os.MFD_HUGETLB)
            )
            os.ftruncate(fd, HUGE_PAGE)
            with mmap.mmap(fd, HUGE_PAGE) as memory:
                content = HEADER.pack(TABLE_MAGIC, 1, SLOT.size, HUGE_SLOTS, HUGE_SLOTS, 0)
                memory[: len(content)] = content
                memory[HUGE_PAGE - SLOT.size :] = slot(iova=1 << 20)
        except OSError as error:
            raise unittest.SkipTest(f"no huge page of 2 MiB is to be had: {error}")
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS_TABLE)
        self.addCleanup(self.set_huge_pages, before)
        return fd, before

    def set_huge_pages(self, n):
        with open(HUGE_PAGES, "w", encoding="ascii") as file:
            file.write(n)

    def test_a_hole_in_a_table_of_huge_pages_does_no_harm(self):
        fd, before = self.huge_table()
        holder, client = self.holder(), self.client()
        holder.attach("huge")
        holder.store([describe("table", "s0", 1)], [fd])
        self.assertEqual(client.show("huge")["spaces"][0]["mappings"], 1)
        # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE; and the page goes, so that nobody can have it.
        libc = ctypes.CDLL(None, use_errno=True)
        size = ctypes.c_long(HUGE_PAGE)
        self.assertEqual(libc.fallocate(fd, 3, ctypes.c_long(0), size), 0)
        self.set_huge_pages(before)
        self.assertEqual(os.fstat(fd).st_blocks, 0)
        for _ in range(2):
            client.show("huge")
            client.sessions()
            mappings = client.call("Mappings", {"name": "huge", "space": "s0"})[0]
            self.assertEqual(mappings, {"mappings": []})
            holder.kill()
        self.assertEqual(client.show("huge")["session"]["state"], "orphaned")
        self.assertEqual(os.fstat(fd).st_blocks, 0)
        self.assertTrue(self.daemon.is_alive())
