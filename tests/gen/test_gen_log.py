"""spec/log.yaml and what comes of it: bad specs, and the schema of a JSON line."""

import json
import os

import jsonschema

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


@case("a field twice, one like a member of each line, and a text that begins somewhere are told with their line")
def _():
    field = "  - {name: session, type: text, doc: The session's id.}\n"
    again = "  - {name: session, type: text, doc: Once more.}\n"
    expect_complaint("log_gen.h", SPEC, [(field, field + again)], again, "'session' is there twice")
    expect_complaint("log_gen.h", SPEC, [("{name: peer, ", "{name: message, ")], "{name: message, ", "each line has a member")
    expect_complaint("log_gen.h", SPEC, [("{name: reason, type: text, ", "{name: reason, type: text, from: 1, ")],
                     "{name: reason, ", "only a number")


if __name__ == "__main__":
    main()
