"""spec/metrics.yaml and what comes of it: bad specs, and the exposition read by a strict parser."""

import os
import re
from fractions import Fraction

from gen import metrics, protocolref
from tests.gen.scratch import ROOT, Program, complaints, expect_complaint
from tests.support.tap import case, main

SPEC = "metrics.yaml"
PROBE = Program("metrics_probe.c", ["metrics_gen.h", "metrics_gen.c", "wire_gen.h"])
SETS, METRICS = metrics.load(os.path.join(ROOT, "spec"))

_SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)')
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(,|$)')
_VALUE = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]+)?|Inf)|NaN")


def bad(edits, at, what):
    expect_complaint("metrics_gen.h", SPEC, edits, at, what)


def unescape(text):
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text)


def read(text):
    """The exposition as {family: (type, help, {(sample name, labels): value})}; anything odd is an assertion."""
    assert text.endswith("\n") and "\r" not in text
    families, name = {}, None
    lines = text[:-1].split("\n")
    at = 0
    while at < len(lines):
        m = re.fullmatch(r"# HELP (\S+) (.+)", lines[at])
        t = re.fullmatch(r"# TYPE (\S+) (counter|gauge|histogram)", lines[at + 1])
        assert m and t and m[1] == t[1], lines[at]
        name = m[1]
        assert name not in families, f"{name} in two places"
        samples = {}
        at += 2
        while at < len(lines) and not lines[at].startswith("#"):
            s = _SAMPLE.fullmatch(lines[at])
            assert s and _VALUE.fullmatch(s[3]), lines[at]
            suffixes = ("_bucket", "_sum", "_count") if t[2] == "histogram" else ("",)
            assert s[1] in [name + suffix for suffix in suffixes], lines[at]
            labels = _LABEL.findall(s[2] or "")
            assert "".join(f'{k}="{v}"{end}' for k, v, end in labels) == (s[2] or ""), lines[at]
            assert len({k for k, _, _ in labels}) == len(labels), lines[at]
            key = (s[1], tuple((k, unescape(v)) for k, v, _ in labels))
            assert key not in samples, lines[at]
            samples[key] = Fraction(s[3])
            at += 1
        assert samples, f"{name} has no samples"
        families[name] = (t[2], m[2], samples)
    return families


def value(families, name, **labels):
    return families[name][2][(name, tuple(labels.items()))]


def histogram(families, name):
    """([(bound, count)], sum, count), checked."""
    samples = families[name][2]
    buckets = [(dict(labels)["le"], v) for (n, labels), v in samples.items() if n == name + "_bucket"]
    counts = [v for _, v in buckets]
    assert counts == sorted(counts) and buckets[-1][0] == "+Inf"
    bounds = [Fraction(b) for b, _ in buckets[:-1]]
    assert bounds == sorted(set(bounds))
    total = samples[(name + "_count", ())]
    assert total == counts[-1]
    return buckets, samples[(name + "_sum", ())], total


@case("the spec as it is has no complaints")
def _():
    assert complaints("metrics_gen.c", SPEC, []) == []


@case("a metric twice, without the prefix, without its type's ending")
def _():
    bad([("- name: hoody_tunnel_sessions_parked", "- name: hoody_tunnel_sessions_active")],
        "- name: hoody_tunnel_sessions_active\n    type: gauge\n    help: Sessions whose", "there twice")
    bad([("- name: hoody_tunnel_resumes_total", "- name: resumes_total")], "- name: resumes_total", "must begin with")
    bad([("- name: hoody_tunnel_resumes_total", "- name: hoody_tunnel_resumes")], "- name: hoody_tunnel_resumes\n",
        "must end in '_total'")
    bad([("- name: hoody_tunnel_streams_active", "- name: hoody_tunnel_live_total")], "hoody_tunnel_live_total", "a gauge")


@case("labels: a missing set, an unused set, a duplicate label, a duplicate value")
def _():
    bad([("labels: [class]", "labels: [clas]")], "labels: [clas]", "no label set 'clas'")
    bad([("    labels: [class]\n", "")], "  class:\n", "no metric uses")
    bad([("labels: [mode, direction]", "labels: [mode, mode]")], "labels: [mode, mode]", "there twice")
    bad([("values: [sent, received]", "values: [sent, sent]")], "values: [sent, sent]", "there twice")


@case("a list that the protocol does not have")
def _():
    bad([("from: enums/kind", "from: enums/kinds")], "from: enums/kinds", "has no list")


@case("buckets that do not grow, that are no microseconds, that are on a counter; labels on a histogram")
def _():
    bad([("[0.0001, 0.0005,", "[0.0001, 0.0001,")], "[0.0001, 0.0001,", "must grow")
    bad([("[0.0001, 0.0005,", "[0.0001, 0.0005001,")], "[0.0001, 0.0005001,", "microseconds")
    bad([("labels: [class]", "labels: [class]\n    buckets: [1]")], "buckets: [1]", "only a histogram")
    bad([("    buckets: [0.0001", "    labels: [mode]\n    buckets: [0.0001")], "labels: [mode]\n    buckets", "no labels")


@case("what the schema refuses")
def _():
    bad([("    help: Live sessions.\n", "")], "- name: hoody_tunnel_sessions_active", "'help' is a required")
    bad([("type: histogram", "type: summary")], "type: summary", "is not one of")


@case("label sets hold what the protocol lists, in its order")
def _():
    protocol = protocolref.Protocol(os.path.join(ROOT, "spec"))
    sets = {s.name: s.values for s in SETS}
    assert sets["kind"] == protocol.names("enums/kind").values == ["http", "tcp"]
    assert sets["mode"] == ["expose", "pull"]
    assert sets["code"] == protocol.names("codes").values + ["other"]
    assert sets["bind_error"] == protocol.names("enums/bind_error").values
    assert sets["class"][5:] == protocol.names("visitor_answers").values


@case("all zeros: every series of the spec is there, and is 0")
def _():
    families = read(PROBE.run("zero"))
    assert list(families) and "hoody_tunnel_build_info" not in families
    for m in METRICS:
        if m.type == "info":
            continue
        kind, text, samples = families[m.name]
        assert (kind, text) == (m.type, m.help)
        assert set(samples.values()) == {0}
        if m.type != "histogram":
            count = 1
            for _, s in m.labels:
                count *= len(s.values)
            assert len(samples) == count - len(m.skip), m.name
    assert set(families) == {m.name for m in METRICS if m.type != "info"}


@case("pairs of kind and mode that cannot be bound are not there")
def _():
    assert set(read(PROBE.run("zero"))["hoody_tunnel_bindings_active"][2]) == {
        ("hoody_tunnel_bindings_active", (("kind", "http"), ("mode", "expose"))),
        ("hoody_tunnel_bindings_active", (("kind", "tcp"), ("mode", "pull")))}


@case("values end up at their labels; numbers of the protocol find their name; unknown ones are `other`")
def _():
    f = read(PROBE.run("some"))
    assert value(f, "hoody_tunnel_build_info", version='1.0 "x\\y"\nz') == 1
    assert value(f, "hoody_tunnel_sessions_active") == 2
    assert value(f, "hoody_tunnel_bindings_active", kind="http", mode="expose") == 3
    assert value(f, "hoody_tunnel_bindings_active", kind="tcp", mode="pull") == 4
    assert value(f, "hoody_tunnel_fd_permits_available") == -1
    assert value(f, "hoody_tunnel_bytes_total", mode="pull", direction="sent") == 2 ** 63 - 1
    assert value(f, "hoody_tunnel_resets_total", code="BIND_TAKEOVER", direction="received") == 7
    assert value(f, "hoody_tunnel_resets_total", code="other", direction="sent") == 8
    assert value(f, "hoody_tunnel_bind_errors_total", code="ALREADY_BOUND") == 9
    assert value(f, "hoody_tunnel_visitor_responses_total", **{"class": "2xx"}) == 10
    assert value(f, "hoody_tunnel_visitor_responses_total", **{"class": "stream_cap"}) == 11
    assert sum(f["hoody_tunnel_resets_total"][2].values()) == 15


@case("histograms: bounds belong to their bucket, counts add up, the sum is in seconds")
def _():
    f = read(PROBE.run("some"))
    buckets, total, count = histogram(f, "hoody_tunnel_ping_rtt_seconds")
    assert dict(buckets)["0.001"] == 2 and dict(buckets)["0.0025"] == 4 and dict(buckets)["5"] == 4
    assert dict(buckets)["10"] == 6 and count == 8
    assert total == Fraction(0 + 1000 + 1001 + 2500 + 9999999 + 10000000 + 10000001 + 3600000000, 1000000)
    histogram(f, "hoody_tunnel_loop_lag_seconds")


@case("each allocation may fail; the buffer is as it was")
def _():
    assert PROBE.run("fail").startswith("failed=")


if __name__ == "__main__":
    try:
        main()
    finally:
        PROBE.close()
