"""Peers of vtunnel's JSON protocol for tests: a client that says what it is told to, and vtunnel's own program."""

import base64
import contextlib
import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile

from conformance.lib import ws
from tests.integration.harness import ROOT, SANITIZED, connect, read_exactly
from tests.support.tap import Skip

sys.path.insert(0, os.path.join(ROOT, os.environ.get("W", "build"), "gen"))
import vtunnel_wire as wire  # noqa: E402  pylint: disable=wrong-import-position

# The last version that speaks JSON (commit f528374).
MODULE = "github.com/DaniilSokolyuk/vtunnel"
VERSION = "v0.0.0-20260214175626-f528374cb622"

SIZE = (16 if SANITIZED else 100) << 20
BLOB = random.Random(11).randbytes(1 << 20)


# ---- local services, and what goes through to them ----

def echo(connection):
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def giver(connection):
    for _ in range(SIZE >> 20):
        connection.sendall(BLOB)


def taker(connection):
    digest, n = hashlib.sha256(), 0
    while n < SIZE:
        data = connection.recv(1 << 20)
        if not data:
            return
        digest.update(data)
        n += len(data)
    connection.sendall(digest.digest())


def carries_much(giving, taking):
    """Much comes whole from the port of a giver, and reach whole the taker behind the other port."""
    whole = hashlib.sha256()
    for _ in range(SIZE >> 20):
        whole.update(BLOB)
    with connect(giving, timeout=120) as v:
        assert hashlib.sha256(read_exactly(v, SIZE)).digest() == whole.digest()
        assert v.recv(1) == b""
    with connect(taking, timeout=120) as v:
        for _ in range(SIZE >> 20):
            v.sendall(BLOB)
        assert read_exactly(v, 32) == whole.digest()


# ---- peers ----

class Refused(Exception):
    """The upgrade was answered with something else than 101."""

    def __init__(self, head):
        super().__init__(head.split("\r\n", 1)[0])
        self.status = int(head.split(" ", 2)[1])
        self.head = head


class Client(contextlib.AbstractContextManager):
    """A client's WebSocket, open. Messages come as dicts, close frames as ("close", code, reason), the end as None."""

    def __init__(self, port, path="/", headers=(), host=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = ws.Reader(masked=False)
        self.events = []
        self.texts = set()
        lines = [f"GET {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}", "Sec-WebSocket-Version: 13", *headers]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.socket.recv(65536)
            if not more:
                break
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        self.head = head.decode("latin-1")
        if not self.head.startswith("HTTP/1.1 101"):
            self.socket.close()
            raise Refused(self.head)
        self._take(rest)

    def _take(self, data):
        for event in self.reader.feed(data):
            if event[0] == "message":
                self.texts.add(event[1])
                self.events.append(wire.decode(event[2], "server"))
            else:
                self.events.append(event)

    def next(self, timeout=20.0):
        self.socket.settimeout(timeout)
        while not self.events:
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionError:
                return None
            if not data:
                return None
            self._take(data)
        return self.events.pop(0)

    def expect(self, **want):
        """The next message, which must be that one."""
        got = self.next()
        assert got == want, f"{got} instead of {want}"
        return got

    def say(self, fragments=1, opcode=ws.TEXT, **message):
        self.raw(wire.encode(message), fragments, opcode)

    def raw(self, data, fragments=1, opcode=ws.TEXT):
        self.socket.sendall(ws.message(data if isinstance(data, bytes) else data.encode(), True, fragments, opcode))

    def listen(self, port, **more):
        self.say(type="listen", port=port, **more)
        self.expect(type="listen_ok", **({"port": port} if port else {}))

    def data_of(self, stream, n):
        """n bytes of a stream; nothing else may come meanwhile."""
        got = b""
        while len(got) < n:
            m = self.next()
            assert isinstance(m, dict) and m["type"] == "data" and m.get("stream_id", 0) == stream, m
            got += m["data"]
        return got

    def close(self, code=1000):
        """The closing handshake; what the server answers."""
        self.socket.sendall(ws.build(ws.CLOSE, ws.close_payload(code)))
        while True:
            event = self.next()
            if event is None or isinstance(event, tuple) and event[0] == "close":
                return event

    def __exit__(self, *_):
        self.socket.close()


_built = []


def original():
    """vtunnel's own program: HT_VTUNNEL, or built from the Go module proxy. Skips where neither can be."""
    if os.environ.get("HT_VTUNNEL"):
        return os.environ["HT_VTUNNEL"]
    if not _built:
        _built.append(_build())
    if isinstance(_built[0], Skip):
        raise _built[0]
    return os.path.join(_built[0].name, "vtunnel")


def _build():
    if not shutil.which("go"):
        return Skip("vtunnel's own program: there is no Go here; HT_VTUNNEL=PROGRAM names one")
    folder = tempfile.TemporaryDirectory(prefix="vtunnel-")  # pylint: disable=consider-using-with
    try:
        done = subprocess.run(["go", "install", f"{MODULE}/cmd/vtunnel@{VERSION}"], capture_output=True, text=True, check=False, timeout=600,
                              env={**os.environ, "GOBIN": folder.name, "GOFLAGS": "-buildvcs=false"})
    except subprocess.TimeoutExpired:
        return Skip("vtunnel's own program: its build took too long")
    if done.returncode != 0:
        return Skip(f"vtunnel's own program: the Go module proxy does not give {MODULE}@{VERSION}; HT_VTUNNEL=PROGRAM names one")
    return folder
