# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfio-cprctl check as a program: for whom it is asked, and what it says when it cannot know."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

from daemon import BUILD
from daemontest import DaemonTest

SYSTEMCTL = """#!/bin/sh
printf '%s\\n' "$@" >"$0.called"
cat <<'END'
Id=vm@web1.service
LoadState=loaded
User=nobody
Group=
SupplementaryGroups=
MainPID=0
LimitMEMLOCKSoft=65536
LimitNOFILE=1024
DevicePolicy=auto
PrivateDevices=no
END
"""


class Check(DaemonTest):
    def setUp(self):
        super().setUp()
        self.bin = tempfile.mkdtemp(prefix="check-")
        self.addCleanup(shutil.rmtree, self.bin)

    def systemctl(self, text):
        path = os.path.join(self.bin, "systemctl")
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(path, 0o755)

    def run_check(self, *words):
        program = os.path.join(BUILD, "vfio-cprctl")
        env = {**os.environ, "PATH": self.bin + ":" + os.environ["PATH"]}
        return subprocess.run([program, "--socket", self.daemon.path, "--json", "check", *words],
                              env=env, text=True, capture_output=True)

    def findings(self, *words):
        done = self.run_check(*words)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        return json.loads(done.stdout)

    def named(self, findings, check):
        return [one for one in findings if one["check"] == check]

    def test_the_limits_of_a_unit_are_judged_and_not_the_shells(self):
        self.systemctl(SYSTEMCTL)
        findings = self.findings("--unit", "vm@web1")
        for check in ("memlock", "nofile"):
            (one,) = self.named(findings, check)
            self.assertEqual(one["status"], "warning")
            self.assertIn("vm@web1.service", one["detail"])
        self.assertEqual([one["status"] for one in self.named(findings, "unit")], ["ok"])
        with open(os.path.join(self.bin, "systemctl.called"), encoding="ascii") as file:
            self.assertEqual(file.read().splitlines()[-2:], ["--", "vm@web1"])

    def test_a_systemd_that_cannot_tell_leaves_it_unknown(self):
        self.systemctl("#!/bin/sh\necho No bus. >&2\nexit 1\n")
        findings = self.findings("--unit", "vm@web1")
        (one,) = self.named(findings, "unit")
        self.assertEqual(one["status"], "unknown")
        self.assertIn("No bus.", one["detail"])
        self.assertNotIn("ok", [one["status"] for one in self.named(findings, "backend")])

    def test_a_unit_whose_user_does_not_exist_is_unknown(self):
        self.systemctl(SYSTEMCTL.replace("User=nobody", "User=no-such-user"))
        statuses = [one["status"] for one in self.named(self.findings("--unit", "vm"), "unit")]
        self.assertIn("unknown", statuses)

    @unittest.skipUnless(os.getuid() == 0, "only root can ask for another user")
    def test_a_user_who_may_not_connect_to_the_daemon_is_told(self):
        for whom in (["--user", "nobody"], ["--unit", "vm@web1"]):
            self.systemctl(SYSTEMCTL)
            with self.subTest(whom=whom):
                found = [one for one in self.named(self.findings(*whom), "access")
                         if one["subject"] == self.daemon.path]
                self.assertEqual([one["status"] for one in found], ["blocker"])
                self.assertIn("nobody may not connect", found[0]["detail"])
                self.assertIn("SocketGroup=", found[0]["remedy"])
        os.chmod(self.daemon.path, 0o666)
        found = [one for one in self.named(self.findings("--user", "nobody"), "access")
                 if one["subject"] == self.daemon.path]
        self.assertEqual([one["status"] for one in found], ["ok"])

    def test_the_shells_own_limits_are_no_warning(self):
        for check in ("memlock", "nofile"):
            (one,) = self.named(self.findings(), check)
            self.assertIn(one["status"], ("ok", "unknown"))
            self.assertIn("this shell", one["detail"])

    def test_nonsense_is_a_usage_error(self):
        for words in (["--user", "no-such-user"], ["--unit", "vm*"], ["--unit", ""],
                      ["--unit=--all"]):
            with self.subTest(words=words):
                done = self.run_check(*words)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertTrue(done.stderr.startswith("vfio-cprctl: "), done.stderr)
                self.assertEqual(done.stdout, "")


if __name__ == "__main__":
    unittest.main()
