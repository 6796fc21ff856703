# SPDX-License-Identifier: LGPL-2.1-or-later
"""follow.py with a shell in QEMU's place: who is given up, who is cut off, and who goes on."""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import threading
import unittest
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import follow

OBEDIENT = """
echo "@begin one"; echo "| word"
while read -r give_up name && [ "$give_up $name" != "give-up one" ]; do :; done
echo "@end one hang - 2.0"
echo "@begin two"; echo "@end two pass 0 1.0"
"""


class FollowTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.console = os.path.join(folder.name, "console.log")

    def follow(self, machine, *options, tests=("one 1 x", "two 1 y"), before=(), after=()):
        """(exit status, what it prints)"""
        listed = os.path.join(self.folder, "list")
        with open(listed, "w", encoding="ascii") as file:
            file.write("".join(test + "\n" for test in tests))
        arguments = ["follow.py", "--list", listed, "--results", self.folder, *options,
                     *before, "sh", "-c", machine, self.console, *after]
        output = io.StringIO()
        with mock.patch.multiple(follow, QUIET=1, OBEY=1), mock.patch("signal.signal"), \
                mock.patch.object(sys, "argv", arguments), contextlib.redirect_stdout(output), \
                self.assertRaises(SystemExit) as end:
            follow.main()
        return end.exception.code, output.getvalue()

    def test_a_test_that_hangs_is_given_up_and_the_next_one_runs(self):
        status, output = self.follow(OBEDIENT)
        self.assertEqual(output, "HANG one (cut off after 2.0 s)\n    word\nPASS two (1.0 s)\n"
                                 "passed 1 failed 0 hung 1 skipped 0\n")
        self.assertEqual(status, 1)

    def test_a_machine_that_does_not_obey_is_cut_off(self):
        status, output = self.follow('echo "@begin one"; echo "| word"; exec sleep 1000')
        self.assertIn("LOST one: the VM was cut off, for it does not give the test up, while it ran"
                      "\n    word\nLOST two: ", output)
        self.assertTrue(output.endswith("passed 0 failed 2 hung 0 skipped 0\n"), output)
        self.assertEqual(status, 1)

    def test_a_machine_without_a_sign_of_life_is_cut_off(self):
        _, output = self.follow('echo boot >"$0"; exec sleep 1000')
        self.assertIn("LOST one: the VM was cut off after 1 s without a sign of life before it "
                      "began", output)
        self.assertIn("The console's last lines:\n    boot\n", output)

    def test_a_machine_that_writes_on_its_console_goes_on(self):
        slow = 'for i in 1 2 3 4 5 6; do echo $i >>"$0"; sleep 0.6; done\n'
        status, output = self.follow(
            slow + 'echo "@begin one"; echo "@end one pass 0 0.1"; echo "@begin two"\n'
            'echo "| no device"; echo "@end two skip 77 0.1"', "--stream", "two")
        self.assertEqual(output, "PASS one (0.1 s)\nno device\nSKIP two: no device\n"
                                 "passed 1 failed 0 hung 0 skipped 1\n")
        self.assertEqual(status, 0)

    def test_a_machine_that_gets_no_processor_goes_on(self):
        cpu = min(os.sched_getaffinity(0))
        busy = [subprocess.Popen(["taskset", "-c", str(cpu), "sh", "-c", "while :; do :; done"])
                for _ in range(4)]

        def relieve():
            for process in busy:
                process.kill()
                process.wait()

        self.addCleanup(relieve)
        relief = threading.Timer(6, relieve)
        relief.start()
        work = "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done\n"
        _, output = self.follow(
            work + 'echo "@begin one"\n' + work + 'echo "@end one pass 0 0.1"', tests=("one 1 x",),
            before=["taskset", "-c", str(cpu), "nice", "-n", "19"])
        relief.join()
        self.assertEqual(output, "PASS one (0.1 s)\npassed 1 failed 0 hung 0 skipped 0\n")

    def test_a_machine_that_ends_loses_what_ran_and_what_did_not(self):
        _, output = self.follow('echo "@begin one"; exit 1')
        self.assertIn("LOST one: the VM ended while it ran\n", output)
        self.assertIn("LOST two: the VM ended before it began\n", output)

    def test_a_new_machine_goes_on_and_begins_the_lost_test_again(self):
        once = 'case $2 in "") echo dead >"$0"; echo "@begin one"; echo "@end one pass 0 0.1"; ' \
            'echo "@begin two"; exit;; esac; [ "$2" = " first=2" ] && echo "@begin two"; ' \
            'echo "@end two pass 0 0.2"'
        status, output = self.follow(once, "--machines", "2", after=("-append", ""))
        self.assertEqual(output, "PASS one (0.1 s)\nAGAIN two: the VM ended while it ran\n"
                                 "The console's last lines:\n    dead\nPASS two (0.2 s)\n"
                                 "passed 2 failed 0 hung 0 skipped 0\n")
        self.assertEqual(status, 0)

    def test_who_is_lost_twice_is_lost_and_the_next_is_run(self):
        deadly = 'if [ "$2" = " first=2" ]; then echo "@begin two"; echo "@end two pass 0 0.2"; ' \
            'else echo "@begin one"; fi'
        status, output = self.follow(deadly, "--machines", "3", after=("-append", ""))
        self.assertEqual([line for line in output.splitlines() if line[0].isupper()],
                         ["AGAIN one: the VM ended while it ran", "The console's last lines:",
                          "LOST one: the VM ended while it ran",
                          "A new machine goes on with two: the VM ended before it began",
                          "The console's last lines:", "PASS two (0.2 s)"])
        self.assertTrue(output.endswith("passed 1 failed 1 hung 0 skipped 0\n"), output)
        self.assertEqual(status, 1)

    def test_there_are_no_more_machines_than_said(self):
        _, output = self.follow('echo "@begin one"', "--machines", "2", after=("-append", ""))
        self.assertIn("LOST one: the VM ended while it ran\nLOST two: the VM ended before it began",
                      output)

    def test_a_limit_for_all_ends_also_who_shows_life(self):
        _, output = self.follow('while :; do echo x >>"$0"; sleep 0.1; done', "--timeout", "2")
        self.assertIn("LOST one: the VM was cut off after 2 s before it began", output)
