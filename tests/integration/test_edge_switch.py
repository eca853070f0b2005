"""What the edge's API switches off or moves: new requests are refused, and live connections end within a second, whichever process of HAProxy
serves them.

Runs: plain.
"""

import base64
import contextlib
import os
import signal
import socket
import ssl
import time

from tests.integration.edge_api import Api
from tests.integration.edge_sites import CONTAINER, DOMAIN, OTHER, PROJECT, site
from tests.integration.harness import eventually
from tests.support.tap import case, main

ECHO = """
import base64, hashlib, socket, sys, threading
def serve(c):
    head = b''
    while b'\\r\\n\\r\\n' not in head:
        head += c.recv(4096)
    key = [l.split(b':', 1)[1].strip() for l in head.split(b'\\r\\n') if l.lower().startswith(b'sec-websocket-key:')][0]
    accept = base64.b64encode(hashlib.sha1(key + b'258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest())
    c.sendall(b'HTTP/1.1 101 x\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Accept: ' + accept + b'\\r\\n\\r\\n')
    while data := c.recv(4096):
        c.sendall(data)
def listen(at, port):
    s = socket.create_server((at, port))
    while True:
        threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
for where in sys.argv[1:]:
    threading.Thread(target=listen, args=(where.split(':')[0], int(where.split(':')[1]))).start()
print('ready', flush=True)
"""
PLACES = ("192.0.2.2:7600", "192.0.2.2:8000", "192.0.2.3:76")


class Live:
    """A visitor's WebSocket."""

    def __init__(self, it, service, container=CONTAINER):
        host = f"{PROJECT}-{container}-{service}.node1.containers.{DOMAIN}"
        key = base64.b64encode(os.urandom(16)).decode()
        with it.container.network():
            plain = socket.create_connection(("192.0.2.1", 443), timeout=20)
        self.s = ssl.create_default_context(cafile=it.container.path("/tmp/ca.pem")).wrap_socket(plain, server_hostname=host)
        self.s.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                       "Sec-WebSocket-Version: 13\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            got = self.s.recv(4096)
            assert got, head
            head += got
        assert head.startswith(b"HTTP/1.1 101"), head
        self.lives()

    def lives(self):
        self.s.sendall(b"hello")
        assert self.s.recv(100) == b"hello"

    def ends(self, since):
        """It ends within a second from `since`; a busy machine has three."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert self.s.recv(100) == b""
        took = time.monotonic() - since
        self.s.close()
        assert took < 3.0, took


@contextlib.contextmanager
def live_site(*args):
    """A container with WebSockets on two ports, and another one."""
    with site() as it:
        it.container.run("ip", "address", "add", "192.0.2.3/24", "dev", "eth0")
        it.services.append(it.container.start("/usr/bin/python3", "-c", ECHO, *PLACES))
        it.services[-1].wait_line("ready")
        it.start(*args)
        api = Api(it.server.path("/tmp/edge/run/api.sock"))
        yield it, api
        assert it.edge.end() == 0, it.edge.text()


def known(api):
    api.change("PUT", f"/containers/{CONTAINER}/proxy/address", {"ip": "192.0.2.2", "project_id": PROJECT})
    api.change("PUT", f"/containers/{CONTAINER}/proxy/services/terminal", {"port": 7600})
    api.change("PUT", f"/containers/{OTHER}/proxy/address", {"ip": "192.0.2.3", "project_id": PROJECT})


def worker(it):
    """The process of HAProxy that serves now."""
    with contextlib.suppress(OSError, IndexError):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(it.server.path("/tmp/edge/run/admin.sock"))
            s.sendall(b"show info\n")
            said = b""
            while more := s.recv(65536):
                said += more
        return int(said.split(b"\nPid: ")[1].split(b"\n")[0])
    return None


def reload(it):
    before = worker(it)
    os.kill(it.edge.inner, signal.SIGHUP)
    eventually(lambda: worker(it) not in (None, before), "another process of HAProxy")


@case("a container that is switched off ends its own live connections alone, and is there again when it is on")
def _():
    with live_site("--log-level", "info") as (it, api):
        known(api)
        it.until("http-3000", 200)
        mine, same, other = Live(it, "terminal-1"), Live(it, "http-8000"), Live(it, "terminal-1", OTHER)
        api.change("PATCH", f"/containers/{CONTAINER}/proxy/permissions/state", {"enable_proxy": False})
        at = time.monotonic()
        mine.ends(at)
        same.ends(at)
        it.until("http-3000", 503)
        other.lives()
        api.change("PATCH", f"/containers/{CONTAINER}/proxy/permissions/state", {"enable_proxy": True})
        it.until("http-3000", 200)
        again = Live(it, "terminal-1")
        api.change("DELETE", f"/containers/{CONTAINER}/proxy")
        again.ends(time.monotonic())
        it.until("http-3000", 404)
        other.lives()


@case("a project that is switched off ends what a process of HAProxy from before a reload still serves, too")
def _():
    with live_site("--log-level", "info") as (it, api):
        known(api)
        it.until("http-3000", 200)
        old = [Live(it, "terminal-1"), Live(it, "terminal-1", OTHER)]
        reload(it)
        middle = Live(it, "terminal-1")
        reload(it)
        new = Live(it, "terminal-1")
        for live in (*old, middle, new):
            live.lives()
        api.change("PATCH", f"/projects/{PROJECT}/proxy/permissions/state", {"enable_proxy": False})
        at = time.monotonic()
        for live in (*old, middle, new):
            live.ends(at)
        it.until("terminal-1", 503)
        api.change("PATCH", f"/projects/{PROJECT}/proxy/permissions/state", {"enable_proxy": True})
        it.until("http-3000", 200)
        Live(it, "terminal-1").lives()


@case("a service that is switched off ends its live connections, and a container that moves those to where it was")
def _():
    with live_site("--log-level", "info") as (it, api):
        known(api)
        it.until("http-3000", 200)
        mine, same, other = Live(it, "terminal-1"), Live(it, "http-8000"), Live(it, "terminal-1", OTHER)
        api.change("PATCH", f"/containers/{CONTAINER}/proxy/services/terminal/state", {"enable_proxy": False})
        mine.ends(time.monotonic())
        it.until("terminal-2", 503)
        same.lives()
        api.change("PATCH", f"/containers/{CONTAINER}/proxy/services/http/state", {"enable_proxy": False})
        same.ends(time.monotonic())
        it.until("http-3000", 503)
        other.lives()
        api.change("PATCH", f"/containers/{CONTAINER}/proxy/services/terminal/state", {"enable_proxy": True})
        again = eventually(lambda: reach(it), "terminal-1 once more")
        api.change("PUT", f"/containers/{CONTAINER}/proxy/address", {"ip": "192.0.2.9"})
        again.ends(time.monotonic())
        other.lives()


def reach(it):
    with contextlib.suppress(AssertionError, ConnectionError):
        return Live(it, "terminal-1")
    return None


@case("the file of --containers wins: the API cannot move what it names, and what one of both has switched off is off")
def _():
    with site() as it:
        it.book()
        it.start()
        api = Api(it.server.path("/tmp/edge/run/api.sock"))
        it.until("http-3000", 200)
        got = api.get(f"/containers/{CONTAINER}/proxy")
        assert got.data["source"] == "file" and got.data["ip"] == "192.0.2.2" and got.version == 0, got
        for method, path, body in (("PUT", "address", {"ip": "192.0.2.3"}), ("PUT", "services/web", {"port": 80}), ("DELETE", "services", None)):
            refused = api.ask(method, f"/containers/{CONTAINER}/proxy/{path}", body, 0)
            assert refused.status == 409 and "--containers" in refused.message, refused
        api.change("PATCH", f"/containers/{CONTAINER}/proxy/permissions/state", {"enable_proxy": False})
        it.until("http-3000", 503)
        it.again()
        it.until("terminal-1", 503)
        api.change("PATCH", f"/containers/{CONTAINER}/proxy/permissions/state", {"enable_proxy": True})
        it.until("http-3000", 200)
        it.again(container={"enabled": False})
        it.until("http-3000", 503)
        assert api.get(f"/containers/{CONTAINER}/proxy").data["enable_proxy"] is False
        # A container of the API is the file's once it is named there, and the API's again when it is not.
        api.change("PUT", f"/containers/{OTHER}/proxy/address", {"ip": "192.0.2.2", "project_id": PROJECT})
        it.until("http-3000", 200, container=OTHER)
        it.again('{"containers": [{"project": "%s", "container": "%s", "address": "192.0.2.9"}]}' % (PROJECT, OTHER))
        eventually(lambda: api.get(f"/containers/{OTHER}/proxy").data["ip"] == "192.0.2.9", "the file's address")
        it.again('{"containers": []}')
        it.until("http-3000", 200, container=OTHER)
        it.until("http-3000", 404)
        assert it.edge.end() == 0, it.edge.text()


if __name__ == "__main__":
    main()
