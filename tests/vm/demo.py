# SPDX-License-Identifier: LGPL-2.1-or-later
"""make demo, inside the VM: a driver dies with DMA and an interrupt in flight, its successor goes on.

Every line that is printed was just seen: in the kernel, in the daemon's own view, or in memory.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cpr  # noqa: E402
from cases import edu_devices  # noqa: E402
from vmm import BUILD, Resets, ctl, session, wait_for  # noqa: E402

TITLES = {"type1": "type1: a VFIO container, a group, VFIO_DMA_UNMAP_FLAG_VADDR",
          "iommufd": "iommufd: a device cdev, IOMMU_IOAS_CHANGE_PROCESS"}


class Timeline:
    def __init__(self):
        self.zero = None

    def tell(self, text, at=None):
        now = time.monotonic() if at is None else at
        stamp = f"{(now - self.zero) * 1000:+9.1f} ms" if self.zero else " " * 12
        print(f"  {stamp}  {text}", flush=True)


def watch_events(daemon, seen):
    """Notes when the daemon tells of each event."""
    client = cpr.Client(daemon.path)
    with contextlib.suppress(cpr.Closed):
        for answer in client.call_more("io.vfiocpr.Session.Monitor", {}):
            for event in answer["events"]:
                seen.setdefault(event["event"], time.monotonic())


def driver(daemon, backend, bdf, *more):
    return subprocess.Popen([os.path.join(BUILD, "edu"), "--session", "demo", "--backend", backend,
                             "--socket", daemon.path, "--rounds", "1", *more, bdf],
                            stdout=subprocess.PIPE, text=True)


def held(view):
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(view["objects"].items()))
    return f"{kinds}; {view['mappings']} DMA mapping"


def run(backend, bdf):
    print(f"\n{TITLES[backend]}\n", flush=True)
    line, seen = Timeline(), {}
    daemon = cpr.Daemon()
    threading.Thread(target=watch_events, args=(daemon, seen), daemon=True).start()
    resets = Resets()

    first = driver(daemon, backend, bdf, "--die-in-flight")
    line.tell(f"the driver starts as process {first.pid} and opens {bdf}")
    output = first.communicate()[0]
    line.zero = time.monotonic()
    assert first.returncode == -signal.SIGKILL, output
    line.tell("it is killed with SIGKILL: a DMA of the device into memory is on its way")
    wait_for("the orphan", lambda: session(daemon.path, "demo")["state"] == "orphaned")
    view = session(daemon.path, "demo")
    line.tell("the daemon has noticed the death and settled the DMA addresses", seen["orphaned"])
    line.tell(f"held by the daemon: {held(view)}")
    wait_for("the interrupt",
             lambda: session(daemon.path, "demo")["pendingInterrupts"] == 1)
    line.tell("the DMA has ended with nobody there; pending, not lost: 1 interrupt")

    started = time.monotonic()
    second = driver(daemon, backend, bdf)
    line.tell(f"the successor starts as process {second.pid}: the same program, the same calls")
    steps = [(time.monotonic(), text.rstrip()) for text in second.stdout]
    assert second.wait() == 0, steps
    line.tell(f"it has claimed the session ({(seen['restoring'] - started) * 1000:.1f} ms after its "
              "start)", seen["restoring"])
    line.tell(f"its DMA addresses are restored ({(seen['active'] - seen['restoring']) * 1000:.1f} ms "
              "after the claim)", seen["active"])
    for at, text in steps:
        line.tell(f"driver: {text}", at)
    line.tell(f"resets: {resets.count()} (kernel probes on every close and reset of a device)")
    text = "\n".join(text for _, text in steps)
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
