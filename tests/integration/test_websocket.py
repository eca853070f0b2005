"""A WebSocket through EXPOSE, with a published library (python3-websockets) on both ends."""

import asyncio
import contextlib
import hashlib
import http
import os

import websockets

from tests.integration.harness import Tunnel, eventually
from tests.support.tap import case, main


async def echo(socket):
    with contextlib.suppress(websockets.ConnectionClosed):
        async for message in socket:
            await socket.send(message)


@case("text, binary, large and many messages echo; close codes cross")
def _():
    async def talk(t):
        async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
            port = server.sockets[0].getsockname()[1]
            driver = await asyncio.to_thread(t.expose, f"0={port}")
            async with websockets.connect(f"ws://127.0.0.1:{driver.port}/chat?room=1", max_size=None) as ws:
                await ws.send("grüße")
                assert await ws.recv() == "grüße"
                big = os.urandom(9_000_000)
                await ws.send(big)
                assert hashlib.sha256(await ws.recv()).digest() == hashlib.sha256(big).digest()
                for i in range(300):
                    await ws.send(f"message {i}")
                for i in range(300):
                    assert await ws.recv() == f"message {i}"
                await asyncio.wait_for(await ws.ping(), 10)
                await ws.close(4001, "enough")
                assert ws.close_code == 4001, ws.close_code

    with Tunnel() as t:
        asyncio.run(talk(t))


@case("a server that refuses the upgrade is heard; 50 sockets at once; the server's close reaches the client")
def _():
    async def handler(socket):
        async for message in socket:
            if message == "bye":
                await socket.close(4002, "as you wish")
                return
            await socket.send(message)

    async def refuse(path, _headers):
        return (http.HTTPStatus.IM_A_TEAPOT, [("X-Why", "teapot")], b"short and stout") if path == "/tea" else None

    async def talk(t):
        async with websockets.serve(handler, "127.0.0.1", 0, process_request=refuse) as server:
            driver = await asyncio.to_thread(t.expose, f"0={server.sockets[0].getsockname()[1]}")
            url = f"ws://127.0.0.1:{driver.port}"
            try:
                async with websockets.connect(url + "/tea"):
                    raise AssertionError("the upgrade went through")
            except websockets.InvalidStatusCode as e:
                assert e.status_code == 418 and e.headers["X-Why"] == "teapot"

            async def one(n):
                async with websockets.connect(url) as ws:
                    for i in range(10):
                        await ws.send(f"{n}.{i}")
                        assert await ws.recv() == f"{n}.{i}"
                    await ws.send("bye")
                    try:
                        await ws.recv()
                        raise AssertionError("still open")
                    except websockets.ConnectionClosed as e:
                        assert e.rcvd.code == 4002 and e.rcvd.reason == "as you wish", e

            await asyncio.wait_for(asyncio.gather(*(one(n) for n in range(50))), 60)
            await asyncio.to_thread(eventually, lambda: t.kit.get("/tunnels")["totalStreams"] == 0, "the streams end")

    with Tunnel() as t:
        asyncio.run(talk(t))


if __name__ == "__main__":
    main()
