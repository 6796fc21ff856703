# SPDX-License-Identifier: LGPL-2.1-or-later
"""A holder process that outlives the daemon as libvfio-cpr does: a lost connection is made anew, the
session resumed by Attach, and the call that got no answer repeated. Whatever is told to it is done
in a process of its own, which can be killed at any instant."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from client import Client, VarlinkError
from process import Process


class Lost(Exception):
    """What the daemon had acknowledged is gone."""


class Link:
    """One session's way to the daemon."""

    def __init__(self, path, name):
        self.path, self.name = path, name
        self.client = None
        self.attached = False
        self.counts = []  # what Attach told at each resumption since it was last asked
        self.connects = 0

    def connect(self):
        while True:
            try:
                client = Client(self.path)
            except (ConnectionRefusedError, BlockingIOError):
                time.sleep(0.005)
                continue
            self.connects += 1
            try:
                return client, client.attach(self.name)
            except ConnectionError:
                client.close()
            except BaseException:
                client.close()
                raise

    def attach(self):
        """(how it starts, objects, whether an Attach before that had no answer)"""
        before = self.connects
        self.client, answer = self.connect()
        self.attached = True
        return answer["start"], answer["objects"], self.connects - before > 1

    def run(self, exchange, may_be_new=False):
        """exchange(client), repeated until it is answered. (its result, whether it was repeated)"""
        repeated = False
        while True:
            if not self.client:
                self.client, answer = self.connect()
                if answer["start"] == "new" and may_be_new:
                    pass  # the release was done; this one is empty
                elif answer["start"] != "resumed":
                    raise Lost(f"session {self.name} of a living holder is {answer['start']}")
                else:
                    self.counts.append(answer["objects"])
            try:
                return exchange(self.client), repeated
            except ConnectionError:
                self.close()
                repeated = True

    def close(self):
        if self.client:
            self.client.close()
        self.client = None


class LinkedProcess(Process):
    """The process. Each of its requests names a session, and each answer comes with the counts of
    objects that Attach told at resumptions."""

    errors = (VarlinkError, Lost, OSError)

    def __init__(self, path):
        self.path = path
        self.links = {}  # in the process
        super().__init__()

    def obey(self, name, fds, session, *arguments):
        link = self.links.setdefault(session, Link(self.path, session))
        answer, back = self.outcome(getattr(self, "do_" + name), link, fds, *arguments)
        counts, link.counts = link.counts, []
        if name == "release":
            self.links.pop(session).close()
        return (answer, counts), back

    def do_attach(self, link, fds):
        return link.attach(), []

    def do_store(self, link, fds, messages):
        """messages: of (objects, number of descriptors); they take effect together."""

        def exchange(client):
            at = 0
            for i, (objects, n) in enumerate(messages):
                more = {"continues": True} if i < len(messages) - 1 else {}
                client.store(objects, fds[at : at + n], **more)
                at += n

        return link.run(exchange)[1], []

    def do_call(self, link, fds, method, parameters):
        answer, repeated = link.run(lambda client: client.call(method, parameters)[0])
        return (answer, repeated), []

    def do_remove(self, link, fds, kind, name):
        def exchange(client):
            try:
                client.call("Remove", {"kind": kind, "name": name})
            except VarlinkError as error:
                return error

        error, repeated = link.run(exchange)
        if error and not (repeated and error.short == "NoSuchObject"):
            raise error
        return repeated, []

    def do_release(self, link, fds):
        return link.run(lambda client: client.call("Release"), may_be_new=True)[1], []

    def do_fetch(self, link, fds):
        held, _ = link.run(lambda client: client.fetch_all())
        return [item for item, _ in held], [fd for _, part in held for fd in part]
