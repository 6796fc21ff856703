# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a peer can do to what comes after the daemon's own death: to its journals, and to the tables
that it can still write to. What others have comes back whole, and what is its own comes back as its."""

import contextlib
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from attacktest import ATTACKER, AttackTest, come_back
from client import Client, VarlinkError
from fds import HEADER, MAX_SLOTS, close, describe, eventfd, eventfds, make_table, memfd
import loads
from patience import eventually
from test_text import CHARACTERS


class Kept(AttackTest):
    nofile = 8000
    pid1_options = {}

    def test_a_wiped_table_is_one_bad_object_of_its_owner(self):
        evil, table, ram = self.attacker(session="wiped"), make_table([{}], slots=8), memfd()
        good = make_table([{"iova": 4096}], slots=8)
        evil.store(
            [describe("table", "t", 1), describe("memory", "ram", 2, 1), describe("table", "u", 3, 2)],
            [table, ram, good],
        )
        evil.call("Commit")
        os.pwrite(table, bytes(HEADER.size), 0)
        self.restart()
        session = self.client().sessions().get((ATTACKER, "wiped"))
        self.assertIsNotNone(session, "it is not its owner's any more")
        self.assertNotEqual(session["state"], "unreadable")
        evil.run(come_back, "wiped")
        back = evil.call("Fetch", {"cursor": 0})[1]
        self.assertSameFiles([ram, good], back[-2:])
        for fd in back:
            close(fd)

    def test_wiped_tables_are_no_way_around_the_limit_on_sessions(self):
        for turn in range(3):
            tables = [make_table([{}], slots=8) for _ in range(70)]
            evil = self.attacker()
            made = evil.run(sessions_with_tables, f"w{turn}-", fds=tables)
            for table in tables:
                os.pwrite(table, bytes(HEADER.size), 0)
            print(f"    {made} sessions made in turn {turn}")
            self.restart()
            evil.kill()
        theirs = [s for (uid, _), s in self.client().sessions().items() if uid != 0]
        nobodys = [s for (uid, _), s in self.client().sessions().items() if uid == 0]
        self.assertEqual(nobodys, [])
        self.assertLessEqual(len(theirs), 64 + 2)
        self.others_are_served(3, 1)

    def test_sparse_and_full_tables_do_not_keep_a_start_waiting(self):
        evil = self.attacker()
        evil.run(loads.store_full_tables, 2)
        sparse = [make_table([], MAX_SLOTS, used=MAX_SLOTS) for _ in range(60)]
        blocks = [os.fstat(fd).st_blocks for fd in sparse]
        client = self.attacker(session="sparse")
        client.store([describe("table", f"t{i}", i + 1, i) for i in range(60)], sparse)
        self.restart()
        self.others_are_served(3, 1)
        self.assertEqual([os.fstat(fd).st_blocks for fd in sparse], blocks)

    def test_names_and_ids_at_their_limits_come_back(self):
        evil = self.attacker(session="a" * 64)
        names = [c * (255 // len(c.encode())) for c in CHARACTERS] + ['"' * 255, "\\" * 255, "%s%n", "'"]
        fds, kept = eventfds(len(names)), []
        for i, name in enumerate(names):
            with contextlib.suppress(VarlinkError):
                evil.store([describe("eventfd", name, 2**32 - 1 - i, device=name)], fds[i : i + 1])
                kept.append(name)
        self.restart()
        evil.run(come_back, "a" * 64)
        objects, back = evil.call("Fetch", {"cursor": 0})
        self.assertEqual([o["name"] for o in objects["objects"]], kept)
        self.assertSameFiles([fds[names.index(name)] for name in kept], back)
        for fd in back:
            close(fd)

    def test_a_holder_killed_at_any_moment_around_a_restart_leaves_an_orphan(self):
        for i in range(4):
            evil = self.attacker()
            evil.begin(store_without_end, f"killed{i}")
            eventually(lambda: False, 0.05 * i)
            self.restart()
            evil.kill()
            sessions = self.client().sessions()
            if (ATTACKER, f"killed{i}") in sessions:
                session = sessions[ATTACKER, f"killed{i}"]
                # It ends if nothing was stored yet.
                self.assertIn(session["state"], ("orphaned",) if session["objects"] else
                              ("orphaned", "releasing"))

    def test_a_restart_in_the_middle_of_a_crowd_loses_nothing_of_others(self):
        storms = [self.attacker(ATTACKER + i) for i in range(2)]
        storms[0].begin(loads.attach_release_storm)
        storms[1].begin(loads.bad_message_storm)
        for _ in range(3):
            self.others_are_served(3, 1)
            for storm in storms:
                storm.kill()
            self.restart()
            storms = [self.attacker(ATTACKER + i) for i in range(2)]
            storms[0].begin(loads.attach_release_storm)
            storms[1].begin(loads.bad_message_storm)


def sessions_with_tables(attacker, fds, prefix):
    for i, fd in enumerate(fds):
        try:
            client = loads.new_session(attacker, f"{prefix}{i}")
            client.store([describe("table", "t", 1)], [fd])
        except (VarlinkError, ConnectionError):
            return i
    return len(fds)


def store_without_end(attacker, _fds, name):
    """Its daemon may die meanwhile."""
    with contextlib.suppress(VarlinkError, ConnectionError, OSError), Client(attacker.path) as client:
        client.attach(name)
        for i in range(1, 10000):
            client.store([describe("eventfd", f"e{i}", i)], [eventfd()])


class BusyManager(AttackTest):
    """systemd does not listen for a while (a daemon-reload)."""

    pid1_options = {}

    def test_what_waits_for_systemd_keeps_nobody_else_waiting(self):
        evil = [self.attacker() for _ in range(8)]
        with self.daemon.deaf():
            for i, one in enumerate(evil):
                one.begin(attach_once, f"deaf{i}")
            for _ in range(3):
                self.assertIsNotNone(self.status_time())
            self.victim.call("Show", {"name": "vm"})
            self.claim_time()
        for one in evil:
            one.finish()


def attach_once(attacker, _fds, name):
    try:
        return loads.new_session(attacker, name) and "done"
    except VarlinkError as error:
        return error.short
