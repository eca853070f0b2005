"""spec/log.yaml -> log_gen.h: a maker for each field of a log line; log.schema.json: what a JSON line looks like."""

import json
import os

from gen import specfile
from gen.ctext import comment
from gen.render import banner, render as render_template

SPEC = "log.yaml"


@specfile.once
def load(spec_dir):
    path = os.path.join(spec_dir, SPEC)
    doc = specfile.load(path, os.path.join(spec_dir, "log.schema.json"))
    problems = specfile.Problems(os.path.relpath(path) if not os.path.relpath(path).startswith("..") else path)
    for what in ("areas", "fields"):
        seen = {}
        for item in doc[what]:
            name = item["name"]
            if name in seen:
                problems.add(item.line, f"'{name}' is there twice (first on line {seen[name]}); remove one of the two")
            seen[name] = item.line
            if what == "fields" and item["type"] == "text" and "from" in item:
                problems.add(item.line_of("from"), f"field '{name}': only a number has a `from`; take it away")
            if what == "fields" and name in doc["always"]:
                problems.add(item.line, f"field '{name}': each line has a member of that name; take another")
    problems.check()
    return doc


def line_schema(doc):
    """The JSON Schema of a line of --log-format json."""
    kinds = {"text": {"type": "string"}, "number": {"type": "integer", "minimum": 0}}
    properties = {"time": {"type": "string", "format": "date-time"}, "level": {"enum": list(doc["levels"])},
                  "area": {"enum": [a["name"] for a in doc["areas"]]}, "message": {"type": "string"}}
    for field in doc["fields"]:
        properties[field["name"]] = {**kinds[field["type"]], "description": field["doc"]}
        if "from" in field:
            properties[field["name"]]["minimum"] = field["from"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A line of the log", "type": "object",
            "required": list(doc["always"]), "additionalProperties": False, "properties": properties}


def render(name, spec_dir):
    doc = load(spec_dir)
    if name == "log_line.schema.json":
        return json.dumps(line_schema(doc), indent=2) + "\n"
    return render_template(f"{name}.j2", banner=banner(SPEC), fields=doc["fields"], comment=comment)
