"""A driver that was killed gets its port back as another process: the same machine, the same user, whatever state its link is in.
Nobody else does, and drivers that are alive stay as they are.
"""

import contextlib
import os
import signal
import socket
import stat
import struct
import tempfile
import threading

from tests.integration.harness import (BIN, Driver, Moment, Program, Relay, Service, Tunnel, connect, eventually, hello, http_service,
                                       status)
from tests.support.tap import case, main


class Freezer(Relay):
    """A relay that, once frozen, passes nothing more on and closes nothing: a link that is dead and does not look so."""

    def __init__(self, port):
        self.thawed = threading.Event()
        self.thawed.set()
        super().__init__(port)

    def _copy(self, source, to):
        try:
            while data := source.recv(65536):
                self.thawed.wait()
                to.sendall(data)
        except OSError:
            pass
        self.thawed.wait()
        for end in (source, to):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __exit__(self, *args):
        self.thawed.set()
        return super().__exit__(*args)


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


def status_of(program):
    """How it ended by itself, with all that it said read."""
    program.process.wait(30)
    return program.end()


def said(port):
    """What a pulled echo service says through the tunnel; None when nobody is there."""
    try:
        with connect(port) as c:
            c.settimeout(5)
            c.sendall(b"ping")
            return c.recv(16)
    except OSError:
        return None


def killed_and_back(t, mode, service, url, before=None, within=2):
    """kill -9, and the same command again; the seconds until the port serves."""
    first = Driver(url, mode, f"0={service.port}")
    serves = (lambda: status(first.port) == 200) if mode == "expose" else (lambda: said(first.port) == b"ping")
    assert serves()
    busy = before(first) if before else None
    first.end(signal.SIGKILL)
    back = Moment()
    second = Driver(t.kit, mode, f"{first.port}={service.port}")
    t.drivers.append(second)
    assert second.port == first.port, second.bound
    eventually(serves, "the port serves again")
    print(f"# {mode}: back after {back.within(within, 'the port'):.2f} s")
    if busy:
        busy.close()


@case("a driver killed while idle: the next process gets the port at once, expose and pull")
def _():
    with Tunnel() as t, http_service(hello) as web, Service(echo) as tcp:
        killed_and_back(t, "expose", web, t.kit)
        killed_and_back(t, "pull", tcp, t.kit)


@case("a driver killed in the middle of a request or connection")
def _():
    came = threading.Event()

    def never(_connection):
        if _connection.recv(65536):  # the driver looks at its start whether somebody is here, and says nothing
            came.set()
            _connection.recv(1)

    def visit(driver):
        c = connect(driver.port)
        c.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert came.wait(10)
        return c

    with Tunnel() as t, Service(never) as slow:
        for mode in ("expose", "pull"):
            came.clear()
            first = Driver(t.kit, mode, f"0={slow.port}")
            with visit(first) as visitor:
                first.end(signal.SIGKILL)
                second = Driver(t.kit, mode, f"{first.port}={slow.port}")
                t.drivers.append(second)
                visitor.settimeout(10)
                answer = b""
                with contextlib.suppress(ConnectionError):
                    answer = visitor.recv(65536)
                assert answer == b"" or answer.startswith(b"HTTP/1.1 50"), answer
                came.clear()
                with visit(second) as another:  # a reset: one that only closes its side may wait for its answer
                    another.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        eventually(lambda: t.kit.get("/tunnels")["totalStreams"] == 0, "no stream is left")


@case("a driver killed behind a frozen link: after two seconds without an answer its port goes to the next process")
def _():
    with Tunnel() as t, http_service(hello) as web, Service(echo) as tcp:
        for mode, service in (("expose", web), ("pull", tcp)):
            with Freezer(t.kit.port) as relay:
                killed_and_back(t, mode, service, relay, lambda _d, r=relay: r.thawed.clear(), within=4)
                assert t.kit.get("/tunnels")["orphanedSessions"] == 0


@case("a driver that is alive keeps its port, and says so; others of the same user stand beside it")
def _():
    with Tunnel() as t, http_service(hello) as web:
        first = t.expose(f"0={web.port}", "--label", "front")
        beside = t.expose(f"0={web.port}")
        refused = Moment()
        third = Program([BIN, "expose", "--url", t.kit.url, f"{first.port}={web.port}"])
        assert status_of(third) == 5, third.text()
        refused.within(2, "a driver that answers")
        assert "another driver of yours" in third.text() and "front" in third.text(), third.text()
        assert status(first.port) == 200 and status(beside.port) == 200
        assert not first.events("disconnected") and not first.events("unbound"), first.text()


@case("a driver of another machine or user gets no port, live or parked")
def _():
    with Tunnel() as t, http_service(hello) as web, tempfile.TemporaryDirectory() as elsewhere:
        first = Driver(t.kit, "expose", f"0={web.port}", "--label", "front")
        for _ in range(2):
            other = Program([BIN, "expose", "--url", t.kit.url, f"{first.port}={web.port}"], env={"XDG_STATE_HOME": elsewhere})
            assert status_of(other) == 5, other.text()
            assert "another session" in other.text() and "front" in other.text(), other.text()
            if first.process.poll() is None:
                first.end(signal.SIGKILL)
                eventually(lambda: t.kit.get("/tunnels")["orphanedSessions"] == 1, "it is parked")
        assert "until" in other.text(), other.text()
        t.expose(f"{first.port}={web.port}")


@case("processes that start at the same time agree on one identity, which only their user may read")
def _():
    with Tunnel("--max-sessions", "16") as t, http_service(hello) as web, tempfile.TemporaryDirectory() as state:
        env = {"XDG_STATE_HOME": os.path.join(state, "a", "b")}
        programs = [Program([BIN, "expose", "--url", t.kit.url, "--json", f"0={web.port}"], env=env) for _ in range(8)]
        for p in programs:
            p.wait_line('"event":"bound"', 30)
        folder = os.path.join(state, "a", "b", "hoody-tunnel")
        names = sorted(os.listdir(folder))
        assert len(names) == 2 and names[0].startswith("client-") and names[1].startswith("name-"), names
        path = os.path.join(folder, names[0])
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        with open(path, encoding="ascii") as f:
            secret = f.read().strip()
        assert len(secret) == 32, len(secret)
        for p in programs:
            assert p.end(signal.SIGINT) == 0, p.text()
            assert secret not in p.text()
        assert secret not in t.kit.text()
        # One that was cut off, and one that others could read, are replaced.
        for spoil in (lambda: os.truncate(path, 5), lambda: os.chmod(path, 0o644)):
            spoil()
            d = Driver(t.kit, "expose", f"0={web.port}", env=env)
            assert d.end(signal.SIGINT) == 0
            with open(path, encoding="ascii") as f:
                assert len(f.read()) == 33 and stat.S_IMODE(os.stat(path).st_mode) == 0o600


@case("when the identity cannot be stored there is one warning, and everything else works")
def _():
    with Tunnel() as t, http_service(hello) as web, tempfile.NamedTemporaryFile() as no_folder:
        d = Driver(t.kit, "expose", f"0={web.port}", env={"XDG_STATE_HOME": no_folder.name})
        assert status(d.port) == 200
        d.process.send_signal(signal.SIGHUP)
        assert d.end(signal.SIGINT) == 0, d.text()
        assert d.text().count("no client id could be kept") == 1, d.text()


if __name__ == "__main__":
    main()
