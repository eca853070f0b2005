"""A spec with `wire: text` -> vtunnel_wire.py: its tables and one interpreter, for tests and the conformance suite.

The interpreter is gen/text_wire.py as it stands, with the tables in the place that it marks. It reads JSON with hoody_wire.py,
which stands beside it.
"""

import os
import pprint
import re

from gen import textwire
from gen.render import banner


def render(name, spec_dir):
    spec = textwire.spec_of(name)
    w = textwire.load(spec_dir, spec)
    tables = {
        "NAME": w.name,
        "LIMITS": w.limits,
        "FIELDS": {f.name: {"type": f.type, "min": f.min, "max": f.max, "rule": f.rule} for f in w.fields},
        "MESSAGES": {m.name: {"senders": m.senders, "stream": m.stream, "fields": [f.name for f in m.fields]} for m in w.messages},
        "BAD_MESSAGE": w.bad_message,
        "CLOSE_CODES": {c["name"]: c["number"] for c in w.raw["close_codes"]},
        "ERRORS": {e["name"]: e["text"] for e in w.raw["errors"]},
        "ENDS": {e["name"]: (e["code"], e["reason"]) for e in w.raw["ends"]},
        "RULES": {i: r["doc"] for i, r in w.rules.items()},
    }
    text = "\n".join(f"{key} = {pprint.pformat(value, width=112, sort_dicts=False)}\n" for key, value in tables.items())
    with open(os.path.join(os.path.dirname(__file__), "text_wire.py"), encoding="utf-8") as f:
        runtime = f.read()
    made, places = re.subn(r"# ---- tables.*?# ---- end of tables ----\n", lambda _: text, runtime, flags=re.S)
    assert places == 1, "gen/text_wire.py marks no place for the tables"
    return f"# {banner(spec + '.yaml')}\n{made}"
