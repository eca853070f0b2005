"""A restart, and then the link to the old program is lost: what is under way there goes on, by way of the new program, which
hands the driver's next link to the one that has the streams."""

import contextlib
import os
import random
import signal

from tests.faults.rig import FaultProxy
from tests.integration.harness import Driver, Folder, Service, connect, eventually, read_exactly, read_head, status
from tests.integration.restarted import Restarted, alive, listens
from tests.integration.tls_peer import Authority
from tests.support.tap import case, main

BIG = random.Random(16).randbytes(16 << 20)
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


def serve(connection):
    """GET: a large answer, as fast as it is read. An upgrade: an echo."""
    head, rest = read_head(connection)
    if b"upgrade: echo" in head.lower():
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n" + rest)
        echo(connection)
    elif head.startswith(b"GET /big "):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BIG) + BIG)
    else:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


def ended(connection):
    """What it still had is read, and then its end."""
    try:
        while connection.recv(1 << 20):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


class Way:
    """What a driver dials: a proxy that can cut single connections."""

    def __init__(self, proxy, tls):
        self.proxy = proxy
        self.url = f"wss://localhost:{proxy.port}" if tls else proxy.url


class Lost(contextlib.ExitStack):
    """A kit that is restarted, a driver for both ways behind a proxy, and what is under way: a download, a connection that was
    upgraded, and one that was pulled."""

    def __init__(self, *kit_args, sockets=1, tls=False, driver_args=()):
        super().__init__()
        try:
            self._begin(kit_args, sockets, tls, driver_args)
        except BaseException:
            self.close()
            raise

    def _begin(self, kit_args, sockets, tls, driver_args):
        if tls:
            ca = Authority(self.enter_context(Folder()))
            cert, key = ca.issue("kit")
            kit_args = (*kit_args, "--tls-cert", cert, "--tls-key", key)
            driver_args = (*driver_args, "--ca", ca.path("ca.pem"))
        self.sockets, self.present = sockets, []
        self.t = self.enter_context(Restarted(*kit_args))
        self.web, self.raw = self.enter_context(Service(serve)), self.enter_context(Service(echo))
        self.proxies, self.drivers = [], []
        for command, service in (("expose", self.web), ("pull", self.raw)):
            proxy = self.enter_context(FaultProxy(self.t.kit.port, calm=True))
            driver = Driver(Way(proxy, tls), command, f"0={service.port}", "--connections", str(sockets), *driver_args)
            self.proxies.append(proxy)
            self.drivers.append(driver)
        self.expose, self.pull = self.drivers
        self.download = self.enter_context(connect(self.expose.port, 60))
        self.download.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        _, self.got = read_head(self.download)
        self.talks = []
        self.talk(self.expose, UPGRADE)
        self.talk(self.pull)

    def talk(self, driver, first=b""):
        c = self.enter_context(connect(driver.port, 60))
        if first:
            c.sendall(first)
            head, rest = read_head(c)
            assert head.startswith(b"HTTP/1.1 101 ") and not rest, head
        self.talks.append(c)
        self.says(c, b"at first")

    @staticmethod
    def says(connection, text):
        connection.sendall(text)
        assert read_exactly(connection, len(text)) == text

    def opened(self):
        return [max(int(line.split()[2]) for line in p.log if line.startswith("out: open ")) for p in self.proxies]

    def cut_past(self):
        """All links but those of the present sessions."""
        for proxy, opened, present in zip(self.proxies, self.opened(), self.present):
            for number in range(1, opened + 1):
                if number not in present:
                    proxy.say(f"cut {number}")

    def restarts(self):
        """Returns the old program's process. Whoever comes from now on is the new one's."""
        n, before = [len(d.events("connected")) for d in self.drivers], self.opened()
        old = self.t.kit.restarts()
        for d, times in zip(self.drivers, n):
            eventually(lambda d=d, times=times: len(d.events("connected")) == times + 1, f"the driver at the new program: {d.text()}")
            eventually(lambda d=d: not listens(old, d.port), f"a port that the old program has let go: {self.t.kit.text()}")
        eventually(lambda: all(now >= last + self.sockets for now, last in zip(self.opened(), before)), "all connections of the drivers")
        self.present = [range(last + 1, last + self.sockets + 1) for last in before]
        return old

    def goes_on(self, times=1):
        """What is under way, after the link of that many sessions was cut once more."""
        for d in self.drivers:
            eventually(lambda d=d: d.text().count("of an earlier session go on") >= times, f"the streams go on: {d.text()}\n{self.t.kit.text()}")
        for i, c in enumerate(self.talks):
            self.says(c, b"and on %d" % i * 1000)
        self.got = read_exactly(self.download, len(self.got) + len(BIG) // 8, self.got)

    def ends(self, lost=0):
        assert read_exactly(self.download, len(BIG), self.got) == BIG
        for d in self.drivers:
            assert "were cut" not in d.text() and "was cut" not in d.text(), d.text()
            assert len(d.events("disconnected")) <= lost, d.text()
        assert status(self.expose.port) == 200
        for c in (self.download, *self.talks):
            c.close()
        self.t.only_one()
        self.bye()

    def bye(self):
        for d in self.drivers:  # while the proxy is there to say goodbye through
            assert d.end(signal.SIGINT) == 0, d.text()
            d.check_sanitizers()


for sockets in (1, 4):
    @case(f"the link of the old program is cut, {sockets} WebSockets: nothing that is under way there notices")
    def _(sockets=sockets):
        with Lost(sockets=sockets) as c:
            old = c.restarts()
            c.goes_on(0)
            for n in range(3):
                c.cut_past()
                c.goes_on(n + 1)
            assert alive(old), c.t.kit.text()
            c.ends()


for sockets in (1, 3):
    @case(f"a kit that makes TLS itself, {sockets} WebSockets: the same, through the new program")
    def _(sockets=sockets):
        with Lost(sockets=sockets, tls=True) as c:
            old = c.restarts()
            for n in range(2):
                c.cut_past()
                c.goes_on(n + 1)
            assert alive(old) and c.t.kit.metric("hoody_tunnel_handed_connections_total") >= 4
            c.ends()


for tls in (False, True):
    @case(f"three restarts, streams of each program{', TLS' if tls else ''}: every link finds its own")
    def _(tls=tls):
        with Lost(sockets=2, tls=tls) as c:
            olds = []
            for _ in range(3):
                olds.append(c.restarts())
                c.talk(c.expose, UPGRADE)
                c.talk(c.pull)
            c.cut_past()
            c.goes_on(3)
            assert all(alive(old) for old in olds), c.t.kit.text()
            c.cut_past()
            c.goes_on(6)
            c.ends()


@case("a link that is lost while its kit is restarted: its driver finds its streams, and then the new program")
def _():
    with Lost() as c:
        for proxy in c.proxies:
            proxy.say("hold")
            proxy.say("cut")
        eventually(lambda: c.t.kit.get("/tunnels")["orphanedSessions"] == 2, "the kit parks the sessions")
        old = c.t.kit.restarts()
        for proxy in c.proxies:
            proxy.say("take")
        for d in c.drivers:
            d.process.send_signal(signal.SIGHUP)
            eventually(lambda d=d: len(d.events("connected")) == 3, f"the driver at the new program: {d.text()}")
            assert [e["whole"] for e in d.events("connected")] == [False, True, False], d.events("connected")
        c.goes_on(0)
        assert alive(old)
        c.ends(lost=1)


@case("a link that is lost before its driver was told of the restart")
def _():
    with Lost() as c:
        for d in c.drivers:
            d.process.send_signal(signal.SIGSTOP)
        before = c.opened()
        old = c.t.kit.restarts()
        for proxy, last in zip(c.proxies, before):
            for number in range(1, last + 1):
                proxy.say(f"cut {number}")
        for d in c.drivers:
            d.process.send_signal(signal.SIGCONT)
            eventually(lambda d=d: d.events("connected")[-1]["sessionId"] != d.events("connected")[0]["sessionId"], f"the next session: {d.text()}")
        c.goes_on(0)
        assert alive(old)
        c.ends(lost=1)  # none where GOAWAY came before the loss


@case("the old program is gone meanwhile: what was under way is cut, and the driver says so once")
def _():
    with Lost() as c:
        old = c.restarts()
        os.kill(old, signal.SIGKILL)
        c.t.status = -signal.SIGKILL
        for d in c.drivers:
            eventually(lambda d=d: "of an earlier session" in d.text() and "cut: the kit no longer has their session" in d.text(), f"a word: {d.text()}")
        for c2 in (c.download, *c.talks):
            eventually(lambda c2=c2: ended(c2), "the end")
        for d in c.drivers:
            assert d.text().count("were cut:") + d.text().count("was cut:") == 1 and not d.events("disconnected"), d.text()
        assert status(c.expose.port) == 200
        eventually(lambda: len(c.t.kit.get("/tunnels")["sessions"]) == 2, "no session but the drivers' own")
        c.bye()


@case("nobody comes back: the old program ends with the grace, and so does the wait of the driver")
def _():
    with Lost("--takeover-grace", "1s") as c:
        c.restarts()
        for proxy in c.proxies:
            proxy.say("hold")
        c.cut_past()
        c.t.only_one()
        for d in c.drivers:
            eventually(lambda d=d: "cut: the kit could not be reached" in d.text(), f"a word: {d.text()}")
        for proxy in c.proxies:
            proxy.say("take")
        c.bye()


if __name__ == "__main__":
    main()
