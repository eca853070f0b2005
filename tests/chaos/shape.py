"""A network of one's own whose loopback is like a real path: MTU 1500, small socket buffers, and at times little bandwidth.

Ports in it belong to nobody else. Where the machine does not allow one, the play goes on over the loopback of everybody."""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys

INSIDE = "HOODY_CHAOS_NET"
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFMTU = 0x8913, 0x8914, 0x8922
IFF_UP = 1
BUFFERS = {"tcp_rmem": "2048 16384 131072", "tcp_wmem": "2048 16384 131072"}


def enter():
    """Starts this program anew inside a network of its own, when that can be had. Returns when it runs there, or cannot."""
    if os.environ.get(INSIDE):
        return os.environ[INSIDE] == "own"
    unshare = shutil.which("unshare")
    words = [unshare, "--net"] if os.geteuid() == 0 else [unshare, "--map-root-user", "--net"]
    can = unshare and subprocess.run([*words, "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0
    os.environ[INSIDE] = "own" if can else "shared"
    if can:
        sys.stdout.flush()
        os.execv(unshare, [*words, sys.executable, *sys.argv])
    return False


def loopback(mtu):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCSIFMTU, struct.pack("16si", b"lo", mtu))
        flags = struct.unpack("16sh", fcntl.ioctl(s, SIOCGIFFLAGS, struct.pack("16sh", b"lo", 0)))[1]
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | IFF_UP))


def shape(rng):
    """Draws a path. Returns what it is, in words."""
    mtu = rng.choice((1500, 1500, 576, 65536))
    loopback(mtu)
    said = [f"mtu {mtu}"]
    small = rng.random() < 0.6
    for name, value in BUFFERS.items():
        try:
            with open(f"/proc/sys/net/ipv4/{name}", "w", encoding="ascii") as f:
                f.write(value if small else "4096 131072 6291456")
        except OSError:
            small = False
    said.append("small buffers" if small else "usual buffers")
    tc = shutil.which("tc") or "/usr/sbin/tc"
    if os.path.exists(tc):
        subprocess.run([tc, "qdisc", "del", "dev", "lo", "root"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if rng.random() < 0.4:
            rate = rng.choice((8, 30, 100))
            done = subprocess.run([tc, "qdisc", "add", "dev", "lo", "root", "tbf", "rate", f"{rate}mbit", "burst", "70k", "latency", "50ms"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            if done.returncode == 0:
                said.append(f"{rate} Mbit/s")
    return ", ".join(said)
