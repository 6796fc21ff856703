# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfio-cprd for tests: the daemon started by hand, a raw Varlink client with nothing hidden, the
descriptors that it holds, and holder processes that can be killed. The standard library only."""

import array
import contextlib
import errno
import fcntl
import gc
import json
import os
import pickle
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import time
import traceback
import unittest

import patience

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
DAEMON = os.environ.get("VFIO_CPRD", os.path.join(BUILD, "vfio-cprd"))
SESSION = "io.vfiocpr.Session."
SERVICE = "org.varlink.service."
COMPLAINT = "vfio-cprd: error: "  # of the daemon or of GLib within, on standard error
MAX_FDS = 253  # SCM_MAX_FD: in one message
MAX_BYTES = 1024 * 1024
NOBODY = 65534

F_DUPFD_QUERY = 1024 + 3  # Linux 6.10
SEALS_STATE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
SEALS_TABLE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


TEST_PID = os.getpid()  # also in its children


def eventually(condition, seconds=20):
    """The first true value of condition(), or its last one once it had time enough to be true."""
    limit, pause = patience.Patience(seconds, TEST_PID), 0.0005
    while True:
        value = condition()
        if value or limit.is_over():
            return value
        time.sleep(pause)
        pause = min(pause * 2, 0.01)


def is_asleep(pid):
    """Whether all its threads sleep, and have slept since: it has done all that it was sent."""

    def look():
        paths = [f"/proc/{pid}/task/{thread}" for thread in os.listdir(f"/proc/{pid}/task")]
        stats = [patience.stat_of(path) for path in paths]
        return [stat and stat[0] for stat in stats], [patience.read(p + "/schedstat") for p in paths]

    before = look()
    return set(before[0]) == {"S"} and look() == before


# The daemon


class DaemonFailure(AssertionError):
    pass


class Daemon:
    """A vfio-cprd of its own, on a socket in a new directory."""

    def __init__(self, *options, nofile=None, env=None, command=None):
        self.directory = tempfile.mkdtemp(prefix="vfio-cprd-")
        os.chmod(self.directory, 0o755)
        self.path = os.path.join(self.directory, "socket")
        self.log_path = os.path.join(self.directory, "log")
        command = command or [DAEMON, "--socket", self.path, *options]
        if nofile:
            command = ["prlimit", f"--nofile={nofile}", *command]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1", **(env or {})},
            )
        self.pid = self.process.pid
        if not eventually(self.answers, 60):
            self.process.kill()
            self.process.wait()
            raise DaemonFailure("the daemon does not start:\n" + self.log())

    def answers(self):
        if self.process.poll() is not None:
            raise DaemonFailure(f"the daemon ended with {self.process.returncode}:\n{self.log()}")
        try:
            with Client(self.path) as client:
                return client.call(SERVICE + "GetInfo")[0]
        except (FileNotFoundError, ConnectionError, PermissionError):
            return None

    def log(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def fds(self):
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def links(self):
        """What its descriptors are, as /proc tells."""
        links = []
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f"/proc/{self.pid}/fd/{name}"))
        return links

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


# The client


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
        self.buffer = b""
        self.received = []  # (where in the buffer their message begins, descriptors)

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

    def sessions(self):
        return {(s["uid"], s["name"]): s for s in self.call("List")[0]["sessions"]}

    def show(self, name, **parameters):
        return self.call("Show", {"name": name, **parameters})[0]


# Descriptors. Those made here are closed by close_all(), so that a test need not.

_tracked = set()


def track(fd):
    _tracked.add(fd)
    return fd


def close(fd):
    _tracked.discard(fd)
    os.close(fd)


def close_all():
    while _tracked:
        os.close(_tracked.pop())


def close_all_but(fds):
    for fd in _tracked.difference(fds):
        close(fd)


def memfd(size=4096, seals=0, content=b"", name="test"):
    fd = track(os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    os.ftruncate(fd, max(size, len(content)))
    if content:
        os.pwrite(fd, content, 0)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def state_memfd(content=b"state", seals=SEALS_STATE):
    return memfd(len(content), seals, content, "state")


def eventfd(count=0):
    return track(os.eventfd(count, os.EFD_CLOEXEC | os.EFD_NONBLOCK))


def eventfds(n):
    return [eventfd() for _ in range(n)]


FREE, MAPPED, MAPPING, UNMAPPING = range(4)
SLOT = struct.Struct("<QQQIBBBB")
HEADER = struct.Struct("<QIIII40x")
TABLE_MAGIC = 0x31656C6261742D63
MAX_SLOTS = 1 << 18


def slot(iova=0, size=4096, offset=0, object=1, state=MAPPED, prot=3, region=0):
    return SLOT.pack(iova, size, offset, object, state, prot, region, 0)


def make_table(
    entries=(),
    slots=None,
    magic=TABLE_MAGIC,
    version=1,
    slot_size=SLOT.size,
    header_slots=None,
    used=None,
    length=None,
    seals=SEALS_TABLE,
):
    """A mapping table as in common/table.h, of dicts (see slot()); every keyword can make it lie."""
    if slots is None:
        slots = max(len(entries), 1)
    header = HEADER.pack(
        magic,
        version,
        slot_size,
        slots if header_slots is None else header_slots,
        len(entries) if used is None else used,
    )
    content = header + b"".join(slot(**entry) for entry in entries)
    size = HEADER.size + slots * SLOT.size if length is None else length
    return memfd(size, seals, content[:size], "table")


def describe(kind, name, id, index=0, **fields):
    """An Object of the interface, whose first descriptor has this index in its message."""
    return {"id": id, "kind": kind, "name": name, "firstFileDescriptor": index, **fields}


def fdinfo(fd, key):
    with open(f"/proc/self/fdinfo/{fd}") as info:
        for line in info:
            if line.startswith(key + ":"):
                return line.split(":", 1)[1].strip()
    return None


def identity(fd):
    """What two descriptors of one file have in common: the eventfd's id, or the inode."""
    id = fdinfo(fd, "eventfd-id")
    st = os.fstat(fd)
    return ("eventfd", id) if id is not None else (st.st_dev, st.st_ino, st.st_mode)


def is_same_file(a, b):
    """Whether they are one open file; before Linux 6.10 whether they are of one inode."""
    try:
        return fcntl.fcntl(a, F_DUPFD_QUERY, b) == 1
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return identity(a) == identity(b)


# Other processes


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


# The test case


class DaemonTest(unittest.TestCase):
    """A test with a daemon of its own, which must end clean and, unless told otherwise, be as it
    was before."""

    options = ()
    nofile = None

    def setUp(self):
        self.addCleanup(close_all)
        self.daemon = Daemon(*self.options, nofile=self.nofile)
        self.addCleanup(self.end_daemon)
        # Each peer has a pidfd: without one, that of our first question is gone.
        eventually(lambda: not [link for link in self.daemon.links() if "pidfd" in link])
        self.idle_fds = self.daemon.fds()

    def end_daemon(self):
        """Ends it, if the test has not: the last thing that every test asserts."""
        daemon, self.daemon = self.daemon, None
        if daemon:
            daemon.stop()

    def client(self, **options):
        client = Client(self.daemon, **options)
        self.addCleanup(client.close)
        return client

    def holder(self, uid=None):
        holder = Holder(self.daemon, uid)
        self.addCleanup(holder.kill)
        return holder

    @contextlib.contextmanager
    def refused(self, name, contains=""):
        """The call within is answered by this error (its last part, or the whole name)."""
        with self.assertRaises(VarlinkError) as caught:
            yield caught
        error = caught.exception
        self.assertIn(name, (error.short, error.name), error)
        text = error.parameters.get("message", "")
        self.assertIn(contains, text)
        if error.name.startswith(SESSION):
            self.assertTrue(text, "the error explains itself")
            self.assertIsInstance(error.parameters.get("errno"), int)

    def assertIdle(self, extra=0):
        """The daemon lives, answers, and has no descriptor more than at the start (and extra)."""
        self.assertTrue(self.daemon.is_alive(), self.daemon.log())
        with Client(self.daemon) as client:
            client.call(SERVICE + "GetInfo")
        want = self.idle_fds + extra
        if not eventually(lambda: self.daemon.fds() == want):
            self.fail(f"{self.daemon.fds()} descriptors, not {want}: {sorted(self.daemon.links())}")

    def assertCut(self, client, error="ProtocolViolation"):
        """The daemon says why, and closes the connection."""
        with self.refused(error):
            client.receive()
        with self.assertRaises(ConnectionError):
            client.receive()

    def assertSameFiles(self, a, b):
        self.assertEqual(len(a), len(b))
        for i, (x, y) in enumerate(zip(a, b)):
            self.assertTrue(is_same_file(x, y), f"descriptor {i} is another open file")
