"""Says the same to our kit and driver, to nginx and to HAProxy, and writes down what each makes of it.

A verdict is one line. Of a request: the statuses that the visitor got (218: the canary behind it was answered; `+ open`:
the proxy waits for more), then every request that reached the service: method, target, fields, body. Of an answer: the
statuses, fields and body that the visitor got, and whether they were whole.

    python3 -m tests.differential.compare            prints every input with its three verdicts
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

from tests.differential.inputs import ANSWERS, REQUESTS
from tests.integration.harness import Folder, Nginx, Program, Tunnel, eventually, free_port

CANARY = b"GET /canary HTTP/1.1\r\nHost: canary\r\nConnection: close\r\n\r\n"
WORKERS = 4
QUIET = 1.5  # seconds without a byte: it waits for more
VERY_QUIET = 8.0  # the same when it is looked at again
# What a proxy adds or frames by itself, and what says nothing about how a message was understood.
UNTOLD_REQUEST = {"content-length", "transfer-encoding", "connection"}
UNTOLD_ANSWER = {"content-length", "transfer-encoding", "connection", "date", "server", "cache-control", "content-type",
                 "retry-after"}


def shown(data, limit=60):
    text = data.decode("latin-1")
    return repr(text if len(text) <= limit else f"{text[:limit - 20]}...{len(text)} bytes")[1:-1]


def split_head(data):
    """(start line, [(name, value)], bytes behind) of a complete head, or None."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = data[:end].split(b"\r\n")
    fields = [(name.strip().lower().decode("latin-1"), value.strip(b" \t"))
              for name, _, value in (line.partition(b":") for line in lines[1:])]
    return lines[0], fields, data[end + 4:]


def value_of(fields, name):
    for key, value in fields:
        if key == name:
            return value.decode("latin-1")
    return None


def dechunk(data):
    """(body, bytes behind, whole)"""
    body = b""
    while True:
        size, found, rest = data.partition(b"\r\n")
        if not found:
            return body, b"", False
        try:
            n = int(size.split(b";")[0], 16)
        except ValueError:
            return body, b"", False
        if n == 0:
            end = rest.find(b"\r\n") if rest.startswith(b"\r\n") else rest.find(b"\r\n\r\n") + 2
            return body, rest[end + 2:], rest[end:end + 2] == b"\r\n"
        body += rest[:n]
        if rest[n:n + 2] != b"\r\n":
            return body, b"", False
        data = rest[n + 2:]


class Recorder:
    """The service behind one listener of a proxy: writes every request down; answers with what the test has put up."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.seen = []
        self.answer = None  # bytes: sent instead of the usual answer, then the connection is closed
        self.connections = set()
        self.lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            self.connections.add(c)
            threading.Thread(target=self._serve, args=(c,), daemon=True).start()

    def _serve(self, c):
        with contextlib.suppress(OSError, ValueError):
            data = b""
            while True:
                data = self._one(c, data)
                if data is None:
                    break
        self.connections.discard(c)
        c.close()

    @staticmethod
    def _more(c, data):
        got = c.recv(65536)
        if not got:
            raise OSError("closed")
        return data + got

    def _one(self, c, data):
        while (head := split_head(data)) is None:
            data = self._more(c, data)
        start, fields, rest = head
        body, note = b"", ""
        length, coding = value_of(fields, "content-length"), value_of(fields, "transfer-encoding")
        try:
            if coding is not None:
                while not (chunks := dechunk(rest))[2]:
                    rest = self._more(c, rest)
                body, rest, _ = chunks
            elif length is not None:
                while len(rest) < int(length):
                    rest = self._more(c, rest)
                body, rest = rest[:int(length)], rest[int(length):]
        except OSError:
            note = " cut"
        own = f"127.0.0.1:{self.port}".encode()
        told = [f"{name}={'SERVICE' if value == own else shown(value)}" for name, value in fields
                if name not in UNTOLD_REQUEST]
        told = told if len(told) < 10 else [f"{len(told)} fields"]
        words = start.rsplit(b" ", 1)[0]
        line = " ".join([shown(words), *told]) + (f" body={shown(body)}" if body else "") + note
        with self.lock:
            self.seen.append("canary" if words == b"GET /canary" else line)
        if note:
            return None
        if words == b"GET /canary":
            c.sendall(b"HTTP/1.1 218 Canary\r\nContent-Length: 0\r\n\r\n")
        elif self.answer is not None:
            c.sendall(self.answer)
            c.shutdown(socket.SHUT_WR)
            return None
        else:
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if words.startswith(b"HEAD ") else b"ok"))
        return rest

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for c in list(self.connections):
            with contextlib.suppress(OSError):
                c.shutdown(socket.SHUT_RDWR)


def converse(port, data, quiet=QUIET):
    """Sends it all and reads to the end. Returns (bytes, "closed" | "cut" | "open")."""
    got, end = b"", "closed"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as c:
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # it may be refused, and the connection closed, half-way
            c.sendall(data)
        c.settimeout(quiet)
        while True:
            try:
                piece = c.recv(65536)
            except TimeoutError:
                return got, "open"
            except OSError:
                return got, "cut"
            if not piece:
                return got, end
            got += piece


def answers_in(data, head_request):
    """What a client reads out of these bytes: [(status, fields, body, whole)]."""
    found = []
    while data:
        head = split_head(data)
        if head is None or not re.match(rb"HTTP/1\.[01] \d\d\d", head[0]):
            found.append(("junk", [], data, False))
            break
        start, fields, rest = head
        code = int(start.split(b" ")[1])
        body, whole = b"", True
        if 100 <= code < 200:
            if code == 101:
                body, rest = rest, b""
        elif code in (204, 304) or (head_request and not any(s >= 200 for s, *_ in found)):
            pass
        elif value_of(fields, "transfer-encoding") is not None:
            body, rest, whole = dechunk(rest)
        elif value_of(fields, "content-length") is not None:
            n = int(value_of(fields, "content-length"))
            body, whole, rest = rest[:n], len(rest) >= n, rest[n:]
        else:
            body, rest = rest, b""
        found.append((code, fields, body, whole))
        data = rest
    return found


def request_verdict(port, recorder, request, quiet=QUIET):
    recorder.answer = None
    recorder.seen.clear()
    data, end = converse(port, request + CANARY, quiet)
    codes = [str(code) for code, *_ in answers_in(data, request.startswith(b"HEAD "))]
    # A request that was given up may still be on its way to the service: what it shows there is not told.
    with recorder.lock:
        seen = [line for line in recorder.seen if line != "canary" and not line.endswith(" cut")]
    return " ".join(codes or ["nothing"]) + (" + open" if end == "open" else "") + "".join(f" | {line}" for line in seen)


def answer_verdict(port, recorder, said, quiet=QUIET):
    answer, method = said
    recorder.answer = answer
    recorder.seen.clear()
    data, end = converse(port, method + b" / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", quiet)
    told = []
    for code, fields, body, whole in answers_in(data, method == b"HEAD"):
        close_delimited = code == "junk" or (value_of(fields, "content-length") is None
                                             and value_of(fields, "transfer-encoding") is None)
        cut = not whole or (close_delimited and end == "cut" and code not in (204, 304))
        if code in (502, 503, 504):
            told.append(f"{code}")
            continue
        names = [f"{name}={shown(value)}" for name, value in fields if name not in UNTOLD_ANSWER]
        if len(names) > 9:
            names = [f"{len(names)} fields"]
        told.append(" ".join([str(code), *names]) + (f" body={shown(body)}" if body else "") + (" cut" if cut else ""))
    if not told:
        told = ["nothing"]
    return " | ".join(told) + (" + open" if end == "open" else "")


NGINX_SERVER = """
    server {
        listen 127.0.0.1:{%d};
        location / {
            proxy_pass http://127.0.0.1:%d;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_next_upstream off;
        }
    }
"""

HAPROXY_DEFAULTS = """
defaults
    mode http
    retries 0
    timeout connect 10s
    timeout client 30s
    timeout server 30s
"""


class OneHaproxy(contextlib.AbstractContextManager):
    def __init__(self, folder, recorders):
        self.ports = [free_port() for _ in recorders]
        text = HAPROXY_DEFAULTS
        for i, (port, recorder) in enumerate(zip(self.ports, recorders)):
            text += f"listen l{i}\n    bind 127.0.0.1:{port}\n    server s 127.0.0.1:{recorder.port}\n"
        path = folder.join("haproxy.cfg")
        with open(path, "w", encoding="ascii") as f:
            f.write(text)
        self.program = Program([shutil.which("haproxy") or "/usr/sbin/haproxy", "-db", "-q", "-f", path])
        for port in self.ports:
            eventually(lambda p=port: self._accepts(p), "haproxy listens")

    def _accepts(self, port):
        assert self.program.process.poll() is None, f"haproxy ended:\n{self.program.text()}"
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    def __exit__(self, *_):
        self.program.end()


def in_parallel(ports, recorders, todo, verdict, results):
    """One worker for each listener; an input at a time, so that what its service sees belongs to it."""
    todo = list(todo)
    lock = threading.Lock()

    def work(port, recorder):
        while True:
            with lock:
                if not todo:
                    return
                key, value = todo.pop()
            try:
                results[key] = verdict(port, recorder, value)
            except Exception as e:  # pylint: disable=broad-except
                results[key] = f"failed: {e!r}"

    return [threading.Thread(target=work, args=pair) for pair in zip(ports, recorders)]


def all_verdicts(is_expected=None):
    """{proxy: {"requests": {id: verdict}, "answers": {id: verdict}}}. What is not expected is looked at a second time, with more
    patience: on a busy machine a proxy may take its time. is_expected(kind, id, {proxy: verdict})"""
    results = {proxy: {"requests": {}, "answers": {}} for proxy in ("ours", "nginx", "haproxy")}
    recorders = {proxy: [Recorder() for _ in range(WORKERS)] for proxy in results}
    with contextlib.ExitStack() as stack:
        for group in recorders.values():
            for recorder in group:
                stack.callback(recorder.close)
        folder = stack.enter_context(Folder())
        servers = "".join(NGINX_SERVER.replace("%d;", f"{r.port};").replace("{%d}", "{%d}" % i)
                          for i, r in enumerate(recorders["nginx"]))
        nginx = stack.enter_context(Nginx(folder, "worker_processes 2;\nevents {}\nhttp {\n    access_log off;\n" + servers + "}",
                                          ports=WORKERS))
        haproxy = stack.enter_context(OneHaproxy(folder, recorders["haproxy"]))
        tunnel = stack.enter_context(Tunnel())
        driver = tunnel.expose(*(f"0={r.port}" for r in recorders["ours"]), bindings=WORKERS)
        ports = {"ours": [b["containerPort"] for b in driver.bound], "nginx": nginx.ports, "haproxy": haproxy.ports}
        for kind, todo, verdict in (("requests", REQUESTS, request_verdict), ("answers", ANSWERS, answer_verdict)):
            threads = [t for proxy in results
                       for t in in_parallel(ports[proxy], recorders[proxy], todo.items(), verdict, results[proxy][kind])]
            for t in threads:
                t.start()
            for t in threads:
                t.join(120)
                assert not t.is_alive(), "a worker did not end"
            for key, value in todo.items() if is_expected else ():
                if not is_expected(kind, key, {proxy: results[proxy][kind][key] for proxy in results}):
                    for proxy in results:
                        results[proxy][kind][key] = verdict(ports[proxy][0], recorders[proxy][0], value, VERY_QUIET)
    return results


def versions():
    nginx = subprocess.run([shutil.which("nginx") or "/usr/sbin/nginx", "-v"], capture_output=True, check=True).stderr.decode()
    haproxy = subprocess.run([shutil.which("haproxy") or "/usr/sbin/haproxy", "-v"], capture_output=True, check=True).stdout.decode()
    return {"nginx": re.search(r"nginx/(\d+\.\d+)", nginx).group(1), "haproxy": re.search(r"version (\d+\.\d+)", haproxy).group(1)}


def main():
    start = time.monotonic()
    results = all_verdicts()
    same = 0
    for kind in ("requests", "answers"):
        for key in REQUESTS if kind == "requests" else ANSWERS:
            ours, nginx, haproxy = (results[p][kind][key] for p in ("ours", "nginx", "haproxy"))
            if ours == nginx == haproxy:
                same += 1
                print(f"{kind} {key}: all: {ours}")
            else:
                print(f"{kind} {key}:\n    ours     {ours}\n    nginx    {nginx}\n    haproxy  {haproxy}")
    print(f"{same} alike of {len(REQUESTS) + len(ANSWERS)}, {time.monotonic() - start:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    os.chdir(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    main()
