"""The generated codec and the specs, found where `make gen` puts them."""

import importlib.util
import json
import os
import sys

import yaml

from conformance.lib.match import as_bytes
from gen import specfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GEN = os.path.join(ROOT, os.environ.get("W", "build"), "gen")


def _load(name):
    path = os.path.join(GEN, f"{name}.py")
    if not os.path.exists(path):
        raise SystemExit(f"{path} is not there; run `make gen` first")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # one codec stands on the other
    spec.loader.exec_module(module)
    return module


codec = _load("hoody_wire")
text_codec = _load("vtunnel_wire")


class Spec:
    """spec/protocol.yaml and the served OpenAPI document, as far as the suite needs them."""

    def __init__(self):
        doc = yaml.load(specfile.text(os.path.join(ROOT, "spec", "protocol.yaml")),
                        Loader=yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader)
        text = specfile.load(os.path.join(ROOT, "spec", "vtunnel.yaml"))
        self.rules = {r["id"]: r for r in [*doc["rules"], *text["rules"]]}
        self.versions = [v["name"] for v in doc["versions"]]
        self.goaways = {g["name"]: g for g in doc["goaways"]}
        self.answers = {a["name"]: a for a in doc["visitor_answers"]}
        with open(os.path.join(GEN, "openapi.json"), encoding="utf-8") as f:
            self.api = json.load(f)
        self.operations = {}
        for path, item in self.api["paths"].items():
            for method, op in item.items():
                if isinstance(op, dict) and "operationId" in op:
                    self.operations[op["operationId"]] = (method.upper(), path, op)

    def resolve(self, node):
        while isinstance(node, dict) and "$ref" in node:
            found = self.api
            for part in node["$ref"].lstrip("#/").split("/"):
                found = found[part]
            node = found
        return node

    def names(self, version):
        """What `$NAME.member` means in a case file, for a case of that version."""
        return {"LIMIT": {name: codec.limit(name, codec.VERSIONS[version]) for name in codec.LIMITS}, "CODE": codec.CODES, "CLOSE": codec.CLOSE_CODES, "PATH": codec.CONNECT_PATH,
                "GOAWAY": {n: {"code": g["code"], "message": g["message"], "close": g["close"]}
                           for n, g in self.goaways.items()},
                "ANSWER": {n: {"status": a["status"], "retry": str(a.get("retry_after", 0)), "body": a["body"]}
                           for n, a in self.answers.items()},
                "SUBPROTOCOL": codec.SUBPROTOCOLS, "RESERVED": codec.RESERVED_PORTS}


spec = Spec()


def payload_of(name, value):
    """The payload bytes of a frame to send. Mappings become JSON as they stand, legal or not; text is sent as it is."""
    row = codec.FRAMES.get(codec.NUMBERS.get(name, name))
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if row is None or row["format"] in ("bytes", "empty"):
        return as_bytes(value)
    if row["format"] == "json":
        return _json(value).encode("utf-8", "surrogatepass") if not isinstance(value, str) else value.encode()
    return _binary(row, value)


def _json(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _binary(row, value):
    fields = row["payload"]["fields"]
    if not isinstance(value, dict):
        if isinstance(value, str):
            return value.encode()
        value = {fields[0]["name"]: value}
    parts = []
    sizes = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
    for f in fields:
        one = value.get(f["name"], "" if f["type"] == "text" else 0)
        if f["name"] == "code" and isinstance(one, str):
            one = codec.CODES[one]
        if f["type"] in sizes:
            parts.append(int(one).to_bytes(sizes[f["type"]], "big"))
        else:
            parts.append(one if isinstance(one, bytes) else str(one).encode())
    return b"".join(parts)


def describe(name, stream, value, size):
    """One frame in the protocol's words, for logs."""
    where = f" stream {stream}" if stream else ""
    if name == "DATA":
        head = bytes(value[:48]) if isinstance(value, (bytes, bytearray)) else str(value)[:48].encode("latin-1", "replace")
        return f"DATA{where} {size} bytes {head!r}{'...' if size > 48 else ''}"
    if value is None or value in (b"", ""):
        return f"{name}{where}"
    if isinstance(value, dict):
        text = ", ".join(f"{k}: {_short(v)}" for k, v in value.items())
        return f"{name}{where} {{{text}}}"
    return f"{name}{where} {_short(value)}"


def _short(value):
    if isinstance(value, bytes):
        value = value.hex()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 400 else f"{text[:400]}... ({len(text)} characters)"
