# SPDX-License-Identifier: LGPL-2.1-or-later
"""A shell into which commands are put one by one, as a user does."""

import contextlib
import os
import signal
import subprocess
import tempfile


def processes():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def stat_of(pid):
    """The name, and what follows it in /proc/PID/stat; nothing of one that has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            before, _, after = file.read().rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        return None, []
    return before.partition("(")[2], after.split()


def session_of(pid):
    _, fields = stat_of(pid)
    return int(fields[3]) if fields else None


class Shell:
    """All that it has started is ended with it."""

    def __init__(self, folder):
        self.work = tempfile.mkdtemp()
        status, theirs = os.pipe()
        self.status = os.fdopen(status)
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-s"], stdin=subprocess.PIPE, text=True, bufsize=1,
            cwd=folder, pass_fds=(theirs,), start_new_session=True)
        os.close(theirs)
        if theirs != 3:
            self._say(f"exec 3>&{theirs} {theirs}>&-")
        self._say("set -o pipefail")
        self.count = 0
        self.beside = []

    def _say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _put(self, text, how, end=""):
        self.count += 1
        script = os.path.join(self.work, str(self.count))
        with open(script, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        # Read before the shell may have come to make it
        with open(script + ".out", "w", encoding="utf-8"):
            pass
        self._say(f"{how.format(script)} >{script}.out 2>&1 </dev/null 3>&-{end}")
        return script

    def do(self, text):
        """(status, output)"""
        script = self._put(text, ". {}")
        self._say("echo $? >&3")
        return int(self.status.readline()), self.output(script)

    def start(self, text):
        """Runs it beside; returns a function that returns its output so far, while it goes on."""
        script = self._put(text, "setsid bash -o pipefail {}", " &")
        self._say("echo $! >&3")
        pid = int(self.status.readline())
        self.beside.append(pid)

        def output():
            _, fields = stat_of(pid)
            assert fields and fields[0] != "Z", f"it ended: {self.output(script)}"
            return self.output(script)

        return output

    @staticmethod
    def output(script):
        with open(script + ".out", encoding="utf-8", errors="replace") as file:
            return file.read()

    def end(self):
        """Ends all that it has started."""
        for pid in processes():
            # Those of an endless command have a session that its script began
            if session_of(pid) in (self.process.pid, *self.beside):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()
