"""The slow link of the benchmarks (tests/bench/slow.c) delays what it says, carries no more than it says, and passes ends on.

Runs: plain.
"""

import contextlib
import time

from tests.bench.ways import Link
from tests.integration.harness import Service, connect, read_exactly
from tests.support.tap import case, main


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


@contextlib.contextmanager
def visitor(delay_ms, mbit, handle=echo):
    """A connection to a service at the other end of such a link."""
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(Service(handle))
        yield stack.enter_context(connect(Link("", delay_ms, mbit).to(stack, service.port)))


@case("a byte and its echo take two delays; the end comes behind the last byte")
def _():
    with visitor(20, 0) as c:
        for _ in range(3):
            start = time.monotonic()
            c.sendall(b"x")
            assert read_exactly(c, 1) == b"x" and time.monotonic() - start >= 0.04
        c.sendall(b"y" * 1000)
        c.shutdown(1)
        assert read_exactly(c, 1000) == b"y" * 1000 and c.recv(1) == b""


@case("what is sent waits for a limited link, in both directions")
def _():
    def swallow(connection):
        read_exactly(connection, 500000)
        connection.sendall(b"z" * 500000)

    with visitor(1, 40, swallow) as c:
        start = time.monotonic()
        c.sendall(b"z" * 500000)
        read_exactly(c, 500000)
        assert time.monotonic() - start >= 0.17  # a MB at 5 MB/s, less a burst of 10 ms in each direction


if __name__ == "__main__":
    main()
