# SPDX-License-Identifier: LGPL-2.1-or-later
"""Completion of vfio-cprctl's command line, in the shells themselves."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from daemon import BUILD, Daemon  # noqa: E402
from holder import Holder  # noqa: E402
import shells  # noqa: E402

VERBS = ("list", "show", "monitor", "release", "check")
SESSIONS = """#!/bin/sh
echo "$*" >>"$CALLS"
cat <<'END'
[
  {
    "name": "a:b:c",
    "uid": 0,
    "holder": {
      "pid": 7,
      "unit": "vm.service"
    },
    "devices": [
      "0000:3b:00.0",
      "0001:3b:00.0"
    ]
  },
  {
    "name": "a:b:d",
    "uid": 0,
    "holder": null,
    "devices": []
  },
  {
    "name": "vm@web1",
    "uid": 0,
    "holder": null,
    "devices": null
  }
]
END
"""
SYSTEMCTL = """#!/bin/sh
echo 'vm@web1.service loaded active running a VM'
echo 'vm@web2.service loaded active running a VM'
"""
PCI = {
    "0000:00:00.0": "0x060000",  # host bridge
    "0000:00:01.0": "0x020000",
    "0000:00:01.1": "0x020000",
    "0000:00:02.0": "0x060400",  # PCI bridge
    "10000:e1:00.0": "0x010802",
}


class Completion:
    """What holds in every shell; each has a class below."""

    shell_class = None

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="completion-")
        self.addCleanup(shutil.rmtree, self.directory)
        for bdf, number in PCI.items():
            os.makedirs(self.path("pci", bdf))
            with open(self.path("pci", bdf, "class"), "w", encoding="ascii") as file:
                file.write(number + "\n")
        os.mkdir(self.path("bin"))
        self.program("vfio-cprctl", SESSIONS)
        self.program("systemctl", SYSTEMCTL)
        self.shell = self.start()

    def start(self):
        shell = self.shell_class({
            "PATH": self.path("bin") + ":" + os.environ["PATH"],
            "CALLS": self.path("calls"),
            "HOME": self.directory,
            "_vfio_cprctl_sysfs": self.path("pci"),
        })
        self.addCleanup(shell.close)
        return shell

    def path(self, *names):
        return os.path.join(self.directory, *names)

    def program(self, name, text):
        with open(self.path("bin", name), "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(self.path("bin", name), 0o755)

    def offers(self, line, *words):
        self.assertEqual(sorted(self.shell.candidates("vfio-cprctl " + line)), sorted(words))

    def test_verbs(self):
        self.offers("", *VERBS)
        self.offers("re", "release")
        self.offers("--json s", "show")

    def test_addresses_with_colons_are_completed_as_one_word_and_bridges_left_out(self):
        self.offers("check 0000:00:0", "0000:00:01.0", "0000:00:01.1")
        self.offers("check 0000:00:01.1", "0000:00:01.1")
        self.offers("check 1", "10000:e1:00.0")
        self.offers("check ", "0000:00:01.0", "0000:00:01.1", "10000:e1:00.0")

    def test_several_devices_can_be_checked(self):
        self.offers("check 0000:00:01.0 1", "10000:e1:00.0")

    def test_sessions_with_colons_are_completed_as_one_word(self):
        for verb in ("show", "release", "monitor"):
            with self.subTest(verb=verb):
                self.offers(f"{verb} a:b:", "a:b:c", "a:b:d")
                self.offers(f"{verb} vm@", "vm@web1")

    def test_a_held_device_stands_for_its_session(self):
        self.offers("show 0000:3b", "0000:3b:00.0")
        self.offers("show ", "0000:3b:00.0", "0001:3b:00.0", "a:b:c", "a:b:d", "vm@web1")
        self.offers("release --uid 0 0001:", "0001:3b:00.0")

    def test_one_session_is_enough(self):
        self.offers("show a:b:c a") if self.shell_class is shells.Fish else self.assertEqual(
            self.shell.candidates("vfio-cprctl show a:b:c a"), ["a"])

    def test_the_daemon_that_is_named_is_asked(self):
        for option in ("--socket /x/y", "-s /x/y", "--socket=/x/y"):
            with self.subTest(option=option):
                self.offers(f"{option} show vm", "vm@web1")
                with open(self.path("calls"), encoding="ascii") as file:
                    self.assertIn(file.read().splitlines()[-1],
                                  ("--socket /x/y --json list", "--socket=/x/y --json list"))

    def test_every_option_of_help_is_offered(self):
        program = os.path.join(BUILD, "vfio-cprctl")
        for verb in VERBS:
            text = subprocess.run([program, verb, "--help"], check=True, text=True,
                                  capture_output=True).stdout
            options = set(re.findall(r"(--[a-z-]+)", text.partition("\nHelp Options")[2] or text))
            offered = {word.partition("=")[0]
                       for word in self.shell.candidates(f"vfio-cprctl {verb} --")}
            with self.subTest(verb=verb):
                self.assertGreater(len(options), 4)
                self.assertEqual(options - offered, set())

    def test_units_are_completed(self):
        self.offers("check --unit vm@web1", "vm@web1.service")
        self.offers("check --unit vm", "vm@web1.service", "vm@web2.service")

    def test_users_are_completed(self):
        self.offers("check --user nobo", "nobody")
        self.offers("show --uid nobo", "nobody")

    def test_without_a_daemon_nothing_is_offered_and_nothing_printed(self):
        self.program("vfio-cprctl", "#!/bin/sh\necho no daemon >&2\nexit 4\n")
        if self.shell_class is shells.Fish:
            self.offers("show a")
        else:
            self.assertEqual(self.shell.candidates("vfio-cprctl show a"), ["a"])
            self.assertNotIn("no daemon", self.shell.output)

    def test_a_name_is_never_run(self):
        """A session's name that a shell would expand is not offered, and never run"""
        self.program("vfio-cprctl", SESSIONS.replace("a:b:c", "a$(touch $HOME/run)`touch $HOME/run`"))
        self.offers("show a", "a:b:d")
        self.offers("show v", "vm@web1")
        self.assertFalse(os.path.exists(self.path("run")))

    def test_the_sessions_of_a_daemon_are_completed(self):
        daemon = Daemon()
        self.addCleanup(daemon.stop)
        for name in ("a:b:c", "a:b:d", "0000:3b:00.0"):
            holder = Holder(daemon)
            self.addCleanup(holder.kill)
            holder.attach(name)
        os.remove(self.path("bin", "vfio-cprctl"))
        os.symlink(os.path.join(BUILD, "vfio-cprctl"), self.path("bin", "vfio-cprctl"))
        self.offers(f"--socket {daemon.path} show a:b:", "a:b:c", "a:b:d")
        self.offers(f"--socket {daemon.path} release 0000:3", "0000:3b:00.0")


class ByTab(Completion):
    """What the line is after a tab: nothing is doubled, nothing lost."""

    def becomes(self, line, after):
        self.assertEqual(self.shell.type("vfio-cprctl " + line), "vfio-cprctl " + after)

    def test_tab_does_not_double_what_is_before_a_colon(self):
        self.becomes("check 0000:00:0", "check 0000:00:01.")
        self.becomes("check 10", "check 10000:e1:00.0 ")
        self.becomes("show a:", "show a:b:")
        self.becomes("show 0001:3b:0", "show 0001:3b:00.0 ")

    def test_tab_completes_addresses_without_their_domain(self):
        self.becomes("check 00:01.", "check 00:01.")
        self.becomes("check 00:0", "check 00:01.")
        self.becomes("show 3b:", "show 3b:00.0 ")

    def test_tab_completes_a_socket(self):
        self.becomes(f"--socket {self.path('bin')}/sys", f"--socket {self.path('bin')}/systemctl ")
        self.becomes(f"--socket={self.path('bin')}/sys", f"--socket={self.path('bin')}/systemctl ")


class Bash(ByTab, unittest.TestCase):
    shell_class = shells.Bash

    def test_tab_completes_after_an_equals_sign(self):
        self.becomes("check --unit=vm@web1", "check --unit=vm@web1.service ")
        self.becomes("show --uid=nobo", "show --uid=nobody ")


class PlainBash(Bash):
    shell_class = shells.PlainBash


class BashWithoutColons(Bash):
    shell_class = shells.BashWithoutColons


class Zsh(ByTab, unittest.TestCase):
    shell_class = shells.Zsh


class Fish(Completion, unittest.TestCase):
    shell_class = shells.Fish


if __name__ == "__main__":
    unittest.main()
