"""spec/protocol.yaml: loaded, checked beyond what its JSON Schema can say, turned into a typed model, rendered as C.

load() returns a Protocol; the other outputs (vectors, Python codec, reference) start from it too.
"""

import os
import re
from dataclasses import dataclass, field as dc_field

from gen import specfile
from gen.render import banner, render as render_template

SCALARS = ("uint", "bool", "string", "httpbytes", "enum")
INT_SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
MAX_SAFE = 2 ** 53 - 1
# What the spec cannot do without: the generators and the runtime name these.
NEEDED_LIMITS = ("HEADER", "MAX_PAYLOAD", "MAX_MESSAGE", "MAX_FRAMES", "JSON_DEPTH", "JSON_KEYS")
# The codec is built for one value of these: they cannot differ between versions.
FIXED_LIMITS = ("HEADER", "MAX_PAYLOAD", "JSON_DEPTH", "JSON_KEYS")
NEEDED_RULES = ("MSG-2", "MSG-3", "MSG-4", "MSG-5", "FRAME-2", "FRAME-3", "FRAME-4", "FRAME-8", "FRAME-9", "JSON-1",
                "JSON-2", "JSON-3", "JSON-4", "JSON-5", "FIELD-1", "FIELD-2", "FIELD-3", "FIELD-4", "FIELD-5",
                "FIELD-6", "FIELD-7")


def snake(name):
    """clientBindRef -> client_bind_ref, the name in C."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def version_number(name):
    """v2 -> 2; nothing -> 0."""
    return int(name[1:]) if name else 0


@dataclass
class Field:
    name: str
    type: str
    doc: str
    cname: str
    of: object = None            # Enum or Record, or the name of a scalar type
    required: bool = False
    default: object = None
    has_default: bool = False
    nullable: bool = True
    emit_null: bool = False
    omit_empty: bool = False
    min: int = 0
    max: int = 0
    item_min: int = 0
    item_max: int = 0
    unknown: str = "refuse"
    when: tuple = None           # (Field, EnumValue): only then written and required
    since: int = 0               # version numbers; 0: no bound
    until: int = 0
    capability: str = ""
    sender: str = ""             # only written by this role
    salvage: bool = False
    size: int = 0
    rule: str = ""

    @property
    def optional(self):
        """True when the C struct carries `has_<cname>`."""
        return self.type != "list" and not self.has_default and (self.salvage or not self.required)

    @property
    def ctype(self):
        return ctype(self.type, self.of, self.max)

    @property
    def ctype_item(self):
        """C type of a list's items, when they are scalars."""
        return ctype(self.of, None, self.item_max)


def ctype(kind, of, top):
    if kind == "uint":
        return "uint16_t" if top <= 0xFFFF else "uint32_t" if top <= 0xFFFFFFFF else "uint64_t"
    return {"bool": "bool", "string": "struct ht_slice", "httpbytes": "struct ht_slice", "text": "struct ht_slice",
            "enum": f"enum wire_{getattr(of, 'name', '')}", "record": f"struct wire_{getattr(of, 'name', '')}",
            "u8": "uint8_t", "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t"}[kind]


@dataclass
class Record:
    name: str
    layout: str                  # object | tuple
    doc: str
    fields: list
    one_of: list = dc_field(default_factory=list)

    def lists(self):
        """Every list below this record: (C path, C item type, most items, item Field)."""
        out = []
        for f in self.fields:
            if f.type == "list":
                item = f"struct wire_{f.of.name}" if isinstance(f.of, Record) else ctype(f.of, None, f.item_max)
                out.append((f.cname, item, f.max))
            elif f.type == "record":
                out += [(f"{f.cname}_{path}", item, top) for path, item, top in f.of.lists()]
        return out


@dataclass
class EnumValue:
    name: str
    text: str
    doc: str
    number: int


@dataclass
class Enum:
    name: str
    prefix: str
    doc: str
    values: list

    def value(self, text):
        return next((v for v in self.values if v.text == text), None)


@dataclass
class Frame:
    number: int
    name: str
    doc: str
    since: int                   # version numbers; `until` 0: no bound
    until: int
    sender: str
    zero: str
    any_link: bool               # of stream 0, and yet on every link (FRAME-10)
    legal_in: list
    sent_in: list
    stream_states: list
    gone: str
    flow_controlled: bool
    hot: bool
    capability: str
    scope: str
    code: str
    close: int
    rules: list
    format: str
    struct: str
    record: Record
    min_len: int
    max_len: int
    line: int

    @property
    def cname(self):
        return self.name.lower()


@dataclass
class Protocol:
    raw: dict
    path: str
    limits: dict
    codes: list
    close_codes: list
    enums: dict
    records: dict
    frames: list
    link_states: list
    stream_states: list
    type_ranges: list
    rules: dict
    newest: int                  # version number
    limit_changes: dict          # name -> {version number: value}, only of limits that differ between versions

    def limit_top(self, name):
        """The largest value of any version."""
        return max([self.limits[name], *self.limit_changes.get(name, {}).values()])

    def frame(self, name):
        return next(f for f in self.frames if f.name == name)

    def structs(self):
        """One frame per C struct name: frames may share one."""
        seen = {}
        for f in self.frames:
            if f.format in ("json", "binary"):
                seen.setdefault(f.struct, f)
        return list(seen.values())


class _Checker(specfile.Checks):
    """Builds the model and collects complaints, each at the line of the thing that is wrong."""

    def __init__(self, doc):
        super().__init__(doc)
        self.limits = {}
        self.enums = {}
        self.records = {}
        self.limit_changes = {}
        self.versions = [v["name"] for v in doc["versions"]]

    # -- versions --

    def numbering(self):
        """Versions are v1, v2, ... in order, and the enum `version`, where there is one, names their subprotocols."""
        rows = self.doc["versions"]
        self.unique(rows, "name", "version")
        self.unique(rows, "subprotocol", "subprotocol")
        for i, row in enumerate(rows, 1):
            if row["number"] != i or row["name"] != f"v{i}":
                self.bad.add(row.line, f"version {row['name']} has number {row['number']}; versions are numbered in order, "
                                       f"so this one is v{i} with number {i}")
        texts = [r["subprotocol"] for r in rows]
        if "version" in self.enums and [v.text for v in self.enums["version"].values] != texts:
            line = next(e.line_of("values") for e in self.doc["enums"] if e["name"] == "version")
            self.bad.add(line, f"the values of version must be the subprotocols in order: {', '.join(texts)}")

    def spans(self):
        """Every since and until names a version, and none ends before it begins."""
        def visit(node):
            if isinstance(node, specfile.Map):
                known = [self.known(node.line_of(k), node[k], self.versions, "version")
                         for k in ("since", "until") if isinstance(node.get(k), str)]
                if len(known) == 2 and all(known) and version_number(node["until"]) < version_number(node["since"]):
                    self.bad.add(node.line_of("until"), f"until {node['until']} is before since {node['since']}; "
                                                        "swap them or mend one")
            if isinstance(node, (specfile.Map, specfile.Seq)):
                for item in node.values() if isinstance(node, specfile.Map) else node:
                    visit(item)
        visit(self.doc)

    def changes(self):
        """Limits that have another value from some version on."""
        for row in self.doc["limits"]:
            for name, value in row.get("changes", {}).items():
                line = row["changes"].line_of(name)
                if row["name"] in FIXED_LIMITS:
                    self.bad.add(line, f"limit {row['name']} cannot change: one codec serves all versions")
                elif self.known(line, name, self.versions[1:], "later version"):
                    self.limit_changes.setdefault(row["name"], {})[version_number(name)] = value
            self.capability(row)

    # -- fields --

    def bounds(self, row, where, kind, payload):
        """Bounds that contradict each other or that no frame can hold."""
        low, top = row.get("min", 0), row.get("max")
        if kind in ("uint", "string", "httpbytes", "list") and top is None:
            self.bad.add(row.line, f"{where} has no 'max'; every {kind} needs an upper bound")
            top = 0
        if top is not None and low > top:
            self.bad.add(row.line_of("min"), f"{where}: min {low} is above max {top}; swap them or mend one")
        if kind == "uint" and top > MAX_SAFE:
            self.bad.add(row.line_of("max"), f"{where}: max {top} is more than a JSON number can carry exactly; "
                                             f"at most {MAX_SAFE}")
        if kind in ("string", "httpbytes", "text") and (top or 0) > payload:
            self.bad.add(row.line_of("max"), f"{where}: max {top} is larger than the frame; at most {payload}")
        if kind == "list" and 2 * top > payload:
            self.bad.add(row.line_of("max"), f"{where}: {top} items are larger than the frame; at most {payload // 2}")
        if kind == "list" and row.get("of") in ("string", "httpbytes", "uint"):
            if "item_max" not in row:
                self.bad.add(row.line, f"{where} has no 'item_max'; every item of a list needs an upper bound")
            elif row.get("item_min", 0) > row["item_max"]:
                self.bad.add(row.line_of("item_min"), f"{where}: item_min {row['item_min']} is above item_max "
                                                      f"{row['item_max']}; swap them or mend one")
            elif row["of"] != "uint" and row["item_max"] > payload:
                self.bad.add(row.line_of("item_max"),
                             f"{where}: item_max {row['item_max']} is larger than the frame; at most {payload}")
        return low, top or 0

    def default_of(self, row, where, kind, low, top, of):
        value = row["default"]
        good = {
            "uint": lambda: type(value) is int and (low <= value <= top or value == 0),
            "bool": lambda: isinstance(value, bool),
            "string": lambda: isinstance(value, str) and len(value.encode()) <= top,
            "httpbytes": lambda: isinstance(value, str) and len(value) <= top,
            "enum": lambda: of is not None and of.value(value) is not None,
            "list": lambda: isinstance(value, list) and not value,
        }.get(kind, lambda: False)()
        if not good:
            want = {"list": "[]", "record": "none: leave the field optional"}.get(kind, f"a {kind} in its bounds")
            self.bad.add(row.line_of("default"), f"{where}: default {value!r} does not fit; right would be {want}")
        if row.get("required"):
            self.bad.add(row.line_of("default"), f"{where} is required and has a default; keep one of the two")

    def field(self, row, owner, earlier, payload):
        where = f"{owner}.{row['name']}"
        kind, of = row["type"], None
        if kind == "enum" and self.needs_of(row, where, self.enums, "enum"):
            of = self.enums[row["of"]]
        elif kind == "record" and self.needs_of(row, where, self.records, "record"):
            of = self.records[row["of"]]
        elif kind == "list":
            if self.needs_of(row, where, [*self.records, "string", "httpbytes", "uint"], "list item"):
                of = self.records.get(row["of"], row["of"])
                if isinstance(of, Record) and any(f.type == "list" for f in of.fields):
                    self.bad.add(row.line_of("of"), f"{where}: a list of '{row['of']}', which holds a list itself; "
                                                    "use a record without lists")
        elif "of" in row:
            self.bad.add(row.line_of("of"), f"{where}: 'of' means nothing for a {kind}; remove it")
        low, top = self.bounds(row, where, kind, payload)
        if "default" in row:
            self.default_of(row, where, kind, low, top, of)
        out = Field(name=row["name"], type=kind, doc=row["doc"], cname=snake(row["name"]), of=of,
                    required=row.get("required", False), default=row.get("default"), has_default="default" in row,
                    nullable=row.get("nullable", not row.get("required", False)), emit_null=row.get("emit_null", False),
                    omit_empty=row.get("omit_empty", kind == "list" and low > 0 and not row.get("required")),
                    min=low, max=top, item_min=row.get("item_min", 0),
                    item_max=row.get("item_max", 0), unknown=row.get("unknown", "refuse"),
                    since=version_number(row.get("since")), until=version_number(row.get("until")),
                    capability=row.get("capability", ""), sender=row.get("from", ""), salvage=row.get("salvage", False))
        if out.sender and not out.omit_empty and out.required:
            self.bad.add(row.line_of("from"), f"{where} has 'from' and is required; "
                                               "the other role could never send the frame")
        if "when" in row:
            (name, text), = row["when"].items()
            by = next((f for f in earlier if f.name == name), None)
            if by is None or by.type != "enum" or by.of is None:
                self.bad.add(row.line_of("when"), f"{where}: 'when' names '{name}', which is no enum field above it")
            elif self.known(row.line_of("when"), text, [v.text for v in by.of.values], f"value of {name}"):
                out.when = (by, by.of.value(text))
        self.capability(row)
        return out

    def needs_of(self, row, where, among, what):
        if "of" not in row:
            self.bad.add(row.line, f"{where} has no 'of'; name the {what}")
            return False
        return self.known(row.line_of("of"), row["of"], list(among), what)

    def capability(self, row):
        if "capability" in row:
            self.known(row.line_of("capability"), row["capability"],
                       [c["name"] for c in self.doc.get("capabilities", [])], "capability")

    def record(self, row, payload):
        fields = []
        self.unique(row["fields"], "name", f"field name of {row['name']}:")
        for frow in row["fields"]:
            if row["layout"] == "tuple":
                if not frow.get("required"):
                    self.bad.add(frow.line, f"{row['name']}.{frow['name']}: a tuple has no optional items; "
                                            "add required: true")
                if frow["type"] in ("list", "record"):
                    self.bad.add(frow.line_of("type"), f"{row['name']}.{frow['name']}: a tuple holds scalars only")
                for key in ("since", "until"):
                    if key in frow:
                        self.bad.add(frow.line_of(key), f"{row['name']}.{frow['name']}: a tuple has the same items in every "
                                                        "version; make another record")
            fields.append(self.field(frow, row["name"], fields, payload))
        return Record(row["name"], row["layout"], row["doc"], fields)

    def binary_fields(self, rows, owner, payload):
        out, fixed, rest = [], 0, 0
        self.unique(rows, "name", f"field name of {owner}:")
        for i, row in enumerate(rows):
            where, kind = f"{owner}.{row['name']}", row["type"]
            low, top = self.bounds(row, where, kind, payload)
            if kind == "bytes" and "size" not in row:
                self.bad.add(row.line, f"{where} has no 'size'; a bytes field has a fixed one")
            if kind == "bytes" and row.get("size", 0) > payload:
                self.bad.add(row.line_of("size"), f"{where}: size {row['size']} is larger than the frame; "
                                                   f"at most {payload}")
            if kind == "text":
                if i != len(rows) - 1:
                    self.bad.add(row.line, f"{where}: text takes the rest of the payload, so it must be the last field")
                if "max" not in row:
                    self.bad.add(row.line, f"{where} has no 'max'; every text needs an upper bound")
                rest = top
            size = INT_SIZES.get(kind, row.get("size", 0))
            if kind in INT_SIZES:
                top = min(row.get("max", 256 ** size - 1), 256 ** size - 1)
                if top > MAX_SAFE:
                    self.bad.add(row.line, f"{where}: a u64 needs a 'max' of at most {MAX_SAFE}; not every language's numbers "
                                           "can carry more exactly")
            fixed += size
            if fixed + rest > payload:
                self.bad.add(row.line, f"{where}: {fixed + rest} bytes up to here are larger than the frame; "
                                       f"at most {payload}")
            out.append(Field(name=row["name"], type=kind, doc=row["doc"], cname=snake(row["name"]), required=True,
                             nullable=False, min=low, max=top, size=size, rule=row.get("rule", "FIELD-3")))
        return out, fixed, fixed + rest

    # -- frames --

    def frame(self, row, states, stream_states):
        name, payload = row["name"], self.limits.get("MAX_PAYLOAD", 65536)
        if "stream_zero" not in row:
            self.bad.add(row.line, f"{name} has no stream_zero rule; say zero, nonzero or any")
        for key in ("legal_in", "sent_in"):
            for i, state in enumerate(row.get(key, [])):
                self.known(row[key].line_of(i), state, states, "link state")
        for i, state in enumerate(row.get("stream_states", [])):
            self.known(row["stream_states"].line_of(i), state, stream_states, "stream state")
        if row.get("stream_zero") == "zero" and "stream_states" in row:
            self.bad.add(row.line_of("stream_states"), f"{name} concerns the session (stream_zero: zero); "
                                                        "remove stream_states")
        if row.get("any_link") and row.get("stream_zero") != "zero":
            self.bad.add(row.line_of("any_link"), f"{name} concerns streams, which stay on their link; remove any_link")
        if row.get("stream_zero") == "nonzero" and not ("stream_states" in row and "gone" in row):
            self.bad.add(row.line, f"{name} concerns streams; add stream_states and gone")
        cost = row["violation"]
        self.known(cost.line_of("code"), cost["code"], [c["name"] for c in self.doc["codes"]], "code")
        self.known(cost.line_of("close"), cost["close"], [c["number"] for c in self.doc["close_codes"]], "close code")
        if cost["scope"] == "stream" and row.get("stream_zero") == "zero":
            self.bad.add(cost.line_of("scope"), f"{name} has no stream to reset; scope must be session or reply")
        self.capability(row)
        covered = [r for r in self.doc["type_ranges"] if r["from"] <= row["number"] <= r["to"]]
        if covered and covered[0]["from"] >= 0x80 and row["since"] == self.versions[0]:
            self.bad.add(row.line_of("number"), f"{name}: 0x{row['number']:02X} ends the session with old peers; "
                                                "use 0x40-0x7F (EXT-2)")
        body = row["payload"]
        form, record, low, top = body["format"], None, 0, payload
        if form == "json":
            fake = specfile.Map(name=name, layout="object", doc=row["doc"], fields=body["fields"])
            fake.line, fake.path, fake.key_lines = body.line, row.path, {}
            record = self.record(fake, payload)
            record.one_of = [f for f in record.fields if f.name in body.get("one_of", [])]
            for i, other in enumerate(body.get("one_of", [])):
                self.known(body["one_of"].line_of(i), other, [f.name for f in record.fields if f.type == "list"],
                           "list field")
        elif form == "binary":
            fields, low, top = self.binary_fields(body["fields"], name, payload)
            record = Record(name, "binary", row["doc"], fields)
        else:
            top = payload if form == "bytes" else 0
        struct = row.get("struct", name.lower())
        if record:
            record.name = struct
        after = [s for s in row["legal_in"] if s in ("open", "closing")]
        return Frame(row["number"], name, row["doc"], version_number(row["since"]),
                     version_number(row.get("until")), row["sender"], row.get("stream_zero", "any"),
                     row.get("any_link", False), list(row["legal_in"]),
                     list(row.get("sent_in", after)), list(row.get("stream_states", [])),
                     row.get("gone", "ignore"), row["flow_controlled"], row.get("hot", False),
                     row.get("capability", ""), cost["scope"], cost["code"], cost["close"],
                     list(row.get("rules", [])), form, struct, record, low, top, row.line)

    def tables(self):
        """Small tables that name each other."""
        doc = self.doc
        for name in NEEDED_LIMITS:
            if name not in self.limits:
                self.bad.add(doc.line_of("limits"), f"limit {name} is missing; the codecs need it")
        for row in doc.get("goaways", []):
            self.known(row.line_of("code"), row["code"], [c["name"] for c in doc["codes"]], "code")
            self.known(row.line_of("close"), row["close"], [c["number"] for c in doc["close_codes"]], "close code")
        for row in doc.get("binding_pairs", []):
            for key in ("kind", "mode"):
                if key in self.enums:
                    self.known(row.line_of(key), row[key], [v.text for v in self.enums[key].values], key)
        for machine in doc.get("machines", []):
            names = [s["name"] for s in machine["states"]]
            self.unique(machine["states"], "name", "state")
            if machine["name"] == "stream":
                for row in machine["states"]:
                    self.known(row.line_of("name"), row["name"], [s["name"] for s in doc["stream_states"]],
                               "stream state")
            for row in machine["transitions"]:
                self.known(row.line_of("from"), row["from"], names, "state")
                self.known(row.line_of("to"), row["to"], names, "state")
        ranges = sorted(doc["type_ranges"], key=lambda r: r["from"])
        expected = 0
        for row in ranges:
            if row["from"] != expected or row["to"] < row["from"]:
                self.bad.add(row.line, "type ranges must cover 0x00-0xFF without gap or overlap; "
                                       f"this one should start at 0x{expected:02X}")
            expected = row["to"] + 1
        if expected != 256:
            self.bad.add(ranges[-1].line_of("to"), f"type ranges end at 0x{expected - 1:02X}; "
                                                  "the last must end at 0xFF")

    def build(self):
        doc = self.doc
        self.limits = {r["name"]: r["value"] for r in doc["limits"]}
        self.unique(doc["limits"], "name", "limit")
        self.unique(doc["codes"], "number", "code number")
        self.unique(doc["codes"], "name", "code")
        self.unique(doc["close_codes"], "number", "close code")
        self.unique(doc["enums"], "name", "enum")
        self.unique(doc.get("records", []), "name", "record")
        self.unique(doc["frames"], "number", "frame number", lambda n: f"0x{n:02X}")
        self.unique(doc["frames"], "name", "frame")
        self.unique(doc["link_states"], "name", "link state")
        ids = self.unique(doc["rules"], "id", "rule")
        for needed in NEEDED_RULES:
            if needed not in ids:
                self.bad.add(doc.line_of("rules"), f"rule {needed} is missing; the codecs report it")
        for row in doc["enums"]:
            self.unique(row["values"], "name", f"value of {row['name']}")
            self.unique(row["values"], "text", f"text of {row['name']}")
            values = [EnumValue(v["name"], v["text"], v["doc"], i) for i, v in enumerate(row["values"], 1)]
            prefix = row.get("prefix", row["name"].upper() + "_")
            self.enums[row["name"]] = Enum(row["name"], prefix, row["doc"], values)
        payload = self.limits.get("MAX_PAYLOAD", 65536)
        for row in doc.get("records", []):
            self.records[row["name"]] = self.record(row, payload)
        self.numbering()
        self.spans()
        self.changes()
        for row in doc["rules"]:
            self.capability(row)
        states = [s["name"] for s in doc["link_states"]]
        frames = [self.frame(row, states, [s["name"] for s in doc["stream_states"]]) for row in doc["frames"]]
        self.tables()
        self.rule_refs(ids)
        self.bad.check()
        return Protocol(doc, doc.path, self.limits, doc["codes"], doc["close_codes"], self.enums, self.records,
                        sorted(frames, key=lambda f: f.number), doc["link_states"], doc["stream_states"],
                        sorted(doc["type_ranges"], key=lambda r: r["from"]), {r["id"]: r for r in doc["rules"]},
                        max(v["number"] for v in doc["versions"]), self.limit_changes)


def load_file(path):
    """The checked model of one file. Raises SpecError with every problem found."""
    schema = os.path.join(os.path.dirname(__file__), "..", "spec", "protocol.schema.json")
    return _Checker(specfile.load(path, schema)).build()


@specfile.once
def load(spec_dir):
    """The same of spec_dir/protocol.yaml."""
    return load_file(os.path.join(spec_dir, "protocol.yaml"))


def c_string(text):
    """A C string literal, for ASCII text."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def cap_name(capability):
    return "WIRE_CAP_" + capability.upper().replace("-", "_")


def span(f, what):
    """A C condition: the version and the capabilities of `what` are ones that know `f`. Empty: all do."""
    out = [f"{what}->version >= {f.since}"] if f.since > 1 else []
    out += [f"{what}->version <= {f.until}"] if f.until else []
    return " && ".join(out + ([f"{what}->caps & {cap_name(f.capability)}"] if f.capability else []))


def render(name, spec_dir):
    return render_template(name + ".j2", p=load(spec_dir), banner=banner("protocol.yaml"), cstr=c_string,
                           isrecord=lambda x: isinstance(x, Record),
                           span=span, cap_name=cap_name, loop_index=lambda fields, f: fields.index(f))
