# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an attack on a running daemon is made of. Two users are there before it: one holds a session,
another has one that waits to be claimed. Each test attacks as a third; what has to be so afterwards
is in one place, leave_as_it_was(), and runs after each test.

How long root's Status and that claim take is measured before, while the attack is under way and
after it, and printed as a ratio. It decides nothing: that something hangs is told by the runner."""

import collections
import contextlib
import os
import re
import statistics
import subprocess
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "journal"))
from client import Client, VarlinkError
from daemon import DAEMON, Daemon
from daemontest import DaemonTest
from fds import close, close_all, describe, eventfds, make_table, memfd, state_memfd
from holder import Holder
from patience import eventually, is_asleep
from pid1 import Pid1

VICTIM, BYSTANDER, ATTACKER = 2001, 2002, 3001
# Whom the daemon runs as: the kernel counts for a user what all its processes have in flight, and
# its threads, so that two tests at once need two.
SERVICE = 20000 + os.getpid() % 20000
IDLE_THREADS = 8  # that the pool keeps for a while


class Attacker(Holder):
    """A process of another user that runs any function of a test's module: run(f, ...) has it call
    f(attacker, descriptors, ...), which returns what pickle can carry."""

    def do_run(self, fds, function, *arguments):
        return (function(self, fds, *arguments),), []

    def run(self, function, *arguments, fds=()):
        return self.do("run", function, *arguments, fds=fds)[0][0]

    def begin(self, function, *arguments, fds=()):
        """The same without waiting for its end."""
        self.start("run", function, *arguments, fds=fds)


def claim(attacker, _fds, name):
    """How long a successor waits until it has everything. It keeps it open, for the test to see."""
    start = time.monotonic()
    attacker.clients.append(Client(attacker.path))
    answer = attacker.clients[-1].attach(name)
    held = attacker.clients[-1].fetch_all()
    return time.monotonic() - start, answer["start"], [(o["name"], len(fds)) for o, fds in held]


def come_back(attacker, _fds, name):
    """In the place of the connection that was lost: how the session starts."""
    attacker.clients[0].close()
    attacker.clients[0] = Client(attacker.path)
    return attacker.clients[0].attach(name)["start"]


def limit_daemon(daemon, limit):
    """Limits what a running daemon may have, as its user, which needs no right for it."""
    command = ["prlimit", f"--pid={daemon.pid}", limit]
    subprocess.run(command, user=SERVICE, group=SERVICE, extra_groups=[], check=True)


class Waits:
    """How long others waited: samples of Status, and of claims."""

    def __init__(self):
        self.status, self.claims = [], []

    def beside(self, quiet):
        """As a ratio to a quiet run."""

        def compare(ours, theirs):
            base = statistics.median(theirs)
            return f"{statistics.median(ours) / base:.1f}x (worst {max(ours) / base:.1f}x)"

        return f"Status {compare(self.status, quiet.status)}, claim {compare(self.claims, quiet.claims)}"


@unittest.skipUnless(os.getuid() == 0, "only root can be several users")
class AttackTest(DaemonTest):
    options = ("--mode", "0666")
    pid1_options = None  # with these there is an fd store, and a manager
    env = None

    def setUp(self):
        self.addCleanup(close_all)
        self.users, self.clients, self.restarted = [], [], False
        self.daemon = self.start_daemon()
        self.addCleanup(self.end_daemon)
        self.make_sessions()
        self.pid, self.n_claims = self.daemon.pid, 0
        self.quiet, self.loudest = self.measure(20, 3), None
        self.shown = self.show_victim()
        self.assertTrue(eventually(lambda: is_asleep(self.daemon.pid)))
        self.idle_fds, self.idle_threads = self.daemon.fds(), self.threads()

    def start_daemon(self):
        if self.pid1_options is None:
            return Daemon(*self.options, nofile=self.nofile, uid=SERVICE, env=self.env)
        who = [f"--reuid={SERVICE}", f"--regid={SERVICE}", "--clear-groups"]
        command = ["/usr/bin/setpriv", *who, "--bounding-set=-all"]
        options = {"nofile": self.nofile, "env": self.env, **self.pid1_options}
        return Pid1(command=[*command, DAEMON], **options)

    def make_sessions(self):
        """The victim's session with something of all that needs no device, and the bystander's."""
        self.victim = self.user(VICTIM)
        self.victim.attach("vm")
        self.held = [
            *eventfds(40), memfd(1 << 20), state_memfd(),
            make_table([{"iova": i << 12, "object": 2} for i in range(3)], slots=64),
        ]
        objects = [
            describe("eventfd", "vectors", 1, count=40), describe("memory", "ram", 2, 40),
            describe("state", "cpu", 3, 41), describe("table", "dma", 4, 42),
        ]
        self.victim.store(objects, self.held)
        self.victim.call("Commit")
        maker = self.user(BYSTANDER)
        maker.attach("ready")
        maker.store(
            [describe("memory", "ram", 1), describe("eventfd", "vectors", 2, 1, count=64)],
            [memfd(), *eventfds(64)],
        )
        maker.call("Commit")
        maker.kill()

    def user(self, uid):
        process = Attacker(self.daemon, uid)
        self.addCleanup(process.kill)
        self.users.append(process)
        return process

    def client(self, **options):
        self.clients.append(super().client(**options))
        return self.clients[-1]

    def attacker(self, uid=ATTACKER, session=None):
        """A process of the attacker's, with a session of this name if it is to have one."""
        attacker = self.user(uid)
        if session:
            attacker.attach(session)
        return attacker

    # What others see

    def status_time(self):
        start = time.monotonic()
        with Client(self.daemon) as client:
            client.call("Status")
        return time.monotonic() - start

    def claim_time(self):
        """The bystander's successor comes, has everything, and dies in its turn."""
        successor = self.user(BYSTANDER)
        seconds, start, held = successor.run(claim, "ready")
        successor.kill()
        self.assertEqual((start, held), ("claimed", [("ram", 1), ("vectors", 64)]))
        return seconds

    def measure(self, n_status, n_claims):
        waits = Waits()
        waits.status = [self.status_time() for _ in range(n_status)]
        waits.claims = [self.claim_time() for _ in range(n_claims)]
        return waits

    def others_are_served(self, n_status=10, n_claims=2):
        """While the attack is under way: they get their answers, and it is noted how soon."""
        waits = self.measure(n_status, n_claims)
        if not self.loudest or max(waits.status) > max(self.loudest.status):
            self.loudest = waits

    # The end of each test

    def threads(self):
        return len(os.listdir(f"/proc/{self.daemon.pid}/task"))

    def show_victim(self):
        answer = self.victim.call("Show", {"name": "vm"})[0]
        del answer["session"]["ageUsec"]
        return answer

    def kill_attackers(self):
        """They and what they have had are gone, as far as an operator can see to that."""
        for process in self.users:
            if process is not self.victim:
                process.kill()
        with Client(self.daemon) as client:
            for uid, name in client.sessions():
                if (uid, name) not in ((VICTIM, "vm"), (BYSTANDER, "ready")):
                    with contextlib.suppress(VarlinkError):
                        client.call("Release", {"name": name, "uid": uid})

    def leave_as_it_was(self):
        """The same process answers others, holds what it held, and has nothing left of the attack."""
        while self.clients:
            self.clients.pop().close()
        self.assertEqual(self.daemon.pid, self.pid)
        self.assertTrue(self.daemon.is_alive(), self.daemon.log()[-4000:])
        after = self.measure(10, 2)
        loud = self.loudest or after
        print(f"    others wait: {loud.beside(self.quiet)}; {self.id().rpartition('.')[2]}")
        self.assertEqual(self.show_victim(), self.shown)
        back = self.victim.call("Fetch", {"cursor": 0})[1]
        self.assertSameFiles(self.held, back)
        for fd in back:
            close(fd)
        self.kill_attackers()
        self.assert_nothing_left()

    def assert_nothing_left(self):
        if not eventually(lambda: self.threads() <= self.idle_threads + IDLE_THREADS):
            self.fail(f"{self.threads()} threads, not {self.idle_threads}")
        if self.restarted:  # compared with one that has only just begun
            eventually(lambda: is_asleep(self.daemon.pid))
            left = self.daemon.fds()
            self.restart()
            eventually(lambda: is_asleep(self.daemon.pid))
            self.idle_fds = self.daemon.fds()
            self.assertLessEqual(left, self.idle_fds)
        if not eventually(lambda: self.daemon.fds() == self.idle_fds):
            links = collections.Counter(re.sub(r"\d+", "N", link) for link in self.daemon.links())
            self.fail(f"{self.daemon.fds()} descriptors, not {self.idle_fds}: {links}")

    # Of those with a store

    def restart(self):
        """The daemon dies, and the next is another process; the victim comes back to it."""
        self.daemon.restart()
        self.pid, self.restarted = self.daemon.pid, True
        self.assertEqual(self.victim.run(come_back, "vm"), "resumed")
        with Client(self.daemon) as client:
            self.assertLessEqual({(VICTIM, "vm"), (BYSTANDER, "ready")}, set(client.sessions()))

    def tearDown(self):
        if self.daemon:
            self.leave_as_it_was()
