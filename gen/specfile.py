"""Spec files with line numbers: YAML in, plain containers out, every complaint as `file:line: error: ...`.

A spec that grew too long has parts: `parts: [FILE, ...]` names files beside it with further keys of the top level.
"""

import functools
import json
import os
import re

import jsonschema
import yaml


# For the functions that make a model of a spec: all outputs of one start share it, and change nothing in it.
once = functools.lru_cache(maxsize=None)


class SpecError(Exception):
    """One or more problems in a spec file; str() is one `file:line: error: what` per line."""

    def __init__(self, problems):
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class Line(int):
    """A line (1-based) that knows its file."""

    def __new__(cls, number, path):
        line = super().__new__(cls, number)
        line.path = path
        return line


class Map(dict):
    """A YAML mapping that knows its line and the line of each key (1-based)."""

    line = 0
    path = ""

    def line_of(self, key):
        return self.key_lines.get(key, self.line)


class Seq(list):
    """A YAML sequence that knows its line and the line of each item (1-based)."""

    line = 0
    path = ""

    def line_of(self, index):
        return self.item_lines[index] if 0 <= index < len(self.item_lines) else self.line


class Problems:
    """Collects complaints about one file, so that a writer sees all of them at once."""

    def __init__(self, path):
        self.path = path
        self.items = []

    def add(self, line, what):
        """`what` says what is wrong and what would be right."""
        self.items.append((line, what))

    def check(self):
        """Raises SpecError if anything was added."""
        if self.items:
            where = [(getattr(line, "path", self.path), line, what) for line, what in self.items]
            raise SpecError(f"{path}:{line}: error: {what}" for path, line, what in sorted(where, key=lambda w: (w[0] != self.path, w)))


class Checks:
    """What every kind of spec is checked for beyond its schema; complaints stand at the line of the thing that is wrong."""

    def __init__(self, doc):
        self.doc = doc
        self.bad = Problems(doc.path)

    def unique(self, rows, key, what, fmt=str):
        seen = {}
        for row in rows:
            value = row[key]
            if value in seen:
                self.bad.add(row.line_of(key), f"{what} {fmt(value)} is used twice (first on line {seen[value]}); "
                                               f"give this one another {key}")
            seen.setdefault(value, row.line_of(key))
        return seen

    def known(self, line, value, among, what):
        if value not in among:
            self.bad.add(line, f"unknown {what} '{value}'; known are {', '.join(str(a) for a in among)}")
            return False
        return True

    def rule_refs(self, ids):
        """Every rule that is named anywhere must exist."""
        def visit(node):
            if isinstance(node, Map):
                for key, value in node.items():
                    if key == "rule":
                        self.known_rule(node.line_of(key), value, ids)
                    elif key == "rules" and node is not self.doc:
                        for i, rule in enumerate(value):
                            self.known_rule(value.line_of(i), rule, ids)
                    else:
                        visit(value)
            elif isinstance(node, Seq):
                for item in node:
                    visit(item)
        visit(self.doc)

    def known_rule(self, line, rule, ids):
        if rule not in ids:
            area = rule.split("-")[0]
            near = [i for i in ids if i.split("-")[0] == area]
            self.bad.add(line, f"rule {rule} does not exist; add it under rules" +
                         (f", or name one of {', '.join(near)}" if near else ""))


# libyaml reads a spec in a tenth of the time of PyYAML's own reader; a PyYAML without it does as well.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    pass


# YAML 1.1 reads `on`, `off`, `yes`, `no` as booleans; a spec means the words.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, rx) for tag, rx in rules if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", __import__("re").compile(r"^(?:true|false)$"), list("tf"))


def _build(loader, node, path):
    if isinstance(node, yaml.MappingNode):
        out = Map()
        out.key_lines = {}
        out.line, out.path = Line(node.start_mark.line + 1, path), path
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            line = Line(key_node.start_mark.line + 1, path)
            if key in out:
                raise SpecError([f"{path}:{line}: error: duplicate key '{key}' (first on line "
                                 f"{out.key_lines[key]}); remove one of the two"])
            out.key_lines[key] = line
            out[key] = _build(loader, value_node, path)
        return out
    if isinstance(node, yaml.SequenceNode):
        out = Seq()
        out.line, out.path = Line(node.start_mark.line + 1, path), path
        out.item_lines = [Line(item.start_mark.line + 1, path) for item in node.value]
        out.extend(_build(loader, item, path) for item in node.value)
        return out
    return loader.construct_object(node, deep=True)


def _line_at(doc, path):
    """The line of the element that a jsonschema error path leads to."""
    node, line = doc, doc.line
    for step in path:
        if isinstance(node, (Map, Seq)):
            line = node.line_of(step)
            node = node[step]
    return line


def _parse(path):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    shown = os.path.relpath(path) if not os.path.relpath(path).startswith("..") else path
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise SpecError([f"{shown}:1: error: the file is empty; it must hold a mapping"])
        doc = _build(loader, node, shown)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        raise SpecError([f"{shown}:{mark.line + 1 if mark else 1}: error: not valid YAML: {e.problem}"]) from e
    finally:
        loader.dispose()
    if not isinstance(doc, Map):
        raise SpecError([f"{shown}:1: error: the top level must be a mapping"])
    return doc


_PARTS = re.compile(r"^parts: \[(.*)\]\n", re.M)


def joined(name, read):
    """A spec and its parts as the text of one file; read(name) gives the text of one that stands beside the other."""
    out = read(name)
    match = _PARTS.search(out)
    parts = [read(part.strip()) for part in match.group(1).split(",")] if match else []
    return "\n".join([_PARTS.sub("", out), *parts])


def text(path):
    """The spec as one file's text."""
    def read(name):
        with open(os.path.join(os.path.dirname(path), name), encoding="utf-8") as f:
            return f.read()
    return joined(os.path.basename(path), read)


@functools.lru_cache(maxsize=None)
def _validator(schema):
    """Of a schema's text. It remembers where its references lead."""
    return jsonschema.Draft202012Validator(json.loads(schema))


_shared = {}


def shared(path):
    """load() for those who change nothing in it: a text that was read before is not read again."""
    key = os.path.basename(path), text(path)
    if key not in _shared:
        _shared[key] = load(path)
    return _shared[key]


def load(path, schema_path=None):
    """Reads a YAML file and its parts; checks it against a JSON Schema file if one is given. Raises SpecError."""
    doc = _parse(path)
    for name in doc.pop("parts", []):
        part = _parse(os.path.join(os.path.dirname(path), name))
        for key, value in part.items():
            line = part.line_of(key)
            if key in doc:
                raise SpecError([f"{line.path}:{line}: error: '{key}' is in {doc.line_of(key).path} too; leave one of the two"])
            doc[key], doc.key_lines[key] = value, line
    if schema_path:
        with open(schema_path, encoding="utf-8") as f:
            schema = f.read()
        problems = Problems(doc.path)
        for err in _validator(schema).iter_errors(doc):
            where = "/".join(str(p) for p in err.absolute_path)
            problems.add(_line_at(doc, err.absolute_path), f"{where or 'top level'}: {err.message}")
        problems.check()
    return doc
