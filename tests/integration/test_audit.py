"""`--audit`: what is in the file when names are asked for, whoever puts the file away and whatever becomes of the disk."""

import json
import os
import signal
import stat
import subprocess

import jsonschema

from gen import events, options
from tests.integration.guarded import CANARY, Api, Authority, Guarded, inject, secret_file
from tests.integration.harness import BIN, ROOT, Folder, Program, Tunnel, command, eventually, http_service, read_head
from tests.support.tap import case, main

WITH_PROXY = ("--connect-proxy", "127.0.0.1:0")
DECLARED = {e["name"]: ["event", "time", *(m["name"] for m in e["members"])] for e in options.load(os.path.join(ROOT, "spec"))["events"]}
LINE = jsonschema.Draft202012Validator(json.loads(events.render("audit_line.schema.json", os.path.join(ROOT, "spec"))))


def ask(t, url):
    """The status of a request through the proxy's CONNECT; 0: no way was made."""
    done = subprocess.run(["curl", "-sS", "-p", "-x", f"http://{t.kit.get('/proxy')['address']}", "-o", "/dev/null", "-w", "%{http_code}", url],
                          capture_output=True, text=True, timeout=60, check=False)
    return int(done.stdout)


def lines(path):
    """The file's objects; each has to be one that the specification knows, its members in that order."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as f:
        text = f.read()
    assert not text or text.endswith("\n"), text
    out = [json.loads(line) for line in text.splitlines()]
    for line in out:
        LINE.validate(line)
        assert list(line) == DECLARED[line["event"]], line
    return out


def service():
    return http_service(lambda head, body: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@case("connections by name are noted when they are over; the file is this user's alone, and opened anew when it was moved away and on SIGHUP")
def _():
    with Folder() as folder, Tunnel(*WITH_PROXY) as t, service() as s:
        path, old = folder.join("audit.jsonl"), folder.join("audit.jsonl.1")
        driver = t.reach(f"myapi.test:80=127.0.0.1:{s.port}", "--audit", path)
        assert ask(t, "http://myapi.test/") == 200
        got = eventually(lambda: lines(path), "a line")
        assert len(got) == 1 and got[0]["name"] == "myapi.test:80" and got[0]["over"] and got[0]["allowed"], got
        assert got[0]["path"] is None and got[0]["bytesOut"] > 0 and got[0]["peer"].startswith("127.0.0.1:"), got
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        os.rename(path, old)
        driver.process.send_signal(signal.SIGHUP)
        eventually(lambda: ask(t, "http://myapi.test/") == 200 and lines(path), "the new file")
        assert lines(old)[:1] == got
        assert not driver.events("audit") and driver.events("connection"), driver.text()
        assert driver.end(signal.SIGINT) == 0


@case("a full disk is said once and cuts no connection; a file that cannot be made ends it before it begins")
def _():
    with Tunnel(*WITH_PROXY) as t, service() as s:
        driver = t.reach(f"myapi.test:80=127.0.0.1:{s.port}", "--audit", "/dev/full")
        for _ in range(3):
            assert ask(t, "http://myapi.test/") == 200
        eventually(lambda: "No space left on device" in driver.text(), "that it is said")
        assert driver.text().count("No space left on device") == 1, driver.text()
        assert driver.end(signal.SIGINT) == 0
        assert "3 lines are missing at its end" in driver.text(), driver.text()
        with Folder() as folder:
            nowhere = folder.join("none", "audit.jsonl")
            status, _, said = command("reach", "--url", t.kit.url, "myapi.test", "--audit", nowhere)
            assert status == 3 and f"audit file {nowhere}: No such file" in said, said


@case("requests that are checked are noted before they leave, when they are over, and when they are refused; queries only when asked for")
def _():
    with Folder() as folder, Api(Authority(folder)) as api:
        path = folder.join("audit.jsonl")
        entry = f'{{name: "api.test:443", target: "127.0.0.1:{api.port}", ca: {api.ca}, {inject(secret_file(folder))}, allow: ["GET /v1/*"]}}'
        for args, query in (((), None), (("--audit-query",), "key=hidden")):
            api.seen.clear()
            with Guarded(folder, entry, args=("--audit", path, *args)) as t:
                assert t.ask("/v1/a?key=hidden")[0] == 200
                status, head, _ = t.ask("/v2", method="POST", body=b"x")
                assert status == 403 and "error=guard-no-rule-allows-it" in head, head
                got = eventually(lambda: len(found := lines(path)) == 3 and found, "three lines")
                assert [(g["request"], g["over"], g["allowed"], g["status"]) for g in sorted(got, key=lambda g: (g["request"], g["over"]))] == \
                    [(1, False, True, None), (1, True, True, 200), (2, True, False, 403)], got
                for g in got:
                    assert g["name"] == "api.test:443" and g["peer"].startswith("127.0.0.1:"), g
                    assert (g["method"], g["path"], g["query"]) == (("GET", "/v1/a", query) if g["allowed"] else ("POST", "/v2", None)), g
                    assert (g["secret"], g["rule"]) == ((True, "GET /v1/*") if g["allowed"] else (False, None)), g
                t.up.wait_line(r"  200  GET api\.test:443/v1/a  5 B, ")
                t.up.wait_line(r"  403  POST api\.test:443/v2  .*\(refused: no-rule-allows-it\)")
                assert len(api.seen) == 1, api.seen
            with open(path, encoding="utf-8") as f:
                whole = f.read()
            assert CANARY not in whole and ("hidden" in whole) == (query is not None), whole
            os.remove(path)


@case("what cannot be noted is refused, and nothing of it leaves; that is said once")
def _():
    with Folder() as folder, Api(Authority(folder)) as api:
        entry = f'{{name: "api.test:443", target: "127.0.0.1:{api.port}", ca: {api.ca}, {inject(secret_file(folder))}}}'
        with Guarded(folder, entry, args=("--audit", "/dev/full")) as t:
            for _ in range(3):
                status, head, body = t.ask("/")
                assert status == 503 and "error=guard-audit-unwritable" in head and b"could not be noted down" in body, (head, body)
            assert not api.seen, api.seen
            t.up.wait_line("No space left on device; until it can be written, requests")
            assert t.up.text().count("No space left") == 1, t.up.text()


@case("a request under way: its beginning is in the file after kill -9, and its end after Ctrl-C")
def _():
    def stream(c, api):
        head, _ = read_head(c)
        api.seen.append(head.decode())
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        while c.recv(100):
            pass

    for signo, statuses in ((signal.SIGKILL, [None]), (signal.SIGINT, [None, 200])):
        with Folder() as folder, Api(Authority(folder), handle=stream) as api:
            path = folder.join("audit.jsonl")
            entry = f'{{name: "api.test:443", target: "127.0.0.1:{api.port}", ca: {api.ca}, {inject(secret_file(folder))}}}'
            with Guarded(folder, entry, args=("--audit", path)) as t, t.connection() as c:
                c.sendall(b"GET /events HTTP/1.1\r\nHost: api.test\r\n\r\n")
                said = b""
                while b"data: 1" not in said:
                    said += c.recv(1000)
                assert [(g["over"], g["status"], g["secret"]) for g in lines(path)] == [(False, None, True)]
                t.up.end(signo)
                t.drivers.clear()
                for session in t.kit.get("/sessions")["sessions"]:  # parked after kill -9
                    assert command("sessions", "kill", session["sessionId"], "--url", t.kit.url)[0] == 0
                got = lines(path)
                assert [g["status"] for g in got] == statuses, got
                if signo == signal.SIGINT:
                    assert got[1]["over"] and got[1]["error"] and got[1]["bytesOut"] == 9, got


@case("the file of up says where, beside itself; config check shows it")
def _():
    with Folder() as folder, Tunnel(*WITH_PROXY) as t, service() as s:
        path = folder.join("tunnel.yaml")
        with open(path, "w", encoding="ascii") as f:
            f.write(f"url: {t.kit.url}\naudit: audit.jsonl\naudit-query: true\nreach: ['myapi.test:80=127.0.0.1:{s.port}']\n")
        status, out, said = command("config", "check", "-f", path)
        assert status == 0 and f"audit    {folder.join('audit.jsonl')}, with queries" in out.splitlines(), (out, said)
        assert json.loads(command("config", "check", "-f", path, "--json", "--audit", "a")[1])["audit"] == "a"
        up = Program([BIN, "up", "-f", path])
        up.wait_line(r"^myapi\.test:80 -> ")
        assert ask(t, "http://myapi.test/") == 200
        assert eventually(lambda: lines(folder.join("audit.jsonl")), "a line")[0]["name"] == "myapi.test:80"
        assert up.end() == 0


if __name__ == "__main__":
    main()
