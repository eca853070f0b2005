"""Steps of the kit direction: the suite plays the driver, its visitors and its operator."""

import asyncio
import json
import signal
import socket
import urllib.parse

from . import tcp, ws
from .match import ABSENT, as_bytes, mismatch, show
from .run import CaseError, Failure, Run, Unsupported
from .steps_wire import expect_one, send_frames, verb
from .wire import codec, spec


def handshake(run, host, port, path=None, method="GET", offer=None, headers=(), without=(), key=None, protocol_header=True):
    lines = [(None, f"{method} {path or codec.CONNECT_PATH} HTTP/1.1"), ("Host", f"{host}:{port}"), ("Upgrade", "websocket"),
             ("Connection", "Upgrade"), ("Sec-WebSocket-Key", key or ws.new_key()), ("Sec-WebSocket-Version", "13")]
    offer = [run.scope.get("subprotocol")] if offer is None else offer
    if protocol_header and offer:
        lines.append(("Sec-WebSocket-Protocol", ", ".join(offer)))
    without = {w.lower() for w in without}
    replaced = {n.lower() for n, _ in headers}
    kept = [f"{n}: {v}" if n else v for n, v in lines
            if not n or n.lower() not in without | (replaced - {"sec-websocket-protocol"})]
    return "\r\n".join(kept + [f"{n}: {v}" for n, v in headers]) + "\r\n\r\n"


@verb("connect", "offer", "headers", "without", "path", "method", "key", "status", "chosen", "version", "early", "split", "port",
      "answer")
async def _connect(run, name, status=101, chosen=None, version=None, early=None, split=None, port=None, answer=None, **how):
    """Opens a WebSocket called `name`. `status`: the HTTP answer that is due; 101 leaves a connection without a HELLO yet."""
    name = name or "s"
    kit = run.target
    key = how.get("key") or ws.new_key()
    version = version or run.case.version
    if "offer" not in how:
        how["offer"] = [codec.SUBPROTOCOLS[version]]
    sock = await ws.dial(kit.host, port or kit.port, run.patience)
    conn_note = f"GET {how.get('path') or codec.CONNECT_PATH} offering {', '.join(how['offer']) or 'nothing'}"
    run.note(name, ">>", conn_note)
    text = handshake(run, kit.host, kit.port, **{**how, "key": key}).encode("latin-1")
    data = text + (as_bytes(early) if early is not None else b"")
    try:
        await ws.send_pieces(sock, data, split)
        head = await ws.read_head(sock, run.patience)
    except OSError:
        head = None
    if head is None:
        sock.close()
        if status == "drop":
            run.note(name, "<<", "no answer to the upgrade: the connection ended")
            return
        raise Failure(f"{name}: the upgrade is not answered", f"HTTP {status}", "the connection ended")
    line, headers, rest = head
    run.note(name, "<<", line)
    got = int(line.split(" ")[1])
    fields = dict(headers)
    if got != status:
        sock.close()
        raise Failure(f"{name}: the upgrade is answered {got}", f"HTTP {status}", f"{line} {show(rest)}")
    if got != 101:
        await _refusal(run, name, sock, line, fields, rest, answer)
        return
    _check_upgrade(name, key, fields, chosen or how["offer"][0])
    link = run.adopt(name, sock, "driver", rest, version)
    link.accepted = fields


async def _refusal(run, name, sock, line, fields, rest, answer):
    conn = tcp.Tcp(run, name, sock, rest)
    run.extras.append(conn)
    size = int(fields.get("content-length", 0))
    await run.until(lambda: len(conn.data) >= size or conn.end)
    body = bytes(conn.data)
    if body:
        _check_answer("connect", int(line.split(" ")[1]), fields, body)
    have = {"headers": fields, "body": body, "json": _json_or_none(body)}
    bad = mismatch(answer or {}, have, run.scope)
    if bad:
        raise Failure(f"{name}: {bad}", show(answer), show(have))


def _check_upgrade(name, key, fields, chosen):
    """RFC 6455 4.1: what a client must check."""
    for field, want in (("sec-websocket-accept", ws.accept_key(key)), ("sec-websocket-protocol", chosen)):
        if fields.get(field) != want:
            raise Failure(f"{name}: the upgrade's {field}", want, fields.get(field, "nothing"))
    if fields.get("upgrade", "").lower() != "websocket" or "upgrade" not in fields.get("connection", "").lower():
        raise Failure(f"{name}: the upgrade's Upgrade and Connection", "websocket, Upgrade", show(fields))
    if "sec-websocket-extensions" in fields:
        raise Failure(f"{name}: CONN-4: an extension is accepted", "no Sec-WebSocket-Extensions", fields["sec-websocket-extensions"])


def hello_of(run, version, capabilities=None, max_connections=None, resume=None, token=None, extra=None):
    if capabilities is None:
        capabilities = ["multi-ws"] if codec.frame_in(codec.VERSIONS[version], "JOIN") else []
    value = {"version": codec.SUBPROTOCOLS[version], "capabilities": capabilities}
    if max_connections is not None:
        value["maxConnections"] = max_connections
    if resume is not None:
        value["resume"] = {"sessionId": resume}
    if token is not None:
        value["auth"] = {"kind": "bearer", "token": token}
    value.update(extra or {})
    return value


@verb("hello", "on", "capabilities", "max_connections", "resume", "token", "extra", "expect")
async def _hello(run, _, on="s", expect=None, **how):
    """HELLO on a connection, and its HELLO_OK; leaves $<on>.session, .tickets and the rest of HELLO_OK."""
    link = run.link(on)
    await send_frames(run, link, {"HELLO": hello_of(run, link.version, **how)})
    frame = await run.take(link, "HELLO_OK", expect, 0)
    run.scope.set(on, {**frame.value, "session": frame.value["sessionId"], "tickets": frame.value["joinTickets"]})


@verb("send_hello", "on", "may_fail")
async def _send_hello(run, extra, on="s", may_fail=False):
    """HELLO with these members beside the version; its answer is the next step's."""
    link = run.link(on)
    await send_frames(run, link, {"HELLO": hello_of(run, link.version, extra=extra)}, may_fail=may_fail)


@verb("open", "version", "capabilities", "max_connections", "resume", "token", "extra", "expect", "headers", "keep_alive",
      keep=())
async def _open(run, name, version=None, headers=(), expect=None, **how):
    """connect and hello in one."""
    name = name or "s"
    await _connect(run, name, version=version, headers=headers)
    await _hello(run, None, on=name, expect=expect, **how)


@verb("join", "index", "nonce", "session", "of", "received", "messages", "expect")
async def _join(run, name, of="s", index=1, nonce=None, session=None, received=None, messages=None, expect=None):
    """A v2 secondary with the ticket that the primary `of` was given for that index."""
    primary = run.link(of)
    data = run.scope.get(of)
    if nonce is None:
        ticket = next((t for t in data["tickets"] if t["index"] == index), None)
        if ticket is None:
            raise Failure(f"no ticket for index {index}", f"a ticket for {index}", show(data["tickets"]))
        nonce = ticket["nonce"]
    await _connect(run, name, version=primary.version)
    link = run.link(name)
    link.secondary, link.books = True, primary.books
    value = {"sessionId": session or data["session"], "index": index, "nonce": nonce}
    if received is not None:
        value["receivedBytes"] = received
    if messages is not None:
        value["received"] = messages
    await send_frames(run, link, {"JOIN": value})
    await run.take(link, "JOIN_OK", {"index": index, **(expect or {})}, 0)


@verb("bind", "on", "kind", "mode", "port", "ref", "takeover", "host", "expect", "error", "extra", "label")
async def _bind(run, name, on="s", kind=None, mode=None, port=0, ref=None, takeover=None, host=None, expect=None, error=None,
                extra=None, label=None):
    """BIND and its answer. `name`: expose or pull; or any name, with kind and mode. Leaves $port, $bind and $<ref>.. of BIND_OK.
    `error`: the BIND_ERR code that is due."""
    pairs = {"expose": ("http", "expose"), "pull": ("tcp", "pull")}
    kind, mode = pairs[name] if kind is None else (kind, mode)
    ref = ref if ref is not None else run.next_seq()
    value = {"clientBindRef": ref, "kind": kind, "mode": mode, "containerPort": port}
    for key, one in (("takeover", takeover), ("host", host), ("label", label)):
        if one is not None:
            value[key] = one
    value.update(extra or {})
    link = run.link(on)
    await send_frames(run, link, {"BIND": value})
    if error is not None:
        await run.take(link, "BIND_ERR", {"clientBindRef": ref, "code": error}, 0)
        return
    frame = await run.take(link, "BIND_OK", {"clientBindRef": ref, **(expect or {})}, 0)
    run.scope.set("port", frame.value["containerPort"])
    run.scope.set("bind", frame.value["bindId"])


@verb("users")
async def _users(run, which):
    """From now on another file says who may come. It is in force some time after this step."""
    run.note("target", ">>", f"users: {which}")
    run.target.change_users(which)


@verb("start_anew")
async def _start_anew(run, _):
    """Another program takes the kit's place, behind the signal that the adapter names (`restart`). Some time after this step."""
    if "restart" not in run.target.adapter.doc:
        raise Unsupported("the adapter does not say how the kit is started anew")
    run.note("target", ">>", "it is started anew")
    run.target.process.signal(getattr(signal, f"SIG{run.target.adapter.doc['restart']}"))


@verb("public_port")
async def _public_port(run, url):
    """The port of a URL that BIND_OK has told: leaves $public."""
    run.scope.set("public", int(url.rsplit(":", 1)[1].rstrip("/")))


@verb("send_bind", "on", "ref")
async def _send_bind(run, value, on="s", ref=1):
    """BIND with these members and a clientBindRef; its answer is the next step's."""
    await send_frames(run, run.link(on), {"BIND": {"clientBindRef": ref, **value}})


@verb("expect_not_refused", "on")
async def _expect_not_refused(run, code, on="s"):
    """The answer to a BIND is BIND_OK, or BIND_ERR of another code than this one (a kit without the right to bind, say)."""
    link = run.link(on)

    def answer():
        return next((f for f in link.inbox if not f.taken and f.name in ("BIND_OK", "BIND_ERR")), None) or link.closing
    got = await run.until(answer)
    if got is None or not hasattr(got, "taken") or got.value.get("code") == code:
        raise Failure(f"{link.name}: the BIND", f"anything but {code}", str(got or "nothing"))
    got.taken = True


@verb("occupy", "host")
async def _occupy(run, name, host="127.0.0.1"):
    """Another program listens on a port; $<name>.port is which."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind((host, 0))
    sock.listen(1)
    run.extras.append(Closer(sock))
    run.scope.set(name, {"port": sock.getsockname()[1]})


class Closer:
    def __init__(self, sock):
        self.sock = sock

    async def finish(self):
        self.sock.close()


@verb("unbind", "on", "error")
async def _unbind(run, bind_id, on="s", error=None):
    """UNBIND and its UNBIND_OK, or UNBIND_ERR with the code `error`."""
    link = run.link(on)
    await send_frames(run, link, {"UNBIND": {"bindId": bind_id}})
    if error:
        await run.take(link, "UNBIND_ERR", {"bindId": bind_id, "code": error}, 0)
    else:
        await run.take(link, "UNBIND_OK", {"bindId": bind_id}, 0)


@verb("request", "port", "on", "method", "target", "headers", "body", "as", "expect", "version", "sid", keep=("expect",))
async def _request(run, name, port=None, on="s", method="GET", target="/", headers=(), body="", expect=None, version="1.1", sid="stream"):
    """A visitor `name` asks, and the STREAM_OPEN for it comes (with the EOF when there is no body). Leaves $stream."""
    port = run.scope.get("port") if port is None else port
    lines = [f"{method} {target} HTTP/{version}", *(f"{n}: {v}" for n, v in headers)]
    if not any(n.lower() == "host" for n, _ in headers):
        lines.insert(1, f"Host: 127.0.0.1:{port}")
    data = as_bytes(body)
    if data and not any(n.lower() in ("transfer-encoding", "content-length") for n, _ in headers):
        lines.append(f"Content-Length: {len(data)}")
    if name not in run.tcps or run.tcps[name].closed or run.tcps[name].end:
        run.tcps[name] = await run.dial(name, run.target.visitors, port)
    await run.tcps[name].send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data)
    link = run.link(on)
    frame = await expect_one(run, link, {"STREAM_OPEN": {"kind": "http", "method": method, "target": target, **(expect or {})}})
    run.scope.set(sid, frame.stream)
    if not data and not any(n.lower() in ("transfer-encoding", "content-length") for n, _ in headers):
        eof = await run.take(link, "EOF", None, frame.stream)
        if eof.message != frame.message:
            raise Failure("the EOF came in another message than its STREAM_OPEN", "one message", "two")


@verb("request_or_503", "on", "port")
async def _request_or_503(run, name, on="s", port=None):
    """A visitor asks: its STREAM_OPEN and EOF come. A 503 in their place fails the step (see `eventually`)."""
    port = run.scope.get("port") if port is None else port
    conn = run.tcps[name] = await run.dial(name, run.target.visitors, port)
    await conn.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    link = run.link(on)
    await run.until(lambda: conn.data or any(f.name == "STREAM_OPEN" and not f.taken for f in link.inbox))
    if conn.data:
        raise Failure(f"{name}: an answer of the kit's own", "STREAM_OPEN", show(bytes(conn.data)))
    await expect_one(run, link, "STREAM_OPEN")
    await run.take(link, "EOF", None, run.scope.get("stream"))


@verb("answer", "on", "stream", "headers", "body", "eof", "final")
async def _answer(run, status, on="s", stream=None, headers=(), body="", eof=True, final=True):
    """STREAM_RESPONSE_HEAD, DATA and EOF in one message."""
    stream = run.scope.get("stream") if stream is None else stream
    frames = [{"STREAM_RESPONSE_HEAD": {"status": status, "headers": [list(h) for h in headers], "final": final}, "stream": stream}]
    data = as_bytes(body)
    frames += [{"DATA": data[i:i + codec.LIMITS["MAX_PAYLOAD"]], "stream": stream}
               for i in range(0, len(data), codec.LIMITS["MAX_PAYLOAD"])]
    if eof and final:
        frames.append({"EOF": None, "stream": stream})
    await send_frames(run, run.link(on), frames)


# ---- the operator ----

def _json_or_none(body):
    try:
        return json.loads(body)
    except ValueError:
        return None


def check_schema(operation, schema, value):
    """A value against a schema of the OpenAPI document."""
    import jsonschema  # pylint: disable=import-outside-toplevel
    try:
        jsonschema.Draft202012Validator({**schema, "components": spec.api["components"]}).validate(value)
    except jsonschema.ValidationError as e:
        raise Failure(f"{operation}: not as openapi.yaml has it: {e.message}", json.dumps(schema), show(value, 600)) from e


def _check_answer(operation, status, fields, body):
    """An answer against what openapi.yaml says about this status of the operation."""
    answers = spec.operations[operation][2]["responses"]
    if str(status) not in answers:
        return
    kinds = spec.resolve(answers[str(status)]).get("content", {})
    have = fields.get("content-type", "")
    if kinds and not any(have.replace(" ", "").lower() == k.replace(" ", "").lower() for k in kinds):
        raise Failure(f"{operation}: the Content-Type", " or ".join(kinds), have or "nothing")
    if "application/json" in kinds:
        value = _json_or_none(body)
        if value is None:
            raise Failure(f"{operation}: the body", "JSON", show(body))
        check_schema(operation, kinds["application/json"]["schema"], value)


@verb("admin", "params", "headers", "status", "json", "body", "method", "answer", "raw", "port", keep=())
async def _admin(run, operation, params=None, headers=(), status=200, json=None, body=None, method=None, answer=None,  # pylint: disable=redefined-outer-name
                 raw=None, port=None):
    """An operation of spec/openapi.yaml by its operationId. Its answer must be of that status and fit the schema."""
    if operation not in spec.operations:
        raise CaseError(f"openapi.yaml has no operation {operation}")
    verb_, path, _op = spec.operations[operation]
    query = {}
    for key, value in (params or {}).items():
        if f"{{{key}}}" in path:
            path = path.replace(f"{{{key}}}", urllib.parse.quote(str(value), safe=""))
        else:
            query[key] = value
    if query:
        path += "?" + urllib.parse.urlencode(query)
    kit = run.target
    lines = [f"{method or verb_} {raw or path} HTTP/1.1"]
    if not any(n.lower() == "host" for n, _ in headers):
        lines.append(f"Host: {kit.host}:{kit.port}")
    lines += [f"{n}: {v}" for n, v in headers] + ["Connection: close"]
    conn = await run.dial("admin", kit.host, port or kit.port)
    await conn.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
    got = await run.until(lambda: tcp.parse_answer(conn, method or verb_) or (conn.end and ABSENT))
    conn.close()
    if got is None or got is ABSENT:
        raise Failure(f"{operation}: no answer", f"HTTP {status}", "the connection ended" if got else "nothing in time")
    have = got.view()
    have["json"] = _json_or_none(got.body)
    have["text"] = got.body.decode("utf-8", "replace")
    if got.status != status:
        raise Failure(f"{operation}: answered {got.status}", f"HTTP {status}", f"{got.status} {show(got.body)}")
    if (method or verb_) != "HEAD" and (got.body or status == 200):
        _check_answer(operation, status, have["headers"], got.body)
    want = dict(answer or {})
    if json is not None:
        want["json"] = json
    if body is not None:
        want["body"] = body
    bad = mismatch(want, have, run.scope)
    if bad:
        raise Failure(f"{operation}: {bad}", show(want, 800), show(got.body, 800))


async def quiet_admin(kit, operation, method=None, path=None, token=None):
    """(status, json) outside of any case: for cleaning up between cases."""
    verb_, route, _ = spec.operations[operation]
    sock = await ws.dial(kit.host, kit.port, 5)
    try:
        auth = f"Authorization: Bearer {token}\r\n" if token else ""
        text = f"{method or verb_} {path or route} HTTP/1.1\r\nHost: {kit.host}:{kit.port}\r\n{auth}Connection: close\r\n\r\n"
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, text.encode())
        data = b""
        while True:
            more = await asyncio.wait_for(loop.sock_recv(sock, 65536), 5)
            if not more:
                break
            data += more
    finally:
        sock.close()
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), _json_or_none(body)


__all__ = ["Run", "quiet_admin"]
