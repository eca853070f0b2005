"""Transfers whose every byte is known on both ends: services on the laptop's side, visitors on the other.

A transfer has a number. Its bytes are a slice of one block of noise, at a place drawn from the number, so that what is
lost, doubled, reordered or another transfer's is seen; both ends hash what they got with SHA-256. A service writes down
what it saw of each transfer (`Ledger`), a visitor says how it ended for him:

    whole     the framing says that it is complete, and so it is
    cut       it shows that something is missing; what came is a prefix of what was sent
    refused   502, 503 or 504, or a PULL connection that was closed before a byte of it went anywhere

Anything else is a failure: `Broken` says what.
"""

import hashlib
import random
import re
import select
import socket
import struct
import threading

NOISE = random.Random(20240229).randbytes(1 << 20) * 5
PERIOD = 1 << 20
MOST = 4 << 20
HEAD = struct.Struct("!QQ")  # a TCP transfer's number and length


class Broken(AssertionError):
    """The promise was broken: bytes are wrong, or an end looked like what it was not."""


def place(number, salt=0):
    """Where in the noise the bytes of a transfer begin."""
    return random.Random(number * 2 + salt).randrange(PERIOD)


def content(number, n, salt=0):
    """The bytes of a transfer."""
    at = place(number, salt)
    return memoryview(NOISE)[at:at + n]


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Ledger:
    """What services saw of transfers: number -> list of (whole, bytes, sha256)."""

    def __init__(self):
        self.lock = threading.Lock()
        self.seen = {}
        self.broken = []
        # A request without a body may be made again when the kept connection that took it is lost (RFC 9112 9.3.1).
        self.repeats = False

    def add(self, number, whole, data, expected):
        """`expected`: what should have come; a part must be a prefix."""
        with self.lock:
            self.seen.setdefault(number, []).append((whole, len(data), sha(data)))
            if whole and sha(data) != sha(expected):
                self.broken.append(f"transfer {number}: the service took {len(data)} wrong bytes for the whole")
            elif bytes(data) != bytes(expected[:len(data)]):
                self.broken.append(f"transfer {number}: the service got {len(data)} bytes that are no prefix")
            elif len(self.seen[number]) > 1 and (data or not self.repeats):
                self.broken.append(f"transfer {number}: came to the service {len(self.seen[number])} times")

    def has(self, number):
        with self.lock:
            return number in self.seen

    def parts(self):
        """How many transfers ended at the service before they were whole, so far: services may still be at it."""
        with self.lock:
            return sum(not whole for seen in self.seen.values() for whole, _, _ in seen)


# ---- services ----


class Reader:
    """A buffered reader of a socket; `ended` tells a clean end from a reset."""

    def __init__(self, connection):
        self.connection = connection
        self.data = bytearray()
        self.ended = None  # None, "fin" or "reset"

    def more(self):
        try:
            got = self.connection.recv(262144)
        except (ConnectionError, BrokenPipeError):
            self.ended = "reset"
            return False
        if not got:
            self.ended = "fin"
            return False
        self.data += got
        return True

    def line(self):
        """Up to and without CRLF; None at the end."""
        while (at := self.data.find(b"\r\n")) < 0:
            if not self.more():
                return None
        line = bytes(self.data[:at])
        del self.data[:at + 2]
        return line

    def head(self):
        """The lines of a head; None at the end."""
        lines = []
        while line := self.line():
            lines.append(line.decode("latin-1"))
        return None if line is None else lines

    def take(self, n):
        """Up to n bytes; fewer only at the end."""
        while len(self.data) < n and self.more():
            pass
        part = bytes(self.data[:n])
        del self.data[:n]
        return part


def field(lines, name):
    for line in lines[1:]:
        if line.lower().startswith(name + ":"):
            return line.split(":", 1)[1].strip()
    return None


def read_body(reader, lines):
    """(bytes, whole) by the framing; whole is None when only the end of the connection could tell."""
    length, coding = field(lines, "content-length"), field(lines, "transfer-encoding")
    if coding:
        if length or coding != "chunked":
            raise Broken(f"framing nobody can read: {lines}")
        body = bytearray()
        while True:
            line = reader.line()
            if line is None:
                return bytes(body), False
            if not re.fullmatch(rb"[0-9a-fA-F]+", line):
                raise Broken(f"a chunk's size reads {line[:40]!r}")
            size = int(line, 16)
            if size == 0:
                return bytes(body), reader.line() == b""
            part = reader.take(size)
            body += part
            if len(part) < size:
                return bytes(body), False
            if reader.take(2) not in (b"\r\n", b"\r", b""):
                raise Broken("a chunk does not end in CRLF")
    if length is not None:
        body = reader.take(int(length))
        return body, len(body) == int(length)
    return b"", None


def chunked(data, rng):
    """The chunks of a body in random sizes, the last one and the end included."""
    out, at = bytearray(), 0
    while at < len(data):
        n = min(len(data) - at, rng.choice((1, 17, 1000, 16384, 70000)))
        out += b"%x\r\n" % n
        out += data[at:at + n]
        out += b"\r\n"
        at += n
    return bytes(out + b"0\r\n\r\n")


def web(ledger):
    """handle(connection) of the HTTP service: GET /down, POST /up, and an upgrade to an echo."""

    def answer(connection, reader, lines):
        number, n, chunks = (int(x) for x in re.search(r"/(\d+)/(\d+)/(\d)", lines[0]).groups())
        if field(lines, "upgrade"):
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
            echo(connection, reader, ledger, f"transfer {number}")
            return False
        if lines[0].startswith("GET"):
            ledger.add(number, True, b"", b"")
            body = content(number, n)
        else:
            expected = content(number, n)
            data, whole = read_body(reader, lines)
            ledger.add(number, bool(whole), data, expected)
            if not whole:
                return False
            body = sha(data).encode()
        if chunks:
            data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body, random.Random(number))
        else:
            data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + bytes(body)
        connection.sendall(data)
        return True

    def handle(connection):
        reader = Reader(connection)
        try:
            while (lines := reader.head()) and answer(connection, reader, lines):
                pass
        except Broken as e:
            ledger.broken.append(f"the service: {e}")

    return handle


def echo(connection, reader, ledger, name="a connection"):
    """Sends back what comes. The first 16 bytes are the transfer's number and length."""
    got = bytearray()
    try:
        while True:
            if reader.data:
                got += reader.data
                connection.sendall(reader.data)
                reader.data.clear()
            if not reader.more():
                break
    except (ConnectionError, BrokenPipeError):
        reader.ended = "reset"
    if len(got) < HEAD.size:
        if reader.ended == "fin":
            ledger.broken.append(f"{name} ended cleanly after {len(got)} bytes at the service")
        return
    number, n = HEAD.unpack_from(got)
    if n > MOST:
        ledger.broken.append(f"a connection begins with {bytes(got[:16])!r}")
        return
    data = got[HEAD.size:]
    expected = content(number, n)
    if reader.ended == "fin" and len(data) < n:
        ledger.broken.append(f"transfer {number}: a clean end after {len(data)} of {n} bytes at the service")
    ledger.add(number, reader.ended == "fin", data, expected)


def pull(ledger):
    """handle(connection) of the TCP service, an echo."""
    return lambda connection: echo(connection, Reader(connection), ledger)


# ---- visitors ----


def connect(port):
    s = socket.create_connection(("127.0.0.1", port), timeout=30)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def take_answer(reader, judge, until_close=False):
    """Reads one answer and hands (body, whole) to judge() when it is a 200. Returns how it ended."""
    lines = reader.head()
    if lines is None:
        return "cut"
    status = int(lines[0].split(" ")[1])
    body, whole = read_body(reader, lines)
    if whole is None and status == 200 and until_close:
        body = reader.take(MOST)
        whole = reader.ended == "fin"
    if status in (502, 503, 504):
        if status == 503 and field(lines, "retry-after") != "5":
            raise Broken(f"503 without Retry-After: 5: {lines}")
        return "refused"
    if status != 200 or whole is None:
        raise Broken(f"an answer nobody gave: {lines}")
    judge(body, whole)
    return "whole" if whole else "cut"


def ask(port, request, judge, until_close=False):
    with connect(port) as c:
        try:
            c.sendall(request)
        except (ConnectionError, BrokenPipeError):
            pass  # refused early: the answer tells
        return take_answer(Reader(c), judge, until_close)


def judge_download(number, n):
    def judge(body, whole):
        expected = content(number, n)
        if whole and sha(body) != sha(expected):
            raise Broken(f"transfer {number}: {len(body)} of {n} bytes look complete")
        if bytes(expected[:len(body)]) != body:
            raise Broken(f"transfer {number}: {len(body)} bytes that are no prefix")

    return judge


def download(port, number, n, chunks, version=b"1.1"):
    request = b"GET /down/%d/%d/%d HTTP/%s\r\nHost: a\r\n\r\n" % (number, n, chunks, version)
    return ask(port, request, judge_download(number, n), version == b"1.0")


def pipelined(port, number, n):
    """Three requests on one connection, sent at once: each answer is its own request's. The worst end of the three."""
    parts = [(number + (i << 40), n // (i + 1), i % 2) for i in range(1, 4)]
    with connect(port) as c:
        c.sendall(b"".join(b"GET /down/%d/%d/%d HTTP/1.1\r\nHost: a\r\n\r\n" % part for part in parts))
        reader, ends = Reader(c), []
        for part, size, _ in parts:
            ends.append(take_answer(reader, judge_download(part, size)))
            if reader.ended:
                break
        if len(ends) < len(parts):
            ends.append("cut")
        return next(end for end in ("cut", "refused", "whole") if end in ends)


def upload(port, number, n, chunks):
    body = content(number, n)

    def judge(answer, whole):
        if whole and answer != sha(body).encode():
            raise Broken(f"transfer {number}: the service got something else")

    framing = b"Transfer-Encoding: chunked" if chunks else b"Content-Length: %d" % n
    head = b"POST /up/%d/%d/%d HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % (number, n, chunks, framing)
    return ask(port, head + (chunked(body, random.Random(number)) if chunks else bytes(body)), judge)


def bounce(c, number, n, early=b""):
    """Sends a transfer and its end, reads it back until the end. Returns (bytes back, "fin" or "reset")."""
    out = memoryview(HEAD.pack(number, n) + bytes(content(number, n)))
    back = bytearray(early)
    c.setblocking(False)
    sent = 0
    try:
        while True:
            want_write = [c] if sent < len(out) else []
            readable, writable, _ = select.select([c], want_write, [], 30)
            if not readable and not writable:
                raise Broken(f"transfer {number}: stands still after {sent} of {len(out)} sent, {len(back)} back")
            if writable:
                sent += c.send(out[sent:sent + 262144])
                if sent == len(out):
                    c.shutdown(socket.SHUT_WR)
            if readable:
                got = c.recv(262144)
                if not got:
                    return back, "fin"
                back += got
    except (ConnectionError, BrokenPipeError, OSError) as e:
        if isinstance(e, Broken):
            raise
        # What came before the reset can still be there.
        try:
            while got := c.recv(262144):
                back += got
        except OSError:
            pass
        return back, "reset"


def judge_bounce(number, n, back, end, ledger):
    expected = HEAD.pack(number, n) + bytes(content(number, n))
    if back != expected[:len(back)]:
        raise Broken(f"transfer {number}: {len(back)} bytes came back that are no prefix")
    if end == "fin" and len(back) == len(expected):
        return "whole"
    if end == "reset":
        return "cut"
    # Closed at once, as a parked session does it (rule PARK-2): then nothing of it may have gone anywhere.
    if back or ledger.has(number):
        raise Broken(f"transfer {number}: a cut after {len(back)} of {len(expected)} bytes looks like a clean end")
    return "refused"


def echo_tcp(port, number, n, ledger):
    with connect(port) as c:
        back, end = bounce(c, number, n)
    return judge_bounce(number, n, back, end, ledger)


def echo_upgraded(port, number, n, ledger):
    with connect(port) as c:
        c.sendall(b"GET /ws/%d/%d/0 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n" % (number, n))
        reader = Reader(c)
        lines = reader.head()
        if lines is None:
            return "cut"
        status = int(lines[0].split(" ")[1])
        if status in (502, 503, 504):
            return "refused"
        if status != 101:
            raise Broken(f"an answer nobody gave: {lines}")
        back, end = bounce(c, number, n, bytes(reader.data))
    result = judge_bounce(number, n, back, end, ledger)
    if result == "refused":
        raise Broken(f"transfer {number}: a connection after 101 ended cleanly with nothing")
    return result
