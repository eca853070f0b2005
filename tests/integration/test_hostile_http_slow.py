"""Visitors that are slow, half-closed or gone, with real programs: hardening case 9 and what `printf ... | nc` does."""

import contextlib
import socket
import struct
import threading
import time

from tests.hostile.volley import Watch
from tests.integration.harness import SANITIZED, Service, Tunnel, connect, eventually, read_all, read_head, status_kib
from tests.support.tap import case, main

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BIG = 24 << 20


@case("a visitor that closes its side behind its request gets its answer, quick or slow; one that left is noticed")
def _():
    go, left = threading.Event(), threading.Event()

    def handle(c):
        while True:
            head, _ = read_head(c)
            if b" /gone " in head:
                with contextlib.suppress(ConnectionResetError):
                    c.recv(1)
                left.set()
                return
            if b" /slow " in head:
                go.wait(20)
            c.sendall(OK)

    with Tunnel() as t, Service(handle) as service:
        port = t.expose(f"0={service.port}").port
        for request in (b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /quick HTTP/1.0\r\n\r\n",
                        b"POST /quick HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"):
            with connect(port) as c:
                c.sendall(request)
                c.shutdown(socket.SHUT_WR)
                assert read_all(c).endswith(b"\r\n\r\nok")
        with connect(port) as c:
            c.sendall(b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
            c.shutdown(socket.SHUT_WR)
            assert read_all(c).count(b"HTTP/1.1 200 OK") == 3
        with connect(port) as c, connect(port) as other:
            c.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            c.shutdown(socket.SHUT_WR)
            other.sendall(b"GET /gone HTTP/1.1\r\nHost: a\r\n\r\n")
            other.shutdown(socket.SHUT_WR)
            other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            other.close()
            assert left.wait(15), "nobody noticed that the visitor left"
            go.set()
            answer = read_all(c)
            assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\nok"), answer


@case("slow heads and readers that stopped are ended, hold little, and nobody else notices")
def _():
    def handle(c):
        while True:
            head, _ = read_head(c)
            if b" /big " not in head:
                c.sendall(OK)
                continue
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
            block = b"x" * 65536
            for _ in range(BIG // len(block)):
                c.sendall(block)

    stopped_count = 30
    with Tunnel("--head-timeout", "1500ms", "--send-timeout", "1500ms") as t, Service(handle) as service:
        driver = t.expose(f"0={service.port}")
        with connect(driver.port) as c:  # the driver keeps the connection that it makes for this
            c.sendall(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
            read_head(c)
        before = status_kib(t.kit.pid, "VmRSS")
        with contextlib.ExitStack() as stack, Watch(t.kit, [driver.pid], grow_kib=(stopped_count * 2 + 24) * 1024):
            heads = [stack.enter_context(connect(driver.port)) for _ in range(150)]
            stopped = [stack.enter_context(connect(driver.port)) for _ in range(stopped_count)]
            for c in heads:
                c.sendall(b"GET / HTTP/1.1\r\nHo")
            for c in stopped:
                c.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
            took = []
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                start = time.monotonic()
                with connect(driver.port) as c:
                    c.sendall(b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n")
                    read_head(c)
                took.append(time.monotonic() - start)
                for c in heads[:20]:  # a byte now and then does not help
                    with contextlib.suppress(OSError):
                        c.send(b"s")
            took.sort()
            print(f"# {len(took)} small requests beside them, median {took[len(took) // 2] * 1000:.1f} ms")
            for c in heads:
                assert read_all(c).startswith(b"HTTP/1.1 408 ")
            eventually(lambda: t.kit.get("/tunnels")["totalStreams"] == 0, "the readers that stopped are cut", 20)
            for c in stopped:
                got = 0
                with contextlib.suppress(ConnectionResetError):
                    while n := len(c.recv(1 << 20)):
                        got += n
                assert got < BIG, "all of it came"
            grown = status_kib(t.kit.pid, "VmHWM") - before
            # A window of each stream, and what the connections themselves cost.
            assert grown < (stopped_count * 1.5 + 16) * 1024 or SANITIZED, f"the kit grew by {grown} KiB"


if __name__ == "__main__":
    main()
