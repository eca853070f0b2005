"""spec/openapi.yaml, spec/inspector.yaml and what comes of them: bad specs, the document, the route matcher, the answers."""

import json
import os
import re
import tempfile

import jsonschema

from gen import protocolref
from tests.gen.scratch import ROOT, Program, complaints, expect_complaint, generate
from tests.support.tap import case, main

SPEC = "openapi.yaml"
BASE = "/api/v1/tunnel"
PROBE = Program("admin_probe.c", ["admin_gen.h", "admin_gen.c"])
INSPECT = Program("inspect_probe.c", ["inspect_api_gen.h", "inspect_api_gen.c"])


def document(name="openapi.json"):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        assert generate(name, path) == (0, "")
        with open(path, encoding="utf-8") as f:
            return json.load(f)


DOC = document()


def bad(edits, at, what):
    expect_complaint("admin_gen.h", SPEC, edits, at, what)


def lookup(ref):
    node = DOC
    for step in ref.removeprefix("#/").split("/"):
        node = node[step]
    return node


def walk(node):
    yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(child)


def fits(value, schema):
    jsonschema.Draft202012Validator({**schema, "components": DOC["components"]},
                                    format_checker=jsonschema.FormatChecker()).validate(value)


def operations():
    for path, item in DOC["paths"].items():
        for method, op in item.items():
            yield path, method.upper(), op


def media_of(op, status):
    response = op["responses"][status]
    response = lookup(response["$ref"]) if "$ref" in response else response
    return next(iter(response.get("content", {}).items()), (None, None))


def match(method, target, probe=PROBE):
    return dict(line.split("=", 1) for line in probe.run("match", method, target).splitlines())


def dispatch(method, target, flags=""):
    """(status, content type, Allow, WWW-Authenticate, body)"""
    head, _, body = PROBE.run("dispatch", method, target, flags).partition("\n")
    rc, status, kind, allow, auth = re.fullmatch(r"rc=(\S+) status=(\d+) type=(.+) allow=(.+) auth=(.+)", head).groups()
    assert rc == "0"
    return int(status), kind, allow, auth, body


# ---- specs ----

@case("the spec as it is has no complaints")
def _():
    assert complaints("admin_gen.c", SPEC, []) == []


@case("an operation without an operationId, and one id for two")
def _():
    bad([("      operationId: listTunnels\n", "")], "    get:\n      tags: [tunnel]\n      summary: Sessions with",
        "'operationId' is a required")
    bad([("operationId: listTunnels", "operationId: metrics")], "operationId: metrics\n      tags: [tunnel]\n      summary: "
        "Sessions with", "used twice")


@case("a reference that leads nowhere")
def _():
    bad([("schemas/Tunnels", "schemas/Tunels")], "schemas/Tunels", "leads nowhere")
    bad([("responses/Unauthorized", "responses/NotThere")], "responses/NotThere", "leads nowhere")


@case("a response without a schema, without an example, without a description")
def _():
    bad([('              schema: {$ref: "#/components/schemas/Closing"}\n', "")], "            application/json:\n              "
        "example: {sessionId: S-466", "'schema' is a required")
    bad([("              example: {error: no such session}\n", "")],
        '            application/json:\n              schema: {$ref: "#/components/schemas/Error"}\n        "405"', "'example' is a required")
    bad([("          description: The session is closing.\n", "")], '        "202":', "'description' is a required")


@case("an example that does not fit its schema, on the example's line")
def _():
    bad([("                pid: 117", "                pid: many")], "pid: many", "does not fit its schema")
    bad([("kind: tcp", "kind: udp")], "kind: udp", "does not fit its schema")
    bad([("          example: 100\n", "          example: 6000\n")], "example: 6000", "does not fit its schema")


@case("path parameters that are not declared, or not in the path")
def _():
    bad([("/sessions/{session_id}:", "/sessions/{session}:")], "        - name: session_id", "be in /api")
    bad([("/sessions/{session_id}:", "/sessions/{session_id}/{other}:")], "      operationId: killSession",
        "does not declare the path parameter 'other'")


@case("answers that an operation can give must be listed; errors have one schema")
def _():
    listed = ('                hoody_tunnel_sessions_active 1\n', '        "401": {$ref: "#/components/responses/Unauthorized"}\n')
    bad([("".join(listed), listed[0])], "      responses:\n        \"200\":\n          description: Text exposition", "can answer 401")
    bad([('schema: {$ref: "#/components/schemas/Error"}\n              example: {error: no such',
          'schema: {$ref: "#/components/schemas/Closing"}\n              example: {error: no such')],
        'schema: {$ref: "#/components/schemas/Closing"}\n              example: {error: no such', "must have the schema Error")


@case("schemas: a required property that is not there, one without a description, one that nothing uses, a cycle")
def _():
    bad([("required: [bindings, total]", "required: [bindings, sum]")], "required: [bindings, sum]", "requires 'sum'")
    bad([("pid: {type: integer, minimum: 0, description: Process id.}", "pid: {type: integer, minimum: 0}")],
        "pid: {type", "no description")
    bad([("    Closing:\n", "    Unused: {type: object, description: Nobody has one.}\n    Closing:\n")],
        "    Unused: {", "nothing refers to")
    bad([("userAgent: {type: [string, \"null\"], description: The caller's User-Agent; null when it sent none.}",
          'userAgent: {$ref: "#/components/schemas/Health"}')], "    Error:\n      type: object", "holds itself")


@case("a tag, a security scheme and a protocol reference that are not there; a connect path of another name")
def _():
    bad([("tags: [health]", "tags: [helth]")], "tags: [helth]", "no tag 'helth'")
    bad([("        - bearer: []\n", "        - cookie: []\n")], "      security:\n        - {}", "no security scheme")
    bad([("x-protocol: enums/kind", "x-protocol: enums/kinds")], "enums/kinds", "protocol.yaml has nothing at")
    bad([("  /api/v1/tunnel/connect:", "  /api/v1/tunnel/attach:")], "      x-upgrade: websocket", "connect path")


# ---- the document ----

@case("openapi.json: every reference resolves, ids are unique, nothing of the generator's own notation is left")
def _():
    refs = [n["$ref"] for n in walk(DOC) if isinstance(n, dict) and "$ref" in n]
    assert refs and all(lookup(r) for r in refs)
    ids = [op["operationId"] for _, _, op in operations()]
    assert len(set(ids)) == len(ids) == 17
    assert not any(isinstance(n, dict) and "x-protocol" in n for n in walk(DOC))
    assert DOC["openapi"].startswith("3.1.")


@case("openapi.json: examples fit their schemas, and every schema is a JSON Schema")
def _():
    count = 0
    for _, _, op in operations():
        for status in op["responses"]:
            _, media = media_of(op, status)
            if media:
                fits(media["example"], media["schema"])
                count += 1
        for p in op.get("parameters", []):
            fits(p["example"], p["schema"])
    assert count > 20
    for schema in DOC["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@case("openapi.json: every documented operation, with what the protocol says")
def _():
    assert {(m, p if p == BASE + "/status" else p.removeprefix(BASE)) for p, m, _ in operations()} == {
        ("GET", "/"), ("GET", "/status"), ("GET", "/api/v1/tunnel/status"), ("GET", "/me"), ("GET", "/livez"), ("GET", "/readyz"), ("GET", "/events"), ("GET", "/health"), ("GET", "/metrics"), ("GET", "/proxy"), ("GET", "/ca.pem"), ("GET", "/tunnels"), ("GET", "/sessions"), ("GET", "/bindings"),
        ("DELETE", "/sessions/{session_id}"), ("GET", "/connect"), ("GET", "/openapi.json")}
    grace = DOC["paths"][BASE + "/sessions/{session_id}"]["delete"]["parameters"][1]
    assert grace["schema"] == {"type": "integer", "minimum": 0, "maximum": 5000, "default": 50}
    protocol = protocolref.Protocol(os.path.join(ROOT, "spec"))
    assert DOC["components"]["schemas"]["Mode"]["enum"] == protocol.names("enums/mode").values
    assert DOC["components"]["schemas"]["Protocol"]["enum"] == ["v1", "v2", "vtunnel"]
    for path in (BASE + "/health", "/livez", "/readyz", "/", "/status"):
        assert DOC["paths"][path]["get"]["security"] == []


@case("openapi.json: the data of each event of the example is one of what x-event names")
def _():
    _, media = media_of(DOC["paths"][BASE + "/events"]["get"], "200")
    lines = media["example"].splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["id", "event", "data"]
    event = json.loads(lines[2].removeprefix("data: "))
    fits(event, media["x-event"])
    fits({"kit": DOC["paths"][BASE + "/status"]["get"]["responses"]["200"]["content"]["application/json"]["example"]["kit"],
          "sessions": [{"sessionId": "S-1", "rate": 1, "streams": 0, "rttMs": None}]}, media["x-sample"])
    assert event["event"] == lines[1].removeprefix("event: ")


# ---- routes ----

@case("every operation of the document has its route; HEAD goes with GET")
def _():
    for path, method, op in operations():
        got = match(method, path.replace("{session_id}", "S-1"))
        assert got["status"] == "0" and got["route"].startswith(f"{method} {path} "), got
        assert got["route"].endswith("upgrade=1") == (op["operationId"] == "connect")
        if method == "GET":
            assert match("HEAD", path)["route"] == got["route"]


@case("who needs a token: never for probes and the page, optional for connect, always elsewhere")
def _():
    auth = {p: match(m, p.replace("{session_id}", "x"))["route"].split()[2] for p, m, _ in operations()}
    assert [auth.pop(path) for path in (BASE + "/health", "/livez", "/readyz", "/", "/status")] == ["auth=0"] * 5
    assert auth.pop(BASE + "/connect") == "auth=1"
    assert set(auth.values()) == {"auth=2"}


@case("paths that are none: 404")
def _():
    for path in ("", "//", "/status/", "*", BASE, BASE + "/", BASE + "/health/", BASE + "//health", BASE + "/healthy", BASE + "/Health",
                 BASE + "/sessions/", BASE + "/sessions/a/b", "/api/v1", "http://h" + BASE + "/health", BASE + "/heal%74h",
                 "x" + BASE + "/health"):
        assert match("GET", path) == {"status": "404"}, path
    assert match("FROB", BASE + "/nothing") == {"status": "404"}


@case("methods that are not for a path: 405 with what is")
def _():
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "get", "", "GETX"):
        assert match(method, BASE + "/health?x=1") == {"status": "405", "allow": "GET, HEAD"}, method
    for method in ("GET", "HEAD", "POST"):
        assert match(method, BASE + "/sessions/S-1") == {"status": "405", "allow": "DELETE"}


@case("path parameters are decoded and checked")
def _():
    for given, want in (("S-1", "S-1"), ("a%2Fb", "a/b"), ("%53-1", "S-1"), ("a+b", "a+b"), ("%41" * 128, "A" * 128),
                        ("%c3%a9", "\u00e9")):
        assert match("DELETE", f"{BASE}/sessions/{given}")["session_id"] == want, given
    for given in ("%", "%4", "%zz", "a%00b", "A" * 129):
        got = match("DELETE", f"{BASE}/sessions/{given}")
        assert got["status"] == "400" and got["error"].startswith("session_id must be 1 to 128 bytes"), given


@case("query parameters: defaults, bounds, decoding, strangers, twice")
def _():
    for query, want in (("", "50 set=0"), ("?", "50 set=0"), ("?grace_ms=0", "0 set=1"), ("?grace_ms=5000", "5000 set=1"),
                        ("?x=1&grace_ms=7&y", "7 set=1"), ("?grace%5Fms=%37", "7 set=1"), ("?grace_ms=007", "7 set=1"),
                        ("?GRACE_MS=7", "50 set=0"), ("?xgrace_ms=9", "50 set=0"), ("?%zz=1&&=&grace_ms=3&", "3 set=1"),
                        ("?grace_ms=-0", "0 set=1")):
        assert match("DELETE", f"{BASE}/sessions/S-1{query}")["grace_ms"] == want, query
    for given in ("5001", "-1", "", "abc", "1.5", "+5", "%2B5", "5%20", "5 ", "0x5", "1e3", "9" * 30, "%zz", "5%00", "-"):
        got = match("DELETE", f"{BASE}/sessions/S-1?grace_ms={given}")
        assert got == {"status": "400", "error": "grace_ms must be a whole number from 0 to 5000"}, given
    assert match("DELETE", f"{BASE}/sessions/S-1?grace_ms")["status"] == "400"
    assert match("DELETE", f"{BASE}/sessions/S-1?grace_ms=1&grace_ms=1")["error"] == "grace_ms must not be given twice"


# ---- answers ----

@case("the writers make exactly the documented examples")
def _():
    for path, method, op in operations():
        status = next(s for s in op["responses"] if s.startswith("2") or s == "101")
        if op["operationId"] in ("connect", "openapi"):
            continue
        media_type, media = media_of(op, status)
        target = path.replace("{session_id}", "S-466ab70d-92e8-49b5-95a9-8c0d585dc2b9")
        got = dispatch(method, target)
        assert got[:4] == (int(status), media_type, "-", "-"), got
        if media_type == "application/json":
            assert json.loads(got[4]) == media["example"]
            assert list(json.loads(got[4])) == list(media["example"])
            fits(json.loads(got[4]), media["schema"])
        else:
            assert got[4] == media["example"]


@case("null where it is allowed, left out where it may be")
def _():
    assert json.loads(dispatch("GET", BASE + "/health", "u")[4])["userAgent"] is None
    first, second = json.loads(dispatch("GET", BASE + "/bindings")[4])["bindings"]
    assert "bindAddr" not in first and second["bindAddr"] == "127.0.0.1"


@case("the served document is the generated one")
def _():
    status, media_type, _, _, body = dispatch("GET", BASE + "/openapi.json")
    assert (status, media_type) == (200, "application/json") and json.loads(body) == DOC


@case("errors are objects with one member; their order is trust, path, method, token, parameter, handler")
def _():
    kill = BASE + "/sessions/S-1?grace_ms=x"
    assert dispatch("DELETE", kill, "ta") == (403, "-", "-", "-", "")
    assert dispatch("GET", BASE + "/x", "a") == (404, "application/json", "-", "-", '{"error":"no such path"}')
    assert dispatch("GET", kill, "a")[:4] == (405, "application/json", "DELETE", "-")
    assert dispatch("DELETE", kill, "a") == (401, "application/json", "-", "Bearer", '{"error":"a bearer token is required"}')
    assert dispatch("DELETE", kill)[0] == 400
    assert dispatch("GET", BASE + "/health", "a")[0] == 200
    assert dispatch("GET", BASE + "/connect", "a")[0] == 400
    assert dispatch("DELETE", BASE + "/sessions/gone") == (404, "application/json", "-", "-", '{"error":"no such session"}')
    assert dispatch("DELETE", BASE + "/sessions/half")[4] == '{"error":"no such session"}'
    assert dispatch("DELETE", BASE + "/sessions/broken")[0] == 500
    assert dispatch("GET", BASE + "/tunnels", "n")[0] == 404
    for target, flags in ((kill, ""), (kill, "a"), (BASE + "/nothing", ""), (BASE + "/sessions/gone", "")):
        fits(json.loads(dispatch("DELETE", target, flags)[4]), {"$ref": "#/components/schemas/Error"})


@case("strings: escapes, control bytes, UTF-8, and what is none")
def _():
    def written(data):
        return json.loads(PROBE.run("text", data.hex()))["error"]
    text = 'a"b\\c/\n\r\t\b\x00\x1f\x7f\u00e9\u20ac\U0001f600\u2028'
    assert written(text.encode()) == text
    assert PROBE.run("text", b'"\\\n'.hex()) == '{"error":"\\"\\\\\\u000a"}'
    assert written(b"") == ""
    for bad_bytes, want in ((b"\x80", "\ufffd"), (b"a\xffb", "a\ufffdb"), (b"\xc0\x80", "\ufffd\ufffd"),
                            (b"\xc3", "\ufffd"), (b"\xe2\x82", "\ufffd\ufffd"), (b"\xed\xa0\x80", "\ufffd" * 3),
                            (b"\xf4\x90\x80\x80", "\ufffd" * 4), (b"\xe0\x80\xaf", "\ufffd" * 3), (b"\xf5", "\ufffd"),
                            (b"\xc3(", "\ufffd(")):
        assert written(bad_bytes) == want, bad_bytes
    for code in list(range(0x80)) + [0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff]:
        assert written(chr(code).encode()) == chr(code)


@case("numbers: to three places, and never anything that JSON has no way to write")
def _():
    for given, want in (("0", "0.000"), ("24.1", "24.100"), ("0.0005", "0.001"), ("-1.5", "-1.500"), ("-0.0001", "0.000"), ("1e300", "9000000000000000.000"),
                        ("nan", "0.000"), ("inf", "9000000000000000.000"), ("4.2", "4.200")):
        assert PROBE.run("number", given) == f'{{"sessionId":"","rate":0,"streams":0,"rttMs":{want}}}', given


@case("a number that is no enumerator is refused")
def _():
    assert PROBE.run("bad-enum") == "-7\n"


@case("each allocation may fail: a 500 or an error, and nothing leaks")
def _():
    for target in ("/health", "/tunnels", "/openapi.json", "/metrics", "/nothing"):
        assert re.fullmatch(r"failed=[1-9]\d* status=(200|404)\n", PROBE.run("fail", "GET", BASE + target)), target


# ---- the inspector's API ----

@case("inspector.json: no complaints, references resolve, examples fit, ids are unique; a body has a bound")
def _():
    assert complaints("inspect_api_gen.c", "inspector.yaml", []) == []
    doc = document("inspector.json")

    def fits_there(value, schema):
        jsonschema.Draft202012Validator({**schema, "components": doc["components"]}).validate(value)

    ids = []
    for item in doc["paths"].values():
        for op in item.values():
            ids.append(op["operationId"])
            for body in [*op["responses"].values(), op.get("requestBody", {})]:
                for media in body.get("content", {}).values():
                    fits_there(media["example"], media["schema"])
                    for schema in media.get("x-events", {}).values():
                        assert schema["$ref"].rsplit("/", 1)[1] in doc["components"]["schemas"]
    assert len(ids) == len(set(ids)) == 14
    assert complaints("inspect_api_gen.h", "inspector.yaml", [("        x-max-bytes: 33554432\n", "")])
    assert any("nothing refers to" in said for _, said in complaints("inspect_api_gen.h", "inspector.yaml", [(
        "                frame: {$ref: \"#/components/schemas/Frame\"}\n", ""), ('items: {$ref: "#/components/schemas/Frame"}', 'items: {$ref: "#/components/schemas/Id"}')]))


@case("inspector: routes with their bounds, and texts of a query")
def _():
    base = "/api/v1/inspector"
    assert match("POST", f"{base}/har/import", INSPECT)["route"] == f"POST {base}/har/import auth=2 max=67108864"
    assert match("GET", "/", INSPECT)["route"] == "GET / auth=0 max=0"
    assert match("GET", f"{base}/har/import", INSPECT) == {"status": "405", "allow": "POST"}
    assert match("PUT", f"{base}/exchanges", INSPECT) == {"status": "405", "allow": "DELETE, GET, HEAD"}
    got = match("GET", f"{base}/exchanges?body=a+b%26&header=%C3%A9", INSPECT)
    assert got["body"] == "a b& set=1" and got["header"] == "\u00e9 set=1" and got["fields"] == " set=0"
    for query, what in (("body=", "body must be 1 to 1024 bytes"), ("body=%", "body must be"), ("body=a%00", "body must be"), ("body=a&body=a", "body must not be given twice"),
                        ("body=" + "a" * 1025, "body must be 1 to 1024 bytes"), ("fields=idx", "fields must be 2 to 2 bytes")):
        got = match("GET", f"{base}/exchanges?{query}", INSPECT)
        assert got["status"] == "400" and got["error"].startswith(what), (query, got)
    assert match("GET", f"{base}/exchanges?body=" + "a" * 1024, INSPECT)["status"] == "0"


if __name__ == "__main__":
    try:
        main()
    finally:
        PROBE.close()
        INSPECT.close()
