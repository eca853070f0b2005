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
from tests.integration.edges import needs_haproxy
from tests.integration.machines import container_and_laptop
from tests.integration.test_edge_gate import SECRET, TOKEN, everybody, jwt

NGINX = """daemon off; worker_processes 1; error_log /dev/null; pid /tmp/nginx.pid; events { worker_connections 512; }
http { access_log off; server { listen 192.0.2.2:76; location / { return 200 "%s"; } } }"""


def wrk(machine, container, seconds, connections, *more):
    host = f"{PROJECT}-{container}-terminal-1.node1.containers.{DOMAIN}"
    out = machine.run("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"Host: {host}", *more, "https://192.0.2.1/")
    assert "Non-2xx" not in out and "Socket errors" not in out, out
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))


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
        free = []
        print(f"load before: {os.getloadavg()}")
        for _ in range(args.runs):
            for name, field in ways.items():
                free.append(wrk(container, OTHER, args.seconds, args.connections, "-H", field))
                got[name].append((wrk(container, CONTAINER, args.seconds, args.connections, "-H", field), free[-1]))
        for name, pairs in got.items():
            ratios = sorted(gated / without for gated, without in pairs)
            print(f"{name:18} {statistics.median(g for g, _ in pairs):8.0f}/s of {statistics.median(w for _, w in pairs):8.0f}/s without: "
                  f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
        nginx.end()
        it.edge.end()


if __name__ == "__main__":
    main()
