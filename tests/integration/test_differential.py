"""The same inputs to our kit and driver, to nginx and to HAProxy: each difference is explained in differences.yaml."""

import os
import re

import yaml

from tests.differential.compare import all_verdicts, versions
from tests.differential.inputs import ANSWERS, REQUESTS
from tests.integration.harness import ROOT
from tests.support.tap import case, main

INPUTS = {"requests": REQUESTS, "answers": ANSWERS}
PROXIES = ("ours", "nginx", "haproxy")

with open(os.path.join(ROOT, "tests/differential/differences.yaml"), encoding="utf-8") as f:
    TABLE = yaml.safe_load(f)
RESULTS = {}


def as_in_table(kind, key, got):
    row = TABLE[kind].get(key)
    return len(set(got.values())) == 1 if row is None else all(got[proxy] == row[proxy] for proxy in PROXIES)


@case("every proxy has an answer to every input")
def _():
    RESULTS.update(all_verdicts(as_in_table if versions() == TABLE["versions"] else None))
    assert len(REQUESTS) >= 150 and len(ANSWERS) >= 80
    for proxy in PROXIES:
        for kind, inputs in INPUTS.items():
            failed = {key: verdict for key in inputs
                      if (verdict := RESULTS[proxy][kind].get(key, "failed")).startswith("failed")}
            assert not failed, (proxy, kind, failed)


@case("what we make of an input is what the table says, and where nobody differs it says nothing")
def _():
    same_versions = versions() == TABLE["versions"]
    wrong = []
    for kind, inputs in INPUTS.items():
        for key in inputs:
            got = {proxy: RESULTS[proxy][kind][key] for proxy in PROXIES}
            row = TABLE[kind].get(key)
            if row is None:
                if same_versions and len(set(got.values())) > 1:
                    wrong.append(f"{kind} {key} is not explained: {got}")
                continue
            if same_versions and len(set(got.values())) == 1:
                wrong.append(f"{kind} {key}: nobody differs any more: {got['ours']}")
            for proxy in PROXIES if same_versions else PROXIES[:1]:
                if got[proxy] != row[proxy]:
                    wrong.append(f"{kind} {key}: {proxy} says {got[proxy]!r}, the table {row[proxy]!r}")
    assert not wrong, "\n".join(wrong)


@case("every row is about an input and has a reason, and every reason cites what it rests on")
def _():
    used = set()
    for kind, inputs in INPUTS.items():
        for key, row in TABLE[kind].items():
            assert key in inputs, f"{kind} {key}: no such input"
            assert row["why"] in TABLE["reasons"], f"{kind} {key}: no reason {row['why']}"
            used.add(row["why"])
    assert used == set(TABLE["reasons"]), f"reasons that nobody needs: {set(TABLE['reasons']) - used}"
    for name, text in TABLE["reasons"].items():
        assert re.search(r"RFC \d{4} \d|rule HTTP-|hardening case \d|HTTP/2 preface", text), f"{name}: {text}"


@case("nothing of a request that we refuse reaches the service, and the canary behind it is never answered")
def _():
    refused = 0
    for key, verdict in RESULTS["ours"]["requests"].items():
        codes, _, forwarded = verdict.partition(" | ")
        if codes[0] in "45" and not codes.startswith("501 "):  # a good TRACE that goes no further
            refused += 1
            assert re.fullmatch(r"\d{3}", codes) and not forwarded, f"{key}: {verdict}"
    assert refused > 100, refused


if __name__ == "__main__":
    main()
