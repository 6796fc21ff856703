#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""page.py [--check]: writes the figures of docs/performance.md, between its two marks, from
docs/performance-1.json and so on, each a build/bench.json of another machine. A goal is met where
every machine meets it. --check writes nothing, and fails if the page has other figures."""

import glob
import json
import os
import re
import sys

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs")
BEGIN, END = "<!-- figures: tests/bench/page.py -->\n", "<!-- end of figures -->\n"
HEAD = ("what", "ours (min..max)", "floor", "peer", "ratio", "goal", "met")
WHAT, OURS, RATIO, GOAL, MET = 0, 1, 4, 5, 6


def table(head, rows):
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))


def describe(machine):
    """A machine in one line."""
    virtual = "a virtual machine of " if machine["virtual"] else ""
    note = f" ({machine['note']})" if "note" in machine else ""
    return (
        f"{virtual}{machine['processors']} processors, {machine['processor']}; "
        f"Linux {machine['kernel']}; {machine['date']}{note}"
    )


def short(row):
    """What a machine says of a goal: the median, and the ratio where there is one."""
    if row is None:
        return "-"
    median = re.sub(r" \(.*", "", row[OURS])
    return median if row[RATIO] == "-" else f"{median}, {row[RATIO]}"


def goals(machines):
    """The rows that have a goal, with all machines side by side."""
    found = [{row[WHAT]: row for row in machine["table"]} for machine in machines]
    for what, first in {what: row for rows in reversed(found) for what, row in rows.items()}.items():
        if not first[GOAL]:
            continue
        rows = [rows.get(what) for rows in found]
        verdicts = {row[MET] for row in rows if row is not None}
        met = "NO" if "NO" in verdicts else "yes" if None not in rows else "not measured on all"
        yield (what, first[GOAL], *(short(row) for row in rows), met)


def figures(machines):
    names = [f"machine {i}" for i in range(1, len(machines) + 1)]
    out = [f"- **Machine {i}**: {describe(one['machine'])}.\n" for i, one in enumerate(machines, 1)]
    out.append("\n### The goals\n\n")
    out.append(table(("what", "goal", *names, "met by all"), goals(machines)))
    for name, one in zip(names, machines):
        out.append(f"\n### Everything, {name}\n\n" + table(HEAD, one["table"]))
    return "".join(out)


def main():
    machines = []
    for path in sorted(glob.glob(os.path.join(DOCS, "performance-[0-9].json"))):
        with open(path, encoding="utf-8") as file:
            machines.append(json.load(file))
    path = os.path.join(DOCS, "performance.md")
    with open(path, encoding="utf-8") as file:
        page = file.read()
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    wanted = f"{before}{BEGIN}\n{figures(machines)}\n{END}{after}"
    if sys.argv[1:] != ["--check"]:
        with open(path, "w", encoding="utf-8") as file:
            file.write(wanted)
    elif page != wanted:
        raise SystemExit("docs/performance.md has other figures than its JSON: tests/bench/page.py")


main()
