#!/usr/bin/env python3
"""Does the suite see what it claims to see? Runs it against our kit and driver with one seeded fault after the other.

    make conformance-mutants                 builds, and runs all; the table is build/mutants.md too
    conformance/mutants.py -k FLOW_4         some of them; -j 2 at a time; --least 95: per cent that must be caught

faults.yaml has the faults. Each is made in a copy of the tree, which is built. The cases of its rule go first, then all others, and
the first one that fails has caught it. A catch counts when the same case fails again, and passes without the fault. Exit status:
0 when enough were caught.
"""

import argparse
import asyncio
import collections
import concurrent.futures
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True

import yaml  # noqa: E402

from conformance.lib import cases as case_files  # noqa: E402
from conformance.lib.engine import Worker  # noqa: E402
from conformance.lib.target import Adapter  # noqa: E402
from conformance.lib.wire import ROOT  # noqa: E402
from tests.support import edits  # noqa: E402

BUILD = os.path.join(ROOT, "build")
BIN = os.path.join(BUILD, "hoody-tunnel")
FAULTS = os.path.join(ROOT, "conformance", "faults.yaml")
ADAPTERS = {side: os.path.join(ROOT, "conformance", "adapters", f"hoody-{side}.yaml") for side in ("kit", "driver")}
SIDE_BY_SIDE = 4  # cases of one fault
BAD = ("fail", "error", "warn")


def seeded():
    """{id: rows of faults.yaml}; one id may have several."""
    out = {}
    with open(FAULTS, encoding="utf-8") as f:
        for row in yaml.safe_load(f)["faults"]:
            out.setdefault(row["id"], []).append(row)
    return out


class Tree:
    """A copy of the tree that faults are made in, one after the other."""

    def __init__(self, folder):
        self.path = os.path.join(folder, str(os.getpid()))
        self.bin = os.path.join(self.path, "build", "hoody-tunnel")
        # What is built comes along, with its times: only what a fault touches is built again.
        left_out = shutil.ignore_patterns(".git", "__pycache__", "san", "tests", "fuzz", "*.a", "conformance")
        shutil.copytree(ROOT, self.path, ignore=left_out, symlinks=True)
        self.touched = {}  # path: the text without faults

    def restore(self):
        for path, text in self.touched.items():
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        self.touched = {}

    def make(self, rows):
        """Builds the program with this fault and no other."""
        self.restore()
        for row in rows:
            path = os.path.join(self.path, row["file"])
            with open(path, encoding="utf-8") as f:
                text = f.read()
            self.touched.setdefault(path, text)
            with open(path, "w", encoding="utf-8") as f:
                f.write(edits.apply(text, row["from"], row["to"]))
        # A fault may leave something unused behind it.
        done = subprocess.run(["make", "--no-print-directory", "-C", self.path, "all", "WARN=-w"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=900)
        if done.returncode:
            raise RuntimeError(done.stdout.decode(errors="replace")[-2000:])


class Hunt:
    """Looks for a case that catches one fault."""

    def __init__(self, name, rows, patience):
        self.name, self.rule, self.patience = name, rows[0]["rule"], patience
        self.where = rows[0]["file"]
        self.faulty = BIN  # the program with the fault
        self.caught, self.text, self.of_rule = "", "", False
        self.tried, self.flaky, self.seconds = 0, [], 0.0
        self.broken = ""  # why the fault could not be made or hunted

    def order(self, cases):
        """Cases of the rule, of its group of rules, then the others; those with equal options together."""
        rule, area = self.rule, self.rule.split("-", maxsplit=1)[0]

        def rank(case):
            near = 0 if rule in case.all_rules() else 1 if any(r.startswith(area) for r in case.all_rules()) else 2
            return near, case.fresh, str(sorted(case.options.items())), case.side
        return sorted(cases, key=rank)

    async def play(self, case, faulty):
        """One case by itself, with or without the fault."""
        worker = Worker(Adapter(ADAPTERS[case.side], {"bin": self.faulty if faulty else BIN}), 1, self.patience)
        try:
            return await worker.play(case)
        finally:
            await worker.close()

    async def hand(self, queue, suspects):
        """One of several that play cases until somebody has a suspect."""
        workers = {side: Worker(Adapter(path, {"bin": self.faulty}), 1, self.patience) for side, path in ADAPTERS.items()}
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
            await asyncio.gather(*(self.hand(queue, suspects) for _ in range(SIDE_BY_SIDE)))
            for case in suspects:
                self.of_rule = self.rule in case.all_rules()
                again = await self.confirmed(case, 1 if self.of_rule else 3)
                if again:
                    self.caught = case.key
                    self.text = next((v["text"] for v in (again["behaviour"], again["closing"]) if v.get("text")), "")
                    return
                self.flaky.append(case.key)

    def run(self, cases, tree, rows):
        begin = time.monotonic()
        tree.make(rows)
        self.faulty = tree.bin
        asyncio.run(self.search(cases))
        self.seconds = time.monotonic() - begin
        return self


_cases = []
_trees = []  # of this process


def hunt(name, rows, patience, folder):
    if not _trees:
        _trees.append(Tree(folder))
    h = Hunt(name, rows, patience)
    try:
        return h.run(_cases, _trees[0], rows)
    except (RuntimeError, OSError, subprocess.SubprocessError, edits.Misfit) as e:
        h.broken = str(e)  # one fault that cannot be made must not hide what became of the others
        return h


def table(hunts):
    lines = ["| fault | where | caught by | how |", "| --- | --- | --- | --- |"]
    for h in hunts:
        how = h.text.replace("|", "\\|").replace("\n", " ")[:120]
        if not h.caught:
            how = f"**not caught** by {h.tried} cases{': it could not be made' if h.broken else ''}"
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
    faults = {n: rows for n, rows in sorted(seeded().items())
              if not args.k or any(k == "=" + n or (k[0] != "=" and k in n) for k in args.k)}
    if args.list:
        print("".join(f"{n} {rows[0]['file']}\n" for n, rows in faults.items()), end="")
        return 0
    if not os.path.exists(BIN):
        print(f"{BIN} is not there; run `make conformance-mutants`", file=sys.stderr)
        return 2
    _cases.extend(case_files.load())
    hunts = []
    context = multiprocessing.get_context("fork")  # the cases were read once
    with (tempfile.TemporaryDirectory(prefix="hoody-tunnel-") as folder,
          concurrent.futures.ProcessPoolExecutor(args.jobs, context) as pool):
        todo = [pool.submit(hunt, n, rows, args.patience, folder) for n, rows in faults.items()]
        for future in concurrent.futures.as_completed(todo):
            h = future.result()
            hunts.append(h)
            print(f"{'ok' if h.caught else 'not ok'} {len(hunts)} - {h.name}: {h.caught or 'not caught'}"
                  f" ({h.tried} cases, {h.seconds:.0f} s)"
                  f"{'; shaky: ' + ', '.join(h.flaky) if h.flaky else ''}", flush=True)
            if h.broken:
                print("# " + h.broken.strip().replace("\n", "\n# "), flush=True)
    hunts.sort(key=lambda h: h.name)
    caught = sum(bool(h.caught) for h in hunts)
    share = 100 * caught / max(1, len(hunts))
    with open(os.path.join(BUILD, "mutants.md"), "w", encoding="utf-8") as f:
        f.write(table(hunts))
    print(table(hunts))
    print(f"{caught} of {len(hunts)} faults caught: {share:.1f} %")
    return 0 if hunts and share >= args.least else 1


if __name__ == "__main__":
    sys.exit(main())
