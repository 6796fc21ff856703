# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfio-cprctl for tests: run to its end, and a daemon that tells it what no test can really have."""

import json
import os
import socket
import subprocess
import tempfile
import threading
import unittest

from daemon import BUILD

CTL = os.path.join(BUILD, "vfio-cprctl")
OK, FAILURE, USAGE, NO_SESSION, NO_DAEMON = range(5)


class Done:
    """What a program printed, and how it ended."""

    def __init__(self, *words, env=None, input=None, **options):
        options |= {} if input is None else {"input": input}
        run = subprocess.run(
            words,
            **{**({} if "input" in options else {"stdin": subprocess.DEVNULL}), **options},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
        )
        self.status, self.out, self.err = run.returncode, run.stdout, run.stderr

    def __repr__(self):
        return f"status {self.status}\n{self.out}\n{self.err}"


def ctl(where, *words, **options):
    return Done(CTL, "--socket", getattr(where, "path", where), *words, **options)


class Stub:
    """A daemon that says what it is told to: of devices, which no test without VFIO can store. answers:
    method -> parameters of the answer, an (error, parameters), or a function of the call's parameters."""

    def __init__(self, **answers):
        self.answers, self.calls = answers, []
        self.directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.directory.name, "socket")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.directory.cleanup()

    def accept(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection):
        with connection, connection.makefile("rb") as stream:
            buffer = b""
            while byte := stream.read(1):
                if byte != b"\0":
                    buffer += byte
                    continue
                call, buffer = json.loads(buffer), b""
                method, parameters = call["method"].rpartition(".")[2], call.get("parameters", {})
                self.calls.append((method, parameters))
                answer = self.answers[method]
                if callable(answer):
                    answer = answer(parameters)
                if isinstance(answer, tuple):
                    message = {"error": answer[0], "parameters": answer[1]}
                else:
                    message = {"parameters": answer, "continues": bool(call.get("more"))}
                connection.sendall(json.dumps(message).encode() + b"\0")


def info(name, uid=0, state="active", pid=None, unit=None, devices=None, age=192_000_000, **more):
    """A SessionInfo. devices: a list, or the number that a daemon of before 0.2.0 tells."""
    hidden = isinstance(devices, int)
    count = devices if hidden else len(devices or [])
    told = {
        "name": name,
        "uid": uid,
        "state": state,
        "holder": {"pid": pid, "unit": unit} if pid else None,
        "objects": [{"kind": "device", "count": count}] if count else [],
        "mappings": 3,
        "pendingInterrupts": 7,
        "ageUsec": age,
    }
    if not hidden:
        told.update(unit=unit, devices=devices)
    return {**told, **more}


class StubTest(unittest.TestCase):
    def stub(self, *sessions, **answers):
        status = {"version": "0.2.0", "survivesRestart": True}
        shown = {"objects": [], "spaces": [], "pending": []}

        def show(parameters):
            return {**shown, "session": self.find(sessions, **parameters)}

        answers = {"List": {"sessions": sessions}, "Status": status, "Show": show, **answers}
        stub = Stub(**answers)
        self.addCleanup(stub.close)
        return stub

    @staticmethod
    def find(sessions, name, uid):
        return next(s for s in sessions if (s["name"], s["uid"]) == (name, uid))


BDF = [f"0000:3b:00.{function}" for function in range(5)]
