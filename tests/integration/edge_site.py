"""An edge on a server with two containers, and what lives in them: a service that answers as its target says, and a visitor."""

import contextlib
import http.client
import json
import socket
import ssl

from tests.integration.edge_api import Api
from tests.integration.edges import is_there, needs_haproxy
from tests.integration.harness import BIN, eventually, run
from tests.integration.machines import container_and_laptop

DOMAIN = "example.com"
PROJECT, CONTAINER, OTHER = "67e89abc123def456789abcd", "890abcdef12345678901cdef", "0123456789abcdef01234567"
HERE, THERE = "192.0.2.2", "192.0.2.3"  # CONTAINER, and visitors; OTHER
PORT, DROPS, BRIEF = 76, 77, 78  # DROPS: closes a connection in place of its second answer. BRIEF: closes one after milliseconds

# h-NAME=VALUE in the query is a field of the answer, status=N its status, size=N bytes more; with encode=1 its encoding is what was asked for. Each answer says which one it is of all.
SERVICE = '''
import http.server, json, random, sys, threading, urllib.parse
lock, seen = threading.Lock(), {"requests": 0, "connections": 0, "hangs": 0}
class H(http.server.BaseHTTPRequestHandler):
    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"
    def setup(self):
        super().setup()
        self.asked = 0
        with lock:
            seen["connections"] += 1
    def handle_one_request(self):
        if self.server.server_port == 78:
            self.connection.settimeout(random.uniform(0.01, 0.1) if self.asked else 10)
        super().handle_one_request()
    def take_body(self):
        if self.headers.get("Content-Length"):
            return self.rfile.read(int(self.headers["Content-Length"]))
        got = b""
        while self.headers.get("Transfer-Encoding") and (n := int(self.rfile.readline(), 16)):
            got += self.rfile.read(n + 2)[:-2]
        if self.headers.get("Transfer-Encoding"):
            self.rfile.readline()
        return got
    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qsl(parts.query)
        self.asked += 1
        if self.server.server_port == 77 and self.asked > 1:
            self.close_connection = True
            return
        if parts.path == "/hang":
            with lock:
                seen["hangs"] += 1
            threading.Event().wait(30)
        if parts.path == "/broken":
            self.close_connection = True
            self.wfile.write(b"this is no HTTP\\r\\n\\r\\n")
            return
        sent = self.take_body().decode()
        with lock:
            seen["requests"] += parts.path != "/seen"
            body = dict(seen)
        at = self.connection.getsockname()
        body |= {"n": body["requests"], "at": at[0], "port": at[1], "target": self.path, "method": self.command, "body": sent,
                 "headers": [[k.lower(), v] for k, v in self.headers.items()]}
        more = dict(query)
        text = json.dumps(body).encode() + b" " * int(more.get("size", 0))
        self.send_response(int(more.get("status", 200)))
        for name, value in query:
            if name.startswith("h-"):
                self.send_header(name[2:], value)
        if "encode" in more and self.headers.get("Accept-Encoding"):
            self.send_header("Content-Encoding", self.headers["Accept-Encoding"])
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)
    do_POST = do_PUT = do_HEAD = do_DELETE = do_GET
    def log_message(self, *a): pass
class S(http.server.ThreadingHTTPServer):
    request_queue_size = 512
servers = [S((a, p), H) for a in ("192.0.2.2", "192.0.2.3") for p in [76, 77, 78, *map(int, sys.argv[1:])]]
for s in servers[1:]:
    threading.Thread(target=s.serve_forever, daemon=True).start()
print("serves", flush=True)
servers[0].serve_forever()
'''


class Answer:
    def __init__(self, response, body):
        self.status, self.body = response.status, body
        self.fields = [(k.lower(), v) for k, v in response.getheaders()]
        self.headers = dict(self.fields)
        self.text = body.decode(errors="replace")

    @property
    def n(self):
        """Which one of the service's answers this is."""
        return json.loads(self.body)["n"]

    def seen(self):
        return json.loads(self.body)

    @property
    def cache(self):
        """The last member of Cache-Status."""
        return self.headers.get("cache-status", "").split(", ")[-1].partition("hoody-tunnel; ")[2]

    def __repr__(self):
        return f"{self.status} {self.fields} {self.text[:300]}"


def host_of(service="terminal-1", container=CONTAINER, project=PROJECT):
    return f"{project}-{container}-{service}.node1.containers.{DOMAIN}"


class Site:
    def __init__(self, server, container):
        self.server, self.container, self.edge, self.api, self.context = server, container, None, None, None
        self.folder = "/tmp/edge"

    def start(self, *args, projects=None):
        book = [{"project": PROJECT, "container": c, "address": a, "services": {"web": PORT, "drops": DROPS, "brief": BRIEF}} for c, a in ((CONTAINER, HERE), (OTHER, THERE))]
        self.server.write("/tmp/book.json", json.dumps({"containers": book}))
        self.edge = self.server.start(BIN, "edge", "up", "--domain", DOMAIN, "--id", "node1", "--folder", self.folder, "--containers", "/tmp/book.json",
                                      "--log-level", "info", *args)
        self.edge.wait_line(r"is served by HAProxy \d")
        self.api = Api(self.server.path(f"{self.folder}/run/api.sock"))
        self.context = ssl.create_default_context(cafile=self.server.path(f"{self.folder}/ca/ca.pem"))
        with open(self.server.path(f"{self.folder}/ca/ca.pem"), encoding="ascii") as f:
            self.container.write("/tmp/ca.pem", f.read())
        return self

    def connect(self, name):
        with self.container.network():
            raw = socket.create_connection(("192.0.2.1", 443), timeout=20)
        return self.context.wrap_socket(raw, server_hostname=name)

    def ask(self, path="/", headers=(), service="terminal-1", container=CONTAINER, method="GET", host=None, body=None, version="HTTP/1.1"):
        """A request over a connection of its own. `headers`: (name, value). `path` as it is; `host` in place of the name's own."""
        name = host_of(service, container)
        lines = [f"{method} {path} {version}", f"Host: {host or name}", *(f"{k}: {v}" for k, v in headers), "Connection: close"]
        with self.connect(name) as s:
            s.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + (body or b""))
            response = http.client.HTTPResponse(s, method=method)
            response.begin()
            return Answer(response, response.read())

    def h2(self, path="/", *more, service="terminal-1", container=CONTAINER):
        """With curl: the body alone."""
        name = host_of(service, container)
        return self.container.run("curl", "-s", "-S", "--http2", "--path-as-is", "--max-time", "20", "--cacert", "/tmp/ca.pem", "--resolve",
                                  f"{name}:443:192.0.2.1", *more, f"https://{name}{path}")

    def settings(self, document, container=CONTAINER):
        return self.api.change("PUT", f"/containers/{container}/proxy/settings", document)

    def admin(self, command):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.server.path(f"{self.folder}/run/admin.sock"))
            s.sendall(command.encode() + b"\n")
            got = b""
            while more := s.recv(65536):
                got += more
            return got.decode()

    def rows(self, **wanted):
        return [row for row in self.api.get("/_logs?limit=1000").data["logs"] if all(row.get(k) == v for k, v in wanted.items())]


@contextlib.contextmanager
def site(*ports):
    """`ports`: more of them for the service of either container."""
    needs_haproxy()
    with container_and_laptop() as (server, container):
        container.run("ip", "addr", "add", f"{THERE}/24", "dev", "eth0")
        service = container.start("/usr/bin/python3", "-c", SERVICE, *map(str, ports))
        service.wait_line("serves")
        it = Site(server, container)
        yield it
        if it.edge and it.edge.process.poll() is None:
            assert it.edge.end() == 0, it.edge.text()
        service.end()
        eventually(lambda: not any(map(is_there, server.processes())), "no process on the server")


__all__ = ["BRIEF", "CONTAINER", "DOMAIN", "DROPS", "HERE", "OTHER", "PORT", "PROJECT", "THERE", "Answer", "Site", "host_of", "run", "site"]
