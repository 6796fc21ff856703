# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several users on one daemon: what each may see, have and end, and how much."""

import contextlib
import errno
import os
import re
import resource
import socket
import struct
import time
import unittest

from client import Client, VarlinkError, encode
from daemontest import DaemonTest
from fds import HEADER, SLOT, describe, eventfd, eventfds, make_table, memfd, slot
from holder import NOBODY, unit
from patience import eventually

ROOT_ONLY = unittest.skipUnless(os.getuid() == 0, "only root can be another user")


def linger_for_a_minute(listener):
    """A TCP connection; to close its first end takes a minute, or until the second is closed."""
    lingering = socket.socket()
    lingering.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    lingering.connect(listener.getsockname())
    end = listener.accept()[0]
    lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
    lingering.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            lingering.send(bytes(1 << 20))
    return lingering, end


def can_connect(holder):
    try:
        return holder.call("List", connection=holder.connect())
    except ConnectionError:
        return None


@ROOT_ONLY
class Users(DaemonTest):
    options = ("--mode", "0666")

    def setUp(self):
        super().setUp()
        self.root = self.holder()
        self.fd = eventfd()
        self.root.attach("vm")
        self.root.store([describe("eventfd", "e", 1)], [self.fd])
        self.other = self.holder(uid=NOBODY)

    def test_another_user_sees_no_session_but_its_own(self):
        self.assertEqual(self.other.call("List")[0], {"sessions": []})
        with self.refused("NoSuchSession"):
            self.other.call("Show", {"name": "vm"})
        with self.refused("NoSuchSession"):
            self.other.call("Mappings", {"name": "vm", "space": "s"})
        for method, parameters in (
            ("Show", {"name": "vm", "uid": 0}),
            ("Mappings", {"name": "vm", "space": "s", "uid": 0}),
            ("Attach", {"name": "vm", "uid": 0}),
            ("Attach", {"name": "new", "uid": 0}),
            ("Release", {"name": "vm", "uid": 0}),
        ):
            with self.refused(
                "org.varlink.service.PermissionDenied", f"uid 0 is not for uid {NOBODY}"
            ):
                self.other.call(method, parameters)
        raw = encode("io.vfiocpr.Session.Monitor", {"name": "vm", "uid": 0}, more=True)
        self.other.do("send_raw", 0, raw)
        answer = self.other.do("receive_message", 0)[0][0]
        self.assertEqual(answer["error"], "org.varlink.service.PermissionDenied")

    def test_another_user_cannot_release_or_claim_a_session_of_root(self):
        self.root.kill()
        with self.refused("NoSuchSession"):
            self.other.call("Release", {"name": "vm"})
        self.assertEqual(self.other.attach("vm")["start"], "new")
        self.assertEqual(self.other.call("Fetch", {"cursor": 0})[0], {"objects": []})
        client = self.client()
        self.assertEqual(sorted(client.sessions()), [(0, "vm"), (NOBODY, "vm")])
        self.assertEqual(client.attach("vm"), {"start": "claimed", "objects": 1})
        self.assertSameFiles(client.fetch_all()[0][1], [self.fd])

    def test_another_users_monitor_is_told_of_its_own_sessions_only(self):
        self.other.do("connect")
        self.other.do("send", 0, "io.vfiocpr.Session.Monitor", {})
        error = self.other.do("receive_message", 0)[0][0]
        self.assertEqual(error["error"], "org.varlink.service.ExpectedMore")
        raw = encode("io.vfiocpr.Session.Monitor", {}, more=True)
        self.other.do("send_raw", 0, raw)
        self.assertEqual(
            self.other.do("receive_message", 0)[0][0],
            {"parameters": {"events": []}, "continues": True},
        )
        self.root.call("Remove", {"kind": "eventfd", "name": "e"})
        third = self.holder(uid=NOBODY)
        third.attach("mine")
        (event,) = self.other.do("receive_message", 0)[0][0]["parameters"]["events"]
        self.assertEqual((event["event"], event["name"], event["uid"]), ("created", "mine", NOBODY))

    def test_root_sees_claims_and_releases_what_belongs_to_others(self):
        fd = eventfd()
        self.other.attach("theirs")
        self.other.store([describe("eventfd", "e", 1)], [fd])
        client = self.client()
        self.assertEqual(client.show("theirs")["session"]["uid"], NOBODY)
        self.assertEqual(client.show("theirs", uid=NOBODY)["session"]["state"], "active")
        with self.refused("NoSuchSession"):
            client.show("theirs", uid=0)
        self.other.kill()
        self.assertEqual(client.attach("theirs", uid=NOBODY), {"start": "claimed", "objects": 1})
        self.assertSameFiles(client.fetch_all()[0][1], [fd])
        # It stays its owner's.
        self.assertEqual(client.sessions()[(NOBODY, "theirs")]["state"], "restoring")
        self.client().call("Release", {"name": "theirs", "uid": NOBODY})
        self.assertEqual(list(client.sessions()), [(0, "vm")])

    def test_root_makes_a_session_for_another_user_who_then_claims_it(self):
        maker = self.holder()
        fd = eventfd()
        maker.attach("made", uid=NOBODY)
        maker.store([describe("eventfd", "e", 1)], [fd])
        maker.kill()
        self.assertEqual(self.other.attach("made"), {"start": "claimed", "objects": 1})
        answer, fds = self.other.call("Fetch", {"cursor": 0})
        self.assertEqual(len(answer["objects"]), 1)
        self.assertSameFiles(fds, [fd])

    def test_a_name_that_several_users_have_is_asked_back(self):
        third = self.holder(uid=NOBODY - 1)
        third.attach("twice")
        self.other.attach("twice")
        with self.refused("NoSuchSession", "several users"):
            self.client().show("twice")
        self.assertEqual(self.client().show("twice", uid=NOBODY - 1)["session"]["uid"], NOBODY - 1)
        # One's own goes first.
        self.assertEqual(self.other.call("Show", {"name": "twice"})[0]["session"]["uid"], NOBODY)

    def test_negative_and_huge_uids_are_refused_by_every_method(self):
        client = self.client()
        for uid in (-1, -2, -(2**63), 2**32 - 1, 2**32, 2**32 + NOBODY, 2**63 - 1):
            for method, parameters in (
                ("Attach", {"name": "x"}),
                ("Show", {"name": "vm"}),
                ("Mappings", {"name": "vm", "space": "s"}),
                ("Release", {"name": "vm"}),
            ):
                with self.subTest(method=method, uid=uid), self.refused("InvalidParameter") as caught:
                    client.call(method, {**parameters, "uid": uid})
                self.assertEqual(caught.exception.parameters["parameter"], "uid")
            with self.refused("InvalidParameter"):
                next(client.call_more("Monitor", {"uid": uid}))
        self.assertEqual(list(client.sessions()), [(0, "vm")])
        self.assertEqual(client.attach("x", uid=2**32 - 2)["start"], "new")

    def test_an_attempt_on_what_is_another_users_is_a_warning_that_names_all(self):
        name = f"vfio-cpr-{os.getpid()}-user.service"
        with unit(name) as add, contextlib.ExitStack() as stack:
            stack.callback(self.other.kill)
            if add:
                add(self.other.pid)
            who = rf"process {self.other.pid} \(uid {NOBODY}\){' of ' + name if add else '.*'}"
            for method, parameters, text in (
                ("Attach", {"name": "vm"}, "Attach of session vm of uid 0"),
                ("Release", {"name": "vm"}, "Release of session vm of uid 0"),
                ("Show", {"name": "no\nname"}, "Show of uid 0"),
            ):
                with self.refused("PermissionDenied"):
                    self.other.call(method, {**parameters, "uid": 0})
                line = rf"vfio-cprd: warning: {who} was refused {text}: "
                told = eventually(lambda line=line: re.search(line, self.daemon.log()))
                self.assertTrue(told, self.daemon.log())
        self.assertNotIn("no\nname", self.daemon.log())

    def test_what_proves_nothing_is_no_warning(self):
        before = self.daemon.log()
        with self.refused("NoSuchSession"):
            self.other.call("Release", {"name": "vm"})
        with self.refused("InvalidParameter"):
            self.other.call("Show", {"name": "vm", "colour": 1})
        with self.refused("InterfaceNotFound"):
            self.other.call("com.example.Thing.Do")
        self.assertEqual(self.daemon.log(), before)

    def test_who_is_refused_again_and_again_does_not_flood_the_log(self):
        begin = time.monotonic()
        for _ in range(300):
            with self.refused("PermissionDenied"):
                self.other.call("Show", {"name": "vm", "uid": 0})
            bad = Client(self.daemon)
            bad.send_raw(b"no json\0")
            self.assertCut(bad)
            bad.close()
        # Ten each of the two users at once, then one each second, with a line that tells of it.
        most = 2 * (10 + 2 * (time.monotonic() - begin + 1))
        lines = self.daemon.log().count("warning: ")
        self.assertLessEqual(lines, most)
        self.assertGreaterEqual(lines, 20)

        def told():
            with self.refused("PermissionDenied"):
                self.other.call("Show", {"name": "vm", "uid": 0})
            return re.search(r"warning: \d+ more messages like the next", self.daemon.log())

        self.assertTrue(eventually(told, 30))

    def test_the_socket_has_the_mode_that_was_asked_for(self):
        self.assertEqual(os.stat(self.daemon.path).st_mode & 0o777, 0o666)


@ROOT_ONLY
class ClosedSocket(DaemonTest):
    def test_by_default_another_user_cannot_connect_to_the_socket(self):
        self.assertEqual(os.stat(self.daemon.path).st_mode & 0o777, 0o600)
        with self.assertRaises(PermissionError):
            self.holder(uid=NOBODY).connect()


@ROOT_ONLY
class Quotas(DaemonTest):
    options = ("--mode", "0666")

    def test_a_user_may_have_64_sessions_and_root_more(self):
        other = self.holder(uid=NOBODY)
        for i in range(64):
            other.call("Attach", {"name": f"s{i}"}, connection=other.connect())
        last = other.connect()
        with self.refused("QuotaExceeded", "release one"):
            other.call("Attach", {"name": "s64"}, connection=last)
        root = self.client()
        with self.refused("QuotaExceeded"):
            root.attach("s64", uid=NOBODY)
        root.call("Release", {"name": "s0", "uid": NOBODY})
        self.assertEqual(other.call("Attach", {"name": "s64"}, connection=last)[0]["start"], "new")
        for i in range(70):
            self.client().attach(f"r{i}")
        self.assertEqual(len(root.sessions()), 134)

    def test_sessions_begin_and_end_at_a_pace_that_pid_1_and_the_log_can_bear(self):
        """Whoever is faster waits, and is not refused; root is as fast as it likes."""
        begin = time.monotonic()
        other = self.holder(uid=NOBODY)
        for i in range(60):
            connection = other.connect()
            other.call("Attach", {"name": f"s{i}"}, connection=connection)
            other.call("Release", {"name": f"s{i}"}, connection=connection)
        most = 64 + 16 * (time.monotonic() - begin + 1)
        self.assertLessEqual(60 + 60, most)
        self.assertTrue(eventually(lambda: self.daemon.log().count("is released") == 60))
        root = self.client()
        root.attach("r")  # and is not behind them in any queue
        root.call("Release")

    def test_a_user_may_have_32_monitors_and_root_more(self):
        other = self.holder(uid=NOBODY)
        monitor = encode("io.vfiocpr.Session.Monitor", more=True)
        for i in range(33):
            other.do("send_raw", other.connect(), monitor)
            if i < 32:
                other.do("receive", i)
        with self.refused("QuotaExceeded", "end one"):
            other.do("receive", 32)
        other.do("close", 0)
        self.assertTrue(eventually(lambda: self.can_monitor(other, other.connect(), monitor)))
        for _ in range(40):
            next(self.client().call_more("Monitor"))

    def can_monitor(self, holder, connection, monitor):
        try:
            holder.do("send_raw", connection, monitor)
            return holder.do("receive", connection)
        except VarlinkError:
            return None

    def test_a_claim_does_not_wait_for_what_its_user_begins_and_ends(self):
        other = self.holder(uid=NOBODY)
        other.attach("vm")
        other.store([describe("eventfd", "e", 1)], [eventfd()])
        other.kill()
        hasty = self.holder(uid=NOBODY)
        connections = [hasty.connect() for _ in range(63)]
        with self.daemon.stopped():
            for i, connection in enumerate(connections):
                calls = encode("io.vfiocpr.Session.Attach", {"name": f"s{i}"})
                calls += encode("io.vfiocpr.Session.Release")
                hasty.do("send_raw", connection, calls)
        claimer = self.holder(uid=NOBODY)
        self.assertEqual(claimer.attach("vm")["start"], "claimed")
        self.assertTrue(eventually(lambda: "is claimed" in self.daemon.log()))
        for connection in connections:  # all of them are answered in the end
            hasty.do("receive", connection)
            hasty.do("receive", connection)
        self.assertTrue(eventually(lambda: self.daemon.log().count("is released") == 63))
        log = self.daemon.log()
        self.assertLess(log.index("is claimed"), log.rindex("is released"))

    def test_a_user_may_have_16_mib_of_messages_that_are_not_whole(self):
        other, part = self.holder(uid=NOBODY), b" " * (1 << 20)
        connections = [other.connect() for _ in range(17)]
        for connection in connections[:16]:
            other.do("send_raw", connection, part)
            other.do("wait_until_received", connection)
        other.do("send_raw", connections[16], b" ")
        with self.refused("QuotaExceeded", "without an end"):
            other.do("receive", connections[16])
        other.do("send_raw", connections[0], b"\0")
        with self.refused("ProtocolViolation"):
            other.do("receive", connections[0])
        self.assertEqual(other.call("List", connection=other.connect())[0], {"sessions": []})
        other.kill()

    def test_a_user_may_have_256_connections_and_others_are_served(self):
        other = self.holder(uid=NOBODY)
        for _ in range(256):
            other.connect()
        with self.assertRaises(ConnectionError):
            other.call("List", connection=other.connect())
        self.assertEqual(other.call("List", connection=255)[0], {"sessions": []})
        self.assertEqual(self.client().sessions(), {})
        third = self.holder(uid=NOBODY - 1)
        self.assertEqual(third.call("List")[0], {"sessions": []})
        other.do("close", 0)
        self.assertTrue(eventually(lambda: can_connect(other)))
        other.kill()
        third.kill()


@ROOT_ONLY
class HangingCloses(DaemonTest):
    """Peers send what takes a minute to close, and the last to close it is the daemon."""

    backlog = 4096  # for what is sent while the daemon is stopped
    call = encode("io.vfiocpr.Session.Store", {"objects": [describe("eventfd", "e", 1)]})

    def setUp(self):
        super().setUp()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.ends = []

    def tearDown(self):
        self.let_go()
        self.listener.close()
        super().tearDown()

    def let_go(self):
        """The closes that hang end."""
        for end in self.ends:
            end.close()
        self.ends = []

    def send(self, holder, connection, data=call, flags=0):
        """Has it send one; the daemon is stopped meanwhile, else this close may be the last."""
        lingering, end = linger_for_a_minute(self.listener)
        self.ends.append(end)
        holder.do("send_raw", connection, data, flags, fds=[lingering.fileno()])
        lingering.close()

    def assert_served(self, client):
        """Nobody else waits a minute (a client gives up before), closes of their own included."""
        client.attach("vm")
        client.store([describe("eventfd", "e", 1)], [eventfd()])
        client.call("Release")

    def test_a_user_who_makes_closes_hang_is_cut_off_and_others_are_served(self):
        other, root = self.holder(uid=NOBODY), self.client()
        connections = [other.connect() for _ in range(9)]
        with self.daemon.stopped():
            for i in range(270):
                self.send(other, connections[i // 30])
        answers = []
        while not answers or "QuotaExceeded" not in answers[-1]:
            with self.assertRaises(VarlinkError) as answer:
                other.do("receive", connections[8])
            answers.append(answer.exception.name)
        self.assertIn("Refused", answers[0])
        with self.assertRaises(ConnectionError):
            other.call("List", connection=other.connect())
        self.assert_served(root)
        self.let_go()
        self.assertTrue(eventually(lambda: can_connect(other)))
        other.kill()

    def test_tables_that_are_not_counted_for_long_are_told_as_they_were(self):
        other, root = self.holder(uid=NOBODY), self.client()
        other.connect()
        other.attach("vm")
        table = make_table([{"iova": 4096}], slots=2, used=2)
        other.store([describe("table", "s0", 1)], [table])
        self.assertEqual(root.sessions()[(NOBODY, "vm")]["mappings"], 1)
        connections = [other.connect() for _ in range(60)]
        with self.daemon.stopped():
            for connection in connections:
                self.send(other, connection)
        self.assertTrue(eventually(lambda: self.threads() > 48))
        for connection in connections:  # so all are being closed, or wait for that
            with self.assertRaises((VarlinkError, ConnectionError)):
                other.do("receive", connection)
        os.pwrite(table, slot(iova=8192), HEADER.size + SLOT.size)
        for _ in range(3):
            self.assertEqual(root.sessions()[(NOBODY, "vm")]["mappings"], 1)
            self.assertEqual(root.show("vm", uid=NOBODY)["spaces"][0]["mappings"], 1)
        self.let_go()
        self.assertTrue(eventually(lambda: root.sessions()[(NOBODY, "vm")]["mappings"] == 2))
        other.kill()

    def threads(self):
        with open(f"/proc/{self.daemon.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("Threads:"))

    def test_refused_connections_are_no_way_to_more_threads(self):
        other, root = self.holder(uid=NOBODY), self.client()
        with self.daemon.stopped():  # once: a signal ends the hanging
            connections = [other.connect() for _ in range(300)]
            for connection in connections:
                self.send(other, connection)
        for connection in connections:
            with self.assertRaises((VarlinkError, ConnectionError)):
                other.do("receive", connection)
        self.assert_served(root)
        threads = self.threads()
        self.assertLess(threads, 48 + 16)
        self.assertGreater(threads, 40)  # they do hang
        self.let_go()
        self.assertTrue(eventually(lambda: can_connect(other)))
        other.kill()

    def test_connections_refused_behind_closes_that_hang_are_no_way_to_more_descriptors(self):
        other, root = self.holder(uid=NOBODY), self.client()
        with self.daemon.stopped():  # once: a signal ends the hanging
            for connection in [other.connect() for _ in range(1000)]:
                self.send(other, connection)
        most = self.idle_fds + 3 * 256 + 20  # connections, and messages that are being closed
        self.assertTrue(eventually(lambda: can_connect(other) is None))
        self.assertTrue(eventually(lambda: self.daemon.fds() < most), self.daemon.fds())
        for _ in range(1000):
            with contextlib.suppress(ConnectionError):  # it may be refused before that
                other.do("send_and_close", b"x")
        self.assertTrue(eventually(lambda: self.daemon.fds() < most), self.daemon.fds())
        # Those that may hang do: 256, of which a thread each is at 48, whose number is free.
        self.assertGreater(self.daemon.fds(), 200)
        self.assert_served(root)
        self.assertLess(self.daemon.log().count("warning: "), 100)
        other.kill()

    def test_messages_that_were_not_read_hang_nobody(self):
        dead, cut_off, root = self.holder(uid=NOBODY), self.holder(uid=NOBODY), self.client()
        with self.daemon.stopped():
            self.send(dead, dead.connect())
            dead.kill()  # before it was accepted
            connection = cut_off.connect()
            cut_off.do("send_raw", connection, b"no JSON\0")
            for _ in range(3):
                self.send(cut_off, connection)
        self.assert_served(root)
        with self.assertRaises(VarlinkError) as answer:
            cut_off.do("receive", connection)
        self.assertIn("ProtocolViolation", answer.exception.name)
        cut_off.kill()

    def test_what_comes_out_of_band_hangs_nobody(self):
        other, root = self.holder(uid=NOBODY), self.client()
        connection = other.connect()
        with self.daemon.stopped():
            try:
                self.send(other, connection, b"x", socket.MSG_OOB)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                self.skipTest("this kernel's unix sockets have no data out of band")
            other.do("send_raw", connection, self.call)
        self.assert_served(root)
        with self.assertRaises(VarlinkError) as answer:
            other.do("receive", connection)
        self.assertIn("ProtocolViolation", answer.exception.name)
        other.kill()

    def test_the_daemons_end_does_not_wait_for_them(self):
        other, root = self.holder(uid=NOBODY), self.client()
        with self.daemon.stopped():
            for _ in range(3):
                self.send(other, other.connect())
        self.assertEqual(root.sessions(), {})
        self.end_daemon()  # which waits for half a minute
        other.kill()


@ROOT_ONLY
class DescriptorQuota(DaemonTest):
    options = ("--mode", "0666")
    nofile = 140000  # so that the user's limit comes before the daemon's

    def setUp(self):
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < self.nofile:
            self.skipTest(f"RLIMIT_NOFILE is under {self.nofile}")
        super().setUp()

    def test_a_user_may_hold_65536_descriptors_gaps_counted(self):
        other = self.holder(uid=NOBODY)
        other.attach("a")
        other.store([describe("eventfd", "e", 1, first=65535)], [eventfd()])
        with self.refused("QuotaExceeded", "65536"):
            other.store([describe("eventfd", "f", 2)], [eventfd()])
        # Another session is no way around it, a message not finished neither, nor one of many gaps.
        second, third = other.connect(), other.connect()
        other.call("Attach", {"name": "b"}, connection=second)
        for more in (False, True):
            with self.refused("QuotaExceeded"):
                other.call(
                    "Store",
                    {"objects": [describe("memory", "m", 1)], "continues": more},
                    [memfd()],
                    second,
                )
        self.assertEqual(other.call("Show", {"name": "b"})[0]["objects"], [])
        self.assertEqual(other.call("Show", {"name": "a"})[0]["session"]["objects"][0]["count"], 1)
        other.call("Release", {"name": "a"})
        other.call("Attach", {"name": "c"}, connection=third)
        gaps = [describe("eventfd", f"g{i}", i + 1, i, first=65535) for i in range(2)]
        with self.refused("QuotaExceeded"):
            other.call("Store", {"objects": gaps}, eventfds(2), third)
        self.assertEqual(other.call("Show", {"name": "c"})[0]["objects"], [])
        self.assertEqual(self.client().attach("root")["start"], "new")

    def test_what_one_user_has_staged_counts(self):
        other = self.holder(uid=NOBODY)
        other.attach("a")
        other.store([describe("eventfd", "e", 1, first=65535)], [eventfd()], continues=True)
        with self.refused("QuotaExceeded"):
            other.store([describe("eventfd", "f", 2)], [eventfd()], continues=True)
        # The failure has dropped what was staged.
        other.store([describe("eventfd", "f", 2)], [eventfd()])
        (held,) = other.call("Show", {"name": "a"})[0]["objects"]
        self.assertEqual(held["name"], "f")


class Limit(DaemonTest):
    nofile = 600  # of which 512 are for other things

    def test_a_daemon_that_is_full_says_so_and_holds_what_it_has(self):
        client = self.client()
        client.attach("vm")
        limit = client.call("Status")[0]["descriptorLimit"]
        self.assertEqual(limit, 88)
        fds = eventfds(limit + 1)
        client.store([describe("eventfd", "e", 1, count=limit)], fds[:limit])
        with self.refused("QuotaExceeded", "LimitNOFILE"):
            client.store([describe("eventfd", "f", 2)], fds[limit:])
        self.assertSameFiles(client.fetch_all()[0][1], fds[:limit])
        client.call("Remove", {"kind": "eventfd", "name": "e"})
        # A gap is no descriptor.
        client.store([describe("eventfd", "gap", 3, first=65535)], fds[:1])
        self.assertEqual(client.call("Status")[0]["descriptors"], 1)
        client.store([describe("eventfd", "e", 1, count=limit - 1)], fds[1:limit])
        with self.refused("QuotaExceeded", f"holds {limit + 1} descriptors"):
            client.store([describe("eventfd", "f", 2)], fds[limit:])
        ((item, gap), _) = client.fetch_all()
        self.assertEqual(item["first"], 65535)
        self.assertSameFiles(gap, fds[:1])

    def test_messages_that_are_never_finished_count(self):
        clients = [self.client() for _ in range(3)]
        for client in clients:
            client.send_raw(b"{", eventfds(40))
        with self.refused("QuotaExceeded", "LimitNOFILE"):
            clients[-1].receive()
        self.assertTrue(eventually(clients[-1].is_closed))
        clients[0].close()
        other = self.client()
        other.attach("vm")
        self.assertTrue(eventually(lambda: self.can_store(other, 40)))

    def can_store(self, client, n):
        try:
            return client.store([describe("eventfd", "e", 1, count=n)], eventfds(n)) == {}
        except VarlinkError:
            return False
