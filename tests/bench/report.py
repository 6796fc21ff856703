# SPDX-License-Identifier: LGPL-2.1-or-later
"""report.py RESULTS JSON: collects the lines "= ROW N WHO VALUE" of all logs below RESULTS, writes
medians and spreads as JSON, with the machine that they are of, and prints the table. A goal that is
missed is no failure. Of the JSON of several machines page.py makes docs/performance.md."""

import datetime
import json
import os
import platform
import re
import statistics
import sys

MIB = 1 << 20


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Results:
    def __init__(self, folder):
        self.samples = {}
        for directory, _, names in sorted(os.walk(folder)):
            for name in sorted(names):
                if name.endswith(".log"):
                    self.read(os.path.join(directory, name))

    def read(self, path):
        guest = os.path.basename(os.path.dirname(path)) in ("vm", "systemd")
        with open(path, errors="replace") as log:
            for line in log:
                words = line.split()
                if len(words) != 5 or words[0] != "=":
                    continue
                # What ran in both is told apart: the guest's processor is emulated.
                row = words[1] if not guest or words[1].startswith("vm-") else "vm-" + words[1]
                key = (row, int(words[2]), words[3])
                self.samples.setdefault(key, []).append(float(words[4]))

    def get(self, row, n, who, share=0.5):
        values = self.samples.get((row, n, who))
        if not values:
            return None
        return statistics.median(values) if share == 0.5 else percentile(values, share)

    def spread(self, row, n, who):
        values = self.samples.get((row, n, who))
        return (min(values), max(values)) if values else None

    def as_json(self):
        return [
            {
                "row": row,
                "n": n,
                "who": who,
                "median": statistics.median(values),
                "min": min(values),
                "max": max(values),
                "p99": percentile(values, 0.99),
                "samples": len(values),
            }
            for (row, n, who), values in sorted(self.samples.items())
        ]


def machine():
    """What the figures are of. The kernel's version without what its builder calls it."""
    cpu = {}
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            cpu.setdefault(key.strip(), value.strip())
    processor = cpu.get("model name", platform.machine())
    if "cpu family" in cpu:  # many virtual machines give a processor's name in part only
        processor += f", family {cpu['cpu family']} model {cpu['model']}"
    return {
        "processor": processor,
        "processors": len(os.sched_getaffinity(0)),
        "virtual": "hypervisor" in cpu.get("flags", "").split(),
        "kernel": re.match(r"[0-9.]*", platform.release()).group().rstrip("."),
        "date": datetime.date.today().isoformat(),
    }


def usec(value):
    if value is None:
        return "-"
    if value >= 1e6:
        return f"{value / 1e6:.2f} s"
    if value >= 1e4:
        return f"{value / 1e3:.1f} ms"
    if value >= 1e3:
        return f"{value / 1e3:.2f} ms"
    return f"{value:.0f} us" if value >= 100 else f"{value:.1f} us"


def nsec(value):
    return "-" if value is None else f"{value:.0f} ns"


def mib(value):
    return "-" if value is None else f"{value / MIB:.1f} MiB"


def number(value):
    return "-" if value is None else f"{value:.0f}"


def ratio(a, b):
    return None if a is None or not b else a / b


class Table:
    HEAD = ("what", "ours (min..max)", "floor", "peer", "ratio", "goal", "met")

    def __init__(self, results):
        self.results, self.rows = results, []

    def row(self, what, row, n, show=usec, peers=(), goal="", met=None, share=0.5, floor="floor"):
        """met(ours, floor, peer): whether the goal is met, or None where there is nothing to ask."""
        r = self.results
        ours, bare = r.get(row, n, "ours", share), r.get(row, n, floor, share)
        if ours is None:
            return
        spread = r.spread(row, n, "ours")
        found = [(who, r.get(row, n, who)) for who in peers]
        found = [(who, value) for who, value in found if value is not None]
        peer = found[0][1] if found else None
        verdict = met(ours, bare, peer) if met else None
        over = ratio(ours, bare)
        self.rows.append(
            (
                what,
                f"{show(ours)} ({show(spread[0])}..{show(spread[1])})" if spread[0] != spread[1] else show(ours),
                show(bare),
                ", ".join(f"{show(value)} {who}" for who, value in found) or "-",
                "-" if over is None else f"{over:.2f}x",
                goal,
                "" if verdict is None else "yes" if verdict else "NO",
            )
        )

    def beside(self, what, row, n, peer, times):
        """A goal beside a peer: to take 1/times of what it takes."""
        ours, other = self.results.get(row, n, "ours"), self.results.get(row, n, peer)
        if ours is None or other is None:
            return
        met = "yes" if other >= times * ours else "NO"
        self.rows.append(
            (what, usec(ours), "-", f"{usec(other)} {peer}", f"1/{int(other / ours)}", f"1/{times}", met)
        )

    def worst(self, what, row, n, limit):
        """Of all samples the longest, beside the floor's median."""
        spread, bare = self.results.spread(row, n, "ours"), self.results.get(row, n, "floor")
        if not spread or not bare:
            return
        over = spread[1] / bare
        met = "yes" if over <= limit else "NO"
        self.rows.append((what, usec(spread[1]), usec(bare), "-", f"{over:.2f}x", f"{limit}x", met))

    def text(self):
        lines = [self.HEAD, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.HEAD))]
        ruled = [lines[0], tuple("-" * width for width in widths), *lines[1:]]
        return "\n".join(
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
            for line in ruled
        )


def at_most(limit):
    return lambda ours, floor, peer: None if floor is None else ours <= limit * floor


def below(limit):
    return lambda ours, floor, peer: ours <= limit


# What one user does meanwhile: stall.py.
STALLS = {
    "lists": "pipelined List of full tables",
    "tables": "List of full tables",
    "shows": "Show of 9000 long names, unread",
    "removes": "Remove from 9000 objects",
    "batches": "Store of 8000 objects in one batch, and their Release",
    "names": "names that collide",
    "fetches": "Fetch, unread",
    "log": "bad messages, the log unread",
    "sessions": "attach and release",
    "closes": "closes that hang",
    "connections": "connections given up, of 3 users",
}


def stall_rows(table):
    """How long others wait beside a quiet run; the worst, too, beside its median."""
    for name, what in STALLS.items():
        for call, of in (("status", "Status"), ("held", "Status, connected"), ("claim", "claim")):
            row = f"stall-{call}-{name}"
            table.row(f"{of} during: {what}", row, 1, goal="2.0x", met=at_most(2))
            table.worst(f"{of} during: {what}, the worst", row, 1, 10)


def host_rows(table):
    peers = ("s6", "s6-dump", "s6-programs")
    results = table.results
    for n in (64, 530, 2060, 8240):
        goal, met = "", None
        if n == 2060:
            goal, met = "1.4x", at_most(1.4)
        elif n == 8240:
            goal, met = "1.6x", at_most(1.6)
        table.row(f"hand back {n} fds", "fetch", n, peers=peers, goal=goal, met=met)
        if n == 2060:
            table.beside(f"hand back {n} fds, beside s6", "fetch", n, "s6", 100)
    for n in (64, 530, 2060, 8240):
        goal = ("8.0x", at_most(8)) if n == 2060 else ("", None)
        table.row(f"store {n} fds", "store", n, peers=peers, goal=goal[0], met=goal[1])
    table.row("claim a VM's session, cold, p50", "claim", 530, goal="2.5x", met=at_most(2.5))
    table.row(
        "claim a VM's session, cold, p99", "claim", 530, share=0.99, goal="2 ms", met=below(2000)
    )
    for prefix, name, n_fds in (("", "host", 256), ("vm-", "VM", 530)):
        single = results.get(f"{prefix}clients-single", 64, "ours")
        table.row(f"{name}: one client claims {n_fds} fds", f"{prefix}clients-single", 64)
        table.row(
            f"{name}: 64 at once, the last",
            f"{prefix}clients",
            64,
            goal="3x one client",
            met=below(3 * single) if single else None,
        )
    table.row(
        "record a mapping", "record", 65536, nsec, goal="200 ns", met=lambda o, f, p: o - f <= 200
    )
    table.row("record, all of 65536 and the index's growth", "record", 0, nsec)
    table.row("record where one was before", "record-again", 65536, nsec)
    table.row("restore one of 65536 mappings, the library's part", "restore-own", 65536, nsec)
    for n in (1, 16, 64, 253):
        table.row(
            f"store {n} fds, with journal (floor: without)",
            "journal",
            n,
            goal="2.0x",
            met=at_most(2),
        )
    for n in (1, 100, 1000):
        table.row(f"claim 64 fds beside {n} sessions", "claim-among", n)
    for n in (10, 100, 130):
        table.row(f"restart, {n} sessions of 64 fds, to READY", "restart", n)
    table.row("wake-ups in 10 s, 1000 sessions", "idle", 10, number, goal="0", met=below(0))
    table.row("memory, nothing held", "memory-sessions", 0, mib)
    table.row("memory, 1000 sessions of 8 fds", "memory-sessions", 1000, mib)
    table.row("memory, 16000 fds in 8 sessions", "memory-fds", 16000, mib)


def guest_rows(table):
    for backend in ("type1", "iommufd"):
        table.row(f"VM: {backend} map a page", f"vm-map-{backend}", 65535, goal="1.02x", met=at_most(1.02))
        table.row(
            f"VM: {backend} map 2 MiB", f"vm-map-large-{backend}", 2 << 20, goal="1.02x", met=at_most(1.02)
        )
        for n in (1, 1000, 65535):
            goal = ("1.1x", at_most(1.1)) if n == 65535 else ("", None)
            what = f"VM: {backend} restore {n}"
            table.row(what, f"vm-restore-{backend}", n, goal=goal[0], met=goal[1])
        for n in (1, 1000, 65535):
            table.row(f"VM: {backend} orphan work, {n} mappings", f"vm-orphan-{backend}", n)
        for phase, what in (
            ("dead", "the process is gone"),
            ("noticed", "death noticed"),
            ("orphaned", "orphan work done"),
            ("claimed", "claimed"),
            ("restored", "restored"),
            ("dma", "first DMA"),
        ):
            table.row(f"VM: {backend} blackout: {what}", f"vm-blackout-{phase}-{backend}", 530)
    for n in (64, 530, 2060):
        peers = ("systemd", "systemd-empty")
        table.row(f"VM: hand back {n} fds, daemon with its journal", "vm-fetch", n, peers=peers)
    for n in (64, 530, 2060):
        table.row(f"VM: store {n} fds, daemon with its journal", "vm-store", n, peers=("systemd",))
    table.row(
        "VM: restart, 1000 sessions, 64000 fds, to READY",
        "vm-restart",
        1000,
        goal="1 s",
        met=below(1e6),
    )
    table.row("VM: the same, to its first answer", "vm-restart-answer", 1000)
    table.row(
        "VM: memory with 64000 fds",
        "vm-memory-full",
        64000,
        mib,
        goal="22.1 MiB",
        met=below(16 * MIB + 100 * 64000),
    )
    table.row(
        "VM: memory after that restart",
        "vm-restart-memory",
        64000,
        mib,
        goal="32 MiB",
        met=below(32 * MIB),
    )


def save(path, table, results):
    """A row, or a measurement, a line."""
    parts = [f'"machine": {json.dumps(machine())}']
    for name, rows in (("table", table.rows), ("measurements", results.as_json())):
        parts.append(f'"{name}": [\n ' + ",\n ".join(json.dumps(row) for row in rows) + "\n]")
    with open(path, "w", encoding="utf-8") as file:
        file.write("{\n" + ",\n".join(parts) + "\n}\n")


def main():
    results = Results(sys.argv[1])
    table = Table(results)
    host_rows(table)
    stall_rows(table)
    guest_rows(table)
    save(sys.argv[2], table, results)
    print(table.text())


main()
