"""The C codec and the Python codec make the same of the same bytes: mutated vectors, the seed is printed."""

import json
import os
import random
import shlex
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)
os.chdir(ROOT)
GEN = os.path.join(os.environ.get("W", "build"), "gen")
sys.path.insert(0, GEN)

import hoody_wire as wire  # noqa: E402  pylint: disable=wrong-import-position
from tests.gen.scratch import objects  # noqa: E402  pylint: disable=wrong-import-position
from tests.support.tap import case, main  # noqa: E402  pylint: disable=wrong-import-position

SEED = int(os.environ.get("HT_SEED", "20261121"))
ROUNDS = int(os.environ.get("HT_ROUNDS", "30000"))
# What is worth putting into JSON in place of something else.
PIECES = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"0", b"-1", b"1.0", b"1e400", b"9" * 20,
          b'""', b"\\u0000", b"\\ud83d\\ude00", b"\\ud800", b"\xc3\xa9", b"\xff", b"\xe2\x82", b"\\u0100", b"[]", b"{}",
          b" ", b"\n",
          b'"a":1,', b'"x":{"y":[1,2,{"z":null}]},', b"01", b"\x00", b"\\", b"\\/", b"\xef\xbb\xbf"]


def mutate(rng, data):
    """The message with a few changes; frame lengths are mended most of the time, so that payloads get looked at."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(6)
        if how == 0:
            data[at:at + 1] = bytes([rng.randrange(256)])
        elif how == 1:
            data[at:at] = rng.choice(PIECES)
        elif how == 2:
            data[at:at + rng.randrange(1, 8)] = rng.choice(PIECES)
        elif how == 3:
            del data[at:at + rng.randrange(1, 12)]
        elif how == 4:
            end = min(len(data), at + rng.randrange(1, 40))
            data[at:at] = data[at:end]
        else:
            data[at:at + 1] = bytes([(data[at] if at < len(data) else 0) ^ (1 << rng.randrange(8))])
    if len(data) >= 9 and rng.random() < 0.8:
        data[5:9] = (len(data) - 9).to_bytes(4, "big")
    return bytes(data)


def in_python(receiver, state, split, data):
    asm = wire.Assembler(receiver, state)
    out = "ok"
    pieces = [data] if split >= len(data) else [data[:split], data[split:]]
    try:
        for i, piece in enumerate(pieces):
            for type_, stream, payload in asm.feed(piece, i == len(pieces) - 1):
                value = wire.decode(type_, payload)
                try:
                    text = wire.encode_payload(type_, value).hex()
                    if type_ != wire.DATA and holds_unknown(wire.FRAMES[type_]["payload"], value):
                        text = "-"
                except ValueError:
                    text = "-"
                out += f" {type_}:{stream}:{text}"
    except wire.WireError as e:
        return f"{e.rule} {e.scope} {e.code} {e.close}"
    return out


def holds_unknown(rec, value):
    """Whether a text of the future was kept: C keeps no text to write again."""
    return bool(rec) and isinstance(value, dict) and any(
        f["type"] == "enum" and f["name"] in value and value[f["name"]] not in wire.ENUMS[f["of"]]
        for f in rec["fields"])


@case("mutated vectors through both codecs")
def _():
    print(f"# HT_SEED={SEED} HT_ROUNDS={ROUNDS}")
    rng = random.Random(SEED)
    with open(os.path.join(GEN, "vectors.json"), encoding="utf-8") as f:
        sources = [v for v in json.load(f)["vectors"] if "prefix" not in v and 0 < len(v["hex"]) < 4000]
    rows = []
    for _ in range(ROUNDS):
        v = rng.choice(sources)
        data = mutate(rng, bytes.fromhex(v["hex"]))
        rows.append((v["receiver"], v["state"], rng.randrange(len(data) + 1), data))
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "wire_lines")
        subprocess.run([*shlex.split(os.environ.get("CC", "cc")), "-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra",
                        "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-Isrc", f"-I{GEN}", "-o",
                        program,
                        "tests/gen/c/wire_lines.c", *objects("base", "json", "wire", generated=["wire_gen"])], check=True)
        text = "".join(f"{r} {s} {split} {data.hex()}\n" for r, s, split, data in rows)
        done = subprocess.run([program], input=text, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    in_c = done.stdout.splitlines()
    assert len(in_c) == len(rows)
    differ, good = [], 0
    for row, c in zip(rows, in_c):
        python = in_python(*row)
        good += python.startswith("ok")
        if python != c:
            differ.append(f"{row}\n  C:      {c}\n  Python: {python}")
    assert not differ, f"{len(differ)} of {len(rows)} differ:\n" + "\n".join(differ[:8])
    assert ROUNDS // 20 < good < ROUNDS, f"{good} of {ROUNDS} accepted: the mutations are too harsh or too mild"


if __name__ == "__main__":
    main()
