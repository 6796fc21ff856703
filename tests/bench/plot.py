# SPDX-License-Identifier: LGPL-2.1-or-later
"""plot.py JSON FOLDER: draws how cost grows with descriptors, mappings and sessions, as
performance-*.svg in FOLDER. The standard library only."""

import json
import math
import os
import sys

WIDTH, HEIGHT = 460, 320
LEFT, RIGHT, TOP, BOTTOM = 74, 16, 40, 48
COLOURS = ("#1f6fb4", "#777777", "#c8502d", "#3d9140")


class Axis:
    """Maps values to pixels, on a logarithmic scale or on a linear one from 0."""

    def __init__(self, values, begin, end, logarithmic, room=1.05):
        self.begin, self.end, self.logarithmic = begin, end, logarithmic
        self.low = 10 ** math.floor(math.log10(min(values))) if logarithmic else 0
        self.high = 10 ** math.ceil(math.log10(max(values))) if logarithmic else max(values) * room
        if self.high == self.low:
            self.high = self.low + 1

    def at(self, value):
        if self.logarithmic:
            share = math.log10(value / self.low) / math.log10(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self):
        if self.logarithmic:
            n = round(math.log10(self.high / self.low))
            return [self.low * 10**i for i in range(n + 1)]
        step = 10 ** math.floor(math.log10(self.high / 2))
        while self.high / step > 6:
            step *= 2 if str(step)[0] != "2" else 2.5
        return [step * i for i in range(int(self.high / step) + 1)]


def label(value):
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1000:g} k" if value >= 10000 else f"{value:g}"


def chart(title, across, up, series, x, logarithmic=True):
    """The SVG of one chart at x; series: (name, [(x, y), ...])."""
    series = [(name, points) for name, points in series if points]
    if not series:
        return ""
    points = [point for _, some in series for point in some]
    horizontal = Axis([p[0] for p in points], LEFT, WIDTH - RIGHT, logarithmic)
    vertical = Axis([p[1] for p in points], HEIGHT - BOTTOM, TOP, logarithmic, 1.3)
    out = [f'<g transform="translate({x} 0)">']
    out.append(f'<text x="{LEFT}" y="20" font-weight="bold">{title}</text>')
    for tick in horizontal.ticks():
        at = horizontal.at(tick)
        out.append(f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" class="grid"/>')
        out.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" class="middle">{label(tick)}</text>')
    for tick in vertical.ticks():
        at = vertical.at(tick)
        out.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" class="grid"/>')
        out.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" class="end">{label(tick)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text x="{middle}" y="{HEIGHT - 10}" class="middle">{across}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(
        f'<text transform="translate(14 {middle}) rotate(-90)" class="middle">{up}</text>'
    )
    for i, (name, some) in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        where = [(horizontal.at(a), vertical.at(b)) for a, b in sorted(some)]
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in where)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in where]
        out.append(f'<text x="{LEFT + 10}" y="{TOP + 14 + 16 * i}" fill="{colour}">{name}</text>')
    out.append("</g>")
    return "\n".join(out)


def save(path, charts):
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH * len(charts)}" height="{HEIGHT}"'
            ' font-family="sans-serif" font-size="12">\n<style>.grid{stroke:#ddd}'
            ".middle{text-anchor:middle}.end{text-anchor:end}</style>\n"
            f'<rect width="100%" height="100%" fill="white"/>\n'
        )
        file.write("\n".join(charts) + "\n</svg>\n")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        measurements = json.load(file)["measurements"]

    def points(row, who="ours", scale=1.0, start=1):
        return [
            (one["n"], one["median"] * scale)
            for one in measurements
            if one["row"] == row and one["who"] == who and one["n"] >= start
        ]

    folder = sys.argv[2]
    series = [
        [(who, points(row, key)) for who, key in names]
        for row, names in (
            ("fetch", (("vfio-cprd", "ours"), ("bare socketpair", "floor"), ("s6-fdholder by id", "s6"))),
            ("store", (("vfio-cprd", "ours"), ("bare socketpair", "floor"), ("s6-fdholder by id", "s6"))),
        )
    ]
    save(
        os.path.join(folder, "performance-fds.svg"),
        [
            chart("Hand back", "descriptors", "microseconds", series[0], 0),
            chart("Store", "descriptors", "microseconds", series[1], WIDTH),
        ],
    )
    both = [
        [
            (f"{backend}, vfio-cprd", points(f"vm-{what}-{backend}", scale=1e-3))
            for backend in ("type1", "iommufd")
        ]
        + [
            (f"{backend}, bare", points(f"vm-{what}-{backend}", "floor", 1e-3))
            for backend in ("type1", "iommufd")
        ]
        for what in ("restore", "orphan")
    ]
    save(
        os.path.join(folder, "performance-mappings.svg"),
        [
            chart("Restore (emulated processor)", "mappings", "milliseconds", both[0], 0),
            chart("Orphan work (emulated processor)", "mappings", "milliseconds", both[1], WIDTH),
        ],
    )
    mib = 1.0 / (1 << 20)
    save(
        os.path.join(folder, "performance-sessions.svg"),
        [
            chart(
                "Claim of 64 descriptors beside other sessions",
                "sessions",
                "microseconds",
                [("vfio-cprd", points("claim-among")), ("bare socket", points("claim-among", "floor"))],
                0,
                False,
            ),
            chart(
                "Restart of the daemon, 64 descriptors a session",
                "sessions",
                "milliseconds",
                [
                    ("until ready", points("restart", scale=1e-3)),
                    ("on an emulated processor", points("vm-restart", scale=1e-3)),
                ],
                WIDTH,
                False,
            ),
            chart(
                "Memory, 8 descriptors a session",
                "sessions",
                "MiB",
                [("vfio-cprd", points("memory-sessions", scale=mib, start=0))],
                2 * WIDTH,
                False,
            ),
            chart(
                "Memory",
                "descriptors",
                "MiB",
                [
                    ("in 8 sessions", points("memory-fds", scale=mib, start=0)),
                    ("64 in a session", points("vm-memory-full", scale=mib)),
                ],
                3 * WIDTH,
                False,
            ),
        ],
    )


main()
