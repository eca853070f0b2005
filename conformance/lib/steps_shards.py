"""Steps with several sockets of one session, and a few that choose."""

from .match import mismatch, show
from .run import Failure
from .steps_wire import send_frames, split_frame, verb
from .wire import codec


@verb("find_open", "timeout")
async def _find_open(run, names, timeout=None):
    """The next STREAM_OPEN on whichever of these connections; leaves $stream and $where."""
    def came():
        for name in names:
            for f in run.link(name).inbox:
                if f.name == "STREAM_OPEN" and not f.taken:
                    return f
        return next((run.link(n).closing for n in names if run.link(n).closing), None)
    got = await run.until(came, timeout)
    run.check_breaches()
    if got is None or not hasattr(got, "taken"):
        raise Failure("no STREAM_OPEN on any of the connections", f"STREAM_OPEN on one of {', '.join(names)}", str(got or "nothing"))
    got.taken = True
    run.scope.set("stream", got.stream)
    run.scope.set("where", got.link.name)


@verb("open_on", "visitor", "among")
async def _open_on(run, name, visitor="v", among=()):
    """Visitors come to $port until one's stream is on this connection; the others' are reset. That visitor is `visitor`.
    Not before it is found: a kit may well prefer one connection as long as none has a stream."""
    others = []
    for i in range(64):
        conn = await run.dial(f"{visitor}-{i}", run.target.visitors, run.scope.get("port"))
        await _find_open(run, among)
        if run.scope.get("where") == name:
            run.tcps[visitor] = conn
            for link, stream in others:
                await send_frames(run, link, {"RESET": {"code": "CANCEL"}, "stream": stream})
            return
        others.append((run.link(run.scope.get("where")), run.scope.get("stream")))
    raise Failure(f"no stream was put on {name}", f"streams on each of {', '.join(among)}", "64 streams elsewhere")


@verb("settle")
async def _settle(run, _):
    """Lets RESUME_SETTLE pass: after a JOIN an old driver is given no streams for that long."""
    await run.until(lambda: False, codec.LIMITS["RESUME_SETTLE"] / 1000 + 0.02)


@verb("unlike")
async def _unlike(run, texts):
    """Each two of these differ in half of their places at least, as chance would have it; counters and clocks do not."""
    del run
    for i, one in enumerate(texts):
        for other in texts[i + 1:]:
            differ = sum(a != b for a, b in zip(one, other)) + abs(len(one) - len(other))
            if differ * 2 < min(len(one), len(other)):
                raise Failure("what must not be guessed looks much like another one", "no likeness", f"{one} and {other}")


@verb("all_streams", "on")
async def _all_streams(run, wants, on="s"):
    """The streams of the session so far: how many, and whether each id is even."""
    ids = list(run.link(on).books.streams)
    if len(ids) != wants["count"] or any(i % 2 for i in ids):
        raise Failure("the stream ids of the session", f"{wants['count']} even ones", show(ids))


@verb("eventually_frame", "on", "timeout", keep=("*",))
async def _eventually_frame(run, item, on="s", timeout=None):
    """A frame like this comes; others of its name before it do not matter."""
    link = run.link(on)
    name, want, _ = split_frame(item)

    def came():
        for f in link.inbox:
            if f.name == name and not f.taken:
                f.taken = True
                if mismatch(run.scope.fill(want), f.value, run.scope) is None:
                    return f
        return link.closing
    got = await run.until(came, timeout)
    run.check_breaches()
    if got is None or not hasattr(got, "taken"):
        raise Failure(f"{link.name}: no such {name}", f"{name} {show(want)}", str(got or "nothing like it"))


@verb("check_number")
async def _check_number(run, wants):
    """The numbers that the codec has for these frames are in these ranges."""
    del run
    for name, (low, high) in wants.items():
        if not low <= codec.NUMBERS[name] <= high:
            raise Failure(f"{name} has a number of its own range", f"{low}..{high}", str(codec.NUMBERS[name]))



