"""Two machines for tests: a container and a laptop, each with network, mounts and processes of its own, and a cable between them.
/tmp of each is empty at the start (but for the tree, where that is below it), and no one else's."""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess

from tests.integration.harness import ROOT, Program, eventually, run
from tests.support.tap import Skip

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
CAP_SYS_PTRACE = 19


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(n) for n in f.read().split()]


class Inside(Program):
    """A program on one of the machines: `inner` is its number as this machine counts."""

    def __init__(self, machine, argv, env=None):
        super().__init__(["nsenter", "-t", str(machine.pid), "-n", "-m", "-p", "--", *argv], env=env)
        self.inner = eventually(lambda: self.process.poll() is not None or children(self.pid), "the program")
        self.inner = self.inner[0] if isinstance(self.inner, list) else self.pid

    def end(self, signum=signal.SIGTERM, timeout=20.0):
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.inner, signum)
        return super().end(0, timeout)


class Machine:
    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "-n", "-m", "-p", "--fork", "--mount-proc", "--kill-child", "tail", "-f", "/dev/null"])
        self.pid = eventually(lambda: children(self.holder.pid), "the machine")[0]
        # unshare has made the namespaces before it forks; the program that holds them is there when it has its name.
        eventually(lambda: os.readlink(f"/proc/{self.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt") and self.name() == "tail", "its mounts")
        # The programs under test are to be found, also where they were built below /tmp.
        aside, back = ("mount --bind $0 /mnt", "mkdir -p $0 && mount --move /mnt $0") if ROOT.startswith("/tmp/") else ("true", "true")
        self.run("sh", "-c", f"{aside} && mount -t tmpfs none /tmp && {back} && mkdir /tmp/home /tmp/state && ip link set lo up", ROOT)

    def name(self):
        with open(f"/proc/{self.pid}/comm", encoding="ascii") as f:
            return f.read().strip()

    def path(self, name):
        """A file of its own, as this machine sees it."""
        return f"/proc/{self.pid}/root{name}"

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)

    def run(self, *argv, env=None, timeout=120):
        return run(["nsenter", "-t", str(self.pid), "-n", "-m", "-p", "--", *argv], timeout=timeout, env={**os.environ, **(env or {})})

    def start(self, *argv, env=None):
        return Inside(self, argv, env=env)

    @contextlib.contextmanager
    def network(self):
        """What this thread makes of sockets inside is the machine's."""
        with open("/proc/thread-self/ns/net", "rb") as own, open(f"/proc/{self.pid}/ns/net", "rb") as its:
            assert LIBC.setns(its.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert LIBC.setns(own.fileno(), CLONE_NEWNET) == 0

    def processes(self):
        """Those that live on it, but for the one that holds it."""
        its = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = []
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if name.isdigit() and int(name) != self.pid and os.readlink(f"/proc/{name}/ns/pid") == its:
                    found.append(int(name))
        return found

    def files(self):
        """name -> bytes, of all that was written on it."""
        found = {}
        for base, folders, names in os.walk(self.path("/tmp")):
            folders[:] = [f for f in folders if os.path.join(base, f) != self.path(ROOT)]
            for name in names:
                path = os.path.join(base, name)
                if os.path.isfile(path):
                    with open(path, "rb") as f:
                        found[path] = f.read()
        return found

    def end(self):
        self.holder.kill()
        self.holder.wait()


@contextlib.contextmanager
def namespaces(n):
    """So many machines, without a cable."""
    if os.geteuid() != 0 or not all(shutil.which(p) for p in ("unshare", "nsenter", "ip")):
        raise Skip("root, unshare, nsenter and ip are needed for namespaces")
    with open("/proc/self/status", encoding="ascii") as f:
        may = int(re.search(r"^CapEff:\s*(\w+)$", f.read(), re.M).group(1), 16)
    tried = "mount -t tmpfs none /tmp && ip link add name v0 type veth peer name v1"
    if not may >> CAP_SYS_PTRACE & 1 or subprocess.run(["unshare", "-n", "-m", "-p", "--fork", "--mount-proc", "sh", "-c", tried],
                                                       capture_output=True, check=False).returncode != 0:
        raise Skip("namespaces, or looking into other processes, are not allowed here")
    machines = []
    try:
        for _ in range(n):
            machines.append(Machine())
        yield machines
    finally:
        for machine in machines:
            machine.end()


@contextlib.contextmanager
def container_and_laptop():
    """They reach each other as 192.0.2.1 and 192.0.2.2."""
    with namespaces(2) as (container, laptop):
        run(["nsenter", "-t", str(container.pid), "-n", "--", "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns",
             str(laptop.pid)])
        for machine, address in ((container, "192.0.2.1/24"), (laptop, "192.0.2.2/24")):
            machine.run("sh", "-c", f"ip addr add {address} dev eth0 && ip link set eth0 up")
        yield container, laptop


def memory_holds(pid, text):
    """Whether the bytes are anywhere in a process: in its memory, its variables or its arguments."""
    for name in ("environ", "cmdline"):
        with open(f"/proc/{pid}/{name}", "rb") as f:
            if text in f.read():
                return True
    with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            begin, end = (int(n, 16) for n in line.split(" ", 1)[0].split("-"))
            if " r" not in line or "[v" in line or begin >= 1 << 63 or end - begin > 1 << 32:  # the last is a sanitizer's, and empty
                continue
            for at in range(begin, end, 1 << 20):
                with contextlib.suppress(OSError, OverflowError):
                    mem.seek(max(begin, at - len(text)))
                    if text in mem.read(min(end, at + (1 << 20)) - max(begin, at - len(text))):
                        return True
    return False
