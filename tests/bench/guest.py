# SPDX-License-Identifier: LGPL-2.1-or-later
"""The benchmark's part that needs VFIO, in the test VM: guest.py BACKEND. What the daemon did in
its own threads is read from its log."""

import os
import re
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from daemon import BUILD, Daemon  # noqa: E402

PROGRAMS = os.path.join(BUILD, "bench")
BLACKOUTS = 20


def edu_device():
    for bdf in sorted(os.listdir("/sys/bus/pci/devices")):
        with open(f"/sys/bus/pci/devices/{bdf}/device", encoding="ascii") as file:
            if file.read().strip() == "0x11e8":
                return bdf
    raise SystemExit("there is no edu device")


def program(daemon, name, *arguments):
    """Runs it; its lines with the backend in the row, and the daemon's orphan work meanwhile."""
    before = len(daemon.log())
    run = subprocess.run(
        [os.path.join(PROGRAMS, name), daemon.path, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )
    if run.returncode != 0:
        print(daemon.log())
        raise SystemExit(f"{name} {arguments} ended with {run.returncode}")
    lines = [line.split() for line in run.stdout.splitlines() if line.startswith("= ")]
    settled = [int(usec) for usec in re.findall(r"settled in (\d+) us", daemon.log()[before:])]
    return lines, settled


def show(backend, row, n, who, value):
    print(f"= {row}-{backend} {n} {who} {value}", flush=True)


def main():
    backend, bdf = sys.argv[1], edu_device()
    daemon = Daemon()
    for count, rounds in ((1, 15), (1000, 10), (65535, 3)):
        lines, settled = program(daemon, "vm", backend, bdf, count, rounds)
        for _, row, n, who, value in lines:
            show(backend, row, n, who, value)
        for usec in settled:
            show(backend, "vm-orphan", count, "ours", usec)
    lines, settled = program(daemon, "blackout", backend, bdf, BLACKOUTS)
    orphaned = [float(line[4]) for line in lines if line[1] == "blackout-orphaned"]
    for _, row, n, who, value in lines:
        show(backend, row, n, who, value)
    for at, usec in zip(orphaned, settled):
        show(backend, "blackout-noticed", 530, "ours", at - usec)
    print("orphaned after", statistics.median(orphaned), "us")
    daemon.stop()


main()
