"""A server with an edge, aliases, and two containers of two projects, for tests: each of their services answers with where it is and what it sees."""

import contextlib
import json
import socket
import time

from tests.integration.edge_api import Api
from tests.integration.edges import is_there, needs_haproxy
from tests.integration.harness import BIN, eventually
from tests.integration.machines import container_and_laptop

DOMAIN = "example.com"
SUFFIX = f"node1.containers.{DOMAIN}"
PROJECT, ONE, TWO = "67e89abc123def456789abcd", "890abcdef12345678901cdef", "0123456789abcdef01234567"
STRANGER, THEIRS = "aaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbb"  # another project and its container
PLACES = {ONE: "192.0.2.2", TWO: "192.0.2.3", THEIRS: "192.0.2.4"}
ALIASES = "/api/v1/proxy/aliases"

SERVICE = '''
import http.server, json, sys, threading, time
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path.endswith("/stream"):
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            while True:
                self.wfile.write(b"tick\\n")
                time.sleep(0.05)
        body = json.dumps({"at": "%s:%d" % self.server.server_address, "target": self.path,
                           "headers": [[k.lower(), v] for k, v in self.headers.items()]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *a): pass
for where in sys.argv[1:]:
    host, _, port = where.partition(":")
    threading.Thread(target=http.server.ThreadingHTTPServer((host, int(port)), H).serve_forever).start()
print("ready", flush=True)
'''


class Answer:
    def __init__(self, text):
        head, _, self.body = text.partition("\r\n\r\n")
        lines = head.split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}

    def __repr__(self):
        return f"{self.status} {self.body!r}"

    @property
    def at(self):
        """Where the service is that has answered."""
        return json.loads(self.body)["at"]

    @property
    def target(self):
        return json.loads(self.body)["target"]

    @property
    def fields(self):
        """The values of the fields that the service has seen, by name."""
        found = {}
        for name, value in json.loads(self.body)["headers"]:
            found.setdefault(name, []).append(value)
        return found


class Site:
    folder = "/tmp/edge"

    def __init__(self, server, visitor):
        self.server, self.visitor, self.edge, self.api = server, visitor, None, None

    def document(self, kind, key, **parts):
        """Before the start: a document, as the API would have written it, or not."""
        self.server.run("mkdir", "-p", f"{self.folder}/state/{kind}", "-m", "700")
        self.server.run("chmod", "700", self.folder, f"{self.folder}/state")
        self.server.write(f"{self.folder}/state/{kind}/{key}.json", json.dumps({"file_version": 1, **parts}))

    def start(self, *more, known=True):
        self.edge = self.server.start(BIN, "edge", "up", "--domain", DOMAIN, "--id", "node1", "--folder", self.folder, "--log-level", "info", *more)
        self.edge.wait_line(r"is served by HAProxy \d")
        with open(self.server.path(f"{self.folder}/ca/ca.pem"), encoding="ascii") as f:
            self.visitor.write("/tmp/ca.pem", f.read())
        self.api = Api(self.server.path(f"{self.folder}/run/api.sock"))
        for container, address in PLACES.items() if known else ():
            self.api.change("PUT", f"/containers/{container}/proxy/address", {"ip": address, "project_id": STRANGER if container == THEIRS else PROJECT})
        return self

    def alias(self, name, container=ONE, program="http", **more):
        """A new alias, which must come about; of http its port is 8000."""
        body = {"alias": name, "container_id": container, "program": program, **({"port": 8000} if program == "http" else {}), **more}
        made = self.api.ask("POST", ALIASES, body)
        assert made.status == 200 and made.version == made.data["file_version"], made
        return made.data["id"]

    def change(self, key, body, method="PATCH", below=""):
        version = self.api.get(f"{ALIASES}/{key}").version
        answer = self.api.ask(method, f"{ALIASES}/{key}{below}", body, version)
        assert answer.status == 200, answer
        return answer

    def get(self, host, path="/", *more, version="--http1.1"):
        """A visitor's request. A host without a dot is an alias. For a domain, whose certificate nobody has made here, -k is in `more`."""
        host = host if "." in host else f"{host}.{SUFFIX}"
        return Answer(self.visitor.run("curl", "-s", "-S", "-i", version, "--path-as-is", "--max-time", "20", "--cacert", "/tmp/ca.pem", "--resolve",
                                       f"{host}:443:192.0.2.1", *more, f"https://{host}{path}"))

    def until(self, status, host, path="/", *more, at=None):
        """What an alias's change has to lead to; a request of that moment may be cut."""
        last = []

        def asked():
            with contextlib.suppress(AssertionError):
                last[:] = [self.get(host, path, *more)]
                return last[0].status == status and (at is None or last[0].at == at) and last[0]
            return None
        try:
            return eventually(asked, f"{status} of {host}{path} at {at}")
        except AssertionError as e:
            raise AssertionError(f"{e}: {last}") from e

    def follow(self, host, *more):
        """A visitor whose answer has no end, once it has lasted longer than what an earlier change may still cut."""
        host = host if "." in host else f"{host}.{SUFFIX}"
        argv = ["curl", "-s", "-S", "-N", "--cacert", "/tmp/ca.pem", "--resolve", f"{host}:443:192.0.2.1", *more, f"https://{host}/stream"]

        def begun():
            visitor = self.visitor.start(*argv)
            with contextlib.suppress(AssertionError):
                for _ in range(25):
                    visitor.wait_line("tick")
                return visitor
            visitor.end()
            return None
        return eventually(begun, "an answer that does not end")

    def map(self, name="hosts"):
        """{key: value} of what HAProxy has."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.server.path(f"{self.folder}/run/admin.sock"))
            s.sendall(f"show map {self.folder}/haproxy/maps/{name}.map\n".encode())
            said = b""
            while more := s.recv(65536):
                said += more
        return dict(line.split(" ", 2)[1:] for line in said.decode().splitlines() if line.startswith("0x"))

    @staticmethod
    def long(container=ONE, service="http-8000"):
        return f"{STRANGER if container == THEIRS else PROJECT}-{container}-{service}.{SUFFIX}"


def ends(visitor):
    begun = time.monotonic()
    eventually(lambda: visitor.process.poll() is not None, "the end of a live connection")
    took = time.monotonic() - begun
    assert took < 10, took  # a busy machine's second


@contextlib.contextmanager
def site():
    needs_haproxy()
    with container_and_laptop() as (server, visitor):
        for address in list(PLACES.values())[1:]:
            visitor.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        service = visitor.start("/usr/bin/python3", "-c", SERVICE, *(f"{address}:{port}" for address in PLACES.values() for port in (8000, 76, 9000)))
        service.wait_line("ready")
        it = Site(server, visitor)
        yield it
        if it.edge:
            assert it.edge.end() == 0, it.edge.text()
            it.edge.check_sanitizers()
        service.end()
        eventually(lambda: not any(map(is_there, server.processes())), "no process on the server")
