"""spec/metrics.yaml -> metrics_gen.h, metrics_gen.c: the metrics registry and its text exposition."""

import itertools
import os
from dataclasses import dataclass, field
from fractions import Fraction

from gen import protocolref, specfile
from gen.ctext import comment
from gen.render import banner, render as render_template

_SUFFIX = {"counter": "_total", "info": "_info", "histogram": "_seconds"}


@dataclass
class LabelSet:
    name: str
    doc: str
    values: list
    other: bool = False
    numbers: list = field(default_factory=list)  # of (number in the protocol's headers, value)

    @property
    def c_type(self):
        return f"enum ht_metric_{self.name}"

    @property
    def fallback(self):
        """The value for a number that has none: `other`, or the last one, which the protocol keeps for the rest."""
        return self.values[-1].upper()

    @property
    def c_prefix(self):
        return f"HT_METRIC_{self.name.upper()}_"


@dataclass
class Metric:
    name: str
    field: str
    type: str
    help: str
    labels: list = field(default_factory=list)  # of (label name, LabelSet)
    info_label: str = ""
    skip: list = field(default_factory=list)  # places in the array that cannot come about
    bounds: list = field(default_factory=list)  # of (text, microseconds)

    @property
    def dimensions(self):
        return "".join(f"[{s.c_prefix}COUNT]" for _, s in self.labels)


def _label_sets(doc, protocol, problems):
    sets = {}
    for name, raw in doc["labels"].items():
        values, numbers = list(raw.get("values", [])), []
        if "from" in raw:
            try:
                names = protocol.names(raw["from"])
                numbers = list(zip(names.numbers, names.values))
                values += names.values
            except KeyError as e:
                problems.add(raw.line_of("from"), f"label set '{name}': protocol.yaml has no list {e}")
        seen = set()
        for value in values:
            if value.lower() in seen:
                problems.add(raw.line_of("values"), f"label set '{name}': value '{value}' is there twice; remove one")
            seen.add(value.lower())
        if raw.get("other"):
            if "other" in seen:
                problems.add(raw.line_of("other"), f"label set '{name}' has a value 'other' of its own")
            values.append("other")
        sets[name] = LabelSet(name, raw["doc"], values, raw.get("other", False), numbers)
    return sets


def _metric_labels(raw, sets, problems):
    out = []
    for i, label in enumerate(raw.get("labels", [])):
        name, of = (label, label) if isinstance(label, str) else (label["name"], label["set"])
        if of not in sets:
            problems.add(raw["labels"].line_of(i), f"metric '{raw['name']}': there is no label set '{of}'; "
                                                   "name one of " + ", ".join(sets))
        elif name in (n for n, _ in out):
            problems.add(raw["labels"].line_of(i), f"metric '{raw['name']}': label '{name}' is there twice")
        else:
            out.append((name, sets[of]))
    return out


def _skipped(raw, labels, protocol, problems):
    """The places, in the order of the array, that `only` leaves out."""
    if "only" not in raw:
        return []
    wanted = set(protocol.binding_pairs())
    if [s.name for _, s in labels] != ["kind", "mode"]:
        problems.add(raw.line_of("only"), f"metric '{raw['name']}': binding_pairs goes with the labels kind and mode")
    every = itertools.product(*(s.values for _, s in labels))
    return [place for place, combination in enumerate(every) if combination not in wanted]


def _bounds(raw, problems):
    out = []
    for i, bound in enumerate(raw.get("buckets", [])):
        us = Fraction(str(bound)) * 1000000
        if us.denominator != 1:
            problems.add(raw["buckets"].line_of(i), f"metric '{raw['name']}': {bound} is no whole number of "
                                                    "microseconds")
        if out and us <= out[-1][1]:
            problems.add(raw["buckets"].line_of(i), f"metric '{raw['name']}': bounds must grow, {bound} does not")
        out.append((str(bound), int(us)))
    return out


@specfile.once
def load(spec_dir):
    """The checked model of metrics.yaml: (label sets, metrics)."""
    doc = specfile.load(os.path.join(spec_dir, "metrics.yaml"), os.path.join(spec_dir, "metrics.schema.json"))
    problems = specfile.Problems(doc.path)
    protocol = protocolref.Protocol(spec_dir)
    sets = _label_sets(doc, protocol, problems)
    metrics, first, used = [], {}, set()
    for raw in doc["metrics"]:
        name = raw["name"]
        if name in first:
            problems.add(raw.line_of("name"), f"metric '{name}' is there twice (first on line {first[name]}); "
                                              "remove one")
        first.setdefault(name, raw.line_of("name"))
        if not name.startswith(doc["prefix"]):
            problems.add(raw.line_of("name"), f"metric '{name}' must begin with '{doc['prefix']}'")
        suffix = _SUFFIX.get(raw["type"])
        if suffix and not name.endswith(suffix):
            problems.add(raw.line_of("name"), f"metric '{name}' is a {raw['type']}, so it must end in '{suffix}'")
        if raw["type"] == "gauge" and name.endswith("_total"):
            problems.add(raw.line_of("name"), f"metric '{name}' is a gauge; only counters end in '_total'")
        if raw["type"] == "histogram" and "labels" in raw:
            problems.add(raw.line_of("labels"), f"metric '{name}': a histogram has no labels here")
        if raw["type"] != "histogram" and "buckets" in raw:
            problems.add(raw.line_of("buckets"), f"metric '{name}': only a histogram has buckets")
        info = raw["type"] == "info"
        if info and len(raw["labels"]) != 1:
            problems.add(raw.line_of("labels"), f"metric '{name}': an info metric has one label")
        labels = [] if info else _metric_labels(raw, sets, problems)
        used.update(s.name for _, s in labels)
        metrics.append(Metric(name, name.removeprefix(doc["prefix"]), raw["type"], raw["help"], labels,
                              raw["labels"][0] if info else "", _skipped(raw, labels, protocol, problems),
                              _bounds(raw, problems)))
    for name in doc["labels"]:
        if name not in used:
            problems.add(doc["labels"].line_of(name), f"no metric uses the label set '{name}'; remove it")
    problems.check()
    return list(sets.values()), metrics


def render(name, spec_dir):
    sets, metrics = load(spec_dir)
    return render_template(f"{name}.j2", banner=banner("metrics.yaml"), comment=comment, sets=sets, metrics=metrics)
