# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon as a process: options, sockets, systemd, and its end."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from client import SERVICE, SESSION, Client, encode
from daemon import BUILD, DAEMON, ROOT, Daemon
from daemontest import DaemonTest
from fds import close, close_all, describe, eventfd, eventfds, memfd
from holder import Holder
from patience import eventually, is_asleep

ENV = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1"}


def run(*arguments, **options):
    return subprocess.run(
        [DAEMON, *arguments], capture_output=True, text=True, env=ENV, **options
    )


def answers(path):
    """The socket's file is there before anybody listens."""
    try:
        with Client(path) as client:
            return client.call(SERVICE + "GetInfo")
    except (ConnectionError, FileNotFoundError):
        return None


class Options(unittest.TestCase):
    def setUp(self):
        self.addCleanup(close_all)
        self.directory = tempfile.mkdtemp(prefix="vfio-cprd-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = os.path.join(self.directory, "socket")

    def test_help_tells_the_options(self):
        done = run("--help")
        self.assertEqual(done.returncode, 0, done.stderr)
        for option in ("--socket", "--mode", "--version"):
            self.assertIn(option, done.stdout)

    def test_help_is_spelt_as_the_terminal_can_show_it(self):
        done = subprocess.run(
            [DAEMON, "--help"], capture_output=True, env={**ENV, "LC_ALL": "C.UTF-8"}
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("[OPTION\u2026]", done.stdout.decode())

    def test_version_is_that_of_the_source(self):
        done = run("--version")
        with open(os.path.join(ROOT, "include", "vfio-cpr.h")) as header:
            version = re.search(r'VFIO_CPR_VERSION\s+"([0-9.]+)"', header.read()).group(1)
        self.assertEqual((done.returncode, done.stdout), (0, f"vfio-cprd {version}\n"))

    def test_bad_options_end_with_2_and_a_hint(self):
        for arguments in (
            ["--bogus"],
            ["-x"],
            ["argument"],
            ["--socket"],
            ["--version", "argument"],
            ["--socket", self.path, "--mode", "rw"],
            ["--socket", self.path, "--mode", "9"],
            ["--socket", self.path, "--mode", ""],
            ["--socket", self.path, "--mode", "0600x"],
            ["--socket", self.path, "--mode", "7777777"],
            ["--socket", self.path, "--fdstore-max", ""],
            ["--socket", self.path, "--fdstore-max", "-1"],
            ["--socket", ""],
            ["--socket="],
            ["-s", ""],
            [],
        ):
            with self.subTest(arguments=arguments):
                try:
                    done = run(*arguments)
                except subprocess.TimeoutExpired:
                    self.fail("it started")
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertRegex(done.stderr, r"\Avfio-cprd: .*--help\.\n\Z", "one sentence")
                self.assertFalse(os.path.exists(self.path))

    def test_without_a_socket_it_says_what_to_do(self):
        done = run()
        self.assertIn("--socket PATH", done.stderr)
        self.assertIn("vfio-cprd.socket", done.stderr)

    def test_a_client_does_not_take_an_empty_path_for_an_abstract_address(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
            stranger.bind("\0" * 108)
            stranger.listen()
            stranger.setblocking(False)
            done = subprocess.run(
                [os.path.join(BUILD, "vfio-cprctl"), "--socket", "", "list"],
                capture_output=True,
                text=True,
            )
            self.assertNotEqual(done.returncode, 0)
            with self.assertRaises(BlockingIOError):
                stranger.accept()

    def test_a_socket_in_use_is_left_to_its_owner(self):
        daemon = Daemon()
        try:
            done = run("--socket", daemon.path)
            self.assertEqual(done.returncode, 1)
            self.assertIn(daemon.path, done.stderr)
            self.assertIn("in use", done.stderr)
            with Client(daemon) as client:
                client.call(SERVICE + "GetInfo")
        finally:
            daemon.stop()

    def test_a_socket_whose_backlog_is_full_is_left_to_its_owner(self):
        with socket.socket(socket.AF_UNIX) as owner, contextlib.ExitStack() as waiting:
            owner.bind(self.path)
            owner.listen(0)
            with self.assertRaises(BlockingIOError):
                for _ in range(10):
                    client = waiting.enter_context(socket.socket(socket.AF_UNIX))
                    client.setblocking(False)
                    client.connect(self.path)
            done = run("--socket", self.path)
            self.assertEqual(done.returncode, 1)
            self.assertIn("in use", done.stderr)
            self.assertEqual(os.listdir(self.directory), ["socket"])

    def test_its_own_backlog_is_as_short_as_the_units(self):
        # One connection more waits than listen() is told (unix_recvq_full(), net/unix/af_unix.c).
        with open(os.path.join(ROOT, "systemd/vfio-cprd.socket")) as unit:
            backlog = int(re.search(r"^Backlog=(\d+)$", unit.read(), re.M).group(1))
        daemon = Daemon()
        self.addCleanup(daemon.stop)
        with daemon.stopped():
            crowd = Client.crowd(daemon)
        for client in crowd:
            client.close()
        self.assertEqual(len(crowd), backlog + 1)

    def test_of_daemons_that_start_on_one_path_at_once_one_has_it(self):
        for _ in range(5):
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(self.path)
            racers = [
                subprocess.Popen(
                    [DAEMON, "--socket", self.path], env=ENV, stderr=subprocess.PIPE, text=True
                )
                for _ in range(6)
            ]
            for racer in racers:
                self.addCleanup(racer.kill)
            self.assertTrue(eventually(lambda: answers(self.path)))
            self.assertTrue(eventually(lambda: sum(r.poll() is None for r in racers) <= 1))
            (winner,) = [racer for racer in racers if racer.returncode is None]
            with Client(self.path) as client:
                self.assertEqual(client.call("Status")[0]["pid"], winner.pid)
            winner.terminate()
            for racer in racers:
                text = racer.communicate()[1]
                if racer is not winner:
                    self.assertIn("in use", text)
                self.assertEqual(racer.returncode, 0 if racer is winner else 1, text)
            self.assertEqual(os.listdir(self.directory), [], "neither the socket nor its lock stays")

    def test_a_lock_that_cannot_be_had_is_told(self):
        os.symlink("elsewhere", self.path + ".lock")
        done = run("--socket", self.path)
        self.assertEqual(done.returncode, 1)
        self.assertIn(self.path + ".lock", done.stderr)
        self.assertEqual(os.listdir(self.directory), ["socket.lock"])

    def test_what_is_no_socket_is_not_replaced(self):
        with open(self.path, "w") as file:
            file.write("precious")
        done = run("--socket", self.path)
        self.assertEqual(done.returncode, 1)
        self.assertIn(self.path, done.stderr)
        with open(self.path) as file:
            self.assertEqual(file.read(), "precious")

    def test_paths_that_cannot_be_are_told(self):
        for path in ("/nonexistent/directory/socket", self.directory, "x" * 200):
            done = run("--socket", path)
            self.assertEqual(done.returncode, 1, path)
            self.assertIn("vfio-cprd: error: cannot listen on " + path, done.stderr)
        self.assertTrue(os.path.isdir(self.directory))

    def test_the_socket_s_directory_is_made_if_that_alone_is_missing(self):
        path = os.path.join(self.directory, "made", "socket")
        process = subprocess.Popen([DAEMON, "--socket", path], stderr=subprocess.DEVNULL)
        self.addCleanup(process.kill)
        self.assertTrue(eventually(lambda: os.path.exists(path)))
        self.assertEqual(os.stat(os.path.dirname(path)).st_mode & 0o777, 0o755)
        process.terminate()
        self.assertEqual(process.wait(), 0)

    def test_a_socket_left_by_a_daemon_that_was_killed_is_replaced(self):
        process = subprocess.Popen([DAEMON, "--socket", self.path], stderr=subprocess.DEVNULL)
        eventually(lambda: os.path.exists(self.path))
        process.kill()
        process.wait()
        self.assertTrue(os.path.exists(self.path))
        with self.assertRaises(ConnectionRefusedError):
            Client(self.path)
        process = subprocess.Popen(
            [DAEMON, "--socket", self.path], env=ENV, stderr=subprocess.PIPE, text=True
        )
        self.addCleanup(process.kill)

        self.assertTrue(eventually(lambda: answers(self.path)))
        process.terminate()
        text = process.communicate()[1]
        self.assertEqual(process.returncode, 0, text)
        self.assertFalse(os.path.exists(self.path), "it takes its socket with it")


    def test_a_socket_that_another_daemon_has_put_in_its_place_stays(self):
        first = Daemon()
        self.addCleanup(first.kill)
        second = Daemon()
        self.addCleanup(second.kill)
        os.rename(second.path, first.path)
        first.process.terminate()
        self.assertEqual(first.process.wait(), 0, first.log())
        with Client(first.path) as client:
            self.assertEqual(client.call("Status")[0]["pid"], second.pid)


class EarlySignals(unittest.TestCase):
    """Sent before the daemon's first instruction: it was started with them blocked, as it blocks
    them itself, so that they wait."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="vfio-cprd-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = os.path.join(self.directory, "socket")

    def start_and_send(self, *numbers):
        process = subprocess.Popen(
            [DAEMON, "--socket", self.path],
            env=ENV,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, numbers),
        )
        self.addCleanup(process.kill)
        for number in numbers:
            process.send_signal(number)
        return process

    def test_a_signal_to_stop_that_comes_early_stops_it_cleanly(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            process = self.start_and_send(number)
            text = process.communicate()[1]
            self.assertEqual(process.returncode, 0, text)
            self.assertIn(f"stopping on signal {int(number)}", text)
            self.assertFalse(os.path.exists(self.path))

    def test_a_signal_to_reload_that_comes_early_does_no_harm(self):
        process = self.start_and_send(signal.SIGHUP)
        self.assertTrue(eventually(lambda: answers(self.path)))
        process.terminate()
        text = process.communicate()[1]
        self.assertEqual(process.returncode, 0, text)


GAVE_UP = "ends without waiting longer"


class Systemd(unittest.TestCase):
    """As systemd starts it: with its sockets, and a socket to tell how it is."""

    def setUp(self):
        self.addCleanup(close_all)
        self.directory = tempfile.mkdtemp(prefix="vfio-cprd-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = os.path.join(self.directory, "socket")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.notify.close)
        self.notify.bind(os.path.join(self.directory, "notify"))

    def told(self, wanted):
        """The next notification that begins so."""
        while True:
            for line in self.notify.recv(4096).decode().splitlines():
                if line.startswith(wanted):
                    return line

    def test_it_serves_the_socket_of_systemd_and_tells_its_status(self):
        if not shutil.which("systemd-socket-activate"):
            self.skipTest("systemd-socket-activate is not installed")
        log = open(os.path.join(self.directory, "log"), "w+")
        self.addCleanup(log.close)
        process = subprocess.Popen(
            [
                "systemd-socket-activate",
                f"--listen={self.path}",
                f"--setenv=NOTIFY_SOCKET={self.notify.getsockname()}",
                "--setenv=ASAN_OPTIONS=detect_leaks=1",
                DAEMON,
            ],
            stderr=log,
        )
        self.addCleanup(process.kill)
        self.assertTrue(eventually(lambda: os.path.exists(self.path)))
        client = eventually(self.connect)
        self.addCleanup(client.close)
        self.assertEqual(client.call(SERVICE + "GetInfo")[0]["product"], "vfio-cprd")
        self.assertEqual(self.told("READY="), "READY=1")
        self.assertEqual(self.told("STATUS="), "STATUS=0 sessions, 0 orphaned, 0 descriptors held")
        client.attach("vm")
        self.assertEqual(self.told("STATUS="), "STATUS=1 sessions, 0 orphaned, 0 descriptors held")
        client.store([describe("eventfd", "e", 1, count=7)], eventfds(7))
        self.assertEqual(self.told("STATUS="), "STATUS=1 sessions, 0 orphaned, 7 descriptors held")
        holder = Holder(self.path)
        self.addCleanup(holder.kill)
        holder.attach("other")
        holder.store([describe("eventfd", "e", 1)], [eventfd()])
        holder.kill()
        while self.told("STATUS=") != "STATUS=2 sessions, 1 orphaned, 8 descriptors held":
            pass
        process.terminate()
        self.assertEqual(self.told("STOPPING="), "STOPPING=1")
        self.assertEqual(process.wait(), 0, open(log.name).read())
        self.assertTrue(os.path.exists(self.path), "the socket is systemd's")

    def connect(self):
        try:
            return Client(self.path)
        except ConnectionError:
            return None

    def test_a_socket_of_the_wrong_type_is_refused_with_the_reason(self):
        if not shutil.which("systemd-socket-activate"):
            self.skipTest("systemd-socket-activate is not installed")
        process = subprocess.Popen(
            ["systemd-socket-activate", "--datagram", f"--listen={self.path}", DAEMON],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.kill)
        self.assertTrue(eventually(lambda: os.path.exists(self.path)))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(self.path)
            sender.send(b"x")
        text = process.communicate()[1]
        self.assertEqual(process.returncode, 1, text)
        self.assertIn("vfio-cprd.socket", text)


@unittest.skipUnless(os.geteuid() == 0, "only root may make a PID namespace")
class End(DaemonTest):
    def terminate(self):
        os.kill(self.daemon.pid, signal.SIGTERM)

    def log_at_end(self):
        """Ends the daemon; all that it has logged."""
        self.terminate()
        self.daemon.process.wait()
        log = self.daemon.log()
        self.end_daemon()
        return log

    def store_big_memory(self, holder):
        """Its session holds memory, alone, whose last close takes a while."""
        size = 128 << 20
        fd = memfd(size)
        with contextlib.suppress(OSError):
            os.posix_fallocate(fd, 0, size)
        holder.store([describe("memory", "ram", 1)], [fd])
        close(fd)

    def flooding_client(self):
        """One that has sent all that it could, and read nothing; its socket does not block."""
        client = self.client()
        client.socket.setblocking(False)
        call = encode(SERVICE + "GetInterfaceDescription", {"interface": "io.vfiocpr.Session"})
        with contextlib.suppress(BlockingIOError):
            while True:
                client.socket.send(call)
        # It has done as many of its calls as it can: an answer is half out.
        self.assertTrue(eventually(lambda: is_asleep(self.daemon.pid)))
        return client

    def test_a_call_under_way_is_answered_before_the_end(self):
        client, other = self.client(), self.client()
        client.attach("vm")
        self.store_big_memory(client)
        client.send(SESSION + "Release")
        client.wait_until_received()
        self.terminate()
        self.assertEqual(client.receive()[0], {})
        for each in (client, other):
            with self.assertRaises(ConnectionError):
                each.receive()
        self.end_daemon()

    def test_an_answer_half_out_is_finished_before_the_end(self):
        client = self.flooding_client()
        self.terminate()
        self.assertTrue(eventually(lambda: "stopping" in self.daemon.log()))
        client.socket.setblocking(True)
        answers = 0
        try:
            while True:
                self.assertIn("description", client.receive()[0])
                answers += 1
        except ConnectionError:
            self.assertEqual(client.buffer, b"", "an answer was cut in two")
        self.assertGreater(answers, 0)
        self.end_daemon()

    def test_a_client_that_never_reads_does_not_keep_it_from_ending(self):
        self.flooding_client()
        self.assertRegex(self.log_at_end(), GAVE_UP + "|leaves its answer unread")

    def test_a_oneway_call_under_way_does_not_delay_the_end(self):
        client = self.client()
        client.attach("vm")
        self.store_big_memory(client)
        client.send(SESSION + "Release", oneway=True)
        client.wait_until_received()
        self.assertNotIn(GAVE_UP, self.log_at_end())

    def test_it_ends_clean_with_orphan_work_under_way(self):
        for _ in range(5):
            holder = self.holder()
            holder.attach("vm")
            self.store_big_memory(holder)
            with self.daemon.stopped():
                holder.kill()
                self.terminate()
            self.end_daemon()
            self.daemon = Daemon()

    def test_it_ends_clean_with_a_release_under_way_that_nobody_waits_for(self):
        for _ in range(5):
            with Client(self.daemon) as client:
                client.attach("vm")
                self.store_big_memory(client)
                client.send(SESSION + "Release", oneway=True)
                client.wait_until_received()
            self.end_daemon()
            self.daemon = Daemon()

    def test_it_ends_clean_with_a_remove_under_way(self):
        holder = self.holder()
        holder.attach("vm")
        self.store_big_memory(holder)
        with self.daemon.stopped():
            holder.start("call", 0, "Remove", {"kind": "memory", "name": "ram"})
            time.sleep(0.05)
            holder.kill()
            self.terminate()
        self.end_daemon()

    def test_it_ends_clean_while_it_holds_much_and_many_are_connected(self):
        clients = [self.client() for _ in range(50)]
        for i, client in enumerate(clients):
            client.attach(f"s{i}")
            client.store([describe("eventfd", "e", 1, count=50)], eventfds(50))
            client.store([describe("eventfd", "f", 2)], [eventfd()], continues=True)
        monitor = self.client()
        next(monitor.call_more("Monitor"))
        self.end_daemon()
        for client in (*clients, monitor):
            with self.assertRaises(ConnectionError):
                client.receive()

    def test_sigint_ends_it_as_sigterm_does(self):
        os.kill(self.daemon.pid, signal.SIGINT)
        self.assertTrue(eventually(lambda: not self.daemon.is_alive()))
        self.end_daemon()

    def test_a_second_sigterm_does_no_harm(self):
        client = self.client()
        client.attach("vm")
        with self.daemon.stopped():
            self.terminate()
            self.terminate()
        self.assertTrue(eventually(lambda: "stopping" in self.daemon.log()))
        self.end_daemon()

    def test_what_would_be_lost_is_said_at_the_end(self):
        client = self.client()
        client.attach("vm")
        client.store([describe("eventfd", "e", 1, count=3)], eventfds(3))
        self.terminate()
        self.assertTrue(
            eventually(lambda: "ends with the daemon: 1 session, 3 descriptors;" in self.daemon.log())
        )
        self.end_daemon()
