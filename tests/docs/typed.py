# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the commands of README.md and the manual pages in the test VM, from a machine on which
nothing is installed to one on which nothing is left: typed.py NAME runs one test, --list PATH lists
them in order, for a source at PATH.

Each block of commands is a test. README.md's are run in the source, which has been built, as a user
has it after the README's make; the pages' in root's home.
"""

import json
import os
import pwd
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path += [HERE, os.path.join(HERE, "..", "install")]
import commands  # noqa: E402
import expected  # noqa: E402
import roots  # noqa: E402
from machine import SOURCE, Machine, run  # noqa: E402
from shell import Shell, processes, stat_of  # noqa: E402

SECONDS = 300
SNAPSHOT = "/run/files-before"
WATCHED = ("/usr", "/etc/systemd", "/opt")


def files():
    return {os.path.join(folder, name) for top in WATCHED for folder, _, names in os.walk(top)
            for name in names}


def report(command, status, output):
    print(f"$ {command}\n{output.rstrip()}\n[status {status}]", flush=True)


def run_command(machine, command):
    assert command in expected.COMMANDS, f"expected.py does not say what this must do: {command}"
    how = expected.COMMANDS[command]
    if how.given:
        how.given(machine)
    text = machine.substitute(command)
    if how.endless:
        output = machine.shell.start(text)
        how.then(machine, output)
        report(text, "none: it goes on", output())
    else:
        status, output = machine.shell.do(text)
        report(text, status, output)
        assert status == how.status, f"status {status}, not {how.status}"
        for part in how.contains:
            assert part in output, f"its output has no {part}"
        if how.then:
            how.then(machine, output)


def run_block(block):
    machine = Machine()
    machine.shell = Shell(SOURCE if block.page == commands.README else os.path.expanduser("~"))
    os.chdir(os.path.expanduser("~"))
    try:
        for command in block.commands():
            run_command(machine, command)
    except BaseException:
        sys.stdout.flush()
        print(run("journalctl", "--no-pager", "--lines=40"))
        raise
    finally:
        machine.clean()


def nothing_is_installed():
    """The machine has never seen it."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    assert "vfio-cprd" not in names
    before = files()
    assert not [path for path in before if "vfio" in path.lower() and "cpr" in path.lower()]
    with open(SNAPSHOT, "w", encoding="utf-8") as file:
        json.dump(sorted(before), file)


def installs_over():
    """README.md's lines to build and install, once more under a living VMM."""
    readme, machine = roots.Readme(), Machine()
    machine.shell = Shell(SOURCE)
    try:
        machine.active("vm1")
        for line in readme.build + readme.install:
            status, output = machine.shell.do(line)
            report(line, status, output)
            assert status == 0
        run("systemctl", "restart", "vfio-cprd")
        machine.check_upgraded("vm1")
    finally:
        machine.clean()


def nothing_is_left():
    """After README.md's lines that remove it."""
    with open(SNAPSHOT, encoding="utf-8") as file:
        before = set(json.load(file))
    now = files()
    assert not now - before, f"left: {sorted(now - before)}"
    assert not before - now, f"gone, too: {sorted(before - now)}"
    assert not run("systemctl", "list-units", "--all", "--plain", "--no-legend", "vfio-cprd*")
    assert "vfio-cprd" not in [stat_of(pid)[0] for pid in processes()], "it still runs"


def tests():
    """Name and function of each, in order."""
    stages = {expected.INSTALL: [], expected.USE: [], expected.REMOVE: []}
    written = {command for block in commands.blocks() if not block.is_span and not block.is_c
               and block.first_line not in expected.SHOWN for command in block.commands()}
    seen = set()
    for block in commands.blocks():
        if block.is_c or block.first_line in expected.SHOWN:
            continue
        # One that is not known fails when it is to be run
        runs = [expected.COMMANDS.get(command, expected.Run()) for command in block.commands()]
        if not all(isinstance(how, expected.Run) for how in runs):
            assert not any(isinstance(how, expected.Run) for how in runs), block
            continue
        # What a sentence repeats is run where it is written out, or said first
        if block.is_span and (block.text in written or block.text in seen):
            continue
        seen.add(block.text)
        special = {how.stage for how in runs} - {expected.USE}
        assert len(special) <= 1, f"{block.where}: it installs and removes"
        stages[special.pop() if special else expected.USE].append(block)

    def named(blocks):
        for block in blocks:
            name = re.sub(r"[^a-z0-9]+", "-", block.first_line.lower())[:40].strip("-")
            yield (f"{os.path.basename(block.page)}-{block.line}-{name}",
                   lambda block=block: run_block(block))

    yield "nothing-is-installed", nothing_is_installed
    yield from named(stages[expected.INSTALL])
    yield "installs-over", installs_over
    yield from named(stages[expected.USE])
    yield from named(stages[expected.REMOVE])
    yield "nothing-is-left", nothing_is_left


def main():
    if sys.argv[1] == "--list":
        for name, _ in tests():
            print(name, SECONDS, f"python3 {sys.argv[2]}/tests/docs/typed.py", name)
        return
    dict(tests())[sys.argv[1]]()


if __name__ == "__main__":
    main()
