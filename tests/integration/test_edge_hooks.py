"""Hooks of the edge, with a real HAProxy: what they do to requests and answers, and who tries to make them do more.

Runs: plain.
"""

import contextlib
import json
import signal
import os
import time

from tests.integration.edge_api import Api
from tests.integration.edges import is_there, needs_haproxy
from tests.integration.harness import BIN, eventually
from tests.integration.machines import container_and_laptop
from tests.support.tap import case, main

DOMAIN = "example.com"
PROJECT, STRANGER = "67e89abc123def456789abcd", "fedcba9876543210fedcba98"
# Two containers of a project, and one of another.
ONE, TWO, FOREIGN = "890abcdef12345678901cdef", "0123456789abcdef01234567", "aaaaaaaaaaaaaaaaaaaaaaaa"
AT = {ONE: "192.0.2.2", TWO: "192.0.2.3", FOREIGN: "192.0.2.4"}
TOKEN = "token-0123456789abcdef"
VISITOR = "192.0.2.2"

SERVICE = '''
import http.server, json, socket, threading, time
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        n = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(n).decode() if n else ""
        path = self.path.split("?")[0]
        if path.endswith("/slow"):
            time.sleep(1.5)
        if path.endswith("/stream"):
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            while True:
                self.wfile.write(b"tick\\n")
                time.sleep(0.05)
        at = self.connection.getsockname()
        body = json.dumps({"target": self.path, "method": self.command, "at": at[0], "port": at[1], "sent": sent,
                           "headers": [[k.lower(), v] for k, v in self.headers.items()]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Served", "by the service")
        self.send_header("X-Powered-By", "the service")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
    do_POST = do_PUT = do_DELETE = do_HEAD = do_GET
    def log_message(self, *a): pass
servers = [http.server.ThreadingHTTPServer(("0.0.0.0", port), H) for port in (76, 3000, 4000)]
print("listens", flush=True)
for s in servers[1:]:
    threading.Thread(target=s.serve_forever, daemon=True).start()
servers[0].serve_forever()
'''


class Answer:
    def __init__(self, text):
        head, _, self.body = text.partition("\r\n\r\n")
        self.lines = head.split("\r\n")
        self.status = int(self.lines[0].split(" ")[1])
        self.headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in self.lines[1:])}

    def seen(self):
        """What a service got."""
        assert self.status == 200, (self.status, self.body)
        return Seen(json.loads(self.body))


class Seen:
    def __init__(self, what):
        self.target, self.method, self.at, self.port, self.sent = (what[k] for k in ("target", "method", "at", "port", "sent"))
        self.fields = {}
        for name, value in what["headers"]:
            self.fields.setdefault(name, []).append(value)


class Site:
    def __init__(self, server, visitor):
        self.server, self.visitor = server, visitor
        self.folder = "/tmp/edge"
        self.api = None

    def start(self):
        book = [{"project": STRANGER if c == FOREIGN else PROJECT, "container": c, "address": a, "services": {"web": 3000}} for c, a in AT.items()]
        self.server.write("/tmp/book.json", json.dumps({"containers": book}))
        self.edge = self.server.start(BIN, "edge", "up", "--domain", DOMAIN, "--id", "node1", "--folder", self.folder, "--containers", "/tmp/book.json",
                                      "--log-level", "info")
        self.edge.wait_line(r"is served by HAProxy \d")
        with open(self.server.path(f"{self.folder}/ca/ca.pem"), encoding="ascii") as f:
            self.visitor.write("/tmp/ca.pem", f.read())
        self.api = Api(self.server.path(f"{self.folder}/run/api.sock"))
        eventually(lambda: self.get().status == 200, "a container")

    @staticmethod
    def path(container=ONE, below=""):
        return f"/containers/{container}/proxy/hooks{below}"

    def hooks(self, hooks, container=ONE, marker="x-marker"):
        """All hooks of a container, by service; returns once they act."""
        self.marked = getattr(self, "marked", 0) + 1
        mark = {"id": "marker", "match": {"path": "/marker"}, "actions": [{"reply": {"status": 200, "body": f"{marker} {self.marked}"}}]}
        whole = {**hooks, "*": [mark, *hooks.get("*", [])]}
        answer = self.api.change("PUT", self.path(container), {"hooks": whole})
        eventually(lambda: self.get("/marker", container=container).body == f"{marker} {self.marked}", "hooks that act")
        return answer

    def refused(self, hook, what="", container=ONE):
        """A hook that is no hook; what is said of it."""
        version = self.api.get(f"/containers/{container}/proxy").version or 0
        answer = self.api.ask("PUT", self.path(container, "/http/bad"), hook, version)
        assert answer.status == 400 and what in answer.message, (hook, answer)
        return answer.message

    def get(self, path="/", *more, service="http-3000", container=ONE, project=None, version="--http1.1", wait=20):
        project = project or (STRANGER if container == FOREIGN else PROJECT)
        host = f"{project}-{container}-{service}.node1.containers.{DOMAIN}"
        out = self.visitor.run("curl", "-s", "-S", "-i", version, "--path-as-is", "--max-time", str(wait), "--cacert", "/tmp/ca.pem", "--resolve",
                               f"{host}:443:192.0.2.1", *more, f"https://{host}{path}")
        return Answer(out.replace("HTTP/1.1 100 Continue\r\n\r\n", ""))

    def logged(self, url):
        def rows():
            return [row for row in self.api.get("/_logs?last=500").data["logs"] if row.get("url", "").startswith(url)]
        return eventually(rows, f"a line of the log for {url}")[-1]


@contextlib.contextmanager
def site():
    needs_haproxy()
    with container_and_laptop() as (server, visitor):
        for address in (AT[TWO], AT[FOREIGN]):
            visitor.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
        service = visitor.start("/usr/bin/python3", "-c", SERVICE)
        service.wait_line("listens")
        it = Site(server, visitor)
        it.start()
        yield it
        assert it.edge.end() == 0, it.edge.text()
        service.end()
        eventually(lambda: not any(map(is_there, server.processes())), "no process on the server")


@case("each kind of hook, over HTTP/1.1 and HTTP/2: fields of requests and answers, paths, replies, another service; the log names them")
def _():
    with site() as it:
        plain = it.get("/a?b=1").seen()
        assert plain.target == "/a?b=1" and plain.port == 3000
        it.hooks({
            "http": [
                {"id": "fields", "match": {"path": "/fields/**"}, "actions": [
                    {"set": {"x-env": "dev", "x-rest": "${1}"}}, {"add": {"x-more": "${method} ${client}"}}, {"del": ["x-debug", "user-agent"]},
                    {"set": {"x-served": "by the edge"}, "on": "response"}, {"add": {"x-path": "${path}"}, "on": "response"}, {"del": "x-powered-by", "on": "response"}]},
                {"id": "moved", "match": {"path": {"prefix": "/v1"}}, "actions": [{"path": {"prefix": "/v1", "to": "/v2/api"}}]},
                {"id": "user", "match": {"path": "/users/u-*/files/*.txt"}, "actions": [{"path": "/f/${2}/of/${1}"}]},
                {"id": "gone", "match": {"path": {"exact": "/gone"}, "method": ["GET", "HEAD"]}, "actions": [
                    {"reply": {"status": 410, "headers": {"x-why": "moved"}, "body": "it is gone"}}]},
                {"id": "old", "match": {"path": "/old/**"}, "actions": [{"reply": {"status": 308, "headers": {"location": "/new/${1}"}}}]},
                {"id": "beta", "match": {"headers": {"x-beta": "y*s", "x-not": False}}, "actions": [{"forward": {"port": 4000}}]},
                {"id": "there", "match": {"path": "/there/**"}, "actions": [{"forward": {"container": TWO, "program": "terminal"}}, {"path": {"prefix": "/there", "to": "/"}}]},
                {"id": "here", "match": {"ip": ["192.0.2.0/30"], "path": "/ip"}, "actions": [{"set": {"x-near": "1"}}]},
                {"id": "far", "match": {"ip": "203.0.113.0/24", "path": "/ip"}, "actions": [{"set": {"x-far": "1"}}]},
                {"id": "only", "match": {"index": 4000}, "actions": [{"set": {"x-index": "4000"}}]},
            ],
            "terminal": [{"id": "t", "actions": [{"set": {"x-terminal": "1"}}]}],
            "*": [{"id": "all", "match": {"path": "/ip"}, "actions": [{"set": {"x-all": "1"}}]}],
        })
        for version in ("--http1.1", "--http2"):
            answer = it.get("/fields/a%20b/c?q=1", "-H", "X-Debug: 1", "-H", "X-Env: prod", "-H", "X-More: mine", version=version)
            seen = answer.seen()
            assert seen.target == "/fields/a%20b/c?q=1"
            assert seen.fields["x-env"] == ["dev"] and seen.fields["x-rest"] == ["a%20b/c"], seen.fields
            assert seen.fields["x-more"] == ["mine", f"GET {VISITOR}"] and not {"x-debug", "user-agent"} & seen.fields.keys(), seen.fields
            assert answer.headers["x-served"] == "by the edge" and "x-powered-by" not in answer.headers, answer.headers
            assert answer.headers["x-path"] == "/fields/a%20b/c"
            assert it.get("/v1/x/y?z=%2e%2e", version=version).seen().target == "/v2/api/x/y?z=%2e%2e"
            assert it.get("/v1", version=version).seen().target == "/v2/api"
            assert it.get("/v1x", version=version).seen().target == "/v1x"
            assert it.get("/users/u-7/files/a.txt", version=version).seen().target == "/f/a/of/7"
            assert it.get("/users/u-/files/a.txt", version=version).seen().target == "/users/u-/files/a.txt"
            gone = it.get("/gone?x", version=version)
            assert (gone.status, gone.body, gone.headers["x-why"]) == (410, "it is gone", "moved"), gone.lines
            assert gone.headers["content-type"].startswith("text/plain")
            assert it.get("/gone", "-X", "POST", version=version).seen().method == "POST"
            head = it.get("/gone", "-I", version=version)
            assert head.status == 410 and head.body == ""
            old = it.get("/old/a/b", version=version)
            assert old.status == 308 and old.headers["location"] == "/new/a/b"
            assert it.get("/", "-H", "X-Beta: yes", version=version).seen().port == 4000
            assert it.get("/", "-H", "X-Beta: yes", "-H", "X-Not: 1", version=version).seen().port == 3000
            there = it.get("/there/x?y=1", version=version).seen()
            assert (there.at, there.port, there.target) == (AT[TWO], 76, "/x?y=1"), vars(there)
            near = it.get("/ip", version=version).seen().fields
            assert near["x-near"] == near["x-all"] == ["1"] and "x-far" not in near
            assert it.get("/", service="http-4000", version=version).seen().fields["x-index"] == ["4000"]
            assert "x-index" not in it.get("/", version=version).seen().fields
            assert it.get("/", service="terminal-1", version=version).seen().fields["x-terminal"] == ["1"]
        # A body is passed on, and does not hold a reply up.
        assert it.get("/v1/b", "-d", "some text").seen().sent == "some text"
        assert it.get("/old/b", "-d", "x" * 100000).status == 308
        # Every line says what has acted, for the URL that was asked for.
        line = it.logged("/there/x")
        assert line["hook"] == "http/there" and line["container"] == f"{PROJECT}-{ONE}" and line["serviceName"] == "http", line
        assert line["address"] == AT[TWO] and line["port"] == "76", line
        assert it.logged("/v1/x/y?")["hook"] == "http/moved" and it.logged("/ip")["hook"] == "*/all,http/here"
        assert it.logged("/gone")["hook"] == "http/gone" and "hook" not in it.logged("/v1x")
        # Without hooks nobody is asked any more.
        it.api.change("DELETE", it.path())
        eventually(lambda: it.get("/gone").status == 200, "no hooks")
        eventually(lambda: "gate" not in it.logged("/gone"), "a line without the gate")


if __name__ == "__main__":
    main()
