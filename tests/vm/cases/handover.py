# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices pass from one VMM to the next, and the daemon's view of it is right."""

import os
import signal
import subprocess

from case import (
    ACK, BUS_MASTER, COMMAND, EDU_BUFFER, FOREVER, MSI_VALUE, RAM, READ_WRITE, TO_RAM, WITH_IRQ,
)
from daemon import DAEMON
from vmm import BUILD, Died, ctl, session, wait_for, wait_for_state


def kill_100_times(case):
    """A driver killed 100 times with DMA in flight loses no byte and no interrupt."""
    bdf = case.edu[0]
    for generation in range(101):
        words = ["--session", "vm", "--backend", case.backend, "--socket", case.socket,
                 "--rounds", "1", bdf]
        if generation < 100:
            words.insert(0, "--die-in-flight")
        run = subprocess.run([os.path.join(BUILD, "edu"), *words], stdout=subprocess.PIPE, text=True)
        print(f"{generation}:", " | ".join(run.stdout.splitlines()))
        assert run.returncode == (-signal.SIGKILL if generation < 100 else 0), run.returncode
        start = "new" if generation == 0 else "claimed"
        assert f"start={start}" in run.stdout
        if generation > 0:
            assert "landed=yes" in run.stdout and "reset seen=no" in run.stdout
            assert "interrupt-pending=1" in run.stdout
        view = session(case.socket)
        assert view["objects"]["device"] == 1 and view["mappings"] == 1, view
    assert case.resets.count() == 0, "a device was closed or reset"


def view_is_right(case):
    """The daemon's own view is right at each step of a session's life."""
    bdf = case.edu[0]
    assert ctl(case.socket, "list") == []
    first = case.vmm()
    assert first.start() == "new"
    view = session(case.socket)
    assert (view["state"], view["holder"]["pid"], view["uid"]) == ("active", first.pid, 0)
    assert view["objects"] == {} and view["mappings"] == 0
    case.drive(first, bdf)
    first.config(bdf, COMMAND, BUS_MASTER | 2)
    view = session(case.socket)
    wanted = {"device": 1, "memory": 1, "eventfd": 1, "table": 1}
    wanted.update({"container": 1, "group": 1} if case.backend == "type1" else {"iommufd": 1})
    assert view["objects"] == wanted and view["devices"] == [bdf], view
    assert view["mappings"] == 1 and view["pendingInterrupts"] == 0
    first.fill("ram", 0x1000, 256, 0xab)
    first.dma(bdf, 0x1000, EDU_BUFFER, 256, 0)
    first.dma_wait(bdf)
    first.dma(bdf, EDU_BUFFER, 0x200000, 256, TO_RAM | WITH_IRQ)
    first.kill()
    wait_for("the interrupt", lambda: session(case.socket)["pendingInterrupts"] == 1)
    wait_for_state(case.socket, "orphaned")
    view = session(case.socket)
    assert view["holder"] is None and view["objects"] == wanted and view["mappings"] == 1
    assert view["devices"] == [bdf]
    shown = ctl(case.socket, "show", "vm")
    assert [one["count"] for one in shown["pending"]] == [1]
    assert shown["spaces"][0]["vaddr"] == "invalid", shown["spaces"]
    assert shown["spaces"][0]["bytes"] == RAM and "warning" not in shown["spaces"][0]
    second = case.vmm()
    assert second.start() == "claimed"
    assert session(case.socket)["state"] == "restoring"
    assert session(case.socket)["pendingInterrupts"] == 1, "looking consumed it"
    case.drive(second, bdf)
    assert second.check("ram", 0x200000, 256, 0xab).value == 256
    assert session(case.socket)["state"] == "active"
    assert second.wait(0, 0).value == 1
    assert session(case.socket)["pendingInterrupts"] == 0
    second.register(bdf, ACK, MSI_VALUE)
    case.device_works(second, 0x5a)
    second.release()
    assert session(case.socket) is None
    second.end()


def successor_killed_at_each_step(case):
    """A successor may die at any kernel call of its restart; the next one goes on."""
    first = case.vmm()
    case.cold_start(first)
    first.map("dma", RAM, "ram", 0, 4096, READ_WRITE, 8)
    case.device_works(first, 1)
    first.kill()
    step, moments = 0, ("before", "after")
    while True:
        died = False
        for moment in moments:
            step_vmm = case.vmm(f"any:{step + 1}:{moment}")
            try:
                assert step_vmm.start() == "claimed"
                case.drive(step_vmm)
            except Died:
                died = True
            step_vmm.kill()
        if not died:
            break
        step += 1
        if step % 10 == 0:
            last = case.vmm()
            case.restart(last)
            case.device_works(last, step & 0xff)
            assert last.mappings("dma").value == 9
            last.kill()
    print(f"killed at {step} steps, before and after each")
    assert step > 8, "a restart has more steps than that"
    last = case.vmm()
    case.restart(last)
    case.device_works(last, 0x77)
    assert last.mappings("dma").value == 9
    last.release()
    last.end()


def many_objects(case):
    """300 memories with long names are handed back in answers of many pieces."""
    names = [f"{i:0220}" for i in range(300)]
    vmm = case.vmm()
    assert vmm.start() == "new"
    for name in names:
        assert vmm.memory(name, 4096, 0)["restored"] == "no"
        vmm.fill(name, 0, 16, int(name) % 200)
    vmm.kill()
    wait_for_state(case.socket, "orphaned")
    vmm = case.vmm()
    assert vmm.start() == "claimed"
    for name in names:
        assert vmm.memory(name, 4096, 0)["restored"] == "yes"
        assert vmm.check(name, 0, 16, int(name) % 200).value == 16
    vmm.commit()
    vmm.release()
    vmm.end()


def snapshot_tells_a_reset(case):
    """The snapshot of the configuration is alike after a hand-over, and differs after a reset."""
    vmm = case.vmm()
    case.cold_start(vmm)
    vmm.snapshot(case.edu[0])
    vmm.kill()
    vmm = case.vmm()
    case.restart(vmm)
    assert vmm.compare(case.edu[0])["difference"] == "-1"
    vmm.config(case.edu[0], COMMAND, 2)
    assert vmm.compare(case.edu[0])["difference"] == str(COMMAND)
    vmm.release()
    vmm.end()


def daemon_by_hand_dies(case):
    """With no fd store the daemon's death loses its copy; a living VMM gives it all again."""
    vmm = case.vmm()
    case.cold_start(vmm)
    assert vmm.event(0)["event"] == "none"
    path = case.daemon.path
    case.daemon.process.kill()
    case.daemon.process.wait()
    wait_for("the VMM to miss it", lambda: vmm.event(FOREVER)["event"] == "disconnected")
    case.device_works(vmm, 0x51)
    with open(os.path.join(case.daemon.directory, "log"), "ab") as log:
        case.daemon.process = subprocess.Popen([DAEMON, "--socket", path], stderr=log)
    case.daemon.pid = case.daemon.process.pid
    wait_for("the VMM to notice", lambda: vmm.event(FOREVER)["event"] == "connected")
    view = session(case.socket)
    assert view["holder"]["pid"] == vmm.pid and view["mappings"] == 1, view
    case.device_works(vmm, 0x52)
    vmm.kill()
    vmm = case.vmm()
    case.restart(vmm)
    case.device_works(vmm, 0x53)
    assert vmm.event(0)["event"] == "none"
    ctl(case.socket, "release", "--force", "vm")
    wait_for("the VMM to be told", lambda: vmm.event(FOREVER)["event"] == "released")
    vmm.end()
