"""A WebSocket of our own (RFC 6455), small and obedient: it sends whatever it is told to, legal or not.

It splits, fragments and malforms on request, and hands up every frame of the peer as it came. What is legal for the peer is
checked here too: masks, RSV bits, opcodes, control frames, UTF-8 of reasons; a breach is reported as text, never raised.
"""

import asyncio
import base64
import hashlib
import os
import socket
import struct

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
OPCODES = {"continuation": CONT, "text": TEXT, "binary": BINARY, "close": CLOSE, "ping": PING, "pong": PONG}
NO_CODE = 1005  # RFC 6455 7.4.1: a close frame without a code


def apply_mask(data, key):
    if not data:
        return b""
    n = len(data)
    long_key = (key * (n // 4 + 1))[:n]
    return (int.from_bytes(data, "big") ^ int.from_bytes(long_key, "big")).to_bytes(n, "big")


def build(opcode, payload=b"", fin=True, mask=True, rsv=0, length=None):
    """The bytes of one frame; `length` may lie."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + apply_mask(payload, key)


def message(payload, mask, fragments=1, opcode=BINARY):
    """A whole message, cut into that many fragments of about one size."""
    if fragments <= 1:
        return build(opcode, payload, mask=mask)
    step = max(1, -(-len(payload) // fragments))
    parts = [payload[i * step:(i + 1) * step] for i in range(fragments)]
    return b"".join(build(opcode if i == 0 else CONT, part, fin=i == fragments - 1, mask=mask)
                    for i, part in enumerate(parts))


def close_payload(code, reason=""):
    return b"" if code is None else struct.pack(">H", code) + reason.encode()


class Reader:
    """Turns bytes into events: ("message", opcode, bytes), ("ping", bytes), ("pong", bytes), ("close", code, reason),
    ("breach", text)."""

    def __init__(self, masked):
        self.masked = masked  # whether the peer has to mask
        self.data = bytearray()
        self.parts, self.opcode = [], None

    def feed(self, data):
        self.data += data
        events = []
        while self._one(events):
            pass
        return events

    def _one(self, events):
        d = self.data
        if len(d) < 2:
            return False
        opcode, size, at = d[0] & 15, d[1] & 127, 2
        if size == 126:
            size, at = int.from_bytes(d[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(d[2:10], "big"), 10
        masked = bool(d[1] & 0x80)
        at += 4 if masked else 0
        if len(d) < at + size or len(d) < at:
            return False
        payload = bytes(d[at:at + size])
        if masked:
            payload = apply_mask(payload, bytes(d[at - 4:at]))
        fin, rsv = bool(d[0] & 0x80), d[0] >> 4 & 7
        del d[:at + size]
        if masked != self.masked:
            events.append(("breach", "RFC 6455 5.1: a client masks every frame, a server none"))
        if rsv:
            events.append(("breach", "RFC 6455 5.2: RSV bits set without an extension"))
        if opcode >= 8:
            if size > 125 or not fin:
                events.append(("breach", "RFC 6455 5.5: a control frame that is fragmented or has over 125 bytes"))
            self._control(opcode, payload, events)
        else:
            self._data(opcode, fin, payload, events)
        return True

    def _control(self, opcode, payload, events):
        if opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else NO_CODE
            try:
                reason = payload[2:].decode()
            except UnicodeDecodeError:
                reason = ""
                events.append(("breach", "RFC 6455 5.5.1: a close reason that is not UTF-8"))
            events.append(("close", code, reason))
        elif opcode in (PING, PONG):
            events.append(("ping" if opcode == PING else "pong", payload))
        else:
            events.append(("breach", f"RFC 6455 5.2: opcode {opcode} is reserved"))

    def _data(self, opcode, fin, payload, events):
        if opcode > BINARY or (opcode == CONT) != (self.opcode is not None):
            events.append(("breach", f"RFC 6455 5.4: opcode {opcode} is out of place"))
            return
        if opcode != CONT:
            self.opcode = opcode
        self.parts.append(payload)
        if fin:
            events.append(("message", self.opcode, b"".join(self.parts)))
            self.parts, self.opcode = [], None


async def send_pieces(sock, data, split=None):
    """Sends bytes; `split` is a piece size, or a list of sizes whose rest goes last."""
    loop = asyncio.get_running_loop()
    if not split:
        await loop.sock_sendall(sock, data)
        return
    at, sizes = 0, list(split) if isinstance(split, list) else None
    while at < len(data):
        size = (sizes.pop(0) if sizes else len(data)) if sizes is not None else split
        await loop.sock_sendall(sock, data[at:at + size])
        at += size
        await asyncio.sleep(0)


async def dial(host, port, timeout=10):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, (host, port)), timeout)
    except BaseException:
        sock.close()
        raise
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def accept_key(key):
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


def new_key():
    return base64.b64encode(os.urandom(16)).decode()


async def read_head(sock, timeout):
    """(start line, [(name, value)], bytes behind); None when the peer ended before a whole head came."""
    loop = asyncio.get_running_loop()
    data = b""
    deadline = loop.time() + timeout
    while b"\r\n\r\n" not in data:
        try:
            more = await asyncio.wait_for(loop.sock_recv(sock, 65536), max(0.01, deadline - loop.time()))
        except (OSError, asyncio.TimeoutError):
            return None
        if not more:
            return None
        data += more
    head, rest = data.split(b"\r\n\r\n", 1)
    lines = head.decode("latin-1").split("\r\n")
    headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:] if ":" in line]
    return lines[0], [(name.lower(), value) for name, value in headers], rest
