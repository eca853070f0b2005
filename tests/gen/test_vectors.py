"""Every vector through the generated Python codec: whole, byte by byte and in halves."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", ".."))
GEN = os.path.join(os.environ.get("W", "build"), "gen")
sys.path.insert(0, GEN)

import hoody_wire as wire  # noqa: E402  pylint: disable=wrong-import-position
from tests.support.tap import case, main  # noqa: E402  pylint: disable=wrong-import-position

with open(os.path.join(GEN, "vectors.json"), encoding="utf-8") as source:
    VECTORS = json.load(source)["vectors"]


def message_of(vector):
    return bytes.fromhex(vector.get("prefix", "")) * vector.get("repeat", 0) + bytes.fromhex(vector["hex"])


def shown(value):
    """Bytes as the vectors write them."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {k: shown(v) for k, v in value.items()}
    return value


def run(vector, pieces):
    """What the codec makes of a message fed in pieces: ([decoded frames], None) or (None, the error)."""
    asm = wire.Assembler(vector["receiver"], vector["state"])
    frames = []
    try:
        for i, piece in enumerate(pieces):
            for type_, stream, payload in asm.feed(piece, i == len(pieces) - 1):
                frames.append((type_, stream, payload, wire.decode(type_, payload)))
    except wire.WireError as e:
        return None, {"rule": e.rule, "scope": e.scope, "code": e.code, "close": e.close}
    return frames, None


def check(vector, pieces):
    frames, error = run(vector, pieces)
    assert error == vector.get("error"), f"{vector['id']}: {error} instead of {vector.get('error')}"
    if error:
        return
    assert len(frames) == len(vector["frames"]), f"{vector['id']}: {len(frames)} frames"
    for (type_, stream, payload, value), want in zip(frames, vector["frames"]):
        assert (type_, stream) == (want["type"], want["stream"]), vector["id"]
        if want["value"] is not None:
            assert shown(value) == want["value"], f"{vector['id']}: {shown(value)}"
        if want["canonical"] is not None:
            again = wire.encode_payload(type_, value)
            assert again == bytes.fromhex(want["canonical"]), f"{vector['id']}: {again}"
        assert payload is not None


@case("each vector fed whole")
def _():
    for vector in VECTORS:
        check(vector, [message_of(vector)])


@case("each vector fed byte by byte")
def _():
    for vector in VECTORS:
        data = message_of(vector)
        if len(data) <= 500:
            check(vector, [data[i:i + 1] for i in range(len(data))] or [b""])


@case("each vector in two pieces")
def _():
    for vector in VECTORS:
        data = message_of(vector)
        check(vector, [data[:len(data) // 2], data[len(data) // 2:]])


@case("each frame has at least 3 good and 5 bad vectors")
def _():
    for row in wire.FRAMES.values():
        for kind, least in (("good", 3), ("bad", 5)):
            have = sum(v["id"].startswith(f"{row['name']}/{kind}/") for v in VECTORS)
            assert have >= least, f"{row['name']}: {have} {kind} vectors"


@case("each rule that a vector names exists")
def _():
    for vector in VECTORS:
        if "error" in vector:
            assert vector["error"]["rule"] in wire.RULES, vector["id"]


if __name__ == "__main__":
    main()
