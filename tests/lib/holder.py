# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holder processes, which can be killed, and units for them to be in."""

import array
import contextlib
import gc
import os
import pickle
import signal
import socket
import struct
import traceback

from client import Client, VarlinkError
from fds import track
from patience import eventually

NOBODY = 65534


class Holder:
    """A process with connections of its own. Whoever holds a session dies as a process, not as a
    socket, so the test cannot be the one."""

    def __init__(self, where, uid=None):
        self.path = getattr(where, "path", where)
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            with contextlib.suppress(BaseException):
                self._run(theirs.detach(), uid)
                code = 0
            os._exit(code)
        theirs.close()
        self.channel = ours
        self.dead = False

    # In the child

    def _run(self, channel, uid):
        gc.disable()  # the parent's sockets must not be closed by number here
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        os.dup2(channel, 3)
        os.closerange(4, 1 << 20)
        if uid is not None:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
        channel = socket.socket(fileno=3)
        self.clients = []
        while True:
            request, fds = _receive(channel)
            if request is None:
                return
            try:
                answer, back = self._do(request, fds)
            except (VarlinkError, OSError) as error:
                answer, back = error, []
            except Exception:
                answer, back = AssertionError(traceback.format_exc()), []
            for fd in fds:
                os.close(fd)
            _send(channel, answer, back)

    def _do(self, request, fds):
        name, arguments = request
        if name == "connect":
            self.clients.append(Client(self.path))
            return len(self.clients) - 1, []
        if name == "fork":
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            return child, []
        client = self.clients[arguments[0]]
        if name == "call":
            answer, back = client.call(*arguments[1:], fds=fds)
            return answer, back
        if name == "send_raw":
            client.send_raw(arguments[1], fds, *arguments[2:])
            return True, []
        result = getattr(client, name)(*arguments[1:])
        return (True if result is None else result), []

    # In the test

    def start(self, name, *arguments, fds=()):
        """Has it do something; finish() tells what came of it."""
        _send(self.channel, (name, arguments), fds)

    def finish(self):
        answer, fds = _receive(self.channel)
        for fd in fds:
            track(fd)
        if answer is None:
            raise AssertionError("the holder process ended")
        if isinstance(answer, Exception):
            raise answer
        return answer, fds

    def do(self, name, *arguments, fds=()):
        self.start(name, *arguments, fds=fds)
        return self.finish()

    def connect(self):
        """Number of a new connection."""
        return self.do("connect")[0]

    def call(self, method, parameters=None, fds=(), connection=0):
        if connection == 0 and not getattr(self, "connected", False):
            self.connect()
            self.connected = True
        return self.do("call", connection, method, parameters, fds=fds)

    def attach(self, name, **parameters):
        return self.call("Attach", {"name": name, **parameters})[0]

    def store(self, objects, fds=(), **parameters):
        return self.call("Store", {"objects": objects, **parameters}, fds)[0]

    def fork(self):
        """Pid of a child that keeps what the process has open."""
        return self.do("fork")[0]

    def kill(self, signal_number=signal.SIGKILL):
        if self.dead:
            return
        self.dead = True
        self.channel.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal_number)
            os.waitpid(self.pid, 0)


def _send(channel, item, fds=()):
    data = pickle.dumps(item)
    header = struct.pack("<II", len(data), len(fds))
    channel.sendall(header)
    if fds:
        channel.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    channel.sendall(data)


def _read(channel, n):
    data = b""
    while len(data) < n:
        more = channel.recv(n - len(data))
        if not more:
            return None
        data += more
    return data


def _receive(channel):
    header = _read(channel, 8)
    if header is None:
        return None, []
    length, n_fds = struct.unpack("<II", header)
    fds = []
    if n_fds:
        _, fds, _, _ = socket.recv_fds(channel, 1, n_fds, socket.MSG_CMSG_CLOEXEC)
    data = _read(channel, length)
    return (None if data is None else pickle.loads(data)), list(fds)


@contextlib.contextmanager
def unit(name):
    """A control group that is to sd_pid_get_unit() what systemd makes for a unit; its processes are
    those that add() is told. Yields add, or None where there can be none."""
    with open("/proc/self/mounts") as mounts:
        trees = [line.split()[1] for line in mounts if line.split()[2] == "cgroup2"]
    path = os.path.join(trees[0], name) if trees else None
    try:
        if path:
            os.mkdir(path)
    except OSError:
        path = None

    def add(pid):
        with open(os.path.join(path, "cgroup.procs"), "w") as procs:
            procs.write(str(pid))

    try:
        yield add if path else None
    finally:
        if path:
            eventually(lambda: not open(os.path.join(path, "cgroup.procs")).read())
            os.rmdir(path)
