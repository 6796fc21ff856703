# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every case has: a backend, devices, a daemon. Resets are counted where the kernel makes them."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib"))
from daemon import Daemon  # noqa: E402
from vmm import Resets, Vmm, ctl  # noqa: E402

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
