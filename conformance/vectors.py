#!/usr/bin/env python3
"""Runs build/gen/vectors.json through a codec of any implementation: a command that is piped messages and says what it makes of them.

    conformance/vectors.py --command './my-codec'                 every vector
    conformance/vectors.py --command './my-codec' -k BIND/ --receiver kit
    conformance/vectors.py --command '...' --split byte           each message in pieces (whole, byte, half)
    conformance/vectors.py --list

The command is started once. For each vector it reads from standard input one line of words and then as many bytes as the line says

    <receiver> <state> <length> <id>\\n<length bytes>

(with --split byte or half several such pieces, large messages in pieces of 997 bytes: the id of all but the last ends with a plus sign), and it writes one line of JSON to
standard output:

    {"frames": [{"type": 3, "stream": 0, "value": {"clientBindRef": 1, ...}}, ...]}    it takes the message
    {"error": {"rule": "FRAME-8", "scope": "session", "code": "PROTOCOL_ERROR", "close": 1002}}    it refuses it

Only whether a message is taken has to be said. Whatever else is there is compared: number of frames, type, stream, value (bytes as
hexadecimal text), and each member of the error. README.md has the format of the vectors. The last line is `N passed, N failed`.
"""

import argparse
import json
import os
import queue
import shlex
import subprocess
import sys
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DEFAULT = os.path.join(ROOT, os.environ.get("W", "build"), "gen", "vectors.json")


def message_of(vector):
    return bytes.fromhex(vector.get("prefix", "")) * vector.get("repeat", 0) + bytes.fromhex(vector["hex"])


def pieces_of(data, split):
    if split == "byte" and len(data) > 1:
        size = 1 if len(data) <= 4096 else 997
        return [data[i:i + size] for i in range(0, len(data), size)]
    if split == "half" and len(data) > 1:
        return [data[:len(data) // 2], data[len(data) // 2:]]
    return [data]


class Codec:
    """The command, with its lines read in the background so that neither side waits for the other for ever."""

    def __init__(self, command):
        self.process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def ask(self, vector, split, timeout):
        pieces = pieces_of(message_of(vector), split)
        for i, piece in enumerate(pieces):
            more = "+" if i + 1 < len(pieces) else ""
            head = f"{vector['receiver']} {vector['state']} {len(piece)} {vector['id']}{more}\n"
            self.process.stdin.write(head.encode() + piece)
        self.process.stdin.flush()
        line = self.lines.get(timeout=timeout)
        if line is None:
            raise EOFError(f"the command ended with status {self.process.wait()}")
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise ValueError(f"an object is wanted, not {line[:80]!r}")
        return answer

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()


def differences(vector, answer):
    """Texts about what the answer says otherwise."""
    if "error" in vector:
        if "error" not in answer:
            yield f"taken; it breaks {vector['error']['rule']}"
            return
        for key, value in (answer["error"] or {}).items():
            if key in vector["error"] and value != vector["error"][key]:
                yield f"{key} is {value!r}, not {vector['error'][key]!r}"
        return
    if "error" in answer:
        yield f"refused with {answer['error']}; it is good"
        return
    if "frames" not in answer:
        return
    if len(answer["frames"]) != len(vector["frames"]):
        yield f"{len(answer['frames'])} frames, not {len(vector['frames'])}"
        return
    for i, (have, want) in enumerate(zip(answer["frames"], vector["frames"])):
        for key in ("type", "stream", "value"):
            if key in have and want.get(key) is not None and have[key] != want[key]:
                yield f"frame {i}: {key} is {have[key]!r:.300}, not {want[key]!r:.300}"


def main():
    parser = argparse.ArgumentParser(usage=__doc__, add_help=False)
    parser.add_argument("-h", "--help", action="help")
    parser.add_argument("--command")
    parser.add_argument("--vectors", default=DEFAULT)
    parser.add_argument("--split", choices=["whole", "byte", "half"], default="whole")
    parser.add_argument("--receiver", choices=["kit", "driver"], help="only messages for this side")
    parser.add_argument("-k", "--keep", default="", help="only vectors whose id holds this")
    parser.add_argument("--timeout", type=float, default=30.0)
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    with open(args.vectors, encoding="utf-8") as f:
        vectors = [v for v in json.load(f)["vectors"]
                   if args.keep in v["id"] and args.receiver in (None, v["receiver"])]
    if args.list or not args.command:
        for v in vectors:
            print(f"{v['id']}  for a {v['receiver']} in {v['state']}: {v['error']['rule'] if 'error' in v else 'good'}")
        return 0
    return judge(vectors, Codec(args.command), args)


def judge(vectors, codec, args):
    passed = 0
    try:
        for v in vectors:
            bad = list(differences(v, codec.ask(v, args.split, args.timeout)))
            passed += not bad
            for text in bad[:3]:
                print(f"not ok {v['id']}: {text}")
    except (EOFError, OSError, ValueError, queue.Empty) as e:
        print(f"not ok {v['id']}: no answer, and so none of those behind it: {e!r}")
    finally:
        codec.close()
    print(f"{passed} passed, {len(vectors) - passed} failed")
    return 1 if passed < len(vectors) else 0


if __name__ == "__main__":
    sys.exit(main())
