# SPDX-License-Identifier: LGPL-2.1-or-later
"""A raw Varlink client with nothing hidden. The standard library only."""

import array
import errno
import fcntl
import json
import os
import select
import socket
import struct
import termios
import time

from fds import MAX_FDS, track
from patience import eventually

SESSION = "io.vfiocpr.Session."
SERVICE = "org.varlink.service."
MAX_BYTES = 1024 * 1024


class VarlinkError(Exception):
    def __init__(self, name, parameters):
        super().__init__(f"{name} {parameters}")
        self.name = name
        self.parameters = parameters

    def __reduce__(self):
        return VarlinkError, (self.name, self.parameters)

    @property
    def short(self):
        return self.name.rpartition(".")[2]


class Closed(ConnectionError):
    """The daemon closed the connection."""


def encode(method, parameters=None, **flags):
    """The bytes of a call."""
    message = {"method": method, **flags}
    if parameters is not None:
        message["parameters"] = parameters
    return json.dumps(message).encode() + b"\0"


class Client:
    """One connection. Received descriptors are numbers: the caller closes them (or close_all()). It
    waits without an end: whoever runs the test cuts off what hangs."""

    def __init__(self, where):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.connect(getattr(where, "path", where))
        except OSError:
            self.socket.close()
            raise
        self.begin()

    @classmethod
    def crowd(cls, where, is_full=lambda: True):
        """As many as there is room for, the backlog's too, once nobody is let in any more."""
        clients = []
        while True:
            one = cls.__new__(cls)
            one.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            one.socket.setblocking(False)
            while (error := one.socket.connect_ex(getattr(where, "path", where))) == errno.EAGAIN:
                if is_full():
                    one.close()
                    return clients
                time.sleep(0.001)
            if error:
                raise OSError(error, os.strerror(error))
            one.socket.setblocking(True)
            one.begin()
            clients.append(one)

    def begin(self):
        self.buffer = b""
        self.received = []  # (where in the buffer their message begins, descriptors)

    @classmethod
    def over(cls, fd):
        """Over a copy of another process's connection."""
        client = cls.__new__(cls)
        client.socket = socket.socket(fileno=os.dup(fd))
        client.begin()
        return client

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        self.socket.close()

    def send_raw(self, data, fds=(), flags=0):
        """Sends bytes, and descriptors with the first of them."""
        control = []
        if fds:
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        sent = self.socket.sendmsg([data], control, flags)
        if sent < len(data):
            self.socket.sendall(data[sent:])

    def send(self, method, parameters=None, fds=(), **flags):
        self.send_raw(encode(method, parameters, **flags), fds)

    def unsent(self):
        """Bytes that the daemon has not received yet."""
        return struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, b"\0" * 4))[0]

    def wait_until_received(self):
        if not eventually(lambda: self.unsent() == 0):
            raise AssertionError("the daemon does not receive")

    def receive_message(self):
        """The next message as it is, and its descriptors."""
        while b"\0" not in self.buffer:
            data, control, flags, _ = self.socket.recvmsg(
                256 * 1024, socket.CMSG_SPACE(MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
            )
            got = array.array("i")
            for level, kind, content in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    got.frombytes(content[: len(content) - len(content) % got.itemsize])
            if flags & socket.MSG_CTRUNC:
                raise AssertionError("descriptors were lost on the way to the test")
            if not data:
                raise Closed("the daemon closed the connection")
            self.buffer += data
            if got:
                # A receive ends where descriptors were sent: theirs is its last message.
                begin = self.buffer.rfind(b"\0", 0, len(self.buffer) - 1) + 1
                self.received.append((begin, [track(fd) for fd in got]))
        message, _, self.buffer = self.buffer.partition(b"\0")
        fds = [fd for begin, some in self.received if begin == 0 for fd in some]
        size = len(message) + 1
        self.received = [(begin - size, some) for begin, some in self.received if begin > 0]
        return json.loads(message), fds

    def receive(self):
        message, fds = self.receive_message()
        if "error" in message:
            raise VarlinkError(message["error"], message.get("parameters", {}))
        return message.get("parameters", {}), fds

    def call(self, method, parameters=None, fds=(), **flags):
        """(parameters, descriptors) of the answer, or VarlinkError."""
        self.send(method if "." in method else SESSION + method, parameters, fds, **flags)
        return self.receive()

    def call_more(self, method, parameters=None):
        """Yields the parameters of each answer."""
        for answer, _ in self.call_more_with_fds(method, parameters):
            yield answer

    def call_more_with_fds(self, method, parameters=None):
        """Yields (parameters, descriptors) of each answer."""
        self.send(method if "." in method else SESSION + method, parameters, more=True)
        while True:
            message, fds = self.receive_message()
            if "error" in message:
                raise VarlinkError(message["error"], message.get("parameters", {}))
            yield message.get("parameters", {}), fds
            if not message.get("continues"):
                return

    def is_closed(self):
        """Whether the daemon has hung up. What is there to read stays."""
        poll = select.poll()
        poll.register(self.socket, 0)
        return bool(poll.poll(0))

    # What every holder does

    def attach(self, name, **parameters):
        return self.call("Attach", {"name": name, **parameters})[0]

    def store(self, objects, fds=(), **parameters):
        return self.call("Store", {"objects": objects, **parameters}, fds)[0]

    def fetch_pages(self):
        """The answers of Fetch, each asked for."""
        cursor = 0
        while cursor is not None:
            answer, fds = self.call("Fetch", {"cursor": cursor})
            yield answer, fds
            cursor = answer.get("next")

    def fetch_all(self, more=False):
        """Everything held: ([(object, [descriptors])], in the order it came)."""
        held = []
        stream = self.call_more_with_fds("Fetch", {"cursor": 0}) if more else self.fetch_pages()
        for answer, fds in stream:
            for item in answer["objects"]:
                index, count = item["firstFileDescriptor"], item.get("count", 1)
                held.append((item, fds[index : index + count]))
            if sum(len(item[1]) for item in held[-len(answer["objects"]) :]) < len(fds):
                raise AssertionError("Fetch sent descriptors that no object names")
        return held

    def pages(self, method, **parameters):
        """The answers of a method that tells some at a time, each asked for."""
        cursor = None
        while True:
            answer = self.call(method, {**parameters, "cursor": cursor})[0]
            yield answer
            cursor = answer.get("next")
            if cursor is None:
                return

    def sessions(self):
        listed = [s for answer in self.pages("List") for s in answer["sessions"]]
        return {(s["uid"], s["name"]): s for s in listed}

    def show(self, name, **parameters):
        """All of it: the first answer, its lists with those of the others."""
        first, *others = self.pages("Show", name=name, **parameters)
        for key in ("objects", "spaces", "pending"):
            first[key] += [item for answer in others for item in answer[key]]
        first.pop("next", None)
        return first
