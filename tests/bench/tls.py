"""TLS at a public address of the kit, beside HAProxy that ends it before the same kit. Rounds take turns.

    make build/bench/tls_load && python3 -m tests.bench.tls [--runs 5] [--seconds 4]

Prints requests a second on kept connections, and new connections a second with a full handshake and with a resumed session; its
ratios should be at least 0.9. Both have one thread."""

import argparse
import contextlib
import os
import re
import statistics
import subprocess

from tests.integration.harness import BIN, ROOT, Folder, Nginx, Program, Tunnel, eventually, free_port, status
from tests.integration.tls_peer import Authority

LOAD = os.path.join(ROOT, "build/bench/tls_load")
DOMAIN = "tunnel.test"
HAPROXY = """global
    nbthread 1
    maxconn 4000
    ssl-default-bind-options ssl-min-ver TLSv1.2 prefer-client-ciphers
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    http-reuse always
frontend f
    bind 127.0.0.1:%(listen)s ssl crt %(pem)s alpn http/1.1
    default_backend b
backend b
    server s 127.0.0.1:%(to)s
"""
# A service with 1 KiB.
PAGE = ("events {} http { access_log off; keepalive_requests 1000000000; server { listen 127.0.0.1:{0}; location / { return 200 '" + "x" * 1024
        + "'; } } }")


class Quiet(Program):
    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def wrk(url, host, seconds, connections):
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"Host: {host}", url],
                         stdout=subprocess.PIPE, check=True, timeout=seconds + 60).stdout.decode()
    assert "Non-2xx" not in out and "Socket errors" not in out, out
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))


def fresh(port, host, kind, seconds):
    return float(subprocess.run([LOAD, str(port), host, kind, str(seconds), "8"], stdout=subprocess.PIPE, check=True,
                                timeout=seconds + 60).stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(Folder())
        cert, key = Authority(folder).issue("site", f"DNS:*.{DOMAIN}")
        pem = folder.join("both.pem")
        with open(pem, "w", encoding="ascii") as f, open(cert, encoding="ascii") as c, open(key, encoding="ascii") as k:
            f.write(c.read() + k.read())
        nginx = stack.enter_context(Nginx(folder, PAGE, main="worker_processes 1;"))
        ways = {}
        for name, tls in (("kit", ["--tls-cert", pem]), ("haproxy", [])):
            public = free_port()
            t = stack.enter_context(Tunnel("--public", f"127.0.0.1:{public}", "--domain", DOMAIN, *tls))
            # Without TLS, as both kits have it there; and without a line for each request, which --json would write.
            driver = stack.enter_context(Quiet([BIN, "expose", "--url", f"ws://127.0.0.1:{t.kit.port}", "--log-level", "warn", "--name",
                                                "bench", f"0=http://127.0.0.1:{nginx.port}"]))
            ways[name] = (public, driver.wait_line(rf"(bench-\d+\.{re.escape(DOMAIN)})").group(1))
        listen = free_port()
        config = folder.join("haproxy.cfg")
        with open(config, "w", encoding="ascii") as f:
            f.write(HAPROXY % {"listen": listen, "pem": pem, "to": ways["haproxy"][0]})
        haproxy = Program(["haproxy", "-db", "-f", config])
        stack.callback(haproxy.end)
        eventually(lambda: status(listen) is None, "HAProxy")
        ways["haproxy"] = (listen, ways["haproxy"][1])
        loads = {"requests/s, 32 kept": lambda p, h: wrk(f"https://127.0.0.1:{p}/", h, args.seconds, 32),
                 "new connections/s, full": lambda p, h: fresh(p, h, "full", args.seconds),
                 "new connections/s, resumed": lambda p, h: fresh(p, h, "resumed", args.seconds)}
        print(f"load before: {os.getloadavg()}")
        for title, load in loads.items():
            got = {name: [] for name in ways}
            for _ in range(args.runs):
                for name, way in ways.items():
                    got[name].append(load(*way))
            ratios = [a / b for a, b in zip(got["kit"], got["haproxy"])]
            print(f"{title:28} kit {statistics.median(got['kit']):8.0f}  haproxy {statistics.median(got['haproxy']):8.0f}  "
                  f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)
        print(f"load after: {os.getloadavg()}")


if __name__ == "__main__":
    main()
