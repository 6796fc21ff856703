# SPDX-License-Identifier: LGPL-2.1-or-later
"""A session has one state, whoever asks for it and however."""

import contextlib
import itertools
import os
import signal
import socket

from client import SESSION, Client, encode
from daemontest import DaemonTest
from fds import describe, eventfd


def attached_by_another(daemon, name):
    """(pid, socket): a process that has attached this session, and its connection."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            client = Client(daemon)
            client.attach(name)
            socket.send_fds(theirs, [b"x"], [client.socket.fileno()])
            signal.pause()
        finally:
            os._exit(1)
    theirs.close()
    with ours:
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    return pid, socket.socket(fileno=fds[0])


class States(DaemonTest):
    def test_the_connection_of_a_dead_holder_tells_nothing_to_who_has_it_now(self):
        for method in ("Monitor", "List", "Status", "Show", "Release"):
            with self.subTest(method=method):
                pid, connection = attached_by_another(self.daemon, "vm")
                parameters = {"Show": {"name": "vm"}, "Release": {"whenDead": True}}.get(method, {})
                with connection:
                    connection.settimeout(20)
                    with self.daemon.stopped():
                        # The daemon comes to the call first, and by that to the death.
                        more = method == "Monitor"
                        connection.send(encode(SESSION + method, parameters, more=more))
                        os.kill(pid, signal.SIGKILL)
                        os.waitpid(pid, 0)
                    with contextlib.suppress(ConnectionResetError):
                        self.assertEqual(connection.recv(1), b"")
                # What happens next is told to those who watch, and it is not among them.
                client = self.client()
                client.attach("other")
                client.call("Release")
                client.close()
        self.assertIdle()

    def states(self, monitor, lister, stater):
        """What each way of asking tells of the session, in the order in which they were asked."""
        (event,) = monitor.receive()[0]["events"]
        (session,) = lister.receive()[0]["sessions"]
        status = stater.receive()[0]
        self.assertNotIn("pid", event)
        self.assertIsNone(session["holder"])
        return event["state"], session["state"], status["orphans"]

    def test_an_orphan_is_one_for_all_from_its_holders_death_on(self):
        # Its address spaces are settled meanwhile, and the daemon may not have heard of the death.
        methods = ("Monitor", "List", "Status")
        for order in itertools.permutations(methods):
            with self.subTest(order=order):
                holder = self.holder()
                holder.attach("vm")
                holder.store([describe("eventfd", "e", 1)], [eventfd()])
                clients = {method: self.client() for method in order}
                with self.daemon.stopped():
                    holder.kill()
                    for method in order:
                        clients[method].send(SESSION + method, {}, more=method == "Monitor")
                told = self.states(clients["Monitor"], clients["List"], clients["Status"])
                self.assertEqual(told, ("orphaned", "orphaned", 1))
                self.client().call("Release", {"name": "vm"})
