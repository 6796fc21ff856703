# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tests with a real systemd, the real units and real devices: cases NAME BACKEND runs one,
--list lists them."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(1, os.path.join(HERE, "..", "..", "cases"))  # those of the VM without systemd
import death  # noqa: E402
import operation  # noqa: E402
import sandbox  # noqa: E402
from service import Case  # noqa: E402
import store  # noqa: E402
from vmm import BUILD  # noqa: E402
import vmms  # noqa: E402

CASES = {**operation.CASES, **death.CASES, **vmms.CASES, **sandbox.CASES, **store.CASES}


def print_list():
    for case, (seconds, devices) in CASES.items():
        for backend in ("type1", "iommufd") if devices else ("iommufd",):
            name = case.__name__.replace("_", "-") + (f"-{backend}" if devices else "")
            print(name, seconds, f"env BUILD={BUILD} python3 /tests/vm/systemd/cases",
                  case.__name__, backend)


def main():
    if sys.argv[1] == "--list":
        print_list()
        return
    name, backend = sys.argv[1:3]
    function = next(each for each in CASES if each.__name__ == name)
    print(function.__doc__)
    case = Case(backend)
    try:
        function(case)
        case.finish()
    except BaseException:
        sys.stdout.flush()
        print(case.log())
        raise


if __name__ == "__main__":
    main()
