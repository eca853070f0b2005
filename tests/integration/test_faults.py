"""Broken links: a proxy between driver and kit cuts, delays, splits and half-closes at places drawn from a seed. With
stream-resume nobody notices: every transfer is whole. Without it no byte is lost, doubled or reordered, and a transfer that
was cut never looks complete, to the visitor or to the service.

CUTS and SEED in the environment say how many cuts there are, and which.
"""

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter

from tests.faults import transfer
from tests.faults.rig import FaultProxy, Prompter, linked
from tests.integration.harness import SANITIZED, Driver, Service, Tunnel, eventually
from tests.support.tap import case, main

CUTS = int(os.environ.get("CUTS") or (300 if SANITIZED else 1000))
SEED = int(os.environ.get("SEED") or time.time_ns() % 1_000_000_007)
VISITORS = 4  # to each binding


class Load:
    """Visitors that transfer without a pause until they are told to stop; what became of it is counted in .ends."""

    def __init__(self, seed):
        self.seed = seed
        self.ledger = transfer.Ledger()
        self.ends, self.broken = Counter(), []
        self.refused = []
        self.over = threading.Event()
        self.threads = []
        self.lock = threading.Lock()
        self.numbers = 0

    def kinds(self, web, tcp):
        """name -> function(number, n) of each kind of transfer, through the ports of two bindings."""
        return {
            "down length": lambda number, n: transfer.download(web, number, n, 0),
            "down chunked": lambda number, n: transfer.download(web, number, n, 1),
            "down to close": lambda number, n: transfer.download(web, number, n, 1, b"1.0"),
            "pipelined": lambda number, n: transfer.pipelined(web, number, n),
            "up length": lambda number, n: transfer.upload(web, number, n, 0),
            "up chunked": lambda number, n: transfer.upload(web, number, n, 1),
            "upgraded echo": lambda number, n: transfer.echo_upgraded(web, number, n, self.ledger),
            "tcp echo": lambda number, n: transfer.echo_tcp(tcp, number, n, self.ledger),
        }

    def number(self):
        with self.lock:
            self.numbers += 1
            return self.numbers

    def one(self, name, run, n):
        number = self.number()
        try:
            end = run(number, n)
        except ConnectionRefusedError:
            raise transfer.Broken(f"transfer {number}: the port refuses") from None
        except ConnectionError:
            end = "cut"
        with self.lock:
            self.ends[name, end] += 1
            if end == "refused":
                self.refused.append((name, number))
        return end

    def count(self, end):
        with self.lock:
            return sum(n for (_, what), n in self.ends.items() if what == end)

    def _visit(self, visitor, kinds):
        rng = random.Random(self.seed * 1000 + visitor)
        while not self.over.is_set():
            name, run = rng.choice(kinds)
            try:
                end = self.one(name, run, rng.choice((0, 1, 999, 20_000, 150_000, rng.randrange(1 << 20))))
            except Exception as e:  # pylint: disable=broad-except
                self.broken.append(f"{name}: {type(e).__name__}: {e}")
                return
            if end != "whole":
                self.over.wait(0.004)

    def start(self, kinds, visitors):
        for _ in range(visitors):
            thread = threading.Thread(target=self._visit, args=(len(self.threads), list(kinds)), daemon=True)
            self.threads.append(thread)
            thread.start()

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a visitor waits for ever"

    def check(self):
        for name, number in self.refused:
            # A 502 may come after the service has seen the request. What is closed without a word has gone nowhere.
            if name == "tcp echo" and self.ledger.has(number):
                self.broken.append(f"{name}: transfer {number} was closed at once, and the service has seen it")
        broken = self.broken + self.ledger.broken
        assert not broken, f"{len(broken)} broken, the first: " + "; ".join(broken[:5])

    def table(self):
        ends = ("whole", "cut", "refused")
        for name in sorted({name for name, _ in self.ends}):
            yield f"{name:14} " + ", ".join(f"{self.ends[name, end]:6} {end}" for end in ends)


# Nothing is kept: what is under way ends with the link, as with peers that do not know better.
CUT = ("--replay-buffer", "0")


def begin(stack, load, kept, seed):
    """A kit, and four drivers each behind a proxy of its own: v1, and v2, where a lost secondary takes its own streams along
    and is replaced."""
    # Attempts that the proxy cuts as well take their time, and nobody may be told meanwhile.
    t = stack.enter_context(Tunnel("--max-sessions", "64", "--hold", "60s", "--takeover-grace", "5m"))
    web = stack.enter_context(Service(transfer.web(load.ledger)))
    tcp = stack.enter_context(Service(transfer.pull(load.ledger)))
    proxies = {}
    for sockets in ("1", "3"):
        for command, service in (("expose", web), ("pull", tcp)):
            proxy = stack.enter_context(FaultProxy(t.kit.port, seed + len(proxies), calm=True))
            t.drivers.append(Driver(proxy, command, f"0={service.port}", "--connections", sockets, *(() if kept else CUT)))
            proxies[t.drivers[-1]] = proxy
    return t, proxies


def run_cuts(cuts, seed, kept):
    with contextlib.ExitStack() as stack:
        load = Load(seed)
        t, proxies = begin(stack, load, kept, seed)
        kinds = []
        for web_driver, tcp_driver in (t.drivers[:2], t.drivers[2:]):
            kinds.append(load.kinds(web_driver.port, tcp_driver.port))
        for proxy in proxies.values():
            proxy.say("wild")
            proxy.say("cut")
        prompter = Prompter(t.drivers)
        start = time.monotonic()
        try:
            for k in kinds:
                load.start([i for i in k.items() if i[0] != "tcp echo"], VISITORS)
                load.start([i for i in k.items() if i[0] == "tcp echo"], 2)
            eventually(lambda: sum(len(p.cuts()) for p in proxies.values()) >= cuts or load.broken or load.ledger.broken,
                       f"{cuts} cuts", 60 + cuts / 5)
            for proxy in proxies.values():
                proxy.say("calm")
            eventually(lambda: all(map(prompter.linked, t.drivers)), "every driver is back")
        finally:
            load.end()
            prompter.end()
        tell_cuts(proxies, prompter, time.monotonic() - start)
        for line in load.table():
            print(f"# {line}")
        parts = load.ledger.parts()
        print(f"# {parts} transfers cut at the service")
        if kept:
            again, paused = (t.kit.metric(f"hoody_tunnel_{name}") for name in ("replayed_bytes_total", "pause_seconds_sum"))
            print(f"# {t.kit.metric('hoody_tunnel_resumes_whole_total'):.0f} resumes, {again:.0f} bytes sent again by the kit, "
                  f"{paused:.1f} s of pauses", flush=True)
            assert again, "nothing was shown"
            assert parts == 0 and {end for _, end in load.ends} == {"whole"}, load.ends
        else:
            assert parts and load.count("cut"), "nothing was shown"
        load.check()
        for k in kinds:
            for name, run in k.items():  # what the proxies had begun to cut may still end then, which is told where nothing is kept
                eventually(lambda n=name, r=run: load.one(n, r, 300_000) == "whole" or kept, f"a whole {name}")
        assert not kept or {end for _, end in load.ends} == {"whole"}, load.ends
        load.check()
        for name in kinds[0]:
            assert load.ends[name, "whole"], f"{name}: nothing was shown"
        for driver in t.drivers:
            assert driver.end(signal.SIGINT) == 0, driver.text()  # while the proxies are there to say goodbye through


def tell_cuts(proxies, prompter, took):
    made = [c for p in proxies.values() for c in p.cuts()]
    print(f"# {len(made)} cuts in {took:.1f} s: {dict(Counter(c[3] for c in made))}, "
          f"{sum(int(c[2]) < 1000 for c in made)} of them within 1,000 bytes")
    for driver, proxy in proxies.items():
        print(f"# {' '.join(driver.argv[1:2] + driver.argv[5:8])}: {len(proxy.cuts())} cuts, {prompter.lost[driver]} of them ended its link")


@case(f"{CUTS} cuts at random places: nobody notices any of them")
def _():
    print(f"# SEED={SEED} CUTS={CUTS}", flush=True)
    run_cuts(CUTS, SEED, True)


@case(f"{CUTS // 2} cuts without stream-resume: nothing lost, doubled, reordered, or cut and called complete")
def _():
    print(f"# SEED={SEED} CUTS={CUTS // 2}", flush=True)
    run_cuts(CUTS // 2, SEED, False)


def run_edges(place, cuts, seed):
    """Resets on the way to the services, or on the visitors' own connections. The tunnel's link is sound."""
    with contextlib.ExitStack() as stack:
        load = Load(seed)
        load.ledger.repeats = place == "services"
        t = stack.enter_context(Tunnel())
        web = stack.enter_context(Service(transfer.web(load.ledger)))
        tcp = stack.enter_context(Service(transfer.pull(load.ledger)))
        proxies = []

        def through(port, number):
            proxies.append(stack.enter_context(FaultProxy(port, seed + number, resets=True)))
            return proxies[-1].port

        targets = [through(s.port, i) if place == "services" else s.port for i, s in enumerate((web, tcp))]
        ports = [t.expose(f"0={targets[0]}").port, t.pull(f"0={targets[1]}").port]
        if place == "visitors":
            ports = [through(port, i) for i, port in enumerate(ports)]
        kinds = load.kinds(*ports)
        try:
            load.start(kinds.items(), 2 * VISITORS)
            eventually(lambda: sum(len(p.cuts()) for p in proxies) >= cuts or load.broken or load.ledger.broken,
                       f"{cuts} cuts", 60 + cuts / 5)
        finally:
            load.end()
        print(f"# {sum(len(p.cuts()) for p in proxies)} cuts")
        for line in load.table():
            print(f"# {line}")
        load.check()
        for proxy in proxies:
            proxy.say("calm")
        for name, run in kinds.items():
            assert load.one(name, run, 300_000) == "whole", name
        load.check()
        for driver in t.drivers:
            assert len(driver.events("connected")) == 1, driver.text()


for _place in ("services", "visitors"):
    @case(f"{CUTS // 4} resets between tunnel and {_place}: the other end is told, and nobody is told of an end")
    def _(place=_place):
        print(f"# SEED={SEED}", flush=True)
        run_edges(place, CUTS // 4, SEED)


def unanswered(kit):
    """PINGs of the kit that have no PONG. Each session sends no further one meanwhile."""
    return kit.metric('hoody_tunnel_pings_total{direction="sent"}') - kit.metric("hoody_tunnel_ping_rtt_seconds_count")


@contextlib.contextmanager
def steady_tunnel(seed, *kit_args):
    """One v1 driver for each kind of binding, visitors to both that never pause, and a link that does as it is told."""
    with contextlib.ExitStack() as stack:
        load = Load(seed)
        t = stack.enter_context(Tunnel(*kit_args))
        web = stack.enter_context(Service(transfer.web(load.ledger)))
        tcp = stack.enter_context(Service(transfer.pull(load.ledger)))
        proxy = stack.enter_context(FaultProxy(t.kit.port, calm=True))
        for command, service in (("expose", web), ("pull", tcp)):
            t.drivers.append(Driver(proxy, command, f"0={service.port}", *kit_args))
        kinds = load.kinds(t.drivers[0].port, t.drivers[1].port)
        prompter = Prompter(t.drivers)
        try:
            load.start(kinds.items(), VISITORS)
            eventually(lambda: load.count("whole") > 10, "visitors are served")
            yield t, proxy, load
        finally:
            load.end()
            prompter.end()
        print("# " + ", ".join(f"{load.count(end)} {end}" for end in ("whole", "cut", "refused")))
        load.check()
        for name, run in kinds.items():
            assert load.one(name, run, 300_000) == "whole", name
        for driver in t.drivers:
            assert driver.end(signal.SIGINT) == 0, driver.text()


@case("a link that stands still for a while is a pause and no cut")
def _():
    with steady_tunnel(SEED, "--ping-interval", "100ms", "--pong-timeout", "20s") as (t, proxy, load):
        for _ in range(3):
            proxy.say("freeze")
            eventually(lambda: unanswered(t.kit) == 2, "a PING of each session into the void")
            proxy.say("thaw")
            eventually(lambda n=load.count("whole"): load.count("whole") > n + 10, "visitors are served again")
        assert {end for _, end in load.ends} == {"whole"}, load.ends
        assert all(len(d.events("connected")) == 1 for d in t.drivers)


@case("a link that is dead and says nothing is noticed on both sides, and shows as a cut")
def _():
    with steady_tunnel(SEED, "--ping-interval", "150ms", "--pong-timeout", "300ms", *CUT) as (t, proxy, load):
        proxy.say("freeze")
        eventually(lambda: t.kit.get("/tunnels")["orphanedSessions"] == 2, "the kit parks both sessions")
        eventually(lambda: not any(map(linked, t.drivers)), "both drivers notice")
        eventually(lambda n=load.count("refused"): load.count("refused") > n, "visitors are told")
        proxy.say("cut")  # what the frozen network still held never comes
        proxy.say("thaw")
        eventually(lambda: all(map(linked, t.drivers)), "both drivers are back")
        eventually(lambda n=load.count("whole"): load.count("whole") > n + 10, "and serve")
        assert all(d.events("connected")[-1]["resumed"] for d in t.drivers)


@case("the same with stream-resume: noticed on both sides, and a pause for everybody else")
def _():
    with steady_tunnel(SEED, "--ping-interval", "150ms", "--pong-timeout", "300ms") as (t, proxy, load):
        proxy.say("freeze")
        eventually(lambda: t.kit.get("/tunnels")["orphanedSessions"] == 2, "the kit parks both sessions")
        eventually(lambda: not any(map(linked, t.drivers)), "both drivers notice")
        proxy.say("cut")  # what the frozen network still held never comes
        proxy.say("thaw")
        eventually(lambda: all(map(linked, t.drivers)), "both drivers are back")
        eventually(lambda n=load.count("whole"): load.count("whole") > n + 10, "and serve")
        assert {end for _, end in load.ends} == {"whole"}, load.ends


if __name__ == "__main__":
    main()
