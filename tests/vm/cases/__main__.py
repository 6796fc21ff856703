# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tests on a real kernel with real VFIO: cases NAME BACKEND runs one, --list lists them.

Each starts a daemon of its own, VMMs of its own on edu devices, and looks at the end whether the
daemon leaked anything.
"""

import sys

from case import Case
import attacks
import checks
import handover
import interrupts
import mappings
import rights
from vmm import BUILD

MODULES = (handover, mappings, interrupts, rights, checks, attacks)
LONG = ("kill_100_times", "successor_killed_at_each_step")
SECONDS = {"kill_100_times": 600, "successor_killed_at_each_step": 400, "many_mappings": 300}


def cases_of(module):
    """Its functions that take a case and nothing else."""
    return {name: function for name, function in vars(module).items()
            if getattr(function, "__module__", None) == module.__name__
            and hasattr(function, "__code__")
            and function.__code__.co_varnames[:function.__code__.co_argcount] == ("case",)}


CASES = {name: function for module in MODULES for name, function in cases_of(module).items()}


def print_list(backends):
    """The test VM's list: each case for each backend. What is long is not run with type1 where there
    is iommufd as well: Debian's kernel has type1 alone, and runs it there."""
    for backend in backends:
        for name in CASES:
            if name in LONG and backend == "type1" and "iommufd" in backends:
                continue
            print(f"{name.replace('_', '-')}-{backend}", SECONDS.get(name, 120),
                  f"env BUILD={BUILD} python3 /tests/vm/cases {name} {backend}")


def main():
    if sys.argv[1] == "--list":
        print_list(sys.argv[2:])
        return
    name, backend = sys.argv[1:3]
    case = Case(backend)
    print(CASES[name].__doc__)
    try:
        CASES[name](case)
        case.finish()
    except Exception:
        sys.stdout.flush()
        print(case.daemon.log())
        raise


if __name__ == "__main__":
    main()
