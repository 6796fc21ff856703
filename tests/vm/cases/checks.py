# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfio-cprctl check on a machine with real devices."""

import json
import os
import subprocess

from holder import NOBODY
from vmm import BUILD, ctl, wait_for, wait_for_state


def daemon_check(case):
    """vfio-cprctl check says that this machine is fit, and what an unfit device needs."""
    findings = ctl(case.socket, "check", case.edu[0])
    assert all(one["status"] != "blocker" for one in findings
               if one["subject"] == case.edu[0]), findings
    nvme = [bdf for bdf in os.listdir("/sys/bus/pci/devices")
            if open(f"/sys/bus/pci/devices/{bdf}/class", encoding="ascii").read()
            .startswith("0x0108")][0]
    findings = ctl(case.socket, "check", nvme, status=1)
    blocker = [one for one in findings if one["subject"] == nvme and one["status"] == "blocker"]
    assert blocker and all(one["remedy"] for one in blocker), findings


def finding(case, check, *words, status=1):
    """That one of vfio-cprctl check's findings."""
    findings = ctl(case.socket, "check", *words, status=status)
    return next(one for one in findings if one["check"] == check)


def check_names_the_holder(case):
    """vfio-cprctl check says who holds a device, and what an unbind of it waits for."""
    bdf, driver = case.edu[0], "/sys/bus/pci/drivers/vfio-pci"
    assert finding(case, "device-holder", bdf, status=0)["status"] == "ok"
    vmm = case.vmm()
    case.cold_start(vmm)
    held = finding(case, "device-holder", bdf)
    assert held["status"] == "blocker" and "session vm of uid 0 (active" in held["detail"], held
    vmm.kill()
    wait_for_state(case.socket, "orphaned")
    held = finding(case, "device-holder", bdf)
    assert held["status"] == "blocker" and "(orphaned" in held["detail"], held
    assert "vfio-cprctl release vm" in held["remedy"], held

    unbind = subprocess.Popen(["sh", "-c", f"echo {bdf} >{driver}/unbind"])
    wait_for("the driver to go", lambda: not os.path.exists(f"/sys/bus/pci/devices/{bdf}/driver"))
    bound = finding(case, "device-driver", bdf)
    assert "waits for session vm" in bound["detail"], bound
    assert "vfio-cprctl release vm" in bound["remedy"], bound
    assert unbind.poll() is None
    ctl(case.socket, "release", "--yes", "vm")
    assert unbind.wait() == 0
    assert "bound to no driver" in finding(case, "device-driver", bdf)["detail"]
    with open(f"{driver}/bind", "w", encoding="ascii") as file:
        file.write(bdf)
    assert finding(case, "device-holder", bdf, status=0)["status"] == "ok"


def check_asks_for_whom(case):
    """vfio-cprctl check tells whether another user may open the nodes, and opens none."""
    bdf = case.edu[0]
    before = case.resets.count()
    allowed = ctl(case.socket, "check", "--user", "root", bdf)
    theirs = [one for one in allowed if one["check"] in ("access", "device-access")]
    assert len(theirs) >= 3 and all(one["status"] == "ok" for one in theirs), theirs
    refused = ctl(case.socket, "check", "--user", "nobody", bdf, status=1)
    theirs = [one for one in refused if one["check"] == "device-access"]
    assert theirs and all(one["status"] == "blocker" and "nobody may not open" in one["detail"]
                          for one in theirs), theirs
    assert case.resets.count() == before

    # And nobody's own view: what it may not open is unknown, and no yes.
    run = subprocess.run(
        [os.path.join(BUILD, "vfio-cprctl"), "--socket", case.socket, "--json", "check", bdf],
        stdout=subprocess.PIPE, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/")
    findings = json.loads(run.stdout)
    assert run.returncode == 1, findings
    assert not [one for one in findings if one["status"] == "blocker"], findings
    assert {one["status"] for one in findings if one["check"] == "device-access"} == {"unknown"}
