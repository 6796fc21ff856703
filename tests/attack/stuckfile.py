# SPDX-License-Identifier: LGPL-2.1-or-later
"""A FUSE file whose pages never come, made by an unprivileged user: a write from such a page into
another file sleeps in the kernel with that file's lock, for as long as the user likes, and so does
who reads a directory into it."""

import contextlib
import ctypes
import errno
import mmap
import os
import signal
import struct
import tempfile

from patience import eventually
from process import die_with_parent

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 1 << 14, 1 << 18
FUSE_GETATTR, FUSE_OPEN, FUSE_READ, FUSE_INIT, FUSE_INTERRUPT = 3, 14, 15, 26, 36
IN_HEADER, OUT_HEADER = struct.Struct("<IIQQIIIHH"), struct.Struct("<IiQ")
S_IFREG = 0o100000
PR_SET_DUMPABLE = 4
PIDFD_GETFD = 438
PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)


class Impossible(Exception):
    """This host has no FUSE for users."""


def check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise Impossible(os.strerror(number))
    return result


def mount(source, target, kind, flags=0, options=""):
    check(libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()))


def device_for_all(directory):
    """/dev/fuse as it is on a desktop, open to every user, for this process alone. As root."""
    check(libc.unshare(CLONE_NEWNS))
    mount("none", "/", "none", MS_REC | MS_PRIVATE)
    mount("stuck", directory, "tmpfs", options="mode=0777")
    path = os.path.join(directory, "fuse")
    os.mknod(path, 0o20666, os.makedev(10, 229))
    os.chmod(path, 0o666)
    target = os.path.join(directory, "file")
    with open(target, "wb"):
        pass
    os.chmod(target, 0o666)
    return path, target


def become(uid):
    """That user, as root of a namespace of its own, which it needs no right for."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    libc.prctl(PR_SET_DUMPABLE, 1)  # else its files in /proc are root's
    check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {uid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def answer(device, request):
    """What the file's server says to this; None: nothing, for ever."""
    _, opcode, unique, *_ = IN_HEADER.unpack_from(request)
    attributes = struct.pack("<QQQQQQIIIIIIIIII", 1, PAGE, 1, *[0] * 6, S_IFREG | 0o666, 1, *[0] * 5)
    body = {
        FUSE_INIT: struct.pack("<IIIIHHIIHHI28x", 7, 31, 1 << 16, 0, 12, 9, 1 << 16, 1, 16, 0, 0),
        FUSE_GETATTR: struct.pack("<QII", 1000, 0, 0) + attributes[:88],
        FUSE_OPEN: struct.pack("<QII", 1, 0, 0),
    }.get(opcode)
    if opcode in (FUSE_READ, FUSE_INTERRUPT):
        return
    error = 0 if body is not None else -errno.ENOSYS
    body = body or b""
    os.write(device, OUT_HEADER.pack(OUT_HEADER.size + len(body), error, unique) + body)


def serve(device, ready):
    """The file's server, in a process of its own: what is stuck must not hold the device open."""
    os.write(ready, b"x")
    with contextlib.suppress(OSError):
        while True:
            answer(device, os.read(device, 1 << 17))


def fork(work, *arguments):
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            die_with_parent()
            work(*arguments)
        os._exit(0)
    return pid


def waits_in(pid, *functions):
    with open(f"/proc/{pid}/wchan", encoding="ascii") as place:
        return place.read() in functions


def write_stuck(target, fd, offset):
    file = os.open(target, os.O_RDONLY)
    page = mmap.mmap(file, PAGE, mmap.MAP_SHARED, mmap.PROT_READ)
    os.pwrite(fd, memoryview(page), offset)


def list_stuck(target, path):
    file, folder = os.open(target, os.O_RDONLY), os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    page = mmap.mmap(file, PAGE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    # Its address, without a look into it
    libc.getdents64(folder, ctypes.byref(ctypes.c_char.from_buffer(page)), ctypes.c_size_t(PAGE))


class Stuck:
    """A process of this user that does work(target, ...) and never ends, until let_go(). target: the
    file whose pages never come."""

    def __init__(self, uid, work, *arguments):
        ends, theirs = os.pipe()
        self.directory = tempfile.mkdtemp(prefix="stuck-")
        self.pid = fork(self._run, uid, theirs, work, arguments)
        os.close(theirs)
        pids = os.read(ends, 100)
        os.close(ends)
        if not pids.startswith(b"ok"):
            os.waitpid(self.pid, 0)
            os.rmdir(self.directory)
            raise Impossible(pids.decode() or "its process ended")
        _, self.writer = pids.decode().split()
        if not eventually(self.is_stuck, 5):
            self.let_go()
            raise Impossible("it does not hang")

    def _run(self, uid, told, work, arguments):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            path, target = device_for_all(self.directory)
            become(uid)
            die_with_parent()
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            options = f"fd={device},rootmode=100644,user_id=0,group_id=0"
            ready, started = os.pipe()
            mount("stuck", target, "fuse", MS_NOSUID | MS_NODEV, options)
            server = fork(serve, device, started)
            os.read(ready, 1)
            os.close(device)
            writer = fork(work, target, *arguments)
            os.write(told, b"ok %d" % writer)
        except BaseException as error:
            os.write(told, str(error).encode())
            return
        signal.sigwait([signal.SIGTERM])
        os.kill(server, signal.SIGKILL)  # the device is closed, and what waits fails
        os.waitpid(server, 0)
        os.waitpid(writer, 0)

    def is_stuck(self):
        return waits_in(self.writer, "request_wait_answer")

    def file(self):
        """A descriptor of the file whose pages never come, for the caller to close."""
        folder = f"/proc/{self.writer}/fd"
        links = {number: os.readlink(f"{folder}/{number}") for number in os.listdir(folder)}
        number = next(int(number) for number, link in links.items() if link.endswith("/file"))
        pidfd = os.pidfd_open(int(self.writer))
        fd = check(libc.syscall(PIDFD_GETFD, pidfd, number, 0))
        os.close(pidfd)
        return fd

    def let_go(self):
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)
            os.waitpid(self.pid, 0)
            self.pid = None
            os.rmdir(self.directory)


class StuckWriter(Stuck):
    """Writes to fd, and so keeps its lock."""

    def __init__(self, uid, fd, offset=0):
        super().__init__(uid, write_stuck, fd, offset)


class StuckDirectory(Stuck):
    """Reads a directory, for which a second process waits that would make a file there: whoever looks
    for a name in it that the kernel has not met there yet waits, too."""

    def __init__(self, uid, path):
        self.maker = None
        super().__init__(uid, list_stuck, path)
        self.maker = fork(self._make, uid, path)
        # Some kernels tell who waits for the lock, others what that does for it
        if not eventually(lambda: waits_in(self.maker, "rwsem_down_write_slowpath", "path_openat"), 5):
            self.let_go()
            raise Impossible("nobody waits for the directory")

    def _make(self, uid, path):
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        die_with_parent()
        os.open(path + "/there-is-no-such-file", os.O_WRONLY | os.O_CREAT)

    def let_go(self):
        super().let_go()
        if self.maker:
            os.waitpid(self.maker, 0)
            self.maker = None
