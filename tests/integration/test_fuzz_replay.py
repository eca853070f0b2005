#!/usr/bin/env python3
"""Every fuzz target over its corpus (regressions and seeds by hand), over the seeds made from the specs, and over simple
mutations of both. The programs come from `make fuzz-replay` and stand beside the program under test.

The mutations depend on nothing but the inputs, so a failure here comes again.

Runs: sanitized.
"""

import glob
import os
import re
import subprocess

from tests.integration import harness
from tests.support.tap import case, main

BASE = os.path.join(os.path.dirname(harness.BIN), "fuzz")
CORPUS = os.path.join(harness.ROOT, "tests", "fuzz", "corpus")
UNITS = sorted(os.path.basename(p)[5:-2] for p in glob.glob(os.path.join(harness.ROOT, "tests", "fuzz", "fuzz_*.c")))
# Mutations of each input: of the few written by hand, and of the many that are generated.
BY_HAND, GENERATED = (200, 2) if harness.SANITIZED else (1000, 10)


def replay(unit, folder, mutations):
    saved = os.path.join(BASE, f"broken_{unit}")
    done = subprocess.run([os.path.join(BASE, f"replay_{unit}"), "--mutate", str(mutations), "--save", saved, folder],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=200, check=False)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 0, f"{unit} ended with {done.returncode}; {saved} holds the input:\n{said[-4000:]}"
    counts = re.search(r"^(\d+) inputs, (\d+) mutations$", done.stdout.decode(), re.M)
    assert counts and int(counts.group(1)) == len(os.listdir(folder)), (unit, done.stdout)
    return int(counts.group(1)) + int(counts.group(2))


def define(unit):
    @case(f"{unit}: the corpus, the generated seeds, and mutations of both")
    def _():
        runs = replay(unit, os.path.join(CORPUS, unit), BY_HAND)
        seeds = os.path.join(BASE, "seeds", unit)
        if os.path.isdir(seeds):
            runs += replay(unit, seeds, GENERATED)
        print(f"# {unit}: {runs} inputs")


for each in UNITS:
    define(each)


@case("every corpus belongs to a target, and every target has one")
def _():
    assert sorted(os.listdir(CORPUS)) == UNITS, (sorted(os.listdir(CORPUS)), UNITS)
    assert all(os.listdir(os.path.join(CORPUS, unit)) for unit in UNITS)


if __name__ == "__main__":
    main()
