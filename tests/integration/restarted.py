"""A kit that is started anew while it serves, for tests: the program that serves changes, and the harness follows it."""

import contextlib
import ctypes
import os
import shutil
import signal
import struct
import sys
import tempfile

from tests.integration.harness import BIN, ROOT, Kit, Program, Tunnel, eventually


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


def listens(pid, port):
    """Whether a process has a socket that listens at that port. For a restart: an old program has those of a session until it hears
    that the driver has come to the new one, so for a moment both accept there."""
    try:
        own = set()
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                own.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        for table in ("tcp", "tcp6"):
            with open(f"/proc/{pid}/net/{table}", encoding="ascii") as f:
                for line in f.readlines()[1:]:
                    _, local, _, state, *_, inode = line.split()[:10]
                    if state == "0A" and int(local.rsplit(":", 1)[1], 16) == port and f"socket:[{inode}]" in own:
                        return True
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        pass
    return False


class RestartedKit(Kit):
    """`kit.serving` is the number of the process that serves; `kit.program` the file that a restart starts."""

    def __init__(self, *args, env=None, **more):
        self.folder = tempfile.mkdtemp(prefix="hoody-tunnel-")
        self.program = os.path.join(self.folder, "hoody-tunnel")
        os.symlink(BIN, self.program)
        self.pid_file = os.path.join(self.folder, "pid")
        self.known = set()
        super().__init__("--pid-file", self.pid_file, *args, env=env, binary=self.program, **more)
        eventually(lambda: os.path.exists(self.pid_file), "the pid file")

    @property
    def serving(self):
        with open(self.pid_file, encoding="ascii") as f:
            pid = int(f.read())
        self.known.add(pid)
        return pid

    def restart(self, *args):
        """By the command. Returns (exit status, what it said)."""
        self.known.add(self.serving)
        done = Program([BIN, "restart", "--pid-file", self.pid_file, *args])
        status = done.end(0, timeout=90)
        self.known.add(self.serving)
        return status, done.text()

    def restarts(self):
        """And it has to work."""
        before = self.serving
        status, said = self.restart()
        assert status == 0 and "restarted: process" in said, (said, self.text())
        return before

    def becomes(self, path):
        """From now on a restart starts another file."""
        os.unlink(self.program)
        os.symlink(path, self.program)

    def wrapped(self, more="", before=":"):
        """From now on a restart has more words, and something happens before it."""
        path = os.path.join(self.folder, "wrapped")
        with open(path, "w", encoding="utf-8") as f:
            f.write(f'#!/bin/sh\n{before}\nexec {BIN} "$@" {more}\n')
        os.chmod(path, 0o755)
        self.becomes(path)

    def slow_script(self):
        """From now on a restart takes its time, and works."""
        self.wrapped(before="sleep 0.5")

    def script(self, text):
        """From now on a restart starts a program in Python, which speaks to the old kit: `old` is its end of the conversation."""
        path = os.path.join(self.folder, "new")
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"#!{sys.executable}\nimport sys\nsys.path[:0] = [{ROOT!r}]\n"
                    f"from tests.integration.restarted import Old, pause\nold = Old()\n{text}\n")
        os.chmod(path, 0o755)
        self.becomes(path)

    def end(self, signum=signal.SIGTERM, timeout=20.0):
        with contextlib.suppress(OSError, ValueError):
            serving = self.serving
            if self.process.poll() is not None or serving != self.process.pid:
                os.kill(serving, signum)
                eventually(lambda: not alive(serving), "the end of the kit that serves", timeout)
        with contextlib.suppress(FileNotFoundError):
            self.known.add(self.serving)
        status = super().end(signum, timeout)
        with contextlib.suppress(AssertionError):  # who has finished may still look for leaks
            eventually(lambda: not any(map(alive, self.known)), "the end of old programs", timeout)
        left = [pid for pid in self.known if alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not left, f"{left} live on:\n{self.text()}"
        return status


class Restarted(Tunnel):
    """A tunnel whose kit may be restarted; at its end nothing of any program is left."""

    def __init__(self, *args, env=None):  # pylint: disable=super-init-not-called
        self.kit = RestartedKit(*args, env=env)
        self.drivers = []
        self.status = 0  # how the first program ends

    def _check(self):
        self.settle()
        for driver in self.drivers:
            ended = driver.end(signal.SIGINT)
            assert ended == 0, f"driver ended with {ended}:\n{driver.text()}"
            driver.check_sanitizers()
        eventually(lambda: self.kit.get("/tunnels")["sessions"] == [], "zero live sessions")
        ended = self.kit.end()
        assert ended == self.status, f"kit ended with {ended}:\n{self.kit.text()}"
        self.kit.check_sanitizers()

    def only_one(self):
        """Waits until the programs of before have finished."""
        serving = self.kit.serving
        eventually(lambda: [pid for pid in self.kit.known if alive(pid)] == [serving], f"the ends of old programs: {self.kit.text()}")


class Gone:
    """The names that a folder loses meanwhile."""

    IN_NONBLOCK, IN_MOVED_FROM, IN_DELETE = 0x800, 0x40, 0x200

    def __init__(self, folder):
        libc = ctypes.CDLL(None)
        self.fd = libc.inotify_init1(self.IN_NONBLOCK)
        assert self.fd >= 0 and libc.inotify_add_watch(self.fd, folder.encode(), self.IN_MOVED_FROM | self.IN_DELETE) >= 0
        self.names = []

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        head = struct.Struct("iIII")
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.fd, 1 << 16):
                while data:
                    size = head.unpack_from(data)[3]
                    self.names.append(data[head.size:head.size + size].rstrip(b"\0").decode())
                    data = data[head.size + size:]
        os.close(self.fd)


# ---- a new kit that is none, in a process of its own ----


class Old:
    """The conversation with the old kit, spec/restart.yaml."""

    def __init__(self):
        import socket  # pylint: disable=import-outside-toplevel
        sys.path[:0] = [os.path.join(ROOT, "build", "gen")]
        import restart_wire  # pylint: disable=import-outside-toplevel,import-error
        self.wire = restart_wire
        self.socket = socket.socket(fileno=int(os.environ["HOODY_TUNNEL_HANDOFF"]))
        self.socket.setblocking(True)
        self.fds = []

    def say(self, kind, **fields):
        self.socket.send(self.wire.encode({"type": kind, **fields}))

    def hear(self):
        import socket  # pylint: disable=import-outside-toplevel
        data, fds, _, _ = socket.recv_fds(self.socket, 65536, 253)
        self.fds += fds
        return self.wire.decode(data, "server") if data else {"type": "the end"}

    def until(self, kind):
        while (m := self.hear())["type"] != kind:
            if m["type"] in ("the end", "refused"):
                sys.exit(9)
        return m

    def hello(self, **more):
        self.say("hello", **{"format": 1, "program": "fake/1", "pid": os.getpid(), **more})


def pause():
    """For ever."""
    while True:
        signal.pause()
