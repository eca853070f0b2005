"""The visitors of the live proof. Each keeps count of what it got, and of how long it had to wait for it: those waits are what a
lost link or a restart costs."""

import asyncio
import collections
import random
import threading
import time

from conformance.lib import ws
from tests.live.services import PIECE, noise

PATIENCE = 60.0  # seconds; whoever waits longer has found an error


class Wrong(Exception):
    """A promise is broken."""


class Diary:
    """waits[kind, phase]: seconds. errors[kind]: texts, each with the moment at which it happened."""

    def __init__(self):
        self.begun, self.phase, self.over = time.monotonic(), "before", False
        self.waits = collections.defaultdict(list)
        self.errors = collections.defaultdict(list)
        self.done = collections.Counter()
        self.moved = 0  # bytes of the download

    def waited(self, kind, seconds):
        self.waits[kind, self.phase].append(seconds)

    def wrong(self, kind, what):
        self.errors[kind].append(f"{time.monotonic() - self.begun:.2f} s, {self.phase}: {what}")

    def table(self):
        """A line for each kind and phase: number of waits, p50, p99 and the longest, in milliseconds."""
        for kind, phase in sorted(self.waits):
            waits = sorted(self.waits[kind, phase])
            p50, p99 = (waits[min(len(waits) - 1, int(len(waits) * part))] for part in (0.5, 0.99))
            yield (f"{kind:10} {phase:9} {len(waits):7} waits, ms: p50 {p50 * 1000:8.1f}, p99 {p99 * 1000:8.1f}, "
                   f"longest {waits[-1] * 1000:8.1f}")


async def opened(port, request):
    """(reader, writer, first line of the answer's head)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        writer.write(request)
        return reader, writer, (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except BaseException:
        writer.close()
        raise


def get(path, *lines):
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: live", *lines, "", ""]).encode()


def want(head, status):
    if not head.startswith(f"HTTP/1.1 {status} "):
        raise Wrong(f"the answer is {head!r}")


async def download(diary, port, size, rate):
    """One response, checked byte for byte. A wait is the time between two pieces."""
    reader, writer, head = await opened(port, get(f"/down/{size}/{rate}"))
    want(head, 200)
    at, last = 0, time.monotonic()
    while at < size:
        data = await reader.read(PIECE)
        now = time.monotonic()
        if not data:
            raise Wrong(f"the download ended after {at} of {size} bytes")
        diary.waited("download", now - last)
        last = now
        if data != noise(at, len(data)):
            raise Wrong(f"the download is wrong within the {len(data)} bytes from {at} on")
        at += len(data)
        diary.moved = at
    diary.done["download"] += 1
    writer.close()


async def websocket(diary, port, gap, life):
    """Counts, one number each `gap` seconds; after `life` seconds it says goodbye as RFC 6455 wants it."""
    reader, writer, head = await opened(port, get("/count", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                                                  f"Sec-WebSocket-Key: {ws.new_key()}"))
    want(head, 101)
    frames, end, n = ws.Reader(masked=False), time.monotonic() + life, 0

    async def event():
        while True:
            data = await reader.read(PIECE)
            if not data:
                raise Wrong(f"a WebSocket was cut after {n} messages")
            if events := frames.feed(data):
                return events

    try:
        while not diary.over and time.monotonic() < end:
            n += 1
            asked = time.monotonic()
            writer.write(ws.build(ws.TEXT, b"%d" % n))
            got = await event()
            if got != [("message", ws.TEXT, b"%d" % n)]:
                raise Wrong(f"a WebSocket answers {got} to message {n}")
            diary.waited("websocket", time.monotonic() - asked)
            await asyncio.sleep(gap)
        writer.write(ws.build(ws.CLOSE, ws.close_payload(1000)))
        got = await event()
        if got != [("close", 1000, "")]:
            raise Wrong(f"a WebSocket answers {got} to a close frame")
        if rest := await reader.read(1):
            raise Wrong(f"a WebSocket says {rest!r} behind its close frame")
        diary.done["websocket"] += 1
    finally:
        writer.close()


async def feed(diary, port, gap, life):
    """Reads events; a wait is the time from when one was written until it is there."""
    reader, writer, head = await opened(port, get(f"/feed/{int(gap * 1000)}"))
    want(head, 200)
    end, n = time.monotonic() + life, 0
    try:
        while not diary.over and time.monotonic() < end:
            size = int(await reader.readuntil(b"\r\n"), 16)
            text = (await reader.readexactly(size + 2))[:size]
            for event in text.decode().split("\n\n")[:-1]:
                number, written = event.removeprefix("data: ").split(" ")
                if int(number) != n:
                    raise Wrong(f"a feed's event {number} where {n} belongs")
                diary.waited("feed", time.monotonic() - float(written))
                n += 1
        diary.done["feed"] += 1
    finally:
        writer.transport.abort()


async def pulled(diary, port, gap, life):
    """Counts over a pulled TCP connection; its end is an end in order in both directions."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    end, n = time.monotonic() + life, 0
    try:
        while not diary.over and time.monotonic() < end:
            n += 1
            asked = time.monotonic()
            writer.write(b"%d\n" % n)
            line = await reader.readline()
            if line != b"%d\n" % n:
                raise Wrong(f"a pulled connection answers {line!r} to line {n}")
            diary.waited("pulled", time.monotonic() - asked)
            await asyncio.sleep(gap)
        writer.write_eof()
        if rest := await reader.read():
            raise Wrong(f"a pulled connection says {rest!r} behind its last line")
        diary.done["pulled"] += 1
    finally:
        writer.close()


class Requests:
    """So many a second, whatever becomes of those before: every other one on a connection of its own, the others on kept ones.
    How late the play itself was, on a machine that is busy, is told apart as "(late)"."""

    def __init__(self, diary, ports, rate):
        self.diary, self.ports, self.rate = diary, ports, rate
        self.kept = {port: [] for port in ports}
        self.running = set()

    def take(self, port):
        """A kept connection that its other end has not closed meanwhile."""
        while self.kept[port]:
            reader, writer = self.kept[port].pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None

    async def one(self, n, due):
        asked = time.monotonic()
        self.diary.waited("(late)", asked - due)
        port = self.ports[n // 2 % len(self.ports)]
        keeps = n % 2 == 0
        reader, writer = (keeps and self.take(port)) or await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(get(f"/small/{n}", *([] if keeps else ["Connection: close"])))
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            want(head, 200)
            body = await reader.readexactly(len(b"%d" % n))
            if body != b"%d" % n:
                raise Wrong(f"request {n} is answered {body!r}")
        except BaseException:
            writer.close()
            raise
        self.diary.waited("request", time.monotonic() - asked)
        self.diary.done["request"] += 1
        if keeps and "\r\nconnection: close" not in head.lower():
            self.kept[port].append((reader, writer))
        else:
            writer.close()

    async def run(self):
        begun, n = time.monotonic(), 0
        while not self.diary.over:
            due = begun + n / self.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(guarded(self.diary, "request", self.one(n, due)))
            self.running.add(task)
            task.add_done_callback(self.running.discard)
            n += 1
        await asyncio.gather(*self.running)
        for connections in self.kept.values():
            for _, writer in connections:
                writer.close()


async def guarded(diary, kind, visit):
    """False: it went wrong, and that was noted."""
    task = asyncio.ensure_future(visit)
    try:
        if kind in ("download", "requests"):
            await task
        else:
            await patient(diary, task)
        return True
    except (Wrong, OSError, EOFError, ValueError, asyncio.TimeoutError) as e:
        diary.wrong(kind, str(e) if isinstance(e, Wrong) else repr(e))
        return False


async def patient(diary, task):
    """A visit may last, but not for much longer than the play."""
    late = None
    while not task.done():
        await asyncio.wait([task], timeout=1.0)
        late = (late or time.monotonic()) if diary.over else None
        if late and time.monotonic() - late > PATIENCE:
            task.cancel()
            await asyncio.wait([task])
            raise Wrong("waits for ever")
    await task


async def again(diary, kind, visit, rng, lasts):
    """One visit after the other; with `lasts` one that goes on until the end."""
    while not diary.over:
        if not await guarded(diary, kind, visit(1e9 if lasts else rng.uniform(2.0, 30.0))):
            await asyncio.sleep(0.2)


class Crowd(threading.Thread):
    """All visitors, in a thread. `how` says how many of each kind there are."""

    def __init__(self, web_ports, tcp_ports, seed, how):
        super().__init__(daemon=True)
        self.diary = Diary()
        self.web, self.tcp, self.seed, self.how = web_ports, tcp_ports, seed, how
        self.start()

    def run(self):
        asyncio.run(self._all())

    def _port(self, ports, i):
        return ports[i % len(ports)]

    async def _all(self):
        d, how = self.diary, self.how
        rng = random.Random(self.seed)
        tasks = [guarded(d, "download", download(d, self.web[0], how["size"], how["speed"])),
                 guarded(d, "requests", Requests(d, self.web, how["requests"]).run())]
        for kind, visit, ports in (("websocket", websocket, self.web), ("feed", feed, self.web), ("pulled", pulled, self.tcp)):
            for i in range(how[kind]):
                tasks.append(again(d, kind, lambda life, v=visit, p=self._port(ports, i): v(d, p, how["gap"], life),
                                   random.Random(rng.random()), i % 2 == 0))
        await asyncio.gather(*tasks)
