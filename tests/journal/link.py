# SPDX-License-Identifier: LGPL-2.1-or-later
"""A holder process that outlives the daemon as libvfio-cpr does: a lost connection is made anew, the
session resumed by Attach, and the call that got no answer repeated. Whatever is told to it is done
in a process of its own, which can be killed at any instant."""

import array
import contextlib
import ctypes
import gc
import os
import pickle
import signal
import socket
import struct
import sys
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from client import Client, VarlinkError
from fds import MAX_FDS, close_all, forget_all

HEADER = struct.Struct("<II")


class Lost(Exception):
    """What the daemon had acknowledged is gone."""


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
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Link:
    """One session's way to the daemon."""

    def __init__(self, path, name):
        self.path, self.name = path, name
        self.client = None
        self.attached = False
        self.counts = []  # what Attach told at each resumption since it was last asked
        self.connects = 0

    def connect(self):
        while True:
            try:
                client = Client(self.path)
            except (ConnectionRefusedError, BlockingIOError):
                time.sleep(0.005)
                continue
            self.connects += 1
            try:
                return client, client.attach(self.name)
            except ConnectionError:
                client.close()
            except BaseException:
                client.close()
                raise

    def attach(self):
        """(how it starts, objects, whether an Attach before that had no answer)"""
        before = self.connects
        self.client, answer = self.connect()
        self.attached = True
        return answer["start"], answer["objects"], self.connects - before > 1

    def run(self, exchange, may_be_new=False):
        """exchange(client), repeated until it is answered. (its result, whether it was repeated)"""
        repeated = False
        while True:
            if not self.client:
                self.client, answer = self.connect()
                if answer["start"] == "new" and may_be_new:
                    pass  # the release was done; this one is empty
                elif answer["start"] != "resumed":
                    raise Lost(f"session {self.name} of a living holder is {answer['start']}")
                else:
                    self.counts.append(answer["objects"])
            try:
                return exchange(self.client), repeated
            except ConnectionError:
                self.close()
                repeated = True

    def close(self):
        if self.client:
            self.client.close()
        self.client = None


class Process:
    """The process. request() and answer() are the test's side."""

    def __init__(self, path):
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            with contextlib.suppress(BaseException):
                self._run(theirs.detach(), path)
                code = 0
            os._exit(code)
        theirs.close()
        self.channel = ours

    def _run(self, channel, path):
        gc.disable()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent()
        os.dup2(channel, 3)
        os.closerange(4, 1 << 20)
        forget_all()
        channel = socket.socket(fileno=3)
        links = {}
        while True:
            request, fds = receive(channel)
            if request is None:
                return
            name, session, arguments = request
            link = links.setdefault(session, Link(path, session))
            try:
                answer, back = getattr(self, "do_" + name)(link, fds, *arguments)
            except (VarlinkError, Lost, OSError) as error:
                answer, back = error, []
            except Exception:
                answer, back = AssertionError(traceback.format_exc()), []
            send(channel, (answer, link.counts), back)
            link.counts = []
            if name == "release":
                links.pop(session).close()
            close_all()
            for fd in fds:
                os.close(fd)

    # In the process: (answer, descriptors)

    def do_attach(self, link, fds):
        return link.attach(), []

    def do_store(self, link, fds, messages):
        """messages: of (objects, number of descriptors); they take effect together."""

        def exchange(client):
            at = 0
            for i, (objects, n) in enumerate(messages):
                more = {"continues": True} if i < len(messages) - 1 else {}
                client.store(objects, fds[at : at + n], **more)
                at += n

        return link.run(exchange)[1], []

    def do_call(self, link, fds, method, parameters):
        answer, repeated = link.run(lambda client: client.call(method, parameters)[0])
        return (answer, repeated), []

    def do_remove(self, link, fds, kind, name):
        def exchange(client):
            try:
                client.call("Remove", {"kind": kind, "name": name})
            except VarlinkError as error:
                return error

        error, repeated = link.run(exchange)
        if error and not (repeated and error.short == "NoSuchObject"):
            raise error
        return repeated, []

    def do_release(self, link, fds):
        return link.run(lambda client: client.call("Release"), may_be_new=True)[1], []

    def do_fetch(self, link, fds):
        held, _ = link.run(lambda client: client.fetch_all())
        return [item for item, _ in held], [fd for _, part in held for fd in part]

    # In the test

    def request(self, name, session, *arguments, fds=()):
        send(self.channel, (name, session, arguments), fds)

    def answer(self):
        """(answer, the counts of objects at resumptions, descriptors); None: it is dead."""
        item, fds = receive(self.channel)
        if item is None:
            return None
        return (*item, fds)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
