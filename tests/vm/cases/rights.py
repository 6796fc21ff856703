# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who gets what: releases, refusals, and a VMM without a daemon."""

import ctypes
import errno
import os
import signal

from case import BUS_MASTER, COMMAND
from client import Client, VarlinkError
from fds import describe, eventfd
from holder import Holder
from vmm import Vmm, VmmError, ctl

PIDFD_GETFD = 438


def release_resets(case):
    """Release closes for real: the kernel resets the device, and another VMM can have it."""
    vmm = case.vmm()
    case.cold_start(vmm)
    vmm.kill()
    assert case.resets.count() == 0
    ctl(case.socket, "release", "vm")
    assert case.resets.count() > 0, "the counter of resets counts nothing"
    vmm = case.vmm()
    assert vmm.start("other") == "new"
    case.drive(vmm)
    assert not int(vmm.config(case.edu[0], COMMAND)["value"], 16) & BUS_MASTER
    vmm.release()
    vmm.end()


def device_of_another_session(case):
    """A device that one session holds cannot be put into another."""
    holder = case.vmm()
    case.cold_start(holder)
    other = case.vmm()
    assert other.start("other") == "new"
    other.space("dma", case.backend)
    try:
        other.device("dma", case.edu[0])
        raise AssertionError("the device has a holder")
    except VmmError as error:
        assert error.errno in (errno.EBUSY, errno.EINVAL), error
        print(error)
    case.device_works(holder, 0x11)
    try:
        case.vmm().start()
        raise AssertionError("the session has a holder")
    except VmmError as error:
        assert error.errno == errno.EBUSY and str(holder.pid) in error.sentence, error
    other.release()
    holder.release()
    other.end()
    holder.end()


def fd_of(pid, *words):
    """A copy of the first descriptor of a process whose link has one of these words."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    for fd in map(int, os.listdir(f"/proc/{pid}/fd")):
        link = os.readlink(f"/proc/{pid}/fd/{fd}")
        if any(word in link for word in words):
            copy = libc.syscall(PIDFD_GETFD, pidfd, fd, 0)
            os.close(pidfd)
            assert copy >= 0, os.strerror(ctypes.get_errno())
            return copy
    raise AssertionError(f"{pid} has no {words}")


def device_of_another_user(case):
    """Who may not see a session is not told that it is what has the device; nor is a device's
    address taken by an O_PATH descriptor, which would hold nothing."""
    holder = case.vmm()
    case.cold_start(holder)
    device = fd_of(holder.pid, "[vfio-device]", "/dev/vfio/devices/")
    named = os.open(f"/proc/self/fd/{device}", os.O_PATH | os.O_CLOEXEC)
    os.chmod(os.path.dirname(case.socket), 0o755)
    os.chmod(case.socket, 0o666)
    other = Holder(case.socket, uid=1000)
    other.attach("evil")

    def refused(fd, name, *words):
        request = {"id": 7, "kind": "device", "name": name, "space": "dma",
                   "firstFileDescriptor": 0}
        try:
            other.store([request], [fd])
        except VarlinkError as error:
            sentence = error.parameters["message"]
            print(sentence)
            assert error.name == "io.vfiocpr.Session.Refused", error.name
            assert all(word in sentence for word in words), sentence
            assert "session vm" not in sentence and "uid 0" not in sentence, sentence
            return
        raise AssertionError(f"{name} was taken")

    refused(device, case.edu[0], "another user's session")
    for name in (case.edu[0], case.edu[1], "any thing"):
        refused(named, name, "O_PATH")
    case.device_works(holder, 0x12)
    other.kill()
    holder.release()
    holder.end()
    os.close(device)
    os.close(named)


def device_in_two_batches(case):
    """Of two large batches, which are taken a part in each turn, one has the device in the end."""
    holder = case.vmm()
    case.cold_start(holder)
    device, one = fd_of(holder.pid, "[vfio-device]", "/dev/vfio/devices/"), eventfd()
    holder.release()
    clients = [Client(case.socket) for _ in range(2)]
    for i, client in enumerate(clients):
        client.attach(f"batch{i}")
        first = describe("device", case.edu[0], 9999, space="dma")
        client.store([first], [device], continues=True)
        for at in range(0, 500, 250):
            part = [describe("eventfd", f"e{n}", n + 1, n - at) for n in range(at, at + 250)]
            client.store(part, [one] * 250, continues=True)
    daemon = clients[0].call("Status")[0]["pid"]
    os.kill(daemon, signal.SIGSTOP)
    for client in clients:
        client.send("io.vfiocpr.Session.Store", {"objects": []})
    os.kill(daemon, signal.SIGCONT)
    got = []
    for client in clients:
        try:
            client.receive()
            got.append(client)
        except VarlinkError as error:
            print(error.parameters["message"])
            assert error.short == "Refused", error
    assert len(got) == 1, got
    held = [session["name"] for session in clients[0].sessions().values() if session["devices"]]
    assert held == [f"batch{clients.index(got[0])}"], held
    # Who was refused can have it once it is free.
    loser = clients[1 - clients.index(got[0])]
    got[0].call("Release")
    loser.store([first], [device])
    for client in clients:
        client.close()
    loser = Client(case.socket)
    loser.call("Release", {"name": f"batch{1 - clients.index(got[0])}"})
    loser.close()
    holder.end()
    os.close(device)


def unprotected(case):
    """Without a daemon the same calls work, nothing is held, and the VMM can tell."""
    vmm = Vmm(case.socket + ".absent")
    try:
        vmm.open(vmm.socket)
        raise AssertionError("there is no daemon")
    except VmmError as error:
        assert error.errno in (errno.ENOENT, errno.ECONNREFUSED), error
    vmm.end()
    vmm = Vmm(case.socket + ".absent")
    vmm.open(vmm.socket, 1)
    assert vmm.protected().value == 0
    assert vmm.attach("vm")["start"] == "new"
    case.drive(vmm)
    vmm.config(case.edu[0], COMMAND, BUS_MASTER | 2)
    case.device_works(vmm, 0x21)
    assert vmm.blockers().value > 0
    vmm.end()


def other_kinds_are_refused(case):
    """KVM descriptors, unbound cdevs and misnamed objects are refused with their reason."""
    client = Client(case.socket)
    client.call("io.vfiocpr.Session.Attach", {"name": "hostile"})

    def refused(kind, name, fd, *words, **fields):
        request = {"id": 7, "kind": kind, "name": name, "firstFileDescriptor": 0, **fields}
        try:
            client.call("io.vfiocpr.Session.Store", {"objects": [request]}, [fd])
        except VarlinkError as error:
            print(kind, error.parameters["message"])
            assert error.name == "io.vfiocpr.Session.Refused", error.name
            for word in words:
                assert word in error.parameters["message"], error.parameters["message"]
            return
        raise AssertionError(f"{kind} {name} was taken")

    bdf = case.edu[2]
    if os.path.exists("/dev/kvm"):
        kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
        refused("device", bdf, kvm, "KVM", "EBUSY", space="dma")
        import fcntl
        vm = fcntl.ioctl(kvm, 0xAE01, 0)  # KVM_CREATE_VM
        refused("eventfd", "x", vm, "KVM", "EBUSY")
        os.close(vm)
        os.close(kvm)
    else:
        print("no /dev/kvm on this kernel: KVM descriptors are refused on the other one")
    container = os.open("/dev/vfio/vfio", os.O_RDWR | os.O_CLOEXEC)
    refused("iommufd", "iommufd", container, "a VFIO container")
    refused("device", bdf, container, "a VFIO container", space="dma")
    os.close(container)
    if case.backend == "iommufd":
        cdev = os.listdir(f"/sys/bus/pci/devices/{bdf}/vfio-dev")[0]
        fd = os.open(f"/dev/vfio/devices/{cdev}", os.O_RDWR | os.O_CLOEXEC)
        refused("device", bdf, fd, "not bound", space="dma")
        refused("device", case.edu[3], fd, bdf, space="dma")
        os.close(fd)
        iommufd = os.open("/dev/iommu", os.O_RDWR | os.O_CLOEXEC)
        refused("container", "dma", iommufd, "an iommufd")
        os.close(iommufd)
    else:
        group = os.path.basename(os.readlink(f"/sys/bus/pci/devices/{bdf}/iommu_group"))
        fd = os.open(f"/dev/vfio/{group}", os.O_RDWR | os.O_CLOEXEC)
        refused("device", bdf, fd, "a VFIO group", space="dma")
        os.close(fd)
    client.call("io.vfiocpr.Session.Release", {})
    client.close()
