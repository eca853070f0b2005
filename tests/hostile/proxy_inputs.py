"""Bad inputs for the CONNECT proxy, as inputs.py has them for the other listeners: `authority` (bytes) is a destination that it
would connect to, so that whatever slips through would be seen there."""

import socket
import struct

from tests.hostile import inputs
from tests.hostile.inputs import CONTROL, UPPER, Request, insert, one_of, token

GUARDED = ["127.0.0.2", "127.255.255.254", "0.0.0.0", "169.254.169.254", "169.254.1.2", "100.100.100.200", "224.0.0.1", "255.255.255.255",
           "::", "::1", "fe80::1", "ff02::1", "fd00:ec2::254", "::ffff:127.0.0.2", "::ffff:169.254.169.254", "::127.0.0.2", "64:ff9b::127.0.0.2",
           "2002:7f00:2::1"]


def spelled(rng):
    """An address in loopback or the metadata service's, as inet_aton() takes it; no policy may be asked about what that means."""
    n = rng.choice([0x7f000000 | rng.randint(2, 0xffffff), 0xa9fea9fe, rng.randint(1, 0xffffff)])
    parts = list(struct.pack(">I", n))
    form = rng.randrange(5)
    if form == 0:
        return rng.choice([b"%d", b"0x%x", b"0%o", b"0X%X"]) % n
    if form == 1:
        return b"%d." % parts[0] + rng.choice([b"%d", b"0x%x", b"0%o"]) % (n & 0xffffff)
    if form == 2:
        return b"%d.%d." % tuple(parts[:2]) + rng.choice([b"%d", b"0x%x", b"0%o"]) % (n & 0xffff)
    odd = rng.randrange(4)
    return b".".join((rng.choice([b"0x%x", b"0%o", b"00%d"]) if i == odd else b"%d") % p for i, p in enumerate(parts))


def guarded(rng):
    host = rng.choice(GUARDED)
    return host if rng.random() < 0.5 else (f"127.{rng.randint(0, 255)}.{rng.randint(0, 255)}.{rng.randint(2, 254)}")


def bracketed(host):
    return f"[{host}]".encode() if ":" in host else host.encode()


# ---- CONNECT ----

def _bad_target(rng, q):
    good = q.target
    host, _, port = good.partition(b":")
    name = token(rng, 1, 10, UPPER.lower()) + b".example"
    q.target = rng.choice([
        host, host + b":", host + b":0", host + b":%d" % rng.randint(65536, 10**9), host + b":+" + port, host + b":0x" + port, host + b": " + port,
        token(rng, 1, 8, UPPER) + b"@" + good, good + b"/" + token(rng, 0, 8), b"http://" + good, b"/" + good, b"//" + good, good + b"?" + token(rng),
        good + b"#" + token(rng), b"[" + host + b"]:" + port, good + b":" + port, b"." + name + b":80", name + b"..:80", b"*." + name + b":80",
        insert(rng, name, one_of(rng, CONTROL + b"\x80\xff%<>\"\\^`{|}, "), 1) + b":80", b"a" * rng.randint(64, 200) + b":80",
        b"[::ffff:127.0.0.2%" + token(rng, 1, 5, UPPER) + b"]:80", b"*", b":" + port, spelled(rng) + b":" + port, spelled(rng) + b".:" + port])


def _guarded_target(rng, q):
    q.target = bracketed(guarded(rng)) + b":%d" % rng.randint(1, 65535)


_OF_HEADS = ("_version", "_name_byte", "_no_name", "_no_colon", "_space_colon", "_value_byte", "_fold", "_bare_lf", "_two_lengths", "_bad_length",
             "_length_and_coding", "_bad_coding", "_two_codings", "_shape", "_two_spaces")
_CONNECT_KINDS = [getattr(inputs, name) for name in _OF_HEADS] + [_bad_target] * 6 + [_guarded_target] * 4


def bad_connects(rng, authority):
    while True:
        q = Request(rng)
        q.method, q.target, q.fields[0] = b"CONNECT", authority, b"Host: " + authority
        rng.choice(_CONNECT_KINDS)(rng, q)
        yield q.bytes()


# ---- requests in absolute form ----

def _guarded_url(rng, q):
    to = bracketed(guarded(rng)) + b":%d" % rng.randint(1, 65535)
    q.target, q.fields[0] = b"http://" + to + b"/" + token(rng), b"Host: " + to
    q.add(rng, b"Connection: close")  # a good request that goes nowhere: what comes behind it might


def _spelled_url(rng, q):
    to = spelled(rng)
    q.target, q.fields[0] = b"http://" + to + b"/" + token(rng), b"Host: " + to


def _other_scheme(rng, q):
    q.target = rng.choice([b"https", b"ws", b"ftp", b"file", b"gopher", b"unix", token(rng, 1, 6, UPPER.lower())]) + q.target[4:]


def _origin_form(rng, q):
    q.target = rng.choice([b"/", b"/" + token(rng), b"*", b"//" + q.fields[0][6:] + b"/"])


_URL_KINDS = [k for k in inputs.HEADS if k is not inputs._connect] + inputs.BODIES * 3  # pylint: disable=protected-access
_URL_KINDS += [_guarded_url] * 3 + [_spelled_url] * 3 + [_other_scheme] * 2 + [_origin_form]


def bad_urls(rng, authority):
    while True:
        q = Request(rng)
        q.target, q.fields[0] = b"http://" + authority + q.target, b"Host: " + authority
        rng.choice(_URL_KINDS)(rng, q)
        yield q.bytes()


# ---- SOCKS5 ----

HELLO = b"\x05\x01\x00"


def _socks_addr(host):
    six = ":" in host
    return (b"\x04" if six else b"\x01") + socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, host)


def _socks_name(name):
    return b"\x03" + bytes([len(name)]) + name


def bad_socks(rng, authority):
    """What is said after the first byte is refused, however it goes on."""
    host, _, port = authority.partition(b":")
    at, good = struct.pack(">H", int(port)), _socks_addr(host.decode())
    while True:
        kind = rng.randrange(9)
        if kind == 0:
            methods = bytes(m for m in (rng.randint(1, 255) for _ in range(rng.randint(0, 20))) if m != 2)
            yield b"\x05" + bytes([len(methods)]) + methods + b"\x05\x01\x00" + good + at
        elif kind == 1:
            yield HELLO + bytes([rng.choice([0, 1, 4, 6, rng.randint(7, 255)])]) + b"\x01\x00" + good + at + token(rng)
        elif kind == 2:
            yield HELLO + b"\x05" + bytes([rng.choice([0, 2, 3, rng.randint(4, 255)])]) + b"\x00" + good + at + token(rng)
        elif kind == 3:
            yield HELLO + b"\x05\x01" + bytes([rng.randint(1, 255)]) + good + at + token(rng)
        elif kind == 4:
            yield HELLO + b"\x05\x01\x00" + bytes([rng.choice([0, 2, rng.randint(5, 255)])]) + token(rng, 4, 20) + at
        elif kind == 5:
            yield HELLO + b"\x05\x01\x00" + good + b"\x00\x00" + token(rng)
        elif kind == 6:
            name = token(rng, 1, 12, UPPER.lower()) + b".example"
            bad = rng.choice([b"", insert(rng, name, one_of(rng, CONTROL + b"\0 \x80\xff:/@%[]<>"), 0), b"." + name, name + b"..", b"a" * 64 + b"." + name,
                              b"[::1]", b"[" + name + b"]"])
            yield HELLO + b"\x05\x01\x00" + _socks_name(bad) + at
        elif kind == 7:
            yield HELLO + b"\x05\x01\x00" + _socks_name(spelled(rng)) + at
        else:
            one = guarded(rng)
            form = _socks_addr(one) if rng.random() < 0.6 or ":" in one else _socks_name(one.encode())
            yield HELLO + b"\x05\x01\x00" + form + struct.pack(">H", rng.randint(1, 65535))
