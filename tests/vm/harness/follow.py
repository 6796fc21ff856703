# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the test VM, follows its results, and decides what hangs: run.sh's second half.

    follow.py --list FILE --results DIR [--stream NAME] [--timeout SECONDS] [--machines N]
              [--monitor SOCKET] QEMU...

A guest cannot tell how starved its machine is, so its clocks decide nothing. The seconds here are
those of patience.py over QEMU's threads: a test has as many as its line of the list says. Then the
guest is told to give it up, by a line on the port on which its results come: init and its kin say
what still runs, kill it and go on. A guest that does not obey is cut off, and so is one that shows
no sign of life, neither a result nor a line on its console, between the tests. Before that it is
sent an NMI, at which its kernel writes on the console what each processor does.

A machine that is lost costs no test but the one that ran. A new one goes on there: an emulated
machine may stand still by itself, so that one test is begun AGAIN. Who is lost twice is LOST.
"""

import argparse
import collections
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib"))
from patience import Patience  # noqa: E402

QUIET = 120  # seconds without a sign of life, when no test runs
OBEY = 60  # seconds to give up a test, and to kill what it has left
TRACES = 5  # seconds for the traces of a machine that is cut off
CONSOLE_LINES = 160  # a panic with the traces of two processors
GOOD, LOST = ("pass", "skip"), "lost"


def indent(text):
    for line in text.splitlines():
        print("    " + line)


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
            return file.read().replace("\r", "")
    except FileNotFoundError:
        return ""


class Results:
    """What is known of each test of the list, and what is said of it."""

    def __init__(self, options):
        self.folder, self.stream = options.results, options.stream
        with open(options.list, encoding="utf-8") as file:
            lines = [line.split(" ", 2) for line in file]
        self.limits = {name: int(seconds) for name, seconds, _ in lines}
        self.verdicts = {}
        self.running = self.log = None
        self.begun_again = set()
        self.machines_left = 1 if options.timeout else options.machines

    def path(self, name):
        return os.path.join(self.folder, name + ".log")

    def take(self, line):
        """A line of the port."""
        word, _, rest = line.partition(" ")
        if word == "@begin":
            self.running = rest
            self.log = open(self.path(rest), "w", encoding="utf-8")
        elif word == "|" and self.log:
            print(rest, file=self.log, flush=True)
            if self.running == self.stream:
                print(rest)
        elif word == "@end" and self.log:
            self.log.close()
            self.running = self.log = None
            self.report(*rest.split(" "))

    def report(self, name, verdict, status, seconds):
        self.verdicts[name] = verdict
        last = read(self.path(name)).rpartition("\n")[0].rpartition("\n")[2]
        print({"pass": f"PASS {name} ({seconds} s)",
               "skip": f"SKIP {name}: {last}",
               "fail": f"FAIL {name} (status {status}, {seconds} s)",
               "hang": f"HANG {name} (cut off after {seconds} s)"}[verdict])
        if verdict not in GOOD and name != self.stream:
            indent(read(self.path(name)))

    def left(self):
        """Those without a verdict: the one which ran when the VM ended, and those after it."""
        return [name for name in self.limits if name not in self.verdicts]

    def goes_on(self, why):
        """The test with which a new machine is to begin, counted from 1; None if there is to be none."""
        self.machines_left -= 1
        if self.running in self.begun_again:
            self.report_lost_one(self.running, why)
            self.running = None
        if not self.left() or not self.machines_left:
            return None
        if self.running:
            print(f"AGAIN {self.running}: {why} while it ran")
            indent(read(self.path(self.running)))
            self.begun_again.add(self.running)
        else:
            print(f"A new machine goes on with {self.left()[0]}: {why} before it began")
        self.running = None
        self.show_console()
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.console(), f"{self.console()}.{self.machines_left}")
        return list(self.limits).index(self.left()[0]) + 1

    def report_lost_one(self, name, why):
        self.verdicts[name] = LOST
        print(f"LOST {name}: {why} while it ran")
        indent(read(self.path(name)))

    def report_lost(self, why):
        """What no machine will go on with."""
        lost = self.left()
        for name in lost:
            if name == self.running:
                self.report_lost_one(name, why)
            else:
                self.verdicts[name] = LOST
                print(f"LOST {name}: {why} before it began")
                open(self.path(name), "w", encoding="utf-8").close()
        if lost:
            self.show_console()

    def show_console(self):
        print("The console's last lines:")
        indent("\n".join(read(self.console()).splitlines()[-CONSOLE_LINES:]))

    def console(self):
        return os.path.join(self.folder, "console.log")

    def conclude(self):
        """The last line; whether all is well."""
        count = collections.Counter(self.verdicts.values())
        line = (f"passed {count['pass']} failed {count['fail'] + count[LOST]} "
                f"hung {count['hang']} skipped {count['skip']}")
        print(line)
        with open(os.path.join(self.folder, "summary"), "w", encoding="ascii") as file:
            print(line, file=file)
        return all(verdict in GOOD for verdict in self.verdicts.values())


class Machine:
    """QEMU, with the guest's results port on its standard input and output."""

    def __init__(self, command, results, limit, monitor):
        self.results = results
        self.monitor = monitor
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        bufsize=0)
        self.console_size = 0
        self.partial = b""
        self.whole = self.patience(limit) if limit else None
        self.limit = limit
        self.told = False  # to give up the test that runs
        self.current = self.patience(QUIET)

    def patience(self, seconds):
        return Patience(seconds, self.process.pid)

    def read_port(self):
        """False at its end."""
        data = os.read(self.process.stdout.fileno(), 65536)
        lines = (self.partial + data).split(b"\n")
        self.partial = lines.pop()
        for line in lines:
            before = self.results.running
            self.results.take(line.decode(errors="replace").rstrip("\r"))
            if self.results.running != before:
                self.told = False
                self.current = self.patience(self.results.limits.get(self.results.running, QUIET))
        sys.stdout.flush()
        return bool(data)

    def shows_life(self):
        """Whether its console has grown."""
        try:
            size = os.stat(self.results.console()).st_size
        except FileNotFoundError:
            return False
        grown, self.console_size = size != self.console_size, size
        return grown

    def give_up(self):
        """Tells the guest to give up the test that runs; false if it was told twice."""
        if self.told == "twice":
            return False
        self.told = "twice" if self.told else "once"
        self.current = self.patience(OBEY)
        try:
            self.process.stdin.write(f"give-up {self.results.running}\n".encode())
        except BrokenPipeError:
            pass
        return True

    def follow(self):
        """Until the VM ends; why it did."""
        while True:
            if select.select([self.process.stdout], [], [], 0.5)[0]:
                if not self.read_port():
                    self.process.wait()
                    return "the VM ended"
            if self.shows_life() and not self.results.running:
                self.current = self.patience(QUIET)
            if self.whole and self.whole.is_over():
                return f"the VM was cut off after {self.limit} s"
            if self.current.is_over():
                if not self.results.running:
                    return f"the VM was cut off after {QUIET} s without a sign of life"
                if not self.give_up():
                    return "the VM was cut off, for it does not give the test up,"

    def ask_for_traces(self):
        """Has the kernel of a machine that is there yet say what its processors do."""
        if not self.monitor or self.process.poll() is not None:
            return
        try:
            with socket.socket(socket.AF_UNIX) as monitor:
                monitor.connect(self.monitor)
                monitor.sendall(b"nmi\n")
                patience = self.patience(TRACES)
                while self.process.poll() is None and not patience.is_over():
                    time.sleep(0.5)
        except OSError as error:
            print(f"QEMU's monitor cannot be asked for an NMI: {error}")

    def end(self):
        self.process.kill()
        self.process.wait()


def begin_with(first, command):
    """QEMU's command line with a word for the guest on that of its kernel."""
    place = command.index("-append") + 1
    return [*command[:place], f"{command[place]} first={first}", *command[place + 1:]]


def on_signal(number, _):
    sys.exit(128 + number)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", required=True)
    parser.add_argument("--results", required=True)
    parser.add_argument("--stream", default="")
    parser.add_argument("--timeout", type=int, default=0)
    parser.add_argument("--machines", type=int, default=1)
    parser.add_argument("--monitor")
    parser.add_argument("qemu", nargs=argparse.REMAINDER)
    options = parser.parse_args()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    results, command = Results(options), options.qemu
    while True:
        machine = Machine(command, results, options.timeout, options.monitor)
        try:
            why = machine.follow()
            machine.ask_for_traces()
        finally:
            machine.end()
        first = results.left() and results.goes_on(why)
        if not first:
            break
        command = begin_with(first, options.qemu)
    results.report_lost(why)
    sys.exit(0 if results.conclude() else 1)


if __name__ == "__main__":
    main()
