# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one user can make the daemon do, for tests and for the benchmark: functions that an attacker's
process runs (attacktest.py). Those that end with their work leave it to others to measure; those
named after a storm go on until their process is killed."""

import contextlib
import itertools
import os
import socket
import struct

from client import SESSION, Client, VarlinkError, encode
from fds import (
    CHANGES_AT, HEADER, MAPPED, MAX_FDS, MAX_SLOTS, SEALS_TABLE, SLOT, TABLE_MAGIC, describe, eventfd,
    eventfds, memfd,
)


def new_session(attacker, name):
    client = Client(attacker.path)
    attacker.clients.append(client)
    client.attach(name)
    return client


def full_table():
    """Of 262,144 mappings: 8 MiB."""
    slots = b"".join(SLOT.pack(i << 12, 4096, 0, 1, MAPPED, 3, 0, 0) for i in range(1024))
    header = HEADER.pack(TABLE_MAGIC, 1, SLOT.size, MAX_SLOTS, MAX_SLOTS, 1)
    return memfd(0, SEALS_TABLE, header + slots * (MAX_SLOTS // 1024), "table")


def store_full_tables(attacker, _fds, sessions, tables=64):
    """One full table, as often as a session may have it, in so many sessions: how often it may."""
    table, stored = full_table(), 0
    for i in range(sessions):
        client = new_session(attacker, f"full{i}")
        for t in range(tables):
            try:
                client.store([describe("table", f"t{t}", t + 1)], [table])
            except VarlinkError as error:
                if error.short != "QuotaExceeded":
                    raise
                return stored
            stored += 1
    return stored


def changing_tables_storm(attacker, _fds, sessions):
    """Full tables that say at any time that they have changed, and whoever looks at them."""
    table = full_table()
    for i in range(sessions):
        client = new_session(attacker, f"changing{i}")
        with contextlib.suppress(VarlinkError):
            for t in range(16):
                client.store([describe("table", f"t{t}", t + 1)], [table])
    watchers = [Client(attacker.path) for _ in range(4)]
    for i in itertools.count():
        os.pwrite(table, struct.pack("<Q", i), CHANGES_AT)
        for client in watchers:
            with contextlib.suppress(BlockingIOError):
                client.socket.setblocking(False)
                client.socket.sendall(encode(SESSION + "List", {}, oneway=True))


def store_many_objects(attacker, _fds, name, n, names):
    """A session of so many eventfds, each an object of its own; as many as it may have. names: a
    function of the number, by its name here."""
    client = new_session(attacker, name)
    make, one, held = globals()[names], eventfd(), 0
    for at in range(0, n, MAX_FDS):
        count = min(MAX_FDS, n - at)
        objects = [describe("eventfd", make(at + i), at + i + 1, i) for i in range(count)]
        try:
            client.store(objects, [one] * count)
        except VarlinkError as error:
            if error.short != "QuotaExceeded":
                raise
            return held
        held += count
    return held


def plain_name(number):
    return f"object{number}"


def long_name(number):
    """255 characters, most of them two in JSON."""
    return f"{number:05}" + '"' * 250


def colliding_name(number):
    """ "Ez" and "FY" have the same hash where there is no seed, and so have all rows of 16 of them."""
    return "".join("FY" if number >> bit & 1 else "Ez" for bit in range(16))


def ask_and_not_read(attacker, _fds, connections, method, parameters, times=1):
    """Calls whose answers nobody reads."""
    message = encode(SESSION + method, parameters) * times
    for _ in range(connections):
        client = Client(attacker.path)
        attacker.clients.append(client)
        client.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            client.socket.sendall(message)


def fetch_and_not_read(attacker, _fds, sessions, fetches, n=MAX_FDS):
    """Sessions with the same eventfds, each asked for again and again."""
    fds = eventfds(n)
    for i in range(sessions):
        client = new_session(attacker, f"unread{i}")
        try:
            client.store([describe("eventfd", "e", 1, count=n)], fds)
        except VarlinkError:  # of the limit on what is held
            return
        client.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            client.socket.sendall(encode(SESSION + "Fetch", {"cursor": 0}) * fetches)


def pipeline(attacker, _fds, method, parameters=None, size=4096, connections=1):
    """So many bytes of calls that want no answer, in one message."""
    call = encode(method, parameters, oneway=True)
    for _ in range(connections):
        client = Client(attacker.path)
        attacker.clients.append(client)
        client.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            client.socket.sendall(call * (size // len(call)))


def pipeline_storm(attacker, _fds, method, parameters=None):
    """The same on four connections without an end."""
    calls = encode(method, parameters, oneway=True) * 40
    clients = [Client(attacker.path) for _ in range(4)]
    for client in itertools.cycle(clients):
        with contextlib.suppress(BlockingIOError):
            client.socket.sendmsg([calls])


def attach_release_storm(attacker, _fds, prefix="storm"):
    for i in itertools.count():
        with Client(attacker.path) as client, contextlib.suppress(VarlinkError, ConnectionError):
            client.attach(f"{prefix}{i % 8}")
            client.call("Release")


def bad_message_storm(attacker, _fds):
    while True:
        with Client(attacker.path) as client, contextlib.suppress(ConnectionError):
            client.send_raw(b'"\\\xc3\xa9\0')
            client.socket.recv(65536)


def remove_storm(attacker, _fds, sessions, n):
    """Removes of an object, each of which has a session written anew. It tells when it begins."""
    for i in range(sessions):
        store_many_objects(attacker, (), f"big{i}", n, "plain_name")
    clients = attacker.clients[-sessions:]
    os.write(_fds[0], b"x")
    for i in range(n):
        for client in clients:
            client.call("Remove", {"kind": "eventfd", "name": plain_name(i)})


def connect_storm(attacker, _fds):
    """Connections that are given up with a byte unread."""
    while True:
        with socket.socket(socket.AF_UNIX) as one, contextlib.suppress(OSError):
            one.connect(attacker.path)
            one.send(b"x")


def store_again_storm(attacker, _fds, sessions, times, n=MAX_FDS):
    """The same eventfds stored again, which changes nothing and adds to the journal."""
    fds, clients = eventfds(n), [new_session(attacker, f"again{i}") for i in range(sessions)]
    for _ in range(times):
        for client in clients:
            with contextlib.suppress(VarlinkError):
                client.store([describe("eventfd", "e", 1, count=n)], fds)
