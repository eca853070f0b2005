"""The kit's own host at a public address: the page, the API and the driver's endpoint, beside the hosts of services."""

import re
import signal
import socket

from tests.integration.harness import Driver, Kit, connect, free_port, hello, http_service
from tests.support.tap import case, main

TOKEN = "open-sesame"
ENV = {"HOODY_TUNNEL_TOKEN": TOKEN}
SHOWN = {"Authorization": f"Bearer {TOKEN}"}


class Public(Kit):
    """A kit with one public address, .public."""

    def __init__(self, domain, *args, **more):
        super().__init__("--public", "127.0.0.1:0", "--domain", domain, *args, **more)
        self.public = int(re.search(r"public on http://127\.0\.0\.1:(\d+)", self.text()).group(1))  # before it says where it listens


def exchange(connection, *requests):
    """Sends (host, path, fields) all at once; returns (status, body) of each answer."""
    connection.sendall(b"".join(
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{''.join(f'{n}: {v}{chr(13)}{chr(10)}' for n, v in fields.items())}\r\n".encode()
        for host, path, fields in requests))
    data, answers = b"", []
    while len(answers) < len(requests):
        head, found, rest = data.partition(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
        if found and len(rest) >= length:
            answers.append((int(head.split()[1]), rest[:length]))
            data = rest[length:]
            continue
        more = connection.recv(65536)
        if not more:
            break
        data += more
    return answers


def asked(port, *requests):
    with connect(port) as c:
        return exchange(c, *requests)


@case("the page and the API are at the domain and at status. of it; nothing of the process without a token, nothing at all of another host")
def _():
    kit = Public("tunnel.example", env=ENV)
    try:
        for host in ("tunnel.example", "status.tunnel.example", f"STATUS.Tunnel.Example:{kit.public}"):
            (status, page), = asked(kit.public, (host, "/", {}))
            assert status == 200 and page.startswith(b"<!doctype html>"), (host, status)
            assert [s for s, _ in asked(kit.public, (host, "/api/v1/tunnel/me", {}), (host, "/api/v1/tunnel/me", SHOWN))] == [401, 200], host
            for path in ("/api/v1/tunnel/health", "/livez", "/readyz"):
                assert [s for s, _ in asked(kit.public, (host, path, {}))] == [404], path
                assert [s for s, _ in asked(kit.public, (host, path, SHOWN))] == [200], path
        # The base listener takes no notice of the domain.
        assert asked(kit.port, ("tunnel.example", "/", {}))[0][0] == 403
    finally:
        assert kit.end() == 0
        kit.check_sanitizers()


@case("one connection, several hosts: a service, then the kit, which says 421 to a host that is not its own")
def _():
    kit = Public("tunnel.localhost", env=ENV)
    with http_service(hello) as service:
        driver = Driver(kit, "expose", f"{free_port()}={service.port}", "--name", "app", env=ENV)
        try:
            app, own = f"app-{driver.port}.tunnel.localhost", "status.tunnel.localhost"
            with connect(kit.public) as c:  # one after the other
                assert exchange(c, (app, "/", {}))[0][0] == 200
                assert exchange(c, (own, "/status", {}))[0][0] == 200
                assert exchange(c, (own, "/api/v1/tunnel/status", SHOWN))[0][0] == 200
                assert exchange(c, (app, "/", {})) == [(421, b'{"error":"this connection is for another host"}\n')]
                assert c.recv(1) == b""
            # All at once: what comes behind is not lost on the way.
            assert [s for s, _ in asked(kit.public, (app, "/", {}), (own, "/", {}), (own, "/api/v1/tunnel/me", SHOWN), (app, "/", {}))] == [200, 200, 200, 421]
        finally:
            assert driver.end(signal.SIGINT) == 0
            assert kit.end() == 0
            kit.check_sanitizers()


@case("without a token strangers are not served; where the domain is this machine's own there are none")
def _():
    for domain, want in (("tunnel.example", 403), ("notlocalhost", 403), ("tunnel.localhost", 200)):
        kit = Public(domain)
        try:
            for path in ("/", "/status", "/api/v1/tunnel/status", "/api/v1/tunnel/connect"):
                (status, body), = asked(kit.public, (f"status.{domain}", path, {}))
                assert status == (want if path != "/api/v1/tunnel/connect" or want != 200 else 426), (domain, path, status, body)
        finally:
            assert kit.end() == 0
            kit.check_sanitizers()


@case("a driver comes by the kit's own host, with the token; a wrong one is told so")
def _():
    kit = Public("tunnel.localhost", env=ENV)
    try:
        kit.url = f"http://tunnel.localhost:{kit.public}"
        driver = Driver(kit, "expose", f"0={free_port()}", env=ENV)
        (_, body), = asked(kit.public, ("tunnel.localhost", "/api/v1/tunnel/status", SHOWN))
        assert f'"url":"ws://tunnel.localhost"'.encode() in body, body
        assert driver.end(signal.SIGINT) == 0
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Protocol": "hoody-tunnel.v1", "Authorization": "Bearer wrong"}
        assert asked(kit.public, ("tunnel.localhost", "/api/v1/tunnel/connect", upgrade))[0][0] == 401
    finally:
        assert kit.end() == 0
        kit.check_sanitizers()


@case("a kit that ends lets go of those that read there")
def _():
    kit = Public("tunnel.localhost", env=ENV)
    with connect(kit.public) as idle, connect(kit.public) as reader:
        assert exchange(idle, ("tunnel.localhost", "/", {}))[0][0] == 200
        reader.sendall(f"GET /api/v1/tunnel/events?samples=1 HTTP/1.1\r\nHost: tunnel.localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        data = b""
        while b"event: sample" not in data:
            data += reader.recv(65536)
        assert kit.end() == 0
        kit.check_sanitizers()
        idle.settimeout(10)
        assert idle.recv(1) == b""
        reader.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    main()
