# SPDX-License-Identifier: LGPL-2.1-or-later
"""What operators and packages do to the service."""

import os
import re
import shutil
import time

import case as vm
from client import Client, encode
from service import (
    PROGRAM, SERVICE, SOCKET, SOCKET_UNIT, Closes, daemon_is_ready, daemon_pid, drop_in,
    properties, run, stored, systemctl,
)
from vmm import ctl, wait_for

USER = "vfio-cprd"


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
    for generation in range(6):
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


def journald_stands_still(case):
    """While nobody takes its log the daemon serves all, a claim too; then the journal tells of it."""
    journald = "systemd-journald.service"
    with drop_in(SERVICE, "[Service]\nEnvironment=G_MESSAGES_DEBUG=vfio-cprd\n"):
        vmm = case.vmm()
        case.cold_start(vmm)
        pid = daemon_pid()
        systemctl("kill", "--kill-whom=main", "--signal=STOP", journald)
        try:
            with Client(SOCKET) as client:
                # A line each: more than a socket and the daemon keep.
                client.socket.sendall(5000 * encode("org.varlink.service.GetInfo", oneway=True))
                client.call("org.varlink.service.GetInfo")
            vmm.kill()
            case.check_orphan(1)
            vmm = case.vmm()
            case.restart(vmm)
        finally:
            systemctl("kill", "--kill-whom=main", "--signal=CONT", journald)
        wait_for("the journal to tell what was lost",
                 lambda: re.search(r"\d+ messages were lost while the log took none", case.log()))
        assert daemon_pid() == pid
        vmm.release()
        vmm.end()
        systemctl("stop", SERVICE)


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


# Each case, its time limit, and whether it is about devices, so that both backends count
CASES = {
    starts_at_the_first_connection: (60, False),
    reload_keeps_all: (60, False),
    restart_keeps_all: (90, True),
    upgrade_keeps_all: (60, False),
    stop_and_start_keeps_all: (60, True),
    clean_lets_go: (60, False),
    store_does_not_leak: (120, False),
    journald_stands_still: (120, False),
    start_that_cannot_succeed_is_no_busy_loop: (120, False),
}
