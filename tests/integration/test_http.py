"""EXPOSE with curl and raw sockets: what HTTP/1.1 asks of a proxy, on real connections."""

import re
import socket
import struct
import threading

from tests.integration.harness import (Moment, Service, Tunnel, connect, eventually, free_port, http_service, read_chunked,
                                       read_exactly, read_head, run)
from tests.support.tap import case, main


def echo(head, body):
    """Answers with the request as it came, so that a test sees what crossed the tunnel."""
    text = head.encode("latin-1") + b"\r\n\r\n" + body
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


def ask(connection, request, head_request=False, early=b""):
    """Sends a request and returns (status line, headers, body, bytes behind)."""
    connection.sendall(request)
    return read_answer(connection, head_request, early)


def read_answer(connection, head_request=False, early=b""):
    head, rest = read_head(connection, early)
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:])}
    status = int(lines[0].split()[1])
    body = b""
    if head_request or status in (204, 304) or status < 200:
        pass
    elif "content-length" in fields:
        n = int(fields["content-length"])
        data = read_exactly(connection, n, rest) if len(rest) < n else rest
        body, rest = data[:n], data[n:]
    elif fields.get("transfer-encoding") == "chunked":
        body, rest = read_chunked(connection, rest)
    return lines[0], fields, body, rest


@case("curl: GET, POST and a request that says chunked come through whole")
def _():
    with Tunnel() as t, http_service(echo) as service:
        url = t.expose(f"0={service.port}").url
        assert run(["curl", "-sS", "--fail", f"{url}/a%20b?c=d"]).startswith("GET /a%20b?c=d HTTP/1.1\r\n")
        answer = run(["curl", "-sS", "--fail", "-d", "field=value", url])
        assert answer.endswith("\r\n\r\nfield=value") and "content-length: 11" in answer.lower(), answer
        answer = run(["curl", "-sS", "--fail", "-H", "Transfer-Encoding: chunked", "-d", "x" * 5000, url])
        assert answer.endswith("\r\n\r\n" + "x" * 5000), answer[:400]


@case("keep-alive and pipelining: one visitor connection, answers in order")
def _():
    with Tunnel() as t, http_service(echo) as service:
        with connect(t.expose(f"0={service.port}").port) as c:
            for i in range(20):
                status, fields, body, rest = ask(c, b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i)
                assert status == "HTTP/1.1 200 OK" and b"GET /%d " % i in body and not rest, (status, fields)
            c.sendall(b"".join(b"GET /p%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(50)))
            rest = b""
            for i in range(50):
                _, _, body, rest = read_answer(c, early=rest)
                assert b"GET /p%d " % i in body, (i, body)
        assert service.accepted <= 4, f"the local service saw {service.accepted} connections: no keep-alive"


@case("POST bodies pipelined behind each other, chunked and counted, stay apart")
def _():
    with Tunnel() as t, http_service(echo) as service:
        with connect(t.expose(f"0={service.port}").port) as c:
            c.sendall(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfirst"
                      b"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsec\r\n3;x=y\r\nond\r\n0\r\nT: r\r\n\r\n"
                      b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n")
            _, _, one, rest = read_answer(c)
            _, _, two, rest = read_answer(c, early=rest)
            _, _, three, rest = read_answer(c, early=rest)
            assert one.endswith(b"\r\n\r\nfirst") and two.endswith(b"\r\n\r\nsecond") and b"GET /3 " in three, (one, two, three)


@case("HEAD, 204, 304 and interim answers have no body and keep the connection")
def _():
    def answer(head, _body):
        if "/204" in head:
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        if "/304" in head:
            return b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"
        if "/103" in head:
            return (b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n"
                    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
        if head.startswith("HEAD"):
            return b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    with Tunnel() as t, http_service(answer) as service:
        with connect(t.expose(f"0={service.port}").port) as c:
            _, fields, _, rest = ask(c, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", head_request=True)
            assert fields["content-length"] == "12345" and not rest
            status, fields, _, rest = ask(c, b"GET /204 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert " 204 " in status and "content-length" not in fields and "transfer-encoding" not in fields and not rest
            status, fields, _, rest = ask(c, b"GET /304 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert " 304 " in status and fields["etag"] == '"x"' and not rest
            status, fields, _, rest = ask(c, b"GET /103 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert " 103 " in status and fields["link"] == "</s.css>", (status, fields)
            status, _, body, rest = read_answer(c, early=rest)
            assert " 200 " in status and body == b"late" and not rest
            assert ask(c, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")[2] == b"ok"


@case("answers without a length are chunked for HTTP/1.1 and end with the connection for HTTP/1.0")
def _():
    def handle(c):
        read_head(c)
        c.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"y" * 100000)

    with Tunnel() as t, Service(handle) as service:
        port = t.expose(f"0={service.port}").port
        with connect(port) as c:
            _, fields, body, _ = ask(c, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert fields["transfer-encoding"] == "chunked" and body == b"y" * 100000
        with connect(port) as c:
            c.sendall(b"GET / HTTP/1.0\r\n\r\n")
            head, rest = read_head(c)
            assert b"transfer-encoding" not in head.lower()
            data = rest
            while more := c.recv(65536):
                data += more
            assert data == b"y" * 100000, len(data)


@case("Expect: 100-continue is answered at once and curl's upload follows")
def _():
    with Tunnel() as t, http_service(echo) as service:
        with connect(t.expose(f"0={service.port}").port) as c:
            status, _, _, rest = ask(c, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            assert status == "HTTP/1.1 100 Continue" and not rest
            _, _, body, _ = ask(c, b"abc")
            assert body.endswith(b"\r\n\r\nabc") and b"expect" not in body.lower(), body


@case("hop-by-hop fields stay on their hop, everything else crosses in order with its duplicates")
def _():
    with Tunnel() as t, http_service(echo) as service:
        with connect(t.expose(f"0={service.port}").port) as c:
            _, _, body, _ = ask(c, b"GET / HTTP/1.1\r\nHost: a.example\r\nX-One: 1\r\nCookie: a=1\r\nConnection: x-secret, keep-alive\r\n"
                                   b"X-Secret: 2\r\nKeep-Alive: 3\r\nProxy-Connection: 4\r\nTE: gzip\r\nX-One: 5\r\nX-Raw: \xe4\xf6\r\n\r\n")
            text = body.decode("latin-1").lower()
            assert "host: a.example" in text and text.index("x-one: 1") < text.index("x-one: 5"), text
            assert "x-raw: \xe4\xf6" in text, text
            for gone in ("x-secret", "keep-alive:", "proxy-connection", "te:"):
                assert not re.search(rf"^{gone}", text, re.M), (gone, text)


@case("the local service is down: 502 at once; it comes back: 200")
def _():
    port = free_port()
    with Tunnel() as t:
        url = t.expose(f"0={port}").url
        begun = Moment()
        assert run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url]) == "502"
        begun.within(2, "the 502")
        with Service(lambda c: (read_head(c), c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))) as service:
            url = t.expose(f"0={service.port}").url
            assert run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url]) == "200"


@case("a visitor who leaves aborts the local request")
def _():
    arrived, aborted = threading.Event(), threading.Event()

    def handle(c):
        read_head(c)
        arrived.set()
        try:
            ended = c.recv(1) == b""
        except ConnectionResetError:  # a cut shows as one
            ended = True
        if ended:
            aborted.set()

    with Tunnel() as t, Service(handle) as service:
        c = connect(t.expose(f"0={service.port}").port)
        c.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert arrived.wait(10)
        # With a reset: one that only says that it sends no more may still want its answer.
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.close()
        assert aborted.wait(10), "the local service still waits"


@case("trailers and the reason cross the tunnel; fields that may not stand behind a body never do")
def _():
    heard = []

    def handle(c):
        head, data = read_head(c)
        while not data.endswith(b"\r\n\r\n"):
            data += c.recv(4096)
        heard.append((head, data))
        c.sendall(b"HTTP/1.1 200 Fine, thanks\r\nConnection: close\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"
                  b"0\r\nX-Sum: 1\r\nContent-Length: 9\r\nHost: evil\r\nTransfer-Encoding: chunked\r\n\r\n")

    with Tunnel() as t, Service(handle) as service:
        binding = t.expose(f"0={service.port}")
        answer = run(["curl", "-sS", "-i", "--raw", "-H", "Transfer-Encoding: chunked", "-d", "abc", binding.url])
        lines, _, body = answer.replace("\r\n", "\n").partition("\n\n")
        assert lines.startswith("HTTP/1.1 200 Fine, thanks\n") and "trailer: x-sum" in lines.lower(), answer
        assert body == "2\nab\n0\nX-Sum: 1\n\n", answer
        with connect(binding.port) as c:
            c.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
                      b"X-Sum: 1\r\nContent-Length: 9\r\nHost: evil\r\nTransfer-Encoding: chunked\r\n\r\n")
            read_head(c)
        head, data = heard[-1]
        assert b"\r\ntrailer: X-Sum\r\n" in head and data == b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n", (head, data)


@case("a service that needs TE before it sends trailers sends them through the tunnel")
def _():
    heard = []

    def handle(c):
        head, _ = read_head(c)
        lines = head.lower().split(b"\r\n")
        heard.append([line for line in lines if line.startswith((b"te:", b"connection:"))])
        asked = b"te: trailers" in lines
        c.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n" +
                  (b"X-Sum: 1\r\n" if asked else b"") + b"\r\n")

    with Tunnel() as t, Service(handle) as service:
        url = t.expose(f"0={service.port}").url
        asks = ["-H", "TE: gzip, trailers", "-H", "Connection: TE"]
        assert run(["curl", "-sS", "--raw", *asks, url]).replace("\r\n", "\n") == "2\nab\n0\nX-Sum: 1\n\n"
        assert run(["curl", "-sS", "--raw", "-H", "TE: gzip", url]).replace("\r\n", "\n") == "2\nab\n0\n\n"
        assert heard == [[b"te: trailers", b"connection: te"], []], heard


@case("a local service that dies in the middle shows as a truncated answer")
def _():
    def handle(c):
        read_head(c)
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this")

    def chunked(c):
        read_head(c)
        c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n")

    for service in (handle, chunked):
        with Tunnel() as t, Service(service) as s:
            with connect(t.expose(f"0={s.port}").port) as c:
                try:
                    ask(c, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    raise AssertionError("the answer looked complete")
                except ConnectionResetError:
                    pass


@case("server-sent events: the first event is through within 100 ms, each one alone")
def _():
    go = threading.Event()

    def handle(c):
        read_head(c)
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n")
        for i in range(5):
            go.wait(10)
            go.clear()
            handle.sent = Moment()
            c.sendall(b"data: event %d\n\n" % i)

    with Tunnel() as t, Service(handle) as service:
        with connect(t.expose(f"0={service.port}").port) as c:
            c.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
            _, rest = read_head(c)  # the head comes before any event
            for i in range(5):
                go.set()
                while b"event %d\n\n" % i not in rest:
                    rest += c.recv(65536)
                handle.sent.within(0.1, f"event {i}")


@case("bad requests are answered by the kit, close the connection and never reach the service")
def _():
    bad = [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405),
        (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 60000 + b"\r\n\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ]
    crossed = []
    with Tunnel() as t, http_service(lambda head, body: crossed.append(head) or echo(head, body)) as service:
        port = t.expose(f"0={service.port}").port
        for request, want in bad:
            with connect(port) as c:
                status = ask(c, request + b"GET /canary HTTP/1.1\r\nHost: a\r\n\r\n")[0]
                assert int(status.split()[1]) == want, (request[:60], status)
                assert c.recv(1) == b"", "the connection stayed open"
        assert not crossed, "a bad request crossed the tunnel"


@case("a second driver that wants the same port is refused with exit status 5 and the kit's reason")
def _():
    with Tunnel() as t, http_service(echo) as service:
        first = t.expose(f"0={service.port}")
        try:
            t.expose(f"{first.port}={service.port}")
            raise AssertionError("bound twice")
        except AssertionError as e:
            assert "ALREADY_BOUND" in str(e), e
        eventually(lambda: len(t.kit.get("/sessions")["sessions"]) == 1, "the refused driver's session ends")


@case("the kit's answers to its own admin endpoints agree with each other")
def _():
    with Tunnel() as t, http_service(echo) as service:
        driver = t.expose(f"0={service.port}", f"0={service.port}", bindings=2)
        run(["curl", "-sS", "--fail", driver.url])
        sessions, bindings, tunnels = (t.kit.get(p) for p in ("/sessions", "/bindings", "/tunnels"))
        assert sessions["total"] == 1 and bindings["total"] == 2 and tunnels["totalBindings"] == 2
        assert {b["port"] for b in bindings["bindings"]} == {b["containerPort"] for b in driver.bound}
        assert tunnels["sessions"][0]["protocol"] == "v1" and sessions["sessions"][0]["isV2"] is False
        assert t.kit.metric("hoody_tunnel_sessions_active") == 1
        assert t.kit.metric('hoody_tunnel_bindings_active{kind="http",mode="expose"}') == 2
        assert t.kit.request("DELETE", "/sessions/S-nobody")[0] == 404
        assert t.kit.request("GET", "/nothing")[0] == 404


if __name__ == "__main__":
    main()
