# SPDX-License-Identifier: LGPL-2.1-or-later
"""The part of systemd's PID 1 that the journal rests on, for one service: its listening socket, the
notify socket, and the fd store, as strict as the manager is (core/manager.c, core/service.c):

- over the maximum a descriptor is dropped, and nobody is told;
- the same open file is kept once;
- what is stored without FDPOLL=0 is dropped when it hangs up;
- only the main process is listened to, as the kernel names it (SCM_CREDENTIALS);
- FDSTOREREMOVE=1 removes every descriptor of that name; BARRIER=1 is alone in its message;
- what is handed to the next process: the sockets first, then the store, the newest first.

What is queued when the process dies is handled before it is reaped. With kill(lose=True) it is
thrown away, as by a manager that could not tell any more whose it was: what counts then is only
what a barrier has confirmed."""

import array
import contextlib
import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import COMPLAINT, DAEMON, Daemon, DaemonFailure, is_log_written
from fds import is_same_file
import patience

MESSAGE_MAX = 4096  # NOTIFY_BUFFER_MAX
FDS_MAX = 768  # NOTIFY_FD_MAX
NAME_MAX = 255  # FDNAME_MAX
UCRED = struct.Struct("iII")
# Where our own are: no dup2() to 3, 4, ... of the child can meet one that is still to be copied.
HIGH = 9000
SIGNALS = [signal.SIGPIPE, signal.SIGALRM, signal.SIGTERM, signal.SIGINT]


def to_high(fd):
    """The descriptor under a high number; the old one is closed."""
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(fd)
    return high


def name_is_valid(name):
    return len(name) <= NAME_MAX and all(" " <= c < "\x7f" and c != ":" for c in name)


class Stored:
    def __init__(self, fd, name, polled):
        self.fd, self.name, self.polled = fd, name, polled


class Pid1:
    """Starts a daemon and keeps what it parks. A thread listens; kill(), stop() and start() may be
    called at any time. Stands in for Daemon: path, pid, fds(), links(), log(), stopped()."""

    fds, links, stopped = Daemon.fds, Daemon.links, Daemon.stopped

    def __init__(
        self, maximum=4096, told=None, command=None, env=None, nofile=None, started=True, thread=True
    ):
        self.maximum = maximum
        self.command = command or [DAEMON]
        if nofile:
            self.command = [shutil.which("prlimit"), f"--nofile={nofile}", *self.command]
        self.directory = tempfile.mkdtemp(prefix="vfio-cprd-pid1-")
        os.chmod(self.directory, 0o755)
        self.spawner = os.path.join(self.directory, "spawn")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "spawn.c")
        subprocess.run(["cc", "-O2", "-static", "-o", self.spawner, source], check=True)
        self.path = os.path.join(self.directory, "socket")
        self.log_path = os.path.join(self.directory, "log")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o666)
        self.listener.listen(4096)
        self.listener_fd = to_high(self.listener.detach())
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.notify.bind(os.path.join(self.directory, "notify"))
        os.chmod(self.notify.getsockname(), 0o666)
        self.notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with contextlib.suppress(OSError):
            self.notify.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        self.log_fd = to_high(os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644))
        self.null_fd = to_high(os.open("/dev/null", os.O_RDWR))
        self.env = {
            **os.environ,
            "ASAN_OPTIONS": "detect_leaks=1",
            "NOTIFY_SOCKET": self.notify.getsockname(),
            "FDSTORE": str(maximum if told is None else told),
            **(env or {}),
        }
        if told is False:  # systemd before 254
            del self.env["FDSTORE"]
        self.store = []  # of Stored, the newest first, as the manager's list
        self.pid = None
        self.pidfd = -1
        self.ready = threading.Event()
        self.stopping = False
        self.status = ""
        self.starts = self.ready_after = 0
        self.told = {"stored": 0, "removed": 0, "barriers": 0, "duplicates": 0, "hung up": 0}
        self.told |= {"overflow": 0, "not main": 0, "bad": 0, "lost": 0}
        self.held_back = False
        self.allowed = []  # what may be complained of
        self.lock = threading.RLock()
        self.epoll = select.epoll()
        self.epoll.register(self.notify, select.EPOLLIN)
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.epoll.register(self.wake, select.EPOLLIN)
        self.ended = False
        self.thread = None
        if thread:
            self.listen()
        if started:
            self.start()
            self.wait_ready()

    def listen(self):
        """Starts the thread; who forks long-lived processes does that first."""
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        while not self.ended:
            with contextlib.suppress(InterruptedError):
                self.dispatch(10)

    def dispatch(self, seconds):
        """Handles what comes, for at most that long."""
        events = self.epoll.poll(seconds)
        with self.lock:
            for fd, what in events:
                if fd == self.notify.fileno():
                    self._drain()
                elif fd != self.wake and what & (select.EPOLLHUP | select.EPOLLERR):
                    for stored in [s for s in self.store if s.fd == fd and s.polled]:
                        self.told["hung up"] += 1
                        self._drop(stored)

    # What is told

    def _drain(self, lose=False):
        while not self.held_back or lose:
            try:
                data, control, flags, _ = self.notify.recvmsg(
                    MESSAGE_MAX,
                    socket.CMSG_SPACE(UCRED.size) + socket.CMSG_SPACE(FDS_MAX * 4),
                    socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC,
                )
            except BlockingIOError:
                return
            fds, pid = [], 0
            for level, kind, content in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    got = array.array("i")
                    got.frombytes(content[: len(content) - len(content) % got.itemsize])
                    fds += got
                elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid = UCRED.unpack(content)[0]
            if lose:
                self.told["lost"] += 1
            else:
                self._message(data, fds, pid, flags)
            for fd in fds:
                os.close(fd)

    def _message(self, data, fds, pid, flags):
        """One message. Takes out of fds what it keeps."""
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or b"\0" in data.rstrip(b"\0"):
            self.told["bad"] += 1
            return
        tags = data.rstrip(b"\0").decode("ascii", "replace").splitlines()
        if "BARRIER=1" in tags:
            # Whose it is does not matter. It is alone, or all of the message is ignored.
            ok = len(tags) == 1 and len(fds) == 1
            self.told["barriers" if ok else "bad"] += 1
            return
        if pid != self.pid:
            self.told["not main"] += 1
            return
        name = next((t[7:] for t in tags if t.startswith("FDNAME=")), None)
        if "FDSTOREREMOVE=1" in tags:
            if name is None or not name_is_valid(name):
                self.told["bad"] += 1
            else:
                for stored in [s for s in self.store if s.name == name]:
                    self.told["removed"] += 1
                    self._drop(stored)
        elif "FDSTORE=1" in tags:
            if name is not None and not name_is_valid(name):
                self.told["bad"] += 1
                name = None
            while fds and self._keep(fds.pop(0), name or "stored", "FDPOLL=0" not in tags):
                pass
        for tag in tags:
            if tag == "READY=1":
                self.ready_after = time.monotonic() - self.started_at
                self.ready.set()
            elif tag == "STOPPING=1":
                self.stopping = True
            elif tag.startswith("STATUS="):
                self.status = tag[7:]

    def _keep(self, fd, name, polled):
        """false: the store is full, and the message's other descriptors are closed too."""
        if len(self.store) >= self.maximum:
            self.told["overflow"] += 1
            os.close(fd)
            return False
        if any(is_same_file(s.fd, fd) for s in self.store):
            self.told["duplicates"] += 1
            os.close(fd)
            return True
        stored = Stored(to_high(fd), name, polled)
        if polled:
            try:
                self.epoll.register(stored.fd, 0)
            except PermissionError:  # a file that cannot be polled
                stored.polled = False
        self.store.insert(0, stored)
        self.told["stored"] += 1
        return True

    def _drop(self, stored):
        if stored.polled:
            self.epoll.unregister(stored.fd)
        os.close(stored.fd)
        self.store.remove(stored)

    # For tests

    def names(self):
        with self.lock:
            return sorted(s.name for s in self.store)

    def n_stored(self):
        return len(self.store)

    def put(self, fd, name):
        """Into the store without being asked; fd stays the caller's."""
        with self.lock:
            self.store.insert(0, Stored(to_high(os.dup(fd)), name, False))

    def get(self, name):
        """A copy of what is stored under that name, the caller's to close."""
        with self.lock:
            return next(os.dup(s.fd) for s in self.store if s.name == name)

    def drop(self, name):
        with self.lock:
            for stored in [s for s in self.store if s.name == name]:
                self._drop(stored)

    @contextlib.contextmanager
    def deaf(self):
        """While it does not read, as a manager that is busy."""
        with self.lock:
            self.held_back = True
            self.epoll.modify(self.notify, 0)
        try:
            yield
        finally:
            with self.lock:
                self.held_back = False
                self.epoll.modify(self.notify, select.EPOLLIN)

    def log(self):
        patience.eventually(lambda: is_log_written(self.pid))
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def is_alive(self):
        return self.pidfd >= 0 and not select.select([self.pidfd], [], [], 0)[0]

    # The process

    def start(self):
        with self.lock:
            pass_on = [(self.listener_fd, "vfio-cprd.socket")]
            pass_on += [(s.fd, s.name) for s in self.store]
            self.env["LISTEN_FDS"] = str(len(pass_on))
            self.env["LISTEN_FDNAMES"] = ":".join(name for _, name in pass_on)
            self.ready.clear()
            self.stopping = False
            self.starts += 1
            self.started_at = time.monotonic()
            actions = [
                (os.POSIX_SPAWN_DUP2, fd, number)
                for number, fd in enumerate(
                    (self.null_fd, self.log_fd, self.log_fd, *(fd for fd, _ in pass_on))
                )
            ]
            os.set_blocking(self.listener_fd, True)  # NonBlocking=no, for sockets alone
            command = [self.spawner, *self.command]
            self.pid = os.posix_spawn(
                command[0], command, self.env, file_actions=actions, setsigmask=[], setsigdef=SIGNALS
            )
            self.pidfd = os.pidfd_open(self.pid)

    def wait_ready(self):
        limit = patience.Patience(60, patience.TEST_PID)
        while not self.ready.wait(0.2):
            if not self.is_alive() or limit.is_over():
                what = "ended" if not self.is_alive() else "is not ready"
                raise DaemonFailure(f"the daemon {what}:\n{self.log()[-20000:]}")

    def reap(self, lose=False):
        """Its exit status, once it has ended; negative: the signal."""
        if self.pidfd < 0:
            return None
        limit = patience.Patience(60, patience.TEST_PID)
        while not select.select([self.pidfd], [], [], 1)[0]:
            if limit.is_over():
                raise DaemonFailure("the daemon does not end:\n" + self.log()[-20000:])
        with self.lock:
            self._drain(lose)
            status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self.pidfd)
            self.pidfd, self.pid = -1, None
        return status

    def kill(self, lose=False):
        """Kills it at this instant. DaemonFailure if it had ended by itself."""
        with self.lock:
            os.kill(self.pid, signal.SIGKILL)
            status = self.reap(lose=lose)
        if status != -signal.SIGKILL:
            raise DaemonFailure(f"the daemon ended with {status}:\n{self.log()[-20000:]}")

    def restart(self, lose=False):
        self.kill(lose)
        self.start()
        self.wait_ready()

    def terminate(self):
        """systemctl stop; the store is kept. It must end with 0."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        status = self.reap()
        if status != 0:
            raise DaemonFailure(f"the daemon ended with {status}:\n{self.log()[-20000:]}")

    def complaints(self):
        """What a sanitizer or a broken rule has left in the log."""
        marks = ("ERROR:", "runtime error:", COMPLAINT, "descriptors are open")
        return [
            line
            for line in self.log().splitlines()
            if any(m in line for m in marks) and not any(a in line for a in self.allowed)
        ]

    def stop(self):
        """The end: of the daemon as systemctl stop does it, and of all that is stored."""
        try:
            if self.pidfd >= 0:
                self.terminate()
            bad = self.complaints()
            if bad:
                raise DaemonFailure("\n".join(bad[:20]) + "\n" + self.log()[-20000:])
        finally:
            self.close()

    def close(self):
        if self.ended:
            return
        if self.pidfd >= 0:
            with contextlib.suppress(DaemonFailure):
                self.kill()
        self.ended = True
        os.eventfd_write(self.wake, 1)
        if self.thread:
            self.thread.join()
        for stored in list(self.store):
            self._drop(stored)
        for fd in (self.listener_fd, self.log_fd, self.null_fd, self.wake):
            os.close(fd)
        self.notify.close()
        self.epoll.close()
        shutil.rmtree(self.directory, ignore_errors=True)
