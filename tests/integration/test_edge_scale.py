"""Many containers and aliases: how soon a change has effect, what a reload costs visitors, and how much memory it all takes.

`make edge-scale` has 10,000 containers and 50,000 aliases, and holds the edge to 50 ms at the 99th percentile, and to 200 ms for 200
changes at once.

Runs: plain.
"""

import os
import signal
import time

from tests.integration.edge_api import Api
from tests.integration.edge_scale import PORT, SERVICES, Load, Visitor, burst, container, host, in_a_network_of_its_own, large_edge, memory, one_at_a_time, place, project, service
from tests.integration.edges import needs_haproxy
from tests.integration.harness import Folder, eventually
from tests.support.tap import case, main

WHOLE = os.environ.get("HT_SCALE") == "whole"
CONTAINERS, ALIASES = (10000, 50000) if WHOLE else (500, 2500)
SINGLE, BURST = (100, 200) if WHOLE else (20, 100)
BOUND = 0.050 if WHOLE else 0.5  # seconds; beside other tests it is about what has effect at all
AT_ONCE = 4 * BOUND  # HAProxy walks along its map for each entry that changes, 0.1 to 0.5 ms in one of 50,000, and one change waits for the other


slow = []


def say(what, times, bound=BOUND):
    effect, answered = times
    print(f"# {what}: effect {effect}; answer {answered}", flush=True)
    if effect.at(0.99) >= bound:
        slow.append(f"{what}: {effect}")


@case(f"{CONTAINERS} containers and {ALIASES} aliases: changes have effect soon, one at a time and in a burst, and reloads fail nobody")
def _():
    needs_haproxy()
    with Folder() as folder, large_edge(folder.join("edge"), CONTAINERS, ALIASES) as edge:
        print(f"# started in {edge.started:.2f} s; agent {memory(edge.program.pid)} KiB, HAProxy {memory(edge.worker())} KiB", flush=True)
        visitor = Visitor(edge)
        visitor.get(host(1))
        moved = [("PUT", f"/containers/{container(n)}/proxy/address", {"ip": place(n, 1)}, host(n), lambda _, body, n=n: body == f"{place(n, 1)}:{PORT}")
                 for n in range(1, SINGLE + 1) if n % 50 != 49]
        # Just behind a start or a reload HAProxy's maps are compared with what they should be: what changes then waits for that.
        effect, _ = one_at_a_time(edge, [moved.pop(0)], visitor)
        print(f"# the first change behind the start: {effect}", flush=True)
        say("a container moves", one_at_a_time(edge, moved, visitor))
        ported = [("PUT", f"/containers/{container(n)}/proxy/services/web", {"port": PORT + 1}, host(n), lambda _, body, n=n: body == f"{place(n, 1)}:{PORT + 1}")
                  for n in range(1, SINGLE + 1) if n % 50 != 49]
        say("a service has another port", one_at_a_time(edge, ported, visitor))
        off = [("PATCH", f"/containers/{container(n)}/proxy/permissions/state", {"enable_proxy": on}, host(n), lambda status, _, on=on: status == (200 if on else 503))
               for n in range(1, SINGLE // 2) if n % 50 != 49 for on in (False, True)]
        say("a container is off, and on", one_at_a_time(edge, off, visitor))

        first = CONTAINERS - BURST - 1
        many = [("PATCH", f"/containers/{container(n)}/proxy/permissions/state", {"enable_proxy": False}, 1, f"{project(n)}-{container(n)}", "1")
                for n in range(first, first + BURST)]
        say(f"{BURST} containers are off at once", burst(edge, many, "off"), AT_ONCE)
        many = [("PUT", f"/containers/{container(n)}/proxy/address", {"ip": place(n, 1)}, 2, f"{project(n)}-{container(n)}", place(n, 1)) for n in range(first, first + BURST)]
        say(f"{BURST} containers move at once", burst(edge, many, "containers"), AT_ONCE)
        many = [("PUT", f"/containers/{container(n)}/proxy/services/{service(0)}", {"port": PORT + 1}, 3, f"{project(n)}-{container(n)}.{service(0)}", str(PORT + 1))
                for n in range(first, first + BURST)]
        say(f"{BURST} services have another port at once", burst(edge, many, "services"), AT_ONCE)

        load = Load(edge, [host(n) for n in range(1, SINGLE // 2) if n % 50 != 49])
        for n in range(5 if WHOLE else 2):
            before, start = edge.worker(), time.monotonic()
            edge.program.process.send_signal(signal.SIGHUP)
            eventually(lambda was=before: edge.worker() not in (None, was), "another process of HAProxy", 30)
            print(f"# reload {n + 1}: {time.monotonic() - start:.2f} s", flush=True)
            change = ("PUT", f"/containers/{container(0)}/proxy/address", {"ip": place(0, (n + 1) % 2)}, host(0), lambda _, body, n=n: body == f"{place(0, (n + 1) % 2)}:{PORT}")
            one_at_a_time(edge, [change], visitor)
        assert not load.end(), load.failed[:5]
        assert load.done > 50
        print(f"# {load.done} requests meanwhile, none failed; agent {memory(edge.program.pid)} KiB, HAProxy {memory(edge.worker())} KiB", flush=True)
        eventually(lambda: len(edge.map("containers")) == CONTAINERS and len(edge.map("services")) >= CONTAINERS * SERVICES, "all of the maps", 30)
        assert not slow, slow


@case("a container that goes off and on again, with requests under way, costs those of others nothing")
def _():
    needs_haproxy()
    with Folder() as folder, large_edge(folder.join("edge"), 10, 10) as edge:
        api = Api(os.path.join(edge.folder, "run", "api.sock"))
        version = api.get(f"/containers/{container(0)}/proxy").version
        # Each on a connection of its own: HAProxy gives what it keeps of one that ended to the next.
        others, own = Load(edge, [host(n) for n in (1, 2, 3, 4)]), Load(edge, [host(0)])
        changes = 0
        while changes < 200 and not others.failed:
            changes += 1
            answer = api.ask("PATCH", f"/containers/{container(0)}/proxy/permissions/state", {"enable_proxy": changes % 2 == 0}, version)
            assert answer.status == 200, answer
            version = answer.version
            seen = own.done
            eventually(lambda was=seen: own.done > was + 2, "requests meanwhile")
        assert not others.end(), others.failed[:5]
        own.end()
        print(f"# {changes} changes, {others.done} requests of others", flush=True)


if __name__ == "__main__":
    in_a_network_of_its_own()
    main()
