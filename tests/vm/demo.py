# SPDX-License-Identifier: LGPL-2.1-or-later
"""make demo, inside the VM: a driver dies with DMA and an interrupt in flight, its successor goes on.

Every line that is printed was just seen: in the kernel, in the daemon's own view, or in memory. The
lines are in order however slow the machine is, for they are made by one thread, which waits for
each thing to be seen before it looks for the next: an event is known when it comes on the
connection that tells of events, not when another connection shows what it has done. The zero is
the driver's own.
"""

import os
import re
import select
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "cases"))
from case import edu_devices  # noqa: E402
from client import SESSION, Client  # noqa: E402
from daemon import Daemon  # noqa: E402
from vmm import BUILD, Resets, ctl, session, wait_for  # noqa: E402

TITLES = {"type1": "type1: a VFIO container, a group, VFIO_DMA_UNMAP_FLAG_VADDR",
          "iommufd": "iommufd: a device cdev, IOMMU_IOAS_CHANGE_PROCESS"}


class Timeline:
    """What is told, each line with its time since zero. Times are those of CLOCK_MONOTONIC."""

    def __init__(self):
        self.zero = self.last = None

    def begin(self, zero):
        self.zero = self.last = zero

    def tell(self, text, at=None):
        stamp = " " * 12
        if self.zero:
            at = time.monotonic() if at is None else at
            assert at >= self.last, f"told too late: {text}"
            self.last = at
            stamp = f"{(at - self.zero) * 1000:+9.1f} ms"
        print(f"  {stamp}  {text}", flush=True)


class Monitor:
    """The daemon's events as they come."""

    def __init__(self, daemon):
        self.client = Client(daemon.path)
        self.client.send(SESSION + "Monitor", {}, more=True)
        self.client.receive()  # the sessions that are there; from here on nothing is missed

    def has_read(self):
        """Whether the next message need not be waited for."""
        return b"\0" in self.client.buffer

    def next(self, wanted):
        """When the next message came, if it tells of that event; else None."""
        events = self.client.receive()[0]["events"]
        now = time.monotonic()
        return now if any(event["event"] == wanted for event in events) else None


class Driver:
    """examples/edu.c, for one round."""

    def __init__(self, daemon, backend, bdf, *more):
        self.process = subprocess.Popen(
            [os.path.join(BUILD, "edu"), "--session", "demo", "--backend", backend,
             "--socket", daemon.path, "--rounds", "1", *more, bdf],
            stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self.pidfd = os.pidfd_open(self.pid)

    def wait_for(self, monitor, event, status=0):
        """When the event was seen; it comes unless the driver ends with another status."""
        while True:
            if not monitor.has_read():
                ready = select.select([monitor.client.socket, self.pidfd], [], [])[0]
                if self.pidfd in ready:
                    self.check(status)
            seen = monitor.next(event)
            if seen:
                return seen

    def steps(self):
        """Each line it prints, with the time when it was read."""
        return [(text.rstrip(), time.monotonic()) for text in self.process.stdout]

    def check(self, status):
        assert self.process.wait() == status, f"the driver ended with {self.process.returncode}"


def held(view):
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(view["objects"].items()))
    return f"{kinds}; {view['mappings']} DMA mapping"


def tell_the_death(line, daemon, monitor, backend, bdf):
    """A driver dies."""
    driver = Driver(daemon, backend, bdf, "--die-in-flight")
    line.tell(f"the driver starts as process {driver.pid} and opens {bdf}")
    noticed = driver.wait_for(monitor, "orphaned", -signal.SIGKILL)
    dying = re.search(r"^dying .* at=([0-9.]+)$", driver.process.stdout.read(), re.M)
    line.begin(float(dying[1]))
    line.tell("it is killed with SIGKILL: a DMA of the device into memory is on its way", line.zero)
    line.tell("the daemon has noticed the death and settled the DMA addresses", noticed)
    line.tell(f"held by the daemon: {held(session(daemon.path, 'demo'))}")
    wait_for("the interrupt",
             lambda: session(daemon.path, "demo")["pendingInterrupts"] == 1)
    line.tell("the DMA has ended with nobody there; pending, not lost: 1 interrupt")


def tell_the_restart(line, daemon, monitor, backend, bdf):
    """Its successor goes on; what that printed."""
    started = time.monotonic()
    driver = Driver(daemon, backend, bdf)
    line.tell(f"the successor starts as process {driver.pid}: the same program, the same calls",
              started)
    claimed = driver.wait_for(monitor, "restoring")
    line.tell(f"it has claimed the session ({(claimed - started) * 1000:.1f} ms after its start)",
              claimed)
    restored = driver.wait_for(monitor, "active")
    line.tell(f"its DMA addresses are restored ({(restored - claimed) * 1000:.1f} ms after the "
              "claim)", restored)
    steps = driver.steps()
    driver.check(0)
    for text, at in steps:
        line.tell(f"driver: {text}", at)
    return [text for text, _ in steps]


def run(backend, bdf):
    print(f"\n{TITLES[backend]}\n", flush=True)
    daemon, line, resets = Daemon(), Timeline(), Resets()
    monitor = Monitor(daemon)
    tell_the_death(line, daemon, monitor, backend, bdf)
    text = "\n".join(tell_the_restart(line, daemon, monitor, backend, bdf))
    line.tell(f"resets: {resets.count()} (kernel probes on every close and reset of a device)")
    right = resets.count() == 0 and "landed=yes" in text and "reset seen=no" in text
    ctl(daemon.path, "release", "demo")
    line.tell(f"released at last: now the kernel resets the device (probes hit: {resets.count()})")
    daemon.stop()
    resets.end()
    print(f"\n  {'Nothing was lost.' if right else 'SOMETHING WAS LOST.'}", flush=True)
    return right


def main():
    bdfs = edu_devices()
    right = [run("type1", bdfs[0]), run("iommufd", bdfs[1])]
    sys.exit(0 if all(right) else 1)


if __name__ == "__main__":
    main()
