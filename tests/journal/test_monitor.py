# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfio-cprctl monitor over restarts of the daemon: what a script sees of what happened meanwhile."""

import json
import os
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from daemon import BUILD
from fds import close_all, describe, eventfd
from holder import Holder
from pid1 import Pid1


class Monitor:
    """A running vfio-cprctl monitor --json."""

    def __init__(self, where, *words):
        command = [os.path.join(BUILD, "vfio-cprctl"), "--socket", where.path, "monitor"]
        self.process = subprocess.Popen(
            [*command, "--json", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def next(self):
        """The next event."""
        return json.loads(self.process.stdout.readline())

    def wait_for(self, *words):
        """Events up to the first whose values have all these words."""
        seen = []
        while not seen or not set(words) <= set(seen[-1].values()):
            seen.append(self.next())
        return seen

    def said(self):
        """The next sentence on stderr."""
        return self.process.stderr.readline()

    def stop(self):
        """Interrupts it: (exit status, the rest of stdout, the rest of stderr)."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate()
        return self.process.returncode, out, err

    def kill(self):
        self.process.kill()
        self.process.communicate()


class MonitorTest(unittest.TestCase):
    def setUp(self):
        self.addCleanup(close_all)
        self.daemon = Pid1()
        self.addCleanup(self.daemon.stop)

    def monitor(self, *words):
        monitor = Monitor(self.daemon, *words)
        self.addCleanup(monitor.kill)
        return monitor

    def vm(self, name):
        holder = Holder(self.daemon)
        self.addCleanup(holder.kill)
        holder.attach(name)
        holder.store([describe("eventfd", "e", 1)], [eventfd()])
        return holder

    def test_what_died_while_the_daemon_was_gone_is_told_after_the_gap(self):
        vm, other = self.vm("vm"), self.vm("other")
        monitor = self.monitor()
        self.assertEqual({monitor.next()["name"], monitor.next()["name"]}, {"vm", "other"})
        self.daemon.kill()
        self.assertIn("vfio-cprd is gone", monitor.said())
        vm.kill()
        self.daemon.start()
        self.daemon.wait_ready()
        seen = monitor.wait_for("vm", "orphaned")
        gap = seen[0]
        self.assertEqual(gap["event"], "gap")
        self.assertEqual({gap[key] for key in ("name", "uid", "state", "pid")}, {None})
        self.assertLessEqual(gap["sinceUsec"], gap["timestampUsec"])
        if not any(event["name"] == "other" for event in seen):  # it may be told after that death
            seen.append(monitor.next())
        self.assertEqual({e["name"] for e in seen[1:3] if e["event"] == "present"}, {"vm", "other"})
        self.assertIn("vfio-cprd is back", monitor.said())
        # It goes on as before.
        other.kill()
        monitor.wait_for("other", "orphaned")
        self.assertEqual(monitor.stop(), (0, "", ""))

    def test_each_restart_is_told_once(self):
        self.vm("vm")
        monitor = self.monitor("vm")
        self.assertEqual(monitor.next()["event"], "present")
        for _ in range(3):
            self.daemon.restart()
            self.assertEqual([e["event"] for e in monitor.wait_for("present")], ["gap", "present"])
            self.assertIn("vfio-cprd is gone", monitor.said())
            self.assertIn("vfio-cprd is back", monitor.said())
        self.assertEqual(monitor.stop(), (0, "", ""))

    def test_it_waits_for_a_session_and_says_so(self):
        monitor = self.monitor("vm")
        self.assertIn("no session vm that you may see: waiting for one", monitor.said())
        self.vm("other")
        vm = self.vm("vm")
        self.assertEqual([e["name"] for e in monitor.wait_for("vm", "created")], ["vm"])
        vm.kill()
        monitor.wait_for("vm", "orphaned")
        self.daemon.restart()
        gap, present = monitor.wait_for("present")
        self.assertEqual((present["name"], present["state"]), ("vm", "orphaned"))

    def test_interrupted_while_the_daemon_is_gone_it_ends_well(self):
        self.vm("vm")
        monitor = self.monitor()
        monitor.wait_for("present")
        self.daemon.kill()
        self.assertIn("vfio-cprd is gone", monitor.said())
        status, _, err = monitor.stop()
        self.assertEqual((status, err), (0, ""))
        self.daemon.start()
        self.daemon.wait_ready()
