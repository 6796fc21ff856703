# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfio-cprctl as scripts and operators use it: exit statuses, sentences, tables and JSON."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

import cpr
from cpr import BUILD, NOBODY, DaemonTest, describe

CTL = os.path.join(BUILD, "vfio-cprctl")
EDU = os.path.join(BUILD, "edu")
DEFAULT = "/run/vfio-cprd/io.vfiocpr"
ROOT_ONLY = unittest.skipUnless(os.getuid() == 0, "only root can be another user, or mount")
OK, FAILURE, USAGE, NO_SESSION, NO_DAEMON = range(5)


class Done:
    """What a program printed, and how it ended."""

    def __init__(self, *words, env=None, input=None, **options):
        options |= {} if input is None else {"input": input}
        run = subprocess.run(
            words,
            **{**({} if "input" in options else {"stdin": subprocess.DEVNULL}), **options},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
        )
        self.status, self.out, self.err = run.returncode, run.stdout, run.stderr

    def __repr__(self):
        return f"status {self.status}\n{self.out}\n{self.err}"


def ctl(where, *words, **options):
    return Done(CTL, "--socket", getattr(where, "path", where), *words, **options)


class Stub:
    """A daemon that says what it is told to: of devices, which no test without VFIO can store. answers:
    method -> parameters of the answer, an (error, parameters), or a function of the call's parameters."""

    def __init__(self, **answers):
        self.answers, self.calls = answers, []
        self.directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.directory.name, "socket")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.directory.cleanup()

    def accept(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection):
        with connection, connection.makefile("rb") as stream:
            buffer = b""
            while byte := stream.read(1):
                if byte != b"\0":
                    buffer += byte
                    continue
                call, buffer = json.loads(buffer), b""
                method, parameters = call["method"].rpartition(".")[2], call.get("parameters", {})
                self.calls.append((method, parameters))
                answer = self.answers[method]
                if callable(answer):
                    answer = answer(parameters)
                if isinstance(answer, tuple):
                    message = {"error": answer[0], "parameters": answer[1]}
                else:
                    message = {"parameters": answer, "continues": bool(call.get("more"))}
                connection.sendall(json.dumps(message).encode() + b"\0")


def info(name, uid=0, state="active", pid=None, unit=None, devices=None, age=192_000_000, **more):
    """A SessionInfo. devices: a list, or the number that a daemon of before 0.2.0 tells."""
    hidden = isinstance(devices, int)
    count = devices if hidden else len(devices or [])
    told = {
        "name": name,
        "uid": uid,
        "state": state,
        "holder": {"pid": pid, "unit": unit} if pid else None,
        "objects": [{"kind": "device", "count": count}] if count else [],
        "mappings": 3,
        "pendingInterrupts": 7,
        "ageUsec": age,
    }
    if not hidden:
        told.update(unit=unit, devices=devices)
    return {**told, **more}


class StubTest(unittest.TestCase):
    def stub(self, *sessions, **answers):
        status = {"version": "0.2.0", "survivesRestart": True}
        shown = {"objects": [], "spaces": [], "pending": []}

        def show(parameters):
            return {**shown, "session": self.find(sessions, **parameters)}

        answers = {"List": {"sessions": sessions}, "Status": status, "Show": show, **answers}
        stub = Stub(**answers)
        self.addCleanup(stub.close)
        return stub

    @staticmethod
    def find(sessions, name, uid):
        return next(s for s in sessions if (s["name"], s["uid"]) == (name, uid))


BDF = [f"0000:3b:00.{function}" for function in range(5)]


class Views(StubTest):
    """What list and show tell of a session."""

    def test_a_table_with_ordinary_names_fits_into_100_columns(self):
        stub = self.stub(
            info("web1", pid=1234567, unit="vm@web1.service", devices=BDF),
            info("db1", state="orphaned", unit="vm@db1.service", devices=BDF[:2], age=93784_000_000),
            info("bare", uid=NOBODY, pid=77),
        )
        run = ctl(stub, "list")
        self.assertEqual((run.status, run.err), (OK, ""), run)
        table = [re.split("  +", line) for line in run.out.splitlines()]
        self.assertEqual(
            table[0], ["NAME", "UID", "STATE", "SINCE", "UNIT", "HOLDER", "DEVICES"]
        )
        two = "0000:3b:00.0,0000:3b:00.1"
        rows = [["bare", "65534", "active", "3min 12s ago", "-", "77", "-"]]
        rows += [["db1", "0", "orphaned", "1d 2h ago", "vm@db1.service", "-", two]]
        rows += [["web1", "0", "active", "3min 12s ago", "vm@web1.service", "1234567", two + ",+3"]]
        self.assertEqual(table[1:], rows)
        self.assertLessEqual(max(map(len, run.out.splitlines())), 100, run.out)
        self.assertEqual(
            [line.split()[0] for line in ctl(stub, "--no-legend", "list").out.splitlines()],
            ["bare", "db1", "web1"],
        )

    def test_json_has_the_unit_and_the_devices(self):
        stub = self.stub(
            info("a", pid=1, unit="a.service", devices=BDF[:1]),
            info("b", state="orphaned", unit="b.service", devices=BDF),
            info("c", pid=3),
        )
        told = json.loads(ctl(stub, "--json", "list").out)
        self.assertEqual([one["unit"] for one in told], ["a.service", "b.service", None])
        self.assertEqual([one["devices"] for one in told], [BDF[:1], BDF, []])
        self.assertEqual(told[0]["holder"], {"pid": 1, "unit": "a.service"})
        self.assertEqual(json.loads(ctl(stub, "-j", "show", "b").out)["session"], told[1])

    def test_what_an_older_daemon_does_not_tell_is_not_taken_for_nothing(self):
        """What a daemon of before 0.2.0 does not tell is unknown, and not none."""
        stub = self.stub(info("a", pid=1, unit="a.service", devices=2), info("b", pid=2, devices=0))
        told = json.loads(ctl(stub, "--json", "list").out)
        self.assertEqual([one["devices"] for one in told], [None, []])
        self.assertEqual([one["unit"] for one in told], ["a.service", None])
        rows = [line.split() for line in ctl(stub, "list", "--no-legend").out.splitlines()]
        self.assertEqual([row[-1] for row in rows], ["?", "-"])
        self.assertIn("Devices: ?", ctl(stub, "show", "a").out)

    def test_show_tells_unit_and_devices_first(self):
        stub = self.stub(
            info("a", pid=12, unit="a.service", devices=BDF),
            info("b", state="orphaned", unit="b.service"),
        )
        shown = ctl(stub, "show", "a").out
        for line in ("Holder: 12", "Unit: a.service", f"Devices: {', '.join(BDF)}"):
            self.assertIn(line + "\n", shown)
        shown = ctl(stub, "show", "b").out
        for line in ("Holder: none", "Unit: b.service (of its last holder)", "Devices: none"):
            self.assertIn(line + "\n", shown)

    def test_nothing_that_a_daemon_tells_can_move_the_cursor(self):
        stub = self.stub(info("a", pid=1, unit="\x1b[2J", devices=["\x1b[2J"]))
        for words in (("list",), ("show", "a"), ("list", "--json")):
            run = ctl(stub, *words)
            self.assertEqual(run.status, OK)
            self.assertNotIn("\x1b", run.out + run.err)


class Addresses(StubTest):
    """A PCI address where a session's name is taken."""

    def address_stub(self, **answers):
        return self.stub(
            info("web1", pid=1, devices=BDF[:2]),
            info("db1", uid=7, state="orphaned", devices=BDF[2:3]),
            info(BDF[2], uid=8),
            info(BDF[4], uid=9),
            info("named", uid=9, devices=BDF[4:]),
            Release={},
            **answers,
        )

    def test_a_device_means_the_session_that_holds_it(self):
        stub = self.address_stub()
        for text in ("3b:00.1", "3B:00.1", BDF[1], BDF[1].upper()):
            run = ctl(stub, "show", text)
            self.assertEqual(run.status, OK, run)
            self.assertIn("web1 (uid 0)", run.out)
        run = ctl(stub, "release", "3b:00.2", "--uid=7")
        self.assertEqual(run.status, OK, run)
        self.assertIn("Released session db1 of uid 7", run.out)
        self.assertEqual([p["name"] for m, p in stub.calls if m == "Release"], ["db1"])

    def test_a_session_of_that_very_name_comes_first(self):
        stub = self.address_stub()
        self.assertIn(f"{BDF[2]} (uid 8)", ctl(stub, "show", BDF[2]).out)
        self.assertIn("db1 (uid 7)", ctl(stub, "show", "3b:00.2").out)
        self.assertIn("db1 (uid 7)", ctl(stub, "show", BDF[2], "--uid=7").out)
        self.assertIn("named (uid 9)", ctl(stub, "show", "3b:00.4").out)

    def test_a_device_that_nobody_holds_is_no_session(self):
        stub = self.address_stub()
        for verb in ("show", "release", "monitor"):
            for words in (("3b:00.3",), ("3b:00.1", "--uid=7")):
                run = ctl(stub, verb, *words)
                self.assertEqual(run.status, NO_SESSION, run)
                self.assertIn("no session that you may see holds device 0000:3b:00.", run.err)
                self.assertEqual(run.out, "")

    def test_monitor_of_a_device_is_of_its_session_alone(self):
        names = [("web1", 0), ("db1", 7), ("named", 9)]
        events = [
            {"event": "present", "name": name, "uid": uid, "state": "active"} for name, uid in names
        ]
        stub = self.address_stub(Monitor={"events": events})
        run = subprocess.Popen(
            [CTL, "--socket", stub.path, "monitor", "3b:00.2", "--json"],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.assertEqual(json.loads(run.stdout.readline())["name"], "db1")
        run.send_signal(signal.SIGTERM)
        self.assertEqual((run.communicate()[0], run.returncode), ("", OK))
        self.assertEqual(stub.calls[-1], ("Monitor", {"name": "db1", "uid": 7}))

    def test_a_device_of_several_sessions_means_none_of_them(self):
        stub = self.stub(info("a", uid=1, devices=BDF[:1]), info("b", uid=2, devices=BDF[:1]))
        run = ctl(stub, "show", "3b:00.0")
        self.assertEqual(run.status, FAILURE, run)
        self.assertIn("several sessions hold device 0000:3b:00.0", run.err)
        self.assertIn("a of 1, b of 2", run.err)
        self.assertIn("b (uid 2)", ctl(stub, "show", "3b:00.0", "--uid=2").out)

    def test_what_is_not_told_is_no_proof_that_nobody_holds_it(self):
        for hidden in (info("a", devices=1), info("a", state="unreadable", devices=0)):
            run = ctl(self.stub(hidden), "show", "3b:00.0")
            self.assertEqual(run.status, FAILURE, run)
            self.assertIn("of session a the devices are not known", run.err)
            self.assertIn("systemctl restart vfio-cprd", run.err)


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
        holder.store([describe("eventfd", "e", 1)], [cpr.eventfd()])
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
        second = subprocess.Popen([cpr.DAEMON, "--socket", path], stderr=subprocess.DEVNULL)
        self.addCleanup(second.kill)
        self.daemon = None
        self.assertIn("vfio-cprd is back", monitor.stderr.readline())
        self.assertIn("waiting for one", monitor.stderr.readline())
        self.assertRegex(monitor.stdout.readline(), r"^[-0-9]{10} [:.0-9]{12}  gap       of ")
        second.terminate()
        self.assertEqual(second.wait(), 0)
        self.assertIn("vfio-cprd is gone", monitor.stderr.readline())
        os.rmdir(os.path.dirname(path))


class Releasing(StubTest):
    """Who asks for a release that somebody may not want."""

    def assertReleased(self, stub, *expected):
        self.assertEqual([p for m, p in stub.calls if m == "Release"], list(expected))

    def at_terminal(self, stub, *words, answer=None):
        """The same with a terminal on stdin, at which answer is typed."""
        terminal, theirs = pty.openpty()
        with open(theirs, closefd=True) as stdin, open(terminal, "wb", buffering=0) as keys:
            if answer is not None:
                keys.write(answer.encode() + b"\n")
            return ctl(stub, "release", *words, stdin=stdin)

    def test_a_living_holder_needs_force_where_nobody_can_be_asked(self):
        stub = self.stub(info("vm", pid=12, unit="vm@1.service", devices=BDF), Release={})
        for words in (("vm",), ("vm", "--yes"), ("3b:00.0", "-y")):
            run = ctl(stub, "release", *words)
            self.assertEqual((run.status, run.out), (FAILURE, ""), run)
            for word in ("process 12 (vm@1.service)", "--force", "--when-dead"):
                self.assertIn(word, run.err)
        self.assertEqual(ctl(stub, "release", "vm", input="y\n").status, FAILURE)
        self.assertReleased(stub)
        run = ctl(stub, "release", "vm", "--force")
        self.assertEqual(run.status, OK, run)
        self.assertReleased(stub, {"name": "vm", "uid": 0})

    def test_at_a_terminal_the_operator_is_asked_or_has_said_yes(self):
        stub = self.stub(info("vm", pid=12), Release={})
        for answer in ("n", "", "maybe"):
            run = self.at_terminal(stub, "vm", answer=answer)
            self.assertEqual(run.status, FAILURE, run)
            self.assertIn("held by process 12", run.err)
        self.assertReleased(stub)
        for words, answer in ((("vm",), "y"), (("vm", "--yes"), None), (("vm", "--force"), None)):
            stub.calls.clear()
            run = self.at_terminal(stub, *words, answer=answer)
            self.assertEqual(run.status, OK, run)
            self.assertReleased(stub, {"name": "vm", "uid": 0})

    def test_what_was_seen_dead_is_released_only_if_it_still_is(self):
        stub = self.stub(info("vm", state="orphaned"), Release={})
        for words in ((), ("--yes",), ("--when-dead",)):
            stub.calls.clear()
            self.assertEqual(ctl(stub, "release", "vm", *words).status, OK)
            self.assertReleased(stub, {"name": "vm", "uid": 0, "whenDead": True})
        stub.calls.clear()
        self.assertEqual(ctl(stub, "release", "vm", "--force").status, OK)
        self.assertReleased(stub, {"name": "vm", "uid": 0})

    def test_a_claim_between_the_look_and_the_release_is_no_release(self):
        busy = ("io.vfiocpr.Session.Busy", {"message": "process 13 lives", "errno": 16})
        stub = self.stub(info("vm", state="orphaned"), Release=busy)
        for words, status in (((), FAILURE), (("--yes",), FAILURE), (("--when-dead",), OK)):
            run = ctl(stub, "release", "vm", *words)
            self.assertEqual((run.status, run.out), (status, ""), run)
            self.assertIn("process 13 lives", run.err)

    def test_when_dead_does_nothing_while_a_holder_lives_or_without_a_session(self):
        gone = ("io.vfiocpr.Session.NoSuchSession", {"message": "it is gone", "errno": 0})
        stub = self.stub(info("vm", pid=12), info("late", state="orphaned"), Release=gone)
        for name, why in (("vm", "process 12"), ("none", "no session none"), ("late", "is gone")):
            run = ctl(stub, "release", "--when-dead", name)
            self.assertEqual((run.status, run.out), (OK, ""), run)
            self.assertIn(why, run.err)
            run = ctl(stub, "--json", "release", "--when-dead", name)
            self.assertEqual((run.status, json.loads(run.out)), (OK, {"released": None}), run)
        self.assertEqual(ctl("/nonexistent", "release", "--when-dead", "vm").status, NO_DAEMON)
        self.assertEqual(ctl(stub, "release", "--when-dead", "--force", "vm").status, USAGE)

    def test_an_older_daemon_cannot_release_only_the_dead(self):
        def release(parameters):
            known = set(parameters) <= {"name", "uid"}
            return {} if known else ("org.varlink.service.InvalidParameter", {"parameter": "x"})

        stub = self.stub(info("vm", state="orphaned"), Release=release)
        run = ctl(stub, "release", "--when-dead", "vm")
        self.assertEqual(run.status, FAILURE, run)
        self.assertIn("systemctl restart vfio-cprd", run.err)
        self.assertEqual(ctl(stub, "release", "vm").status, OK)


class ReleasingForReal(DaemonTest):
    def test_when_dead_releases_an_orphan_and_keeps_what_lives(self):
        holder = self.holder()
        holder.attach("vm")
        holder.store([describe("eventfd", "e", 1)], [cpr.eventfd()])
        run = ctl(self.daemon, "release", "--when-dead", "vm")
        self.assertEqual(run.status, OK, run)
        self.assertIn(f"held by process {holder.pid}", run.err)
        self.assertEqual(ctl(self.daemon, "show", "vm").status, OK)
        holder.kill()
        run = ctl(self.daemon, "release", "--when-dead", "vm")
        self.assertEqual((run.status, run.err), (OK, ""), run)
        self.assertIn("closed 1 eventfd", run.out)
        self.assertEqual(ctl(self.daemon, "show", "vm").status, NO_SESSION)
        self.assertIdle()
