"""Answers that come while the request's body is still on its way reach the client: real clients, directly and behind nginx, fast
and slow."""

import concurrent.futures
import http.client
import os
import re
import shutil
import signal
import socket
import struct
import subprocess

from conformance.lib import ws
from conformance.lib.wire import codec
from tests.integration.harness import SANITIZED, Folder, Nginx, Service, Tunnel, connect, eventually, pace, read_head
from tests.support.tap import case, main

# The last one is for those who take their time. Under sanitizers the largest takes too much of ours; and wget and node are left
# out, because the kit sees nothing of them that it does not see of curl.
SIZES = [100_000, 2 << 20, 16 << 20, (24 if SANITIZED else 64) << 20, 3 << 20]
SLOW = 3 << 19  # bytes in a second
AT_ONCE = 4  # clients
ANSWER = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo big\n"
NODE = """
const fs = require('fs'), http = require('http');
const [url, path, method, rate, ...fields] = process.argv.slice(1);
const headers = {'content-length': fs.statSync(path).size};
for (const f of fields) headers[f.split(': ')[0]] = f.split(': ')[1];
const q = http.request(url, {method, headers}, (r) => {
  r.resume();
  r.on('end', () => { console.log('status ' + r.statusCode); process.exit(0); });
});
q.on('error', (e) => { console.log('error ' + e.code); process.exit(1); });
const body = fs.createReadStream(path);
if (rate > 0) {
  body.on('data', (d) => { body.pause(); q.write(d); setTimeout(() => body.resume(), 1000 * d.length / rate); });
  body.on('end', () => q.end());
} else body.pipe(q);
"""


def refuse(connection):
    """Answers at once, closes its side, and takes what comes until the other side is done."""
    read_head(connection)
    connection.sendall(ANSWER)
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(1 << 20):
        pass


def refuse_outright(connection):
    """The same, and closes for good: what it has not read makes the system reset the connection."""
    read_head(connection)
    connection.sendall(ANSWER)


def read_nothing(connection):
    """Leaves the body where it is, until the other side gives up."""
    read_head(connection)
    while connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 1:  # established
        pace(0.02)


class OldDriver:
    """A driver that names no capability, with a port of its own."""

    def __init__(self, kit):
        self.sock = connect(kit.port)
        self.sock.sendall(f"GET {codec.CONNECT_PATH} HTTP/1.1\r\nHost: 127.0.0.1:{kit.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                          f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {ws.new_key()}\r\n"
                          f"Sec-WebSocket-Protocol: hoody-tunnel.v1\r\n\r\n".encode())
        head, self.early = read_head(self.sock)
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.reader = ws.Reader(masked=False)
        self._say("HELLO", b'{"version":"hoody-tunnel.v1"}')
        self._hear("HELLO_OK")
        self._say("BIND", b'{"clientBindRef":1,"kind":"http","mode":"expose","containerPort":0}')
        self.port = int(re.search(rb'"containerPort":(\d+)', self._hear("BIND_OK")).group(1))

    def _say(self, name, payload):
        self.sock.sendall(ws.build(ws.BINARY, codec.raw_frame(codec.NUMBERS[name], 0, payload), mask=True))

    def _hear(self, name):
        while True:
            data, self.early = self.early or self.sock.recv(65536), b""
            assert data, f"no {name} came"
            for event in self.reader.feed(data):
                if event[0] == "message" and event[2][0] == codec.NUMBERS[name]:
                    return event[2]

    def end(self):
        self.sock.sendall(ws.build(ws.CLOSE, struct.pack(">H", 1000), mask=True))
        self.sock.close()


# ---- clients: each sends the file at `path`, and returns the status that it read ----


def python(port, target, path, method="POST", rate=0, fields=()):
    def slowly(body):
        while data := body.read(SLOW // 32):
            yield data
            pace(len(data) / rate)

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        with open(path, "rb") as body:
            connection.request(method, target, body=slowly(body) if rate else body,
                               headers={"Content-Length": str(os.path.getsize(path)), **dict(f.split(": ") for f in fields)})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def status_of(pattern, *argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
    text = done.stdout.decode(errors="replace")
    found = re.search(pattern, text)
    assert found, f"{argv[0]} ended with {done.returncode}: {text}"
    return int(found.group(1))


def curl(port, target, path, method="POST", rate=0, fields=()):
    more = [word for f in (*fields, *([] if any(f.startswith("Expect") for f in fields) else ["Expect:"])) for word in ("-H", f)]
    slow = ["--limit-rate", str(rate)] if rate else []
    return status_of(r"status (\d+)$", "curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "-w", "status %{http_code}", "-X", method, *more,
                     *slow, "--data-binary", f"@{path}", f"http://127.0.0.1:{port}{target}")


def wget(port, target, path, method="POST", rate=0, fields=()):
    assert not rate, "wget sends as fast as it can"
    return status_of(r"HTTP/1\.1 (\d+) ", "wget", "-S", "--no-proxy", "-t", "1", "-T", "30", "-O", "/dev/null", f"--method={method}",
                     f"--body-file={path}", *(f"--header={f}" for f in fields), f"http://127.0.0.1:{port}{target}")


def node(port, target, path, method="POST", rate=0, fields=()):
    return status_of(r"status (\d+)", "node", "-e", NODE, f"http://127.0.0.1:{port}{target}", path, method, str(rate), *fields)


def bodies(folder):
    paths = [folder.join(f"body-{size}") for size in SIZES]
    for path, size in zip(paths, SIZES):
        with open(path, "wb") as f:
            f.truncate(size)
    return paths


def front(folder, port):
    """nginx that passes bodies on as they come."""
    return Nginx(folder, f"""
events {{ }}
http {{
  access_log off;
  client_max_body_size 0;
  client_body_temp_path {folder.path}/b;
  proxy_temp_path {folder.path}/p;
  server {{
    listen 127.0.0.1:{{0}};
    location / {{
      proxy_pass http://127.0.0.1:{port};
      proxy_http_version 1.1;
      proxy_request_buffering off;
    }}
  }}
}}
""")


def all_read(port, paths, status, chosen, target="/", **more):
    """`chosen`: a client and the numbers of the bodies that it sends. One that is not installed is left out."""
    wrong = []

    def one(client, path):
        try:
            got = client(port, target, path, **more)
        except (OSError, AssertionError, http.client.HTTPException, subprocess.SubprocessError) as e:
            got = repr(e)
        if got != status:
            wrong.append(f"{client.__name__}, {os.path.basename(path)}: {got}")

    wanted = []
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for client, numbers in chosen.items():
            if SANITIZED and client not in (python, curl):
                continue
            if client is not python and not shutil.which(client.__name__):
                print(f"# {client.__name__} is not installed")
                continue
            for i in numbers:
                wanted.append(pool.submit(one, client, paths[i]))
    for w in wanted:
        w.result()
    assert not wrong, "\n".join(wrong)


def together(*calls):
    """Calls of all_read() at once: each is its arguments, and a dictionary of those with a name."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        for done in [pool.submit(all_read, *args, **names) for *args, names in calls]:
            done.result()


SLOW_ONES = {python: (4,), curl: (4,), node: (4,)}


@case("a service's early 413 is read by every client")
def _():
    with Folder() as folder, Tunnel() as t, Service(refuse) as service:
        all_read(t.expose(f"0={service.port}").port, bodies(folder), 413,
                 {python: (0, 1, 2, 3), wget: (0, 1, 3), curl: (1, 2, 3), node: (0, 2, 3)})


@case("the 413 of a service that closes outright is read by every client")
def _():
    with Folder() as folder, Tunnel() as t, Service(refuse_outright) as service:
        all_read(t.expose(f"0={service.port}").port, bodies(folder), 413, {python: (0, 1, 2), wget: (1,), curl: (2,), node: (1,)})


@case("a service's early 413 is read by every client behind nginx")
def _():
    with Folder() as folder, Tunnel() as t, Service(refuse) as service:
        with front(folder, t.expose(f"0={service.port}").port) as nginx:
            all_read(nginx.port, bodies(folder), 413, {python: (0, 1, 3), wget: (2,), curl: (1,), node: (1,)})


@case("a service's early 413 is read by clients that send slowly, behind nginx too")
def _():
    with Folder() as folder, Tunnel() as t, Service(refuse) as service:
        port, paths = t.expose(f"0={service.port}").port, bodies(folder)
        with front(folder, port) as nginx:
            together((port, paths, 413, SLOW_ONES, {"rate": SLOW}), (nginx.port, paths, 413, SLOW_ONES, {"rate": SLOW}))


@case("the kit's own 414 and 417 are read by every client")
def _():
    with Folder() as folder, Tunnel() as t, Service(refuse) as service:
        port, paths = t.expose(f"0={service.port}").port, bodies(folder)
        long = "/" + "a" * 17000
        together((port, paths, 414, {python: (0, 2), wget: (1,), curl: (3,), node: (2,)}, long, {}),
                 (port, paths, 414, SLOW_ONES, long, {"rate": SLOW}))
        with front(folder, port) as nginx:
            all_read(nginx.port, paths, 414, {python: (2,), wget: (3,), curl: (0,), node: (1,)}, long[:16500])
        # nginx keeps Expect to itself.
        all_read(port, paths, 417, {python: (0, 3), wget: (2,), curl: (1,), node: (3,)}, fields=["Expect: the-unexpected"])


@case("the kit's own 503 for a parked session is read by every client, fast and slow")
def _():
    with Folder() as folder, Tunnel() as t, Service(refuse) as service:
        driver = t.expose(f"0={service.port}")
        paths = bodies(folder)
        with front(folder, driver.port) as nginx:
            t.drivers.remove(driver)
            driver.end(signal.SIGKILL)
            eventually(lambda: t.kit.get("/tunnels")["orphanedSessions"] == 1, "the session is parked")
            all_read(driver.port, paths, 503, {python: (0, 2, 3), wget: (1, 2), curl: (1, 3), node: (1, 3)})
            all_read(nginx.port, paths, 503, {python: (0, 2), wget: (3,), curl: (2,), node: (1,)})
            together((driver.port, paths, 503, SLOW_ONES, {"rate": SLOW}), (nginx.port, paths, 503, SLOW_ONES, {"rate": SLOW}))
        session = driver.events("connected")[0]["sessionId"]
        assert t.kit.request("DELETE", f"/sessions/{session}")[0] == 202
        eventually(lambda: t.kit.get("/tunnels")["orphanedSessions"] == 0, "the parked session is gone")


@case("the kit's own 413, for a driver that would drop the body, is read by every client")
def _():
    with Folder() as folder, Tunnel() as t:
        driver, paths = OldDriver(t.kit), bodies(folder)
        all_read(driver.port, paths, 413, {python: (0, 3), wget: (1, 3), curl: (2,), node: (2,)}, method="GET")
        with front(folder, driver.port) as nginx:
            all_read(nginx.port, paths, 413, {python: (2,), wget: (3,), curl: (1,), node: (0,)}, method="GET")
        driver.end()


@case("the kit's own 504, for a service that takes nothing, is read by every client")
def _():
    with Folder() as folder, Tunnel("--response-timeout", "1s") as t, Service(read_nothing) as service:
        port, paths = t.expose(f"0={service.port}").port, bodies(folder)
        all_read(port, paths, 504, {python: (3,), wget: (3,), curl: (3,), node: (3,)})
        with front(folder, port) as nginx:
            all_read(nginx.port, paths, 504, {python: (3,), wget: (3,), curl: (3,), node: (3,)})


@case("the kit's own 408, for a body that is too slow, is read by clients that are still sending")
def _():
    # All streams of each session are taken, and the 20 s that are free are over while a fifth of each body is still to come.
    few = ("--min-body-rate", "10000000", "--max-streams-per-session", "1")
    with Folder() as folder, Tunnel(*few) as t, Service(read_nothing) as service:
        ports, paths = [t.expose(f"0={service.port}").port for _ in range(3)], bodies(folder)
        with front(folder, ports[0]) as nginx:
            together(*((port, paths, 408, {client: (4,)}, {"rate": 125_000})
                       for port, client in ((nginx.port, python), (ports[1], curl), (ports[2], node))))


if __name__ == "__main__":
    main()
