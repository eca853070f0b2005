"""Local services behind real drivers: HTTP servers with every habit, and TCP servers that speak of numbers."""

import asyncio
import itertools
import re

from tests.chaos.drivers import PULL_HEAD, TARGET
from tests.chaos.play import DOWN, RAW, UP, Over, ended, pace, pieces, some_size
from tests.faults.transfer import MOST, content

HOW = {"whole": 30, "early": 8, "early and on": 4, "cut": 5, "reset": 3, "never": 1, "nonsense": 2, "interim": 3, "short": 3, "late": 3,
       "close": 5, "trailers": 2}
HOW_TCP = {"whole": 8, "reset": 1, "early": 2, "cut": 1}
NONSENSE = [b"HTTP/1.1 200 OK\r\nX-N: %d\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", b"rubbish %d\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX-N: %d\r\nContent-Length: 9\r\nX: a\0b\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-N: %d\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/9.9 200 OK\r\nX-N: %d\r\nContent-Length: 9\r\n\r\n", b"\x16\x03\x01\x02\x00%d\x00",
            b"HTTP/1.1 999 Odd\r\nX-N: %d\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\nX-N: %d\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX-N: %d\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]


class Exchange:
    """One request of a kept connection and its answer."""

    def __init__(self, sock, rng, stage):
        self.sock, self.rng, self.stage, self.ledger = sock, rng, stage, stage.ledger
        self.at = 0

    async def head(self):
        text = (await self.sock.until(b"\r\n\r\n")).decode("latin-1")
        self.method = text.split(" ", 1)[0]
        match = TARGET.match(text.split(" ", 2)[1])
        self.n = int(match.group(1)) if match else 0
        length = re.search(r"^content-length:\s*(\d+)", text, re.I | re.M)
        self.length = int(length.group(1)) if length else 0
        self.chunked = bool(re.search(r"^transfer-encoding:\s*chunked", text, re.I | re.M))
        upgrade = re.search(r"^upgrade:\s*([^\r\n]+)", text, re.I | re.M)
        self.upgrade = upgrade and upgrade.group(1)

    def came(self, data):
        if self.n:
            self.at = self.ledger.check("service", self.n, self.at, data, UP)

    async def request(self):
        if self.chunked:
            while size := int(await self.sock.until(b"\r\n"), 16):
                await self.take(size)
                await self.sock.until(b"\r\n")
            while await self.sock.until(b"\r\n") != b"\r\n":
                pass
        else:
            await self.take(self.length)
        if self.n and not self.upgrade:
            self.ledger.request_ended("service", self.n, self.at)

    async def take(self, size):
        while size:
            data = await self.sock.recv(min(size, self.rng.choice([1000, 65536])))
            size -= len(data)
            self.came(data)

    async def say(self, status, *lines):
        words = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status} As it is", f"X-N: {self.n}", *lines))
        for part in pieces(self.rng, f"{words}\r\n".encode()):
            await self.sock.send(part)

    async def answer(self, status, size, how):
        """Whole, or not whole but so that it shows."""
        size += 2 if how in ("cut", "short") else 0  # of nothing, nothing can be missing
        empty = self.method == "HEAD" or status in (204, 304)
        framing = self.rng.choice(["length", "chunked", "chunked", "end"]) if how != "short" else "length"
        if how == "close" and not empty:
            framing = "end"
        if framing == "end":
            await self.say(status, "Connection: close")
        else:
            await self.say(status, f"Content-Length: {size}" if framing == "length" else "Transfer-Encoding: chunked")
        if empty:
            self.ledger.done[self.n].add(0)
            return framing != "end"
        if how not in ("cut", "short"):
            self.ledger.done[self.n].add(size)
        shown = size if how not in ("cut", "short") else size // 2
        at, step, data = 0, self.rng.choice([3000, 65536, MOST]), content(self.n, MOST, DOWN)
        while at < shown:
            part = bytes(data[at:min(at + step, shown)])
            at += len(part)
            await self.sock.send(part if framing != "chunked" else b"%x\r\n%s\r\n" % (len(part), part))
            if self.rng.random() < 0.05:
                await pace(self.rng, 0.3)
        if how in ("cut", "short"):
            if how == "cut" or framing != "length" or size == shown:
                self.sock.reset()
            raise Over("cut")
        if framing == "chunked":
            await self.sock.send(b"0\r\nX-Sum: 1\r\n\r\n" if how == "trailers" else b"0\r\n\r\n")
        return framing != "end"

    async def raw(self):
        await self.say(101, "Connection: Upgrade", f"Upgrade: {self.upgrade}")
        size = some_size(self.rng)

        async def send():
            self.ledger.done[self.n].add(size)
            await self.sock.send(content(self.n, size, RAW))
            self.sock.fin()

        sending = asyncio.create_task(send())
        try:
            while True:
                self.came(await self.sock.recv())
        except Over as e:
            if e.how == "fin":
                await sending
            raise
        finally:
            await ended([sending])

    async def play(self):
        """True when the connection may carry another one."""
        rng = self.rng
        await self.head()
        how = self.stage.pick(rng, HOW)
        size = some_size(rng)
        self.ledger.note(self.n, f"http service: {how}, {size} bytes")
        if self.upgrade:
            if rng.random() < 0.8:
                await self.request()
                await self.raw()
            await self.request()
            return await self.answer(400, size, "whole")
        if how.startswith("early"):
            going_on = await self.answer(rng.choice([413, 401, 200, 204]), size, how)
            if how == "early":
                self.sock.fin()
                await pace(rng, 0.3)
                return False
            await self.request()
            return going_on
        await self.request()
        if how == "reset":
            self.sock.reset()
        elif how == "never":
            await pace(rng, 4.0)
        elif how == "nonsense":
            self.ledger.done[self.n].add(0)  # 999 is whole
            await self.sock.send(rng.choice(NONSENSE) % self.n)
        else:
            if how == "late":
                await pace(rng, 2.0)
            for _ in range(rng.randrange(1, 4) if how == "interim" else 0):
                await self.say(rng.choice([102, 103]))
            return await self.answer(200, size, how)
        return False


class Services:
    """serve_http and serve_tcp for listeners; each connection draws from random numbers of its own."""

    def __init__(self, stage):
        self.stage, self.numbers = stage, itertools.count()

    async def http(self, sock):
        rng = self.stage.rng("http service", next(self.numbers))
        while await Exchange(sock, rng, self.stage).play():
            if rng.random() < 0.1:
                return

    async def tcp(self, sock):
        rng, ledger = self.stage.rng("tcp service", next(self.numbers)), self.stage.ledger
        how = self.stage.pick(rng, HOW_TCP)
        if how == "reset":
            sock.reset()
            return
        head = b""
        while len(head) < PULL_HEAD.size:
            head += await sock.recv(PULL_HEAD.size - len(head))
        number, up, down = PULL_HEAD.unpack(head)
        ledger.note(number, f"tcp service: {how}, {up} up, {down} down")
        at = 0

        async def take(to_the_end):
            nonlocal at
            try:
                while at < up or to_the_end:
                    at = ledger.check("tcp service", number, at, await sock.recv(), UP)
            except Over as e:
                if e.how == "fin":
                    ledger.request_ended("tcp service", number, at)
                else:
                    raise

        if how == "whole":
            await take(False)
        await sock.send(content(number, MOST, DOWN)[:down if how != "cut" else down // 2])
        if how == "cut":
            sock.reset()
            return
        ledger.done[number].add(down)
        sock.fin()
        if how == "early":
            await take(True)
