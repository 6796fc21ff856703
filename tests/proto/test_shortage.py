# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the host does not give: threads, a reader of the log, room for it, standard descriptors;
and signals that it gives unasked."""

import contextlib
import fcntl
import os
import re
import select
import signal
import socket
import subprocess
import tempfile
import unittest

from client import SERVICE
from daemon import DAEMON, Daemon
from daemontest import DaemonTest
from fds import close, describe, memfd, track
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
            command = ["prlimit", "--nproc=1", DAEMON, "--socket", self.daemon.path]
            Daemon(uid=ALONE + 1, command=command)
        self.assertIn("ended with 1:", str(caught.exception))
        self.assertIn("TasksMax=", str(caught.exception))


@unittest.skipUnless(os.geteuid() == 0, "only root may start the daemon as another user, whom "
                     "RLIMIT_NPROC concerns")
class Watchdog(DaemonTest):
    """The test is its systemd, which confirms what it keeps when the test wants."""

    def make_daemon(self):
        folder = tempfile.TemporaryDirectory(prefix="vfio-cprd-")
        self.addCleanup(folder.cleanup)
        os.chmod(folder.name, 0o755)
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.systemd.close)
        self.systemd.bind(os.path.join(folder.name, "notify"))
        os.chmod(self.systemd.getsockname(), 0o666)
        self.barriers, self.kept = [], []
        env = {"NOTIFY_SOCKET": self.systemd.getsockname(), "FDSTORE": "100",
               "WATCHDOG_USEC": "150000", "ASAN_OPTIONS": "detect_leaks=0"}
        return Daemon(uid=ALONE, env=env)

    def receive(self):
        """The next message. What is to be kept is, and who waits at a barrier waits on."""
        data, fds, _, _ = socket.recv_fds(self.systemd, 4096, 16)
        for fd in fds:
            track(fd)
        (self.barriers if data == b"BARRIER=1" else self.kept).extend(fds)
        return data

    def wait_for(self, text):
        while self.receive() != text:
            pass

    def confirm(self):
        for fd in self.barriers:
            close(fd)
        self.barriers = []

    def test_it_has_its_sign_while_all_work_waits_for_systemd(self):
        self.wait_for(b"READY=1")
        command = ["prlimit", f"--pid={self.daemon.pid}", "--nproc=1:"]
        subprocess.run(command, user=ALONE, group=ALONE, extra_groups=[], check=True)
        waiting = {}
        for i in range(5):
            client = self.client()
            client.send("io.vfiocpr.Session.Attach", {"name": f"vm{i}"})
            waiting[client.socket] = client
        while len(self.barriers) < 3:  # as many as there are threads that may wait at one
            self.receive()
        for _ in range(2):  # an exchange with systemd waits for 10 s at most
            self.wait_for(b"WATCHDOG=1")
        answered = select.select(waiting, [], [], 0)[0]
        self.assertEqual(answered, [], "the sign has waited for work")
        while waiting:
            self.confirm()
            for ready in select.select([self.systemd, *waiting], [], [])[0]:
                if ready is self.systemd:
                    self.receive()
                else:
                    self.assertEqual(waiting.pop(ready).receive()[0]["start"], "new")


def count_lost(log):
    return sum(int(n) for n in re.findall(r"warning: (\d+) messages? (?:was|were) lost", log))


class Log(DaemonTest):
    """Its standard error is a pipe of 4 KiB, which is read when the test wants."""

    def make_daemon(self):
        self.pipe, end = os.pipe()
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(self.pipe, False)
        self.addCleanup(os.close, self.pipe)
        self.text = ""
        try:
            return Daemon(stderr=end, env={"G_MESSAGES_DEBUG": "vfio-cprd"})
        finally:
            os.close(end)

    def read(self):
        with contextlib.suppress(BlockingIOError):
            self.text += os.read(self.pipe, 1 << 20).decode()
        return self.text

    def make_lines(self, n):
        """A line for each call that is done."""
        with self.client() as client:
            for _ in range(n):
                client.call(SERVICE + "GetInfo")

    def test_others_are_served_if_nobody_reads_its_log(self):
        for _ in range(100):  # lines of any level, each of a peer who is cut off
            with self.client() as client:
                client.send_raw(b"nonsense\0")
                self.assertCut(client)
        self.make_lines(400)
        with self.client() as other:
            other.attach("vm")
            other.call("Release")
        self.assertIdle()

    def test_when_it_is_read_again_it_tells_how_much_was_lost(self):
        self.make_lines(7000)
        self.assertTrue(eventually(lambda: count_lost(self.read())))
        with self.client() as client:
            client.attach("last")
            self.assertTrue(eventually(lambda: "session last" in self.read()))
        told = self.text.count("GetInfo done") - 1  # the daemon's start was asked for
        self.assertGreater(told, 1000)
        self.assertEqual(told + count_lost(self.text), 7000)

    def test_it_ends_if_nobody_reads_its_log(self):
        self.make_lines(400)
        self.end_daemon()

    def test_it_ends_if_the_reader_of_its_log_is_gone(self):
        self.make_lines(400)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, self.pipe)
        os.close(null)
        self.make_lines(400)
        self.end_daemon()


class FullFile(DaemonTest):
    def test_a_log_that_can_grow_no_more_does_no_harm_and_goes_on_later(self):
        """RLIMIT_FSIZE, which is a signal, too. A full disk is the same without a signal."""
        client = self.client()
        self.daemon.log()
        size = os.stat(self.daemon.log_path).st_size
        limit = ["prlimit", f"--pid={self.daemon.pid}"]
        subprocess.run([*limit, f"--fsize={size + 10}:"], check=True)
        client.attach("vm")
        client.call("Release")
        self.assertEqual(len(self.daemon.log()), size + 10)
        subprocess.run([*limit, "--fsize=unlimited:"], check=True)
        self.client().attach("again")
        self.assertRegex(self.daemon.log(), r"\n.*\d messages were lost.*\n.*session again")


class Descriptors(unittest.TestCase):
    def test_with_too_few_to_start_it_says_so_and_ends(self):
        """Libraries say it in the daemon's log, too, and never by themselves to standard error."""
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        with tempfile.TemporaryDirectory(prefix="vfio-cprd-") as folder:
            path = os.path.join(folder, "socket")
            for n in range(4, 10):
                command = ["prlimit", f"--nofile={n}:{n}", DAEMON, "--socket", path]
                done = subprocess.run(command, env=environment, capture_output=True, text=True)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn("vfio-cprd: error: ", done.stderr)
                for line in done.stderr.splitlines():
                    self.assertRegex(line, r"\Avfio-cprd: ")


class StandardDescriptors(DaemonTest):
    def make_daemon(self):
        return Daemon(closed=(0, 1, 2))

    def test_closed_ones_are_not_taken_by_what_comes(self):
        """Or the log would be written into a connection."""
        for fd in range(3):
            self.assertEqual(os.readlink(f"/proc/{self.daemon.pid}/fd/{fd}"), "/dev/null")
        client = self.client()
        client.send_raw(b"nonsense\0")
        self.assertCut(client)


class Signals(DaemonTest):
    def test_signals_that_mean_nothing_to_it_do_not_end_it(self):
        """Not even while it holds what would be lost: many programs take SIGUSR1 for a request."""
        client = self.client()
        client.attach("vm")
        names = "PIPE XFSZ TTOU TTIN USR1 USR2 ALRM IO VTALRM PROF STKFLT PWR RTMIN RTMAX"
        for name in names.split():
            os.kill(self.daemon.pid, getattr(signal, "SIG" + name))
        self.assertIn((os.geteuid(), "vm"), client.sessions())
        self.assertTrue(self.daemon.is_alive())
