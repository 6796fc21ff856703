# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the tests of /tests/list one by one, under systemd: the part of the harness's init that
cannot be one. The list, the verdicts and the lines on ttyS1 are as described there.

A test runs in a scope of its own, so that whatever it leaves behind is killed after it.
"""

import os
import queue
import re
import subprocess
import threading
import time
import tty

LIST = "/tests/list"
PORT = "/dev/ttyS1"
VFIO_PCI = "/sys/bus/pci/drivers/vfio-pci"
EDU = ("0x1234", "0x11e8")
COMPLAINT = re.compile(rb"BUG:|WARNING:|Oops|KASAN")
SKIPPED = 77


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def bind_edu_devices():
    for bdf in os.listdir("/sys/bus/pci/devices"):
        device = f"/sys/bus/pci/devices/{bdf}"
        if (read(device + "/vendor"), read(device + "/device")) == EDU:
            write(device + "/driver_override", "vfio-pci")
            write("/sys/bus/pci/drivers_probe", bdf)


class KernelLog:
    """What the kernel logs from now on."""

    def __init__(self):
        self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self.fd, 0, os.SEEK_END)

    def complaints(self):
        """The lines that mean a kernel bug."""
        found = []
        while True:
            try:
                record = os.read(self.fd, 8192)
            except BrokenPipeError:  # some were overwritten before they were read
                continue
            except BlockingIOError:
                return found
            if COMPLAINT.search(record):
                found.append(record.partition(b";")[2].partition(b"\n")[0].decode(errors="replace"))


class Port:
    """The serial port to the host, which also tells which test is to be given up."""

    def __init__(self):
        self.fd = os.open(PORT, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        tty.setraw(self.fd)
        self.words = queue.SimpleQueue()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        with open(self.fd, encoding="ascii", errors="replace", closefd=False) as lines:
            for line in lines:
                self.words.put(line.strip())

    def gives_up(self, name):
        """Whether the host has waited enough for that test."""
        try:
            return self.words.get_nowait() == f"give-up {name}"
        except queue.Empty:
            return False

    def line(self, text):
        data = text.encode(errors="replace") + b"\n"
        while data:
            data = data[os.write(self.fd, data):]

    def copy(self, stream):
        for line in stream:
            self.line("| " + line.rstrip("\n"))


class Test:
    def __init__(self, port, name, command):
        self.port = port
        self.name = name
        self.scope = f"test-{name}.scope"
        self.process = subprocess.Popen(
            ["systemd-run", "--scope", "--quiet", "--collect", f"--unit={self.scope}",
             "sh", "-c", command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", cwd="/tmp", start_new_session=True,
            env={**os.environ, "PATIENCE": "endless", "PYTHONFAULTHANDLER": "1"})

    def verdict(self):
        """pass, fail, hang or skip, and the exit status."""
        while True:
            try:
                status = self.process.wait(0.5)
                break
            except subprocess.TimeoutExpired:
                if self.port.gives_up(self.name):
                    return "hang", "-"
        return {0: "pass", SKIPPED: "skip"}.get(status, "fail"), status

    def processes(self):
        """Those of the test which still run, with what they wait for in the kernel."""
        try:
            pids = read(f"/sys/fs/cgroup/system.slice/{self.scope}/cgroup.procs").split()
        except OSError:
            return
        for pid in pids:
            try:
                words, place = read(f"/proc/{pid}/cmdline"), read(f"/proc/{pid}/wchan")
            except OSError:
                continue
            yield f"still running: {pid} {words.replace(chr(0), ' ')}(waits in {place})"

    def signal(self, name):
        subprocess.run(["systemctl", "kill", "--quiet", f"--signal={name}", self.scope],
                       stderr=subprocess.DEVNULL, check=False)

    def ask_for_traces(self):
        """A test that hangs says where: python's faulthandler does, at this signal."""
        self.signal("ABRT")
        for _ in range(20):
            if not list(self.processes()):
                return
            time.sleep(0.1)

    def kill(self):
        """Ends all that is left of it; False if the host has waited enough for that."""
        while list(self.processes()):
            if self.port.gives_up(self.name):
                return False
            self.signal("KILL")
            time.sleep(0.05)
        return True


def run_test(port, name, command):
    """False when no more tests can be run."""
    begin = time.monotonic()
    port.line(f"@begin {name}")
    write("/dev/kmsg", f"tests: begin {name}")
    kernel = KernelLog()
    test = Test(port, name, command)
    printer = threading.Thread(target=port.copy, args=(test.process.stdout,), daemon=True)
    printer.start()
    verdict, status = test.verdict()
    remarks = []
    if verdict == "hang":
        remarks = list(test.processes())
        test.ask_for_traces()
    killed = test.kill()
    if killed:
        printer.join()
    else:
        verdict = "hang"
        remarks.append("a process cannot be killed, no more tests are run")
    complaints = kernel.complaints()
    if complaints and verdict != "hang":
        verdict = "fail"
    for remark in remarks + complaints:
        port.line("| tests: " + remark)
    port.line(f"@end {name} {verdict} {status} {time.monotonic() - begin:.1f}")
    return killed


def first_test():
    """As the kernel's command line says, counted from 1."""
    found = re.search(r"\bfirst=(\d+)", read("/proc/cmdline"))
    return int(found[1]) if found else 1


def main():
    bind_edu_devices()
    port = Port()
    with open(LIST, encoding="utf-8") as tests:
        for line in tests.readlines()[first_test() - 1:]:
            name, _, command = line.rstrip("\n").split(" ", 2)
            if not run_test(port, name, command):
                break
    port.line("@done")


main()
