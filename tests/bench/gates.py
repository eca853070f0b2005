"""What a gate costs: requests a second to a container with permissions and to one without, behind the same edge. Rounds take turns.

    python3 -m tests.bench.gates [--runs 5] [--seconds 2] [--connections 32] [--only password ...]

A line for each way to be let in, with the ratio, which should be 0.8 at least."""

import argparse
import base64
import os
import re
import statistics
import time

from tests.integration.edge_gates import CONTAINER, DOMAIN, OTHER, PROJECT, Site, password_hash
from tests.integration.edges import descendants, needs_haproxy
from tests.integration.machines import container_and_laptop
from tests.integration.test_edge_gate import SECRET, TOKEN, everybody, jwt

NGINX = """daemon off; worker_processes 1; error_log /dev/null; pid /tmp/nginx.pid; events { worker_connections 512; }
http { access_log off; server { listen 192.0.2.2:76; location / { return 200 "%s"; } } }"""


def wrk(machine, container, seconds, connections, *more):
    host = f"{PROJECT}-{container}-terminal-1.node1.containers.{DOMAIN}"
    out = machine.run("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"Host: {host}", *more, "https://192.0.2.1/")
    assert "Non-2xx" not in out and "Socket errors" not in out, out
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))


def spent(pids):
    """Seconds of processor that these processes have had."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            total += sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))
    return total / os.sysconf("SC_CLK_TCK")


def measured(it, seconds, container, *more):
    """requests/s, and microseconds a request of HAProxy's worker and of the agent."""
    haproxy, agent = descendants(it.edge.inner), [it.edge.inner]
    before = spent(haproxy), spent(agent)
    rate = wrk(it.container, container, seconds, *more)
    return rate, *((spent(p) - b) * 1e6 / (rate * seconds) for p, b in zip((haproxy, agent), before))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    needs_haproxy()
    with container_and_laptop() as (server, container):
        it = Site(server, container)
        document = everybody()
        document["groups"]["team"] = {"type": "password", "username": "ann", "password": password_hash("sesame")}
        document["permissions"]["team"] = {"terminal": True}
        it.permissions(document)
        container.write("/tmp/nginx.conf", NGINX % ("x" * 1024))
        nginx = container.start("nginx", "-c", "/tmp/nginx.conf")
        it.start()
        bearer = jwt({"exp": int(time.time()) + 3600, "role": "dev"}, secret=SECRET)
        ways = {"token in a field": f"X-Edge-Key: {TOKEN}", "jwt": f"Authorization: Bearer {bearer}", "jwt in a cookie": f"Cookie: jwt={bearer}",
                "password": "Authorization: Basic " + base64.b64encode(b"ann:sesame").decode()}
        made = it.get("/.hoody-edge/login", "-H", f"Origin: https://{PROJECT}-{CONTAINER}-terminal-1.node1.containers.{DOMAIN}", "-d",
                      "user=ann&password=sesame&to=/")
        if "set-cookie" in made.headers:
            ways["page"] = "Cookie: " + made.headers["set-cookie"].split(";")[0]
        else:
            it.get("/", "-u", "ann:sesame")
        ways = {name: field for name, field in ways.items() if not args.only or name in args.only}
        got = {name: [] for name in ways}
        print(f"load before: {os.getloadavg()}")
        for _ in range(args.runs):
            for name, field in ways.items():
                without = measured(it, args.seconds, OTHER, args.connections, "-H", field)
                got[name].append((measured(it, args.seconds, CONTAINER, args.connections, "-H", field), without))
        for name, pairs in got.items():
            ratios = sorted(gated[0] / without[0] for gated, without in pairs)
            gated, without = ([statistics.median(p[side][i] for p in pairs) for i in range(3)] for side in range(2))
            print(f"{name:18} {gated[0]:8.0f}/s of {without[0]:8.0f}/s without: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}); "
                  f"us of processor a request: HAProxy {gated[1]:5.1f} of {without[1]:5.1f}, agent {gated[2]:4.1f}")
        nginx.end()
        it.edge.end()


if __name__ == "__main__":
    main()
