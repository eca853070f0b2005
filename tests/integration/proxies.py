"""Proxies: tinyproxy and microsocks as Debian has them, haproxy for TLS before one, and one of our own that does as it is told."""

import contextlib
import os
import signal
import socket
import threading

from tests.integration.harness import Folder, Program, Service, eventually, free_port


def listens(port):
    def up():
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            return True
        except OSError:
            return False
    return up


class RealProxy(contextlib.AbstractContextManager):
    """A program that proxies at 127.0.0.1:port; start() again after stop()."""

    def __init__(self, argv):
        self.folder, self.port, self.program = Folder(), free_port(), None
        self.argv = argv(self)
        self.start()

    def write(self, name, text):
        with open(self.folder.join(name), "w", encoding="ascii") as f:
            f.write(text)
        return self.folder.join(name)

    def start(self):
        self.program = Program(self.argv)
        eventually(lambda: self.program.process.poll() is not None or listens(self.port)(), f"{self.argv[0]} listens")
        assert self.program.process.poll() is None, self.program.text()

    def stop(self):
        if self.program.process.poll() is None:
            self.program.end(signal.SIGKILL)

    def __exit__(self, *_):
        self.stop()
        self.folder.__exit__(None, None, None)


def tinyproxy(login=None, deny=False):
    def argv(p):
        lines = [f"Port {p.port}", "Listen 127.0.0.1", "Timeout 600", "MaxClients 100", "LogLevel Warning", "Allow 127.0.0.1"]
        lines += [f"BasicAuth {login.replace(':', ' ')}"] if login else []
        lines += ["ConnectPort 1"] if deny else []
        return ["tinyproxy", "-d", "-c", p.write("tinyproxy.conf", "\n".join(lines) + "\n")]
    return RealProxy(argv)


def microsocks(login=None):
    def argv(p):
        user = [f"-{letter}{word}" for letter, word in zip("uP", login.split(":"))] if login else []
        return ["microsocks", "-i", "127.0.0.1", "-p", str(p.port), *user]
    return RealProxy(argv)


def tls_before(port, cert, key):
    """haproxy, which ends TLS and passes the bytes on to a proxy's port."""
    def argv(p):
        with open(cert, encoding="ascii") as a, open(key, encoding="ascii") as b:
            both = p.write("both.pem", a.read() + b.read())
        return ["haproxy", "-db", "-f", p.write("haproxy.cfg", f"""global
    maxconn 100
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen tls
    bind 127.0.0.1:{p.port} ssl crt {both}
    server proxy 127.0.0.1:{port}
""")]
    return RealProxy(argv)


def _pump(near, far):
    with contextlib.suppress(OSError):
        while data := near.recv(65536):
            far.sendall(data)
    for s in (near, far):
        with contextlib.suppress(OSError):
            s.shutdown(socket.SHUT_RDWR)


class OurProxy(Service):
    """A CONNECT proxy in which every name leads to 127.0.0.1. `answer`: bytes that it says instead; `asked`: the heads it got."""

    def __init__(self, answer=None):
        self.answer, self.asked = answer, []
        super().__init__(self._talk)
        self.url = f"http://127.0.0.1:{self.port}"

    def _talk(self, near):
        head = b""
        while b"\r\n\r\n" not in head:
            more = near.recv(4096)
            if not more:
                return
            head += more
        self.asked.append(head.decode("latin-1"))
        if self.answer is not None:
            near.sendall(self.answer)
            while near.recv(4096):
                pass
            return
        port = int(head.split(b" ", 2)[1].rpartition(b":")[2])
        with socket.create_connection(("127.0.0.1", port)) as far:
            near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join(5)


# What of this process's environment would lead a test astray.
CLEAN = {name: "" for pair in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY") for name in (pair, pair.lower())}
os.environ.update(CLEAN)
