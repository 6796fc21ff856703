# SPDX-License-Identifier: LGPL-2.1-or-later
"""The life of a session: who may have it, and when it passes on."""

import contextlib
import os
import signal
import socket
import time

from client import Client, Closed, VarlinkError
from daemontest import DaemonTest
from fds import close, describe, eventfd, eventfds, make_table, memfd, state_memfd
from holder import unit
from patience import eventually, is_asleep

ONE, OTHER = (f"vfio-cpr-{os.getpid()}-{name}.service" for name in ("one", "other"))

UID = os.getuid()


class Session(DaemonTest):
    def state(self, name="vm"):
        """As Show tells it, which waits for what is under way; None if there is none."""
        with Client(self.daemon) as client:
            try:
                return client.show(name)["session"]["state"]
            except VarlinkError as error:
                self.assertEqual(error.short, "NoSuchSession")
                return None

    def orphan(self, name="vm", kind="eventfd", fds=None):
        """A session whose holder was killed; its descriptors."""
        fds = fds or [eventfd()]
        holder = self.holder()
        holder.attach(name)
        holder.store([describe(kind, "e", 1, count=len(fds))], fds)
        holder.kill()
        return fds

    def test_attach_makes_a_session_that_is_active(self):
        client = self.client()
        self.assertEqual(client.attach("vm"), {"start": "new", "objects": 0})
        session = client.sessions()[(UID, "vm")]
        self.assertEqual(session["state"], "active")
        self.assertEqual(session["holder"]["pid"], os.getpid())
        self.assertEqual(session["objects"], [])
        self.assertGreaterEqual(session["ageUsec"], 0)

    def test_the_unit_of_its_last_holder_is_known_for_as_long_as_the_session_lives(self):
        def units():
            session = self.client().sessions()[(UID, "vm")]
            return (session["holder"] or {}).get("unit"), session["unit"]

        with contextlib.ExitStack() as stack:
            one = stack.enter_context(unit(ONE))
            other = stack.enter_context(unit(OTHER))
            if not one or not other:
                self.skipTest("there is no cgroup2 in which this user may make groups")
            first, second, third = self.holder(), self.holder(), self.holder()
            stack.callback(lambda: [holder.kill() for holder in (first, second, third)])
            one(first.pid)
            other(second.pid)
            first.attach("vm")
            first.store([describe("eventfd", "e", 1)], [eventfd()])
            self.assertTrue(eventually(lambda: units() == (ONE,) * 2))
            first.kill()
            self.assertEqual(units(), (None, ONE))
            self.assertEqual(second.attach("vm")["start"], "claimed")
            self.assertTrue(eventually(lambda: units() == (OTHER,) * 2))
            with self.refused("Busy", f"process {second.pid} of {OTHER}: "):
                self.client().attach("vm")
            second.kill()
            self.assertEqual(units(), (None, OTHER))
            # One that is in no unit.
            self.assertEqual(third.attach("vm")["start"], "claimed")
            self.assertNotIn(OTHER, units())

    def test_a_session_without_devices_says_that_it_has_none(self):
        client = self.client()
        client.attach("vm")
        client.store([describe("eventfd", "e", 1)], [eventfd()])
        self.assertEqual(client.sessions()[(UID, "vm")]["devices"], [])
        self.assertEqual(client.show("vm")["session"]["devices"], [])

    def test_names_are_checked(self):
        client = self.client()
        for name in ("", "a" * 65, "a b", "a/b", "ä", "a\n", "../x"):
            with self.refused("InvalidParameter"):
                client.attach(name)
        self.assertEqual(client.attach("aZ0:._@-" + "x" * 56)["start"], "new")

    def test_a_connection_holds_one_session_and_a_process_several(self):
        client, other = self.client(), self.client()
        client.attach("a")
        with self.refused("BadState"):
            client.attach("b")
        self.assertEqual(other.attach("b")["start"], "new")
        self.assertEqual(sorted(client.sessions()), [(UID, "a"), (UID, "b")])

    def test_a_session_is_busy_while_another_process_holds_it(self):
        holder = self.holder()
        holder.attach("vm")
        with self.refused("Busy", str(holder.pid)) as caught:
            self.client().attach("vm")
        self.assertEqual(caught.exception.parameters["errno"], 16)
        self.assertEqual(self.state(), "active")

    def test_a_session_is_busy_on_a_second_connection_of_its_own_process(self):
        first, second = self.client(), self.client()
        first.attach("vm")
        with self.refused("Busy"):
            second.attach("vm")
        first.store([describe("eventfd", "e", 1)], [eventfd()])

    def test_a_living_holder_that_lost_its_connection_resumes(self):
        fd = eventfd()
        first = self.client()
        first.attach("vm")
        first.store([describe("eventfd", "e", 1)], [fd])
        first.close()
        with self.refused("Busy"):
            other = self.holder()
            other.attach("vm")
        second = self.client()
        self.assertEqual(second.attach("vm"), {"start": "resumed", "objects": 1})
        self.assertEqual(self.state(), "active")
        self.assertSameFiles(second.fetch_all()[0][1], [fd])

    def test_a_lost_connection_orphans_nothing(self):
        client = self.client()
        client.attach("vm")
        client.close()
        self.assertTrue(eventually(lambda: is_asleep(self.daemon.pid)))
        self.assertEqual(self.state(), "active")

    def test_a_killed_holders_session_is_claimed_whole_by_another_process(self):
        """kill -9, claim, restore, commit: every descriptor is the same open file, in order."""
        holder = self.holder()
        holder.attach("vm")
        run_a, run_b = eventfds(5), eventfds(3)
        memory, state, table = memfd(8192), state_memfd(b"hello"), make_table()
        objects = [
            describe("memory", "ram", 7, 0),
            describe("eventfd", "msix", 3, 1, count=5, irqIndex=2, irqAction=0, device="0000:01:00.0"),
            describe("table", "s0", 9, 6),
            describe("eventfd", "msix", 3, 7, first=10, count=3, irqIndex=2, irqAction=0),
            describe("state", "pci", 4, 10),
        ]
        holder.store(objects, [memory, *run_a, table, *run_b, state])
        self.assertEqual(self.state(), "active")
        holder.kill()
        self.assertEqual(self.state(), "orphaned")

        client = self.client()
        self.assertEqual(client.attach("vm"), {"start": "claimed", "objects": 4})
        self.assertEqual(self.state(), "restoring")
        held = client.fetch_all()
        self.assertEqual(
            [(o["kind"], o["name"], o["id"], o.get("first"), o.get("count")) for o, _ in held],
            [
                ("memory", "ram", 7, None, None),
                ("eventfd", "msix", 3, 0, 5),
                ("eventfd", "msix", 3, 10, 3),
                ("table", "s0", 9, None, None),
                ("state", "pci", 4, None, None),
            ],
        )
        self.assertEqual(held[1][0]["irqIndex"], 2)
        self.assertEqual(held[1][0]["irqAction"], 0)
        self.assertEqual(held[1][0]["device"], "0000:01:00.0")
        self.assertEqual((held[0][0]["size"], held[4][0]["size"]), (8192, 5))
        fds = [fd for _, item in held for fd in item]
        self.assertSameFiles(fds, [memory, *run_a, *run_b, table, state])
        self.assertEqual(client.call("Commit")[0], {})
        self.assertEqual(self.state(), "active")
        self.assertEqual(client.call("Commit")[0], {})
        self.assertEqual(len(client.fetch_all()), 5)

    def test_a_claimant_that_dies_leaves_an_orphan_that_another_claims(self):
        fds = self.orphan()
        for _ in range(3):
            holder = self.holder()
            self.assertEqual(holder.attach("vm")["start"], "claimed")
            holder.call("Fetch", {"cursor": 0})
            holder.kill()
            self.assertEqual(self.state(), "orphaned")
        client = self.client()
        client.attach("vm")
        self.assertSameFiles(client.fetch_all()[0][1], fds)

    def test_an_empty_session_ends_with_its_holder(self):
        holder = self.holder()
        holder.attach("vm")
        self.assertEqual(self.state(), "active")
        holder.kill()
        self.assertTrue(eventually(lambda: self.state() is None))
        self.assertIdle()
        self.assertEqual(self.client().attach("vm")["start"], "new")

    def test_of_two_processes_that_race_for_an_orphan_exactly_one_wins(self):
        fds = self.orphan()
        racers = []
        for turn in range(50):
            while len(racers) < 2:
                racer = self.holder()
                racer.connect()
                racer.connected = True
                racers.append(racer)
            if turn % 2:
                with self.daemon.stopped():  # both are there when it looks
                    for racer in racers:
                        racer.start("call", 0, "Attach", {"name": "vm"})
                    time.sleep(0.01)
            else:
                for racer in racers:
                    racer.start("call", 0, "Attach", {"name": "vm"})
            won, lost = [], []
            for racer in racers:
                try:
                    self.assertEqual(racer.finish()[0]["start"], "claimed")
                    won.append(racer)
                except VarlinkError as error:
                    self.assertEqual(error.short, "Busy")
                    lost.append(racer)
            self.assertEqual((len(won), len(lost)), (1, 1), f"in turn {turn}")
            won[0].kill()
            racers = lost
        client = self.client()
        self.assertEqual(client.attach("vm")["start"], "claimed")
        self.assertSameFiles(client.fetch_all()[0][1], fds)

    def test_a_child_that_keeps_the_socket_does_not_hide_the_death(self):
        holder = self.holder()
        holder.attach("vm")
        fd = eventfd()
        holder.store([describe("eventfd", "e", 1)], [fd])
        child = holder.fork()
        self.addCleanup(os.kill, child, signal.SIGKILL)
        holder.kill()
        self.assertTrue(eventually(lambda: self.state() == "orphaned"))
        client = self.client()
        self.assertEqual(client.attach("vm")["start"], "claimed")
        self.assertSameFiles(client.fetch_all()[0][1], [fd])

    def hold_and_fork(self, method, parameters, ready, go):
        """In a process of its own, which is killed when it says that it is ready."""
        client = Client(self.daemon)
        client.attach("vm")
        client.store([describe("eventfd", "e", 1)], [eventfd()])
        if os.fork() == 0:
            os.read(go, 1)
            try:
                client.send("io.vfiocpr.Session." + method, parameters, more=True)
                client.receive()
            except (OSError, VarlinkError):
                os.write(ready, b"c")
            else:
                os.write(ready, b"a")
            os._exit(0)
        os.write(ready, b"r")
        signal.pause()

    def test_a_dead_holders_socket_is_of_no_use_to_its_child(self):
        """A child that calls on its dead parent's connection does no harm."""
        self.orphan("other")
        for method, parameters in (
            ("List", {}),
            ("Show", {"name": "vm"}),
            ("Release", {"name": "vm"}),
            ("Store", {"objects": []}),
            ("Monitor", {}),
        ):
            ready, go = os.pipe(), os.pipe()
            parent = os.fork()
            if parent == 0:
                try:
                    self.hold_and_fork(method, parameters, ready[1], go[0])
                finally:
                    os._exit(1)
            self.assertEqual(os.read(ready[0], 1), b"r")
            with self.daemon.stopped():
                os.kill(parent, signal.SIGKILL)
                os.waitpid(parent, 0)
                os.write(go[1], b"x")
                time.sleep(0.05)  # the child's call and the death are there together
            self.assertIn(os.read(ready[0], 1), (b"c", b"a"))
            for fd in (*ready, *go):
                os.close(fd)
            with Client(self.daemon) as client:
                # Only a Release may have had its way: the child is of the owner's uid.
                if method != "Release" or self.state():
                    self.assertEqual(self.state(), "orphaned")
                    client.call("Release", {"name": "vm"})
                client.show("other")
        with Client(self.daemon) as client:
            client.call("Release", {"name": "other"})
        self.assertIdle()

    def holder_with_number(self, number):
        """A new process with the number of one that has died; None where none can be asked for."""
        for _ in range(1000):
            try:
                with open("/proc/sys/kernel/ns_last_pid", "w") as last:
                    last.write(str(number - 1))
            except OSError:
                return None
            holder = self.holder()
            if holder.pid == number:
                return holder
            holder.kill()
        return None

    def left_by(self, process):
        """The connection of a process that has died."""
        process.call("Status")
        left = process.leave()
        self.addCleanup(left.close)
        return left

    def test_a_dead_process_gets_nothing_over_a_connection_that_it_left(self):
        left = self.left_by(self.holder())
        self.orphan("orphan")
        for name in ("new", "orphan"):
            with self.refused("Refused", "has ended"):
                left.attach(name)
        self.assertEqual(self.state("orphan"), "orphaned")
        self.assertIsNone(self.state("new"))

    def test_a_process_with_the_number_of_a_dead_one_does_not_share_its_session(self):
        dead = self.holder()
        left = self.left_by(dead)
        holder = self.holder_with_number(dead.pid)
        if not holder:
            self.skipTest("nobody can ask for a process's number here")
        holder.attach("vm")
        holder.store([describe("eventfd", "e", 1)], [eventfd()])
        holder.do("close", 0)  # it lives, and its session has no connection
        with self.refused("Refused", "has ended"):
            left.attach("vm")
        self.assertEqual(holder.do("attach", holder.connect(), "vm")[0], {"start": "resumed", "objects": 1})

    def test_only_the_holders_connection_can_change_a_session(self):
        client, other = self.client(), self.client()
        client.attach("vm")
        for method, parameters in (
            ("Store", {"objects": []}),
            ("Fetch", {"cursor": 0}),
            ("Remove", {"kind": "eventfd", "name": "e"}),
            ("Commit", {}),
            ("Release", {}),
        ):
            with self.refused("NotHolder"):
                other.call(method, parameters)
        self.assertEqual(self.state(), "active")

    def test_a_resumed_connection_has_lost_its_rights(self):
        first = self.client()
        first.attach("vm")
        child = self.holder()  # has no copy of first's socket
        keep = first.socket.dup()
        self.addCleanup(keep.close)
        first.socket.shutdown(socket.SHUT_WR)
        second = self.client()
        self.assertEqual(second.attach("vm")["start"], "resumed")
        with self.assertRaises(ConnectionError):
            first.receive()
        self.assertEqual(second.fetch_all(), [])
        child.kill()

    def test_release_closes_everything_and_ends_the_session(self):
        client, other = self.client(), self.client()
        client.attach("vm")
        client.store([describe("eventfd", "e", 1, count=10)], eventfds(10))
        self.assertEqual(client.call("Release")[0], {})
        self.assertEqual(client.sessions(), {})
        with self.refused("NotHolder"):
            client.call("Fetch", {"cursor": 0})
        client.close()
        self.assertEqual(other.attach("vm"), {"start": "new", "objects": 0})
        other.close()

    def test_release_by_name_ends_an_orphan_and_a_held_session(self):
        self.orphan("orphan")
        holder = self.holder()
        holder.attach("held")
        holder.store([describe("eventfd", "e", 1)], [eventfd()])
        client = self.client()
        for name in ("orphan", "held"):
            self.assertEqual(client.call("Release", {"name": name})[0], {})
            with self.refused("NoSuchSession"):
                client.show(name)
        with self.refused("NotHolder"):
            holder.call("Commit")
        holder.kill()
        self.assertIdle(2)

    def test_release_when_dead_leaves_a_living_holder_alone(self):
        holder = self.holder()
        holder.attach("vm")
        holder.store([describe("eventfd", "e", 1)], [eventfd()])
        empty = self.holder()
        empty.attach("empty")
        client = self.client()
        for name in ("vm", "empty"):
            with self.refused("Busy", "lives"):
                client.call("Release", {"name": name, "whenDead": True})
            self.assertEqual(client.show(name)["session"]["state"], "active")
        with self.refused("Busy", f"process {holder.pid}"):
            holder.call("Release", {"whenDead": True})
        with self.refused("InvalidParameter"):
            client.call("Release", {"name": "vm", "whenDead": 1})
        # Asked for at once with the death, which is noticed first or by that.
        for name, dead in (("vm", holder), ("empty", empty)):
            with self.daemon.stopped():
                dead.kill()
                client.send("io.vfiocpr.Session.Release", {"name": name, "whenDead": True})
            try:
                self.assertEqual(client.receive()[0], {})
            except VarlinkError as error:
                # What holds nothing is gone by its holder's death alone.
                self.assertEqual((error.short, name), ("NoSuchSession", "empty"))
            self.assertIsNone(self.state(name))
        self.assertIdle(2)

    def test_release_when_dead_is_of_no_use_to_who_comes_after_a_claim(self):
        """Of a claim and a release of the dead at once, the session is the claimant's or gone."""
        for _ in range(20):
            self.orphan()
            claimant, client = self.holder(), self.client()
            claimant.connect()
            with self.daemon.stopped():
                claimant.start("call", 0, "Attach", {"name": "vm"})
                client.send("io.vfiocpr.Session.Release", {"name": "vm", "whenDead": True})
            start = claimant.finish()[0]["start"]
            try:
                client.receive()
                released = True
            except VarlinkError as error:
                self.assertEqual(error.short, "Busy")
                released = False
            self.assertEqual(start, "new" if released else "claimed")
            self.assertEqual(self.client().show("vm")["session"]["holder"]["pid"], claimant.pid)
            claimant.kill()
            eventually(lambda: self.state() != "restoring")
            if self.state():
                self.client().call("Release", {"name": "vm"})

    def test_release_of_a_session_that_is_not_there_is_told(self):
        with self.refused("NoSuchSession", "vfio-cprctl list"):
            self.client().call("Release", {"name": "none"})

    def test_two_releases_of_one_session_are_both_answered(self):
        clients = [self.client() for _ in range(4)]
        self.orphan(fds=eventfds(200))
        with self.daemon.stopped():
            for client in clients:
                client.send("io.vfiocpr.Session.Release", {"name": "vm"})
        answers = []
        for client in clients:
            try:
                answers.append(client.receive()[0])
            except VarlinkError as error:
                answers.append(error.short)
        self.assertIn({}, answers)
        for answer in answers:
            self.assertIn(answer, ({}, "NoSuchSession"))

    def test_attach_during_a_release_gets_a_new_session(self):
        first, second = self.client(), self.client()
        memory = memfd(64 << 20)
        os.pwrite(memory, b"x" * (64 << 20), 0)  # takes its time to be freed
        self.orphan("vm", "memory", [memory])
        close(memory)
        with self.daemon.stopped():
            first.send("io.vfiocpr.Session.Release", {"name": "vm"})
            second.send("io.vfiocpr.Session.Attach", {"name": "vm"})
        self.assertEqual(first.receive()[0], {})
        try:
            self.assertIn(second.receive()[0]["start"], ("new", "claimed"))
        except Closed:
            self.fail("no answer")

    def test_a_holder_that_dies_during_its_release_leaves_nothing(self):
        holder = self.holder()
        holder.attach("vm")
        holder.store([describe("eventfd", "e", 1, count=200)], eventfds(200))
        with self.daemon.stopped():
            holder.start("call", 0, "Release", {})
            time.sleep(0.05)
            holder.kill()
        self.assertTrue(eventually(lambda: self.state() in (None, "orphaned")))
        client = self.client()
        if self.state() == "orphaned":  # the death was seen first
            client.call("Release", {"name": "vm"})
        self.assertIdle(2)

    def test_remove_closes_one_object_and_no_other(self):
        client = self.client()
        client.attach("vm")
        fds = eventfds(3)
        client.store([describe("eventfd", f"e{i}", i + 1, i) for i in range(3)], fds)
        before = self.daemon.fds()
        self.assertEqual(client.call("Remove", {"kind": "eventfd", "name": "e1"})[0], {})
        self.assertEqual(self.daemon.fds(), before - 1)
        held = client.fetch_all()
        self.assertEqual([o["name"] for o, _ in held], ["e0", "e2"])
        self.assertSameFiles([f[0] for _, f in held], [fds[0], fds[2]])
        for kind, name in (("eventfd", "e1"), ("memory", "e0"), ("thing", "e0")):
            with self.refused("NoSuchObject"):
                client.call("Remove", {"kind": kind, "name": name})
        # Its name and id are free again.
        client.store([describe("memory", "e1", 2)], [memfd()])

    def test_a_connection_lost_during_a_remove_does_no_harm(self):
        holder = self.holder()
        holder.attach("vm")
        holder.store([describe("eventfd", "e", 1, 0), describe("eventfd", "f", 2, 1)], eventfds(2))
        with self.daemon.stopped():
            holder.start("send", 0, "io.vfiocpr.Session.Remove", {"kind": "eventfd", "name": "e"})
            holder.finish()
            holder.kill()
        self.assertEqual(self.client().show("vm")["session"]["state"], "orphaned")
        self.client().call("Release", {"name": "vm"})
