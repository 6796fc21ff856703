# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each command of README.md and the manual pages must do, by its text as the page has it.

A command that is not here makes the tests fail, and so does a line here that no page has any more.
They run in the test VM (typed.py), in three stages: INSTALL in a machine that knows nothing of
vfio-cprd, USE, and REMOVE. Within a stage the pages' order is kept, and the commands of a block
share a shell.
"""

import dataclasses
from typing import Callable, Optional

INSTALL, USE, REMOVE = range(3)


@dataclasses.dataclass(frozen=True)
class Run:
    """It is run. given() comes before it; then(machine, output) looks at what has come of it."""
    stage: int = USE
    given: Optional[Callable] = None
    status: int = 0
    contains: tuple = ()
    then: Optional[Callable] = None
    # It goes on until it is stopped: then() is called while it runs, with a function that returns
    # its output so far.
    endless: bool = False


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """The test VM cannot run it. file, which must have text, is what runs it, and makes it fail."""
    why: str
    file: str
    text: str


@dataclasses.dataclass(frozen=True)
class Named:
    """Not to be typed as it stands: the text speaks of it."""
    why: str


# What the pages' examples call things, and what is meant here: machine's attribute
SUBSTITUTES = {
    "0000:3b:00.0": "device",
    "3b:00.0": "short_device",
}

PART = "a part of a command, of which the text speaks; whole ones are in the blocks"

COMMANDS = {
    # README.md
    "make demo": Elsewhere("boots a VM itself", "tests/check.sh", "run demo make demo"),
    "make check": Elsewhere("it is what runs this", ".ci/run", "exec make check\n"),
    "make bench": Elsewhere("takes half an hour, for the figures of", "docs/performance.md",
                            "`make bench` measures"),
    "make help": Run(contains=("make check", "make install")),
    "apt-get update": Run(INSTALL),
    "apt-get install -y gcc libc6-dev make pkg-config \\\n"
    "    libsystemd-dev libevent-dev libglib2.0-dev libjansson-dev libseccomp-dev": Run(INSTALL),
    "make": Run(INSTALL),
    "make install PREFIX=/usr": Run(INSTALL),
    "systemctl enable --now vfio-cprd.socket": Run(INSTALL),
    "vfio-cprctl list": Run(INSTALL, then=lambda m, _: m.check_installed()),
    "make install": Named(PART),
    "systemctl stop": Named(PART),
    "systemctl restart": Named(PART),
    "systemctl restart vfio-cprd": Run(
        given=lambda m: m.active("vm1"), then=lambda m, _: m.check_upgraded("vm1")),
    "systemctl disable --now vfio-cprd.socket": Run(REMOVE),
    "make uninstall PREFIX=/usr": Run(REMOVE),
    "vfio-cprd --socket /run/vfio-cprd/io.vfiocpr": Run(
        given=lambda m: m.no_daemon(), endless=True,
        then=lambda m, output: m.wait_for_answer(output)),
    "vfio-cprctl check 0000:3b:00.0": Run(contains=("iommufd",)),

    # libvfio-cpr(3)
    "cc driver.c $(pkg-config --cflags --libs libvfio-cpr)": Run(
        given=lambda m: m.write_driver(), then=lambda m, _: m.check_driver()),

    # vfio-cpr-protocol(7)
    "cd /run/vfio-cprd": Run(given=lambda m: m.orphan("vm1")),
    "varlinkctl info ./io.vfiocpr": Run(contains=("io.vfiocpr.Session",)),
    "varlinkctl introspect ./io.vfiocpr io.vfiocpr.Session": Run(contains=("method Attach",)),
    "varlinkctl call ./io.vfiocpr io.vfiocpr.Session.List '{}'": Run(contains=('"vm1"',)),
    "varlinkctl call ./io.vfiocpr io.vfiocpr.Session.Show \\\n    '{\"name\":\"vm1\"}'": Run(
        contains=('"vm1"', '"orphaned"')),
    "varlinkctl call --more ./io.vfiocpr io.vfiocpr.Session.Monitor '{}'": Run(
        endless=True, then=lambda m, output: m.check_monitor("vm1", output)),

    # vfio-cprctl(1)
    "vfio-cprctl list --json |\n"
    "    jq -r '.[] | select(.state == \"orphaned\") | \"\\(.name) \\(.ageUsec / 1e6)\"'": Run(
        given=lambda m: m.orphan("vm1"), contains=("vm1 ",)),
    "vfio-cprctl monitor --json |\n"
    "    jq --unbuffered -r 'select(.state == \"orphaned\") | .name' |\n"
    "    while read -r name; do systemctl start \"vm@$name\"; done": Run(
        given=lambda m: m.dead_unit("vm@vm1"), endless=True,
        then=lambda m, output: m.check_restarts("vm@vm1", "vm1", output)),
    "vfio-cprctl check --unit vm@web1 0000:3b:00.0": Run(
        given=lambda m: m.unit("vm@web1"), contains=("vm@web1.service",)),
    "vfio-cprctl release --yes vm1": Run(
        given=lambda m: m.orphan("vm1"), then=lambda m, _: m.check_gone("vm1")),

    "vfio-cprctl release --when-dead 3b:00.0": Run(
        given=lambda m: m.orphan("vm1"), then=lambda m, _: m.check_gone("vm1")),

    # vfio-cprd(8)
    "vfio-cprd --socket /tmp/cpr.socket &": Run(),
    "until test -S /tmp/cpr.socket; do sleep 0.1; done": Run(),
    "VFIO_CPR_SOCKET=/tmp/cpr.socket vfio-cprctl list": Run(contains=("started by hand",)),
    "journalctl -u vfio-cprd VFIO_CPR_SESSION=vm1": Run(
        given=lambda m: m.orphan("vm1"), contains=("session vm1 is orphaned",)),
}

# Blocks that are no commands, by their first line
SHOWN = {
    "iommufd: a device cdev, IOMMU_IOAS_CHANGE_PROCESS": "an excerpt of what make demo prints",
    'C {"method":"io.vfiocpr.Session.Attach",': "messages, which tests/proto sends",
    'S {"error":"io.vfiocpr.Session.Busy","parameters":{"message":': "an error's message",
}

# What goes around the pages' fragments in C, which compile with it: by their first line
FRAGMENTS = {
    "vfio_cpr_open(NULL, 0, &cpr);": """
#include <linux/vfio.h>
#include <vfio-cpr.h>

void start(uint64_t size, uint32_t prot, int n, int *eventfds);
void start(uint64_t size, uint32_t prot, int n, int *eventfds)
{
	struct vfio_cpr *cpr;
	struct vfio_cpr_space *space;
	struct vfio_cpr_device *device;
	struct vfio_cpr_memory *memory;
	enum vfio_cpr_start how;

	%s
}
""",
}
