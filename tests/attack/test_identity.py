# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is who: processes and users of other namespaces, numbers that mean nothing, and what one user
is told of another. Nobody gets what is another's."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from attacktest import ATTACKER, VICTIM, Attacker, AttackTest
from client import Client, VarlinkError
from daemon import DAEMON
from daemontest import DaemonTest
from fds import close, close_all, describe, eventfd, memfd
from patience import eventually
from process import die_with_parent
from stuckfile import become

CLONE_NEWPID = 0x20000000
libc = ctypes.CDLL(None, use_errno=True)


class Elsewhere(Attacker):
    """A process of that user as root of a user namespace of its own, which maps that user alone."""

    def _run(self, channel, uid):
        os.setgroups([])
        become(uid)
        super()._run(channel, None)


class Below(Attacker):
    """A process of a PID namespace below the daemon's: it is process 1 there."""

    def _run(self, channel, uid):
        libc.unshare(CLONE_NEWPID)
        child = os.fork()
        if child:
            os.close(channel)
            os.waitpid(child, 0)
            os._exit(0)
        die_with_parent()
        super()._run(channel, uid)


class Namespaces(AttackTest):
    def other(self, kind, uid):
        process = kind(self.daemon, uid)
        self.addCleanup(process.kill)
        self.users.append(process)
        return process

    def test_root_of_a_user_namespace_is_who_it_is_outside(self):
        evil = self.other(Elsewhere, ATTACKER)
        self.assertEqual(evil.call("List")[0]["sessions"], [])
        for uid in (0, VICTIM):
            with self.refused("PermissionDenied"):
                evil.call("Attach", {"name": "vm", "uid": uid})
        self.assertEqual(evil.attach("vm")["start"], "new")
        self.assertEqual(
            [s["uid"] for s in evil.call("List")[0]["sessions"]], [ATTACKER]
        )

    def test_two_processes_1_of_two_namespaces_are_two(self):
        one, two = self.other(Below, ATTACKER), self.other(Below, ATTACKER)
        self.assertEqual(one.attach("ns")["start"], "new")
        one.store([describe("eventfd", "e", 1)], [eventfd()])
        with self.refused("Busy"):
            two.attach("ns")
        one.kill()
        self.assertTrue(eventually(lambda: self.claimed(two)))

    def claimed(self, process):
        try:
            return process.call("Attach", {"name": "ns"}, connection=0)[0]["start"] == "claimed"
        except VarlinkError:
            return False

    def test_a_connection_given_to_another_process_is_its_makers(self):
        evil = self.attacker(session="given")
        evil.store([describe("eventfd", "e", 1)], [eventfd()])  # what holds nothing dies with its holder
        self.addCleanup(os.kill, evil.fork(), signal.SIGKILL)
        evil.kill()
        other = self.attacker()
        self.assertEqual(other.attach("given")["start"], "claimed")

    def test_a_process_that_execs_and_forks_is_one_holder(self):
        evil = self.attacker(session="forked")
        for _ in range(5):
            self.addCleanup(os.kill, evil.fork(), signal.SIGKILL)
        other = self.attacker()
        with self.refused("Busy"):
            other.attach("forked")

    def test_no_number_in_a_message_makes_one_user_another(self):
        evil = self.attacker(session="numbers")
        for uid in (0, VICTIM, 2**32, 2**32 + VICTIM, -1, 2**32 - 1, 2**63 - 1, -(2**63), VICTIM + 2**64,
                    float(VICTIM), str(VICTIM), [VICTIM], {"uid": VICTIM}, True, "0", 0.0, 1e300):
            for method, parameters in (
                ("Attach", {"name": "vm"}), ("Show", {"name": "vm"}), ("Release", {"name": "vm"}),
                ("Mappings", {"name": "vm", "space": "dma"}),
            ):
                with self.subTest(uid=uid, method=method), Client(self.daemon) as _:
                    connection = evil.connect()
                    with self.assertRaises((VarlinkError, ConnectionError)):
                        evil.call(method, {**parameters, "uid": uid}, connection=connection)
                    evil.do("close", connection)

    def test_a_refusal_tells_nothing_of_what_is_anothers(self):
        evil = self.attacker(session="spy")
        said = []
        for method, parameters in (
            ("Show", {"name": "vm"}), ("Release", {"name": "vm"}), ("Show", {"name": "ready"}),
            ("Mappings", {"name": "vm", "space": "dma"}), ("Show", {"name": "vm", "uid": VICTIM}),
            ("Release", {"name": "vm", "uid": VICTIM}), ("Attach", {"name": "x", "uid": VICTIM}),
        ):
            with self.assertRaises(VarlinkError) as caught:
                evil.call(method, parameters, connection=0)
            said.append(str(caught.exception.parameters))
        for text in said:
            self.assertNotIn("vectors", text)
            self.assertNotIn(str(self.victim.pid), text)
        # What there is not, and what is another's, is refused with the same words.
        words = []
        for name in ("vm", "zz"):
            with self.assertRaises(VarlinkError) as caught:
                evil.call("Show", {"name": name}, connection=0)
            words.append(str(caught.exception.parameters).replace(name, "NAME"))
        self.assertEqual(*words)

    def test_sessions_of_one_name_are_as_many_as_users(self):
        evil = self.attacker()
        fd = memfd(4096, content=b"mine")
        self.assertEqual(evil.attach("vm")["start"], "new")
        evil.store([describe("memory", "ram", 1)], [fd])
        evil.kill()
        again = self.attacker()
        self.assertEqual(again.attach("vm"), {"start": "claimed", "objects": 1})
        back = again.call("Fetch", {"cursor": 0})[1]
        self.assertSameFiles([fd], back)
        for one in back:
            close(one)


class Contained(DaemonTest):
    """A daemon in a namespace of its own, whose peers are not in it."""

    def setUp(self):
        self.addCleanup(close_all)
        self.directory = tempfile.mkdtemp(prefix="vfio-cprd-")
        self.addCleanup(shutil.rmtree, self.directory)
        os.chmod(self.directory, 0o755)
        self.path = os.path.join(self.directory, "socket")

    def start(self, *unshare):
        self.log = open(os.path.join(self.directory, "log"), "w+", encoding="utf-8")
        self.addCleanup(self.log.close)
        command = [DAEMON, "--socket", self.path, "--mode", "0666"]
        self.process = subprocess.Popen(
            ["unshare", *unshare, "--kill-child", "--fork", *command],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},  # it cannot look at itself there
        )
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        return eventually(lambda: self.process.poll() is not None or self.can_connect())

    def can_connect(self):
        try:
            with Client(self.path):
                return True
        except OSError:
            return False

    def attach(self, uid, name):
        process = Attacker(self.path, uid)
        self.addCleanup(process.kill)
        try:
            return process, process.attach(name)["start"]
        except VarlinkError as error:
            return process, error.short
        except ConnectionError:
            return process, "closed"

    def test_of_processes_without_a_number_no_two_have_one_session(self):
        self.start("--pid", "--mount-proc")
        first, start = self.attach(ATTACKER, "vm")
        second, again = self.attach(ATTACKER, "vm")
        print(f"    in a PID namespace of its own: {start}, then {again}")
        self.assertNotEqual(again, "claimed")
        self.assertNotEqual((start, again), ("new", "new"))
        del first, second

    def test_of_users_that_are_not_mapped_none_gets_what_is_anothers(self):
        self.start("--user", "--map-root-user")
        if self.process.poll() is not None:
            print("    it does not start in a user namespace")
            self.assertIn("namespace", self.text())
            return
        first, start = self.attach(ATTACKER, "vm")
        if start == "new":
            first.store([describe("eventfd", "e", 1)], [eventfd()])
        first.kill()
        _, again = self.attach(ATTACKER + 1, "vm")
        print(f"    in a user namespace of its own: {start}, then {again}")
        self.assertNotIn(again, ("claimed", "resumed"))

    def text(self):
        self.log.seek(0)
        return self.log.read()
