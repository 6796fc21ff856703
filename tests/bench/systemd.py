# SPDX-License-Identifier: LGPL-2.1-or-later
"""Handing back beside systemd's own fd store, in the VM whose PID 1 is systemd: ours through the
daemon as it is installed, with its journal in that very store."""

import os
import subprocess

PROGRAMS = os.path.join(os.environ["BUILD"], "bench")
SOCKET = "/run/vfio-cprd/io.vfiocpr"
UNIT = "/run/systemd/system/peer-systemd.service"
LOG = "/run/peer-systemd.log"
RESTARTS = 7
# systemd compares each descriptor with every one that it has; of thousands that takes minutes here.
COUNTS = ((64, 40), (530, 20), (2060, 10))


def systemctl(*words):
    subprocess.run(["systemctl", *words], check=True)


def write_unit(n):
    with open(UNIT, "w", encoding="ascii") as unit:
        unit.write(
            "[Unit]\nStartLimitIntervalSec=0\n"
            "[Service]\nType=notify\nTimeoutStartSec=infinity\nLimitNOFILE=65536\n"
            "FileDescriptorStoreMax=20000\n"
            f"ExecStart={PROGRAMS}/peer-systemd {n}\nStandardOutput=append:{LOG}\n"
        )
    systemctl("daemon-reload")


def moment(what):
    """When the service said so last, in microseconds."""
    with open(LOG, encoding="ascii") as log:
        return [int(line.split()[1]) / 1e3 for line in log if line.startswith(what + " ")][-1]


def measure_systemd(n, row, who):
    write_unit(n)
    with open(LOG, "w", encoding="ascii"):
        pass
    systemctl("start", "peer-systemd")
    with open(LOG, encoding="ascii") as log:
        print("".join(line for line in log if line.startswith("= ")), end="", flush=True)
    for _ in range(RESTARTS):
        systemctl("restart", "peer-systemd")
        print(f"= fetch {row} {who} {moment('given') - moment('ends'):.3f}", flush=True)
    systemctl("stop", "peer-systemd")


def main():
    for n, rounds in COUNTS:
        subprocess.run([f"{PROGRAMS}/handback", SOCKET, str(rounds), str(n)], check=True)
        measure_systemd(n, n, "systemd")
        measure_systemd(0, n, "systemd-empty")


main()
