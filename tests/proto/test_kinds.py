# SPDX-License-Identifier: LGPL-2.1-or-later
"""Storing what a descriptor is not: it is refused for what it is, whatever it is called."""

import ctypes
import errno
import fcntl
import os
import select
import socket
import tempfile

from client import SESSION, Client
from daemontest import StoreTest
from fds import (
    HEADER, SEALS_STATE, TABLE_MAGIC, describe, eventfd, eventfds, memfd, state_memfd, track,
)

KINDS = ("container", "group", "device", "iommufd", "memory", "eventfd", "table", "state")


class WrongKinds(StoreTest):
    """Descriptors that are not what they are said to be, or that nobody may have held."""

    def refuse(self, fd, kinds=KINDS, contains=""):
        for kind in kinds:
            extra = {"space": "s0"} if kind in ("group", "device") else {}
            with self.subTest(kind=kind):
                with self.refused("Refused", contains):
                    self.vm.store([describe(kind, "x", 1, **extra)], [fd])
        self.assertIntact()

    def others(self, *right):
        return [kind for kind in KINDS if kind not in right]

    def test_a_regular_file_is_refused(self):
        self.refuse(track(os.open("/proc/version", os.O_RDONLY)), contains="regular file")

    def test_a_file_on_disk_is_refused(self):
        fd = track(os.open(__file__, os.O_RDWR))
        try:
            fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        except OSError:
            self.refuse(fd)
        else:
            self.skipTest("the tests are on a tmpfs, which is memory")

    def test_a_directory_is_refused(self):
        self.refuse(track(os.open("/", os.O_RDONLY | os.O_DIRECTORY)), contains="directory")

    def test_an_o_path_descriptor_is_refused(self):
        # It looks like the file, and is no open one: what it names would not be held.
        for fd in (eventfd(), memfd(), state_memfd(), track(os.open("/dev/null", os.O_RDWR))):
            self.refuse(track(os.open(f"/proc/self/fd/{fd}", os.O_PATH)), contains="O_PATH")

    def test_a_pipe_is_refused(self):
        for fd in os.pipe():
            self.refuse(track(fd), contains="pipe")

    def test_sockets_are_refused(self):
        for pair in (
            socket.socketpair(),
            (socket.socket(socket.AF_INET, socket.SOCK_DGRAM),),
            (socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),),
        ):
            for item in pair:
                self.refuse(track(item.detach()), contains="socket")

    def test_the_connection_itself_is_refused(self):
        # A socket sent through itself is a cycle that only the kernel's collector can end.
        self.refuse(self.vm.socket.fileno(), contains="socket")
        with Client(self.daemon) as client:
            client.attach("cycle")
            client.send(
                SESSION + "Store",
                {"objects": [describe("eventfd", "x", 1, count=3)]},
                [client.socket.fileno()] * 3,
            )
        self.vm.call("Release", {"name": "cycle"})
        self.assertIntact()

    def test_character_devices_that_are_not_vfio_are_refused(self):
        for path in ("/dev/null", "/dev/zero", "/dev/ptmx", "/dev/fuse", "/dev/net/tun"):
            try:
                fd = track(os.open(path, os.O_RDWR | os.O_NOCTTY))
            except OSError:
                continue
            self.refuse(fd)

    def test_dev_kvm_is_refused_with_the_reason(self):
        try:
            fd = track(os.open("/dev/kvm", os.O_RDWR))
        except OSError as error:
            self.skipTest(f"/dev/kvm: {error.strerror}")
        self.refuse(fd, contains="irqfds")
        vm = fcntl.ioctl(fd, 0xAE01, 0)  # KVM_CREATE_VM
        self.refuse(track(vm), contains="irqfds")

    def test_an_io_uring_does_not_get_through(self):
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.syscall(425, 4, ctypes.create_string_buffer(120))  # io_uring_setup
        if fd < 0:
            self.skipTest(f"io_uring_setup: {os.strerror(ctypes.get_errno())}")
        track(fd)
        try:
            with self.refused("Refused", "io_uring"):
                self.vm.store([describe("eventfd", "x", 1)], [fd])
        except OSError as error:
            self.assertEqual(error.errno, errno.EINVAL)  # since Linux 6.8 the kernel refuses
        self.assertIntact()

    def test_other_anonymous_inodes_are_refused(self):
        libc = ctypes.CDLL(None, use_errno=True)
        timer = libc.timerfd_create(1, 0)
        inotify = libc.inotify_init1(0)
        sigset = ctypes.create_string_buffer(128)
        signalfd = libc.signalfd(-1, sigset, 0)
        epoll = select.epoll()
        for fd in (timer, inotify, signalfd, os.dup(epoll.fileno()), os.pidfd_open(os.getpid())):
            self.assertGreaterEqual(fd, 0)
            self.refuse(track(fd))

    def test_a_file_named_like_an_anonymous_inode_is_refused(self):
        with tempfile.TemporaryDirectory() as directory:
            for name in ("anon_inode:[eventfd]", "anon_inode:[vfio-device]"):
                path = os.path.join(directory, name)
                self.refuse(
                    track(os.open(path, os.O_RDWR | os.O_CREAT)),
                    ("eventfd", "device", "container", "iommufd"),
                )
        self.refuse(memfd(name="anon_inode:[eventfd]"), ("eventfd", "device"))

    def test_an_eventfd_is_an_eventfd_only(self):
        self.refuse(eventfd(), self.others("eventfd"), contains="eventfd")

    def test_a_memfd_is_no_vfio_object(self):
        self.refuse(memfd(), self.others("memory"))

    def test_memory_must_be_open_for_reading_and_writing(self):
        memory = memfd()
        for mode in (os.O_RDONLY, os.O_WRONLY):
            fd = track(os.open(f"/proc/self/fd/{memory}", mode))
            self.refuse(fd, ("memory", "table"), contains="O_RDWR")

    def test_a_state_that_can_change_is_refused(self):
        from fcntl import F_SEAL_GROW, F_SEAL_SHRINK, F_SEAL_WRITE

        for seals in (
            0,
            F_SEAL_WRITE,
            F_SEAL_SHRINK | F_SEAL_GROW,
            F_SEAL_WRITE | F_SEAL_SHRINK,
            F_SEAL_WRITE | F_SEAL_GROW,
        ):
            self.refuse(state_memfd(seals=seals), ("state",), contains="F_SEAL")

    def test_a_state_may_have_16_mib_and_no_more(self):
        largest = 16 << 20
        self.vm.store([describe("state", "big", 1)], [memfd(largest, SEALS_STATE)])
        self.assertEqual(self.vm.fetch_all()[1][0]["size"], largest)
        self.vm.call("Remove", {"kind": "state", "name": "big"})
        self.refuse(memfd(largest + 1, SEALS_STATE), ("state",), contains="16777216")

    def test_a_group_and_a_device_need_a_space(self):
        for kind in ("group", "device"):
            with self.refused("InvalidParameter"):
                self.vm.store([describe(kind, "x", 1)], [eventfd()])
        self.assertIntact()

    def test_one_bad_descriptor_among_many_refuses_all(self):
        bad = track(os.open("/dev/null", os.O_RDWR))
        for at in (0, 100, 252):
            fds = eventfds(252)
            fds.insert(at, bad)
            with self.refused("Refused"):
                self.vm.store([describe("eventfd", "run", 1, count=253)], fds)
        self.assertIntact()

    def test_a_tmpfs_file_is_memory_and_no_table(self):
        if not os.path.isdir("/dev/shm"):
            self.skipTest("no /dev/shm")
        with tempfile.TemporaryFile(dir="/dev/shm") as file:
            file.truncate(4096)
            try:
                fcntl.fcntl(file, fcntl.F_GET_SEALS)
            except OSError:
                self.skipTest("/dev/shm is no tmpfs")
            self.vm.store([describe("memory", "ram", 1)], [file.fileno()])
            self.vm.call("Remove", {"kind": "memory", "name": "ram"})
            file.write(HEADER.pack(TABLE_MAGIC, 1, 32, 126, 0, 0))
            file.flush()
            self.refuse(file.fileno(), ("table", "state"))
