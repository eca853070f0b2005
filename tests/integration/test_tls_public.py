"""TLS at a public address: what visitors and openssl see, plain HTTP beside it, an ACME client, and strangers who never finish."""

import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess

from tests.integration.harness import (Folder, Program, Tunnel, eventually, free_port, hello, http_service, read_head, run)
from tests.integration.tls_peer import Authority
from tests.support.tap import case, main

DOMAIN = "tunnel.test"


class Site(contextlib.ExitStack):
    """A kit with https and http public addresses, and a service that is reached at NAME.tunnel.test."""

    def __init__(self, *kit_args, answer=hello, cert=None):
        super().__init__()
        self.folder = self.enter_context(Folder())
        self.ca = Authority(self.folder)
        self.trust = self.ca.path("ca.pem")
        pair = cert or self.ca.issue("site", f"DNS:*.{DOMAIN},DNS:localhost,IP:127.0.0.1")
        self.https, self.http = free_port(), free_port()
        args = ["--tls-cert", pair[0], "--tls-key", pair[1]] if pair[0] else []
        self.service = self.enter_context(http_service(answer))
        self.tunnel = self.enter_context(Tunnel("--public", f"127.0.0.1:{self.https}", "--public", f"http://127.0.0.1:{self.http}",
                                                "--domain", DOMAIN, *args, *kit_args))
        self.kit = self.tunnel.kit
        pin = re.search(r"--pin (sha256:\w+)", self.kit.text())
        trust = ["--pin", pin.group(1)] if pin else ["--ca", self.trust]
        self.driver = self.tunnel.expose(f"0=http://127.0.0.1:{self.service.port}", *trust, "--name", "app")
        self.host = f"app-{self.driver.port}.{DOMAIN}"

    def connect(self, host=None, context=None):
        context = context or ssl.create_default_context(cafile=self.trust)
        plain = socket.create_connection(("127.0.0.1", self.https), timeout=20)
        return context.wrap_socket(plain, server_hostname=host or self.host, suppress_ragged_eofs=False)

    def ask(self, connection, path="/", host=None, more=""):
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host or self.host}\r\n{more}\r\n".encode())
        head, rest = read_head(connection)
        length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
        while len(rest) < length:
            rest += connection.recv(65536)
        return int(head.split(b" ", 2)[1]), head.decode(), rest

    def permits(self):
        return self.kit.get("/tunnels")["fdPermitsAvailable"]

    def plain(self, text):
        """(status, head, body) of what is said to the address with plain HTTP."""
        with socket.create_connection(("127.0.0.1", self.http), timeout=20) as c:
            c.sendall(text.encode())
            head, rest = read_head(c)
            while more := c.recv(65536):
                rest += more
            return int(head.split(b" ", 2)[1]), head.decode(), rest

    def s_client(self, *args, said=b"", until=None):
        """What `openssl s_client` prints of a connection, until it has printed `until` or ends by itself."""
        with subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{self.https}", "-CAfile", self.trust, *args],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as p:
            p.stdin.write(said)
            p.stdin.flush()
            out = b""
            if not until:
                p.stdin.close()
            while not (until and until in out) and (more := p.stdout.read1(65536)):
                out += more
            p.kill()
            return out.decode(errors="replace")


@case("https by host: a chain by name, requests for several hosts on one connection, and what speaks plain HTTP is told")
def _():
    with Site() as s:
        assert s.driver.bound[0]["publicUrl"] == f"https://{s.host}:{s.https}", s.driver.bound
        with s.connect() as c:
            assert c.selected_alpn_protocol() is None and c.version() == "TLSv1.3"
            assert s.ask(c)[2] == b"hello"
            assert s.ask(c, host=f"nobody.{DOMAIN}")[0] == 404
            assert s.ask(c)[2] == b"hello"
        # The name of the handshake decides nothing (RFC 9112 3.2 has Host for that).
        with s.connect("localhost") as c:
            assert s.ask(c)[2] == b"hello"
        with socket.create_connection(("127.0.0.1", s.https), timeout=20) as c:
            c.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            said = b""
            while more := c.recv(65536):
                said += more
            assert said.startswith(b"HTTP/1.1 400 ") and said.endswith(b"\r\n\r\nThis port speaks TLS: write https:// or wss://"), said
            assert b"Content-Length: %d\r\n" % len(said.split(b"\r\n\r\n")[1]) in said
        assert s.kit.metric('hoody_tunnel_tls_handshake_failures_total{reason="plain_http"}') == 1


@case("openssl s_client: TLS 1.2 and 1.3 with forward secrecy, tickets that resume, and nothing that is weak")
def _():
    with Site() as s:
        for version, name in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
            session = s.folder.join("session")
            ask = f"GET / HTTP/1.1\r\nHost: {s.host}\r\n\r\n".encode()
            out = s.s_client(version, "-servername", s.host, "-verify_return_error", "-verify_hostname", s.host, "-alpn",
                             "h2,http/1.1", "-sess_out", session, said=ask, until=b"hello")
            assert "Verify return code: 0 (ok)" in out and f"New, {name}" in out and "ALPN protocol: http/1.1" in out, out
            assert "Compression: NONE" in out and "X25519" in out and "GCM" in out, out
            assert f"Reused, {name}" in s.s_client(version, "-servername", s.host, "-sess_in", session, said=ask, until=b"hello")
        weak = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
        for args in (["-tls1"], ["-tls1_1"], ["-tls1_2", "-cipher", "AES128-GCM-SHA256:AES256-SHA"],  # no forward secrecy
                     ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA"],  # CBC
                     ["-tls1_2", "-cipher", "aNULL:eNULL:RC4:3DES:PSK:@SECLEVEL=0"], ["-alpn", "h2"]):
            if args[0] in ("-tls1", "-tls1_1"):
                args += ["-cipher", weak]
            out = s.s_client(*args)
            assert "Cipher is (NONE)" in out or "no cipher" in out.lower() or "alert" in out, (args, out)
        # A client that wants to negotiate anew is told no, and what it holds is cut.
        out = s.s_client("-tls1_2", said=b"R\n", until=b"no renegotiation")
        assert "no renegotiation" in out, out


@case("a body that is cut is no clean end: what ends with the connection ends without TLS's last word")
def _():
    def half(connection):
        read_head(connection)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhalf")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with Site() as s:
        s.service.handle = half
        with s.connect() as c:
            c.sendall(f"GET / HTTP/1.0\r\nHost: {s.host}\r\n\r\n".encode())
            got = b""
            try:
                while more := c.recv(65536):
                    got += more
                raise AssertionError(f"a clean end behind {got!r}")
            except (ssl.SSLEOFError, ConnectionResetError):
                assert b"200" in got or not got, got
        s.service.handle = lambda connection: (read_head(connection), connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nwhole"))
        with s.connect() as c:
            c.sendall(f"GET / HTTP/1.0\r\nHost: {s.host}\r\n\r\n".encode())
            got = b""
            while more := c.recv(65536):
                got += more
            assert got.endswith(b"whole")


@case("plain HTTP beside https: 308 to the same place, and an ACME client's answers, and nothing else of the disk")
def _():
    with Folder() as web:
        challenges = web.join(".well-known", "acme-challenge")
        os.makedirs(challenges)
        secret, another = web.join("secret"), web.join("another")
        for path, text in ((secret, "secret"), (another, "secret"), (os.path.join(challenges, "good_-1"), "good.answer"), (os.path.join(challenges, "big"), "x" * 5000)):
            with open(path, "w", encoding="ascii") as f:
                f.write(text)
        os.symlink(another, os.path.join(challenges, "link"))
        os.link(secret, os.path.join(challenges, "hard"))
        os.mkdir(os.path.join(challenges, "folder"))
        os.mkfifo(os.path.join(challenges, "pipe"))
        with Site("--acme-webroot", web.path) as s:
            before = s.permits()
            there = f"https://{s.host}:{s.https}"
            for method, target in (("GET", "/"), ("POST", "/a/b?c=%2f"), ("GET", "/.well-known/acme-challenge"), ("PUT", "//else.test/x")):
                status, head, _ = s.plain(f"{method} {target} HTTP/1.1\r\nHost: {s.host}:{s.http}\r\n\r\n")
                assert status == 308 and f"\r\nLocation: {there}{target}\r\n" in head + "\r\n", head
            status, head, body = s.plain("GET /.well-known/acme-challenge/good_-1 HTTP/1.1\r\nHost: anything\r\n\r\n")
            assert (status, body) == (200, b"good.answer"), (head, body)
            for token in ("none", "", "link", "hard", "big", "folder", "pipe", "../../another", "..%2f..%2fanother", "good_-1/", "good_-1%00", "."):
                status, head, body = s.plain(f"GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: a\r\n\r\n")
                assert status == 404 and b"secret" not in body, (token, head)
            for host in ("a\"b", "a b", "a/b", "", "a@b"):
                status, head, _ = s.plain(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
                assert status == 400 and "Location" not in head, head
            shutil.move(challenges, web.join("moved"))
            os.symlink(web.join("moved"), challenges)
            assert s.plain("GET /.well-known/acme-challenge/good_-1 HTTP/1.1\r\nHost: a\r\n\r\n")[0] == 404
            eventually(lambda: s.permits() == before, "all permits back")


@case("lego gets a certificate from an ACME authority by the kit's own address, and the kit takes it up while visitors stay")
def _():
    with Folder() as acme:
        ca = Authority(acme)
        cert, key = ca.issue("pebble")
        pair = tuple(acme.join("certificates", f"app.{DOMAIN}.{end}") for end in ("crt", "key"))
        with Site("--tls-self-signed", "--acme-webroot", acme.path, cert=pair) as s:
            pass_by = ssl.create_default_context()
            pass_by.check_hostname, pass_by.verify_mode = False, ssl.CERT_NONE
            early = s.connect(context=pass_by)
            assert s.ask(early)[2] == b"hello"
            port, dns = free_port(), free_port()
            with open(acme.join("pebble.json"), "w", encoding="ascii") as f:
                json.dump({"pebble": {"listenAddress": f"127.0.0.1:{port}", "managementListenAddress": f"127.0.0.1:{free_port()}",
                                      "certificate": cert, "privateKey": key, "httpPort": s.http, "tlsPort": s.https}}, f)
            names = Program(["pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", f"127.0.0.1:{dns}", "-http01",
                             "", "-https01", "", "-tlsalpn01", "", "-management", f"127.0.0.1:{free_port()}"])
            pebble = Program(["pebble", "-config", acme.join("pebble.json"), "-dnsserver", f"127.0.0.1:{dns}"],
                             env={"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"})
            try:
                pebble.wait_line("(ACME directory available|Listening on)")
                run(["lego", "--accept-tos", "--email", "a@tunnel.test", "--server", f"https://localhost:{port}/dir", "--domains",
                     f"app.{DOMAIN}", "--http", "--http.webroot", acme.path, "--path", acme.path, "run"],
                    env={**os.environ, "LEGO_CA_CERTIFICATES": ca.path("ca.pem")})
            finally:
                pebble.end()
                names.end()

            def issuer():
                pem = ssl.get_server_certificate(("127.0.0.1", s.https)).encode()
                return subprocess.run(["openssl", "x509", "-noout", "-issuer", "-ext", "subjectAltName"], input=pem, check=True,
                                      stdout=subprocess.PIPE).stdout.decode()

            eventually(lambda: "Pebble" in issuer() and f"DNS:app.{DOMAIN}" in issuer(), "the new certificate")
            assert s.ask(early)[2] == b"hello"
            early.close()
            assert not s.driver.events("disconnected")


@case("strangers who never finish a handshake keep nobody out, and give back what they hold")
def _():
    def open_one(said):
        c = socket.create_connection(("127.0.0.1", s.https), timeout=20)
        c.sendall(said)
        return c

    hello_half = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40)
    with Site("--head-timeout", "2s", "--max-fds", "200") as s:
        before = s.permits()
        many = [open_one(said) for said in [b"", b"\x16", hello_half] * 60]
        with s.connect() as c:
            assert s.ask(c)[2] == b"hello"
        for garbage in (b"\x16\x03\x01\xff\xff" + os.urandom(64), b"SSH-2.0-x\r\n", b"\x80\x2e\x01\x00\x02" + bytes(41), os.urandom(300)):
            with open_one(garbage) as c:
                with contextlib.suppress(ConnectionResetError):
                    while c.recv(4096):
                        pass
        for c in many:
            with contextlib.suppress(ConnectionResetError):
                while c.recv(4096):
                    pass
            c.close()
        assert s.kit.metric('hoody_tunnel_tls_handshake_failures_total{reason="timeout"}') >= 60
        eventually(lambda: s.permits() == before, "all permits back")


@case("each of many visitors leaves at some byte of his handshake or request: nothing is left of them")
def _():
    with Site() as s:
        context = ssl.create_default_context(cafile=s.trust)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname=s.host)
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        first, before = outgoing.read(), s.permits()
        for at in range(0, len(first), 7):
            with socket.create_connection(("127.0.0.1", s.https), timeout=20) as c:
                c.sendall(first[:at])
        with s.connect() as c:
            c.sendall(f"GET / HTTP/1.1\r\nHost: {s.host}\r\n".encode())
        with s.connect() as c:
            assert s.ask(c)[2] == b"hello"
        eventually(lambda: s.permits() == before, "all permits back")


@case("a key that root alone may read is opened before --user, and one that cannot be read again is told")
def _():
    if os.geteuid() != 0:
        return
    with Folder() as folder:
        ca = Authority(folder)
        cert, key = ca.issue("kit")
        os.chmod(key, 0o600)
        with Tunnel("--tls-cert", cert, "--tls-key", key, "--user", "nobody") as t:
            t.kit.get("/health")
            eventually(lambda: "for the user of --user; when the file changes, it cannot be read again" in t.kit.text(), "the warning")
            with ssl.create_default_context(cafile=ca.path("ca.pem")).wrap_socket(
                    socket.create_connection(("127.0.0.1", t.kit.port)), server_hostname="localhost") as c:
                assert c.version() == "TLSv1.3"


if __name__ == "__main__":
    main()
