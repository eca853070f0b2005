"""docker's client and a small engine with the tunnel between: `exec` takes its connection over behind a request with a body.

The engine speaks what `docker exec` needs: a command that gives its input back, and ends with status 7.
"""

import json
import os
import re
import shutil
import struct
import subprocess
import tempfile

from tests.integration.harness import Service, Tunnel, connect, read_exactly, read_head
from tests.support.tap import Skip, case, main

CONTAINER = {"Id": "box", "Name": "/box", "State": {"Running": True, "Status": "running"}, "Config": {"Tty": False}}


def read_request(c):
    """(method, path, fields, body), or None when the connection has ended."""
    try:
        head, body = read_head(c)
    except ConnectionResetError:
        return None
    first, *lines = head.decode().split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(fields.get("content-length", "0")):
        body += c.recv(65536)
    method, path, _ = first.split(" ")
    return method, re.sub(r"^/v1\.\d+", "", path.partition("?")[0]), fields, body


def says(c, value, status="200 OK"):
    text = json.dumps(value).encode()
    c.sendall(b"HTTP/1.1 %s\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
              % (status.encode(), len(text), text))


def output(c, stream, data):
    c.sendall(struct.pack(">BxxxI", stream, len(data)) + data)


class Engine(Service):
    def __init__(self, path=None):
        self.starts = []
        super().__init__(self._serve_requests, path=path)

    def _serve_requests(self, c):
        while request := read_request(c):
            method, path, fields, body = request
            if path == "/_ping":
                text = b"" if method == "HEAD" else b"OK"
                c.sendall(b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nOstype: linux\r\nContent-Length: 2\r\n\r\n" + text)
            elif path == "/containers/box/json":
                says(c, CONTAINER)
            elif path == "/containers/box/exec":
                says(c, {"Id": "e1"}, "201 Created")
            elif path == "/exec/e1/json":
                says(c, {"ID": "e1", "Running": False, "ExitCode": 7})
            elif path == "/exec/e1/start":
                self.starts.append((fields, json.loads(body)))
                self._hijack(c, fields)
                return
            else:
                says(c, {"message": f"no {method} {path} here"}, "404 Not Found")

    @staticmethod
    def _hijack(c, fields):
        assert fields["upgrade"] == "tcp" and "upgrade" in fields["connection"].lower(), fields
        c.sendall(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
                  b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        output(c, 2, b"ready\n")
        while data := c.recv(65536):
            output(c, 1, data)


@case("docker exec sends its input and gets its output and its exit status, from an engine at its Unix socket as well")
def _():
    docker = shutil.which("docker")
    if not docker:
        raise Skip("no docker client")
    for at_socket in (False, True):
        docker_exec(docker, at_socket)


def docker_exec(docker, at_socket):
    text = os.urandom(300_000)
    with tempfile.TemporaryDirectory() as home, Tunnel() as t, Engine(os.path.join(home, "docker.sock") if at_socket else None) as engine:
        driver = t.expose(f"unix:{home}/docker.sock" if at_socket else f"0={engine.port}")
        done = subprocess.run([docker, "exec", "-i", "box", "cat"], input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=60, check=False, env={"PATH": os.environ["PATH"], "HOME": home,
                                                            "DOCKER_HOST": f"tcp://127.0.0.1:{driver.port}"})
        assert done.returncode == 7, (done.returncode, done.stderr[-1000:])
        assert done.stdout == text, (len(done.stdout), len(text))
        assert done.stderr == b"ready\n", done.stderr
        fields, body = engine.starts[0]
        assert int(fields["content-length"]) > 0 and body["Detach"] is False, (fields, body)


def session(c):
    read_request(c)
    c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    while data := c.recv(65536):
        c.sendall(data.upper())


@case("a session of BuildKit: POST with Upgrade: h2c and no HTTP2-Settings becomes raw bytes")
def _():
    with Tunnel() as t, Service(session) as service:
        driver = t.expose(f"0={service.port}")
        with connect(driver.port) as c:
            c.sendall(b"POST /session HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
                      b"X-Docker-Expose-Session-Uuid: x\r\nContent-Length: 0\r\n\r\n")
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += read_exactly(c, 1)
            assert head.startswith(b"HTTP/1.1 101 ") and b"h2c" in head, head
            c.sendall(b"pri * http/2.0")
            assert read_exactly(c, 14) == b"PRI * HTTP/2.0"


if __name__ == "__main__":
    main()
