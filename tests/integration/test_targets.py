"""Where an exposed or pulled service may be: behind TLS, at a Unix socket; and what users read when it is not there."""

import base64
import hashlib
import os
import socket

from tests.integration.harness import (BIN, Folder, Nginx, Program, Service, Tunnel, command, connect, eventually, http_handler, read_all, read_head,
                                       warned)
from tests.integration.tls_peer import Authority, TlsService
from tests.support.tap import case, main

GET = b"GET /a HTTP/1.1\r\nHost: visited.example\r\nConnection: close\r\n\r\n"


def ask(port, request=GET):
    with connect(port) as c:
        c.sendall(request)
        return read_all(c)


def upgrade():
    """A service that answers an upgrade to a protocol of its own with an echo, and other requests with what it got."""
    def handle(connection):
        while head := read_head(connection)[0]:
            if b"upgrade:" in head.lower():
                key = [line.split(b":", 1)[1].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:")]
                accept = base64.b64encode(hashlib.sha1((key[0] if key else b"") + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
                connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                                   b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
                while data := connection.recv(4096):
                    connection.sendall(data)
                return
            body = head + b"\r\n"
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            if b"connection: close" in head.lower():
                return
    return handle


def upgrades(port):
    with connect(port) as c:
        c.sendall(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                  b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        head, rest = read_head(c)
        assert head.startswith(b"HTTP/1.1 101"), head
        c.sendall(b"there and back")
        while len(rest) < 14:
            rest += c.recv(100)
        assert rest == b"there and back", rest


@case("nginx: https:// with SNI and our certificate, HTTP/1.1 on kept connections, and at a Unix socket; an upgrade goes through TLS")
def _():
    config = """events {} http { access_log off; keepalive_timeout 60;
        server { listen 127.0.0.1:{0} ssl; listen unix:SOCKET; ssl_certificate CERT; ssl_certificate_key KEY; ssl_client_certificate CA;
        ssl_verify_client optional; location / { return 200 "$ssl_server_name $ssl_alpn_protocol $host $ssl_client_s_dn $connection_requests"; } } }"""
    with Folder() as folder:
        ca = Authority(folder)
        cert, key = ca.issue("srv")
        mine, my_key = ca.issue("me")
        path = folder.join("nginx.sock")
        for name, value in (("CERT", cert), ("KEY", key), ("CA", ca.path("ca.pem")), ("SOCKET", path)):
            config = config.replace(f" {name};", f" {value};").replace(f":{name};", f":{value};")
        trust = ["--target-ca", ca.path("ca.pem")]
        with Nginx(folder, config) as nginx, Tunnel() as t:
            driver = t.expose(f"0=https://localhost:{nginx.ports[0]}", *trust, "--target-cert", mine, "--target-key", my_key)
            assert driver.bound[0]["target"] == f"https://localhost:{nginx.ports[0]}", driver.bound
            assert (driver.bound[0]["tls"], driver.bound[0]["insecure"]) == (True, False)
            assert ask(driver.port).endswith(b"\r\n\r\nlocalhost http/1.1 visited.example CN=me 1")
            assert ask(driver.port).endswith(b" 2"), "the connection was not kept"
            at_socket = t.expose(f"unix:{path}")
            assert ask(at_socket.port).endswith(b"\r\n\r\n  visited.example  1")
            assert ask(at_socket.port).endswith(b" 2"), "the connection was not kept"
        with TlsService(cert, key, upgrade()) as service, Tunnel() as t:
            upgrades(t.expose(f"0=https://localhost:{service.port}", *trust).port)


@case("https:// with a wrong certificate: a warning at the start, 502 with the reason; https+insecure:// takes it and warns")
def _():
    with Folder() as folder:
        ca = Authority(folder)
        cert, key = ca.issue("srv", san="DNS:app.example")
        trust = ["--target-ca", ca.path("ca.pem")]
        with TlsService(cert, key, http_handler(lambda head, body: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nin")) as service, Tunnel() as t:
            driver = t.expose(f"0=https://127.0.0.1:{service.port}", *trust)
            warned(driver, f"visitors of port {driver.port} get 502")
            answer = ask(driver.port)
            assert answer.startswith(b"HTTP/1.1 502 ") and b"error=origin-cert-name" in answer, answer
            sni = t.expose(f"0=https://127.0.0.1:{service.port}", *trust, "--target-sni", "app.example")
            assert ask(sni.port).endswith(b"in")
            insecure = t.expose(f"0=https+insecure://127.0.0.1:{service.port}")
            warned(insecure, f"the certificate of https+insecure://127.0.0.1:{service.port} is not verified")
            assert ask(insecure.port).endswith(b"in")


@case("a certificate of our own to a server that wants one, from the command line and from a file of up")
def _():
    def who(connection):
        read_head(connection)
        name = dict(pair[0] for pair in connection.getpeercert()["subject"])["commonName"].encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(name) + name)

    with Folder() as folder:
        ca = Authority(folder)
        cert, key = ca.issue("srv")
        ca.issue("me")
        with TlsService(cert, key, who, ca=ca.path("ca.pem")) as service, Tunnel() as t:
            driver = t.expose(f"0=https://localhost:{service.port}", "--target-ca", ca.path("ca.pem"), "--target-cert",
                              ca.path("me.pem"), "--target-key", ca.path("me.key"))
            assert ask(driver.port).endswith(b"\r\n\r\nme")
            with open(folder.join("up.yaml"), "w", encoding="ascii") as f:
                f.write(f"expose:\n  - {{target: 'https://127.0.0.1:{service.port}', port: 0, ca: ca.pem, cert: me.pem, key: me.key, "
                        f"sni: localhost}}\n")
            up = Program([BIN, "up", "--url", t.kit.url, "-f", folder.join("up.yaml"), "--url-file", folder.join("url")])
            port = int(eventually(lambda: os.path.exists(folder.join("url")) and open(folder.join("url"), encoding="ascii").read(),
                                  "the URL").rsplit(":", 1)[1])
            assert ask(port).endswith(b"\r\n\r\nme")
            up.end()
            _status, out, _err = command("config", "check", "-f", folder.join("up.yaml"))
            assert f"https://127.0.0.1:{service.port}" in out and "shows" in out, out


@case("a Unix socket: requests on kept connections, upgrades, bytes for pull; Host is the visitor's, or localhost")
def _():
    with Folder() as folder, Service(upgrade(), path=folder.join("app.sock")), Tunnel() as t:
        target = f"unix:{folder.join('app.sock')}"
        driver = t.expose(target)
        assert driver.bound[0]["target"] == target and driver.port, driver.bound
        assert b"\r\nhost: visited.example\r\n" in ask(driver.port).lower()
        assert b"\r\nhost: localhost\r\n" in ask(driver.port, b"GET /a HTTP/1.0\r\n\r\n").lower()
        upgrades(driver.port)
        pulled = t.pull(f"0={target}")
        assert b"host: visited.example" in ask(pulled.port).lower()


@case("no socket, a stale one, one that this user may not use: a warning at the start, and 502 with the reason")
def _():
    with Folder() as folder, Tunnel() as t:
        path = folder.join("app.sock")
        driver = t.expose(f"unix:{path}")
        warned(driver, f"cannot connect to unix:{path}: there is no such socket; until it can, visitors of port {driver.port} get 502")
        answer = ask(driver.port)
        assert answer.startswith(b"HTTP/1.1 502 ") and b"error=origin-refused" in answer, answer
        socket.socket(socket.AF_UNIX).bind(path)
        assert ask(driver.port).startswith(b"HTTP/1.1 502 ")
        eventually(lambda: [e for e in driver.events("request") if "nobody listens there" in (e["error"] or "")], "the reason")
        os.unlink(path)
        with Service(upgrade(), path=path):
            assert ask(driver.port).startswith(b"HTTP/1.1 200 "), "it is there now"


@case("what is written in the way of another tool is refused with the right spelling")
def _():
    for argv, right in (
            (["expose", "/run/app.sock"], "a Unix socket is written unix:/run/app.sock"),
            (["expose", "unix:app.sock"], "named by its whole path"),
            (["expose", "unix:/" + "x" * 108], "at most 107 bytes"),
            (["expose", "tls://localhost:3443"], "write https://localhost:3443"),
            (["expose", "wss://localhost:3443"], "write https://localhost:3443"),
            (["pull", "https://localhost:3443"], "pull tls://localhost:3443 speaks TLS from here"),
            (["reach", "a.example=https://localhost:3443"], "https:// is for expose"),
            (["expose", "3000", "--target-ca", "x.pem"], "--target-* options are for https:// targets"),
            (["expose", "https://localhost", "--target-sni", "a b"], "not the name of a host"),
            (["expose", "https://localhost", "--target-key", "x.pem"], "the certificate that it belongs to is missing")):
        status, _out, err = command(*argv)
        assert status in (1, 2, 3) and right in err, (argv, status, err)


if __name__ == "__main__":
    main()
