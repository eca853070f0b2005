#!/usr/bin/env python3
"""Does the suite see what it claims to see? Runs it against our kit and driver with one seeded fault after the other.

    make conformance-mutants                 builds with MUTANTS=1 and runs all; the table is build/mutants/mutants.md too
    conformance/mutants.py -k FLOW_4         some of them; -j 2 at a time; --least 95: per cent that must be caught

A fault is a line of src/ or gen/templates/ with HT_MUTANT(id); its id is that of the rule it breaks (src/base/mutant.h). The
cases of that rule go first, then all others, and the first one that fails has caught it. A catch counts when the same case fails
again, and passes without the fault. Exit status: 0 when enough were caught.
"""

import argparse
import asyncio
import collections
import concurrent.futures
import glob
import multiprocessing
import os
import re
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True
W = os.environ.setdefault("W", "build/mutants")

from conformance.lib import cases as case_files  # noqa: E402
from conformance.lib.engine import Worker  # noqa: E402
from conformance.lib.target import Adapter  # noqa: E402
from conformance.lib.wire import ROOT  # noqa: E402

BIN = os.path.join(ROOT, W, "hoody-tunnel")
SEED = re.compile(r"HT_MUTANT\(([A-Z]+_[0-9]+(?:_[B-D])?)\)")
ADAPTERS = {side: os.path.join(ROOT, "conformance", "adapters", f"hoody-{side}.yaml") for side in ("kit", "driver")}
SIDE_BY_SIDE = 4  # cases of one fault
BAD = ("fail", "error", "warn")


def seeded():
    """{id: file:line} of every fault in the sources; one id may stand in several lines."""
    out = {}
    for path in sorted(glob.glob(os.path.join(ROOT, "src", "*", "*.[ch]")) +
                       glob.glob(os.path.join(ROOT, "gen", "templates", "wire_gen.*.j2"))):
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                where = f"{os.path.relpath(path, ROOT)}:{number}"
                if os.path.basename(path) == "mutant.h":
                    continue
                for name in SEED.findall(line):
                    out.setdefault(name, where)
                if "HT_MUTANT({{" in line:  # one for each range of types that is fatal
                    out.update({"FRAME_6": where, "FRAME_7": where})
    return out


def rule_of(name):
    return "-".join(name.split("_")[:2])


class Hunt:
    """Looks for a case that catches one fault."""

    def __init__(self, name, where, patience):
        self.name, self.where, self.patience = name, where, patience
        self.caught, self.text, self.of_rule, self.reached = "", "", False, False
        self.tried, self.flaky, self.seconds = 0, [], 0.0

    def order(self, cases):
        """Cases of the rule, of its group of rules, then the others; those with equal options together."""
        rule, area = rule_of(self.name), self.name.split("_", maxsplit=1)[0]

        def rank(case):
            near = 0 if rule in case.all_rules() else 1 if any(r.startswith(area) for r in case.all_rules()) else 2
            return near, case.fresh, str(sorted(case.options.items())), case.side
        return sorted(cases, key=rank)

    async def play(self, case, faulty):
        """One case by itself, with or without the fault."""
        os.environ.pop("HT_MUTANT", None)
        if faulty:
            os.environ["HT_MUTANT"] = self.name
        worker = Worker(Adapter(ADAPTERS[case.side], {"bin": BIN}), 1, self.patience)
        try:
            return await worker.play(case)
        finally:
            await worker.close()

    async def hand(self, queue, suspects):
        """One of several that play cases until somebody has a suspect."""
        workers = {side: Worker(Adapter(path, {"bin": BIN}), 1, self.patience) for side, path in ADAPTERS.items()}
        try:
            while queue and not suspects:
                case = queue.popleft()
                result = await workers[case.side].play(case)
                self.tried += 1
                if result["verdict"] in BAD:
                    suspects.append(case)
        finally:
            for worker in workers.values():
                await worker.close()

    async def confirmed(self, case, times):
        """The failed result when the case fails each time with the fault, and passes each time without it."""
        again = None
        for _ in range(times):
            again = await self.play(case, True)
            if again["verdict"] not in BAD or (await self.play(case, False))["verdict"] in BAD:
                return None
        return again

    async def search(self, cases):
        queue = collections.deque(self.order(cases))
        while queue and not self.caught:
            suspects = []
            os.environ["HT_MUTANT"] = self.name
            await asyncio.gather(*(self.hand(queue, suspects) for _ in range(SIDE_BY_SIDE)))
            for case in suspects:
                self.of_rule = rule_of(self.name) in case.all_rules()
                again = await self.confirmed(case, 1 if self.of_rule else 3)
                if again:
                    self.caught = case.key
                    self.text = next((v["text"] for v in (again["behaviour"], again["closing"]) if v.get("text")), "")
                    return
                self.flaky.append(case.key)

    def run(self, cases):
        begin = time.monotonic()
        with tempfile.NamedTemporaryFile() as mark:
            os.environ["HT_MUTANT_REACHED"] = mark.name
            asyncio.run(self.search(cases))
            self.reached = os.path.getsize(mark.name) > 0
        self.seconds = time.monotonic() - begin
        return self


_cases = []


def hunt(name, where, patience):
    return Hunt(name, where, patience).run(_cases)


def table(hunts):
    lines = ["| fault | where | caught by | how |", "| --- | --- | --- | --- |"]
    for h in hunts:
        how = h.text.replace("|", "\\|").replace("\n", " ")[:120]
        if not h.caught:
            how = f"**not caught** by {h.tried} cases" + ("" if h.reached else "; it never acted")
        lines.append(f"| {h.name} | {h.where} | {h.caught}{'' if h.of_rule or not h.caught else ' (of another rule)'} | {how} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("-k", action="append", help="only faults whose id holds this; =ID: that one")
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--patience", type=float, default=6.0, help="seconds to wait for what has to come")
    parser.add_argument("--least", type=float, default=95.0, help="per cent that must be caught")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    faults = {n: w for n, w in sorted(seeded().items())
              if not args.k or any(k == "=" + n or (k[0] != "=" and k in n) for k in args.k)}
    if args.list:
        print("".join(f"{n} {w}\n" for n, w in faults.items()), end="")
        return 0
    if not os.path.exists(BIN):
        print(f"{BIN} is not there; run `make conformance-mutants`", file=sys.stderr)
        return 2
    _cases.extend(case_files.load())
    hunts = []
    context = multiprocessing.get_context("fork")  # the cases were read once
    with concurrent.futures.ProcessPoolExecutor(args.jobs, context) as pool:
        todo = [pool.submit(hunt, n, w, args.patience) for n, w in faults.items()]
        for future in concurrent.futures.as_completed(todo):
            h = future.result()
            hunts.append(h)
            print(f"{'ok' if h.caught else 'not ok'} {len(hunts)} - {h.name}: {h.caught or 'not caught'}"
                  f"{'' if h.caught or h.reached else ', never acted'} ({h.tried} cases, {h.seconds:.0f} s)"
                  f"{'; shaky: ' + ', '.join(h.flaky) if h.flaky else ''}", flush=True)
    hunts.sort(key=lambda h: h.name)
    caught = sum(bool(h.caught) for h in hunts)
    share = 100 * caught / max(1, len(hunts))
    with open(os.path.join(ROOT, W, "mutants.md"), "w", encoding="utf-8") as f:
        f.write(table(hunts))
    print(table(hunts))
    print(f"{caught} of {len(hunts)} faults caught: {share:.1f} %")
    return 0 if hunts and share >= args.least else 1


if __name__ == "__main__":
    sys.exit(main())
