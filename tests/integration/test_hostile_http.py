"""10,000 different bad inputs at every listener (the kit's own takes requests, upgrades and frames): refused one by one, and nobody else
notices.

HOSTILE_N sets another number, HOSTILE_SEED another seed (`make hostile N=100000 SEED=7`).
"""

import os
import random
import re
import threading

from tests.hostile.inputs import (bad_answers, bad_frames, bad_requests, bad_upgrades, bad_websocket, distinct, frame, raw_bytes,
                                  ws_frame)
from tests.hostile.volley import Watch, volley
from tests.integration.harness import API, SANITIZED, Service, Tunnel, connect, eventually, read_head
from tests.support.tap import case, main

N = int(os.environ.get("HOSTILE_N") or (1200 if SANITIZED else 10000))
SEED = int(os.environ.get("HOSTILE_SEED") or 20112)
CONNECT = (API + "/connect").encode()
UPGRADE = (b"GET " + CONNECT + b" HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
           b"Sec-WebSocket-Protocol: hoody-tunnel.v1\r\n\r\n")
UPGRADE_V2 = UPGRADE.replace(b"hoody-tunnel.v1", b"hoody-tunnel.v2")
HELLO = ws_frame(frame(0x01, 0, b'{"version":"hoody-tunnel.v1","capabilities":[]}'))
KIT = ("--takeover-grace", "0s", "--hello-timeout", "500ms", "--max-sessions", "256", "--max-pre-auth-connections", "256")


def seeded(what):
    print(f"# {what}, seed {SEED}")
    return random.Random(f"{SEED} {what}")


def refused(item, got):
    """One answer, a 4xx or 5xx, and the end of the connection."""
    if not re.match(rb"HTTP/1\.1 [45]\d\d ", got):
        return "not refused"
    if len(re.findall(rb"HTTP/1\.1 \d{3} ", got)) != 1:
        return "the canary was answered"
    return None


def canary_service(seen):
    def handle(c):
        rest = b""
        while True:
            head, rest = read_head(c, rest)
            if head.startswith(b"GET /canary"):
                seen.append(head)
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    return Service(handle)


def still_serves(port, path=b"/"):
    with connect(port) as c:
        c.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head, _ = read_head(c)
        assert head.startswith(b"HTTP/1.1 200"), head


@case("bad requests at an exposed port")
def _():
    seen = []
    canary = b"GET /canary HTTP/1.1\r\nHost: a\r\n\r\n"
    inputs = distinct(bad_requests(seeded("bad requests")), N)
    with Tunnel(*KIT) as t, canary_service(seen) as service:
        driver = t.expose(f"0={service.port}")
        still_serves(driver.port)
        with Watch(t.kit, [driver.pid]):
            wrong = volley(driver.port, inputs, refused, parts=lambda q: (q + canary, "wait"))
        assert not wrong, "\n".join(wrong)
        assert not seen, f"{len(seen)} canaries reached the service: {seen[0]}"
        still_serves(driver.port)


@case("bad requests and bad upgrades at the kit's own port")
def _():
    rng = seeded("bad requests for the kit")
    canary = b"GET " + API.encode() + b"/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    requests, upgrades = bad_requests(rng, bodies=False), bad_upgrades(rng, CONNECT, b"hoody-tunnel.v1")
    inputs = distinct(requests, N * 3 // 10) + distinct(upgrades, N // 10)
    with Tunnel(*KIT) as t:
        with Watch(t.kit):
            wrong = volley(t.kit.port, inputs, refused, parts=lambda q: (q + canary, "wait"))
        assert not wrong, "\n".join(wrong)
        assert t.kit.get("/health")["status"] == "ok"


def sockets_that_end(kit, inputs, before, judge):
    """The client closes its side behind what it says: the kit has not to wait for an answer to its close frame."""
    with Watch(kit):
        wrong = volley(kit.port, inputs, judge,
                       parts=lambda f: ((UPGRADE if before or len(f) % 2 else UPGRADE_V2) + before + f, "fin"))
    assert not wrong, "\n".join(wrong)
    eventually(lambda: kit.get("/tunnels")["sessions"] == [], "no session is left")


@case("bad frames before HELLO")
def _():
    rng = seeded("frames before HELLO")
    inputs = distinct(bad_websocket(rng), N // 10) + distinct(bad_frames(rng, True), N // 5)

    def judge(_, got):
        head, _, rest = got.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            return "no upgrade"
        return "let in" if b"sessionId" in rest else None

    with Tunnel(*KIT) as t, canary_service([]) as service:
        driver = t.expose(f"0={service.port}")
        still_serves(driver.port)
        driver.end()
        eventually(lambda: t.kit.get("/tunnels")["sessions"] == [], "the driver is gone")
        t.drivers.clear()
        sockets_that_end(t.kit, inputs, b"", judge)
        still_serves(t.expose(f"0={service.port}").port)


@case("bad frames after HELLO")
def _():
    rng = seeded("frames after HELLO")
    inputs = distinct(bad_websocket(rng), N // 10) + distinct(bad_frames(rng, False), N // 5)

    sessions = []

    def judge(_, got):
        if b"sessionId" in got:  # not always: one that breaks the WebSocket at once gets its close frame alone
            sessions.append(1)
        return None if got.startswith(b"HTTP/1.1 101 ") else "no upgrade"

    with Tunnel(*KIT) as t, canary_service([]) as service:
        sockets_that_end(t.kit, inputs, HELLO, judge)
        assert len(sessions) > len(inputs) // 4, f"only {len(sessions)} of {len(inputs)} had a session"
        still_serves(t.expose(f"0={service.port}").port)


@case("a pulled port carries raw bytes and every kind of end")
def _():
    inputs = distinct(raw_bytes(seeded("TCP connections")), N)

    def handle(c):
        while c.recv(65536):
            pass

    with Tunnel(*KIT, "--half-close-timeout", "2s") as t, Service(handle) as service:
        driver = t.pull(f"0={service.port}")
        with Watch(t.kit, [driver.pid]):
            wrong = volley(driver.port, inputs, lambda item, got: "bytes from nowhere" if got else None, parts=lambda item: item)
        assert not wrong, "\n".join(wrong)
        with connect(driver.port) as c:
            c.sendall(b"still there")
            eventually(lambda: t.kit.get("/tunnels")["totalStreams"] == 1, "a connection through the tunnel")


@case("bad answers of a local service")
def _():
    inputs = distinct(bad_answers(seeded("answers of a service")), N)

    def handle(c):
        head, _ = read_head(c)
        number = re.match(rb"GET /(\d+) ", head)
        c.sendall(inputs[int(number.group(1))][0] if number else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        c.shutdown(1)

    def judge(item, got):
        _, cut = inputs[item]
        head, _, body = got.partition(b"\r\n\r\n")
        if re.match(rb"HTTP/1\.1 50[24] ", got):
            return None
        if not cut:
            return "taken for an answer"
        length = re.search(rb"content-length: (\d+)", head)
        whole = len(body) >= int(length.group(1)) if length else body.endswith(b"0\r\n\r\n")
        return "it looks whole" if whole else None

    with Tunnel(*KIT) as t, Service(handle) as service:
        driver = t.expose(f"0={service.port}")
        still_serves(driver.port)
        with Watch(t.kit, [driver.pid]):
            wrong = volley(driver.port, range(N), judge,
                           parts=lambda i: (b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % i, "wait"))
        assert not wrong, "\n".join(wrong)
        still_serves(driver.port)


if __name__ == "__main__":
    threading.stack_size(256 * 1024)
    main()
