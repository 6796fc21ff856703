# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tests with a real systemd, the real units and real devices: cases.py NAME [BACKEND] runs one,
--list lists them.

Clients run as root, the daemon as its own user in its sandbox. Each case starts with no daemon, an
empty fd store and a listening socket, as after boot, and ends with nothing stored.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "cases"))
import case as vm  # noqa: E402
from client import Client  # noqa: E402
from vmm import BUILD, Died, Resets, ctl, session, wait_for, wait_for_state  # noqa: E402

SERVICE = "vfio-cprd.service"
SOCKET_UNIT = "vfio-cprd.socket"
SOCKET = "/run/vfio-cprd/io.vfiocpr"
PROGRAM = "/usr/sbin/vfio-cprd"
EXAMPLE = "/tests/systemd/50-vm-example.conf"
USER = "vfio-cprd"
NOBODY = 65534
PAGE = 4096
MOST_MAPPINGS = 65535  # type1's dma_entry_limit
EXPOSURE_ALLOWED = 1.0
# Where a successor dies, see ../killpoint.c
HALF_RESTORED = {"type1": "restore:30000:after", "iommufd": "change-process:1:after"}


# systemd's view


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
        view = ctl(self.socket, "show", name)
        assert view["session"]["mappings"] == mappings, view
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


# Starting


def starts_at_the_first_connection(case):
    """After boot there is a socket and no daemon; the first client starts it, as its own user."""
    assert properties("ActiveState")["ActiveState"] == "inactive"
    assert ctl(case.socket, "list") == []
    pid = daemon_pid()
    assert pid and daemon_is_ready(0)
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    user = int(run("id", "--user", USER))
    assert user != 0 and status["Uid"].split() == [str(user)] * 4, status["Uid"]
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, (kind, status[kind])
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def reload_keeps_all(case):
    """systemctl reload changes nothing for anybody."""
    vmm = case.vmm()
    case.cold_start(vmm)
    pid = daemon_pid()
    for _ in range(3):
        systemctl("reload", SERVICE)
        assert daemon_pid() == pid and daemon_is_ready(0)
        case.check_active(vmm)
    case.device_works(vmm, 0x0e)
    vmm.end()


# Its death


def killed_while_the_driver_works(case):
    """A driver whose daemon is killed while DMA is in flight never notices."""
    vmm = case.vmm()
    case.cold_start(vmm)
    for generation in range(5):
        case.start_dma(vmm, 0x10 + generation)
        pid = case.kill()
        case.check_dma(vmm, 0x10 + generation)
        # These need the daemon, and wait for the next one.
        vmm.state_put("generation", generation)
        vmm.map("dma", vm.RAM + generation * PAGE, "ram", 0, PAGE, vm.READ_WRITE)
        case.wait_for_another(pid)
        case.check_active(vmm)
        assert vmm.state_get("generation")["data"] == str(generation)
    case.device_works(vmm, 0x20)
    vmm.kill()
    vmm = case.vmm()
    case.restart(vmm)
    assert vmm.mappings("dma").value == 6
    assert vmm.state_get("generation")["data"] == "4"
    case.device_works(vmm, 0x21)
    vmm.end()


def idle_driver_is_found_again(case):
    """A driver that calls nothing while the daemon is killed is its session's holder after it."""
    vmm = case.vmm()
    case.cold_start(vmm)
    case.kill_and_wait()
    case.check_active(vmm)
    vmm.kill()
    case.check_orphan(1)
    case.kill_and_wait()
    case.check_orphan(1)


def driver_dies_in_the_daemon_s_absence(case):
    """A driver which dies while no daemon runs is an orphan of the next one, fully worked on."""
    vmm = case.vmm()
    case.cold_start(vmm)
    case.start_dma(vmm, 0x33)
    pid = case.kill()
    vmm.kill()
    case.wait_for_another(pid)
    case.check_orphan(1)
    vmm = case.vmm()
    case.restart(vmm)
    case.check_dma(vmm, 0x33)
    case.device_works(vmm, 0x34)
    vmm.end()


def killed_as_the_only_holder(case):
    """Driver dead, daemon dead: PID 1 alone holds the device. A successor goes on, ten times."""
    bdf = case.edu[0]
    for generation in range(11):
        words = ["--session", "vm", "--backend", case.backend, "--socket", case.socket,
                 "--rounds", "1", bdf]
        if generation < 10:
            words.insert(0, "--die-in-flight")
        edu = subprocess.run([os.path.join(BUILD, "edu"), *words], stdout=subprocess.PIPE,
                             text=True, check=False)
        print(f"{generation}:", " | ".join(edu.stdout.splitlines()))
        assert edu.returncode == (-signal.SIGKILL if generation < 10 else 0), edu.returncode
        assert f"start={'claimed' if generation else 'new'}" in edu.stdout
        if generation:
            assert "landed=yes" in edu.stdout and "reset seen=no" in edu.stdout
            assert "interrupt-pending=1" in edu.stdout
        if generation < 10:
            case.check_orphan(1)
            case.kill_and_wait()
            case.check_orphan(1)


def map_pages(case, vmm, count):
    """count mappings of a page each, and one interrupt."""
    bdf = case.edu[0]
    start = vmm.start()
    vmm.space("dma", case.backend)
    vmm.device("dma", bdf)
    vmm.memory("ram", vm.RAM)
    if start == "new":
        vmm.map("dma", 0, "ram", 0, PAGE, vm.READ_WRITE, count)
        vmm.config(bdf, vm.COMMAND, vm.BUS_MASTER | 2)
    vmm.irqs(bdf, vm.MSI, vm.TRIGGER, 0, 1)
    vmm.commit()
    assert vmm.mappings("dma").value == count
    case.check_not_reset(vmm)


def killed_in_the_orphan_work(case):
    """The daemon is killed while it works on an orphan of 65,535 mappings; the next one ends it."""
    vmm = case.vmm()
    map_pages(case, vmm, MOST_MAPPINGS)
    cut = 0
    for generation in range(12):
        if generation % 2 == 1:
            # A successor dies half way through its restart: on type1 the work is long after that,
            # since it has to go mapping by mapping.
            vmm.kill()
            case.check_orphan(MOST_MAPPINGS)
            vmm = case.vmm(HALF_RESTORED[case.backend])
            with contextlib.suppress(Died):
                map_pages(case, vmm, MOST_MAPPINGS)
                raise AssertionError("it should have died")
        pid = daemon_pid()
        end_of_work = f"vfio-cprd[{pid}]: session vm is orphaned"
        before = case.log().count(end_of_work)
        # So that this program sees the death no later than the daemon does.
        os.kill(pid, signal.SIGSTOP)
        vmm.kill()
        os.kill(pid, signal.SIGCONT)
        time.sleep(random.uniform(0, 0.005 * generation))
        os.kill(pid, signal.SIGKILL)
        case.wait_for_another(pid)
        cut += case.log().count(end_of_work) == before
        case.check_orphan(MOST_MAPPINGS)
        vmm = case.vmm()
        map_pages(case, vmm, MOST_MAPPINGS)
        if generation % 5 == 4:
            case.device_works(vmm, generation)
    print(f"{cut} of 12 daemons were killed before the work was done")
    assert cut > 0, "they were all killed too late"
    vmm.end()


def killed_in_recovery(case):
    """Killed 30 times in a row as soon as it runs, or soon after, it loses nothing."""
    living, dead, full = case.vmm(), case.vmm(), case.vmm()
    case.cold_start(living)
    living.state_put("note", "kept")
    assert dead.start("dead") == "new"
    case.drive(dead, case.edu[1])
    dead.config(case.edu[1], vm.COMMAND, vm.BUS_MASTER | 2)
    case.start_dma(dead, 0x44, case.edu[1])
    dead.kill()
    assert full.start("full") == "new"
    full.eventfds("vectors", 0, 300)
    full.number_eventfds(0, 300)
    full.commit()
    full.kill()
    case.check_orphan(1, "dead")
    case.check_orphan(0, "full")

    last = 0
    # Else the last ones would wait 5 s for their turn.
    with drop_in(SERVICE, "[Service]\nRestartSteps=0\n"):
        for _ in range(30):
            wait_for("a daemon to kill", lambda: daemon_pid() not in (0, last))
            last = daemon_pid()
            time.sleep(random.choice((0, random.uniform(0, 0.05), random.uniform(0, 0.4))))
            os.kill(last, signal.SIGKILL)
        case.wait_for_another(last)

    wait_for_state(case.socket, "active")
    case.check_active(living)
    case.device_works(living, 0x45)
    assert living.state_get("note")["data"] == "kept"
    case.check_orphan(1, "dead")
    case.check_orphan(0, "full")
    dead, full = case.vmm(), case.vmm()
    assert dead.start("dead") == "claimed"
    case.drive(dead, case.edu[1])
    case.check_not_reset(dead, case.edu[1])
    case.check_dma(dead, 0x44, case.edu[1])
    assert full.start("full") == "claimed"
    assert full.eventfds("vectors", 0, 300)["restored"] == "300"
    assert full.check_eventfds(0, 300).value == 300
    full.commit()
    for vmm in (living, dead, full):
        vmm.end()


def many_eventfds_survive(case):
    """A session of 20,000 eventfds comes back whole, in order, with its counts."""
    names, each = [f"vectors{i}" for i in range(10)], 2000
    vmm = case.vmm()
    assert vmm.start() == "new"
    for name in names:
        vmm.eventfds(name, 0, each)
        vmm.number_eventfds(0, each)
    vmm.commit()
    for _ in range(3):
        case.kill_and_wait()
    vmm.kill()
    wait_for_state(case.socket, "orphaned")
    case.kill_and_wait()
    view = session(case.socket)
    assert view["objects"] == {"eventfd": len(names) * each}
    assert view["pendingInterrupts"] == len(names) * each * (each + 1) // 2
    vmm = case.vmm()
    assert vmm.start() == "claimed"
    for name in names:
        assert vmm.eventfds(name, 0, each)["restored"] == str(each)
        assert vmm.check_eventfds(0, each).value == each
    vmm.commit()
    vmm.end()


def watchdog_ends_a_daemon_that_hangs(case):
    """A daemon that answers nobody is killed by the watchdog, and the next one has its sessions."""
    def seconds_of_pings():
        ping, start = "WatchdogTimestampMonotonic", "ActiveEnterTimestampMonotonic"
        found = properties(ping, start)
        return (int(found[ping]) - int(found[start])) / 1e6

    with drop_in(SERVICE, "[Service]\nWatchdogSec=10s\n"):
        vmm = case.vmm()
        case.cold_start(vmm)
        pid = daemon_pid()
        wait_for("pings for longer than that", lambda: seconds_of_pings() > 10)
        assert daemon_pid() == pid, "the watchdog ends a daemon that works"
        os.kill(pid, signal.SIGSTOP)
        case.start_dma(vmm, 0x55)
        case.wait_for_another(pid)
        assert "watchdog" in case.log().lower()
        case.check_dma(vmm, 0x55)
        case.check_active(vmm)
        case.device_works(vmm, 0x56)
        vmm.end()


# What operators and packages do


def restart_keeps_all(case):
    """systemctl restart, as after an upgrade, with one driver alive and one dead."""
    living, dead = case.vmm(), case.vmm()
    case.cold_start(living)
    assert dead.start("dead") == "new"
    case.drive(dead, case.edu[1])
    dead.config(case.edu[1], vm.COMMAND, vm.BUS_MASTER | 2)
    dead.kill()
    case.check_orphan(1, "dead")
    for _ in range(3):
        systemctl("restart", SERVICE)
        case.check_active(living)
        case.check_orphan(1, "dead")
    case.device_works(living, 0x61)
    dead = case.vmm()
    assert dead.start("dead") == "claimed"
    case.drive(dead, case.edu[1])
    case.check_not_reset(dead, case.edu[1])
    case.device_works(dead, 0x62, case.edu[1])
    living.end()
    dead.end()


def upgrade_keeps_all(case):
    """A package's upgrade: another file in the program's place, daemon-reload, try-restart."""
    vmm = case.vmm()
    case.cold_start(vmm)
    case.start_dma(vmm, 0x63)
    pid, inode = daemon_pid(), os.stat(PROGRAM).st_ino
    shutil.copy2(PROGRAM, PROGRAM + ".dpkg-new")
    os.rename(PROGRAM + ".dpkg-new", PROGRAM)
    assert os.stat(PROGRAM).st_ino != inode
    systemctl("daemon-reload")
    systemctl("try-restart", SERVICE)
    assert daemon_pid() not in (0, pid)
    case.check_active(vmm)
    case.check_dma(vmm, 0x63)
    vmm.end()


def stop_and_start_keeps_all(case):
    """systemctl stop leaves all with PID 1: no device is reset, and a start has it back."""
    vmm = case.vmm()
    case.cold_start(vmm)
    case.start_dma(vmm, 0x64)
    vmm.kill()
    case.check_orphan(1)
    entries = stored()
    assert entries > 0
    systemctl("stop", SERVICE, SOCKET_UNIT)
    assert daemon_pid() == 0 and stored() == entries
    assert case.resets.count() == 0, "a device was closed or reset"
    systemctl("start", SOCKET_UNIT)
    case.check_orphan(1)
    vmm = case.vmm()
    case.restart(vmm)
    case.check_dma(vmm, 0x64)
    case.device_works(vmm, 0x65)
    vmm.end()


def clean_lets_go(case):
    """After a stop, systemctl clean closes all that was held, and the kernel resets the device."""
    vmm = case.vmm()
    case.cold_start(vmm)
    vmm.kill()
    case.check_orphan(1)
    systemctl("stop", SERVICE, SOCKET_UNIT)
    assert case.resets.count() == 0
    systemctl("clean", "--what=fdstore", SERVICE)
    wait_for("the device to be closed", lambda: case.resets.count() > 0)
    systemctl("start", SOCKET_UNIT)
    assert ctl(case.socket, "list") == []
    vmm = case.vmm()
    case.cold_start(vmm)
    vmm.release()
    vmm.end()


def store_does_not_leak(case):
    """Sessions that come, change, die and go leave nothing in PID 1's store."""
    most = 0
    for generation in range(10):
        vmm = case.vmm()
        case.cold_start(vmm)
        for number in range(20):
            vmm.state_put("note", f"{generation}.{number}")
        if generation % 3 == 1:
            case.kill_and_wait()
        if generation % 3 == 2:
            vmm.kill()
            case.check_orphan(1)
            ctl(case.socket, "release", "vm")
        else:
            most = max(most, stored())
            vmm.release()
            vmm.end()
        wait_for("the fd store to be empty", lambda: stored() == 0)
        case.resets = Closes()
    assert 0 < most <= 4, f"{most} descriptors for one session"


# The sandbox


def exposure_is_low(_case):
    """systemd-analyze security finds next to nothing."""
    table = run("systemd-analyze", "security", "--no-pager", SERVICE)
    print(table)
    exposure = float(re.search(rf"exposure level for {SERVICE}: ([0-9.]+)", table).group(1))
    assert exposure <= EXPOSURE_ALLOWED, exposure


def units_are_valid(_case):
    """systemd understands every line of the units."""
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", SERVICE, SOCKET_UNIT],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             check=True)
    assert not checked.stdout, checked.stdout


def main_pid(unit):
    return int(systemctl("show", unit, "--property=MainPID", "--value"))


@contextlib.contextmanager
def unit_of_a_vmm(case, name):
    """A VMM with a device, in a unit with the example's drop-in; the session has the unit's name."""
    unit, bdf = name + ".service", case.edu[0]
    commands = [f"open {SOCKET}", f"attach {name}", f"space dma {case.backend}",
                f"device dma {bdf}", f"memory ram {vm.RAM} 0", f"map dma 0 ram 0 {vm.RAM} {vm.READ_WRITE}", "commit"]
    with open(EXAMPLE, encoding="utf-8") as file, drop_in(unit, file.read()):
        run("systemd-run", "--quiet", "--property=RestartSec=1", f"--unit={unit}", "sh", "-c",
            f"(printf '%s\\n' \"$@\"; sleep 1000) | {BUILD}/tests/vmm", "sh", *commands)
        try:
            wait_for_vmm(case, name)
            yield unit
        finally:
            print(run("journalctl", "--no-pager", f"--unit={unit}"))
            # It is gone if it was stopped.
            subprocess.run(["systemctl", "stop", unit], check=False)


def wait_for_vmm(case, name, other_than=0):
    """Waits for the holder that has done all of its start; returns its pid."""
    def is_there():
        view = session(case.socket, name) or {}
        return (view.get("state") == "active" and view["mappings"] == 1
                and view["holder"]["pid"] != other_than)
    wait_for(f"{name} to be active with its mapping", is_there)
    view = session(case.socket, name)
    assert view["objects"]["device"] == 1 and view["holder"]["unit"] == name + ".service", view
    assert view["unit"] == name + ".service" and view["devices"] == [case.edu[0]], view
    return view["holder"]["pid"]


def nothing_done_to_the_daemon_s_units_harms_a_vmm(case):
    """Restart, stop and reload of socket and service leave a VMM that has the drop-in alone."""
    with unit_of_a_vmm(case, "some-vm") as unit:
        before = main_pid(unit), wait_for_vmm(case, "some-vm")
        for words in (["restart", SERVICE], ["restart", SOCKET_UNIT], ["daemon-reload"],
                      ["restart", SERVICE, SOCKET_UNIT], ["stop", SERVICE, SOCKET_UNIT],
                      ["start", SOCKET_UNIT], ["stop", SOCKET_UNIT], ["start", SOCKET_UNIT]):
            print("systemctl", *words)
            systemctl(*words)
            assert main_pid(unit) == before[0], f"systemctl {words} restarted the VM"
            if words[0] != "stop":
                assert wait_for_vmm(case, "some-vm") == before[1]
        assert systemctl("show", unit, "--property=NRestarts", "--value") == "0\n"
        assert case.resets.count() == 0, "a device was closed or reset"


def stop_of_a_vmm_releases_and_its_death_does_not(case):
    """With the drop-in, what is stopped is released; what is killed or restarted goes on."""
    with unit_of_a_vmm(case, "some-vm") as unit:
        pid = wait_for_vmm(case, "some-vm")
        systemctl("kill", "--signal=KILL", unit)
        pid = wait_for_vmm(case, "some-vm", pid)
        systemctl("restart", unit)
        wait_for_vmm(case, "some-vm", pid)
        assert case.resets.count() == 0, "a device was closed or reset"
        systemctl("stop", unit)
        # The command has waited for it.
        assert session(case.socket, "some-vm") is None
        wait_for("the device to be closed", lambda: case.resets.count() > 0)


def restarts():
    return int(properties("NRestarts")["NRestarts"])


def restart_delays(count):
    """What systemd waits before each of the first restarts of the service, in seconds."""
    least, most, steps = 0.1, 5.0, 20
    return [most if n > steps else least * (most / least) ** ((n - 1) / steps)
            for n in range(1, count + 1)]


def start_that_cannot_succeed_is_no_busy_loop(case):
    """A service without its user is tried ever more slowly, and comes up once the user is there."""
    user = f"late-{os.getpid()}"
    with drop_in(SERVICE, f"[Service]\nUser={user}\nGroup={USER}\n"):
        begin = time.monotonic()
        with Client(SOCKET) as client:
            # The connection starts it, and waits: a reason for the socket to trigger each time.
            wait_for("12 restarts", lambda: restarts() >= 12)
            count, elapsed = restarts(), time.monotonic() - begin
            print(f"{count} restarts in {elapsed:.1f} s")
            assert sum(restart_delays(count)) <= elapsed, "restarted more often than that"
            assert "status=217/USER" in case.log()
            run("systemd-sysusers", "--inline", f'u {user} - "Came late"')
            wait_for("the daemon", lambda: daemon_is_ready(0))
            assert client.call("List")[0]["sessions"] == []
        systemctl("stop", SERVICE)


def check_reads_units_as_systemd_has_them(case):
    """check --unit finds the unit of a VMM good, and tells what is wrong with another."""
    bdf = case.edu[0]
    with unit_of_a_vmm(case, "some-vm") as unit:
        findings = ctl(case.socket, "check", "--unit", unit, bdf)
    wanted = ("unit", "memlock", "nofile", "access", "device-access", "device-holder")
    found = [one for one in findings if one["check"] in wanted]
    assert {one["check"] for one in found} == set(wanted), findings
    assert all(one["status"] == "ok" for one in found), found

    sealed = "/run/systemd/system/sealed.service"
    with open(sealed, "w", encoding="ascii") as file:
        file.write("[Service]\nExecStart=/bin/true\nUser=nobody\nDevicePolicy=closed\n"
                   "DeviceAllow=char-vfio* r\nLimitMEMLOCK=64K\nLimitNOFILE=1000:2000\n")
    try:
        systemctl("daemon-reload")
        findings = ctl(case.socket, "check", "--unit", "sealed", bdf, status=1)
    finally:
        os.remove(sealed)
    found = {one["check"]: one for one in findings if "sealed.service" in one["detail"]}
    assert {"access", "device-access", "memlock", "nofile"} <= found.keys(), findings
    assert "64 KiB" in found["memlock"]["detail"] and "2000" in found["nofile"]["detail"], found
    absent = ctl(case.socket, "check", "--unit", "absent", bdf, status=1)
    assert [one["status"] for one in absent if one["check"] == "unit"] == ["blocker"], absent


def users_are_kept_apart(case):
    """Inside the sandbox, too, the daemon knows its peers' users: names are each user's own."""
    with drop_in(SOCKET_UNIT, "[Socket]\nSocketMode=0666\n"):
        systemctl("stop", SERVICE, SOCKET_UNIT)
        systemctl("start", SOCKET_UNIT)
        vmm = case.vmm()
        case.cold_start(vmm)

        def as_nobody(*words, **options):
            return run(*words, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", **options)

        text = as_nobody(f"{BUILD}/tests/vmm", input=f"open {SOCKET}\nattach vm\neventfds x 0 3\n"
                                                     "commit\n")
        assert text.splitlines()[1] == "ok 0 start=new", text
        theirs = json.loads(as_nobody(f"{BUILD}/vfio-cprctl", "--socket", SOCKET, "--json", "list"))
        assert [one["uid"] for one in theirs] == [NOBODY], theirs
        everybody = ctl(case.socket, "list")
        assert sorted(one["uid"] for one in everybody) == [0, NOBODY], everybody
        as_nobody(f"{BUILD}/vfio-cprctl", "--socket", SOCKET, "release", "vm")
        case.check_active(vmm)
        vmm.release()
        vmm.end()
    systemctl("restart", SOCKET_UNIT)


def varlinkctl_works(case):
    """systemd's own Varlink client can look and call."""
    vmm = case.vmm()
    assert vmm.start() == "new"
    address = "unix:" + SOCKET
    info = run("varlinkctl", "info", address)
    print(info)
    assert "io.vfiocpr.Session" in info
    interface = run("varlinkctl", "introspect", address, "io.vfiocpr.Session")
    for method in ("List", "Attach", "Store", "Release"):
        assert re.search(rf"^method {method}\b", interface, re.M), interface
    answer = json.loads(run("varlinkctl", "call", "--json=short", address,
                            "io.vfiocpr.Session.List", "{}"))
    assert [one["name"] for one in answer["sessions"]] == ["vm"], answer
    vmm.release()
    vmm.end()


# The list: each case, its time limit, and whether it is about devices, so that both backends count

CASES = {
    starts_at_the_first_connection: (60, False),
    reload_keeps_all: (60, False),
    killed_while_the_driver_works: (120, True),
    idle_driver_is_found_again: (60, True),
    driver_dies_in_the_daemon_s_absence: (60, True),
    killed_as_the_only_holder: (180, True),
    killed_in_the_orphan_work: (400, True),
    killed_in_recovery: (180, True),
    many_eventfds_survive: (120, False),
    watchdog_ends_a_daemon_that_hangs: (90, False),
    restart_keeps_all: (90, True),
    upgrade_keeps_all: (60, False),
    stop_and_start_keeps_all: (60, True),
    clean_lets_go: (60, False),
    store_does_not_leak: (120, False),
    exposure_is_low: (60, False),
    units_are_valid: (60, False),
    nothing_done_to_the_daemon_s_units_harms_a_vmm: (120, True),
    stop_of_a_vmm_releases_and_its_death_does_not: (120, True),
    start_that_cannot_succeed_is_no_busy_loop: (120, False),
    check_reads_units_as_systemd_has_them: (60, True),
    users_are_kept_apart: (60, False),
    varlinkctl_works: (60, False),
}


def print_list():
    for case, (seconds, devices) in CASES.items():
        for backend in ("type1", "iommufd") if devices else ("iommufd",):
            name = case.__name__.replace("_", "-") + (f"-{backend}" if devices else "")
            print(name, seconds, f"env BUILD={BUILD} python3 /tests/vm/systemd/cases.py",
                  case.__name__, backend)


def main():
    if sys.argv[1] == "--list":
        print_list()
        return
    function, backend = globals()[sys.argv[1]], sys.argv[2]
    print(function.__doc__)
    case = Case(backend)
    try:
        function(case)
        case.finish()
    except BaseException:
        sys.stdout.flush()
        print(case.log())
        raise


if __name__ == "__main__":
    main()
