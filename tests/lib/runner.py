#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the unittest files given: one line for each test, and an end to those that hang.

    runner.py [-j N] [-k WORD] [--timeout SECONDS] FILE...
"""

import argparse
import concurrent.futures
import importlib.util
import os
import re
import subprocess
import sys
import time
import traceback
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from patience import Watcher


def sentence(test):
    """What the test holds: the first line of its docstring, or its name in words."""
    method = getattr(test, test._testMethodName, None) if hasattr(test, "_testMethodName") else None
    doc = (getattr(method, "__doc__", None) or "").strip().splitlines()
    if doc:
        return doc[0].rstrip(".")
    name = getattr(test, "_testMethodName", str(test))
    return name.removeprefix("test_").replace("_", " ")


class Result(unittest.TestResult):
    def __init__(self, watcher):
        super().__init__()
        self.watcher = watcher
        self.passed = self.failed = self.left_out = 0

    def startTest(self, test):
        super().startTest(test)
        self.problems, self.reason = [], None
        self.started = time.monotonic()
        self.watcher.begin()

    def note(self, test, problem):
        text = "".join(traceback.format_exception(*problem))
        if isinstance(test, unittest.case._SubTest):
            text = f"{test._subDescription()}\n{text}"
        self.problems.append(text)

    def addError(self, test, err):
        if not hasattr(self, "problems"):
            self.startTest(test)  # setUpClass failed
            self.note(test, err)
            self.stopTest(test)
            return
        self.note(test, err)

    addFailure = addError

    def addSubTest(self, test, subtest, err):
        if err:
            self.note(subtest, err)

    def addSkip(self, test, reason):
        self.reason = reason

    def stopTest(self, test):
        self.watcher.end()
        super().stopTest(test)
        name = sentence(test)
        seconds = f"{time.monotonic() - self.started:.1f} s"
        if self.problems:
            self.failed += 1
            print(f"FAIL {name} ({seconds})")
            for problem in self.problems:
                print("    " + problem.rstrip().replace("\n", "\n    "))
        elif self.reason is not None:
            self.left_out += 1
            print(f"SKIP {name}: {self.reason}")
        else:
            self.passed += 1
            print(f"PASS {name} ({seconds})")
        sys.stdout.flush()


def load(path):
    name = os.path.splitext(os.path.basename(path))[0].replace("-", "_")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return unittest.defaultTestLoader.loadTestsFromModule(module)


def tests_of(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from tests_of(item)
        else:
            yield item


def run_file(options, path):
    """The same in a process of its own: (output, passed, failed, skipped)."""
    done = subprocess.run(
        [sys.executable, __file__, "-k", options.k, "--timeout", str(options.timeout), path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output, _, last = done.stdout.rstrip().rpartition("\n")
    counts = re.fullmatch(r"(\d+) passed, (\d+) failed(?:, (\d+) skipped)?", last)
    if not counts:
        return f"FAIL {path} broke off\n{done.stdout}", 0, 1, 0
    return output, *(int(count or 0) for count in counts.groups())


def run_at_once(options):
    passed = failed = left_out = 0
    with concurrent.futures.ThreadPoolExecutor(options.j) as pool:
        for output, *counts in pool.map(lambda path: run_file(options, path), options.files):
            if output:
                print(output, flush=True)
            passed, failed, left_out = map(sum, zip((passed, failed, left_out), counts))
    return passed, failed, left_out


def run_here(options):
    result = Result(Watcher(options.timeout))
    for path in options.files:
        tests = list(tests_of(load(path)))
        unittest.TestSuite(
            t for t in tests if options.k in sentence(t) or options.k in t.id()
        ).run(result)
    return result.passed, result.failed, result.left_out


def main():
    parser = argparse.ArgumentParser(description="Run unittest files, one line for each test.")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("-j", type=int, default=1, metavar="N", help="run N files at once (1)")
    parser.add_argument("-k", metavar="WORD", default="", help="only tests whose name has WORD")
    parser.add_argument("--timeout", type=int, default=60, help="per test, see patience.py (60)")
    options = parser.parse_args()

    many = options.j > 1 and len(options.files) > 1
    passed, failed, left_out = run_at_once(options) if many else run_here(options)
    line = f"{passed} passed, {failed} failed"
    print(f"{line}, {left_out} skipped" if left_out else line)
    sys.exit(1 if failed or passed + left_out == 0 else 0)


if __name__ == "__main__":
    main()
