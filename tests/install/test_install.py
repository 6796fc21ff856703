# SPDX-License-Identifier: LGPL-2.1-or-later
"""On a clean Debian 12 and 13, with the packages that README.md installs and no others: it builds,
it installs to either prefix, programs link it shared and static and start, and nothing of it stays
after its removal. All command lines are README.md's and the manual pages' own."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import roots  # noqa: E402

# The driver of libvfio-cpr(3) and the line that builds it: it starts, and finds no daemon.
PAGE = "docs/libvfio-cpr.3"
NO_DAEMON = "open: "


def example():
    """(source, command) of the library's page."""
    found = [block for block in roots.commands.blocks() if block.page == PAGE]
    source = next(block.text for block in found if block.is_c)
    command = next(command for block in found if not block.is_c for command in block.commands())
    assert "pkg-config" in command and "driver.c" in command, command
    return source, command


def static(command):
    """The same for a program without shared libraries."""
    program, rest = command.split(" ", 1)
    return f"{program} -static {rest}".replace("pkg-config", "pkg-config --static")


class Install:
    """For each release. The tests go on where the last one stopped: their names have an order."""

    release = None
    places = ("/usr", "/etc/systemd", "/opt")

    @classmethod
    def setUpClass(cls):
        if os.getuid() != 0:
            return
        cls.readme = roots.Readme()
        cls.root = roots.Root(cls.release)
        cls.addClassCleanup(cls.root.remove)
        cls.clean = cls.root.files(*cls.places)

    def setUp(self):
        if os.getuid() != 0:
            self.skipTest("only root may use chroot")

    def install(self, change=lambda line: line):
        assert self.readme.install, "README.md has no line that installs"
        for line in self.readme.install:
            self.root.must(change(line))
        source, _ = example()
        self.root.write(roots.USER + "/driver.c", source)

    def uninstall(self, change=lambda line: line):
        assert self.readme.uninstall, "README.md has no line that uninstalls"
        for line in self.readme.uninstall:
            self.root.must(change(line))
        left = self.root.files(*self.places) - self.clean
        assert not left, f"left after {self.readme.uninstall}: {sorted(left)}"
        lost = self.clean - self.root.files(*self.places)
        assert not lost, f"of the system, removed by {self.readme.uninstall}: {sorted(lost)}"

    def link_and_start(self, command):
        self.root.must(command, roots.USER)
        status, text = self.root.run("./a.out", roots.USER)
        assert status == 1 and text.startswith(NO_DAEMON), f"{command}; ./a.out: {status}\n{text}"

    def installed_programs_start(self):
        for program in ("vfio-cprd", "vfio-cprctl"):
            assert self.root.must(f"{program} --version", "/").startswith(program), program
        status, text = self.root.run("vfio-cprctl list", "/")
        assert status in (1, 4) and "vfio-cprd.socket" in text, (status, text)

    def test_1_build(self):
        assert self.readme.build, "README.md has no line that builds"
        self.root.build()

    def test_2_default_install(self):
        self.install(roots.without_prefix)
        self.installed_programs_start()

    def test_3_default_shared(self):
        self.link_and_start(example()[1])

    def test_4_default_static(self):
        self.link_and_start(static(example()[1]))
        status, text = self.root.run("ldd a.out", roots.USER)
        assert status == 1 and "not a dynamic executable" in text, text

    def test_5_default_uninstall(self):
        self.uninstall(roots.without_prefix)

    def test_6_install(self):
        self.install()
        self.installed_programs_start()

    def test_7_shared_and_static(self):
        self.link_and_start(example()[1])
        self.link_and_start(static(example()[1]))

    def test_8_install_over(self):
        self.install()
        self.installed_programs_start()

    def test_9_uninstall(self):
        self.uninstall()


SENTENCES = {
    "test_1_build": "what README.md installs is enough to build it",
    "test_2_default_install": "it installs without a PREFIX, and starts",
    "test_3_default_shared": "after that the manual page's driver links by its line, and starts",
    "test_4_default_static": "and as a static program",
    "test_5_default_uninstall": "removed again, it leaves nothing and takes nothing else",
    "test_6_install": "README.md's install line works, and the programs start",
    "test_7_shared_and_static": "after that the driver links shared and static, and starts",
    "test_8_install_over": "it installs over itself",
    "test_9_uninstall": "README.md's uninstall line leaves nothing",
}


def add_release(release, name):
    """A class of tests, each with a sentence that names the Debian."""
    def test(base, sentence):
        def run(self):
            base(self)
        run.__doc__ = f"{name}: {sentence}"
        return run

    body = {method: test(getattr(Install, method), sentence)
            for method, sentence in SENTENCES.items()}
    globals()[name.replace(" ", "")] = type(name, (Install, unittest.TestCase),
                                            {"release": release, **body})


add_release("bookworm", "Debian 12")
add_release("trixie", "Debian 13")
