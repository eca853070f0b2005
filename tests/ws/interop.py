"""Talks to an echo server of ours with a published library: interop.py PORT. Silent and 0 when all is well, 77 when the
library is not installed."""
import asyncio
import os
import sys

try:
    import websockets
except ImportError:
    sys.exit(77)


async def connect(port, **more):
    return await websockets.connect(f"ws://127.0.0.1:{port}/", max_size=None, compression=None, **more)


async def close_code(ws):
    try:
        await asyncio.wait_for(ws.recv(), 10)
    except websockets.ConnectionClosed as e:
        return e.rcvd.code if e.rcvd else None


async def main(port):
    ws = await connect(port, subprotocols=["one.v1", "two.v1"])
    assert ws.subprotocol == "one.v1"
    for n in (1, 2, 125, 126, 127, 65535, 65536, 100000, 262144):
        data = os.urandom(n)
        await ws.send(data)
        assert await ws.recv() == data, n
    parts = [os.urandom(n) for n in (1, 0, 300, 70000, 5)]
    await ws.send(parts)
    assert await ws.recv() == b"".join(parts)
    await asyncio.wait_for(await ws.ping(b"are you there"), 10)
    batch = [os.urandom(1 + i * 37 % 5000) for i in range(500)]

    async def send():
        for b in batch:
            await ws.send(b)

    sender = asyncio.ensure_future(send())
    for b in batch:
        assert await ws.recv() == b
    await sender
    await ws.close(1000, "done")
    assert ws.close_code == 1000

    ws = await connect(port)
    await ws.send("text")
    assert await close_code(ws) == 1003
    ws = await connect(port)
    await ws.send(bytes(262145))
    assert await close_code(ws) == 1009
    ws = await connect(port)
    try:
        await ws.send([b"x"] * 70)
    except websockets.ConnectionClosed:
        pass
    assert await close_code(ws) == 1008


asyncio.run(main(int(sys.argv[1])))
