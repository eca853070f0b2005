"""spec/protocol.yaml -> hoody_wire.py: the codec as tables and one interpreter, for tests and the conformance suite.

The interpreter is gen/hoody_wire.py as it stands, with the tables in the place that it marks.
"""

import os
import pprint
import re

from gen import protocol
from gen.render import banner


def field_row(f):
    row = {"name": f.name, "type": f.type, "min": f.min, "max": f.max}
    if f.type in ("enum", "record", "list"):
        row["of"] = getattr(f.of, "name", f.of)
    if f.type == "list" and isinstance(f.of, str):
        row.update(item_min=f.item_min, item_max=f.item_max)
    if f.size:
        row["size"] = f.size
    if f.rule:
        row["rule"] = f.rule
    if f.has_default:
        row["default"] = f.default if f.type != "list" else []
    if f.since > 1:
        row["since"] = f.since
    if f.until:
        row["until"] = f.until
    if f.when:
        row["when"] = (f.when[0].name, f.when[1].text)
    if f.type == "enum":
        row["unknown"] = f.unknown
    if f.capability:
        row["capability"] = f.capability
    for key in ("required", "nullable", "emit_null", "omit_empty"):
        if getattr(f, key):
            row[key] = True
    return row


def record_row(r):
    return {"layout": r.layout, "fields": [field_row(f) for f in r.fields], "one_of": [f.name for f in r.one_of]}


def frame_row(f):
    return {"name": f.name, "sender": f.sender, "zero": f.zero, "any_link": f.any_link, "legal_in": tuple(f.legal_in),
            "sent_in": tuple(f.sent_in), "stream_states": tuple(f.stream_states), "gone": f.gone,
            "flow_controlled": f.flow_controlled,
            "since": f"v{f.since}", "until": f"v{f.until}" if f.until else "", "capability": f.capability, "format": f.format, "min_len": f.min_len,
            "max_len": f.max_len,
            "scope": f.scope, "code": f.code, "close": f.close,
            "payload": record_row(f.record) if f.record else None}


def render(name, spec_dir):
    p = protocol.load(spec_dir)
    tables = {
        "LIMITS": p.limits,
        "LIMIT_CHANGES": p.limit_changes,
        "CODES": {c["name"]: c["number"] for c in p.codes},
        "CLOSE_CODES": {c["name"]: c["number"] for c in p.close_codes},
        "CAPABILITIES": [c["name"] for c in p.raw.get("capabilities", [])],
        "VERSIONS": {v["name"]: v["number"] for v in p.raw["versions"]},
        "SUBPROTOCOLS": {v["name"]: v["subprotocol"] for v in p.raw["versions"]},
        "CONNECT_PATH": p.raw["connect_path"],
        "RESERVED_PORTS": [r["port"] for r in p.raw.get("reserved_ports", [])],
        "GOAWAYS": {g["name"]: (g["code"], g["message"], g["close"]) for g in p.raw.get("goaways", [])},
        "ANSWERS": {a["name"]: (a["status"], a.get("retry_after", 0), a["body"], a["name"].lower().replace("_", "-"))
                    for a in p.raw.get("visitor_answers", [])},
        "ENUMS": {e.name: {v.text: v.name for v in e.values} for e in p.enums.values()},
        "TYPE_RANGES": [(r["from"], r["to"], r["unknown"], r["rule"]) for r in p.type_ranges],
        "RECORDS": {r.name: record_row(r) for r in p.records.values()},
        "FRAMES": {f.number: frame_row(f) for f in p.frames},
        "RULES": {i: r["doc"] for i, r in p.rules.items()},
    }
    text = [f"{key} = {pprint.pformat(value, width=112, sort_dicts=False)}\n" for key, value in tables.items()]
    text.append("".join(f"{f.name} = 0x{f.number:02X}\n" for f in p.frames))
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as f:
        runtime = f.read()
    made, places = re.subn(r"# ---- tables.*?# ---- end of tables ----\n", lambda _: "\n".join(text), runtime, flags=re.S)
    assert places == 1, f"gen/{name} marks no place for the tables"
    return f"# {banner('protocol.yaml')}\n{made}"
