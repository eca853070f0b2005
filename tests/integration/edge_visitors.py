"""A server with an edge, a container behind it and visitors before it, each a machine of its own, for tests of who the visitor is."""

import contextlib
import json
import os
import shutil

from tests.integration.edges import is_there, needs_haproxy
from tests.integration.harness import BIN, ROOT, eventually, run
from tests.integration.machines import namespaces
from tests.support.tap import Skip

DOMAIN = "example.com"
PROJECT, CONTAINER, SECOND = "67e89abc123def456789abcd", "890abcdef12345678901cdef", "0123456789abcdef01234567"
SERVER, VISITOR, OTHER = "203.0.113.1", "203.0.113.50", "203.0.113.51"
SERVER6, VISITOR6 = "2001:db8:1::1", "2001:db8:1::50"
GATEWAY, ADDRESS, GATEWAY6, ADDRESS6 = "10.77.0.1", "10.77.0.2", "fd77::1", "fd77::2"
ROUTES = os.path.join(ROOT, "packaging", "hoody-tunnel-edge-routes")

# Answers with what it sees of a request: its peer, the PROXY header before it if there was one, the head's fields.
ECHO = r'''
import http.server, json, socket, socketserver, sys
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 256
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxied = None
    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.rfile.peek(12)[:12] == b"\r\n\r\n\0\r\nQUIT\n":
            head = self.rfile.read(16)
            rest = self.rfile.read(int.from_bytes(head[14:16], "big"))
            self.proxied = {0x11: lambda: socket.inet_ntop(socket.AF_INET, rest[:4]), 0x21: lambda: socket.inet_ntop(socket.AF_INET6, rest[:16])}[head[13]]()
    def do_GET(self):
        body = json.dumps({"from": self.client_address[0].replace("::ffff:", ""), "proxied": self.proxied, "path": self.path,
                           "fields": [[k.lower(), v] for k, v in self.headers.items()]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
s = Server(("::", int(sys.argv[1])), Answer, False)
s.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.server_bind(); s.server_activate(); print("listens", flush=True); s.serve_forever()
'''

# Many requests from an address, each answer's view of it compared: prints how many there were, and how many were wrong.
LOAD = r'''
import http.client, json, socket, ssl, sys, threading
host, server, each, connections, *addresses = sys.argv[1:]
context = ssl.create_default_context(cafile="/tmp/ca.pem")
wrong = total = 0
lock = threading.Lock()
def go(address):
    global wrong, total
    for _ in range(int(connections)):
        raw = socket.create_connection((server, 443), timeout=30, source_address=(address, 0))
        k = http.client.HTTPSConnection(host, 443, context=context)
        k.sock = context.wrap_socket(raw, server_hostname=host)
        for _ in range(int(each)):
            k.request("GET", "/")
            seen = json.loads(k.getresponse().read())
            with lock:
                total += 1
                wrong += seen["from"] != address or dict(seen["fields"])["x-forwarded-for"] != address
        k.close()
threads = [threading.Thread(target=go, args=(a,)) for a in addresses]
[t.start() for t in threads]; [t.join() for t in threads]
print(total, wrong)
'''

AS_USER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def with_caps(*names):
    caps = ",".join("+" + n for n in names)
    return (*AS_USER, f"--inh-caps={caps}", f"--ambient-caps={caps}", "--bounding-set=-all," + caps)


class Site:
    def __init__(self, server, container, visitor):
        self.server, self.container, self.visitor, self.edge = server, container, visitor, None
        one = {"project": PROJECT, "container": CONTAINER, "address": ADDRESS}
        server.write("/tmp/book.json", json.dumps({"containers": [one, {**one, "container": SECOND, "address": ADDRESS6}]}))

    def args(self, *more):
        return ("--domain", DOMAIN, "--id", "node1", "--folder", "/tmp/edge", *more)

    def start(self, *more, as_user=(), env=None):
        self.edge = self.server.start(*as_user, BIN, "edge", "up", *self.args("--containers", "/tmp/book.json", *more), env=env)
        self.edge.wait_line(r"is served by HAProxy \d")
        authority = self.server.path("/tmp/edge/ca/ca.pem")
        if not os.path.exists(authority):
            return self.edge
        with open(authority, encoding="ascii") as f:
            text = f.read()
        for machine in (self.visitor, self.container, self.server):
            machine.write("/tmp/ca.pem", text)
        return self.edge

    def tproxy(self, *more):
        self.server.run(ROUTES, "up")
        return self.start("--client-address", "tproxy", "--container-network", "10.77.0.0/16", "--container-network", "fd77::/64", *more,
                          as_user=with_caps("net_admin", "net_bind_service"))

    @staticmethod
    def host(container=CONTAINER, service="http-3000"):
        return f"{PROJECT}-{container}-{service}.node1.containers.{DOMAIN}"

    def curl(self, *more, machine=None, host=None, at=SERVER, path="/"):
        """(status, body); status 0: there was no answer, and body is what curl says."""
        host = host or self.host()
        out = (machine or self.visitor).run("sh", "-c", '"$@" 2>&1 || echo 000', "-", "curl", "-s", "-S", "--max-time", "20", "--cacert", "/tmp/ca.pem",
                                            "--resolve", f"{host}:443:{f'[{at}]' if ':' in at else at}", "-w", "\n%{http_code}", *more,
                                            f"https://{host}{path}")
        body, _, status = out.rstrip("\n").rpartition("\n")
        return int(status), body

    def seen(self, *more, **how):
        """What the container's service has seen of a request."""
        status, body = self.curl(*more, **how)
        assert status == 200, (status, body)
        return Seen(json.loads(body))


class Seen:
    def __init__(self, what):
        self.peer, self.proxied, self.path = what["from"], what["proxied"], what["path"]
        self.fields = {}
        for name, value in what["fields"]:
            self.fields.setdefault(name, []).append(value)

    def one(self, name):
        assert len(self.fields[name]) == 1, self.fields
        return self.fields[name][0]


def cable(one, its_name, its_addresses, other, name, addresses):
    run(["nsenter", "-t", str(one.pid), "-n", "--", "ip", "link", "add", its_name, "type", "veth", "peer", "name", name, "netns", str(other.pid)])
    for machine, link, all_of in ((one, its_name, its_addresses), (other, name, addresses)):
        for address in all_of:
            machine.run("ip", "addr", "add", address, "dev", link, *(["nodad"] if ":" in address else []))
        machine.run("ip", "link", "set", link, "up")


@contextlib.contextmanager
def site(services=("3000",)):
    needs_haproxy()
    with namespaces(3) as (server, container, visitor):
        cable(server, "vis", [f"{SERVER}/24", f"{SERVER6}/64"], visitor, "eth0", [f"{VISITOR}/24", f"{OTHER}/24", f"{VISITOR6}/64"])
        cable(server, "cont", [f"{GATEWAY}/16", f"{GATEWAY6}/64"], container, "eth0", [f"{ADDRESS}/16", f"{ADDRESS6}/64"])
        container.run("ip", "route", "add", "default", "via", GATEWAY)
        container.run("ip", "-6", "route", "add", "default", "via", GATEWAY6)
        container.write("/tmp/echo.py", ECHO)
        visitor.write("/tmp/load.py", LOAD)
        started = [container.start("/usr/bin/python3", "/tmp/echo.py", port) for port in services]
        for service in started:
            service.wait_line("listens")
        it = Site(server, container, visitor)
        yield it
        if it.edge:
            assert it.edge.end() == 0, it.edge.text()
            it.edge.check_sanitizers()
        for service in started:
            service.end()
        eventually(lambda: not any(map(is_there, server.processes())), "no process on the server")


def needs_tproxy():
    if not shutil.which("nft") and not os.path.exists("/usr/sbin/nft"):
        raise Skip("nftables is not installed")


def needs_caddy():
    if not shutil.which("caddy"):
        raise Skip("caddy is not installed")
