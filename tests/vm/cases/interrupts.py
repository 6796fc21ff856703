# SPDX-License-Identifier: LGPL-2.1-or-later
"""Eventfds and interrupts are handed over, with those that came in between."""

import os
import sys
import time

from case import ACK, BUS_MASTER, COMMAND, EDU_BUFFER, FOREVER, MSI_VALUE, TO_RAM, TRIGGER, WITH_IRQ
from vmm import session, wait_for, wait_for_state

IN_TIME = 0.08  # seconds: a DMA of edu's takes 0.1


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


def kvm_interrupts(case):
    """A new VM takes the interrupts over; those that came in between are injected, not lost."""
    if not os.path.exists("/dev/kvm"):
        print("this kernel has no /dev/kvm")
        sys.exit(77)
    bdf = case.edu[0]
    vmm = case.vmm()
    case.cold_start(vmm)
    in_time = 0
    for generation in range(20):
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
        began = time.monotonic()
        vmm.dma(bdf, EDU_BUFFER, 0x3000, 256, TO_RAM | WITH_IRQ)
        vmm.kill()
        # Later, on a busy machine, KVM may have had it before the death.
        if time.monotonic() - began < IN_TIME:
            wait_for("an interrupt with nobody there",
                     lambda: session(case.socket)["pendingInterrupts"] == 1)
            in_time += 1
        vmm = case.vmm()
        case.restart(vmm)
        vmm.register(bdf, ACK, MSI_VALUE)
        if in_time == 4:
            break
    assert in_time == 4, f"of 20 VMMs {in_time} died within {IN_TIME} s"
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
