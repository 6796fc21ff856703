# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes that do what they are told and can be killed at any instant. Requests and answers are any
objects, with any number of descriptors."""

import array
import contextlib
import ctypes
import gc
import os
import pickle
import signal
import socket
import struct
import traceback

from fds import MAX_FDS, close_all, forget_all

HEADER = struct.Struct("<II")
PR_SET_PDEATHSIG = 1


def send(channel, item, fds=()):
    data = pickle.dumps(item)
    channel.sendall(HEADER.pack(len(data), len(fds)) + data)
    for at in range(0, len(fds), MAX_FDS):
        part = array.array("i", fds[at : at + MAX_FDS])
        channel.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, part)])


def receive(channel):
    """(item, descriptors), or (None, []) at the end."""

    def read(n):
        data = b""
        while len(data) < n:
            more = channel.recv(n - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    fds = []
    try:
        length, n_fds = HEADER.unpack(read(HEADER.size))
        item = pickle.loads(read(length))
        while len(fds) < n_fds:
            data, got, _, _ = socket.recv_fds(channel, 1, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
            if not data:
                raise EOFError
            fds += got
    except (EOFError, ConnectionError):
        for fd in fds:
            os.close(fd)
        return None, []
    return item, fds


def die_with_parent():
    """Whatever ends the test, nothing of it stays."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """The process, with nothing of the test's but what it is sent. It has a method do_NAME(fds, ...)
    for each request, which returns (answer, descriptors); the descriptors are closed after that."""

    errors = (OSError,)  # are answers; any other exception is a failure of the test

    def __init__(self, uid=None):
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

    # In the process

    def _run(self, channel, uid):
        gc.disable()  # the parent's sockets must not be closed by number here
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.dup2(channel, 3)
        os.closerange(4, 1 << 20)
        forget_all()
        if uid is not None:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
        die_with_parent()  # a change of the user would call it off
        channel = socket.socket(fileno=3)
        while True:
            request, fds = receive(channel)
            if request is None:
                return
            name, arguments = request
            answer, back = self.obey(name, fds, *arguments)
            send(channel, answer, back)
            close_all()
            for fd in fds:
                os.close(fd)

    def obey(self, name, fds, *arguments):
        return self.outcome(getattr(self, "do_" + name), fds, *arguments)

    def outcome(self, do, *arguments):
        """What it returns, or what it raises as its answer."""
        try:
            return do(*arguments)
        except self.errors as error:
            return error, []
        except Exception:
            return AssertionError(traceback.format_exc()), []

    # In the test

    def start(self, name, *arguments, fds=()):
        """Has it do something; answer() tells what came of it."""
        send(self.channel, (name, arguments), fds)

    def answer(self):
        """(answer, descriptors), which are the caller's to close; (None, []): it is dead."""
        return receive(self.channel)

    def kill(self):
        if not self.dead:
            self.dead = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
