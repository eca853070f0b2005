"""What `--json` prints and what `--audit` writes: bad specs, the schema of a line, and the words that programs rely on."""

import json
import os

import jsonschema

from gen import events
from tests.gen.scratch import ROOT, complaints, expect_complaint
from tests.support.tap import case, main

SPEC = "options.yaml"
LINE = {"event": "audit", "time": "2026-01-31T12:00:00.000Z", "binding": 1, "request": 7, "over": True, "name": "api.test:443", "method": "GET",
        "path": "/v1", "query": None, "peer": "127.0.0.1:40000", "allowed": False, "reason": "denied-by-rule", "rule": "GET /v1",
        "secret": False, "status": 403, "bytesIn": 0, "bytesOut": 0, "durationUs": 12, "error": None}


@case("the schema of a line of the audit takes its lines, and refuses other words, types and missing members")
def _():
    assert complaints("audit_gen.h", SPEC, []) == []
    schema = json.loads(events.render("audit_line.schema.json", os.path.join(ROOT, "spec")))
    check = jsonschema.Draft202012Validator(schema)
    gap = {"event": "audit_gap", "time": LINE["time"], "lines": 3}
    for good in (LINE, {**LINE, "status": None, "method": None, "path": None}, gap, {**gap, "later": "member"}):
        assert check.is_valid(good), good
    for wrong in ({**LINE, "reason": "because"}, {**LINE, "request": "7"}, {**LINE, "name": None}, {**LINE, "status": -1},
                  {k: v for k, v in LINE.items() if k != "secret"}, {**LINE, "event": "ended"}, {**gap, "lines": None}):
        assert not check.is_valid(wrong), wrong


@case("a decision's name or word that is there twice, or no status, is reported with its line")
def _():
    rate = "  - {name: rate, word: rate, "
    expect_complaint("audit_gen.h", SPEC, [(rate, "  - {name: host, word: rate, ")], "  - {name: host, word: rate, ", "'host' is used twice")
    expect_complaint("audit_gen.h", SPEC, [(rate, "  - {name: rate, word: another-host, ")], "  - {name: rate, word: another-host, ",
                     "'another-host' is used twice")
    expect_complaint("audit_gen.h", SPEC, [(rate + "status: 429", rate + "status: 99")], rate + "status: 99", "99")


@case("what programs rely on stays: the words of decisions and their statuses")
def _():
    header = events.render("audit_gen.h", os.path.join(ROOT, "spec"))
    for row in ('X(ALLOWED, "allowed", 200,', 'X(DENIED, "denied-by-rule", 403,', 'X(UNNAMED, "no-rule-allows-it", 403,',
                'X(PATH, "ambiguous-path", 400,', 'X(METHOD, "method-not-served", 405,', 'X(HOST, "another-host", 421,',
                'X(PLACEHOLDER, "placeholder-elsewhere", 403,', 'X(PLAINTEXT, "secret-over-plain-http", 403,', 'X(RATE, "rate", 429,',
                'X(SECRET, "secret-unreadable", 503,', 'X(AUDIT, "audit-unwritable", 503,', 'X(MEMORY, "out-of-memory", 503,'):
        assert row in header, row


if __name__ == "__main__":
    main()
