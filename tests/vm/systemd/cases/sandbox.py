# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's sandbox, and who comes through it."""

import json
import os
import re
import subprocess

from service import (SERVICE, SOCKET, SOCKET_UNIT, daemon_pid, drop_in, properties, run,
                     systemctl)
from vmm import BUILD, ctl

NOBODY = 65534
EXPOSURE_ALLOWED = 1.0


def exposure_is_low(_case):
    """systemd-analyze security finds next to nothing."""
    table = run("systemd-analyze", "security", "--no-pager", SERVICE)
    print(table)
    exposure = float(re.search(rf"exposure level for {SERVICE}: ([0-9.]+)", table).group(1))
    assert exposure <= EXPOSURE_ALLOWED, exposure


def what_only_the_start_needs_is_given_up(case):
    """In the sandbox, too, the daemon takes from itself what it calls no more, in all threads."""
    vmm = case.vmm()
    assert vmm.start() == "new"
    pid = daemon_pid()
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii") as file:
            status = file.read()
        assert re.search(r"^Seccomp:\t2$", status, re.M), status
    log = run("journalctl", "--boot", "--unit", SERVICE, "--output=cat")
    assert "is ready" in log and "seccomp" not in log, log
    found = properties("MemoryMax", "TasksMax")
    assert found == {"MemoryMax": str(4 << 30), "TasksMax": "1024"}, found
    vmm.release()
    vmm.end()


def units_are_valid(_case):
    """systemd understands every line of the units."""
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", SERVICE, SOCKET_UNIT],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             check=True)
    assert not checked.stdout, checked.stdout


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


# Each case, its time limit, and whether it is about devices, so that both backends count
CASES = {
    exposure_is_low: (60, False),
    what_only_the_start_needs_is_given_up: (60, False),
    units_are_valid: (60, False),
    users_are_kept_apart: (60, False),
    varlinkctl_works: (60, False),
}
