# SPDX-License-Identifier: LGPL-2.1-or-later
"""Users who have devices of their own against those who have others, with real descriptors of VFIO."""

import contextlib
import errno
import fcntl
import os
import struct
import time

from client import Client, VarlinkError
from daemon import Daemon
from fds import describe
from holder import Holder

ATTACKER, VICTIM = 1000, 1001
SET_IOMMU, SET_CONTAINER, GET_DEVICE_FD = 0x3B66, 0x3B68, 0x3B6A
DEVICE_RESET, BIND_IOMMUFD = 0x3B6F, 0x3B76
TYPE1V2 = 3


class Device:
    """Opened as a VMM does it: container and group, or iommufd and cdev."""

    def __init__(self, backend, bdf):
        self.bdf, self.others = bdf, []
        sysfs = f"/sys/bus/pci/devices/{bdf}"
        if backend == "iommufd":
            cdev = os.listdir(sysfs + "/vfio-dev")[0]
            self.fd = os.open(f"/dev/vfio/devices/{cdev}", os.O_RDWR | os.O_CLOEXEC)
            iommufd = os.open("/dev/iommu", os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(self.fd, BIND_IOMMUFD, bytearray(struct.pack("<IIiI", 16, 0, iommufd, 0)))
            self.others = [("iommufd", "iommufd", iommufd)]
        else:
            number = os.path.basename(os.readlink(sysfs + "/iommu_group"))
            container = os.open("/dev/vfio/vfio", os.O_RDWR | os.O_CLOEXEC)
            self.group = os.open(f"/dev/vfio/{number}", os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(self.group, SET_CONTAINER, struct.pack("<i", container))
            fcntl.ioctl(container, SET_IOMMU, TYPE1V2)
            self.fd = self.open_again()
            self.others = [("container", "dma", container), ("group", number, self.group)]

    def open_again(self):
        # Of a bytearray, ioctl() returns the result and not the buffer.
        return fcntl.ioctl(self.group, GET_DEVICE_FD, bytearray(self.bdf.encode() + b"\0"))

    def close(self):
        for fd in (self.fd, *(fd for _, _, fd in self.others)):
            os.close(fd)


def refusal(user, kind, name, fd):
    """Why it is refused; None: it is stored."""
    fields = {"space": "dma"} if kind in ("device", "group") else {}
    try:
        user.store([describe(kind, name, 1 + len(name), **fields)], [fd])
    except VarlinkError as error:
        print(f"{kind} {name}: {error.short}: {error.parameters['message']}")
        return error.parameters["message"]
    return None


class Users:
    """A daemon that every user may use, an attacker and a victim, each with a session."""

    def __init__(self):
        self.daemon = Daemon("--mode", "0666")
        self.attacker, self.victim = Holder(self.daemon, ATTACKER), Holder(self.daemon, VICTIM)
        self.attacker.attach("evil")
        self.victim.attach("secret-vm")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.attacker.kill()
        self.victim.kill()
        if not exception[0]:
            with Client(self.daemon) as client:
                for uid, name in client.sessions():
                    with contextlib.suppress(VarlinkError):  # what held nothing is gone already
                        client.call("Release", {"name": name, "uid": uid})
            self.daemon.stop()


def attack_by_the_name_of_a_device(case):
    """An O_PATH descriptor of a device, which is not open, squats no address and is not held."""
    own, bdf = Device(case.backend, case.edu[1]), case.edu[0]
    with Users() as users:
        for kind, name, fd in (("device", own.bdf, own.fd), *own.others):
            path = os.open(f"/proc/self/fd/{fd}", os.O_PATH)
            assert refusal(users.attacker, kind, name, path), f"the name of a {kind} is held"
            if kind == "device":
                assert refusal(users.attacker, kind, bdf, path), "an address is squatted"
                assert refusal(users.attacker, kind, "any thing", path)
            os.close(path)
        theirs = Device(case.backend, bdf)
        assert refusal(users.victim, "device", bdf, theirs.fd) is None
        theirs.close()
    own.close()


def attack_by_anothers_address(case):
    """A device is held under its own address, where the kernel tells which that is."""
    own, bdf = Device(case.backend, case.edu[1]), case.edu[0]
    with open(f"/proc/self/fdinfo/{own.fd}", encoding="ascii") as info:
        told = case.backend == "iommufd" or "vfio-device-syspath" in info.read()
    if not told:
        print("this kernel does not tell which device a descriptor is of")
        own.close()
        return
    with Users() as users:
        assert refusal(users.attacker, "device", bdf, own.fd), "an address is squatted"
        assert refusal(users.attacker, "device", own.bdf, own.fd) is None
        theirs = Device(case.backend, bdf)
        assert refusal(users.victim, "device", bdf, theirs.fd) is None
        theirs.close()
    own.close()


def attack_by_upper_case(case):
    """A device is one, however its address is written, and its holder stays a secret of another's."""
    bdf = next((bdf for bdf in case.edu if bdf != bdf.upper()), case.edu[0])
    device = Device(case.backend, bdf)
    with Users() as users:
        assert refusal(users.victim, "device", bdf, device.fd) is None
        for name in (bdf, bdf.upper(), bdf.upper().lower(), bdf.swapcase()):
            said = refusal(users.attacker, "device", name, device.fd)
            assert said, "one device is in two sessions"
            assert "secret" not in said and str(VICTIM) not in said, said
        with Client(users.daemon) as client:
            client.attach("roots")
            said = refusal(client, "device", bdf.upper(), device.fd)
            assert "secret-vm" in said, "root is to be told whose it is"
    device.close()


def hold_the_group(device, until):
    """Takes the locks of the device, and of its group, again and again."""
    while time.monotonic() < until:
        try:
            fcntl.ioctl(device.fd, DEVICE_RESET)
            if hasattr(device, "group"):
                os.close(device.open_again())
        except OSError as error:
            assert error.errno in (errno.ENOTTY, errno.EAGAIN, errno.EINVAL, errno.EBUSY), error


def fork(work, *arguments):
    pid, status = os.fork(), 1
    if pid == 0:
        try:
            work(*arguments)
            status = 0
        finally:
            os._exit(status)
    return pid


def waits_for_status(users, until, meanwhile):
    """How long Status takes, in milliseconds, sorted."""
    waits = []
    while time.monotonic() < until:
        meanwhile()
        start = time.monotonic()
        with Client(users.daemon) as client:
            client.call("Status")
        waits.append((time.monotonic() - start) * 1e3)
    return sorted(waits)


def attack_by_locks_of_the_driver(case):
    """A user who keeps resetting its device, and stores it meanwhile, keeps nobody waiting."""
    device = Device(case.backend, case.edu[1])
    with Users() as users:
        start = time.monotonic()
        pids = [fork(hold_the_group, device, start + 20) for _ in range(2)]

        def store():
            objects = [describe("device", device.bdf, 5, space="dma")]
            users.attacker.start("store", 0, objects, fds=[device.fd])

        def store_and_wait():
            users.attacker.answer()
            store()

        without = waits_for_status(users, start + 8, lambda: None)
        store()
        beside = waits_for_status(users, start + 16, store_and_wait)
        for pid in pids:
            assert os.waitpid(pid, 0)[1] == 0
        users.attacker.answer()
        for what, waits in (("the device is reset", without), ("it is stored as well", beside)):
            median = waits[len(waits) // 2]
            print(f"while {what}: Status takes {median:.1f} ms, at the worst {waits[-1]:.1f} ms")
    device.close()


def attack_by_a_copy_of_a_removed_device(case):
    """Remove tells no more than is so: the device is not reset while its user has a copy of it."""
    device = Device(case.backend, case.edu[1])
    with Users() as users:
        assert refusal(users.attacker, "device", device.bdf, device.fd) is None
        users.attacker.call("Remove", {"kind": "device", "name": device.bdf})
        assert case.resets.count() == 0, "a device that is open was reset"
        device.close()
        assert case.resets.count() > 0, "somebody has the device still"
