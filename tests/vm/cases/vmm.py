# SPDX-License-Identifier: LGPL-2.1-or-later
"""Drives vmm, the VMM on strings, and asks for the daemon's view."""

import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib"))
from client import Client  # noqa: E402

BUILD = os.environ.get("BUILD", "build")


class VmmError(Exception):
    def __init__(self, command, errno, sentence):
        super().__init__(f"{command}: {os.strerror(errno)}: {sentence}")
        self.errno = errno
        self.sentence = sentence


class Died(Exception):
    """The process ended while it worked on a command (a killpoint, say)."""


class Vmm:
    """One VMM process. vmm.map("dma", 0, ...) sends "map dma 0 ..." and returns the answer."""

    def __init__(self, socket, killpoint=None):
        environment = dict(os.environ)
        if killpoint:
            environment["KILLPOINT"] = killpoint
            environment["LD_PRELOAD"] = os.path.join(BUILD, "tests", "killpoint.so")
            # The sanitizer's runtime wants to be the first library; this one may be.
            environment["ASAN_OPTIONS"] = "verify_asan_link_order=0:detect_leaks=0"
        self.process = subprocess.Popen(
            [os.path.join(BUILD, "tests", "vmm")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, bufsize=1, env=environment)
        self.socket = socket

    @property
    def pid(self):
        return self.process.pid

    def do(self, *words):
        command = " ".join(str(word) for word in words)
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Died(f"died at: {command} (status {self.process.wait()})")
        status, rest = line.rstrip("\n").split(" ", 1)
        if status == "error":
            number, sentence = rest.split(" ", 1)
            raise VmmError(command, int(number), sentence)
        value, *pairs = rest.split(" ")
        return Answer(int(value), pairs)

    def __getattr__(self, name):
        return lambda *words: self.do(name.replace("_", "-"), *words)

    def start(self, session="vm"):
        """open and attach; returns new, claimed or resumed."""
        self.open(self.socket)
        return self.attach(session)["start"]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self):
        """Ends as a program does; a sanitizer's complaint is a failure."""
        self.process.stdin.close()
        status = self.process.wait()
        assert status == 0, f"vmm ended with status {status}"


class Answer(dict):
    def __init__(self, value, pairs):
        super().__init__(pair.split("=", 1) for pair in pairs if "=" in pair)
        self.value = value
        self.words = pairs


def ctl(socket, *words, status=0):
    """vfio-cprctl --json; its answer."""
    run = subprocess.run([os.path.join(BUILD, "vfio-cprctl"), "--socket", socket, "--json", *words],
                         stdout=subprocess.PIPE, text=True)
    assert run.returncode == status, f"vfio-cprctl {words} ended with {run.returncode}: {run.stdout}"
    return json.loads(run.stdout) if run.stdout else None


def session(socket, name="vm"):
    """The same of one session, or None. Asked by this process: to start another takes long here."""
    with Client(socket) as client:
        found = [one for one in client.call("List")[0]["sessions"] if one["name"] == name]
    for one in found:
        one["objects"] = {held["kind"]: held["count"] for held in one["objects"]}
        one.setdefault("holder", None)
    return found[0] if found else None


class Resets:
    """Counts, by kernel probes, what ends or resets a device. All of the kernel's ways go there."""

    TRACING = "/sys/kernel/tracing"
    FUNCTIONS = ("vfio_pci_core_close_device", "__pci_reset_function_locked", "pci_reset_bus")

    def __init__(self):
        if not os.path.exists(self.TRACING + "/kprobe_events"):
            subprocess.run(["mount", "-t", "tracefs", "tracefs", self.TRACING], check=True)
        if os.path.exists(self.TRACING + "/events/resets"):
            self.end()  # a case that failed has left them
        probes = os.open(self.TRACING + "/kprobe_events", os.O_WRONLY | os.O_APPEND)
        for function in self.FUNCTIONS:
            os.write(probes, f"p:resets/{function} {function}\n".encode())
        os.close(probes)
        self._write("/trace", "")
        # Nobody reads the names of processes. For them the kernel would patch its scheduler while that
        # runs, after which an emulated processor has been seen to execute the breakpoint for ever.
        self._write("/options/record-cmd", "0")
        self._write("/events/resets/enable", "1")

    def _write(self, path, text):
        with open(self.TRACING + path, "w", encoding="ascii") as file:
            file.write(text)

    def count(self):
        """Closes and resets of devices since this was made."""
        with open(self.TRACING + "/trace", encoding="ascii") as file:
            return sum(not line.startswith("#") for line in file)

    def end(self):
        self._write("/events/resets/enable", "0")
        self._write("/kprobe_events", "")


def wait_for(what, predicate):
    """Waits without an end: the harness cuts off what hangs. what tells a reader of the trace. The
    pauses are as long as the looks, which may start programs: what is waited for needs the processor."""
    while True:
        begin = time.monotonic()
        if predicate():
            return
        time.sleep(max(0.02, time.monotonic() - begin))


def wait_for_state(socket, state, name="vm"):
    wait_for(f"session {name} to be {state}",
             lambda: (session(socket, name) or {}).get("state") == state)
