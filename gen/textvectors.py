"""A spec with `wire: text` -> vtunnel_vectors.json: texts with what a receiver must make of them.

A vector is {id, sender, hex, message, canonical} or {id, sender, hex, error}: `hex` is the text, `canonical` what our encoders
write for it, `error` the rule that it breaks; with `stream` the message is good but for bytes that are missing on that stream.
Nothing here knows a message by name: values come from the fields' types and bounds.
"""

import base64
import json

from gen import textwire
from gen.render import banner

NASTY = 'a "quoted" \\ / \x01\t\u00e9\u20ac\U0001f600'


def text_of(value, **kw):
    return json.dumps(value, ensure_ascii=kw.pop("ascii", False), separators=kw.pop("separators", (",", ":")), **kw)


def on_wire(f, value):
    return base64.b64encode(value).decode() if f.type == "base64" else value


def values(f):
    """(name, value) pairs of good values; none is 0 or empty."""
    if f.type in ("int", "uint"):
        return [("typical", min(f.max, 200)), ("high", f.max), *([("low", f.min)] if f.min < 0 else []), ("one", 1)]
    if f.type == "string":
        return [("typical", "typical"), ("nasty", NASTY), ("high", "x" * f.max), ("one", "\u00e9")]
    return [("typical", b"hello world"), ("one", b"\0"), ("two", b"\xff\xfe"), ("three", b"\xfb\xef\xbe"), ("every", bytes(range(256)))]


def faults(f):
    """(name, JSON value as text) of values that break the field's rule or that of the message."""
    if f.type in ("int", "uint"):
        return [("above", str(f.max + 1)), ("below", str(f.min - 1)), ("fraction", "1.5"), ("zero fraction", "1.0"), ("exponent", "1e2"),
                ("huge", "9" * 30), ("negative zero", "-0"), ("string", '"1"'), ("true", "true"), ("list", "[1]"), ("object", "{}")]
    out = [("number", "7"), ("true", "true"), ("list", "[]"), ("object", '{"a":1}')]
    if f.type == "string":
        return [*out, ("long", text_of("x" * (f.max + 1))), ("NUL", '"a\\u0000b"')]
    return out


def broken(f):
    """(name, JSON text) of base64 that is none."""
    return [("unpadded", '"aGVsbG8"'), ("half padded", '"aGVsbA="'), ("too much padding", '"aGVsbG8==="'), ("padding inside", '"aGVs=bG8"'),
            ("padding alone", '"===="'), ("three pads", '"a==="'), ("URL alphabet", '"-_-_"'), ("line break", '"aGVs\\nbG8="'),
            ("space", '"aGVs bG8="'), ("bits behind two", '"aGVsbGb="'), ("bits behind one", '"aB=="'), ("NUL", '"aGV\\u0000"'),
            ("not ASCII", '"aGV\u00e9"')]


NOT_JSON = ["", " ", "null", "[]", '"ping"', "7", "{", '{"type"', '{"type":', '{"type":"ping"', '{"type":"ping",}', '{"type":"ping"}x',
            '{"type":"ping"}{}', "{'type':'ping'}", '{"type":"ping","type":"ping"}', '{"type":"ping","\\u0074ype":"ping"}', '{"type":"ping","a":01}',
            '{"type":"ping","a":tru}', '{"type":"ping","a":"\\ud800"}', '{"type":"ping","a":"\t"}', '{"type":"ping","a":1e400}',
            '\ufeff{"type":"ping"}', "{}", '{"a":1}', '{"type":null}', '{"type":7}', '{"type":["ping"]}', '{"type":"PING"}', '{"type":""}',
            '{"type":"pin"}', '{"type":"pings"}', '{"type":"ping\\u0000"}']


class Vectors:
    def __init__(self, wire):
        self.w, self.rows = wire, []

    def add(self, what, sender, text, **rest):
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        self.rows.append({"id": f"{what} from the {sender}", "sender": sender, "hex": data.hex(), **rest})

    def good(self, what, sender, message, text=None):
        wire = {"type": message["type"], **{f.name: on_wire(f, message[f.name]) for f in self.w.fields if f.name in message}}
        canonical = text_of(wire)
        for escape in ("\b", "\f", "\n", "\r", "\t"):
            assert escape not in canonical
        self.add(what, sender, canonical if text is None else text,
                 message={"type": message["type"], **{f.name: (message[f.name].hex() if f.type == "base64" else message[f.name])
                                                      for f in self.w.fields if f.name in message}},
                 canonical=canonical.encode().hex())

    def bad(self, what, sender, text, rule=None, stream=None):
        self.add(what, sender, text, error=rule or self.w.bad_message, **({} if stream is None else {"stream": stream}))

    def message(self, m):
        sender = m.senders[0]
        full = {"type": m.name, **{f.name: values(f)[0][1] for f in m.fields}}
        for s in textwire.ROLES:
            if s in m.senders:
                self.good(f"{m.name}, all fields", s, full)
                self.good(f"{m.name}, no field", s, {"type": m.name})
            else:
                self.bad(f"{m.name}, all fields", s, text_of({"type": m.name}))
        for f in m.fields:
            for how, value in values(f)[1:]:
                self.good(f"{m.name}.{f.name}, {how}", sender, {**full, f.name: value})
        plain = {"type": m.name, **{f.name: on_wire(f, full[f.name]) for f in m.fields}}
        self.good(f"{m.name}, keys in capitals", sender, full, text_of({k.upper(): v for k, v in plain.items()}))
        self.good(f"{m.name}, keys backwards", sender, full, text_of(dict(reversed(plain.items()))))
        self.good(f"{m.name}, white space", sender, full, "\t\r\n " + text_of(plain, indent=1, separators=(" , ", " : ")) + "\n")
        self.good(f"{m.name}, unknown keys", sender, full, text_of({"a": {"b": [1, {"c": None}]}, **plain, "z": 1.5}))
        self.good(f"{m.name}, nulls", sender, {"type": m.name}, text_of({"type": m.name, **{f.name: None for f in self.w.fields}}))
        self.good(f"{m.name}, nothing but zeros", sender, {"type": m.name},
                  text_of({"type": m.name, **{f.name: 0 if f.type in ("int", "uint") else "" for f in self.w.fields}}))

    def escapes(self):
        """Everything escaped that can be: one message with each field."""
        for f in self.w.fields:
            m = next(m for m in self.w.messages if f in m.fields)
            value = values(f)[0][1]
            text = text_of({"type": m.name, f.name: on_wire(f, value)})
            if f.type in ("string", "base64"):
                shown = text_of(on_wire(f, value))
                text = text.replace(shown, '"' + "".join(f"\\u{ord(c):04X}" for c in on_wire(f, value)) + '"')
            self.good(f"{m.name}.{f.name}, escaped", m.senders[0], {"type": m.name, f.name: value}, text.replace("type", "\\u0074ype", 1))
            if f.type == "base64":
                self.good(f"{m.name}.{f.name}, escaped slashes", m.senders[0], {"type": m.name, f.name: b"\xff\xff\xff"},
                          text_of({"type": m.name, f.name: "////"}).replace("////", r"\/\/\/\/"))

    def wrong(self):
        first = self.w.messages[0]
        for f in self.w.fields:
            m = next(m for m in self.w.messages if f in m.fields)
            for how, value in faults(f):
                self.bad(f"{m.name}.{f.name}, {how}", m.senders[0], f'{{"type":"{m.name}","{f.name}":{value}}}')
            if f not in first.fields:
                self.bad(f"{first.name} with a wrong {f.name}", first.senders[0], f'{{"type":"{first.name}","{f.name}":[]}}')
            if f.type == "base64":
                for how, value in broken(f):
                    self.bad(f"{m.name}.{f.name}, {how}", m.senders[0], f'{{"type":"{m.name}","stream_id":7,"{f.name}":{value}}}', f.rule, 7)
                    self.bad(f"{m.name}.{f.name}, {how}, and no JSON", m.senders[0], f'{{"type":"{m.name}","{f.name}":{value}')
        depth, keys = self.w.limits["JSON_DEPTH"], self.w.limits["JSON_KEYS"]
        ping = next(m for m in self.w.messages if not m.fields)
        for levels, what in ((depth - 1, "deepest"), (depth, "too deep")):
            text = f'{{"type":"{ping.name}","a":{"[" * levels}{"]" * levels}}}'
            if levels < depth:
                self.good(f"{ping.name}, {what}", ping.senders[0], {"type": ping.name}, text)
            else:
                self.bad(f"{ping.name}, {what}", ping.senders[0], text)
        for count in (keys - 1, keys):
            text = text_of({"type": ping.name, **{f"k{i}": i for i in range(count)}})
            if count < keys:
                self.good(f"{ping.name}, most keys", ping.senders[0], {"type": ping.name}, text)
            else:
                self.bad(f"{ping.name}, too many keys", ping.senders[0], text)
        for i, text in enumerate(NOT_JSON):
            self.bad(f"no message {i}", ping.senders[0], text.replace("ping", ping.name).replace("PING", ping.name.upper()))
        for how, data in (("invalid UTF-8", b"\xff"), ("overlong", b"\xc0\x80"), ("surrogate", b"\xed\xa0\x80"), ("NUL", b"\0")):
            self.bad(f"{ping.name}, {how}", ping.senders[0], b'{"type":"' + ping.name.encode() + b'","a":"' + data + b'"}')

    def all(self):
        for m in self.w.messages:
            self.message(m)
        self.escapes()
        self.wrong()
        return self.rows


def render(name, spec_dir):
    spec = textwire.spec_of(name)
    rows = Vectors(textwire.load(spec_dir, spec)).all()
    ids = [r["id"] for r in rows]
    assert len(ids) == len(set(ids)), [i for i in ids if ids.count(i) > 1]
    return json.dumps({"note": banner(spec + ".yaml"), "protocol": spec, "vectors": rows}, indent=0) + "\n"
