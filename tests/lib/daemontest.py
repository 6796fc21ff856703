# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a test of a running daemon is made of."""

import contextlib
import unittest

from client import SERVICE, SESSION, Client, VarlinkError
from daemon import Daemon
from fds import close_all, describe, eventfd, is_same_file
from holder import Holder
from patience import eventually


class DaemonTest(unittest.TestCase):
    """A test with a daemon of its own, which must end clean and, unless told otherwise, be as it
    was before."""

    options = ()
    nofile = None
    uid = None  # of the daemon
    env = None
    backlog = None  # None: the daemon's own

    def setUp(self):
        self.addCleanup(close_all)
        self.daemon = self.make_daemon()
        self.addCleanup(self.end_daemon)
        # Each peer has a pidfd: without one, that of our first question is gone.
        eventually(lambda: not [link for link in self.daemon.links() if "pidfd" in link])
        self.idle_fds = self.daemon.fds()

    def make_daemon(self):
        return Daemon(
            *self.options, nofile=self.nofile, uid=self.uid, env=self.env, backlog=self.backlog
        )

    def end_daemon(self):
        """Ends it, if the test has not: the last thing that every test asserts."""
        daemon, self.daemon = self.daemon, None
        if daemon:
            daemon.stop()

    def client(self, **options):
        client = Client(self.daemon, **options)
        self.addCleanup(client.close)
        return client

    def holder(self, uid=None):
        holder = Holder(self.daemon, uid)
        self.addCleanup(holder.kill)
        return holder

    @contextlib.contextmanager
    def refused(self, name, contains=""):
        """The call within is answered by this error (its last part, or the whole name)."""
        with self.assertRaises(VarlinkError) as caught:
            yield caught
        error = caught.exception
        self.assertIn(name, (error.short, error.name), error)
        text = error.parameters.get("message", "")
        self.assertIn(contains, text)
        if error.name.startswith(SESSION):
            self.assertTrue(text, "the error explains itself")
            self.assertIsInstance(error.parameters.get("errno"), int)

    def assertIdle(self, extra=0):
        """The daemon lives, answers, and has no descriptor more than at the start (and extra)."""
        self.assertTrue(self.daemon.is_alive(), self.daemon.log())
        with Client(self.daemon) as client:
            client.call(SERVICE + "GetInfo")
        want = self.idle_fds + extra
        if not eventually(lambda: self.daemon.fds() == want):
            self.fail(f"{self.daemon.fds()} descriptors, not {want}: {sorted(self.daemon.links())}")

    def assertCut(self, client, error="ProtocolViolation"):
        """The daemon says why, and closes the connection."""
        with self.refused(error):
            client.receive()
        with self.assertRaises(ConnectionError):
            client.receive()

    def assertSameFiles(self, a, b):
        self.assertEqual(len(a), len(b))
        for i, (x, y) in enumerate(zip(a, b)):
            self.assertTrue(is_same_file(x, y), f"descriptor {i} is another open file")


class StoreTest(DaemonTest):
    """One holder with one session that holds an eventfd, to be intact in the end."""

    def setUp(self):
        super().setUp()
        self.kept = eventfd()
        self.vm = self.client()
        self.vm.attach("vm")
        self.vm.store([describe("eventfd", "kept", 1000)], [self.kept])
        self.base = self.daemon.fds() - self.idle_fds

    def assertIntact(self):
        """Nothing but that eventfd is held, it is the same file, and no descriptor is left over."""
        held = self.vm.fetch_all()
        self.assertEqual([o["name"] for o, _ in held], ["kept"])
        self.assertSameFiles(held[0][1], [self.kept])
        self.assertIdle(self.base)
