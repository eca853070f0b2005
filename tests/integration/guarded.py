"""A kit with a proxy, and a driver with a file whose `reach:` entries have policies, for tests. A canary stands for the secret."""

import contextlib
import http.client
import os
import re
import socket
import ssl

from tests.integration.harness import BIN, Program, Tunnel, eventually, http_handler
from tests.integration.tls_peer import Authority, TlsService

CANARY = "canary-5d01c7e2f9"


class Api(TlsService):
    """HTTPS for a name on a loopback port, by `authority`. `seen` has the head of each request; answer(head, body) as for
    http_service(), or handle(connection, api) for what is no plain answer."""

    def __init__(self, authority, name="api.test", answer=None, handle=None, port=0, **certificate):
        self.seen = []
        self.ca = authority.path("ca.pem")
        cert, key = authority.issue(name, san=certificate.pop("san", f"DNS:{name}"), **certificate)

        def noted(head, body):
            self.seen.append(head)
            return answer(head, body) if answer else b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

        super().__init__(cert, key, (lambda c: handle(c, self)) if handle else http_handler(noted), port=port)

    def field(self, name, which=-1):
        """What a field of a request was, or None."""
        found = re.search(rf"^{name}:\s*(.*?)\r?$", self.seen[which], re.I | re.M)
        return found.group(1) if found else None

    def lines(self):
        return [head.split("\r\n", 1)[0] for head in self.seen]


class Guarded(Tunnel):
    """A kit with a proxy and one driver, `up` with these entries below `reach:`."""

    def __init__(self, folder, *entries, env=None, args=()):
        super().__init__("--connect-proxy", "127.0.0.1:0")
        self.file, self.ca = folder.join("tunnel.yaml"), folder.join("tunnel-ca.pem")
        self.proxy = self.kit.get("/proxy")["address"]
        with open(self.file, "w", encoding="utf-8") as f:
            f.write(f"url: {self.kit.url}\nreach:\n" + "".join(f"  - {entry}\n" for entry in entries))
        self.up = Program([BIN, "up", "-f", self.file, "--log-level", "debug", *args], env=env)
        self.drivers.append(self.up)
        eventually(lambda: self.up.process.poll() is not None or len(self.kit.get("/bindings")["bindings"]) == len(entries), "the names")
        assert self.up.process.poll() is None, self.up.text()
        status, pem = self.kit.request("GET", "/ca.pem")
        assert status == 200, (status, pem)
        with open(self.ca, "wb") as f:
            f.write(pem)

    def tls(self):
        return ssl.create_default_context(cafile=self.ca)

    @contextlib.contextmanager
    def connection(self, host="api.test", port=443):
        """TLS with what the proxy calls `host`, as a program in the container speaks it."""
        address, proxy_port = self.proxy.rsplit(":", 1)
        with socket.create_connection((address, int(proxy_port)), timeout=30) as plain:
            plain.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            said = b""
            while not said.endswith(b"\r\n\r\n"):
                said += plain.recv(1) or b"\r\n\r\n"
            assert said.split(b" ")[1] == b"200", said
            with self.tls().wrap_socket(plain, server_hostname=host) as c:
                yield c

    def ask(self, path, host="api.test", method="GET", body=None, headers=None):
        """(status, head, body) of one request."""
        address, proxy_port = self.proxy.rsplit(":", 1)
        c = http.client.HTTPSConnection(address, int(proxy_port), timeout=30, context=self.tls())
        c.set_tunnel(host, 443)
        try:
            c.request(method, path, body=body, headers=headers or {})
            a = c.getresponse()
            return a.status, str(a.headers), a.read()
        finally:
            c.close()


def secret_file(folder, name="secret", text=CANARY):
    path = folder.join(name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text + "\n")
    return path


def inject(path, more=""):
    """A part of an entry."""
    return f'inject: {{Authorization: "Bearer ${{file:{path}}}"}}{more}'


__all__ = ["CANARY", "Api", "Authority", "Guarded", "TlsService", "inject", "secret_file"]
