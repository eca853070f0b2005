"""spec/protocol.yaml -> vectors.json: messages with what a receiver must make of them.

Nothing here knows a frame by name: values come from field types and bounds, bad ones from mutations of the good ones. A
frame or field that is added to the spec gets its vectors with it.

A vector is {id, receiver, state, hex, frames} or {id, receiver, state, hex, error}: `hex` is a whole message. `frames`
lists what it holds, each with its decoded `value` and `canonical`, the payload as our encoders write it (null: cannot be
written again). `error` is the first rule that is broken and what that costs. `prefix` is repeated `repeat` times before
`hex`, when given.
"""

import copy
import json
import struct

from gen import protocol
from gen.protocol import Record
from gen.render import banner

HEADER = struct.Struct(">BII")
NASTY = 'a "quoted" \\ / \x01\t\u00e9'


def text_json(value, **kw):
    return json.dumps(value, ensure_ascii=kw.pop("ascii", False), separators=kw.pop("separators", (",", ":")), **kw)


# ---- good values ----

def scalar(kind, of, low, top, how):
    """A value of a type: `how` is typical, low, high or nasty."""
    if kind == "uint":
        return {"low": low, "high": top}.get(how, min(top, max(low, 200)))
    if kind == "bool":
        return how != "low"
    if kind == "enum":
        return of.values[-1 if how == "high" else 0].text
    size = {"low": low, "high": min(top, 2000)}.get(how)
    if size is not None:
        return "x" * size
    out = NASTY if how == "nasty" else "typical"
    if kind == "httpbytes" and how == "nasty":
        out += "\xff\x80"
    elif how == "nasty":
        out += "\u20ac\U0001f600"
    while byte_len(kind, out) > top:
        out = out[1:]
    return out + "x" * (low - byte_len(kind, out))


def byte_len(kind, text):
    return len(text) if kind == "httpbytes" else len(text.encode())


def value_of(f, how):
    if f.type == "record":
        return build(f.of, how)
    if f.type != "list":
        return scalar(f.type, f.of, f.min, f.max, how)
    count = f.min if how == "low" else max(f.min, min(f.max, 3))
    return [item_of(f, how) for _ in range(count)]


def item_of(f, how):
    return build(f.of, how) if isinstance(f.of, Record) else scalar(f.of, None, f.item_min, f.item_max, how)


def build(rec, how, only_required=False, choose=None):
    """A value of a record; `choose` fixes enum fields that others depend on."""
    if rec.layout == "tuple":
        return [value_of(f, how) for f in rec.fields]
    out = {}
    for f in rec.fields:
        if f.when and out.get(f.when[0].name) != f.when[1].text:
            continue
        if rec.one_of and f in rec.one_of and f is not rec.one_of[-1 if how == "high" else 0]:
            continue
        if only_required and not f.required and f not in rec.one_of:
            continue
        out[f.name] = (choose or {}).get(f.name) or value_of(f, how)
    return out


def choices(rec):
    """The settings of the enum fields that decide over other fields: [{}] when there are none."""
    deciding = {f.when[0].name: f.when[0] for f in rec.fields if f.when}
    out = [{}]
    for f in deciding.values():
        out = [dict(c, **{f.name: v.text}) for c in out for v in f.of.values]
    return out


def normal(rec, value):
    """What decoding gives: defaults filled in; absent, null and inapplicable fields left out."""
    if rec.layout == "tuple":
        return list(value)
    out = {}
    for f in rec.fields:
        if f.when and out.get(f.when[0].name) != f.when[1].text:
            continue
        have = value.get(f.name)
        if have is None:
            if f.has_default:
                out[f.name] = f.default if f.type != "list" else []
            elif f.type == "list":
                out[f.name] = []
        elif f.type == "record":
            out[f.name] = normal(f.of, have)
        elif f.type == "list" and isinstance(f.of, Record):
            out[f.name] = [normal(f.of, one) for one in have]
        else:
            out[f.name] = have
    return out


def canonical(rec, value):
    """`normal` as it is written: in order, without empty lists that are not written, with the nulls that are."""
    if rec.layout == "tuple":
        return value
    out = {}
    for f in rec.fields:
        if f.when and value.get(f.when[0].name) != f.when[1].text:
            continue
        if f.name not in value:
            if f.emit_null:
                out[f.name] = None
        elif f.type == "record":
            out[f.name] = canonical(f.of, value[f.name])
        elif f.type == "list":
            if value[f.name] or not f.omit_empty:
                out[f.name] = [canonical(f.of, v) if isinstance(f.of, Record) else v for v in value[f.name]]
        else:
            out[f.name] = value[f.name]
    return out


# ---- places inside a value ----

def places(rec, value, path=()):
    """Every (path, field, is a list item) that is set in `value`, depth first."""
    for i, f in enumerate(rec.fields):
        key = i if rec.layout == "tuple" else f.name
        if rec.layout != "tuple" and key not in value:
            continue
        here = path + (key,)
        yield here, f, False
        if f.type == "record":
            yield from places(f.of, value[key], here)
        elif f.type == "list" and value[key]:
            yield here + (0,), f, True
            if isinstance(f.of, Record):
                yield from places(f.of, value[key][0], here + (0,))


def with_at(value, path, new):
    out = copy.deepcopy(value)
    node = out
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = new
    return out


def without_at(value, path):
    out = copy.deepcopy(value)
    node = out
    for step in path[:-1]:
        node = node[step]
    del node[path[-1]]
    return out


def named(path):
    return ".".join(str(p) for p in path)


# ---- bad values ----

def wrong_type(kind):
    return {"uint": "7", "bool": "true", "list": {}, "record": []}.get(kind, 7)


def scalar_faults(kind, low, top, unknown):
    """(what, value, rule) for a scalar."""
    if kind == "uint":
        yield "above-max", top + 1, "FIELD-3"
        yield "negative", -1, "FIELD-3"
        yield "fraction", 1.5, "FIELD-3"
        yield "huge", 10 ** 30, "FIELD-3"
        if low > 0:
            yield "below-min", low - 1, "FIELD-3"
    if kind in ("string", "httpbytes"):
        yield "too-long", "x" * (top + 1), "FIELD-3"
        if top:
            yield "nul", "x" * max(0, low - 1) + "\0", "FIELD-6"
        if low > 0:
            yield "too-short", "x" * (low - 1), "FIELD-3"
    if kind == "httpbytes":
        yield "above-latin1", "x" * low + "\u0100", "FIELD-4"
    if kind == "enum" and unknown == "refuse":
        yield "unknown", "no-such-text", "FIELD-3"


def field_faults(rec, value):
    """(what, value, rule) for every place of a value."""
    for path, f, is_item in places(rec, value):
        name = named(path)
        kind = ("record" if isinstance(f.of, Record) else f.of) if is_item else f.type
        if is_item and kind == "record" and f.of.layout == "tuple":
            kind = "list"
            item = value
            for step in path:
                item = item[step]
            yield f"{name}:short-tuple", with_at(value, path, item[:-1]), "FIELD-3"
            yield f"{name}:long-tuple", with_at(value, path, item + [0]), "FIELD-3"
            yield f"{name}:wrong-type", with_at(value, path, wrong_type(kind)), "FIELD-1"
            yield f"{name}:null", with_at(value, path, None), "FIELD-2"
            continue
        yield f"{name}:wrong-type", with_at(value, path, wrong_type(kind)), "FIELD-1"
        if is_item or f.required:
            yield f"{name}:null", with_at(value, path, None), "FIELD-2"
            if isinstance(path[-1], str):
                yield f"{name}:missing", without_at(value, path), "FIELD-2"
        elif not f.nullable:
            yield f"{name}:null", with_at(value, path, None), "FIELD-1"
        low, top = (f.item_min, f.item_max) if is_item else (f.min, f.max)
        for what, bad, rule in scalar_faults(kind, low, top, f.unknown):
            yield f"{name}:{what}", with_at(value, path, bad), rule
        if kind == "list" and not is_item:
            yield f"{name}:too-many", with_at(value, path, [item_of(f, "low") for _ in range(f.max + 1)]), "FIELD-3"
            if f.min:
                yield f"{name}:too-few", with_at(value, path, []), "FIELD-3"
    if rec.one_of:
        both = dict(value, **{f.name: value_of(f, "typical") for f in rec.one_of})
        yield "both", both, "FIELD-5"
        yield "neither", {k: v for k, v in value.items() if k not in [f.name for f in rec.one_of]}, "FIELD-5"


def text_faults(p, good):
    """(what, payload, rule): ways to spoil the text of any JSON object; `good` is one with at least one member."""
    body = good[1:]
    first_key = good[1:good.index(b":")]
    depth, keys = p.limits["JSON_DEPTH"], p.limits["JSON_KEYS"]
    for what, extra, rule in (
            ("bad-utf8", b'"\xff"', "JSON-2"), ("overlong-utf8", b'"\xc0\xaf"', "JSON-2"),
            ("utf8-surrogate", b'"\xed\xa0\x80"', "JSON-2"), ("cut-utf8", b'"\xe2\x82"', "JSON-2"),
            ("lone-surrogate", b'"\\ud800"', "JSON-2"), ("low-surrogate", b'"\\udc00\\udc00"', "JSON-2"),
            ("control-byte", b'"a\nb"', "JSON-1"), ("bad-escape", b'"\\x41"', "JSON-1"),
            ("short-escape", b'"\\u12"', "JSON-1"),
            ("leading-zero", b"01", "JSON-1"), ("plus-sign", b"+1", "JSON-1"), ("bare-point", b"1.", "JSON-1"),
            ("not-a-number", b"NaN", "JSON-1"), ("infinity", b"-Infinity", "JSON-1"), ("hex-number", b"0x10", "JSON-1"),
            ("huge-number", b"1e400", "JSON-5"), ("huge-integer", b"9" * 310, "JSON-5"),
            ("single-quotes", b"'a'", "JSON-1"),
            ("bare-word", b"tru", "JSON-1"), ("upper-word", b"True", "JSON-1"), ("comment", b"/**/1", "JSON-1"),
            ("trailing-comma", b"[1,]", "JSON-1"), ("missing-comma", b"[1 2]", "JSON-1"), ("no-value", b"", "JSON-1"),
            ("too-deep", b"[" * depth + b"]" * depth, "JSON-4"),
            ("too-many-keys", b"{" + b",".join(b'"k%d":0' % i for i in range(keys)) + b"}", "JSON-4"),
            ("inner-duplicate", b'{"a":1,"\\u0061":2}', "JSON-3")):
        yield what, b'{"x-extra":' + extra + b"," + body, rule
    yield "empty", b"", "JSON-1"
    yield "white-space", b" \n", "JSON-1"
    yield "cut-half", good[:len(good) // 2], "JSON-1"
    yield "cut-last", good[:-1], "JSON-1"
    yield "trailing-byte", good + b"x", "JSON-1"
    yield "trailing-value", good + b"{}", "JSON-1"
    yield "byte-order-mark", b"\xef\xbb\xbf" + good, "JSON-1"
    yield "nul-behind", good + b"\0", "JSON-1"
    yield "duplicate", good[:-1] + b"," + first_key + b":null}", "JSON-3"
    yield "duplicate-escaped", good[:-1] + b',"\\u%04x' % first_key[1] + first_key[2:] + b":null}", "JSON-3"
    yield "key-no-string", b'{1:2,' + body, "JSON-1"
    for what, text in (("array", b"[]"), ("number", b"1"), ("string", b'"x"'), ("true", b"true")):
        yield what, text, "FIELD-1"
    yield "null", b"null", "FIELD-2"


# ---- payloads of a frame ----

def good_payloads(f):
    """(what, payload bytes, decoded value, canonical bytes or None)."""
    if f.format == "empty":
        return [("empty", b"", None, b"")]
    if f.format == "bytes":
        return [(what, data, data, None) for what, data in
                (("nothing", b""), ("byte", b"\0"), ("text", b"hello"), ("longer", bytes(range(256)) * 5))]
    if f.format == "binary":
        return [(how, *binary(f.record, how)) for how in ("low", "typical", "high")]
    return list(good_json(f.record))


def binary(rec, how):
    out, value = b"", {}
    for f in rec.fields:
        if f.type == "bytes":
            data = {"low": b"\0", "high": b"\xff"}.get(how, b"\x5a") * f.size
            value[f.name] = data.hex()
        elif f.type == "text":
            value[f.name] = scalar("string", None, f.min, f.max, "nasty" if how == "typical" else how)
            data = value[f.name].encode()
        else:
            value[f.name] = scalar("uint", None, f.min, f.max, how)
            data = value[f.name].to_bytes(f.size, "big")
        out += data
    return out, value, out


def good_json(rec):
    def out(what, value, text=None, writable=True):
        decoded = normal(rec, value)
        want = text_json(canonical(rec, decoded)).encode() if writable else None
        return what, text if text is not None else text_json(value).encode(), decoded, want

    for choice in choices(rec):
        tag = "".join(f"{v}-" for v in choice.values())
        for how in ("typical", "low", "high", "nasty"):
            yield out(tag + how, build(rec, how, choose=choice))
        least = build(rec, "typical", only_required=True, choose=choice)
        yield out(tag + "only-required", least)
        full = build(rec, "nasty", choose=choice)
        yield out(tag + "all-escaped", full, escape_all(full))
        yield out(tag + "white-space", full, text_json(full, separators=(" ,\r\n", "\t: ")).encode() + b" \n")
        yield out(tag + "backwards", full, text_json(dict(reversed(full.items()))).encode())
        extra = {"x-unknown": [1, -2.5e-3, {"a": None, "b": [True]}, "\U0001f600"]}
        yield out(tag + "unknown-field", full, text_json({**extra, **full}).encode())
        yield out(tag + "unknown-nul", full, b'{"x-nul":"\\u0000",' + text_json(full).encode()[1:])
        nulls = {f.name: None for f in rec.fields if f.nullable and not f.required}
        if nulls and not rec.one_of:
            yield out(tag + "nulls", {**least, **nulls})
        yield from bounds(rec, full, tag, out)
        for path, f, is_item in places(rec, full):
            if f.type == "enum" and f.unknown == "keep" and not is_item:
                yield out(f"{tag}{named(path)}:kept", with_at(full, path, "of-the-future"), writable=False)


def bounds(rec, full, tag, out):
    """Each place of a value at its bounds."""
    for path, f, is_item in places(rec, full):
        kind, low, top = (f.of, f.item_min, f.item_max) if is_item else (f.type, f.min, f.max)
        if kind in ("uint", "string", "httpbytes"):
            cases = [("max", top if kind == "uint" else "x" * top), ("min", low if kind == "uint" else "x" * low)]
        elif kind == "list":
            cases = [("most-items", [item_of(f, "low") for _ in range(f.max)])]
        else:
            continue
        for what, new in cases:
            yield out(f"{tag}{named(path)}:{what}", with_at(full, path, new))


def escape_all(value):
    """JSON text in which every character of every string is an escape."""
    if isinstance(value, str):
        units = struct.unpack(f">{len(value.encode('utf-16-be')) // 2}H", value.encode("utf-16-be"))
        return b'"' + b"".join(b"\\u%04X" % u for u in units) + b'"'
    if isinstance(value, dict):
        return b"{" + b",".join(escape_all(k) + b":" + escape_all(v) for k, v in value.items()) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(escape_all(v) for v in value) + b"]"
    return text_json(value).encode()


def bad_payloads(p, f):
    """(what, payload bytes, rule, cost of its own or None)."""
    if f.format == "binary":
        yield from bad_binary(f)
    elif f.format == "empty":
        yield "not-empty", b"\0", "FRAME-3", size_cost()
        yield "not-empty-json", b"{}", "FRAME-3", size_cost()
    elif f.format == "json":
        for choice in choices(f.record):
            tag = "".join(f"{v}-" for v in choice.values())
            value = build(f.record, "typical", choose=choice)
            for what, bad, rule in field_faults(f.record, value):
                yield tag + what, text_json(bad).encode(), rule, None
        for what, bad, rule in text_faults(p, text_json(build(f.record, "typical")).encode()):
            yield what, bad, rule, None


def bad_binary(f):
    good = binary(f.record, "typical")[0]
    if f.min_len:
        yield "short", good[:f.min_len - 1], "FRAME-3", size_cost()
        yield "empty", b"", "FRAME-3", size_cost()
    if f.max_len < 65536:
        yield "long", good[:f.min_len] + bytes(f.max_len - f.min_len + 1), "FRAME-3", size_cost()
    at = 0
    for x in f.record.fields:
        if x.type == "text":
            for what, bad in (("bad-utf8", b"\xff"), ("cut-utf8", b"\xe2\x82"), ("overlong-utf8", b"\xc0\x80")):
                yield f"{x.name}:{what}", good[:at] + bad, "FIELD-7", None
        elif x.type != "bytes":
            for what, n in (("below-min", x.min - 1), ("above-max", x.max + 1)):
                if 0 <= n < 256 ** x.size:
                    yield f"{x.name}:{what}", good[:at] + n.to_bytes(x.size, "big") + good[at + x.size:], x.rule, None
        at += x.size


def size_cost():
    return {"scope": "session", "code": "FRAME_SIZE_ERROR", "close": 1002}


# ---- vectors ----

class Vectors:
    def __init__(self, p):
        self.p = p
        self.rows = []
        self.ids = set()

    def add(self, name, receiver, state, data, **more):
        while name in self.ids:
            name += "+"
        self.ids.add(name)
        self.rows.append({"id": name, "receiver": receiver, "state": state, **more, "hex": data.hex()})

    def bad(self, name, receiver, state, data, rule, cost=None, **more):
        error = {"rule": rule, "scope": "session", "code": "PROTOCOL_ERROR", "close": 1002, **(cost or {})}
        self.add(name, receiver, state, data, **more, error=error)

    def receivers(self, f):
        return {"kit": ["driver"], "driver": ["kit"], "both": ["kit", "driver"]}[f.sender]

    def states_of(self, f, receiver):
        """(states of the receiver in which the frame is legal, and in which it is not)."""
        mine = [s["name"] for s in self.p.link_states if s.get("role", receiver) == receiver]
        return [s for s in mine if s in f.legal_in], [s for s in mine if s not in f.legal_in]

    def stream(self, f):
        return 0 if f.zero == "zero" else 2

    def frame(self, f):
        receiver = self.receivers(f)[0]
        legal, _ = self.states_of(f, receiver)
        payloads = [one for one in good_payloads(f) if len(one[1]) <= f.max_len]
        for what, payload, value, want in payloads:
            self.good(f, f"{f.name}/good/{what}", receiver, legal[0], self.stream(f), payload, value, want)
        what, payload, value, want = payloads[0]
        for other in self.receivers(f):
            for state in self.states_of(f, other)[0]:
                self.good(f, f"{f.name}/good/{other}-{state}", other, state, self.stream(f), payload, value, want)
        if f.zero != "zero":
            for stream in [0xFFFFFFFE] + ([0] if f.zero == "any" else []):
                self.good(f, f"{f.name}/good/stream-{stream}", receiver, legal[0], stream, payload, value, want)
        self.headers(f, receiver, legal[0], payload)
        cost = {"scope": f.scope, "code": f.code, "close": f.close}
        for what, payload, rule, own in bad_payloads(self.p, f):
            if len(payload) <= self.p.limits["MAX_PAYLOAD"]:
                data = self.raw(f, self.stream(f), payload)
                self.bad(f"{f.name}/bad/{what}", receiver, legal[0], data, rule, own or cost)

    def raw(self, f, stream, payload, length=None):
        return HEADER.pack(f.number, stream, len(payload) if length is None else length) + payload

    def good(self, f, name, receiver, state, stream, payload, value, want):
        if isinstance(value, bytes):
            value = value.hex()
        self.add(name, receiver, state, self.raw(f, stream, payload), frames=[
            {"type": f.number, "name": f.name, "stream": stream, "value": value,
             "canonical": want.hex() if want is not None else None}])

    def headers(self, f, receiver, state, payload):
        """Bad headers and lengths that lie."""
        right, wrong = self.stream(f), 2 if f.zero == "zero" else 0
        if f.zero != "any":
            self.bad(f"{f.name}/bad/stream-id", receiver, state, self.raw(f, wrong, payload), "FRAME-8")
        if f.sender != "both":
            self.bad(f"{f.name}/bad/sender", f.sender, "open", self.raw(f, right, payload), "FRAME-4")
        for other in self.receivers(f):
            for bad_state in self.states_of(f, other)[1]:
                self.bad(f"{f.name}/bad/{other}-{bad_state}", other, bad_state, self.raw(f, right, payload), "FRAME-9")
        top = self.p.limits["MAX_PAYLOAD"]
        for length in (top + 1, 0xFFFFFFFF):
            data = self.raw(f, right, payload, length)
            self.bad(f"{f.name}/bad/length-{length}", receiver, state, data, "FRAME-2", size_cost())
        whole = self.raw(f, right, payload)
        for cut in sorted({1, 4, 8, len(whole) - 1}):
            if cut < len(whole):
                self.bad(f"{f.name}/bad/cut-{cut}", receiver, state, whole[:cut], "MSG-5")
        if payload:
            self.bad(f"{f.name}/bad/header-only", receiver, state, whole[:HEADER.size], "MSG-5")

    def types(self):
        """Every number without a frame."""
        known = {f.number for f in self.p.frames}
        for number in range(256):
            if number in known:
                continue
            row = next(r for r in self.p.type_ranges if r["from"] <= number <= r["to"])
            data = HEADER.pack(number, 1, 3) + b"abc"
            for receiver in ("kit", "driver"):
                name = f"type-{number:02x}/{receiver}"
                if row["unknown"] == "skip":
                    self.add(name, receiver, "open", data, frames=[])
                else:
                    self.bad(name, receiver, "open", data, row["rule"])
            if row["unknown"] == "skip" and any(s["name"] == "await_hello" for s in self.p.link_states):
                self.bad(f"type-{number:02x}/first", "kit", "await_hello", data, "FRAME-9")

    def messages(self):
        """Whole messages: how many frames, how long, cut anywhere."""
        f = next((x for x in self.p.frames if x.format == "empty"), None) or self.p.frames[0]
        receiver = self.receivers(f)[0]
        state = self.states_of(f, receiver)[0][0]
        known = {x.number for x in self.p.frames}
        skip = next((n for r in self.p.type_ranges if r["unknown"] == "skip"
                     for n in range(r["from"], r["to"] + 1) if n not in known), None)
        most, top = self.p.limits["MAX_FRAMES"], self.p.limits["MAX_PAYLOAD"]
        self.bad("message/empty", receiver, state, b"", "MSG-2")
        if skip is None:
            return
        one = HEADER.pack(skip, 0, 0)
        self.add(f"message/{most}-frames", receiver, state, one * most, frames=[])
        self.bad(f"message/{most + 1}-frames", receiver, state, one * (most + 1), "MSG-3")
        self.bad(f"message/{most}-frames-and-a-byte", receiver, state, one * most + b"\0", "MSG-3")
        full = HEADER.pack(skip, 0, top) + b"s" * top
        room = self.p.limits["MAX_MESSAGE"]
        count, rest = divmod(room, len(full))
        if rest < HEADER.size:
            count, rest = count - 1, rest + len(full)
        last = HEADER.pack(skip, 0, rest - HEADER.size) + b"e" * (rest - HEADER.size)
        if count < most and rest - HEADER.size <= top:
            self.add("message/longest", receiver, state, last, frames=[], prefix=full.hex(), repeat=count)
            longer = HEADER.pack(skip, 0, rest - HEADER.size + 1) + b"e" * (rest - HEADER.size + 1)
            self.bad("message/too-long", receiver, state, longer, "MSG-4",
                     {"code": "FRAME_SIZE_ERROR", "close": 1009}, prefix=full.hex(), repeat=count)

    def several(self):
        """Every frame that is legal in open, one message for each receiver."""
        for receiver in ("kit", "driver"):
            data, frames = b"", []
            for f in self.p.frames:
                if receiver in self.receivers(f) and "open" in self.states_of(f, receiver)[0]:
                    _, payload, value, want = good_payloads(f)[-1 if f.format == "bytes" else 0]
                    data += self.raw(f, self.stream(f), payload)
                    frames.append({"type": f.number, "name": f.name, "stream": self.stream(f),
                                   "value": value.hex() if isinstance(value, bytes) else value,
                                   "canonical": want.hex() if want is not None else None})
            if frames:
                self.add(f"message/all-for-{receiver}", receiver, "open", data, frames=frames)


def render(name, spec_dir):
    del name
    p = protocol.load(spec_dir)
    out = Vectors(p)
    for f in p.frames:
        out.frame(f)
    out.types()
    out.messages()
    out.several()
    rows = ",\n".join(text_json(row, ascii=True) for row in out.rows)
    return f'{{"about":{text_json(banner("protocol.yaml"))},\n"vectors":[\n{rows}\n]}}\n'
