"""Whoever asks the kit itself: admins, probes, readers of events, and those who knock and say nothing."""

import asyncio
import json
import time

from tests.chaos.play import Over, Sock, address, pace, pieces

API = "/api/v1/tunnel"
HEALTH_LIMIT = 5.0  # seconds; a stuck loop is looked for here, not a slow one
PLAY_LIMIT = 0.5  # a play that was late by so much itself, on a busy machine, has nothing to say about the kit


async def ask(rng, port, method, path, most=10.0):
    """(status, body) of one request."""
    sock = await Sock.dial(port, rng)
    try:
        async with asyncio.timeout(most):
            await sock.send(f"{method} {API}{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
            head = (await sock.until(b"\r\n\r\n")).decode("latin-1")
            body = b""
            try:
                while True:
                    body += await sock.recv()
            except Over:
                pass
            return int(head.split(" ", 2)[1]), body
    finally:
        sock.close()


async def administrate(rng, stage, port):
    path = rng.choice(["/tunnels", "/sessions", "/bindings", "/metrics", "/health", "/openapi.json", "/nothing", "kill", "kill"])
    if path != "kill":
        await ask(rng, port, "GET", path)
    else:
        status, body = await ask(rng, port, "GET", "/sessions")
        rows = json.loads(body)["sessions"] if status == 200 else []
        if rows and rng.random() < 0.3:
            grace = rng.choice(["", "?grace_ms=0", "?grace_ms=300", "?grace_ms=x"])
            await ask(rng, port, "DELETE", f"/sessions/{rng.choice(rows)['sessionId']}{grace}")
    await pace(rng, 0.5)


async def read_events(rng, stage, port):
    sock = await Sock.dial(port, rng, small=True)
    try:
        async with asyncio.timeout(rng.random() * 4):
            await sock.send(f"GET {API}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            while True:
                await sock.recv(rng.choice([100, 65536]))
                await pace(rng, 1.0)
    finally:
        sock.close()


async def knock(rng, stage, port):
    """Half heads, upgrades without HELLO, and noise, at the kit's own address."""
    sock = await Sock.dial(port, rng, source=address(rng))
    words = rng.choice([b"", b"GET ", f"GET {API}/health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode(), rng.randbytes(100),
                        f"POST {API}/health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 5\r\n\r\nab".encode(),
                        f"GET {API}/connect HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                        "Sec-WebSocket-Protocol: hoody-tunnel.v1\r\n\r\n".encode()])
    try:
        for part in pieces(rng, words):
            await sock.send(part)
        async with asyncio.timeout(rng.random() * 2):
            while True:
                await sock.recv()
    finally:
        if rng.random() < 0.5:
            sock.reset()
        sock.close()


async def probe(rng, stage, port):
    """A container's health check: always answered, and in time."""
    begun, wrong = time.monotonic(), None
    stage.latest = 0.0
    try:
        status, _ = await ask(rng, port, "GET", "/health", HEALTH_LIMIT)
        if status != 200:
            wrong = f"/health answered {status}"
    except asyncio.TimeoutError:
        wrong = f"/health was not answered within {HEALTH_LIMIT} s"
    except (Over, OSError) as e:
        wrong = f"/health was cut: {e!r}"
    await asyncio.sleep(0.05)
    if wrong and stage.latest < PLAY_LIMIT:
        stage.ledger.found(wrong)
    elif wrong:
        stage.ledger.count["health not judged"] += 1
    stage.ledger.count["slowest health, ms"] = max(stage.ledger.count["slowest health, ms"], int((time.monotonic() - begun) * 1000) - 50)


async def watch(_, stage):
    """How late the play itself is."""
    begun = time.monotonic()
    await asyncio.sleep(0.02)
    stage.latest = max(stage.latest, time.monotonic() - begun - 0.02)
