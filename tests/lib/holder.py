# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holder processes, which can be killed, and units for them to be in."""

import contextlib
import os
import resource
import signal
import socket

from client import Client, VarlinkError
from fds import MAX_FDS, track
from patience import eventually
from process import Process

NOBODY = 65534


class Holder(Process):
    """A process with connections of its own. Whoever holds a session dies as a process, not as a
    socket, so the test cannot be the one."""

    errors = (VarlinkError, OSError)

    def __init__(self, where, uid=None):
        self.path = getattr(where, "path", where)
        self.clients = []  # in the process
        super().__init__(uid)

    # In the process

    def do_connect(self, _fds):
        self.clients.append(Client(self.path))
        return len(self.clients) - 1, []

    def do_fork(self, _fds):
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        return child, []

    def do_give(self, _fds, connection):
        return True, [os.dup(self.clients[connection].socket.fileno())]

    def do_call(self, fds, connection, method, parameters):
        return self.clients[connection].call(method, parameters, fds)

    def do_send_raw(self, fds, connection, data, *flags):
        self.clients[connection].send_raw(data, fds, *flags)
        return True, []

    def do_send_and_close(self, _fds, data):
        """On a new connection."""
        with Client(self.path) as client:
            client.send_raw(data)
        return True, []

    def do_shutdown(self, _fds, connection):
        self.clients[connection].socket.shutdown(socket.SHUT_WR)
        return True, []

    def do_fill_flight(self, fds, n):
        """Sends so many descriptors that stay unread, more than may fly by the last message."""
        self.flying = socket.socketpair()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (n, limit[1]))
        self.flying[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for _ in range(0, n, MAX_FDS):
            socket.send_fds(self.flying[0], [b"x"], [fds[0]] * MAX_FDS)
        return True, []

    # Whatever else a client can do, one of its clients does.

    def obey(self, name, fds, *arguments):
        if hasattr(self, "do_" + name):
            return super().obey(name, fds, *arguments)
        return self.outcome(self.let_client_do, name, *arguments)

    def let_client_do(self, name, connection, *arguments):
        result = getattr(self.clients[connection], name)(*arguments)
        return (True if result is None else result), []

    # In the test

    def finish(self):
        """What came of start(): (answer, descriptors), or the error that it was."""
        answer, fds = self.answer()
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

    def leave(self):
        """Dies, and leaves its first connection to the test."""
        fd = self.do("give", 0)[1][0]
        self.kill()
        return Client.over(fd)

    def kill(self):
        super().kill()
        self.channel.close()


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
