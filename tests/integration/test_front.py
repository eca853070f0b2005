"""The public port: services by host, as people and programs would use it."""

import random
import re
import socket
import struct

from tests.differential import compare
from tests.hostile.inputs import bad_requests, distinct
from tests.hostile.volley import Watch, volley
from tests.integration.harness import BIN, SANITIZED, Folder, Program, Tunnel, command, connect, eventually, http_service, read_head
from tests.support.tap import case, main

DOMAIN = "tunnel.localhost"
V2 = b"\r\n\r\n\0\r\nQUIT\n"


def front(*more):
    """A tunnel whose kit has a public port, which is its `public`."""
    t = Tunnel("--public", "127.0.0.1:0", "--domain", DOMAIN, "--no-ports", *more)
    t.public = int(re.search(r"public on http://127\.0\.0\.1:(\d+)", t.kit.text()).group(1))
    return t


def raw(port, data):
    """(status, head, body) of what one connection gets; status 0: nothing came."""
    with connect(port) as c:
        c.sendall(data)
        c.shutdown(socket.SHUT_WR)
        got = b""
        while part := c.recv(65536):
            got += part
    head, _, body = got.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, head.decode("latin-1"), body


def get(host, fields=""):
    return f"GET /x HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n".encode()


def echo(head, _body):
    """The service answers with what it was asked."""
    text = head.encode("latin-1")
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text


def named(text):
    return lambda _head, _body: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text


@case("two services behind one port, by name, on one connection; lists and JSON tell their hosts and URLs")
def _():
    with front() as t, http_service(named(b"first")) as one, http_service(named(b"second")) as two, Folder() as away:
        a = t.expose(f"3000={one.port}", "--name", "ann", "--hostname", "App.Example.com")
        b = t.expose(f"3000={two.port}", "--name", "bob", env={"XDG_STATE_HOME": away.path})
        assert a.bound[0]["publicUrl"] == f"http://app.example.com:{t.public}", a.bound
        assert b.bound[0]["publicUrl"] == f"http://bob-3000.{DOMAIN}:{t.public}", b.bound
        with connect(t.public) as c:
            rest = b""
            for host, text in [(f"ann-3000.{DOMAIN}", b"first"), (f"BOB-3000.{DOMAIN}:{t.public}", b"second"),
                               ("app.example.com", b"first"), (f"bob-3000.{DOMAIN}.", b"second")]:
                c.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                head, rest = read_head(c)
                while len(rest) < len(text):
                    rest += c.recv(100)
                assert head.startswith(b"HTTP/1.1 200") and rest == text, (host, head, rest)
        for accept, kind in [("text/html", "text/html"), ("application/json", "application/json"), ("*/*", "text/plain")]:
            status, head, body = raw(t.public, get(f"carl-3000.{DOMAIN}", f"Accept: {accept}\r\n"))
            assert status == 404 and "x-hoody-tunnel: error=unknown-host" in head and f"content-type: {kind}" in head, head
            assert b"no tunnel of this name" in body
        rows = t.kit.get("/bindings")["bindings"]
        assert sorted(r["url"] for r in rows) == sorted([a.bound[0]["publicUrl"], b.bound[0]["publicUrl"]]), rows
        assert {"app.example.com", f"ann-3000.{DOMAIN}"} in [set(r["hosts"]) for r in rows], rows


@case("a name of somebody else is refused, with words; the same machine's next process gets it back")
def _():
    with front() as t, http_service(named(b"x")) as s, Folder() as mine, Folder() as other:
        home, away = ({"XDG_STATE_HOME": f.path} for f in (mine, other))
        first = t.expose(f"3000={s.port}", "--name", "ann", env=home)
        refused = command("expose", f"4000={s.port}", "--name", "ann", "--url", t.kit.url, env=away)
        assert refused[0] == 5 and "ann" in refused[2] and "belongs to another" in refused[2], refused
        first.process.kill()
        first.process.wait()
        t.drivers.remove(first)
        again = t.expose(f"3000={s.port}", "--name", "ann", env=home)
        assert again.bound[0]["publicUrl"] == f"http://ann-3000.{DOMAIN}:{t.public}"
        assert raw(t.public, get(f"ann-3000.{DOMAIN}"))[0] == 200


@case("a file's name and hostname; a parked service waits for its driver with 503")
def _():
    with front("--takeover-grace", "60s") as t, http_service(named(b"x")) as s, Folder() as f:
        path = f.join("t.yaml")
        with open(path, "w", encoding="utf-8") as out:
            out.write(f"url: {t.kit.url}\nname: ann\nexpose:\n  - target: 127.0.0.1:{s.port}\n    port: 3000\n    name: shop\n"
                      "    hostname: shop.example.org\n")
        up = Program([BIN, "up", "-f", path, "--json"], env={"XDG_STATE_HOME": f.path})
        up.wait_line(r'"event":\s*"bound"')
        for host in (f"shop.{DOMAIN}", "shop.example.org", f"ann-3000.{DOMAIN}"):
            assert raw(t.public, get(host))[0] == 200, host
        up.process.kill()
        up.process.wait()
        eventually(lambda: raw(t.public, get(f"shop.{DOMAIN}"))[0] == 503, "a parked name")
        assert raw(t.public, get(f"nope.{DOMAIN}"))[0] == 404
        session = t.kit.get("/sessions")["sessions"][0]["sessionId"]
        assert t.kit.request("DELETE", f"/sessions/{session}")[0] == 202
        eventually(lambda: raw(t.public, get(f"shop.{DOMAIN}"))[0] == 404, "a name that is gone")


def raw_from(address, port, data):
    """The same as raw(), from an address of this machine's own."""
    with socket.create_connection(("127.0.0.1", port), 20, (address, 0)) as c:
        c.sendall(data)
        got = b""
        try:
            while part := c.recv(65536):
                got += part
        except ConnectionResetError:
            pass
    head, _, body = got.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, head.decode("latin-1"), body


@case("who stands before the kit is believed only where it may say so: X-Forwarded-For and PROXY headers")
def _():
    line = b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 80\r\n"
    two = V2 + bytes([0x21, 0x11]) + struct.pack(">H", 12) + bytes([192, 0, 2, 8, 198, 51, 100, 1]) + struct.pack(">HH", 1, 2)
    six = V2 + bytes([0x21, 0x21]) + struct.pack(">H", 36 + 5) + bytes(15) + b"\1" + bytes(16) + bytes(4) + b"\4\0\2ab"
    host, livez = f"ann-3000.{DOMAIN}", b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with http_service(echo) as s, front("--proxy-protocol", "127.0.0.2", "--trusted-proxy", "127.0.0.0/30") as t:
        t.expose(f"3000={s.port}", "--name", "ann")
        for begin, address in ((line, "192.0.2.7"), (two, "192.0.2.8"), (six, "::1"), (b"PROXY UNKNOWN\r\n", "127.0.0.2"),
                               (V2 + b"\x20\0\0\0", "127.0.0.2")):
            _, _, asked = raw_from("127.0.0.2", t.public, begin + get(host, "X-Forwarded-For: 203.0.113.9\r\n"))
            # whoever the header names is no trusted proxy; the proxy itself is one
            told = "203.0.113.9, 127.0.0.2" if address == "127.0.0.2" else address
            assert f"x-forwarded-for: {told}\r\n" in asked.decode().lower() + "\r\n", (begin, asked)
            assert raw_from("127.0.0.2", t.kit.port, begin + livez)[0] == 200
        for bad in (get(host), b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
                    V2 + b"\x31\x11\0\x0c" + bytes(12), V2 + b"\x21\x11\0\x04" + bytes(12), V2 + b"\x21\x11\xff\xff"):
            assert raw_from("127.0.0.2", t.public, bad + get(host))[0] == 0, bad
            assert raw_from("127.0.0.2", t.kit.port, bad + livez)[0] == 0, bad
        for begin in (line, two):  # of somebody who is not of that network
            assert raw(t.public, begin + get(host))[0] == 400
            assert raw(t.kit.port, begin + livez)[0] == 400


@case("bad requests at the public port are refused, and nothing behind them goes anywhere")
def _():
    seen = []

    def service(head, _body):
        seen.append(head)
        return named(b"ok")(head, b"")
    host = b"Host: ann-3000." + DOMAIN.encode() + b"\r\n"
    inputs = distinct(bad_requests(random.Random(20113)), 200 if SANITIZED else 800)
    inputs = [re.sub(rb"\r\nHost: [a-z]+\r\n", b"\r\n" + host, one, count=1) for one in inputs]
    canary = b"GET /canary HTTP/1.1\r\n" + host + b"\r\n"

    def refused(_item, got):
        answers = re.findall(rb"HTTP/1\.1 (\d{3}) ", got)
        return None if len(answers) == 1 and answers[0][:1] in b"45" else f"not refused once: {answers}"
    with front() as t, http_service(service) as s:
        driver = t.expose(f"3000={s.port}", "--name", "ann")
        with Watch(t.kit, [driver.pid]):
            wrong = volley(t.public, inputs, refused, parts=lambda q: (q + canary, "wait"))
        assert not wrong, "\n".join(wrong[:10])
        assert not [head for head in seen if "/canary" in head], seen[:3]


def told_alike(verdict):
    """Without what the public port says beside what a port does: whose request it is."""
    return re.sub(r" (x-forwarded-\w+|forwarded|host)=\S*", "", verdict)


@case("what is made of a request is the same at the public port and at a port: the inputs of the differential test")
def _():
    recorders = [compare.Recorder() for _ in range(compare.WORKERS)]
    results = {"port": {}, "public": {}}
    # What is about Host alone, or about the target, has no like there; nor has what more fields make another number of.
    todo = {key: one for key, one in compare.REQUESTS.items()
            if one.count(b"\r\nHost: a\r\n") == 1 and one.count(b"\r\n") < 8 and not key.startswith("target-absolute")}
    assert len(todo) > 80, len(todo)
    t = Tunnel("--public", "127.0.0.1:0", "--domain", DOMAIN)
    with t:
        public = int(re.search(r"public on http://127\.0\.0\.1:(\d+)", t.kit.text()).group(1))
        driver = t.expose(*(f"0={r.port}" for r in recorders), "--name", "ann", bindings=len(recorders))
        ports = [b["containerPort"] for b in driver.bound]

        def at_public(port, recorder, request):
            host = b"Host: ann-%d.%s" % (port, DOMAIN.encode())
            recorder.answer = None
            recorder.seen.clear()
            said = request.replace(b"Host: a\r\n", host + b"\r\n", 1) + compare.CANARY.replace(b"Host: canary", host)
            data, end = compare.converse(public, said, 0.5)
            codes = [str(code) for code, *_ in compare.answers_in(data, request.startswith(b"HEAD "))]
            with recorder.lock:
                seen = [line for line in recorder.seen if line != "canary" and not line.endswith(" cut")]
            return " ".join(codes or ["nothing"]) + (" + open" if end == "open" else "") + "".join(f" | {line}" for line in seen)

        def at_port(port, recorder, request):
            return compare.request_verdict(port, recorder, request, 0.5)
        for which, verdict in (("port", at_port), ("public", at_public)):
            threads = compare.in_parallel(ports, recorders, todo.items(), verdict, results[which])
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        for recorder in recorders:
            recorder.close()
    wrong = [f"{key}: {told_alike(results['port'][key])!r} at a port, {told_alike(results['public'][key])!r} at the public one"
             for key in todo if told_alike(results["port"][key]) != told_alike(results["public"][key])]
    assert not wrong, "\n".join(wrong)


if __name__ == "__main__":
    main()
