"""Hooks of the edge, with a real HAProxy: what they do to requests and answers, and who tries to make them do more.

Runs: plain.
"""

import contextlib
import json
import os
import signal
import socket
import ssl
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

    def get(self, *args, **more):
        """A change of permissions or hooks may cut what is under way at that moment, for a second: then once more."""
        for _ in range(10):
            with contextlib.suppress(AssertionError):
                answer = self.get_once(*args, **more)
                if answer.status != 502:
                    return answer
            time.sleep(0.1)
        return self.get_once(*args, **more)

    def get_once(self, path="/", *more, service="http-3000", container=ONE, project=None, version="--http1.1", wait=20):
        project = project or (STRANGER if container == FOREIGN else PROJECT)
        host = f"{project}-{container}-{service}.node1.containers.{DOMAIN}"
        out = self.visitor.run("curl", "-s", "-S", "-i", version, "--path-as-is", "--max-time", str(wait), "--cacert", "/tmp/ca.pem", "--resolve",
                               f"{host}:443:192.0.2.1", *more, f"https://{host}{path}")
        return Answer(out.replace("HTTP/1.1 100 Continue\r\n\r\n", ""))

    def raw(self, data, service="http-3000", container=ONE):
        """What comes for bytes that no client would send; one request, as the connection closes behind it."""
        host = f"{PROJECT}-{container}-{service}.node1.containers.{DOMAIN}"
        context = ssl.create_default_context(cafile=self.server.path(f"{self.folder}/ca/ca.pem"))
        with self.visitor.network():
            plain = socket.create_connection(("192.0.2.1", 443), timeout=20)
        with context.wrap_socket(plain, server_hostname=host) as s:
            s.sendall(data.replace(b"HOST", host.encode()))
            got = b""
            while piece := s.recv(65536):
                got += piece
        return Answer(got.decode("latin-1"))

    def follow(self, path):
        """A visitor whose answer does not end."""
        host = f"{PROJECT}-{ONE}-http-3000.node1.containers.{DOMAIN}"
        visitor = self.visitor.start("curl", "-s", "-S", "-N", "--cacert", "/tmp/ca.pem", "--resolve", f"{host}:443:192.0.2.1", f"https://{host}{path}")
        for _ in range(3):
            visitor.wait_line("tick")
        return visitor

    def permissions(self, document, container=ONE):
        self.api.change("PUT", f"/containers/{container}/proxy/permissions", document)

    def logged(self, url, **wanted):
        """The last line for a URL, once there is one with these fields."""
        def rows():
            return [row for row in self.api.get("/_logs?last=500").data["logs"]
                    if row.get("url", "").startswith(url) and all(row.get(name) == value for name, value in wanted.items())]
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


@case("the gate comes first: who may not sees no hook, whatever it would answer; a forward needs what its service needs, and gets no secret")
def _():
    with site() as it:
        key, other = ["-H", f"X-Key: {TOKEN}"], ["-H", f"X-Other: {TOKEN}2"]
        it.hooks({"http": [
            {"id": "reply", "match": {"path": "/reply"}, "actions": [{"reply": {"status": 200, "body": "from a hook"}}]},
            {"id": "limit", "match": {"path": "/limit"}, "actions": [{"limit": {"requests": 1, "seconds": 3600}}]},
            {"id": "exec", "match": {"path": "/terminal"}, "actions": [{"forward": {"program": "terminal", "index": 1}}]},
            {"id": "by-port", "match": {"path": "/by-port"}, "actions": [{"forward": {"port": 76}}]},
            {"id": "two", "match": {"path": "/two"}, "actions": [{"forward": {"container": TWO, "port": 3000}}, {"path": "/second"}]},
            {"id": "echo", "actions": [{"set": {"x-echo": "${path}"}}]}]})
        assert it.get("/reply").body == "from a hook"
        it.permissions({"default": "deny", "groups": {"ci": {"type": "token", "value": TOKEN, "header": "X-Key"}}, "permissions": {"ci": {"http": True, "terminal": False}}})
        eventually(lambda: it.get("/reply").status == 403, "a closed gate")
        for path in ("/reply?closed", "/limit", "/limit", "/terminal", "/two", "/"):
            answer = it.get(path)
            assert answer.status == 403 and "hook" not in answer.body, (path, answer.status)
        assert "hook" not in it.logged("/reply?closed")
        assert it.get("/reply", *key).body == "from a hook"
        seen = it.get("/x", *key).seen()
        assert seen.fields["x-echo"] == ["/x"] and "x-key" not in seen.fields
        # Those who may not were not counted.
        assert [it.get("/limit", *key).status for _ in range(2)] == [200, 429]
        # The terminal is not theirs, by its name or by its port.
        assert it.get("/terminal", *key).status == 403 and it.get("/by-port", *key).status == 403
        line = it.logged("/by-port", status=403)
        assert line["gateReason"] == "forward", line
        # Another container of the project is open, until it has a gate of its own.
        assert it.get("/two", *key).seen().at == AT[TWO]
        it.permissions({"default": "deny", "groups": {"o": {"type": "token", "value": TOKEN + "2", "header": "X-Other"},
                                                      "p": {"type": "token", "value": TOKEN + "2", "param": "o"},
                                                      "c": {"type": "token", "value": TOKEN + "2", "cookie": "o"}},
                        "permissions": {"o": {"http": True}, "p": {"http": True}, "c": {"http": True}}}, container=TWO)
        eventually(lambda: it.get("/two", *key).status == 403, "a closed gate at the second container")
        for args, query in ((other, ""), ([], f"&o={TOKEN}2"), (["-H", f"Cookie: a=b; o={TOKEN}2"], "")):
            seen = it.get(f"/two?q=1{query}", *key, *args).seen()
            assert seen.at == AT[TWO] and seen.target == "/second?q=1", seen.target
            assert TOKEN not in json.dumps(seen.fields), seen.fields
            assert seen.fields.get("cookie", ["a=b"]) == ["a=b"]
        assert TOKEN not in json.dumps(it.api.get("/_logs?last=500").data)
        # An answer that is too long for HAProxy is none, and nobody else's either.
        assert it.get("/two?pad=" + "x" * 8000 + f"&o={TOKEN}2", *key).status == 400
        # A password, for which the agent takes its time.
        it.permissions({"default": "deny", "groups": {"team": {"type": "password", "username": "ann", "password": "sesame"}}, "permissions": {"team": {"http": True, "terminal": True}}})
        eventually(lambda: it.get("/reply").status == 401, "a login")
        # 503: on a machine that is busy the agent may be late.
        assert eventually(lambda: (status := it.get("/reply", "-u", "ann:wrong").status) != 503 and status, "a word about the password") == 401
        assert it.get("/reply", "-u", "ann:sesame").body == "from a hook"
        seen = it.get("/terminal", "-u", "ann:sesame").seen()
        assert seen.port == 76 and "authorization" not in seen.fields


@case("attacks on requests: line ends by what a path fills in, paths that are read in two ways, patterns, heads and values without end")
def _():
    with site() as it:
        it.hooks({"http": [
            {"id": "echo", "match": {"path": "/echo/**"}, "actions": [{"set": {"x-echo": "${1}", "x-path": "${path}", "x-how": "${method}"}},
                                                                      {"set": {"x-echo": "${1}"}, "on": "response"}]},
            {"id": "to", "match": {"path": "/to/**"}, "actions": [{"reply": {"status": 302, "headers": {"location": "/at/${1}"}}}]},
            {"id": "v1", "match": {"path": {"prefix": "/v1"}}, "actions": [{"path": {"prefix": "/v1", "to": "/inner/public"}}]},
            {"id": "admin", "match": {"path": {"prefix": "/admin"}}, "actions": [{"reply": {"status": 403, "body": "not here"}}]},
            {"id": "stars", "match": {"path": "/" + "/".join(["a*a"] * 9)}, "actions": [{"reply": {"status": 200, "body": "stars"}}]},
            {"id": "headers", "match": {"headers": {"x-long": "a*b"}}, "actions": [{"reply": {"status": 200, "body": "long"}}]},
        ]})
        for bad in ("%0d%0aX-Evil:%201", "%0D%0A%0D%0AGET%20/x", "%00", "a%0ab", "%250d%250aX-Evil:1", "%e5%98%8a%e5%98%8dX-Evil:1", "\u010d\u010aX-Evil:1"):
            answer = it.get(f"/echo/{bad}")
            if answer.status != 200:  # HAProxy takes no such byte in a path
                assert answer.status == 400, (bad, answer.status)
                continue
            seen = answer.seen()
            assert "x-evil" not in seen.fields and "x-evil" not in answer.headers, (bad, answer.lines)
            assert len(seen.fields["x-echo"]) == 1 and not any(c < " " for c in seen.fields["x-echo"][0] + seen.fields["x-path"][0])
            moved = it.get(f"/to/{bad}")
            assert moved.status == 302 and "x-evil" not in moved.headers and moved.headers["location"].startswith("/at/"), moved.lines
        # No open redirect either: the form of a path has single slashes.
        assert it.get("/to//evil.example").headers["location"] == "/at/evil.example"
        # Bytes that a client cannot send.
        for start in (b"GET /echo/a\tb HTTP/1.1", b"GET /echo/\xff HTTP/1.1", b"GE\tT /echo/x HTTP/1.1", b"GET /echo/a\rX-Evil: 1 HTTP/1.1"):
            answer = it.raw(start + b"\r\nHost: HOST\r\nConnection: close\r\n\r\n")
            assert answer.status in (200, 400) and "x-evil" not in answer.headers, (start, answer.lines)
            assert answer.status == 400 or "x-evil" not in answer.seen().fields
        # A path that is read in two ways is not rewritten; what a hook closes is closed in whatever way it is written.
        for path in ("/v1/x/../secret", "/v1/x/%2e%2e/secret", "/v1/x/.%2E/secret", "/v1/a%2fb", "/v1/a%2Fb", "/v1/x/..%2fsecret", "/v1/%5c..%5csecret", "/v1/..;/x/y/..",
                     "/v1/a\\..\\b", "/v1/./x", "/./v1/x", "/x/../v1/y", "/v1/a%2etxt", "/v1/%zz"):
            answer = it.get(path)
            assert answer.status == 400 and "hook" in answer.body, (path, answer.status, answer.body)
        line = it.logged("/v1/x/../secret")
        assert line["reason"] == line["gate"] == "hook" and line["status"] == 400, line
        # What is not below /v1, in whatever way it is written, is none of the hook's.
        assert it.get("/v1/../secret").seen().target == "/v1/../secret"
        assert it.get("/v1/a%20b;c=d/e.f..g").seen().target == "/inner/public/a%20b;c=d/e.f..g"
        assert it.get("/%76%31/x").seen().target == "/inner/public/x"
        for path in ("/admin", "/admin/x", "/%61dmin", "//admin", "/./admin", "/x/../admin", "/x/%2e%2e/admin", "/x/..%2fadmin", "/%2fadmin/x", "/admin%2fx", "/admin/../admin"):
            answer = it.get(path)
            assert (answer.status, answer.body) == (403, "not here"), (path, answer.status)
        assert it.get("/administrator").status == 200
        # One look at each byte, however many stars there are and however long the path is.
        begun = time.monotonic()
        for n in (1, 3000):
            assert it.get("/" + "/".join(["a" + "a" * n + "a"] * 2) + "/" + "a" * 2000 + "b").status == 200
            assert it.get("/" + "/".join(["aaa"] * 9)).body == "stars"
        assert it.get("/", "-H", "X-Long: " + "ab" * 2500 + "c").status == 200
        assert it.get("/", "-H", "X-Long: " + "ab" * 2500).body == "long"
        assert time.monotonic() - begun < 15
        # What becomes too long for a field is no request for the service.
        assert it.get("/echo/" + "x" * 2100).status == 400 and it.get("/echo/" + "x" * 1500).status == 200
        assert it.get("/echo/x", "-H", "X-Big: " + "x" * 15000).status in (200, 431)


@case("attacks on documents: fields that are the edge's, other tenants, 4 MB, hosts and addresses; one that was changed on the disk lets nobody in")
def _():
    with site() as it:
        for name in ("Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "TE", "Trailer", "Keep-Alive", "Expect", "Transfer_Encoding", "content_length",
                     "X-Forwarded-For", "X_Forwarded_Host", "Forwarded", "X-Real-IP", "X-Hoody-User", "x_hoody_group", "True-Client-IP", "Proxy", "a b", "a:b", "a\r\nb", "", ":path"):
            for action in ({"set": {name: "1"}}, {"add": {name: "1"}}, {"del": name}, {"set": {name: "1"}, "on": "response"}, {"reply": {"status": 200, "headers": {name: "1"}}}):
                it.refused({"actions": [action]}, "actions.0")
        it.refused({"actions": [{"set": {"Alt-Svc": "h3"}, "on": "response"}]}, "alt-svc")
        for value in ("a\r\nb: c", "a\nb", "a\rb", "a\u0000b", "a\u007fb", "${1}", "${0}", "${header:x}", "${path", "x" * 2049):
            it.refused({"actions": [{"set": {"x-a": value}}]}, "")
        for where in ({"host": "evil.example"}, {"ip": "127.0.0.1", "port": 80}, {"url": "http://169.254.169.254/"}, {"port": 0}, {"port": 65536}, {"container": "x", "port": 80},
                      {"container": "../" * 8, "port": 80}, {"program": "a|b"}, {"program": "http"}, {"program": "terminal", "port": 1}, {}, {"container": TWO, "project": STRANGER, "port": 80}):
            it.refused({"actions": [{"forward": where}]}, "forward")
        for path in ("/../x", "/a/%2e%2e/b", "/a%2fb", "x", "/a?b", "/a b", "/a\nb", "//a", "/a/./b", "/%zz", "/a%5cb"):
            for hook in ({"match": {"path": {"prefix": path}}, "actions": [{"del": "x"}]}, {"actions": [{"path": path}]}, {"actions": [{"path": {"prefix": "/a", "to": path}}]}):
                it.refused(hook, "path")
        for pattern in ("/a**", "/**/b", "/*a*", "/" + "/".join("*" * 10)):
            it.refused({"match": {"path": pattern}, "actions": [{"del": "x"}]}, "match.path")
        for hook in ({"actions": []}, {}, {"actions": [{}]}, {"actions": [{"run": "sh"}]}, {"actions": [{"reply": {"status": 101}}]}, {"actions": [{"reply": {"status": 200, "body": "x" * 4097}}]},
                     {"actions": [{"limit": {"requests": 1, "seconds": 0}}]}, {"actions": [{"limit": {"requests": 1, "seconds": 3601}}]}, {"actions": [{"del": "x"}], "timeout": 1},
                     {"match": {"ip": "x"}, "actions": [{"del": "x"}]}, {"match": {"method": "GET\r\n"}, "actions": [{"del": "x"}]}, {"actions": [{"limit": {"requests": 1, "seconds": 1}}] * 3}):
            it.refused(hook)
        # Sizes: the API takes no such body, and what is there stays.
        version = it.api.get(f"/containers/{ONE}/proxy").version
        assert not version
        large = json.dumps({"hooks": {"http": [{"id": f"h{i}", "actions": [{"set": {"x-a": "y" * 1000}}]} for i in range(4000)]}})
        for text in (large, json.dumps({"hooks": {"http": [{"id": f"h{i}", "actions": [{"del": "x"}]} for i in range(33)]}}), '{"hooks": ' + "[" * 100000, '{"hooks": {"http": [' + '{"id": "a", ' * 20):
            try:
                assert it.api.ask("PUT", it.path(), version=0, raw=text).status in (400, 413)
            except (BrokenPipeError, ConnectionResetError):
                pass
        assert it.api.get(it.path()).data == {"hooks": {}, "file_version": 0}
        # The id of another tenant's container leads nowhere: the project of the visited one comes with it.
        it.hooks({"http": [{"id": "f", "match": {"path": "/foreign"}, "actions": [{"forward": {"container": FOREIGN, "port": 3000}}]},
                           {"id": "o", "match": {"path": "/off"}, "actions": [{"forward": {"container": TWO, "program": "web"}}]}]})
        assert it.get("/own", container=FOREIGN).seen().at == AT[FOREIGN]
        assert it.get("/foreign").status == 404 and it.logged("/foreign")["reason"] == "container"
        # What is switched off is so for hooks, too.
        assert it.get("/off").seen().at == AT[TWO]
        it.api.change("PATCH", f"/containers/{TWO}/proxy/services/web/state", {"enable_proxy": False})
        eventually(lambda: it.get("/off").status == 503, "a service that is off")
        # Documents that the API has not seen.
        file = it.server.path(f"{it.folder}/state/container/{ONE}.json")
        assert it.edge.end() == 0
        with open(file, encoding="utf-8") as f:
            document = json.load(f)
        for hooks in ({"http": [{"id": "x", "actions": [{"set": {"transfer-encoding": "chunked"}}]}]}, {"http": [{"id": "x", "actions": [{"set": {"x": "a\r\nb: c"}}]}]},
                      {"http": [{"id": f"h{i}", "actions": [{"set": {"x-a": "y" * 1000}}]} for i in range(3000)]}):
            with open(file, "w", encoding="utf-8") as f:
                json.dump({**document, "hooks": hooks}, f)
            it.edge = it.server.start(BIN, "edge", "up", "--domain", DOMAIN, "--id", "node1", "--folder", it.folder, "--containers", "/tmp/book.json", "--log-level", "info")
            it.edge.wait_line("let nobody in")
            it.edge.wait_line(r"is served by HAProxy \d")
            eventually(lambda: it.get(container=TWO).status == 200, "another container")
            assert it.get().status == 403
            assert it.edge.end() == 0
        with open(file, "w", encoding="utf-8") as f:
            json.dump(document, f)
        it.edge = it.server.start(BIN, "edge", "up", "--domain", DOMAIN, "--id", "node1", "--folder", it.folder, "--containers", "/tmp/book.json")
        it.edge.wait_line(r"is served by HAProxy \d")
        eventually(lambda: it.get("/foreign").status == 404, "the hooks as they were")


@case("limits count a visitor for a hook alone, and say when again; a timeout ends an answer; while the agent is away, hooks close, and nothing else does")
def _():
    with site() as it:
        it.hooks({"http": [
            {"id": "hour", "match": {"path": "/hour"}, "actions": [{"limit": {"requests": 3, "seconds": 3600}}]},
            {"id": "short", "match": {"path": "/short"}, "actions": [{"limit": {"requests": 2, "seconds": 2}}]},
            {"id": "closed", "match": {"path": "/short", "headers": {"x-reply": True}}, "actions": [{"reply": {"status": 200, "body": "a reply"}}]},
            {"id": "slow", "match": {"path": "/quick/**"}, "actions": [{"path": {"prefix": "/quick", "to": "/"}}], "timeout": 400}]})
        # A span of an hour may end in between: then there are a few more.
        some = [it.get("/hour").status for _ in range(8)]
        assert set(some) == {200, 429} and 3 <= some.count(200) <= 6, some
        late, when = it.get("/hour"), time.monotonic()
        assert late.status == 429 and 0 < int(late.headers["retry-after"]) <= 3600 and late.headers["cache-control"] == "no-store", late.lines
        line = it.logged("/hour", status=429)
        assert line["reason"] == "limit_1" and line["hook"] == "http/hour", line
        assert it.get("/hour", "--interface", AT[TWO]).status == 200, "another visitor"
        assert it.get("/hour", container=TWO).status == 200 and it.get("/other").status == 200
        for _ in range(2):
            eventually(lambda: it.get("/short").status == 429, "too many")
            assert it.get("/short", "-H", "X-Reply: 1").status in (200, 429)
            eventually(lambda: it.get("/short", "-H", "X-Reply: 1").body == "a reply", "the next span")
        # The service answers after 1.5 s: nothing else than the hook is less patient.
        assert it.get("/quick/slow").status == 504
        assert it.get("/slow").status == 200
        # Away.
        os.kill(it.edge.inner, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            answer = it.get("/hour")
            assert answer.status == 503 and answer.headers["retry-after"] == "2" and time.monotonic() - begun < 10, answer.lines
            assert it.get("/hour", container=TWO).status == 200
        finally:
            os.kill(it.edge.inner, signal.SIGCONT)
            os.kill(it.edge.pid, signal.SIGCONT)
        eventually(lambda: it.get("/other").status == 200, "the agent again")
        # What was counted is not forgotten with the agent.
        status = it.get("/hour").status
        assert status == 429 or time.monotonic() - when > int(late.headers["retry-after"]) - 1, status


@case("who is where a hook leads to goes when the visited container is closed, switched off, or the hook leads there no more")
def _():
    with site() as it:
        lead = {"http": [{"id": "two", "match": {"path": {"prefix": "/two"}}, "actions": [{"forward": {"container": TWO, "port": 3000}}]}]}

        def ends(change):
            it.hooks(lead)
            visitor = it.follow("/two/stream")
            change()
            eventually(lambda: visitor.process.poll() is not None, "the end of the stream")

        ends(lambda: it.api.change("DELETE", it.path()))
        ends(lambda: it.hooks({}))
        ends(lambda: it.api.change("PATCH", f"/containers/{ONE}/proxy/permissions/state", {"enable_proxy": False}))
        it.api.change("PATCH", f"/containers/{ONE}/proxy/permissions/state", {"enable_proxy": True})
        eventually(lambda: it.get().status == 200, "on again")
        ends(lambda: it.permissions({"default": "deny"}))
        assert it.get("/two/x").status == 403
        it.api.change("DELETE", f"/containers/{ONE}/proxy/permissions")
        eventually(lambda: it.get("/two/x").status == 200, "open again")


@case("the API: positions, ids, versions, what is not there, lines of the audit")
def _():
    with site() as it:
        base = it.path()
        ask, change = it.api.ask, it.api.change
        acts = [{"del": "x-a"}]
        assert it.api.get(base).data == {"hooks": {}, "file_version": 0} and it.api.get(f"{base}/http").data == {"service": "http", "hooks": [], "file_version": 0}
        made = change("POST", f"{base}/http", {"actions": acts}).data
        assert (made["id"], made["position"], made["file_version"], made["actions"]) == ("hook-1", 0, 1, acts), made
        assert change("POST", f"{base}/http", {"id": "first", "position": 0, "match": {"path": "/x"}, "actions": acts}).data["position"] == 0
        assert change("POST", f"{base}/http", {"actions": acts, "timeout": 500}).data["id"] == "hook-2"
        assert ask("POST", f"{base}/http", {"id": "first", "actions": acts}, 3).status == 400
        got = it.api.get(f"{base}/http/hook-2")
        assert got.data == {"service": "http", "id": "hook-2", "position": 2, "actions": acts, "timeout": 500, "file_version": 3} and got.version == 3
        assert change("PUT", f"{base}/http/first", {"actions": [{"del": "x-b"}]}).data["position"] == 0, "it stays where it is"
        assert change("PATCH", f"{base}/http/first/position", {"position": 9}).data["position"] == 2
        assert [h["id"] for h in it.api.get(f"{base}/http").data["hooks"]] == ["hook-1", "hook-2", "first"]
        assert change("PUT", f"{base}/%2A/all", {"actions": acts}).data["service"] == "*"
        assert [h["id"] for h in change("DELETE", f"{base}/http/hook-1").data["hooks"]] == ["hook-2", "first"]
        assert set(it.api.get(base).data["hooks"]) == {"http", "*"}
        assert it.api.get(f"{base}/*/all").status == 200
        version = it.api.get(base).version
        for method, path, body, status in (("GET", "/http/none", None, 404), ("DELETE", "/http/none", None, 404), ("PATCH", "/http/none/position", {"position": 0}, 404),
                                           ("DELETE", "/terminal", None, 404), ("PUT", "/http/A", {"actions": acts}, 400), ("PUT", "/ht tp/a".replace(" ", "%20"), {"actions": acts}, 400),
                                           ("PUT", "/http/a", {"actions": acts, "id": "a"}, 400), ("PUT", "/http/a", {"actions": acts, "position": "1"}, 400),
                                           ("PUT", "", {"hooks": []}, 400), ("PUT", "/http", {"hooks": {}}, 400), ("PUT", "/http", {"hooks": [{"actions": acts}]}, 400),
                                           ("PUT", "/http", {"hooks": [{"id": "a", "actions": acts}] * 2}, 400), ("POST", "/http/first", {}, 405)):
            assert ask(method, base + path, body, version).status == status, (method, path, ask(method, base + path, body, version))
        assert ask("PUT", f"{base}/http/a", {"actions": acts}).status == 428 and ask("PUT", f"{base}/http/a", {"actions": acts}, version - 1).status == 412
        assert it.api.get(base).version == version
        # Permissions and hooks are parts of one document.
        it.permissions({"default": "allow"})
        assert set(it.api.get(base).data["hooks"]) == {"http", "*"}
        assert change("DELETE", f"{base}/http").data["hooks"] == [] and change("DELETE", base).data["hooks"] == {}
        assert ask("DELETE", base, version=it.api.get(base).version).status == 404
        with open(it.server.path(f"{it.folder}/audit.log"), encoding="utf-8") as f:
            done = [line for line in f if "hook" in line]
        assert all(any(what in line for line in done) for what in ("hookAdd", "hookPut", "hookMove", "hookDelete", "hookListDelete", "hooksDelete")), done


if __name__ == "__main__":
    main()
