# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that have more rights than who starts them: the environment, which is of the one who does,
leads them to no daemon of his."""

import os
import shutil
import stat
import subprocess
import tempfile
import unittest

from daemon import BUILD, Daemon

USER = 65534
ASAN = "detect_leaks=0"  # of a program that may not be traced


@unittest.skipUnless(os.geteuid() == 0, "only root can give a program more rights than its user")
class Secure(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon("--mode", "0666")
        self.addCleanup(self.daemon.stop)
        self.folder = tempfile.mkdtemp(prefix="vfio-cprd-")
        self.addCleanup(shutil.rmtree, self.folder)
        os.chmod(self.folder, 0o755)

    def run_as_user(self, name, *arguments, mode=0o755, capability=None):
        """What a copy of the program of that mode says, whom a user has started."""
        program = os.path.join(self.folder, "program")
        shutil.copy(os.path.join(BUILD, name), program)
        os.chmod(program, mode)
        if capability:
            subprocess.run(["setcap", capability, program], check=True)
        done = subprocess.run(
            [program, *arguments],
            env={"VFIO_CPR_SOCKET": self.daemon.path, "ASAN_OPTIONS": ASAN},
            user=USER, group=USER, extra_groups=[], capture_output=True, text=True,
        )
        return done.stdout + done.stderr

    def test_a_plain_program_takes_the_path_from_the_environment(self):
        self.assertEqual(self.run_as_user("tests/opener"), "plain: opened\n")
        self.assertIn("No sessions", self.run_as_user("vfio-cprctl", "list"))

    def assertPassedOver(self, **rights):
        said = self.run_as_user("tests/opener", **rights)
        if said.startswith("plain"):
            self.skipTest(f"{self.folder} is on a file system that gives no program rights")
        self.assertNotIn(self.daemon.path, said)
        self.assertIn("/run/vfio-cprd/io.vfiocpr", said)
        said = self.run_as_user("vfio-cprctl", "list", **rights)
        self.assertNotIn("No sessions", said)
        self.assertNotIn(self.daemon.path, said)

    def test_a_setuid_program_does_not(self):
        self.assertPassedOver(mode=stat.S_ISUID | 0o755)

    def test_a_program_with_file_capabilities_does_not(self):
        if not shutil.which("setcap"):
            self.skipTest("setcap is not installed (libcap2-bin)")
        self.assertPassedOver(capability="cap_net_raw+ep")
