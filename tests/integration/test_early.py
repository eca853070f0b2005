"""Answers that come while the request's body is still on its way reach the client: real clients, directly and behind nginx."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess

from tests.integration.harness import Folder, Nginx, Service, Tunnel, eventually, read_head
from tests.support.tap import case, main

SIZES = [100_000, 2 << 20, 16 << 20, 64 << 20]
ANSWER = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo big\n"
NODE = """
const fs = require('fs'), http = require('http');
const [url, path] = process.argv.slice(1);
const q = http.request(url, {method: 'POST', headers: {'content-length': fs.statSync(path).size}}, (r) => {
  r.resume();
  r.on('end', () => { console.log('status ' + r.statusCode); process.exit(0); });
});
q.on('error', (e) => { console.log('error ' + e.code); process.exit(1); });
fs.createReadStream(path).pipe(q);
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


def python(port, target, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        with open(path, "rb") as body:
            connection.request("POST", target, body=body, headers={"Content-Length": str(os.path.getsize(path))})
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


def curl(port, target, path):
    return status_of(r"status (\d+)$", "curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "-w", "status %{http_code}", "-H", "Expect:",
                     "--data-binary", f"@{path}", f"http://127.0.0.1:{port}{target}")


def wget(port, target, path):
    return status_of(r"HTTP/1\.1 (\d+) ", "wget", "-S", "--no-proxy", "-t", "1", "-T", "30", "-O", "/dev/null", f"--post-file={path}",
                     f"http://127.0.0.1:{port}{target}")


def node(port, target, path):
    return status_of(r"status (\d+)", "node", "-e", NODE, f"http://127.0.0.1:{port}{target}", path)


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


def all_read(port, paths, status, chosen, target="/"):
    """`chosen`: a client and the numbers of the bodies that it sends. One that is not installed is left out."""
    wrong = []
    for client, numbers in chosen.items():
        if client is not python and not shutil.which(client.__name__):
            print(f"# {client.__name__} is not installed")
            continue
        for path in (paths[i] for i in numbers):
            try:
                got = client(port, target, path)
            except (OSError, AssertionError, http.client.HTTPException) as e:
                got = repr(e)
            if got != status:
                wrong.append(f"{client.__name__}, {os.path.basename(path)}: {got}")
    assert not wrong, "\n".join(wrong)


@case("a service's early 413 is read by every client")
def _():
    with Folder() as folder, Tunnel() as t, Service(refuse) as service:
        all_read(t.expose(f"0={service.port}").port, bodies(folder), 413,
                 {python: (0, 1, 2, 3), wget: (0, 1, 3), curl: (1, 2), node: (0, 2)})


@case("the 413 of a service that closes outright is read by every client")
def _():
    with Folder() as folder, Tunnel() as t, Service(refuse_outright) as service:
        all_read(t.expose(f"0={service.port}").port, bodies(folder), 413, {python: (0, 1, 2), wget: (1,), curl: (2,), node: (1,)})


@case("a service's early 413 is read by every client behind nginx")
def _():
    with Folder() as folder, Tunnel() as t, Service(refuse) as service:
        with front(folder, t.expose(f"0={service.port}").port) as nginx:
            all_read(nginx.port, bodies(folder), 413, {python: (0, 1, 3), wget: (2,), curl: (1,), node: (1,)})


@case("the kit's own early answers are read by every client")
def _():
    with Folder() as folder, Tunnel() as t, Service(refuse) as service:
        driver = t.expose(f"0={service.port}")
        paths = bodies(folder)
        with front(folder, driver.port) as nginx:
            all_read(driver.port, paths, 414, {python: (2,), wget: (1,)}, "/" + "a" * 17000)
            t.drivers.remove(driver)
            driver.end(signal.SIGKILL)
            eventually(lambda: t.kit.get("/tunnels")["orphanedSessions"] == 1, "the session is parked")
            all_read(driver.port, paths, 503, {python: (2,), wget: (2,), curl: (1,), node: (1,)})
            all_read(nginx.port, paths, 503, {python: (2,)})
        session = driver.events("connected")[0]["sessionId"]
        assert t.kit.request("DELETE", f"/sessions/{session}")[0] == 202
        eventually(lambda: t.kit.get("/tunnels")["orphanedSessions"] == 0, "the parked session is gone")


if __name__ == "__main__":
    main()
