"""Ports of test programs: outside the kernel's range, clear of the kit's, and each belongs to one program."""

import os
import socket
import subprocess
import sys

from conformance.lib import ports
from conformance.lib.wire import codec
from tests.support.tap import case, main

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ONE = "from conformance.lib import ports; print(ports.free_port(range({0}, {0} + 1)))"


def another_program_gets(port):
    done = subprocess.run([sys.executable, "-c", ONE.format(port)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          check=False)
    return done.returncode == 0


def of_a_program_that_ended():
    return int(subprocess.run([sys.executable, "-c", "from conformance.lib import ports; print(ports.free_port())"], cwd=ROOT,
                              stdout=subprocess.PIPE, check=True).stdout)


@case("no outgoing connection and no kit picks a port of ours")
def _():
    found = [ports.free_port() for _ in range(200)]
    assert len(set(found)) == len(found)
    for port in found:
        assert port not in ports.kernel_range() and port not in codec.RESERVED_PORTS and port >= 1024, port


@case("no port that a browser refuses to open is picked")
def _():
    kept, ports._reserve = ports._reserve, lambda port: port in ports.BLOCKED  # pylint: disable=protected-access
    try:
        ports.free_port()
    except RuntimeError:
        return
    finally:
        ports._reserve = kept  # pylint: disable=protected-access
    raise AssertionError("a blocked port was picked")


@case("a port that was given out is refused to another program, bound or not, and is free when its program ends")
def _():
    port = ports.free_port()
    assert not another_program_gets(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not another_program_gets(port)
    # Whoever else runs tests on this machine may be the one that gets it.
    assert any(another_program_gets(of_a_program_that_ended()) for _ in range(20))


@case("a port in use at any address is skipped")
def _():
    for address, family in (("127.0.0.1", socket.AF_INET), ("0.0.0.0", socket.AF_INET), ("::1", socket.AF_INET6)):
        try:
            listener = socket.create_server((address, 0), family=family)
        except OSError:  # a machine without IPv6
            assert family == socket.AF_INET6
            continue
        with listener:
            assert not another_program_gets(listener.getsockname()[1]), address


@case("a machine whose kernel takes every port says so")
def _():
    kept, ports.kernel_range = ports.kernel_range, lambda: range(1, 65536)
    try:
        ports.free_port()
        raise AssertionError("a port of the kernel's range")
    except RuntimeError as e:
        assert "ip_local_port_range" in str(e), e
    finally:
        ports.kernel_range = kept


@case("ports are chosen outside a wide ephemeral range")
def _():
    kept = ports.kernel_range
    try:
        for taken, left in ((range(1024, 61000), range(61000, 65536)), (range(5000, 65536), range(1024, 5000))):
            ports.kernel_range = lambda t=taken: t
            assert ports.free_port() in left
    finally:
        ports.kernel_range = kept


if __name__ == "__main__":
    main()
