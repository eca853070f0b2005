"""A wire of JSON in text messages, in Python, standard library only.

    text = encode({"type": "data", "stream_id": 42, "data": b"hello"})
    message = decode(text, "client")

A message is a dict with its type and those fields that are not 0 or empty; base64 is bytes. Whatever breaks a rule raises
TextError with the rule's id.
"""

import base64
import re

import hoody_wire

# ---- tables: the generator writes them from the spec between these two lines ----
LIMITS, FIELDS, MESSAGES, BAD_MESSAGE = {}, {}, {}, ""
# ---- end of tables ----

EMPTY = {"int": 0, "uint": 0, "string": "", "base64": b""}
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?")


class TextError(Exception):
    """A rule was broken. `stream`: the id of the stream that bytes are missing on, or None."""

    def __init__(self, rule, text, stream=None):
        super().__init__(f"{rule}: {text}")
        self.rule, self.text, self.stream = rule, text, stream


def _good(row, value):
    if row["type"] in ("int", "uint"):
        return type(value) is int and row["min"] <= value <= row["max"]
    if not isinstance(value, str):
        return False
    if row["type"] == "string":
        return row["min"] <= len(value.encode()) <= row["max"] and "\0" not in value
    return True


def _bytes(row, value):
    """What base64 stands for, or None."""
    if not _BASE64.fullmatch(value):
        return None
    out = base64.b64decode(value)
    return out if row["min"] <= len(out) <= row["max"] else None


def decode(data, sender):
    """The message that `sender` has sent as `data`."""
    try:
        doc = hoody_wire.parse_json(data, LIMITS["JSON_DEPTH"], LIMITS["JSON_KEYS"])
    except hoody_wire.WireError as e:
        raise TextError(BAD_MESSAGE, e.text) from e
    if not isinstance(doc, dict):
        raise TextError(BAD_MESSAGE, "it is no object")
    out, wrong, holes = {"type": None}, None, None
    for key, value in doc.items():
        name = re.sub(r"[A-Z]", lambda m: m.group().lower(), key)
        if name == "type":
            wrong = wrong if isinstance(value, str) else "type must be a string"
            out["type"] = value
        elif name in FIELDS and value is not None:
            if not _good(FIELDS[name], value):
                wrong = wrong or f"{name} has a wrong value"
            out[name] = value
    row = MESSAGES.get(out["type"]) if isinstance(out["type"], str) else None
    if wrong or row is None or sender not in row["senders"]:
        raise TextError(BAD_MESSAGE, wrong or ("it has no type that is known" if row is None else "it does not come from that side"))
    for name in [n for n in out if n != "type" and FIELDS[n]["type"] == "base64"]:
        out[name] = _bytes(FIELDS[name], out[name])
        if out[name] is None:
            holes = FIELDS[name]["rule"], f"{name} has a wrong value"
    if holes:
        raise TextError(*holes, out.get("stream_id", 0))
    return {n: v for n, v in out.items() if n == "type" or v != EMPTY[FIELDS[n]["type"]]}


def encode(message):
    """The canonical text of a message, as bytes."""
    doc = {"type": message["type"]}
    for name, row in FIELDS.items():
        value = message.get(name, EMPTY[row["type"]])
        if value != EMPTY[row["type"]]:
            doc[name] = base64.b64encode(value).decode() if row["type"] == "base64" else value
    return hoody_wire.write_json(doc).encode()
