"""A lost link is a pause (stream-resume): what is under way goes on after it, who comes meanwhile waits for a moment, and what
does not come back ends. The cuts are made where a test wants them; test_faults.py makes them at random places."""

import contextlib
import hashlib
import json
import random
import re
import signal
import socket
import threading

from tests.faults.rig import FaultProxy, Prompter
from tests.integration.harness import (API, Driver, Moment, Service, Tunnel, connect, eventually, hello, http_handler,
                                       http_service, pace, read_chunked, read_exactly, read_head)
from tests.support.tap import case, main

NOISE = random.Random(15).randbytes(4 << 20)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Cuttable(contextlib.ExitStack):
    """A kit with a driver for `handle` behind a link that can be taken away."""

    def __init__(self, handle, *kit_args, command="expose", driver_args=()):
        super().__init__()
        try:
            self.t = self.enter_context(Tunnel(*kit_args))
            self.service = self.enter_context(Service(handle))
            self.proxy = self.enter_context(FaultProxy(self.t.kit.port, calm=True))
            self.driver = Driver(self.proxy, command, f"0={self.service.port}", *driver_args)
            self.t.drivers.append(self.driver)
            self.port, self.kit = self.driver.port, self.t.kit
        except BaseException:
            self.close()
            raise

    def away(self):
        """No link, and none to be had."""
        self.proxy.say("hold")
        self.proxy.say("cut")
        eventually(lambda: self.kit.get("/tunnels")["orphanedSessions"] == 1, "the kit parks the session")

    def back(self):
        n = len(self.driver.events("connected"))
        self.proxy.say("take")
        prompter = Prompter([self.driver])
        try:
            eventually(lambda: len(self.driver.events("connected")) > n, "the driver is back")
        finally:
            prompter.end()

    def bye(self):
        """While the proxy is there to say goodbye through."""
        assert self.driver.end(signal.SIGINT) == 0, self.driver.text()

    def session(self):
        return self.kit.get("/sessions")["sessions"][0]

    def waiting(self, n):
        eventually(lambda: self.session()["waiting"] == n, f"{n} visitors wait")

    def __exit__(self, *failure):
        return super().__exit__(*failure)


def big(_head, _body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(NOISE) + NOISE


def hashed(_head, body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + hashlib.sha256(body).hexdigest().encode()


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


@case("a download and an upload are whole, whatever is cut in the middle of them")
def _():
    with Cuttable(http_handler(big)) as c, connect(c.port) as v:
        v.sendall(GET)
        _, got = read_head(v)
        for _ in range(4):
            got = read_exactly(v, len(got) + (1 << 19), got)
            c.away()
            c.back()
        assert read_exactly(v, len(NOISE), got) == NOISE
        v.close()
        c.bye()
    with Cuttable(http_handler(hashed)) as c, connect(c.port) as v:
        v.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(NOISE))
        for i in range(4):
            v.sendall(NOISE[i << 20:(i << 20) + (1 << 19)])
            c.away()
            sender = threading.Thread(target=v.sendall, args=(NOISE[(i << 20) + (1 << 19):(i + 1) << 20],))
            sender.start()
            c.back()
            sender.join(30)
        _, got = read_head(v)
        assert read_exactly(v, 64, got).decode() == hashlib.sha256(NOISE).hexdigest()
        v.close()
        c.bye()


@case("a feed of events goes on behind a pause without a gap")
def _():
    go = threading.Semaphore(0)

    def feed(connection):
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for i in range(100):
            go.acquire(timeout=30)
            connection.sendall(b"data: %d\n\n" % i)
    with Cuttable(feed) as c, connect(c.port) as v:
        v.sendall(GET)
        text = b""
        for i in range(100):
            if i % 25 == 10:
                c.away()
            go.release()
            if i % 25 == 15:
                c.back()
        text, _ = read_chunked(v, read_head(v)[1])
        assert re.findall(rb"data: (\d+)\n\n", text) == [b"%d" % i for i in range(100)], text
        v.close()
        c.bye()


@case("a connection that was upgraded and a pulled one talk on")
def _():
    def upgraded(connection):
        _, rest = read_head(connection)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n" + rest)
        echo(connection)
    for command, handle in (("expose", upgraded), ("pull", echo)):
        with Cuttable(handle, command=command) as c, connect(c.port) as v:
            if command == "expose":
                v.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
                assert read_head(v)[0].startswith(b"HTTP/1.1 101 ")
            for i in range(5):
                v.sendall(b"before %d" % i)
                assert read_exactly(v, 8) == b"before %d" % i
                c.away()
                v.sendall(b"while %d" % i)
                c.back()
                assert read_exactly(v, 7) == b"while %d" % i
            c.away()
            v.shutdown(socket.SHUT_WR)  # remembered, and told afterwards
            c.back()
            assert v.recv(100) == b""
            eventually(lambda s=c.service: not s.open, "the service has seen the end")
            v.close()
            c.bye()


@case("new visitors wait for a driver that is away, and are served when it is back")
def _():
    with Cuttable(http_handler(hello)) as c, connect(c.port) as early, connect(c.port) as v:
        early.sendall(GET)
        assert read_head(early)[0].startswith(b"HTTP/1.1 200 ")
        assert c.session()["keepsStreams"] and not c.session()["waiting"]
        c.away()
        early.sendall(GET)
        v.sendall(GET)
        c.waiting(2)
        c.back()
        for one in (early, v):
            assert read_head(one)[0].startswith(b"HTTP/1.1 200 ")
        assert c.kit.metric('hoody_tunnel_holds_total{outcome="served"}') == 2
        assert c.kit.metric("hoody_tunnel_resumes_whole_total") == 1
        assert c.kit.metric("hoody_tunnel_pause_seconds_count") == 1
        early.close()
        v.close()
        c.bye()
    with Cuttable(echo, command="pull") as c:
        c.away()
        with connect(c.port) as v:
            v.sendall(b"hello")
            c.waiting(1)
            c.back()
            assert read_exactly(v, 5) == b"hello"
        c.bye()


@case("whoever waits longer than --hold is told so, and what was under way waits on")
def _():
    let, asked = threading.Event(), threading.Event()

    def slow(head, body):
        if "/slow" in head:
            asked.set()
            let.wait(30)
        return hello(head, body)
    with Cuttable(http_handler(slow), "--hold", "700ms") as c, connect(c.port) as under_way, connect(c.port) as v:
        under_way.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert asked.wait(30)
        c.away()
        moment = Moment()
        v.sendall(GET)
        head, _ = read_head(v)
        assert head.startswith(b"HTTP/1.1 503 ") and b"retry-after: 5" in head.lower(), head
        assert moment.took() > 0.65 and b"error=parked" in head, (moment.took(), head)
        moment.within(3, "the answer")
        let.set()
        c.back()
        assert read_head(under_way)[0].startswith(b"HTTP/1.1 200 ")
        under_way.close()
        v.close()
        c.bye()


@case("time limits stand still while the link is away")
def _():
    let, asked = threading.Event(), threading.Event()

    def slow(_head, _body):
        asked.set()
        let.wait(30)
        return hello(_head, _body)
    with Cuttable(http_handler(slow), "--response-timeout", "1s") as c, connect(c.port) as v:
        v.sendall(GET)
        assert asked.wait(30)
        c.away()
        pace(2.5)
        let.set()
        c.back()
        assert read_head(v)[0].startswith(b"HTTP/1.1 200 ")
        v.close()
        c.bye()


@case("when the grace is over, all that waited ends")
def _():
    stop = threading.Event()

    def half(connection):
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        stop.wait(30)
    with Cuttable(half, "--takeover-grace", "1s", "--hold", "30s") as c, connect(c.port) as begun, connect(c.port) as held:
        begun.sendall(GET)
        assert read_exactly(begun, 4, read_head(begun)[1]) == b"half"
        c.away()
        held.sendall(GET)
        c.waiting(1)
        with contextlib.suppress(ConnectionResetError):
            assert begun.recv(100) == b"", "a cut does not look like an end"
            raise AssertionError("a clean end")
        assert read_head(held)[0].startswith(b"HTTP/1.1 502 ")
        eventually(lambda: c.kit.get("/tunnels")["orphanedSessions"] == 0, "the session is gone")
        stop.set()
        c.back()
        c.bye()


@case("without the capability, on either side, a lost link is a cut as ever")
def _():
    off = ("--replay-buffer", "0")
    for kit_args, driver_args in ((off, ()), ((), off)):
        with Cuttable(echo, *kit_args, command="pull", driver_args=driver_args) as c, connect(c.port) as v:
            v.sendall(b"x")
            assert v.recv(1) == b"x" and not c.session()["keepsStreams"]
            c.away()
            with contextlib.suppress(ConnectionResetError):
                raise AssertionError(f"no cut: {v.recv(1)}")
            with connect(c.port) as late:  # nobody waits
                assert late.recv(1) == b""
            v.close()
            c.back()
            assert c.kit.metric("hoody_tunnel_resumes_total") == 1 and c.kit.metric("hoody_tunnel_resumes_whole_total") == 0
            c.bye()


@case("another driver takes the port of a session that is away: its visitors are told, those who wait are served")
def _():
    let, asked = threading.Event(), threading.Event()

    def slow(connection):
        read_head(connection)
        asked.set()
        let.wait(30)
    with Cuttable(slow, "--hold", "30s") as c, http_service(hello) as other, connect(c.port) as old, connect(c.port) as new:
        old.sendall(GET)
        assert asked.wait(30)
        c.away()
        new.sendall(GET)
        c.waiting(1)
        taken = Driver(c.kit, "expose", "--takeover", f"{c.port}={other.port}")
        c.t.drivers.append(taken)
        assert read_head(old)[0].startswith(b"HTTP/1.1 502 ")
        assert read_head(new)[0].startswith(b"HTTP/1.1 200 ")
        let.set()
        c.proxy.say("take")
        c.driver.process.send_signal(signal.SIGHUP)
        assert c.driver.process.wait(20) == 7, c.driver.text()  # it is told when it is back
        c.t.drivers.remove(c.driver)
        c.driver.end()
        old.close()
        new.close()


@case("an admin ends a parked session with all who wait for it")
def _():
    with Cuttable(echo, "--hold", "30s", command="pull") as c, connect(c.port) as v:
        v.sendall(b"x")
        assert v.recv(1) == b"x"
        c.away()
        with connect(c.port) as late:
            c.waiting(1)
            row = c.session()
            assert row["parked"] and row["activeStreams"] == 1, row
            assert c.kit.request("DELETE", f"/sessions/{row['sessionId']}")[0] == 202
            for one in (v, late):
                with contextlib.suppress(ConnectionResetError):
                    assert one.recv(1) == b""
        v.close()
        c.back()
        assert not c.driver.events("connected")[-1]["resumed"]
        c.bye()


@case("a kit that is killed knows nothing afterwards: the local service sees the end")
def _():
    with Cuttable(echo, command="pull") as c, connect(c.port) as v:
        v.sendall(b"x")
        assert v.recv(1) == b"x"
        c.away()
        c.kit.end(signal.SIGKILL)
        with contextlib.suppress(ConnectionResetError):
            assert v.recv(1) == b""
        c.t.kit = c.kit = type(c.kit)("--listen", f"127.0.0.1:{c.kit.port}")
        c.back()
        eventually(lambda: not c.service.open, "the service has seen the end")
        assert not c.driver.events("connected")[-1]["resumed"]
        c.bye()


@case("the events say that streams waited, and went on")
def _():
    with Cuttable(echo, command="pull") as c, connect(c.port) as v, connect(c.kit.port) as events:
        v.sendall(b"x")
        assert v.recv(1) == b"x"
        events.sendall(f"GET {API}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        _, text = read_head(events)
        c.away()
        with connect(c.port) as late:
            late.sendall(b"y")
            c.waiting(1)
            c.back()
            assert late.recv(1) == b"y"
        while b"session-resumed" not in text or not text.endswith(b"\n\n"):
            text += events.recv(65536)
        told = {e["event"]: e for e in map(json.loads, re.findall(rb"^data: (.*)$", text, re.M))}
        assert told["session-parked"]["streams"] == 1 and told["session-resumed"]["streams"] == 1, told
        assert told["session-resumed"]["pausedMs"] > 0 and told["session-resumed"]["held"] == 1, told
        v.close()
        events.close()
        c.bye()
        ended, back = c.driver.events("ended")[0], c.driver.events("connected")[1]
        assert back["whole"] and ended["losses"] == ended["whole"] == 1, (back, ended)
        assert back["pausedMs"] == ended["pausedMs"] == ended["longestPauseMs"] > 0, (back, ended)


if __name__ == "__main__":
    main()
