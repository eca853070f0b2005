"""spec/haproxy.yaml and src/edge/*.j2 -> haproxy_gen.h, haproxy_gen.c: what the edge's agent and HAProxy agree on, and its files
as pieces of text with the agent's settings between them."""

import http
import os
import re

import jinja2

from gen import specfile
from gen.ctext import c_lines, c_string, comment
from gen.render import banner, render as render_template

SPEC = "haproxy.yaml"
# What HAProxy reads: each becomes haproxy_NAME in C.
TEMPLATES = {name: os.path.join("src", "edge", file) for name, file in
             {"config": "haproxy.cfg.j2", "spoe": "gate.spoe.j2", "lua": "gate.lua.j2", "answer_lua": "answer.lua.j2"}.items()}
GATE = ("questions", "args", "answers", "verdicts")
_STRING_MAX = 4000  # C11 5.2.4.1
_MARK = "\x01"  # around a setting's name, in what the template becomes


class _Names:
    """{{ names.x }} in the template: a name that the spec has, which is then used."""

    def __init__(self, kind, values):
        self._kind, self._values, self.used = kind, values, set()

    def __getattr__(self, name):
        if name not in self._values:
            raise specfile.SpecError([f"{os.path.join('src', 'edge')}: error: there is no {self._kind} '{name}'; name one of {', '.join(self._values)}"])
        self.used.add(name)
        return self._values[name]

    __getitem__ = __getattr__


@specfile.once
def load(spec_dir):
    """(the spec, {name of a template: its text as a list of (text, setting or None)})."""
    path = os.path.join(spec_dir, SPEC)
    doc = specfile.load(path, os.path.join(spec_dir, "haproxy.schema.json"))
    checks = specfile.Checks(doc)
    for what, one in (("maps", "map"), ("services", "service"), ("variables", "variable"), ("settings", "setting"), ("failures", "failure")):
        checks.unique(doc[what], "name", one)
    checks.unique(doc["refusals"] + doc["failures"], "name", "refusal or failure")
    for item in doc["maps"]:
        checks.unique(item["fields"], "name", "field")
    checks.unique(doc["log"]["fields"], "name", "field of the log")
    _check_log(doc, checks.bad)
    for what in GATE:
        checks.unique(doc["gate"][what], "name", what[:-1])
    checks.bad.check()
    return doc, _pieces(doc, checks.bad)


def log_name(field):
    """bytesIn -> BYTES_IN, as in HAPROXY_LOG_BYTES_IN."""
    return re.sub("([A-Z])", r"_\1", field["name"]).upper()


def _check_log(doc, bad):
    variables = [v["name"] for v in doc["variables"]]
    for field in doc["log"]["fields"]:
        if "var" in field and field["var"] not in variables:
            bad.add(field.line, f"there is no variable '{field['var']}'; name one of {', '.join(variables)}")
        if field["type"] == "number" and "from" not in field:
            bad.add(field.line, f"'{field['name']}' is a number, which only HAProxy's log-format has: give it `from`")
        if field.get("error") is True and "from" not in field:
            bad.add(field.line, f"'{field['name']}' of an error has to be in HAProxy's log-format: give it `from`, or `error` a text of its own")


class _Log:
    """{{ log.take }}, {{ log.format }} and {{ log.error_format }} in the template. Bytes of visitors are cut first, and then escaped."""

    def __init__(self, doc, v):
        fields = doc["log"]["fields"]
        self.take = "\n    ".join(f"http-request set-var(txn.log_{f['name'].lower()}) {f['take']},bytes(0,{f['max']})" for f in fields if "take" in f)
        self.format = self._format((f, self._of(f, v)) for f in fields)
        self.error_format = self._format((f, f["from"] if f.get("error") is True else f.get("error")) for f in fields)

        self._taken = {f["name"]: f for f in fields if "take" in f}

    def taken(self, name):
        """The variable in which a field is that was taken when the request came."""
        return f"txn.log_{name.lower()}"

    def retake(self, name, sample):
        """Another sample in place of what was taken, as when that has a secret in it."""
        return f"http-request set-var(txn.log_{name.lower()}) {sample},bytes(0,{self._taken[name]['max']})"

    @staticmethod
    def _of(field, v):
        if "from" in field:
            return field["from"]
        if "take" in field:
            return f"%[var(txn.log_{field['name'].lower()}),json(utf8s)]"
        return f"%[var({v[field['var']]}),bytes(0,{field['max']}),json(utf8s)]" if "var" in field else None

    @staticmethod
    def _format(fields):
        # Numbers, too, are strings: what is not there is a dash.
        return "'{" + ",".join(f'"{f["name"]}":"{value}"' for f, value in fields if value) + "}'"


def rows(pieces, settings):
    """A file as strings that every compiler takes, which end with lines. A setting is a \\1 and a letter."""
    text = "".join(piece + (f"\1{chr(ord('a') + settings.index(name))}" if name else "") for piece, name in pieces)
    out = []
    while text:
        cut = len(text) if len(text) <= _STRING_MAX else text.rindex("\n", 0, _STRING_MAX) + 1
        out.append(text[:cut])
        text = text[cut:]
    return out


# What HAProxy answers itself is for this request alone, and has no scripts.
_OWN = ("hdr cache-control no-store hdr vary accept hdr x-content-type-options nosniff "
        "hdr content-security-policy \"default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; form-action 'none'\"")


def said(doc):
    """Refusals and failures, each with the title of its status."""
    return [{**item, "title": http.HTTPStatus(item["status"]).phrase} for item in [*doc["refusals"], *doc["failures"]]]


def _body(item):
    """The body comes from src/edge/answer.lua.j2, which says of what type it is."""
    return f"status {item['status']} content-type text/plain lf-string \"%[lua.answer({item['name']})]\" {_OWN}"


def _failure(item):
    return f"http-error {_body(item)}" + (f" hdr retry-after {item['retry_after']}" if "retry_after" in item else "")


def _refusal(item, v, answers):
    hdr = ""
    if "retry_after" in item:
        hdr += f" hdr retry-after {item['retry_after']}"
    if "retry_answer" in item:
        hdr += f" hdr retry-after %[var({answers[item['retry_answer']]})]"
    if "challenge" in item:
        more = ', charset=\\"UTF-8\\"' if item["challenge"] == "Basic" else ""
        hdr += f' hdr www-authenticate "{item["challenge"]} realm=\\"%[var({v.host})]\\"{more}"'

    def lines(condition):
        return (f"http-request set-var({v.why}) str({item['name']}) if {condition}\n"
                f"    http-request return {_body(item)}{hdr} if {{ var({v.why}) -m found }}")
    return lines


def _pieces(doc, bad):
    settings = {s["name"]: f"{_MARK}{s['name']}{_MARK}" for s in doc["settings"]}
    v = _Names("variable", {x["name"]: "txn." + x["name"] for x in doc["variables"]})
    maps = _Names("map", {m["name"]: f"{settings['folder']}/haproxy/maps/{m['name']}.map" for m in doc["maps"]})
    fields = {m["name"]: _Names("field", {f["name"]: f"field({i},|)" for i, f in enumerate(m["fields"], 1)}) for m in doc["maps"]}
    gate = {what: _Names(what[:-1], {x["name"]: x["name"] for x in doc["gate"][what]}) for what in GATE}
    answers = _Names("answer", {x["name"]: "txn.gate." + x["name"] for x in doc["gate"]["answers"]})
    refusals = _Names("refusal", {r["name"]: _refusal(r, v, answers) for r in doc["refusals"]})
    sets = _Names("setting", settings)
    env = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    names = {"v": v, "map": maps, "field": fields, "set": sets, "http3": doc["http3"], "login": doc["login"], "acme": doc["acme"], "usual": doc["gate"]["usual"], "answer": answers, "log": _Log(doc, v), "answers": doc["gate"]["answers"], "arg": gate["args"],
             "verdict": gate["verdicts"], "question": gate["questions"],
             "patience": {q["name"]: q["patience_ms"] for q in doc["gate"]["questions"]},
             "refuse": lambda name, condition: refusals[name](condition), "said": said(doc), "failures": [_failure(f) for f in doc["failures"]], "cache": doc["cache"]}
    made = {}
    for name, template in TEMPLATES.items():
        with open(os.path.join(os.path.dirname(__file__), "..", template), encoding="utf-8") as f:
            parts = re.split(f"{_MARK}([a-z0-9_]+){_MARK}", env.from_string(f.read()).render(**names))
        made[name] = list(zip(parts[::2], parts[1::2] + [None]))
    for what, these in (("variables", v), ("maps", maps), ("settings", sets), ("refusals", refusals)):
        for item in doc[what]:
            if item["name"] not in these.used:
                bad.add(item.line, f"{' and '.join(TEMPLATES.values())} do not use '{item['name']}' of {what}; remove one of the two")
    for what in ("questions", "args"):
        for item in doc["gate"][what]:
            if item["name"] not in gate[what].used:
                bad.add(item.line, f"{TEMPLATES['spoe']} does not use '{item['name']}' of {what}; remove one of the two")
    bad.check()
    return made


def render(name, spec_dir):
    doc, pieces = load(spec_dir)
    files = {kind: rows(parts, [s["name"] for s in doc["settings"]]) for kind, parts in pieces.items()}
    return render_template(f"{name}.j2", banner=banner(SPEC), doc=doc, said=said(doc), files=files, c=c_string,
                           lines=lambda text: [line.replace("\1", "\\1") for line in c_lines(text)], comment=comment, log_name=log_name)
