# SPDX-License-Identifier: LGPL-2.1-or-later
"""What vfio-cprctl tells of sessions, how it finds the one that is meant, and whom it lets release one."""

import json
import pty
import re
import signal
import subprocess

from ctl import BDF, CTL, FAILURE, NO_DAEMON, NO_SESSION, OK, USAGE, StubTest, ctl, info
from daemontest import DaemonTest
from fds import describe, eventfd
from holder import NOBODY


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

    def test_what_the_kernel_refused_is_told_below_the_table(self):
        refused = "address space s0: the kernel invalidated nothing"
        stub = self.stub(info("a", pid=1), info("b", state="orphaned", warning=refused))
        run = ctl(stub, "list")
        self.assertEqual(run.err, f"vfio-cprctl: warning: session b: {refused}\n")
        self.assertNotIn("kernel", run.out)
        told = json.loads(ctl(stub, "--json", "list").out)
        self.assertEqual([one["warning"] for one in told], [None, refused])
        self.assertIn(f"Warning: {refused}\n", ctl(stub, "show", "b").out)
        self.assertNotIn("Warning", ctl(stub, "show", "a").out)

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
        holder.store([describe("eventfd", "e", 1)], [eventfd()])
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
