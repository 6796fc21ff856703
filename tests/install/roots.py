#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A clean Debian to build in, with the commands that README.md gives and nothing else.

    roots.py tree RELEASE     prints the path of a tar: the source, built there by the README's make

The source is what git tracks, as it is in the working tree (without git: all but build/). A built
tree is kept below build/install, and used again while neither the source nor the root has changed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs"))
import commands  # noqa: E402 (of the documents)

ROOT = commands.ROOT
HERE = os.path.join(ROOT, "tests", "install")
KEPT = os.path.join(ROOT, "build", "install")
SOURCE = "/root/vfio-cprd"
USER = "/root/user"


def output(*words, **options):
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def sources():
    """The paths of all files of the source."""
    if os.path.exists(os.path.join(ROOT, ".git")):
        found = output("git", "-C", ROOT, "ls-files", "-z").split("\0")
    else:
        found = output("find", ".", "-path", "./build", "-prune", "-o", "-type", "f", "-print0",
                       cwd=ROOT).split("\0")
    return sorted(path for path in found if path and os.path.exists(os.path.join(ROOT, path)))


class Readme:
    """The README's lines for a build, as it has them."""

    def __init__(self):
        found = commands.blocks()
        lines = [command for block in found
                 if block.page == commands.README and block.section == commands.BUILD_SECTION
                 and not block.is_c and not block.is_span for command in block.commands()]
        make = [line for line in lines if line.split()[0] == "make"]
        self.build = [line for line in make if "install" not in line]
        self.install = [line for line in make if "install" in line.split()]
        self.uninstall = [line for line in make if "uninstall" in line.split()]


def without_prefix(line):
    return " ".join(word for word in line.split() if not word.startswith("PREFIX="))


class Root:
    """A root file system that may be changed."""

    def __init__(self, release):
        self.image = output(os.path.join(HERE, "root.sh"), release).strip()
        self.release = release
        self.folder = tempfile.mkdtemp(prefix=f"vfio-cprd-{release}-")
        self.path = os.path.join(self.folder, "root")
        try:
            subprocess.run(["unsquashfs", "-quiet", "-no-progress", "-dest", self.path, self.image],
                           check=True, stdout=subprocess.DEVNULL)
            os.makedirs(self.path + SOURCE)
            os.makedirs(self.path + USER)
        except BaseException:
            self.remove()
            raise

    def remove(self):
        shutil.rmtree(self.folder)

    def run(self, command, folder=SOURCE):
        """(status, output) of a shell command in it."""
        done = subprocess.run(
            [os.path.join(HERE, "chroot.sh"), self.path, folder, command], check=False, text=True,
            errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        return done.returncode, done.stdout

    def must(self, command, folder=SOURCE):
        status, text = self.run(command, folder)
        assert status == 0, f"on Debian {self.release}: {command}\nended with {status}:\n{text}"
        return text

    def write(self, path, text):
        with open(self.path + path, "w", encoding="utf-8") as file:
            file.write(text)

    def files(self, *folders):
        """All that is not a folder."""
        found = set()
        for top in folders:
            for folder, _, names in os.walk(self.path + top):
                found.update(os.path.join(folder, name)[len(self.path):] for name in names)
        return found

    # The built source

    def _tar(self):
        digest = hashlib.sha256(self.image.encode())
        for path in sources():
            with open(os.path.join(ROOT, path), "rb") as file:
                digest.update(path.encode() + b"\0" + hashlib.sha256(file.read()).digest())
        return os.path.join(KEPT, f"{self.release}-{digest.hexdigest()[:12]}.tar")

    def build(self):
        """Builds the source as README.md says, or takes the same build of another time; its tar."""
        tar = self._tar()
        if os.path.exists(tar):
            subprocess.run(["tar", "-C", self.path + SOURCE, "-xf", tar], check=True)
            return tar
        subprocess.run(["tar", "-C", ROOT, "-cf", self.folder + "/source", "--no-recursion",
                        "--null", "-T", "-"], input="\0".join(sources()), text=True, check=True)
        subprocess.run(["tar", "-C", self.path + SOURCE, "--no-same-owner", "-xf",
                        self.folder + "/source"], check=True)
        for line in Readme().build:
            self.must(line)
        os.makedirs(KEPT, exist_ok=True)
        self._forget_older()
        subprocess.run(["tar", "-C", self.path + SOURCE, "-cf", tar + ".new", "."], check=True)
        os.rename(tar + ".new", tar)
        return tar

    def _forget_older(self):
        for name in os.listdir(KEPT):
            if name.startswith(self.release + "-"):
                os.unlink(os.path.join(KEPT, name))


def main():
    if len(sys.argv) != 3 or sys.argv[1] != "tree":
        sys.exit(__doc__)
    root = Root(sys.argv[2])
    try:
        print(root.build())
    finally:
        root.remove()


if __name__ == "__main__":
    main()
