"""The values and matchers of case files: YAML tags, $variables, and how what came is compared with what was expected.

A plain value in an expectation matches when it is equal; a mapping matches when each of its members does (others may be
there); a list matches item by item. The tags below say more than "equal". README.md has the table.
"""

import ast
import operator
import random
import re

import yaml


class Tagged:
    """A tag of a case file. `arg` is what stood behind it."""

    def __init__(self, tag, arg):
        self.tag, self.arg = tag, arg

    def __repr__(self):
        return f"!{self.tag} {self.arg!r}"


VALUE_TAGS = ("expr", "hex", "repeat", "random", "members", "crlf")
MATCH_TAGS = ("any", "re", "range", "not", "in", "notin", "absent", "save", "has", "len", "all", "unordered", "notnames", "without", "ordered")


class Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):
    """YAML with our tags. Duplicate keys are errors: the last one would win silently."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if isinstance(name, (str, int)) and name in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} is there twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def _construct(loader, suffix, node):
    if suffix not in VALUE_TAGS + MATCH_TAGS:
        raise yaml.constructor.ConstructorError(None, None, f"there is no tag !{suffix}", node.start_mark)
    if isinstance(node, yaml.ScalarNode):
        arg = loader.construct_scalar(node)
        if not node.style and suffix not in ("hex", "re", "crlf"):
            resolved = loader.resolve(yaml.ScalarNode, node.value, (True, False))
            arg = loader.construct_object(yaml.ScalarNode(resolved, node.value, node.start_mark, node.end_mark))
    elif isinstance(node, yaml.SequenceNode):
        arg = loader.construct_sequence(node, deep=True)
    else:
        arg = loader.construct_mapping(node, deep=True)
    return Tagged(suffix, arg)


Loader.add_multi_constructor("!", _construct)
# YAML 1.1 reads `on` and `off` as booleans; case files mean the words.
Loader.yaml_implicit_resolvers = {first: [r for r in rows if r[0] != "tag:yaml.org,2002:bool"]
                                  for first, rows in Loader.yaml_implicit_resolvers.items()}
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))


class Named(int):
    """A number of the protocol that also equals its name."""

    def __new__(cls, number, names):
        self = super().__new__(cls, number)
        self.name = names.get(number, str(number))
        return self

    def __eq__(self, other):
        return self.name == other if isinstance(other, str) else int(self) == other

    __hash__ = int.__hash__

    def __repr__(self):
        return self.name if self.name == str(int(self)) else f"{int(self)} {self.name}"


class CaseError(Exception):
    """The case itself is wrong."""


# ---- values ----

_OPS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
        ast.Mod: operator.mod}


def calculate(text, lookup):
    """Integer arithmetic and names: `streamWindow + 1`, `LIMIT.MAX_PAYLOAD * 2`."""

    def walk(node):
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.BinOp) and type(node.op) in _OPS:
            return _OPS[type(node.op)](walk(node.left), walk(node.right))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -walk(node.operand)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq):
            return walk(node.left) == walk(node.comparators[0])
        if isinstance(node, (ast.Name, ast.Attribute)):
            return lookup(ast.unparse(node))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("len", "str"):
            return {"len": len, "str": str}[node.func.id](walk(node.args[0]))
        raise CaseError(f"!expr {text}: only names, numbers and + - * // % are understood")

    return walk(ast.parse(text.strip(), mode="eval").body)


class Scope:
    """Variables of one run. Names may have dots; `$a.b` looks up the variable a.b, or the member b of a."""

    def __init__(self, values=None, seed=0):
        self.values = dict(values or {})
        self.seed = seed
        self.authored = set()  # variables that stand in a case file, and may hold tags and other variables

    def get(self, name):
        if name in self.values:
            return self.values[name]
        head, _, last = name.rpartition(".")
        if not head:
            raise CaseError(f"${name} was never set")
        owner = self.get(head)
        if isinstance(owner, dict) and last in owner:
            return owner[last]
        if isinstance(owner, list) and last.isdigit() and int(last) < len(owner):
            return owner[int(last)]
        raise CaseError(f"${name} was never set")

    def set(self, name, value):
        self.values[name] = value

    def fill(self, value):
        """The value with variables and value tags replaced; match tags stay, with their arguments filled in."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self.fill(v) for v in value]
        if isinstance(value, dict):
            return {(self._text(k) if isinstance(k, str) else k): self.fill(v) for k, v in value.items()}
        if isinstance(value, Tagged):
            return self._tagged(value)
        return value

    _NAME = r"[A-Za-z_][A-Za-z_0-9]*(?:\.[A-Za-z_0-9]+)*"

    def _text(self, text):
        whole = re.fullmatch(rf"\$({self._NAME})", text)
        if whole:
            value = self.get(whole.group(1))
            plain = isinstance(value, str) and not re.fullmatch(rf"\${self._NAME}", value)
            return self.fill(value) if whole.group(1) in self.authored and not plain else value
        return re.sub(rf"\$\{{({self._NAME})\}}", lambda m: str(self.get(m.group(1))), text)

    def _tagged(self, t):
        if t.tag == "expr":
            return calculate(str(t.arg), self.get)
        if t.tag in ("save", "re"):
            return t if t.tag == "re" or not isinstance(t.arg, list) else Tagged("save", [t.arg[0], self.fill(t.arg[1])])
        arg = self.fill(t.arg)
        if t.tag == "hex":
            return bytes.fromhex(arg)
        if t.tag == "crlf":  # a block of text whose lines end as HTTP wants it
            return as_bytes(arg).rstrip(b"\n").replace(b"\n", b"\r\n") + b"\r\n\r\n"
        if t.tag == "repeat":
            if any(isinstance(a, bytes) for a in arg):
                arg = [a if isinstance(a, int) else as_bytes(a) for a in arg]
            out = arg[0] * arg[1]
            return out + arg[2] if len(arg) > 2 else out
        if t.tag == "random":
            return random.Random(f"{self.seed}/{arg}").randbytes(int(arg))
        if t.tag == "members":  # JSON members a0, a1, ...: the text between { and }
            return ",".join(f'"a{i}":{i}' for i in range(arg))
        return Tagged(t.tag, arg)


def as_bytes(value):
    """Text in case files stands for its bytes: UTF-8, but \\x80-\\xff written as escapes stay single bytes."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, list):
        return b"".join(as_bytes(v) for v in value)
    if value is None:
        return b""
    try:
        return str(value).encode("latin-1")
    except UnicodeEncodeError:
        return str(value).encode()


# ---- matching ----

ABSENT = object()


def show(value, limit=300):
    if value is ABSENT:
        return "nothing"
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def mismatch(want, have, scope, where=""):
    """None when `have` is as wanted; else a sentence that says where it is not. Saves variables on the way."""
    at = f"{where}: " if where else ""
    if isinstance(want, Tagged):
        return _tag_mismatch(want, have, scope, where)
    if have is ABSENT:
        return f"{at}wanted {show(want)}, but it is not there"
    if isinstance(want, dict):
        if not isinstance(have, dict):
            return f"{at}wanted an object, got {show(have)}"
        for key, one in want.items():
            bad = mismatch(one, have.get(key, ABSENT), scope, f"{where}.{key}" if where else str(key))
            if bad:
                return bad
        return None
    if isinstance(want, list):
        if not isinstance(have, (list, tuple)) or len(have) != len(want):
            return f"{at}wanted {len(want)} items {show(want)}, got {show(have)}"
        for i, (one, other) in enumerate(zip(want, have)):
            bad = mismatch(one, other, scope, f"{where}[{i}]")
            if bad:
                return bad
        return None
    if isinstance(have, (bytes, bytearray)) and isinstance(want, (str, bytes)):
        want = as_bytes(want)
    same_kind = isinstance(want, bool) == isinstance(have, bool)
    if same_kind and have == want:
        return None
    return f"{at}wanted {show(want)}, got {show(have)}"


def _tag_mismatch(want, have, scope, where):
    at, arg = f"{where}: " if where else "", want.arg
    if want.tag == "absent":
        return None if have is ABSENT else f"{at}wanted nothing, got {show(have)}"
    if have is ABSENT and want.tag not in ("not", "in"):
        return f"{at}wanted {want!r}, but it is not there"
    if want.tag == "any":
        return None
    if want.tag == "save":
        name, inner = arg if isinstance(arg, list) else (arg, Tagged("any", None))
        bad = mismatch(inner, have, scope, where)
        if not bad:
            scope.set(name, have)
        return bad
    if want.tag == "re":
        text = have.decode("latin-1") if isinstance(have, (bytes, bytearray)) else have
        ok = isinstance(text, str) and re.search(arg, text, re.S)
        return None if ok else f"{at}wanted /{arg}/, got {show(have)}"
    if want.tag == "range":
        ok = isinstance(have, (int, float)) and not isinstance(have, bool) and arg[0] <= have <= arg[1]
        return None if ok else f"{at}wanted a number in {arg[0]}..{arg[1]}, got {show(have)}"
    if want.tag == "not":
        return f"{at}wanted anything but {show(arg)}" if mismatch(arg, have, scope, where) is None else None
    if want.tag == "in":
        ok = any(mismatch(one, have, scope, where) is None for one in arg)
        return None if ok else f"{at}wanted one of {show(arg)}, got {show(have)}"
    if want.tag == "notin":
        hit = any(mismatch(one, have, scope, where) is None for one in arg)
        return f"{at}wanted none of {show(arg)}, got {show(have)}" if hit else None
    if want.tag == "all":
        return next((bad for bad in (mismatch(one, have, scope, where) for one in arg) if bad), None)
    if want.tag == "len":
        bad = mismatch(arg, len(have), scope, f"{where}.length")
        return bad
    if want.tag == "has":
        if isinstance(have, (bytes, bytearray)):
            return None if as_bytes(arg) in have else f"{at}wanted {show(arg)} in it, got {show(have)}"
        if isinstance(have, str):
            return None if str(arg) in have else f"{at}wanted {show(arg)} in it, got {show(have)}"
        ok = any(mismatch(arg, one, scope, where) is None for one in have)
        return None if ok else f"{at}wanted {show(arg)} among {show(have)}"
    if want.tag == "notnames":
        hit = [pair for pair in have if pair[0] in arg]
        return f"{at}wanted none of {', '.join(arg)}, got {show(hit)}" if hit else None
    if want.tag == "without":
        hit = [one for one in have if any(mismatch(w, one, scope) is None for w in arg)]
        return f"{at}wanted none of {show(arg)}, got {show(hit)}" if hit else None
    if want.tag == "ordered":
        rest = iter(have)
        lost = next((w for w in arg if not any(mismatch(w, one, scope) is None for one in rest)), None)
        return f"{at}wanted {show(arg)} in this order, {show(lost)} is not there, got {show(have)}" if lost is not None else None
    if want.tag == "unordered":
        rest = list(have)
        for one in arg:
            hit = next((i for i, other in enumerate(rest) if mismatch(one, other, scope, where) is None), None)
            if hit is None:
                return f"{at}wanted {show(one)} among {show(have)}"
            del rest[hit]
        return f"{at}{show(rest)} is there too" if rest else None
    raise CaseError(f"{want!r} cannot be expected")
