"""Seeded faults (conformance/faults.yaml): they break rules of the spec, there are enough of them, and each fits the sources."""

import os
import sys

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)
os.chdir(ROOT)

from gen import protocol, textwire  # noqa: E402  pylint: disable=wrong-import-position
from tests.support import edits  # noqa: E402  pylint: disable=wrong-import-position
from tests.support.tap import case, main  # noqa: E402  pylint: disable=wrong-import-position

with open("conformance/faults.yaml", encoding="utf-8") as faults:
    ROWS = yaml.safe_load(faults)["faults"]


@case("every seeded fault is named for the rule of the spec that it breaks")
def _():
    rules = {**protocol.load("spec").rules, **textwire.load("spec").rules}
    strange = [r["id"] for r in ROWS if r["rule"] not in rules or r["id"].split("_")[:2] != r["rule"].split("-")]
    assert not strange, strange


@case("there is a fault for nearly every rule, and one at least in each room that keeps rules")
def _():
    missing = sorted(set(protocol.load("spec").rules) - {r["rule"] for r in ROWS})
    assert len({r["id"] for r in ROWS}) >= 100 and len(missing) <= 12, (len(ROWS), missing)
    # Rules of clients, and what takes longer than a case: coverage.yaml says which.
    second = sorted(set(textwire.load("spec").rules) - {r["rule"] for r in ROWS})
    assert len(second) <= 10, second
    rooms = {r["file"].split("/")[1] for r in ROWS if r["file"].startswith("src/")}
    assert {"json", "wire", "flow", "mux", "http", "ws", "relay", "kit", "driver"} <= rooms, rooms


@case("each fits the sources once, and changes them; those of one id fit one after the other")
def _():
    texts, wrong = {}, []
    for row in ROWS:
        key = row["id"], row["file"]
        if key not in texts:
            with open(row["file"], encoding="utf-8") as f:
                texts[key] = f.read()
        try:
            after = edits.apply(texts[key], row["from"], row["to"])
        except edits.Misfit as e:
            wrong.append(f"{row['id']}: {row['file']}: {e}")
            continue
        if after == texts[key]:
            wrong.append(f"{row['id']}: {row['file']}: changes nothing")
        texts[key] = after
    assert not wrong, "\n".join(wrong)


@case("an edit sees through white space, and refuses what is not there, there twice, or only a part of a word")
def _():
    text = "if (a &&\n    b)\n    return;\nx = 1; x = 1;"
    assert edits.apply(text, "if (a && b)", "if (a)") == "if (a)\n    return;\nx = 1; x = 1;"
    for old in ("x = 1;", "if (a || b)", "eturn;", "if (a && b) ret"):
        try:
            edits.apply(text, old, "")
        except edits.Misfit:
            continue
        raise AssertionError(old)


if __name__ == "__main__":
    main()
