# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages and descriptors that do not belong together, and sockets in sockets."""

import array
import contextlib
import itertools
import os
import socket
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from attacktest import AttackTest, limit_daemon
from client import SESSION, Client, Closed, VarlinkError, encode
from fds import MAX_FDS, close, describe, eventfd, eventfds, memfd, track
from stuckfile import PIDFD_GETFD, libc

STORE = encode(SESSION + "Store", {"objects": [describe("eventfd", "e", 1)]})


def answers_to(attacker, fds, parts):
    """Sends the parts, each with so many of the descriptors, and nothing more: what is said."""
    answers = []
    with Client(attacker.path) as client, contextlib.suppress(Closed, OSError):
        client.attach("framing")
        with contextlib.suppress(OSError):
            for data, n, flags in parts:
                client.send_raw(data, fds[:n], flags)
            client.socket.shutdown(socket.SHUT_WR)
        while True:
            message, got = client.receive_message()
            answers.append(message)
            for fd in got:
                close(fd)
    return answers


class Framing(AttackTest):
    def send(self, *parts, n=MAX_FDS):
        evil = self.attacker()
        answers = evil.run(answers_to, parts, fds=eventfds(n))
        evil.kill()
        return answers

    def test_descriptors_in_the_middle_of_messages_are_closed(self):
        for part in (1, 5, len(STORE) // 2, len(STORE) - 1):
            self.send((STORE[:part], 1, 0), (STORE[part:], 1, 0))
            self.send((STORE[:part], 0, 0), (STORE[part:], 200, 0))
            self.send((STORE + STORE[:part], 1, 0), (STORE[part:], 1, 0))
            self.send((STORE[:part], 253, 0), (b"\0" * 50, 253, 0), (STORE, 253, 0))

    def test_descriptors_out_of_band_are_closed(self):
        for data in (b"x", b"\0", STORE):
            self.send((data, 1, socket.MSG_OOB), (STORE, 1, 0))
            self.send((STORE[:9], 0, 0), (data, 100, socket.MSG_OOB), (STORE[9:], 1, 0))
            self.send((data, 1, socket.MSG_OOB), (data, 1, socket.MSG_OOB), (STORE, 1, socket.MSG_OOB))

    def test_descriptors_with_every_byte_are_closed(self):
        evil = self.attacker()
        evil.run(fds_with_every_byte, 20, fds=eventfds(MAX_FDS))

    def test_descriptors_of_any_number_are_closed(self):
        for n in (1, 2, 252, 253):
            for objects in ([], [describe("eventfd", "e", 1, count=max(n - 1, 1))]):
                self.send((encode(SESSION + "Store", {"objects": objects}), n, 0), n=n)
            for method in ("Attach", "Fetch", "Status", "Monitor", "Nothing"):
                self.send((encode(SESSION + method, {}, more=True), n, 0), n=n)
            self.send((b"no JSON\0", n, 0), n=n)
            self.send((b"\0", n, 0), n=n)

    def test_what_comes_with_other_control_messages_is_taken_or_refused(self):
        evil = self.attacker()
        evil.run(other_control_messages, fds=eventfds(3))

    def test_descriptors_that_do_not_fit_are_lost_for_their_sender_alone(self):
        # The daemon can have a few more than it has.
        limit = self.daemon.fds() + 30
        limit_daemon(self.daemon, f"--nofile={limit}:")
        self.send((STORE, 200, 0))
        objects = [describe("eventfd", "e", 1, count=200)]
        self.send((encode(SESSION + "Store", {"objects": objects}), 200, 0))
        self.others_are_served(3, 1)


def fds_with_every_byte(attacker, fds, rounds):
    for _ in range(rounds):
        with Client(attacker.path) as client:
            try:
                client.attach("bytes")
                for i in range(len(STORE)):
                    client.send_raw(STORE[i : i + 1], fds[: 1 + i * 7 % 250])
            except (Closed, ConnectionError, OSError):
                pass


def other_control_messages(attacker, fds):
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds[:1]))
    two = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds[1:2]))
    who = (socket.SOL_SOCKET, 2, struct.pack("iII", os.getpid(), os.getuid(), os.getgid()))
    for control in ([rights, two], [who, rights], [rights, who], [rights, rights, rights], [who, who]):
        with Client(attacker.path) as client:
            client.attach("control")
            try:
                client.socket.sendmsg([STORE], control)
                client.receive()
            except (VarlinkError, Closed, OSError):
                pass
            with contextlib.suppress(VarlinkError, Closed, OSError):
                client.call("Release")


def nest(attacker, _fds, depth, message):
    """A socket with a socket in its queue, and so on, handed to the daemon; all else is closed."""
    inner = eventfd()
    for _ in range(depth):
        a, b = socket.socketpair()
        a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [inner]))])
        close(inner)
        inner = track(b.detach())
        a.close()
    send_and_forget(attacker, [inner], message)


def send_and_forget(attacker, fds, message):
    client = Client(attacker.path)
    attacker.clients.append(client)
    with contextlib.suppress(OSError, Closed):
        client.send_raw(message, fds)


def cycles(attacker, _fds, n, message):
    """Pairs of sockets that are in each other's queues, one end of which goes to the daemon."""
    for _ in range(n):
        a, b = socket.socketpair()
        for one, other in ((a, b), (b, a)):
            with contextlib.suppress(OSError):
                one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                      array.array("i", [one.fileno(), other.fileno()]))])
        send_and_forget(attacker, [a.fileno(), b.fileno()], message)
        a.close()
        b.close()


def through_itself(attacker, _fds, n, message):
    """Connections to the daemon in the queues of connections to the daemon."""
    clients = [Client(attacker.path) for _ in range(n)]
    attacker.clients += clients
    for i, client in enumerate(clients):
        with contextlib.suppress(OSError):
            client.send_raw(message, [other.socket.fileno() for other in clients[: 1 + i]])
    for client in clients:
        client.close()
    attacker.clients = []


def monitors_of_themselves(attacker, _fds, n):
    """Connections that wait for events, with their own ends behind something that nobody reads."""
    for _ in range(n):
        with Client(attacker.path) as client:
            client.send(SESSION + "Monitor", more=True)
            client.receive()
            with contextlib.suppress(OSError):
                client.send_raw(b"x")
                client.send_raw(b"y", [client.socket.fileno()])


def unread_with_itself(attacker, _fds):
    """A connection that reads no answer, with its own end behind its calls."""
    with Client(attacker.path) as client:
        client.attach("unread")
        client.store([describe("eventfd", "e", 1, count=200)], eventfds(200))
        client.socket.setblocking(False)
        with contextlib.suppress(OSError):
            client.socket.sendall(encode(SESSION + "Fetch", {"cursor": 0}) * 1000)
        client.send_raw(b"y", [client.socket.fileno()])


class Sockets(AttackTest):
    """What is in flight in what is in flight."""

    messages = (STORE, b"{", b"\0", b"no JSON\0")

    def test_sockets_in_sockets_are_closed(self):
        for message in self.messages:
            for depth in (1, 3, 4, 100):
                evil = self.attacker()
                with contextlib.suppress(OSError):  # the kernel refuses more than four
                    evil.run(nest, depth, message)
                evil.kill()
        self.others_are_served(3, 1)

    def test_circles_of_sockets_are_collected(self):
        for message in self.messages:
            evil = self.attacker()
            evil.run(cycles, 50, message)
            self.others_are_served(3, 1)
            evil.kill()

    def test_connections_in_connections_are_collected(self):
        for message in self.messages:
            evil = self.attacker()
            evil.run(through_itself, 60, message)
            evil.kill()
        self.others_are_served(3, 1)

    def test_a_monitor_that_holds_itself_ends(self):
        evil = self.attacker()
        evil.run(monitors_of_themselves, 20)
        evil.kill()
        self.others_are_served(3, 1)

    def test_a_connection_with_unread_answers_does_not_hold_itself(self):
        evil = self.attacker()
        evil.run(unread_with_itself)
        evil.kill()
        self.others_are_served(3, 1)

    def test_the_listening_socket_sent_to_itself_stays_the_daemons(self):
        number = next(
            int(n) for n in os.listdir(f"/proc/{self.daemon.pid}/fd")
            if is_listening(self.daemon.pid, n)
        )
        pidfd = os.pidfd_open(self.daemon.pid)
        fd = libc.syscall(PIDFD_GETFD, pidfd, number, 0)
        os.close(pidfd)
        for message in self.messages:
            evil = self.attacker()
            evil.run(send_and_forget, message, fds=[fd])
            evil.run(send_and_forget, message, fds=[fd] * 100)
            self.others_are_served(3, 1)
            evil.kill()
        os.close(fd)


def is_listening(pid, number):
    link = os.readlink(f"/proc/{pid}/fd/{number}")
    inode = link.removeprefix("socket:[").rstrip("]")
    with open("/proc/net/unix", encoding="ascii", errors="replace") as sockets:
        return any(line.split()[6] == inode and line.split()[3] == "00010000" for line in sockets
                   if not line.startswith("Num"))


class Oneway(AttackTest):
    """Flags of a call in every combination."""

    def test_any_flags_with_any_method_leave_the_connection_usable_or_closed(self):
        evil = self.attacker()
        methods = ("Attach", "Store", "Fetch", "Remove", "Commit", "Release", "List", "Show", "Mappings",
                   "Status", "Monitor")
        names = ("oneway", "more", "upgrade")
        flags = [
            {name: value for name, value in zip(names, values) if value is not None}
            for values in itertools.product((True, False, None), repeat=3)
        ]
        self.assertEqual(evil.run(call_with_flags, methods, flags), [])
        self.others_are_served(3, 1)

    def test_a_holder_killed_in_the_middle_of_a_store_leaves_nothing_of_it(self):
        for n in range(15):
            evil = self.attacker()
            evil.run(store_without_waiting, 10 + n)
            evil.kill()
            with Client(self.daemon) as root:
                root.call("Release", {"name": "killed", "uid": 3001})


def call_with_flags(attacker, _fds, methods, flags):
    """Which calls are followed by no answer to the next one, nor by an end."""
    bad = []
    parameters = {"Attach": {"name": "flags"}, "Store": {"objects": []}, "Fetch": {"cursor": 0},
                  "Remove": {"kind": "memory", "name": "x"}, "Show": {"name": "flags"},
                  "Mappings": {"name": "flags", "space": "x"}}
    for method in methods:
        for some in flags:
            with Client(attacker.path) as client:
                client.socket.settimeout(20)
                client.send_raw(encode(SESSION + method, parameters.get(method, {}), **some)
                                + encode("a.b.Last"))
                try:
                    for _ in range(3):
                        answer = client.receive_message()[0]
                        if answer.get("error", "").startswith("org.varlink") or answer.get("continues"):
                            break
                except (Closed, ConnectionError):
                    pass
                except TimeoutError:
                    bad.append((method, some))
    return bad


def store_without_waiting(attacker, _fds, n):
    client = Client(attacker.path)
    attacker.clients.append(client)
    client.attach("killed")
    for i in range(n):
        objects = [describe("eventfd", f"e{i}", 2 * i + 1), describe("memory", f"m{i}", 2 * i + 2, 1)]
        client.send(SESSION + "Store", {"objects": objects}, [eventfd(), memfd()])
        if i % 3 == 0:
            client.receive()
