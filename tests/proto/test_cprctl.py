# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfio-cprctl's command line, its exit statuses, and what it says of a daemon that it cannot reach."""

import os
import socket
import subprocess
import sys
import tempfile
import unittest

from client import Client
from ctl import CTL, FAILURE, NO_DAEMON, NO_SESSION, OK, USAGE, Done, ctl
from daemon import BUILD, DAEMON
from daemontest import DaemonTest
from fds import describe, eventfd
from holder import NOBODY
from patience import eventually, is_asleep

EDU = os.path.join(BUILD, "edu")
DEFAULT = "/run/vfio-cprd/io.vfiocpr"
ROOT_ONLY = unittest.skipUnless(os.getuid() == 0, "only root can be another user, or mount")


class Unreachable(unittest.TestCase):
    """A socket that nobody answers at: why, and what helps, from the tool and from the library."""

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        os.chmod(self.directory.name, 0o755)
        self.path = os.path.join(self.directory.name, "socket")

    def listen(self, path=None):
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(path or self.path)
        listener.listen(1)
        return listener

    def assertTold(self, *sentences, path=None, absent=(), status=NO_DAEMON, **options):
        path = self.path if path is None else path
        for run in (
            ctl(path, "list", **options),
            Done(EDU, "--session", "s", "--socket", path, "0000:00:00.0", **options),
        ):
            for sentence in sentences:
                self.assertIn(sentence, run.err, run)
            for sentence in absent:
                self.assertNotIn(sentence, run.err, run)
            # Of the example, that is its 2 for anything.
            self.assertEqual(run.status, 2 if run.err.startswith("edu") else status, run)

    def test_a_socket_that_was_never_made_is_to_be_started(self):
        self.assertTold("there is no such socket", "start vfio-cprd on it", absent=["deleted"])

    def test_a_socket_whose_file_was_deleted_is_to_be_made_anew_and_not_started(self):
        self.listen()
        os.unlink(self.path)
        self.assertTold("it was deleted", "somebody listens", "restart", absent=["no such socket"])

    def test_a_socket_left_by_the_dead_has_nobody_who_listens(self):
        self.listen().close()
        self.assertTold("nobody listens on it")

    def test_what_is_no_socket_is_called_that(self):
        open(self.path, "w").close()
        self.assertTold("that is no socket", absent=["nobody listens"])

    def test_a_full_backlog_is_no_absent_daemon(self):
        listener = self.listen()
        waiting = []
        while True:
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.setblocking(False)
            try:
                client.connect(self.path)
            except BlockingIOError:
                break
            waiting.append(client)
        self.assertTold("more connections wait", "try again")
        listener.close()

    @ROOT_ONLY
    def test_who_may_not_connect_is_told_who_may(self):
        self.listen()
        os.chmod(self.path, 0o660)
        os.chmod(self.directory.name, 0o755)
        self.assertTold(
            "this user may not write to it (it is user 0's and group 0's, mode 0660)",
            "SocketGroup=",
            status=FAILURE,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )
        os.chmod(self.directory.name, 0o700)
        self.assertTold(
            "may not search its directory",
            status=FAILURE,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )

    @ROOT_ONLY
    def test_the_shipped_sockets_remedies_are_systemctls(self):
        """The socket of the unit is told how its unit makes it: enabled if never made, restarted if deleted."""
        script = (
            "import os, socket, subprocess, sys\n"
            f"path, words = {DEFAULT!r}, sys.argv[1:]\n"
            "subprocess.run(['mount', '-t', 'tmpfs', 'none', '/run'], check=True)\n"
            "subprocess.run(words)\n"
            "os.mkdir(os.path.dirname(path))\n"
            "listener = socket.socket(socket.AF_UNIX)\n"
            "listener.bind(path)\n"
            "listener.listen(1)\n"
            "os.unlink(path)\n"
            "subprocess.run(words)\n"
            "listener.close()\n"
            "dead = socket.socket(socket.AF_UNIX)\n"
            "dead.bind(path)\n"
            "subprocess.run(words)\n"
        )
        for words in ([CTL, "list"], [EDU, "--session", "s", "0000:00:00.0"]):
            # A variable that is empty is one that is not set.
            run = Done(
                *("unshare", "--mount", "--net", sys.executable, "-c", script, *words),
                env={"VFIO_CPR_SOCKET": ""},
            )
            told = [line for line in run.err.splitlines() if DEFAULT in line]
            self.assertEqual(len(told), 3, run)
            self.assertIn("'systemctl enable --now vfio-cprd.socket'", told[0])
            self.assertIn("'systemctl restart vfio-cprd.socket'", told[1])
            self.assertNotIn("enable", told[1])
            self.assertIn("nobody listens", told[2])

    def test_an_empty_path_is_refused_and_no_abstract_socket_is_used(self):
        abstract = self.listen("\0" * 108)
        abstract.settimeout(0)
        for run in (
            ctl("", "list"),
            Done(CTL, "list", "--socket="),
            Done(EDU, "--session", "s", "--socket", "", "0000:00:00.0"),
        ):
            self.assertEqual(run.status, USAGE, run)
            self.assertTrue("PATH is empty" in run.err or "1 to 107 bytes" in run.err, run)
        with self.assertRaises(BlockingIOError):
            abstract.accept()



class Crowded(DaemonTest):
    def test_who_finds_no_room_in_the_backlog_waits_for_it(self):
        with self.daemon.stopped():
            crowd = Client.crowd(self.daemon)
            words = [CTL, "--socket", self.daemon.path, "list"], [
                EDU, "--session", "s", "--socket", self.daemon.path, "0000:00:00.0"
            ]
            waiting = [subprocess.Popen(each, stderr=subprocess.PIPE, text=True) for each in words]
            for process in waiting:
                self.addCleanup(process.stderr.close)
                self.assertTrue(eventually(lambda: is_asleep(process.pid)))
        ctl_says, edu_says = (process.communicate()[1] for process in waiting)
        self.assertEqual((waiting[0].returncode, ctl_says.count("cannot")), (OK, 0), ctl_says)
        self.assertNotIn("connect", edu_says)
        for client in crowd:
            client.close()


class Options(unittest.TestCase):
    def test_help_is_plain_text_in_every_locale(self):
        for locale in ("C", "C.UTF-8"):
            for words in ((), ("list",), ("show",), ("monitor",), ("release",), ("check",)):
                run = Done(CTL, *words, "--help", env={"LC_ALL": locale})
                self.assertEqual((run.status, run.err), (OK, ""), run)
                self.assertIn(" ".join(["vfio-cprctl [OPTION...]", *words]), run.out)
                self.assertTrue(run.out.isascii() and "?" not in run.out, run)

    def test_a_user_is_given_by_name_or_number_and_no_other_is_taken(self):
        for user in ("nosuchuser", "", "-1", "+1", "0x0", str(2**32 - 1), str(2**32), "1 "):
            run = ctl("/nonexistent", "show", "--uid", user, "vm")
            self.assertEqual(run.status, USAGE, run)
            self.assertIn(f"there is no user '{user}'", run.err)
        for user in ("root", "0", str(2**32 - 2)):
            run = ctl("/nonexistent", "show", "--uid", user, "vm")
            self.assertIn("cannot connect", run.err)


class Statuses(DaemonTest):
    """What a script learns from the exit status, of each verb."""

    options = ("--mode", "0666")

    def store(self, name, uid=None):
        """A holder with a session that holds something."""
        holder = self.holder(uid)
        holder.attach(name)
        holder.store([describe("eventfd", "e", 1)], [eventfd()])
        return holder

    def test_no_such_session_is_3_and_no_daemon_4(self):
        for verb in ("show", "release"):
            run = ctl(self.daemon, verb, "nosuch")
            self.assertEqual(run.status, NO_SESSION, run)
            self.assertIn("there is no session nosuch", run.err)
        self.assertEqual(ctl(self.daemon, "list").status, OK)
        for words in (("list",), ("show", "vm"), ("release", "vm"), ("monitor",)):
            run = ctl("/nonexistent/socket", *words)
            self.assertEqual(run.status, NO_DAEMON, run)

    def test_who_accepts_and_never_answers_is_no_daemon(self):
        path = os.path.join(self.daemon.directory, "deaf")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            run = subprocess.Popen([CTL, "--socket", path, "list"], stderr=subprocess.PIPE, text=True)
            listener.accept()[0].close()
            self.assertIn("closed the connection before it answered", run.communicate()[1])
            self.assertEqual(run.returncode, NO_DAEMON)

    @ROOT_ONLY
    def test_sessions_of_one_name_are_told_apart_by_their_owner(self):
        self.store("vm")
        self.store("vm", uid=NOBODY)
        for verb in ("show", "release"):
            run = ctl(self.daemon, verb, "vm")
            self.assertEqual(run.status, FAILURE, run)
            self.assertIn("say whose with --uid", run.err)
            self.assertEqual(ctl(self.daemon, verb, "vm", "--uid", "1").status, NO_SESSION)
        for user in ("root", "nobody", "0", str(NOBODY)):
            run = ctl(self.daemon, "show", "vm", "--uid", user)
            self.assertEqual(run.status, OK, run)
            self.assertIn("(uid 0)" if user in ("root", "0") else f"(uid {NOBODY})", run.out)


class Monitoring(DaemonTest):
    """Of a daemon that nobody starts again at once: its socket is gone, too."""

    def test_the_gap_is_marked_whatever_was_in_the_way_meanwhile(self):
        monitor = subprocess.Popen(
            [CTL, "--socket", self.daemon.path, "monitor", "vm"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(monitor.communicate)
        self.addCleanup(monitor.kill)
        self.assertIn("waiting for one", monitor.stderr.readline())
        self.holder().attach("vm")
        self.assertIn("created   vm (uid", monitor.stdout.readline())
        # First nobody listens, then there is no socket, then no directory.
        path = self.daemon.path
        self.daemon.process.kill()
        self.daemon.process.wait()
        self.assertIn("vfio-cprd is gone", monitor.stderr.readline())
        os.unlink(path)
        self.daemon.kill()
        os.mkdir(os.path.dirname(path), 0o755)
        second = subprocess.Popen([DAEMON, "--socket", path], stderr=subprocess.DEVNULL)
        self.addCleanup(second.kill)
        self.daemon = None
        self.assertIn("vfio-cprd is back", monitor.stderr.readline())
        self.assertIn("waiting for one", monitor.stderr.readline())
        self.assertRegex(monitor.stdout.readline(), r"^[-0-9]{10} [:.0-9]{12}  gap       of ")
        second.terminate()
        self.assertEqual(second.wait(), 0)
        self.assertIn("vfio-cprd is gone", monitor.stderr.readline())
        os.rmdir(os.path.dirname(path))
