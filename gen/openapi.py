"""spec/openapi.yaml -> admin_gen.h, admin_gen.c (routes, parameters, JSON writers) and openapi.json; spec/inspector.yaml and spec/edge.yaml -> the same
for the inspector's and the edge's API."""

import json
import os
import re
from dataclasses import dataclass, field

import jsonschema

from gen import protocolref, specfile
from gen.ctext import c_string, comment, snake
from gen.render import banner, render as render_template

_JSON = "application/json"


@dataclass
class Api:
    spec: str
    prefix: str  # of the C names
    title: str
    document: str  # the output
    users: bool  # its requests have a viewer, who sees a part
    envelope: bool = False  # its JSON answers are {statusCode, message, data}; the spec has what is in `data`


APIS = (Api("openapi.yaml", "admin", "The admin API", "openapi.json", True),
        Api("inspector.yaml", "inspect_api", "The inspector's API", "inspector.json", False),
        Api("edge.yaml", "edge_api", "The edge's API", "edge.json", False, envelope=True))


@dataclass
class Field:
    json: str
    c: str
    kind: str  # string, const, integer, unsigned, number, boolean, enum, object, array, json
    c_type: str
    doc: str
    required: bool
    nullable: bool
    of: str = ""  # snake name of the schema behind enum, object, array
    const: str = ""

    @property
    def needs_flag(self):
        """Absent or null is told by a flag, except for strings, where a NULL pointer tells it."""
        return self.kind not in ("string", "const", "array", "json") and (self.nullable or not self.required)


@dataclass
class Schema:
    name: str
    doc: str
    fields: list = field(default_factory=list)
    enum: list = field(default_factory=list)  # of (text, number)


@dataclass
class Param:
    name: str
    place: str
    type: str
    required: bool
    schema: dict

    @property
    def c(self):
        return snake(self.name)


@dataclass
class Operation:
    id: str
    method: str
    path: str
    summary: str
    auth: str  # none, optional, token
    upgrade: bool
    embedded: bool
    params: list
    responses: list  # of (status, media type, schema name or "")
    error_400: str = ""
    max_body: int = 0
    versioned: bool = False  # it needs If-Match
    texts: dict = field(default_factory=dict)  # status -> what the response is

C_WORDS = {"case", "default", "do", "else", "enum", "for", "if", "register", "switch", "while"}  # that a member of JSON may be called like


class _Reader:
    """Checks the document and builds the model; everything that is wrong goes to `problems`."""

    def __init__(self, doc, protocol, prefix):
        self.doc = doc
        self.prefix = prefix
        self.protocol = protocol
        self.problems = specfile.Problems(doc.path)
        self.used = set()
        self.enum_numbers = {}

    # ---- x-protocol ----

    def resolve_protocol(self, node):
        """Replaces each {x-protocol: path} by what it stands for."""
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in list(items):
            if isinstance(value, dict) and "x-protocol" in value:
                try:
                    node[key] = self._protocol_value(value["x-protocol"], key)
                except KeyError:
                    self.problems.add(value.line_of("x-protocol"),
                                      f"protocol.yaml has nothing at '{value['x-protocol']}' that goes with '{key}'")
                    node[key] = [] if key == "enum" else 0
            elif isinstance(value, (dict, list)):
                self.resolve_protocol(value)

    def _protocol_value(self, path, key):
        if key != "enum":
            return self.protocol.limit(path)[0]
        names = self.protocol.names(path)
        self.enum_numbers[tuple(names.values)] = names.numbers
        return list(names.values)

    # ---- references ----

    def resolve(self, node):
        """`node`, or what its $ref leads to; None when that is nothing."""
        if "$ref" not in node:
            return node
        _, _, group, name = node["$ref"].split("/")
        self.used.add((group, name))
        found = self.doc["components"].get(group, {}).get(name)
        if found is None:
            self.problems.add(node.line_of("$ref"), f"'{node['$ref']}' leads nowhere; name one of "
                                                    + ", ".join(self.doc["components"].get(group, {})))
        return found

    def check_refs(self, node):
        if isinstance(node, dict):
            if "$ref" in node:
                self.resolve(node)
            for value in node.values():
                self.check_refs(value)
        elif isinstance(node, list):
            for value in node:
                self.check_refs(value)

    def check_unused(self):
        for group in ("schemas", "responses"):
            for name in self.doc["components"].get(group, {}):
                if (group, name) not in self.used:
                    self.problems.add(self.doc["components"][group].line_of(name),
                                      f"nothing refers to components/{group}/{name}; remove it")

    def check_example(self, media):
        schema = {**media["schema"], "components": self.doc["components"]}
        for error in jsonschema.Draft202012Validator(schema).iter_errors(media["example"]):
            line = media.line_of("example")
            node = media["example"]
            for step in error.absolute_path:
                if isinstance(node, (specfile.Map, specfile.Seq)):
                    line, node = node.line_of(step), node[step]
            self.problems.add(line, f"the example does not fit its schema: {error.message}")

    # ---- schemas ----

    def schema_fields(self, name, raw):
        for missing in set(raw.get("required", [])) - set(raw.get("properties", {})):
            self.problems.add(raw.line_of("required"), f"schema '{name}' requires '{missing}', which it does not have")
        out = []
        for json_name, prop in raw.get("properties", {}).items():
            line = raw["properties"].line_of(json_name)
            f = self._field(json_name, prop, line, json_name in raw.get("required", []))
            if f:
                out.append(f)
        return out

    def _field(self, json_name, prop, line, required):
        or_null = "anyOf" in prop
        outer, prop = prop, prop["anyOf"][0] if or_null else prop
        target = self.resolve(prop)
        if target is None:
            return None
        doc = outer.get("description", "") or target.get("description", "")
        if not doc:
            self.problems.add(line, f"property '{json_name}' has no description")
        type_ = target.get("type", "object")  # what is JSON as it is may be of any
        kinds = type_ if isinstance(type_, list) else [type_]
        kind, nullable, of, const = kinds[0], or_null or len(kinds) == 2, "", ""
        if kind == "string" and "const" in target:
            kind, c_type, const = "const", "", target["const"]
        elif kind == "string" and "enum" in target:
            if "$ref" not in prop:
                self.problems.add(line, f"property '{json_name}': give the enum a schema of its own and refer to it")
                return None
            kind, of = "enum", snake(prop["$ref"].rsplit("/", 1)[1])
            c_type = f"enum {self.prefix}_{of} "
        elif kind == "string":
            c_type = "struct ht_slice "
        elif kind == "integer":
            kind = "unsigned" if target.get("minimum", -1) >= 0 else "integer"
            c_type = "uint64_t " if kind == "unsigned" else "int64_t "
        elif kind == "number":
            c_type = "double "
        elif kind == "boolean":
            c_type = "bool "
        elif target.get("x-json"):
            kind, c_type = "json", "struct ht_slice "
        elif kind == "array":
            if "items" not in target or self.resolve(target["items"]) is None:
                self.problems.add(line, f"property '{json_name}': an array needs items that refer to a schema")
                return None
            plain = {"string": "struct ht_slice", "integer": "uint64_t"}.get(self.resolve(target["items"]).get("type"))
            of = "" if plain else snake(target["items"]["$ref"].rsplit("/", 1)[1])
            c_type = f"const {plain or f'struct {self.prefix}_{of}'} *"
        else:
            if "$ref" not in prop:
                self.problems.add(line, f"property '{json_name}': give the object a schema of its own and refer to it")
                return None
            of = snake(prop["$ref"].rsplit("/", 1)[1])
            c_type = f"struct {self.prefix}_{of} "
        name = snake(json_name) + ("_" if json_name in C_WORDS else "")
        return Field(json_name, name, kind, c_type, doc, required, nullable, of, const)

    def schemas(self):
        """Models of the schemas, those that others hold first."""
        out = {}
        for name, raw in self.doc["components"]["schemas"].items():
            if "type" not in raw:
                self.problems.add(raw.line, f"schema '{name}': only properties may be references")
                continue
            model = Schema(snake(name), raw.get("description", ""))
            if not model.doc:
                self.problems.add(self.doc["components"]["schemas"].line_of(name),
                                  f"schema '{name}' has no description")
            if "enum" in raw:
                texts = raw["enum"]
                model.enum = list(zip(texts, self.enum_numbers.get(tuple(texts), range(1, len(texts) + 1))))
            elif raw["type"] == "object":
                model.fields = self.schema_fields(name, raw)
            elif raw["type"] in ("string", "integer"):  # the items of an array
                continue
            else:
                self.problems.add(raw.line, f"schema '{name}' must be an object, a string or an integer")
            out[model.name] = model
        ordered, state = [], {}

        def place(model):
            if state.get(model.name) == "done":
                return
            if state.get(model.name) == "open":
                self.problems.add(self.doc["components"]["schemas"].line, f"schema '{model.name}' holds itself")
                return
            state[model.name] = "open"
            for f in model.fields:
                if f.of in out:
                    place(out[f.of])
            state[model.name] = "done"
            ordered.append(model)

        for model in out.values():
            place(model)
        return ordered

    # ---- operations ----

    def operation(self, path, method, raw):
        auth = self._auth(raw.get("security", self.doc["security"]), raw)
        tags = {t["name"] for t in self.doc["tags"]}
        if raw["tags"][0] not in tags:
            self.problems.add(raw["tags"].line_of(0), f"there is no tag '{raw['tags'][0]}'; name one of "
                                                      + ", ".join(sorted(tags)))
        responses = [r for status, body in raw["responses"].items()
                     for r in self._response(raw, status, body)]
        possible = {"400": bool(raw.get("parameters")), "401": auth == "token", "403": True, "405": True,
                    "428": self._versioned(raw), "412": self._versioned(raw)}
        for status, can_be in possible.items():
            if can_be and status not in raw["responses"]:
                self.problems.add(raw.line_of("responses"), f"'{raw['operationId']}' can answer {status}, so it must "
                                                            "be listed")
        if raw.get("x-upgrade") and path != self.protocol.connect_path():
            self.problems.add(raw.line_of("x-upgrade"), f"protocol.yaml has the connect path "
                                                        f"{self.protocol.connect_path()}, this is {path}")
        bad = self.resolve(raw["responses"].get("400", {})) or {}
        text = bad.get("content", {}).get(_JSON, {}).get("example", {}).get("error", "")
        return Operation(snake(raw["operationId"]), method.upper(), path, raw["summary"], auth,
                         bool(raw.get("x-upgrade")), bool(raw.get("x-embedded")), self._params(path, raw),
                         responses, text, raw.get("requestBody", {}).get("x-max-bytes", 0), self._versioned(raw),
                         {status: (self.resolve(body) or {}).get("description", "") for status, body in raw["responses"].items()})

    @staticmethod
    def _versioned(raw):
        return any(p["in"] == "header" for p in raw.get("parameters", []))

    def _auth(self, security, raw):
        known = self.doc["components"]["securitySchemes"]
        for scheme in (s for alternative in security for s in alternative):
            if scheme not in known:
                self.problems.add(raw.line_of("security"), f"there is no security scheme '{scheme}'")
        if not security:
            return "none"
        return "optional" if {} in security else "token"

    def _response(self, operation, status, body):
        body = self.resolve(body)
        if body is None:
            return
        media_type, media = next(iter(body.get("content", {}).items()), ("", None))
        if media is None:
            if int(status) not in (101, 204, 304, 403):
                self.problems.add(operation["responses"].line_of(status), f"response {status} has no content; only "
                                                                          "101, 204, 304 and 403 may have none")
            return
        name = snake(media["schema"]["$ref"].rsplit("/", 1)[1]) if "$ref" in media["schema"] else ""
        if int(status) >= 400 and name != "error":
            self.problems.add(media.line_of("schema"), f"response {status} must have the schema Error")
        if int(status) < 400 and not operation.get("x-embedded"):
            if media_type == _JSON and not name and not operation.get("x-raw"):
                self.problems.add(media.line_of("schema"), "a JSON response needs a schema of components/schemas")
            yield status, media_type, name

    def _params(self, path, raw):
        in_path = re.findall(r"\{([a-z_]+)\}", path)
        params, seen = [], set()
        for p in raw.get("parameters", []):
            if p["name"] in seen:
                self.problems.add(p.line_of("name"), f"parameter '{p['name']}' is there twice")
            seen.add(p["name"])
            if p["in"] == "path" and (p["name"] not in in_path or not p["required"]):
                self.problems.add(p.line_of("name"), f"path parameter '{p['name']}' must be required, and be in {path}")
            if p["in"] == "query" and p["required"] is False and p["schema"]["type"] == "integer" \
                    and "default" not in p["schema"]:
                self.problems.add(p.line_of("schema"), f"parameter '{p['name']}' may be left out, so it needs "
                                                          "a default")
            self._check_param_values(p)
            if (p["in"] == "header") != (p["name"] == "If-Match"):
                self.problems.add(p.line_of("name"), "a parameter in a header is If-Match, and no other is called so")
            if p["in"] == "header":
                continue
            params.append(Param(p["name"], p["in"], p["schema"]["type"], p["required"], dict(p["schema"])))
        for name in in_path:
            if name not in seen:
                self.problems.add(raw.line, f"'{raw['operationId']}' does not declare the path parameter '{name}'")
        return params

    def _check_param_values(self, p):
        for key, value, line in (("example", p["example"], p.line_of("example")),
                                 ("default", p["schema"].get("default"), p["schema"].line_of("default"))):
            if value is not None:
                for error in jsonschema.Draft202012Validator(p["schema"]).iter_errors(value):
                    self.problems.add(line, f"parameter '{p['name']}': {key} does not fit its schema: {error.message}")

    def operations(self):
        out, first = [], {}
        for path, item in self.doc["paths"].items():
            for method, raw in item.items():
                op_id = raw["operationId"]
                if op_id in first:
                    self.problems.add(raw.line_of("operationId"), f"operationId '{op_id}' is used twice (first on line "
                                                                  f"{first[op_id]}); give each its own")
                first.setdefault(op_id, raw.line_of("operationId"))
                out.append(self.operation(path, method, raw))
        shared = {}
        for op in out:
            for p in op.params:
                if shared.setdefault(p.name, p).schema != p.schema:
                    self.problems.add(self.doc["paths"].line_of(op.path),
                                      f"parameter '{p.name}' means two things; one name must have one schema")
        return out, list(shared.values())


@specfile.once
def load(spec_dir, api=APIS[0].spec, prefix=APIS[0].prefix):
    """The checked document and its model: (doc, operations, parameters, schemas)."""
    doc = specfile.load(os.path.join(spec_dir, api), os.path.join(spec_dir, "openapi.schema.json"))
    reader = _Reader(doc, protocolref.Protocol(spec_dir), prefix)
    reader.resolve_protocol(doc)
    reader.check_refs(doc)
    reader.problems.check()
    operations, params = reader.operations()
    schemas = reader.schemas()
    reader.check_unused()
    for item in doc["paths"].values():
        for raw in item.values():
            for body in [*raw["responses"].values(), raw.get("requestBody", {})]:
                for media in (reader.resolve(body) or {}).get("content", {}).values():
                    reader.check_example(media)
    reader.problems.check()
    return doc, operations, params, schemas


def _enveloped(doc):
    """The document with each JSON answer's schema and example inside {statusCode, message, data}."""
    def wrap(status, response):
        media = response.get("content", {}).get(_JSON)
        if media is None:
            return response
        wrong = int(status) >= 400
        data = {"type": "null", "description": "Always null."} if wrong else media["schema"]
        example = media["example"].get("error", "") if wrong else response["description"]
        return {**response, "content": {_JSON: {
            "schema": {"type": "object", "required": ["statusCode", "message", "data"], "properties": {
                "statusCode": {"type": "integer", "description": "The status.", "const": int(status)},
                "message": {"type": "string", "description": "The same for people."},
                "data": data}},
            "example": {"statusCode": int(status), "message": example, "data": None if wrong else media["example"]}}}}

    shared = doc["components"].get("responses", {})
    status_of = {body["$ref"].rsplit("/", 1)[1]: status for item in doc["paths"].values() for op in item.values()
                 for status, body in op["responses"].items() if "$ref" in body}
    paths = {path: {method: {**op, "responses": {status: body if "$ref" in body or op.get("x-embedded") else wrap(status, body)
                                                 for status, body in op["responses"].items()}}
                    for method, op in item.items()} for path, item in doc["paths"].items()}
    schemas = {name: schema for name, schema in doc["components"]["schemas"].items() if name != "Error"}
    return {**doc, "paths": paths, "components": {**doc["components"], "schemas": schemas, "responses": {
        name: wrap(status_of[name], response) for name, response in shared.items()}}}


def _pieces(text, size=96):
    return [text[i:i + size] for i in range(0, len(text), size)]


def _allow(operations, path):
    methods = sorted({op.method for op in operations if op.path == path})
    return ", ".join(m + (", HEAD" if m == "GET" else "") for m in methods)


def render(name, spec_dir):
    api = next(a for a in APIS if name in (a.document, a.prefix + "_gen.h", a.prefix + "_gen.c"))
    doc, operations, params, schemas = load(spec_dir, api.spec, api.prefix)
    doc = _enveloped(doc) if api.envelope else doc
    if name == api.document:
        return json.dumps(doc, indent=2, ensure_ascii=False) + "\n"
    compact = json.dumps(doc, separators=(",", ":"), ensure_ascii=True)
    return render_template(
        f"api_gen.{name[-1]}.j2", banner=banner(api.spec), p=api.prefix, title=api.title, users=api.users, envelope=api.envelope, c=c_string,
        comment=comment, operations=operations, params=params, schemas=schemas, pieces=_pieces(compact),
        allow=lambda path: _allow(operations, path), bodies=any(op.max_body for op in operations), versions=any(op.versioned for op in operations),
        query_texts=any(q.place == "query" and q.type == "string" for q in params),
        numbers=any(f.kind == "number" for s in schemas for f in s.fields),
        handled=[op for op in operations if not op.upgrade and not op.embedded])
