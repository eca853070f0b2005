#!/usr/bin/env python3
"""The conformance suite: judges a kit or a driver of any implementation, rule by rule.

    conformance/run.py                                    our kit and our driver, every case
    conformance/run.py -a conformance/adapters/x.yaml     another implementation (may be given several times)
    conformance/run.py -k bindings -V v2 --level MUST     some cases only; -r FLOW-3 for those of a rule
    conformance/run.py -k bind/reserved --verbose         with every frame, in the protocol's words
    conformance/run.py --matrix a.json b.json --html m.html   earlier results side by side

TAP on standard output; --html, --json, --junit write reports. Exit status: 0 all passed, 1 something failed, 2 usage.
"""

import argparse
import asyncio
import atexit
import concurrent.futures
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True

from conformance.lib import cases as case_files  # noqa: E402
from conformance.lib import report  # noqa: E402
from conformance.lib.engine import Worker, complaint_result  # noqa: E402
from conformance.lib.steps_wire import VERBS  # noqa: E402
from conformance.lib.target import Adapter  # noqa: E402
from conformance.lib.wire import ROOT  # noqa: E402

ADAPTERS = os.path.join(ROOT, "conformance", "adapters")
DEFAULT = ["hoody-kit.yaml", "hoody-driver.yaml"]


# ---- workers: one process each, cases of one set of options after another ----

_state = {}


def _begin(adapter_paths, values, seed, patience, verbose, queue):
    _state.update(adapters={p: Adapter(p, values) for p in adapter_paths}, seed=seed, patience=patience, verbose=verbose,
                  queue=queue, cases={c.key: c for c in case_files.load()}, probes=case_files.load_probes())


def _echo(case):
    def write(entry):
        ms, step, who, way, text = entry
        print(f"# {case.key} {ms:9.1f} ms  step {step:<3} {who:>6} {way} {text}", flush=True)
    return write


def _chunk(path, keys):
    """Runs the cases of one chunk in this process and hands each result over as it is there."""
    return asyncio.run(_play(path, keys))


async def _play(path, keys):
    worker = Worker(_state["adapters"][path], _state["seed"], _state["patience"])
    out = []
    try:
        for key in keys:
            case = _state["cases"][key]
            worker.echo = _echo(case) if _state["verbose"] else None
            result = await worker.play(case)
            _state["queue"].put(result)
            out.append(key)
    finally:
        await worker.close()
        for i, text in enumerate(worker.complained):
            _state["queue"].put(complaint_result(worker.adapter, text, f"{os.getpid()}-{time.monotonic_ns()}-{i}"))
    return out


def _probe(path):
    """What an adapter calls unsupported is tried: a feature that is there after all is a failure of the adapter."""
    return asyncio.run(_probes(path))


async def _probes(path):
    adapter = _state["adapters"][path]
    worker = Worker(adapter, _state["seed"], _state["patience"])
    out = []
    try:
        for feature, why in adapter.unsupported.items():
            for case in _state["probes"].get((adapter.side, feature), [])[:1]:
                result = await worker.play(case, features=False)
                there = result["verdict"] == "pass"
                result["title"] = f"{feature} is declared unsupported ({why}), and it is not there"
                result["verdict"] = "fail" if there else "pass"
                result["behaviour"] = {"verdict": result["verdict"], "expected": f"no {feature}", "came": f"{feature}" if there else "",
                                       "text": f"{feature} is declared unsupported, but the probe found it" if there else ""}
                result["closing"] = {"verdict": "pass", "text": "", "expected": "", "came": ""}
                out.append(result)
    finally:
        await worker.close()
    return out


def chunks_of(cases, size):
    """Cases with the same options stay together, so that a worker starts few implementations."""
    groups = {}
    for case in cases:
        groups.setdefault(str(sorted(case.options.items())) if not case.fresh else "fresh", []).append(case)
    out = []
    for group in groups.values():
        out += [group[i:i + size] for i in range(0, len(group), size)]
    return sorted(out, key=lambda chunk: bool(not chunk[0].options and not chunk[0].fresh))


# ---- choosing ----

def choose(cases, args):
    chosen = [c for c in cases
              if (not args.keep or any(k in c.key for k in args.keep))
              and (not args.version or c.version in args.version)
              and (not args.level or c.level == args.level)
              and (not args.rule or set(args.rule) & set(c.rules + c.violates))]
    return chosen


def arguments():
    parser = argparse.ArgumentParser(usage=__doc__, add_help=False)
    parser.add_argument("-h", "--help", action="help")
    parser.add_argument("-a", "--adapter", action="append")
    parser.add_argument("-k", "--keep", action="append", help="only cases whose id holds this")
    parser.add_argument("-r", "--rule", action="append", help="only cases of this rule")
    parser.add_argument("-V", "--version", action="append", help="v1 or v2")
    parser.add_argument("--level", choices=["MUST", "SHOULD"])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a value for the adapters, such as bin=PATH")
    parser.add_argument("-j", "--jobs", type=int, default=max(4, (os.cpu_count() or 2) * 4))
    parser.add_argument("--patience", type=float, default=10.0, help="seconds to wait for what has to come")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("-v", "--verbose", action="store_true", help="every frame as it goes")
    parser.add_argument("--strict", action="store_true", help="a SHOULD that fails is a failure")
    parser.add_argument("--list", action="store_true", help="the cases, without running them")
    parser.add_argument("--steps", action="store_true", help="every step that a case may take, with its modifiers")
    parser.add_argument("--html"), parser.add_argument("--json"), parser.add_argument("--junit")
    parser.add_argument("--matrix", nargs="+", metavar="JSON", help="put earlier results side by side")
    return parser.parse_args()


def main():
    args = arguments()
    if args.matrix:
        return matrix(args)
    if args.steps:
        return list_steps()
    try:
        cases = choose(case_files.load(), args)
        wrong = [text for c in cases for text in case_files.check_steps(c, VERBS)]
        if wrong:
            raise case_files.BadCase("\n".join(dict.fromkeys(wrong)))
    except case_files.BadCase as e:
        print(f"conformance: {e}", file=sys.stderr)
        return 2
    paths = args.adapter or [p for p in (os.path.join(ADAPTERS, n) for n in DEFAULT) if os.path.exists(p)]
    paths = [p if os.path.exists(p) else os.path.join(ADAPTERS, f"{p}.yaml") for p in paths]
    values = dict(v.split("=", 1) for v in args.set)
    # What a driver keeps for its user goes with the run.
    state = tempfile.TemporaryDirectory(prefix="conformance-state-")  # pylint: disable=consider-using-with
    atexit.register(state.cleanup)
    os.environ["XDG_STATE_HOME"] = state.name
    if os.environ.get("HT_BIN"):
        values.setdefault("bin", os.environ["HT_BIN"])
    adapters = [Adapter(p, values) for p in paths]
    wanted = [(p, c) for p, a in zip(paths, adapters) for c in cases if c.side == a.side]
    if args.list:
        for _, c in wanted:
            print(f"{c.key}  {c.level}  {','.join(c.rules)}{' !' + ','.join(c.violates) if c.violates else ''}  {c.title}")
        return 0
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    return run(args, paths, values, wanted, seed)


def run(args, paths, values, wanted, seed):
    sides = ", ".join(Adapter(p, values).name for p in paths)
    print(f"# {sides}; {len(wanted)} cases, seed {seed}", flush=True)
    begin = time.monotonic()
    manager = multiprocessing.Manager()
    queue = manager.Queue()
    results, printer = [], report.Tap(len(wanted), sys.stdout)
    one_by_one = args.verbose or any(Adapter(p, values).at_url for p in paths)  # who shares a kit takes turns
    jobs = 1 if one_by_one else args.jobs
    with concurrent.futures.ProcessPoolExecutor(jobs, initializer=_begin,
                                                initargs=(paths, values, seed, args.patience, args.verbose, queue)) as pool:
        futures = []
        if not args.keep and not args.rule:
            futures += [pool.submit(_probe, p) for p in paths]
        size = max(1, min(16, len(wanted) // (jobs * 4) or 1))
        for path in paths:
            for chunk in chunks_of([c for p, c in wanted if p == path], size):
                futures.append(pool.submit(_chunk, path, [c.key for c in chunk]))
        pending = set(futures)
        while pending or not queue.empty():
            done = {f for f in pending if f.done()}
            for f in done:
                for result in f.result():
                    if isinstance(result, dict):
                        results.append(result)
                        printer.result(result)
            pending -= done
            try:
                result = queue.get(timeout=0.1)
            except Exception:  # pylint: disable=broad-except
                continue
            results.append(result)
            printer.result(result)
    results.sort(key=lambda r: (r["implementation"], r["key"]))
    summary = report.summary(results, seed, time.monotonic() - begin, args.strict)
    printer.close(summary)
    write_reports(args, results, summary)
    return 1 if summary["failed"] or not results else 0


def write_reports(args, results, summary):
    for path, write in ((args.json, report.write_json), (args.junit, report.write_junit), (args.html, report.write_html)):
        if path:
            folder = os.path.dirname(path)
            if folder:
                os.makedirs(folder, exist_ok=True)
            write(path, results, summary)


def list_steps():
    for name, verb in sorted(VERBS.items()):
        text = " ".join((verb.run.__doc__ or "").split())
        print(f"{name}{' (' + ', '.join(sorted(verb.accepts)) + ')' if verb.accepts else ''}\n    {text}")
    return 0


def matrix(args):
    results = []
    for path in args.matrix:
        with open(path, encoding="utf-8") as f:
            results += [{**r, "beside": True} for r in json.load(f)["results"]]
    summary = report.summary(results, 0, 0.0, args.strict)
    if args.html:
        write_reports(args, results, summary)
    print(report.matrix_text(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
