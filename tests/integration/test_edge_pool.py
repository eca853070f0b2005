"""Connections of the edge to services: shared by visitors where the service cannot tell, never mixed up, and no visitor pays for one that was closed.

Runs: plain.
"""

import http.client
import json
import re
import threading

from tests.integration.edge_site import BRIEF, CONTAINER, DROPS, HERE, OTHER, PORT, THERE, host_of, site
from tests.integration.harness import BIN, eventually
from tests.support.tap import case, main

# Visitors, each a thread with connections of its own: `n` of them one after another, and `per` requests over each, of any host.
VISITORS = r'''
import http.client, json, socket, ssl, threading
cfg = json.load(open("/tmp/visitors.json"))
context = ssl.create_default_context(cafile="/tmp/ca.pem")
lock, out = threading.Lock(), {"good": 0, "bad": []}
def ask(s, k, i, j):
    name, at, port = cfg["hosts"][(k * 7919 + i * 31 + j) % len(cfg["hosts"])]
    method = cfg["methods"][(i + j) % len(cfg["methods"])]
    body, target = b"x" if method == "POST" else b"", f"/{k}-{i}-{j}"
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    s.sendall(f"{method} {target} HTTP/1.1\r\nHost: {name}\r\n{length}\r\n".encode() + body)
    r = http.client.HTTPResponse(s, method=method)
    r.begin()
    got = r.read()
    seen = json.loads(got) if r.status == 200 else {}
    good = (seen.get("at"), seen.get("port"), seen.get("target"), seen.get("method")) == (at, port, target, method)
    good = good and dict(seen["headers"])["host"] == name
    with lock:
        out["good"] += good
        if not good:
            out["bad"].append([r.status, method, name, got.decode()[:200]])
def visit(k):
    for i in range(cfg["n"]):
        try:
            with context.wrap_socket(socket.create_connection(("192.0.2.1", 443), timeout=20), server_hostname=cfg["hosts"][0][0]) as s:
                for j in range(cfg["per"]):
                    ask(s, k, i, j)
        except OSError as e:
            with lock:
                out["bad"].append([repr(e)])
        except http.client.HTTPException as e:
            with lock:
                out["bad"].append([repr(e)])
threads = [threading.Thread(target=visit, args=(k,)) for k in range(cfg["threads"])]
for t in threads: t.start()
for t in threads: t.join()
print(json.dumps(out))
'''


def visit(it, hosts, methods, threads, n, per):
    """How many connections the services had from that; every answer must be the right one."""
    it.container.write("/tmp/visitors.json", json.dumps({"hosts": hosts, "methods": methods, "threads": threads, "n": n, "per": per}))
    it.container.write("/tmp/visitors.py", VISITORS)
    before = it.ask("/seen").seen()
    out = json.loads(it.container.run("/usr/bin/python3", "/tmp/visitors.py"))
    assert out == {"good": threads * n * per, "bad": []}, (out["good"], len(out["bad"]), out["bad"][:5])
    after = it.ask("/seen").seen()
    assert after["requests"] - before["requests"] >= out["good"], (before, after)
    return after["connections"] - before["connections"]


@case("300 services, visitors whose connections ask for any of them: no answer comes from another one")
def _():
    ports = list(range(3000, 3150))
    with site(*ports) as it:
        it.start()
        hosts = [(host_of(f"http-{port}", container), at, port) for container, at in ((CONTAINER, HERE), (OTHER, THERE)) for port in ports]
        assert len(hosts) == 300
        visit(it, hosts, ["GET", "GET", "POST"], threads=8, n=5, per=100)
        one = [(host_of("web-1"), HERE, PORT)]
        assert visit(it, one, ["GET"], threads=4, n=2, per=100) < 400  # of 800 requests
        assert visit(it, one, ["POST"], threads=4, n=20, per=1) >= 80
        # The same with answers that are kept.
        for container in (CONTAINER, OTHER):
            it.settings({"cache": {"enabled": True}}, container)
        eventually(lambda: it.ask("/x?h-cache-control=max-age%3D600").cache == "hit", "answers that are kept")
        visit(it, hosts, ["GET", "POST", "HEAD"][:2], threads=8, n=3, per=50)


@case("a service that closes connections which wait, or in place of a second answer, gives no visitor an error")
def _():
    with site() as it:
        it.start()
        brief, drops = [(host_of("brief-1"), HERE, BRIEF)], [(host_of("drops-1"), HERE, DROPS)]
        for methods in (["GET"], ["POST"], ["GET", "POST"]):
            visit(it, brief, methods, threads=8, n=40, per=1)
        visit(it, brief, ["POST"], threads=8, n=40, per=3)
        visit(it, drops, ["POST"], threads=8, n=30, per=2)
        visit(it, drops, ["GET"], threads=1, n=40, per=1)


@case("a request that waits for its answer when the container is switched off is ended, and does not reach the container once more")
def _():
    with site() as it:
        it.start()
        ended = []

        def wait():
            try:
                ended.append(it.ask("/hang").status)
            except (OSError, http.client.HTTPException) as e:
                ended.append(type(e).__name__)
        visitor = threading.Thread(target=wait)
        visitor.start()
        eventually(lambda: it.ask("/seen", container=OTHER).seen()["hangs"] == 1, "the request at the service")
        it.api.change("PATCH", f"/containers/{CONTAINER}/proxy/permissions/state", {"enable_proxy": False})
        visitor.join(20)
        assert ended and ended[0] != 200, ended
        assert it.ask("/").status == 503 and it.ask("/seen", container=OTHER).seen()["hangs"] == 1


@case("connections that wait are bounded")
def _():
    ports = list(range(3000, 3150))
    with site(*ports) as it:
        it.start()
        assert it.edge.end() == 0
        few = it.server.start("prlimit", "--nofile=1200:1200", BIN, "edge", "up", "--domain", "example.com", "--id", "node1", "--folder", it.folder, "--containers", "/tmp/book.json")
        few.wait_line(r"is served by HAProxy \d")
        it.edge = few
        hosts = [(host_of(f"http-{port}", container), at, port) for container, at in ((CONTAINER, HERE), (OTHER, THERE)) for port in ports]
        visit(it, hosts, ["GET"], threads=4, n=1, per=150)
        rows = [line.split() for line in it.admin("show servers conn").splitlines()]
        names = next(row for row in rows if "used_cur" in row)
        names = names[1:] if names[0] == "#" else names
        idle = {row[0]: int(row[names.index("idle_used") if "idle_used" in names else names.index("idle_cur")]) for row in rows if row and row[0].startswith("dyn")}
        limit = int(re.search(r"pool-max-conn (\d+)", open(it.server.path(f"{it.folder}/haproxy/haproxy.cfg"), encoding="utf-8").read()).group(1))  # noqa: SIM115
        assert limit == 50 and 0 < max(idle.values()) <= limit, (limit, idle)


if __name__ == "__main__":
    main()
