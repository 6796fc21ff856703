# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfio-cprd for tests: the daemon, started by hand."""

import contextlib
import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile

from client import SERVICE, Client
from patience import eventually

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
DAEMON = os.environ.get("VFIO_CPRD", os.path.join(BUILD, "vfio-cprd"))
COMPLAINT = "vfio-cprd: error: "  # of the daemon or of GLib within, on standard error


def is_log_written(pid):
    """Whether the daemon's thread for the log has nothing to do, or is held up."""
    for task in glob.glob(f"/proc/{pid}/task/*"):
        with contextlib.suppress(OSError), open(task + "/stat") as stat:
            name, _, rest = stat.read().partition(") ")
            if name.endswith("(log"):
                return rest[0] not in "RD"
    return True


class DaemonFailure(AssertionError):
    pass


class Daemon:
    """A vfio-cprd of its own, on a socket in a new directory. stderr: a descriptor of the caller's;
    closed: those that it lacks; backlog: on a socket that it is given, with so many places."""

    def __init__(
        self, *options, nofile=None, env=None, command=None, uid=None, stderr=None, closed=(), backlog=None
    ):
        self.directory = tempfile.mkdtemp(prefix="vfio-cprd-")
        os.chmod(self.directory, 0o755)
        self.path = os.path.join(self.directory, "socket")
        self.log_path = os.path.join(self.directory, "log")
        command = command or [DAEMON, "--socket", self.path, *options]
        listener = None
        if backlog:
            listener, command = self.listen(backlog), ["sh", "-c", 'LISTEN_PID=$$ exec "$0"', DAEMON]
            env = {"LISTEN_FDS": "1", **(env or {})}
        if uid is not None:  # without any capability, as it should be run
            os.chown(self.directory, uid, uid)
            who = [f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--bounding-set=-all"]
            command = ["setpriv", *who, *command]
        if nofile:
            command = ["prlimit", f"--nofile={nofile}", *command]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log if stderr is None else stderr,
                preexec_fn=lambda: [
                    listener and os.dup2(listener.fileno(), 3), *(os.close(fd) for fd in closed)
                ],
                pass_fds=[3] if listener else [],
                env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1", **(env or {})},
            )
        if listener:
            listener.close()
        self.pid = self.process.pid
        if not eventually(self.answers, 60):
            self.process.kill()
            self.process.wait()
            raise DaemonFailure("the daemon does not start:\n" + self.log())

    def listen(self, backlog):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        os.chmod(self.path, 0o666)
        listener.listen(backlog)
        return listener

    def answers(self):
        if self.process.poll() is not None:
            raise DaemonFailure(f"the daemon ended with {self.process.returncode}:\n{self.log()}")
        try:
            with Client(self.path) as client:
                return client.call(SERVICE + "GetInfo")[0]
        except (FileNotFoundError, ConnectionError, PermissionError):
            return None

    def log(self):
        """All that it has said so far."""
        eventually(lambda: is_log_written(self.pid))
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def fds(self):
        """How many descriptors it has open."""
        return len(self.links())

    def links(self):
        """What its descriptors are, as /proc tells; but for the file that a thread of it has open for
        a moment after each Attach, to look up the unit."""
        links = []
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f"/proc/{self.pid}/fd/{name}"))
        return [link for link in links if not re.fullmatch(r"/proc/\d+/cgroup", link)]

    def is_alive(self):
        return self.process.poll() is None

    @contextlib.contextmanager
    def stopped(self):
        """While it cannot run, what is sent to it piles up."""
        os.kill(self.pid, signal.SIGSTOP)
        eventually(lambda: open(f"/proc/{self.pid}/stat").read().rsplit(")")[-1].split()[0] == "T")
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def stop(self):
        """Ends it as systemd does. It must close all it has, and have broken no rule."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        if not eventually(lambda: self.process.poll() is not None, 60):
            self.process.kill()
            self.process.wait()
            raise DaemonFailure("the daemon does not stop:\n" + self.log())
        status = self.process.returncode
        log = self.log()
        shutil.rmtree(self.directory, ignore_errors=True)
        bad = [line for line in log.splitlines() if "ERROR:" in line or "runtime error:" in line]
        if status != 0 or bad or COMPLAINT in log:
            raise DaemonFailure(f"the daemon ended with {status}:\n{log[-20000:]}")

    def kill(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
