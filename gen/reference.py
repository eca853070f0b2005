"""spec/protocol.yaml -> protocol.md: the protocol for readers."""

import json

from gen import protocol
from gen.protocol import Record
from gen.render import banner, render as render_template

AREAS = {
    "CONN": "Connecting", "MSG": "Messages", "FRAME": "Frames", "JSON": "JSON payloads", "FIELD": "Fields",
    "HELLO": "Handshake", "AUTH": "Tokens", "RESUME": "Resume", "JOIN": "Secondary sockets", "BIND": "Bindings",
    "PORT": "Ports", "UNBIND": "Unbinding", "TAKEOVER": "Takeover", "STREAM": "Streams", "HTTP": "HTTP streams",
    "TCP": "TCP streams", "FLOW": "Flow control", "KEEP": "Keepalive", "GOAWAY": "Going away", "END": "Ends",
    "ANSWER": "Answers of the kit's own", "PARK": "Parking", "KILL": "Kill", "EXT": "Extensions", "SHARD": "Lost sockets",
}


def cell(text):
    """Text for a table cell."""
    return str(text).replace("|", "\\|").replace("\n", " ").strip()


def type_text(f):
    """A field's type and bounds in words."""
    of = f"[{f.of.name}](#{f.of.name.replace('_', '-')})" if isinstance(f.of, Record) else getattr(f.of, "name", f.of)
    if f.type == "uint":
        return f"integer {f.min}..{f.max}"
    if f.type == "bool":
        return "boolean"
    if f.type == "enum":
        return f"one of [{of}](#{of.replace('_', '-')})" + (", or a later text" if f.unknown == "keep" else "")
    if f.type == "record":
        return of
    if f.type == "list":
        what = of if isinstance(f.of, Record) else f"{of}, each {f.item_min}..{f.item_max}"
        return f"list of {f.min}..{f.max} {what}"
    if f.type == "bytes":
        return f"{f.size} bytes"
    if f.type in ("u8", "u16", "u32", "u64"):
        return f.type + (f", {f.min}..{f.max}" if f.min or f.max < 256 ** f.size - 1 else "")
    names = {"string": "string", "httpbytes": "header bytes", "text": "UTF-8, the rest"}
    return f"{names[f.type]}, {f.min}..{f.max} bytes"


def presence(f):
    """When a field is there."""
    out = []
    if f.required:
        out.append("required")
    elif f.has_default:
        out.append(f"default {json.dumps(f.default)}")
    else:
        out.append("optional")
    if f.when:
        out.append(f"only with {f.when[0].name} `{f.when[1].text}`")
    if f.sender:
        out.append(f"from the {f.sender}")
    if f.emit_null:
        out.append("null when unknown")
    if f.since > 1:
        out.append(f"since v{f.since}")
    if f.until:
        out.append(f"until v{f.until}")
    if f.capability:
        out.append(f"with `{f.capability}`")
    return ", ".join(out)


def violation(f):
    return {"stream": f"RESET of the stream with {f.code}", "session": f"GOAWAY, end of the session with {f.code}",
            "reply": "an error reply"}[f.scope]


def render(name, spec_dir):
    p = protocol.load(spec_dir)
    areas = {}
    for rule in p.rules.values():
        areas.setdefault(rule["id"].rsplit("-", 1)[0], []).append(rule)
    return render_template(name + ".j2", p=p, banner=banner("protocol.yaml"), areas=areas, area_names=AREAS, cell=cell,
                           type_text=type_text, presence=presence, violation=violation)
