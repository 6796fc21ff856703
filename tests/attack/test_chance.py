# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several processes of one user do anything at any time, to the same sessions, and die at any time."""

import contextlib
import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from attacktest import AttackTest
from client import SESSION, Client, Closed, VarlinkError
from fds import close, close_all, describe, eventfd, eventfds, make_table, memfd, state_memfd

NAMES = ("a", "b", "c")


def any_object(dice):
    kind = dice.choice(("eventfd", "eventfd", "memory", "state", "table"))
    number = dice.randrange(1, 9)
    item = describe(kind, f"{kind}{number}", number + 10 * len(kind))
    if kind == "eventfd":
        n = dice.randrange(1, 40)
        return {**item, "first": dice.randrange(3), "count": n}, eventfds(n)
    return item, [{"memory": memfd, "state": state_memfd, "table": lambda: make_table([{}])}[kind]()]


def any_call(dice):
    """(method, parameters, descriptors)"""
    method = dice.choice((
        "Attach", "Attach", "Store", "Store", "Store", "Fetch", "Remove", "Commit", "Release", "List",
        "Show", "Mappings", "Status",
    ))
    name, number = dice.choice(NAMES), dice.randrange(1, 9)
    if method == "Store":
        item, fds = any_object(dice)
        return method, {"objects": [item], "continues": dice.random() < 0.3}, fds
    kind = dice.choice(("eventfd", "memory", "state", "table"))
    return method, {
        "Attach": {"name": name}, "Fetch": {"cursor": dice.choice((0, 0, 3, 300))},
        "Remove": {"kind": kind, "name": f"{kind}{number}"}, "Show": {"name": name},
        "Release": dice.choice(({}, {"name": name}, {"name": name, "whenDead": True})),
        "Mappings": {"name": name, "space": f"table{number}"},
    }.get(method, {}), []


def anything(attacker, _fds, seed, seconds):
    """Calls by chance, some of which are not waited for, over connections that come and go."""
    dice, until = random.Random(seed), time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError, Closed), Client(attacker.path) as client:
            for _ in range(dice.randrange(1, 30)):
                method, parameters, fds = any_call(dice)
                client.send(SESSION + method, parameters, fds, oneway=dice.random() < 0.1)
                close_all()
                if dice.random() < 0.1:
                    break
                client.socket.settimeout(0.2)
                with contextlib.suppress(VarlinkError, TimeoutError):
                    for fd in client.receive()[1]:
                        close(fd)


def wait_for_a_session(attacker, _fds, n):
    """Calls that wait, some of whose callers give up."""
    for i in range(n):
        client = Client(attacker.path)
        client.send(SESSION + ("Attach", "Release", "Show")[i % 3], {"name": "a"})
        if i % 2:
            attacker.clients.append(client)
        else:
            client.close()


def stage_batches(attacker, _fds, n):
    """Batches that are never finished, in a session each."""
    for i in range(n):
        client = Client(attacker.path)
        attacker.clients.append(client)
        try:
            client.attach(f"staged{i}")
            for k in range(5):
                objects = [describe("eventfd", f"e{k}", k + 1, count=20)]
                client.store(objects, [eventfd()] * 20, continues=True)
        except VarlinkError as error:
            if error.short != "QuotaExceeded":
                raise


class Chance(AttackTest):
    nofile = 4000

    def run_all(self, rounds, seconds):
        seed = int(os.environ.get("SEED", time.time_ns() % 1000000))
        print(f"    SEED={seed}")
        for i in range(rounds):
            processes = [self.attacker() for _ in range(5)]
            for number, process in enumerate(processes):
                process.begin(anything, seed * 100 + i * 10 + number, 60)
            self.others_are_served(5, 1)
            time.sleep(seconds)
            for process in processes:
                process.kill()

    def test_processes_that_do_anything_at_any_time_change_nothing_of_others(self):
        self.run_all(4, 0.7)

    def test_calls_that_wait_and_are_given_up_keep_nobody_waiting(self):
        for _ in range(3):
            holder = self.attacker(session="a")
            with contextlib.suppress(VarlinkError):  # it has those of the last round still
                holder.store([describe("eventfd", "e", 1, count=200)], eventfds(200))
            waiting = self.attacker()
            waiting.begin(wait_for_a_session, 150)
            holder.kill()
            self.others_are_served(5, 1)
            waiting.kill()

    def test_batches_that_are_never_finished_take_nothing_from_others(self):
        self.attacker().run(stage_batches, 64)
        self.others_are_served(5, 2)


class StoredChance(Chance):
    """The same with a journal in systemd's store, over a restart."""

    pid1_options = {}

    def test_a_restart_after_anything_keeps_what_others_have(self):
        self.run_all(1, 0.7)
        self.restart()
        self.others_are_served(3, 1)
