#!/usr/bin/env python3
"""Our Python codec behind the pipe of conformance/vectors.py: an example of what an implementation has to wrap."""

import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, os.environ.get("W", "build"), "gen"))
sys.dont_write_bytecode = True

import hoody_wire as wire  # noqa: E402


def shown(value):
    """JSON has no bytes: they are written as hexadecimal text."""
    if isinstance(value, bytes):
        return value.hex()
    return {k: shown(v) for k, v in value.items()} if isinstance(value, dict) else value


def main():
    source, assembler, frames, error = sys.stdin.buffer, None, [], None
    while line := source.readline():
        receiver, state, length, name = line.decode().rstrip("\n").split(" ", 3)
        data, last = source.read(int(length)), not name.endswith("+")
        assembler = assembler or wire.Assembler(receiver, state)
        try:
            for number, stream, payload in assembler.feed(data, last) if not error else ():
                frames.append({"type": number, "stream": stream, "value": shown(wire.decode(number, payload))})
        except wire.WireError as e:
            error = {"rule": e.rule, "scope": e.scope, "code": e.code, "close": e.close}
        if last:
            print(json.dumps({"error": error} if error else {"frames": frames}), flush=True)
            assembler, frames, error = None, [], None


if __name__ == "__main__":
    main()
