"""A service manager as systemd is one, for tests: NOTIFY_SOCKET, a store of descriptors, sockets that it opens (sd_notify(3), sd_listen_fds(3))."""

import array
import contextlib
import os
import socket
import sys
import threading

from tests.integration.harness import Folder, Program, eventually

LAUNCH = """
import os, sys
fds = [int(n) for n in sys.argv[1].split(",") if n]
high = [os.dup(fd) for fd in fds]
high = [os.dup2(fd, 500 + i, inheritable=False) for i, fd in enumerate(high)]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i, inheritable=True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Manager(contextlib.AbstractContextManager):
    """`said`: every message, as a dict of its lines. `store`: name -> descriptors."""

    def __init__(self, room=64):
        self.folder = Folder()
        self.room = room
        self.said, self.store = [], {}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(self.folder.join("notify"))
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        while True:
            data, control, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(4 * 64) + socket.CMSG_SPACE(12))
            fds, pid = array.array("i"), 0
            for level, kind, payload in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(payload[:len(payload) - len(payload) % 4])
                elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid = int.from_bytes(payload[:4], sys.byteorder)
            if data == b"end":
                return
            message = dict(line.split("=", 1) for line in data.decode().split("\n") if line)
            if message.get("FDSTORE") == "1":
                self.store.setdefault(message["FDNAME"], []).extend(fds)
            if message.get("FDSTOREREMOVE") == "1":
                for fd in self.store.pop(message["FDNAME"], []):
                    os.close(fd)
            self.said.append({**message, "pid": pid})

    def start(self, argv, sockets=(), env=None):
        """Starts the service: with what is stored, and with sockets, pairs of a name and a socket."""
        given = [(name, s.fileno()) for name, s in sockets] + [(name, fd) for name, fds in self.store.items() for fd in fds]
        more = {"NOTIFY_SOCKET": self.folder.join("notify"), "FDSTORE": str(self.room), **(env or {})}
        if given:
            more.update(LISTEN_FDS=str(len(given)), LISTEN_FDNAMES=":".join(name for name, _ in given))
        for _, fd in given:
            os.set_inheritable(fd, True)
        return Program([sys.executable, "-c", LAUNCH, ",".join(str(fd) for _, fd in given), *argv], env=more, close_fds=False)

    def messages(self, key):
        return [m for m in list(self.said) if key in m]

    def ready(self, n=1):
        return eventually(lambda: len(self.messages("READY")) >= n and self.messages("READY")[n - 1], f"READY: {self.said}")

    def __exit__(self, *_):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b"end", self.folder.join("notify"))
        self.thread.join(5)
        self.socket.close()
        for fds in self.store.values():
            for fd in fds:
                os.close(fd)
        self.folder.__exit__()
