"""Own domains: what fails and is tried again, the daily cap, the edge that is killed, renewal by itself.

Runs: plain.
"""

import signal
import time

from tests.integration.edge_acme import ADDRESS, API, site
from tests.integration.harness import eventually
from tests.support.tap import case, main


@case("what fails is visible, with its reason, and tried again later: names that lead elsewhere or nowhere, an ACME server that refuses or is away")
def _():
    with site() as it:
        it.tell("add-a", host="elsewhere.test", addresses=["198.51.100.9"])
        it.tell("add-a", host="both.test", addresses=[ADDRESS, "198.51.100.9"])
        it.tell("add-a", host="loop.test", addresses=["127.0.0.1"])
        it.tell("set-default-ipv4", ip="")
        it.tell("add-a", host=API, addresses=[ADDRESS])
        it.tell("add-caa", host="refused.test", policies=[{"tag": "issue", "value": "other.test"}])
        it.tell("add-a", host="refused.test", addresses=[ADDRESS])
        it.start(*it.acme())
        for name in ("elsewhere.test", "both.test"):
            it.add(name)
            it.until(name, "failed", r"^198\.51\.100\.9 is one of its addresses, and does not lead to this server")
        it.add("loop.test")
        it.until("loop.test", "failed", r"^127\.0\.0\.1 is one")
        it.add("nowhere.test")
        it.until("nowhere.test", "failed", "its address cannot be found")
        assert it.orders() == 0
        it.add(API)
        it.until(API, "issued")
        failures = it.until("elsewhere.test", "failed")["failures"]
        eventually(lambda: it.get("elsewhere.test").get("failures", 0) > failures, "one more failure")
        # It is put right, and comes by itself.
        it.tell("clear-a", host="elsewhere.test")
        it.tell("add-a", host="elsewhere.test", addresses=[ADDRESS])
        it.until("elsewhere.test", "issued")
        assert "error" not in it.get("elsewhere.test")
        # The ACME server is away: a reason without what is secret, and what is there stays.
        serial = it.serial(API)
        it.pebble.end(signal.SIGKILL)
        it.renew(API)
        got = eventually(lambda: (d := it.get(API)).get("error") and d, "a failure")
        assert got["state"] == "issued" and "connection refused" in got["error"] and got["failures"] >= 1, got
        assert it.serial(API) == serial
        it.serve_acme()  # which has forgotten the account as well
        eventually(lambda: it.serial(API) != serial, "a new certificate")
        assert "error" not in it.until(API, "issued", "^$")


@case("the daily cap holds, over restarts too; renewals go first; a killed agent does not ask again at once, and ends well later")
def _():
    with site() as it:
        it.start(*it.acme("--acme-daily-cap", "2"))
        for name in ("a.test", "b.test", "c.test"):
            it.add(name)
        it.until("a.test", "issued")
        it.until("b.test", "issued")
        got = it.until("c.test", "waiting", "the daily cap of 2 orders is used up")
        assert 86000 < got["next_try"] - time.time() < 86500, got
        answer = it.api.ask("POST", "/proxy/domains/c.test/renew")
        assert answer.status == 409 and "daily cap" in answer.message, answer
        listed = it.api.get("/proxy/domains").data
        assert listed["daily_cap"] == 2 and listed["orders_today"] == 2 and listed["acme"] and [d["domain"] for d in listed["domains"]] == ["a.test", "b.test", "c.test"]
        it.end()
        it.start(*it.acme("--acme-daily-cap", "2"))
        it.until("c.test", "waiting", "the daily cap of 2 orders is used up")
        assert it.orders() == 2
        it.end()
        it.start(*it.acme("--acme-daily-cap", "50", retry="6s"))
        it.until("c.test", "issued")
        # Killed amid an order: lego ends with it, the order counts, and it is tried again when its time has come.
        it.pebble.end(signal.SIGKILL)
        stuck = it.server.start("/usr/bin/python3", "-uc", "import socket, time\ns = socket.create_server(('127.0.0.1', 14000))\nprint('stuck')\ntime.sleep(600)")
        stuck.wait_line("stuck")
        it.add("d.test")
        it.until("d.test", "issuing")
        eventually(lambda: it.runs("lego"), "lego")
        it.kill()
        stuck.end(signal.SIGKILL)
        it.serve_acme()
        it.start(*it.acme("--acme-daily-cap", "50"))
        assert it.api.get("/proxy/domains").data["orders_today"] == 4
        assert it.get("d.test")["error"] == "the edge ended while a certificate was being asked for"
        assert it.until("a.test", "issued") and it.shown("a.test")[0] == {"a.test"}
        it.until("d.test", "issued")
        assert it.shown("d.test")[0] == {"d.test"} and it.api.get("/proxy/domains").data["orders_today"] in (5, 6)
        # Killed at any moment of a renewal, what visitors see is whole.
        for wait in (0.05, 0.3, 0.6):
            it.renew("a.test")
            time.sleep(wait)
            it.kill()
            it.start(*it.acme("--acme-daily-cap", "50"))
            assert it.shown("a.test")[0] == {"a.test"} and it.get("a.test")["state"] in ("issued", "issuing")
            assert not [f for f in it.files("certs") if f.endswith(".part")]


@case("a certificate is renewed by itself when a third of its time is left")
def _():
    with site(lifetime=6) as it:
        it.start(*it.acme())
        it.add(API)
        it.until(API, "issued")
        seen = set()
        worker = it.worker()
        eventually(lambda: seen.add(it.serial(API)) or len(seen) >= 3, "the second certificate after the first")
        assert it.worker() == worker and it.orders() <= 5


if __name__ == "__main__":
    main()
