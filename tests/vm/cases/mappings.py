# SPDX-License-Identifier: LGPL-2.1-or-later
"""DMA mappings are handed over, whatever was under way."""

import errno

from case import BUS_MASTER, COMMAND, EDU_BUFFER, MSI, RAM, READ_WRITE, TO_RAM, TRIGGER
from vmm import Died, VmmError, ctl, wait_for, wait_for_state


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
        # So many are counted beside the calls, which do not wait for it for long.
        wait_for("all to be counted",
                 lambda: ctl(case.socket, "show", "vm")["session"]["mappings"] == count)
        view = ctl(case.socket, "show", "vm")
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
