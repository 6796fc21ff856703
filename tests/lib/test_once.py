# SPDX-License-Identifier: LGPL-2.1-or-later
"""once.sh: what is analyzed again, and what is not."""

import os
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
BEFORE = {"version": "tool 1", "flags": ["-DA=1"], "words": ["first"], "settings": "strict\n",
          "file.c": "#include \"file.h\"\nint f(void); // a remark\n", "file.h": "#define B 1\n"}


class Once(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def analyze(self, status=0, **changed):
        """Whether the tool ran, which ends with that status."""
        given = {**BEFORE, **changed}
        for name in ("settings", "file.c", "file.h"):
            with open(self.path(name), "w", encoding="utf-8") as file:
                file.write(given[name])
        with open(self.path("status"), "w", encoding="ascii") as file:
            print(status, file=file)
        done = subprocess.run(
            [os.path.join(HERE, "once.sh"), given["version"], "settings", "file.c",
             *given["flags"], "--", "sh", "-c", "echo ran; exit $(cat status)", *given["words"]],
            cwd=self.folder, env={**os.environ, "XDG_CACHE_HOME": self.path("cache")},
            stdout=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, status)
        return done.stdout == "ran\n"

    def test_clean(self):
        """What was clean is not analyzed again"""
        self.assertTrue(self.analyze())
        self.assertFalse(self.analyze())

    def test_bad(self):
        """What was not clean is analyzed until it is"""
        self.assertTrue(self.analyze(1))
        self.assertTrue(self.analyze(1))
        self.assertTrue(self.analyze())
        self.assertFalse(self.analyze())

    def test_changed(self):
        """A change of text, comment, header, macro, flag, settings, tool or its words is analyzed"""
        self.assertTrue(self.analyze())
        for changed in ({"file.c": BEFORE["file.c"] + "int g(void);\n"},
                        {"file.c": BEFORE["file.c"].replace("remark", "suppression")},
                        {"file.h": "#define B 2\n"}, {"flags": ["-DA=2"]}, {"flags": []},
                        {"settings": "lax\n"}, {"version": "tool 2"}, {"words": ["second"]}):
            with self.subTest(str(changed)):
                self.assertTrue(self.analyze(**changed))
        self.assertFalse(self.analyze())

    def test_no_c(self):
        """What cannot be preprocessed is the tool's each time"""
        for _ in range(2):
            self.assertTrue(self.analyze(**{"file.c": '#include "absent.h"\n'}))


if __name__ == "__main__":
    unittest.main()
