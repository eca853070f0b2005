"""The API of the edge: versions, mistakes, who may ask, the audit, and that nothing acknowledged is lost when everything is killed."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import threading

import jsonschema

from tests.integration.edge_api import Api
from tests.integration.edges import DOMAIN, Edge
from tests.integration.harness import Folder, command, eventually, free_port
from tests.support.tap import case, main

P, C, D = "67e89abc123def456789abcd", "890abcdef12345678901cdef", "0123456789abcdef01234567"
HOST = f"me.containers.{DOMAIN}"


@contextlib.contextmanager
def edge(*args, **more):
    with Edge(*args, **more) as e:
        e.api = Api(os.path.join(e.folder, "run", "api.sock"))
        yield e


def checked(api, doc):
    """The API, each of whose answers must be one of its document's."""
    def ask(method, path, body=None, version=None, **more):
        answer = api.ask(method, path, body, version, **more)
        for template, item in doc["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), "/api/v1" + path) and method.lower() in item:
                response = item[method.lower()]["responses"][str(answer.status)]
                if "$ref" in response:
                    response = doc["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
                schema = response["content"]["application/json"]["schema"]
                jsonschema.Draft202012Validator({**schema, "components": doc["components"]}).validate(json.loads(answer.body))
                return answer
        raise AssertionError(f"{method} {path} is not in the document")
    return ask


@case("every change names the version that it is of: 428 without, 412 of another one; each answer is as the document has it")
def _():
    with edge() as e:
        ask = checked(e.api, json.loads(e.api.get("/openapi.json").body))
        one = f"/containers/{C}/proxy"
        assert ask("GET", one).status == 404
        assert ask("PUT", f"{one}/address", {"ip": "192.0.2.7", "project_id": P}).status == 428
        assert ask("PUT", f"{one}/address", {"ip": "192.0.2.7", "project_id": P}, 1).status == 412
        made = ask("PUT", f"{one}/address", {"ip": "192.0.2.7", "project_id": P}, 0)
        assert (made.status, made.version) == (200, 1) and made.data["file_version"] == 1, made
        assert ask("PUT", f"{one}/address", {"ip": "192.0.2.8"}, 0).status == 412
        for quoted in ("file:v1", '"file:v1"'):
            assert ask("PUT", f"{one}/address", {"ip": "192.0.2.8"}, headers={"If-Match": quoted}).status == (200 if quoted[0] == "f" else 412)
        for bad in ("*", "v2", "file:v", "file:v-1", "file:v2 ", "file:v99999999999999999999", 'W/"file:v2"', "file:v2, file:v3", '"file:v2'):
            answer = ask("PUT", f"{one}/address", {"ip": "192.0.2.8"}, headers={"If-Match": bad})
            assert answer.status == (200 if bad == "file:v2 " else 400), (bad, answer)
        assert ask("PUT", f"{one}/address", {"ip": "192.0.2.8", "project_id": D}, 3).status == 409
        assert ask("PUT", f"{one}/services/web-app", {"port": 3000}, 3).version == 4
        assert ask("PUT", f"{one}/services", {"services": {"web": 80, "terminal": 7681}}, 4).version == 5
        assert {s["service"]: s["port"] for s in ask("GET", f"{one}/services").data["services"] if s["own"]} == {"web": 80, "terminal": 7681}
        assert ask("GET", f"{one}/services/terminal").data == {"service": "terminal", "port": 7681, "own": True, "enable_proxy": True}
        assert ask("GET", f"{one}/services/web-app").status == 404
        assert ask("DELETE", f"{one}/services/terminal", None, 5).version == 6
        assert ask("GET", f"{one}/services/terminal").data == {"service": "terminal", "port": 76, "own": False, "enable_proxy": True}
        assert ask("DELETE", f"{one}/services/terminal", None, 6).status == 404
        assert ask("PATCH", f"{one}/services/web/state", {"enable_proxy": False}, 6).version == 7
        assert ask("GET", f"{one}/services/web").data["enable_proxy"] is False
        assert ask("DELETE", f"{one}/services", None, 7).version == 8
        assert ask("PATCH", f"{one}/permissions/state", {"enable_proxy": False}, 8).data == {"enable_proxy": False, "file_version": 9}
        assert ask("GET", f"{one}/permissions/state").version == 9
        assert ask("GET", f"/projects/{P}/proxy/permissions/state").data == {"enable_proxy": True, "file_version": 0}
        assert ask("PATCH", f"/projects/{P}/proxy/permissions/state", {"enable_proxy": False}, 0).version == 1
        assert ask("DELETE", one, None, 8).status == 412
        assert ask("DELETE", one, None, 9).data == {"file_version": 10}
        assert ask("DELETE", one, None, 10).status == 404
        assert ask("PUT", f"{one}/address", {"ip": "192.0.2.7", "project_id": P}, 0).version == 11
        assert ask("GET", f"{one}/services").status == 200


@case("bad ids, bodies and addresses are refused with what would be right, and change nothing")
def _():
    with edge() as e:
        e.api.change("PUT", f"/containers/{C}/proxy/address", {"ip": "192.0.2.7", "project_id": P})
        one = f"/containers/{C}/proxy"
        for path in ("/containers/x/proxy", f"/containers/{C.upper()}/proxy", f"/containers/{C[:-1]}g/proxy", f"/containers/{C}0/proxy",
                     "/containers/..%2f..%2f..%2fetc%2fpasswd%00/proxy"):
            assert e.api.get(path).status == 400, path
            assert e.api.ask("PUT", f"{path}/address", {"ip": "192.0.2.9", "project_id": P}, 0).status == 400, path
        for raw in ("", "[]", "null", "{", '{"ip":"192.0.2.9"}x', '{"ip":"192.0.2.9","ip":"192.0.2.8"}', '{"ip":7}', '{"ip":null}', '{"ip":"192.0.2.9\\u0000"}',
                    '{"ip":"192.0.2.9","more":1}', '{"ip":"192.0.2.9","project_id":"x"}', '{"ip":"' + "9" * 900 + '"}', '{"ip":"\\ud800"}', '{"ip":"\xff"}'):
            answer = e.api.ask("PUT", f"{one}/address", version=1, raw=raw.encode("latin-1"))
            assert answer.status == 400 and answer.message, (raw, answer)
        for ip in ("", "192.0.2.9:80", "192.0.2.9/24", "0x7f.1", "127.1", "127.0.0.1", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1", "224.0.0.1", "255.255.255.255",
                   "169.254.169.254", "fe80::1", "ff02::1", "localhost", "192.0.2.9 ", "192.0.2.9\n|x"):
            answer = e.api.ask("PUT", f"{one}/address", {"ip": ip}, 1)
            assert answer.status == 400 and "ip" in answer.message, (ip, answer)
        for name in ("http", "https", "Web", "a--b", "-a", "a1", "a.b", "a%20b", "a%0ab", "x" * 41):
            assert e.api.ask("PUT", f"{one}/services/{name}", {"port": 80}, 1).status == 400, name
        for port in (0, 65536, -1, 1.5, "80", None, 1e9):
            assert e.api.ask("PUT", f"{one}/services/web", {"port": port}, 1).status == 400, port
        for services in ([], {"web": 0}, {"http": 80}, {"a b": 80}, {"web": {"port": 80}}, {"a|b": 80}, None):
            assert e.api.ask("PUT", f"{one}/services", {"services": services}, 1).status == 400, services
        for state in ({"enable_proxy": "false"}, {"enable_proxy": 0}, {}, {"enable_proxy": None}):
            assert e.api.ask("PATCH", f"{one}/permissions/state", state, 1).status == 400, state
        assert e.api.ask("PUT", f"{one}/address", version=1, raw=b"x" * 2000).status == 413
        assert e.api.ask("POST", f"{one}/address", {}, 1).status == 405 and e.api.get("/nothing").status == 404
        assert e.api.get(one).version == 1 and e.api.get(one).data["ip"] == "192.0.2.7"
        assert e.map("containers") == [(f"{P}-{C}", "192.0.2.7")] and e.map("off") == []


@case("a list of containers comes page by page, in order")
def _():
    with edge() as e:
        ids = sorted(f"{i * 7919:024x}" for i in range(25))
        for one in reversed(ids):
            e.api.ask("PUT", f"/containers/{one}/proxy/address", {"ip": "192.0.2.7", "project_id": P}, 0)
        seen, after, more = [], "", True
        while more:
            page = e.api.get(f"/containers?limit=10{after}").data
            seen += [c["id"] for c in page["containers"]]
            more, after = page["more"], f"&after={seen[-1]}"
        assert seen == ids and e.api.get("/containers").data["more"] is False
        assert e.api.get("/containers?limit=0").status == 400 and e.api.get("/containers?limit=1001").status == 400
        eventually(lambda: len(e.map("containers")) == 25, "all in the map")


@case("the socket is this user's alone; the port wants the token, no page of another site, and is on this machine alone")
def _():
    with edge("--api", "127.0.0.1:0") as e:
        port = int(re.search(r"the API is at http://127\.0\.0\.1:(\d+)", e.program.text()).group(1))
        with open(os.path.join(e.folder, "api.token"), encoding="ascii") as f:
            token = f.read().strip()
        for name in ("api.token", "run/api.sock", "run/master.sock"):
            assert stat.S_IMODE(os.stat(os.path.join(e.folder, name)).st_mode) == 0o600, name
        assert stat.S_IMODE(os.stat(e.folder).st_mode) & 0o007 == 0
        good = Api(port, token)
        assert good.get("/containers").status == 200
        made = good.change("PUT", f"/containers/{C}/proxy/address", {"ip": "192.0.2.7", "project_id": P})
        assert made.version == 1
        for wrong in (None, "x", token[:-1], token + "x"):
            answer = Api(port, wrong).get("/containers")
            assert answer.status == 401 and answer.headers["WWW-Authenticate"] == "Bearer" and answer.data is None, answer
            assert Api(port, wrong).ask("PUT", f"/containers/{C}/proxy/address", {"ip": "192.0.2.8"}, 1).status == 401
        for headers in ({"Host": "evil.example"}, {"Host": f"evil.example:{port}"}, {"Origin": "https://evil.example"}, {"Origin": f"http://127.0.0.1:{port}"}):
            answer = good.get("/containers", headers=headers)
            assert answer.status == 403 and not answer.body, (headers, answer)
        assert good.get("/containers", headers={"Host": f"localhost:{port}"}).status == 200
        with open(os.path.join(e.folder, "audit.log"), encoding="ascii") as f:
            lines = [json.loads(line) for line in f]
        assert [(x["who"], x["what"], x["id"], x["parts"], x["version"]) for x in lines] == [("token", "containerAddress", C, "project_id,ip", 1)]
        assert lines[0]["from"].startswith("127.0.0.1:")
    with Folder() as folder:
        status, _out, said = command("edge", "dev", "--folder", folder.join("edge"), "--port", str(free_port()), "--api", "0.0.0.0:8480")
        assert status == 2 and "addresses of this machine alone" in said, (status, said)


@case("clients that send slowly, nothing, or too much hold up nobody, and a stolen answer is none")
def _():
    with edge() as e:
        idle = []
        for begin in (b"", b"GET /api/v1/containers HTTP/1.1\r\n", b"PUT /api/v1/containers/" + C.encode() + b"/proxy/address HTTP/1.1\r\nHost: x\r\n"
                      b"If-Match: file:v0\r\nContent-Length: 1000\r\n\r\n{"):
            s = socket.socket(socket.AF_UNIX)
            s.connect(e.api.where)
            s.sendall(begin)
            idle.append(s)
        e.api.change("PUT", f"/containers/{C}/proxy/address", {"ip": "192.0.2.7", "project_id": P})
        s = socket.socket(socket.AF_UNIX)
        s.connect(e.api.where)
        s.sendall(b"GET /api/v1/containers HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\nGET /api/v1/containers HTTP/1.1\r\nHost: smuggled\r\n\r\n0123456789")
        got = b""
        while more := s.recv(65536):
            got += more
        assert got.count(b"HTTP/1.1 ") == 1, got
        for s in (*idle, s):
            s.close()


@case("all of them killed in the middle of changes: what was acknowledged is there afterwards, in the documents and at HAProxy")
def _():
    with Folder() as folder:
        where = folder.join("edge")
        known = {}
        for turn in range(3):
            e = Edge(folder=where)
            e.api = Api(os.path.join(where, "run", "api.sock"))
            try:
                for key, (ip, version) in known.items():
                    got = e.api.get(f"/containers/{key}/proxy")
                    assert got.version >= version and (got.data["ip"] == ip or got.version == version + 1), (key, ip, version, got)
                    known[key] = got.data["ip"], got.version
                eventually(lambda: e.map("containers") == sorted((f"{P}-{k}", e.api.get(f"/containers/{k}/proxy").data["ip"]) for k in ids(e)), "the map")
                change_until_killed(e, known, turn)
            finally:
                e.program.end(signal.SIGKILL)


def ids(e):
    return [c["id"] for c in e.api.get("/containers").data["containers"]]


def change_until_killed(e, known, turn):
    """Several clients change addresses; after some of their changes everything is killed."""
    enough = threading.Event()

    def client(number):
        key = f"{number:024x}"
        with contextlib.suppress(OSError, ConnectionError, AssertionError, __import__("http.client").client.HTTPException):
            for n in range(10000):
                ip = f"198.51.{turn * 4 + number}.{n % 200 + 1}"
                answer = e.api.ask("PUT", f"/containers/{key}/proxy/address", {"ip": ip, "project_id": P}, known.get(key, (None, 0))[1])
                if answer.status == 200:
                    known[key] = ip, answer.version
                if n == 20 + turn:
                    enough.set()

    clients = [threading.Thread(target=client, args=(n,)) for n in range(3)]
    for one in clients:
        one.start()
    assert enough.wait(30)
    master = e.master()
    os.kill(e.program.pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(master, signal.SIGKILL)
    for one in clients:
        one.join()


if __name__ == "__main__":
    main()
