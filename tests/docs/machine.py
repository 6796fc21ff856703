# SPDX-License-Identifier: LGPL-2.1-or-later
"""The test VM as the pages' examples take it for granted: a VMM that lives or has died, a unit of
one, a machine without a daemon; and what must have come of a command."""

import json
import os
import pwd
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
sys.path += [HERE, os.path.join(SOURCE, "tests", "vm", "cases")]
import commands  # noqa: E402
import expected  # noqa: E402
from case import edu_devices  # noqa: E402 (of tests/vm/cases)
from vmm import wait_for  # noqa: E402

EDU = os.path.join(SOURCE, "build", "edu")
UNIT = f"""[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart={EDU} --session %i --rounds 1000000 DEVICE
LimitMEMLOCK=infinity
LimitNOFILE=524288
"""


def run(*words, status=0):
    """A program's standard output."""
    done = subprocess.run(words, text=True, stdout=subprocess.PIPE, check=False)
    assert done.returncode == status, f"{words} ended with {done.returncode}: {done.stdout}"
    return done.stdout


class Machine:
    def __init__(self):
        self.device = edu_devices()[0]
        self.short_device = self.device.partition(":")[2]
        self.shell = None
        self.at_end = []
        self.before = None

    def substitute(self, text):
        for name, attribute in expected.SUBSTITUTES.items():
            text = text.replace(name, getattr(self, attribute))
        return text

    # The tool's view

    @staticmethod
    def sessions():
        return {one["name"]: one for one in json.loads(run("vfio-cprctl", "list", "--json"))}

    def is_in(self, name, state, other_than=None):
        one = self.sessions().get(name)
        return bool(one) and one["state"] == state and (
            other_than is None or one["holder"]["pid"] != other_than)

    def wait_for(self, name, state, other_than=None):
        wait_for(f"session {name} to be {state}", lambda: self.is_in(name, state, other_than))

    @staticmethod
    def property(unit, name):
        return run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    # Before a command

    def active(self, name):
        """A VMM that lives."""
        vmm = subprocess.Popen([EDU, "--session", name, "--rounds", "1000000", self.device],
                               stdout=subprocess.DEVNULL)
        self.at_end.append(lambda: (vmm.kill(), vmm.wait()))
        self.wait_for(name, "active")
        self.before = self.property("vfio-cprd", "MainPID"), vmm.pid

    def orphan(self, name):
        """A VMM that has died."""
        if name not in self.sessions():
            subprocess.run([EDU, "--session", name, "--rounds", "1", "--die-in-flight",
                            self.device], stdout=subprocess.DEVNULL, check=False)
        self.wait_for(name, "orphaned")
        run("journalctl", "--sync")

    def unit(self, unit):
        """A unit of a VMM, which does not run."""
        template = unit.partition("@")[0]
        with open(f"/run/systemd/system/{template}@.service", "w", encoding="utf-8") as file:
            file.write(UNIT.replace("DEVICE", self.device))
        run("systemctl", "daemon-reload")

    def dead_unit(self, unit):
        """A VMM of a unit that has died."""
        self.unit(unit)
        run("systemctl", "start", unit)
        self.at_end.append(lambda: run("systemctl", "stop", unit))
        self.kill(unit, unit.partition("@")[2])

    def kill(self, unit, session):
        self.wait_for(session, "active")
        pid = self.sessions()[session]["holder"]["pid"]
        assert str(pid) == self.property(unit, "MainPID")
        os.kill(pid, signal.SIGKILL)
        return pid

    def no_daemon(self):
        """As on a machine without systemd."""
        run("systemctl", "stop", "vfio-cprd.socket", "vfio-cprd.service")
        run("rm", "-rf", "/run/vfio-cprd")
        self.at_end.append(lambda: run("systemctl", "start", "vfio-cprd.socket"))

    def write_driver(self):
        """The page's driver, for the one device here that has what it uses, MSI-X."""
        page = next(block for block in commands.blocks() if block.page == "docs/libvfio-cpr.3")
        assert page.is_c
        name = next(iter(expected.SUBSTITUTES))
        assert name in page.text
        device = next(one for one in os.listdir("/sys/bus/pci/devices")
                      if open(f"/sys/bus/pci/devices/{one}/class").read().startswith("0x010802"))
        for path, text in ((f"devices/{device}/driver_override", "vfio-pci"),
                           ("drivers_probe", device)):
            with open("/sys/bus/pci/" + path, "w", encoding="ascii") as file:
                file.write(text)
        with open("driver.c", "w", encoding="utf-8") as file:
            file.write(page.text.replace(name, device))

    # After it

    def check_driver(self):
        for start in ("first", "second"):
            driver = subprocess.Popen(["./a.out"])
            wait_for(f"the {start} driver to be active",
                     lambda: self.is_in("driver1", "active")
                     and self.sessions()["driver1"]["holder"]["pid"] == driver.pid)
            driver.kill()
            driver.wait()
            self.wait_for("driver1", "orphaned")

    def check_installed(self):
        """The daemon runs as its user, at the first try, and comes again after a boot."""
        pid = self.property("vfio-cprd", "MainPID")
        assert pid != "0", "no daemon runs"
        assert pwd.getpwuid(os.stat(f"/proc/{pid}").st_uid).pw_name == "vfio-cprd"
        assert self.property("vfio-cprd", "NRestarts") == "0"
        assert run("systemctl", "is-enabled", "vfio-cprd.socket").strip() == "enabled"
        assert self.sessions() == {}

    def check_upgraded(self, name):
        """Another daemon, the same holder."""
        daemon, holder = self.before
        assert self.property("vfio-cprd", "MainPID") not in ("0", daemon)
        one = self.sessions()[name]
        assert one["state"] == "active" and one["holder"]["pid"] == holder, one

    def check_restarts(self, unit, name, output):
        """What has died is started again: before the command began, while it runs, and after an
        upgrade of the daemon."""
        def wait(pid):
            wait_for(f"another VMM than {pid}",
                     lambda: output() is not None and self.is_in(name, "active", pid))

        wait(None)
        wait(self.kill(unit, name))
        run("systemctl", "restart", "vfio-cprd")
        wait(self.kill(unit, name))

    @staticmethod
    def check_monitor(name, output):
        wait_for("the monitor to tell of " + name, lambda: f'"{name}"' in output())

    def check_gone(self, name):
        assert name not in self.sessions()

    @staticmethod
    def wait_for_answer(output):
        """While the daemon runs, whose output that is, list is answered."""
        wait_for("an answer", lambda: output() is not None and subprocess.run(
            ["vfio-cprctl", "list"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False).returncode == 0)

    def clean(self):
        """As it was: nothing runs, nothing is held."""
        if self.shell:
            self.shell.end()
        for undo in reversed(self.at_end):
            undo()
        if os.path.exists("/usr/bin/vfio-cprctl"):
            for name in self.sessions():
                self.wait_for(name, "orphaned")
                run("vfio-cprctl", "release", "--yes", name)
