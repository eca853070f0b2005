"""Aliases of the edge and who would like to have those of others: taken names, names that pass for other hosts, tenants, domains whose alias goes.

Runs: plain.
"""

import contextlib
import os
import signal

from tests.integration.edge_aliases import ALIASES, DOMAIN, ONE, PLACES, PROJECT, STRANGER, SUFFIX, THEIRS, TWO, ends, site
from tests.integration.edges import descendants, is_there
from tests.integration.harness import eventually
from tests.support.tap import case, main

FIRST, SECOND, THIRD = "1" * 24, "2" * 24, "3" * 24  # ids of documents that a test has written itself


@case("a name that is taken, reserved, or could pass for another host is refused, and so is one in other letters")
def _():
    with site() as it:
        it.start()
        it.alias("my-app")
        for name, said in (("My-App", "in lower case"), ("my-app.", "one label"), ("a.b", "one label"), ("-a", "one label"), ("a-", "one label"), ("a_b", "one label"),
                           ("*", "one label"), ("a b", "one label"), ("a|b", "one label"), ("a;b", "one label"), ("a\nb", "one label"), ("a\u0000", "must be a text"),
                           ("", "1 to 63"), ("a" * 64, "1 to 63"), ("b\u00fccher", "one label"), ("m\u0443-app", "one label"), ("xn--bcher-kva", "xn--"),
                           ("ab--c", "xn--"), (ONE, "no id"), (f"{PROJECT}-{ONE}-http-3000", "no id"), (f"{PROJECT}-{ONE}", "no id"), (f"{PROJECT}-x", "no id"),
                           ("wpad", "reserved"), ("login", "reserved"), ("localhost", "reserved"), (5, "must be a text"), (None, "one label"), (["a"], "must be a text")):
            made = it.api.ask("POST", ALIASES, {"alias": name, "container_id": ONE, "program": "http", "port": 8000})
            assert made.status == 400 and said in made.message, (name, made)
        for body, said in (({"program": "http", "port": 0}, "port must be"), ({"program": "http", "port": 65536}, "port must be"), ({"program": "http", "port": "80"}, "port must be"),
                           ({"program": "http"}, "port is needed"), ({"program": "http", "port": 1, "index": 2}, "the same number"), ({}, "program is needed"),
                           ({"program": "terminal", "port": 80}, "terminal has the port of its service"), ({"program": "Terminal"}, "program must be"),
                           ({"program": "a|b"}, "program must be"), ({"program": "exec", "target_path": "x"}, "begins with /"),
                           ({"program": "exec", "target_path": "/a/../b"}, "no segment"), ({"program": "exec", "target_path": "/a/./b"}, "no segment"),
                           ({"program": "exec", "target_path": "/a//b"}, "no //"), ({"program": "exec", "target_path": "/%2e%2e/b"}, "%2e may not"),
                           ({"program": "exec", "target_path": "/a%2Fb"}, "%2F may not"), ({"program": "exec", "target_path": "/a%0d%0aX: y"}, "%0d may not"),
                           ({"program": "exec", "target_path": "/a?b=c"}, "without a query"), ({"program": "exec", "target_path": "/a#b"}, "may stand there"),
                           ({"program": "exec", "target_path": "/a|b"}, "may stand there"), ({"program": "exec", "target_path": "/a;b"}, "may stand there"),
                           ({"program": "exec", "target_path": "/a b"}, "may stand there"), ({"program": "exec", "target_path": "/a%"}, "may stand there"),
                           ({"program": "exec", "target_path": "/a\\b"}, "may stand there"), ({"program": "exec", "target_path": "/" + "a" * 400}, "1 to 400 bytes"),
                           ({"program": "exec", "target_path": "/a/"}, "last byte"), ({"program": "exec", "exact": True}, "needs a target_path"),
                           ({"program": "exec", "exact": True, "target_path": "/a", "allow_path_override": True}, "exclude"), ({"program": "exec", "enabled": 1}, "true or false"),
                           ({"program": "exec", "expires_at": "tomorrow"}, "2026-12-24"), ({"program": "exec", "expires_at": "2099-02-30T00:00:00Z"}, "2026-12-24"),
                           ({"program": "exec", "expires_at": "2001-01-01T00:00:00Z"}, "past"), ({"program": "exec", "expires_at": 4102444800}, "must be a text"),
                           ({"program": "exec", "project_id": STRANGER}, "has the member"), ({"program": "exec", "id": FIRST}, "has the member")):
            made = it.api.ask("POST", ALIASES, {"alias": "fine", "container_id": ONE, **body})
            assert made.status == 400 and said in made.message, (body, made)
        assert it.api.ask("POST", ALIASES, {"alias": "fine", "container_id": FIRST, "program": "exec"}).status == 404
        assert it.api.ask("POST", ALIASES, {"alias": "fine", "container_id": ONE.upper(), "program": "exec"}).status == 400
        assert it.api.ask("POST", ALIASES, raw='{"alias": "fine", "container_id": "%s", "program": "exec"' % ONE).status == 400
        for path in ("x", ONE[:-1], "..%2f..%2fcontainer%2f" + ONE, ONE.upper()):
            assert it.api.get(f"{ALIASES}/{path}").status in (400, 404), path
        assert [a["alias"] for a in it.api.get(ALIASES).data["aliases"]] == ["my-app"]
        it.until(200, "my-app")
        # Hosts near by are nobody's.
        label = "a" * 63
        for host in (f"x.my-app.{SUFFIX}", f"my-app..{SUFFIX}", f".my-app.{SUFFIX}", f"my-app.{SUFFIX}.evil.example", f"evil.example.my-app.{SUFFIX}", f"my-app.{DOMAIN}", f"my-app.x{SUFFIX}",
                     f"my-app.node2.containers.{DOMAIN}", f"{label}.{SUFFIX}", f"{label}a.{SUFFIX}", "a." * 63 + "a", f"xn--my-app.{SUFFIX}", f"my-app.{SUFFIX}%2e", "my-app", SUFFIX, f".{SUFFIX}",
                     f"my-app.{SUFFIX}@evil.example", f"my\tapp.{SUFFIX}", f"my-app.{SUFFIX} evil.example", f"my_app.{SUFFIX}", f"m\u00fd-app.{SUFFIX}"):
            answer = it.get("my-app", "/", "-H", f"Host: {host}")
            assert answer.status in (400, 404), (host, answer)
            answer = it.get("my-app", "/", "-H", f"Host: {host}", version="--http2")
            assert answer.status in (400, 404), (host, answer)
        longest = it.alias(label)
        it.until(200, label)
        assert it.api.get(f"{ALIASES}/{longest}").data["host"] == f"{label}.{SUFFIX}"


@case("two tenants: a name of another project is not told apart from nothing more than taken, an alias stays in its project, and so does who it leads to")
def _():
    with site() as it:
        it.start("--alias-rest", "0s")
        mine, theirs = it.alias("mine"), it.alias("theirs", THEIRS)
        it.until(200, "mine", at="192.0.2.2:8000")
        it.until(200, "theirs", at="192.0.2.4:8000")
        ask = lambda key, body: it.api.ask("PATCH", f"{ALIASES}/{key}", body, version=it.api.get(f"{ALIASES}/{key}").version)
        for answer in (it.api.ask("POST", ALIASES, {"alias": "mine", "container_id": THEIRS, "program": "http", "port": 8000}), ask(theirs, {"alias": "mine"})):
            assert answer.status == 409 and "taken by another project" in answer.message, answer
            assert not any(secret in answer.message for secret in (mine, ONE, PROJECT)), answer
        same = it.api.ask("POST", ALIASES, {"alias": "mine", "container_id": TWO, "program": "http", "port": 8000})
        assert same.status == 409 and mine in same.message and ONE in same.message, same
        for container in (THEIRS,):
            moved = ask(mine, {"container_id": container})
            assert moved.status == 409 and "stays there" in moved.message, moved
        assert it.get("mine").at == "192.0.2.2:8000" and it.get("theirs").at == "192.0.2.4:8000"
        # Their switch is theirs, and so are connections of who visits them.
        visitor = it.follow("theirs")
        it.api.change("PATCH", f"/projects/{PROJECT}/proxy/permissions/state", {"enable_proxy": False})
        it.until(503, "mine")
        it.change(mine, {"container_id": TWO})
        it.change(mine, None, "DELETE")
        assert it.get("theirs").status == 200 and visitor.process.poll() is None
        it.api.change("PATCH", f"/projects/{PROJECT}/proxy/permissions/state", {"enable_proxy": True})
        assert it.api.get(f"{ALIASES}/{mine}").status == 404
        visitor.end()
        # Where names do not rest it is free now; who has it next has nothing of what was.
        it.alias("mine", THEIRS)
        it.until(200, "mine", at="192.0.2.4:8000")
        # A container id that is made known for another project is not the one that the alias leads to.
        other = it.alias("other", TWO)
        it.until(200, "other")
        it.api.change("DELETE", f"/containers/{TWO}/proxy")
        it.api.change("PUT", f"/containers/{TWO}/proxy/address", {"ip": PLACES[TWO], "project_id": STRANGER})
        eventually(lambda: it.get(f"{STRANGER}-{TWO}-http-8000.{SUFFIX}").status == 200, "the container of the other project")
        assert it.get("other").status == 404 and it.api.get(f"{ALIASES}/{other}").data["project_id"] == PROJECT


@case("a name that a project gives up rests: visitors' cookies for it do not come to another project, over a restart, until its time is over; its own project may take it")
def _():
    with site() as it:
        it.start("--alias-rest", "1h")
        body = {"alias": "shop", "container_id": THEIRS, "program": "http", "port": 8000}
        key = it.alias("shop")
        it.change(key, None, "DELETE")
        for _ in range(2):
            taken = it.api.ask("POST", ALIASES, body)
            assert taken.status == 409 and "rests until 20" in taken.message and PROJECT not in taken.message, taken
            assert it.api.get(f"{ALIASES}/{key}").status == 404 and it.api.get(ALIASES).data["aliases"] == []
            for method, below, data in (("PATCH", "", {"enabled": True}), ("DELETE", "", None), ("PATCH", "/state", {"enabled": True})):
                assert it.api.ask(method, f"{ALIASES}/{key}{below}", data, version=2).status == 404
            it.until(404, "shop")
            assert it.edge.end() == 0, it.edge.text()
            it.start("--alias-rest", "1h", known=False)
        assert "leads nowhere" not in it.edge.text()
        assert it.api.ask("POST", ALIASES, body).status == 409
        again = it.alias("shop", TWO)
        it.until(200, "shop", at="192.0.2.3:8000")
        # The name that is changed is given up as well.
        it.change(again, {"alias": "store"})
        it.until(200, "store")
        assert it.api.ask("POST", ALIASES, body).status == 409
        other = it.alias("other", THEIRS)
        refused = it.api.ask("PATCH", f"{ALIASES}/{other}", {"alias": "shop"}, version=it.api.get(f"{ALIASES}/{other}").version)
        assert refused.status == 409 and "rests" in refused.message, refused
        assert it.edge.end() == 0, it.edge.text()
        it.start("--alias-rest", "1s", known=False)
        made = eventually(lambda: (a := it.api.ask("POST", ALIASES, body)).status == 200 and a, "the name")
        it.until(200, "shop", at="192.0.2.4:8000")
        with open(it.server.path(f"{it.folder}/audit.log"), encoding="utf-8") as f:
            said = f.read()
        assert said.count("aliasForget") == 2 and "aliasRelease" in said and made.data["id"] in said, said


@case("a domain follows its alias: moved, off, expired, away; another alias of the same name does not get its visitors, and no domain takes a host of the edge's own")
def _():
    with site() as it:
        parts = {"alias": "shop", "project_id": PROJECT, "container_id": ONE, "program": "http", "port": 8000}
        it.document("alias", FIRST, **parts)
        bound = f"node1-3000.{DOMAIN}"
        for domain in ("shop.example.org", "www.example.org", DOMAIN, bound, f"shop.{SUFFIX}", f"free.{SUFFIX}"):
            it.document("domain", domain, domain={"alias": FIRST, "project": PROJECT})
        it.document("domain", "none.example.org", domain={"alias": SECOND})
        it.document("domain", "odd.example.org", domain={"alias": ["x"], "x": {"alias": FIRST}})
        it.document("domain", "name.example.org", domain={"alias": "shop"})
        it.start("--alias-rest", "0s")
        for domain in ("shop.example.org", "www.example.org", "SHOP.example.org"):
            answer = it.until(200, domain, "/x?y", "-k", at="192.0.2.2:8000")
            assert answer.fields["host"] == [domain] and answer.target == "/x?y", answer
        for domain in (DOMAIN, bound, f"free.{SUFFIX}", "none.example.org", "odd.example.org", "name.example.org", "x.shop.example.org", "example.org"):
            assert it.get(domain, "/", "-k").status == 404, domain
        visitor = it.follow("shop.example.org", "-k")
        it.change(FIRST, {"container_id": TWO, "target_path": "/in"})
        ends(visitor)
        assert it.until(200, "www.example.org", "/x", "-k", at="192.0.2.3:8000").target == "/in/x"
        assert it.get("www.example.org", "/%2e%2e/x", "-k").status == 400
        it.change(FIRST, {"enabled": False}, below="/state")
        it.until(503, "shop.example.org", "/", "-k")
        it.change(FIRST, {"enabled": True}, below="/state")
        it.until(200, "shop.example.org", "/", "-k")
        it.get("shop.example.org", "/marked", "-k")
        rows = eventually(lambda: [r for r in it.api.get("/_logs?limit=50").data["logs"] if r.get("url") == "/marked"], "the log")
        assert (rows[0]["alias"], rows[0]["host"], rows[0]["container"]) == ("shop", "shop.example.org", f"{PROJECT}-{TWO}"), rows
        visitor = it.follow("shop.example.org", "-k")
        it.change(FIRST, None, "DELETE")
        ends(visitor)
        it.until(404, "shop.example.org", "/", "-k")
        stranger = it.alias("shop", THEIRS)
        it.until(200, "shop", at="192.0.2.4:8000")
        assert stranger != FIRST and it.get("shop.example.org", "/", "-k").status == it.get("www.example.org", "/", "-k").status == 404


@case("documents that the API would not have written take nobody's host; of two with one name one has it; what was acknowledged outlasts kill -9")
def _():
    with site() as it:
        parts = {"project_id": STRANGER, "container_id": THEIRS, "program": "http", "port": 8000}
        label = f"{PROJECT}-{ONE}-http-8000"
        it.document("alias", "4" * 24, alias=f"{PROJECT}-{ONE}", **parts)
        it.document("alias", "5" * 24, alias=label, **parts)
        it.document("alias", "6" * 24, alias="Shop", **parts)
        it.document("alias", "7" * 24, alias="a.b", **parts)
        it.document("alias", "8" * 24, alias="x", **{**parts, "program": "http|80|plain|0|x|"})
        it.document("alias", "9" * 24, alias="y", **{**parts, "target_path": "/a\n/b"})
        it.document("alias", "no-id", alias="z", **parts)
        it.document("alias", SECOND, alias="shop", **parts)
        it.document("alias", FIRST, alias="shop", project_id=PROJECT, container_id=ONE, program="http", port=8000)
        it.start()
        said = it.edge.text()
        assert said.count("leads nowhere: ") == 6, said
        assert f"the alias {SECOND} has no host: its name shop is that of {FIRST}" in said, said
        it.until(200, "shop", at="192.0.2.2:8000")
        assert it.until(200, it.long(), at="192.0.2.2:8000")
        for name in ("x", "y", f"a.b.{SUFFIX}", f"{PROJECT}-{ONE}"):
            assert it.get(name, "/", "-k").status == 404, name
        taken = it.api.ask("PATCH", f"{ALIASES}/{'4' * 24}", {"alias": "four"}, version=1)
        assert taken.status == 409 and "cannot be read" in taken.message, taken
        # The one that waited for the name has it when it is free.
        it.change(FIRST, None, "DELETE")
        it.until(200, "shop", at="192.0.2.4:8000")
        key = it.alias("kept", TWO)
        programs = [it.edge.inner, *descendants(it.edge.inner)]
        for program in programs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(program, signal.SIGKILL)
        eventually(lambda: not any(map(is_there, programs)), "the end of all")
        it.start(known=False)
        assert it.until(200, "kept", at="192.0.2.3:8000") and it.api.get(f"{ALIASES}/{key}").data["alias"] == "kept"
        kept = it.api.get(f"{ALIASES}/{key}").data
        assert (kept["project_id"], kept["container_id"], kept["program"], kept["port"]) == (PROJECT, TWO, "http", 8000), kept


if __name__ == "__main__":
    main()
