# SPDX-License-Identifier: LGPL-2.1-or-later
"""Journals as released versions have written them: recordings/VERSION.json has the records of one
session, each with what its descriptors were, [what, how many]. Today's daemon reads them."""

import json
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from fds import describe, eventfd, make_table, memfd, state_memfd, track
from journaltest import JournalTest, planted
from patience import eventually

MAKE = {"eventfd": eventfd, "table": make_table, "memory": memfd, "state": state_memfd,
        "pidfd": lambda: track(os.pidfd_open(os.getpid()))}


class Recordings(JournalTest):
    def replay(self, version):
        """Into the store; {(kind, name, number): descriptor} of what was stored last."""
        last = {}
        with open(os.path.join(HERE, "recordings", version + ".json"), encoding="utf-8") as file:
            records = json.load(file)
        found = []
        for record, runs in records:
            fds = [MAKE[what]() for what, n in runs for _ in range(n)]
            if "since" in record:
                record["since"] = time.monotonic_ns() // 1000  # the recording's clock is not ours
            for item in record.get("objects", []):
                for i in range(item.get("count", 1)):
                    key = item["kind"], item["name"], item.get("first", 0) + i
                    last[key] = fds[item["firstFileDescriptor"] + i]
            if record["op"] == "remove":
                last.pop((record["kind"], record["name"], 0), None)
            found.append((record, fds))
        planted(self.daemon, *found)
        return last

    def test_what_a_released_version_has_written_is_claimed_whole(self):
        for version in ("0.1.0", "0.2.0"):
            with self.subTest(version=version):
                held = self.replay(version)
                self.restart()
                for _ in range(2):
                    # What was removed is in the queue until it is written anew, at once.
                    self.assertTrue(eventually(lambda: not self.sessions()["vm1"]["warning"]))
                    self.assertEqual(self.sessions()["vm1"]["state"], "orphaned")
                    vm = self.claim("vm1", 33)
                    fetched = {(item["kind"], item["name"], item.get("first", 0) + i): fd
                               for item, fds in vm.fetch() for i, fd in enumerate(fds)}
                    self.assertEqual(set(fetched), set(held))
                    self.assertSameFiles([held[key] for key in sorted(held)],
                                         [fetched[key] for key in sorted(held)])
                    # Written anew, it is a journal of today's.
                    vm.store([describe("eventfd", "x", 77)], [eventfd()])
                    vm.call("Remove", {"kind": "eventfd", "name": "x"})
                    self.assertStored(1)
                    vm.kill()
                    self.restart()
                self.release("vm1")
                self.assertStored(0)
