"""Aliases of the edge that expire, move, or go, with a real HAProxy: new requests at once, and those who are there end.

Runs: plain.
"""

import datetime
import os
import signal
import time

from tests.integration.edge_aliases import ALIASES, SUFFIX, TWO, ends, site
from tests.integration.harness import eventually
from tests.support.tap import case, main


def soon(seconds):
    return datetime.datetime.fromtimestamp(time.time() + seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@case("an alias expires by itself, also while the agent is away, for good over a restart, and ends who is there")
def _():
    with site() as it:
        it.start()
        it.alias("other", TWO)
        key = it.alias("short", expires_at=soon(3600))
        later = it.alias("later", expires_at=soon(3600))
        it.until(200, "short", at="192.0.2.2:8000")
        visitor, bystander = it.follow("short"), it.follow("other")
        assert it.api.get(f"{ALIASES}/{key}").data["expired"] is False and visitor.process.poll() is None
        it.change(key, {"expires_at": soon(2)})
        ends(visitor)
        gone = it.until(410, "short")
        assert "expired" in gone.body and gone.headers["cache-control"] == "no-store"
        assert it.api.get(f"{ALIASES}/{key}").data["expired"] is True and it.get("later").status == 200
        assert bystander.process.poll() is None
        bystander.end()
        # Nobody is let in by an agent that does not look.
        at = it.change(later, {"expires_at": soon(3)}).data["expires_at"]
        until = int(datetime.datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp())
        eventually(lambda: f"|{until}|" in it.map()[f"later.{SUFFIX}"], "the map")
        os.kill(it.edge.inner, signal.SIGSTOP)
        try:
            it.until(410, "later")
        finally:
            os.kill(it.edge.inner, signal.SIGCONT)
            os.kill(it.edge.pid, signal.SIGCONT)  # nsenter stops with its child
        assert it.edge.end() == 0, it.edge.text()
        it.start(known=False)
        assert it.get("short").status == it.get("later").status == 410 and it.get("other").status == 200
        it.change(key, {"expires_at": None})
        it.until(200, "short")
        # It expires while nothing runs.
        it.change(key, {"expires_at": soon(2)})
        over = time.time() + 2
        assert it.edge.end() == 0, it.edge.text()
        eventually(lambda: time.time() > over, "the time")
        it.start(known=False)
        assert it.get("short").status == 410
        late = it.api.ask("PATCH", f"{ALIASES}/{key}", {"expires_at": "2020-01-01T00:00:00Z"}, version=it.api.get(f"{ALIASES}/{key}").version)
        assert late.status == 400 and "past" in late.message, late


@case("an alias that moves leads to the new container at once, and ends the old one's live connections; those elsewhere go on")
def _():
    with site() as it:
        it.start()
        key = it.alias("app")
        it.until(200, "app", at="192.0.2.2:8000")
        mine, its_port, elsewhere = it.follow("app"), it.follow(it.long(service="http-9000")), it.follow(it.long(TWO))
        it.change(key, {"container_id": TWO})
        ends(mine)
        it.until(200, "app", at="192.0.2.3:8000")
        assert its_port.process.poll() is None and elsewhere.process.poll() is None
        # A reload in between: what the old process of HAProxy still serves ends, too.
        old = it.follow("app")
        os.kill(it.edge.inner, signal.SIGHUP)
        new = it.follow("app")
        it.change(key, {"target_path": "/inside"})
        ends(old)
        ends(new)
        it.until(200, "app", at="192.0.2.3:8000")
        # Off, by a name, is for the alias; what stays open is asked again.
        again = it.follow("app")
        it.change(key, {"enabled": False}, below="/state")
        ends(again)
        it.until(503, "app")
        it.change(key, {"enabled": True}, below="/state")
        it.until(200, "app")
        last = it.follow("app")
        it.change(key, None, "DELETE")
        ends(last)
        it.until(404, "app")
        # A longer life is no reason to end anything.
        key = it.alias("lives", expires_at=soon(3600))
        it.until(200, "lives")
        stays = it.follow("lives")
        it.change(key, {"expires_at": soon(7200)})
        it.change(key, {"expires_at": None})
        for _ in range(30):
            stays.wait_line("tick")
        for visitor in (its_port, elsewhere, stays):
            visitor.end()


if __name__ == "__main__":
    main()
