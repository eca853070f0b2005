"""kill -9 of the kit, of the driver and of both, in each of the named states of a session: the tunnel is back within 2 s of
the killed program's being back, whoever was under way sees it, and nothing is left of what was.

The proxy between driver and kit holds a handshake at the named place.

Runs: plain.
"""

import contextlib
import signal
import threading

from tests.faults.rig import FaultProxy, linked, long_wait
from tests.integration.harness import (BIN, Kit, Moment, Program, Service, connect, eventually, fds, free_port,
                                       read_exactly, read_head)
from tests.support.tap import case, main

WITHIN = 2.0
BODY = 300_000


class Web(Service):
    """/ is answered at once; /slow and /stream with half of their answers; a POST is read and not answered; an upgrade is an echo."""

    def __init__(self):
        self.came = threading.Event()
        super().__init__(self._answer)

    def _answer(self, connection):
        rest = b""
        while True:
            try:
                head, rest = read_head(connection, rest)
            except ConnectionResetError:
                return
            if head.startswith(b"GET / "):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                continue
            if head.startswith(b"GET /slow"):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY + bytes(BODY // 2))
            elif head.startswith(b"GET /stream"):
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % BODY + bytes(BODY // 2))
            elif head.startswith(b"GET /ws"):
                connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
            while True:
                data = rest or connection.recv(65536)
                rest = b""
                if not data:
                    return
                self.came.set()
                if head.startswith(b"GET /ws"):
                    connection.sendall(data)


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


class Scene(contextlib.ExitStack):
    """A kit on a port of its own, the proxy before it, a driver through the proxy, and one visitor."""

    command = "expose"

    def __init__(self):
        super().__init__()
        self.listen, self.port = free_port(), free_port()
        self.driver = self.kit = None
        self.visitors = []
        self.kit_is_ending = False
        self.framed = True  # the visitor can tell by what comes whether it is whole

    def __enter__(self):
        super().__enter__()
        self.web = self.enter_context(Web())
        self.tcp = self.enter_context(Service(echo))
        self.start_kit()
        self.proxy = self.enter_context(FaultProxy(self.listen, calm=True))
        return self

    def start_kit(self):
        self.kit = Kit("--listen", f"127.0.0.1:{self.listen}", "--drain-timeout", "20s")

    def start_driver(self, *more):
        service = self.web if self.command == "expose" else self.tcp
        self.driver = Program([BIN, self.command, "--url", self.proxy.url, "--json", "--retry-for", "1h", *more,
                               f"{self.port}={service.port}"])

    def bound(self):
        return any('"event":"bound"' in line for line in list(self.driver.log))

    def set_up(self, *more):
        self.start_driver(*more)
        eventually(self.bound, f"the driver is bound: {self.driver.text()}")

    def serves(self):
        """A fresh visitor gets what he came for."""
        try:
            with connect(self.port, 5) as c:
                if self.command == "pull":
                    c.sendall(b"hello")
                    return read_exactly(c, 5) == b"hello"
                c.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                return c.recv(65536).startswith(b"HTTP/1.1 200 ")
        except OSError:
            return False

    def visit(self, request, expect=0):
        visitor = self.enter_context(connect(self.port))
        self.visitors.append(visitor)
        visitor.sendall(request)
        return read_exactly(visitor, expect) if expect else b""

    def tunnels(self):
        return self.kit.get("/tunnels")

    # ---- killing and coming back ----

    def kill(self, victims):
        for name in victims:
            program = getattr(self, name)
            program.process.kill()
        for name in victims:
            getattr(self, name).end(signal.SIGKILL)
        self.proxy.say("flow")
        self.proxy.say("take")

    def come_back(self, victims):
        """Returns the moment when the last of them was back."""
        if "kit" in victims or self.kit_is_ending:
            if "kit" not in victims:
                self.kit.process.wait(20)  # without the driver there is nothing to drain
                assert self.kit.end() == 0, self.kit.text()
            self.start_kit()
        if "driver" in victims:
            # The port is still held for the dead driver's session. A pull port cannot be taken over, only waited for.
            if self.command == "pull" and "kit" not in victims:
                eventually(lambda: self.tunnels()["sessions"] == [], "the kit has noticed")
                self.forget_parked()
            self.start_driver(*(["--takeover"] if self.command == "expose" else []))
        return Moment()

    def forget_parked(self):
        """The ports of drivers that are dead are given up by an operator, as the end of the grace would."""
        for session in self.kit.get("/sessions")["sessions"]:
            if session["parked"]:
                self.kit.request("DELETE", f"/sessions/{session['sessionId']}")
        eventually(lambda: self.tunnels()["orphanedSessions"] == 0, "nothing parked")

    def visitors_see_it(self, victims):
        """What was under way is cut, and shows it."""
        for visitor in self.visitors:
            visitor.settimeout(15)
            got, end = b"", "fin"
            try:
                while data := visitor.recv(1 << 20):
                    got += data
            except ConnectionError:
                end = "reset"
            visitor.close()
            # An answer that names its length may end as it likes: it shows. Raw bytes have no other end than the
            # connection's.
            refused = got.startswith((b"HTTP/1.1 502 ", b"HTTP/1.1 503 ")) or (self.framed and "kit" in victims)
            assert end == "reset" or refused, (end, got[:100])
            assert len(got) < BODY, "a whole answer nobody gave"

    def nothing_left(self):
        """The drivers end; the kit is as new."""
        eventually(lambda: self.tunnels()["totalStreams"] == 0, "no stream")
        assert self.driver.end(signal.SIGINT) == 0, self.driver.text()
        self.driver.check_sanitizers()
        eventually(lambda: self.tunnels()["sessions"] == [], "no session")
        self.forget_parked()
        tunnels = self.tunnels()
        assert tunnels["totalBindings"] == tunnels["totalStreams"] == 0, tunnels
        eventually(lambda: fds(self.kit.pid) <= self.kit.baseline_fds, "the descriptors of a new kit")
        with contextlib.suppress(ConnectionRefusedError):
            connect(self.port).close()
            raise AssertionError("the port is still held")
        assert self.kit.end() == 0, self.kit.text()
        self.kit.check_sanitizers()

    def __exit__(self, kind, *rest):
        for program in (self.driver, self.kit):
            if program:
                if kind:
                    print("\n".join(f"# {line}" for line in [f"log of {program.argv[1]}:", *program.log[-40:]]))
                if program.process.poll() is None:
                    program.end(signal.SIGKILL)
        return super().__exit__(kind, *rest)


# ---- the states: each function leads to one, and returns when programs say that it is reached ----


def connecting(s):
    s.proxy.say("stall up 0")
    s.start_driver()
    eventually(s.proxy.stalled, "the driver's request")


def upgrading(s):
    s.proxy.say("stall down 0")
    s.start_driver()
    eventually(s.proxy.stalled, "the kit's answer")


def before_hello(s):
    s.proxy.say("stall up 1")
    s.start_driver()
    eventually(s.proxy.stalled, "the driver's HELLO")


def before_hello_ok(s):
    s.proxy.say("stall down 1")
    s.start_driver()
    eventually(s.proxy.stalled, "the kit's HELLO_OK")
    assert len(s.tunnels()["sessions"]) == 1 and not linked(s.driver)


def before_bind_ok(s):
    s.proxy.say("stall down 2")
    s.start_driver()
    eventually(s.proxy.stalled, "the kit's BIND_OK")
    eventually(lambda: linked(s.driver), "the driver says that it is connected")
    eventually(lambda: s.tunnels()["totalBindings"] == 1, "the binding")  # what was stopped may be a PONG that goes ahead of BIND_OK
    assert not s.bound()


def joining(s):
    """Of a session with several sockets only the first stands."""
    s.proxy.say("stall up 1 1")
    s.start_driver("--connections", "3")
    eventually(lambda: s.proxy.stalled() == 2, "the driver's JOINs")
    assert s.tunnels()["sessions"][0]["protocol"] == "v2"


def spread(s):
    """A session with several sockets and a visitor on each."""
    s.set_up("--connections", "3")
    for _ in range(3):
        s.visit(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", BODY // 2)


def idle(s):
    s.set_up()
    assert s.serves()


def mid_head(s):
    s.set_up()
    s.visit(b"GET / HTTP/1.1\r\nHos")
    assert s.serves()
    s.visitors.pop().sendall(b"t: a\r\n")  # no request yet: how this connection ends is nobody's concern


def mid_request_body(s):
    s.set_up()
    s.visit(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + bytes(BODY))
    assert s.web.came.wait(10)


def mid_response(s):
    s.set_up()
    s.visit(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", BODY // 2)


def until_close(s):
    """An answer to HTTP/1.0, whose end is the end of the connection."""
    s.set_up()
    s.visit(b"GET /stream HTTP/1.0\r\n\r\n", BODY // 2)
    s.framed = False


def upgraded(s):
    s.set_up()
    s.framed = False
    s.visit(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    _, rest = read_head(s.visitors[0])
    s.visitors[0].sendall(b"there")
    assert read_exactly(s.visitors[0], 5, rest) == b"there"


def pull_open(s):
    s.set_up()
    s.framed = False
    assert s.visit(b"there", 5) == b"there"


def parked(s):
    s.set_up()
    s.proxy.say("hold")
    s.proxy.say("cut")
    eventually(lambda: s.tunnels()["orphanedSessions"] == 1, "the parked session")


def resuming(s):
    parked(s)
    s.proxy.say("stall down 1")
    s.proxy.say("take")
    s.driver.process.send_signal(signal.SIGHUP)
    eventually(s.proxy.stalled, "the kit's HELLO_OK")
    assert s.tunnels()["sessions"] and not linked(s.driver)


def draining(s):
    s.set_up()
    s.visit(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", BODY // 2)
    s.kit.process.send_signal(signal.SIGTERM)
    s.kit.wait_line("draining")
    s.kit_is_ending = True


STATES = (connecting, upgrading, before_hello, before_hello_ok, before_bind_ok, joining, spread, idle, mid_head,
          mid_request_body, mid_response, until_close, upgraded, pull_open, parked, resuming, draining)


def recovers(state, victims):
    with Scene() as s:
        if state is pull_open:
            s.command = "pull"
        state(s)
        s.kill(victims)
        back = s.come_back(victims)
        eventually(s.serves, f"the first answer: {s.driver.text()}")
        took = back.within(WITHIN + long_wait(s.driver), "the return")
        s.visitors_see_it(victims)
        s.nothing_left()
        return took


for _state in STATES:
    @case(f"kill -9 {_state.__name__.replace('_', ' ')}: kit, driver, both")
    def _(state=_state):
        times = [recovers(state, victims) for victims in (["kit"], ["driver"], ["kit", "driver"])]
        print(f"# {state.__name__}: back after " + ", ".join(f"{t * 1000:.0f} ms" for t in times), flush=True)


if __name__ == "__main__":
    main()
