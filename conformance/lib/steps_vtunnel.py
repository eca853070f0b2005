"""Steps of a client of vtunnel's JSON protocol, the second wire that a kit may speak (spec/vtunnel.yaml)."""

import asyncio

from . import ws
from .match import as_bytes, show
from .ports import free_port
from .run import Failure
from .steps_wire import verb
from .tcp import end_socket, pieces
from .wire import text_codec


class Client:
    """A WebSocket that was upgraded without a subprotocol; what comes is kept until a step asks for it."""

    def __init__(self, run, name, sock, early):
        self.run, self.name, self.sock = run, name, sock
        self.inbox = []              # messages as mappings, ("close", code, reason), ("end",)
        self.reader = ws.Reader(masked=False)
        self.paused = asyncio.Event()
        self.paused.set()
        self._feed(early)
        self.task = asyncio.get_running_loop().create_task(self._read())

    def _feed(self, data):
        for event in self.reader.feed(data):
            if event[0] == "message":
                try:
                    event = text_codec.decode(event[2], "server") if event[1] == ws.TEXT else ("breach", "VMSG-1: a message that is not text")
                except text_codec.TextError as e:
                    event = ("breach", str(e))
            self.run.note(self.name, "<<", show(event))
            self.inbox.append(event)
        self.run.wake()

    async def _read(self):
        try:
            async for data in pieces(self.sock, self.paused):
                self._feed(data)
        except OSError:
            pass
        self.inbox.append(("end",))
        self.run.wake()

    async def next(self, expected, timeout=None):
        """The next thing that came; a breach fails at once."""
        got = await self.run.until(lambda: self.inbox and self.inbox[0], timeout)
        if got is None:
            raise Failure(f"{self.name}: nothing came in time", expected, "nothing")
        if isinstance(got, tuple) and got[0] == "breach":
            raise Failure(f"{self.name}: the peer broke {got[1]}", expected, got[1])
        return self.inbox.pop(0)

    async def send(self, data):
        await asyncio.wait_for(ws.send_pieces(self.sock, data), self.run.patience)

    async def finish(self):
        end_socket(self.sock, self.task)


def client(run, name):
    found = [e for e in run.extras if isinstance(e, Client) and e.name == name]
    if not found:
        raise Failure(f"there is no client {name}")
    return found[-1]


@verb("free_port")
async def _free_port(run, names):
    """Sets variables to ports that nobody uses."""
    for name in names if isinstance(names, list) else [names]:
        run.scope.set(name, free_port())


@verb("vtunnel", "path", "headers", "host", "status", "method")
async def _vtunnel(run, name, path="/", headers=None, host=None, status=101, method="GET"):
    """Opens a client called `name`, with no subprotocol. `status`: the HTTP answer that is due."""
    kit = run.target
    sock = await ws.dial(kit.host, kit.port, run.patience)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'{kit.host}:{kit.port}'}", "Upgrade: websocket", "Connection: Upgrade",
             f"Sec-WebSocket-Key: {ws.new_key()}", "Sec-WebSocket-Version: 13", *(f"{k}: {v}" for k, v in (headers or {}).items())]
    run.note(name, ">>", lines[0])
    await ws.send_pieces(sock, ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    head = await ws.read_head(sock, run.patience)
    line = head[0] if head else "the connection ended"
    run.note(name, "<<", line)
    if not head or int(line.split(" ")[1]) != status:
        sock.close()
        raise Failure(f"{name}: the upgrade is answered {line}", f"HTTP {status}", line)
    chosen = [k for k, _ in head[1] if k in ("sec-websocket-protocol", "sec-websocket-extensions")]
    if status != 101 or chosen:
        sock.close()
        if chosen:
            raise Failure(f"{name}: {chosen[0]} is chosen, and nothing was offered (VCONN-1)", "neither subprotocol nor extension", chosen[0])
        return
    run.extras.append(Client(run, name, sock, head[2]))


@verb("say", "on", "fragments", "opcode", "may_fail", "times")
async def _say(run, message, on="c", fragments=1, opcode="text", may_fail=False, times=1):
    """Sends a message: a mapping, or text as it stands. `fragments`: how many frames it is cut into."""
    c = client(run, on)
    if isinstance(message, dict):
        value = dict(message)
        if "data" in value:
            value["data"] = as_bytes(value["data"])
        data = text_codec.encode(value)
    else:
        data = as_bytes(run.scope.fill(message) if isinstance(message, str) else message)
    run.note(on, ">>", f"{show(data, 120)}{f', {times} times' if times > 1 else ''}")
    try:
        for _ in range(times):
            await c.send(ws.message(data, True, fragments, ws.OPCODES[opcode]))
    except (OSError, asyncio.TimeoutError) as e:
        if not may_fail:
            raise Failure(f"{on}: what is sent is not taken: {e!r}", "it is taken", repr(e)) from e


@verb("hear", "on", "timeout", "save")
async def _hear(run, message, on="c", timeout=None, save=None):
    """The next message must be this one, with no other field; !any stands for a text that is for people. `save`: {VARIABLE: field}."""
    got = await client(run, on).next(show(message), timeout)
    want = {k: as_bytes(v) if k == "data" else v for k, v in message.items()}
    for key, value in want.items():
        if getattr(value, "tag", None) == "any" and isinstance(got, dict) and got.get(key):
            want[key] = got[key]
    if got != want:
        raise Failure(f"{on}: another message came", show(want), show(got))
    for name, field in (save or {}).items():
        run.scope.set(name, got.get(field, 0))


@verb("hear_data", "on", "stream")
async def _hear_data(run, data, on="c", stream=1):
    """So many bytes of a stream, in however many messages; each holds MAX_DATA at most and one byte at least."""
    want, got = as_bytes(data), b""
    while len(got) < len(want):
        m = await client(run, on).next(f"data of stream {stream}")
        if not isinstance(m, dict) or m["type"] != "data" or m.get("stream_id", 0) != stream or "data" not in m:
            raise Failure(f"{on}: no data of stream {stream}", f"data of stream {stream}", show(m))
        if len(m["data"]) > text_codec.LIMITS["MAX_DATA"]:
            raise Failure(f"{on}: {len(m['data'])} bytes in one message (VDATA-1)", "at most MAX_DATA", str(len(m["data"])))
        got += m["data"]
    if got != want:
        raise Failure(f"{on}: other bytes came", show(want), show(got))


@verb("hear_end", "on", "reason", "timeout")
async def _hear_end(run, code, on="c", reason=None, timeout=None):
    """A close frame with that code, and a reason that holds `reason`, of 120 bytes at most (VEND-1)."""
    got = await client(run, on).next(f"a close frame with {code}", timeout)
    if got[:2] != ("close", code) or (reason is not None and reason not in got[2]) or len(got[2].encode()) > 120:
        raise Failure(f"{on}: another end", f"close with {code} {reason or ''}", show(got))


@verb("hear_nothing", "on")
async def _hear_nothing(run, ms, on="c"):
    """Nothing comes for so many milliseconds."""
    c = client(run, on)
    got = await run.until(lambda: c.inbox and c.inbox[0], ms / 1000)
    if got:
        raise Failure(f"{on}: something came", f"nothing for {ms} ms", show(got))


@verb("hang_up", "on", "drop")
async def _hang_up(run, code, on="c", drop=False):
    """A close frame with that code, which is answered; or `drop`: the socket without a word."""
    c = client(run, on)
    if drop:
        run.note(on, "--", "drops the socket")
        await c.finish()
        return
    await c.send(ws.build(ws.CLOSE, ws.close_payload(code)))
    got = await c.next("a close frame")
    if not (isinstance(got, tuple) and got[0] == "close"):
        raise Failure(f"{on}: the close frame is not answered", "a close frame", show(got))
