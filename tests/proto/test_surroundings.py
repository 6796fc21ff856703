# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the daemon runs: namespaces, what of /proc is hidden, and the sandbox that it is in."""

import os
import signal
import subprocess
import tempfile
import unittest

from client import SERVICE, SESSION, Client, VarlinkError
from daemon import DAEMON
from daemontest import DaemonTest
from fds import close_all, describe, eventfd, memfd
from holder import Holder
from patience import eventually

ENV = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1"}


class Namespace(unittest.TestCase):
    """A daemon in namespaces of its own, as in a container: the tests are outside of them."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="vfio-cprd-")
        self.addCleanup(close_all)
        self.addCleanup(folder.cleanup)
        os.chmod(folder.name, 0o755)
        self.path = os.path.join(folder.name, "socket")
        self.log = os.path.join(folder.name, "log")

    def start(self, *command):
        """The daemon, started by that."""
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*command, DAEMON, "--socket", self.path, "--mode", "0666"], env=ENV, stderr=log
            )
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        self.assertTrue(eventually(self.listens, 60), self.logged())

    def logged(self):
        with open(self.log) as log:
            return log.read()

    def peer(self, uid=None):
        peer = Holder(self.path, uid)
        self.addCleanup(peer.kill)
        return peer

    def assertRefused(self, words, call, *arguments, **options):
        with self.assertRaises(VarlinkError) as caught:
            call(*arguments, **options)
        self.assertEqual(caught.exception.name, SESSION + "Refused")
        self.assertIn(words, caught.exception.parameters["message"])

    def listens(self):
        try:
            with Client(self.path) as client:
                return client.call(SERVICE + "GetInfo")[0]
        except (FileNotFoundError, ConnectionError):
            return None

    def test_a_process_that_the_daemon_cannot_see_gets_no_session(self):
        # It would have the number 0, like every other such process.
        self.start("unshare", "--pid", "--mount-proc", "--fork", "--kill-child")
        with Client(self.path) as client:
            client.send(SESSION + "Attach", {"name": "vm"})
            answer = client.receive_message()[0]
            self.assertEqual(answer["error"], SESSION + "Refused")
            self.assertIn("PID namespace", answer["parameters"]["message"])
            self.assertEqual(client.sessions(), {})
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", "rb") as children:
            os.kill(int(children.read()), signal.SIGTERM)
        self.assertEqual(self.process.wait(), 0)
        self.assertNotIn("process 0", self.logged())

    def test_users_whom_the_daemon_cannot_tell_apart_get_nothing(self):
        self.start("unshare", "--user", "--map-root-user")
        self.assertIn("user namespace of the host", self.logged())
        # Two users, and the one whose uid is what the kernel puts in the place of theirs.
        for uid in (1001, 1002, 65534):
            peer = self.peer(uid)
            for method, parameters in (
                ("Attach", {"name": "secret"}),
                ("Store", {"objects": []}),
                ("Fetch", {"cursor": 0}),
                ("Remove", {"kind": "eventfd", "name": "e"}),
                ("Commit", {}),
                ("Release", {"name": "secret"}),
                ("List", {}),
                ("Show", {"name": "secret"}),
                ("Mappings", {"name": "secret", "space": "dma", "cursor": 0}),
                ("Monitor", {}),
                ("Status", {}),
            ):
                with self.subTest(uid=uid, method=method):
                    self.assertRefused("user namespace", peer.call, method, parameters)
            self.assertEqual(peer.call(SERVICE + "GetInfo")[0]["product"], "vfio-cprd")
        root = self.peer()
        self.assertEqual(root.attach("vm"), {"start": "new", "objects": 0})
        self.process.terminate()
        self.assertEqual(self.process.wait(), 0, self.logged())

    def test_what_cannot_be_looked_at_is_told_at_the_start_and_refused_with_the_reason(self):
        hide = "for d in fd fdinfo; do mount -t tmpfs none /proc/$$/$d || exit; done; exec \"$@\""
        self.start("unshare", "--mount", "sh", "-c", hide, "sh")
        self.assertIn("/proc is not mounted", self.logged())
        peer = self.peer()
        peer.attach("vm")
        for kind, fd in (("container", eventfd()), ("memory", memfd(4096))):
            self.assertRefused("/proc is not mounted", peer.store, [describe(kind, "x", 1)], [fd])

    def test_drivers_that_are_hidden_are_told_at_the_start(self):
        hide = "mount -t proc -o subset=pid none /proc && exec \"$@\""
        self.start("unshare", "--mount", "sh", "-c", hide, "sh")
        self.assertIn("/proc/devices or /proc/misc is hidden", self.logged())


class Sandbox(DaemonTest):
    def test_every_thread_has_given_up_the_system_calls_that_it_does_not_need(self):
        vm = self.holder()
        vm.attach("vm")
        vm.store([describe("eventfd", "e", 1)], [eventfd()])
        vm.call("Remove", {"kind": "eventfd", "name": "e"})  # by a thread
        threads = os.listdir(f"/proc/{self.daemon.pid}/task")
        self.assertGreater(len(threads), 1)
        for thread in threads:
            with open(f"/proc/{self.daemon.pid}/task/{thread}/status") as file:
                status = dict(line.split(":\t", 1) for line in file.read().splitlines())
            self.assertEqual((status["Seccomp"], status["NoNewPrivs"]), ("2", "1"))
        self.assertNotIn("seccomp", self.daemon.log())
