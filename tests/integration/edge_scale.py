"""A large edge, for tests: documents of many containers, services and aliases, changes one at a time and in a burst, and how long each takes to have
effect. Everything is in a network namespace of its own, and the containers' services are in another."""

import contextlib
import http.client
import json
import os
import re
import selectors
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.integration.edge_api import BASE, Api
from tests.integration.edges import DOMAIN, Edge
from tests.integration.harness import eventually, run
from tests.integration.machines import CLONE_NEWNET, LIBC

PROJECTS = 100
SERVICES = 5
PORT = 8000


def in_a_network_of_its_own():
    """Starts this program anew in one, unless it is in one."""
    if os.environ.get("HT_SCALE_NET") != "1":
        os.execvpe("unshare", ["unshare", "-n", sys.executable, *sys.argv], {**os.environ, "HT_SCALE_NET": "1"})
    run(["ip", "link", "set", "lo", "up"])


def place(n, moved=0):
    """The address of a container, and where it moves to."""
    return f"10.{77 + moved}.{n // 250}.{1 + n % 250}"


def project(n):
    return f"{0x670000 + n % PROJECTS:024x}"


def container(n):
    return f"{0x890000 + n:024x}"


def host(n, service="web", index=1):
    return f"{project(n)}-{container(n)}-{service}-{index}.me.containers.{DOMAIN}"


def service(i):
    return f"service-{'abcdefghij'[i]}"


def write_documents(folder, containers, aliases):
    """What an edge has kept that made them by its API."""
    for kind in ("project", "container", "alias", "domain"):
        os.makedirs(f"{folder}/state/{kind}", mode=0o700)
    for sub in (folder, f"{folder}/state"):
        os.chmod(sub, 0o700)
    for n in range(containers):
        services = {"web": PORT, **{service(i): PORT for i in range(SERVICES - 1)}}
        document = {"file_version": 1, "project_id": project(n), "ip": place(n), "services": services}
        if n % 50 == 49:
            document["permissions"] = {"groups": {"t": {"type": "token", "header": "x-key", "value": "open sesame, please"}}, "permissions": {"t": {"web": True}}, "default": "deny"}
        with open(f"{folder}/state/container/{container(n)}.json", "w", encoding="ascii") as f:
            json.dump(document, f)
    for n in range(aliases):
        document = {"file_version": 1, "project_id": project(n % containers), "alias": f"alias{n}", "container_id": container(n % containers), "program": "web",
                    "index": 1, "enabled": True}
        with open(f"{folder}/state/alias/{0xa10000 + n:024x}.json", "w", encoding="ascii") as f:
            json.dump(document, f)


class Places:
    """The containers' services: each says where it is."""

    def __init__(self):
        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True
            protocol_version = "HTTP/1.1"

            def do_GET(self):  # noqa: N802
                body = "%s:%d" % self.connection.getsockname()
                self.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

            def log_message(self, *_):
                pass

        self.holder = subprocess.Popen(["unshare", "-n", "tail", "-f", "/dev/null"])
        its = f"/proc/{self.holder.pid}/ns/net"
        eventually(lambda: os.readlink(its) != os.readlink("/proc/self/ns/net"), "a network for the containers")
        run(["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", str(self.holder.pid)])
        run(["sh", "-ec", "ip addr add 10.76.0.1/24 dev v0 && ip link set v0 up && ip route add 10.0.0.0/8 via 10.76.0.2"])
        run(["nsenter", "-t", str(self.holder.pid), "-n", "sh", "-ec",
             "ip link set lo up && ip addr add 10.76.0.2/24 dev v1 && ip link set v1 up && ip route add local 10.77.0.0/16 dev lo && ip route add local 10.78.0.0/16 dev lo"])
        with open("/proc/thread-self/ns/net", "rb") as own, open(its, "rb") as other:
            assert LIBC.setns(other.fileno(), CLONE_NEWNET) == 0
            try:
                self.servers = [ThreadingHTTPServer(("0.0.0.0", port), Handler) for port in (PORT, PORT + 1)]
            finally:
                assert LIBC.setns(own.fileno(), CLONE_NEWNET) == 0
        for server in self.servers:
            server.daemon_threads, server.handle_error = True, lambda *_: None
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def end(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()
        self.holder.kill()
        self.holder.wait()


class Times:
    """Of changes, in seconds."""

    def __init__(self):
        self.list = []

    def add(self, seconds):
        self.list.append(seconds)

    def at(self, share):
        ordered = sorted(self.list)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    def __str__(self):
        return f"p50 {self.at(0.5) * 1e3:.1f}, p99 {self.at(0.99) * 1e3:.1f}, max {max(self.list) * 1e3:.1f} ms of {len(self.list)}"


def memory(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


class Visitor:
    """One connection that asks again and again."""

    def __init__(self, edge):
        self.context = ssl.create_default_context(cafile=edge.ca)
        self.edge, self.conn = edge, None

    def get(self, name, headers=None):
        for last in (False, True):  # a reload ends a connection between two requests
            try:
                if not self.conn:
                    self.conn = http.client.HTTPSConnection(name, self.edge.port, context=self.context, timeout=20)
                    self.conn._create_connection = lambda *_: socket.create_connection(("127.0.0.1", self.edge.port), 20)
                self.conn.request("GET", "/", headers={"Host": name, **(headers or {})})
                answer = self.conn.getresponse()
                return answer.status, answer.read().decode()
            except (http.client.HTTPException, OSError):
                self.conn = None
                if last:
                    raise
        return None


def one_at_a_time(edge, changes, visitor):
    """`changes`: (method, path, body, host, what its answer is then). From the request to the first visitor's answer that shows it; and to the API's answer."""
    effect, answered = Times(), Times()
    api = Api(os.path.join(edge.folder, "run", "api.sock"))
    for method, path, body, name, shows in changes:
        version = api.get(path.rsplit("/proxy", 1)[0] + "/proxy").version
        start = time.perf_counter()
        answer = api.ask(method, path, body, version)
        assert answer.status == 200, answer
        answered.add(time.perf_counter() - start)
        while not shows(*(seen := visitor.get(name))):
            assert time.perf_counter() - start < 10, (path, body, seen)
        effect.add(time.perf_counter() - start)
    return effect, answered


def entries(edge, name, keys):
    """What HAProxy has for each key, asked at its socket."""
    found = {}
    for at in range(0, len(keys), 50):
        path = f"{edge.folder}/haproxy/maps/{name}.map"
        text = edge.admin(";".join(f"get map {path} {key}" for key in keys[at:at + 50]))
        for one in re.finditer(r'found=yes.*?key="([^"]+)", value="([^"]+)"', text):
            found[one.group(1)] = one.group(2)
    return found


def burst(edge, changes, map_name):
    """`changes`: (method, path, body, version, key, value), all at once over some connections. From the request to the entry that HAProxy has; and to the
    API's answer."""
    effect, answered = Times(), Times()
    waiting, sent, missing, times = list(changes), {}, {}, {}
    select = selectors.DefaultSelector()
    socks = []
    for _ in range(25):
        s = socket.socket(socket.AF_UNIX)
        s.connect(os.path.join(edge.folder, "run", "api.sock"))
        socks.append(s)
        select.register(s, selectors.EVENT_READ)

    def send(s):
        if not waiting:
            return
        method, path, body, version, key, value = waiting.pop(0)
        text = json.dumps(body)
        raw = f"{method} {BASE}{path} HTTP/1.1\r\nHost: edge\r\nIf-Match: file:v{version}\r\nContent-Length: {len(text)}\r\n\r\n{text}"
        sent[s] = (key, b"")
        times[key] = time.perf_counter()
        missing[key] = value
        s.sendall(raw.encode())

    for s in socks:
        send(s)
    while sent or missing:
        for ready, _ in select.select(0.001 if sent else 0):
            s = ready.fileobj
            key, got = sent.pop(s)
            got += s.recv(65536)
            head, end, rest = got.partition(b"\r\n\r\n")
            if not end or len(rest) < int(re.search(rb"Content-Length: (\d+)", head, re.I).group(1)):
                sent[s] = (key, got)
                continue
            assert head.startswith(b"HTTP/1.1 200"), got
            answered.add(time.perf_counter() - times[key])
            send(s)
        for key, value in entries(edge, map_name, list(missing)).items():
            if missing.get(key) == value:
                del missing[key]
                effect.add(time.perf_counter() - times[key])
        assert not times or time.perf_counter() - min(times.values()) < 30, missing
    for s in socks:
        s.close()
    return effect, answered


class Load:
    """Visitors, each request on a connection of its own, until the end. What went wrong is in .failed."""

    def __init__(self, edge, names, threads=3):
        self.edge, self.names, self.failed, self.done, self.over = edge, names, [], 0, False
        self.context = ssl.create_default_context(cafile=edge.ca)
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self, i):
        while not self.over:
            i += 1
            name = self.names[i % len(self.names)]
            try:
                with socket.create_connection(("127.0.0.1", self.edge.port), 20) as raw, self.context.wrap_socket(raw, server_hostname=name) as s:
                    s.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
                    got = b""
                    while more := s.recv(65536):
                        got += more
                if not got.startswith(b"HTTP/1.1 200"):
                    self.failed.append((time.monotonic(), name, got[:80]))
                self.done += 1
            except OSError as e:
                self.failed.append((time.monotonic(), name, repr(e)))

    def end(self):
        self.over = True
        for thread in self.threads:
            thread.join(30)
        return self.failed


@contextlib.contextmanager
def large_edge(folder, containers, aliases):
    """An edge dev that has them. `.started`: seconds until it serves; .first: its first visitor was answered."""
    if os.path.exists(folder):
        shutil.rmtree(folder)
    write_documents(folder, containers, aliases)
    places = Places()
    try:
        start = time.monotonic()
        with Edge("--log-max-size", "2M", folder=folder) as edge:
            visitor = Visitor(edge)
            while visitor.get(host(0)) != (200, f"{place(0)}:{PORT}"):
                assert time.monotonic() - start < 60
            edge.started = time.monotonic() - start
            yield edge
    finally:
        places.end()
