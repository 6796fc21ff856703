# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every kind of file that a process can have a descriptor of. What this kernel does not give is left
out, and told."""

import contextlib
import ctypes
import os
import select
import socket
import struct
import tempfile

from fds import eventfd, memfd, track

libc = ctypes.CDLL(None, use_errno=True)
# Numbers of system calls that libc has no function for (all but x86's old ones are the same everywhere).
SYS = {"userfaultfd": 323, "bpf": 321, "perf_event_open": 298} if os.uname().machine == "x86_64" else {
    "userfaultfd": 282, "bpf": 280, "perf_event_open": 241}
SYS |= {"memfd_secret": 447, "fsopen": 430, "open_tree": 428, "landlock": 444, "io_uring_setup": 425}


def call(name, *arguments):
    return libc.syscall(SYS[name], *arguments)


def bpf_map():
    attributes = struct.pack("<IIII", 2, 4, 4, 1) + bytes(100)  # an array of one
    return call("bpf", 0, attributes, len(attributes))


def perf_event():
    attributes = bytearray(112)
    struct.pack_into("<IIQ", attributes, 0, 1, 112, 0)  # the clock, in software
    return call("perf_event_open", bytes(attributes), 0, -1, -1, 0)


def io_uring():
    return call("io_uring_setup", 4, ctypes.create_string_buffer(120))


def landlock():
    return call("landlock", struct.pack("<Q", 1), 8, 0)


def tmpfile(directory):
    return lambda: os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)


def epoll():
    with select.epoll() as one:
        return os.dup(one.fileno())


def listening():
    one = socket.socket(socket.AF_UNIX)
    one.bind("")  # a name of the kernel's
    one.listen()
    return one.detach()


def bound_path():
    """An O_PATH descriptor of a socket in the file system."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as one:
        path = os.path.join(directory, "s")
        one.bind(path)
        return os.open(path, os.O_PATH)


def symlink_path():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "anon_inode:[eventfd]")
        os.symlink("anon_inode:[vfio-device]", path)
        return os.open(path, os.O_PATH | os.O_NOFOLLOW)


def message_queue():
    librt = ctypes.CDLL("librt.so.1", use_errno=True)
    name = f"/vfio-cprd-{os.getpid()}".encode()
    fd = librt.mq_open(name, os.O_RDWR | os.O_CREAT, 0o600, None)
    librt.mq_unlink(name)
    return fd


def opened(path, flags=os.O_RDWR | os.O_NOCTTY):
    return lambda: os.open(path, flags)


def family(*arguments):
    return lambda: socket.socket(*arguments).detach()


MAKERS = {
    "a pidfd": lambda: os.pidfd_open(os.getpid()),
    "an epoll": epoll,
    "a timerfd": lambda: libc.timerfd_create(1, 0),
    "an inotify": lambda: libc.inotify_init1(0),
    "a fanotify": lambda: libc.fanotify_init(0, 0),
    "a signalfd": lambda: libc.signalfd(-1, ctypes.create_string_buffer(128), 0),
    "a userfaultfd": lambda: call("userfaultfd", 1),
    "a BPF map": bpf_map,
    "a perf event": perf_event,
    "an io_uring": io_uring,
    "a landlock rule set": landlock,
    "a secret memory": lambda: call("memfd_secret", 0),
    "a file system in the making": lambda: call("fsopen", b"tmpfs", 0),
    "a cloned mount": lambda: call("open_tree", -100, b"/", 1),
    "a message queue": message_queue,
    **{f"a {name} namespace": opened(f"/proc/self/ns/{name}", os.O_RDONLY)
       for name in ("mnt", "net", "pid", "user", "uts", "ipc", "cgroup", "time")},
    "a process's memory": opened("/proc/self/mem"),
    "a process's descriptors": opened("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY),
    "a page map": opened("/proc/self/pagemap", os.O_RDONLY),
    "a file of sysfs": opened("/sys/kernel/mm/transparent_hugepage/enabled", os.O_RDONLY),
    "a regular file": tmpfile("/"),
    "a file in /tmp": tmpfile("/tmp"),
    "a directory": opened("/", os.O_RDONLY | os.O_DIRECTORY),
    "a terminal": opened("/dev/ptmx"),
    "/dev/null": opened("/dev/null"),
    "/dev/zero": opened("/dev/zero"),
    "/dev/full": opened("/dev/full"),
    "/dev/mem": opened("/dev/mem", os.O_RDONLY),
    "/dev/kmsg": opened("/dev/kmsg", os.O_RDONLY),
    "/dev/fuse": opened("/dev/fuse"),
    "/dev/kvm": opened("/dev/kvm"),
    "/dev/net/tun": opened("/dev/net/tun"),
    "/dev/vhost-net": opened("/dev/vhost-net"),
    "a disk": opened("/dev/vda", os.O_RDONLY),
    "a socket of unix": family(socket.AF_UNIX),
    "a socket that listens": listening,
    "a socket of TCP": family(socket.AF_INET),
    "a socket of netlink": family(socket.AF_NETLINK, socket.SOCK_RAW),
    "a socket of packets": family(socket.AF_PACKET, socket.SOCK_RAW),
    "a socket of VMs": family(socket.AF_VSOCK, socket.SOCK_STREAM),
    "a socket of ciphers": family(socket.AF_ALG, socket.SOCK_SEQPACKET),
    "a socket's name": bound_path,
    "a symbolic link": symlink_path,
}


def everything():
    """{what it is: descriptor}, tracked; and which of them this host does not have."""
    made, absent = {}, []
    for what, make in MAKERS.items():
        fd = -1
        with contextlib.suppress(OSError, AttributeError):
            fd = make()
        if fd < 0:
            absent.append(what)
        else:
            made[what] = track(fd)
    made["a pipe to read"], made["a pipe to write"] = map(track, os.pipe())
    return made, absent


def of_a_path(fd):
    """The same file by O_PATH: a name for it that is not open."""
    return track(os.open(f"/proc/self/fd/{fd}", os.O_PATH))


def paths_of_what_is_held():
    return {"an eventfd": of_a_path(eventfd()), "a memfd": of_a_path(memfd())}
