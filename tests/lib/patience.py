#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tells what hangs from what is slow: the one place where a test decides that it has waited enough.

    patience.py --seconds N COMMAND...

runs the command like timeout(1), also in its exit status 124, but by another clock. Seconds on the
wall count a busy host as a failure. This clock leaves out the time in which the processes watched
waited for a processor: what sleeps for ever is cut off after N seconds, what spins after N seconds
of the processor, and what is only starved goes on. The kernel tells the waiting in
/proc/PID/task/TID/schedstat, and what a hypervisor took from all of us in /proc/stat.

In a virtual machine nobody can tell how starved the machine is. There the host decides and sets
PATIENCE=endless for the tests in it.
"""

import argparse
import contextlib
import ctypes
import os
import select
import signal
import sys
import time

TICK = 0.5  # seconds between two looks: each of them reads all of /proc
CUT_OFF = 124
PR_SET_CHILD_SUBREAPER = 36
ENDLESS = os.environ.get("PATIENCE") == "endless"
HERTZ = os.sysconf("SC_CLK_TCK")
IS_STARVATION_KNOWN = os.path.exists("/proc/self/schedstat")
TEST_PID = os.getpid()  # also in its children


class Hang(Exception):
    """What was waited for does not come."""


# What the kernel tells


def read(path):
    """The file's text; None if its process is gone, or there is no descriptor left to open it."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read().decode(errors="replace")
    except OSError:
        return None


def stat_of(path):
    """(state, parent, start in clock ticks since boot) of a process or thread, or None."""
    text = read(path + "/stat")
    if not text:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[19])


def names_in(path):
    try:
        return [name for name in os.listdir(path) if name.isdigit()]
    except OSError:
        return []


def stolen():
    """Seconds since boot that a hypervisor took, of the processor which lost most."""
    lines = [line.split() for line in (read("/proc/stat") or "").splitlines()]
    steal = [int(line[8]) for line in lines if line and line[0][:3] == "cpu" and line[0] != "cpu"]
    return max(steal, default=0) / HERTZ


def tree(roots):
    """{pid: start} of these processes and their descendants, who live."""
    children, starts = {}, {}
    for name in names_in("/proc"):
        stat = stat_of("/proc/" + name)
        if stat:
            children.setdefault(stat[1], []).append(int(name))
            starts[int(name)] = stat[2]
    found, todo = {}, [pid for pid in roots if pid in starts]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found[pid] = starts[pid]
            todo += children.get(pid, [])
    return found


def describe(pids):
    """A line for each of them that lives, with what it waits for in the kernel."""
    for pid in pids:
        stat = stat_of(f"/proc/{pid}")
        if stat and stat[0] != "Z":
            words = (read(f"/proc/{pid}/cmdline") or "").replace("\0", " ").strip()
            place = read(f"/proc/{pid}/wchan") or "?"
            yield f"still running: {pid} {words} (state {stat[0]}, waits in {place})"


# The clock


class Clock:
    """Seconds in which these processes, their descendants and all their threads could have run."""

    def __init__(self, *roots):
        self.roots = roots
        self.seconds = 0.0
        self.at = None  # when it was last looked at
        self.known = {}  # processes, once of the tree: their parents may have died since
        self.threads = {}  # (thread, start): its schedstat

    def look(self):
        """The seconds so far. What comes and goes between two looks is judged by its like."""
        now, steal = time.monotonic(), stolen()
        first, seen, shares = self.at is None, {}, []
        length = 0 if first else now - self.at
        for pid in self._processes():
            for name in names_in(f"/proc/{pid}/task"):
                share = self._share(f"/proc/{pid}/task/{name}", length, seen)
                shares.append(share)
        if not first and length > 0:
            lost = max(shares, default=0) + (steal - self.steal) / length
            self.seconds += length * (1 - min(lost, 1))
        self.at, self.steal, self.threads = now, steal, seen
        return self.seconds

    def _processes(self):
        kept = [pid for pid, start in self.known.items() if self._is(pid, start)]
        self.known = tree([*self.roots, *kept])
        return self.known

    @staticmethod
    def _is(pid, start):
        stat = stat_of(f"/proc/{pid}")
        return stat is not None and stat[2] == start

    def _share(self, path, length, seen):
        """Which part of the time since the last look this thread has waited for a processor."""
        text, stat = read(path + "/schedstat"), stat_of(path)
        if not text or not stat:
            return 0
        key = (path, stat[2])
        seen[key] = text
        if length == 0:
            return 0
        before = self.threads.get(key)
        # It is in the queue, and the kernel adds that up only when it leaves the queue.
        if stat[0] == "R" and text == (before or "0 0 0\n"):
            return 1
        age = length
        if before is None:
            born = time.clock_gettime(time.CLOCK_BOOTTIME) - stat[2] / HERTZ
            age = min(length, max(born, 1 / HERTZ))
        waited = int(text.split()[1]) - int((before or "0 0 0").split()[1])
        return min(waited / 1e9 / age, 1)


class Patience:
    """So many seconds of that clock, from the first question on."""

    def __init__(self, seconds, *roots):
        self.limit = seconds
        self.clock = Clock(*(roots or (os.getpid(),)))
        self.begin = time.monotonic()
        if not (IS_STARVATION_KNOWN or ENDLESS):
            warn_of_wall_time()

    def spent(self):
        if not IS_STARVATION_KNOWN:
            return time.monotonic() - self.begin
        if self.clock.at is None or time.monotonic() - self.clock.at >= TICK:
            self.clock.look()
        return self.clock.seconds

    def is_over(self):
        return not ENDLESS and self.spent() >= self.limit


_warned = False


def warn_of_wall_time():
    global _warned
    if not _warned:
        print("patience.py: no /proc/PID/schedstat (CONFIG_SCHED_INFO): a busy host may look like "
              "a hang", file=sys.stderr, flush=True)
    _warned = True


def eventually(condition, seconds=20):
    """The first true value of condition(), or its last one once it had time enough to be true."""
    limit, pause = Patience(seconds, TEST_PID), 0.0005
    while True:
        value = condition()
        if value or limit.is_over():
            return value
        time.sleep(pause)
        pause = min(pause * 2, 0.01)


def is_asleep(pid):
    """Whether all its threads sleep, and have slept since: it has done all that it was sent."""

    def look():
        paths = [f"/proc/{pid}/task/{thread}" for thread in os.listdir(f"/proc/{pid}/task")]
        stats = [stat_of(path) for path in paths]
        return [stat and stat[0] for stat in stats], [read(p + "/schedstat") for p in paths]

    before = look()
    return set(before[0]) == {"S"} and look() == before


class Watcher:
    """A process beside this one that sends it SIGALRM when begin() was too long ago, and again
    each time that the same has passed. end() calls it off."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.is_on = False
        pid = os.getpid()
        ends, self.pipe = os.pipe()
        signal.signal(signal.SIGALRM, self._alarm)
        helper = os.fork()
        if helper == 0:
            try:
                # A child's child: it is none of ours, whom a test might wait for.
                if os.fork() == 0:
                    os.close(self.pipe)
                    self._watch(ends, pid)
            finally:
                os._exit(0)
        os.waitpid(helper, 0)
        os.close(ends)

    def begin(self):
        self.is_on = True
        os.write(self.pipe, b"B")

    def end(self):
        self.is_on = False
        os.write(self.pipe, b"E")

    def _alarm(self, number, frame):
        if self.is_on:
            raise Hang(f"cut off: no end after {self.seconds} s in which it could have run")

    def _watch(self, pipe, pid):
        for number in (signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        watched, patience = os.pidfd_open(pid), None
        while True:
            ready = select.select([pipe, watched], [], [], TICK if patience else None)[0]
            if watched in ready:
                return
            if pipe in ready:
                words = os.read(pipe, 4096)
                if not words:
                    return
                patience = Patience(self.seconds, pid) if words[-1:] == b"B" else None
            elif patience.is_over():
                os.kill(pid, signal.SIGALRM)
                patience = Patience(self.seconds, pid)


# The command


def kill(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def run(seconds, command):
    """Its exit status as in a shell, or CUT_OFF. Its orphans are ours, and are cut off too."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    # One that comes as soon as the command runs is passed on, too
    passed_on = (signal.SIGINT, signal.SIGTERM)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)
    pid = os.posix_spawnp(command[0], command, os.environ, setsigmask=mask)
    for number in passed_on:
        signal.signal(number, lambda number, _: os.kill(pid, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    patience, ended = Patience(seconds, pid), os.pidfd_open(pid)
    while not select.select([ended], [], [], TICK)[0]:
        if patience.is_over():
            pids = [other for other in tree([os.getpid()]) if other != os.getpid()]
            print(f"{command[0]} is cut off: no end after {seconds:g} s in which it could have run",
                  *describe(pids), sep="\n    ", file=sys.stderr, flush=True)
            kill(pids)
            return CUT_OFF
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if status >= 0 else 128 - status


def main():
    parser = argparse.ArgumentParser(description="timeout(1) that does not count a busy host.")
    parser.add_argument("--seconds", type=float, required=True, metavar="N")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    options = parser.parse_args()
    if not options.command:
        parser.error("what is to be run?")
    sys.exit(run(options.seconds, options.command))


if __name__ == "__main__":
    main()
