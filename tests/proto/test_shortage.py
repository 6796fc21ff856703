# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the host does not give: threads, a reader of the log, standard descriptors, room in a file."""

import os
import subprocess
import unittest

from daemon import Daemon
from daemontest import DaemonTest
from fds import close, describe, memfd
from patience import eventually

ALONE = 12345  # a user who has no other process
NO_THREAD = "cannot start a thread for now"


@unittest.skipUnless(os.geteuid() == 0, "only root may start the daemon as another user, whom "
                     "RLIMIT_NPROC concerns")
class Threads(DaemonTest):
    def make_daemon(self):
        # The search for leaks would need a thread, too.
        return Daemon(uid=ALONE, env={"ASAN_OPTIONS": "detect_leaks=0"})

    def allow_processes(self, n):
        command = ["prlimit", f"--pid={self.daemon.pid}", f"--nproc={n}:"]
        subprocess.run(command, user=ALONE, group=ALONE, extra_groups=[], check=True)

    def holders(self, n):
        """Each with a session that holds memory, whose last close takes a while."""
        clients = [self.client() for _ in range(n)]
        for i, client in enumerate(clients):
            client.attach(f"vm{i}")
            for number, name in enumerate(("a", "b"), 1):
                fd = memfd(8 << 20)
                os.posix_fallocate(fd, 0, 8 << 20)
                client.store([describe("memory", name, number)], [fd])
                close(fd)
        return clients

    def call_at_once(self, clients, method, parameters=None):
        """More than there are threads that wait. All must be answered."""
        with self.daemon.stopped():
            for client in clients:
                client.send("io.vfiocpr.Session." + method, parameters)
        for client in clients:
            self.assertEqual(client.receive()[0], {})

    def work(self):
        clients = self.holders(20)
        self.call_at_once(clients, "Remove", {"kind": "memory", "name": "a"})
        self.call_at_once(clients, "Release")
        for client in clients:
            client.close()

    def test_without_new_threads_all_is_answered_and_one_warning_given(self):
        self.allow_processes(1)
        self.work()
        self.assertTrue(eventually(lambda: NO_THREAD in self.daemon.log() or self.work()))
        self.work()
        self.assertEqual(self.daemon.log().count(NO_THREAD), 1, self.daemon.log())
        self.allow_processes(1000)
        again = "threads can be started again"
        self.assertTrue(eventually(lambda: again in self.daemon.log() or self.work()))

    def test_without_new_threads_it_ends_as_always(self):
        clients = self.holders(20)
        self.allow_processes(1)
        with self.daemon.stopped():
            for client in clients:
                client.send("io.vfiocpr.Session.Release", oneway=True)
            self.daemon.process.terminate()
        self.end_daemon()

    def test_it_does_not_start_without_any_and_says_why(self):
        with self.assertRaises(AssertionError) as caught:
            Daemon(uid=ALONE + 1, command=["prlimit", "--nproc=1", *self.daemon.process.args])
        self.assertIn("ended with 1:", str(caught.exception))
        self.assertIn("TasksMax=", str(caught.exception))
