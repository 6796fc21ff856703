# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon dies, and with it or without it its holders."""

import contextlib
import os
import random
import signal
import subprocess
import time

import case as vm
from service import SERVICE, daemon_pid, drop_in, properties
from vmm import BUILD, Died, session, wait_for, wait_for_state

PAGE = 4096
MOST_MAPPINGS = 65535  # type1's dma_entry_limit
# Where a successor dies, see ../../killpoint.c
HALF_RESTORED = {"type1": "restore:30000:after", "iommufd": "change-process:1:after"}


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
    """Driver dead, daemon dead: PID 1 alone holds the device. A successor goes on, five times."""
    bdf = case.edu[0]
    for generation in range(6):
        words = ["--session", "vm", "--backend", case.backend, "--socket", case.socket,
                 "--rounds", "1", bdf]
        if generation < 5:
            words.insert(0, "--die-in-flight")
        edu = subprocess.run([os.path.join(BUILD, "edu"), *words], stdout=subprocess.PIPE,
                             text=True, check=False)
        print(f"{generation}:", " | ".join(edu.stdout.splitlines()))
        assert edu.returncode == (-signal.SIGKILL if generation < 5 else 0), edu.returncode
        assert f"start={'claimed' if generation else 'new'}" in edu.stdout
        if generation:
            assert "landed=yes" in edu.stdout and "reset seen=no" in edu.stdout
            assert "interrupt-pending=1" in edu.stdout
        if generation < 5:
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
    for generation in range(4):
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
        time.sleep(random.uniform(0, 0.01 * generation))
        os.kill(pid, signal.SIGKILL)
        case.wait_for_another(pid)
        cut += case.log().count(end_of_work) == before
        case.check_orphan(MOST_MAPPINGS)
        vmm = case.vmm()
        map_pages(case, vmm, MOST_MAPPINGS)
        if generation % 3 == 2:
            case.device_works(vmm, generation)
    print(f"{cut} of 4 daemons were killed before the work was done")
    assert cut > 0, "they were all killed too late"
    vmm.end()


def killed_in_recovery(case):
    """Killed eight times in a row as soon as it runs, or soon after, it loses nothing."""
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
        for _ in range(8):
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


# Each case, its time limit, and whether it is about devices, so that both backends count
CASES = {
    killed_while_the_driver_works: (120, True),
    idle_driver_is_found_again: (60, True),
    driver_dies_in_the_daemon_s_absence: (60, True),
    killed_as_the_only_holder: (180, True),
    killed_in_the_orphan_work: (400, True),
    killed_in_recovery: (180, True),
    many_eventfds_survive: (120, False),
    watchdog_ends_a_daemon_that_hangs: (90, False),
}
