# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tests on a real kernel with real VFIO: cases.py NAME BACKEND runs one, --list lists them.

Each starts a daemon of its own, VMMs of its own on edu devices, and looks at the end whether the
daemon leaked anything. Resets are counted where the kernel makes them.
"""

import errno
import json
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from client import Client, VarlinkError  # noqa: E402
from daemon import DAEMON, Daemon  # noqa: E402
from holder import NOBODY  # noqa: E402
from vmm import BUILD, Died, Resets, Vmm, VmmError, ctl, session, wait_for, wait_for_state  # noqa: E402

RAM = 16 << 20
READ_WRITE = 3
MSI = 1
TRIGGER = 0
EDU_BUFFER = 0x40000
EDU_BYTES = 2048  # QEMU 7.2 aborts at a DMA of the buffer's whole 4096
TO_RAM = 2
WITH_IRQ = 4
ACK = 0x64
MSI_VALUE = 0x100
COMMAND = 4  # PCI_COMMAND
BUS_MASTER = 4
FOREVER = -1  # of poll(2): the harness cuts off what hangs


def edu_devices():
    found = []
    for bdf in sorted(os.listdir("/sys/bus/pci/devices")):
        with open(f"/sys/bus/pci/devices/{bdf}/device", encoding="ascii") as file:
            if file.read().strip() == "0x11e8":
                found.append(bdf)
    return found


class Case:
    """What every case has: a backend, devices, a daemon."""

    def __init__(self, backend):
        self.backend = backend
        self.edu = edu_devices()
        self.daemon = Daemon()
        self.socket = self.daemon.path
        self.resets = Resets()

    def vmm(self, killpoint=None):
        return Vmm(self.socket, killpoint)

    def drive(self, vmm, bdf=None, space="dma"):
        """Cold start and restart alike: a space, a device, 16 MiB of RAM at 0, one interrupt."""
        bdf = bdf or self.edu[0]
        vmm.space(space, self.backend)
        vmm.device(space, bdf)
        vmm.memory("ram", RAM)
        vmm.map(space, 0, "ram", 0, RAM, READ_WRITE)
        vmm.irqs(bdf, MSI, TRIGGER, 0, 1)
        vmm.commit()

    def cold_start(self, vmm, bdf=None):
        bdf = bdf or self.edu[0]
        assert vmm.start() == "new"
        self.drive(vmm, bdf)
        command = int(vmm.config(bdf, COMMAND)["value"], 16)
        vmm.config(bdf, COMMAND, command | BUS_MASTER | 2)

    def restart(self, vmm, bdf=None):
        assert vmm.start() == "claimed"
        self.drive(vmm, bdf)
        self.check_not_reset(vmm, bdf)

    def check_not_reset(self, vmm, bdf=None):
        """The last close clears bus mastering and MSI; a device opened again has neither."""
        bdf = bdf or self.edu[0]
        assert int(vmm.config(bdf, COMMAND)["value"], 16) & BUS_MASTER, f"{bdf} was reset"
        assert self.resets.count() == 0, f"a device was closed or reset, perhaps {bdf}"

    def device_works(self, vmm, byte, bdf=None):
        """RAM to device and back to another place, with an interrupt."""
        bdf = bdf or self.edu[0]
        vmm.fill("ram", 0x1000, EDU_BYTES, byte)
        vmm.fill("ram", 0x100000, EDU_BYTES, 0)
        vmm.dma(bdf, 0x1000, EDU_BUFFER, EDU_BYTES, 0)
        vmm.dma_wait(bdf)
        vmm.dma(bdf, EDU_BUFFER, 0x100000, EDU_BYTES, TO_RAM | WITH_IRQ)
        vmm.dma_wait(bdf)
        assert vmm.wait(0, FOREVER).value == 1, "the DMA's interrupt did not come"
        vmm.register(bdf, ACK, MSI_VALUE)
        assert vmm.check("ram", 0x100000, EDU_BYTES, byte).value == EDU_BYTES, "wrong data"

    def finish(self):
        """Releases what is left, and stops the daemon, which tells its leaks."""
        for one in ctl(self.socket, "list"):
            ctl(self.socket, "release", "--force", one["name"])
        self.daemon.stop()
        self.resets.end()


def kill_100_times(case):
    """A driver killed 100 times with DMA in flight loses no byte and no interrupt."""
    bdf = case.edu[0]
    for generation in range(101):
        words = ["--session", "vm", "--backend", case.backend, "--socket", case.socket,
                 "--rounds", "1", bdf]
        if generation < 100:
            words.insert(0, "--die-in-flight")
        run = subprocess.run([os.path.join(BUILD, "edu"), *words], stdout=subprocess.PIPE, text=True)
        print(f"{generation}:", " | ".join(run.stdout.splitlines()))
        assert run.returncode == (-signal.SIGKILL if generation < 100 else 0), run.returncode
        start = "new" if generation == 0 else "claimed"
        assert f"start={start}" in run.stdout
        if generation > 0:
            assert "landed=yes" in run.stdout and "reset seen=no" in run.stdout
            assert "interrupt-pending=1" in run.stdout
        view = session(case.socket)
        assert view["objects"]["device"] == 1 and view["mappings"] == 1, view
    assert case.resets.count() == 0, "a device was closed or reset"


def view_is_right(case):
    """The daemon's own view is right at each step of a session's life."""
    bdf = case.edu[0]
    assert ctl(case.socket, "list") == []
    first = case.vmm()
    assert first.start() == "new"
    view = session(case.socket)
    assert (view["state"], view["holder"]["pid"], view["uid"]) == ("active", first.pid, 0)
    assert view["objects"] == {} and view["mappings"] == 0
    case.drive(first, bdf)
    first.config(bdf, COMMAND, BUS_MASTER | 2)
    view = session(case.socket)
    wanted = {"device": 1, "memory": 1, "eventfd": 1, "table": 1}
    wanted.update({"container": 1, "group": 1} if case.backend == "type1" else {"iommufd": 1})
    assert view["objects"] == wanted and view["devices"] == [bdf], view
    assert view["mappings"] == 1 and view["pendingInterrupts"] == 0
    first.fill("ram", 0x1000, 256, 0xab)
    first.dma(bdf, 0x1000, EDU_BUFFER, 256, 0)
    first.dma_wait(bdf)
    first.dma(bdf, EDU_BUFFER, 0x200000, 256, TO_RAM | WITH_IRQ)
    first.kill()
    wait_for("the interrupt", lambda: session(case.socket)["pendingInterrupts"] == 1)
    wait_for_state(case.socket, "orphaned")
    view = session(case.socket)
    assert view["holder"] is None and view["objects"] == wanted and view["mappings"] == 1
    assert view["devices"] == [bdf]
    shown = ctl(case.socket, "show", "vm")
    assert [one["count"] for one in shown["pending"]] == [1]
    assert shown["spaces"][0]["vaddr"] == "invalid", shown["spaces"]
    assert shown["spaces"][0]["bytes"] == RAM and "warning" not in shown["spaces"][0]
    second = case.vmm()
    assert second.start() == "claimed"
    assert session(case.socket)["state"] == "restoring"
    assert session(case.socket)["pendingInterrupts"] == 1, "looking consumed it"
    case.drive(second, bdf)
    assert second.check("ram", 0x200000, 256, 0xab).value == 256
    assert session(case.socket)["state"] == "active"
    assert second.wait(0, 0).value == 1
    assert session(case.socket)["pendingInterrupts"] == 0
    second.register(bdf, ACK, MSI_VALUE)
    case.device_works(second, 0x5a)
    second.release()
    assert session(case.socket) is None
    second.end()


def successor_killed_at_each_step(case):
    """A successor may die at any kernel call of its restart; the next one goes on."""
    first = case.vmm()
    case.cold_start(first)
    first.map("dma", RAM, "ram", 0, 4096, READ_WRITE, 8)
    case.device_works(first, 1)
    first.kill()
    step, moments = 0, ("before", "after")
    while True:
        died = False
        for moment in moments:
            step_vmm = case.vmm(f"any:{step + 1}:{moment}")
            try:
                assert step_vmm.start() == "claimed"
                case.drive(step_vmm)
            except Died:
                died = True
            step_vmm.kill()
        if not died:
            break
        step += 1
        if step % 10 == 0:
            last = case.vmm()
            case.restart(last)
            case.device_works(last, step & 0xff)
            assert last.mappings("dma").value == 9
            last.kill()
    print(f"killed at {step} steps, before and after each")
    assert step > 8, "a restart has more steps than that"
    last = case.vmm()
    case.restart(last)
    case.device_works(last, 0x77)
    assert last.mappings("dma").value == 9
    last.release()
    last.end()


def killed_around(case, what, moment):
    """Dies around the ioctl of a map or unmap; returns the successor and whether it is mapped."""
    first = case.vmm(f"{what}:{2 if what == 'map' else 1}:{moment}")
    case.cold_start(first)
    try:
        if what == "map":
            first.map("dma", RAM, "ram", 0, 0x10000, READ_WRITE)
        else:
            first.kill()
            first = case.vmm(f"unmap:1:{moment}")
            case.restart(first)
            first.do("map", "dma", RAM, "ram", 0, 0x10000, READ_WRITE)
            first.unmap("dma", RAM, 0x10000)
        raise AssertionError("it should have died")
    except Died:
        pass
    wait_for_state(case.socket, "orphaned")
    shown = ctl(case.socket, "show", "vm")
    assert shown["spaces"][0]["mappings"] == 2, "the intent is not in the table"
    second = case.vmm()
    case.restart(second)
    return second, second.mappings("dma").value == 2


# name: (the call and the moment of its ioctl that the VMM dies around, whether its successor has the
# mapping, the place in RAM that it then maps, what is to be seen)
KILLED_BETWEEN = {
    "map_intent_and_ioctl": (
        "map", "before", False, 0,
        "An intended map that the kernel never saw is forgotten, and can be made."),
    "map_ioctl_and_outcome": (
        "map", "after", True, 0,
        "A map whose end the VMM did not live to see is kept, and is no other than asked for."),
    "unmap_intent_and_ioctl": (
        "unmap", "before", False, 0x20000,
        "An intended unmap that the kernel never saw is finished by the successor."),
    "unmap_ioctl_and_outcome": (
        "unmap", "after", False, 0x20000,
        "An unmap whose end the VMM did not live to see stays done."),
}


def killed_between(what, moment, is_mapped, offset, sentence):
    def run(case):
        vmm, mapped = killed_around(case, what, moment)
        assert mapped == is_mapped
        vmm.map("dma", RAM, "ram", offset, 0x10000, READ_WRITE)
        assert vmm.mappings("dma").value == 2
        case.device_works(vmm, 0x31)
        vmm.unmap("dma", RAM, 0x10000)
        vmm.release()
        vmm.end()

    run.__doc__ = sentence
    return run


globals().update({f"killed_between_{name}": killed_between(*row)
                  for name, row in KILLED_BETWEEN.items()})


def two_spaces(case):
    """Two address spaces in one session keep their own devices and mappings."""
    first_bdf, second_bdf = case.edu[0], case.edu[1]

    def drive(vmm):
        for space, bdf, offset in (("one", first_bdf, 0), ("two", second_bdf, RAM // 2)):
            vmm.space(space, case.backend)
            vmm.device(space, bdf)
            vmm.memory("ram", RAM)
            # The same iova means another place in each.
            vmm.map(space, 0, "ram", offset, RAM // 2, READ_WRITE)
            vmm.irqs(bdf, MSI, TRIGGER, 0, 1)
        vmm.commit()

    vmm = case.vmm()
    assert vmm.start() == "new"
    drive(vmm)
    for bdf in (first_bdf, second_bdf):
        vmm.config(bdf, COMMAND, BUS_MASTER | 2)
    for generation in range(1, 4):
        vmm.fill("ram", 0x1000, 256, generation)
        vmm.fill("ram", RAM // 2 + 0x1000, 256, 0x80 + generation)
        for bdf in (first_bdf, second_bdf):
            vmm.dma(bdf, 0x1000, EDU_BUFFER, 256, 0)
        for bdf in (first_bdf, second_bdf):
            vmm.dma_wait(bdf)
            vmm.dma(bdf, EDU_BUFFER, 0x3000, 256, TO_RAM)
        vmm.kill()
        wait_for_state(case.socket, "orphaned")
        spaces = ctl(case.socket, "show", "vm")["spaces"]
        assert [one["mappings"] for one in spaces] == [1, 1]
        assert [one["vaddr"] for one in spaces] == ["invalid", "invalid"], spaces
        vmm = case.vmm()
        assert vmm.start() == "claimed"
        drive(vmm)
        for bdf in (first_bdf, second_bdf):
            case.check_not_reset(vmm, bdf)
            vmm.dma_wait(bdf)
        assert vmm.check("ram", 0x3000, 256, generation).value == 256
        assert vmm.check("ram", RAM // 2 + 0x3000, 256, 0x80 + generation).value == 256
    vmm.release()
    vmm.end()


def many_mappings(case):
    """65,535 mappings are claimed and restored, also after a successor that died half way."""
    count, page = 65535, 4096
    vmm = case.vmm()
    assert vmm.start() == "new"
    vmm.space("dma", case.backend)
    vmm.device("dma", case.edu[0])
    vmm.memory("ram", RAM)
    print("mapped", vmm.map("dma", 0, "ram", 0, page, READ_WRITE, count))
    vmm.irqs(case.edu[0], MSI, TRIGGER, 0, 1)
    vmm.config(case.edu[0], COMMAND, BUS_MASTER | 2)
    vmm.commit()
    if case.backend == "type1":
        try:
            vmm.map("dma", count * page, "ram", 0, page, READ_WRITE)
            raise AssertionError("a container takes 65,535 mappings")
        except VmmError as error:
            assert error.errno == errno.ENOSPC, error
    case.device_works(vmm, 0x41)
    vmm.kill()
    killpoint = "restore:30000:after" if case.backend == "type1" else "change-process:1:after"
    for point in (killpoint, None):
        wait_for_state(case.socket, "orphaned")
        view = ctl(case.socket, "show", "vm")
        assert view["session"]["mappings"] == count
        assert view["spaces"][0]["vaddr"] == "invalid" and "warning" not in view["spaces"][0], view
        vmm = case.vmm(point)
        assert vmm.start() == "claimed"
        vmm.space("dma", case.backend)
        vmm.device("dma", case.edu[0])
        vmm.memory("ram", RAM)
        vmm.irqs(case.edu[0], MSI, TRIGGER, 0, 1)
        try:
            vmm.commit()
            assert point is None, "it should have died"
        except Died:
            assert point is not None
    assert vmm.mappings("dma").value == count
    case.check_not_reset(vmm)
    case.device_works(vmm, 0x42)
    vmm.release()
    vmm.end()


def many_eventfds(case):
    """2,048 eventfds are stored, and handed back in order with their counts."""
    vmm = case.vmm()
    assert vmm.start() == "new"
    assert vmm.eventfds("vectors", 0, 2048)["restored"] == "0"
    vmm.number_eventfds(0, 2048)
    vmm.kill()
    wait_for_state(case.socket, "orphaned")
    view = session(case.socket)
    assert view["objects"] == {"eventfd": 2048}
    assert view["pendingInterrupts"] == 2048 * 2049 // 2
    vmm = case.vmm()
    assert vmm.start() == "claimed"
    assert vmm.eventfds("vectors", 0, 2048)["restored"] == "2048"
    assert vmm.check_eventfds(0, 2048).value == 2048
    vmm.commit()
    vmm.release()
    vmm.end()


def many_objects(case):
    """300 memories with long names are handed back in answers of many pieces."""
    names = [f"{i:0220}" for i in range(300)]
    vmm = case.vmm()
    assert vmm.start() == "new"
    for name in names:
        assert vmm.memory(name, 4096, 0)["restored"] == "no"
        vmm.fill(name, 0, 16, int(name) % 200)
    vmm.kill()
    wait_for_state(case.socket, "orphaned")
    vmm = case.vmm()
    assert vmm.start() == "claimed"
    for name in names:
        assert vmm.memory(name, 4096, 0)["restored"] == "yes"
        assert vmm.check(name, 0, 16, int(name) % 200).value == 16
    vmm.commit()
    vmm.release()
    vmm.end()


def bar_mapping(case):
    """A BAR mapped for peer-to-peer DMA is restored with the rest (type1), or refused (iommufd)."""
    bdf, peer = case.edu[0], case.edu[1]
    vmm = case.vmm()
    case.cold_start(vmm)
    if case.backend == "iommufd":
        vmm.device("dma", peer)
        try:
            vmm.map_bar("dma", 0x8000000, peer, 0, 0x1000, READ_WRITE)
            raise AssertionError("it could not be handed over")
        except VmmError as error:
            assert error.errno == errno.EOPNOTSUPP, error
        vmm.release()
        vmm.end()
        return
    vmm.device("dma", peer)
    vmm.config(peer, COMMAND, BUS_MASTER | 2)
    vmm.map_bar("dma", 0x8000000, peer, 0, 0x100000, READ_WRITE)
    for _ in range(3):
        vmm.kill()
        wait_for_state(case.socket, "orphaned")
        space = ctl(case.socket, "show", "vm")["spaces"][0]
        assert space["mappings"] == 2 and "warning" not in space, space
        vmm = case.vmm()
        assert vmm.start() == "claimed"
        case.drive(vmm)
        vmm.device("dma", peer)
        vmm.map_bar("dma", 0x8000000, peer, 0, 0x100000, READ_WRITE)
        assert vmm.mappings("dma").value == 2
        case.device_works(vmm, 0x66)
    vmm.release()
    vmm.end()


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


def snapshot_tells_a_reset(case):
    """The snapshot of the configuration is alike after a hand-over, and differs after a reset."""
    vmm = case.vmm()
    case.cold_start(vmm)
    vmm.snapshot(case.edu[0])
    vmm.kill()
    vmm = case.vmm()
    case.restart(vmm)
    assert vmm.compare(case.edu[0])["difference"] == "-1"
    vmm.config(case.edu[0], COMMAND, 2)
    assert vmm.compare(case.edu[0])["difference"] == str(COMMAND)
    vmm.release()
    vmm.end()


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


def kvm_interrupts(case):
    """A new VM takes the interrupts over; those that came in between are injected, not lost."""
    if not os.path.exists("/dev/kvm"):
        print("this kernel has no /dev/kvm")
        sys.exit(77)
    bdf = case.edu[0]
    vmm = case.vmm()
    case.cold_start(vmm)
    for generation in range(4):
        vmm.kvm()
        vmm.kvm_device(bdf)
        vmm.kvm_device(bdf)  # repeating it is success
        vmm.irqfd(0, 5)
        vmm.fill("ram", 0x1000, 256, generation)
        vmm.dma(bdf, 0x1000, EDU_BUFFER, 256, 0)
        vmm.dma_wait(bdf)
        vmm.dma(bdf, EDU_BUFFER, 0x3000, 256, TO_RAM | WITH_IRQ)
        vmm.dma_wait(bdf)
        vmm.register(bdf, ACK, MSI_VALUE)
        # KVM has consumed it; nobody else has.
        wait_for("KVM to take the interrupt", lambda: session(case.socket)["pendingInterrupts"] == 0)
        vmm.dma(bdf, EDU_BUFFER, 0x3000, 256, TO_RAM | WITH_IRQ)
        vmm.kill()
        wait_for("an interrupt with nobody there",
                 lambda: session(case.socket)["pendingInterrupts"] == 1)
        vmm = case.vmm()
        case.restart(vmm)
        vmm.register(bdf, ACK, MSI_VALUE)
    vmm.kvm()
    vmm.irqfd(0, 5)
    assert vmm.kick().value == 1
    wait_for("KVM to take the kick", lambda: session(case.socket)["pendingInterrupts"] == 0)
    vmm.irqfd(0, 5, "deassign")
    vmm.release()
    vmm.end()


def intx(case):
    """INTx is handed over masked or not, and the kick unmasks what died between interrupt and EOI."""
    bdf, raise_register = case.edu[0], 0x60

    def drive(vmm):
        vmm.space("dma", case.backend)
        vmm.device("dma", bdf)
        vmm.irqs(bdf, 0, TRIGGER, 0, 1)
        vmm.commit()

    vmm = case.vmm()
    assert vmm.start() == "new"
    drive(vmm)
    vmm.config(bdf, COMMAND, BUS_MASTER | 2)
    vmm.register(bdf, raise_register, 1)
    wait_for("the interrupt", lambda: session(case.socket)["pendingInterrupts"] == 1)
    vmm.register(bdf, ACK, 1)
    vmm.kill()  # the handler has masked INTx, and nobody has unmasked it
    vmm = case.vmm()
    assert vmm.start() == "claimed"
    drive(vmm)
    assert vmm.wait(0, 0).value == 1
    vmm.register(bdf, raise_register, 1)
    assert vmm.wait(0, 300).value == 0, "it was not masked: this proves nothing"
    assert vmm.kick().value == 1
    assert vmm.wait(0, FOREVER).value == 2, "the kick, and the interrupt that was masked"
    vmm.register(bdf, ACK, 1)
    vmm.release()
    vmm.end()


def daemon_by_hand_dies(case):
    """With no fd store the daemon's death loses its copy; a living VMM gives it all again."""
    vmm = case.vmm()
    case.cold_start(vmm)
    assert vmm.event(0)["event"] == "none"
    path = case.daemon.path
    case.daemon.process.kill()
    case.daemon.process.wait()
    wait_for("the VMM to miss it", lambda: vmm.event(FOREVER)["event"] == "disconnected")
    case.device_works(vmm, 0x51)
    with open(os.path.join(case.daemon.directory, "log"), "ab") as log:
        case.daemon.process = subprocess.Popen([DAEMON, "--socket", path], stderr=log)
    case.daemon.pid = case.daemon.process.pid
    wait_for("the VMM to notice", lambda: vmm.event(FOREVER)["event"] == "connected")
    view = session(case.socket)
    assert view["holder"]["pid"] == vmm.pid and view["mappings"] == 1, view
    case.device_works(vmm, 0x52)
    vmm.kill()
    vmm = case.vmm()
    case.restart(vmm)
    case.device_works(vmm, 0x53)
    assert vmm.event(0)["event"] == "none"
    ctl(case.socket, "release", "--force", "vm")
    wait_for("the VMM to be told", lambda: vmm.event(FOREVER)["event"] == "released")
    vmm.end()


def daemon_check(case):
    """vfio-cprctl check says that this machine is fit, and what an unfit device needs."""
    findings = ctl(case.socket, "check", case.edu[0])
    assert all(one["status"] != "blocker" for one in findings
               if one["subject"] == case.edu[0]), findings
    nvme = [bdf for bdf in os.listdir("/sys/bus/pci/devices")
            if open(f"/sys/bus/pci/devices/{bdf}/class", encoding="ascii").read()
            .startswith("0x0108")][0]
    findings = ctl(case.socket, "check", nvme, status=1)
    blocker = [one for one in findings if one["subject"] == nvme and one["status"] == "blocker"]
    assert blocker and all(one["remedy"] for one in blocker), findings


def finding(case, check, *words, status=1):
    """That one of vfio-cprctl check's findings."""
    findings = ctl(case.socket, "check", *words, status=status)
    return next(one for one in findings if one["check"] == check)


def check_names_the_holder(case):
    """vfio-cprctl check says who holds a device, and what an unbind of it waits for."""
    bdf, driver = case.edu[0], "/sys/bus/pci/drivers/vfio-pci"
    assert finding(case, "device-holder", bdf, status=0)["status"] == "ok"
    vmm = case.vmm()
    case.cold_start(vmm)
    held = finding(case, "device-holder", bdf)
    assert held["status"] == "blocker" and "session vm of uid 0 (active" in held["detail"], held
    vmm.kill()
    wait_for_state(case.socket, "orphaned")
    held = finding(case, "device-holder", bdf)
    assert held["status"] == "blocker" and "(orphaned" in held["detail"], held
    assert "vfio-cprctl release vm" in held["remedy"], held

    unbind = subprocess.Popen(["sh", "-c", f"echo {bdf} >{driver}/unbind"])
    wait_for("the driver to go", lambda: not os.path.exists(f"/sys/bus/pci/devices/{bdf}/driver"))
    bound = finding(case, "device-driver", bdf)
    assert "waits for session vm" in bound["detail"], bound
    assert "vfio-cprctl release vm" in bound["remedy"], bound
    assert unbind.poll() is None
    ctl(case.socket, "release", "--yes", "vm")
    assert unbind.wait() == 0
    assert "bound to no driver" in finding(case, "device-driver", bdf)["detail"]
    with open(f"{driver}/bind", "w", encoding="ascii") as file:
        file.write(bdf)
    assert finding(case, "device-holder", bdf, status=0)["status"] == "ok"


def check_asks_for_whom(case):
    """vfio-cprctl check tells whether another user may open the nodes, and opens none."""
    bdf = case.edu[0]
    before = case.resets.count()
    allowed = ctl(case.socket, "check", "--user", "root", bdf)
    theirs = [one for one in allowed if one["check"] in ("access", "device-access")]
    assert len(theirs) >= 3 and all(one["status"] == "ok" for one in theirs), theirs
    refused = ctl(case.socket, "check", "--user", "nobody", bdf, status=1)
    theirs = [one for one in refused if one["check"] == "device-access"]
    assert theirs and all(one["status"] == "blocker" and "nobody may not open" in one["detail"]
                          for one in theirs), theirs
    assert case.resets.count() == before

    # And nobody's own view: what it may not open is unknown, and no yes.
    run = subprocess.run(
        [os.path.join(BUILD, "vfio-cprctl"), "--socket", case.socket, "--json", "check", bdf],
        stdout=subprocess.PIPE, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/")
    findings = json.loads(run.stdout)
    assert run.returncode == 1, findings
    assert not [one for one in findings if one["status"] == "blocker"], findings
    assert {one["status"] for one in findings if one["check"] == "device-access"} == {"unknown"}


CASES = {name: function for name, function in list(globals().items())
         if callable(function) and getattr(function, "__doc__", None)
         and function.__module__ == __name__ and not isinstance(function, type)
         and name not in ("killed_around", "edu_devices", "finding")}


SECONDS = {"kill_100_times": 600, "successor_killed_at_each_step": 400, "many_mappings": 300}


def print_list(backends):
    """The test VM's list: each case for each backend."""
    for backend in backends:
        for name in CASES:
            print(f"{name.replace('_', '-')}-{backend}", SECONDS.get(name, 120),
                  f"env BUILD={BUILD} python3 /tests/vm/cases.py {name} {backend}")


def main():
    if sys.argv[1] == "--list":
        print_list(sys.argv[2:])
        return
    name, backend = sys.argv[1:3]
    case = Case(backend)
    print(CASES[name].__doc__)
    try:
        CASES[name](case)
        case.finish()
    except Exception:
        sys.stdout.flush()
        print(case.daemon.log())
        raise


if __name__ == "__main__":
    main()
