"""Visitors of every kind and manner. What they are answered is checked byte by byte; how they behave is nobody's business."""

import asyncio
import re

from tests.chaos.drivers import PULL_HEAD
from tests.chaos.play import DOWN, OWN_ANSWERS, RAW, UP, Over, Sock, address, ended, pace, pieces, some_size
from tests.faults.transfer import MOST, content

PATIENCE = 6.0  # seconds that a visitor gives to one connection


KINDS = {"get": 30, "length": 30, "chunked": 15, "head": 4, "upgrade": 8, "old": 5, "bad": 4}
SENDS = {"at once": 12, "head first": 4, "by and by": 8}
LEAVES = {"wait": 6, "fin": 2, "close": 2, "reset": 2}


class Request:
    """One request and how its visitor means to end it."""

    def __init__(self, rng, stage):
        ledger = stage.ledger
        self.n, self.rng, self.stage, self.ledger = ledger.number(), rng, stage, ledger
        kind = stage.pick(rng, KINDS)
        self.kind = kind
        self.method = {"get": "GET", "head": "HEAD", "upgrade": "GET", "old": "GET", "bad": "GET"}.get(kind, rng.choice(["POST", "PUT", "DELETE"]))
        self.size = some_size(rng) if kind in ("length", "chunked") else 0
        if kind == "upgrade" and rng.random() < 0.3:
            self.method, self.size = "POST", rng.randrange(1, 3000)
        lines = [f"{self.method} /t?n={self.n}&s={rng.randrange(9)} HTTP/1.{0 if kind == 'old' else 1}", "Host: chaos"]
        if kind == "length" or self.size and kind == "upgrade":
            lines.append(f"Content-Length: {self.size}")
        elif kind == "chunked":
            lines.append("Transfer-Encoding: chunked")
        if kind == "upgrade":
            lines += ["Connection: Upgrade", f"Upgrade: {rng.choice(['websocket', 'tcp', 'h2c'])}", "Sec-WebSocket-Version: 13",
                      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
        if kind == "bad":
            lines.append(rng.choice(["X y: 1", "Content-Length: 1\r\nContent-Length: 2", ": 1", "Host: other", "Transfer-Encoding: gzip"]))
        if self.size and rng.random() < 0.1:
            lines.append("Expect: 100-continue")
        if rng.random() < 0.1:
            lines.append("Connection: close")
        if rng.random() < 0.05:
            lines += [f"X-{i}: {'y' * rng.randrange(1, 900)}" for i in range(rng.randrange(1, 60))]
        if rng.random() < 0.2:
            lines.append("Accept: " + rng.choice(["text/html", "application/json", "*/*"]))
        self.head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        # Where it stops before its time, if it does: within the head, or within the body.
        self.stops = None
        if rng.random() < 0.3:
            self.stops = rng.randrange(len(self.head)) if rng.random() < 0.1 else len(self.head) + rng.randrange(self.size + 1)

    def body(self):
        """The body as it goes on the wire, and whether the wire ends it."""
        data = content(self.n, self.size, UP)
        if self.kind != "chunked":
            return bytes(data)
        out, at = [], 0
        while at < len(data):
            n = self.rng.randrange(1, 70000)
            part = bytes(data[at:at + n])
            out.append(b"%x%s\r\n%s\r\n" % (len(part), b";x=y" if self.rng.random() < 0.1 else b"", part))
            at += n
        trailer = b"X-Sum: 1\r\n" if self.rng.random() < 0.1 else b""
        return b"".join(out) + b"0\r\n" + trailer + b"\r\n"

    async def send(self, sock):
        """True when it was sent whole, and more may follow."""
        data = self.head + self.body()
        if self.stops is None or self.stops >= len(data):
            self.ledger.sent[self.n] = self.size
        else:
            data = data[:self.stops]
        how = self.stage.pick(self.rng, SENDS) if len(data) > len(self.head) else "at once"
        if how != "at once":
            await sock.send(data[:len(self.head)])
            await pace(self.rng, 1.0)
            data = data[len(self.head):]
        while how == "by and by" and data:  # while the answer comes, or after it
            n = self.rng.choice([1, 1000, 30000, 1 + len(data) // 4])
            await sock.send(data[:n])
            data = data[n:]
            await pace(self.rng, 0.7)
        for part in pieces(self.rng, data) if data else []:
            await sock.send(part)
            if self.rng.random() < 0.1:
                await pace(self.rng, 0.5)
        return self.n in self.ledger.sent


class Reading:
    """Takes answers as they come, some visitors slower than others."""

    def __init__(self, sock, rng, ledger):
        self.sock, self.rng, self.ledger = sock, rng, ledger
        self.slow = rng.random() < 0.25
        self.step = rng.choice([500, 4096]) if self.slow else 262144

    async def some(self, most=None):
        if self.slow and self.rng.random() < 0.3:
            await pace(self.rng, 1.0)
        return await self.sock.recv(min(self.step, most or self.step))

    async def head(self):
        while True:
            text = (await self.sock.until(b"\r\n\r\n")).decode("latin-1")
            match = re.match(r"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n", text)
            if not match:
                self.ledger.found(f"a visitor got what is no answer: {text[:200]!r}")
                raise Over("nonsense")
            status = int(match.group(1))
            if status >= 200 or status == 101:
                fields = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in text.split("\r\n")[1:] if line)}
                return status, fields

    async def answer(self, request):
        """One answer. True when the connection goes on."""
        status, fields = await self.head()
        n, own = request.n, "x-n" not in fields
        if own and status not in OWN_ANSWERS:
            self.ledger.found(f"visitor {n}: {status} without a number: {fields}", n)
        elif not own and fields["x-n"] != str(n):
            self.ledger.found(f"visitor {n} got the answer of {fields['x-n']}", n)
        self.ledger.count[f"{status}{' own' if own else ''}"] += 1
        self.ledger.note(n, f"visitor got {status} {fields}")
        take = Body(self, request, own)
        if status == 101:
            await self.behind_101(take, request)
            return False
        if request.method == "HEAD" or status in (204, 304):
            pass
        elif fields.get("transfer-encoding") == "chunked":
            await take.chunked()
        elif "content-length" in fields:
            await take.sized(int(fields["content-length"]))
        else:
            await take.to_the_end()
        return fields.get("connection") != "close" and request.kind != "old"

    async def behind_101(self, take, request):
        take.salt, take.how = RAW, "visitor (upgraded)"
        reading = asyncio.create_task(take.to_the_end())
        try:
            data, at = content(request.n, MOST, UP), request.size
            for _ in range(self.rng.randrange(0, 20)):
                n = self.rng.randrange(1, 40000)
                await self.sock.send(data[at:at + n])
                at += n
            if self.rng.random() < 0.5:
                request.ledger.sent[request.n] = at
                self.sock.fin()
            await reading
        finally:
            await ended([reading])
            if request.n not in request.ledger.sent:
                self.sock.reset()  # a close would be an end in order


class Body:
    """An answer's body, checked as it comes. What a kit says itself is not, but it is short."""

    def __init__(self, reading, request, own):
        self.reading, self.ledger, self.n, self.own = reading, reading.ledger, request.n, own
        self.at, self.salt, self.how = 0, DOWN, f"visitor ({request.kind})"

    def came(self, data):
        if not self.own:
            self.at = self.ledger.check(self.how, self.n, self.at, data, self.salt)
        else:
            self.at += len(data)
            if self.at > 65536:
                self.ledger.found(f"visitor {self.n}: an answer of the kit's own of more than 64 KiB")

    def ended(self):
        if not self.own:
            self.ledger.answer_ended(self.how, self.n, self.at)

    async def sized(self, size):
        while size:
            data = await self.reading.some(size)
            size -= len(data)
            self.came(data)

    async def chunked(self):
        self.how += ", chunked"
        sock = self.reading.sock
        while size := int(await sock.until(b"\r\n"), 16):
            await self.sized(size)
            await sock.until(b"\r\n")
        while await sock.until(b"\r\n") != b"\r\n":
            pass
        self.ended()

    async def to_the_end(self):
        try:
            while True:
                self.came(await self.reading.some())
        except Over as e:
            if e.how == "fin":
                self.ended()
            raise


async def visit(rng, stage, ports):
    """One connection to an EXPOSE port: some requests, read while they are sent."""
    ledger = stage.ledger
    sock = await Sock.dial(rng.choice(ports), rng, small=rng.random() < 0.4, source=address(rng))
    requests = [Request(rng, stage) for _ in range(rng.choices([1, 2, rng.randrange(3, 12)], [6, 2, 1])[0])]
    leaves = stage.pick(rng, LEAVES)
    pipelined = rng.random() < 0.5
    sent = [asyncio.Event() for _ in requests]
    read = [asyncio.Event() for _ in requests]
    whole = True

    async def send():
        nonlocal whole
        for i, request in enumerate(requests):
            whole = await request.send(sock)
            sent[i].set()
            if not whole:
                break
            if not pipelined or request.kind == "upgrade":
                await read[i].wait()
            elif rng.random() < 0.2:
                await pace(rng, 0.5)
        if leaves != "wait" and (not whole or rng.random() < 0.5):
            await pace(rng, 1.5)
            if leaves == "fin":
                sock.fin()
            else:
                raise Over(leaves)

    async def take():
        reading = Reading(sock, rng, ledger)
        if rng.random() < 0.1:
            await pace(rng, 4.0)  # an answer that nobody takes for a while
        reads_late = rng.random() < 0.4  # as simple clients do: everything is sent first
        for i, request in enumerate(requests):
            if reads_late:
                await sent[i].wait()
            goes_on = await reading.answer(request)
            read[i].set()
            if not goes_on or i == len(requests) - 1:
                break
        if leaves == "wait" and rng.random() < 0.7:
            await pace(rng, 2.0)
        raise Over("done")

    tasks = [asyncio.create_task(send()), asyncio.create_task(take())]
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)
    except Over as e:
        if e.how == "reset" or e.how == "done" and rng.random() < 0.2:
            sock.reset()
    finally:
        await ended(tasks)
        sock.close()


async def pull(rng, stage, ports):
    """One connection to a PULL port."""
    ledger, n = stage.ledger, stage.ledger.number()
    up, down = some_size(rng), some_size(rng)
    sock = await Sock.dial(rng.choice(ports), rng, small=rng.random() < 0.4)
    leaves = rng.choice(["fin", "fin", "wait", "reset"])
    ledger.note(n, f"puller at {sock.sock.getsockname()[1]}: {up} up, {down} down, {leaves}")

    async def send():
        for part in pieces(rng, PULL_HEAD.pack(n, up, down) + bytes(content(n, up if leaves != "reset" else up // 2, UP))):
            await sock.send(part)
            if rng.random() < 0.1:
                await pace(rng, 0.5)
        if leaves != "reset":
            ledger.sent[n] = up
        if leaves == "fin":
            sock.fin()
        elif leaves == "reset":
            await pace(rng, 1.0)
            raise Over("reset")

    async def take():
        at, slow, got = 0, rng.random() < 0.2, False
        try:
            while True:
                data = await sock.recv(1000 if slow else 262144)
                got = True
                at = ledger.check("pulled", n, at, data, DOWN)
                if slow:
                    await pace(rng, 0.2)
        except Over as e:
            ledger.count[f"pulled {e.how}"] += 1
            if e.how == "fin" and got:
                ledger.answer_ended("pulled", n, at)

    tasks = [asyncio.create_task(send()), asyncio.create_task(take())]
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)
    finally:
        await ended(tasks)
        if n not in ledger.sent:
            sock.reset()  # a close would be an end in order
        sock.close()


async def flood(rng, stage, ports):
    """Many who open and are gone at once."""
    port = rng.choice(ports)
    for _ in range(rng.randrange(5, 60)):
        sock = await Sock.dial(port, rng, source=address(rng))
        n = stage.ledger.number()
        try:
            if rng.random() < 0.7:
                stage.ledger.sent[n] = 0
                await sock.send(b"GET /t?n=%d HTTP/1.1\r\nHost: chaos\r\n\r\n" % n)
        finally:
            sock.reset()
