"""Aliases of the edge, with a real HAProxy: where they lead, into which part of a service, and what holds for them as for the long names.

Runs: plain.
"""

import json
import re

from tests.integration.edge_aliases import ALIASES, ONE, PLACES, PROJECT, SUFFIX, TWO, ends, site
from tests.integration.harness import BIN, eventually
from tests.support.tap import case, main


@case("an alias leads where the long name does, by the API and by the command line; every change is a version and a line of the audit")
def _():
    with site() as it:
        it.start()
        assert it.get("my-app").status == 404
        made = it.api.ask("POST", ALIASES, {"alias": "my-app", "container_id": ONE, "program": "http", "port": 8000})
        assert made.status == 200 and made.version == 1 and re.fullmatch("[0-9a-f]{24}", made.data["id"]), made
        key = made.data["id"]
        assert made.data == {"id": key, "alias": "my-app", "host": f"my-app.{SUFFIX}", "project_id": PROJECT, "container_id": ONE, "program": "http",
                             "port": 8000, "index": 8000, "allow_path_override": False, "exact": False, "enabled": True, "expired": False,
                             "file_version": 1}, made.data
        answer = it.until(200, "my-app", "/a/../b?x=1&y=%2e", at="192.0.2.2:8000")
        assert answer.target == "/a/../b?x=1&y=%2e", answer  # without a target path it is the service's business
        # The service sees the name that the visitor has asked for.
        fields = answer.fields
        assert fields["host"] == fields["x-forwarded-host"] == [f"my-app.{SUFFIX}"] and f'host="my-app.{SUFFIX}"' in fields["forwarded"][0], fields
        # Case and a final dot are the same host; other ports of it are not another one.
        for host in (f"MY-APP.{SUFFIX}", f"my-app.{SUFFIX}.", f"My-App.{SUFFIX}:443"):
            assert it.get("my-app", "/", "-H", f"Host: {host}").status == 200, host
        assert it.get("my-app", version="--http2").at == "192.0.2.2:8000"
        # Versions.
        assert it.api.ask("PATCH", f"{ALIASES}/{key}", {"port": 9000}).status == 428
        assert it.api.ask("PATCH", f"{ALIASES}/{key}", {"port": 9000}, version=7).status == 412
        assert it.change(key, {"port": 9000}).version == 2
        it.until(200, "my-app", at="192.0.2.2:9000")
        assert it.change(key, {"program": "terminal"}).data["index"] == 1
        it.until(200, "my-app", at="192.0.2.2:76")
        # The services table.
        it.api.change("PUT", f"/containers/{ONE}/proxy/services/terminal", {"port": 9000})
        it.until(200, "my-app", at="192.0.2.2:9000")
        it.change(key, {"enabled": False}, below="/state")
        off = it.until(503, "my-app")
        assert off.headers["retry-after"] == "60" and it.get(it.long(service="terminal-1")).status == 200
        it.change(key, {"enabled": True}, below="/state")
        it.until(200, "my-app")
        it.change(key, {"alias": "our-app"})
        it.until(200, "our-app")
        assert it.get("my-app").status == 404
        other = it.alias("second", TWO)
        listed = it.api.get(ALIASES).data
        assert {a["id"] for a in listed["aliases"]} == {key, other} and listed["more"] is False, listed
        page = it.api.get(f"{ALIASES}?limit=1").data
        assert [a["id"] for a in page["aliases"]] == [min(key, other)] and page["more"] is True, page
        assert [a["id"] for a in it.api.get(f"{ALIASES}?limit=1&after={page['aliases'][0]['id']}").data["aliases"]] == [max(key, other)]
        assert [a["id"] for a in it.api.get(f"{ALIASES}?alias=second").data["aliases"]] == [other]
        assert [a["id"] for a in it.api.get(f"{ALIASES}?container={ONE}").data["aliases"]] == [key]
        assert it.api.get(f"{ALIASES}?alias=third").data["aliases"] == []
        gone = it.change(key, None, "DELETE")
        assert gone.data["file_version"] > 5, gone
        it.until(404, "our-app")
        assert it.api.get(f"{ALIASES}/{key}").status == 404
        # The command line.
        tell = lambda *words: it.server.run(BIN, "edge", "aliases", "--folder", it.folder, *words)
        assert f"https://shop.{SUFFIX}" in tell("create", "shop", "--container", ONE, "--program", "http", "--index", "8000")
        it.until(200, "shop", at="192.0.2.2:8000")
        assert re.search(rf"shop +{TWO} +http-9000 +/v1 or below +on +- +v\d+", tell("update", "shop", "--container", TWO, "--index", "9000", "--target-path",
                                                                                 "/v1", "--allow-path-override"))
        it.until(200, "shop", at="192.0.2.3:9000")
        assert " off " in tell("off", "shop")
        it.until(503, "shop")
        assert " on " in tell("on", "shop")
        assert "2099-01-01T00:00:00Z" in tell("update", "shop", "--expires-at", "2099-01-01T01:00:00+01:00", "--target-path", "none")
        assert "2099" not in tell("update", "shop", "--expires-at", "never", "--rename", "store")
        assert it.until(200, "store").target == "/"
        shown = json.loads(tell("get", "store", "--json"))
        assert shown["container_id"] == TWO and json.loads(tell("get", shown["id"], "--json")) == shown
        assert re.search(r"^second .*\n(.*\n)*store |^store .*\n(.*\n)*second ", tell(), re.M)
        assert tell("list", "--container", TWO, "--json").count('"alias"') == 2
        assert tell("delete", "store") == "store is gone\n"
        it.until(404, "store")
        with open(it.server.path(f"{it.folder}/audit.log"), encoding="utf-8") as f:
            lines = f.read().splitlines()
        said = [line for line in lines if key in line]
        assert len(said) == gone.data["file_version"] and "aliasCreate" in said[0] and "aliasDelete" in said[-1], said
        assert any("aliasState" in line and "enabled" in line for line in said), said
        # The log tells by which name a visitor came, and sums are those of the container's service.
        it.get("second", "/marked")
        rows = eventually(lambda: [r for r in it.api.get("/_logs?limit=50").data["logs"] if r.get("url") == "/marked"], "the log")
        assert (rows[0]["alias"], rows[0]["kind"], rows[0]["container"], rows[0]["serviceName"], rows[0]["serviceNumber"], rows[0]["host"]) == (
            "second", "request", f"{PROJECT}-{TWO}", "http", "8000", f"second.{SUFFIX}"), rows
        assert {r["alias"] for r in it.api.get("/_logs?alias=second").data["logs"]} == {"second"} and it.api.get("/_logs?alias=none").data["logs"] == []
        assert "/marked" in it.server.run(BIN, "edge", "logs", "--folder", it.folder, "--alias", "second")
        refused = [r for r in it.api.get("/_logs?kind=refused").data["logs"] if r.get("alias") == "our-app" or r.get("alias") == "my-app"]
        assert refused and {r["reason"] for r in refused} == {"off"}, refused
        assert any(s.get("container") == f"{PROJECT}-{TWO}" and s.get("serviceName") == "http" for s in it.api.get("/_logs/stats").data["services"])


CLIMBS = ["/..", "/../x", "/a/../../x", "/%2e%2e/x", "/.%2e/x", "/%2E./x", "/a%2f..%2fx", "/a%2F%2e%2e", "/..%2fx", "/..%5cx", "/..\\x", "/\\..\\x", "/%5c..", "/..;/x",
          "/..;a=b/x", "/%252e%252e/x", "/..%00/x", "/a/..%3b/x", "/..%252fx", "/%25252e./x", "/...", "/v1/..", "//../x"]


@case("a target path: what is asked for is below it, or it is that alone; nobody climbs out in any spelling; the query stays")
def _():
    with site() as it:
        it.start()
        it.alias("under", target_path="/api/v1")
        it.alias("either", target_path="/api/v1", allow_path_override=True)
        it.alias("page", target_path="/docs/start.html", exact=True)
        it.alias("slash", target_path="/docs/", exact=True)
        it.alias("strange", target_path="/a%20b/~c/$&()*+,=:@!")
        it.until(200, "under")
        it.until(200, "strange")
        wanted = {
            "under": {"/": "/api/v1/", "/users": "/api/v1/users", "/users?a=/b/../c&d=%2e%2e": "/api/v1/users?a=/b/../c&d=%2e%2e",
                      "/api/v1/users": "/api/v1/api/v1/users", "/a%2fb/.well-known/x..y": "/api/v1/a%2fb/.well-known/x..y", "/?": "/api/v1/?"},
            "either": {"/": "/api/v1/", "/users": "/api/v1/users", "/api/v1": "/api/v1", "/api/v1?q": "/api/v1?q", "/api/v1/": "/api/v1/",
                       "/api/v1/users": "/api/v1/users", "/api/v12/users": "/api/v1/api/v12/users", "/API/v1/users": "/api/v1/API/v1/users",
                       "//api/v1/x": "/api/v1//api/v1/x", "/api%2fv1/x": "/api/v1/api%2fv1/x"},
            "page": {"/": "/docs/start.html", "/docs/start.html": "/docs/start.html", "/?a=b": "/docs/start.html?a=b"},
            "slash": {"/": "/docs/", "/docs/": "/docs/"},
            "strange": {"/x": "/a%20b/~c/$&()*+,=:@!/x"},
        }
        for name, paths in wanted.items():
            for path, target in paths.items():
                answer = it.get(name, path)
                assert answer.status == 200 and answer.target == target, (name, path, answer)
        assert it.get("either", "/api/v1/users", version="--http2").target == "/api/v1/users"
        for path in ("/docs", "/docs/start.html/", "/docs/start.html/x", "/docs/start.html%3f", "/other", "/docs//start.html", "//", "/%64ocs/start.html"):
            answer = it.get("page", path)
            assert answer.status == 404 and "one page" in answer.body, (path, answer)
        assert it.get("slash", "/docs").status == 404
        for name in ("under", "either", "page"):
            for path in CLIMBS:
                answer = it.get(name, path)
                assert answer.status == 400, (name, path, answer)
            for path in CLIMBS[::4]:
                assert it.get(name, path, version="--http2").status == 400, (name, path)
        # Other targets of a request than a path.
        here = f"https://under.{SUFFIX}"
        for target, wanted in (("*", "/api/v1"), (here, "/api/v1"), (f"{here}/x", f"{here}/api/v1/x")):
            assert it.get("under", "/", "-X", "POST", "--request-target", target).target == wanted, target
        for target in (f"{here}/../x", f"{here}/a/%2e%2e", "//under/../x", "/a\\..\\b"):
            assert it.get("under", "/", "--request-target", target).status == 400, target
        # With the target in the path it is no way around either.
        assert it.get("either", "/api/v1/%2e%2e/admin").status == 400
        # A method does not matter.
        assert it.get("under", "/x", "-X", "POST", "-d", "a").target == "/api/v1/x"
        assert it.get("page", "/x", "-X", "POST", "-d", "a").status == 404


@case("gates and switches of the container and program that an alias leads to hold for it")
def _():
    with site() as it:
        it.start()
        token = "token-0123456789abcdef"
        key = it.alias("app")
        it.alias("shell", program="terminal", index=2)
        it.until(200, "shell", at="192.0.2.2:76")
        closed = it.api.ask("PUT", f"/containers/{ONE}/proxy/permissions", {"default": "deny", "groups": {"ci": {"type": "token", "value": token, "header": "X-Key"}},
                                                                   "permissions": {"ci": {"http": [8000], "terminal": [1]}}},
                   version=it.api.get(f"/containers/{ONE}/proxy/permissions").version)
        assert closed.status == 200, closed
        it.until(403, "app")
        opens = ["-H", f"X-Key: {token}"]
        answer = it.until(200, "app", "/x?y", *opens)
        assert answer.target == "/x?y" and "x-key" not in answer.fields
        assert it.get("shell", "/", *opens).status == 403, "it is terminal-2"
        # A target path is not a way around, and what opens is not told to the service.
        it.change(key, {"target_path": "/in"})
        assert it.until(200, "app", "/x?y", *opens).target == "/in/x?y"
        assert it.get("app", "/x").status == 403
        # The alias moves to where no permissions are, and back.
        it.change(key, {"container_id": TWO})
        it.until(200, "app", at="192.0.2.3:8000")
        it.change(key, {"container_id": ONE})
        it.until(403, "app")
        it.change(key, {"container_id": TWO})
        it.until(200, "app")
        switch = lambda path, on, method="PATCH": it.api.change(method, path, {"enable_proxy": on})
        for path in (f"/containers/{TWO}/proxy/permissions/state", f"/containers/{TWO}/proxy/services/http/state", f"/projects/{PROJECT}/proxy/permissions/state"):
            visitor = it.follow("app")
            switch(path, False)
            ends(visitor)
            it.until(503, "app")
            switch(path, True)
            it.until(200, "app")
        # The container moves, and is forgotten.
        it.api.change("PUT", f"/containers/{TWO}/proxy/address", {"ip": PLACES[ONE]})
        it.until(200, "app", at="192.0.2.2:8000")
        it.api.change("DELETE", f"/containers/{TWO}/proxy")
        it.until(404, "app")
        assert it.api.get(f"{ALIASES}/{key}").data["container_id"] == TWO


if __name__ == "__main__":
    main()
