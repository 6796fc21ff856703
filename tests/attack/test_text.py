# SPDX-License-Identifier: LGPL-2.1-or-later
"""Text that is no text, wherever text can be: in messages that are none, in the names of methods and
parameters, in what they are told. An answer is valid UTF-8 (the client's parser is strict), and the
log has no line that a peer has written."""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from attacktest import AttackTest
from client import SESSION, Client, Closed, encode
from fds import close, describe, eventfd

METHODS = (
    "Attach", "Store", "Fetch", "Remove", "Commit", "Release", "List", "Show", "Mappings", "Monitor",
    "Status",
)
CHARACTERS = "\u00e9", "\u20ac", "\U0001f600"  # of two, three and four bytes
# Not UTF-8: a lone byte, a cut character, too long forms, a surrogate, beyond the last character.
NOT_UTF8 = (
    b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80", b"\xfe\xfe\xff\xff", b"\x80",
)
# What a terminal, a log or a reader would take for something else.
TRICKS = (
    "a\nvfio-cprd: error: b", "\x1b[2J\x1b]0;x\x07", "\u202egnp.exe", "a\u2028b", "a\u2029b", "\u2066x",
    "\ufeff", "\u200b", "\x7f", "\u0085", "%s%n%s%n", "%999999999d", "../../etc/passwd", "'; rm -rf ~",
    "\ue000", "\ufffe", "\U0010ffff",
)
# In a name these end a line, or turn around what follows.
MISLEADING = "\n\x1b\x7f\u0085\u2028\u2029\u200e\u200f\u061c" + "".join(
    map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))
)


def say(attacker, _fds, message, n=1):
    """What the daemon answers to this on a connection of its own; None: it hung up without a word."""
    with Client(attacker.path) as client:
        try:
            client.send_raw(message)
            answers = [client.receive_message()[0] for _ in range(n)]
        except (Closed, ConnectionError):
            return None
    return answers[-1]


def say_all(attacker, _fds, messages):
    return [say(attacker, (), message) for message in messages]


def say_in_turn(attacker, _fds, messages):
    """The same over one connection, which has a session, so that calls get as far as they can."""
    client, answers = Client(attacker.path), []
    client.attach("text")
    for message in messages:
        client.send_raw(message)
        answer, fds = client.receive_message()
        for fd in fds:
            close(fd)
        answers.append(answer)
    client.call("Release")
    client.close()
    return answers


class Text(AttackTest):
    def setUp(self):
        super().setUp()
        self.evil = self.attacker()

    def assert_answered(self, messages, answers, error=None):
        for message, answer in zip(messages, answers, strict=True):
            self.assertIsNotNone(answer, f"no answer to {message[:80]}")
            if error:
                self.assertEqual(answer["error"].rpartition(".")[2], error, message[:80])

    def refuse_as_no_message(self, messages):
        answers = self.evil.run(say_all, messages)
        self.assert_answered(messages, answers, "ProtocolViolation")
        self.others_are_served(3, 1)

    def test_five_bytes_end_nobody(self):
        self.refuse_as_no_message([b'"\\\xc3\xa9\0'])

    def test_an_escape_before_a_character_of_many_bytes_ends_nobody(self):
        self.refuse_as_no_message([
            start + b"\\" + escape + character.encode() + end + b"\0"
            for start in (b'"', b'{"', b'{"method":"', b'["')
            for escape in (b"", b"u", b"u1", b"u12", b"u123", b"ud8", b"ud800\\", b"ud800\\u")
            for character in CHARACTERS
            for end in (b"", b'"')
        ])

    def test_lone_surrogates_and_nul_characters_end_nobody(self):
        self.refuse_as_no_message([
            b'{"method":"' + text + b'"}\0'
            for text in (b"\\ud800", b"\\udc00", b"\\ud800\\u0041", b"\\ud800x", b"\\udfff\\ud800")
        ])
        messages = [b'{"method":"a.\\u0000b"}\0', b'{"a\\u0000b":1,"method":"a.b"}\0']
        self.assert_answered(messages, self.evil.run(say_all, messages))

    def test_bytes_that_are_no_utf8_end_nobody(self):
        self.refuse_as_no_message([
            before + text + after + b"\0"
            for text in NOT_UTF8
            for before, after in (
                (b"", b""), (b'"', b'"'), (b'{"method":"io.vfiocpr.Session.', b'"}'), (b'{"', b'":1}'),
                (b'{"method":"a.b","parameters":{"', b'":1}}'), (b'{"a":', b"}"), (b"\\", b""),
            )
        ])

    def test_a_parsers_message_cut_inside_a_character_ends_nobody(self):
        # The parser cuts its text at 159 bytes, wherever in a character that is.
        keys = [
            "x" * shift + character * n
            for character in CHARACTERS for shift in range(4) for n in (5, 33, 38, 39, 40, 52, 79, 200)
        ]
        messages = [
            encode(SESSION + method, {key: 1}) for method in METHODS[:3] + METHODS[-1:] for key in keys
        ]
        self.assert_answered(messages, self.evil.run(say_in_turn, messages))
        messages = [json.dumps({"method": "a.b", key: 1}, ensure_ascii=False).encode() + b"\0"
                    for key in keys]
        self.assert_answered(messages, self.evil.run(say_all, messages))
        # Twenty bytes of what is no word are repeated in the message.
        self.refuse_as_no_message([
            ("x" * shift + character * n).encode() + b"\0"
            for character in CHARACTERS for shift in range(4) for n in range(1, 9)
        ])

    def test_any_method_is_told_any_text_for_any_parameter(self):
        texts = [*TRICKS, *(c * n for c in CHARACTERS for n in (1, 64, 86, 127, 128, 255, 256, 70000))]
        described = [
            {"id": 1, "kind": "eventfd", "name": "x", "firstFileDescriptor": 0, field: text}
            for field in ("kind", "name", "space", "device", "colour") for text in texts
        ]
        messages = [
            encode(SESSION + method, {**fixed, field: text})
            for method, field, fixed in (
                ("Remove", "name", {"kind": "memory"}), ("Remove", "kind", {"name": "x"}),
                ("Show", "name", {}), ("Mappings", "name", {"space": "x"}), ("Release", "name", {}),
                ("Mappings", "space", {"name": "text"}), ("Attach", "name", {}), ("Show", "uid", {}),
                ("Fetch", "cursor", {}), ("Store", "objects", {}),
            )
            for text in texts
        ]
        messages += [encode(SESSION + "Store", {"objects": [item]}) for item in described]
        messages += [encode("org.varlink.service.GetInterfaceDescription", {"interface": text})
                     for text in texts]
        self.assert_answered(messages, self.evil.run(say_in_turn, messages))
        self.assert_log_is_ours()

    def test_any_method_may_be_asked_for_by_any_name(self):
        texts = [*TRICKS, *(c * n for c in CHARACTERS for n in (1, 64, 255, 70000)), "", ".", "..", "a."]
        names = [form % {"t": text} for text in texts for form in (
            "%(t)s", "%(t)s.x", "io.vfiocpr.Session.%(t)s", "org.varlink.service.%(t)s", "a.%(t)s.b",
        )]
        messages = [json.dumps({"method": name}, ensure_ascii=False).encode() + b"\0" for name in names]
        self.assert_answered(messages, self.evil.run(say_all, messages))
        self.assert_log_is_ours()

    def test_a_name_that_a_reader_would_take_for_another_is_no_name(self):
        self.evil.attach("names")
        another = self.evil.connect()
        for i, character in enumerate(MISLEADING):
            text = f"a{character}b"
            with self.subTest(text=ascii(text)):
                with self.refused("InvalidParameter"):
                    self.evil.call("Attach", {"name": text}, connection=another)
                with self.refused("InvalidParameter"):
                    self.evil.store([describe("eventfd", text, 2 * i)], [eventfd()])
                with self.refused("InvalidParameter"):
                    self.evil.store([describe("eventfd", "e", 2 * i + 1, device=text)], [eventfd()])

    def assert_log_is_ours(self):
        log = self.daemon.log()
        for line in log.splitlines():
            self.assertTrue(line.startswith("vfio-cprd"), line[:200])
        bad = [c for c in log if c in "\x1b\x07\x7f\u202e\u2028\u2029\u2066\u0085"]
        self.assertEqual(bad, [])
