"""A tunnel whose driver has an inspector, and who asks it."""

import contextlib
import http.client
import json
import re
import socket
import threading

from tests.integration.harness import SANITIZED, Tunnel, connect, eventually, http_handler, Service  # noqa: F401

BASE = "/api/v1/inspector"


class Keeper(Service):
    """An HTTP service that keeps the raw heads and bodies that it got; what it answers is answer(head, body)."""

    def __init__(self, answer):
        self.got = []

        def keep(head, body):
            self.got.append((head, body))
            return answer(head, body)

        super().__init__(http_handler(keep))


def reply(body=b"ok", status="200 OK", *fields):
    if isinstance(body, str):
        body = body.encode()
    lines = "".join(f"{f}\r\n" for f in fields)
    return f"HTTP/1.1 {status}\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Inspected(contextlib.AbstractContextManager):
    """One kit, one driver with --inspect for a service on `port`."""

    def __init__(self, port, *args, listen="127.0.0.1"):
        self.tunnel = Tunnel()
        self.driver = self.tunnel.expose(f"0={port}", "--label", "web", "--inspect", f"{listen}:0", *args)
        found = eventually(lambda: re.search(rf"http://{re.escape(listen)}:(\d+)/#([\w-]+)", self.driver.text()), "the inspector's address")
        self.url, self.port, self.token = found.group(0), int(found.group(1)), found.group(2)

    def __enter__(self):
        self.tunnel.__enter__()
        return self

    def __exit__(self, *why):
        return self.tunnel.__exit__(*why)

    def raw(self, method, path, body=None, headers=None, token=True, host=None, at="127.0.0.1"):
        """(status, headers, bytes)"""
        connection = http.client.HTTPConnection(at, self.port, timeout=30)
        fields = {"Host": host or f"127.0.0.1:{self.port}", **({"Authorization": f"Bearer {self.token if token is True else token}"} if token else {}), **(headers or {})}
        try:
            connection.request(method, path if path == "/" else BASE + path, body=body, headers=fields)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def ask(self, method, path, body=None, want=200):
        status, _, data = self.raw(method, path, None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode())
        assert status == want, (method, path, status, data[:500])
        return json.loads(data) if data else None

    def list(self):
        return self.ask("GET", "/state")["exchanges"]

    def done(self, n):
        """The exchanges, once there are n that have ended."""
        return eventually(lambda: (lambda l: len(l) >= n and all(x["state"] != "running" for x in l) and l)(self.list()), f"{n} exchanges that have ended")

    def body(self, which, side, encoded=False):
        status, _, data = self.raw("GET", f"/exchanges/{which}/{side}/body" + ("?encoded=1" if encoded else ""))
        assert status == 200, status
        return data

    def replay(self, which, edit=None):
        """The replay once it has ended."""
        x = self.ask("POST", f"/exchanges/{which}/replay", edit or {}, 201)
        return eventually(lambda: (lambda d: d["state"] != "running" and d)(self.ask("GET", f"/exchanges/{x['id']}")), "the replay's end")

    def visit(self, data, port=None):
        """Sends raw bytes through the tunnel and returns what comes until the end."""
        with connect(port or self.driver.port) as c:
            c.sendall(data)
            out = b""
            while more := c.recv(65536):
                out += more
            return out

    def request(self, method="GET", target="/", body=b"", *fields):
        lines = "".join(f"{f}\r\n" for f in fields)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        return self.visit(f"{method} {target} HTTP/1.1\r\nHost: shop.example\r\n{lines}{length}Connection: close\r\n\r\n".encode("latin-1") + body)


class Feed(contextlib.AbstractContextManager):
    """A reader of the feed; .events are (type, data)."""

    def __init__(self, inspected):
        self.events, self.ended = [], False
        self.socket = socket.create_connection(("127.0.0.1", inspected.port))
        self.socket.sendall(f"GET {BASE}/feed HTTP/1.1\r\nHost: 127.0.0.1:{inspected.port}\r\nAuthorization: Bearer {inspected.token}\r\n\r\n".encode())
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        data = b""
        while more := self.socket.recv(65536):
            data += more
            *whole, data = data.split(b"\n\n")
            for one in whole:
                found = re.search(rb"event: (\w+)\ndata: (.*)", one)
                if found:
                    self.events.append((found.group(1).decode(), json.loads(found.group(2))))
        self.ended = True

    def of(self, kind):
        return [d for k, d in list(self.events) if k == kind]

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        self.socket.close()
