# SPDX-License-Identifier: LGPL-2.1-or-later
"""What hangs is cut off, what is starved is not. Nothing here is said about how long that takes."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import patience

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE = [sys.executable, os.path.join(HERE, "patience.py"), "--seconds"]
RUNNER = [sys.executable, os.path.join(HERE, "runner.py"), "--timeout", "1"]
SPIN = "while :; do :; done"
HANGING_TEST = """
import subprocess, time, unittest
class Test(unittest.TestCase):
    def test_hangs(self):
        self.addCleanup(time.sleep, 1000)
        subprocess.run(["sleep", "1000"])
    def test_passes(self):
        pass
"""


def run(seconds, *command):
    return subprocess.run([*PATIENCE, str(seconds), *command], capture_output=True, text=True)


@contextlib.contextmanager
def children(n, command, cpu, nice=0):
    """Processes that run a shell's command, all on one processor."""

    def prepare():
        os.sched_setaffinity(0, {cpu})
        os.nice(nice)

    started = [
        subprocess.Popen(["sh", "-c", command], preexec_fn=prepare, start_new_session=True)
        for _ in range(n)
    ]
    try:
        yield started
    finally:
        for child in started:
            os.killpg(child.pid, signal.SIGKILL)  # with its own children
            child.wait()


class PatienceTest(unittest.TestCase):
    def setUp(self):
        self.cpu = min(os.sched_getaffinity(0))

    def is_cut_off(self, command):
        with children(1, command, self.cpu) as (child,):
            limit = patience.Patience(1, child.pid)
            while not limit.is_over():
                time.sleep(0.1)

    def assertStarvedGoesOn(self, command):
        """Far beyond its seconds on the wall."""
        with children(4, SPIN, self.cpu), children(1, command, self.cpu, nice=19) as (child,):
            limit = patience.Patience(2, child.pid)
            end = time.monotonic() + 5
            while time.monotonic() < end:
                self.assertFalse(limit.is_over(), f"{limit.spent()} s are counted")
                time.sleep(0.1)

    def test_who_sleeps_is_cut_off(self):
        self.is_cut_off("exec sleep 1000")

    def test_who_spins_is_cut_off(self):
        self.is_cut_off(SPIN)

    def test_who_starts_process_after_process_is_cut_off(self):
        self.is_cut_off("while :; do /bin/true; done")

    def test_who_spins_but_is_starved_goes_on(self):
        self.assertStarvedGoesOn(SPIN)

    def test_who_waits_for_a_starved_child_goes_on(self):
        self.assertStarvedGoesOn(f"sh -c '{SPIN}'; :")

    def test_who_starts_process_after_process_but_is_starved_goes_on(self):
        self.assertStarvedGoesOn("while :; do /bin/true; done")

    def test_a_process_stays_watched_when_its_parent_is_dead(self):
        with tempfile.NamedTemporaryFile("r") as file:
            command = f"sh -c '{SPIN}' & echo $! >{file.name}; read -r word"
            child = subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE)
            while not (text := open(file.name).read()):
                time.sleep(0.01)
            clock = patience.Clock(child.pid)
            clock.look()
            child.communicate()
            try:
                clock.look()
                self.assertIn(int(text), clock.known)
            finally:
                os.kill(int(text), signal.SIGKILL)


class CommandTest(unittest.TestCase):
    def test_the_status_is_the_command_s(self):
        self.assertEqual(run(50, "sh", "-c", "exit 3").returncode, 3)
        self.assertEqual(run(50, "sh", "-c", "kill -9 $$").returncode, 128 + 9)
        self.assertEqual(run(50, "echo", "word", "--seconds").stdout, "word --seconds\n")

    def test_a_command_that_hangs_is_named_and_ends_with_all_its_children(self):
        command = "setsid sleep 1001 & sh -c 'setsid sleep 1002 & exit'; sleep 1003"
        done = run(1, "sh", "-c", command)
        self.assertEqual(done.returncode, patience.CUT_OFF)
        self.assertIn("sh is cut off", done.stderr)
        for number in range(1001, 1004):  # they had standard error open: run() saw its end
            self.assertRegex(done.stderr, f"still running: [0-9]+ sleep {number} .*sleep")

    def test_a_signal_is_passed_on(self):
        process = subprocess.Popen([*PATIENCE, "50", "sh", "-c", "echo; exec sleep 1000"],
                                   stdout=subprocess.PIPE)
        process.stdout.readline()
        process.terminate()
        self.assertEqual(process.wait(), 128 + signal.SIGTERM)
        process.stdout.close()


class RunnerTest(unittest.TestCase):
    def test_a_test_that_hangs_fails_and_the_next_one_is_run(self):
        with tempfile.NamedTemporaryFile("w", suffix=".py", prefix="test_") as file:
            file.write(HANGING_TEST)
            file.flush()
            done = subprocess.run([*RUNNER, file.name], capture_output=True, text=True)
        self.assertRegex(done.stdout, r"FAIL hangs \([0-9.]+ s\)\n")
        self.assertIn('subprocess.run(["sleep", "1000"])', done.stdout)
        self.assertIn("cut off: no end after 1 s", done.stdout)
        self.assertRegex(done.stdout, r"PASS passes \([0-9.]+ s\)\n1 passed, 1 failed\n")
        self.assertEqual(done.returncode, 1)
