"""The way of the bytes takes no more system calls and no more copies than it did: a guard of speed that a busy machine cannot break.

Runs: plain.
"""

from tests.bench import calls
from tests.support.tap import Skip, case, main


@case("system calls, wake-ups and copied bytes for a GiB, a request and a connection stay within their bounds")
def _():
    least, found = calls.within(calls.bounds())
    if not any(sum(by_kind.values()) for counts in least.values() for by_kind in counts.values()):
        raise Skip("the loader takes no LD_PRELOAD here, so nothing was counted")
    assert not found, "\n".join(found)


if __name__ == "__main__":
    main()
