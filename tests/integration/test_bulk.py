"""Large bodies, many times what kit and driver may hold, down and up through nginx and curl; a slow reader beside a fast one; 500
visitors at once."""

import asyncio
import hashlib
import os
import socket

from tests.integration.harness import (SANITIZED, Folder, Nginx, Tunnel, connect, eventually, http_service, read_exactly,
                                       read_head, run, status_kib)
from tests.support.tap import case, main

SIZE = 1 << (26 if SANITIZED else 28)
RSS_LIMIT_KIB = 32 * 1024

CONFIG = """
events { worker_connections 1024; }
http {
    access_log off; client_max_body_size 2g; default_type application/octet-stream;
    client_body_temp_path %(dir)s/tmp; proxy_temp_path %(dir)s/tmp; fastcgi_temp_path %(dir)s/tmp;
    uwsgi_temp_path %(dir)s/tmp; scgi_temp_path %(dir)s/tmp;
    sendfile on;
    server { listen 127.0.0.1:{0}; root %(dir)s/www; location /up/ { dav_methods PUT; } }
}
"""


def make_file(path, size):
    """Writes bytes that repeat only after 16 MiB and a little."""
    piece = os.urandom((16 << 20) + 12345)
    with open(path, "wb") as f:
        left = size
        while left:
            part = piece[:min(left, len(piece))]
            f.write(part)
            left -= len(part)


@case(f"{SIZE >> 20} MiB down and up between curl and nginx: the same bytes, kit and driver below 32 MiB RSS")
def _():
    with Folder() as folder, Tunnel() as t:
        os.makedirs(folder.join("www", "up"))
        os.makedirs(folder.join("tmp"))
        make_file(folder.join("www", "big"), SIZE)
        with Nginx(folder, CONFIG % {"dir": folder.path}) as nginx:
            driver = t.expose(f"0={nginx.port}")
            run(["curl", "-sS", "--fail", "-o", folder.join("down"), f"{driver.url}/big"])
            run(["cmp", folder.join("down"), folder.join("www", "big")])
            os.unlink(folder.join("down"))
            run(["curl", "-sS", "--fail", "-T", folder.join("www", "big"), f"{driver.url}/up/copy"])
            run(["cmp", folder.join("www", "up", "copy"), folder.join("www", "big")])
            if not SANITIZED:
                for name, program in (("kit", t.kit), ("driver", driver)):
                    peak = status_kib(program.pid, "VmHWM")
                    assert peak < RSS_LIMIT_KIB, f"{name} used {peak} KiB"
                    print(f"# {name}: peak RSS {peak} KiB")


@case("a slow reader stops only itself: a fast one beside it gets everything, memory stays bounded")
def _():
    slow_size, fast_size = 24 << 20, 64 << 20
    block = os.urandom(1 << 20)

    def answer(head, _body):
        if "/small" in head:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        size = slow_size if "/slow" in head else fast_size
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + block * (size >> 20)

    with Tunnel() as t, http_service(answer) as service:
        driver = t.expose(f"0={service.port}")
        slow = [socket.socket() for _ in range(20)]
        for s in slow:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.settimeout(20)
            s.connect(("127.0.0.1", driver.port))
            s.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            assert s.recv(10) == b"HTTP/1.1 2"
        run(["curl", "-sS", "--fail", "-o", "/dev/null", f"{driver.url}/fast"], timeout=60)
        for _ in range(50):
            with connect(driver.port) as c:
                c.sendall(b"GET /small HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                read_head(c)
        if not SANITIZED:
            # 20 stalled streams may hold a window each, and a little more.
            assert status_kib(t.kit.pid, "VmRSS") < 64 * 1024, status_kib(t.kit.pid, "VmRSS")
        head, rest = b"", b""
        slow[0].settimeout(60)
        slow[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        head, rest = read_head(slow[0], b"HTTP/1.1 2")
        body = read_exactly(slow[0], slow_size, rest)
        assert hashlib.sha256(body).digest() == hashlib.sha256(block * (slow_size >> 20)).digest(), head
        for s in slow:
            s.close()


@case("500 visitors at once, each gets its own answer")
def _():
    def answer(head, body):
        who = head.split()[1].encode()
        text = who + b":" + hashlib.sha256(body).hexdigest().encode() + b":" + who * 500
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)

    async def visitor(port, n, gate):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await gate.wait()
        for i in range(4):
            body = os.urandom(1000 + n)
            writer.write(b"POST /%d.%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (n, i, len(body)) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            text = await reader.readexactly(length)
            who = b"/%d.%d" % (n, i)
            assert text == who + b":" + hashlib.sha256(body).hexdigest().encode() + b":" + who * 500, text[:100]
        writer.close()

    async def all_of_them(port):
        gate = asyncio.Barrier(500)
        await asyncio.wait_for(asyncio.gather(*(visitor(port, n, gate) for n in range(500))), 90)

    with Tunnel() as t, http_service(answer) as service:
        driver = t.expose(f"0={service.port}")
        asyncio.run(all_of_them(driver.port))
        assert t.kit.metric('hoody_tunnel_streams_total{mode="expose"}') >= 2000
        eventually(lambda: t.kit.get("/tunnels")["totalStreams"] == 0, "all streams gone")


if __name__ == "__main__":
    main()
