#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kills the daemon at random instants, thousands of times, while clients store, replace, remove,
die, claim and release; and checks that all that was acknowledged is there, each time.

    kill_test.py [--kills N] [--seconds S] [--seed N] [--workers N]

Processes: this one is PID 1 (pid1.py) and kills. Each worker keeps a model of its sessions
(model.py), with its own descriptors of all that it stored, and tells holder processes (link.py)
what to do: the daemon knows a holder by its pidfd, so holders are killed as processes. What a
holder had under way when it was killed may have happened, or not, but never by half."""

import argparse
import contextlib
import gc
import os
import random
import select
import signal
import socket
import sys
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from client import Client, VarlinkError
from daemon import DaemonFailure
from model import Failure, Session
import patience
import pid1
from process import die_with_parent, receive, send

SESSIONS_PER_WORKER = 4


class Worker:
    """A process with some sessions, and a channel to the one that kills."""

    def __init__(self, number, path, seed):
        self.path, self.number = path, number
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            die_with_parent()
            self.channel = theirs
            try:
                self.run(seed)
            except BaseException:
                send(theirs, ("failed", traceback.format_exc() + self.story()))
            os._exit(0)
        theirs.close()
        self.channel = ours

    def story(self):
        return "".join(
            f"\n{s.name} ({s.state}): " + "\n    ".join(map(str, s.history[-12:]))
            for s in [self.current] if s
        )

    def run(self, seed):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.random = random.Random(seed)
        self.acknowledged = self.verified = self.sessions_made = 0
        self.current = None
        self.sessions = [Session(self, f"w{self.number}s{i}") for i in range(SESSIONS_PER_WORKER)]
        while True:
            if select.select([self.channel], [], [], 0)[0]:
                request, _ = receive(self.channel)
                if request is None:
                    break
                if not self.obey(request):
                    break
                continue
            self.current = self.random.choice(self.sessions)
            self.current.step()
        for session in self.sessions:
            session.end_process()

    def obey(self, request):
        for self.current in self.sessions:
            if request == "end":
                if self.current.state == "none":
                    continue
                if self.current.process and self.random.random() < 0.5:
                    self.current.do_die()
                if not self.current.process and self.random.random() < 0.5:
                    self.current.do_release_orphan()
                    continue
                if not self.current.process:
                    self.current.attach()
                self.current.verify()
                self.current.change([], "release", gone=True)
                self.current.end_process()
                self.current.state = "none"
            elif self.current.process:
                self.current.verify()
                self.current.verify_state()
            elif self.current.state != "none" and (self.current.other is not None or not self.current.objects):
                # In doubt: only a claim can tell.
                self.current.attach()
        send(
            self.channel,
            (
                request,
                {
                    s.name: (s.state, len(s.objects), sum(len(o.fds) for o in s.objects), bool(s.process))
                    for s in self.sessions
                    if s.state != "none"
                },
                (self.acknowledged, self.verified, self.sessions_made),
            ),
        )
        if request != "end":
            receive(self.channel)
        return request != "end"


class Killer:
    def __init__(self, options, seed, channel):
        self.options, self.channel = options, channel
        self.random = random.Random(seed)
        self.kills = self.early = self.checks = 0
        self.most_stored = 0
        self.began = time.monotonic()
        self.totals = {}
        self.pid1 = pid1.Pid1(started=False, thread=False)
        self.workers = [
            Worker(i, self.pid1.path, self.random.random()) for i in range(options.workers)
        ]
        self.pid1.listen()
        self.pid1.start()
        self.pid1.wait_ready()
        self.idle = self.pid1.fds()
        self.startup = self.pid1.ready_after

    def report(self, what, content):
        try:
            send(self.channel, (what, content))
        except ConnectionError:
            raise Failure("stopped") from None

    def check_others(self):
        if select.select([self.channel], [], [], 0)[0]:
            raise Failure("stopped")
        for worker in self.workers:
            if select.select([worker.channel], [], [], 0)[0]:
                answer, _ = receive(worker.channel)
                raise Failure(f"worker {worker.number}: {answer and answer[1]}")

    def round(self):
        """One life of the daemon."""
        draw = self.random.random()
        if draw < 0.35:
            # While it is starting or recovering.
            self.early += 1
            time.sleep(self.random.uniform(0, 1.1 * self.startup))
        else:
            self.pid1.wait_ready()
            self.startup += (self.pid1.ready_after - self.startup) / 16
            time.sleep(self.random.uniform(0, 0.030) * self.random.random())
        self.pid1.kill(lose=self.random.random() < 0.3)
        self.kills += 1
        self.most_stored = max(self.most_stored, self.pid1.n_stored())
        self.pid1.start()

    def collect(self, request):
        """Every worker's answer. With the daemon dying meanwhile, if asked."""
        for worker in self.workers:
            send(worker.channel, request)
        sessions = {}
        for worker in self.workers:
            answer, _ = receive(worker.channel)
            if answer is None or answer[0] != request:
                raise Failure(f"worker {worker.number}: {answer and answer[1]}")
            sessions |= answer[1]
            self.totals[worker.number] = answer[2]
        return sessions

    def check(self, request="check"):
        """All hold still, and all is verified: by them, and here by List and by counting."""
        self.checks += 1
        self.pid1.wait_ready()
        sessions = self.collect(request)
        problem = patience.eventually(lambda: self.problem(sessions) is None, 10)
        if not problem:
            raise Failure(self.problem(sessions))
        if self.pid1.complaints():
            raise Failure("\n".join(self.pid1.complaints()[:10]))
        if os.stat(self.pid1.log_path).st_size > 4 << 20:
            os.truncate(self.pid1.log_path, 0)
        if request == "check":
            for worker in self.workers:
                send(worker.channel, "go")

    def problem(self, sessions):
        with Client(self.pid1.path) as other:
            told = {name: s for (_, name), s in other.sessions().items()}
            status = other.call("Status")[0]
        if set(told) != set(sessions):
            return f"there are {sorted(told)}, not {sorted(sessions)}"
        for name, (state, _, n_fds, _) in sessions.items():
            held = sum(each["count"] for each in told[name]["objects"])
            if held != n_fds:
                return f"{name} holds {held} descriptors, not {n_fds}"
            if told[name]["state"] != state:
                return f"{name} is {told[name]['state']}, not {state}"
        if not status["survivesRestart"]:
            return f"it says that it would lose them: {status}"
        names = self.pid1.names()
        if len(names) != len(sessions) or {n[-2:] for n in names} - {"-r"}:
            return f"{len(names)} are stored for {len(sessions)} sessions: {names}"
        held = sum(s[2] for s in sessions.values())
        holders = sum(s[3] for s in sessions.values())
        # Each session has its journal's sending end and its holder's pidfd and connection.
        most = self.idle + held + len(sessions) + 2 * holders
        if not held <= self.pid1.fds() <= most:
            return f"{self.pid1.fds()} descriptors are open, not {most}: {sorted(self.pid1.links())}"
        return None

    def result(self):
        changes, verified, made = (sum(t[i] for t in self.totals.values()) for i in range(3))
        return {
            "kills": self.kills,
            "early": self.early,
            "checks": self.checks,
            "changes": changes,
            "verified": verified,
            "sessions": made,
            "stored": self.most_stored,
            "lost": self.pid1.told["lost"],
            "ready": self.startup,
        }

    def run(self):
        options = self.options
        end = self.began + options.seconds if options.seconds else None
        while self.kills < self.options.kills // self.options.instances and not (end and time.monotonic() > end):
            self.round()
            self.check_others()
            if self.kills % options.check_every == 0:
                self.check()
                self.report("report", self.result())
        self.check()
        self.check("end")
        self.idle_at_end()
        self.pid1.terminate()
        if self.pid1.names():
            raise Failure(f"these are stored still: {self.pid1.names()}")
        if self.pid1.complaints():
            raise Failure("\n".join(self.pid1.complaints()[:10]))

    def idle_at_end(self):
        if not patience.eventually(lambda: self.pid1.fds() <= self.idle):
            raise Failure(f"{self.pid1.fds()} descriptors are open, {self.idle} at the start")

    def end(self):
        for worker in self.workers:
            worker.channel.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)


def run(options, seed, channel):
    """One daemon with its PID 1 and its workers, in a process of its own."""
    killer = None

    # Its end is asked for by closing the channel: a signal would leave things half done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        killer = Killer(options, seed, channel)
        killer.run()
        killer.report("passed", killer.result())
    except (Failure, DaemonFailure, VarlinkError, OSError) as failure:
        text = f"after {killer.kills if killer else 0} kills: {type(failure).__name__}: {failure}"
        if killer:
            text += "\nthe daemon's log ends:\n" + killer.pid1.log()[-3000:]
            text += f"\nstored: {killer.pid1.names()}\n{killer.pid1.told}"
        with contextlib.suppress(ConnectionError):
            send(channel, ("failed", text))
    finally:
        if killer:
            killer.end()
            killer.pid1.close()


def watch(instances, began):
    """Their results, in the end; None and the text if one failed."""
    results, told_at = {}, began
    left = dict(instances)
    limit = patience.Patience(300)  # without any news
    while left:
        if limit.is_over():
            return None, "\n".join(["it hangs:", *patience.describe(patience.tree([os.getpid()]))])
        for channel in select.select(list(left), [], [], 1)[0]:
            message, _ = receive(channel)
            if message is None or message[0] == "failed":
                return None, message[1] if message else "a process of the test has ended"
            results[channel] = message[1]
            limit = patience.Patience(300)
            if message[0] == "passed":
                left.pop(channel)
        now = time.monotonic()
        if results and now - told_at > 20:
            told_at = now
            sums = add(results.values())
            print(
                f"     {sums['kills']} kills, {sums['changes']} changes, {now - began:.0f} s, "
                f"ready in {sums['ready'] / len(results) * 1000:.0f} ms",
                flush=True,
            )
    return add(results.values()), None


def add(results):
    results = list(results)
    return {key: sum(r[key] for r in results) for key in results[0]}


def main():
    parser = argparse.ArgumentParser(description="Kill vfio-cprd at random instants.")
    parser.add_argument("--kills", type=int, default=10000)
    parser.add_argument("--seconds", type=int, default=0, help="end after that long (0: all kills)")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--workers", type=int, default=3, help="of each daemon (3)")
    parser.add_argument("--instances", type=int, default=os.cpu_count(), help="daemons at once")
    parser.add_argument("--check-every", type=int, default=100, metavar="KILLS")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    gc.freeze()
    began = time.monotonic()
    instances = {}
    for i in range(options.instances):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            for channel in (ours, *instances):
                channel.close()
            try:
                run(options, f"{options.seed}/{i}", theirs)
            finally:
                sys.stdout.flush()
                os._exit(0)
        theirs.close()
        instances[ours] = pid
    try:
        sums, failure = watch(instances, began)
    finally:
        for channel, pid in instances.items():
            channel.close()
            os.waitpid(pid, 0)
    seed = f"--seed {options.seed} --instances {options.instances}"
    if failure:
        print(f"FAIL all that was acknowledged is there after each death of the daemon ({seed})")
        print("    " + failure.replace("\n", "\n    "))
        print("0 passed, 1 failed")
        return 1
    print(
        "PASS all that was acknowledged is there after each death of the daemon, in order and once "
        f"({sums['kills']} kills, {sums['early']} of them while it started; {sums['sessions']} sessions, "
        f"{sums['changes']} acknowledged changes, {sums['verified']} times all of a session; "
        f"{time.monotonic() - began:.0f} s; {seed})"
    )
    print(
        f"PASS nothing leaks in the daemon or in systemd's fd store ({sums['checks']} counts; at most "
        f"{sums['stored']} were stored, none at the end; {sums['lost']} messages were lost with "
        "their sender)"
    )
    print("2 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
