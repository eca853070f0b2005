"""One WebSocket of a case with the frames on it. Reads in the background, judges what comes, keeps it until it is asked for."""

import asyncio
import errno
import os
import socket
import struct

from . import ws
from .tcp import end_socket, pieces
from .match import Named
from .watch import Books
from .wire import codec, describe, payload_of

NUMBERS_TO_NAMES = {number: row["name"] for number, row in codec.FRAMES.items()}
CLOSE_NAMES = {number: name for name, number in codec.CLOSE_CODES.items()}


class Frame:
    """A frame that came. `message` and `seq` count messages of its link and frames of the whole run."""

    def __init__(self, link, name, stream, value, size, message, seq):
        self.link, self.name, self.stream, self.value, self.size = link, name, stream, value, size
        self.message, self.seq = message, seq
        self.taken = False

    def __str__(self):
        return describe(self.name, self.stream, self.value, self.size)


class Closing:
    """How a WebSocket ended. kind: closed (a close frame came), dropped (none came), reset (TCP RST)."""

    def __init__(self, kind, code=None, reason=""):
        self.kind, self.code, self.reason = kind, code, reason

    def __str__(self):
        if self.kind != "closed":
            return {"dropped": "the socket ended without a close frame", "reset": "the socket was reset"}[self.kind]
        name = CLOSE_NAMES.get(self.code)
        text = "no code" if self.code == ws.NO_CODE else f"{self.code} {name}" if name else str(self.code)
        return f"closed with {text}{f' ({self.reason})' if self.reason else ''}"


class Link:
    """role: which side we play, "driver" or "kit"."""

    def __init__(self, run, name, sock, role, early=b"", version="v1"):
        self.run, self.name, self.sock, self.role, self.version = run, name, sock, role, version
        self.inbox, self.breaches = [], []
        self.closing = None          # how the peer ended it
        self.we_closed = None        # how we ended it
        self.auto_pong, self.watch = True, run.case.watch
        self.ended_by_case = False   # a step has already looked at the end
        self.paused = asyncio.Event()
        self.paused.set()
        self.ws_pongs, self.raw_payloads = [], {}
        self.messages = 0
        self.received = self.sent = 0  # messages that count on this link (RESUME-6)
        self.greeted = role == "driver"  # HELLO_OK or JOIN_OK has gone out, when those are ours to send
        self.secondary = False       # a v2 socket beside the primary: no session frames on it
        self.state = "await_hello_ok" if role == "driver" else "await_hello"
        self.assembler = codec.Assembler(role, self.state, codec.VERSIONS[version])
        self.books = Books(role)
        self.reader = ws.Reader(masked=role == "kit")
        self.dead = False
        if early:
            self._feed(early)
        self.task = asyncio.get_running_loop().create_task(self._read())

    # ---- receiving ----

    async def _read(self):
        kind = "dropped"
        try:
            async for data in pieces(self.sock, self.paused):
                self._feed(data)
        except ConnectionResetError:
            kind = "reset"
        except OSError as e:
            kind = "reset" if e.errno in (errno.ECONNRESET, errno.EPIPE) else "dropped"
        except asyncio.CancelledError:
            return
        if self.closing is None:
            self.closing = Closing(kind)
            self.run.note(self.name, "<<", str(self.closing))
        self.dead = True
        self.run.wake()

    def _feed(self, data):
        for event in self.reader.feed(data):
            getattr(self, "_on_" + event[0])(*event[1:])
        self.run.wake()

    def breach(self, text):
        self.breaches.append(text)
        self.run.note(self.name, "!!", text)

    def _on_breach(self, text):
        self.breach(text)

    def _on_ping(self, payload):
        self.run.note(self.name, "<<", f"WebSocket ping {payload!r}")
        self._push(ws.build(ws.PONG, payload, mask=self.role == "driver"))

    def _on_pong(self, payload):
        self.run.note(self.name, "<<", f"WebSocket pong {payload!r}")
        self.ws_pongs.append(payload)

    def _on_close(self, code, reason):
        if self.closing is None:
            self.closing = Closing("closed", Named(code, CLOSE_NAMES), reason)
            self.run.note(self.name, "<<", str(self.closing))
        if self.we_closed is None:
            self.we_closed = code
            payload = b"" if code == ws.NO_CODE else struct.pack(">H", code)
            self._push(ws.build(ws.CLOSE, payload, mask=self.role == "driver"), last=self.role == "kit")
        elif self.role == "kit":
            self.end_as_server()

    def _on_message(self, opcode, data):
        self.messages += 1
        if opcode != ws.BINARY:
            self.breach("MSG-1: a text message")
            return
        if self.closing is not None:
            self.breach("RFC 6455 5.5.1: a message behind the close frame")
        counts = False
        try:
            for number, stream, payload in self.assembler.feed(data, True):
                self._frame(number, stream, payload)
                counts = counts or number != codec.ACK
            self.received += counts and self.messages > 1
        except codec.WireError as e:
            self.breach(f"{e.rule}: {e.text} (message of {len(data)} bytes: {data[:64].hex()})")
            self.assembler = codec.Assembler(self.role, self.state, codec.VERSIONS[self.version])

    def _frame(self, number, stream, payload):
        name = NUMBERS_TO_NAMES[number]
        try:
            value = codec.decode(number, payload)
        except codec.WireError as e:
            self.breach(f"{e.rule}: {e.text} (payload {payload[:200]!r})")
            return
        if name != "DATA":
            self.raw_payloads[name] = bytes(payload)
        if name in ("RESET", "GOAWAY"):
            value["code"] = Named(value["code"], codec.CODE_NAMES)
        frame = Frame(self, name, stream, value, len(payload), self.messages, self.run.next_seq())
        self.run.note(self.name, "<<", str(frame))
        self._advance(name, value)
        if self.watch:
            if self.secondary and stream == 0 and not codec.FRAMES[number]["any_link"] and name not in ("JOIN", "JOIN_OK", "JOIN_ERR"):
                self.breach(f"FRAME-10: {name} of the session on a secondary")
            for text in self.books.came(self, name, stream, value):
                self.breach(text)
        self.inbox.append(frame)
        if name == "PING" and self.auto_pong:
            self._push_frame("PONG", 0, value["nonce"])

    def _advance(self, name, value):
        if name == "HELLO_OK":
            self.books.open_session(value)
            self.run.sessions.add(value["sessionId"])
            self._enter("open")
        elif name in ("JOIN_OK", "HELLO") or name == "JOIN":
            self._enter("open")
        elif name == "GOAWAY" and self.state == "open":
            self._enter("closing")

    def _enter(self, state):
        self.state = self.assembler.state = state

    # ---- sending ----

    def _push(self, data, last=False):
        """Sends something small from inside the reader, without waiting."""
        self.run.spawn(self._send_quietly(data, last))

    async def _send_quietly(self, data, last):
        try:
            await self.send_bytes(data)
        except OSError:
            pass
        if last:
            self.end_as_server()

    def end_as_server(self):
        """RFC 6455 7.1.1: after the close frames the server is the one that ends the TCP connection."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _push_frame(self, name, stream, value):
        payload = payload_of(name, value)
        self.run.note(self.name, ">>", describe(name, stream, None, len(payload)) + " (by itself)")
        self.count_message([name])
        self._push(self.wrap(codec.raw_frame(name, stream, payload)))

    def wrap(self, data, **more):
        return ws.message(data, self.role == "driver", **more)

    async def send_bytes(self, data, split=None):
        await asyncio.wait_for(ws.send_pieces(self.sock, data, split), self.run.patience)

    def count(self, name, stream, payload):
        """Puts a frame that is about to be sent into the books."""
        self.books.gone_out(self, name, stream, payload)
        self.greeted = self.greeted or name in ("HELLO_OK", "JOIN_OK")
        if self.role == "driver" and name == "JOIN":
            self._enter("await_join_ok")

    def count_message(self, names):
        """Counts a message that is about to be sent, as RESUME-6 does."""
        self.sent += not set(names) <= {"HELLO", "HELLO_OK", "JOIN", "JOIN_OK", "ACK"}

    async def send_close(self, code=None, reason=""):
        self.we_closed = code or ws.NO_CODE
        self.run.note(self.name, ">>", f"close frame {code or 'without a code'}")
        await self.send_bytes(ws.build(ws.CLOSE, ws.close_payload(code, reason), mask=self.role == "driver"))

    def drop(self, reset=False):
        """Ends the TCP connection without a close frame."""
        self.we_closed = self.we_closed or "dropped"
        self.run.note(self.name, ">>", "drops the socket" + (" with RST" if reset else ""))
        self.abandon(reset)

    def abandon(self, reset=False):
        end_socket(self.sock, self.task, reset)
        self.dead = True

    @property
    def alive(self):
        return not self.dead and self.closing is None and self.we_closed is None


def nonce():
    return os.urandom(8)
