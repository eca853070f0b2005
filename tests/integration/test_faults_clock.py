"""Somebody sets the clock: jumps of an hour, forth and back, under kit and driver (tests/faults/clock_shim.c) change
nothing. Nothing expires early, nothing stalls, no visitor notices."""

import contextlib
import datetime
import os
import re
import signal
import struct
import threading

from tests.faults.rig import FaultProxy
from tests.integration.harness import (BIN, Driver, Folder, Kit, Moment, Service, Tunnel, connect, eventually,
                                       free_port, http_service, read_exactly)
from tests.support.tap import case, main

HOUR = 3600
SHIM = os.path.join(os.path.dirname(BIN), "tests/clock_shim.so")
SLOW = 3.0  # what the machine may add to a timer, and more when it is busy (Moment)


class Clock(Folder):
    """The wall clock of programs that are started with .env."""

    def __init__(self):
        super().__init__()
        self.path_of_offset = self.join("offset")
        self.set(0)
        # The shim is no part of the sanitizers' link order, and does not have to be.
        options = ":".join(filter(None, (os.environ.get("ASAN_OPTIONS"), "verify_asan_link_order=0")))
        self.env = {"LD_PRELOAD": SHIM, "CLOCK_SHIM": self.path_of_offset, "ASAN_OPTIONS": options}

    def set(self, seconds):
        with open(self.path_of_offset, "r+b" if os.path.exists(self.path_of_offset) else "wb") as f:
            f.write(struct.pack("=q", seconds))


def stamp(line):
    """The moment that a program's line names, in seconds from now."""
    text = re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line).group(0)
    there = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.timezone.utc)
    return (there - datetime.datetime.now(datetime.timezone.utc)).total_seconds()


def hello(_head, _body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def status(port):
    try:
        with connect(port) as c:
            c.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return int(c.recv(65536).split(b" ", 2)[1])
    except (OSError, IndexError):
        return None


def pings(kit):
    return kit.metric('hoody_tunnel_pings_total{direction="sent"}')


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


JUMPS = (HOUR, 0, -HOUR, HOUR, -HOUR, 0)


@case("the clock jumps by an hour under traffic: no visitor and no session notices")
def _():
    with Clock() as clock, Service(echo) as tcp, http_service(hello) as web:
        with Tunnel("--ping-interval", "150ms", "--pong-timeout", "1s", "--idle-timeout", "1h", env=clock.env) as t:
            expose, pull = t.expose(f"0={web.port}", env=clock.env), t.pull(f"0={tcp.port}", env=clock.env)
            over, seen = threading.Event(), []

            def visit():
                with connect(pull.port) as kept:
                    while not over.is_set():
                        kept.sendall(b"x" * 1000)
                        seen.append(read_exactly(kept, 1000) == b"x" * 1000 and status(expose.port))

            visitor = threading.Thread(target=visit)
            visitor.start()
            try:
                for jump in JUMPS:
                    clock.set(jump)
                    before = len(seen)
                    eventually(lambda n=before: len(seen) > n + 100, "visitors go on")
            finally:
                over.set()
                visitor.join(20)
            assert set(seen) == {200}, set(seen)
            for jump in (HOUR, -HOUR, HOUR):
                before = pings(t.kit)
                clock.set(jump)
                eventually(lambda n=before: pings(t.kit) > n + 2, "PINGs on idle links")
            for driver in (expose, pull):  # every PING was answered in time
                assert len(driver.events("connected")) == 1 and not driver.events("disconnected"), driver.text()
            assert "parked" not in t.kit.text(), t.kit.text()
            # The shim did move the clock: a line that is written now says so.
            n = len(expose.log)
            assert status(expose.port) == 200
            line = eventually(lambda: expose.log[n:], "the driver's line")[-1]
            assert abs(stamp(line) - HOUR) < 60, line
            print(f"# {len(seen)} visits during {len(JUMPS)} jumps")


@contextlib.contextmanager
def parked_after_a_jump(grace, jump):
    """(tunnel, proxy, driver, moment): a session that is parked, and then the clock jumps."""
    with Clock() as clock, http_service(hello) as web, Tunnel("--takeover-grace", grace, "--hold", "0s", env=clock.env) as t, \
            FaultProxy(t.kit.port, calm=True) as proxy:
        driver = Driver(proxy, "expose", f"0={web.port}", env=clock.env)
        proxy.say("hold")
        proxy.say("cut")
        moment = Moment()
        eventually(lambda: status(driver.port) == 503, "the kit parks the session")
        clock.set(jump)
        yield t, proxy, driver, moment
        driver.end(signal.SIGINT)
        driver.check_sanitizers()


@case("a grace lasts as long as it should, whatever the clock does meanwhile")
def _():
    for jump in (HOUR, -HOUR):
        with parked_after_a_jump("60s", jump) as (_, proxy, driver, _):
            assert {status(driver.port) for _ in range(20)} == {503}
            proxy.say("take")
            driver.process.send_signal(signal.SIGHUP)
            eventually(lambda d=driver: status(d.port) == 200, "the service is back")
            assert [c["resumed"] for c in driver.events("connected")] == [False, True], driver.text()
        with parked_after_a_jump("1s", jump) as (_, proxy, driver, moment):
            eventually(lambda d=driver: status(d.port) is None, "the port is given up")
            assert moment.took() > 0.8, moment.took()
            print(f"# {jump:+} s: given up after {moment.within(1 + SLOW, 'giving up'):.2f} s of 1 s")


@case("a clock that jumps changes no timeout of a visitor and no wait of a driver")
def _():
    listen, port = free_port(), free_port()
    for jump in (HOUR, -HOUR):
        with Clock() as clock, http_service(hello) as web:
            with Tunnel("--listen", f"127.0.0.1:{listen}", "--head-timeout", "1s", "--keepalive-timeout", "1s",
                        env=clock.env) as t:
                driver = t.expose(f"{port}={web.port}", env=clock.env)
                with connect(driver.port) as slow, connect(driver.port) as idle:
                    begun = Moment()
                    slow.sendall(b"GET / HTTP/1.1\r\nHo")
                    idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    assert idle.recv(65536).startswith(b"HTTP/1.1 200 ")
                    clock.set(jump)
                    assert slow.recv(65536).startswith(b"HTTP/1.1 408 ")
                    assert 0.7 < begun.within(1 + SLOW, "the 408")
                    assert idle.recv(65536) == b""
                    assert 0.7 < begun.within(1 + SLOW, "the end of an idle connection")
                clock.set(0)
                t.kit.end(signal.SIGKILL)
                eventually(lambda d=driver: d.events("disconnected"), "the driver notices")
                clock.set(jump)
                t.kit = Kit("--listen", f"127.0.0.1:{listen}", env=clock.env)
                eventually(lambda p=driver.port: status(p) == 200, "the service is back")


@case("a clock that jumps, as after a sleep, makes both ends ask at once whether the other is still there")
def _():
    with Clock() as clock, http_service(hello) as web:
        with Tunnel("--ping-interval", "1h", env=clock.env) as t:
            driver = t.expose(f"0={web.port}", "--ping-interval", "1h", env=clock.env)

            def pinged():
                return [t.kit.metric(f'hoody_tunnel_pings_total{{direction="{d}"}}') for d in ("sent", "received")]
            eventually(lambda: min(pinged()) >= 1, "the first round trips")
            before = pinged()
            clock.set(HOUR)
            eventually(lambda: all(now > then for now, then in zip(pinged(), before)), "both ends have asked", 10 + 2 * SLOW)
            assert status(driver.port) == 200 and not driver.events("disconnected"), driver.text()


if __name__ == "__main__":
    main()
