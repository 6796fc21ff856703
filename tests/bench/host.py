# SPDX-License-Identifier: LGPL-2.1-or-later
"""The benchmark's part that needs no VFIO: host.py all, or restart SESSIONS FDS (in the test VM too).
Prints lines "= ROW N WHO VALUE", which report.py collects; the programs beside it do the same."""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, os.path.join(HERE, "..", "journal"))
from client import Client  # noqa: E402
from daemon import BUILD, Daemon  # noqa: E402
from fds import MAX_FDS, describe  # noqa: E402
import pid1  # noqa: E402

PROGRAMS = os.path.join(BUILD, "bench")
IDLE_SECONDS = 10


def report(row, n, who, value):
    print(f"= {row} {n} {who} {value:.3f}", flush=True)


def program(name, *arguments, row=None):
    """Runs one of the C programs and passes its lines on; row replaces the first word and number."""
    run = subprocess.run(
        [os.path.join(PROGRAMS, name), *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    if run.returncode != 0:
        raise SystemExit(f"{name} {arguments} ended with {run.returncode}")
    for line in run.stdout.splitlines():
        words = line.split()
        if row and words[:1] == ["="]:
            line = " ".join(["=", *map(str, row), *words[3:]])
        print(line, flush=True)


def memory(pid):
    """Resident bytes of the daemon's own; shared library pages are not in it."""
    anonymous = 0
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                anonymous = int(line.split()[1]) * 1024
    return anonymous


def switches(pid):
    """How often the daemon's threads have run so far."""
    n = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii") as status:
            n += sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)
    return n


class Sessions:
    """Sessions held by this very process, each with some eventfds of a few devices."""

    def __init__(self, where, prefix="held"):
        self.where, self.prefix, self.clients = where, prefix, []

    def add(self, fds):
        client = Client(self.where)
        client.attach(f"{self.prefix}{len(self.clients)}")
        made, objects, at = [os.eventfd(0) for _ in range(fds)], [], 0
        for i in range(0, fds, MAX_FDS):
            part = made[i : i + MAX_FDS]
            objects = [describe("eventfd", "vectors", 1, first=i, count=len(part))]
            client.store(objects, part, continues=i + len(part) < fds)
        for fd in made:
            os.close(fd)
        self.clients.append(client)

    def release(self):
        for client in self.clients:
            client.call("Release")
            client.close()
        self.clients = []


@contextlib.contextmanager
def s6_fdholder(maximum):
    """s6's fd holder, to whose socket root may do everything; None if it is not installed."""
    if not shutil.which("s6-fdholder-daemon"):
        yield None
        return
    directory = tempfile.mkdtemp(prefix="s6-")
    allowed = {"SETDUMP": "1", "GETDUMP": "1", "LIST": "1", "STORE_REGEX": ".*", "RETRIEVE_REGEX": ".*"}
    rules = os.path.join(directory, "rules", "uid", str(os.getuid()))
    os.makedirs(os.path.join(rules, "env"))
    with open(os.path.join(rules, "allow"), "w", encoding="ascii"):
        pass
    for name, value in allowed.items():
        with open(os.path.join(rules, "env", "S6_FDHOLDER_" + name), "w", encoding="ascii") as file:
            file.write(value)
    path = os.path.join(directory, "socket")
    command = ["s6-fdholder-daemon", "-1", "-n", str(maximum), "-t", "0"]
    process = subprocess.Popen(
        [*command, "-i", os.path.join(directory, "rules"), path], stdout=subprocess.PIPE
    )
    process.stdout.readline()  # -1: it says when it listens
    try:
        yield path
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def s6_programs(path, n):
    """By id as a script does it: a program for each."""
    ids = " ".join(str(i) for i in range(n))
    subprocess.run(
        ["sh", "-c", f'for i in {ids}; do s6-fdholder-store "$0" "vector$i" </dev/null; done', path],
        check=True,
    )
    for _ in range(5):
        start = time.monotonic()
        script = f'for i in {ids}; do s6-fdholder-retrieve "$0" "vector$i" true; done'
        subprocess.run(["sh", "-c", script, path], check=True)
        report("fetch", n, "s6-programs", (time.monotonic() - start) * 1e6)


def idle(daemon):
    time.sleep(2)  # what was under way is over
    before = switches(daemon.pid)
    time.sleep(IDLE_SECONDS)
    report("idle", IDLE_SECONDS, "ours", switches(daemon.pid) - before)


def hand_over(daemon):
    for rounds, n in ((300, 64), (300, 530), (200, 2060), (60, 8240)):
        program("handback", daemon.path, rounds, n)
    with s6_fdholder(20000) as s6:
        for n in (64, 530, 2060, 8240) if s6 else ():
            program("peer-s6", s6, n)
    with s6_fdholder(20000) as s6:
        if s6:
            s6_programs(s6, 64)
    program("claim", daemon.path, 1000, 530)
    program("claim", daemon.path, 20, 256, 64)


def growth():
    """With sessions, and with descriptors: memory, and what a claim costs beside them."""
    with contextlib.closing(Stopping(Daemon())) as holder:
        daemon = holder.daemon
        sessions = Sessions(daemon)
        report("memory-sessions", 0, "ours", memory(daemon.pid))
        for n in (1, 100, 250, 500, 750, 1000):
            while len(sessions.clients) < n:
                sessions.add(8)
            report("memory-sessions", n, "ours", memory(daemon.pid))
            program("claim", daemon.path, 200, 64, row=("claim-among", n))
        idle(daemon)
        sessions.release()
    with contextlib.closing(Stopping(Daemon())) as holder:
        daemon = holder.daemon
        sessions = Sessions(daemon)
        for n in range(0, 16001, 2000):
            if n > 0:
                sessions.add(2000)
            report("memory-fds", n, "ours", memory(daemon.pid))
        sessions.release()


class Stopping:
    def __init__(self, daemon):
        self.daemon = daemon

    def close(self):
        self.daemon.stop()


def with_store(sessions):
    """A daemon with an fd store that has room for so many sessions."""
    # Whether two are one open file is not what is measured, and PID 1 is not python.
    pid1.is_same_file = lambda a, b: False
    return pid1.Pid1(maximum=4 * sessions + 64)


def journal():
    manager = with_store(16)
    daemon = Daemon()
    for rounds, n in ((20, 1), (20, 16), (10, 64), (4, 253)):
        program("journal", daemon.path, manager.path, rounds, n)
    daemon.stop()
    manager.stop()


def restart(n, fds, rounds=5):
    manager = with_store(n)
    sessions = Sessions(manager)
    for _ in range(n):
        sessions.add(fds)
    report("memory-full", n * fds, "ours", memory(manager.pid))
    for _ in range(rounds):
        start = time.monotonic()
        manager.restart()
        with Client(manager) as client:
            status = client.call("Status")[0]
        report("restart-answer", n, "ours", (time.monotonic() - start) * 1e6)
        report("restart", n, "ours", manager.ready_after * 1e6)
        if status["sessions"] != n:
            raise SystemExit(f"{status['sessions']} sessions of {n} are back")
        report("restart-memory", n * fds, "ours", memory(manager.pid))
    for client in sessions.clients:
        client.close()
    manager.close()


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if sys.argv[1] == "restart":
        restart(int(sys.argv[2]), int(sys.argv[3]))
        return
    if sys.argv[1] == "claim":
        with contextlib.closing(Stopping(Daemon())) as holder:
            program("claim", holder.daemon.path, *sys.argv[2:])
        return
    with contextlib.closing(Stopping(Daemon())) as holder:
        program("mapping", 20, 65536)
        hand_over(holder.daemon)
    journal()
    growth()
    for n in (10, 50, 100, 130):  # what 20,000 descriptors are for, but for reserves, twice
        restart(n, 64)


main()
