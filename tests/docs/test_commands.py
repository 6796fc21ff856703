# SPDX-License-Identifier: LGPL-2.1-or-later
"""Of each command and each piece of C in README.md and the manual pages, a test knows what to do
with it; and what takes them out of the pages sees what a reader sees."""

import os
import subprocess
import sys
import textwrap
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import commands  # noqa: E402
import expected  # noqa: E402

FLAGS = ("-std=gnu11", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-fsyntax-only", "-Iinclude")


class Pages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.blocks = commands.blocks()
        cls.typed = [(block, command) for block in cls.blocks
                     if not block.is_c and block.first_line not in expected.SHOWN
                     for command in block.commands()]

    def test_known(self):
        """A test knows what each command of README.md and the manual pages must do"""
        unknown = [f"{block.where}: {command}" for block, command in self.typed
                   if command not in expected.COMMANDS]
        assert not unknown, "expected.py says nothing of:\n" + "\n".join(unknown)

    def test_stale(self):
        """No test expects a command that the pages do not have"""
        there = {command for _, command in self.typed}
        first_lines = {block.first_line for block in self.blocks}
        stale = [text for text in expected.COMMANDS if text not in there]
        stale += [line for line in (*expected.SHOWN, *expected.FRAGMENTS)
                  if line not in first_lines]
        stale += [name for name in expected.SUBSTITUTES
                  if not any(name in command for command in there)]
        assert not stale, "no page has, but expected.py:\n" + "\n".join(stale)

    def test_elsewhere(self):
        """What the test VM does not run is run by the file that is said to"""
        for command, how in expected.COMMANDS.items():
            if isinstance(how, expected.Elsewhere):
                with open(os.path.join(commands.ROOT, how.file), encoding="utf-8") as file:
                    assert how.text in file.read(), f"{how.file} does not run {command}: {how.text}"

    def test_named(self):
        """Only in a sentence may a command be left unfinished"""
        for block, command in self.typed:
            if isinstance(expected.COMMANDS.get(command), expected.Named):
                assert block.is_span, f"{block.where}: {command}"

    def test_c(self):
        """Every piece of C on the pages compiles against the header without a warning"""
        pieces = [block for block in self.blocks if block.is_c]
        assert len(pieces) > 5, pieces
        for block in pieces:
            source = block.text
            if block.first_line in expected.FRAGMENTS:
                source = expected.FRAGMENTS[block.first_line] % source
            done = subprocess.run(["gcc", *FLAGS, "-x", "c", "-"], input=source, text=True,
                                  cwd=commands.ROOT, stderr=subprocess.PIPE, check=False)
            assert done.returncode == 0, f"{block.where}:\n{done.stderr}"

    def test_rendered(self):
        """The manual pages show each line of their examples as the tests read it"""
        for page in commands.pages():
            if page == commands.README:
                continue
            shown = subprocess.run(["mandoc", "-T", "utf8", "-O", "width=200", page], check=True,
                                   cwd=commands.ROOT, stdout=subprocess.PIPE, text=True).stdout
            shown = {line.strip() for line in shown.split("\n")}
            for block in self.blocks:
                for line in block.text.split("\n") if block.page == page else ():
                    assert line.strip() in shown, f"{block.where}: man does not show: {line}"


class Reader(unittest.TestCase):
    @staticmethod
    def markdown(text):
        return list(commands.markdown("page.md", textwrap.dedent(text)))

    @staticmethod
    def mdoc(*lines):
        return list(commands.mdoc("page.1", "\n".join(lines)))

    def test_split(self):
        """A command ends where the shell's does"""
        self.assertEqual(
            commands.split("a | # why\n  b\n# no command\n\nc \\\n  d\n"
                           "for i in 1 2; do\n  e\ndone\nf &&\ng"),
            ["a | # why\n  b", "c \\\n  d", "for i in 1 2; do\n  e\ndone", "f &&\ng"])
        with self.assertRaises(commands.PageError):
            commands.split("echo 'it never ends")

    def test_markdown(self):
        """Fenced blocks and spans of commands are found, with section and line"""
        found = self.markdown("""\
            # Top
            Type `make
            all` or `make`, never `rm -r`.
            ## Below
            ```c
            int i; `make x`
            ```
              ```
              ls
              ```
            """)
        self.assertEqual(
            [(one.section, one.line, one.text, one.is_c) for one in found],
            [("Top", 2, "make all", False), ("Below", 6, "int i; `make x`", True),
             ("Below", 9, "  ls", False)])
        with self.assertRaises(commands.PageError):
            self.markdown("```\nno end")

    def test_mdoc(self):
        """Displays of EXAMPLES are found, and nothing else; what is not understood is refused"""
        found = self.mdoc(".Sh EXAMPLES", ".Bd -literal -offset indent", r"a \(aqb\(aq \e",
                          r" c\-d", ".Ed", ".Dl e f", ".Sh FILES", ".Bd -literal", "g", ".Ed")
        self.assertEqual([(one.line, one.text) for one in found],
                         [(3, "a 'b' \\\n c-d"), (6, "e f")])
        for bad in (r"\(zz", ".Pp"):
            with self.assertRaises(commands.PageError):
                self.mdoc(".Sh EXAMPLES", ".Bd -literal", bad, ".Ed")
