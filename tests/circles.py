#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds files of a folder that call each other in a circle.

circles.py BUILD FOLDER [FILE,FILE,...]...   circles.py build client

Who calls whom is read off the symbols of the object files. Each list of files is a circle that is
meant: it passes while it is just that one, and fails when it grows, or is no circle any more.
"""
import functools
import pathlib
import subprocess
import sys


def symbols(path, *options):
    """What nm lists, which takes long for all files of the tree, and is asked of each by many."""
    path = pathlib.Path(path).resolve()
    return listed(path, path.stat().st_mtime_ns, *options)


@functools.cache
def listed(path, _, *options):
    output = subprocess.run(["nm", "-P", "-g", *options, path], check=True, capture_output=True,
                            text=True).stdout
    return {line.split()[0] for line in output.splitlines()}


def objects_of(build, folder):
    """The folder's object files, by the name of their source without its ending."""
    return {source.stem: pathlib.Path(build, source).with_suffix(".o")
            for source in pathlib.Path(folder).glob("*.c")}


def calls(build, folder):
    """For each file of the folder the others whose functions or data it uses."""
    objects = objects_of(build, folder)
    owner = {symbol: name for name, path in objects.items()
             for symbol in symbols(path, "--defined-only")}
    return {name: {owner[symbol] for symbol in symbols(path, "--undefined-only")
                   if symbol in owner} - {name}
            for name, path in objects.items()}


def reached(graph, start):
    """All files that start calls, directly or through others."""
    found, todo = set(), [start]
    while todo:
        new = graph[todo.pop()] - found
        found |= new
        todo += new
    return found


def circles(graph):
    reach = {name: reached(graph, name) for name in graph}
    return {frozenset(other for other in reach[name] if name in reach[other])
            for name in graph if name in reach[name]}


def main(build, folder, *lists):
    graph = calls(build, folder)
    meant = {frozenset(names.split(",")) for names in lists}
    found = circles(graph)
    if not graph:
        print(f"{folder} has no .c file")
        return 1
    for circle in found - meant:
        print(f"{folder}: these call each other in a circle:")
        for name in sorted(circle):
            print(f"    {name} calls {', '.join(sorted(graph[name] & circle))}")
    for circle in meant - found:
        print(f"{folder}: {', '.join(sorted(circle))} are no circle: take them off the list")
    return int(found != meant)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
