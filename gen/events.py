"""spec/options.yaml, sections `events` and `decisions` -> events_gen.h, events_gen.c: what `--json` prints, one writer for
each event; audit_gen.h: what may be decided about a request, and what a visitor of an exposed service reads; audit_line.schema.json: what a line of `--audit` looks like."""

import json

from gen import options
from gen.ctext import c_string, comment, snake
from gen.render import banner, render as render_template

_C_TYPE = {"text": "const char *", "number": "uint64_t ", "bool": "bool "}
_JSON_TYPE = {"text": "string", "number": "integer", "bool": "boolean"}


def c_type(member):
    return _C_TYPE[member["type"]]


def has_flag(member):
    """A text says by itself that it is missing."""
    return member.get("nullable", False) and member["type"] != "text"


def event_schema(event, model):
    """The JSON Schema of one event's object. Members may be added later, so others are let pass."""
    properties = {"event": {"const": event["name"]}, "time": {"type": "string", "format": "date-time"}}
    for member in event["members"]:
        kind = {"type": [_JSON_TYPE[member["type"]], "null"] if member.get("nullable") else _JSON_TYPE[member["type"]],
                "description": member["doc"]}
        if "words" in member:
            kind = {"enum": [row["word"] for row in model[member["words"]]], "description": member["doc"]}
        if member["type"] == "number":
            kind["minimum"] = 0
        properties[member["name"]] = kind
    return {"description": event["doc"], "type": "object", "required": list(properties), "properties": properties}


def line_schema(model):
    """The JSON Schema of a line of --audit."""
    lines = [event_schema(event, model) for event in model["events"] if event["name"] in ("audit", "audit_gap")]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A line of the audit", "oneOf": lines}


def render(name, spec_dir):
    model = options.load(spec_dir)
    if name == "audit_line.schema.json":
        return json.dumps(line_schema(model), indent=2) + "\n"
    return render_template(f"{name}.j2", banner=banner("options.yaml"), events=model["events"], decisions=model["decisions"], visits=model["visits"],
                           c=c_string, comment=comment, snake=snake, c_type=c_type, has_flag=has_flag)
