"""Steps that send and expect frames; the same for both directions. README.md lists them with their modifiers."""

import asyncio
import signal
import time

from . import ws
from .link import Closing
from .match import CaseError, Named, as_bytes, mismatch
from .run import QUIET, Failure, Unsupported, verb_in
from .wire import codec, describe, payload_of

VERBS = {}
FRAME_KEYS = {"stream", "length", "type", "payload", "as"}


def verb(name, *accepts, keep=()):
    return verb_in(VERBS, name, accepts, keep)


# ---- frames as a case writes them ----

def split_frame(item):
    """(name or number, value, options) of {NAME: value, stream: 2} or just NAME."""
    if isinstance(item, str):
        return item, None, {}
    names = [k for k in item if k not in FRAME_KEYS]
    if "type" in item and not names:
        return item["type"], item.get("payload"), item
    if len(names) != 1:
        raise CaseError(f"one frame name is needed in {item!r}")
    return names[0], item[names[0]], item


def build_frame(run, item):
    """(bytes, name, stream, payload)"""
    name, value, more = split_frame(item)
    number = codec.NUMBERS.get(name, name)
    if not isinstance(number, int):
        raise CaseError(f"there is no frame {name}")
    row = codec.FRAMES.get(number)
    stream = more.get("stream")
    if stream is None and row and row["zero"] == "any":
        raise CaseError(f"{name} needs a stream, which may be 0")
    if stream is None:
        stream = run.scope.get("stream") if row and row["zero"] == "nonzero" else 0
    payload = payload_of(name, value)
    return codec.raw_frame(number, stream, payload, more.get("length")), name, stream, payload


def shown_payload(name, payload):
    """What a log shows of a payload that goes out: binary ones decoded when they can be, JSON as it is written."""
    row = codec.FRAMES.get(codec.NUMBERS.get(name))
    if name == "DATA":
        return payload
    if row and row["format"] == "binary":
        try:
            return codec.decode(name, payload)
        except codec.WireError:
            return payload
    return payload.decode("utf-8", "replace")


async def send_frames(run, link, items, **how):
    frames = [build_frame(run, item) for item in (items if isinstance(items, list) else [items])]
    for _, name, stream, payload in frames:
        run.note(link.name, ">>", describe(name if isinstance(name, str) else f"type 0x{name:02X}", stream,
                                           shown_payload(name, payload), len(payload)))
        link.count(name, stream, payload)
    link.count_message([name for _, name, _, _ in frames])
    data = b"".join(f[0] for f in frames)
    tail = how.pop("tail", b"")
    try:
        await link.send_bytes(link.wrap(data + as_bytes(tail), fragments=how.get("fragments", 1)), how.get("split"))
    except (OSError, asyncio.TimeoutError) as e:
        if not how.get("may_fail"):
            raise Failure(f"{link.name}: the peer does not take what is sent: {e!r}", "the message is taken",
                          str(link.closing or e)) from e


@verb("send", "on", "split", "fragments", "tail", "may_fail", "each")
async def _send(run, frames, on="s", each=False, **how):
    """`each`: one message for each frame; without it they all go in one."""
    link = run.link(on)
    for item in (frames if each else [frames]):
        await send_frames(run, link, item, **how)


@verb("counts", "on")
async def _counts(run, name, on="s"):
    """How many messages that count (RESUME-6) have come and were sent on a connection: leaves $<name>.received and .sent."""
    link = run.link(on)
    run.scope.set(name, {"received": link.received, "sent": link.sent})


@verb("ws", "on", "may_fail", "split")
async def _ws(run, frames, on="s", may_fail=False, split=None):
    """Raw WebSocket frames: {opcode: text, payload: .., fin: false, mask: false, rsv: 4, length: 5, times: 100}."""
    link = run.link(on)
    data = b""
    for f in frames if isinstance(frames, list) else [frames]:
        f = dict(f)
        opcode = ws.OPCODES.get(f.get("opcode", "binary"), f.get("opcode"))
        payload = f.get("payload", b"")
        if isinstance(payload, list) and payload and isinstance(payload[0], dict):
            payload = b"".join(build_frame(run, item)[0] for item in payload)
        data += ws.build(opcode, as_bytes(payload), f.get("fin", True), f.get("mask", link.role == "driver"),
                         f.get("rsv", 0), f.get("length")) * f.get("times", 1)
    run.note(link.name, ">>", f"WebSocket frames, {len(data)} bytes {data[:24].hex()}")
    try:
        await link.send_bytes(data, split)
    except (OSError, asyncio.TimeoutError):
        if not may_fail:
            raise


@verb("expect", "on", "any_order", "ordered", "one_message", "skip", "timeout", keep=("*",))
async def _expect(run, frames, on="s", any_order=False, ordered=False, one_message=False, skip=(), timeout=None):
    """The next frame of that stream, or of the session, has to be this one; a list: all of them, one after the other."""
    link = run.link(on)
    if isinstance(frames, str) and frames.startswith("$"):
        frames = run.scope.fill(frames)
    items = frames if isinstance(frames, list) else [frames]
    got = []
    for item in items:
        if any_order:
            got.append(await expect_any(run, link, items, got, timeout))
            continue
        got.append(await expect_one(run, link, item, timeout, skip))
    if ordered or one_message:
        check_order([f.seq for f in got] if ordered else [], got, one_message)


async def expect_one(run, link, item, timeout=None, skip=()):
    name, want, more = split_frame(item)
    stream = run.scope.fill(more.get("stream"))
    row = codec.FRAMES.get(codec.NUMBERS.get(name))
    if row is None:
        raise CaseError(f"there is no frame {name}")
    if stream is None and row["zero"] == "nonzero" and name != "STREAM_OPEN":
        stream = run.scope.get("stream")
    which, stream = (stream, None) if name == "STREAM_OPEN" else (None, stream)
    frame = await run.take(link, name, want, stream, timeout, skip)
    if name == "STREAM_OPEN":
        bad = None if which is None else mismatch(which, frame.stream, run.scope, "stream")
        if bad:
            raise Failure(f"{link.name}: {bad}", f"STREAM_OPEN on stream {which}", str(frame))
        run.scope.set("stream", frame.stream)
    if more.get("as"):
        run.scope.set(more["as"], frame.stream)
    return frame


async def expect_any(run, link, items, got, timeout):
    """Frames in whichever order: the next session frame has to be like one of those that are still due."""
    due = [i for i in items if not any(i is g[1] for g in got)]

    def ready():
        for item in due:
            name, want, more = split_frame(item)
            stream = run.scope.fill(more.get("stream")) or 0
            for f in link.inbox:
                if not f.taken and f.name == name and (f.stream == stream or name == "STREAM_OPEN") and (
                        want is None or mismatch(run.scope.fill(want), f.value, run.scope) is None):
                    f.taken = True
                    return f, item
        return link.closing or link.breaches
    hit = await run.until(ready, timeout)
    run.check_breaches()
    if not isinstance(hit, tuple):
        raise Failure(f"{link.name}: not all of the frames came", str([split_frame(i)[0] for i in due]), run.waiting_text(link))
    return hit


def check_order(seqs, got, one_message):
    if seqs != sorted(seqs):
        raise Failure("the frames came in another order", " then ".join(f.name for f in got),
                      " then ".join(f.name for f in sorted(got, key=lambda f: f.seq)))
    if one_message and len({f.message for f in got}) != 1:
        raise Failure("the frames came in several messages", "one message", f"messages {[f.message for f in got]}")


@verb("expect_data", "on", "stream", "eof", "credit", "timeout", "at_least")
async def _expect_data(run, want, on="s", stream=None, eof=False, credit=True, timeout=None, at_least=False):
    """DATA of a stream, in whatever pieces, until all of `want` is there; more than that is a failure. A number wants that many
    bytes, or with `at_least` that many and the rest of their frame. `credit` gives the bytes back with WINDOW. `eof`: the EOF has
    to follow."""
    link = run.link(on)
    stream = run.scope.get("stream") if stream is None else stream
    size = want if isinstance(want, int) else len(as_bytes(want))
    have = bytearray()
    while len(have) < size:
        frame = await run.take(link, "DATA", None, stream, timeout)
        have += frame.value
        if credit and frame.value:
            await send_frames(run, link, [{"WINDOW": frame.size, "stream": stream}, {"WINDOW": frame.size, "stream": 0}],
                              may_fail=True)
    if not isinstance(want, int) and bytes(have) != as_bytes(want) or len(have) > size and not at_least:
        at = next((i for i, (a, b) in enumerate(zip(have, as_bytes(want))) if a != b), min(size, len(have))) \
            if not isinstance(want, int) else size
        raise Failure(f"{link.name}: other bytes than expected, from byte {at} on", f"{size} bytes",
                      f"{len(have)} bytes, at {at}: {bytes(have[at:at + 60])!r}")
    run.scope.set("data", bytes(have))
    if eof:
        await run.take(link, "EOF", None, stream, timeout)


@verb("hear_until_stalled", "on", "stream", "quiet")
async def _hear_until_stalled(run, bounds, on="s", stream=None, quiet=400):
    """DATA of a stream until none has come for `quiet` ms: [least, most] bytes. Nothing is given back for them."""
    link = run.link(on)
    stream = run.scope.get("stream") if stream is None else stream
    heard = 0
    while True:
        frames = [f for f in link.inbox if not f.taken and f.name == "DATA" and f.stream == stream]
        for f in frames:
            f.taken = True
        heard += sum(f.size for f in frames)
        if await run.until(lambda: any(not f.taken and f.name == "DATA" for f in link.inbox) or link.closing, quiet / 1000) is not True:
            break
        run.check_breaches()
        if link.closing:
            raise Failure(f"{link.name}: {link.closing}", "a stream that waits", str(link.closing))
    if not bounds[0] <= heard <= bounds[1]:
        raise Failure(f"{link.name}: a stream that does not wait where it should", f"{bounds[0]} to {bounds[1]} bytes", f"{heard} bytes")


@verb("send_data", "on", "stream", "piece", "eof")
async def _send_data(run, data, on="s", stream=None, piece=None, eof=False):
    """Sends bytes as DATA of at most `piece` bytes, within the credit of the stream and of the session: waits for WINDOW."""
    link = run.link(on)
    stream = run.scope.get("stream") if stream is None else stream
    data, at = as_bytes(data), 0
    piece = piece or codec.LIMITS["MAX_PAYLOAD"]
    books = link.books

    def credit():
        st = books.streams[stream]
        left = min(books.stream_window + st.returned - st.sent, books.session_window + books.returned - books.sent)
        return left if left > 0 else link.closing or link.breaches
    while at < len(data):
        left = await run.until(credit)
        run.check_breaches()
        if not isinstance(left, int):
            raise Failure(f"{link.name}: no credit comes back", "WINDOW", f"{at} of {len(data)} bytes are sent; {link.closing or 'open'}")
        part = data[at:at + min(left, piece)]
        await send_frames(run, link, {"DATA": part, "stream": stream})
        at += len(part)
    if eof:
        await send_frames(run, link, {"EOF": None, "stream": stream})


def stream_credit(link, stream):
    st = link.books.streams[stream]
    return link.books.stream_window + st.returned - st.sent


def session_credit(link):
    return link.books.session_window + link.books.returned - link.books.sent


@verb("send_whole_piece", "on", "stream")
async def _send_whole_piece(run, size, on="s", stream=None):
    """One DATA of that size, for which all of the credit has to be there first: as senders do that take credit in pieces."""
    link = run.link(on)
    stream = run.scope.get("stream") if stream is None else stream
    hit = await run.until(lambda: min(stream_credit(link, stream), session_credit(link)) >= size or link.closing)
    run.check_breaches()
    if hit is not True:
        raise Failure(f"{link.name}: the credit for one piece does not come back", f"{size} bytes",
                      f"{stream_credit(link, stream)} for the stream, {session_credit(link)} for the session")
    await send_frames(run, link, {"DATA": b"x" * size, "stream": stream})


@verb("send_within_session", "on")
async def _send_within_session(run, size, on="s"):
    """DATA on $stream with no regard for its own credit, but within the session's: waits until that is there."""
    link = run.link(on)
    hit = await run.until(lambda: session_credit(link) >= size or link.closing)
    run.check_breaches()
    if hit is not True:
        raise Failure(f"{link.name}: the session's credit does not come back", f"{size} bytes", f"{session_credit(link)} bytes")
    await send_frames(run, link, {"DATA": b"x" * size})


@verb("send_until_stalled", "on", "stream", "quiet")
async def _send_until_stalled(run, most, on="s", stream=None, quiet=250):
    """DATA within the credit until none comes back for `quiet` ms; more than `most` bytes must not get through."""
    link = run.link(on)
    stream = run.scope.get("stream") if stream is None else stream
    sent = 0
    while await run.until(lambda: min(stream_credit(link, stream), session_credit(link)) > 0 or link.closing, quiet / 1000) is True:
        run.check_breaches()
        size = min(stream_credit(link, stream), session_credit(link), codec.LIMITS["MAX_PAYLOAD"])
        await send_frames(run, link, {"DATA": b"x" * size, "stream": stream})
        sent += size
        if sent > most:
            raise Failure(f"{link.name}: credit comes back for bytes that nobody took", f"at most {most} bytes", f"{sent} bytes")
    if link.closing:
        raise Failure(f"{link.name}: {link.closing}", "a stream that waits", str(link.closing))


@verb("flood", "on", "times")
async def _flood(run, frame, on="s", times=100):
    """Messages full of one frame, one after the other; the peer may end the connection at any time."""
    link = run.link(on)
    data, name, stream, payload = build_frame(run, frame)
    per_message = min(codec.LIMITS["MAX_FRAMES"], codec.LIMITS["MAX_MESSAGE"] // len(data))
    run.note(link.name, ">>", f"{times} messages of {per_message} times {describe(str(name), stream, shown_payload(name, payload), len(payload))}")
    link.count(name, stream, payload)
    for _ in range(times):
        try:
            await asyncio.wait_for(link.send_bytes(link.wrap(data * per_message)), run.patience / 10)
        except (OSError, asyncio.TimeoutError):
            return


@verb("expect_credit", "on", "stream", "timeout")
async def _expect_credit(run, least, on="s", stream=0, timeout=None):
    """At least that much credit came back on the stream (0: the session) in all."""
    link = run.link(on)

    def returned():
        st = link.books.streams.get(stream)
        have = link.books.returned if stream == 0 else st.returned if st else 0
        return have >= least or link.closing or link.breaches
    hit = await run.until(returned, timeout)
    run.check_breaches()
    if hit is not True:
        st = link.books.streams.get(stream)
        have = link.books.returned if stream == 0 else st.returned if st else 0
        raise Failure(f"{link.name}: too little credit came back on {stream}", f"{least} bytes", f"{have} bytes; {link.closing or 'open'}")


@verb("expect_nothing", "on", "besides")
async def _expect_nothing(run, ms, on="s", besides=()):
    """No frame but WINDOW, PING and PONG (and `besides`), and no end, for that many milliseconds."""
    link = run.link(on)

    def came():
        rest = [f for f in link.inbox if not f.taken and f.name not in QUIET + tuple(besides)]
        return rest or link.closing
    hit = await run.until(came, ms / 1000)
    run.check_breaches()
    if hit:
        raise Failure(f"{link.name}: something came", f"nothing for {ms} ms", str(hit[0] if isinstance(hit, list) else hit))


@verb("expect_close", "on", "goaway", "timeout", "skip")
async def _expect_close(run, want, on="s", goaway=None, timeout=None, skip=()):
    """The end of a WebSocket: a close code by number or name, `none` (a close frame without a code), `drop` (none at all), a list of
    those, or !any. `goaway`: such a GOAWAY has to come before it."""
    link = run.link(on)
    if goaway is not None:
        if not isinstance(goaway, dict):
            goaway = {"code": goaway}
        await run.take(link, "GOAWAY", goaway, 0, timeout, skip)
    closing = await run.until(lambda: link.closing, timeout)
    run.check_breaches()
    wants = want if isinstance(want, list) else [want]
    text = f"close with {' or '.join(str(w) for w in wants)}"
    if closing is None:
        raise Failure(f"{link.name}: it did not end in time", text, run.waiting_text(link))
    link.ended_by_case = True
    rest = [f for f in link.inbox if not f.taken and f.stream == 0 and f.name not in QUIET + tuple(skip)]
    if rest:
        raise Failure(f"{link.name}: {rest[0]} came before the end", text, f"{rest[0]}, then {closing}")
    if not any(_closing_is(w, closing, run) for w in wants):
        raise Failure(f"{link.name}: {closing}", text, str(closing))
    if closing.kind == "closed" and not await run.until(lambda: link.dead, timeout):
        raise Failure(f"{link.name}: the socket stays open behind the close frames", "the end of the connection", "it is open")


def _closing_is(want, closing: Closing, run):
    if want == "drop":
        return closing.kind in ("dropped", "reset")
    if want in ("none", None):
        return closing.kind == "closed" and closing.code == ws.NO_CODE
    return closing.kind == "closed" and mismatch(want, closing.code, run.scope) is None


@verb("alive", "on")
async def _alive(run, _, on="s"):
    """A PING with a nonce of its own comes back: everything sent before it was looked at."""
    link = run.link(on)
    name = f"{run.next_seq():08d}".encode()
    await send_frames(run, link, {"PING": name})

    def pong():
        return next((f for f in link.inbox if f.name == "PONG" and f.value["nonce"] == name), None) or link.closing or link.breaches
    hit = await run.until(pong)
    run.check_breaches()
    if not hasattr(hit, "taken"):
        raise Failure(f"{link.name}: PING is not answered", "PONG with its nonce", str(hit or "nothing"))
    hit.taken = True


@verb("send_close", "on", "reason")
async def _send_close(run, code, on="s", reason=""):
    """Only the close frame; what comes back is the next step's."""
    await run.link(on).send_close(None if code in ("none", None) else codec.CLOSE_CODES.get(code, code), reason)


@verb("end_with", "on", "code")
async def _end_with(run, frames, on="s", code=None):
    """Says goodbye: these frames (then the peer closes), or with none of them a close frame."""
    link = run.link(on)
    if frames:
        await send_frames(run, link, frames)
    else:
        await link.send_close(None if code == "none" else code)


@verb("expect_last_pong", "on")
async def _last_pong(run, want, on="s"):
    """A PONG with this nonce comes; those of PINGs before it may be left out."""
    link = run.link(on)
    hit = await run.until(lambda: any(f.name == "PONG" and f.value["nonce"] == as_bytes(want) for f in link.inbox) or link.closing)
    run.check_breaches()
    if hit is not True:
        raise Failure(f"{link.name}: no PONG", f"PONG {want!r}", str(hit or "nothing"))


@verb("none_came", "on")
async def _none_came(run, name, on="s"):
    """No frame of this name has come so far."""
    link = run.link(on)
    hit = [f for f in link.inbox if f.name == name]
    if hit:
        raise Failure(f"{link.name}: {hit[0]} came", f"no {name}", f"{len(hit)} of them")


@verb("expect_raw_goaway", "on")
async def _raw_goaway(run, members, on="s"):
    """The payload of the GOAWAY has these members itself; left-out ones with a default would not show otherwise."""
    link = run.link(on)
    got = await run.until(lambda: link.raw_payloads.get("GOAWAY") or link.closing)
    have = list(codec.parse_json(got)) if isinstance(got, bytes) else []
    if not isinstance(got, bytes) or [m for m in members if m not in have]:
        raise Failure(f"{link.name}: the members of GOAWAY", str(members), str(have or got))


@verb("expect_ws_pong", "on")
async def _ws_pong(run, payload, on="s"):
    """The WebSocket's own PONG with this payload."""
    link = run.link(on)
    want = as_bytes(payload)
    if await run.until(lambda: want in link.ws_pongs or link.closing) is not True:
        raise Failure(f"{link.name}: no WebSocket pong", repr(want), f"{link.ws_pongs[-3:]}; {link.closing or 'open'}")


@verb("close", "on", "reason", "wait")
async def _close(run, how, on="s", reason="", wait=True):
    """Ends a WebSocket: a code by number or name, `none`, `drop` (just the TCP connection) or `reset` (with RST)."""
    link = run.link(on)
    if how in ("drop", "reset"):
        link.drop(how == "reset")
        return
    code = None if how in ("none", None) else codec.CLOSE_CODES.get(how, how)
    await link.send_close(code, reason)
    if not wait:
        return
    if not await run.until(lambda: link.dead):
        raise Failure(f"{link.name}: the peer does not end the connection", "its close frame and the end", run.waiting_text(link))
    if link.closing.kind != "closed":
        raise Failure(f"{link.name}: the close frame is not answered", "a close frame", str(link.closing))
    link.ended_by_case = True


@verb("pause", "on")
async def _pause(run, _, on="s"):
    """Stops reading a connection, so that its peer cannot write any more."""
    conn = run.links.get(on) or run.tcp(on)
    conn.paused.clear()


@verb("resume_reading", "on")
async def _resume_reading(run, _, on="s"):
    """Reads a connection again that `pause` has stopped."""
    conn = run.links.get(on) or run.tcp(on)
    conn.paused.set()


@verb("set_auto_pong", "on")
async def _auto_pong(run, value, on="s"):
    """Whether PINGs of the peer are answered without a step (they are at first)."""
    run.link(on).auto_pong = bool(value)


# ---- order and time ----

@verb("mark")
async def _mark(run, name):
    """Begins a measurement of time; see `elapsed`."""
    run.marks[name] = time.monotonic()


@verb("elapsed", "since")
async def _elapsed(run, bounds, since="t"):
    """What happened between `mark` and now took so many milliseconds: [least, most]. The most is stretched with the patience."""
    took = (time.monotonic() - run.marks[since]) * 1000
    if not bounds[0] <= took <= bounds[1] * max(1.0, run.patience / 10):
        raise Failure(f"it took {took:.0f} ms", f"{bounds[0]} to {bounds[1]} ms", f"{took:.0f} ms")


@verb("set", keep=())
async def _set(run, values):
    """Sets variables."""
    for name, value in values.items():
        run.scope.set(name, value)


@verb("set_name", "to")
async def _set_name(run, name, to=None):
    """A variable whose name is made up."""
    run.scope.set(name, to)


@verb("set_from")
async def _set_from(run, values):
    """Variables from others whose names are made up: {which: "s${n}"}."""
    for name, other in values.items():
        run.scope.set(name, run.scope.get(other))


@verb("repeat", "steps", "counter", keep=("steps",))
async def _repeat(run, times, steps=(), counter="i"):
    """Runs `steps` that many times; $i (or `counter`) counts from 0."""
    for i in range(times):
        run.scope.set(counter, i)
        await run.steps(steps, run.verbs, numbered=False)


@verb("eventually", "within", keep=("*",))
async def _eventually(run, steps, within=None):
    """Runs the steps again and again until they pass: a barrier on something that can only be asked for."""
    deadline = time.monotonic() + (within / 1000 if within else run.patience)
    while True:
        try:
            await run.steps(steps, run.verbs, numbered=False)
            return
        except Failure:
            if time.monotonic() > deadline:
                raise
            await run.until(lambda: False, 0.01)


@verb("one_of", "within", keep=("*",))
async def _one_of(run, ways, within=None):
    """Lists of steps, one of which has to pass; they are tried in turn until one does."""
    deadline = time.monotonic() + (within / 1000 if within else run.patience)
    patience, run.patience = run.patience, 0.1
    failures = []
    try:
        while True:
            failures.clear()
            for way in ways:
                try:
                    await run.steps(way, run.verbs, numbered=False)
                    return
                except Failure as e:
                    failures.append(e)
            if time.monotonic() > deadline:
                raise Failure("; or: ".join(str(f) for f in failures), " or ".join(f.expected for f in failures),
                              " / ".join(f.came for f in failures))
    finally:
        run.patience = patience


@verb("check", keep=())
async def _check(run, pairs):
    """[[have, want], ..] of variables."""
    for have, want in pairs:
        bad = mismatch(want, have, run.scope)
        if bad:
            raise Failure(bad, str(want), str(have))


@verb("differ", "least")
async def _differ(_, texts, least=1):
    """Any two of the texts differ in at least so many places: who knows one must not be able to guess another."""
    for i, one in enumerate(texts):
        for other in texts[i + 1:]:
            places = sum(a != b for a, b in zip(str(one), str(other))) + abs(len(str(one)) - len(str(other)))
            if places < least:
                raise Failure(f"two of them differ in {places} places", f"at least {least} places", f"{one} and {other}")


def _meaning(run, status):
    """What an adapter says that its implementation ends with: {lost: 6}; a case may then say `expect_exit: lost`."""
    if not isinstance(status, str):
        return status
    known = run.target.adapter.doc.get("exit") or {}
    if status not in known:
        raise Unsupported(f"the adapter has no exit status for {status}")
    return known[status]


@verb("process", "expect_exit", "timeout")
async def _process(run, what, expect_exit=None, timeout=None):
    """A signal to the implementation (TERM, INT, HUP, KILL), or `exit` to wait for its end; expect_exit: its status."""
    process = run.target.process
    if process is None:
        raise Unsupported("this implementation was not started by the suite")
    run.target_may_end = True
    if what != "exit":
        run.note("target", ">>", f"SIG{what}")
        process.signal(getattr(signal, f"SIG{what}"))
    if expect_exit is not None or what == "exit":
        expect_exit = _meaning(run, expect_exit)
        status = await process.wait_exit(timeout or run.patience)
        bad = "it did not end" if status is None else None if expect_exit is None else mismatch(expect_exit, status, run.scope)
        if bad:
            raise Failure(f"the program: {bad}", f"exit status {expect_exit}", str(status))


__all__ = ["Named", "VERBS", "build_frame", "expect_one", "send_frames", "split_frame", "verb"]
