"""What people and programs read: TAP, JUnit XML, JSON, one HTML page, and the matrix of several implementations."""

import html
import json
import os
import re
import sys
import xml.etree.ElementTree as ET

from .wire import spec


def failed(result, strict=False):
    return result["verdict"] in ("fail", "error") or strict and result["verdict"] == "warn"


def summary(results, seed, seconds, strict=False):
    count = {v: sum(r["verdict"] == v for r in results) for v in ("pass", "fail", "warn", "unsupported", "error")}
    bad = sum(failed(r, strict) for r in results)
    return {"seed": seed, "seconds": round(seconds, 1), "cases": len(results), **count, "failed": bad,
            "passed": len(results) - bad - count["unsupported"],
            "implementations": sorted({r["implementation"] for r in results})}


# ---- TAP ----

def _comment(text):
    """Lines that no reader of TAP takes for results."""
    return "\n".join(f"# {line}" for line in text.splitlines())


class Tap:
    """One line for each case as it ends; a progress line on a terminal, on standard error."""

    def __init__(self, total, out):
        self.total, self.out, self.number, self.bad = total, out, 0, 0
        self.live = sys.stderr.isatty()

    def result(self, r):
        self.number += 1
        ok = not failed(r)
        self.bad += not ok
        note = {"unsupported": f" # SKIP {r['behaviour'].get('text', '')}", "warn": " # TODO a SHOULD that is not kept"}.get(r["verdict"], "")
        self._clear()
        word = "ok" if ok and r["verdict"] != "warn" else "not ok"
        print(f"{word} {self.number} - {r['key']} {r['title']} ({r['ms']} ms){note}", file=self.out)
        if r["verdict"] in ("fail", "warn", "error"):
            self._explain(r)
        self.out.flush()
        if self.live:
            print(f"\r{self.number} of {self.total}, {self.bad} failed: {r['key'][:70]}", end="", file=sys.stderr, flush=True)

    def _clear(self):
        if self.live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _explain(self, r):
        for rule in dict.fromkeys(r["rules"] + r["violates"]):
            print(f"# {spec.rules[rule]['level']} {rule}: {spec.rules[rule]['doc']}", file=self.out)
        for name in ("behaviour", "closing"):
            v = r[name]
            if v.get("verdict") not in ("pass", None):
                print(_comment(f"{name}, step {v.get('step', 'end')}: {v['text']}"), file=self.out)
                if v.get("expected"):
                    print(_comment(f"  expected: {v['expected'][:600]}"), file=self.out)
                    print(_comment(f"  came:     {v['came'][:600]}"), file=self.out)
        if r["fails"]:
            print(f"# what it means: {r['fails']}", file=self.out)
        for ms, step, who, way, text in r["log"][-14:]:
            print(f"#   {ms:9.1f} ms  step {step:<3} {who:>6} {way} {text[:300]}", file=self.out)

    def close(self, s):
        self._clear()
        print(f"1..{self.number}", file=self.out)
        print(f"# {s['cases']} cases in {s['seconds']} s: {s['pass']} passed, {s['fail']} failed, {s['warn']} kept no SHOULD, "
              f"{s['unsupported']} unsupported, {s['error']} wrong cases; seed {s['seed']}", file=self.out)
        print(f"{s['passed']} passed, {s['failed']} failed", file=self.out, flush=True)


# ---- files ----

def write_json(path, results, s):
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"summary": s, "results": results}, f, indent=1, default=str)


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")


def write_junit(path, results, s):
    suite = ET.Element("testsuite", name="conformance", tests=str(len(results)), failures=str(s["failed"]),
                       skipped=str(s["unsupported"]), time=str(s["seconds"]))
    for r in results:
        case = ET.SubElement(suite, "testcase", classname=f"{r['implementation']}.{r['side']}.{r['version']}", name=r["key"],
                             time=str(r["ms"] / 1000))
        text = "\n".join(f"{n}: {r[n]['text']}\nexpected: {r[n].get('expected')}\ncame: {r[n].get('came')}"
                         for n in ("behaviour", "closing") if r[n].get("text"))
        if r["verdict"] == "unsupported":
            ET.SubElement(case, "skipped", message=_NOT_XML.sub("?", r["behaviour"]["text"]))
        elif r["verdict"] != "pass":
            kind = ET.SubElement(case, "failure" if failed(r) else "system-out")
            kind.text = _NOT_XML.sub("?", text)
    ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def matrix_of(results):
    """{rule: {implementation: [verdicts]}} in the spec's order."""
    names = sorted({r["implementation"] for r in results})
    table = {}
    for rule in spec.rules:
        row = {n: [r for r in results if r["implementation"] == n and rule in r["rules"] + r["violates"]] for n in names}
        if any(row.values()):
            table[rule] = row
    return names, table


def cell(rows):
    if not rows:
        return "-", "none"
    count = {v: sum(r["verdict"] == v for r in rows) for v in ("pass", "fail", "error", "warn", "unsupported")}
    bad = count["fail"] + count["error"]
    if count["unsupported"] == len(rows):
        return "unsupported", "unsupported"
    text = f"{count['pass']}/{len(rows) - count['unsupported']}"
    return text, "fail" if bad else "warn" if count["warn"] else "pass"


def matrix_text(results):
    """The matrix as Markdown."""
    names, table = matrix_of(results)
    lines = ["| rule | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    mark = {"pass": "", "fail": " FAIL", "warn": " warn", "unsupported": "", "none": ""}
    for rule, row in table.items():
        cells = [cell(row[n]) for n in names]
        lines.append(f"| {rule} | " + " | ".join(t + mark[k] for t, k in cells) + " |")
    return "\n".join(lines)


# ---- HTML ----

def write_html(path, results, s):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "report.html"), encoding="utf-8") as f:
        page = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(page.replace("<!--HEAD-->", _head(s)).replace("<!--MATRIX-->", _matrix(results)).replace(
            "<!--RULES-->", _rules(results)))


def _head(s):
    return (f"<p class=sum><b>{html.escape(', '.join(s['implementations']))}</b>: {s['cases']} cases, "
            f"<span class=pass>{s['pass']} passed</span>, <span class=fail>{s['fail'] + s['error']} failed</span>, "
            f"<span class=warn>{s['warn']} kept no SHOULD</span>, <span class=unsupported>{s['unsupported']} unsupported</span>. "
            f"{s['seconds']} s, seed {s['seed']}.</p>")


def _matrix(results):
    names, table = matrix_of(results)
    out = ["<table class=matrix><tr><th>rule<th>level" + "".join(f"<th>{html.escape(n)}" for n in names)]
    for rule, row in table.items():
        cells = "".join(f"<td class={k}>{t}" for t, k in (cell(row[n]) for n in names))
        out.append(f"<tr><td><a href='#{rule}' title='{html.escape(spec.rules[rule]['doc'], True)}'>{rule}</a>"
                   f"<td>{spec.rules[rule]['level']}{cells}")
    return "\n".join(out) + "</table>"


def _rules(results):
    """Each case stands below its first rule; the others point there."""
    out = []
    for rule, doc in spec.rules.items():
        mine = [r for r in results if rule in r["rules"] + r["violates"]]
        if not mine:
            continue
        worst = next((v for v in ("error", "fail", "warn", "pass", "unsupported") if any(r["verdict"] == v for r in mine)), "pass")
        out.append(f"<section id='{rule}'><h3 class={worst}>{rule} <small>{doc['level']}"
                   f"{', since ' + doc['since'] if 'since' in doc else ''}</small></h3><p class=rule>{html.escape(doc['doc'])}</p>")
        mine.sort(key=lambda r: (r["verdict"] == "pass", r["key"], r["implementation"]))
        out += [_case(r, rule) for r in mine if (r["rules"] + r["violates"])[0] == rule]
        others = [r for r in mine if (r["rules"] + r["violates"])[0] != rule]
        if others:
            out.append("<p class=also>" + " ".join(f"<a class={r['verdict']} href='#{_anchor(r)}'>{html.escape(r['key'])}</a>"
                                                   for r in others) + "</p>")
        out.append("</section>")
    rest = [r for r in results if not r["rules"] and not r["violates"]]
    if rest:
        out.append("<section id=other><h3>the admin API and the rest</h3>" + "".join(_case(r, "") for r in rest) + "</section>")
    return "\n".join(out)


def _anchor(r):
    return html.escape(re.sub(r"[^A-Za-z0-9]+", "-", f"{r['implementation']}-{r['key']}"), True)


def _case(r, rule):
    sign = "a violation is provoked" if rule in r["violates"] else ""
    body = []
    for name in ("behaviour", "closing"):
        v = r[name]
        if v.get("text"):
            body.append(f"<table class=verdict><tr><th>{name}<td>{html.escape(v['text'])}<tr><th>expected<td>{html.escape(v.get('expected') or '')}"
                        f"<tr><th>came<td>{html.escape(v.get('came') or '')}</table>")
    if r["fails"]:
        body.append(f"<p>What a failure means: {html.escape(r['fails'])}</p>")
    bad_step = r["behaviour"].get("step")
    rows = "".join(f"<tr{' class=at' if step == bad_step else ''}><td>{ms}<td>{step}<td>{html.escape(who)}<td>{html.escape(way)}"
                   f"<td>{html.escape(_cut(text, r['verdict']))}" for ms, step, who, way, text in _around(r))
    body.append(f"<table class=log><tr><th>ms<th>step<th>who<th><th>frame{rows}</table>")
    if r["output"]:
        body.append(f"<pre>{html.escape(chr(10).join(r['output']))}</pre>")
    return (f"<details id='{_anchor(r)}'{' open' if r['verdict'] in ('fail', 'error') else ''}><summary class={r['verdict']}><code>{html.escape(r['key'])}</code> "
            f"{html.escape(r['title'])} <small>{html.escape(r['implementation'])}, {r['verdict']}, {r['ms']} ms {sign}</small></summary>"
            + "".join(body) + "</details>")


def _cut(text, verdict):
    limit = 160 if verdict == "pass" else 2000
    return text if len(text) <= limit else text[:limit] + "..."


def _around(r):
    """The log; of a long one that passed, both ends; of a passed one beside other implementations, nothing."""
    log = r["log"] if r["verdict"] != "pass" or not r.get("beside") else []
    if r["verdict"] == "pass" and len(log) > 24:
        return log[:12] + [("", "", "", "", f"... {len(log) - 24} lines ...")] + log[-12:]
    return log if len(log) <= 160 else log[:40] + [("", "", "", "", f"... {len(log) - 160} lines ...")] + log[-120:]
