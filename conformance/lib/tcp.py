"""Plain TCP ends of a case: visitors that come to a kit's ports, connections that a driver makes to a local service, and
just enough HTTP/1.1 to read what they are answered."""

import asyncio
import socket
import struct


def end_socket(sock, task=None, reset=False):
    """Closes a socket that a task may be reading: the loop forgets it first, so that its number can be used again."""
    if sock.fileno() < 0:
        return
    loop = asyncio.get_running_loop()
    loop.remove_reader(sock.fileno())
    loop.remove_writer(sock.fileno())
    if task:
        task.cancel()
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def pieces(sock, wanted):
    """What comes on a socket, until its end and while the event `wanted` is set. OSError: the connection broke."""
    loop = asyncio.get_running_loop()
    while True:
        await wanted.wait()
        data = await loop.sock_recv(sock, 262144)
        if not data:
            return
        yield data


class Tcp:
    """A connection whose bytes are collected in the background. end: None while it stands, "eof" or "reset"."""

    def __init__(self, run, name, sock, early=b""):
        self.run, self.name, self.sock = run, name, sock
        self.data = bytearray(early)
        self.total = len(early)
        self.end = None
        self.closed = False
        self.paused = asyncio.Event()
        self.paused.set()
        self.task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self):
        try:
            async for data in pieces(self.sock, self.paused):
                self.data += data
                self.total += len(data)
                self.run.note(self.name, "<<", f"{len(data)} bytes {bytes(data[:120])!r}{'...' if len(data) > 120 else ''}")
                self.run.wake()
            self.end = "eof"
            self.run.note(self.name, "<<", "end of the connection")
        except asyncio.CancelledError:
            return
        except OSError:
            self.end = "reset"
            self.run.note(self.name, "<<", "connection reset")
        self.run.wake()

    async def send(self, data, split=None):
        from .ws import send_pieces  # pylint: disable=import-outside-toplevel
        self.run.note(self.name, ">>", f"{len(data)} bytes {data[:120]!r}{'...' if len(data) > 120 else ''}")
        await asyncio.wait_for(send_pieces(self.sock, data, split), self.run.patience)

    def half_close(self):
        self.run.note(self.name, ">>", "ends its sending direction")
        self.sock.shutdown(socket.SHUT_WR)

    def close(self, reset=False):
        if not self.closed:
            self.run.note(self.name, ">>", "resets the connection" if reset else "closes the connection")
        self.closed = True
        end_socket(self.sock, self.task, reset)

    def take(self, n):
        out = bytes(self.data[:n])
        del self.data[:n]
        return out


class Answer:
    """An HTTP answer as it was read. complete: whether its framing says that all of it came."""

    def __init__(self):
        self.status, self.version, self.reason = 0, "", ""
        self.headers = []
        self.body = b""
        self.framing = ""
        self.complete = False
        self.trailers = []
        self.interim = False

    def view(self):
        """What expectations are compared with."""
        named = {}
        for name, value in self.headers:
            named[name.lower()] = f"{named[name.lower()]}, {value}" if name.lower() in named else value
        return {"status": self.status, "version": self.version, "reason": self.reason, "headers": named,
                "header_list": [[n.lower(), v] for n, v in self.headers], "body": self.body, "framing": self.framing,
                "trailers": self.trailers, "complete": self.complete}


def parse_answer(conn, method):
    """The next answer in conn.data, or None when more has to come. Takes its bytes only when it is done."""
    data = bytes(conn.data)
    at = data.find(b"\r\n\r\n")
    ended = conn.end is not None
    if at < 0:
        return None
    a = Answer()
    lines = data[:at].decode("latin-1").split("\r\n")
    words = lines[0].split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        return None if not ended else a
    a.version, a.status, a.reason = words[0], int(words[1]), words[2] if len(words) > 2 else ""
    for line in lines[1:]:
        name, _, value = line.partition(":")
        a.headers.append((name, value.strip(" \t")))
    fields = {n.lower(): v for n, v in a.headers}
    body_at = at + 4
    a.interim = a.status < 200 and a.status != 101
    if a.interim or a.status in (101, 204, 304) or method == "HEAD":
        a.framing, a.complete, used = "none", True, body_at
    elif fields.get("transfer-encoding", "").lower() == "chunked":
        a.framing = "chunked"
        a.body, used, a.complete, a.trailers = _dechunk(data, body_at)
    elif "content-length" in fields:
        a.framing = "length"
        size = int(fields["content-length"])
        a.body = data[body_at:body_at + size]
        a.complete, used = len(a.body) == size, body_at + len(a.body)
    else:
        a.framing, a.body, used = "close", data[body_at:], len(data)
        a.complete = conn.end == "eof"
    if not a.complete and not ended:
        return None
    del conn.data[:used]
    return a


class Request:
    """A request as a local service read it. framing: length, chunked or none."""

    def __init__(self, line, headers, body, framing, trailers):
        self.method, self.target, self.version = (line.split(" ") + ["", ""])[:3]
        self.line, self.headers, self.body, self.framing, self.trailers = line, headers, body, framing, trailers

    def view(self):
        named = {}
        for name, value in self.headers:
            named[name] = f"{named[name]}, {value}" if name in named else value
        return {"line": self.line, "method": self.method, "target": self.target, "version": self.version, "headers": named,
                "header_list": [list(h) for h in self.headers], "body": self.body, "framing": self.framing,
                "trailers": self.trailers}


def request_head(data):
    """(start line, [(lower-case name, value)], where the body begins) of a request, or None."""
    at = data.find(b"\r\n\r\n")
    if at < 0:
        return None
    lines = data[:at].decode("latin-1").split("\r\n")
    headers = [(n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines[1:])]
    return lines[0], headers, at + 4


def parse_request(conn, head_only=False):
    """The next whole request in conn.data, or None. Takes its bytes only when it is done; head_only: without its body."""
    data = bytes(conn.data)
    head = request_head(data)
    if head is None:
        return None
    line, headers, at = head
    fields, trailers = dict(headers), []
    if head_only:
        body, used, done, framing = b"", at, True, ""
    elif "chunked" in fields.get("transfer-encoding", "").lower():
        (body, used, done, trailers), framing = _dechunk(data, at), "chunked"
    elif "content-length" in fields:
        size = int(fields["content-length"])
        body, used, done, framing = data[at:at + size], at + size, len(data) >= at + size, "length"
    else:
        body, used, done, framing = b"", at, True, "none"
    if not done:
        return None
    del conn.data[:used]
    return Request(line, headers, body, framing, trailers)


def _dechunk(data, at):
    """(body, bytes used, whether it is whole, [[lower-case name, value]] behind it)."""
    body, trailers = b"", []
    while True:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return body, len(data), False, []
        try:
            size = int(data[at:line_end].split(b";")[0], 16)
        except ValueError:
            return body, len(data), False, []
        at = line_end + 2
        if size == 0:
            tail = data.find(b"\r\n", at)
            while tail > at:  # trailers
                name, _, value = data[at:tail].decode("latin-1").partition(":")
                trailers.append([name.lower(), value.strip(" \t")])
                at = tail + 2
                tail = data.find(b"\r\n", at)
            return (body, at + 2, True, trailers) if tail >= 0 else (body, len(data), False, [])
        body += data[at:at + size]
        if len(data) < at + size + 2:
            return body, len(data), False, []
        at += size + 2
