# SPDX-License-Identifier: LGPL-2.1-or-later
"""What there is much of is told some at a time, and looking at it keeps nobody waiting."""

import json
import os
import subprocess

from client import Client
from ctl import CTL, OK, ctl
from daemontest import DaemonTest
from fds import describe, eventfd, make_table, slot

UID = os.getuid()
# An answer may be 64 KiB, and what it had begun to tell then; the largest are 2 KiB. A session's
# summary comes on top.
MOST = 64 * 1024 + 4 * 1024


class PagedTest(DaemonTest):
    def answers(self, client, method, **parameters):
        """The answers of a method until there is no next, and how long they were."""
        cursor, lengths = None, []
        answers = []
        while not answers or cursor is not None:
            client.send("io.vfiocpr.Session." + method, {**parameters, "cursor": cursor})
            while b"\0" not in client.buffer:
                client.buffer += client.socket.recv(1 << 20)
            lengths.append(client.buffer.index(b"\0"))
            answers.append(client.receive()[0])
            cursor = answers[-1].get("next")
        self.assertLess(max(lengths), MOST)
        return answers


class Show(PagedTest):
    nofile = 20000

    def store_many(self, client, n, **fields):
        """Objects of one eventfd each, of the longest names."""
        fd = eventfd(1)
        names = [f"{i:06}".ljust(255, '"') for i in range(n)]
        for first in range(0, n, 253):
            part = range(first, min(first + 253, n))
            client.store(
                [describe("eventfd", names[i], i + 1, i - first, **fields) for i in part],
                [fd] * len(part),
            )
        return names

    def store_interrupts(self, client):
        """15,000 that wait: to look at them takes many turns."""
        fd = eventfd(1)
        for i in range(60):
            client.store([describe("eventfd", f"e{i}", i + 1, count=250)], [fd] * 250)

    def test_15000_objects_with_the_longest_names_come_whole(self):
        client = self.client()
        client.attach("vm")
        names = self.store_many(client, 15000, space='"' * 255, device="\\" * 255)
        pages = self.answers(client, "Show", name="vm")
        self.assertEqual([o["name"] for page in pages for o in page["objects"]], names)
        self.assertEqual([p["object"] for page in pages for p in page["pending"]], names)
        for page in pages:
            self.assertEqual(page["session"]["pendingInterrupts"], 15000)
            self.assertEqual(page["session"]["objects"], [{"kind": "eventfd", "count": 15000}])

    def test_a_run_that_is_cut_by_the_end_of_an_answer_is_told_once(self):
        client = self.client()
        client.attach("vm")
        fd = eventfd(3)
        name = "e" * 255
        for first in range(0, 1500, 250):
            # every 100th is a gap
            runs = [describe("eventfd", name, 1, i * 99, first=first + i * 100, count=99) for i in range(2)]
            client.store(runs, [fd] * 198)
        pages = self.answers(client, "Show", name="vm")
        self.assertGreater(len(pages), 3)
        runs = [(o["first"], o["count"]) for page in pages for o in page["objects"]]
        self.assertEqual(runs, [(f + i * 100, 99) for f in range(0, 1500, 250) for i in range(2)])
        pending = [(p["vector"], p["count"]) for page in pages for p in page["pending"]]
        self.assertEqual(pending, [(v, 3) for first, count in runs for v in range(first, first + count)])

    def test_objects_that_come_and_go_between_answers_hide_no_other(self):
        holder, client = self.holder(), self.client()
        holder.attach("vm")
        names = self.store_many(holder, 1000)
        seen, cursor, turn = [], None, 0
        while turn == 0 or cursor is not None:
            answer = client.call("Show", {"name": "vm", "cursor": cursor})[0]
            seen += [o["name"] for o in answer["objects"]]
            cursor = answer.get("next")
            holder.call("Remove", {"kind": "eventfd", "name": names[turn * 10 + 3]})
            holder.store([describe("eventfd", f"new{turn}", 2000 + turn)], [eventfd()])
            turn += 1
        self.assertGreater(turn, 5)
        self.assertEqual(len(seen), len(set(seen)))
        removed = {names[i * 10 + 3] for i in range(turn)}
        self.assertLessEqual(set(names) - removed, set(seen))

    def test_an_old_client_has_what_fits_into_one_answer(self):
        client = self.client()
        client.attach("vm")
        names = self.store_many(client, 300)
        answer = client.call("Show", {"name": "vm"})[0]
        told = [o["name"] for o in answer["objects"]]
        self.assertEqual(told, names[: len(told)])
        self.assertGreater(len(told), 50)

    def test_a_session_that_ends_between_answers_is_not_found(self):
        client = self.client()
        client.attach("vm")
        self.store_many(client, 300)
        cursor = client.call("Show", {"name": "vm"})[0]["next"]
        client.call("Release")
        with self.refused("NoSuchSession"):
            client.call("Show", {"name": "vm", "cursor": cursor})
        other = self.client()
        other.attach("vm")
        other.store([describe("eventfd", "e", 1)], [eventfd()])
        answer = other.call("Show", {"name": "vm", "cursor": cursor})[0]
        self.assertEqual([o["name"] for o in answer["objects"]], ["e"])

    def test_any_number_can_be_a_cursor_and_none_below_0(self):
        client = self.client()
        client.attach("vm")
        self.store_many(client, 5)
        for cursor in (1, 2**17 - 1, 2**31, 2**62, 2**63 - 1):
            answer = client.call("Show", {"name": "vm", "cursor": cursor})[0]
            self.assertLessEqual(len(answer["objects"]), 5)
            self.assertNotIn("next", answer)
            self.assertEqual(answer["session"]["objects"], [{"kind": "eventfd", "count": 5}])
            client.call("List", {"cursor": cursor})
        for method, parameters in (("Show", {"name": "vm"}), ("List", {})):
            with self.refused("InvalidParameter"):
                client.call(method, {**parameters, "cursor": -1})

    def test_others_are_served_between_the_turns_of_a_long_look(self):
        holder, client, other = self.holder(), self.client(), self.client()
        holder.attach("vm")
        self.store_interrupts(holder)
        for method, parameters in (("Show", {"name": "vm"}), ("List", {})):
            # Both have come when the daemon wakes up; in one turn the first would be done before.
            with self.daemon.stopped():
                client.send("io.vfiocpr.Session." + method, parameters)
                for _ in range(3):
                    other.send("io.vfiocpr.Session.Status")
            for _ in range(3):
                other.receive()
                client.socket.setblocking(False)
                with self.assertRaises(BlockingIOError):
                    client.socket.recv(1)
                client.socket.setblocking(True)
            answer = client.receive()[0]
            session = answer["session"] if method == "Show" else answer["sessions"][0]
            self.assertEqual(session["pendingInterrupts"], 15000)

    def test_a_session_that_is_released_in_the_middle_of_a_look_is_told_to_be_gone(self):
        holder, client = self.holder(), self.client()
        holder.attach("vm")
        self.store_interrupts(holder)
        releaser = self.client()
        with self.daemon.stopped():
            client.send("io.vfiocpr.Session.Show", {"name": "vm"})
            other = self.client()
            other.send("io.vfiocpr.Session.List")
            releaser.send("io.vfiocpr.Session.Release", {"name": "vm"})
        with self.refused("NoSuchSession"):
            client.receive()
        for session in other.receive()[0]["sessions"]:  # if it was not quite gone
            self.assertEqual((session["state"], session["objects"]), ("releasing", []))
        releaser.receive()

    def test_peers_that_leave_in_the_middle_of_a_look_are_forgotten(self):
        holder = self.holder()
        holder.attach("vm")
        self.store_interrupts(holder)
        for _ in range(5):
            with Client(self.daemon) as client:
                client.send("io.vfiocpr.Session.Show", {"name": "vm"})
                client.send("io.vfiocpr.Session.List")
                client.wait_until_received()
        self.assertEqual(self.client().call("Status")[0]["sessions"], 1)


class List(PagedTest):
    nofile = 8000

    def attach_many(self, names):
        clients = [self.client() for _ in names]
        for name, client in zip(names, clients):
            client.attach(name)
        return clients

    def test_each_session_that_is_there_all_the_time_comes_once(self):
        names = [f"vm{i:04}".ljust(64, "x") for i in range(600)]
        clients = self.attach_many(names)
        client, seen, cursor, turn = self.client(), [], None, 0
        gone = set()
        while turn == 0 or cursor is not None:
            answer = client.call("List", {"cursor": cursor})[0]
            seen += [s["name"] for s in answer["sessions"]]
            cursor = answer.get("next")
            for i in (turn, 300 + turn, 599 - turn):  # behind, around and before the cursor
                clients[i].call("Release")
                gone.add(names[i])
                clients[i].close()
            self.client().attach(f"new{turn}")
            turn += 1
        self.assertGreater(turn, 2)
        self.assertEqual(len(seen), len(set(seen)))
        self.assertLessEqual(set(names) - gone, set(seen))
        pages = self.answers(client, "List")
        self.assertEqual(len([s for page in pages for s in page["sessions"]]), 600 + turn - len(gone))

    def test_a_monitor_is_told_of_each_that_is_there_and_of_what_comes_meanwhile(self):
        names = [f"vm{i:04}" for i in range(700)]
        clients = self.attach_many(names)
        other, monitor = self.client(), self.client()
        with self.daemon.stopped():
            # One of them has the first turn, and the others theirs before the second of the monitor.
            for i, client in enumerate(clients[660:]):
                client.send(
                    "io.vfiocpr.Session.Store", {"objects": [describe("eventfd", "e", 1)]}, [eventfd()]
                )
                if i == 0:
                    monitor.send("io.vfiocpr.Session.Monitor", more=True)
            clients[650].send("io.vfiocpr.Session.Release")
            clients[1].send("io.vfiocpr.Session.Release")
            other.send("io.vfiocpr.Session.Attach", {"name": "new"})
        for client in (clients[650], clients[1], other, *clients[660:]):
            client.receive()
        last = self.client()
        last.attach("last")
        state, more = {}, []
        while "last" not in state or more[-1:] != [False]:
            answer = monitor.receive()[0]
            if any(event["event"] == "present" for event in answer["events"]):
                more.append(answer.get("more", False))
            for event in answer["events"]:
                name, what = event["name"], event["event"]
                if what in ("present", "created"):
                    self.assertNotIn(name, state)
                else:
                    self.assertIn(name, state, f"{what} of a session that was not told")
                state[name] = what
        self.assertEqual(more, [True] * (len(more) - 1) + [False])
        self.assertGreater(len(more), 2)
        there = {name for name, what in state.items() if what != "released"}
        self.assertEqual(there, {*names, "new", "last"} - {names[1], names[650]})

    def test_a_monitor_of_one_session_among_many_is_told_of_it(self):
        self.attach_many([f"vm{i:04}" for i in range(300)])
        stream = self.client().call_more("Monitor", {"name": "vm0290"})
        events, answer = [], {"more": True}
        while answer.get("more"):
            answer = next(stream)
            events += answer["events"]
        self.assertEqual([(e["event"], e["name"]) for e in events], [("present", "vm0290")])


class Mappings(PagedTest):
    def test_a_table_of_free_slots_costs_many_calls_and_each_only_some(self):
        client = self.client()
        client.attach("vm")
        fd = make_table([{"iova": 4096}], slots=1 << 18, used=1 << 18)
        os.pwrite(fd, slot(iova=1 << 20), 64 + 32 * ((1 << 18) - 1))
        client.store([describe("table", "s0", 1)], [fd])
        answers = self.answers(client, "Mappings", name="vm", space="s0")
        self.assertGreaterEqual(len(answers), 16)
        cursors = [answer["next"] for answer in answers[:-1]]
        self.assertEqual(cursors, sorted(set(cursors)))
        self.assertEqual(
            [m["iova"] for answer in answers for m in answer["mappings"]], ["0x1000", "0x100000"]
        )

    def test_mappings_of_long_names_come_some_at_a_time(self):
        client = self.client()
        client.attach("vm")
        entries = [{"iova": i * 8192, "object": 2} for i in range(1000)]
        memory = os.memfd_create("ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(memory, 4096)
        client.store(
            [describe("table", "s0", 1), describe("memory", '"' * 255, 2, 1)],
            [make_table(entries), memory],
        )
        os.close(memory)
        answers = self.answers(client, "Mappings", name="vm", space="s0")
        self.assertGreater(len(answers), 5)
        self.assertEqual(
            [int(m["iova"], 16) for answer in answers for m in answer["mappings"]],
            [entry["iova"] for entry in entries],
        )

    def test_a_session_that_ends_while_its_table_is_read_is_not_found(self):
        holder, clients = self.client(), [self.client() for _ in range(8)]
        holder.attach("vm")
        fd = make_table([{"iova": i * 8192} for i in range(1000)])
        holder.store([describe("table", "s0", 1)], [fd])
        with self.daemon.stopped():
            for client in clients:
                client.send("io.vfiocpr.Session.Mappings", {"name": "vm", "space": "s0"})
            holder.send("io.vfiocpr.Session.Release")
        holder.receive()
        for client in clients:
            message, _ = client.receive_message()
            if "error" in message:
                # The second while it is being released, with nothing in it.
                self.assertIn(message["error"].rpartition(".")[2], ("NoSuchSession", "NoSuchObject"))
            else:
                self.assertGreater(len(message["parameters"]["mappings"]), 0)


class Ctl(PagedTest):
    """vfio-cprctl tells all of what comes some at a time."""

    nofile = 8000

    def setUp(self):
        super().setUp()
        self.clients = [self.client() for _ in range(400)]
        for i, client in enumerate(self.clients):
            client.attach(f"vm{i:03}")

    def json_of(self, *arguments):
        run = ctl(self.daemon, "--json", *arguments)
        self.assertEqual((run.status, run.err.count("error")), (OK, 0), run)
        return json.loads(run.out)

    def test_list_show_and_find_tell_of_all(self):
        names = [session["name"] for session in self.json_of("list")]
        self.assertEqual(names, [f"vm{i:03}" for i in range(400)])
        fd = eventfd(1)
        for first in range(0, 1000, 250):
            self.clients[399].store(
                [describe("eventfd", f"{i}".ljust(255, "x"), i + 1, i - first)
                 for i in range(first, first + 250)],
                [fd] * 250,
            )
        entries = [{"iova": i * 8192} for i in range(2500)]
        table = make_table(entries, slots=100000, used=100000)
        self.clients[399].store([describe("table", "s0", 2000)], [table])
        shown = self.json_of("show", "vm399", "--mappings")
        self.assertEqual(len(shown["objects"]), 1001)
        self.assertEqual(len(shown["pending"]), 1000)
        self.assertEqual(len(shown["mappings"]), 2500)
        self.assertNotIn("next", shown)

    def test_monitor_says_that_there_is_none_when_all_are_told(self):
        for name, is_there in (("vm399", True), ("other", False)):
            command = [CTL, "--socket", self.daemon.path, "monitor", name]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                told = (process.stdout if is_there else process.stderr).readline()
                process.terminate()
                _, rest = process.communicate()
            self.assertIn(b"present" if is_there else b"there is no session other", told)
            self.assertNotIn(b"there is no session", rest)
