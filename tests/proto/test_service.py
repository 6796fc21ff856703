# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every Varlink service answers, and how this one takes a call."""

import json
import os
import re
import shutil
import subprocess
import unittest

from client import SERVICE, SESSION, Client, VarlinkError, encode
from daemon import ROOT, Daemon
from daemontest import DaemonTest
from fds import eventfd

INTERFACES = ("org.varlink.service", "io.vfiocpr.Session")


def description(name):
    with open(os.path.join(ROOT, "common", name + ".varlink")) as text:
        return text.read()


def encode_utf8(method, parameters):
    """The bytes of a call, with its characters as they are."""
    method = method if "." in method else SESSION + method
    message = {"method": method, "parameters": parameters}
    return json.dumps(message, ensure_ascii=False).encode() + b"\0"


class Service(DaemonTest):
    def test_get_info_names_both_interfaces(self):
        info = self.client().call(SERVICE + "GetInfo")[0]
        self.assertEqual(set(info), {"vendor", "product", "version", "url", "interfaces"})
        self.assertEqual(info["product"], "vfio-cprd")
        self.assertEqual(sorted(info["interfaces"]), sorted(INTERFACES))

    def test_an_interface_description_is_the_file_byte_for_byte(self):
        client = self.client()
        for name in INTERFACES:
            answer = client.call(SERVICE + "GetInterfaceDescription", {"interface": name})[0]
            self.assertEqual(answer, {"description": description(name)})

    def test_an_unknown_interface_is_told_by_name(self):
        client = self.client()
        for method, name in (
            ("com.example.Thing.Do", "com.example.Thing"),
            ("io.vfiocpr.Sessio.List", "io.vfiocpr.Sessio"),
            ("io.vfiocpr.Session.x.List", "io.vfiocpr.Session.x"),
            (".", ""),
        ):
            with self.refused(SERVICE + "InterfaceNotFound") as caught:
                client.call(method)
            self.assertEqual(caught.exception.parameters, {"interface": name})
        client.send_raw(b'{"method":"nodots"}\0')
        with self.refused("InterfaceNotFound"):
            client.receive()
        with self.refused(SERVICE + "InterfaceNotFound"):
            client.call(SERVICE + "GetInterfaceDescription", {"interface": "com.example.Thing"})
        self.assertIdle(2)

    def test_an_unknown_method_is_told_by_its_full_name(self):
        client = self.client()
        for method in ("io.vfiocpr.Session.Lost", SERVICE + "getInfo", "io.vfiocpr.Session."):
            with self.refused(SERVICE + "MethodNotFound") as caught:
                client.call(method)
            self.assertEqual(caught.exception.parameters, {"method": method})

    def test_unknown_fields_are_refused_and_the_connection_goes_on(self):
        client = self.client()
        for method, parameters in (
            (SERVICE + "GetInfo", {"x": 1}),
            (SERVICE + "GetInterfaceDescription", {"interface": "org.varlink.service", "x": 1}),
            ("Attach", {"name": "vm", "colour": "red"}),
            ("List", {"x": []}),
            ("Status", {"x": 1}),
            ("Show", {"name": "vm", "x": 1}),
            ("Release", {"name": "vm", "x": 1}),
            ("Mappings", {"name": "vm", "space": "s", "x": 1}),
        ):
            with self.refused(SERVICE + "InvalidParameter", "is not known") as caught:
                client.call(method, parameters)
            (unknown,) = {"x", "colour"} & set(parameters)
            self.assertEqual(caught.exception.parameters["parameter"], unknown)
        self.assertEqual(client.sessions(), {})

    def test_what_an_answer_quotes_may_be_cut_in_the_middle_of_a_character(self):
        client = self.client()
        for n in range(20, 100):
            for character in ("\u00e4", "\u20ac", "\U0001f98a"):
                name = "x" * (n % 4) + character * n
                for method, parameters in (
                    ("List", {name: 1}),
                    ("Attach", {"name": "vm", name: 1}),
                    ("com.example." + name, {}),
                    ("Session." + name + ".Do", {}),
                ):
                    with self.assertRaises(VarlinkError):
                        client.send_raw(encode_utf8(method, parameters))
                        client.receive()
                bad = self.client()
                bad.send_raw(b'{"method":"' + name.encode() + b'",}\0')
                self.assertCut(bad)
                bad.close()
        client.attach("vm")
        fox = "\U0001f98a" * 60
        for n in range(4):
            with self.assertRaises(VarlinkError):
                objects = [{"id": 1, "kind": "eventfd", "name": "e", "x" * n + fox: 1}]
                client.send_raw(encode_utf8("Store", {"objects": objects}))
                client.receive()

    def test_missing_and_mistyped_parameters_are_refused(self):
        client = self.client()
        for method, parameters in (
            ("Attach", {}),
            ("Attach", {"name": 1}),
            ("Attach", {"name": ["vm"]}),
            ("Attach", {"name": "vm", "uid": "0"}),
            ("Attach", {"name": "vm", "uid": 0.5}),
            ("Show", {}),
            ("Mappings", {"name": "vm"}),
            (SERVICE + "GetInterfaceDescription", {"interface": {}}),
        ):
            with self.refused(SERVICE + "InvalidParameter") as caught:
                client.call(method, parameters)
            told = caught.exception.parameters
            if "uid" in parameters:
                self.assertEqual(told["parameter"], "uid")
            elif told["message"].endswith(" is missing"):
                self.assertNotIn(told["parameter"], parameters)
            else:
                self.assertRegex(told["message"], "wrong type: .*xpected")
        self.assertEqual(client.sessions(), {})

    def test_explicit_nulls_are_fields_left_out(self):
        client = self.client()
        self.assertEqual(client.call("Attach", {"name": "vm", "uid": None})[0]["start"], "new")
        fd = eventfd()
        client.store(
            [
                {
                    "id": 1,
                    "kind": "eventfd",
                    "name": "e",
                    "first": None,
                    "count": None,
                    "firstFileDescriptor": 0,
                    "space": None,
                    "device": None,
                    "irqIndex": None,
                    "size": None,
                }
            ],
            [fd],
            continues=None,
        )
        self.assertEqual(len(client.show("vm", uid=None)["objects"]), 1)
        client.send_raw(b'{"method":"io.vfiocpr.Session.List","parameters":null,"more":null}\0')
        self.assertEqual(len(client.receive()[0]["sessions"]), 1)

    def test_a_oneway_call_has_no_answer_and_is_done(self):
        client = self.client()
        client.send("io.vfiocpr.Session.Attach", {"name": "quiet"}, oneway=True)
        client.send("io.vfiocpr.Session.Nothing", oneway=True)
        client.send(SERVICE + "GetInfo", {"x": 1}, oneway=True)
        self.assertEqual(list(client.sessions()), [(os.getuid(), "quiet")])

    def test_pipelined_calls_are_answered_in_order(self):
        client = self.client()
        names = [f"com.example.i{i}" for i in range(200)]
        client.send_raw(b"".join(encode(name + ".Do") for name in names))
        for name in names:
            message, _ = client.receive_message()
            self.assertEqual(message["parameters"], {"interface": name})

    def test_monitor_without_more_is_told_to_expect_more(self):
        client = self.client()
        with self.refused(SERVICE + "ExpectedMore"):
            client.call("Monitor")
        with self.refused(SERVICE + "ExpectedMore"):
            client.call("Monitor", {"name": "vm"}, more=False)
        with self.refused(SERVICE + "InvalidParameter", "empty name"):
            client.call("Monitor", {"name": ""}, more=True)
        self.assertEqual(client.sessions(), {})

    def test_more_on_a_single_answer_method_is_answered_once(self):
        client = self.client()
        self.assertEqual(len(list(client.call_more("List"))), 1)
        self.assertEqual(len(list(client.call_more(SERVICE + "GetInfo"))), 1)

    def test_descriptors_for_a_method_that_takes_none_are_refused_and_closed(self):
        client = self.client()
        for method in (SERVICE + "GetInfo", "List", "Commit", "No.Such"):
            with self.assertRaises(Exception) as caught:
                client.call(method, {}, [eventfd(), eventfd()])
            self.assertIn(caught.exception.short, ("InvalidParameter", "InterfaceNotFound"))
        self.assertIdle(2)

    def test_status_tells_version_pid_and_that_a_restart_would_lose_all(self):
        status = self.client().call("Status")[0]
        self.assertEqual(status["pid"], self.daemon.pid)
        self.assertEqual((status["sessions"], status["orphans"], status["descriptors"]), (0, 0, 0))
        self.assertGreater(status["descriptorLimit"], 0)
        self.assertIs(status["survivesRestart"], False)
        self.assertIn("loses every session", status["warning"])


class Debugging(unittest.TestCase):
    """With debug messages every call is in the log, and every refusal, whoever's error it is."""

    def test_each_call_that_is_done_is_logged_and_each_change_of_a_state(self):
        daemon = Daemon(env={"G_MESSAGES_DEBUG": "vfio-cprd"})
        self.addCleanup(daemon.kill)
        process = f"process {os.getpid()} (uid {os.getuid()})"
        with Client(daemon) as client:
            client.attach("vm")
            client.call("Fetch", {"cursor": 0})
            client.call("Release")
            client.call(SERVICE + "GetInfo")
        log = daemon.log()
        for method in ("Attach", "Fetch", "Release"):
            pattern = re.escape(f"debug: {process}: {SESSION}{method} done in ") + r"\d+ us$"
            self.assertEqual(len(re.findall(pattern, log, re.M)), 1, log)
        self.assertIn(f"{SERVICE}GetInfo done in", log)
        self.assertIn("debug: session vm was active, and is releasing\n", log)
        self.assertNotIn("was refused", log)

    def test_each_refused_call_is_logged_with_its_method_and_reason(self):
        daemon = Daemon(env={"G_MESSAGES_DEBUG": "vfio-cprd"})
        self.addCleanup(daemon.kill)
        with Client(daemon) as client:
            for method, parameters, error in (
                ("Show", {"name": "none"}, "Show: NoSuchSession: there is no session none"),
                ("Show", {"name": 1}, "Show: InvalidParameter: "),
                ("Show", {"name": "vm", "uid": -1}, "Show: InvalidParameter: "),
                ("Commit", {}, "Commit: NotHolder: "),
                ("Monitor", {}, "Monitor: ExpectedMore: "),
                ("Nothing", {}, "Nothing: MethodNotFound: "),
                ("com.example.Thing.Do\nx\x1b[1m", {}, "Do\\x0ax\\x1b[1m: InterfaceNotFound: "),
            ):
                with self.assertRaises(VarlinkError):
                    client.call(method, parameters)
                begin = f"vfio-cprd: debug: process {os.getpid()} (uid {os.getuid()}) was refused "
                self.assertIn(begin + error, daemon.log())
            client.send(SESSION + "Fetch", {"cursor": 0}, oneway=True)
            client.call(SERVICE + "GetInfo")
            self.assertIn("Fetch: NotHolder", daemon.log(), "nobody waits for the answer")
        for line in daemon.log().splitlines():
            self.assertTrue(line.startswith("vfio-cprd: "), line)


class Varlinkctl(DaemonTest):
    """The daemon as systemd's own client sees it."""

    def setUp(self):
        if not shutil.which("varlinkctl"):
            self.skipTest("varlinkctl is not installed (systemd 255 or newer)")
        super().setUp()

    def varlinkctl(self, *arguments):
        return subprocess.run(
            ["varlinkctl", "--no-pager", *arguments], capture_output=True, text=True
        )

    def test_varlinkctl_reads_the_interfaces_and_calls_methods(self):
        address = "unix:" + self.daemon.path
        info = self.varlinkctl("info", address)
        self.assertEqual(info.returncode, 0, info.stderr)
        self.assertIn("io.vfiocpr.Session", info.stdout)
        text = self.varlinkctl("introspect", address, "io.vfiocpr.Session")
        self.assertEqual(text.returncode, 0, text.stderr)
        self.assertIn("method Attach", text.stdout)
        listed = self.varlinkctl("call", "--json=short", address, SESSION + "List", "{}")
        self.assertEqual(json.loads(listed.stdout), {"sessions": []})
        bad = self.varlinkctl("call", address, SESSION + "Show", '{"name":"none"}')
        self.assertNotEqual(bad.returncode, 0)
        self.assertIn("NoSuchSession", bad.stderr + bad.stdout)
        # Its own parser of the description is the check that it is valid Varlink.
        valid = self.varlinkctl(
            "validate-idl", os.path.join(ROOT, "common", "io.vfiocpr.Session.varlink")
        )
        self.assertEqual(valid.returncode, 0, valid.stderr)
