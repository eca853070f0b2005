"""A spec with `wire: text` -> vtunnel.md: the protocol for readers."""

from gen import textwire
from gen.reference import cell
from gen.render import banner, render as render_template

AREAS = {"VCONN": "Connecting", "VMSG": "Messages", "VLISTEN": "Ports", "VSTREAM": "Streams", "VDATA": "Data", "VFLOW": "Backpressure",
         "VKEEP": "Keepalive", "VEND": "Ends", "VRETRY": "Coming back"}


def bounds(f):
    if f.type in ("int", "uint"):
        return f"integer {f.min}..{f.max}"
    return ("string" if f.type == "string" else "base64") + f", {f.min}..{f.max} bytes"


def render(name, spec_dir):
    spec = textwire.spec_of(name)
    w = textwire.load(spec_dir, spec)
    areas = {}
    for rule in w.rules.values():
        areas.setdefault(rule["id"].rsplit("-", 1)[0], []).append(rule)
    return render_template("text.md.j2", w=w, banner=banner(spec + ".yaml"), areas=areas, area_names=AREAS, cell=cell, bounds=bounds)
