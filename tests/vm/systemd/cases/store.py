# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd's fd store, made smaller while it is in use."""

import attacks
from client import Client, VarlinkError
from fds import describe
from service import SERVICE, drop_in, stored
from vmm import wait_for


def removed_from_a_store_that_is_too_small(case):
    """Remove says that it is done when the device is closed, also if systemd takes no new journal."""
    device = attacks.Device(case.backend, case.edu[0])
    with Client(case.socket) as client:
        client.attach("small")
        client.store([describe("device", device.bdf, 1, space="dma")], [device.fd])
        device.close()
        print(f"{stored()} descriptors are stored")
        with drop_in(SERVICE, f"[Service]\nFileDescriptorStoreMax={stored()}\n"):
            assert case.resets.count() == 0, "the device was closed"
            try:
                client.call("Remove", {"kind": "device", "name": device.bdf})
                done = True
            except VarlinkError as error:
                print(f"Remove: {error}")
                done = False
            closed = case.resets.count() > 0
            print(f"done: {done}, closed: {closed}; {client.call('Status')[0]}")
            assert closed or not done, "it is said to be removed, and systemd holds it"
        wait_for("the close of the device", lambda: case.resets.count() > 0)
        wait_for("a Status without it", lambda: "still" not in str(client.call("Status")[0]))
        client.call("Release")


# Each case, its time limit, and whether it is about devices, so that both backends count
CASES = {
    removed_from_a_store_that_is_too_small: (120, True),
}
