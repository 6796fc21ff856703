# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's own death loses nothing: what is in the journals is there again, whatever was under
way. PID 1 and its fd store are played by pid1.py."""

import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from client import SESSION, Client
from fds import close, describe, eventfd, eventfds, make_table, memfd, state_memfd, track
from holder import NOBODY
from journaltest import VM, JournalTest, append, copy_of, pair, planted, sending_end
from patience import eventually


class Survival(JournalTest):
    def test_objects_of_every_kind_come_back_in_order_with_all_that_is_known_of_them(self):
        vm = self.vm("vm")
        ram, state = memfd(8192), state_memfd(b"device state")
        table = make_table([{"iova": 0x1000}], slots=4)
        vectors, more = eventfds(5), eventfds(2)
        vm.store(
            [
                describe("memory", "ram", 1),
                describe("table", "type1", 2, 1),
                describe("eventfd", "0000:01:00.0/msix", 3, 2, count=5, irqIndex=2, irqAction=0),
            ],
            [ram, table, *vectors],
        )
        vm.store([describe("state", "msi", 4)], [state])
        # A gap, of numbers 5 to 9.
        vm.store([describe("eventfd", "0000:01:00.0/msix", 3, first=10, count=2)], more)
        before = [item for item, _ in vm.fetch()]
        self.restart()
        self.resume(vm, "vm", 4)
        names = ["ram", "type1", "0000:01:00.0/msix", "msi"]
        after = self.assertHeld(vm, names, [ram, table, *vectors, *more, state])
        self.assertEqual(after, before)
        self.assertEqual(self.sessions()["vm"]["mappings"], 1)
        self.assertStored(1)

    def test_a_living_holder_is_active_still_and_nobody_else_gets_the_session(self):
        vm = self.vm("vm")
        vm.store([describe("eventfd", "e", 1)], [eventfd()])
        since = self.sessions()["vm"]["ageUsec"]
        self.restart()
        info = self.sessions()["vm"]
        self.assertEqual((info["state"], info["holder"]["pid"]), ("active", vm.pid))
        self.assertGreaterEqual(info["ageUsec"], since)
        with self.refused("Busy"):
            self.client().attach("vm")
        self.resume(vm, "vm", 1)
        with self.refused("Busy"):
            self.client().attach("vm")

    def test_a_session_that_holds_nothing_stays_its_holders(self):
        vm = self.vm("vm")
        self.restart(lose=True)
        self.resume(vm, "vm", 0)
        vm.kill()
        self.assertStored(0)

    def test_a_holder_that_dies_while_the_daemon_is_dead_leaves_an_orphan(self):
        vm, empty = self.vm("vm"), self.vm("empty")
        fd = eventfd()
        vm.store([describe("eventfd", "e", 1)], [fd])
        self.daemon.kill()
        vm.kill()
        empty.kill()
        self.daemon.start()
        self.daemon.wait_ready()
        self.assertTrue(eventually(lambda: self.sessions()["vm"]["state"] == "orphaned"))
        self.assertHeld(self.claim("vm", 1), ["e"], [fd])
        self.assertStored(1)  # what held nothing ended with its holder

    def test_an_orphan_stays_one_and_a_restoring_session_stays_restoring(self):
        vm = self.vm("vm")
        fds = eventfds(3)
        vm.store([describe("eventfd", "e", 1, count=3)], fds)
        vm.kill()
        self.assertTrue(eventually(lambda: self.sessions()["vm"]["state"] == "orphaned"))
        self.restart()
        self.assertEqual(self.sessions()["vm"]["state"], "orphaned")
        vm = self.claim("vm", 1)
        self.restart()
        info = self.sessions()["vm"]
        self.assertEqual((info["state"], info["holder"]["pid"]), ("restoring", vm.pid))
        self.resume(vm, "vm", 1)
        self.assertEqual(self.sessions()["vm"]["state"], "restoring")
        vm.call("Commit", {})
        self.restart()
        self.assertEqual(self.sessions()["vm"]["state"], "active")
        self.daemon.kill()
        vm.kill()
        self.daemon.start()
        self.assertHeld(self.claim("vm", 1), ["e"], fds)

    def test_an_eventfd_has_its_count_still(self):
        vm = self.vm("vm")
        fd = eventfd(7)
        vm.store([describe("eventfd", "e", 1)], [fd])
        for _ in range(3):
            self.restart()
        self.assertEqual(self.sessions()["vm"]["pendingInterrupts"], 7)
        self.assertEqual(os.eventfd_read(fd), 7)

    def test_a_session_is_its_users_still(self):
        vm = VM(self.daemon, uid=NOBODY)
        self.addCleanup(vm.kill)
        vm.attach("vm")
        vm.store([describe("eventfd", "e", 1)], [eventfd()])
        self.restart()
        self.assertEqual(vm.attach("vm")["start"], "resumed")
        with Client(self.daemon) as client:
            self.assertEqual(list(client.sessions()), [(NOBODY, "vm")])

    def test_what_was_acknowledged_needs_nothing_that_was_queued_for_systemd(self):
        vm = self.vm("vm")
        fds = []
        for i in range(10):
            fds.append(eventfd())
            vm.store([describe("eventfd", f"e{i}", i + 1)], fds[-1:])
            self.restart(lose=True)
            self.resume(vm, "vm", i + 1)
        vm.call("Remove", {"kind": "eventfd", "name": "e3"})
        self.restart(lose=True)
        self.resume(vm, "vm", 9)
        self.assertHeld(vm, [f"e{i}" for i in range(10) if i != 3], fds[:3] + fds[4:])
        self.assertStored(1)

    def test_a_batch_that_was_not_finished_is_gone(self):
        vm = self.vm("vm")
        kept, lost = eventfd(), eventfds(2)
        vm.store([describe("eventfd", "kept", 1)], [kept])
        vm.store([describe("eventfd", "lost", 2)], lost[:1], continues=True)
        # The same in the journal: the first record of two.
        end = sending_end(self.daemon, self.daemon.names()[0])
        record = describe("eventfd", "half", 3, count=1)
        self.daemon.kill()
        append(end, {"op": "objects", "objects": [record], "first": True, "last": False}, lost[1:])
        self.daemon.start()
        self.resume(vm, "vm", 1)
        more = eventfd()
        vm.store([describe("eventfd", "more", 2)], [more])
        self.restart()
        self.resume(vm, "vm", 2)
        self.assertHeld(vm, ["kept", "more"], [kept, more])

    def test_a_batch_of_many_messages_is_there_whole(self):
        vm = self.vm("vm")
        fds = eventfds(1500)
        for at in range(0, 1500, 250):
            vm.store(
                [describe("eventfd", f"e{at}", at + 1, count=250)],
                fds[at : at + 250],
                **({"continues": True} if at < 1250 else {}),
            )
        self.restart()
        self.resume(vm, "vm", 6)
        self.assertHeld(vm, [f"e{at}" for at in range(0, 1500, 250)], fds)

    def test_a_release_is_for_good(self):
        vm, other = self.vm("vm"), self.vm("other")
        vm.store([describe("eventfd", "e", 1)], [eventfd()])
        other.store([describe("eventfd", "e", 1)], [eventfd()])
        vm.call("Release")
        self.assertStored(1)
        self.restart()
        self.assertEqual(list(self.sessions()), ["other"])
        self.release("other")
        self.assertStored(0)
        self.assertIdle()

    def test_sigterm_leaves_everything_with_systemd(self):
        vm, dead = self.vm("vm"), self.vm("dead")
        fds = eventfds(2)
        vm.store([describe("eventfd", "e", 1)], fds[:1])
        dead.store([describe("eventfd", "e", 1)], fds[1:])
        dead.kill()
        self.daemon.terminate()
        self.assertStored(2)
        self.daemon.start()
        self.resume(vm, "vm", 1)
        self.assertHeld(vm, ["e"], fds[:1])
        self.assertHeld(self.claim("dead", 1), ["e"], fds[1:])

    def test_who_calls_while_there_is_no_daemon_waits_in_the_backlog(self):
        vm = self.vm("vm")
        fd = eventfd()
        vm.store([describe("eventfd", "e", 1)], [fd])
        self.daemon.kill()
        again, fresh = vm.connect(), self.client()
        vm.current = again
        vm.start("call", again, "Attach", {"name": "vm"})
        fresh.send(SESSION + "Attach", {"name": "fresh"})
        time.sleep(0.2)
        self.daemon.start()
        self.assertEqual(vm.finish()[0], {"start": "resumed", "objects": 1})
        self.assertEqual(fresh.receive()[0]["start"], "new")
        self.assertHeld(vm, ["e"], [fd])

    def test_nothing_is_left_over_in_the_daemon_after_many_restarts(self):
        vm = self.vm("vm")
        vm.store([describe("eventfd", "e", 1, count=20)], eventfds(20))
        self.restart()
        with Client(self.daemon) as client:
            client.call("Status")
        self.wait_until_asleep()
        before = self.daemon.fds()
        for _ in range(20):
            self.restart()
        self.assertTrue(eventually(lambda: self.daemon.fds() == before), self.daemon.links())
        self.assertStored(1)

    def test_with_a_store_it_says_that_nothing_would_be_lost(self):
        status = self.status()
        self.assertTrue(status["survivesRestart"])
        self.assertNotIn("warning", status)


class Recovery(JournalTest):
    def test_recovery_can_be_killed_at_any_point(self):
        holders = [self.vm(f"s{i}") for i in range(12)]
        fds = {}
        for i, vm in enumerate(holders):
            fds[i] = eventfds(20 * i + 1)
            vm.store([describe("eventfd", "e", 1, count=len(fds[i]))], fds[i])
            if i % 3 == 0:
                vm.kill()
        self.restart()
        times = random.Random(7)
        for _ in range(200):
            self.daemon.kill()
            self.daemon.start()
            time.sleep(times.uniform(0, 1.3 * self.daemon.ready_after))
        self.daemon.wait_ready()
        for i, vm in enumerate(holders):
            if i % 3 == 0:
                vm = self.claim(f"s{i}", 1)
            else:
                self.resume(vm, f"s{i}", 1)
            self.assertHeld(vm, ["e"], fds[i])
            vm.call("Release")
        self.assertStored(0)

    def two_generations(self, holder_dies):
        """Both copies of a journal at once, as if the daemon had died before it dropped the old."""
        vm = self.vm("vm")
        fds = eventfds(3)
        for i in range(3):
            vm.store([describe("eventfd", f"e{i}", i + 1)], fds[i : i + 1])
        old = {name: track(self.daemon.get(name)) for name in self.daemon.names()}
        vm.start("call", vm.current, "Remove", {"kind": "eventfd", "name": "e0"})
        self.assertTrue(eventually(lambda: not set(self.daemon.names()) & set(old)))
        new = self.daemon.names()
        self.daemon.kill()
        with self.assertRaises(ConnectionError):  # the old one is open: it was not answered
            vm.finish()
        if holder_dies:
            vm.kill()
        for name, fd in old.items():
            self.daemon.put(fd, name)
            close(fd)
        self.daemon.start()
        if holder_dies:
            vm = self.claim("vm", 2)
        else:
            self.resume(vm, "vm", 2)
        self.assertHeld(vm, ["e1", "e2"], fds[1:])
        self.assertTrue(eventually(lambda: self.daemon.names() == new), self.daemon.names())
        self.restart()
        self.resume(vm, "vm", 2)
        vm.call("Release")
        self.assertStored(0)

    def test_of_two_copies_the_newest_wins_and_the_older_is_dropped(self):
        for _ in range(8):  # their names are random, and so is their order
            self.two_generations(False)

    def test_of_two_copies_of_an_orphan_the_newest_wins_too(self):
        for _ in range(8):
            self.two_generations(True)

    def test_a_journal_goes_on_with_the_sending_end_that_it_brings(self):
        vm = self.vm("v:m")
        fds = eventfds(30)
        for i, fd in enumerate(fds):
            vm.store([describe("eventfd", f"e{i}", i + 1)], [fd])
            names = self.daemon.names()
            self.assertRegex(names[0], r"^journal-[0-9a-f]{16}\.0\.v\+m-r$")
            self.restart()
            self.resume(vm, "v:m", i + 1)
            self.assertEqual(self.daemon.names(), names, "it was written anew")
        self.assertHeld(vm, [f"e{i}" for i in range(30)], fds)

    def test_both_ends_of_an_older_daemons_journal_are_read_and_dropped(self):
        fd, more = eventfds(2)
        planted(self.daemon, *copy_of(objects=[describe("eventfd", "e", 1)], fds=[fd]))
        names = self.daemon.names()
        self.assertEqual(len(names), 2)
        for n in (1, 2):
            self.restart()
            vm = self.claim("vm", n)
            self.assertEqual(self.daemon.names(), names)
            if n == 1:
                vm.store([describe("eventfd", "f", 2)], [more])
                vm.kill()
        self.assertHeld(vm, ["e", "f"], [fd, more])
        vm.call("Release")
        self.assertStored(0)

    def test_a_journal_without_its_sending_end_is_written_anew(self):
        fd = eventfd()
        planted(self.daemon, *copy_of(objects=[describe("eventfd", "e", 1)], fds=[fd]))
        self.daemon.drop(next(n for n in self.daemon.names() if n.endswith("-s")))
        self.restart()
        vm = self.claim("vm", 1)
        more = eventfd()
        vm.store([describe("eventfd", "f", 2)], [more])
        self.assertStored(1)
        self.restart()
        self.resume(vm, "vm", 2)
        self.assertHeld(vm, ["e", "f"], [fd, more])

    def test_a_sending_end_alone_is_dropped(self):
        ends = pair()
        self.daemon.put(ends[1], "journal-00000000000000aa-s")
        self.restart()
        self.assertStored(0)
        self.assertEqual(self.sessions(), {})
