"""Steps of the driver direction: the suite plays the kit and the local services."""

import asyncio
import socket

from . import tcp, ws
from .match import as_bytes, mismatch, show
from .run import CaseError, Failure
from .steps_wire import VERBS, send_frames, verb
from .target import Process
from .wire import codec


class DriverTarget:
    """A driver that a case starts, with `start`."""

    def __init__(self, adapter):
        self.adapter, self.process = adapter, None

    @property
    def alive(self):
        return self.process is not None and self.process.status is None

    def tail(self):
        return self.process.tail() if self.process else []

    async def end(self):
        """False when it had to be killed."""
        return await self.process.end() if self.process else True


# A program that has just been started may be slow to come up (an interpreter, many at once): that is not its behaviour.
START = 20.0


class Listener:
    """A listening socket of the suite whose connections wait in a queue: the scripted kit, or a local service."""

    def __init__(self, run, name, host="127.0.0.1", port=0, buffer=None):
        self.run, self.name = run, name
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.bind((host, port))
        self.sock.listen(64)
        self.sock.setblocking(False)
        self.port = self.sock.getsockname()[1]
        self.waiting, self.conns = [], []
        self.accepted, self.starting = 0, False
        self.task = run.spawn(self._accept())

    async def _accept(self):
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self.sock)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.run.note(self.name, "<<", "a connection")
            self.accepted, self.starting = self.accepted + 1, False
            self.waiting.append(sock)
            self.run.wake()

    async def next(self, timeout=None):
        if timeout is None and self.starting:
            timeout = max(START, self.run.patience)
        got = await self.run.until(lambda: self.waiting, timeout)
        if not got:
            raise Failure(f"{self.name}: nobody connects", "a connection", "none")
        return self.waiting.pop(0)

    def adopt_all(self):
        """All connections so far, read in the background from here on."""
        while self.waiting:
            conn = tcp.Tcp(self.run, f"{self.name}{len(self.conns) + 1}", self.waiting.pop(0))
            self.conns.append(conn)
            self.run.extras.append(conn)
        return self.conns

    def stop(self):
        tcp.end_socket(self.sock, self.task)

    async def finish(self):
        self.stop()
        for sock in self.waiting:
            sock.close()


async def prepare(run):
    """The scripted kit listens before anything else; its URL is $url."""
    run.kit, run.services = Listener(run, "kit"), {}
    run.extras.append(run.kit)
    run.scope.set("kit", {"host": "127.0.0.1", "port": run.kit.port})
    run.scope.set("url", f"ws://127.0.0.1:{run.kit.port}")


# ---- the driver and its connections ----

@verb("driver", "targets", "options", "args")
async def _driver(run, command, targets=(), options=None, args=()):
    """Starts the driver: expose or pull, with targets as the adapter writes them ({container} and {port} of each), and abstract
    settings. In v2 it is asked to use 2 connections when the case does not say how many."""
    adapter = run.target.adapter
    how = (adapter.doc.get("start") or {}).get(command)
    if how is None:
        raise CaseError(f"the adapter cannot {command}")
    more = {"url": run.scope.get("url"), "version": run.case.version}
    words = adapter.words(how, more)
    for target in targets:
        words += adapter.words(adapter.doc["target"], {"container": target.get("container", 0), "port": target["port"],
                                                       "host": target.get("host", "127.0.0.1")})
    wanted = {**(run.case.options or {}), **(options or {})}
    if run.case.version == "v2":
        wanted.setdefault("connections", 2)
    extra, env = adapter.settings(wanted)
    run.target.process = Process(words + extra + list(args), {**{k: str(v) for k, v in (adapter.doc.get("env") or {}).items()},
                                                              **env})
    await run.target.process.start()
    run.kit.starting = True


async def upgraded(run, name, offered=None, choose=None, status=101, raw=None, headers=(), without=(), timeout=None):
    """The driver's next connection with its upgrade answered: a Link, or None when it was not accepted."""
    sock = await run.kit.next(timeout)
    head = await ws.read_head(sock, run.patience)
    if head is None:
        sock.close()
        raise Failure(f"{name}: no upgrade came", "an HTTP upgrade", "the connection ended")
    line, fields, rest = head
    run.note(name, "<<", line)
    fields = dict(fields)
    offers = [o.strip() for o in fields.get("sec-websocket-protocol", "").split(",") if o.strip()]
    run.scope.set(name, {"request": {"line": line, "headers": fields, "offers": offers}})
    if offered is not None and offers != offered:
        sock.close()
        raise Failure(f"{name}: other subprotocols are offered", str(offered), str(offers))
    if choose is None:
        choose = run.scope.get("subprotocol")
        if status == 101 and choose not in offers:
            sock.close()
            raise Failure(f"{name}: {choose} is not offered", choose, str(offers))
    lines = [f"HTTP/1.1 {status} Answer"]
    if status == 101:
        answer = [("Upgrade", "websocket"), ("Connection", "Upgrade"),
                  ("Sec-WebSocket-Accept", ws.accept_key(fields.get("sec-websocket-key", ""))), ("Sec-WebSocket-Protocol", choose)]
        left_out = {n.lower() for n in without} | {n.lower() for n, _ in headers}
        lines += [f"{n}: {v}" for n, v in answer if n.lower() not in left_out]
    else:
        lines += ["Content-Length: 0", "Connection: close"]
    data = raw if raw is not None else "\r\n".join(lines + [f"{n}: {v}" for n, v in headers]) + "\r\n\r\n"
    await asyncio.get_running_loop().sock_sendall(sock, as_bytes(data))
    run.note(name, ">>", f"answers {status}")
    if status != 101:
        sock.close()
        return None
    version = next((v for v, text in codec.SUBPROTOCOLS.items() if text == choose), run.case.version)
    return run.adopt(name, sock, "kit", rest, version)


@verb("accept", "offered", "choose", "status", "raw", "headers", "without", "timeout", "of")
async def _accept(run, name, of=None, **how):
    """The driver's next connection to the scripted kit, upgraded. Leaves $<name>.request: its head. `of`: a secondary of that one."""
    name = name or "s"
    link = await upgraded(run, name, **how)
    if link and of:
        link.secondary, link.books = True, run.link(of).books


@verb("expect_no_connection")
async def _expect_no_connection(run, ms):
    """Nobody connects to the scripted kit for that many milliseconds."""
    if await run.until(lambda: run.kit.waiting, ms / 1000):
        raise Failure("the driver connects", f"no connection for {ms} ms", "a connection")


def hello_ok(run, session, granted, more):
    """HELLO_OK as a kit says it; leaves $session and $tickets."""
    tickets = [{"index": i, "nonce": f"ticket-{i}-{session}", "expiresMs": codec.LIMITS["JOIN_TICKET_LIFE"]}
               for i in range(1, granted)]
    run.scope.set("session", session)
    run.scope.set("tickets", tickets)
    return {"HELLO_OK": {"sessionId": session, "resumed": False, "resumedBinds": [], "streamWindow": codec.LIMITS["STREAM_WINDOW"],
                         "sessionWindow": codec.LIMITS["SESSION_WINDOW"], "connectionsGranted": granted, "joinTickets": tickets,
                         **more}}


@verb("welcome", "on", "session", "grant", "expect", "extra", "secondaries", keep=("expect",))
async def _welcome(run, name, on="s", session="S-1", grant=1, expect=None, extra=None, secondaries=True):
    """HELLO comes (like `expect`; $<on>.hello is what it said) and HELLO_OK goes out with `extra` in it. With `grant` more than one,
    the secondaries join as <on>1, <on>2 and so on."""
    del name
    link = run.link(on)
    frame = await run.take(link, "HELLO", {"version": run.scope.get("subprotocol"), **(run.scope.fill(expect) or {})}, 0)
    run.scope.set(on, {**run.scope.get(on), "hello": frame.value})
    await send_frames(run, link, hello_ok(run, session, grant, extra or {}))
    for _ in range(grant - 1 if secondaries else 0):
        await join_one(run, on, session)


async def join_one(run, on, session):
    tickets = {t["index"]: t["nonce"] for t in run.scope.get("tickets")}
    link = await upgraded(run, "joining")
    link.secondary, link.books = True, run.link(on).books
    frame = await run.take(link, "JOIN", {"sessionId": session}, 0)
    index = frame.value["index"]
    if tickets.get(index) != frame.value["nonce"] or f"{on}{index}" in run.links and run.links[f"{on}{index}"].alive:
        raise Failure(f"JOIN {index} with another ticket than it was given", str(tickets), str(frame))
    del run.links["joining"]
    link.name = f"{on}{index}"
    run.links[link.name] = link
    await send_frames(run, link, {"JOIN_OK": {"index": index}})


@verb("tunnel", "targets", "options", "args", "on", "ports", "session", "grant", "expect", "extra", keep=("expect",))
async def _tunnel(run, command, targets=None, options=None, args=(), on="s", ports=(31001,), **how):
    """A driver with its bindings, in one step: service `web` (unless targets are given), `driver`, `accept`, `welcome`, and BIND_OK for
    every BIND. Leaves $bind and $port, or $bind2, $port2 and so on."""
    if targets is None:
        await _service(run, "web")
        targets = [{"port": run.services["web"].port}]
    run.scope.set("command", command)
    await _driver(run, command, targets, options, args)
    await upgraded(run, on)
    await _welcome(run, None, on=on, **how)
    for i in range(len(targets)):
        await _bound(run, None, on=on, port=ports[i] if i < len(ports) else ports[0] + i, bind=i + 1)
    if how.get("grant", 1) > 1:
        await VERBS["alive"].run(run, None, on=on)  # a STREAM_OPEN on a secondary must not overtake the BIND_OK


@verb("bound", "on", "port", "bind", "expect", "refuse", "message", keep=("expect",))
async def _bound(run, name, on="s", port=31001, bind=1, expect=None, refuse=None, message=""):
    """A BIND comes (like `expect`) and is answered: BIND_OK, or with `refuse` BIND_ERR with that code."""
    del name
    link = run.link(on)
    command = run.scope.values.get("command")
    pairs = {"expose": {"kind": "http", "mode": "expose"}, "pull": {"kind": "tcp", "mode": "pull"}}
    frame = await run.take(link, "BIND", {**pairs.get(command, {}), **(run.scope.fill(expect) or {})}, 0)
    ref = frame.value["clientBindRef"]
    n = "" if bind == 1 else bind
    run.scope.set(f"ref{n}", ref)
    if refuse:
        await send_frames(run, link, {"BIND_ERR": {"clientBindRef": ref, "code": refuse, "message": message}})
        return
    asked = frame.value.get("containerPort") or port
    await send_frames(run, link, {"BIND_OK": {"clientBindRef": ref, "bindId": bind, "containerPort": asked, "publicUrl": None}})
    run.scope.set(f"bind{n}", bind)
    run.scope.set(f"port{n}", asked)


# ---- streams ----

async def send_body(run, link, frames, body, stream, eof):
    """Frames, then DATA of the body in legal pieces and the EOF: one message while they fit, several when not."""
    piece = codec.LIMITS["MAX_PAYLOAD"]
    pieces = [{"DATA": body[i:i + piece], "stream": stream} for i in range(0, len(body), piece)]
    frames = frames + pieces + ([{"EOF": None, "stream": stream}] if eof else [])
    if len(body) < piece:
        await send_frames(run, link, frames)
        return
    for frame in frames:
        await send_frames(run, link, frame)


@verb("open_stream", "id", "on", "bind", "method", "target", "headers", "body", "eof", "upgrade", "extra", "as")
async def _open_stream(run, kind, on="s", bind=1, method="GET", target="/", headers=(), body=b"", eof=None, upgrade=False, extra=None,
                       **more):
    """STREAM_OPEN, the body as DATA and the EOF, in one message while they fit. `kind`: http (ends with EOF unless told otherwise) or
    tcp (does not). Leaves $stream."""
    stream = more.get("id") or run.scope.values.get("next_stream", 2)
    run.scope.set("next_stream", max(stream, run.scope.values.get("next_stream", 0)) + 2)
    run.scope.set("stream", stream)
    if more.get("as"):
        run.scope.set(more["as"], stream)
    value = {"kind": kind, "bindId": bind}
    if kind == "http":
        headers = [list(h) for h in headers]
        if not any(h[0] == "host" for h in headers):
            headers.insert(0, ["host", "visitor.example"])
        value.update(method=method, target=target, headers=headers, isUpgrade=upgrade)
    value.update(extra or {})
    eof = kind == "http" if eof is None else eof
    await send_body(run, run.link(on), [{"STREAM_OPEN": value, "stream": stream}], as_bytes(body), stream, eof)


def carried(have, carries, absent, who):
    """`carries`: these headers in this order, others may be between them; `absent`: none of these names."""
    names = [(n.lower(), v) for n, v in have]
    at = 0
    for name, value in carries:
        hit = next((i for i in range(at, len(names)) if names[i] == (name.lower(), value)), None)
        if hit is None:
            raise Failure(f"{who}: the header {name}: {value} is missing, or in another place", show(list(carries), 600),
                          show(names, 600))
        at = hit + 1
    for name in absent:
        if any(n == name.lower() for n, _ in names):
            raise Failure(f"{who}: the header {name} should not be there", f"no {name}", show(names, 600))


@verb("expect_answer", "on", "stream", "headers", "carries", "absent", "body", "eof", "timeout", "credit")
async def _expect_answer(run, status, on="s", stream=None, headers=None, carries=(), absent=(), body=None, eof=True, timeout=None,
                         credit=True):
    """The final response head, exactly this body, and the EOF."""
    link = run.link(on)
    stream = run.scope.get("stream") if stream is None else stream
    frame = await run.take(link, "STREAM_RESPONSE_HEAD", {"status": status, "final": True}, stream, timeout)
    have = {}
    for name, value in frame.value["headers"]:
        have[name.lower()] = f"{have[name.lower()]}, {value}" if name.lower() in have else value
    bad = mismatch(headers, have, run.scope, "headers") if headers else None
    if bad:
        raise Failure(f"{link.name}: {bad}", show(headers), str(frame))
    carried(frame.value["headers"], carries, absent, link.name)
    want = as_bytes(body) if body is not None and not isinstance(body, int) else body
    size = want if isinstance(want, int) else len(want or b"")
    got = bytearray()
    while len(got) < size:
        data = await run.take(link, "DATA", None, stream, timeout)
        got += data.value
        if credit and data.value:
            await send_frames(run, link, [{"WINDOW": data.size, "stream": stream}, {"WINDOW": data.size, "stream": 0}], may_fail=True)
    if isinstance(want, bytes) and bytes(got) != want:
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), size))
        raise Failure(f"{link.name}: another body, from byte {at} on", show(want[at:at + 60]), show(bytes(got[at:at + 60])))
    if eof:
        await run.take(link, "EOF", None, stream, timeout)


# ---- local services ----

@verb("service", "host", "buffer")
async def _service(run, name, host="127.0.0.1", buffer=None):
    """A local service listens; $<name>.port is where. `buffer`: size of its sockets' receive buffers."""
    listener = Listener(run, name, host, buffer=buffer)
    run.extras.append(listener)
    run.services[name] = listener
    run.scope.set(name, {"port": listener.port})


@verb("service_gone")
async def _service_gone(run, name):
    """A local service stops listening."""
    run.services[name].stop()


@verb("service_accept", "of", "timeout")
async def _service_accept(run, name, of="web", timeout=None):
    """The driver's next connection to a local service, from here on a plain connection `name` (see `visitor`)."""
    sock = await run.services[of].next(timeout)
    run.tcps[name] = tcp.Tcp(run, name, sock)


@verb("service_hears", "of", "bytes", "timeout")
async def _service_hears(run, name, bytes, of="web", timeout=None):  # pylint: disable=redefined-builtin
    """One of a local service's connections, old or new, has brought exactly these bytes; it is the plain connection `name` from here on."""
    service, want = run.services[of], as_bytes(bytes)
    got = await run.until(lambda: next((c for c in service.adopt_all() if c.data == want), None), timeout)
    if not got:
        raise Failure(f"{of}: these bytes came on no connection", show(want), show([c.take(40) for c in service.conns]))
    got.take(len(want))
    run.tcps[name] = got


@verb("service_idle", "within")
async def _service_idle(run, name, within=200):
    """Nobody asks a local service anything for `within` ms: no new connection, no bytes."""
    service = run.services[name]
    had = service.accepted

    def came():
        return service.accepted > had or any(c.data for c in service.adopt_all())
    if await run.until(came, within / 1000):
        raise Failure(f"{name}: the service is asked", "silence", show([bytes(c.data) for c in service.conns]))


@verb("local_request", "of", "line", "method", "target", "version", "headers", "carries", "absent", "body", "framing", "trailers", "head_only",
      "timeout")
async def _local_request(run, name, of="web", carries=(), absent=(), head_only=False, timeout=None, **want):
    """The next request that a local service gets, on a new connection or on one that was kept; `name` is the connection from here on.
    `head_only`: its body stays to be read (`local_body`)."""
    service = run.services[of]

    def came():
        for conn in service.adopt_all():
            if not conn.closed:
                request = tcp.parse_request(conn, head_only)
                if request:
                    return conn, request
        return None
    got = await run.until(came, timeout)
    if not got:
        raise Failure(f"{of}: no request comes", show(want) if want else "a request",
                      show([bytes(c.data[:300]) for c in service.conns]))
    conn, request = got
    run.tcps[name] = conn
    conn.request_headers = request.headers
    run.note(conn.name, "--", f"request {request.line}, {len(request.body)} bytes of body, framing {request.framing}")
    bad = mismatch(want, request.view(), run.scope)
    if bad:
        raise Failure(f"{of}: {bad}", show(want, 600), f"{request.line} {show(request.headers, 600)} {show(request.body, 200)}")
    carried(request.headers, carries, absent, of)


@verb("local_answer", "status", "reason", "headers", "body", "framing", "length", "close", "reset", "end", "split")
async def _local_answer(run, name, status=200, reason="Answer", headers=(), body=b"", framing="length", length=None, close=False,
                        reset=False, end=True, split=None):
    """A local service answers on a connection. framing: length (with `length` it lies), chunked (a list as body is one chunk each;
    `end: false` leaves the last one out), close (and it closes), none (no framing header)."""
    conn = run.tcp(name)
    pieces = [as_bytes(p) for p in body] if isinstance(body, list) else [as_bytes(body)]
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{n}: {v}" for n, v in headers)]
    if framing == "length":
        lines.append(f"Content-Length: {sum(map(len, pieces)) if length is None else length}")
    elif framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        pieces = [b"%x\r\n%s\r\n" % (len(p), p) for p in pieces if p] + ([b"0\r\n\r\n"] if end else [])
    elif framing == "close":
        lines.append("Connection: close")
    data = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + b"".join(pieces)
    try:
        await conn.send(data, split)
    except (OSError, asyncio.TimeoutError) as e:
        raise Failure(f"{conn.name}: the answer is not taken: {e!r}", "it is taken", repr(e)) from e
    if close or reset or framing == "close":
        conn.close(reset)
