"""Case files: reading, expanding, checking. README.md has the format."""

import glob
import itertools
import os
import re

import yaml

from .match import Loader, Tagged
from .wire import ROOT, spec

FOLDER = os.path.join(ROOT, "conformance", "cases")
SECOND_WIRE = {"vtunnel": "kit"}  # folder of another protocol -> the side that speaks it
FILE_KEYS = {"group", "about", "defaults", "setup", "cases", "probes", "shared"}
CASE_KEYS = {"id", "title", "rules", "violates", "versions", "options", "fresh", "foreach", "needs", "setup", "steps", "fails",
             "watch", "level", "leftovers", "start", "timeout", "parked"}


class BadCase(Exception):
    pass


class Case:
    """One case as it runs: expanded, for one version."""

    def __init__(self, side, name, group, doc, variables, version, path):
        self.side, self.name, self.group, self.version, self.path = side, name, group, version, path
        self.doc, self.variables = doc, variables
        self.title = doc["title"]
        self.rules, self.violates = list(doc.get("rules", ())), list(doc.get("violates", ()))
        self.options = doc.get("options") or {}
        self.fresh = bool(doc.get("fresh"))
        self.needs = [variables.get(n[1:], n) if n.startswith("$") else n for n in doc.get("needs", ())]
        self.steps = list(doc.get("setup") or ()) + list(doc.get("steps") or ())
        self.fails = doc.get("fails", "")
        self.watch = doc.get("watch", True)
        self.leftovers = bool(doc.get("leftovers"))
        self.start = doc.get("start")  # driver cases: how the driver is started
        self.timeout = doc.get("timeout")
        self.key = f"{side}/{name}@{version}"
        levels = {spec.rules[r]["level"] for r in self.rules + self.violates if r in spec.rules}
        self.level = doc.get("level") or ("MUST" if "MUST" in levels or not levels else "SHOULD")

    def all_rules(self):
        return list(dict.fromkeys(self.rules + self.violates))


def _short(value):
    if isinstance(value, Tagged):
        return f"{value.tag}-{_short(value.arg)}"
    if isinstance(value, (list, tuple)):
        return "-".join(_short(v) for v in value)
    text = re.sub(r"[^A-Za-z0-9_.:+-]+", "_", str(value))
    return text if len(text) <= 40 else text[:40]


def _expansions(doc, where):
    """[(suffix, variables)]. foreach: a list of rows (named by `as`), or a mapping of lists, every combination of which."""
    each = doc.get("foreach")
    if each is None:
        return [("", {})]
    out = []
    if isinstance(each, list):
        for row in each:
            if not isinstance(row, dict) or "as" not in row:
                raise BadCase(f"{where}: a row of foreach is a mapping with `as`, its name")
            out.append((f"[{_short(row['as'])}]", dict(row)))
    else:
        for combination in itertools.product(*each.values()):
            out.append((f"[{','.join(_short(v) for v in combination)}]", dict(zip(each, combination))))
    names = [s for s, _ in out]
    twice = {n for n in names if names.count(n) > 1}
    if twice:
        raise BadCase(f"{where}: the rows {', '.join(sorted(twice))} are there twice")
    return out


def _versions(doc, rules):
    since = [spec.rules[r].get("since", "v1") for r in rules]
    return [v for v in doc.get("versions", spec.versions) if all(spec.versions.index(v) >= spec.versions.index(s) for s in since)]


def load_file(path, side=None):
    """The expanded cases of one file; `side` when it does not lie in cases/kit or cases/driver."""
    with open(path, encoding="utf-8") as f:
        try:
            doc = yaml.load(f, Loader=Loader)
        except yaml.YAMLError as e:
            raise BadCase(f"{os.path.relpath(path, ROOT)}: {e}") from e
    relative = os.path.relpath(path, FOLDER)
    folder, stem = relative.split(os.sep)[0], os.path.splitext(os.path.basename(path))[0]
    side, stem = side or SECOND_WIRE.get(folder, folder), f"{folder}-{stem}" if folder in SECOND_WIRE else stem
    unknown = set(doc) - FILE_KEYS
    if unknown:
        raise BadCase(f"{relative}: unknown keys {sorted(unknown)}")
    for row in doc.get("cases", ()):
        where = f"{relative}: {row.get('id', '(a case without an id)')}"
        merged = {**{"setup": doc.get("setup")}, **(doc.get("defaults") or {}), **row}
        if row.get("setup") == "none":
            merged["setup"] = []
        bad = set(merged) - CASE_KEYS
        if bad or "id" not in row or "title" not in row:
            raise BadCase(f"{where}: unknown keys {sorted(bad)}" if bad else f"{where}: id and title are needed")
        rules = list(merged.get("rules", ())) + list(merged.get("violates", ()))
        strangers = [r for r in rules if r not in spec.rules]
        if strangers:
            raise BadCase(f"{where}: no such rules: {', '.join(strangers)}")
        for suffix, variables in _expansions(merged, where):
            for version in _versions(merged, rules):
                yield Case(side, f"{stem}/{row['id']}{suffix}", doc["group"], merged, variables, version, relative)


def check_steps(case, verbs):
    """Texts about steps and modifiers that there are not; a run would only find those it comes to."""
    def walk(steps):
        for step in steps:
            if isinstance(step, list):
                yield from walk(step)
                continue
            step = {step: None} if isinstance(step, str) else step
            verb = next((k for k in step if k in verbs), None)
            if verb is None:
                yield f"{case.path}: {case.name}: there is no step {', '.join(map(str, step))}"
                continue
            unknown = set(step) - {verb} - verbs[verb].accepts
            if unknown:
                yield f"{case.path}: {case.name}: the step {verb} does not know {', '.join(sorted(map(str, unknown)))}"
            for key in (verb, "steps"):
                if verb in ("eventually", "one_of", "repeat") and isinstance(step.get(key), list):
                    yield from walk(step[key])
    yield from walk(case.steps)


def load(side=None):
    cases = []
    for path in sorted(glob.glob(os.path.join(FOLDER, "*", "*.yaml"))):
        folder = os.path.relpath(path, FOLDER).split(os.sep)[0]
        if side is None or SECOND_WIRE.get(folder, folder) == side:
            if not os.path.basename(path).startswith("_"):
                cases += load_file(path)
    keys = [c.key for c in cases]
    twice = sorted({k for k in keys if keys.count(k) > 1}) if len(set(keys)) != len(keys) else []
    if twice:
        raise BadCase(f"these cases are there twice: {', '.join(twice[:10])}")
    return cases


def load_probes():
    """{feature: Case}: each passes when the implementation has the feature."""
    probes = {}
    for path in sorted(glob.glob(os.path.join(FOLDER, "*", "_probes.yaml"))):
        for case in load_file(path):
            for feature in case.needs:
                probes.setdefault((case.side, feature), []).append(case)
    return probes
