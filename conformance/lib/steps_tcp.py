"""Steps with plain connections: visitors of a kit's ports, and what a driver opens to a local service."""

import asyncio

from .match import ABSENT, as_bytes, mismatch, show
from .run import Failure
from .steps_wire import verb
from .tcp import parse_answer

ENDS = {"eof": ("eof",), "reset": ("reset",), "closed": ("eof", "reset")}


@verb("visit", "port", "host", "at", "send", "refused", "or_refused", "split")
async def _visit(run, name, port=None, host=None, at=None, send=None, refused=False, or_refused=False, split=None):
    """A visitor connects to a port, and may send something at once. `at`: host:port in one text; `refused`: nobody may listen there
    any more; `or_refused`: it does not matter."""
    if at is not None:
        host, _, port = at.rpartition(":")
        port = int(port)
    port = run.scope.get("port") if port is None else port
    try:
        conn = await run.dial(name, host or getattr(run.target, "visitors", "127.0.0.1"), port)
    except Failure:
        if refused or or_refused:
            return
        raise
    if refused:
        raise Failure(f"somebody listens on port {port}", "connection refused", "connected")
    if name in run.tcps:
        run.extras.append(run.tcps[name])
    run.tcps[name] = conn
    if send is not None:
        await _put(run, conn, send, split)


async def _put(run, conn, data, split, may_fail=False):
    del run
    try:
        await conn.send(as_bytes(data), split)
    except (OSError, asyncio.TimeoutError) as e:
        if not may_fail:
            raise Failure(f"{conn.name}: what is sent is not taken: {e!r}", "it is taken", repr(e)) from e


@verb("visitor", "send", "split", "half_close", "close", "reset", "answer", "bytes", "end", "nothing", "method", "may_fail",
      "timeout", "body_size")
async def _visitor(run, name, send=None, split=None, half_close=False, close=False, reset=False, answer=None, bytes=None,  # pylint: disable=redefined-builtin
                   end=None, nothing=None, method="GET", may_fail=False, timeout=None, body_size=None):
    """What a plain connection does and gets, in this order: send, half_close, answer (an HTTP answer), bytes, nothing (for N ms),
    end (eof, reset or closed), close, reset."""
    conn = run.tcp(name)
    if send is not None:
        await _put(run, conn, send, split, may_fail)
    if half_close:
        conn.half_close()
    if answer is not None:
        await _answer(run, conn, answer, method, timeout)
    if bytes is not None:
        await _bytes(run, conn, bytes, timeout)
    if nothing is not None:
        if await run.until(lambda: conn.data or conn.end, nothing / 1000):
            raise Failure(f"{name}: something came", f"nothing for {nothing} ms", f"{show(conn.data)} {conn.end or ''}")
    if end is not None:
        got = await run.until(lambda: conn.end, timeout)
        if got not in ENDS[end] or conn.data:
            raise Failure(f"{name}: wrong end", f"{end}, and nothing before it",
                          f"{got or 'the connection stands'}; not read yet: {show(conn.take(200))}")
    if close or reset:
        conn.close(reset)


@verb("spawn_visitor_send", "data")
async def _spawn_send(run, name, data=b""):
    """A visitor sends bytes in the background, while the steps go on."""
    async def work():
        try:
            await asyncio.get_running_loop().sock_sendall(conn.sock, as_bytes(data))
        except OSError:
            pass
    conn = run.tcp(name)
    run.note(name, ">>", f"{len(as_bytes(data))} bytes, in the background")
    run.spawn(work())


@verb("leave", "how")
async def _leave(run, name, how="close"):
    """A visitor leaves: `close` as a program that exits does, `reset` with RST."""
    run.tcp(name).close(reset=how == "reset")


@verb("ended", "timeout")
async def _ended(run, name, timeout=None):
    """The connection is over, whatever came before that."""
    conn = run.tcp(name)
    if not await run.until(lambda: conn.end, timeout):
        raise Failure(f"{name}: the connection stands", "its end", f"open; unread: {show(conn.take(200))}")


async def _answer(run, conn, want, method, timeout):
    if not isinstance(want, dict):
        want = {"status": want}
    got = await run.until(lambda: parse_answer(conn, method) or (conn.end and ABSENT), timeout)
    expected = show(want, 600)
    if got is None or got is ABSENT:
        raise Failure(f"{conn.name}: no HTTP answer", expected,
                      f"{'the connection ended' if got else 'nothing in time'}; unread: {show(conn.take(200))}")
    run.note(conn.name, "--", f"answer {got.status} {got.reason}, {len(got.body)} bytes of body, framing {got.framing}"
             f"{'' if got.complete else ', cut short'}")
    have = got.view()
    want = dict(want)
    want.setdefault("complete", True)
    bad = mismatch(want, have, run.scope)
    if bad:
        raise Failure(f"{conn.name}: {bad}", expected,
                      f"{got.status} {got.reason} {show(have['header_list'], 500)} {show(got.body, 200)} framing {got.framing}, "
                      f"{'complete' if got.complete else 'cut short'}")


async def _bytes(run, conn, want, timeout):
    size = want if isinstance(want, int) else len(as_bytes(want))
    if not await run.until(lambda: len(conn.data) >= size or conn.end, timeout) or len(conn.data) < size:
        raise Failure(f"{conn.name}: {len(conn.data)} of {size} bytes came", f"{size} bytes", f"{show(bytes(conn.data))} {conn.end or ''}")
    got = conn.take(size)
    if not isinstance(want, int) and got != as_bytes(want):
        at = next(i for i, (a, b) in enumerate(zip(got, as_bytes(want))) if a != b)
        raise Failure(f"{conn.name}: other bytes than sent, from byte {at} on", show(as_bytes(want)[at:at + 60]), show(got[at:at + 60]))
