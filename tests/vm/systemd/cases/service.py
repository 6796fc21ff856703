# SPDX-License-Identifier: LGPL-2.1-or-later
"""The service as systemd has it, and what every case has. Clients run as root, the daemon as its own
user in its sandbox. Each case starts with no daemon, an empty fd store and a listening socket, as
after boot, and ends with nothing stored."""

import contextlib
import os
import re
import shutil
import subprocess
import time

import case as vm
from vmm import Resets, ctl, session, wait_for, wait_for_state

SERVICE = "vfio-cprd.service"
SOCKET_UNIT = "vfio-cprd.socket"
SOCKET = "/run/vfio-cprd/io.vfiocpr"
PROGRAM = "/usr/sbin/vfio-cprd"


def run(*words, **options):
    """A program's standard output; it must succeed."""
    return subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE, **options).stdout


def systemctl(*words):
    return run("systemctl", *words)


def properties(*names):
    text = systemctl("show", SERVICE, *(f"--property={name}" for name in names))
    return dict(line.split("=", 1) for line in text.splitlines())


def stored():
    """How many descriptors PID 1 keeps for the daemon."""
    return int(properties("NFileDescriptorStore")["NFileDescriptorStore"])


def daemon_pid():
    """The daemon's, 0 without one. Asked of the kernel: PID 1's answer comes later."""
    try:
        with open(f"/sys/fs/cgroup/system.slice/{SERVICE}/cgroup.procs", encoding="ascii") as file:
            # Before its exec() it is still PID 1's helper.
            return next((int(pid) for pid in file if is_daemon(int(pid))), 0)
    except OSError:  # ENOENT: there is none; ENODEV: it ended just now
        return 0


def is_daemon(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe").startswith(PROGRAM)
    except OSError:
        return False


def daemon_is_ready(other_than):
    found = properties("ActiveState", "SubState", "MainPID")
    return ((found["ActiveState"], found["SubState"]) == ("active", "running")
            and int(found["MainPID"]) not in (0, other_than))


@contextlib.contextmanager
def drop_in(unit, text):
    """Changes a unit as an administrator does, and back again."""
    folder = f"/run/systemd/system/{unit}.d"
    os.makedirs(folder)
    with open(folder + "/case.conf", "w", encoding="ascii") as file:
        file.write(text)
    systemctl("daemon-reload")
    try:
        yield
    finally:
        shutil.rmtree(folder)
        systemctl("daemon-reload")


class Closes(Resets):
    """The harness's counter of closes and resets, also after a case that was cut off."""

    def __init__(self):
        if os.path.exists(self.TRACING + "/events/resets"):
            self.end()
        super().__init__()


class Case(vm.Case):
    """The harness's case, but for the daemon: that is systemd's."""

    def __init__(self, backend):  # pylint: disable=super-init-not-called
        self.backend = backend
        self.edu = vm.edu_devices()
        self.socket = SOCKET
        self.begin = time.time()
        self.clean()
        self.resets = Closes()

    def clean(self):
        """As after boot, also if the last case failed half way."""
        systemctl("stop", SERVICE, SOCKET_UNIT)
        systemctl("reset-failed")
        systemctl("clean", "--what=fdstore", SERVICE)
        systemctl("start", SOCKET_UNIT)
        assert daemon_pid() == 0 and stored() == 0

    def kill(self):
        """Kills the daemon as the kernel would; returns who it was."""
        pid = daemon_pid()
        assert pid, "no daemon to kill"
        systemctl("kill", "--kill-whom=main", "--signal=KILL", SERVICE)
        return pid

    def wait_for_another(self, pid):
        # PID 1 is busy with it, and to ask it is to start a program: first the kernel is asked.
        wait_for(f"a process other than {pid}", lambda: daemon_pid() not in (0, pid))
        wait_for(f"a daemon other than {pid}", lambda: daemon_is_ready(pid))

    def kill_and_wait(self):
        self.wait_for_another(self.kill())

    def check_active(self, vmm, name="vm"):
        view = session(self.socket, name)
        assert view and view["state"] == "active", view
        assert view["holder"]["pid"] == vmm.pid, view
        assert self.resets.count() == 0, "a device was closed or reset"

    def check_orphan(self, mappings, name="vm"):
        """The daemon has done all that an orphan needs."""
        wait_for_state(self.socket, "orphaned", name)
        # Many are counted beside the calls, which do not wait for it for long.
        wait_for("its mappings to be counted", lambda: ctl(self.socket, "show", name)["session"]
                 ["mappings"] == mappings)
        view = ctl(self.socket, "show", name)
        for space in view["spaces"]:
            assert "warning" not in space, space
            if self.backend == "type1":
                assert space["vaddr"] == "invalid", space
        assert self.resets.count() == 0, "a device was closed or reset"

    def start_dma(self, vmm, byte, bdf=None):
        """Puts a DMA to RAM in flight, which ends with an interrupt."""
        bdf = bdf or self.edu[0]
        vmm.fill("ram", 0x1000, vm.EDU_BYTES, byte)
        vmm.fill("ram", 0x100000, vm.EDU_BYTES, 0)
        vmm.dma(bdf, 0x1000, vm.EDU_BUFFER, vm.EDU_BYTES, 0)
        vmm.dma_wait(bdf)
        vmm.dma(bdf, vm.EDU_BUFFER, 0x100000, vm.EDU_BYTES, vm.TO_RAM | vm.WITH_IRQ)

    def check_dma(self, vmm, byte, bdf=None):
        """It has landed and interrupted once, whoever lived meanwhile."""
        bdf = bdf or self.edu[0]
        vmm.dma_wait(bdf)
        assert vmm.wait(0, vm.FOREVER).value == 1, "not one interrupt"
        vmm.register(bdf, vm.ACK, vm.MSI_VALUE)
        assert vmm.check("ram", 0x100000, vm.EDU_BYTES, byte).value == vm.EDU_BYTES, "wrong data"

    def log(self):
        """What the daemons of this case logged, and PID 1 about them."""
        run("journalctl", "--sync")
        return run("journalctl", "--no-pager", "--output=short-precise",
                   f"--since=@{self.begin:.0f}", f"--unit={SERVICE}", f"--unit={SOCKET_UNIT}")

    def finish(self):
        """Releases what is left: nothing may stay in the fd store, and the daemon ends well."""
        for one in ctl(self.socket, "list"):
            ctl(self.socket, "release", "--force", one["name"])
        wait_for("the fd store to be empty", lambda: stored() == 0)
        self.resets.end()
        systemctl("stop", SERVICE)
        bad = re.findall(r".*(?:ERROR:|runtime error:|CRITICAL).*", self.log())
        assert not bad, "\n".join(bad)
        assert properties("Result")["Result"] == "success", properties("Result")
