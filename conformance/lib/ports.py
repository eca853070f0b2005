"""Loopback ports for programs that cannot pick one themselves.

A port from the kernel's own range (net.ipv4.ip_local_port_range) is lost to any outgoing connection between the moment it is
found free and the moment somebody listens on it. These come from outside of that range, and stay reserved while this process
lives: whoever holds the abstract socket of a port has it. Such a name is seen by all processes of one network namespace, as
the port is, and goes with its process.
"""

import errno
import random
import socket

RANGE = "/proc/sys/net/ipv4/ip_local_port_range"
# Ports that browsers and other clients of the Fetch standard ("port blocking") refuse to open; lower ones are not picked.
BLOCKED = frozenset({1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080})
_held = {}  # port -> the socket that reserves it


def kernel_range():
    with open(RANGE, encoding="ascii") as f:
        low, high = map(int, f.read().split())
    return range(low, high + 1)


def _candidates():
    """Every port worth a try, in a random order; first those that nobody else picks: no kit, no well-known service."""
    from conformance.lib.wire import codec  # pylint: disable=import-outside-toplevel
    kernel, picked_by_kits = kernel_range(), codec.LIMITS["RANDOM_PORT_MIN"]
    for tier in (range(10000, picked_by_kits), range(1024, 10000), range(picked_by_kits, 65536)):
        for port in random.sample(tier, len(tier)):
            if port not in kernel and port not in codec.RESERVED_PORTS and port not in BLOCKED:
                yield port


def _reserve(port):
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0hoody-tunnel-port-{port}")
    except OSError:
        lock.close()
        return False
    if not _nobody_listens(port):
        lock.close()
        return False
    _held[port] = lock
    return True


def _nobody_listens(port):
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family) as s:
                if family == socket.AF_INET6:
                    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                s.bind((address, port))
        except OSError as e:
            if e.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # no IPv6 on this machine
                return False
    return True


def free_port(among=None):
    """A port that nobody uses, reserved for this process until it ends; `among` narrows the choice."""
    for port in random.sample(among, len(among)) if among else _candidates():
        if port not in _held and _reserve(port):
            return port
    raise RuntimeError(f"no free port {'there' if among else f'outside of {RANGE}'}")
