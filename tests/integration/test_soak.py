"""A short soak; `make soak` is the long one.

Runs: plain.
"""

from tests.integration.harness import SANITIZED
from tests.soak.soak import soak
from tests.support.tap import case, main

SESSIONS, STREAMS = (200, 5_000) if SANITIZED else (1_000, 50_000)


@case(f"after {SESSIONS} sessions and {STREAMS} streams memory and descriptors are back where they were")
def _():
    soak(SESSIONS, STREAMS, patient=False)


if __name__ == "__main__":
    main()
