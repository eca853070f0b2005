#!/usr/bin/env python3
"""Which rule of spec/protocol.yaml and which answer of spec/openapi.yaml has cases: fails when one has none.

A rule needs a case that keeps it (`rules`) and one that breaks it (`violates`); an operation needs one for each status that
openapi.yaml lists. conformance/coverage.yaml says where only one of the two makes sense, and why; an exception that is
not needed any more is an error too.

    conformance/coverage.py           the table and the verdict
    conformance/coverage.py --quiet   the verdict only
"""

import os
import sys

import yaml

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True

from conformance.lib import cases as case_files  # noqa: E402
from conformance.lib.wire import ROOT, spec  # noqa: E402


def resolve(value, case):
    if isinstance(value, str) and value.startswith("$"):
        return case.variables.get(value[1:], value)
    return value


def steps_of(steps):
    """All steps, those inside `eventually`, `repeat` and `one_of` too."""
    for step in steps:
        if isinstance(step, str):
            step = {step: None}
        if isinstance(step, list):
            yield from steps_of(step)
            continue
        yield step
        for key in ("eventually", "one_of", "steps"):
            if isinstance(step.get(key), list):
                yield from steps_of(step[key])


def answers_of(case):
    """(operation, status) pairs that the steps of a case ask for."""
    for step in steps_of(case.steps):
        status = resolve(step.get("status"), case)
        if "admin" in step:
            yield resolve(step["admin"], case), str(status or 200)
        elif "connect" in step:
            yield "connect", str(status or 101)
        elif "open" in step:
            yield "connect", "101"
        elif "answered_or_ended" in step:
            yield resolve(step.get("operation"), case), str(status)
        elif "sse" in step:
            yield "events", "200"
        elif "sse_until_refused" in step:
            yield "events", str(status or 503)


def rules(cases, exceptions, problems):
    rows = []
    for rule in spec.rules:
        mine = {"positive": [c for c in cases if rule in c.rules], "negative": [c for c in cases if rule in c.violates]}
        excused = exceptions.get(rule) or {}
        for kind, found in mine.items():
            if not found and kind not in excused:
                problems.append(f"{rule} has no {kind} case: {spec.rules[rule]['doc']}")
            if found and kind in excused:
                problems.append(f"{rule} has a {kind} case, but coverage.yaml says that there is none")
        count = {side: tuple(len({c.name for c in mine[k] if c.side == side}) for k in mine) for side in ("kit", "driver")}
        rows.append((rule, count, "; ".join(f"no {k} case: {why}" for k, why in excused.items())))
    for rule in exceptions:
        if rule not in spec.rules:
            problems.append(f"coverage.yaml speaks of {rule}, which is no rule")
    return rows


def operations(cases, exceptions, problems):
    asked = {}
    for case in cases:
        if case.side == "kit":
            for pair in answers_of(case):
                asked.setdefault(pair, set()).add(case.name)
    rows = []
    for name, (_, _, op) in spec.operations.items():
        for status in op["responses"]:
            found, why = asked.get((name, status), set()), exceptions.get(f"{name} {status}")
            if not found and not why:
                problems.append(f"{name} has no case that is answered {status}")
            if found and why:
                problems.append(f"{name} {status} has a case, but coverage.yaml says that there is none")
            rows.append((f"{name} {status}", len(found), why or ""))
    for name, status in asked:
        if name not in spec.operations:
            problems.append(f"a case asks for the operation {name}, which openapi.yaml does not have")
    return rows


def main():
    quiet = "--quiet" in sys.argv
    cases = case_files.load()
    with open(os.path.join(ROOT, "conformance", "coverage.yaml"), encoding="utf-8") as f:
        exceptions = yaml.safe_load(f)
    problems = []
    rule_rows = rules(cases, exceptions["rules"] or {}, problems)
    api_rows = operations(cases, exceptions["operations"] or {}, problems)
    if not quiet:
        print(f"{'rule':<12} {'kit: kept':>10} {'broken':>7}   {'driver: kept':>12} {'broken':>7}")
        for rule, count, why in rule_rows:
            print(f"{rule:<12} {count['kit'][0]:>10} {count['kit'][1]:>7}   {count['driver'][0]:>12} {count['driver'][1]:>7}   {why}")
        print(f"\n{'operation':<24} cases")
        for name, count, why in api_rows:
            print(f"{name:<24} {count:>5}   {why}")
        print()
    names = {side: len({c.name for c in cases if c.side == side}) for side in ("kit", "driver")}
    print(f"{names['kit']} cases for kits, {names['driver']} for drivers, {len(cases)} runs over both versions; "
          f"{len(spec.rules)} rules, {len(api_rows)} answers of operations")
    for problem in problems:
        print(f"conformance-coverage: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
