"""The protocol's generator: golden files, bad specs, a new frame without a hand edit, what make rebuilds."""

import glob
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)
os.chdir(ROOT)

from gen import protocol, pycodec, reference, specfile, vectors  # noqa: E402  pylint: disable=wrong-import-position
from gen.specfile import SpecError  # noqa: E402  pylint: disable=wrong-import-position
from tests.gen.scratch import generate, make, objects  # noqa: E402  pylint: disable=wrong-import-position
from tests.support.tap import case, main  # noqa: E402  pylint: disable=wrong-import-position

GOLDEN = "tests/gen/golden"
W = os.environ.get("W", "build")
OUTPUTS = ["wire_gen.h", "wire_gen.c", "hoody_wire.py", "vectors.json", "protocol.md"]


# ---- golden files; HT_UPDATE_GOLDEN=1 writes them anew, for a reader to look at the difference ----

def golden(name, text):
    path = os.path.join(GOLDEN, name)
    if os.environ.get("HT_UPDATE_GOLDEN"):
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
    with open(path, encoding="utf-8") as f:
        want = f.read()
    if text != want:
        for number, (a, b) in enumerate(zip(want.splitlines(), text.splitlines()), 1):
            assert a == b, f"{path}:{number}: {b!r} instead of {a!r}"
        raise AssertionError(f"{path}: {len(text)} characters instead of {len(want)}")


@case("golden C header")
def _():
    golden("wire_gen.h", protocol.render("wire_gen.h", GOLDEN))


@case("golden C codec")
def _():
    golden("wire_gen.c", protocol.render("wire_gen.c", GOLDEN))


@case("golden reference")
def _():
    golden("protocol.md", reference.render("protocol.md", GOLDEN))


@case("golden tables of the Python codec")
def _():
    text = pycodec.render("hoody_wire.py", GOLDEN)
    golden("hoody_wire_tables.txt", text[text.index("\nLIMITS = "):text.index("\nNUMBERS = ")])


@case("golden list of vectors")
def _():
    rows = json.loads(vectors.render("vectors.json", GOLDEN))["vectors"]
    golden("vectors.txt", "".join(
        f"{v['id']}: {v['receiver']} in {v['state']}: {v.get('error', {}).get('rule', 'good')}\n" for v in rows))


@case("the same spec gives the same text twice")
def _():
    assert vectors.render("vectors.json", GOLDEN) == vectors.render("vectors.json", GOLDEN)


# ---- bad specs: (what, replacements in the golden spec, text on the line that must be named, part of the message) ----

BAD = [
    ("duplicate frame number", [("number: 0x02", "number: 0x01 #")],
     "number: 0x01 #", "frame number 0x01 is used twice (first on"),
    ("duplicate frame name", [("name: CHOICE", "name: ASK #")], "name: ASK #", "frame ASK is used twice"),
    ("duplicate code", [("{number: 5,", "{number: 1,")], "name: FRAME_SIZE_ERROR", "code number 1 is used twice"),
    ("duplicate rule", [("{id: MSG-3,", "{id: MSG-2,")], "doc: Not too many", "rule MSG-2 is used twice"),
    ("duplicate field", [("name: loud", "name: pairs")], "In capitals", "field name of ASK: pairs is used twice"),
    ("duplicate key", [("    name: END", "    number: 0x14\n    name: END")], "number: 0x14", "duplicate key 'number'"),
    ("no stream-zero rule", [("    name: CHOICE\n", "    name: CHOICE #\n"),
                             ("    sender: both\n    stream_zero: zero\n", "    sender: both\n")],
     "number: 0x02", "CHOICE has no stream_zero rule; say zero, nonzero or any"),
    ("bound larger than the frame", [("max: 40", "max: 400")],
     "max: 400", "ASK.link: max 400 is larger than the frame; at most 300"),
    ("list larger than the frame", [("of: pair, max: 3", "of: pair, max: 200")],
     "max: 200", "200 items are larger than the frame"),
    ("binary larger than the frame", [("type: text, max: 50", "type: text, max: 299")],
     "max: 299", "314 bytes up to here are larger"),
    ("minimum above maximum", [("min: 1, max: 70000", "min: 8, max: 7")], "min: 8", "min 8 is above max 7"),
    ("no maximum", [("type: uint, max: 99", "type: uint")], "How deep", "ASK.depth has no 'max'"),
    ("no item maximum", [("max: 2, item_max: 5", "max: 2")], "Notes", "place.tags has no 'item_max'"),
    ("number too large for JSON", [("max: 70000", "max: 9007199254740992")],
     "askId", "more than a JSON number can carry exactly"),
    ("unknown link state", [("legal_in: [await_hello]", "legal_in: [await_helo]")], "await_helo]",
     "unknown link state 'await_helo'; known are await_hello, open"),
    ("unknown stream state", [("stream_states: [open]\n    gone: credit", "stream_states: [opened]\n    gone: credit")],
     "[opened]",
     "unknown stream state 'opened'"),
    ("unknown state in a transition", [("to: open, rule", "to: opend, rule")], "opend", "unknown state 'opend'"),
    ("unknown code", [("code: FRAME_SIZE_ERROR, close", "code: SIZE_ERROR, close")],
     "SIZE_ERROR, close", "unknown code 'SIZE_ERROR'"),
    ("unknown close code", [("code: FRAME_SIZE_ERROR, close: 1002", "code: FRAME_SIZE_ERROR, close: 1003")],
     "close: 1003",
     "unknown close code '1003'"),
    ("unknown rule in a list", [("rules: [FRAME-9]", "rules: [FRAME-7]")], "[FRAME-7]", "rule FRAME-7 does not exist"),
    ("unknown rule in a row", [("unknown: skip, rule: FRAME-9", "unknown: skip, rule: TYPE-1")],
     "TYPE-1", "rule TYPE-1 does not exist"),
    ("unknown enum", [("of: colour", "of: color")], "of: color,", "unknown enum 'color'; known are colour"),
    ("unknown record", [("of: place", "of: plaice")], "plaice", "unknown record 'plaice'"),
    ("unknown capability", [("capability: extra", "capability: extras")], "extras", "unknown capability 'extras'"),
    ("list inside a list", [("of: pair, max", "of: place, max")], "of: place, max", "which holds a list itself"),
    ("optional item in a tuple", [("max: 9, required: true", "max: 9")], "The value", "a tuple has no optional items"),
    ("default outside the bounds", [("default: false", "default: 7")],
     "default: 7", "ASK.loud: default 7 does not fit"),
    ("default of a required field", [("max: 99, required: true", "max: 99, required: true, default: 1")],
     "default: 1", "ASK.depth is required and has a default"),
    ("condition on no enum", [("when: {colour: blue}", "when: {askId: blue}")],
     "{askId: blue}", "which is no enum field above it"),
    ("condition on no value", [("when: {colour: blue}", "when: {colour: green}")],
     "{colour: green}", "unknown value of colour 'green'"),
    ("a u64 without a maximum", [("type: u64, max: 9007199254740991", "type: u64")], "In all", "NOTE.total: a u64 needs a 'max'"),
    ("streams on any link", [("stream_zero: any\n", "stream_zero: any\n    any_link: true\n")], "any_link: true\n    legal_in: [open]\n    stream_states",
     "NOTE concerns streams, which stay on their link"),
    ("text not last", [("type: u32", "type: text, max: 5")], "How often", "it must be the last field"),
    ("stream cost without a stream", [("scope: reply", "scope: stream")],
     "scope: stream, code: PROTOCOL_ERROR, close: 1002}\n    rules",
     "ASK has no stream to reset"),
    ("gap in the type ranges", [("from: 0x80", "from: 0x81")],
     "0x81", "without gap or overlap; this one should start at 0x80"),
    ("missing limit", [("name: JSON_DEPTH", "name: OTHER_DEPTH")], "limits:", "limit JSON_DEPTH is missing"),
    ("missing rule", [("{id: FIELD-6,", "{id: FIELD-8,")], "\nrules:", "rule FIELD-6 is missing"),
    ("misspelt key", [("stream_zero: any", "stream_zer: any")], "number: 0x40", "'stream_zer' was unexpected"),
    ("wrong type of a value", [("value: 300", "value: many")], "value: many", "'many' is not of type 'integer'"),
    ("version out of order", [("number: 1, name: v1", "number: 2, name: v1")], "golden.v1", "so this one is v1 with number 1"),
    ("unknown version", [("max: 99, required: true", "max: 99, since: v7, required: true")],
     "since: v7", "unknown version 'v7'; known are v1"),
    ("no version", [("max: 99, required: true", "max: 99, since: two, required: true")], "since: two", "does not match"),
    ("ends before it begins", [("subprotocol: golden.v1, doc: The first.}", "subprotocol: golden.v1, doc: The first.}\n"
                                "  - {number: 2, name: v2, subprotocol: golden.v2, doc: The second.}"),
                               ("max: 99, required: true", "max: 99, since: v2, until: v1, required: true")],
     "until: v1", "until v1 is before since v2"),
    ("a fixed limit that changes", [("value: 300, unit", "value: 300, changes: {v1: 400}, unit")],
     "changes: {v1: 400}", "limit MAX_PAYLOAD cannot change"),
    ("a limit that changes in no later version", [("value: 1000, unit", "value: 1000, changes: {v1: 400}, unit")],
     "changes: {v1: 400}", "unknown later version 'v1'"),
    ("a version in a tuple", [("max: 9, required: true", "max: 9, until: v1, required: true")],
     "until: v1", "a tuple has the same items in every version"),
    ("no YAML", [("protocol: golden", "protocol: [golden")], "doc: A protocol", "not valid YAML"),
]


def bad_spec(replacements, marker):
    """(SpecError, line of the marker, path) for the golden spec with replacements."""
    with open(f"{GOLDEN}/protocol.yaml", encoding="utf-8") as f:
        text = f.read()
    for old, new in replacements:
        assert text.count(old) >= 1, f"{old!r} is not in the golden spec"
        text = text.replace(old, new, 1)
    assert marker in text, f"{marker!r} is not in the spec"
    line = text[:text.index(marker) + (1 if marker.startswith("\n") else 0)].count("\n") + 1
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "protocol.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        try:
            protocol.load(folder)
        except SpecError as e:
            return e, line, path
    raise AssertionError("the spec was accepted")


def register(what, replacements, marker, message):
    @case(f"bad spec: {what}")
    def _():
        error, line, path = bad_spec(replacements, marker)
        want = f"{path}:{line}: error: "
        assert any(p.startswith(want) and message in p for p in error.problems), \
            f"no problem '{want}...{message}' among:\n" + "\n".join(error.problems)


for row in BAD:
    register(*row)


@case("all problems of a spec are shown at once, in order")
def _():
    error, _, _ = bad_spec([("max: 40", "max: 400"), ("of: colour", "of: color")], "max: 400")
    lines = [int(p.split(":")[1]) for p in error.problems]
    assert len(lines) >= 2 and lines == sorted(lines), error.problems


@case("parts of a spec: complaints name the file and the line, and a key stands in one of them")
def _():
    with tempfile.TemporaryDirectory() as folder:
        def write(name, text):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
                f.write(text)

        def problems():
            try:
                return [] if specfile.load(whole, schema) else None
            except SpecError as e:
                return e.problems

        whole, schema = os.path.join(folder, "a.yaml"), os.path.join(folder, "schema.json")
        write("schema.json", '{"properties": {"two": {"items": {"type": "integer"}}, "one": {"type": "integer"}}}')
        write("a.yaml", "# the whole\nparts: [b.yaml]\none: 1\n")
        write("b.yaml", "two:\n  - 2\n  - 3\n")
        assert problems() == [] and specfile.text(whole) == "# the whole\none: 1\n\ntwo:\n  - 2\n  - 3\n"
        write("b.yaml", "two:\n  - 2\n  - three\n")
        assert any(p.startswith(os.path.join(folder, "b.yaml") + ":3: error: ") for p in problems()), problems()
        write("b.yaml", "\none: 2\n")
        assert any(p.startswith(os.path.join(folder, "b.yaml") + ":2: error: 'one' is in ") for p in problems()), problems()


@case("a bad spec ends the generator with its message and without a file")
def _():
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "protocol.yaml"), "w", encoding="utf-8") as f:
            f.write("protocol: 1\n")
        out = os.path.join(folder, "wire_gen.h")
        done = subprocess.run([sys.executable, "-m", "gen", "wire_gen.h", "-o", out, "--spec", folder],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "protocol.yaml:1: error: " in done.stderr, done
        assert "Traceback" not in done.stderr and not os.path.exists(out)


# ---- a new frame and a new field, by an edit of the spec alone ----

NEW_FRAMES = """
  - number: 0x51
    name: PROBE
    doc: A frame of a later version.
    since: v2
    sender: both
    stream_zero: any
    legal_in: [open]
    stream_states: [open]
    gone: ignore
    flow_controlled: false
    violation: {scope: stream, code: CANCEL, close: 1002}
    rules: [PROBE-1]
    payload:
      format: json
      fields:
        - {name: probeId, type: uint, max: 9007199254740991, required: true, doc: Comes back.}
        - {name: reason, type: enum, of: kind, required: true, unknown: keep, doc: Why.}
        - {name: rawPath, type: httpbytes, min: 1, max: 500, required: true, when: {reason: tcp}, doc: Bytes.}
        - {name: samples, type: list, of: sample, min: 1, max: 4, doc: Measured.}
        - {name: where, type: record, of: spot, doc: Where.}
        - {name: urgent, type: bool, default: true, doc: Soon.}
  - number: 0x52
    name: NUDGE
    doc: A binary one.
    since: v2
    sender: driver
    stream_zero: nonzero
    legal_in: [open]
    stream_states: [open]
    gone: ignore
    flow_controlled: false
    violation: {scope: session, code: PROTOCOL_ERROR, close: 1002}
    payload:
      format: binary
      fields:
        - {name: weight, type: u16, min: 2, max: 900, doc: How hard.}
        - {name: token, type: bytes, size: 4, doc: Opaque.}
        - {name: comment, type: text, max: 100, doc: For people.}
"""
NEW_RECORDS = """  - name: sample
    layout: tuple
    doc: One value at a time.
    fields:
      - {name: at, type: uint, max: 4294967295, required: true, doc: When.}
      - {name: name, type: string, max: 20, required: true, doc: Of what.}
  - name: spot
    layout: object
    doc: A place.
    fields:
      - {name: ports, type: list, of: uint, max: 5, item_min: 1, item_max: 65535, doc: Ports.}
      - {name: host, type: string, max: 99, required: true, doc: Host.}

frames:
"""
HAND_WRITTEN = r"""
#include "wire_gen.h"
#include <stdio.h>
#define NEED(x) do { if (!(x)) { printf("line %d: %s\n", __LINE__, #x); return 1; } } while (0)
int main(void) {
    static uint8_t out[70000];
    struct wire_scratch *s = wire_scratch_create();
    struct wire_error err;
    struct wire_sample samples[2] = {{1, ht_slice_str("a")}, {2, ht_slice_str("b")}};
    struct wire_probe probe = {.probe_id = 77, .reason = WIRE_KIND_TCP, .raw_path = ht_slice_str("/\xff"),
                               .samples = samples, .n_samples = 2, .has_where = true,
                               .where = {.host = ht_slice_str("h")}, .urgent = true}, back;
    int n = wire_encode_probe(out, sizeof out, 4, &probe);
    NEED(n > 9 && out[0] == WIRE_PROBE);
    NEED(wire_decode_probe(out + 9, (size_t)n - 9, s, &back, &err) == 0);
    NEED(back.probe_id == 77 && back.n_samples == 2 && back.samples[1].at == 2 && ht_slice_is(back.raw_path, "/\xff"));
    NEED(back.has_where && ht_slice_is(back.where.host, "h") && back.urgent);
    NEED(wire_check_rx(WIRE_ROLE_KIT, WIRE_LINK_OPEN, WIRE_PROBE, 0, 10, &err) == 0);
    NEED(wire_check_rx(WIRE_ROLE_KIT, WIRE_LINK_CLOSING, WIRE_PROBE, 0, 10, &err) == HT_EPROTO);
    NEED(wire_check_tx(WIRE_ROLE_KIT, WIRE_LINK_OPEN, WIRE_NUDGE, 2, 10, &err) == HT_EPROTO);
    NEED(wire_encode_nudge(out, sizeof out, 2, 1, (const uint8_t *)"abcd", ht_slice_str("")) == HT_EINVAL);
    NEED(wire_encode_nudge(out, sizeof out, 2, 900, (const uint8_t *)"abcd", ht_slice_str("hi")) == 9 + 8);
    struct wire_bind_ok ok = {.client_bind_ref = 1, .bind_id = 1, .container_port = 80, .has_mood = true,
                              .mood = ht_slice_str("sunny")}, ok2;
    n = wire_encode_bind_ok(out, sizeof out, 0, &ok);
    NEED(n > 0 && wire_decode_bind_ok(out + 9, (size_t)n - 9, s, &ok2, &err) == 0);
    NEED(ok2.has_mood && ht_slice_is(ok2.mood, "sunny"));
    wire_scratch_destroy(&s);
    return 0;
}
"""


def edited_spec():
    text = specfile.text("spec/protocol.yaml")
    text = text.replace("\nframes:\n", "\n" + NEW_RECORDS, 1)
    text = text.replace("\n# GOAWAYs with fixed words", NEW_FRAMES + "\n# GOAWAYs with fixed words", 1)
    text = text.replace("        - {name: publicUrl,", "        - {name: mood, type: string, max: 9, doc: Of late.}\n"
                        "        - {name: publicUrl,", 1)
    rule = "  - {id: PROBE-1, level: MUST, since: v2, doc: Probes are answered.}\n"
    text = text.replace("\nrules:\n", "\nrules:\n" + rule, 1)
    return text


class Scratch:
    """A copy of the spec with the edit, and everything generated from it; made once."""

    folder = library = None

    @classmethod
    def get(cls):
        if cls.folder is None:
            cls.folder = tempfile.mkdtemp(prefix="ht-gen-")
            spec = os.path.join(cls.folder, "spec")
            os.mkdir(spec)
            with open(os.path.join(spec, "protocol.yaml"), "w", encoding="utf-8") as f:
                f.write(edited_spec())
            for name in OUTPUTS:
                assert generate(name, os.path.join(cls.folder, "gen", name), spec) == (0, "")
        return cls.folder

    @classmethod
    def codec(cls):
        """The wire room over the scratch codec, as strictly as the project does it, once; the rooms below are the project's."""
        if cls.library is None:
            cls.library = os.path.join(cls.get(), "codec.o")
            parts = []
            for source in (f"{cls.folder}/gen/wire_gen.c", *sorted(glob.glob("src/wire/*.c"))):
                parts.append(f"{cls.folder}/{os.path.basename(source)}.o")
                cls.compiler("-c", "-o", parts[-1], source)
            subprocess.run(["ld", "-r", "-o", cls.library, *parts], check=True)
        return cls.library

    @classmethod
    def compiler(cls, *words):
        command = [*shlex.split(os.environ.get("CC", "cc")), "-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Wpedantic",
                   "-Werror", "-Wshadow", "-Wmissing-prototypes", f"-I{cls.get()}/gen", "-Isrc", "-Itests", *words]
        subprocess.run(command, check=True)

    @classmethod
    def compile(cls, *sources, libs=()):
        program = os.path.join(cls.get(), os.path.basename(sources[0]) + ".out")
        cls.compiler("-o", program, *sources, cls.codec(), *objects("base", "json", sanitized=False), *libs)
        return program


@case("new frames and a new field: C codec and checks")
def _():
    source = os.path.join(Scratch.get(), "probe.c")
    with open(source, "w", encoding="utf-8") as f:
        f.write(HAND_WRITTEN)
    subprocess.run([Scratch.compile(source)], check=True, timeout=60)


@case("new frames and a new field: vectors through the C codec")
def _():
    program = Scratch.compile("tests/wire/test_vectors.c", "tests/support/tap.c", libs=("-lcunit", "-lcjson"))
    done = subprocess.run([program], env={**os.environ, "W": Scratch.get()}, capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 0 and "not ok" not in done.stdout, done.stdout


@case("new frames and a new field: vectors exist, good and bad")
def _():
    with open(os.path.join(Scratch.get(), "gen", "vectors.json"), encoding="utf-8") as f:
        rows = json.load(f)["vectors"]
    for name in ("PROBE", "NUDGE"):
        assert sum(v["id"].startswith(f"{name}/good/") for v in rows) >= 3
        assert sum(v["id"].startswith(f"{name}/bad/") for v in rows) >= 5
    assert any(v["id"] == "BIND_OK/bad/mood:too-long" for v in rows)


@case("new frames and a new field: vectors through the Python codec")
def _():
    done = subprocess.run([sys.executable, "tests/gen/test_vectors.py"], env={**os.environ, "W": Scratch.get()},
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and "not ok" not in done.stdout, done.stdout


@case("new frames and a new field: reference")
def _():
    with open(os.path.join(Scratch.get(), "gen", "protocol.md"), encoding="utf-8") as f:
        text = f.read()
    for part in ("| 0x51 | [PROBE](#probe) |", "### nudge", "| `mood` | string, 0..9 bytes | optional |", "### sample",
                 "| PROBE-1 | MUST, v2 |"):
        assert part in text, part


# ---- what make rebuilds ----

def rebuilt(changed):
    """The generated files that make would make anew if `changed` had changed."""
    said = make("-n", f"W={W}", "-W", changed, "gen")
    return {o for row in re.findall(r"^\S+ -m gen (.+) -d", said, re.M) for o in row.split()}


@case("make rebuilds what depends on a file, and nothing else")
def _():
    make(f"W={W}", "gen")
    ours = set(OUTPUTS)
    for changed, want in (
            ("gen/templates/wire_gen.c.j2", {"wire_gen.c"}), ("gen/templates/wire_gen.h.j2", {"wire_gen.h"}),
            ("gen/hoody_wire.py", {"hoody_wire.py"}), ("gen/templates/protocol.md.j2", {"protocol.md"}),
            ("gen/vectors.py", {"vectors.json"}), ("gen/pycodec.py", {"hoody_wire.py"}),
            ("gen/reference.py", {"protocol.md", "vtunnel.md"}), ("spec/protocol.schema.json", ours),
            ("gen/protocol.py", ours | {"vtunnel.md"})):
        have = rebuilt(changed)
        assert have == want, f"{changed}: {sorted(have)} instead of {sorted(want)}"
    assert rebuilt("spec/protocol.yaml") >= ours
    for changed in ("spec/metrics.yaml", "gen/templates/options_gen.c.j2"):
        assert not rebuilt(changed) & ours, changed


@case("every template and module of the generator is a dependency of something")
def _():
    tools = {"gen/specdiff.py"}  # makes nothing
    said = make("-pn", f"W={W}", "gen")
    needed = {p for row in re.findall(r"^[^#\s=][^=\n]*?:\s([^=\n]*)$", said, re.M) for p in row.split()}
    for path in sorted(glob.glob("gen/templates/*.j2") + glob.glob("gen/*.py") + glob.glob("spec/*.*")):
        assert path in tools or path in needed, f"nothing depends on {path}"


if __name__ == "__main__":
    try:
        main()
    finally:
        if Scratch.folder:
            shutil.rmtree(Scratch.folder)
