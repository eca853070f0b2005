"""The wire protocol in Python, standard library only.

    frame = encode("BIND", 0, {"clientBindRef": 1, "kind": "http", "mode": "expose", "containerPort": 3000})
    asm = Assembler("kit", "open")
    for type_, stream_id, payload in asm.message(frame):
        value = decode(type_, payload)

Whatever breaks a rule raises WireError, with the rule's id and what it costs. Values are as in the JSON: objects are
dicts with defaults filled in and fields that are absent or do not apply left out, tuples are lists, DATA and nonces are
bytes. Everything takes a version number too; without one it is the newest. Methods, targets and headers are strings in which U+0080-U+00FF stand for the bytes 0x80-0xFF.
"""

import re
import struct

# ---- tables: the generator writes them from spec/protocol.yaml between these two lines ----
CODES, ENUMS, FRAMES, LIMITS, LIMIT_CHANGES, RECORDS = {}, {}, {}, {}, {}, {}
TYPE_RANGES, VERSIONS = [], {"": 0}
# ---- end of tables ----

NUMBERS = {row["name"]: number for number, row in FRAMES.items()}
CODE_NAMES = {number: name for name, number in CODES.items()}
HEADER = struct.Struct(">BII")
NEWEST = max(VERSIONS.values())


class WireError(Exception):
    """A rule was broken. scope: stream, session or reply; code: a name in CODES; close: the WebSocket close code."""

    def __init__(self, rule, text, scope="session", code="PROTOCOL_ERROR", close=1002):
        super().__init__(f"{rule}: {text}")
        self.rule, self.text, self.scope, self.code, self.close = rule, text, scope, code, close


def limit(name, version=NEWEST):
    """A limit's value in a version."""
    changes = LIMIT_CHANGES.get(name, {})
    return max(((v, changes[v]) for v in changes if v <= version), default=(0, LIMITS[name]))[1]


def frame_in(version, type_):
    """Whether a version has the frame."""
    row = FRAMES.get(NUMBERS.get(type_, type_))
    return row is not None and VERSIONS[row["since"]] <= version <= VERSIONS.get(row["until"], version)


# ---- strict JSON ----

class _BadJson(Exception):
    def __init__(self, rule, text):
        super().__init__(text)
        self.rule = rule


_SPACE = re.compile(rb"[ \t\n\r]*")
_NUMBER = re.compile(rb"(-?)(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]+')
_ESCAPES = {ord(c): v for c, v in zip('"\\/bfnrt', '"\\/\b\f\n\r\t')}


class _Reader:
    """RFC 8259 without its freedoms: see rules JSON-1 to JSON-5."""

    def __init__(self, data, depth=None, keys=None):
        self.data, self.at, self.depth, self.keys = data, 0, 0, 0
        self.max_depth, self.max_keys = depth or LIMITS["JSON_DEPTH"], keys or LIMITS["JSON_KEYS"]

    def fail(self, rule, text):
        raise _BadJson(rule, f"{text} at byte {self.at}")

    def space(self):
        self.at = _SPACE.match(self.data, self.at).end()

    def peek(self):
        return self.data[self.at:self.at + 1]

    def whole(self):
        if self.data.startswith(b"\xef\xbb\xbf"):
            self.fail("JSON-1", "byte order mark")
        out = self.value()
        self.space()
        if self.at != len(self.data):
            self.fail("JSON-1", "bytes behind the value")
        return out

    def value(self):
        self.space()
        c = self.peek()
        if c == b"{":
            return self.container(self.member, b"}", {})
        if c == b"[":
            return self.container(self.item, b"]", [])
        if c == b'"':
            return self.string()
        for word, out in ((b"true", True), (b"false", False), (b"null", None)):
            if self.data.startswith(word, self.at):
                self.at += len(word)
                return out
        return self.number()

    def container(self, read, close, out):
        if self.depth == self.max_depth:
            self.fail("JSON-4", "nested too deeply")
        self.depth += 1
        keys = self.keys
        self.at += 1
        first = True
        while True:
            self.space()
            if self.peek() == close:
                break
            if not first:
                if self.peek() != b",":
                    self.fail("JSON-1", "not JSON")
                self.at += 1
            first = False
            read(out)
        self.at += 1
        self.depth -= 1
        self.keys = keys
        return out

    def item(self, out):
        out.append(self.value())

    def member(self, out):
        self.space()
        if self.peek() != b'"':
            self.fail("JSON-1", "not JSON")
        key = self.string()
        if self.keys == self.max_keys:
            self.fail("JSON-4", "too many members")
        if key in out:
            self.fail("JSON-3", "duplicate key")
        self.keys += 1
        self.space()
        if self.peek() != b":":
            self.fail("JSON-1", "not JSON")
        self.at += 1
        out[key] = self.value()

    def string(self):
        self.at += 1
        out = []
        while True:
            plain = _PLAIN.match(self.data, self.at)
            if plain:
                try:
                    out.append(plain.group().decode("utf-8"))
                except UnicodeDecodeError:
                    self.fail("JSON-2", "not UTF-8")
                self.at = plain.end()
            c = self.peek()
            if c == b'"':
                self.at += 1
                return "".join(out)
            if c != b"\\":
                self.fail("JSON-1", "not JSON")
            out.append(self.escape())

    def escape(self):
        c = self.data[self.at + 1:self.at + 2]
        if c != b"u":
            if not c or c[0] not in _ESCAPES:
                self.fail("JSON-1", "not JSON")
            self.at += 2
            return _ESCAPES[c[0]]
        unit = self.unit()
        if unit < 0xD800 or unit > 0xDFFF:
            return chr(unit)
        if unit > 0xDBFF or self.data[self.at:self.at + 2] != b"\\u":
            self.fail("JSON-2", "lone surrogate")
        try:
            second = self.unit()
        except _BadJson:
            second = 0
        if not 0xDC00 <= second <= 0xDFFF:
            self.fail("JSON-2", "lone surrogate")
        return chr(0x10000 + ((unit - 0xD800) << 10) + (second - 0xDC00))

    def unit(self):
        digits = self.data[self.at + 2:self.at + 6]
        if not re.fullmatch(rb"[0-9a-fA-F]{4}", digits):
            self.fail("JSON-1", "not JSON")
        self.at += 6
        return int(digits, 16)

    def number(self):
        m = _NUMBER.match(self.data, self.at)
        if not m:
            self.fail("JSON-1", "not JSON")
        self.at = m.end()
        sign, whole, fraction, exponent = (g or b"" for g in m.groups())
        behind = self.peek()
        if not exponent and (behind in (b"e", b"E") or behind == b"." and not fraction):
            self.fail("JSON-1", "not JSON")
        digits = whole + fraction[1:]
        lead = len(digits) - len(digits.lstrip(b"0"))
        power = int(exponent.lstrip(b"eE+-").lstrip(b"0")[:8] or 0) * (-1 if b"-" in exponent else 1)
        if lead < len(digits) and len(whole) - 1 - lead + power >= 308:
            self.fail("JSON-5", "number too large")
        if fraction or exponent or sign and not int(whole):
            return float(m.group())
        return int(sign + whole)


def parse_json(data, depth=None, keys=None):
    """What strict JSON text stands for: integers are ints, other numbers and -0 floats. Raises WireError."""
    try:
        return _Reader(bytes(data), depth, keys).whole()
    except _BadJson as e:
        raise WireError(e.rule, str(e)) from e


def write_json(value):
    """The canonical text: no white space, escapes only where they must be."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return '"' + re.sub(r'["\\\x00-\x1f]', _written, value) + '"'
    if isinstance(value, dict):
        return "{" + ",".join(f"{write_json(k)}:{write_json(v)}" for k, v in value.items()) + "}"
    return "[" + ",".join(write_json(v) for v in value) + "]"


def _written(match):
    return _WRITTEN.get(match.group(), f"\\u{ord(match.group()):04x}")


_WRITTEN = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


# ---- fields ----

class _Payload:
    """Reads one payload. Like the C decoder it goes on behind a wrong field and reports the first one."""

    def __init__(self, version=NEWEST, capabilities=None):
        self.error, self.version, self.capabilities = None, version, capabilities

    def bad(self, rule, where, text):
        self.error = self.error or (rule, f"{where} {text}")

    def typed(self, row, where, value, kind, what):
        """Whether a value of the type is there; complains if it is something else that may not be."""
        if value is None:
            if row.get("nullable"):
                return False
            if row.get("required"):
                self.bad("FIELD-2", where, "is null, but it is required")
            else:
                self.bad("FIELD-1", where, f"must be {what}")
            return False
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
            self.bad("FIELD-1", where, f"must be {what}")
            return False
        return True

    def scalar(self, row, where, value):
        """The value, or None when there is none."""
        kind = row["type"]
        if kind == "uint":
            if not self.typed(row, where, value, (int, float), "an integer"):
                return None
            if isinstance(value, float) or not row["min"] <= value <= row["max"]:
                return self.bad("FIELD-3", where, f"must be an integer in {row['min']}..{row['max']}")
            return value
        if kind == "bool":
            return value if self.typed(row, where, value, bool, "true or false") else None
        if not self.typed(row, where, value, str, "a string"):
            return None
        if kind == "enum":
            if value not in ENUMS[row["of"]] and row["unknown"] != "keep":
                return self.bad("FIELD-3", where, "has an unknown value")
            return value
        if kind == "httpbytes" and any(c > "\xff" for c in value):
            return self.bad("FIELD-4", where, "holds a character above U+00FF")
        size = len(value) if kind == "httpbytes" else len(value.encode())
        if not row["min"] <= size <= row["max"]:
            return self.bad("FIELD-3", where, f"must have {row['min']} to {row['max']} bytes")
        if "\0" in value:
            return self.bad("FIELD-6", where, "holds U+0000")
        return value

    def field(self, row, where, value):
        if row["type"] == "record":
            return self.record(RECORDS[row["of"]], row, where, value)
        if row["type"] != "list":
            return self.scalar(row, where, value)
        if not self.typed(row, where, value, list, "an array"):
            return None
        item = {"type": "record", "of": row["of"], "required": True}
        if row["of"] in ("uint", "string", "httpbytes"):
            item = {"type": row["of"], "min": row["item_min"], "max": row["item_max"], "required": True}
        out = []
        for i, one in enumerate(value):
            got = self.field(item, where, one)
            if i == row["max"]:
                self.bad("FIELD-3", where, f"has more than {row['max']} items")
            out.append(got)
        if len(value) < row["min"]:
            self.bad("FIELD-3", where, f"has fewer than {row['min']} items")
        return out

    def record(self, rec, row, where, value):
        if rec["layout"] == "tuple":
            return self.tuple(rec, row, where, value)
        if not self.typed(row, where, value, dict, "an object"):
            return None
        rows = {f["name"]: f for f in rec["fields"]
                if f.get("since", 0) <= self.version <= f.get("until", self.version)
                and (self.capabilities is None or f.get("capability") in (None, *self.capabilities))}
        got = {}
        for name, one in value.items():
            if name in rows:
                have = self.field(rows[name], f"{where}.{name}", one)
                if have is not None:
                    got[name] = have
        out = {}
        for name, f in rows.items():
            if "when" in f and got.get(f["when"][0]) != f["when"][1]:
                continue
            if name in got:
                out[name] = got[name]
            elif f.get("required"):
                self.bad("FIELD-2", f"{where}.{name}", "is missing")
            elif "default" in f or f["type"] == "list":
                out[name] = f.get("default", [])
        if rec["one_of"] and sum(n in got for n in rec["one_of"]) != 1:
            self.bad("FIELD-5", where, f"must hold exactly one of {', '.join(rec['one_of'])}")
        return out

    def tuple(self, rec, row, where, value):
        if not self.typed(row, where, value, list, "an array"):
            return None
        out = [self.scalar(f, f"{where}.{f['name']}", one) for f, one in zip(rec["fields"], value)]
        if len(value) != len(rec["fields"]):
            self.bad("FIELD-3", where, f"must have items of {len(rec['fields'])} values")
        return out


def _row(type_):
    number = NUMBERS.get(type_, type_)
    return number, FRAMES[number]


def _cost(row):
    return {"scope": row["scope"], "code": row["code"], "close": row["close"]}


def decode(type_, payload, version=NEWEST, capabilities=None):
    """The value of a payload; `type_` is a number or a name. Fields of a capability that is not among those that were agreed on are
    ignored like unknown ones; None: all were. Raises WireError."""
    _, row = _row(type_)
    if not row["min_len"] <= len(payload) <= row["max_len"]:
        raise WireError("FRAME-3", f"{row['name']}: impossible payload length {len(payload)}", code="FRAME_SIZE_ERROR")
    if row["format"] in ("bytes", "empty"):
        return bytes(payload)
    if row["format"] == "binary":
        return _decode_binary(row, bytes(payload))
    reader = _Payload(version, capabilities)
    try:
        value = reader.record(row["payload"], {"required": True}, row["name"], parse_json(payload))
    except WireError as e:
        raise WireError(e.rule, f"{row['name']}: {e.text}", **_cost(row)) from e
    if reader.error:
        raise WireError(*reader.error, **_cost(row))
    return value


def not_agreed(type_, value, capabilities):
    """What a frame with this decoded payload has, itself or a field, that needs a capability which is not among these (EXT-1)."""
    _, row = _row(type_)
    if row["capability"] and row["capability"] not in capabilities:
        yield row["name"]
    for f in row["payload"]["fields"] if row["format"] == "json" else ():
        if f.get("capability") not in (None, *capabilities) and value.get(f["name"]) not in (None, [], f.get("default")):
            yield f"{row['name']}.{f['name']}"


_SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}


def _decode_binary(row, payload):
    out, at = {}, 0
    for f in row["payload"]["fields"]:
        where = f"{row['name']}.{f['name']}"
        if f["type"] == "bytes":
            out[f["name"]] = payload[at:at + f["size"]]
            at += f["size"]
        elif f["type"] == "text":
            try:
                out[f["name"]] = payload[at:].decode("utf-8")
            except UnicodeDecodeError as e:
                raise WireError("FIELD-7", f"{where} is not UTF-8", **_cost(row)) from e
        else:
            size = _SIZES[f["type"]]
            out[f["name"]] = int.from_bytes(payload[at:at + size], "big")
            at += size
            if not f["min"] <= out[f["name"]] <= f["max"]:
                raise WireError(f["rule"], f"{where} must be in {f['min']}..{f['max']}", **_cost(row))
    return out


# ---- writing ----

def _ordered(rec, value):
    """`value` in the order of the spec, with what is always written."""
    if rec["layout"] == "tuple":
        return list(value)
    out = {}
    for f in rec["fields"]:
        name = f["name"]
        if "when" in f and value.get(f["when"][0]) != f["when"][1]:
            continue
        have = value.get(name, f.get("default", [] if f["type"] == "list" else None))
        if have is None and not f.get("emit_null") or have == [] and f.get("omit_empty"):
            continue
        if f["type"] == "record" and have is not None:
            have = _ordered(RECORDS[f["of"]], have)
        elif f["type"] == "list" and f["of"] in RECORDS:
            have = [_ordered(RECORDS[f["of"]], one) for one in have]
        out[name] = have
    return out


def encode_payload(type_, value):
    """The canonical payload of a value. Raises ValueError when the value may not be sent."""
    number, row = _row(type_)
    if row["format"] == "empty":
        payload = b""
    elif row["format"] == "bytes":
        payload = bytes(value)
    elif row["format"] == "binary":
        parts = []
        for f in row["payload"]["fields"]:
            one = value[f["name"]]
            if f["type"] == "bytes":
                parts.append(bytes(one))
            elif f["type"] == "text":
                parts.append(one.encode())
            else:
                parts.append(one.to_bytes(_SIZES[f["type"]], "big"))
        payload = b"".join(parts)
    else:
        payload = write_json(_ordered(row["payload"], value)).encode()
    try:
        if row["format"] != "bytes":
            decode(number, payload)
    except WireError as e:
        raise ValueError(str(e)) from e
    if len(payload) > LIMITS["MAX_PAYLOAD"]:
        raise ValueError(f"{row['name']}: the payload has {len(payload)} bytes")
    return payload


def raw_frame(type_, stream_id, payload=b"", length=None):
    """Any frame, legal or not; `length` may lie."""
    return HEADER.pack(NUMBERS.get(type_, type_), stream_id, len(payload) if length is None else length) + payload


def encode(type_, stream_id, value=None):
    """A whole frame. Raises ValueError when it may not be sent."""
    number, row = _row(type_)
    if row["zero"] != "any" and (stream_id == 0) != (row["zero"] == "zero"):
        raise ValueError(f"{row['name']} cannot have stream id {stream_id}")
    return raw_frame(number, stream_id, encode_payload(number, value))


# ---- checks and assembly ----

def _check(row, sender, legal, stream_id, length):
    name = row["name"]
    if row["sender"] not in (sender, "both"):
        raise WireError("FRAME-4", f"{name} is not for the {sender} to send")
    if not legal:
        raise WireError("FRAME-9", f"{name} is illegal in this state")
    if row["zero"] != "any" and (stream_id == 0) != (row["zero"] == "zero"):
        raise WireError("FRAME-8", f"{name} on stream {stream_id}")
    if not row["min_len"] <= length <= row["max_len"]:
        raise WireError("FRAME-3", f"{name}: impossible payload length {length}", code="FRAME_SIZE_ERROR")


def check_rx(receiver, state, type_, stream_id, length, version=NEWEST):
    """Checks a header: True to handle the frame, False to skip it. Raises WireError."""
    if length > LIMITS["MAX_PAYLOAD"]:
        raise WireError("FRAME-2", f"payload of {length} bytes", code="FRAME_SIZE_ERROR")
    row = FRAMES.get(type_)
    if row is None or not frame_in(version, type_):
        unknown, rule = next((u, r) for low, high, u, r in TYPE_RANGES if low <= type_ <= high)
        if unknown == "skip" and state == "await_hello":
            raise WireError("FRAME-9", f"type 0x{type_:02X} is no first frame")
        if unknown == "skip":
            return False
        raise WireError(rule, f"unknown frame type 0x{type_:02X}")
    _check(row, "driver" if receiver == "kit" else "kit", state in row["legal_in"], stream_id, length)
    return True


def check_tx(sender, state, type_, stream_id, length):
    """The same for a frame about to be sent."""
    row = FRAMES.get(type_)
    if row is None:
        raise WireError("FRAME-6", f"unknown frame type 0x{type_:02X}")
    _check(row, sender, state in row["sent_in"], stream_id, length)


class Assembler:
    """Frames out of messages for a receiver. `state` may be changed between (and during) messages."""

    def __init__(self, receiver, state, version=NEWEST):
        self.receiver, self.state, self.version = receiver, state, version
        self._reset()

    def _reset(self):
        self._pending, self._size, self._count = b"", 0, 0

    def feed(self, data, end):
        """The frames that `data`, the next bytes of a message, completes: a generator of (type, stream id, payload)."""
        self._pending += data
        self._size += len(data)
        if self._size > limit("MAX_MESSAGE", self.version):
            raise WireError("MSG-4", "message longer than allowed", code="FRAME_SIZE_ERROR", close=1009)
        while self._pending:
            if self._count == limit("MAX_FRAMES", self.version):
                raise WireError("MSG-3", "more frames in one message than allowed")
            if len(self._pending) < HEADER.size:
                break
            type_, stream_id, length = HEADER.unpack_from(self._pending)
            known = check_rx(self.receiver, self.state, type_, stream_id, length, self.version)
            if len(self._pending) < HEADER.size + length:
                break
            payload = self._pending[HEADER.size:HEADER.size + length]
            self._pending = self._pending[HEADER.size + length:]
            self._count += 1
            if known:
                yield type_, stream_id, payload
        if end:
            if self._pending:
                raise WireError("MSG-5", "a frame crosses the end of its message")
            if self._count == 0:
                raise WireError("MSG-2", "empty message")
            self._reset()

    def message(self, data):
        """The frames of a whole message."""
        return list(self.feed(bytes(data), True))
