"""Broken links: a proxy between driver and kit cuts, delays, splits and half-closes at places drawn from a seed. No
byte is lost, doubled or reordered, and a transfer that was cut never looks complete, to the visitor or to the service.

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

    def _visit(self, visitor, kinds):
        rng = random.Random(self.seed * 1000 + visitor)
        while not self.over.is_set():
            name, run = rng.choice(kinds)
            try:
                end = self.one(name, run, rng.choice((0, 1, 999, 20_000, 150_000, rng.randrange(1 << 20))))
            except Exception as e:  # pylint: disable=broad-except
                self.broken.append(f"{name}: {type(e).__name__}: {e}")
                return
            if end == "refused":
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


def run_cuts(cuts, seed):
    with contextlib.ExitStack() as stack:
        load = Load(seed)
        t = stack.enter_context(Tunnel("--max-sessions", "64"))
        web = stack.enter_context(Service(transfer.web(load.ledger)))
        tcp = stack.enter_context(Service(transfer.pull(load.ledger)))
        proxy = stack.enter_context(FaultProxy(t.kit.port, seed, calm=True))
        for sockets in ("1", "3"):  # v1; and v2, where a lost secondary takes its own streams along and is replaced
            t.drivers.append(Driver(proxy, "expose", f"0={web.port}", "--connections", sockets))
            t.drivers.append(Driver(proxy, "pull", f"0={tcp.port}", "--connections", sockets))
        kinds = []
        for web_driver, tcp_driver in (t.drivers[:2], t.drivers[2:]):
            kinds.append(load.kinds(web_driver.port, tcp_driver.port))
        proxy.say("wild")
        proxy.say("cut")
        prompter = Prompter(t.drivers)
        start = time.monotonic()
        try:
            for k in kinds:
                load.start([i for i in k.items() if i[0] != "tcp echo"], VISITORS)
                load.start([i for i in k.items() if i[0] == "tcp echo"], 2)
            eventually(lambda: len(proxy.cuts()) >= cuts or load.broken or load.ledger.broken,
                       f"{cuts} cuts", 60 + cuts / 5)
            proxy.say("calm")
            eventually(lambda: all(map(linked, t.drivers)), "every driver is back")
        finally:
            load.end()
            prompter.end()
        took = time.monotonic() - start
        made = proxy.cuts()
        print(f"# {len(made)} cuts in {took:.1f} s: {dict(Counter(c[3] for c in made))}, "
              f"{sum(int(c[2]) < 1000 for c in made)} of them within 1,000 bytes")
        for line in load.table():
            print(f"# {line}")
        parts = sum(not whole for seen in load.ledger.seen.values() for whole, _, _ in seen)
        print(f"# {parts} transfers cut at the service")
        assert parts and any(n for (_, end), n in load.ends.items() if end == "cut"), "nothing was shown"
        load.check()
        for k in kinds:
            for name, run in k.items():
                assert load.one(name, run, 300_000) == "whole", name
        load.check()
        for name in kinds[0]:
            assert load.ends[name, "whole"], f"{name}: nothing was shown"
        for driver in t.drivers:
            assert driver.end(signal.SIGINT) == 0, driver.text()  # while the proxy is there to say goodbye through


@case(f"{CUTS} cuts at random places: nothing lost, doubled, reordered, or cut and called complete")
def _():
    print(f"# SEED={SEED} CUTS={CUTS}", flush=True)
    run_cuts(CUTS, SEED)


if __name__ == "__main__":
    main()
