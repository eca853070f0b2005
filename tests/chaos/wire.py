"""A link of the tunnel's protocol in either role, for players that keep the rules and for those that do not."""

import asyncio
import json
import struct
import traceback

from conformance.lib import ws
from conformance.lib.wire import codec
from tests.chaos.play import Over, Sock, pace, pieces

T = codec.NUMBERS
ZERO_KEY = b"\0\0\0\0"
MOST_FRAMES, MOST_BYTES = 64, 262144
PIECE = 65536


def js(value):
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def frame(name, stream, payload=b""):
    if isinstance(payload, (dict, list)):
        payload = js(payload)
    return codec.raw_frame(T.get(name, name), stream, payload)


def frames_of(message):
    """(type, stream, payload) of each frame; what the other side sent is trusted to be well-formed."""
    at = 0
    while at + 9 <= len(message):
        kind, stream, size = struct.unpack_from(">BII", message, at)
        yield kind, stream, message[at + 9:at + 9 + size]
        at += 9 + size


class Link:
    """on_frame(link, type, stream, payload) gets what comes; put() queues frames, a writer sends them."""

    def __init__(self, sock, rng, masked, on_frame):
        self.sock, self.rng, self.masked, self.on_frame = sock, rng, masked, on_frame
        self.reader = ws.Reader(masked=not masked)
        self.queue, self.queued = [], 0
        self.wake, self.room = asyncio.Event(), asyncio.Event()
        self.room.set()
        self.going = asyncio.Event()  # cleared: the link is not read
        self.going.set()
        self.hello = asyncio.get_running_loop().create_future()
        self.over = None
        self.split = rng.random() < 0.2
        self.tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]

    def put(self, *frames):
        for f in frames:
            self.queue.append(f)
            self.queued += len(f)
        if self.queued > 262144:
            self.room.clear()
        self.wake.set()

    def raw(self, data):
        """Bytes for the wire as they stand, behind what is queued."""
        self.queue.append((data,))
        self.wake.set()

    def say(self, name, stream, payload=b""):
        self.put(frame(name, stream, payload))

    async def room_for(self):
        await self.room.wait()
        if self.over:
            raise Over(self.over)

    def _message(self):
        """The next frames as one message; raw bytes alone."""
        if isinstance(self.queue[0], tuple):
            return self.queue.pop(0)[0]
        most, size, n = (1 if self.rng.random() < 0.2 else MOST_FRAMES), 0, 0
        while n < len(self.queue) and n < most and not isinstance(self.queue[n], tuple) and size + len(self.queue[n]) <= MOST_BYTES:
            size += len(self.queue[n])
            n += 1
        n = max(n, 1)  # a frame that nobody would send whole goes alone
        body, self.queue[:n] = b"".join(self.queue[:n]), []
        if self.rng.random() < 0.05:
            return ws.message(body, self.masked, self.rng.randrange(2, 9))
        if not self.masked:
            return ws.build(ws.BINARY, body, mask=False)
        head = ws.build(ws.BINARY, b"", mask=False, length=len(body))
        return bytes([head[0], head[1] | 0x80]) + head[2:] + ZERO_KEY + body

    async def _write(self):
        try:
            while True:
                await self.wake.wait()
                self.wake.clear()
                await asyncio.sleep(0)  # what else is said in this turn may go with it
                while self.queue:
                    data = self._message()
                    for part in pieces(self.rng, data) if self.split else [data]:
                        await self.sock.send(part)
                    self.queued = sum(len(f) for f in self.queue if not isinstance(f, tuple))
                    if self.queued < 131072:
                        self.room.set()
        except Over as e:
            self.end(e.how)

    async def _read(self):
        try:
            while True:
                await self.going.wait()
                for event in self.reader.feed(await self.sock.recv(262144)):
                    self._event(event)
        except Over as e:
            self.end(e.how)
        except Exception:  # pylint: disable=broad-except
            traceback.print_exc()  # a mistake of the play
            self.end("mistake")

    def _event(self, event):
        if event[0] == "message":
            for kind, stream, payload in frames_of(event[2]):
                self.on_frame(self, kind, stream, payload)
        elif event[0] == "ping":
            self.raw(ws.build(ws.PONG, event[1], mask=self.masked))
        elif event[0] == "close":
            self.end(f"close {event[1]}")

    def end(self, how):
        """Nothing goes and nothing comes any more."""
        if self.over:
            return
        self.over = how
        self.room.set()
        self.on_frame(self, None, 0, b"")
        if not self.hello.done():
            self.hello.set_result(None)

    async def leave(self, how):
        """Ends the link the way it is told to: reset, fin, drop, or a close frame with that code."""
        if isinstance(how, int) or how is None:
            self.raw(ws.build(ws.CLOSE, ws.close_payload(how), mask=self.masked))
            await self.drained()
        elif how == "fin":
            self.sock.fin()
            await pace(self.rng, 0.3)
        self.stop(how == "reset")

    def stop(self, reset=False):
        for task in self.tasks:
            task.cancel()
        self.end("left")
        if reset:
            self.sock.reset()
        self.sock.close()

    async def drained(self):
        """What is queued had a moment to leave."""
        for _ in range(20):
            if self.over or not self.queue:
                return
            await asyncio.sleep(0.01)


async def upgrade(port, rng, version, token=None, source=None):
    """A connection to a kit that is a WebSocket now."""
    sock = await Sock.dial(port, rng, small=rng.random() < 0.3, source=source)
    try:
        auth = f"Authorization: Bearer {token}\r\n" if token else ""
        await sock.send(f"GET {codec.CONNECT_PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {ws.new_key()}\r\n{auth}"
                        f"Sec-WebSocket-Protocol: hoody-tunnel.{version}\r\n\r\n".encode())
        head = await asyncio.wait_for(sock.until(b"\r\n\r\n"), 5)
        if not head.startswith(b"HTTP/1.1 101"):
            raise Over(head[:40].decode("latin-1"))
        return sock
    except BaseException:
        sock.close()
        raise


ENDING = ("DATA", "EOF", "STREAM_RESPONSE_HEAD")  # what would change an answer that its visitor is going to check
ENDING_TYPES = [T[name] for name in ENDING]


def nonsense(rng, streams):
    """A frame that no peer should send, or not now; for any stream, known or not."""
    names = sorted(T)
    strangers = [0, 1, 3, 2 ** 31 + 1, 2 ** 32 - 2]
    how = rng.random()
    if how < 0.35:
        kind = rng.choice(names)
        payload = rng.choice([b"", b"{}", rng.randbytes(8), b'{"status":200}', b"\0" * 4, js({"bindId": 1})])
    elif how < 0.6:
        kind, payload = "RESET", struct.pack(">H", rng.randrange(20)) + b"why not"
    elif how < 0.75:
        kind, payload = "WINDOW", struct.pack(">I", rng.choice([0, 1, 65536, 2 ** 31, 2 ** 32 - 1]))
    elif how < 0.85:
        kind, payload = "DATA", b"x" * rng.choice([0, 1, 1000, 65536])
    else:
        kind, payload = rng.randrange(256), rng.randbytes(rng.randrange(64))
    stream = rng.choice(strangers if kind in ENDING or kind in ENDING_TYPES else [*strangers, *streams])
    return codec.raw_frame(T.get(kind, kind), stream, payload, rng.randrange(2 ** 32) if how > 0.97 else None)
