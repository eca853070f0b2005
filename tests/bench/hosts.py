"""What ten thousand names at a public address cost: requests a second with few of them and with all. Rounds take turns.

    python3 -m tests.bench.hosts [--runs 5] [--seconds 4] [--names 10000]

The last line has the ratio, which should be 1, and what a name takes in the kit's memory."""

import argparse
import contextlib
import os
import re
import statistics
import time

from tests.bench.tls import PAGE, Quiet, wrk
from tests.integration.harness import BIN, Folder, Nginx, Tunnel, free_port
from tests.integration.test_users import session

DOMAIN = "tunnel.test"
AT_ONCE = 64  # own domains of one BIND


def rss_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return int(re.search(r"^Rss:\s+(\d+)", f.read(), re.M).group(1))


def register(kit, names):
    """A driver that holds so many own domains; how long that took."""
    start, peer = time.monotonic(), session(kit, None, capabilities=["hosts"])
    for first in range(0, names, AT_ONCE):
        hosts = [f"shop-{n}.example.org" for n in range(first, min(first + AT_ONCE, names))]
        answer, payload = peer.bind(hostnames=hosts)
        assert answer == "BIND_OK" and hosts[-1] in payload["urls"][len(hosts) - 1], (answer, payload)
    return peer, time.monotonic() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--names", type=int, default=10000)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(Folder())
        nginx = stack.enter_context(Nginx(folder, PAGE, main="worker_processes 1;"))
        ways = {}
        for names in (0, args.names):
            public = free_port()
            t = stack.enter_context(Tunnel("--public", f"127.0.0.1:{public}", "--domain", DOMAIN, "--no-ports",
                                           "--max-names-per-session", "10000", "--max-bindings-per-session", "256", "--takeover-grace", "0s"))
            driver = stack.enter_context(Quiet([BIN, "expose", "--url", f"ws://127.0.0.1:{t.kit.port}", "--log-level", "warn", "--name",
                                                "bench", f"0=http://127.0.0.1:{nginx.port}"]))
            ways[names] = (public, driver.wait_line(rf"(bench-\d+\.{re.escape(DOMAIN)})").group(1))
            if names:
                before = rss_kib(t.kit.process.pid)
                peer, took = register(t.kit, names)
                stack.enter_context(peer)
                grown = rss_kib(t.kit.process.pid) - before
        got = {names: [] for names in ways}
        print(f"load before: {os.getloadavg()}")
        for _ in range(args.runs):
            for names, (port, host) in ways.items():
                got[names].append(wrk(f"http://127.0.0.1:{port}/", host, args.seconds, 32))
        ratios = [b / a for a, b in zip(got[0], got[args.names])]
        for names, all_of_it in got.items():
            print(f"requests/s beside {names:6} other names {statistics.median(all_of_it):8.0f}")
        print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); {args.names} names were registered in "
              f"{took * 1000:.0f} ms and take {grown * 1024 / args.names:.0f} bytes each")


if __name__ == "__main__":
    main()
