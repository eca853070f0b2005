"""A server with an edge whose containers have permissions, and another machine that is container and visitor, for tests."""

import contextlib
import json

from tests.integration.edges import is_there, needs_haproxy
from tests.integration.harness import BIN, eventually, run
from tests.integration.machines import container_and_laptop

DOMAIN = "example.com"
PROJECT, CONTAINER, OTHER = "67e89abc123def456789abcd", "890abcdef12345678901cdef", "0123456789abcdef01234567"
HERE = "192.0.2.2"  # the visitor

SERVICE = '''
import http.server, json, sys, time
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            while True:
                self.wfile.write(b"tick\\n")
                time.sleep(0.05)
        body = json.dumps({"target": self.path, "headers": [[k.lower(), v] for k, v in self.headers.items()]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("192.0.2.2", 76), H).serve_forever()
'''


def password_hash(password):
    return run(["sh", "-c", f"printf '%s\\n' {password} | {BIN} password new ann"]).strip().split(":", 1)[1]


class Answer:
    def __init__(self, text):
        head, _, self.body = text.partition("\r\n\r\n")
        lines = head.split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}

    def seen(self):
        """What the service got: the target, and the values of a field by name."""
        doc = json.loads(self.body)
        fields = {}
        for name, value in doc["headers"]:
            fields.setdefault(name, []).append(value)
        return doc["target"], fields


class Site:
    def __init__(self, server, container):
        self.server, self.container, self.edge = server, container, None
        self.folder = "/tmp/edge"

    def permissions(self, document, kind="container", key=CONTAINER):
        """Before the start: the document's permissions, as the API would have written them."""
        self.server.run("mkdir", "-p", f"{self.folder}/state/{kind}", "-m", "700")
        self.server.run("chmod", "700", self.folder, f"{self.folder}/state")
        self.server.write(f"{self.folder}/state/{kind}/{key}.json", json.dumps({"file_version": 1, "permissions": document}))

    def start(self, *containers):
        book = [{"project": PROJECT, "container": c, "address": HERE, "services": {"web": 76}} for c in containers or (CONTAINER, OTHER)]
        self.server.write("/tmp/book.json", json.dumps({"containers": book}))
        self.edge = self.server.start(BIN, "edge", "up", "--domain", DOMAIN, "--id", "node1", "--folder", self.folder, "--containers", "/tmp/book.json",
                                      "--log-level", "info")
        self.edge.wait_line(r"is served by HAProxy \d")
        with open(self.server.path(f"{self.folder}/ca/ca.pem"), encoding="ascii") as f:
            self.container.write("/tmp/ca.pem", f.read())
        return self

    def get(self, path="/", *more, service="terminal-1", container=CONTAINER, version="--http1.1"):
        host = f"{PROJECT}-{container}-{service}.node1.containers.{DOMAIN}"
        out = self.container.run("curl", "-s", "-S", "-i", version, "--path-as-is", "--max-time", "20", "--cacert", "/tmp/ca.pem", "--resolve",
                                 f"{host}:443:192.0.2.1", *more, f"https://{host}{path}")
        return Answer(out.replace("HTTP/1.1 100 Continue\r\n\r\n", ""))

    def follow(self, *more, container=CONTAINER):
        """A visitor whose answer does not end, once it has lasted longer than what an earlier change may still cut."""
        host = f"{PROJECT}-{container}-terminal-1.node1.containers.{DOMAIN}"
        argv = ["curl", "-s", "-S", "-N", "--cacert", "/tmp/ca.pem", "--resolve", f"{host}:443:192.0.2.1", *more, f"https://{host}/stream"]

        def begun():
            visitor = self.container.start(*argv)
            with contextlib.suppress(AssertionError):
                for _ in range(30):
                    visitor.wait_line("tick")
                return visitor
            visitor.end()
            return None
        return eventually(begun, "an answer that does not end")

    def status(self, *args, **more):
        return self.get(*args, **more).status

    def becomes(self, status, *args, **more):
        """After a change, which also ends what is under way: a request of that moment may be cut."""
        def asked():
            with contextlib.suppress(AssertionError):
                return self.status(*args, **more) == status
            return False
        eventually(asked, f"{status} of {args} {more}")

    def bearer(self, token, **more):
        return self.get("/", "-H", f"Authorization: Bearer {token}", **more)


@contextlib.contextmanager
def site():
    needs_haproxy()
    with container_and_laptop() as (server, container):
        service = container.start("/usr/bin/python3", "-c", SERVICE)
        it = Site(server, container)
        eventually(lambda: container.run("sh", "-c", "curl -s http://192.0.2.2:76/ || true"), "the service")
        yield it
        if it.edge:
            assert it.edge.end() == 0, it.edge.text()
        service.end()
        eventually(lambda: not any(map(is_there, server.processes())), "no process on the server")
