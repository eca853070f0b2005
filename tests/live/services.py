"""What stands on the laptop's side of the live proof, in a program of its own: an HTTP service and one that counts over TCP.

    GET /small/N         an answer whose text is N
    GET /down/N/RATE     N bytes of known noise, RATE of them a second; what was held up is sent as fast as it goes
    GET /feed/MS         server-sent events, one each MS milliseconds, with their number and time, without an end
    GET /count           a WebSocket: each message is a number, and is sent back when it is the next one

Prints the two ports. Ends with its input.
"""

import asyncio
import sys
import time

from conformance.lib import ws
from tests.faults.transfer import NOISE, PERIOD

PIECE = 65536


class Wrong(Exception):
    """What came could not have come through a tunnel that keeps its promise."""


def noise(at, n):
    """Part of an endless text that repeats after a MiB."""
    at %= PERIOD
    return memoryview(NOISE)[at:at + n]


async def small(writer, n):
    body = b"%d" % n
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    await writer.drain()


async def down(writer, size, rate):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    begun = time.monotonic()
    for at in range(0, size, PIECE):
        await asyncio.sleep(max(0.0, begun + at / rate - time.monotonic()))
        writer.write(bytes(noise(at, min(PIECE, size - at))))
        await writer.drain()


async def feed(writer, gap):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    begun, n = time.monotonic(), 0
    while True:
        event = b"data: %d %.6f\n\n" % (n, time.monotonic())
        writer.write(b"%x\r\n%s\r\n" % (len(event), event))
        await writer.drain()
        n += 1
        await asyncio.sleep(max(0.0, begun + n * gap - time.monotonic()))


async def count(reader, writer, key):
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                 b"Sec-WebSocket-Accept: %s\r\n\r\n" % ws.accept_key(key).encode())
    frames, n = ws.Reader(masked=True), 0
    while data := await reader.read(PIECE):
        for event in frames.feed(data):
            if event[0] == "close":
                writer.write(ws.build(ws.CLOSE, ws.close_payload(event[1]), mask=False))
                return
            n += 1
            if event[0] != "message" or event[2] != b"%d" % n:
                raise Wrong(f"a WebSocket: {event} for message {n}")
            writer.write(ws.build(ws.TEXT, event[2], mask=False))
    raise Wrong(f"a WebSocket ended without a close frame after {n} messages")


async def http(reader, writer):
    while True:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError as e:
            if e.partial:
                raise Wrong(f"a request that ends within its head: {e.partial!r}") from None
            return
        _, what, *numbers = head.split(" ", 2)[1].split("/")
        if what == "small":
            await small(writer, int(numbers[0]))
        elif what == "down":
            await down(writer, int(numbers[0]), int(numbers[1]))
        elif what == "feed":
            return await feed(writer, int(numbers[0]) / 1000)
        elif what == "count":
            key = next(line.split(":", 1)[1].strip() for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key:"))
            return await count(reader, writer, key)
        else:
            raise Wrong(f"a request that nobody made: {head!r}")


async def tcp(reader, writer):
    """Lines that hold 1, 2, 3, ... are sent back; an end is one behind a line."""
    n = 0
    while line := await reader.readline():
        n += 1
        if line != b"%d\n" % n:
            raise Wrong(f"a pulled connection: {line!r} for line {n}")
        writer.write(line)
        await writer.drain()


def guarded(name, handle):
    """Tells of what must not be; only a feed has a visitor who leaves in the middle."""
    async def run(reader, writer):
        try:
            await handle(reader, writer)
        except (Wrong, ValueError, IndexError) as e:
            print(f"WRONG {name}: {e}", flush=True)
        except ConnectionError:
            if handle is tcp:
                print("WRONG a pulled connection was reset", flush=True)
        finally:
            writer.close()
    return run


async def main():
    servers = [await asyncio.start_server(guarded(name, handle), "127.0.0.1", 0, limit=1 << 20, backlog=1024)
               for name, handle in (("http", http), ("tcp", tcp))]
    print("ports " + " ".join(str(s.sockets[0].getsockname()[1]) for s in servers), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
