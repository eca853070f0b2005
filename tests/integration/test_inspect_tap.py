"""What the inspector sees of real traffic: streams while they run, both directions of a WebSocket, and every kind of failure."""

import asyncio
import base64
import contextlib
import gzip
import os
import re
import socket
import struct
import threading

import websockets

from tests.integration.harness import (SANITIZED, Relay, Service, Tunnel, command, connect, eventually, free_port, read_exactly, read_head,
                                       status_kib)
from tests.integration.inspected import Inspected, Keeper, reply
from tests.support.tap import case, main


def visit(driver, request):
    c = connect(driver.port)
    c.sendall(request)
    return c


def beside(tunnel, driver):
    """As Inspected, for a tunnel that the caller has made."""
    i = Inspected.__new__(Inspected)
    i.tunnel, i.driver, i.url = tunnel, driver, driver.events("inspecting")[0]["url"]
    found = re.search(r":(\d+)/#(\w+)$", i.url)
    i.port, i.token = int(found.group(1)), found.group(2)
    return i


GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@case("a body that came compressed, in chunks, with trailers and an interim head, is kept as it travelled and shown decoded")
def _():
    packed = gzip.compress(b"hello " * 1000)

    def handle(c):
        head, _ = read_head(c)
        assert b"trailers" in head
        c.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(0, len(packed), 7):
            piece = packed[i:i + 7]
            c.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        c.sendall(b"0\r\nX-Sum: 9\r\n\r\n")

    with Service(handle) as service, Inspected(service.port) as i:
        with visit(i.driver, b"GET /z HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n") as c:
            while c.recv(65536):
                pass
        x = i.ask("GET", f"/exchanges/{i.done(1)[0]['id']}")
        assert x["responseBytes"] == len(packed) and x["response"]["body"] == {"size": len(packed), "captured": len(packed), "decodedFrom": "gzip"}, x
        assert x["response"]["trailers"] == [{"name": "X-Sum", "value": "9", "secret": False}], x
        assert i.body(x["id"], "response") == b"hello " * 1000 and i.body(x["id"], "response", encoded=True) == packed


@case("server-sent events are there while the stream runs, and it is a failure of nobody when the visitor leaves")
def _():
    go_on = threading.Event()

    def handle(c):
        read_head(c)
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for text in (b"event: add\nid: 1\ndata: {\"n\"", b": 1}\n\n", b": hm\n\ndata: two\ndata: lines\n\n"):
            c.sendall(b"%x\r\n%s\r\n" % (len(text), text))
        go_on.wait(30)
        with contextlib.suppress(OSError):
            c.recv(1)

    with Service(handle) as service, Inspected(service.port) as i:
        with visit(i.driver, GET) as c:
            eventually(lambda: [x.get("frames") for x in i.list()] == [2], "two events")
            found = i.ask("GET", "/exchanges/1/frames")["frames"]
            assert [(f["event"], f["id"], f["text"]) for f in found if "event" in f] == [("add", "1", '{"n": 1}')], found
            assert found[1]["text"] == "two\nlines" and found[1]["dir"] == "down", found
            x = i.list()[0]
            assert (x["kind"], x["state"], x["frames"], x["durationMs"]) == ("sse", "running", 2, None), x
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        go_on.set()
        x = i.done(1)[0]
        assert x["state"] == "failed" and x["error"]["code"] == "visitor_left", x


@case("a WebSocket with permessage-deflate: messages of both directions, fragments, a ping, a large one, the close")
def _():
    async def talk():
        async def echo(ws):
            with contextlib.suppress(websockets.ConnectionClosed):
                async for message in ws:
                    await ws.send(message)
                    await ws.send(message)  # refers to what was sent before

        async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
            port = server.sockets[0].getsockname()[1]
            i = await asyncio.to_thread(Inspected, port)
            with i:
                async with websockets.connect(f"ws://127.0.0.1:{i.driver.port}/chat", max_size=None) as ws:
                    assert any("deflate" in e.name for e in ws.extensions)
                    for message in ("hello, hello", ["frag", "ment", "ed"], b"\x00\x01" * 50000):
                        await ws.send(message)
                        assert await ws.recv() == await ws.recv()
                    await (await ws.ping(b"are you there"))
                    frames = (await asyncio.to_thread(i.ask, "GET", "/exchanges/1/frames"))["frames"]
                    x = (await asyncio.to_thread(i.list))[0]
                    assert x["state"] == "running" and x["kind"] == "websocket", x
                    await ws.close(4001, "that is all")
                await asyncio.to_thread(i.done, 1)
                later = (await asyncio.to_thread(i.ask, "GET", "/exchanges/1/frames"))["frames"]
                return frames, later

    frames, later = asyncio.run(talk())
    texts = [(f["dir"], f["opcode"], f["text"], f["size"]) for f in frames]
    for text in ("hello, hello", "fragmented"):
        assert texts.count(("up", "text", text, len(text))) == 1 and texts.count(("down", "text", text, len(text))) == 2, texts
    large = [f for f in frames if f["opcode"] == "binary"]
    assert [f["dir"] for f in large] == ["up", "down", "down"] and all(f["size"] == 100000 and f["truncated"] for f in large), texts
    assert [(f["dir"], f["opcode"], f["base64"]) for f in frames[-2:]] == [(d, o, base64.b64encode(b"are you there").decode())
                                                                           for d, o in (("up", "ping"), ("down", "pong"))], frames[-2:]
    assert ("up", "close", "4001 that is all") in [(f["dir"], f["opcode"], f["text"]) for f in later], later


def fails(i, code, what):
    x = i.done(1)[-1]
    assert x["state"] == "failed" and x["error"]["code"] == code and re.search(what, x["error"]["message"]), x
    return x


@case("what goes wrong has a code and words: refused, reset, no HTTP, cut in the middle, too slow, the link lost")
def _():
    with Inspected(free_port()) as i, visit(i.driver, GET) as c:
        assert b" 502 " in read_head(c)[0]
        assert fails(i, "origin_refused", "refused")["status"] is None

    def answers(text):
        def handle(c):
            read_head(c)
            c.sendall(text)
        return handle

    for text, code, what in ((b"", "origin_reset", "without an answer"), (b"SSH-2.0-x\r\n", "origin_protocol", "bad answer"),
                             (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "origin_reset", "middle of its answer")):
        with Service(answers(text)) as service, Inspected(service.port) as i, visit(i.driver, GET) as c:
            with contextlib.suppress(ConnectionResetError):  # an answer that was cut must look like one
                while c.recv(65536):
                    pass
            fails(i, code, what)

    waits = threading.Event()

    def silent(c):
        read_head(c)
        waits.wait(30)

    with Service(silent) as service, Tunnel("--response-timeout", "1s") as t, Relay(t.kit.port) as relay:
        i = beside(t, t.expose(f"0={service.port}", "--url", relay.url, "--inspect", "0", "--replay-buffer", "0"))
        with visit(i.driver, GET) as c:
            assert b" 504 " in read_head(c)[0]
        fails(i, "origin_timeout", "in time")
        relay.held = True
        with contextlib.suppress(OSError), visit(i.driver, GET):
            eventually(lambda: len(i.list()) == 2, "the second exchange")
            relay.cut()
            fails(i, "link_lost", "")
        link = i.ask("GET", "/state")["link"]
        assert link["state"] == "reconnecting" and link["reason"] and link["graceMs"] > 0, link
        relay.held = False
        i.ask("POST", "/link/reconnect", {}, 202)
        eventually(lambda: i.ask("GET", "/state")["link"]["state"] == "connected", "the link again")
        assert i.ask("GET", "/state")["link"]["pauses"]["count"] == 0  # what was under way has failed
        waits.set()
        assert i.driver.end() == 0  # while there is a way to the kit
    with Service(answers(b"HTTP/1.1 204 No Content\r\n\r\n")) as service, Tunnel() as t, Relay(t.kit.port) as relay:
        i = beside(t, t.expose(f"0={service.port}", "--url", relay.url, "--inspect", "0"))
        relay.cut()
        eventually(lambda: i.ask("GET", "/state")["link"]["pauses"]["count"] == 1, "nothing was lost with the link")
        pauses = i.ask("GET", "/state")["link"]["pauses"]
        assert pauses["longestMs"] == pauses["totalMs"] > 0 and pauses["resentBytes"] >= 0, pauses
        assert i.driver.end() == 0


@case("memory stays within --inspect-memory, whatever passes; bodies are cut at --inspect-body")
def _():
    body = os.urandom(200_000)
    with Keeper(lambda head, _: reply(body)) as service, Inspected(service.port, "--inspect-memory", "1M", "--inspect-body", "100K") as i:
        with connect(i.driver.port) as c:
            def ask():
                c.sendall(GET.replace(b"close", b"x"))
                _, rest = read_head(c)
                read_exactly(c, len(body), rest)
            for _ in range(20):
                ask()
            before = status_kib(i.driver.pid, "VmRSS")
            for _ in range(200):
                ask()
        kept = i.done(1)
        assert len(kept) <= 10 and kept[-1]["id"] == "220", [x["id"] for x in kept]
        assert SANITIZED or status_kib(i.driver.pid, "VmRSS") - before < 1500, before
        x = i.ask("GET", "/exchanges/220")
        assert x["response"]["body"]["captured"] == 100 * 1024 and x["response"]["body"]["size"] == len(body), x["response"]["body"]
        assert i.body("220", "response") == body[:100 * 1024]


@case("the page's secret is told once and logged never; further names are masked; --inspect-keep")
def _():
    with Keeper(lambda head, _: reply()) as service, Inspected(service.port, "--inspect-secret", "X-Session, x-other", "--inspect-keep", "2",
                                                                "--log-level", "trace") as i:
        for n in range(3):
            with visit(i.driver, b"GET /%d HTTP/1.1\r\nHost: a\r\nX-OTHER: mine\r\nX-Third: yours\r\nConnection: close\r\n\r\n" % n) as c:
                while c.recv(65536):
                    pass
        kept = i.done(2)
        assert [x["target"] for x in kept] == ["/1", "/2"], kept
        fields = {h["name"].lower(): h["value"] for h in i.ask("GET", f"/exchanges/{kept[0]['id']}")["request"]["headers"]}
        assert fields["x-other"] == "••••" and fields["x-third"] == "yours", fields
        assert [line.count(i.token) for line in i.driver.log if i.token in line] == [1] and len(i.driver.events("inspecting")) == 1, i.driver.log


@case("a port that is taken, an address that others reach, and a name that is none are refused, with the option's name")
def _():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for args, status, what in ((("--inspect", str(port)), 3, f"--inspect: port {port} of 127.0.0.1 is taken"),
                                   (("--inspect", "0.0.0.0:0"), 2, "--inspect: 0.0.0.0 is not an address of this machine alone"),
                                   (("--inspect", "[::]:0"), 2, "insecure-inspect allows it"),
                                   (("--inspect", "example.com:1"), 2, "no numeric address"),
                                   (("--inspect", "0", "--inspect-secret", "a b:"), 2, "--inspect-secret: \"b:\" is no name")):
            code, _, err = command("expose", "3000", "--url", "ws://127.0.0.1:9", *args)
            assert code == status and what in err, (args, code, err)


if __name__ == "__main__":
    main()
