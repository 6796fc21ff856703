#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Prints how many lines of each folder's files were run, from what gcov counted in a build."""

import glob
import gzip
import json
import os
import subprocess
import sys
import tempfile


def counts(notes):
    """Of one object: {source file: {line: how often}}."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["gcov", "--json-format", os.path.abspath(notes)],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        lines = {}
        for path in glob.glob(os.path.join(folder, "*.gcov.json.gz")):
            with gzip.open(path) as file:
                report = json.load(file)
            for source in report["files"]:
                found = lines.setdefault(source["file"], {})
                for line in source["lines"]:
                    number = line["line_number"]
                    found[number] = max(found.get(number, 0), line["count"])
        return lines


def main():
    build, *folders = sys.argv[1:]
    all_lines = all_run = 0
    missed = []
    for folder in folders:
        for notes in sorted(glob.glob(os.path.join(build, folder, "*.gcno"))):
            source = f"{folder}/{os.path.basename(notes)[:-5]}.c"
            lines = counts(notes).get(source)
            if not lines:
                continue
            run = sum(1 for count in lines.values() if count)
            all_lines += len(lines)
            all_run += run
            print(f"{100 * run / len(lines):6.1f} %  {run:4} of {len(lines):4}  {source}")
            missed += [f"{source}:{n}" for n, count in sorted(lines.items()) if not count]
    with open(os.path.join(build, "missed"), "w", encoding="utf-8") as file:
        file.write("\n".join(missed) + "\n")
    print(f"{100 * all_run / max(all_lines, 1):6.1f} %  {all_run} of {all_lines} lines of all")


main()
