"""Specs with `wire: text` (spec/vtunnel.yaml): loaded, checked, turned into a typed model, rendered as C tables.

The second kind of wire beside that of gen/protocol.py: messages are JSON objects in text messages, with one list of fields.
src/wire/text.c reads and writes them by these tables. load() returns a TextWire; vectors, Python codec and reference start
from it too (gen/textvectors.py, gen/textcodec.py).
"""

import os
import re
from dataclasses import dataclass

from gen import specfile
from gen.ctext import c_string
from gen.render import banner, render as render_template

ROLES = ("client", "server")
NEEDED_LIMITS = ("MAX_MESSAGE", "JSON_DEPTH", "JSON_KEYS")
READER_TOP = {"JSON_DEPTH": 64, "JSON_KEYS": 256}  # of src/json
CTYPES = {"int": "int64_t", "uint": "uint32_t", "string": "struct ht_slice", "base64": "struct ht_slice"}


@dataclass
class Field:
    name: str
    type: str
    min: int
    max: int
    rule: str
    doc: str

    @property
    def ctype(self):
        return CTYPES[self.type]


@dataclass
class Message:
    number: int
    name: str
    sender: str
    stream: bool
    fields: list                 # of Field
    rules: list
    doc: str

    @property
    def senders(self):
        return ROLES if self.sender == "both" else (self.sender,)


@dataclass
class TextWire:
    raw: dict
    name: str
    limits: dict
    fields: list
    messages: list
    rules: dict
    bad_message: str

    def message(self, name):
        return next(m for m in self.messages if m.name == name)


class _Checker(specfile.Checks):
    """Builds the model and collects complaints."""

    def field(self, row, limits):
        where, low, top = f"field {row['name']}", row.get("min", 0), row["max"]
        if row["name"] == "type":
            self.bad.add(row.line_of("name"), "field type is in every message by itself; give this one another name")
        if low > top:
            self.bad.add(row.line_of("min"), f"{where}: min {low} is above max {top}; swap them or mend one")
        if row["type"] != "int" and low < 0:
            self.bad.add(row.line_of("min"), f"{where}: min {low} is below 0; only an int has a sign")
        if row["type"] == "uint" and top > 2 ** 32 - 1:
            self.bad.add(row.line_of("max"), f"{where}: max {top} does not fit 32 bits; at most {2 ** 32 - 1}")
        if row["type"] == "int" and max(abs(low), top) > 2 ** 53 - 1:
            self.bad.add(row.line, f"{where}: more than a JSON number can carry exactly; at most {2 ** 53 - 1}")
        size = {"string": top, "base64": (top + 2) // 3 * 4}.get(row["type"], 0)
        if size > limits.get("MAX_MESSAGE", size):
            self.bad.add(row.line_of("max"), f"{where}: max {top} is larger than a message of {limits['MAX_MESSAGE']} bytes")
        return Field(row["name"], row["type"], low, top, row.get("rule", self.doc["bad_message"]), row["doc"])

    def message(self, number, row, fields):
        seen = []
        for i, name in enumerate(row["fields"]):
            line = row["fields"].line_of(i)
            if name in seen:
                self.bad.add(line, f"{row['name']} names {name} twice; remove one of the two")
            seen.append(name)
            self.known(line, name, list(fields), "field")
        if row.get("stream") and "stream_id" not in seen:
            self.bad.add(row.line_of("stream"), f"{row['name']} is about a stream; add stream_id to its fields")
        return Message(number, row["name"], row["sender"], row.get("stream", False),
                       [f for f in fields.values() if f.name in seen], list(row["rules"]), row["doc"])

    def tables(self, limits):
        doc = self.doc
        codes = [c["number"] for c in doc["close_codes"]]
        for name in NEEDED_LIMITS:
            if name not in limits:
                self.bad.add(doc.line_of("limits"), f"limit {name} is missing; the codecs need it")
        for row in doc["limits"]:
            top = READER_TOP.get(row["name"])
            if top and row["value"] > top:
                self.bad.add(row.line_of("value"), f"limit {row['name']}: {row['value']} is more than the reader can do; at most {top}")
        for row in doc["ends"]:
            self.known(row.line_of("code"), row["code"], codes, "close code")
        for row in doc["errors"]:
            for name in re.findall(r"\{(.*?)\}", row["text"]):
                self.known(row.line_of("text"), name, ["port"], "place holder")
            if row["text"].count("{") > 1:
                self.bad.add(row.line_of("text"), f"error {row['name']} has more than one place holder")
        for machine in doc["machines"]:
            names = [s["name"] for s in machine["states"]]
            self.unique(machine["states"], "name", "state")
            for row in machine["transitions"]:
                self.known(row.line_of("from"), row["from"], names, "state")
                self.known(row.line_of("to"), row["to"], names, "state")

    def build(self):
        doc = self.doc
        for table, key, what in (("limits", "name", "limit"), ("close_codes", "number", "close code"), ("close_codes", "name", "close code"),
                                 ("fields", "name", "field"), ("messages", "name", "message"), ("errors", "name", "error"),
                                 ("ends", "name", "end"), ("machines", "name", "machine"), ("roles", "name", "role")):
            self.unique(doc[table], key, what)
        ids = self.unique(doc["rules"], "id", "rule")
        self.known_rule(doc.line_of("bad_message"), doc["bad_message"], ids)
        limits = {r["name"]: r["value"] for r in doc["limits"]}
        fields = {r["name"]: self.field(r, limits) for r in doc["fields"]}
        messages = [self.message(i, r, fields) for i, r in enumerate(doc["messages"], 1)]
        self.tables(limits)
        self.rule_refs(ids)
        self.bad.check()
        return TextWire(doc, doc["protocol"], limits, list(fields.values()), messages, {r["id"]: r for r in doc["rules"]},
                        doc["bad_message"])


def load_file(path):
    """The checked model of one file. Raises SpecError with every problem found."""
    schema = os.path.join(os.path.dirname(__file__), "..", "spec", "vtunnel.schema.json")
    return _Checker(specfile.load(path, schema)).build()


@specfile.once
def load(spec_dir, name="vtunnel"):
    """The same of spec_dir/NAME.yaml."""
    return load_file(os.path.join(spec_dir, f"{name}.yaml"))


def spec_of(output):
    """vtunnel_gen.h, vtunnel_vectors.json, vtunnel.md -> vtunnel."""
    return re.match(r"[a-z]+", output).group()


def pieces(text):
    """What stands before and behind {port}."""
    before, _, behind = text.partition("{port}")
    return before, behind


def mask(machine, state, prefix):
    to = dict.fromkeys(t["to"] for t in machine["transitions"] if t["from"] == state)
    return " | ".join(f"1u << {prefix}_{name.upper()}" for name in to) or "0"


def render(name, spec_dir):
    spec = spec_of(name)
    return render_template("text_gen." + name[-1] + ".j2", w=load(spec_dir, spec), banner=banner(spec + ".yaml"), cstr=c_string,
                           pieces=pieces, mask=mask, roles=ROLES)
