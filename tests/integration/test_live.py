"""The live proofs in small: visitors of every kind while links are lost and the kit is restarted, and a steady rate of requests while it
is. `make restart-live` and `make restart-rate` do the same for longer, with more of everything and with SQL sessions.

Runs: sanitized.
"""

import os
import time

from tests.live import live, rate
from tests.support.tap import case, main

SEED = int(os.environ.get("SEED") or time.time_ns() % 1_000_000_007)
SMALL = {"size": 4 << 20, "websocket": 12, "feed": 2, "pulled": 6, "requests": 20, "gap": 0.1}


@case("losses and restarts: no download, WebSocket, feed, pulled connection or request sees an error")
def _():
    print(f"# SEED={SEED}", flush=True)
    errors = live.play(SEED, 6, 2, False, SMALL, 0.3)
    assert not errors, errors[:10]


@case("restarts under a steady rate of requests: none is refused or cut")
def _():
    outcome = rate.play(100, 2, between=0.3)
    for line in outcome.table():
        print(f"# {line}")
    assert outcome.errors == 0 and outcome.inside[0] and outcome.outside[0], (outcome.errors, outcome.first)


if __name__ == "__main__":
    main()
