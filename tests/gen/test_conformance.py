"""The conformance suite about itself: wrong case files are told, wrong peers fail, and what it writes can be read."""

import asyncio
import os
import socket
import sys
import tempfile
import threading
import xml.etree.ElementTree as ET

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", ".."))

from conformance.lib import cases, report, ws  # noqa: E402
from conformance.lib.engine import Worker  # noqa: E402
from conformance.lib.match import Scope, Tagged, mismatch  # noqa: E402
from conformance.lib.steps_wire import VERBS  # noqa: E402
from conformance.lib.target import Adapter  # noqa: E402
from conformance.lib.watch import Books  # noqa: E402
from conformance.lib.wire import codec  # noqa: E402
from tests.support.tap import case, main  # noqa: E402


def case_file(text):
    """The cases of a file with this text; the folder is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "scratch.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return list(cases.load_file(path, "kit"))


def refused(text):
    try:
        case_file(text)
    except cases.BadCase as e:
        return str(e)
    raise AssertionError("it was taken")


GOOD = "group: G\ncases:\n  - id: a\n    title: t\n    rules: [FLOW-1]\n    steps:\n      - open: s\n"


@case("every case file can be read, and its steps are known")
def _():
    loaded = cases.load()
    assert len(loaded) > 1000, len(loaded)
    wrong = [text for c in loaded for text in cases.check_steps(c, VERBS)]
    assert not wrong, wrong[:5]


@case("a wrong case file is reported: what is wrong, and where")
def _():
    assert len(case_file(GOOD)) == 2, "one for each version"
    assert "FLOW-999" in refused(GOOD.replace("FLOW-1", "FLOW-999"))
    assert "line 5" in refused(GOOD.replace("    rules", "    title: again\n    rules"))
    assert "!nothing" in refused(GOOD.replace("open: s", "open: !nothing s"))
    assert "colour" in refused(GOOD.replace("    title: t", "    title: t\n    colour: red"))
    assert "there twice" in refused(GOOD.replace("    title: t", "    title: t\n    foreach: {x: [1, 1]}"))
    wrong = case_file(GOOD.replace("open: s", "opne: s"))[0]
    assert any("opne" in text for text in cases.check_steps(wrong, VERBS))
    wrong = case_file(GOOD.replace("- open: s", "- eventually:\n          - open: s\n            colour: red"))[0]
    assert any("colour" in text for text in cases.check_steps(wrong, VERBS))


@case("a rule since v2 gives no case for v1")
def _():
    assert [c.version for c in case_file(GOOD.replace("FLOW-1", "JOIN-1"))][0] == "v2"


@case("matchers match what they say, and nothing else")
def _():
    scope = Scope({"x": 5})
    have = {"a": 1, "b": [1, 2], "c": "text", "d": True}
    for want in ({"a": 1}, {"b": [1, 2]}, {"c": Tagged("re", "^te")}, {"a": Tagged("range", [1, 2])}, {"z": Tagged("absent", "")},
                 {"b": Tagged("has", 2)}, {"b": Tagged("unordered", [2, 1])}, {"c": Tagged("not", "other")}, {"b": Tagged("len", 2)}):
        assert mismatch(want, have, scope) is None, (want, mismatch(want, have, scope))
    for want in ({"a": 2}, {"a": True}, {"d": 1}, {"b": [2, 1]}, {"b": [1]}, {"z": 1}, {"a": Tagged("absent", "")}, {"c": Tagged("re", "^x")},
                 {"b": Tagged("unordered", [1, 1])}, {"a": Tagged("notin", [1])}, {"c": Tagged("not", "text")}):
        assert mismatch(want, have, scope), want
    assert scope.fill(Tagged("expr", "x * 2 + 1")) == 11


@case("the WebSocket reads what it writes, and tells what RFC 6455 forbids")
def _():
    payload = bytes(range(256)) * 300
    for masked in (True, False):
        for size in (1, 7, 100000):
            data = ws.message(payload, masked, fragments=5) + ws.build(ws.PING, b"p", mask=masked)
            reader, events = ws.Reader(masked), []
            for i in range(0, len(data), size):
                events += reader.feed(data[i:i + size])
            assert events == [("message", ws.BINARY, payload), ("ping", b"p")], events
    for bad in (ws.build(ws.BINARY, b"x", mask=True), ws.build(ws.BINARY, b"x", mask=False, rsv=4), ws.build(ws.CONT, b"x", mask=False),
                ws.build(ws.PING, b"x" * 126, mask=False), ws.build(3, b"x", mask=False)):
        assert any(e[0] == "breach" for e in ws.Reader(False).feed(bad)), bad


def breaches(*frames, window=10):
    """What the standing checks say of these frames of a kit."""
    books = Books("driver")
    books.open_session({"streamWindow": window, "sessionWindow": window * 2})
    opened = {"kind": "http", "headers": []}
    return [text.split(":")[0] for name, sid, value in frames
            for text in books.came("link", name, sid, opened if value == "open" else value)]


@case("the standing checks see what a kit may never do")
def _():
    opened = ("STREAM_OPEN", 2, "open")
    assert breaches(opened, ("DATA", 2, b"1234567890"), ("EOF", 2, b"")) == []
    assert breaches(("STREAM_OPEN", 3, "open")) == ["STREAM-1"]
    assert breaches(opened, opened)[0] == "STREAM-1"
    assert breaches(opened, ("DATA", 2, b"12345678901")) == ["FLOW-1"]
    assert breaches(opened, ("EOF", 2, b""), ("DATA", 2, b"x")) == ["STREAM-4"]
    assert breaches(opened, ("RESET", 2, {}), ("EOF", 2, b"")) == ["STREAM-5"]
    assert breaches(opened, ("WINDOW", 2, {"increment": 1})) == ["FLOW-3"]
    assert breaches(("WINDOW", 0, {"increment": 1})) == ["FLOW-3"]
    assert breaches(("PONG", 0, {"nonce": b"12345678"})) == ["KEEP-4"]
    assert breaches(("DATA", 4, b"x")) == ["STREAM-7"]
    assert breaches(("STREAM_OPEN", 2, {"kind": "http", "headers": [["Host", "h"]]})) == ["HTTP-2"]


@case("the standing checks see what was not agreed on; the codec does not read it then")
def _():
    by_name = {"kind": "tcp", "headers": [], "authority": "a.example:443"}
    for agreed, want in (((), ["EXT-1", "EXT-1"]), (("names",), [])):
        books = Books("driver")
        books.open_session({"streamWindow": 1, "sessionWindow": 1, "capabilities": agreed})
        got = [*books.came("link", "STREAM_OPEN", 2, by_name), *books.came("link", "STREAM_CONNECTED", 2, b"")]
        assert [text.split(":")[0] for text in got] == want, got
    hello = {"version": "hoody-tunnel.v1", "client": {"id": "x" * 32}}
    for named, want in ((["client"], []), ([], ["EXT-1: HELLO.client needs a capability that was not agreed on"])):
        assert list(Books("kit").came("link", "HELLO", 0, {**hello, "capabilities": named})) == want
    bind = codec.encode_payload("BIND", {"clientBindRef": 1, "kind": "tcp", "mode": "pull", "containerPort": 1, "names": ["a.example"]})
    wrong = bind.replace(b'["a.example"]', b"7")
    assert codec.decode("BIND", bind, capabilities=["names"])["names"] == ["a.example"]
    assert "names" not in codec.decode("BIND", wrong, capabilities=[])
    for capabilities in (None, ["names"]):
        try:
            codec.decode("BIND", wrong, capabilities=capabilities)
        except codec.WireError as e:
            assert e.rule == "FIELD-1", e
        else:
            raise AssertionError("it was taken")


class Peer:
    """Accepts connections and answers each with the same bytes, or with nothing; then closes."""

    def __init__(self, answer=b""):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.answer = self.listener.getsockname()[1], answer
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    connection.recv(4096)
                    connection.sendall(self.answer)
                except OSError:
                    pass

    def results(self, names):
        path = os.path.join(os.path.dirname(cases.FOLDER), "adapters", "kit-at-url.yaml")
        worker = Worker(Adapter(path, {"url": f"ws://127.0.0.1:{self.port}"}), patience=0.3)
        chosen = [c for c in cases.load("kit") if c.version == "v1" and any(c.name.startswith(n) for n in names)]

        async def play():
            return [await worker.play(c) for c in chosen]
        out = asyncio.run(play())
        self.listener.close()
        return out


@case("against a kit that drops every connection no case passes")
def _():
    results = Peer().results(["handshake/bad-first[ping]", "handshake/no-subprotocol[none]", "messages/text", "bindings/expose", "admin/health",
                              "handshake/timeout", "life/ping[", "messages/unknown-high"])
    assert len(results) > 8, len(results)
    passed = [r["key"] for r in results if r["verdict"] not in ("fail", "unsupported")]
    assert not passed, passed


@case("against another web server only cases pass that it answers right by chance")
def _():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
    results = Peer(answer).results(["handshake/hello-bytewise", "handshake/bad-first[ping]", "messages/text", "admin/health", "admin/probes"])
    assert results and all(r["verdict"] == "fail" for r in results), [(r["key"], r["verdict"]) for r in results]
    assert all(r["behaviour"]["expected"] and r["behaviour"]["came"] for r in results), "each says what was due and what came"


@case("reports hold what happened, escaped")
def _():
    bad = {"verdict": "fail", "text": "<b>\nnot ok 7\x01", "expected": "<i>", "came": "]]>", "step": 2}
    good = {"verdict": "pass", "text": "", "expected": "", "came": ""}
    result = {"id": "x/y", "key": "kit/x/y@v1", "side": "kit", "version": "v1", "group": "G", "title": "<t>", "file": "f", "rules": ["FLOW-1"],
              "violates": [], "level": "MUST", "fails": "", "implementation": "<impl>", "verdict": "fail", "behaviour": bad, "closing": good,
              "ms": 5, "log": [(0.1, 1, "s", "<<", "<script>")], "output": ["<o>"]}
    summary = report.summary([result], 1, 0.1)
    assert summary["failed"] == 1 and summary["passed"] == 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "r")
        report.write_junit(path, [result], summary)
        assert ET.parse(path).getroot().get("failures") == "1"
        report.write_html(path, [result], summary)
        with open(path, encoding="utf-8") as f:
            page = f.read()
        assert "&lt;script&gt;" in page and "<t>" not in page and "<impl>" not in page and "FLOW-1" in page
        with open(path, "w", encoding="utf-8") as out:
            tap = report.Tap(1, out)
            tap.result(result)
            tap.close(summary)
        with open(path, encoding="utf-8") as f:
            lines = f.read().splitlines()
        assert [line for line in lines if line.startswith("not ok")] == ["not ok 1 - kit/x/y@v1 <t> (5 ms)"], lines
        assert lines[-1] == "0 passed, 1 failed"


if __name__ == "__main__":
    main()
