# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMMs that are units themselves."""

import contextlib
import os
import subprocess

import case as vm
from service import SERVICE, SOCKET, SOCKET_UNIT, drop_in, run, systemctl
from vmm import BUILD, ctl, session, wait_for

EXAMPLE = "/tests/systemd/50-vm-example.conf"


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


# Each case, its time limit, and whether it is about devices, so that both backends count
CASES = {
    nothing_done_to_the_daemon_s_units_harms_a_vmm: (120, True),
    stop_of_a_vmm_releases_and_its_death_does_not: (120, True),
    check_reads_units_as_systemd_has_them: (60, True),
}
