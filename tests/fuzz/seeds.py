#!/usr/bin/env python3
"""Writes seed corpora and dictionaries that follow from the specs.

    seeds.py GEN OUT      GEN: the folder with the generated vectors; OUT/seeds/<unit>/ and OUT/dict/<unit>.dict are written

tests/fuzz/dict/<unit>.dict, written by hand, goes in front of what is found here.
"""

import glob
import hashlib
import json
import os
import shutil
import struct
import sys

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", ".."))

from gen import specfile  # noqa: E402

LONGEST = 4000  # bytes of a seed; longer vectors are tests of limits, which tests/wire replays whole
STATES = ["await_hello", "await_hello_ok", "await_join_ok", "open", "closing"]
SESSION = "session"


class Seeds:
    def __init__(self, out):
        self.out = out
        shutil.rmtree(os.path.join(out, "seeds"), ignore_errors=True)

    def add(self, unit, data):
        if len(data) > LONGEST:
            return
        folder = os.path.join(self.out, "seeds", unit)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, hashlib.sha256(data).hexdigest()[:16]), "wb") as f:
            f.write(data)


def words(data, depth=0):
    """Keys and short texts of a JSON value."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield key
            yield from words(value, depth + 1)
    elif isinstance(data, list):
        for value in data:
            yield from words(value, depth + 1)
    elif isinstance(data, str) and 0 < len(data) <= 24:
        yield data


def message(vector):
    return bytes.fromhex(vector.get("prefix", "")) * vector.get("repeat", 0) + bytes.fromhex(vector.get("hex", ""))


def frames_of(data):
    """(type, stream, payload) as far as the bytes go."""
    at = 0
    while at + 9 <= len(data):
        kind, stream, length = struct.unpack(">BII", data[at:at + 9])
        yield kind, stream, data[at + 9:at + 9 + length]
        at += 9 + length


def from_vectors(seeds, path):
    """Seeds of frames, payload, json and session; returns the keys that payloads know."""
    found = set()
    with open(path, encoding="utf-8") as f:
        vectors = json.load(f)["vectors"]
    for vector in vectors:
        data = message(vector)
        role = 0 if vector["receiver"] == "kit" else 1
        seeds.add("frames", bytes([role | STATES.index(vector["state"]) << 1, 0, 0]) + data)
        for kind, _, payload in frames_of(data):
            seeds.add("payload", bytes([kind]) + payload)
            if payload[:1] in (b"{", b"["):
                seeds.add("json", b"\0" + payload)
        if vector["state"] in ("open", "closing"):
            # As in fuzz_session.c: configuration, then one operation, "a message of these bytes".
            seeds.add(SESSION, bytes([role, 0]) + b"\x00" + struct.pack(">H", len(data) & 0xffff) + data)
        for frame in vector.get("frames", []):
            found.update(words(frame.get("value")))
    return found


def quote(text):
    return '"' + "".join(c if " " <= c <= "~" and c not in '"\\' else "".join(f"\\x{b:02x}" for b in c.encode())
                         for c in text) + '"'


def write_dictionary(out, unit, extra):
    folder = os.path.join(out, "dict")
    os.makedirs(folder, exist_ok=True)
    hand = os.path.join(HERE, "dict", f"{unit}.dict")
    text = ""
    if os.path.exists(hand):
        with open(hand, encoding="utf-8") as f:
            text = f.read()
    with open(os.path.join(folder, f"{unit}.dict"), "w", encoding="utf-8") as f:
        f.write(text + "".join(quote(word) + "\n" for word in sorted(extra)))


def option_words(seeds, spec):
    """A seed for each option of each command, with its default, an end of its range, and through its variable."""
    doc = yaml.safe_load(specfile.text(spec))
    commands = [c["name"] for c in doc.get("commands", [])]
    found = set(commands)
    for option in doc.get("options", []):
        name = "--" + option["name"]
        found.update((name, name + "="))
        values = [str(option[k]) for k in ("default", "min", "max", "example") if option.get(k) is not None]
        values += [str(v) for v in option.get("values", [])] + ["", "127.0.0.1:0", "10.0.0.0/8", "fd00::/8", "80,3000-3010"]
        found.update(v for v in values if v)
        for index in range(len(commands)):
            for value in values[:3]:
                seeds.add("options", bytes([index]) + f"{name}={value}\0".encode())
            if option.get("env") and values:
                seeds.add("options", bytes([index]) + f"{option['env']}={values[0]}\0".encode())
                found.add(option["env"] + "=")
    return found


def config_words(seeds, spec):
    """The example, and each key of each mapping with its example."""
    doc = yaml.safe_load(specfile.text(spec))
    config, options = doc["config"], {o["name"]: o for o in doc["options"]}
    seeds.add("config", config["example"].encode())
    found = set()
    for number, mapping in enumerate(config["mappings"]):
        for key in mapping["keys"]:
            key = options[key["option"]] if "option" in key else key
            found.add(key["name"] + ": ")
            line = f"{key['name']}: {key.get('example', 'true')}\n"
            seeds.add("config", (line if number == 0 else f"{mapping['name']}:\n  - target: 1\n    {line}").encode())
    return found


def admin_words(seeds, path):
    with open(path, encoding="utf-8") as f:
        doc = json.load(f)
    base = "/api/v1/tunnel"
    found = {base}
    for route, methods in doc["paths"].items():
        full = route if route.startswith(base) else base + route
        for method in (m.upper() for m in methods):
            for query in ("", "?grace_ms=50", "?x=1&grace_ms=-1"):
                target = full.replace("{session_id}", "S-1").encode() + query.encode()
                for who in (0, 1, 2, 4):
                    seeds.add("admin", bytes([who, len(method)]) + method.encode() + struct.pack(">H", len(target)) + target +
                              b"\x05curl\xff\x03S-1\x04\x01\"\\\xc3\x03S-2\x00")
        found.update(route.split("/"))
    return {w for w in found if w}


def vtunnel_seeds(seeds, path):
    """Each vector as a message, alone and inside a life of a port and a stream."""
    def step(text):
        return b"\0" + struct.pack(">H", len(text)) + text

    pull = b"\6\0"
    with open(path, encoding="utf-8") as f:
        vectors = json.load(f)["vectors"]
    for vector in vectors:
        text = bytes.fromhex(vector["hex"])
        if vector["sender"] == "client":
            before = step(b'{"type":"listen","port":80}') + pull + b"\7\0" + pull
            seeds.add("vtunnel", b"\0" + before + step(text) + pull * 2 + b"\10\0" + pull * 2 + b"\11\0" + pull)
        else:
            before = b"\7\120" + pull + step(b'{"type":"listen_ok","port":80}') + step(b'{"type":"connect","port":80,"stream_id":200}')
            seeds.add("vtunnel", b"\1" + before + step(text) + pull * 2 + b"\10\0" + pull * 2 + b"\14\377" + pull)


def main():
    gen, out = sys.argv[1:3]
    seeds = Seeds(out)
    extra = {}
    vtunnel_seeds(seeds, os.path.join(gen, "vtunnel_vectors.json"))
    keys = from_vectors(seeds, os.path.join(gen, "vectors.json"))
    extra["payload"] = {f'"{k}":' for k in keys if k.isalnum()} | keys
    extra["json"] = {f'"{k}":' for k in list(sorted(keys))[:40] if k.isalnum()}
    extra["options"] = option_words(seeds, os.path.join(HERE, "..", "..", "spec", "options.yaml"))
    extra["config"] = config_words(seeds, os.path.join(HERE, "..", "..", "spec", "options.yaml"))
    extra["admin"] = admin_words(seeds, os.path.join(gen, "openapi.json"))
    for unit in {os.path.basename(p)[:-5] for p in glob.glob(os.path.join(HERE, "dict", "*.dict"))} | set(extra):
        write_dictionary(out, unit, extra.get(unit, set()))


if __name__ == "__main__":
    main()
