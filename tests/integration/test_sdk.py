"""The published TypeScript SDK as our kit's driver: it resumes, takes over, uses four sockets and closes cleanly.

Runs where SDK_DIR names the directory that its package is unpacked in, and node is there; else every case is skipped. The program
around the SDK is the conformance suite's.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading

from tests.integration.harness import (ROOT, Kit, Program, Relay, Service, connect, eventually, fds, hello, http_service,
                                       read_exactly, status)
from tests.integration.restarted import Restarted
from tests.support.tap import Skip, case, main

ADAPTER = os.path.join(ROOT, "conformance", "adapters", "typescript-sdk.mjs")
API = "/api/v1/tunnel/connect"


class Sdk(Program):
    def __init__(self, mode, url, service, *more, port=0, connections=1):
        super().__init__(["node", "--experimental-websocket", "--no-warnings", ADAPTER, mode, "--url", url + API, "--target",
                          f"127.0.0.1:{service.port}", "--port", str(port), "--connections", str(connections), *more])
        self.port = None

    def bound(self):
        event = json.loads(self.wait_line(r'^\{"event":"bound".*\}$', 30).group(0))
        self.port = event["containerPort"]
        return event


@contextlib.contextmanager
def kit():
    if not os.environ.get("SDK_DIR") or not shutil.which("node"):
        raise Skip("SDK_DIR or node is not there")
    k = Kit()
    try:
        yield k
        eventually(lambda: fds(k.pid) <= k.baseline_fds, "the descriptors of a new kit")
        assert k.end() == 0
        k.check_sanitizers()
    finally:
        if k.process.poll() is None:
            k.end(signal.SIGKILL)


def is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return s.connect_ex(("127.0.0.1", port)) != 0


def clean(k, *ports):
    """Nothing is left: no session, none parked, and the ports are free."""
    def nothing():
        now = k.get("/tunnels")
        return now["sessions"] == [] and now["orphanedSessions"] == now["totalBindings"] == 0
    eventually(nothing, "an empty kit")
    for port in ports:
        eventually(lambda p=port: is_free(p), f"port {port} is free")


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


def give(connection, data):
    """Its reader notices when the connection is lost on the way."""
    with contextlib.suppress(OSError):
        connection.sendall(data)


def echoes(port, data=b"hello"):
    try:
        with connect(port) as c:
            sender = threading.Thread(target=give, args=(c, data), daemon=True)
            sender.start()
            same = read_exactly(c, len(data)) == data
            sender.join(30)
            return same
    except OSError:
        return False


def says(text):
    return lambda _head, _body: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


def resumes(connections):
    with kit() as k, http_service(hello) as service, Relay(k.port) as relay:
        sdk = Sdk("expose", relay.url, service, "--reconnect", connections=connections)
        first = sdk.bound()
        assert status(sdk.port) == 200
        for _ in range(3):
            relay.cut()
            again = sdk.bound()
            assert again["resumed"] and again["sessionId"] == first["sessionId"] and sdk.port == first["containerPort"], again
            eventually(lambda: status(sdk.port) == 200, "the service is back")
        relay.held = True
        relay.cut()
        eventually(lambda: status(sdk.port) == 503, "the kit parks the session")
        relay.held = False
        sdk.bound()
        eventually(lambda: status(sdk.port) == 200, "the service is back")
        assert k.get("/tunnels")["sessions"][0]["connectionsGranted"] == connections
        assert sdk.end() == 0, sdk.text()
        clean(k, sdk.port)


@case("the SDK resumes after a cut, and after the kit has parked it")
def _():
    resumes(1)


@case("the SDK with maxConnections 4 does so with all of its sockets")
def _():
    resumes(4)


@case("the SDK resumes a pull")
def _():
    with kit() as k, Service(echo) as service, Relay(k.port) as relay:
        sdk = Sdk("pull", relay.url, service, "--reconnect")
        first = sdk.bound()
        assert echoes(sdk.port)
        for _ in range(3):
            relay.cut()
            assert sdk.bound()["sessionId"] == first["sessionId"]
            eventually(lambda: echoes(sdk.port), "the service is back")
        assert sdk.end() == 0, sdk.text()
        clean(k, sdk.port)


@case("the SDK takes a port over from another session of its kind, live and parked, and only when it is told to")
def _():
    with kit() as k, http_service(says(b"A")) as a, http_service(says(b"B")) as b:
        one = Sdk("expose", k.url, a)
        one.bound()
        port = one.port
        refused = Sdk("expose", k.url, b, port=port)
        refused.wait_line("ALREADY_BOUND", 30)
        assert refused.process.wait(20) == 5
        refused.end()
        two = Sdk("expose", k.url, b, "--takeover", port=port)
        two.bound()
        assert two.port == port
        with connect(port) as c:
            c.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = b""
            while data := c.recv(65536):
                answer += data
        assert answer.endswith(b"B"), answer
        two.end(signal.SIGKILL)
        eventually(lambda: k.get("/tunnels")["orphanedSessions"] == 1, "the kit parks the session")
        three = Sdk("expose", k.url, a, "--takeover", port=port)
        three.bound()
        assert three.port == port and status(port) == 200
        assert one.end() == 0 and three.end() == 0
        # Only what the killed one left is there, parked and without a port.
        eventually(lambda: [(s["parked"], s["bindings"]) for s in k.get("/sessions")["sessions"]] == [(True, [])], "nothing else")
        eventually(lambda: is_free(port), "the port is free")


@case("the SDK with maxConnections 4 answers, uploads and pulls through all of its sockets")
def _():
    body = os.urandom(3_000_000)
    digest = hashlib.sha256(body).hexdigest().encode()
    with kit() as k, http_service(lambda h, b: says(hashlib.sha256(b).hexdigest().encode())(h, b)) as web, Service(echo) as tcp:
        sdk = Sdk("expose", k.url, web, connections=4)
        sdk.bound()
        assert [(s["protocol"], s["connectionsGranted"]) for s in k.get("/tunnels")["sessions"]] == [("v2", 4)]
        assert {status(sdk.port) for _ in range(100)} == {200}
        out = subprocess.run(["curl", "-sS", "--fail", "--data-binary", "@-", f"http://127.0.0.1:{sdk.port}/"], input=body,
                             stdout=subprocess.PIPE, timeout=60, check=True)
        assert out.stdout == digest, out.stdout
        pull = Sdk("pull", k.url, tcp, connections=4)
        pull.bound()
        done = []
        # More than the SDK gathers before its local connection stands, on each of eight streams at once (rule FLOW-7).
        visitors = [threading.Thread(target=lambda: done.append(echoes(pull.port, body))) for _ in range(8)]
        for v in visitors:
            v.start()
        for v in visitors:
            v.join(60)
        assert done == [True] * 8, done
        assert sdk.end() == 0 and pull.end() == 0
        clean(k, sdk.port, pull.port)


@case("a GET with a body costs no other visitor of the SDK an answer, and UTF-8 in heads stays what it is")
def _():
    name = 'attachment; filename="\u00fcbersicht-\u20ac.txt"'.encode()
    heard = []

    def answer(head, _body):
        heard.append(head)
        return b"HTTP/1.1 200 OK\r\nContent-Disposition: " + name + b"\r\nContent-Length: 2\r\n\r\nok"

    with kit() as k, http_service(answer) as service:
        sdk = Sdk("expose", k.url, service)
        sdk.bound()
        curl = ["curl", "-sS", "-i", "--noproxy", "*", f"http://127.0.0.1:{sdk.port}/", "-H", "X-Name: \u00fc"]
        for _ in range(3):
            refused = subprocess.run([*curl, "-X", "GET", "-d", "abc"], stdout=subprocess.PIPE, timeout=60, check=True).stdout
            assert refused.startswith(b"HTTP/1.1 413 "), refused
            answered = subprocess.run(curl, stdout=subprocess.PIPE, timeout=60, check=True).stdout
            assert answered.startswith(b"HTTP/1.1 200 ") and name in answered and answered.endswith(b"\r\n\r\nok"), answered
        assert len(heard) == 3 and all("x-name: \u00fc".encode() in h.encode("latin-1") for h in heard), heard
        assert sdk.end() == 0, sdk.text()
        clean(k, sdk.port)


@case("the SDK closes cleanly, and ends when an admin kills its session")
def _():
    with kit() as k, http_service(hello) as service:
        for connections in (1, 4):
            sdk = Sdk("expose", k.url, service, connections=connections)
            sdk.bound()
            assert sdk.end(signal.SIGINT) == 0
            clean(k, sdk.port)
            sdk = Sdk("expose", k.url, service, "--reconnect", connections=connections)
            event = sdk.bound()
            assert k.request("DELETE", f"/sessions/{event['sessionId']}")[0] == 202
            assert sdk.process.wait(20) == 7, sdk.text()
            sdk.end()
            clean(k, sdk.port)


@case("the SDK comes back behind a restart of the kit, and finds its port there")
def _():
    if not os.environ.get("SDK_DIR") or not shutil.which("node"):
        raise Skip("SDK_DIR or node is not there")
    with Restarted() as t, http_service(hello) as service:
        for connections in (1, 4):
            sdk = Sdk("expose", t.kit.url, service, "--reconnect", connections=connections)
            first = sdk.bound()
            assert status(sdk.port) == 200
            for _ in range(3):
                t.kit.restarts()
                again = sdk.bound()
                assert again["resumed"] and sdk.port == first["containerPort"], again
                eventually(lambda s=sdk: status(s.port) == 200, "the service is back")
                t.only_one()
            assert sdk.end() == 0, sdk.text()


if __name__ == "__main__":
    main()
