# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several copies of one session: which is used, which are kept beside it, and which may go."""

import os
import random
import re
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fds import close, describe, eventfd, eventfds, track
from holder import NOBODY
from journaltest import JournalTest, copy_of, planted
from patience import eventually

A, B = "00000000000000aa", "00000000000000bb"


class Copies(JournalTest):
    def setUp(self):
        super().setUp()
        self.random = random.Random(5)
        self.daemon.allowed = ["kept aside"]
        self.daemon.kill()

    def copy(self, lineage, generation, fds, name="vm", whole=True, at=0, journal=None, **fields):
        """A copy with an object for each descriptor, in a journal of a random name; that. at: how
        many seconds ago it was changed last."""
        objects = [describe("eventfd", f"e{fd}", i + 1, i) for i, fd in enumerate(fds)]
        opening = {"generation": generation, **fields.pop("open", {})}
        if lineage:
            opening["lineage"] = lineage
        since = time.monotonic_ns() // 1000 - at * 1000000
        records = copy_of(name, objects=objects, fds=fds, since=since, open=opening, **fields)
        journal = journal or f"journal-{self.random.getrandbits(64):016x}"
        planted(self.daemon, *records[: None if whole else -1], name=journal, twin=not lineage)
        return journal

    def start(self):
        self.daemon.start()
        self.daemon.wait_ready()

    def aside(self, name="vm"):
        """The names under which copies of the session stand aside."""
        return sorted(n for n, s in self.sessions().items()
                      if s["state"] == "unreadable" and n.split("#")[0] == name)

    def claims(self, fds, name="vm"):
        """The session has these, and is released."""
        vm = self.claim(name, len(fds))
        self.assertHeld(vm, [f"e{fd}" for fd in fds], fds)
        vm.call("Release")
        vm.kill()

    def dropped(self, journal, reason):
        """The line of the log."""
        line = f"session vm of uid 0: journal {journal} (.*) is dropped: (.*)"
        found = eventually(lambda: re.search(line, self.daemon.log()))
        self.assertTrue(found, self.daemon.log())
        self.assertIn(reason, found[2])
        return found[1]

    # Two lineages

    def test_copies_of_two_lineages_are_both_kept_whatever_their_generations_are(self):
        for turn in range(20):
            with self.subTest(turn=turn):
                many, few = eventfds(20), eventfds(1)
                generations = self.random.sample((1, 1, 2, 7), 2)
                later = self.copy(A, generations[0], few, at=1)
                earlier = self.copy(self.random.choice((B, None)), generations[1], many, at=10)
                entries = self.daemon.names()
                self.start()
                for _ in range(2):
                    (name,) = self.aside()
                    self.assertEqual(name, "vm#" + earlier.removeprefix("journal-"))
                    self.assertEqual(self.daemon.names(), entries)
                    self.assertEqual(self.sessions()["vm"]["state"], "orphaned")
                    self.assertIn(name, self.sessions()["vm"]["warning"])
                    self.assertIn("release that one to use this", self.sessions()[name]["warning"])
                    self.assertRegex(self.daemon.log(), f"journal {later} .* is used; 1 more is kept")
                    self.assertRegex(self.daemon.log(), f"journal {earlier} is kept aside, as .*20 desc")
                    with self.refused("InvalidParameter"):
                        self.client().attach(name)
                    self.restart()
                # When the one that was chosen is released, the other is the session at once.
                self.claims(few)
                self.assertEqual(self.aside(), [])
                self.claims(many)
                self.assertStored(0)
                self.daemon.kill()

    def test_a_copy_that_stands_aside_can_be_released_and_the_warning_goes(self):
        few = eventfds(2)
        self.copy(A, 1, few)
        self.copy(B, 9, eventfds(3), at=5)
        self.start()
        self.release(self.aside()[0])
        self.assertEqual(list(self.sessions()), ["vm"])
        self.assertIsNone(self.sessions()["vm"]["warning"])
        self.assertStored(1)
        self.claims(few)

    def test_the_copy_whose_holder_lives_is_used(self):
        for n in range(4):
            vm = self.vm()
            fds = eventfds(2)
            pidfd = track(os.pidfd_open(vm.pid))
            self.copy(A, 1, fds, at=20, state=0, pid=vm.pid, holder=[pidfd])
            self.copy(B, 9, eventfds(3), at=n)
            self.start()
            self.resume(vm, "vm", 2)
            self.assertIn("whose holder lives", self.sessions()[self.aside()[0]]["warning"])
            vm.call("Release")
            self.release("vm")
            self.daemon.kill()

    def test_what_ends_with_its_holder_gives_way_to_the_other_copy(self):
        vm = self.vm()
        fds = eventfds(2)
        pidfd = track(os.pidfd_open(vm.pid))
        self.copy(A, 3, [], state=0, pid=vm.pid, holder=[pidfd])
        self.copy(B, 1, fds, at=9)
        self.start()
        vm.kill()
        self.assertTrue(eventually(lambda: self.aside() == []))
        self.claims(fds)

    # One lineage

    def test_of_one_lineage_the_later_generation_is_used(self):
        for _ in range(6):
            fds = eventfds(3)
            old = self.copy(A, 3, fds)
            self.copy(A, 4, fds[1:], at=3)
            self.start()
            self.assertEqual(self.aside(), [])
            self.assertIn("generation 3, 3 descriptors", self.dropped(old, "a later copy, of generation 4"))
            self.claims(fds[1:])
            self.daemon.kill()

    def test_of_two_equal_generations_one_goes_if_nothing_is_lost_by_it(self):
        for n in (2, 0):
            fds = eventfds(n)
            both = [self.copy(A, 3, fds), self.copy(A, 3, fds)]
            self.start()
            self.assertEqual(self.aside(), [])
            self.dropped(f"(?:{'|'.join(both)})", "all that it holds is in journal")
            self.claims(fds)
            self.daemon.kill()

    def test_of_two_equal_generations_both_stay_if_each_has_something(self):
        one, other = eventfds(2), eventfds(2)
        self.copy(A, 3, one)
        self.copy(A, 3, other, at=2)
        self.start()
        self.claims(one)
        self.claims(other)

    def test_what_was_not_finished_is_dropped_beside_what_is(self):
        fds = eventfds(3)
        half = self.copy(A, 4, fds, whole=False)
        self.copy(A, 3, fds[:2])
        self.start()
        self.assertEqual(self.aside(), [])
        self.dropped(half, "it was never finished")
        self.claims(fds[:2])

    def test_what_was_not_finished_and_is_of_another_lineage_stays(self):
        fds = eventfds(2)
        self.copy(A, 3, fds)
        self.copy(B, 4, eventfds(1), whole=False)
        self.start()
        (name,) = self.aside()
        self.assertIn("never finished", self.sessions()[name]["warning"])
        self.claims(fds)
        self.assertEqual(self.aside(), ["vm"])  # it has the name now, but is no session
        with self.refused("BadState", "never finished"):
            self.client().attach("vm")
        self.release("vm")
        self.assertStored(0)

    def test_what_was_not_finished_and_is_empty_is_dropped_with_a_line(self):
        self.dropped_empty = self.copy(A, 1, [], whole=False)
        self.start()
        self.dropped(self.dropped_empty, "holds nothing")
        self.assertEqual(self.sessions(), {})
        self.assertStored(0)

    # No lineage: 0.1.0 and 0.2.0

    def test_of_copies_without_lineage_one_goes_only_if_all_of_it_is_in_the_other(self):
        fds = eventfds(3)
        old = self.copy(None, 1, fds[:2], at=9)
        self.copy(self.random.choice((None, A)), 2, fds)
        self.start()
        self.assertEqual(self.aside(), [])
        self.dropped(old, "all that it holds is in journal")
        self.claims(fds)

    def test_of_copies_without_lineage_none_goes_that_has_something_of_its_own(self):
        one, other = eventfds(4), eventfds(1)
        self.copy(None, 1, one, at=9)
        self.copy(None, 7, [*one[:3], *other])
        self.start()
        self.claims([*one[:3], *other])
        self.claims(one)

    def test_a_copy_that_another_replaces_goes_even_without_lineage(self):
        fds = eventfds(3)
        old = self.copy(None, 5, fds)
        self.copy(A, 6, fds[1:], open={"replaces": old})
        self.start()
        self.assertEqual(self.aside(), [])
        self.dropped(old, "was written to replace it")
        self.claims(fds[1:])

    def test_the_daemon_writes_what_its_copies_replace(self):
        """A kill between the new copy of an older daemon's journal and the drop of the old one"""
        fds = eventfds(3)
        old = self.copy(None, 5, fds)
        self.start()
        ends = {name: track(self.daemon.get(name)) for name in self.daemon.names()}
        vm = self.claim("vm", 3)
        vm.start("call", vm.current, "Remove", {"kind": "eventfd", "name": f"e{fds[0]}"})
        self.assertTrue(eventually(lambda: not set(self.daemon.names()) & set(ends)))
        self.daemon.kill()
        vm.kill()
        for name, fd in ends.items():
            # As if the removal had found no room in it.
            self.daemon.put(fd, name)
        self.start()
        self.dropped(old, "was written to replace it")
        self.claims(fds[1:])
        self.assertStored(0)

    # What cannot be read

    def unreadable(self, **fields):
        opening = {"version": 99, **fields.pop("open", {})}
        return self.copy(A, fields.pop("generation", 3), eventfds(3), open=opening, **fields)

    def test_nobody_gets_a_new_session_of_the_name_of_one_that_cannot_be_read(self):
        self.unreadable()
        self.unreadable(name="theirs", uid=NOBODY)
        entries = self.daemon.names()
        self.start()
        for _ in range(20):
            with self.refused("BadState", "start a newer vfio-cprd"):
                self.client().attach("vm")
            self.restart()
        self.assertEqual(self.daemon.names(), entries)
        theirs = self.sessions()["theirs"]
        self.assertEqual((theirs["uid"], theirs["state"]), (NOBODY, "unreadable"))
        user = self.holder(NOBODY)
        connection = user.connect()
        with self.refused("BadState", "newer"):
            user.do("call", connection, "Attach", {"name": "theirs"})
        user.do("call", connection, "Release", {"name": "theirs"})
        self.assertStored(1)

    def test_an_earlier_copy_is_not_used_while_the_later_one_cannot_be_read(self):
        fds = eventfds(2)
        self.copy(A, 2, fds)
        later = self.unreadable()
        self.start()
        self.assertEqual(len(self.aside()), 2)
        with self.refused("BadState", f"journal {later} is a later copy"):
            self.client().attach("vm")
        self.release(next(n for n, s in self.sessions().items() if "newer" in s["warning"]))
        self.claims(fds)

    def test_a_name_in_the_store_tells_whose_it_is_if_nothing_else_does(self):
        self.copy(A, 1, eventfds(1), journal=f"journal-00000000000000cc.{NOBODY}.v+m")
        name = next(n for n in self.daemon.names())
        end = self.daemon.get(name)
        os.read(end, 4096)  # the first record is gone
        os.close(end)
        self.start()
        session = self.sessions()["v:m"]
        self.assertEqual((session["uid"], session["state"]), (NOBODY, "unreadable"))


class FewDescriptors(JournalTest):
    """RLIMIT_NOFILE is lower than it was."""

    def setUp(self):
        super().setUp()
        self.daemon.allowed = ["kept aside"]

    def low(self, nofile):
        self.daemon.command[:0] = ["/usr/bin/prlimit", f"--nofile={nofile}"]

    def test_dead_records_of_one_user_keep_no_other_session_from_being_read(self):
        vms = [self.vm(f"vm{i}") for i in range(4)]
        for vm in vms:
            vm.store([describe("eventfd", "e", 1, count=20)], eventfds(20))
        hog = self.vm("hog")
        fds = eventfds(250)
        for _ in range(20):  # the same again and again: 5,000 in the journal
            hog.store([describe("eventfd", "e", 1, count=250)], fds)
        self.daemon.kill()
        self.low(900)
        self.daemon.start()
        self.daemon.wait_ready()
        self.assertNotIn("kept aside", self.daemon.log())
        for i, vm in enumerate(vms):
            self.resume(vm, f"vm{i}", 1)
        self.resume(hog, "hog", 1)

    def test_what_finds_no_room_is_kept_and_read_again_when_there_is_room(self):
        vms = {n: self.vm(n) for n in ("small", "large")}
        for name, vm in vms.items():
            for at in range(0, {"small": 500, "large": 750}[name], 250):
                fds = eventfds(250)
                vm.store([describe("eventfd", f"e{at}", at + 1, count=250)], fds)
                for fd in fds:
                    close(fd)
        self.daemon.kill()
        self.low(1000)
        self.daemon.start()
        self.daemon.wait_ready()
        self.resume(vms["small"], "small", 2)
        with self.refused("BadState", "raise LimitNOFILE of vfio-cprd.service) or a security module"):
            vms["large"].attach("large")
        self.assertEqual(len(self.daemon.names()), 2)
        vms["small"].call("Release")
        os.kill(self.daemon.pid, signal.SIGHUP)
        self.assertTrue(eventually(lambda: self.sessions()["large"]["state"] == "active"))
        self.resume(vms["large"], "large", 3)
        self.assertEqual(len(self.daemon.names()), 1)
