"""The generator's second kind of wire: bad specs, a message without a hand edit, and codecs that agree."""

import json
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)
os.chdir(ROOT)
GEN = os.path.join(os.environ.get("W", "build"), "gen")
sys.path.insert(0, GEN)

import vtunnel_wire as wire  # noqa: E402  pylint: disable=wrong-import-position
from gen import textvectors, textwire  # noqa: E402  pylint: disable=wrong-import-position
from gen.specfile import SpecError  # noqa: E402  pylint: disable=wrong-import-position
from tests.gen.scratch import generate, objects  # noqa: E402  pylint: disable=wrong-import-position
from tests.support.tap import case, main  # noqa: E402  pylint: disable=wrong-import-position

SPEC = "spec/vtunnel.yaml"
SEED = int(os.environ.get("HT_SEED", "20261128"))
ROUNDS = int(os.environ.get("HT_ROUNDS", "20000"))
PIECES = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"0", b"-1", b"1.0", b"9" * 20, b'""', b"\\u0000", b"\\/", b"=",
          b"==", b"+/", b"-_", b"\xc3\xa9", b"\xff", b'"data":"QQ==",', b'"DATA":"QUI=",', b'"port":5,', b'"Port":-7,', b'"type":"close",',
          b'"stream_id":4294967296,', b'"error":7,', b'"local_addr":null,', b" ", b"\n", b"\x00", b"\xef\xbb\xbf"]

with open(SPEC, encoding="utf-8") as spec_file:
    TEXT = spec_file.read()


# ---- bad specs: (what, replacements, text on the line that must be named, part of the message) ----

BAD = [
    ("duplicate message", [("name: listen_ok", "name: listen")], "name: listen\n    doc: The port is open", "message listen is used twice (first on line"),
    ("duplicate field", [("name: error, type", "name: port, type")], "name: port, type: string", "field port is used twice"),
    ("duplicate rule", [("{id: VMSG-2,", "{id: VMSG-1,")], "doc: \"Keys stand", "rule VMSG-1 is used twice"),
    ("duplicate limit", [("name: JSON_KEYS", "name: JSON_DEPTH")], "Most keys", "limit JSON_DEPTH is used twice"),
    ("a field called type", [("name: error, type", "name: type, type")], "name: type, type", "field type is in every message by itself"),
    ("unknown field", [("fields: [port, error]", "fields: [port, eror]")], "eror]", "unknown field 'eror'; known are port, stream_id"),
    ("field named twice", [("fields: [port, error]", "fields: [port, port]")], "[port, port]", "listen_err names port twice"),
    ("a stream without an id", [("stream: true\n    fields: [stream_id, data]", "stream: true\n    fields: [data]")],
     "stream: true\n    fields: [data]", "data is about a stream; add stream_id"),
    ("minimum above maximum", [("max: 1024,", "min: 2000, max: 1024,")], "min: 2000", "min 2000 is above max 1024"),
    ("a sign on a uint", [("type: uint, max", "type: uint, min: -1, max")], "min: -1", "only an int has a sign"),
    ("a uint over 32 bits", [("max: 4294967295", "max: 4294967296")], "4294967296", "does not fit 32 bits"),
    ("an int that JSON cannot carry", [("max: 2147483647", "max: 9007199254740992")], "9007199254740992", "carry exactly"),
    ("base64 larger than a message", [("max: 196608", "max: 196609")], "196609", "larger than a message of 262144 bytes"),
    ("a string larger than a message", [("max: 1024,", "max: 300000,")], "300000", "larger than a message"),
    ("missing limit", [("name: JSON_DEPTH", "name: DEPTH")], "limits:", "limit JSON_DEPTH is missing"),
    ("deeper than the reader", [("name: JSON_DEPTH, value: 16", "name: JSON_DEPTH, value: 65")], "value: 65", "at most 64"),
    ("unknown rule in a list", [("rules: [VDATA-1, VDATA-2]", "rules: [VDATA-1, VDATA-9]")], "VDATA-9]", "rule VDATA-9 does not exist"),
    ("unknown rule of a field", [("rule: VDATA-2, doc", "rule: VDATA-8, doc")], "rule: VDATA-8", "rule VDATA-8 does not exist"),
    ("unknown rule of bad messages", [("bad_message: VMSG-3", "bad_message: VMSG-33")], "bad_message: VMSG-33", "rule VMSG-33 does not exist"),
    ("unknown state", [("to: closing, rule", "to: closin, rule")], "closin,", "unknown state 'closin'"),
    ("unknown close code", [("name: SILENT, code: 1001", "name: SILENT, code: 1003")], "code: 1003", "unknown close code '1003'"),
    ("unknown place holder", [("{port}: invalid", "{prt}: invalid")], "{prt}", "unknown place holder 'prt'"),
    ("two place holders", [("{port}: invalid", "{port}{port}: invalid")], "{port}{port}", "more than one place holder"),
    ("misspelt key", [("sender: both\n", "sendr: both\n")], "name: data\n", "'sendr' was unexpected"),
    ("unknown sender", [("sender: both\n", "sender: driver\n")], "sender: driver", "'driver' is not one of"),
    ("another kind of wire", [("wire: text\nprotocol", "wire: frames\nprotocol")], "wire: frames", "'text' was expected"),
    ("a rule of the other protocol", [("{id: VMSG-2,", "{id: MSG-2,")], "{id: MSG-2", "does not match"),
]


def problems_of(text):
    """(problems, path) of a spec with that text."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "vtunnel.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        try:
            textwire.load(folder)
        except SpecError as e:
            return e.problems, path
    raise AssertionError("the spec was accepted")


def register(what, replacements, marker, message):
    @case(f"bad spec: {what}")
    def _():
        text = TEXT
        for old, new in replacements:
            assert old in text, f"{old!r} is not in the spec"
            text = text.replace(old, new, 1)
        line = text[:text.index(marker)].count("\n") + 1
        problems, path = problems_of(text)
        want = f"{path}:{line}: error: "
        assert any(p.startswith(want) and message in p for p in problems), f"no '{want}...{message}' among:\n" + "\n".join(problems)


for row in BAD:
    register(*row)


# ---- a message and a field more, by an edit of the spec alone ----

HAND_WRITTEN = r"""
#include "vtunnel_gen.h"
#include <stdio.h>
#define NEED(x) do { if (!(x)) { printf("line %d: %s\n", __LINE__, #x); return 1; } } while (0)
int main(void) {
    static const char want[] = "{\"type\":\"resume\",\"stream_id\":3,\"mood\":\"sunny\",\"proof\":\"AQI=\"}";
    struct vtunnel_message m = {.type = VTUNNEL_RESUME, .stream_id = 3, .mood = ht_slice_str("sunny"), .proof = ht_slice_of("\1\2", 2)}, back;
    uint8_t out[200];
    struct json_arena none = {0};
    struct wire_text_error err;
    int n = wire_text_encode(&vtunnel_spec, &m, out, sizeof out);
    NEED(n == (int)sizeof want - 1 && memcmp(out, want, sizeof want - 1) == 0);
    NEED(wire_text_decode(&vtunnel_spec, VTUNNEL_ROLE_SERVER, out, (size_t)n, &none, &back, &err) == HT_EPROTO);
    n = wire_text_encode(&vtunnel_spec, &m, out, sizeof out);
    NEED(wire_text_decode(&vtunnel_spec, VTUNNEL_ROLE_CLIENT, out, (size_t)n, &none, &back, &err) == 0);
    NEED(back.type == VTUNNEL_RESUME && back.stream_id == 3 && back.proof.n == 2 && ht_slice_is(back.mood, "sunny"));
    NEED(vtunnel_is_of_stream(VTUNNEL_RESUME) && !vtunnel_is_of_stream(VTUNNEL_LISTEN));
    NEED(vtunnel_stream_may(VTUNNEL_STREAM_OPEN, VTUNNEL_STREAM_GONE) && !vtunnel_stream_may(VTUNNEL_STREAM_GONE, VTUNNEL_STREAM_OPEN));
    return 0;
}
"""


@case("a new message with new fields needs no hand edit: C codec, Python codec and vectors")
def _():
    text = TEXT.replace("messages:\n", "messages:\n  - name: resume\n    doc: Of later.\n    sender: client\n    stream: true\n"
                        "    fields: [stream_id, mood, proof]\n    rules: [VSTREAM-1]\n", 1)
    text = text.replace("  - {name: local_addr,", "  - {name: mood, type: string, max: 9, doc: Of late.}\n"
                        "  - {name: proof, type: base64, max: 9, doc: Bytes.}\n  - {name: local_addr,", 1)
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "vtunnel.yaml"), "w", encoding="utf-8") as f:
            f.write(text)
        for out in ("vtunnel_gen.h", "vtunnel_gen.c", "vtunnel_wire.py", "vtunnel_vectors.json", "vtunnel.md"):
            assert generate(out, f"{folder}/{out}", folder) == (0, "")
        with open(f"{folder}/vtunnel_vectors.json", encoding="utf-8") as f:
            assert sum("message" in v and v["message"]["type"] == "resume" for v in json.load(f)["vectors"]) > 5
        with open(f"{folder}/hand.c", "w", encoding="utf-8") as f:
            f.write(HAND_WRITTEN)
        build(f"{folder}/hand", [f"{folder}/hand.c", f"{folder}/vtunnel_gen.c"], folder)
        done = subprocess.run([f"{folder}/hand"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        code = ("import vtunnel_wire as w; t = w.encode({'type': 'resume', 'stream_id': 3, 'mood': 'x', 'proof': b'ab'}); "
                "assert w.decode(t, 'client')['proof'] == b'ab', t")
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": f"{folder}:{GEN}"})


def build(program, sources, gen):
    subprocess.run([*shlex.split(os.environ.get("CC", "cc")), "-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra",
                    "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-Isrc", f"-I{gen}", f"-I{GEN}", "-o", program,
                    *sources, *objects("base", "json", "wire", generated=["wire_gen"])], check=True)


# ---- the codecs ----

def load_vectors():
    return json.loads(textvectors.render("vtunnel_vectors.json", "spec"))["vectors"]


def in_python(sender, data):
    try:
        return "ok " + wire.encode(wire.decode(data, sender)).hex()
    except wire.TextError as e:
        return e.rule + ("" if e.stream is None else f" {e.stream}")


@case("each vector through the Python codec")
def _():
    rows = load_vectors()
    assert len(rows) > 150
    for v in rows:
        want = f"ok {v['canonical']}" if "message" in v else v["error"] + (f" {v['stream']}" if "stream" in v else "")
        got = in_python(v["sender"], bytes.fromhex(v["hex"]))
        assert got == want, f"{v['id']}: {got} instead of {want}"


def mutate(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(5)
        if how == 0:
            data[at:at + 1] = bytes([rng.randrange(256)])
        elif how == 1:
            data[at:at] = rng.choice(PIECES)
        elif how == 2:
            data[at:at + rng.randrange(1, 8)] = rng.choice(PIECES)
        elif how == 3:
            del data[at:at + rng.randrange(1, 12)]
        else:
            data[1:1] = rng.choice([p for p in PIECES if p.endswith(b",") and b":" in p])
    return bytes(data)


@case("mutated vectors through both codecs")
def _():
    print(f"# HT_SEED={SEED} HT_ROUNDS={ROUNDS}")
    rng = random.Random(SEED)
    sources = [v for v in load_vectors() if len(v["hex"]) < 2000]
    rows = [(v["sender"], mutate(rng, bytes.fromhex(v["hex"]))) for v in rng.choices(sources, k=ROUNDS)]
    with tempfile.TemporaryDirectory() as folder:
        build(f"{folder}/text_lines", ["tests/gen/c/text_lines.c", *objects(generated=["vtunnel_gen"])], GEN)
        done = subprocess.run([f"{folder}/text_lines"], input="".join(f"{s} {d.hex()}\n" for s, d in rows), capture_output=True, text=True,
                              timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    differ, good = [], 0
    for (sender, data), c in zip(rows, done.stdout.splitlines(), strict=True):
        python = in_python(sender, data)
        good += python.startswith("ok")
        if python != c:
            differ.append(f"{sender} {data!r}\n  C:      {c}\n  Python: {python}")
    assert not differ, f"{len(differ)} of {len(rows)} differ:\n" + "\n".join(differ[:8])
    assert ROUNDS // 20 < good < ROUNDS, f"{good} of {ROUNDS} accepted: the mutations are too harsh or too mild"


@case("every rule is in the reference, and every message and field")
def _():
    with open(f"{GEN}/vtunnel.md", encoding="utf-8") as f:
        page = f.read()
    w = textwire.load("spec")
    missing = [x for x in [*w.rules, *(f"`{m.name}`" for m in w.messages), *(f"`{f.name}`" for f in w.fields)] if x not in page]
    assert not missing and not re.search(r"V[A-Z]+-\d+: undefined", page), missing


if __name__ == "__main__":
    main()
