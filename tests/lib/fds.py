# SPDX-License-Identifier: LGPL-2.1-or-later
"""Descriptors for tests: those that a session holds, mapping tables among them, and whether two are
one open file. Those made here are closed by close_all(), so that a test need not."""

import errno
import fcntl
import os
import struct

MAX_FDS = 253  # SCM_MAX_FD: in one message
F_DUPFD_QUERY = 1024 + 3  # Linux 6.10
SEALS_STATE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
SEALS_TABLE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW

_tracked = set()


def track(fd):
    _tracked.add(fd)
    return fd


def is_tracked(fd):
    return fd in _tracked


def close(fd):
    _tracked.discard(fd)
    os.close(fd)


def close_all():
    while _tracked:
        os.close(_tracked.pop())


def forget_all():
    """In a child that has closed its parent's."""
    _tracked.clear()


def close_all_but(fds):
    for fd in _tracked.difference(fds):
        close(fd)


def memfd(size=4096, seals=0, content=b"", name="test"):
    fd = track(os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    os.ftruncate(fd, max(size, len(content)))
    if content:
        os.pwrite(fd, content, 0)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def state_memfd(content=b"state", seals=SEALS_STATE):
    return memfd(len(content), seals, content, "state")


def eventfd(count=0):
    return track(os.eventfd(count, os.EFD_CLOEXEC | os.EFD_NONBLOCK))


def eventfds(n):
    return [eventfd() for _ in range(n)]


FREE, MAPPED, MAPPING, UNMAPPING = range(4)
SLOT = struct.Struct("<QQQIBBBB")
HEADER = struct.Struct("<QIIIIQ32x")
CHANGES_AT = 24  # in the header
TABLE_MAGIC = 0x31656C6261742D63
MAX_SLOTS = 1 << 18


def slot(iova=0, size=4096, offset=0, object=1, state=MAPPED, prot=3, region=0):
    return SLOT.pack(iova, size, offset, object, state, prot, region, 0)


def make_table(
    entries=(),
    slots=None,
    magic=TABLE_MAGIC,
    version=1,
    slot_size=SLOT.size,
    header_slots=None,
    used=None,
    changes=0,
    length=None,
    seals=SEALS_TABLE,
):
    """A mapping table as in common/table.h, of dicts (see slot()); every keyword can make it lie."""
    if slots is None:
        slots = max(len(entries), 1)
    header = HEADER.pack(
        magic,
        version,
        slot_size,
        slots if header_slots is None else header_slots,
        len(entries) if used is None else used,
        changes,
    )
    content = header + b"".join(slot(**entry) for entry in entries)
    size = HEADER.size + slots * SLOT.size if length is None else length
    return memfd(size, seals, content[:size], "table")


def describe(kind, name, id, index=0, **fields):
    """An Object of the interface, whose first descriptor has this index in its message."""
    return {"id": id, "kind": kind, "name": name, "firstFileDescriptor": index, **fields}


def fdinfo(fd, key):
    with open(f"/proc/self/fdinfo/{fd}") as info:
        for line in info:
            if line.startswith(key + ":"):
                return line.split(":", 1)[1].strip()
    return None


def identity(fd):
    """What two descriptors of one file have in common: the eventfd's id, or the inode."""
    id = fdinfo(fd, "eventfd-id")
    st = os.fstat(fd)
    return ("eventfd", id) if id is not None else (st.st_dev, st.st_ino, st.st_mode)


def is_same_file(a, b):
    """Whether they are one open file; before Linux 6.10 whether they are of one inode."""
    try:
        return fcntl.fcntl(a, F_DUPFD_QUERY, b) == 1
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return identity(a) == identity(b)
