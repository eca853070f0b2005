"""The log of the edge by its API: pages, filters, sums, and rows as they come, over lost connections.

Runs: plain.
"""

import contextlib
import json
import os
import re
import signal
import socket
import threading
import time
import urllib.parse

import jsonschema

from tests.integration.edge_api import Api
from tests.integration.edge_lines import feed
from tests.integration.edges import DOMAIN, Edge
from tests.integration.harness import BIN, Program, command, eventually, http_service
from tests.support.tap import case, main


def api(edge):
    return Api(os.path.join(edge.folder, "run", "api.sock"))


def logs(edge, **params):
    answer = api(edge).get("/_logs?" + urllib.parse.urlencode(params))
    assert answer.status == 200, answer
    return answer.data["logs"], answer.data["lastId"]


def until(edge, count, **params):
    return eventually(lambda: len(got := logs(edge, **params)[0]) >= count and got, f"{count} rows with {params}")


def schema(edge, name):
    document = json.loads(api(edge).get("/openapi.json").body)
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": document["components"]})


@case("pages, the newest so many, rows behind an id, and filters; every row is as the API says")
def _():
    with Edge() as edge:
        for i in range(30):
            edge.get(("one-1", "two-2", "three-3")[i % 3], f"/{i}?token=geheim", "-X", "POST" if i % 10 == 0 else "GET")
        until(edge, 30)
        check = schema(edge, "LogEntry")
        rows, last = logs(edge)
        assert [row["url"].split("?")[0] for row in rows] == [f"/{i}" for i in range(29, -1, -1)]
        assert last == rows[0]["id"] and [row["id"] for row in rows] == list(range(last, last - 30, -1))
        for row in rows:
            check.validate(row)
            assert row["kind"] == "refused" and row["level"] == "warn" and row["status"] == 404 and "geheim" not in row["url"], row
        ids = [row["id"] for row in rows]

        def found(**params):
            return [row["id"] for row in logs(edge, **params)[0]]

        assert found(limit=5) == ids[:5] and found(limit=5, offset=5) == ids[5:10] and found(offset=28) == ids[28:]
        assert found(last=4) == ids[3::-1]
        posts = found(method="POST")
        assert len(posts) == 3 and found(last=2, method="POST") == posts[1::-1] and found(method="post") == []
        rows, behind = logs(edge, afterId=ids[10], limit=4)
        assert [row["id"] for row in rows] == ids[9:5:-1] and behind == ids[6]
        assert logs(edge, afterId=ids[0]) == ([], ids[0]) and logs(edge, afterId=10 ** 12) == ([], ids[0])
        assert found(host=f"two-2.{DOMAIN}", limit=3) == ids[1:8:3] and found(host="x") == []
        assert found(level="warn", limit=2) == ids[:2] and found(level="error") == [] and found(level="info", limit=1) == ids[:1]
        assert found(kind="refused", limit=1) == ids[:1] and found(kind="request") == [] and found(kind="engine") == []
        assert found(serviceName="' OR 1=1 --") == [] and found(container="%") == []


@case("what is wrong with a parameter is said; who may not ask is refused")
def _():
    with Edge("--api", "127.0.0.1:0") as edge:
        for query, said in (("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"), ("offset=-1", "offset"), ("last=1001", "last"), ("afterId=-1", "afterId"), ("afterId=1.5", "afterId"),
                            ("level=debug", "level must be info, warn or error"), ("kind=x", "kind must be request, refused, error or engine"), ("kind=", "kind"),
                            ("host=" + "x" * 256, "host"), ("method=" + "x" * 41, "method")):
            answer = api(edge).get("/_logs?" + query)
            assert answer.status == 400 and said in answer.message, (query, answer)
        for path in ("/_logs/stats?hours=0", "/_logs/stats?hours=x", "/_logs/stream?level=x", "/_logs/stream?afterId=x"):
            assert api(edge).get(path).status == 400, path
        assert api(edge).ask("POST", "/_logs").status == 405 and api(edge).get("/_logs/nothing").status == 404
        port = int(re.search(r"the API is at http://127\.0\.0\.1:(\d+)", edge.program.text()).group(1))
        for path in ("/_logs", "/_logs/stats", "/_logs/stream"):
            assert Api(port).get(path).status == 401, path
            assert Api(port, "wrong").get(path).status == 401, path


@case("sums by service, with what the log is; requests of hosts that are nobody's have none")
def _():
    with Edge() as edge, http_service(lambda head, _: b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") as service:
        edge.expose(f"3000=127.0.0.1:{service.port}")
        edge.until("me-3000", 200)
        for _i in range(5):
            edge.get("me-3000")
        edge.get("nobody-1")
        seen = len(until(edge, 6))
        answer = api(edge).get("/_logs/stats?hours=2")
        assert answer.status == 200, answer
        schema(edge, "LogStats").validate(answer.data)
        mine = [s for s in answer.data["services"] if s.get("host") == f"me-3000.{DOMAIN}"]
        assert len(answer.data["services"]) == 1 and mine[0]["requests"] >= 6 and mine[0]["errors"] == 0 and mine[0]["bytesOut"] > 30, answer.data
        assert answer.data["rows"] >= seen and answer.data["lost"] == 0 and answer.data["malformed"] == 0 and answer.data["oldest"] <= answer.data["newest"], answer.data


class Stream:
    """A reader of /_logs/stream: .events are (id, row)."""

    def __init__(self, edge, query="", last_id=None, slow=False):
        self.socket = socket.socket(socket.AF_UNIX)
        if slow:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(os.path.join(edge.folder, "run", "api.sock"))
        self.socket.settimeout(30)
        head = "" if last_id is None else f"Last-Event-ID: {last_id}\r\n"
        self.socket.sendall(f"GET /_logs/stream{query} HTTP/1.1\r\nHost: edge\r\n{head}\r\n".encode())
        self.reader = self.socket.makefile("rb")
        self.head = b""
        while not self.head.endswith(b"\r\n\r\n"):
            self.head += self.reader.readline()

    def next(self):
        """The next event; comments are skipped."""
        event = {}
        while True:
            line = self.reader.readline()
            assert line, "the stream has ended"
            name, _, value = line.rstrip(b"\n").decode().partition(": ")
            if not line.strip():
                if "data" in event:
                    row = json.loads(event["data"])
                    assert int(event["id"]) == row["id"], event
                    return row
                event = {}
            elif not line.startswith(b":"):
                event[name] = value

    def take(self, count):
        return [self.next() for _ in range(count)]

    def close(self):
        self.reader.close()
        self.socket.close()


@case("rows come as they are committed, from now on, from an id on, or behind Last-Event-ID; filtered, and each once")
def _():
    with Edge() as edge:
        feed(edge.folder, 500)
        until(edge, 500)
        with contextlib.closing(Stream(edge)) as stream:
            assert b"200 OK" in stream.head and b"text/event-stream" in stream.head, stream.head
            feed(edge.folder, 300, first=500)
            assert [row["id"] for row in stream.take(300)] == list(range(501, 801))
        with contextlib.closing(Stream(edge, "?afterId=10")) as stream:  # several pages of what is there
            assert [row["id"] for row in stream.take(790)] == list(range(11, 801))
            feed(edge.folder, 1, first=800)
            assert stream.next()["id"] == 801
        with contextlib.closing(Stream(edge, "?afterId=10", last_id=799)) as stream:
            assert [row["id"] for row in stream.take(2)] == [800, 801]
        for odd in ("x", "-1", "", "1e3", "99999999999999999999"):
            with contextlib.closing(Stream(edge, "?afterId=800", last_id=odd)) as stream:
                assert stream.next()["id"] == 801, odd
        with contextlib.closing(Stream(edge, "?afterId=0&kind=refused")) as stream:
            feed(edge.folder, 50)
            edge.get("one-1", "/here")
            row = stream.next()
            assert row["kind"] == "refused" and row["url"] == "/here", row


@case("a reader that is slow gets everything later and holds nobody up; one too many is refused; all are cut at the end")
def _():
    with Edge() as edge:
        slow, other = Stream(edge, slow=True), Stream(edge)
        feed(edge.folder, 6000, size=1000)
        assert [row["id"] for row in other.take(6000)] == list(range(1, 6001))
        assert edge.get("one-1").status == 404
        assert [row["id"] for row in slow.take(6000)] == list(range(1, 6001))
        many = [Stream(edge) for _ in range(30)]
        assert api(edge).get("/_logs/stream").status == 503
        many.pop().close()
        eventually(lambda: b"200" in (s := Stream(edge)).head and not many.append(s), "room for one")
        edge.program.end()
        for stream in [slow, other, *many]:
            with contextlib.suppress(OSError, AssertionError):
                while True:
                    stream.next()
            stream.close()


@case("a reader that comes again with its last id misses nothing, over a new start of the agent too")
def _():
    with Edge() as edge:
        folder, got = edge.folder, []
        feed(folder, 100)
        with contextlib.closing(Stream(edge, "?afterId=0")) as stream:
            got += [row["id"] for row in stream.take(60)]
        assert edge.program.end(signal.SIGTERM) == 0
        with Edge(folder=folder) as again:
            feed(folder, 100, first=100)
            with contextlib.closing(Stream(again, "?afterId=0", last_id=got[-1])) as stream:
                got += [row["id"] for row in stream.take(140)]
        assert got == list(range(1, 201))


@case("questions and readers while lines come in by the thousand: answers within a moment, no request waits")
def _():
    with Edge("--log-max-size", "16M") as edge:
        feed(edge.folder, 20000)
        eventually(lambda: logs(edge, limit=1)[1] >= 20000, "the rows")
        feeder = threading.Thread(target=feed, args=(edge.folder, 40000), kwargs={"first": 20000})
        feeder.start()
        took = []
        while feeder.is_alive():
            begun = time.monotonic()
            assert logs(edge, method="PUT")[0] == []
            took.append(time.monotonic() - begun)
            assert edge.get("one-1").status == 404
        feeder.join()
        eventually(lambda: logs(edge, limit=1)[1] >= 60000, "all rows")
        print(f"# {len(took)} searches through all rows meanwhile, the longest {max(took):.2f} s")
        assert api(edge).get("/_logs/stats").data["lost"] == 0


@case("`edge logs` and `edge stats` show it, lines for people and JSON; --follow goes on over a new start and misses nothing")
def _():
    with Edge() as edge:
        where = ["--folder", edge.folder]
        edge.get("one-1", "/a?token=geheim")
        feed(edge.folder, 3)
        feed(edge.folder, 1, size=1)
        until(edge, 5)
        status, out, err = command("edge", "logs", *where)
        assert (status, err) == (0, "") and len(out.splitlines()) == 5, (status, out, err)
        assert re.search(rf"^\d{{4}}-\d\d-\d\dT\S+Z  404  GET  one-1\.{re.escape(DOMAIN)}/a\?token=\S+  127\.0\.0\.1  \d+ ms  refused: host$", out, re.M), out
        assert "geheim" not in out and out.count("203.0.113.9") == 4, out
        status, out, err = command("edge", "logs", *where, "--json", "--last", "2")
        assert status == 0 and [json.loads(line)["id"] for line in out.splitlines()] == [4, 5], out
        assert len(command("edge", "logs", *where, "--kind", "refused", "--level", "warn", "--host", f"one-1.{DOMAIN}")[1].splitlines()) == 1
        assert command("edge", "logs", *where, "--service", "a&b=c%", "--container", "x y")[:2] == (0, "")
        status, out, err = command("edge", "logs", *where, "--level", "loud")
        assert (status, out) == (2, "") and "level must be info, warn or error" in err, (status, err)
        assert command("edge", "logs", *where, "--last", "1001")[0] == 2
        status, out, err = command("edge", "stats", *where)
        assert status == 0 and re.search(r"^a\.example +4 +0 +0 +0 ", out, re.M) and "5 rows in " in out, (out, err)
        assert json.loads(command("edge", "stats", *where, "--json")[1])["services"][0]["host"] == "a.example"
        tail = Program([BIN, "edge", "logs", *where, "--follow", "--json", "--last", "1"])
        try:
            assert json.loads(tail.wait_line(r"^{.*}$").group(0))["id"] == 5
            feed(edge.folder, 2)
            assert [json.loads(tail.wait_line(r"^{.*}$").group(0))["id"] for _ in range(2)] == [6, 7]
            assert edge.program.end(signal.SIGTERM) == 0
            tail.wait_line("the log is away")
            with Edge(folder=edge.folder) as again:
                feed(again.folder, 2)
                assert [json.loads(tail.wait_line(r"^{.*}$", timeout=30).group(0))["id"] for _ in range(2)] == [8, 9]
                assert tail.end(signal.SIGINT) == 0, tail.text()
        finally:
            if tail.process.poll() is None:
                tail.process.kill()
        status, out, err = command("edge", "logs", *where)
        assert status == 6 and "--folder names the folder" in err, (status, err)


if __name__ == "__main__":
    main()
