# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an onlooker sees of a session."""

import fcntl
import os

from client import Client
from daemontest import DaemonTest
from fds import FREE, UNMAPPING, describe, eventfd, eventfds, make_table, memfd, track

UID = os.getuid()


class View(DaemonTest):
    """List, Show, Mappings, Monitor and Status follow each step, and change nothing."""

    def test_interrupts_that_wait_are_counted_and_not_consumed(self):
        holder = self.holder()
        holder.attach("vm")
        fds = eventfds(20)
        holder.store([describe("eventfd", "msix", 1, count=20)], fds)
        client = self.client()
        self.assertEqual(client.show("vm")["pending"], [])
        os.eventfd_write(fds[3], 1)
        os.eventfd_write(fds[19], 26)  # 1a in fdinfo
        want = [
            {"object": "msix", "vector": 3, "count": 1},
            {"object": "msix", "vector": 19, "count": 26},
        ]
        for _ in range(3):
            self.assertEqual(client.show("vm")["pending"], want)
            self.assertEqual(client.sessions()[(UID, "vm")]["pendingInterrupts"], 27)
        holder.kill()
        self.assertEqual(client.show("vm")["pending"], want)
        client.attach("vm")
        client.fetch_all()
        self.assertEqual(os.eventfd_read(fds[3]), 1)
        self.assertEqual(os.eventfd_read(fds[19]), 26)
        self.assertEqual(client.show("vm")["pending"], [])

    def test_a_full_eventfd_is_told_as_the_largest_number(self):
        client = self.client()
        client.attach("vm")
        fds = eventfds(2)
        client.store([describe("eventfd", "e", 1, count=2)], fds)
        for fd in fds:
            os.eventfd_write(fd, 2**64 - 2)
        self.assertEqual([p["count"] for p in client.show("vm")["pending"]], [2**63 - 1] * 2)
        self.assertEqual(client.sessions()[(UID, "vm")]["pendingInterrupts"], 2**63 - 1)

    def test_the_daemon_leaves_the_flags_of_an_eventfd_alone(self):
        fd = track(os.eventfd(0, 0))
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        client = self.client()
        client.attach("vm")
        client.store([describe("eventfd", "e", 1)], [fd])
        client.show("vm")
        client.fetch_all()
        self.assertEqual(fcntl.fcntl(fd, fcntl.F_GETFL), flags)

    def test_show_and_status_tell_what_is_held_at_each_step(self):
        holder = self.holder()
        client = self.client()
        holder.attach("vm")
        table = make_table(
            [
                {"iova": 0x1000, "size": 0x2000, "object": 2},
                {"iova": 0x100000, "size": 0x1000, "offset": 0x3000, "object": 99, "prot": 1},
                {"state": FREE},
                {"iova": 0x200000, "size": 0x1000, "object": 2, "state": UNMAPPING, "prot": 2},
            ],
            slots=16,
        )
        holder.store(
            [
                describe("table", "s0", 1, 0, ioasId=5),
                describe("memory", "ram", 2, 1),
                describe("eventfd", "e", 3, 2, first=2, count=2),
            ],
            [table, memfd(4096), *eventfds(2)],
        )
        for state in ("active", "orphaned", "restoring", "active"):
            if state == "orphaned":
                holder.kill()
            elif state == "restoring":
                other = self.holder()
                other.attach("vm")
            elif other_step := state == "active" and holder.dead:
                self.assertTrue(other_step)
                other.call("Commit")
            shown = client.show("vm")
            session = shown["session"]
            self.assertEqual(session["state"], state)
            self.assertEqual((session["mappings"], session["uid"]), (3, UID))
            self.assertEqual(
                {o["kind"]: o["count"] for o in session["objects"]},
                {"table": 1, "memory": 1, "eventfd": 2},
            )
            if state == "orphaned":
                self.assertIsNone(session.get("holder"))
            else:
                self.assertEqual(session["holder"]["pid"], (other if holder.dead else holder).pid)
            self.assertEqual(
                [(o["id"], o["kind"], o.get("first"), o.get("count")) for o in shown["objects"]],
                [(1, "table", None, None), (2, "memory", None, None), (3, "eventfd", 2, 2)],
            )
            self.assertTrue(all("firstFileDescriptor" not in o for o in shown["objects"]))
            (space,) = shown["spaces"]
            self.assertEqual(
                (space["name"], space["backend"], space["ioasId"], space["mappings"], space["bytes"]),
                ("s0", "iommufd", 5, 3, 0x4000),
            )
            status = client.call("Status")[0]
            self.assertEqual(status["sessions"], 1)
            self.assertEqual(status["orphans"], state == "orphaned")
            mappings = client.call("Mappings", {"name": "vm", "space": "s0"})[0]
            self.assertNotIn("next", mappings)
            self.assertEqual(
                mappings["mappings"],
                [
                    {
                        "iova": "0x1000",
                        "size": "0x2000",
                        "offset": "0x0",
                        "object": "ram",
                        "prot": "read-write",
                        "state": "mapped",
                    },
                    {
                        "iova": "0x100000",
                        "size": "0x1000",
                        "offset": "0x3000",
                        "object": None,
                        "prot": "read",
                        "state": "mapped",
                    },
                    {
                        "iova": "0x200000",
                        "size": "0x1000",
                        "offset": "0x0",
                        "object": "ram",
                        "prot": "write",
                        "state": "unmapping",
                    },
                ],
            )

    def test_many_mappings_come_in_parts_each_once(self):
        client = self.client()
        client.attach("vm")
        entries = [{"iova": i * 8192, "object": 1} for i in range(2500)]
        client.store([describe("table", "s0", 1)], [make_table(entries, slots=4000)])
        seen, cursor, parts = [], None, 0
        while parts == 0 or cursor is not None:
            answer = client.call("Mappings", {"name": "vm", "space": "s0", "cursor": cursor})[0]
            seen += [int(mapping["iova"], 16) for mapping in answer["mappings"]]
            cursor = answer.get("next")
            parts += 1
        self.assertEqual(seen, [entry["iova"] for entry in entries])
        self.assertGreater(parts, 1)
        for cursor in (2500, 4000, 2**31, 2**62):
            answer = client.call("Mappings", {"name": "vm", "space": "s0", "cursor": cursor})[0]
            self.assertEqual(answer, {"mappings": []})
        for bad in ({"space": "s1"}, {"space": "s0", "cursor": -1}):
            with self.refused("NoSuchObject"):
                client.call("Mappings", {"name": "vm", **bad})

    def test_a_monitor_is_told_of_each_step(self):
        holder = self.holder()
        holder.attach("before")
        events = self.client().call_more("Monitor")
        one = self.client().call_more("Monitor", {"name": "vm"})

        def next_of(stream):
            event = next(stream)["events"]
            return [(e["event"], e["name"], e["state"]) for e in event]

        self.assertEqual(next_of(events), [("present", "before", "active")])
        self.assertEqual(next_of(one), [])
        a, b, client = self.holder(), self.holder(), self.client()
        a.attach("vm")
        a.store([describe("eventfd", "e", 1)], [eventfd()])
        a.kill()
        client.show("vm")
        b.attach("vm")
        b.call("Commit")
        b.call("Remove", {"kind": "eventfd", "name": "e"})
        client.call("Release", {"name": "vm"})
        holder.call("Release")
        want = [
            ("created", "active"),
            ("changed", "active"),
            ("orphaned", "orphaned"),
            ("restoring", "restoring"),
            ("active", "active"),
            ("changed", "active"),
            ("released", "releasing"),
        ]
        for event, state in want:
            self.assertEqual(next_of(events), [(event, "vm", state)])
            self.assertEqual(next_of(one), [(event, "vm", state)])
        self.assertEqual(next_of(events), [("released", "before", "releasing")])

    def test_monitors_that_leave_are_noticed_though_nothing_happens(self):
        for _ in range(20):
            with Client(self.daemon) as client:
                next(client.call_more("Monitor"))
        self.assertIdle()

    def test_a_monitor_that_sends_more_is_left_alone_or_cut_off(self):
        for data, fds in (
            (b'{"method":"org.varlink.service.GetInfo"}\0', ()),
            (b"garbage\0", ()),
            (b"half", ()),
            (b"x\0", [eventfd()]),
            (b"x\0", eventfds(253)),
        ):
            client = self.client()
            next(client.call_more("Monitor"))
            client.send_raw(data, fds)
            holder = self.holder()
            holder.attach("vm")
            holder.call("Release")
            holder.kill()
            client.close()
        # The next event at the latest tells the daemon that they are gone.
        other = self.client()
        other.attach("vm")
        other.call("Release")
        other.close()
        self.assertIdle()
