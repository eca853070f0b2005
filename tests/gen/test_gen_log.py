"""spec/log.yaml and what comes of it: bad specs, and the schema of a JSON line."""

import json
import os
import re

import jsonschema
import yaml

from gen import log
from tests.gen.scratch import ROOT, complaints, expect_complaint
from tests.support.tap import case, main

SPEC = "log.yaml"


@case("the spec is good, and its schema of a line takes a line and nothing else")
def _():
    assert complaints("log_gen.h", SPEC, []) == []
    schema = json.loads(log.render("log_line.schema.json", os.path.join(ROOT, "spec")))
    check = jsonschema.Draft202012Validator(schema)
    line = {"time": "2026-01-31T12:00:00.000Z", "level": "info", "area": "kit", "message": "m", "port": 1}
    assert check.is_valid(line)
    for wrong in ({**line, "port": "1"}, {**line, "port": 0}, {**line, "other": 1}, {**line, "level": "loud"}, {"time": "x"}):
        assert not check.is_valid(wrong), wrong


@case("each area that a line of the sources names is one of the spec's")
def _():
    with open(os.path.join(ROOT, "spec", SPEC), encoding="utf-8") as f:
        known = {row["name"] for row in yaml.safe_load(f)["areas"]}
    found = {}
    for at, _folders, names in os.walk(os.path.join(ROOT, "src")):
        for name in names:
            if name.endswith((".c", ".h")):
                with open(os.path.join(at, name), encoding="utf-8") as f:
                    for area in re.findall(r'\bht_(?:log\w*|error|warn|info|debug)\(\s*(?:[^";{}]*,\s*)?"(\w+)"\s*,', f.read()):
                        found.setdefault(area, name)
    assert set(found) <= known and len(found) > 4, found


@case("duplicate fields, reserved names and a text with `from` are reported with their line")
def _():
    field = "  - {name: session, type: text, doc: The session's id.}\n"
    again = "  - {name: session, type: text, doc: Once more.}\n"
    expect_complaint("log_gen.h", SPEC, [(field, field + again)], again, "'session' is there twice")
    expect_complaint("log_gen.h", SPEC, [("{name: peer, ", "{name: message, ")], "{name: message, ", "each line has a member")
    expect_complaint("log_gen.h", SPEC, [("{name: reason, type: text, ", "{name: reason, type: text, from: 1, ")],
                     "{name: reason, ", "only a number")


if __name__ == "__main__":
    main()
