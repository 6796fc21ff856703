# SPDX-License-Identifier: LGPL-2.1-or-later
"""What docs/hacking.md says holds of the tree, and a tree of which it does not hold is told."""

import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))
import house  # noqa: E402

BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))


class Tree(unittest.TestCase):
    """The tree as it is."""

    def none(self, problems):
        if problems:
            self.fail("\n" + "\n".join(problems))

    @classmethod
    def setUpClass(cls):
        os.chdir(ROOT)
        with open("docs/hacking.md", encoding="utf-8") as file:
            cls.page = file.read()

    def test_floors(self):
        """No file of daemon/ or client/ calls one of a floor above it, and each is on a floor"""
        for folder in ("daemon", "client"):
            self.none(house.floor_problems(self.page, BUILD, folder))

    def test_folders(self):
        """The library and the daemon know nothing of each other, and common/ nothing of either"""
        self.none(house.folder_problems(BUILD, house.FOLDERS))

    def test_invariants(self):
        """Each invariant of docs/hacking.md names a test that there is"""
        self.none(house.invariant_problems(self.page))

    def test_promises(self):
        """Each promise of docs/security.md names a test that there is"""
        with open("docs/security.md", encoding="utf-8") as file:
            page = file.read()
        self.none(house.promise_problems(page))
        self.none(house.name_problems(page))

    def test_hands_off(self):
        """The daemon opens no file by its name, reads no descriptor, and maps nothing"""
        self.none(house.hands_off_problems(BUILD, house.IOCTLS))

    def test_names(self):
        """Each file and each function that docs/hacking.md names is there"""
        self.none(house.name_problems(self.page))


class MadeUp(unittest.TestCase):
    """A tree of a few files, made up so that something is wrong with it."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="house-")
        self.addCleanup(self.folder.cleanup)
        self.addCleanup(os.chdir, ROOT)
        os.chdir(self.folder.name)

    def write(self, path, text=""):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def compile(self, path, text):
        self.write(path, text)
        target = os.path.join("build", path.removesuffix(".c") + ".o")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        subprocess.run(["gcc", "-c", path, "-o", target], check=True)

    def build(self, **files):
        """Files by folder and name, and what each calls of the others: part_roof="ground" """
        for name, called in files.items():
            folder, _, stem = name.partition("_")
            calls = called.split()
            self.compile(f"{folder}/{stem}.c",
                         "".join(f"int {other}(void);\n" for other in [stem, *calls]) +
                         f"int {stem}(void) {{ return {'() + '.join([*calls, '0'])}; }}\n")

    def floors(self, *items):
        page = "## part/\n\n" + "".join(f"{i}. {item}\n" for i, item in enumerate(items, 1))
        return house.floor_problems(page, "build", "part")

    def test_floors(self):
        """A call upwards, a file on no floor or on two, and one that is gone are told"""
        self.build(part_roof="ground", part_ground="", part_side="roof ground")
        self.assertEqual(self.floors("`roof`, `side`: both", "`ground`: with\n   more of `it`"), [])
        self.assertEqual(self.floors("`roof`: a", "`side`: b", "`ground`: c"),
                         ["part/side.c, on floor 2, calls part/roof.c, on floor 1 above it"])
        self.assertEqual(self.floors("`roof`: a", "`ground`: b"), ["part/side.c is on no floor"])
        self.assertEqual(self.floors("`roof`, `side`: a", "`ground`, `side`: b"),
                         ["part/side.c is on two floors",
                          "part/side.c, on floor 2, calls part/roof.c, on floor 1 above it"])
        self.assertEqual(self.floors("`roof`, `side`, `attic`: a", "`ground`: b"),
                         ["part/attic.c is on a floor, but is not there"])

    def test_folders(self):
        """A call into a folder, or a file of it, that may not be called is told"""
        self.build(high_roof="wall stone", low_wall="", low_stone="roof")
        self.assertEqual(
            house.folder_problems("build", {"high": ["low"], "low": ["high/roof"]}), [])
        self.assertEqual(house.folder_problems("build", {"high": ["low/wall"], "low": []}),
                         ["high/roof.c calls stone() of low/stone.c",
                          "low/stone.c calls roof() of high/roof.c"])

    def invariants(self, *items):
        return house.invariant_problems(
            "# The invariants\n" + "".join(f"{i}. {item}\n" for i, item in enumerate(items, 1)))

    def test_invariants(self):
        """An invariant without a test, or with one that is gone, moved or not run, is told"""
        self.write("tests/test_a.py",
                   "class A:\n    def test_it(self): pass\ndef test_no(): pass\n")
        self.write("tests/cases.py", "def dies(case): pass\nSECONDS = {'dies_late': 1}\n")
        self.write("tests/b.c", "START_TEST(b)\nSTART_TEST(c)\ntcase_add_test(tests, b);\n")
        self.write("tests/d.sh", 'd() {\n}\nholds "it" \\\n\td\ne() {\n}\n')
        self.assertEqual(self.invariants(
            "One. Held by `tests/test_a.py` `test_it`, `tests/cases.py` `dies`.",
            "Two `x`.\n   Held by `tests/b.c` `b` and\n   `tests/d.sh` `d`."), [])
        self.assertEqual(self.invariants("`tests/b.c` `b` says nothing", "Held by the daemon"),
                         ["invariant 1 names no test that holds it",
                          "invariant 2 names no test that holds it"])
        self.assertEqual(
            self.invariants("Held by `tests/test_a.py` `test_no`, `tests/b.c` `c`, "
                            "`tests/d.sh` `e`, `tests/cases.py` `dies_late`",
                            "Held by `tests/cases.py` `test_it`, `tests/gone.c` `f`"),
            ["invariant 1: tests/test_a.py has no test_no", "invariant 1: tests/b.c has no c",
             "invariant 1: tests/d.sh has no e", "invariant 1: tests/cases.py has no dies_late",
             "invariant 2: tests/cases.py has no test_it: it is in tests/test_a.py",
             "invariant 2: there is no tests/gone.c"])
        self.assertEqual(house.invariant_problems("# Others\n1. One"), ["there are no invariants"])
        self.assertEqual(
            house.invariant_problems("# The invariants\n1. Held by `tests/b.c` `b`\n"
                                     "3. Held by `tests/b.c` `b`\n"),
            ["the invariants are not numbered from 1 on"])

    def test_promises(self):
        """A promise without a test, or with one that is gone, is told"""
        self.write("tests/b.c", "START_TEST(b)\ntcase_add_test(tests, b);\n")
        page = "## What is promised\n\n| Promise | Held by |\n|---|---|\n"
        self.assertEqual(house.promise_problems(page + "| One | `tests/b.c` `b` |\n"), [])
        self.assertEqual(
            house.promise_problems(page + "| One | the daemon |\n| Two | `tests/b.c` `b`, `c` |\n"),
            ['"One" names no test that holds it', '"Two": tests/b.c has no c'])
        self.assertEqual(house.promise_problems(page), ["there are no promises"])

    def test_hands_off(self):
        """Who reads, opens, maps, or makes an ioctl that is not on the list is told"""
        self.compile("daemon/worker.c",
                     "int eventfd_read(int);\nint a(void) { return eventfd_read(0); }")
        self.compile("daemon/kernel.c", "int ioctl();\n#define UNMAP 1\n"
                     "int b(int fd) { return ioctl(fd, UNMAP); }")
        self.assertEqual(house.hands_off_problems("build", {"daemon/kernel.c": {"UNMAP"}}), [])
        self.assertEqual(house.hands_off_problems("build", {}),
                         ["daemon/kernel.c calls ioctl() with UNMAP"])
        self.compile("daemon/a.c", "int open64(char *);\nint c(void) { return open64(0); }")
        self.compile("daemon/b.c", "int ioctl();\nint (*d)() = ioctl;")
        self.compile("daemon/c.c", "int mmap64(int);\nint e(void) { return mmap64(0); }")
        self.assertEqual(house.hands_off_problems("build", {"daemon/kernel.c": {"UNMAP"}}),
                         ["daemon/a.c calls open64()",
                          "daemon/b.c calls ioctl() in a way that is not understood",
                          "daemon/c.c calls mmap64()"])

    def test_names(self):
        """A function or a file that the page names and the tree lacks is told"""
        self.write("daemon/a.c", "int there(void);\n")
        self.assertEqual(house.name_problems("`there()`, `daemon/a.c`, `daemon/*.c`, `1/2 x`"), [])
        self.assertEqual(house.name_problems("`gone()`, `daemon/b.c`"),
                         ["nothing calls or defines gone()", "there is no daemon/b.c"])
