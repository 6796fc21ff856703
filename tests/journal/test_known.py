# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the daemon knows of a session besides what it holds, and what its log tells, over its own
death."""

import contextlib
import os
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from client import Client, VarlinkError
from fds import describe, eventfd, eventfds, make_table, track
from holder import unit
from journaltest import JournalTest, copy_of, planted
from patience import eventually

VM_UNIT = f"vfio-cpr-{os.getpid()}-vm.service"


class Known(JournalTest):
    """What is known of a session besides what it holds."""

    def test_the_unit_of_an_orphan_and_of_a_holder_is_known_after_a_restart(self):
        with contextlib.ExitStack() as stack:
            add = stack.enter_context(unit(VM_UNIT))
            if not add:
                self.skipTest("there is no cgroup2 in which this user may make groups")
            vms = {}
            for name in ("living", "orphan", "late"):
                vms[name] = self.vm()
                stack.callback(vms[name].kill)
                add(vms[name].pid)
                self.assertEqual(vms[name].attach(name)["start"], "new")
                vms[name].store([describe("eventfd", "e", 1)], [eventfd()])

            def units():
                return {name: s["unit"] for name, s in self.sessions().items()}

            known = dict.fromkeys(vms, VM_UNIT)
            self.assertTrue(eventually(lambda: units() == known))
            vms["orphan"].kill()
            self.assertTrue(eventually(lambda: self.sessions()["orphan"]["state"] == "orphaned"))
            for _ in range(2):
                # One dies while no daemon is there to see it.
                self.daemon.kill()
                vms["late"].kill()
                self.daemon.start()
                self.daemon.wait_ready()
                self.assertEqual(units(), known)

    def test_a_holder_whose_unit_an_older_daemon_did_not_keep_is_looked_up(self):
        with contextlib.ExitStack() as stack:
            add = stack.enter_context(unit(VM_UNIT))
            if not add:
                self.skipTest("there is no cgroup2 in which this user may make groups")
            vm = self.vm()
            stack.callback(vm.kill)
            add(vm.pid)
            pidfd = track(os.pidfd_open(vm.pid))
            self.daemon.kill()
            event = describe("eventfd", "e", 1)
            planted(
                self.daemon,
                *copy_of(objects=[event], fds=[eventfd()], state=0, pid=vm.pid, holder=[pidfd]),
            )
            self.daemon.start()
            self.daemon.wait_ready()
            self.assertTrue(eventually(lambda: self.sessions()["vm"]["unit"] == VM_UNIT))
            self.assertEqual(self.sessions()["vm"]["holder"]["pid"], vm.pid)

    def held_by(self, vm, objects, **state):
        """A daemon that finds the journal of an active session "vm" of that process. A journal is
        believed, so that an eventfd in it may be anything."""
        pidfd = track(os.pidfd_open(vm.pid))
        fds = eventfds(len(objects))
        objects = [
            describe(kind, name, i + 1, i, space="dma") for i, (kind, name) in enumerate(objects)
        ]
        self.daemon.kill()
        planted(
            self.daemon,
            *copy_of(objects=objects, fds=fds, holder=[pidfd],
                     **{"state": 0, "pid": vm.pid, **state}),
        )
        self.daemon.start()
        self.daemon.wait_ready()

    def test_a_holder_is_known_by_its_pidfd_whatever_number_was_written_down(self):
        for number in (0, 1, os.getpid(), 2**31 - 1):
            with self.subTest(number=number):
                vm = self.vm()
                self.held_by(vm, [("eventfd", "e")], pid=number)
                shown = self.sessions()["vm"]
                self.assertEqual((shown["state"], shown["holder"]["pid"]), ("active", vm.pid))
                with Client(self.daemon) as other, self.assertRaises(VarlinkError) as refused:
                    other.attach("vm")
                self.assertEqual(refused.exception.short, "Busy")
                self.resume(vm, "vm", 1)
                vm.kill()
                self.assertTrue(eventually(lambda: self.sessions()["vm"]["state"] == "orphaned"))
                self.release("vm")

    def test_what_a_later_daemon_knows_of_an_address_space_is_unknown_here(self):
        for vaddr in (3, -1, 2**31 - 1):
            with self.subTest(vaddr=vaddr):
                self.daemon.kill()
                table = describe("table", "dma", 1)
                spaces = [{"name": "dma", "vaddr": vaddr}]
                planted(self.daemon, *copy_of(objects=[table], fds=[make_table()], spaces=spaces))
                self.daemon.start()
                self.daemon.wait_ready()
                with Client(self.daemon.path) as client:
                    (space,) = client.show("vm")["spaces"]
                self.assertEqual(space["vaddr"], "unknown")
                self.release("vm")

    def test_times_that_cannot_be_are_not_reckoned_with(self):
        for time_ in (2**63 - 1, -(2**63)):
            with self.subTest(time=time_):
                self.daemon.kill()
                event = describe("eventfd", "e", 1)
                planted(self.daemon, *copy_of(objects=[event], fds=[eventfd()], since=time_, died=time_))
                self.daemon.start()
                self.daemon.wait_ready()
                self.assertGreaterEqual(self.sessions()["vm"]["ageUsec"], 0)
                self.claim("vm", 1).call("Commit")
                self.release("vm")

    def logged(self, pattern):
        text = eventually(lambda: re.search(f"^vfio-cprd: {pattern}", self.daemon.log(), re.M))
        self.assertTrue(text, self.daemon.log())

    def test_the_log_of_a_death_names_process_unit_and_devices(self):
        devices = [f"0000:0{i}:00.0" for i in range(1, 7)]
        for n, told, spaces, settled in (
            (0, "1 descriptor is held", 1, "; its address space was settled in"),
            (1, f"2 descriptors are held, with device {devices[0]}", 1, ";"),
            (4, f", with devices {', '.join(devices[:4])}$", 0, ""),
            (6, rf", with devices {', '.join(devices[:4])} \+2", 2, "; its 2 address spaces were"),
        ):
            with self.subTest(devices=n):
                vm = self.vm()
                objects = [("device", device) for device in devices[:n]]
                objects += [("container", f"dma{i}") for i in range(spaces)]
                self.held_by(vm, objects, unit="some-vm.service")
                vm.kill()
                self.logged(
                    f"session vm is orphaned: process {vm.pid} of some-vm.service died; "
                    f".*{told}{settled}"
                )
                self.release("vm")

    def test_many_address_spaces_that_fail_are_a_few_lines_of_the_log(self):
        vm = self.vm()
        self.held_by(vm, [("container", f"dma{i}") for i in range(20)])
        vm.kill()
        self.logged("session vm is orphaned: ")
        self.assertEqual(self.daemon.log().count("vfio-cprd: warning: session vm"), 9)

    def test_the_log_of_the_return_tells_how_long_there_was_no_vmm(self):
        for at in ("while it is orphaned", "while it is restoring", None):
            vm = self.vm("vm")
            vm.store([describe("eventfd", "e", 1)], [eventfd()])
            vm.call("Commit")  # it was never away
            vm.kill()
            self.logged(rf"session vm is orphaned: process {vm.pid}\b")
            if at == "while it is orphaned":
                self.restart()
            vm = self.claim("vm", 1)
            if at == "while it is restoring":
                self.restart()
                self.resume(vm, "vm", 1)
            vm.call("Commit")
            vm.call("Commit")
            again = f"session vm is active again, held by process {vm.pid}"
            self.logged(rf"{again}( of \S+)?; it was without a VMM for \d+(\.\d)? m?s\n")
            self.assertEqual(self.daemon.log().count(again), 1)
            self.release("vm")
            vm.kill()

    def test_an_orphan_that_nobody_comes_for_is_warned_of_once(self):
        minutes = 60 * 1000 * 1000
        now = time.monotonic_ns() // 1000
        device = {**describe("device", "0000:3b:00.0", 1, space="dma")}
        event = describe("eventfd", "e", 1)
        self.daemon.kill()
        old = {"since": now - 15 * minutes, "fds": eventfds(1)}
        for number, records in enumerate(
            (
                copy_of("old", objects=[device], unit="vm@old.service", **old),
                copy_of("-odd", uid=1000, objects=[event], **old),
                copy_of("young", objects=[event], fds=eventfds(1), since=now - 5 * minutes),
            )
        ):
            planted(self.daemon, *records, number=number)
        self.daemon.start()
        self.daemon.wait_ready()
        self.logged(
            r"warning: session old of vm@old\.service has been orphaned since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d,"
            r".* 1 descriptor is held, with device 0000:3b:00\.0,.*: vfio-cprctl release old$"
        )
        self.logged(
            r"warning: session -odd has been orphaned since .* vfio-cprctl release --uid 1000 -- -odd$"
        )
        for _ in range(20):
            self.status()
        warnings = [line for line in self.daemon.log().splitlines() if "has been orphaned since" in line]
        self.assertEqual(len(warnings), 2, warnings)
        # The time counts from the orphan's beginning: the next daemon knows it, and claims end it.
        vm = self.claim("old", 1)
        self.restart()
        self.logged("(?s:.*)warning: session -odd(?s:.*)warning: session -odd")
        self.resume(vm, "old", 1)
        self.assertEqual(self.daemon.log().count("warning: session old"), 1)
        self.assertNotIn("session young", self.daemon.log())

    def test_an_outage_that_began_while_no_daemon_was_there_is_not_measured(self):
        vm = self.vm("vm")
        vm.store([describe("eventfd", "e", 1)], [eventfd()])
        self.daemon.kill()
        vm.kill()
        self.daemon.start()
        self.daemon.wait_ready()
        vm = self.claim("vm", 1)
        self.restart()
        self.resume(vm, "vm", 1)
        vm.call("Commit")
        self.logged(rf"session vm is active again, held by process {vm.pid}( of \S+)?\n")

    def test_devices_are_told_sorted_and_fields_of_a_later_version_are_passed_over(self):
        # A journal is believed, so an eventfd may be a device here.
        names = ["0000:3b:00.1", "0000:3b:00.0", "0000:04:00.0"]
        objects = [
            describe("device", name, i + 1, i, space="dma") for i, name in enumerate(names)
        ]
        self.daemon.kill()
        planted(self.daemon, *copy_of(objects=objects, fds=eventfds(3), colour="red"))
        self.daemon.start()
        self.daemon.wait_ready()
        info = self.sessions()["vm"]
        self.assertEqual(info["devices"], sorted(names))
        self.assertIsNone(info["unit"])

    def test_what_the_kernel_refused_is_told_by_list_until_the_vm_is_back(self):
        vm = self.vm()
        self.held_by(vm, [("container", "b"), ("container", "a"), ("container", "c")])
        self.assertIsNone(self.sessions()["vm"].get("warning"))
        vm.kill()
        self.logged("session vm is orphaned: ")
        told = self.sessions()["vm"]["warning"]
        self.assertRegex(told, "^address space a: the DMA addresses could not be invalidated: .*"
                               r" \(2 more address spaces have a warning\)$")
        self.restart()
        self.assertEqual(self.sessions()["vm"]["warning"], told)
        successor = self.claim("vm", 3)
        self.assertEqual(self.sessions()["vm"]["warning"], told)
        successor.call("Commit")
        self.assertIsNone(self.sessions()["vm"].get("warning"))

    def test_a_device_is_one_however_its_address_is_written(self):
        vm = self.vm()
        self.held_by(vm, [("device", "0000:00:0A.0"), ("eventfd", "e")])
        self.resume(vm, "vm", 2)
        self.assertEqual(self.sessions()["vm"]["devices"], ["0000:00:0a.0"])
        with self.refused("NoSuchObject", "no device 0000:00:0b.0"):
            vm.call("Remove", {"kind": "device", "name": "0000:00:0B.0"})
        vm.call("Remove", {"kind": "device", "name": "0000:00:0A.0"})
        self.assertEqual(self.sessions()["vm"]["devices"], [])
        self.restart()
        self.resume(vm, "vm", 1)
