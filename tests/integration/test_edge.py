"""`edge dev`: kit, agent and HAProxy on one machine. What is bound has a name with HTTPS, nothing else has.

Runs: plain.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading

from tests.integration.browser import CHROMIUM, Browser
from tests.integration.edges import DOMAIN, Edge, descendants, is_there, needs_haproxy, verified
from tests.integration.harness import BIN, Folder, Service, command, eventually, free_port, http_service, read_exactly, read_head
from tests.support.tap import Skip, case, main

PORTS = [free_port() for _ in range(6)]
PORT = PORTS[0]


def telling():
    """A service that tells what it was asked: the head, as JSON."""
    def answer(head, _body):
        text = json.dumps(head.split("\r\n")).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
    return http_service(answer)


def page(text="a page of the laptop"):
    body = f"<!doctype html><title>x</title><p>{text}".encode()
    return http_service(lambda head, _: b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def echo(connection, head, rest):
    """The server's side of a WebSocket: sends short messages back until the client is gone."""
    key = re.search(rb"^sec-websocket-key:\s*(\S+)", head, re.I | re.M).group(1)
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    while True:
        frame = rest if len(rest) >= 6 else read_exactly(connection, 6, rest)
        n = frame[1] & 127
        frame = frame if len(frame) >= 6 + n else frame + read_exactly(connection, 6 + n - len(frame))
        rest, mask, data = frame[6 + n:], frame[2:6], frame[6:6 + n]
        if frame[0] & 15 == 8:
            return
        connection.sendall(bytes([frame[0], n]) + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))


def field(answer, name):
    """The values of a field that the service was sent."""
    return [line.split(":", 1)[1].strip() for line in json.loads(answer.body)[1:] if line.lower().startswith(name + ":")]


@case("what is exposed is https://me-PORT.edge.localhost, by its driver's name as well; what is not bound is 404, and so is it afterwards")
def _():
    with Edge() as edge, page() as service:
        assert edge.get(f"me-{PORT}").status == 404
        driver = edge.expose(f"{PORT}=127.0.0.1:{service.port}")
        answer = edge.until(f"me-{PORT}", 200)
        assert "a page of the laptop" in answer.text
        own = driver.bound[0]["publicUrl"] if "publicUrl" in driver.bound[0] else driver.bound[0]["url"]
        assert own.startswith("https://") and own.endswith(f"-{PORT}.{DOMAIN}:{edge.port}"), driver.bound
        assert edge.get(own.split("/")[2].rsplit(":", 1)[0]).status == 200
        for host in (f"me-{PORTS[1]}", "me", f"other-{PORT}", f"me-{PORT}.evil.example", f"x.me-{PORT}", f"me-0{PORT}", f"me-{str(PORT)[:-1]}", f"ME-{PORTS[1]}"):
            answer = edge.get(host, "/", "-k")
            assert answer.status == 404 and "Nothing is exposed here" in answer.text, (host, answer.status)
        assert edge.get(f"ME-{PORT}").status == 200
        edge.program.wait_line(rf"bound +https://me-{PORT}\.{DOMAIN}:{edge.port}")
        assert driver.end(signal.SIGINT) == 0
        edge.until(f"me-{PORT}", 404)
        edge.program.wait_line(rf"unbound https://me-{PORT}\.{DOMAIN}:{edge.port}")
        assert edge.map() == []


@case("a driver that is lost leaves 503 behind, and 200 comes back with it")
def _():
    with Edge() as edge, page() as service:
        driver = edge.expose(f"{PORT}=127.0.0.1:{service.port}", "--name", "me")
        edge.until(f"me-{PORT}", 200)
        driver.process.send_signal(signal.SIGKILL)
        driver.process.wait()
        answer = edge.until(f"me-{PORT}", 503)
        assert answer.headers["retry-after"]
        edge.expose(f"{PORT}=127.0.0.1:{service.port}", "--name", "me")
        edge.until(f"me-{PORT}", 200)


def echo_or(answer):
    """A service: WebSockets are echoed, and answer(connection, head) is for every other request."""
    def serve(connection):
        rest = b""
        while True:
            head, rest = read_head(connection, rest)
            if b"upgrade: websocket" in head.lower():
                echo(connection, head, rest)
                return
            answer(connection, head)
    return serve


@case("a browser opens it, over HTTP/2, and a WebSocket from the page")
def _():
    if not CHROMIUM:
        raise Skip("chromium is not installed")

    def page(connection, _head):
        body = b"<!doctype html><title>x</title><p>a page"
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    with Edge() as edge, Service(echo_or(page)) as service:
        edge.expose(f"{PORT}=127.0.0.1:{service.port}")
        edge.until(f"me-{PORT}", 200)
        with Browser(edge.pin()) as browser:
            tab = browser.page(f"https://me-{PORT}.{DOMAIN}:{edge.port}/")
            tab.until("document.body.innerText.includes('a page')")
            assert tab.js("isSecureContext") is True
            assert tab.js("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
            said = tab.js("new Promise((ok, no) => { const w = new WebSocket('wss://' + location.host + '/ws'); w.onopen = () => w.send('echo me');"
                          " w.onmessage = (e) => ok(e.data); w.onerror = () => no(new Error('no WebSocket')); })")
            assert said == "echo me"


@case("the service sees its own host, an Origin that fits it, and who the visitor is; what a visitor writes there is dropped")
def _():
    with Edge() as edge, telling() as service:
        edge.expose(f"{PORT}=127.0.0.1:{service.port}", "--name", "ann")
        edge.until(f"me-{PORT}", 200)
        lies = ["-H", "X-Forwarded-For: 203.0.113.9", "-H", "X-Forwarded-Host: evil.example", "-H", "Forwarded: for=203.0.113.9",
                "-H", "X-Real-IP: 203.0.113.9", "-H", "X-Forwarded-Proto: http", "-H", "Proxy: http://evil.example"]
        for host, origin, seen in ((f"me-{PORT}", f"https://me-{PORT}.{DOMAIN}:{edge.port}", f"https://ann-{PORT}.{DOMAIN}:{edge.port}"),
                                   (f"ann-{PORT}", f"https://ann-{PORT}.{DOMAIN}:{edge.port}", f"https://ann-{PORT}.{DOMAIN}:{edge.port}"),
                                   (f"me-{PORT}", "https://evil.example", "https://evil.example")):
            answer = edge.get(host, "/a/../b?c=%2e%2e", *lies, "-H", f"Origin: {origin}")
            assert answer.status == 200, answer.text
            assert json.loads(answer.body)[0] == "GET /a/../b?c=%2e%2e HTTP/1.1"
            assert field(answer, "host") == [f"ann-{PORT}.{DOMAIN}:{edge.port}"]
            assert field(answer, "origin") == [seen], (host, origin)
            assert field(answer, "x-forwarded-proto") == ["https"]
            assert field(answer, "x-forwarded-for")[0].split(",")[0].strip() == "127.0.0.1"
            assert field(answer, "x-forwarded-host") == [f"{host}.{DOMAIN}:{edge.port}"]
            for lie in ("203.0.113.9", "evil.example:", "evil.example/"):
                assert lie not in answer.text, (lie, answer.text)
            assert not field(answer, "proxy") and not field(answer, "x-real-ip")


@case("a Host that is written twice, or is none, leads nowhere")
def _():
    with Edge() as edge, page() as service:
        edge.expose(f"{PORT}=127.0.0.1:{service.port}")
        edge.until(f"me-{PORT}", 200)
        context = ssl.create_default_context(cafile=edge.ca)

        def raw(text):
            with socket.create_connection(("127.0.0.1", edge.port), timeout=20) as plain, \
                    context.wrap_socket(plain, server_hostname=f"me-{PORT}.{DOMAIN}") as s:
                s.sendall(text)
                return s.recv(4096).split(b"\r\n", 1)[0]

        good = f"me-{PORT}.{DOMAIN}".encode()
        for text in (b"GET / HTTP/1.1\r\nHost: " + good + b"\r\nHost: " + good + b"x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x|y\r\n\r\n",
                     b"GET / HTTP/1.1\r\n\r\n", b"GET http://evil.example/ HTTP/1.1\r\nHost: " + good + b"\r\n\r\n",
                     b"GET / HTTP/1.1\r\nHost: " + good + b"\0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: " + b"a" * 9000 + b"\r\n\r\n"):
            status = int(raw(text).split(b" ")[1])
            assert status in (400, 404, 431), (text[:80], status)


@case("the authority is good for *.edge.localhost alone, stays over a new start, and its key is nobody else's")
def _():
    with Folder() as folder:
        at = folder.join("edge")
        with Edge(folder=at) as edge:
            assert "OK" in verified(edge.ca, os.path.join(at, "certs", "edge.pem"))
            with open(edge.ca, encoding="ascii") as f:
                first = f.read()
            for base, folders, names in os.walk(at):
                for name in [*folders, *names]:
                    # Root's HAProxy has become an account whose group may go through one folder to one socket.
                    may = {"run": 0o010, "log.sock": 0o060, "gate.sock": 0o060, "login.sock": 0o060}.get(name, 0) if os.geteuid() == 0 else 0
                    # HAProxy makes its sockets under another name first, with its own mask: connecting needs the right to write.
                    of = 0o022 if name.endswith(".tmp") and base == os.path.join(at, "run") else 0o077
                    with contextlib.suppress(FileNotFoundError):
                        assert os.stat(os.path.join(base, name)).st_mode & of == may, os.path.join(base, name)
            # A certificate for another host from the same authority is worth nothing.
            run_in = dict(cwd=folder.path, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            subprocess.run(["sh", "-ec", "openssl ecparam -genkey -name prime256v1 -noout -out k; openssl req -new -key k -subj /CN=x -out csr;"
                            "printf subjectAltName=DNS:www.example.com > ext; openssl x509 -req -in csr -CA edge/ca/ca.pem -CAkey edge/ca/ca.key"
                            " -days 2 -extfile ext -out other.pem"], **run_in)
            bad = subprocess.run(["openssl", "verify", "-CAfile", edge.ca, folder.join("other.pem")], stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, check=False)
            assert bad.returncode != 0 and b"permitted subtree violation" in bad.stdout, bad.stdout
        with Edge(folder=at) as edge, open(edge.ca, encoding="ascii") as f:
            assert f.read() == first


@case("HAProxy that is killed serves again, its worker or all of it, with every name")
def _():
    with Edge() as edge, page() as service:
        edge.expect("HAProxy")
        edge.expose(f"{PORT}=127.0.0.1:{service.port}", f"{PORTS[1]}=127.0.0.1:{service.port}", bindings=2)
        edge.until(f"me-{PORTS[1]}", 200)
        before = edge.map()
        for victim in (edge.worker, edge.master):
            pid, old = victim(), edge.worker()
            os.kill(pid, signal.SIGKILL)
            eventually(lambda old=old: edge.worker() not in (None, old), "another worker")
            edge.until(f"me-{PORT}", 200)
            assert edge.get(f"me-{PORTS[1]}").status == 200 and edge.get(f"me-{PORTS[2]}").status == 404
            assert edge.map() == before


@case("a reload by somebody else while names change: HAProxy has in the end what is bound, and nothing twice")
def _():
    with Edge() as edge, page() as service:
        done = threading.Event()

        def reload():
            while not done.wait(0.3):
                os.kill(edge.master(), signal.SIGUSR2)

        thread = threading.Thread(target=reload)
        thread.start()
        try:
            for round_ in range(6):
                driver = edge.expose(*[f"{PORTS[i]}=127.0.0.1:{service.port}" for i in range(round_ + 1)], "--name", f"r{round_}", bindings=round_ + 1)
                if round_ % 2 == 0:
                    assert driver.end(signal.SIGINT) == 0
        finally:
            done.set()
            thread.join()
        want = sorted(f"r{r}-{PORTS[i]}.{DOMAIN}" for r in (1, 3, 5) for i in range(r + 1))
        want = sorted(want + [f"me-{PORTS[i]}.{DOMAIN}" for i in range(6)])
        eventually(lambda: [key for key, _ in edge.map()] == want, f"the names that are bound: {want}")
        # A process that has read the files a moment before the last change is found out within a second.
        eventually(lambda: all(edge.get(host).status == 200 for host in want), "all of them are served")
        assert [key for key, _ in edge.map()] == want


@case("an entry that somebody else takes away or adds in HAProxy is put right at the next reload")
def _():
    with Edge() as edge, page() as service:
        edge.expose(f"{PORT}=127.0.0.1:{service.port}", "--name", "me")
        edge.until(f"me-{PORT}", 200)
        path, right = f"{edge.folder}/haproxy/maps/bindings.map", edge.map()
        edge.admin(f"del map {path} me-{PORT}.{DOMAIN}")
        edge.admin(f"add map {path} evil.{DOMAIN} 127.0.0.1|1|*|live")
        edge.admin(f"add map {path} evil.{DOMAIN} 127.0.0.1|2|*|live")
        assert edge.map() != right
        edge.program.process.send_signal(signal.SIGHUP)
        eventually(lambda: edge.map() == right, "what is bound")
        with open(path, encoding="ascii") as f:
            assert sorted(tuple(line.split()) for line in f) == right


@case("SIGHUP loads anew: a WebSocket stays, requests meanwhile are answered, a slow one as well, and there is a new certificate")
def _():
    go_on = threading.Event()

    def answer(connection, head):
        if head.startswith(b"GET /slow"):
            go_on.wait(60)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with Edge() as edge, Service(echo_or(answer)) as service:
        edge.expose(f"{PORT}=127.0.0.1:{service.port}", "--name", "me")
        edge.until(f"me-{PORT}", 200)
        context = ssl.create_default_context(cafile=edge.ca)
        host = f"me-{PORT}.{DOMAIN}"

        @contextlib.contextmanager
        def visit():
            with socket.create_connection(("127.0.0.1", edge.port), timeout=30) as plain, context.wrap_socket(plain, server_hostname=host) as s:
                yield s

        def shown():
            with visit() as s:
                return s.getpeercert(True)

        old, worker = shown(), edge.worker()
        with visit() as socket_, visit() as slow:
            socket_.sendall(f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
            head, rest = read_head(socket_)
            assert b" 101 " in head and not rest, head
            slow.sendall(f"GET /slow HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            edge.program.process.send_signal(signal.SIGHUP)
            while edge.worker() in (None, worker):
                assert edge.get(f"me-{PORT}").status == 200
            eventually(lambda: shown() != old, "the new certificate")
            for text in (b"one", b"three"):
                socket_.sendall(bytes([0x82, 0x80 | len(text)]) + bytes(4) + text)
                assert read_exactly(socket_, 2 + len(text)) == bytes([0x82, len(text)]) + text
            go_on.set()
            assert b" 200 " in read_head(slow)[0]
        assert edge.get(f"me-{PORT}").status == 200


@case("the agent that is killed takes HAProxy with it, and the next one serves the same names")
def _():
    with Folder() as folder, page() as service:
        at = folder.join("edge")
        with Edge(folder=at) as edge:
            edge.expose(f"{PORT}=127.0.0.1:{service.port}")
            edge.until(f"me-{PORT}", 200)
            left = descendants(edge.program.pid)
            assert len(left) >= 2
            edge.drivers[0].process.kill()
            edge.drivers[0].process.wait()
            edge.program.process.kill()
            edge.program.process.wait()
            eventually(lambda: not any(map(is_there, left)), "the end of HAProxy")
        with Edge(folder=at, port=edge.port) as again:
            assert again.map() == [] and again.get(f"me-{PORT}").status == 404
            again.expose(f"{PORT}=127.0.0.1:{service.port}")
            again.until(f"me-{PORT}", 200)


def refused(*args, status=3, env=None):
    got, out, said = command("edge", *args, env=env)
    assert got == status and not out, (got, out, said)
    return said


@case("what is missing or wrong is said in plain words, and nothing is left running")
def _():
    needs_haproxy()
    with Folder() as folder:
        at = folder.join("edge")
        with Edge(folder=at) as edge:
            assert f"another edge works in the folder {at}" in refused("dev", "--folder", at, "--port", "1")
            said = refused("dev", "--folder", folder.join("other"), "--port", str(edge.port))
            assert f"port {edge.port} is in use by another program" in said
        assert "no such program" in refused("dev", "--folder", at, "--haproxy", "/nonexistent/haproxy", status=3)
        assert "does not say which version" in refused("dev", "--folder", at, "--haproxy", "/bin/true")
        old = folder.join("haproxy")
        with open(old, "w", encoding="ascii") as f:
            f.write("#!/bin/sh\necho 'HAProxy version 2.4.22-1 2023/01/01'\n")
        os.chmod(old, 0o755)
        assert "is version 2.4; the edge needs HAProxy 2.6 or later" in refused("dev", "--folder", at, "--haproxy", old)
        with open(old, "w", encoding="ascii") as f:
            f.write("#!/bin/sh\ncase $1 in -v*) echo 'HAProxy version 3.0.1'; exit;; esac\necho '[ALERT] (1) : config : nothing is right' >&2\nexit 1\n")
        assert "HAProxy does not start: it ended with status 1: config : nothing is right" in refused("dev", "--folder", at, "--haproxy", old)
        assert "is no id" in refused("dev", "--folder", at, "--id", "Me-1", status=2)
        assert "cannot hold" in refused("dev", "--folder", folder.join("a b"), status=2)
        assert "more than 80 bytes" in refused("dev", "--folder", folder.join("x" * 80), status=2)
        assert "--domain and --id" in refused("up", status=2)
        assert "is no domain" in refused("up", "--domain", "Example", "--id", "x", "--folder", at, status=2)


@case("without HAProxy it says which package is missing")
def _():
    if os.geteuid() != 0 or not shutil.which("unshare"):
        raise Skip("root and unshare are needed to hide HAProxy")
    with Folder() as folder:
        done = subprocess.run(["unshare", "-m", "sh", "-c", "for p in /usr/sbin/haproxy /usr/local/sbin/haproxy; do [ -e $p ] && mount --bind /dev/null $p; done;"
                               " exec \"$0\" edge dev --folder \"$1\"", BIN, folder.join("edge")],
                              env={**os.environ, "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
        said = done.stderr.decode()
        assert done.returncode == 3 and "HAProxy is missing: install the package haproxy (apt-get install haproxy)" in said, (done.returncode, said)


if __name__ == "__main__":
    main()
