# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who gets what: releases, refusals, and a VMM without a daemon."""

import errno
import os

from case import BUS_MASTER, COMMAND
from client import Client, VarlinkError
from vmm import Vmm, VmmError, ctl


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
