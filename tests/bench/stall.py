# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long others wait while one user does its worst: root's Status over a new connection and over one
that it has, and a claim of another user's, up to its last descriptor, beside the same with nobody else
there. The daemon runs as the service does, as a user without capabilities. The clients are in Python, which adds
the same to both. Prints lines "= ROW N WHO VALUE", as host.py does. Words are names of scenes: those
alone."""

import contextlib
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
for folder in ("lib", "journal", "attack"):
    sys.path.insert(0, os.path.join(HERE, "..", folder))
from attacktest import ATTACKER, BYSTANDER, SERVICE, Attacker, claim  # noqa: E402
from client import SESSION, Client, VarlinkError, encode  # noqa: E402
from daemon import DAEMON, Daemon  # noqa: E402
from fds import close_all, describe, eventfds, memfd  # noqa: E402
import loads  # noqa: E402
import pid1  # noqa: E402
from test_crowd import Lingering  # noqa: E402

N_STATUS, N_CLAIMS = 200, 20
NOFILE = 20000
STORE = encode(SESSION + "Store", {"objects": [describe("eventfd", "e", 1)]})


class Scene:
    """A daemon, a session that is claimed again and again, and attackers."""

    def __init__(self, store=False, log=None):
        self.processes = []
        if store:
            who = [f"--reuid={SERVICE}", f"--regid={SERVICE}", "--clear-groups", "--bounding-set=-all"]
            self.daemon = pid1.Pid1(command=["/usr/bin/setpriv", *who, DAEMON], nofile=NOFILE)
        else:
            self.daemon = Daemon("--mode", "0666", nofile=NOFILE, uid=SERVICE, stderr=log)
        maker = self.user(BYSTANDER)
        maker.attach("ready")
        objects = [describe("memory", "ram", 1), describe("eventfd", "vectors", 2, 1, count=64)]
        maker.store(objects, [memfd(), *eventfds(64)])
        maker.kill()

    def user(self, uid):
        self.processes.append(Attacker(self.daemon, uid))
        return self.processes[-1]

    def attack(self, function, *arguments, uid=ATTACKER):
        """A process of the attacker's that goes on with it."""
        self.user(uid).begin(function, *arguments)

    def measure(self):
        """[Status], [Status over a connection that is there], [claims], in microseconds."""
        status, held, claims = [], [], []
        with Client(self.daemon) as old:
            for i in range(N_STATUS):
                start = time.monotonic()
                with Client(self.daemon) as client:
                    client.call("Status")
                between = time.monotonic()
                old.call("Status")
                held.append((time.monotonic() - between) * 1e6)
                status.append((between - start) * 1e6)
                if i % (N_STATUS // N_CLAIMS) == 0:
                    claims.append(self.claim())
        return status, held, claims

    def claim(self):
        successor = self.user(BYSTANDER)
        seconds, start, _ = successor.run(claim, "ready")
        successor.kill()
        self.processes.remove(successor)
        assert start == "claimed"
        return seconds * 1e6

    def end(self):
        for process in self.processes:
            process.kill()
        # What it has been sent may take it long to do; it is not what is measured.
        self.daemon.close() if isinstance(self.daemon, pid1.Pid1) else self.daemon.kill()
        close_all()


def list_storm(attacker, _fds):
    """Full tables, and calls of List that are read."""
    loads.store_full_tables(attacker, (), 8)
    with Client(attacker.path) as client:
        while True:
            client.call("List")


def pipelined_lists(attacker, _fds):
    loads.store_full_tables(attacker, (), 8)
    loads.pipeline_storm(attacker, (), SESSION + "List")


def unread_shows(attacker, _fds):
    loads.store_many_objects(attacker, (), "long", 9000, "long_name")
    kept = len(attacker.clients)
    while True:
        loads.ask_and_not_read(attacker, (), 10, "Show", {"name": "long"}, 3)
        time.sleep(0.1)
        for client in attacker.clients[kept:]:
            client.close()
        del attacker.clients[kept:]


def colliding_names(attacker, _fds):
    while True:
        loads.store_many_objects(attacker, (), "collide", 9000, "colliding_name")
        attacker.clients.pop().call("Release")


def removes(attacker, _fds):
    while True:
        with contextlib.suppress(VarlinkError), open(os.devnull, "wb") as told:
            loads.remove_storm(attacker, [told.fileno()], 1, 9000)
        attacker.clients.pop().call("Release")


def batches(attacker, _fds):
    """Of 8,000 objects, each the second into its session, so that it is neither small nor the first."""
    one = eventfds(1)[0]
    while True:
        client = loads.new_session(attacker, "batch")
        client.store([describe("eventfd", "first", 8001)], [one])
        for at in range(0, 8000, 250):
            objects = [describe("eventfd", f"e{i}", i + 1, i - at) for i in range(at, at + 250)]
            client.store(objects, [one] * 250, continues=at < 7750)
        client.call("Release")
        attacker.clients.pop().close()


def hanging_closes(scene, lingering):
    """256 of them, and then connections that are given up."""
    evil = scene.user(ATTACKER)
    connections = [evil.connect() for _ in range(9)]
    with scene.daemon.stopped():
        for i in range(260):
            one = lingering.make()
            evil.do("send_raw", connections[i // 30], STORE, fds=[one.fileno()])
            one.close()
    scene.attack(loads.connect_storm)


def report(name, quiet, loud):
    for what, *both in zip(("status", "held", "claim"), quiet, loud):
        for who, samples in zip(("floor", "ours"), both):
            for value in samples:
                print(f"= stall-{what}-{name} 1 {who} {value:.3f}", flush=True)


@contextlib.contextmanager
def scene(name, **options):
    """Measures a quiet run, has the attack begin, and measures again."""
    one = Scene(**options)
    try:
        quiet = one.measure()
        yield one
        time.sleep(1)  # it is under way
        report(name, quiet, one.measure())
    finally:
        one.end()


def full_log():
    ends = os.pipe()
    with scene("log", log=ends[1]) as one:
        one.attack(loads.bad_message_storm)


def closes():
    lingering = Lingering()
    with scene("closes") as one:
        hanging_closes(one, lingering)
    lingering.let_go()


def alone(name, function, *arguments, **options):
    """A scene of one process of one user's."""

    def run():
        with scene(name, **options) as one:
            one.attack(function, *arguments)

    return run


def connections():
    with scene("connections") as one:
        for i in range(3):
            one.attack(loads.connect_storm, uid=ATTACKER + i)


def sessions():
    with scene("sessions", store=True) as one:
        for i in range(4):
            one.attack(loads.attach_release_storm, f"storm{i}-")


SCENES = {
    "lists": alone("lists", pipelined_lists),
    "tables": alone("tables", list_storm),
    "shows": alone("shows", unread_shows),
    "names": alone("names", colliding_names),
    "fetches": alone("fetches", loads.fetch_and_not_read, 20, 200),
    "removes": alone("removes", removes, store=True),
    "batches": alone("batches", batches, store=True),
    "sessions": sessions,
    "log": full_log,
    "closes": closes,
    "connections": connections,
}


def main(names):
    if os.getuid() != 0:
        print("no stalls are measured: only root can be several users")
        return
    for name in names or SCENES:
        SCENES[name]()


main(sys.argv[1:])
