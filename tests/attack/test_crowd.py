# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one user, or a group of them, can take of what all share: descriptors, also those in flight,
threads, connections, room in systemd's store, lines of the log."""

import contextlib
import fcntl
import os
import select
import socket
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from attacktest import ATTACKER, SERVICE, AttackTest, limit_daemon
from client import SESSION, Client, Closed, VarlinkError, encode
from daemon import Daemon
from fds import close, describe, eventfd, eventfds, state_memfd
import loads
from patience import eventually


class Flight(AttackTest):
    """RLIMIT_NOFILE limits what the daemon's user has in flight, unless it has a capability: as the
    service it has none."""

    nofile = 8000

    def test_answers_that_nobody_reads_take_no_room_from_others(self):
        evil = self.attacker()
        evil.run(loads.fetch_and_not_read, 12, 200)
        self.others_are_served()
        # A holder who reads gets all, all the same.
        self.assertEqual(len(self.victim.call("Fetch", {"cursor": 0})[0]["objects"]), 4)

    def test_answers_that_users_in_a_group_do_not_read_take_no_room_from_others(self):
        for i in range(6):
            self.attacker(ATTACKER + i).run(loads.fetch_and_not_read, 6, 100)
        self.others_are_served()

    def test_who_does_not_read_is_served_once_it_does(self):
        evil = self.attacker()
        evil.run(loads.fetch_and_not_read, 4, 60, 200)
        self.others_are_served(3, 1)
        self.assertEqual(evil.run(read_all, 60), 4 * 60 * 200)


    def test_who_does_not_read_is_told_so_where_it_does(self):
        """The room is taken by connections that want nothing more, and stay."""
        evil = self.attacker()
        evil.run(loads.fetch_and_not_read, 2, 1, 200)
        self.assertIn("QuotaExceeded", evil.run(fetch_one, 200))
        self.assertEqual(evil.run(fetch_again), 200)


def fetch_one(attacker, _fds, n):
    client = loads.new_session(attacker, "reads")
    client.store([describe("eventfd", "e", 1, count=n)], eventfds(n))
    try:
        client.call("Fetch", {"cursor": 0})
    except VarlinkError as error:
        return error.name
    return ""


def fetch_again(attacker, _fds):
    """When the others are closed."""
    while len(attacker.clients) > 1:
        attacker.clients.pop(0).close()
    fds = attacker.clients[-1].call("Fetch", {"cursor": 0})[1]
    for fd in fds:
        close(fd)
    return len(fds)


def read_all(attacker, _fds, n):
    """Reads what all have been sent: how many descriptors."""
    total, left = 0, {client: n for client in attacker.clients}
    for client in left:
        client.socket.setblocking(True)
    while left:
        ready = select.select([client.socket for client in left], [], [])[0]
        for client in [client for client in left if client.socket in ready]:
            for fd in client.receive()[1]:
                close(fd)
                total += 1
            left[client] -= 1
            if left[client] == 0:
                del left[client]
    return total


class StoredFlight(AttackTest):
    nofile = 8000
    pid1_options = {}

    def test_what_is_stored_again_and_again_takes_no_room_from_others(self):
        evil = self.attacker()
        evil.run(loads.store_again_storm, 4, 60)
        self.others_are_served()

    def test_states_that_are_replaced_and_claims_take_no_room_from_others(self):
        evil = self.attacker()
        evil.run(replace_states, 150)
        evil.kill()
        for _ in range(15):
            successor = self.attacker()
            successor.attach("claimed")
            successor.kill()
        self.others_are_served()

    def test_a_restart_with_anothers_dead_records_keeps_everybodys_sessions(self):
        evil = self.attacker()
        evil.run(loads.store_again_storm, 4, 40)
        self.others_are_served(3, 1)
        self.restart()
        self.others_are_served(3, 1)


def replace_states(attacker, _fds, n):
    client = loads.new_session(attacker, "claimed")
    client.store([describe("eventfd", "e", 1, count=200)], eventfds(200))
    for i in range(n):
        with contextlib.suppress(VarlinkError):
            client.call("Remove", {"kind": "state", "name": "s"})
        client.store([describe("state", "s", 2)], [state_memfd(b"%d" % i)])
        client.call("Commit")


class Lingering:
    """TCP connections whose last close takes an hour, or until let_go()."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.listen(1024)
        self.ends = []

    def make(self):
        one = socket.create_connection(self.listener.getsockname())
        self.ends.append(self.listener.accept()[0])
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                one.send(bytes(1 << 20))
        return one

    def let_go(self):
        for end in self.ends:
            end.close()
        self.ends = []


class Closes(AttackTest):
    """Closes that hang: the last one of a socket that lingers is the daemon's."""

    nofile = 4000
    call = encode(SESSION + "Store", {"objects": [describe("eventfd", "e", 1)]})

    def setUp(self):
        super().setUp()
        self.lingering = Lingering()

    def tearDown(self):
        self.lingering.let_go()
        super().tearDown()
        self.lingering.listener.close()

    def hang(self, evil, n):
        """So many closes, over connections of 30 each."""
        connections = [evil.connect() for _ in range(n // 30 + 1)]
        with self.daemon.stopped():
            for i in range(n):
                one = self.lingering.make()
                evil.do("send_raw", connections[i // 30], self.call, fds=[one.fileno()])
                one.close()

    def test_connections_given_up_behind_closes_that_hang_take_nothing_from_others(self):
        evil, storm = self.attacker(), self.attacker()
        self.hang(evil, 260)
        storm.begin(loads.connect_storm)
        self.others_are_served(8, 2)
        print(f"    {self.daemon.fds()} descriptors are open")
        lines = self.daemon.log().count("\n")
        eventually(lambda: False, 1)
        self.assertLess(self.daemon.log().count("\n") - lines, 200)

    def test_closes_that_hang_of_users_in_a_group_take_no_thread_from_others(self):
        users = [self.attacker(ATTACKER + i) for i in range(3)]
        for user in users:
            self.hang(user, 260)
        self.others_are_served()
        with Client(self.daemon) as root:
            root.attach("root")
            root.store([describe("eventfd", "e", 1)], [eventfd()])
            root.call("Release")
        self.assertEqual(self.victim.call("Show", {"name": "vm"})[0]["session"]["state"], "active")


class FewThreads(Closes):
    """The same where the daemon may have few threads (TasksMax, RLIMIT_NPROC)."""

    def start_daemon(self):
        daemon = super().start_daemon()
        limit_daemon(daemon, "--nproc=400")
        return daemon


class NoThreads(AttackTest):
    """No thread can be started any more: the daemon's user has as many as it may."""

    def test_requests_are_answered_when_no_thread_can_be_had(self):
        limit_daemon(self.daemon, "--nproc=1:")
        evil = self.attacker(session="threads")
        evil.store([describe("eventfd", "e", 1, count=64)], eventfds(64))
        evil.call("Remove", {"kind": "eventfd", "name": "e"})
        evil.call("Release")
        self.others_are_served()
        limit_daemon(self.daemon, "--nproc=1000:")


class Connections(AttackTest):
    nofile = 1024

    def test_connections_of_a_group_of_users_leave_room_for_others(self):
        for i in range(8):
            self.attacker(ATTACKER + i).run(connect_and_stay, 200)
        self.others_are_served()

    def test_sessions_and_descriptors_of_a_group_of_users_leave_room_for_claims(self):
        for i in range(8):
            self.attacker(ATTACKER + i).run(take_sessions, 40)
        self.others_are_served()

    def test_descriptors_in_messages_that_never_end_leave_room_for_others(self):
        for i in range(8):
            self.attacker(ATTACKER + i).run(send_parts_with_fds, 20)
        self.others_are_served()

    def test_connections_that_come_and_go_take_nothing_from_others(self):
        storms = [self.attacker(ATTACKER + i) for i in range(3)]
        for storm in storms:
            storm.begin(loads.connect_storm)
        self.others_are_served(10, 2)

    def test_of_connections_that_are_given_up_few_stand_before_others(self):
        """However many a user would leave there, and however long the daemon does not come to them."""
        with self.daemon.stopped():
            left = [self.attacker(ATTACKER + i).run(give_up_many) for i in range(3)]
            self.assertLessEqual(sum(left), 2)
        self.others_are_served()


def give_up_many(attacker, _fds):
    """As many as there is room for, each with a byte unread: how many."""
    clients = Client.crowd(attacker.path)
    for client in clients:
        client.send_raw(b"x")
        client.close()
    return len(clients)


def connect_and_stay(attacker, _fds, n):
    for _ in range(n):
        client = Client(attacker.path)
        attacker.clients.append(client)
        client.socket.setblocking(False)
        with contextlib.suppress(OSError):
            client.socket.send(b"x")


def take_sessions(attacker, _fds, n):
    for i in range(n):
        try:
            client = loads.new_session(attacker, f"take{i}")
            client.store([describe("eventfd", "e", 1, count=60)], eventfds(60))
        except (VarlinkError, Closed, ConnectionError):
            return


def send_parts_with_fds(attacker, _fds, n):
    fds = eventfds(100)
    for _ in range(n):
        client = Client(attacker.path)
        attacker.clients.append(client)
        with contextlib.suppress(OSError):
            client.send_raw(b"{", fds)


class StoreEntries(AttackTest):
    nofile = 4000
    pid1_options = {"maximum": 40}

    def test_a_full_store_of_systemds_leaves_room_for_claims_and_root(self):
        for i in range(3):
            self.attacker(ATTACKER + i).run(take_sessions, 40)
        self.others_are_served()
        with Client(self.daemon) as root:
            root.attach("roots")
            root.call("Release")


class Shortage(AttackTest):
    nofile = 4000

    def test_no_descriptor_for_a_connection_is_a_wait_and_a_line(self):
        for odd in (0, 1):  # what fails, accept() or what asks for the peer's pidfd, depends on it
            limit_daemon(self.daemon, f"--nofile={self.daemon.fds() + 20 + odd}:")
            evil = self.attacker()
            evil.begin(connect_and_stay, 100)
            eventually(lambda: False, 1)
            evil.kill()
            self.others_are_served(3, 1)
        self.assertLess(self.daemon.log().count("warning"), 100)


class Log(AttackTest):
    """The log's reader stands still."""

    def start_daemon(self):
        self.ends = os.pipe()
        self.addCleanup(self.close_pipe)
        fcntl.fcntl(self.ends[1], 1031, 4096)  # F_SETPIPE_SZ
        return Daemon(*self.options, uid=SERVICE, stderr=self.ends[1])

    def close_pipe(self):
        for end in self.ends:
            os.close(end)

    def test_a_log_that_nobody_reads_keeps_nobody_waiting(self):
        evil = self.attacker()
        evil.begin(loads.bad_message_storm)
        self.others_are_served(30, 5)
        evil.kill()
        for i in range(100):
            one = self.attacker(session=f"s{i}")
            one.kill()
        self.others_are_served()

    def test_the_daemons_end_does_not_wait_for_who_reads_its_log(self):
        evil = self.attacker()
        evil.begin(loads.attach_release_storm)
        self.others_are_served(30, 2)
        evil.kill()
        self.kill_attackers()
        self.end_daemon()


class Storms(AttackTest):
    nofile = 2000
    pid1_options = {}

    def test_a_crowd_that_does_everything_at_once_takes_nothing_from_others(self):
        work = [
            (loads.attach_release_storm, "a"), (loads.bad_message_storm,), (loads.connect_storm,),
            (loads.pipeline_storm, SESSION + "Status"), (loads.attach_release_storm, "b"),
        ]
        for i, (function, *arguments) in enumerate(work):
            self.attacker(ATTACKER + i).begin(function, *arguments)
        self.others_are_served(10, 2)
        self.victim.call("Commit")
