# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that a peer sends: of every kind, locked by their owner, changed or emptied afterwards. None
makes the daemon wait, fault, allocate, or believe that it holds what it does not."""

import contextlib
import fcntl
import mmap
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from attacktest import ATTACKER, AttackTest
from client import SESSION, Client, VarlinkError, encode
from fds import HEADER, MAX_SLOTS, SLOT, close, describe, eventfd, make_table, memfd, track
import files
from stuckfile import Impossible, StuckDirectory, StuckWriter

KINDS = ("container", "group", "device", "iommufd", "memory", "eventfd", "table", "state")
MFD_HUGETLB, MFD_ALLOW_SEALING = 4, 2
F_SEAL_FUTURE_WRITE, F_SEAL_EXEC = 0x10, 0x20
PUNCH_HOLE = 3  # and keep the size
HUGE_PAGES = "/proc/sys/vm/nr_hugepages"
HUGE = 2 << 20


def described(kind, name="x", id=1, index=0):
    fields = {"space": "s"} if kind in ("group", "device") else {}
    return describe(kind, "0000:00:1f.7" if kind == "device" else name, id, index, **fields)


class Kinds(AttackTest):
    def setUp(self):
        super().setUp()
        self.evil = self.attacker(session="evil")

    def refuse(self, what, fd, kinds=KINDS):
        """As any of these kinds; OSError: the kernel does not pass it on."""
        self.evil.do("send_raw", 0, encode("org.varlink.service.GetInfo"), fds=[fd])
        with self.assertRaises(VarlinkError) as caught:  # no method but Store takes descriptors
            self.evil.do("receive", 0)
        # A socket is not taken from any message.
        self.assertIn(caught.exception.short, ("InvalidParameter", "Refused"))
        for kind in kinds:
            with self.subTest(what=what, kind=kind), self.refused("Refused"):
                self.evil.store([described(kind)], [fd])

    def test_a_file_of_any_other_kind_is_refused_as_any(self):
        made, absent = files.everything()
        print("    not on this host: " + ", ".join(absent))
        for what, fd in made.items():
            kinds = KINDS
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_GET_SEALS)  # /tmp can be memory
                kinds = [kind for kind in KINDS if kind != "memory"]
            try:
                self.refuse(what, fd, kinds)
            except OSError as error:
                print(f"    the kernel passes no {what}: {error.strerror}")
        self.others_are_served()

    def test_the_name_of_a_file_is_no_file(self):
        for what, fd in files.paths_of_what_is_held().items():
            self.refuse(what, fd)
        made, _ = files.everything()
        for what, fd in made.items():
            with contextlib.suppress(OSError):
                self.refuse("the name of " + what, files.of_a_path(fd))

    def test_the_daemons_own_sockets_are_refused(self):
        kinds = ("eventfd", "memory", "device")
        self.assertEqual(self.evil.run(own_connection), ["Refused"] * len(KINDS))
        self.refuse("a connection of another's", self.client().socket.fileno(), kinds)

    def test_memory_with_any_seals_is_held_and_handed_back(self):
        from fcntl import F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE

        for i, seals in enumerate((
            0, F_SEAL_SEAL, F_SEAL_FUTURE_WRITE, F_SEAL_WRITE, F_SEAL_EXEC, F_SEAL_SHRINK,
            F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL,
        )):
            fd = memfd(4096, seals)
            with contextlib.suppress(VarlinkError):
                self.evil.store([describe("memory", f"m{i}", i + 1)], [fd])
                answer, back = self.evil.call("Fetch", {"cursor": 0})
                self.assertEqual(answer["objects"][-1]["name"], f"m{i}")
                self.assertSameFiles([fd], back[-1:])
                for one in back:
                    close(one)

    def test_memory_that_is_emptied_after_it_was_stored_harms_nobody(self):
        fd = track(os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR, 0o600))
        os.ftruncate(fd, 1 << 20)
        self.evil.store([describe("memory", "m", 1)], [fd])
        for size in (0, 1 << 40, 1, 0):
            with contextlib.suppress(OSError):  # the daemon may have sealed it
                os.ftruncate(fd, size)
            self.evil.call("Show", {"name": "evil"})
            self.evil.store([describe("memory", "m", 1)], [fd])
        os.chmod(fd, 0)
        self.evil.call("Commit")
        self.evil.call("Remove", {"kind": "memory", "name": "m"})

    def test_eventfds_that_are_full_or_count_otherwise_are_shown_and_read_by_nobody(self):
        semaphore = track(os.eventfd(5, os.EFD_SEMAPHORE | os.EFD_NONBLOCK))
        full, blocking = eventfd(), track(os.eventfd(1, 0))
        os.eventfd_write(full, 2**64 - 2)
        fds = [semaphore, full, blocking]
        self.evil.store([describe("eventfd", "e", 1, count=3)], fds)
        pending = self.evil.call("Show", {"name": "evil"})[0]["pending"]
        self.assertEqual({one["vector"] for one in pending}, {0, 1, 2})
        self.assertTrue(all(one["count"] > 0 for one in pending), pending)
        self.evil.call("List")
        self.assertEqual(os.eventfd_read(full), 2**64 - 2)
        self.assertEqual(os.eventfd_read(semaphore), 1)
        self.assertEqual(os.eventfd_read(blocking), 1)

    def test_one_descriptor_named_by_many_and_many_by_none_are_refused(self):
        for objects, n in (
            ([describe("eventfd", "a", 1), describe("eventfd", "b", 2)], 1),
            ([describe("eventfd", "a", 1, count=2)], 1), ([describe("eventfd", "a", 1)], 2),
            ([describe("eventfd", "a", 1, index=2**31)], 1), ([], 3),
            ([describe("eventfd", "a", 1, index=-1)], 1),
            ([describe("eventfd", "a", 1, first=2**62, count=2**62)], 1),
            ([describe("eventfd", "a", 1, first=65535, count=2)], 2),
            ([describe("eventfd", "a", 2**63 - 1, first=-1)], 1),
        ):
            with self.subTest(objects=objects), self.assertRaises(VarlinkError):
                self.evil.store(objects, [eventfd() for _ in range(n)])
        self.assertEqual(self.evil.call("Show", {"name": "evil"})[0]["objects"], [])


def own_connection(attacker, _fds):
    """What becomes of its own connection, stored through itself."""
    answers = []
    with Client(attacker.path) as client:
        client.attach("own")
        for kind in KINDS:
            try:
                client.store([described(kind)], [client.socket.fileno()])
                answers.append("stored")
            except VarlinkError as error:
                answers.append(error.short)
        client.call("Release")
    return answers


def store_from_each(attacker, fds, n, kind):
    """A session for each of n connections, and a Store on each whose answer is not waited for."""
    for i in range(n):
        attacker.clients.append(Client(attacker.path))
        attacker.clients[-1].attach(f"stuck{i}")
    for client in attacker.clients[-n:]:
        client.send(SESSION + "Store", {"objects": [described(kind)]}, fds)


def answers_of_all(attacker, _fds):
    answers = []
    for client in attacker.clients:
        try:
            client.receive()
            answers.append("stored")
        except (VarlinkError, ConnectionError) as error:
            answers.append(str(error))
    return answers


class Locks(AttackTest):
    """Files whose lock in the kernel their owner holds, and never lets go."""

    def stuck(self, what, make=StuckWriter):
        try:
            stuck = make(ATTACKER, what)
        except Impossible as error:
            self.skipTest(f"no user can make a FUSE file here: {error}")
        self.addCleanup(stuck.let_go)
        return stuck

    def hang(self, kind, fd, n=1):
        writer = self.stuck(fd)
        evil = self.attacker()
        evil.run(store_from_each, n, kind, fds=[fd])
        self.others_are_served()
        writer.let_go()
        answers = evil.run(answers_of_all)
        self.assertEqual(len(answers), n)

    def test_memory_that_its_owner_keeps_locked_hangs_nobody_else(self):
        self.hang("memory", memfd(8192))

    def test_a_table_that_its_owner_keeps_locked_hangs_nobody_else(self):
        self.hang("table", make_table([{}], slots=200))

    def test_memory_that_is_kept_locked_and_stored_in_every_session_hangs_nobody_else(self):
        self.hang("memory", memfd(8192), 60)

    def test_the_daemons_end_does_not_wait_for_a_lock_of_a_peers(self):
        fd = memfd(8192)
        self.stuck(fd)
        evil = self.attacker()
        evil.run(store_from_each, 3, "memory", fds=[fd])
        self.others_are_served(2, 1)
        self.end_daemon()

    def test_a_process_whose_folder_in_proc_is_kept_locked_hangs_nobody_else(self):
        evil = [self.attacker() for _ in range(6)]
        for process in evil:
            know_files_of(process.pid)
        stuck = [self.stuck(f"/proc/{process.pid}", StuckDirectory) for process in evil]
        for i, process in enumerate(evil):
            self.assertEqual(process.attach(f"stuck{i}")["start"], "new")
        self.others_are_served()
        hanging = sum(is_uninterruptible(thread) for thread in threads_of(self.daemon.pid))
        self.assertEqual(hanging, 1, "threads hang, and one user may have one")
        for one in stuck:
            one.let_go()

    def test_a_file_of_fuse_whose_server_is_silent_is_refused_at_once(self):
        writer = self.stuck(memfd(8192))
        fd = track(writer.file())
        evil = self.attacker(session="fuse")
        for kind in KINDS:
            with self.refused("Refused"):
                evil.store([described(kind)], [fd])
        self.others_are_served(2, 1)

    def test_long_writes_to_what_is_stored_hang_nobody_else(self):
        fd = memfd(64 << 20)
        evil, writers = self.attacker(session="busy"), [self.attacker() for _ in range(3)]
        for writer in writers:
            writer.begin(write_for_ever, fds=[fd])
        for i in range(5):
            evil.store([describe("memory", f"m{i}", i + 1)], [fd])
            self.others_are_served(3, 1)


def know_files_of(pid):
    """What patience.py reads of every process is found from now on without a look into its folder."""
    for name in ("stat", "cmdline", "wchan", "schedstat", f"task/{pid}/schedstat", f"task/{pid}/stat"):
        with open(f"/proc/{pid}/{name}", "rb") as file:
            file.read()


def threads_of(pid):
    return [f"/proc/{pid}/task/{name}" for name in os.listdir(f"/proc/{pid}/task")]


def is_uninterruptible(thread):
    with open(thread + "/stat", encoding="ascii") as file:
        return file.read().rsplit(")")[-1].split()[0] == "D"


def write_for_ever(_attacker, fds):
    data = bytes(32 << 20)
    while True:
        os.pwrite(fds[0], data, 0)


class Tables(AttackTest):
    """Mapping tables are memory that stays its holder's."""

    def look(self, name):
        """All ways to have the daemon read tables."""
        with self.client() as root:
            root.sessions()
            spaces = root.show(name)["spaces"]
            for space in spaces[:2]:
                root.call("Mappings", {"name": name, "space": space["name"], "uid": ATTACKER})
        return spaces

    def test_a_table_of_huge_pages_with_a_hole_faults_nobody(self):
        with open(HUGE_PAGES, encoding="ascii") as file:
            before = file.read()
        self.addCleanup(set_huge_pages, before)
        if not set_huge_pages(int(before) + 1):
            self.skipTest("this host has no room for a huge page")
        fd = track(os.memfd_create("huge", MFD_ALLOW_SEALING | MFD_HUGETLB))
        os.ftruncate(fd, HUGE)
        with mmap.mmap(fd, HUGE) as pages:
            slots = (HUGE - HEADER.size) // SLOT.size
            pages[: HEADER.size] = os.pread(make_table([], slots, used=slots), HEADER.size, 0)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        evil = self.attacker(session="huge")
        try:
            evil.store([described("table")], [fd])
        except VarlinkError as error:
            print(f"    {error}")
            return
        self.look("huge")
        files.libc.fallocate64(fd, PUNCH_HOLE, files.ctypes.c_long(0), files.ctypes.c_long(HUGE))
        with contextlib.suppress(OSError):  # the pool has no page for the hole
            other = track(os.memfd_create("eater", MFD_HUGETLB))
            os.ftruncate(other, HUGE)
            mmap.mmap(other, HUGE)[0] = 1
        self.look("huge")
        evil.kill()
        self.look("huge")

    def test_sparse_tables_cost_the_daemon_no_memory(self):
        fds = [make_table([], MAX_SLOTS, used=MAX_SLOTS) for _ in range(64)]
        blocks = [os.fstat(fd).st_blocks for fd in fds]
        evil, before = self.attacker(session="sparse"), resident(self.daemon.pid)
        evil.store([describe("table", f"t{i}", i + 1, i) for i in range(64)], fds)
        self.look("sparse")
        self.others_are_served(5, 2)
        evil.kill()
        self.look("sparse")
        self.assertEqual([os.fstat(fd).st_blocks for fd in fds], blocks)
        self.assertLess(resident(self.daemon.pid) - before, 64 << 20)

    def test_a_table_whose_header_is_wiped_or_lies_is_one_bad_table(self):
        fds = [make_table([{"iova": i << 12} for i in range(9)], slots=32) for _ in range(3)]
        evil = self.attacker(session="liar")
        evil.store([describe("table", f"t{i}", i + 1, i) for i in range(3)], fds)
        good = HEADER.size * b"\xff"
        for content in (bytes(HEADER.size), good, os.urandom(HEADER.size)):
            os.pwrite(fds[1], content, 0)
            spaces = {space["name"]: space for space in self.look("liar")}
            self.assertEqual({spaces["t0"]["mappings"], spaces["t2"]["mappings"]}, {9})
            evil.store([describe("table", "t0", 1, 0)], fds[:1])
        os.pwrite(fds[2], os.urandom(32 * SLOT.size), HEADER.size)
        self.look("liar")
        evil.kill()
        self.look("liar")


def set_huge_pages(number):
    """How many there are; true if the kernel has as many."""
    with open(HUGE_PAGES, "w", encoding="ascii") as file:
        file.write(str(number))
    with open(HUGE_PAGES, encoding="ascii") as file:
        return int(file.read()) == int(number)


def resident(pid):
    """Bytes of memory that are the process's, also those of files that it maps."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))
