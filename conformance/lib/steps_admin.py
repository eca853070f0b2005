"""Steps of the operator: events as they happen, and what a kit may answer in more ways than one."""

import json

from . import tcp
from .match import ABSENT, mismatch, show
from .run import Failure
from .steps_kit import check_schema
from .steps_wire import verb
from .wire import spec


async def _ask_events(run, name, query=""):
    kit = run.target
    path = spec.operations["events"][1] + query
    conn = await run.dial(name, kit.host, kit.port)
    await conn.send(f"GET {path} HTTP/1.1\r\nHost: {kit.host}:{kit.port}\r\n\r\n".encode())
    if not await run.until(lambda: b"\r\n\r\n" in conn.data or conn.end):
        raise Failure(f"{name}: no answer", "an event stream", "nothing in time")
    return conn, int(conn.data.split(b" ", 2)[1]) if conn.data else 0


@verb("sse", "samples")
async def _sse(run, name, samples=False):
    """Reads the events from here on; `expect_event` looks at them, and `expect_sample` at the samples when they are wanted."""
    conn, status = await _ask_events(run, name, "?samples=1" if samples else "")
    head = bytes(conn.take(conn.data.index(b"\r\n\r\n") + 4)).lower()
    if status != 200 or b"text/event-stream" not in head:
        raise Failure(f"{name}: the answer", "200 with text/event-stream", show(head))
    run.events = conn


def _next_event(conn, wanted):
    """Takes whole events off the stream until one of this type; None when it has not come yet."""
    while True:
        end = conn.data.find(b"\n\n")
        if end < 0:
            return None
        text = conn.take(end + 2).decode()
        fields = dict(line.split(": ", 1) for line in text.strip().splitlines() if ": " in line and not line.startswith(":"))
        if fields.get("event") == wanted:
            return fields


@verb("expect_event", "data")
async def _expect_event(run, name, data=None):
    """An event of this type comes (others before it do not matter) and is as openapi.yaml has it."""
    fields = await run.until(lambda: _next_event(run.events, name) or run.events.end and ABSENT)
    if fields is None or fields is ABSENT:
        raise Failure(f"no event {name}", f"event {name} {show(data)}", show(bytes(run.events.data)))
    value = json.loads(fields["data"])
    check_schema("events", {"$ref": "#/components/schemas/Event"}, value)
    bad = mismatch(data or {}, value, run.scope)
    if bad or value["event"] != name or not fields.get("id", "").isdigit():
        raise Failure(f"event {name}: {bad or 'its type or its id'}", show(data), show(fields))


@verb("expect_sample")
async def _expect_sample(run, data):
    """A sample like this comes (others before it do not matter), and each is as openapi.yaml has it."""
    seen = None

    def found():
        nonlocal seen
        while (fields := _next_event(run.events, "sample")) is not None:
            seen = json.loads(fields["data"])
            check_schema("events", {"$ref": "#/components/schemas/Sample"}, seen)
            if "id" in fields:
                raise Failure("a sample", "no id, as it is no event", show(fields))
            if not mismatch(data, seen, run.scope):
                return True
        return run.events.end and ABSENT

    if await run.until(found) is not True:
        raise Failure("no such sample", show(data), show(seen))


@verb("sse_until_refused", "status")
async def _sse_until_refused(run, most, status=503):
    """Readers of events until one is refused; at the latest the one after `most`."""
    for i in range(most + 1):
        conn, got = await _ask_events(run, f"e{i}")
        if got != 200:
            answer = await run.until(lambda c=conn: tcp.parse_answer(c, "GET"))
            if got != status or answer is None:
                raise Failure("the reader that is one too many", f"HTTP {status}", f"HTTP {got}")
            check_schema("events", spec.operations["events"][2]["responses"][str(status)]["content"]["application/json"]["schema"],
                         json.loads(answer.body))
            return
    raise Failure("readers of events are never refused", f"HTTP {status} after at most {most}", f"{most + 1} readers")


@verb("answered_or_ended", "operation", "status")
async def _answered_or_ended(run, name, operation=None, status=503):
    """A kit that ends may answer with this status, or may have closed the connection already."""
    conn = run.tcp(name)
    got = await run.until(lambda: tcp.parse_answer(conn, "GET") or conn.end and ABSENT)
    if got is None:
        raise Failure(f"{name}: no answer and no end", f"HTTP {status}, or the end", "nothing in time")
    if got is not ABSENT:
        if got.status != status:
            raise Failure(f"{name}: {operation} is answered {got.status}", f"HTTP {status}", show(got.body))
        schema = spec.operations[operation][2]["responses"][str(status)]["content"]["application/json"]["schema"]
        check_schema(operation, schema, json.loads(got.body))
