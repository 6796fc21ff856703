# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one small message, or many, can buy of the daemon's time and memory. Others are served
meanwhile; how soon, is printed."""

import os
import select
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from attacktest import BYSTANDER, VICTIM, AttackTest
from client import SESSION, Client, Closed, VarlinkError
import loads
from patience import eventually
from test_files import resident

STORE = b'{"method":"io.vfiocpr.Session.Store","parameters":{"objects":['
OBJECT = b'{"id":1,"kind":"eventfd","name":"x","firstFileDescriptor":0}'
METHODS = {
    "Attach": {"name": "x"}, "Store": {"objects": []}, "Fetch": {"cursor": 0},
    "Remove": {"kind": "memory", "name": "x"}, "Commit": {}, "Release": {}, "List": {},
    "Show": {"name": "full0"}, "Mappings": {"name": "full0", "space": "t1"}, "Monitor": {}, "Status": {},
}


class Load(AttackTest):
    nofile = 20000

    def test_a_page_of_calls_of_any_method_keeps_nobody_waiting(self):
        evil = self.attacker()
        evil.run(loads.store_full_tables, 1, 4)
        for method, parameters in METHODS.items():
            evil.run(loads.pipeline, SESSION + method, parameters)
            self.others_are_served(3, 1)

    def test_lists_of_full_tables_keep_nobody_waiting(self):
        evil = self.attacker()
        evil.run(loads.store_full_tables, 8)
        evil.run(loads.pipeline, SESSION + "List")
        self.others_are_served(5, 2)
        evil.run(loads.ask_and_not_read, 20, "List", {}, 10)
        self.others_are_served(5, 2)

    def test_shows_of_full_tables_keep_nobody_waiting(self):
        evil = self.attacker()
        evil.run(loads.store_full_tables, 4)
        evil.run(loads.pipeline, SESSION + "Show", {"name": "full0"}, 16384, 4)
        self.others_are_served(5, 2)
        evil.run(loads.pipeline, SESSION + "Mappings", {"name": "full1", "space": "t3"}, 65536, 4)
        self.others_are_served(5, 2)

    def test_tables_that_change_without_an_end_keep_nobody_waiting(self):
        evil = self.attacker()
        evil.begin(loads.changing_tables_storm, 4)
        for _ in range(3):
            self.others_are_served(10, 2)

    def test_calls_without_an_end_keep_nobody_waiting(self):
        for method in ("List", "Status", "Commit"):
            evil = self.attacker()
            evil.begin(loads.pipeline_storm, SESSION + method)
            self.others_are_served(10, 2)
            evil.kill()

    def test_a_show_of_long_names_that_nobody_reads_costs_others_nothing(self):
        evil, before = self.attacker(), resident(self.daemon.pid)
        held = evil.run(loads.store_many_objects, "long", 15000, "long_name")
        self.assertGreater(held, 5000)
        stored = resident(self.daemon.pid)
        evil.run(loads.ask_and_not_read, 10, "Show", {"name": "long"}, 3)
        self.others_are_served(5, 2)
        grown = resident(self.daemon.pid) - stored
        print(f"    {(stored - before) >> 20} MiB for {held} names, {grown >> 20} for 10 answers")
        self.assertLess(grown, 64 << 20)

    def test_names_that_collide_keep_nobody_waiting(self):
        evil = self.attacker()
        evil.begin(loads.store_many_objects, "collide", 14000, "colliding_name")
        while not self.finished(evil):
            self.others_are_served(5, 1)
        self.assertGreater(evil.finish()[0][0], 5000)

    def finished(self, process):
        return bool(select.select([process.channel], [], [], 0)[0])

    def test_monitors_that_nobody_reads_keep_nobody_waiting(self):
        evil, before = self.attacker(), resident(self.daemon.pid)
        evil.run(monitor_and_not_read, 200)
        evil.run(change_often, 2000)
        self.others_are_served(5, 2)
        self.assertLess(resident(self.daemon.pid) - before, 128 << 20)

    def test_messages_that_never_end_keep_nobody_waiting(self):
        evil, before = self.attacker(), resident(self.daemon.pid)
        evil.run(send_half_messages, 250)
        self.others_are_served(5, 2)
        self.assertLess(resident(self.daemon.pid) - before, 128 << 20)

    def test_json_that_is_hard_to_parse_keeps_nobody_waiting(self):
        evil = self.attacker()
        evil.run(send_each, [
            b"[" * 1000000 + b"\0", b'{"a":' * 200000 + b"\0", b'{"method":"' + b"x" * 1000000 + b'"}\0',
            b'{"method":"a.b","parameters":{' + b",".join(b'"%d":1' % i for i in range(70000)) + b"}}\0",
            b'{"method":"a.b","parameters":{"a":' + b"9" * 900000 + b"}}\0",
            b'{"method":"a.b","parameters":{"a":1e' + b"9" * 900000 + b"}}\0",
            b'{"method":"a.b","parameters":{"a":' + b"[" * 2000 + b"]" * 2000 + b"}}\0",
            b'{"method":"a.b","parameters":{"a":"' + b"\\u0041" * 150000 + b'"}}\0',
            b'{"method":"a.b","method":"a.b","method":"c.d"}\0', b"\0" * 100000, b" " * (1 << 20) + b"\0",
            STORE + b"{}," * 300000 + b"{}]}}\0", STORE + b",".join([OBJECT] * 15000) + b"]}}\0",
        ])
        self.others_are_served(5, 2)

    def test_cursors_of_any_size_are_answered(self):
        evil = self.attacker(session="cursors")
        evil.run(loads.store_full_tables, 1, 2)
        for cursor in (2**31, 2**32, 2**63 - 1, -1, -(2**63), 262143, 262144, 65536):
            for method, parameters in (
                ("Fetch", {}), ("Mappings", {"name": "full0", "space": "t1"}), ("List", {}),
                ("Show", {"name": "full0"}), ("Show", {"name": "cursors"}),
            ):
                try:
                    answer = evil.call(method, {**parameters, "cursor": cursor})[0]
                except VarlinkError:
                    continue
                self.assertIsInstance(answer, dict)
        self.others_are_served(3, 1)


def monitor_and_not_read(attacker, _fds, n):
    for _ in range(n):
        client = Client(attacker.path)
        attacker.clients.append(client)
        client.send(SESSION + "Monitor", {}, more=True)


def change_often(attacker, _fds, n):
    """Each change is an event to each monitor."""
    with Client(attacker.path) as client:
        client.attach("often")
        for _ in range(n):
            client.call("Commit")


def send_half_messages(attacker, _fds, n):
    """Half a message on each connection, and then a byte at a time."""
    clients = [Client(attacker.path) for _ in range(n)]
    attacker.clients += clients
    for part in (b'{"method":"', b"x" * 60000, *[b"y"] * 20):
        for client in clients:
            try:
                client.socket.sendall(part)
            except ConnectionError:
                pass


def send_each(attacker, _fds, messages):
    for message in messages:
        with Client(attacker.path) as client:
            try:
                client.send_raw(message)
                client.receive_message()
            except (Closed, ConnectionError):
                pass


class StoredLoad(AttackTest):
    """With a journal in systemd's store."""

    nofile = 20000
    pid1_options = {}

    def test_removes_from_sessions_of_thousands_keep_nobody_waiting(self):
        evil = self.attacker()
        ready, told = os.pipe()
        evil.begin(loads.remove_storm, 2, 4500, fds=[told])
        os.close(told)
        os.read(ready, 1)
        os.close(ready)
        self.others_are_served(10, 3)

    def test_attach_and_release_without_an_end_keep_nobody_waiting(self):
        storms = [self.attacker() for _ in range(4)]
        for i, evil in enumerate(storms):
            evil.begin(loads.attach_release_storm, f"storm{i}-")
        for _ in range(3):
            self.others_are_served(10, 2)
        before = self.daemon.told["barriers"]
        eventually(lambda: False, 1)
        print(f"    {self.daemon.told['barriers'] - before} barriers of systemd in a second")

    def test_names_of_sessions_that_come_and_go_leave_nothing(self):
        evil = self.attacker()
        evil.run(come_and_go, 80)
        self.others_are_served(3, 1)
        self.assertEqual(set(self.client().sessions()), {(VICTIM, "vm"), (BYSTANDER, "ready")})


def come_and_go(attacker, _fds, n):
    for i in range(n):
        with Client(attacker.path) as client:
            try:
                client.attach(f"a{i}")
                client.call("Release")
            except VarlinkError:
                pass
