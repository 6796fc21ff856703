# SPDX-License-Identifier: LGPL-2.1-or-later
"""What docs/hacking.md says of the tree, read as it stands there and compared with the tree: the
floors of a folder, the invariants with their tests, and the files and functions that it names. Each
function returns a list of sentences: what does not hold."""

import ast
import glob
import os
import re

import circles

# Which folder, or which file of a folder, may be called from where; within itself each may.
FOLDERS = {"common": [], "daemon": ["common"], "client": ["common"],
           "cprctl": ["common", "client/connection", "client/refusal"]}


def section(page, heading):
    """The text below a heading, to the next one of any depth."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", page, re.M | re.S)
    return found.group(1) if found else ""


def numbered(text):
    """The items of a numbered list, each as one line: [(number, text)]."""
    items = re.findall(r"^(\d+)\. (.*(?:\n {2,}.*)*)", text, re.M)
    return [(int(number), " ".join(item.split())) for number, item in items]


def spans(text):
    return re.findall(r"`([^`]+)`", text)


# Floors


def floors(page, folder):
    """The files of each floor, from the top: what is in code spans before an item's first colon."""
    return [spans(item.split(":")[0]) for _, item in numbered(section(page, f"{folder}/"))]


def floor_problems(page, build, folder):
    list_of_floors = floors(page, folder)
    names = [name for floor in list_of_floors for name in floor]
    number = {name: i for i, floor in enumerate(list_of_floors, 1) for name in floor}
    graph = circles.calls(build, folder)
    problems = [f"{folder}/{name}.c is on no floor" for name in sorted(graph) if name not in number]
    problems += [f"{folder}/{name}.c is on a floor, but is not there"
                 for name in number if name not in graph]
    problems += [f"{folder}/{name}.c is on two floors" for name in number if names.count(name) > 1]
    for name in sorted(graph):
        for other in sorted(graph[name]):
            if name in number and other in number and number[other] < number[name]:
                problems.append(f"{folder}/{name}.c, on floor {number[name]}, calls "
                                f"{folder}/{other}.c, on floor {number[other]} above it")
    return problems


def folder_problems(build, folders):
    """Which file calls one of a folder that its own may not call."""
    objects = {folder: circles.objects_of(build, folder) for folder in folders}
    owner = {folder: {symbol: name for name, path in objects[folder].items()
                      for symbol in circles.symbols(path, "--defined-only")} for folder in folders}
    problems = []
    for folder, may_call in folders.items():
        for name, path in sorted(objects[folder].items()):
            for symbol in sorted(circles.symbols(path, "--undefined-only") - set(owner[folder])):
                callees = [(other, owner[other][symbol]) for other in folders
                           if symbol in owner[other]]
                if callees and not any(other in may_call or f"{other}/{file}" in may_call
                                       for other, file in callees):
                    problems.append(f"{folder}/{name}.c calls {symbol}() of "
                                    + " or ".join(f"{other}/{file}.c" for other, file in callees))
    return problems


# What the daemon keeps its hands off

# All that it asks of a device, a container or a socket by ioctl(). None maps, and none reads.
IOCTLS = {"daemon/kernel.c": {"VFIO_IOMMU_UNMAP_DMA", "IOMMU_IOAS_CHANGE_PROCESS",
                              "VFIO_GET_API_VERSION", "IOMMU_OPTION", "VFIO_DEVICE_GET_INFO",
                              "VFIO_GROUP_GET_STATUS"},
          "daemon/journal.c": {"SIOCOUTQ"}, "daemon/unread.c": {"SIOCOUTQ", "SIOCINQ"},
          "daemon/unwanted.c": {"SIOCINQ"}}
# What reads a descriptor or opens a file by its name. /proc and /sys are read through GLib.
READERS = re.compile(r"_*(preadv2?|pread|readv|read|openat|open|fopen|eventfd_read)(64)?(_chk|_2)?")
# Of what is the daemon's own; of mapping tables, by copying; two directories of /proc that it keeps
# open; /dev/null; and the lock of a socket's path.
MAY_READ = {("worker", "eventfd_read"), ("journal", "pread"), ("tableread", "pread"),
            ("fdinfo", "open"), ("fdinfo", "openat"), ("fdinfo", "read"),
            ("devnumbers", "open"), ("devnumbers", "pread"), ("listen", "open"),
            ("startup", "open")}
# What maps a file, whose pages its owner could take away or leave out.
MAPPERS = re.compile(r"_*(mmap|mremap|table_open)(64)?")


def hands_off_problems(build, ioctls):
    problems = []
    for name, path in sorted(circles.objects_of(build, "daemon").items()):
        file = f"daemon/{name}.c"
        used = circles.symbols(path, "--undefined-only")
        problems += [f"{file} calls {symbol}()" for symbol in sorted(used)
                     if (found := READERS.fullmatch(symbol)) and (name, found[1]) not in MAY_READ
                     or MAPPERS.fullmatch(symbol)]
        with open(file, encoding="utf-8") as source:
            requests = set(re.findall(r"\bioctl\([^,]+,\s*(\w+)", source.read()))
        problems += [f"{file} calls ioctl() with {request}"
                     for request in sorted(requests - ioctls.get(file, set()))]
        if "ioctl" in used and not requests:
            problems.append(f"{file} calls ioctl() in a way that is not understood")
    return problems


# Tests


def has_python_test(text, name):
    """A test_ method of a class, or the function of a case."""
    tree = ast.parse(text)
    holders = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    if not name.startswith("test_"):
        holders = [tree]
    return any(isinstance(part, ast.FunctionDef) and part.name == name
               for holder in holders for part in holder.body)


def has_test(path, name):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if path.endswith(".py"):
        return has_python_test(text, name)
    if path.endswith(".c"):
        return (f"START_TEST({name})" in text and
                bool(re.search(rf"tcase_add_\w+\(\w+, {name}\b", text)))
    return (bool(re.search(rf"^{name}\(\)", text, re.M)) and
            bool(re.search(rf"^holds .*(\\\n.*)?\b{name}\b", text, re.M)))


def all_tests():
    return sorted(path for ending in ("c", "py", "sh")
                  for path in glob.glob(f"tests/**/*.{ending}", recursive=True))


def test_problem(path, name):
    """What is wrong with a test that is named, or None."""
    if os.path.exists(path) and has_test(path, name):
        return None
    elsewhere = [other for other in all_tests() if has_test(other, name)]
    if elsewhere:
        return f"{path} has no {name}: it is in {', '.join(elsewhere)}"
    return f"{path} has no {name}" if os.path.exists(path) else f"there is no {path}"


def named_tests(text):
    """The tests that a text names, each behind its file or another test of that: [(file, test)]."""
    tests, path = [], ""
    for span in spans(text):
        if span.startswith("tests/"):
            path = span
        else:
            tests.append((path, span))
    return tests


def invariant_problems(page):
    items = numbered(section(page, "The invariants"))
    problems = [] if items else ["there are no invariants"]
    if [number for number, _ in items] != list(range(1, len(items) + 1)):
        problems.append("the invariants are not numbered from 1 on")
    for number, item in items:
        problems += held_problems(f"invariant {number}", item.partition("Held by")[2])
    return problems


def held_problems(what, text):
    tests = named_tests(text)
    problems = [] if tests else [f"{what} names no test that holds it"]
    return problems + [f"{what}: {problem}" for path, name in tests
                       if (problem := test_problem(path, name))]


def promise_problems(page):
    """The rows of docs/security.md's table of promises: | the promise | its tests |"""
    rows = re.findall(r"^\| (.*?) \| (.*?) \|$", section(page, "What is promised"), re.M)
    problems = [] if rows[1:] else ["there are no promises"]
    for promise, tests in rows[1:]:  # the first is the heading
        problems += held_problems(f'"{promise}"', tests)
    return problems


# Names


def sources():
    paths = [path for folder in (*FOLDERS, "include", "tests/unit")
             for path in glob.glob(f"{folder}/*.[ch]")]
    for path in paths:
        with open(path, encoding="utf-8") as file:
            yield file.read()


def name_problems(page):
    """The functions and the paths in code spans that the tree does not have."""
    text = "\n".join(sources())
    functions = {name for span in spans(page) for name in re.findall(r"^(\w+)\(\)$", span)}
    paths = {span for span in spans(page) if re.fullmatch(r"[\w.-]+(/[\w.*-]+)+", span)}
    return ([f"nothing calls or defines {name}()" for name in sorted(functions)
             if not re.search(rf"\b{name}\(", text)] +
            [f"there is no {path}" for path in sorted(paths) if not glob.glob(path)])
