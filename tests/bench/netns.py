"""A network namespace with another congestion control. It has no name, so it is gone with the last process in it."""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import sys

CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
CONTROL = "/proc/sys/net/ipv4/tcp_%s"


def _loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        flags = struct.unpack("16sH14x", fcntl.ioctl(s, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0)))[1]
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def _set(control):
    """In the namespace that this process is in; says what is there where that cannot be."""
    try:
        with open(CONTROL % "congestion_control", "w", encoding="ascii") as f:
            f.write(control)
    except OSError:
        with open(CONTROL % "available_congestion_control", encoding="ascii") as f:
            sys.exit(f"--cc: this kernel has no {control}; it has {f.read().strip()}")


def _allow(f, names):
    f.seek(0)
    f.write(" ".join(names).encode())


def enter(control):
    """Takes this process, and all that it starts from now on, into a namespace of its own. Ends the program where that cannot be."""
    if os.geteuid() != 0:
        sys.exit("--cc makes a network namespace, which needs root")
    libc = ctypes.CDLL(None, use_errno=True)
    # Another namespace than the first one may choose among what everybody is allowed to use; that list is changed for a moment.
    with open(CONTROL % "allowed_congestion_control", "r+b", buffering=0) as allowed:
        before = allowed.read().decode().split()
        with contextlib.suppress(OSError):  # what the kernel does not have is found out a moment later
            _allow(allowed, dict.fromkeys([*before, control]))
        try:
            if libc.unshare(CLONE_NEWNET) != 0:
                sys.exit(f"--cc: no network namespace: {os.strerror(ctypes.get_errno())}")
            _loopback_up()
            _set(control)
        finally:
            _allow(allowed, before)
