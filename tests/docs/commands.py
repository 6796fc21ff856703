#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What README.md and the manual pages tell a reader to type, taken out of them as it stands there.

From README.md: every fenced block, and every code span in the text that begins with a program's
name and goes on. From a manual page: every literal display of its EXAMPLES. A block is split into
commands where the shell would begin a new one. What each must do is in expected.py.

    commands.py                 lists all commands, with their places
    commands.py --install SH    writes the README's commands that install packages, as a script
"""

import dataclasses
import functools
import glob
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
README = "README.md"
BUILD_SECTION = "Build and install"

# A code span that begins with one of these, and has more words, is a command.
PROGRAMS = {"apt", "apt-get", "cc", "cp", "gcc", "git", "journalctl", "make", "man", "sudo",
            "systemctl", "systemd-sysusers", "varlinkctl", "vfio-cprctl", "vfio-cprd"}

ESCAPES = {r"\e": "\\", r"\(aq": "'", r"\(dq": '"', r"\(ti": "~", r"\(ha": "^", r"\(ga": "`",
           r"\-": "-", r"\&": ""}


class PageError(Exception):
    """The page has what this reader does not understand: better told than passed over."""


@dataclasses.dataclass(frozen=True)
class Block:
    page: str
    section: str
    line: int
    text: str
    language: str = ""
    is_span: bool = False

    @property
    def where(self):
        return f"{self.page}:{self.line}"

    @property
    def first_line(self):
        return self.text.strip().split("\n")[0]

    @property
    def is_c(self):
        return self.language == "c" or "#include <" in self.text

    def commands(self):
        return split(self.text)


def split(text):
    """The commands of a block: each as many lines as the shell needs for a whole one."""
    commands, lines = [], []
    for line in text.split("\n"):
        if not lines and (not line.strip() or line.lstrip().startswith("#")):
            continue
        lines.append(line)
        if is_whole("\n".join(lines)):
            commands.append("\n".join(lines).strip())
            lines = []
    if lines:
        raise PageError(f"not a whole command: {lines}")
    return commands


# Needs no shell to tell: to start one takes long in the test VM
PLAIN = re.compile(r"(?!(for|while|until|if|case|select|function)\b)[\w./=:+@,% -]+")


@functools.lru_cache(None)
def is_whole(text):
    if PLAIN.fullmatch(text):
        return True
    if re.search(r"(\\|&&|\|)\s*$", text):
        return False
    return subprocess.run(["bash", "-n", "-c", text], stderr=subprocess.DEVNULL,
                          check=False).returncode == 0


def spans(page, section, start, lines):
    """The commands within a paragraph; a span may go over the end of a line."""
    text = "\n".join(lines)
    for match in re.finditer(r"`([^`]+)`", text):
        words = match[1].split()
        if len(words) > 1 and words[0] in PROGRAMS:
            line = start + text.count("\n", 0, match.start())
            yield Block(page, section, line, " ".join(words), is_span=True)


def markdown(page, text):
    """Fenced blocks and spans of commands, in the order of the page."""
    section, fence, language, start, lines = "", "", "", 1, []
    for number, line in enumerate(text.split("\n") + [""], 1):
        mark = re.match(r"\s*(```+|~~~+)\s*(\w*)", line)
        if fence:
            if mark and mark[1].startswith(fence) and not mark[2]:
                yield Block(page, section, start, "\n".join(lines), language)
                fence, start, lines = "", number + 1, []
            else:
                lines.append(line)
        elif mark or not line.strip() or line.startswith("#"):
            yield from spans(page, section, start, lines)
            start, lines = number + 1, []
            if mark:
                fence, language = mark[1], mark[2]
            elif line.startswith("#"):
                section = line.lstrip("#").strip()
        else:
            lines.append(line)
    if fence:
        raise PageError(f"{page}:{start}: the block does not end")


def unescape(where, line):
    def replace(match):
        if match[0] not in ESCAPES:
            raise PageError(f"{where}: what is {match[0]}?")
        return ESCAPES[match[0]]

    return re.sub(r"\\(\(..|\[[^]]*\]|.)", replace, line)


def mdoc(page, text):
    """The literal displays of a manual page's EXAMPLES."""
    section, lines, start = "", None, 0
    for number, line in enumerate(text.split("\n"), 1):
        where = f"{page}:{number}"
        if line.startswith(".Sh "):
            section = line[4:].strip()
        elif section != "EXAMPLES":
            continue
        elif re.match(r"\.Bd\s.*-(literal|unfilled)", line):
            lines, start = [], number + 1
        elif line == ".Ed":
            yield Block(page, section, start, "\n".join(lines))
            lines = None
        elif line.startswith(".Dl "):
            yield Block(page, section, number, unescape(where, line[4:].strip()))
        elif lines is not None:
            if line.startswith("."):
                raise PageError(f"{where}: a macro within a literal display: {line}")
            lines.append(unescape(where, line))


def pages(root=ROOT):
    found = glob.glob(os.path.join(root, "docs", "*.[1-8]"))
    return [README] + sorted(os.path.relpath(path, root) for path in found)


def blocks(root=ROOT):
    """Of all pages."""
    found = []
    for page in pages(root):
        with open(os.path.join(root, page), encoding="utf-8") as file:
            found += (markdown if page.endswith(".md") else mdoc)(page, file.read())
    return found


def package_commands(found):
    """The README's commands that install what a build needs."""
    commands = [command for block in found
                if block.page == README and block.section == BUILD_SECTION and not block.is_c
                for command in block.commands() if command.split()[0] in ("apt", "apt-get")]
    if not any("install" in command.split() for command in commands):
        raise PageError(f'{README}: "{BUILD_SECTION}" has no command that installs packages')
    return commands


def main():
    found = blocks()
    if sys.argv[1:2] == ["--install"]:
        with open(sys.argv[2], "w", encoding="utf-8") as script:
            print("set -e", *package_commands(found), sep="\n", file=script)
        return
    for block in found:
        try:
            for command in [] if block.is_c else block.commands():
                print(f"{block.where}: {command}")
        except PageError:  # no command, then: expected.py must say so
            print(f"{block.where}: (shown) {block.first_line}")


if __name__ == "__main__":
    try:
        main()
    except PageError as error:
        sys.exit(f"commands.py: {error}")
