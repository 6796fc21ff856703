# SPDX-License-Identifier: LGPL-2.1-or-later
"""The wire in hostile hands. Each act costs its sender the connection and nobody else anything."""

import json
import os
import select
import socket
import struct

from client import MAX_BYTES, SERVICE, SESSION, Client, encode
from daemontest import DaemonTest
from fds import close, close_all_but, describe, eventfd, eventfds, state_memfd
from patience import TEST_PID, Patience, eventually

INFO = encode(SERVICE + "GetInfo")


class Wire(DaemonTest):
    """Beside each act stands a bystander, whose session and descriptors must be intact after it."""

    def setUp(self):
        super().setUp()
        self.vm = self.client()
        self.vm.attach("vm")
        self.fds = eventfds(3)
        self.vm.store([describe("eventfd", "e", 1, count=3)], self.fds)
        self.base = self.daemon.fds() - self.idle_fds

    def tearDown(self):
        if self.daemon:
            self.assertIntact()

    def assertIntact(self):
        (held,) = self.vm.fetch_all()
        self.assertSameFiles(held[1], self.fds)
        for fd in held[1]:
            close(fd)
        self.assertIdle(self.base)

    def cut(self, data, fds=(), error="ProtocolViolation"):
        """Sends it on a connection of its own, which is told why and closed."""
        with Client(self.daemon) as client:
            try:
                client.send_raw(data, fds)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the daemon did not wait for the rest
            self.assertCut(client, error)

    def test_what_is_not_json_is_cut_off(self):
        for data in (
            b"\0",
            b" \0",
            b"\0\0\0\0",
            b"hello\0",
            b"{\0",
            b"}\0",
            b"{}}\0",
            b'{"method":"a.b"\0',
            b'{"method":"a.b",}\0',
            b"{'method':'a.b'}\0",
            b'{"method":"a.b"} x\0',
            b"\xff\xfe\0",
            b"GET / HTTP/1.1\r\n\r\n\0",
            bytes(range(255, -1, -1)),
        ):
            with self.subTest(data=data):
                self.cut(data)

    def test_json_that_is_no_call_is_cut_off(self):
        for message in (
            [],
            {},
            "x",
            1,
            True,
            {"method": None},
            {"method": 5},
            {"method": ["a.b"]},
            {"method": "a.b", "parameters": []},
            {"method": "a.b", "parameters": "x"},
            {"method": "a.b", "parameters": 0},
            {"method": "a.b", "more": "yes"},
            {"method": "a.b", "oneway": 1},
            {"method": "a.b", "upgrade": "no"},
            {"error": "a.b"},
        ):
            with self.subTest(message=message):
                self.cut(json.dumps(message).encode() + b"\0")

    def test_a_field_of_a_call_that_is_not_understood_is_refused_and_the_connection_kept(self):
        client = self.client()
        for fields in ({"upgrade": True}, {"extra": {}}, {"extra": False}, {"more": True, "mores": 1}):
            with self.subTest(fields=fields), self.refused("InvalidParameter") as caught:
                client.call(SERVICE + "GetInfo", **fields)
            self.assertEqual(caught.exception.parameters["parameter"], [*fields][-1])
        client.send(SESSION + "Attach", {"name": "not"}, oneway=True, extra=1)
        self.assertNotIn("not", [name for _, name in client.sessions()])
        for fields in ({"upgrade": False}, {"upgrade": None}, {"extra": None}):
            self.assertIn("vendor", client.call(SERVICE + "GetInfo", **fields)[0])
        client.close()

    def test_a_call_that_wants_no_answer_gets_none_even_if_it_wants_more(self):
        client = self.client()
        client.send(SESSION + "Monitor", {}, more=True, oneway=True)
        client.send(SESSION + "List", {}, more=True, oneway=True)
        with self.client() as other:
            other.attach("other")  # which a monitor is told
            other.call("Release")
        self.assertIn("vendor", client.call(SERVICE + "GetInfo")[0])
        client.close()

    def test_numbers_too_large_are_cut_off(self):
        for number in (b"99999999999999999999", b"-99999999999999999999", b"1e999", b"1" + b"0" * 400):
            self.cut(b'{"method":"a.b","parameters":{"x":' + number + b"}}\0")

    def test_duplicate_keys_are_cut_off(self):
        self.cut(b'{"method":"a.b","method":"a.c"}\0')
        self.cut(b'{"method":"a.b","parameters":{"x":1,"x":2}}\0')

    def test_text_that_is_not_utf_8_is_cut_off(self):
        for text in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xe2\x82", b"\\ud800", b"\\u0000"):
            self.cut(b'{"method":"a.b","parameters":{"x":"' + text + b'"}}\0')

    def test_messages_nest_32_deep_and_no_deeper(self):
        def nested(depth, opening, closing):
            inner = depth - 2  # of the message and of its parameters
            return (
                b'{"method":"%s","parameters":{"x":' % (SERVICE + "GetInfo").encode()
                + opening * inner + b"1" + closing * inner + b"}}\0"
            )

        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            with Client(self.daemon) as client:
                client.send_raw(nested(32, opening, closing))
                with self.refused(SERVICE + "InvalidParameter"):
                    client.receive()
                client.send_raw(nested(33, opening, closing))
                self.assertCut(client)
        self.cut(b"[" * 500000 + b"\0")
        self.cut(b'{"a":' * 100000 + b"\0")
        # Brackets in strings are no depth.
        with Client(self.daemon) as client:
            name = "[" * 40 + '"' + "{" * 40
            with self.refused(SERVICE + "InterfaceNotFound"):
                client.call(SERVICE + "GetInterfaceDescription", {"interface": name})

    def test_a_message_may_have_8192_values_and_no_more(self):
        with Client(self.daemon) as client:
            for n in (100, 8190):
                with self.refused(SERVICE + "InvalidParameter"):
                    client.call(SERVICE + "GetInfo", {"x": [0] * (n - 4)})
        for values in ([0] * 8192, [[]] * 4100, [{}] * 300000, {str(i): 0 for i in range(50000)}):
            self.cut(encode(SERVICE + "GetInfo", {"x": values}).replace(b" ", b""))

    def test_a_long_message_keeps_its_place_and_its_descriptors(self):
        """It is parsed beside the others' calls, and its connection's next call is after it."""
        fds = eventfds(2)
        message = {"objects": [describe("eventfd", "f", 2, count=2)]}
        with Client(self.daemon) as client:
            client.attach("other")
            client.send_raw(encode(SESSION + "Store", message)[:-1].ljust(300000) + b"\0", fds)
            client.send_raw(encode(SESSION + "Fetch", {"cursor": 0}) + INFO[:-1].ljust(200000) + b"\0")
            self.assertEqual(client.receive()[0], {})
            self.assertSameFiles(client.receive()[1], fds)
            self.assertEqual(client.receive()[0]["product"], "vfio-cprd")
            client.call("Release")

    def test_a_client_that_goes_while_its_long_message_is_parsed_leaves_nothing(self):
        message = {"objects": [describe("eventfd", "f", 2, count=250)]}
        for _ in range(20):
            with Client(self.daemon) as client:
                client.send_raw(
                    encode(SESSION + "Store", message)[:-1].ljust(MAX_BYTES) + b"\0", eventfds(250)
                )
            close_all_but(self.fds)

    def test_a_message_may_have_1_mib_and_no_more(self):
        with Client(self.daemon) as client:
            for size in (MAX_BYTES - 1, MAX_BYTES):
                client.send_raw(INFO[:-1].ljust(size) + b"\0")
                self.assertEqual(client.receive()[0]["product"], "vfio-cprd")
            client.send_raw(INFO + INFO[:-1].ljust(MAX_BYTES) + b"\0" + INFO)
            for _ in range(3):
                client.receive()
        self.cut(INFO[:-1].ljust(MAX_BYTES + 1) + b"\0")
        self.cut(INFO[:-1].ljust(MAX_BYTES + 1))
        self.cut(b"x" * (3 * MAX_BYTES))

    def test_a_large_message_with_descriptors_is_taken(self):
        message = {"objects": [describe("eventfd", "f", 2, count=250)]}
        data = encode(SESSION + "Store", message)[:-1].ljust(MAX_BYTES) + b"\0"
        fds = eventfds(250)
        self.vm.send_raw(data, fds)
        self.assertEqual(self.vm.receive()[0], {})
        self.assertSameFiles(self.vm.fetch_all()[1][1], fds)
        self.vm.call("Remove", {"kind": "eventfd", "name": "f"})

    def test_a_message_cut_short_by_a_close_is_nothing(self):
        for data, fds in (
            (INFO[:-1], ()),
            (b"{", ()),
            (b"", ()),
            (encode(SESSION + "Release", {"name": "vm"})[:-1], ()),
            (b"{", eventfds(200)),
        ):
            with Client(self.daemon) as client:
                client.send_raw(data, fds) if data else None
            self.assertIntact()

    def test_garbage_with_descriptors_closes_them(self):
        fds = eventfds(253)
        self.cut(b"garbage\0", fds)
        self.cut(b"\0", fds)
        self.cut(b"x" * (2 * MAX_BYTES), fds)

    def test_descriptors_in_the_middle_of_a_message_are_cut_off(self):
        message = encode(SESSION + "Store", {"objects": [describe("eventfd", "f", 2)]})
        with Client(self.daemon) as client:
            client.attach("other")
            client.send_raw(message[:20])
            client.wait_until_received()
            client.send_raw(message[20:], [self.fds[0]])
            self.assertCut(client)
        with Client(self.daemon) as client:  # the same process, so it is still there
            self.assertEqual(client.attach("other"), {"start": "resumed", "objects": 0})
            client.call("Release")

    def test_descriptors_on_both_parts_of_a_message_are_cut_off(self):
        with Client(self.daemon) as client:
            client.send_raw(INFO[:20], [self.fds[0]])
            client.wait_until_received()
            client.send_raw(INFO[20:], [self.fds[1]])
            self.assertCut(client)

    def test_descriptors_that_the_kernel_glues_to_another_message_are_cut_off(self):
        # Whose they are cannot be told.
        store = encode(SESSION + "Store", {"objects": [describe("eventfd", "f", 2)]})
        for first in (INFO, INFO + INFO, store, b"\0"):
            with Client(self.daemon) as client:
                client.attach("other")
                with self.daemon.stopped():
                    client.send_raw(first)
                    client.send_raw(store, [self.fds[0]])
                self.assertCut(client)
            with Client(self.daemon) as client:
                self.assertEqual(client.attach("other"), {"start": "resumed", "objects": 0})
                client.call("Release")

    def test_two_messages_in_one_send_with_descriptors_are_cut_off(self):
        store = encode(SESSION + "Store", {"objects": [describe("eventfd", "f", 2)]})
        for data in (store + INFO, INFO + store, store + b"{", store + b"\0"):
            self.cut(data, [self.fds[0]])

    def test_two_messages_with_descriptors_in_a_row_are_each_their_own(self):
        # The kernel ends a receive behind each set of descriptors, so these need not wait.
        a, b = eventfds(2)
        with self.daemon.stopped():
            for fd, name, id in ((a, "a", 2), (b, "b", 3)):
                message = {"objects": [describe("eventfd", name, id)]}
                self.vm.send_raw(encode(SESSION + "Store", message), [fd])
        for _ in range(2):
            self.assertEqual(self.vm.receive()[0], {})
        held = self.vm.fetch_all()[1:]
        self.assertEqual([o["name"] for o, _ in held], ["a", "b"])
        self.assertSameFiles([i[0] for _, i in held], [a, b])
        for name in "ab":
            self.vm.call("Remove", {"kind": "eventfd", "name": name})

    def test_a_message_byte_by_byte_is_one_message(self):
        with Client(self.daemon) as client:
            for byte in INFO + INFO:
                client.send_raw(bytes([byte]))
                client.wait_until_received()
            for _ in range(2):
                self.assertEqual(client.receive()[0]["product"], "vfio-cprd")

    def test_credentials_beside_a_message_are_passed_over(self):
        with Client(self.daemon) as client:
            ucred = struct.pack("3i", os.getpid(), os.getuid(), os.getgid())
            client.socket.sendmsg([INFO], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, ucred)])
            client.receive()

    def test_a_client_that_closes_its_sending_side_is_answered_first(self):
        with Client(self.daemon) as client:
            client.send_raw(INFO * 3)
            client.socket.shutdown(socket.SHUT_WR)
            for _ in range(3):
                self.assertEqual(client.receive()[0]["product"], "vfio-cprd")
            with self.assertRaises(ConnectionError):
                client.receive()

    def test_what_was_sent_whole_before_a_close_is_done(self):
        """Also by one who is gone before the daemon comes to accept it; a part of a message is nothing."""
        release, root = encode(SESSION + "Release", {"name": "x"}, oneway=True), self.client()
        for parts in ([release], [release[:9], release[9:]], [b" " * 5000 + release]):
            holder = self.client()
            holder.attach("x")
            with self.daemon.stopped():
                for some in ([release[:-1]], parts):
                    with Client(self.daemon) as client:
                        for part in some:
                            client.send_raw(part)
            self.assertTrue(eventually(lambda: len(root.sessions()) == 1), parts)
            holder.close()
        root.close()

    def test_a_client_that_closes_its_receiving_side_is_closed(self):
        with Client(self.daemon) as client:
            client.socket.shutdown(socket.SHUT_RD)
            try:
                for _ in range(1000):
                    client.send_raw(INFO)
            except (BrokenPipeError, ConnectionResetError):
                pass
            self.assertTrue(eventually(client.is_closed))

    def test_answers_that_nobody_fetches_are_closed_with_the_connection(self):
        """Descriptors of an answer that nobody reads vanish with the connection."""
        for _ in range(20):
            with Client(self.daemon) as client:
                client.attach("other")
                client.store([describe("eventfd", "f", 1, count=253)], eventfds(253))
                client.send(SESSION + "Fetch", {"cursor": 0})
            close_all_but(self.fds)
            with Client(self.daemon) as client:
                client.attach("other")
                client.call("Release")

    def test_a_client_that_does_not_read_is_cut_off_and_others_are_served(self):
        """A client that pipelines without reading, and a monitor that does not read, are cut off."""
        greedy, monitor = self.client(), self.client()
        monitor.send(SESSION + "Monitor", more=True)
        monitor.wait_until_received()
        greedy.socket.setblocking(False)
        call = encode(SERVICE + "GetInterfaceDescription", {"interface": "io.vfiocpr.Session"})
        try:
            while True:
                greedy.socket.send(call * 100)
        except BlockingIOError:
            pass
        # Enough events that the socket of a monitor, and its queue, overflow; and served meanwhile.
        changer = self.client()
        changer.attach("changing")
        state = state_memfd()
        served = {greedy: 0, monitor: 0}  # answers that others had before it was cut off
        waiting, limit = set(served), Patience(50, TEST_PID)
        while waiting and not limit.is_over():
            changer.store([describe("state", "s", 1)], [state])
            waiting = {client for client in waiting if not client.is_closed()}
            for client in waiting:
                served[client] += 1
        self.assertEqual(waiting, set(), f"not cut off: {waiting}")
        self.assertGreater(min(served.values()), 10, "others wait for those who do not read")
        changer.call("Release")
        for client in (greedy, monitor, changer):
            client.close()


class Many(DaemonTest):
    def test_1000_connections_that_come_and_go_leave_nothing(self):
        for i in range(1000):
            client = Client(self.daemon)
            if i % 3 == 1:
                client.send_raw(INFO)
            elif i % 3 == 2:
                client.send(SESSION + "Attach", {"name": f"s{i}"})
            client.close()
        # Sessions of this process live as long as it does: they are no leak.
        with Client(self.daemon) as client:
            for _, name in client.sessions():
                client.call("Release", {"name": name})
        self.assertIdle()

    def test_1000_connections_at_once_are_all_served(self):
        clients = [Client(self.daemon) for _ in range(1000)]
        for client in clients:
            client.send_raw(INFO)
        for client in clients:
            self.assertEqual(client.receive()[0]["product"], "vfio-cprd")
        self.assertGreaterEqual(self.daemon.fds(), 1000)
        for client in clients:
            client.close()
        self.assertIdle()


class FewDescriptors(DaemonTest):
    nofile = 65

    def test_connections_that_do_not_fit_do_no_harm_and_later_ones_are_served(self):
        first = self.client()
        first.attach("vm")
        clients = Client.crowd(self.daemon, lambda: "cannot accept" in self.daemon.log())
        self.assertTrue(eventually(lambda: self.daemon.fds() >= 62), self.daemon.fds())
        self.assertEqual(len(first.sessions()), 1)  # who is in is served
        served = 0
        for client in clients[:10]:
            client.send_raw(INFO)
            served += client.receive()[0]["product"] == "vfio-cprd"
        self.assertEqual(served, 10)
        # Who does not fit waits, also one that is accepted and whose process finds no descriptor.
        self.assertEqual([client for client in clients if client.is_closed()], [])
        for client in clients:
            client.close()
        first.call("Release")
        first.close()
        self.assertIdle()
        self.assertTrue(eventually(lambda: "accepts connections again" in self.daemon.log()))
        self.assertEqual(self.daemon.log().count("cannot accept"), 1)

    def test_who_waits_in_the_backlog_is_served_when_others_leave(self):
        crowd = Client.crowd(self.daemon, lambda: "cannot accept" in self.daemon.log())
        *first, late = crowd
        late.send_raw(INFO)
        for client in first:
            client.close()
        self.assertEqual(late.receive()[0]["product"], "vfio-cprd")
        late.close()
        self.assertIdle()


class LostDescriptors(DaemonTest):
    nofile = 700

    def test_descriptors_that_the_daemon_cannot_take_are_told_as_lost(self):
        vm = self.client()
        vm.attach("vm")
        kept = eventfd()
        vm.store([describe("eventfd", "e", 1)], [kept])
        others = [Client(self.daemon) for _ in range(250)]
        for client in others:
            client.send_raw(INFO)
            client.receive()
        before = self.daemon.fds()
        self.assertGreater(before, 700 - 253)
        vm.send(
            SESSION + "Store", {"objects": [describe("eventfd", "f", 2, count=253)]}, eventfds(253)
        )
        with self.refused("DescriptorsLost", "LimitNOFILE") as caught:
            vm.receive()
        self.assertEqual(caught.exception.parameters["errno"], 24)
        with self.assertRaises(ConnectionError):
            vm.receive()
        # Nothing of it is kept, and what was held is.
        self.assertTrue(eventually(lambda: self.daemon.fds() < before))
        for client in others:
            client.close()
        again = self.client()
        self.assertEqual(again.attach("vm"), {"start": "resumed", "objects": 1})
        self.assertSameFiles(again.fetch_all()[0][1], [kept])
        again.call("Release")
        again.close()
        self.assertIdle()
