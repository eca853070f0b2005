"""The inspector's API over a real kit, driver and service: what is seen, masked, found, sent again, exported and imported.

Runs: plain, sanitized.
"""

import gzip
import json
import os
import socket
import stat
import subprocess
import time

import jsonschema

from tests.integration.harness import BIN, ROOT, Service, connect, eventually, hello, read_head
from tests.integration.inspected import BASE, Feed, Inspected, Keeper, reply
from tests.support.tap import Skip, case, main

with open(os.path.join(ROOT, "tests", "integration", "har.schema.json"), encoding="utf-8") as f:
    HAR = jsonschema.Draft6Validator(json.load(f))
SECURE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin"}


def cli(*args, url=None, env=None):
    done = subprocess.run([BIN, "requests", *args, *(["--inspector", url] if url else [])], capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, **(env or {})})
    return done.returncode, done.stdout, done.stderr


def as_json(head, body):
    return reply(json.dumps({"len": len(body), "path": head.split(" ")[1]}), "200 OK", "Content-Type: application/json", "Set-Cookie: sid=c00kie-value; Path=/; HttpOnly", "X-Odd:  spaced")


@case("an exchange is seen as it went to the service: heads, bodies, what is secret, what is compressed")
def _():
    packed = gzip.compress(b'{"hello": "world"}' * 50)
    with Keeper(lambda h, b: reply(packed, "200 OK", "Content-Type: application/json", "Content-Encoding: gzip")) as service, Inspected(service.port) as i:
        i.request("POST", "/orders?x=1", b"hello \xff", "Authorization: Bearer s3cret-value", "X-Two: a", "x-two: b", "Content-Type: text/plain", "Cookie: sid=c00kie-value; theme=dark")
        x = i.done(1)[0]
        assert (x["method"], x["target"], x["status"], x["state"], x["kind"], x["type"], x["binding"]) == ("POST", "/orders?x=1", 200, "done", "http", "application/json", "web"), x
        assert x["requestBytes"] == 7 and x["responseBytes"] == len(packed) and x["durationMs"] > 0 and abs(x["startedAt"] / 1000 - time.time()) < 60
        assert x["visitor"].startswith("127.0.0.1") and x["replayOf"] is None and not x["imported"] and x["error"] is None
        d = i.ask("GET", f"/exchanges/{x['id']}")
        fields = [(f["name"], f["value"]) for f in d["request"]["headers"]]
        sent = [tuple(line.split(": ", 1)) for line in service.got[0][0].split("\r\n")[1:]]
        masked = [(n, {"authorization": "Bearer ••••", "cookie": "sid=••••; theme=••••"}.get(n.lower(), v)) for n, v in sent]
        assert fields == masked, (fields, masked)
        assert d["response"]["body"] == {"size": len(packed), "captured": len(packed), "decodedFrom": "gzip"}
        assert i.body(x["id"], "response") == gzip.decompress(packed) and i.body(x["id"], "response", True) == packed and i.body(x["id"], "request") == b"hello \xff"
        shown = i.ask("POST", f"/exchanges/{x['id']}/request/reveal", {})["headers"]
        assert [(f["name"], f["value"]) for f in shown] == sent
        assert i.ask("GET", "/exchanges?fields=id&body=World")["ids"] == [x["id"]]
        assert i.ask("GET", "/exchanges?header=" + "x-two:%20b")["ids"] == [x["id"]] and not i.ask("GET", "/exchanges?header=nothing-like-it")["ids"]
        state = i.ask("GET", "/state")
        assert state["link"]["state"] == "connected" and state["bindings"][0]["name"] == "web" and state["bindings"][0]["target"] == {"address": f"127.0.0.1:{service.port}", "reachable": True}, state["bindings"]
        binding = state["bindings"][0]
        assert binding["url"] == i.driver.url and binding["qr"]["size"] >= 21 and len(binding["qr"]["rows"]) == binding["qr"]["size"], binding
        assert all(len(row) == (binding["qr"]["size"] + 3) // 4 for row in binding["qr"]["rows"]) and binding["qr"]["rows"][0].startswith("fe")
        i.ask("DELETE", "/exchanges", want=204)
        assert not i.list()


@case("who may ask: no token, a wrong one, another Host (DNS rebinding), another Origin; the headers of every answer")
def _():
    with Keeper(lambda h, b: reply("<script>alert(1)</script>", "200 OK", "Content-Type: text/html")) as service, Inspected(service.port) as i:
        i.request("GET", "/page")
        x = i.done(1)[0]["id"]
        for method, path in (("GET", "/feed"), ("GET", "/state"), ("GET", "/exchanges?body=a"), ("DELETE", "/exchanges"), ("GET", f"/exchanges/{x}"), ("GET", f"/exchanges/{x}/response/body"), ("POST", f"/exchanges/{x}/request/reveal"),
                             ("GET", f"/exchanges/{x}/frames"), ("POST", f"/exchanges/{x}/replay"), ("POST", "/har/export"), ("POST", "/har/import"), ("POST", "/link/reconnect"), ("GET", "/openapi.json")):
            for want, more in ((401, {"token": False}), (401, {"token": i.token[:-1]}), (401, {"token": i.token + "a"}), (403, {"host": f"evil.example:{i.port}"}), (403, {"host": "127.0.0.1"}),
                               (403, {"headers": {"Origin": "http://evil.example"}}), (403, {"headers": {"Origin": "null"}})):
                status, headers, data = i.raw(method, path, b"{}" if method == "POST" else None, **more)
                assert status == want, (method, path, more, status, data)
                assert all(headers[k] == v for k, v in SECURE.items()) and not [h for h in headers if h.lower().startswith("access-control")], headers.items()
        assert len(i.list()) == 1, "nothing of it was done"
        status, headers, data = i.raw("GET", "/", token=False)
        assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8" and i.token.encode() not in data
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"] and "require-trusted-types-for 'script'" in headers["Content-Security-Policy"]
        assert i.raw("GET", "/", token=False, host=f"evil.example:{i.port}")[0] == 403
        status, headers, data = i.raw("GET", f"/exchanges/{x}/response/body")
        assert (status, data) == (200, b"<script>alert(1)</script>")
        assert (headers["Content-Type"], headers["Content-Disposition"], headers["Content-Security-Policy"]) == ("application/octet-stream", "attachment", "sandbox")
        assert i.raw("POST", "/har/import", headers={"Content-Length": str(64 * 1024 * 1024 + 1)})[0] == 413
        status, _, data = i.raw("GET", "/openapi.json")
        assert status == 200 and json.loads(data)["info"]["title"] == "hoody-tunnel inspector"
        assert i.raw("GET", "/exchanges/999999")[0] == 404 and i.raw("PUT", "/state")[0] == 405 and i.raw("POST", "/har/import", b"[1]")[0] == 400
        i.ask("POST", "/link/reconnect", {}, 202)


@case("on every address, which has to be allowed: the address that a request came to is its Host, a name never is")
def _():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            raise Skip("this machine has no address but loopback") from None
        own = probe.getsockname()[0]
    with Keeper(hello) as service:
        assert subprocess.run([BIN, "expose", str(service.port), "--inspect", "0.0.0.0:0"], capture_output=True, timeout=60, check=False).returncode in (2, 3)
        with Inspected(service.port, "--insecure-inspect", listen="0.0.0.0") as i:
            for at, host, want in ((own, f"{own}:{i.port}", 200), (own, f"localhost:{i.port}", 403), (own, f"evil.example:{i.port}", 403), (own, f"0.0.0.0:{i.port}", 403),
                                   ("127.0.0.1", f"localhost:{i.port}", 200), ("127.0.0.1", f"{own}:{i.port}", 403)):
                assert i.raw("GET", "/state", host=host, at=at)[0] == want, (at, host)


@case("again: the same bytes go to the service, and the same again and again; chunks stay chunks; nobody else hears of it")
def _():
    with Keeper(as_json) as service, Inspected(service.port) as i:
        i.request("POST", "/hooks?a=%20b", b'{"n": 1}\xff', "X-Sig: t=1,v1=abc", "Authorization: Basic dTpw", "Content-Type: application/json", "Accept: */*")
        i.visit(b"PUT /chunks HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
        i.request("GET", "/plain")
        originals = i.done(3)
        for n, x in enumerate(originals):
            first = service.got[n]
            for _ in range(2):
                y = i.replay(x["id"])
                assert y["replayOf"] == x["id"] and y["visitor"] == "you" and not y["edited"] and y["status"] == 200 and y["target"] == x["target"], y
                assert service.got[-1] == first, (service.got[-1], first)
        assert len(service.got) == 9
        many = [i.ask("POST", f"/exchanges/{originals[2]['id']}/replay", {}, 201)["id"] for _ in range(10)]
        assert len(set(many)) == 10 and all(x["status"] == 200 for x in i.done(19))


@case("edited: method, target, fields and body; secrets that were masked are sent; what makes no sense is refused")
def _():
    with Keeper(as_json) as service, Inspected(service.port) as i:
        i.request("POST", "/a", b"old", "Authorization: Bearer s3cret-value", "X-One: 1")
        x = i.done(1)[0]
        fields = i.ask("GET", f"/exchanges/{x['id']}")["request"]["headers"]
        edit = {"method": "PUT", "target": "/b?c=d", "body": "new \u20ac", "headers": [{"name": f["name"], "value": f["value"], "keep": f["secret"]} for f in fields if f["name"].lower() not in ("host", "content-length")] + [{"name": "X-New", "value": "v", "keep": False}]}
        y = i.replay(x["id"], edit)
        head, body = service.got[-1]
        assert y["edited"] and y["method"] == "PUT" and head.startswith("PUT /b?c=d HTTP/1.1\r\n") and body == "new \u20ac".encode(), head
        assert all(f"\r\n{line}" in head.lower() for line in ("authorization: bearer s3cret-value", "x-new: v", "host: shop.example", "x-one: 1")), head
        y = i.replay(x["id"], {"target": "/only"})
        assert service.got[-1][0].startswith("POST /only HTTP/1.1") and service.got[-1][1] == b"old" and "x-one: 1" in service.got[-1][0].lower()
        n = len(service.got)
        for bad in ({"method": "A B"}, {"method": ""}, {"target": "x"}, {"target": "/a b"}, {"target": "/\r\nX: y"}, {"headers": [{"name": "a b", "value": "", "keep": False}]},
                    {"headers": [{"name": "a", "value": "b\r\nc: d", "keep": False}]}, {"headers": [{"name": "X-Gone", "value": "", "keep": True}]}, {"headers": 1}, [], "x"):
            i.ask("POST", f"/exchanges/{x['id']}/replay", bad, 400)
        i.ask("POST", f"/exchanges/{x['id']}/replay", b"{", 400)
        assert len(service.got) == n, "nothing of it was sent"


@case("what cannot be sent again says why: a WebSocket, a body that was cut; a service that is away fails like any other")
def _():
    service = Keeper(as_json)
    with Inspected(service.port, "--inspect-body", "1000") as i:
        i.request("POST", "/big", b"x" * 5000)
        x = i.done(1)[0]
        d = i.ask("GET", f"/exchanges/{x['id']}")
        assert d["request"]["body"] == {"size": 5000, "captured": 1000}
        assert "captured whole" in i.ask("POST", f"/exchanges/{x['id']}/replay", {}, 409)["error"]
        assert i.replay(x["id"], {"body": "small"})["status"] == 200
        service.__exit__()
        y = i.replay(x["id"], {"body": "small"})
        assert y["state"] == "failed" and y["error"]["code"] == "origin_refused", y


@case("a WebSocket: messages of both sides with their text, the close; the feed tells of them; it cannot be sent again")
def _():
    def upgrade(connection):
        _, rest = read_head(connection)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
        while len(rest) < 11:
            rest += connection.recv(100)
        connection.sendall(b"\x81\x05world" + b"\x82\x03\x00\x01\x02")
        while connection.recv(100):
            pass

    with Service(upgrade) as service, Inspected(service.port) as i:
        with connect(i.driver.port) as c:
            c.sendall(b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            _, rest = read_head(c)
            x = eventually(lambda: (i.list() or [None])[0], "the exchange")
            eventually(lambda: i.list()[0]["kind"] == "websocket", "it is a WebSocket")
            with Feed(i) as feed:
                i.ask("GET", f"/exchanges/{x['id']}/frames")
                c.sendall(b"\x81\x85\0\0\0\0hello")
                while len(rest) < 12:
                    rest += c.recv(100)
                eventually(lambda: len(feed.of("frame")) == 3, "three frames are told")
                assert [(f["seq"], f["dir"], f["opcode"], f["text"], f.get("base64")) for f in feed.of("frame")] == [(1, "up", "text", "hello", None), (2, "down", "text", "world", None), (3, "down", "binary", None, "AAEC")]
            assert "WebSocket" in i.ask("POST", f"/exchanges/{x['id']}/replay", {}, 409)["error"]
            c.sendall(b"\x88\x85\0\0\0\0\x03\xe8bye")
            eventually(lambda: len(i.ask("GET", f"/exchanges/{x['id']}/frames?after=3")["frames"]) == 1, "the close")
            assert i.ask("GET", f"/exchanges/{x['id']}/frames?after=3")["frames"][0]["text"] == "1000 bye"
        eventually(lambda: i.list()[0]["state"] != "running", "its end")
        har = i.ask("POST", "/har/export", {})
        HAR.validate(har)
        assert [(m["type"], m["opcode"], m["data"]) for m in har["log"]["entries"][0]["_webSocketMessages"]][:3] == [("send", 1, "hello"), ("receive", 1, "world"), ("receive", 2, "AAEC")]


@case("the feed: a snapshot, then each exchange, its changes and its end; cleared; another reader does not matter")
def _():
    with Keeper(as_json) as service, Inspected(service.port) as i:
        i.request("GET", "/before")
        i.done(1)
        with Feed(i) as feed, Feed(i) as other:
            eventually(lambda: feed.of("snapshot") and other.of("snapshot"), "both snapshots")
            assert [x["target"] for x in feed.of("snapshot")[0]["exchanges"]] == ["/before"]
            i.request("POST", "/hook", b"x" * 1000)
            for each in (feed, other):
                eventually(lambda e=each: any(x["target"] == "/hook" and x["state"] == "done" and x["requestBytes"] == 1000 for x in e.of("exchange")), "the exchange is told")
            eventually(lambda: [sum(t[k] for t in feed.of("traffic")) for k in ("rps", "in")] == [1, 1000], "the traffic of those seconds")
            i.ask("DELETE", "/exchanges", want=204)
            eventually(lambda: feed.of("cleared"), "that all was cleared")


@case("HAR: the published schema validates it, secrets are masked in all of its parts, and it is read back with the same bytes")
def _():
    with Keeper(as_json) as service, Inspected(service.port) as i:
        i.request("POST", "/login?token=t0ps3cret&x=1", b"user=ada&password=pass-w0rd", "Content-Type: application/x-www-form-urlencoded", "Authorization: Bearer s3cret-value", "Cookie: sid=c00kie-value", "X-Echo: s3cret-value")
        i.request("POST", "/json", b'{"api_key": "k3y-value", "echo": "s3cret-value", "n": 1}', "Content-Type: application/json", "Authorization: Bearer s3cret-value")
        i.request("PUT", "/binary", bytes(range(256)))
        i.done(3)
        secrets = ("s3cret-value", "c00kie-value", "t0ps3cret", "pass-w0rd", "k3y-value")
        status, headers, data = i.raw("POST", "/har/export", b"{}")
        assert status == 200 and headers["Content-Type"] == "application/json"
        HAR.validate(json.loads(data))
        shown = json.loads(data)["log"]["entries"]
        assert len(shown) == 3 and shown[0]["request"]["queryString"][1] == {"name": "x", "value": "1"}
        assert not [s for s in secrets if s in data.decode()], data
        har = i.ask("POST", "/har/export", {"ids": None, "secrets": True})
        HAR.validate(har)
        assert all(s in json.dumps(har) for s in secrets)
        assert len(i.ask("POST", "/har/export", {"ids": [i.list()[1]["id"]]})["log"]["entries"]) == 1
        sent = list(service.got)
        i.ask("DELETE", "/exchanges", want=204)
        assert i.ask("POST", "/har/import", har)["imported"] == 3
        again = i.list()
        assert all(x["imported"] and x["state"] == "done" and x["status"] == 200 for x in again) and [x["target"] for x in again] == ["/login?token=t0ps3cret&x=1", "/json", "/binary"]
        for x, (head, body) in zip(again, sent):
            y = i.replay(x["id"])
            assert service.got[-1] == (head, body), (service.got[-1], (head, body))
            assert y["replayOf"] == x["id"] and y["status"] == 200
        assert "at byte" in i.ask("POST", "/har/import", b'{"log": {"entries": [', 400)["error"]


@case("on the command line: list, filters, show, replay, exit statuses; found by its file, which only its owner reads and which goes with the driver")
def _():
    with Keeper(as_json) as service, Inspected(service.port) as i:
        i.request("POST", "/hook%C3%A9", b"a\x1b[31mred", "Authorization: Bearer s3cret-value")
        i.request("GET", "/other")
        hook, other = i.done(2)
        files = [os.path.join(d, f) for d, _, names in os.walk(os.environ["XDG_STATE_HOME"]) for f in names if d.endswith("inspectors")]
        assert len(files) == 1 and stat.S_IMODE(os.stat(files[0]).st_mode) == 0o600, files
        with open(files[0], encoding="ascii") as text:
            assert text.read().strip() == i.url
        code, out, err = cli("list")
        assert code == 0 and "POST" in out and "/other" in out and out.splitlines()[0].split() == ["ID", "TIME", "METHOD", "STATUS", "DURATION", "BYTES", "FROM", "TARGET"], (code, out, err)
        assert [x["id"] for x in json.loads(cli("list", "--json", url=i.url)[1])] == [hook["id"], other["id"]]
        assert [x["id"] for x in json.loads(cli("list", "--json", "--method", "post")[1])] == [hook["id"]]
        assert [x["id"] for x in json.loads(cli("list", "--json", "--path", "OTHER")[1])] == [other["id"]]
        assert json.loads(cli("list", "--json", "--status", "error")[1]) == [] and len(json.loads(cli("list", "--json", "--status", "2xx", "--last", "1")[1])) == 1
        code, out, err = cli("show", hook["id"])
        assert code == 0 and "Bearer ••••" in out and "s3cret" not in out and "\x1b" not in out and '"len": 9' in out, (code, out, err)
        assert "s3cret-value" in cli("show", hook["id"], "--secrets")[1]
        assert json.loads(cli("show", hook["id"], "--json")[1])["id"] == hook["id"]
        code, out, err = cli("replay", hook["id"], other["id"])
        assert code == 0 and out.count(": 200,") == 2, (code, out, err)
        assert service.got[2] == service.got[0] and service.got[3] == service.got[1]
        assert cli("show", "99")[0] == 1 and cli("show", "x/../y")[0] == 2 and cli("list", url=i.url[:-1])[0] == 4 and cli("list", url="http://127.0.0.1:1/#x")[0] == 6 and cli("list", url="nonsense")[0] == 2
        assert cli("list", env={"XDG_STATE_HOME": "/nonexistent"})[0] == 6
    assert not os.path.exists(files[0])
    code, _, err = cli("list")
    assert code == 6 and "--inspect" in err


if __name__ == "__main__":
    main()
