"""spec/log.yaml and what comes of it: bad specs, the schema of a JSON line, and one start of the generator for all of it."""

import json
import os
import re
import subprocess
import tempfile

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


@case("one start makes all that is due of a spec; what comes out as it was keeps its time; what was taken away comes back")
def _():
    with tempfile.TemporaryDirectory() as folder:
        files = [os.path.join(folder, "gen", name) for name in ("log_gen.h", "log_line.schema.json")]
        clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}

        def starts(*more):
            done = subprocess.run(["make", "--no-print-directory", "-C", ROOT, f"W={folder}", *more, *files], check=True,
                                  capture_output=True, text=True, timeout=120, env=clean)
            return done.stdout.count("  GEN ")

        assert starts() == 1
        times = [os.stat(path).st_mtime_ns for path in files]
        assert starts("-W", "gen/log.py") == 1 and [os.stat(path).st_mtime_ns for path in files] == times
        os.remove(files[1])
        starts()
        assert os.path.exists(files[1])


if __name__ == "__main__":
    main()
