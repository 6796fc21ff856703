# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd takes no new journal, or does not answer, and keeps what it has. What was removed or
released is not closed then: nobody is told that it is, Status warns, and in the end it is closed
without anybody asking again."""

import errno
import fcntl
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fds import close, describe, eventfd, memfd, track
from holder import NOBODY
from journaltest import VM, JournalTest
from patience import eventually


class Watched:
    """A file to be held, whose last close shows: with it goes the lock of its open description."""

    def __init__(self):
        self.fd, path = tempfile.mkstemp(dir="/dev/shm")
        track(self.fd)
        os.ftruncate(self.fd, 4096)
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        self.other = track(os.open(path, os.O_RDWR))
        os.unlink(path)

    def is_closed(self):
        try:
            fcntl.flock(self.other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self.other, fcntl.LOCK_UN)
        return True


class Owed(JournalTest):
    REMOVE = {"kind": "memory", "name": "ram"}

    def setUp(self):
        super().setUp()
        self.daemon.allowed = ["it is tried again"]

    def warning(self):
        return self.status().get("warning") or ""

    def hold(self, name="vm"):
        """A holder of a watched file, which the test itself has closed."""
        vm, file = self.vm(name), Watched()
        vm.store([describe("memory", "ram", 1)], [file.fd])
        close(file.fd)
        self.assertFalse(file.is_closed())
        return vm, file

    def fill(self):
        """FileDescriptorStoreMax is lowered to what there is."""
        self.daemon.maximum = self.daemon.n_stored()

    def make_room(self):
        self.daemon.maximum = 64

    def assertSettled(self, sessions):
        """Without anybody asking for it."""
        self.assertTrue(eventually(lambda: not self.warning()), self.warning())
        self.assertStored(sessions)

    def failed(self, number, contains, call):
        with self.refused("KernelFailure", contains) as caught:
            call()
        self.assertEqual(errno.errorcode[caught.exception.parameters["errno"]], number)


class FullStore(Owed):
    def test_a_removal_is_done_when_there_is_room_again_and_no_sooner(self):
        vm, file = self.hold()
        self.fill()
        self.failed("ENOSPC", "FileDescriptorStoreMax", lambda: vm.call("Remove", self.REMOVE))
        self.assertFalse(file.is_closed())
        self.assertIn("removed from session vm", self.warning())
        self.failed("ENOSPC", "still holds", lambda: vm.call("Remove", self.REMOVE))
        self.make_room()
        self.assertSettled(1)
        self.assertTrue(file.is_closed())
        with self.refused("NoSuchObject"):
            vm.call("Remove", self.REMOVE)

    def test_who_repeats_a_removal_has_it_done_at_once(self):
        vm, file = self.hold()
        self.fill()
        self.failed("ENOSPC", "still holds", lambda: vm.call("Remove", self.REMOVE))
        self.make_room()
        with self.refused("NoSuchObject"):
            vm.call("Remove", self.REMOVE)
        self.assertTrue(file.is_closed())

    def test_who_repeats_it_again_and_again_has_it_tried_at_a_pace(self):
        """64 times at once and then 16 a second, unless it is root."""
        vm = VM(self.daemon, NOBODY)
        self.addCleanup(vm.kill)
        vm.attach("vm")
        vm.store([describe("memory", "ram", 1)], [memfd()])
        self.fill()
        begin = time.monotonic()
        for _ in range(2):
            before = self.daemon.told["barriers"]
            self.failed("ENOSPC", "still holds", lambda: vm.call("Remove", self.REMOVE))
        of_one = self.daemon.told["barriers"] - before  # messages to systemd
        for _ in range(110):
            self.failed("ENOSPC", "still holds", lambda: vm.call("Remove", self.REMOVE))
        tried = (self.daemon.told["barriers"] - before) / of_one
        # However long that took. Without a pace it takes a second.
        self.assertLessEqual(tried, 64 + 16 * (time.monotonic() - begin))

    def test_what_else_the_session_does_is_kept_meanwhile(self):
        vm, file = self.hold()
        fd = eventfd()
        self.fill()
        self.failed("ENOSPC", "systemd still holds", lambda: vm.call("Remove", self.REMOVE))
        vm.store([describe("eventfd", "e", 2)], [fd])
        vm.call("Commit")
        self.restart()
        self.resume(vm, "vm", 1)
        self.assertHeld(vm, ["e"], [fd])

    def test_a_removal_goes_on_after_the_daemons_death(self):
        vm, file = self.hold()
        self.fill()
        self.failed("ENOSPC", "systemd still holds", lambda: vm.call("Remove", self.REMOVE))
        self.restart()
        self.assertFalse(file.is_closed())
        self.assertTrue(eventually(lambda: "removed from session vm" in self.warning()))
        self.make_room()
        self.assertSettled(1)
        self.assertTrue(file.is_closed())
        self.resume(vm, "vm", 0)

    def test_another_user_is_not_told_whose_it_is(self):
        vm, _ = self.hold()
        self.fill()
        self.failed("ENOSPC", "systemd still holds", lambda: vm.call("Remove", self.REMOVE))
        other = self.holder(uid=65534)
        warning = other.call("Status")[0]["warning"]
        self.assertIn("of other users", warning)
        self.assertNotIn("vm", warning)

    def test_what_systemd_has_dropped_and_not_closed_is_not_closed(self):
        vm, file = self.hold()
        (name,) = [n for n in self.daemon.names() if n.endswith("-r")]
        other = track(self.daemon.get(name))  # as PID 1's process that is to close it
        self.failed("EBUSY", "open yet", lambda: vm.call("Remove", self.REMOVE))
        self.assertFalse(file.is_closed())
        close(other)
        self.assertSettled(1)
        self.assertTrue(file.is_closed())

    def test_a_release_needs_no_room(self):
        vm, file = self.hold()
        self.fill()
        vm.call("Release")
        self.assertTrue(file.is_closed())
        self.assertStored(0)


class BusySystemd(Owed):
    """PID 1 does not answer in 10 s."""

    def test_what_was_removed_and_what_was_released_is_closed_when_it_answers_again(self):
        remover, removed = self.hold("remover")
        releaser, released = self.hold("releaser")
        with self.daemon.deaf():
            remover.start("call", remover.current, "Remove", self.REMOVE)
            releaser.start("call", releaser.current, "Release", None)
            self.failed("ETIMEDOUT", "did not answer", remover.finish)
            self.failed("ETIMEDOUT", "did not answer", releaser.finish)
            self.assertFalse(removed.is_closed() or released.is_closed())
            self.assertEqual(self.sessions()["releaser"]["state"], "releasing")
            self.assertIn("1 more", self.warning())
            self.failed("ETIMEDOUT", "releaser is being released", lambda: releaser.call("Commit"))
        self.assertTrue(eventually(lambda: "releaser" not in self.sessions()))
        self.assertSettled(1)
        self.assertTrue(removed.is_closed() and released.is_closed())
        self.vm("releaser")

    def test_who_repeats_a_release_or_attaches_again_gets_the_truth(self):
        vm, file = self.hold()
        other = self.vm()
        with self.daemon.deaf():
            self.failed("ETIMEDOUT", "did not answer", lambda: vm.call("Release"))
            self.failed("ETIMEDOUT", "did not answer", lambda: self.release("vm"))
            self.failed("ETIMEDOUT", "is being released", lambda: other.attach("vm"))
        self.assertEqual(other.attach("vm"), {"start": "new", "objects": 0})
        self.assertTrue(file.is_closed())
        with self.refused("NotHolder"):
            vm.call("Release")
        self.assertSettled(1)

    def test_a_release_goes_on_after_the_daemons_death(self):
        vm, file = self.hold()
        with self.daemon.deaf():
            self.failed("ETIMEDOUT", "did not answer", lambda: vm.call("Release"))
            self.daemon.kill(lose=True)
        self.daemon.start()
        self.daemon.wait_ready()
        self.assertTrue(eventually(lambda: self.sessions() == {}))
        self.assertSettled(0)
        self.assertTrue(file.is_closed())
