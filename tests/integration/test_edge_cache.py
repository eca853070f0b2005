"""Answers that the edge keeps: for services that want it, for nobody else, and nothing of one visitor for another.

Runs: plain.
"""

import contextlib
import http.client
import json
import os
import signal

from tests.integration.edge_site import CONTAINER, HERE, OTHER, PROJECT, THERE, host_of, site
from tests.integration.harness import BIN, eventually
from tests.support.tap import case, main

LASTS = "h-cache-control=max-age%3D600"
TOKEN = "token-0123456789abcdef"


def kept(it, path, headers=(), again=None, **more):
    """Whether the second of two requests is answered with what the first one got; both are asked for in the log's words, too."""
    first = it.ask(path, headers, **more)
    second = it.ask(path, headers if again is None else again, **more)
    assert first.status == second.status == 200, (first, second)
    assert (first.n == second.n) == (second.cache == "hit"), (first, second)
    return first.n == second.n


def begin(it, *args):
    it.start(*args)
    it.settings({"cache": {"enabled": True}})
    eventually(lambda: it.ask(f"/begin?{LASTS}").cache == "hit", "answers that are kept")


@case("only a service that wants it has answers kept, those that say how long; HEAD, conditions and the log know them; what changes something ends it")
def _():
    with site() as it:
        it.start()
        assert not kept(it, f"/off?{LASTS}") and "cache-status" not in it.ask(f"/off?{LASTS}").headers
        it.settings({"cache": {"enabled": True, "services": {"web": False}}})
        it.settings({"cache": {"services": {"web": True}}}, container=OTHER)
        eventually(lambda: it.ask(f"/begin?{LASTS}").cache == "hit", "answers that are kept")
        assert kept(it, f"/a?{LASTS}") and kept(it, "/s?h-cache-control=public,s-maxage%3D600")
        assert not kept(it, f"/a?{LASTS}", service="web-1")
        assert kept(it, f"/a?{LASTS}", service="web-1", container=OTHER) and not kept(it, f"/a?{LASTS}", container=OTHER)
        # What says nothing, no, or nothing that can be believed.
        for more in ("", "h-etag=%22x%22", "h-last-modified=Mon, 01 Jan 2024 00:00:00 GMT", "h-expires=Fri, 01 Jan 2100 00:00:00 GMT", "h-cache-control=max-age%3D0",
                     "h-cache-control=no-store", "h-cache-control=public", f"{LASTS}&h-pragma=no-cache&h-cache-control=no-cache"):
            assert not kept(it, "/no?" + more.replace(" ", "%20")), more
        for status in (203, 301, 404, 500):
            assert {it.ask(f"/other?{LASTS}&status={status}").cache for _ in range(2)} == {"fwd=miss"}, status
        # Too large, and large enough.
        assert not kept(it, f"/big?{LASTS}&size=1100000") and kept(it, f"/fits?{LASTS}&size=400000")
        n = it.ask(f"/c?{LASTS}&h-etag=%22v1%22").n
        hit = it.ask(f"/c?{LASTS}&h-etag=%22v1%22")
        assert hit.n == n and 0 <= int(hit.headers["age"]) < 60 and hit.cache == "hit", hit
        head = it.ask(f"/c?{LASTS}&h-etag=%22v1%22", method="HEAD")
        assert head.status == 200 and head.body == b"" and head.cache == "hit" and head.headers["content-length"] == hit.headers["content-length"], head
        assert it.ask(f"/c?{LASTS}&h-etag=%22v1%22", [("If-None-Match", '"v1"')]).status == 304
        assert json.loads(it.h2(f"/c?{LASTS}&h-etag=%22v1%22"))["n"] == n
        # A visitor who wants the newest gets it.
        fresh = it.ask(f"/c?{LASTS}&h-etag=%22v1%22", [("Cache-Control", "no-cache")])
        assert fresh.n > n, fresh
        # What changes something ends it, from a visitor with cookies as well.
        n = it.ask(f"/p?{LASTS}").n
        assert it.ask(f"/p?{LASTS}").n == n
        for method in ("POST", "PUT", "DELETE"):
            now = it.ask(f"/p?{LASTS}").n
            it.ask(f"/p?{LASTS}", [("Content-Length", "1"), ("Cookie", "a=b")], method=method, body=b"x")
            assert it.ask(f"/p?{LASTS}").n > now, method
        # So does what is kept in other encodings of the same.
        path, encodings = f"/e?{LASTS}&h-vary=Accept-Encoding&encode=1", ("gzip", "br", "deflate")

        def each():
            return [it.ask(path, [("Accept-Encoding", e)]).n for e in encodings]
        last = max(each() + each())
        assert it.ask(path, [("Content-Length", "0")], method="POST").n > last
        assert min(each()) > last
        # The service's own Cache-Status stays, and ours is the last.
        it.ask(f"/own?{LASTS}&h-cache-status=inner;hit")
        assert it.ask(f"/own?{LASTS}&h-cache-status=inner;hit").headers["cache-status"] == "hoody-tunnel; hit"
        assert ("cache-status", "inner;hit") in it.ask(f"/own?{LASTS}&h-cache-status=inner;hit").fields
        it.ask(f"/log?{LASTS}")
        it.ask(f"/log?{LASTS}")
        it.ask(f"/log?{LASTS}", [("Cookie", "a=b")])
        eventually(lambda: sorted(r.get("cache", "") for r in it.rows(url=f"/log?{LASTS}")) == ["bypass", "hit", "miss"], "the log")
        assert all("cache" not in r for r in it.rows(url=f"/off?{LASTS}"))


@case("nothing of one visitor is another's: cookies, credentials, what only Vary could tell apart, and what the key does not have")
def _():
    with site() as it:
        begin(it)
        # What sets a cookie, or is for one visitor alone.
        for n, more in enumerate(("h-set-cookie=sid%3D1", "h-cache-control=private", "h-cache-control=private%3Dx", "h-cache-control=no-cache%3Dx", "h-connection=x-secret&h-x-secret=1",
                                  "h-vary=Cookie", "h-vary=*", "h-vary=Accept-Language", "h-vary=X-Any", "h-vary=User-Agent", "h-content-encoding=gzip")):
            assert not kept(it, f"/t{n}?{LASTS}&{more}"), more
        assert not kept(it, "/t99?h-cache-control=private,max-age%3D600")
        # Who shows something is not asked from what is kept, and nothing is kept of it, whatever its case and form.
        for n, field in enumerate((("Cookie", "sid=alice"), ("Authorization", "Bearer x"), ("authorization", "Basic eDp5"), ("X-Api-Key", "k"), ("X-Auth-Token", "k"),
                                   ("X-Original-URL", "/admin"), ("X-Rewrite-URL", "/admin"), ("X-HTTP-Method-Override", "DELETE"), ("X-Host", "evil"), ("Range", "bytes=0-9"),
                                   ("Origin", "https://evil.example"), ("Content-Length", "0"), ("Expect", "x"), ("Transfer-Encoding", "chunked"), ("Upgrade", "x"))):
            path = f"/v{n}?{LASTS}"
            body = b"0\r\n\r\n" if field[0] == "Transfer-Encoding" else None
            mine = it.ask(path, [field], body=body)
            other = it.ask(path)
            assert mine.cache == "fwd=bypass" and other.cache == "fwd=miss" and other.n > mine.n, (field, mine, other)
            assert it.ask(path, [field], body=body).n > other.n, field  # not from what is kept either
            assert it.ask(path).n == other.n, field
        # What looks like another host to the service, and is none to the map: each of them is kept by itself.
        name, seen = host_of(), set()
        for host in (name, f"{name}:443", f"{name}:8443", name.upper(), f"{name}."):
            first, second = it.ask(f"/h?{LASTS}", host=host), it.ask(f"/h?{LASTS}", host=host)
            assert first.n == second.n and first.n not in seen, (host, first, second)
            assert dict(first.seen()["headers"])["host"] == host, first
            seen.add(first.n)
        # Fields about the visitor are the edge's own, and are none of the visitor's.
        spoofed = it.ask(f"/x?{LASTS}", [("X-Forwarded-Host", "evil.example"), ("X-Forwarded-For", "6.6.6.6"), ("Forwarded", "host=evil.example"), ("Connection", "x-forwarded-host")])
        assert "evil" not in spoofed.text and "6.6.6.6" not in it.ask(f"/x?{LASTS}").text, spoofed
        # A target in absolute form, HTTP/1.0, a body where none belongs.
        good = it.ask(f"/abs?{LASTS}").n
        assert it.ask(f"https://{name}/abs?{LASTS}").n > good and it.ask(f"/abs?{LASTS}").n == good
        assert it.ask(f"https://{name}/abs2?{LASTS}").cache == "fwd=bypass" and it.ask(f"/abs2?{LASTS}").cache == "fwd=miss"
        assert it.ask(f"/one?{LASTS}", version="HTTP/1.0").cache == "fwd=bypass" and it.ask(f"/one?{LASTS}").cache == "fwd=miss"
        fat = it.ask(f"/fat?{LASTS}", [("Content-Length", "4")], body=b"evil")
        assert fat.seen()["body"] == "evil" and it.ask(f"/fat?{LASTS}").seen()["body"] == ""
        for args in (("-d", "evil"), ("-T", "/tmp/evil")):
            it.container.write("/tmp/evil", "evil")
            assert json.loads(it.h2(f"/fat{args[0]}?{LASTS}", "-X", "GET", *args))["body"] == "evil"
            assert it.ask(f"/fat{args[0]}?{LASTS}").seen()["body"] == "", args
        # One whose body comes later than its head gets nothing, which is not kept either.
        late = f"(sleep 2; echo evil) | curl -s -S --http2 --max-time 20 --cacert /tmp/ca.pem --resolve {name}:443:192.0.2.1 -X GET -T - 'https://{name}/fatlate?{LASTS}' || true"
        it.container.run("sh", "-c", late)
        eventually(lambda: [(r["status"], r["reason"]) for r in it.rows(url=f"/fatlate?{LASTS}")] == [(408, "late_request")], "the log")
        assert it.ask(f"/fatlate?{LASTS}").seen()["body"] == ""
        # Order and form of the target are the service's own business.
        assert len({it.ask(p).n for p in (f"/q?{LASTS}&a=1&b=2", f"/q?{LASTS}&b=2&a=1", f"/Q?{LASTS}&a=1&b=2", f"/%71?{LASTS}&a=1&b=2", f"/q?{LASTS}&a=1&b=2&")}) == 5
        # Encodings are told apart where the service says so.
        path = f"/z?{LASTS}&h-vary=Accept-Encoding&h-content-encoding=gzip"
        gzip = it.ask(path, [("Accept-Encoding", "gzip")]).n
        assert it.ask(path, [("Accept-Encoding", "br")]).n != gzip and it.ask(path).n != gzip
        assert it.ask(path, [("Accept-Encoding", "gzip")]).n == gzip
        # Two containers, two services, two numbers of one: nothing in common.
        it.settings({"cache": {"enabled": True}}, container=OTHER)
        eventually(lambda: it.ask(f"/begin?{LASTS}", container=OTHER).cache == "hit", "answers that are kept")
        it.ask(f"/two?{LASTS}")
        for more in ({"container": OTHER}, {"service": "terminal-2"}, {"service": "web-1"}, {"service": "http-76"}):
            assert it.ask(f"/two?{LASTS}", **more).cache == "fwd=miss", more
        assert it.ask(f"/two?{LASTS}", container=OTHER).seen()["at"] == THERE and it.ask(f"/two?{LASTS}").seen()["at"] == HERE


@case("a gate is asked before what is kept: 403 for others, nothing is kept of who shows what opens it")
def _():
    with site() as it:
        begin(it)
        # A change of permissions also ends what is under way.
        def asked(*args, **more):
            with contextlib.suppress(OSError, http.client.HTTPException):
                return it.ask(*args, **more)
            return None

        def becomes(status, *args, **more):
            eventually(lambda: (a := asked(*args, **more)) and a.status == status, f"{status} of {args}")
            eventually(lambda: all(a and a.status == status for a in [asked(*args, **more) for _ in range(5)]), f"{status} of {args} for good")

        secret = it.ask(f"/secret?{LASTS}").n
        assert it.ask(f"/secret?{LASTS}").n == secret
        where = f"/containers/{CONTAINER}/proxy/permissions"
        it.api.change("PUT", where, {"default": "deny"})
        becomes(403, f"/other?{LASTS}")
        assert it.ask(f"/secret?{LASTS}").status == 403 and json.loads(it.ask(f"/secret?{LASTS}", [("Accept", "application/json")]).body)["error"] == "denied"
        it.api.change("PUT", where, {"default": "deny", "groups": {
            "office": {"type": "ip", "range": f"{HERE}/32"}, "key": {"type": "token", "value": TOKEN, "header": "X-Key"}, "link": {"type": "token", "value": TOKEN, "param": "key"},
            "jar": {"type": "token", "value": TOKEN, "cookie": "sid"}, "bearer": {"type": "token", "value": TOKEN, "header": "Authorization"}},
            "permissions": {g: {"terminal": True} for g in ("key", "link", "jar", "bearer")} | {"office": {"web": True}}})
        becomes(200, "/", [("X-Key", TOKEN)])
        for n, (path, field) in enumerate((("", ("X-Key", TOKEN)), (f"&key={TOKEN}", ("Accept", "*/*")), ("", ("Cookie", f"sid={TOKEN}")), ("", ("Authorization", TOKEN)))):
            answers = [it.ask(f"/g{n}?{LASTS}{path}", [field]) for _ in range(2)]
            assert [a.status for a in answers] == [200, 200] and answers[0].n != answers[1].n, answers
            assert all(a.cache == "fwd=bypass" for a in answers), answers
            assert it.ask(f"/g{n}?{LASTS}").status in (401, 403)
        # Who is let in for the address alone shows nothing, so that is the same for all of them.
        assert kept(it, f"/office?{LASTS}", service="web-1")
        it.api.change("PUT", where, {"default": "deny"})
        becomes(403, f"/office?{LASTS}", service="web-1")


@case("what was kept is used no more after a purge, of all or of one service, after restarts and reloads, nor when the service lies elsewhere")
def _():
    with site() as it:
        begin(it)
        it.settings({"cache": {"enabled": True, "services": {"drops": False}}})
        tell = ["edge", "cache", "purge", "--container", CONTAINER, "--folder", it.folder]

        def both():
            return it.ask(f"/p?{LASTS}").n, it.ask(f"/p?{LASTS}", service="web-1").n
        eventually(lambda: it.ask(f"/p?{LASTS}").cache == "hit", "answers that are kept")
        before = both()
        assert both() == before
        assert "used no more" in it.server.run(BIN, *tell, "--service", "web")
        eventually(lambda: both()[1] > before[1], "another answer of the service")
        between = both()
        assert between[0] == before[0]
        version = it.api.get(f"/containers/{CONTAINER}/proxy/settings").version
        purged = it.api.ask("POST", f"/containers/{CONTAINER}/proxy/cache/purge")
        assert purged.status == 200 and purged.data == {"file_version": version + 1} and purged.version == version + 1, purged
        eventually(lambda: both()[0] > between[0] and both()[1] > between[1], "other answers")
        after = both()
        # Another page changes nothing of it; another service that is kept does.
        it.settings({"cache": {"enabled": True, "services": {"drops": False}}, "pages": {"404": "x"}})
        assert it.server.run(BIN, "edge", "settings", "--container", CONTAINER, "--folder", it.folder)
        assert both() == after
        generation = it.admin(f"show map {it.folder}/haproxy/maps/caches.map")
        os.kill(it.edge.inner, signal.SIGHUP)
        eventually(lambda: it.ask(f"/r?{LASTS}").status == 200 and it.ask(f"/r?{LASTS}").cache == "hit", "a reload")
        assert it.edge.end() == 0
        it.start()
        eventually(lambda: it.ask(f"/r?{LASTS}").cache == "hit", "a restart")

        def values(text):
            return sorted(line.split(" ", 1)[1] for line in text.splitlines() if line)
        assert values(it.admin(f"show map {it.folder}/haproxy/maps/caches.map")) == values(generation)
        # Off, on, and what was kept in between is no more.
        n = it.ask(f"/off?{LASTS}").n
        it.settings({})
        eventually(lambda: "cache-status" not in it.ask(f"/off?{LASTS}").headers, "off")
        it.settings({"cache": {"enabled": True}})
        eventually(lambda: it.ask(f"/off?{LASTS}").n > n and it.ask(f"/off?{LASTS}").cache == "hit", "on")
        # A container that has moved: the old one's answers are not the new one's.
        moved = "aaaaaaaaaaaaaaaaaaaaaaaa"
        it.api.change("PUT", f"/containers/{moved}/proxy/address", {"ip": HERE, "project_id": PROJECT})
        it.settings({"cache": {"enabled": True}}, container=moved)
        eventually(lambda: it.ask(f"/m?{LASTS}", container=moved, service="http-76").cache == "hit", "answers that are kept")
        assert it.ask(f"/m?{LASTS}", container=moved, service="http-76").seen()["at"] == HERE
        it.api.change("PUT", f"/containers/{moved}/proxy/address", {"ip": THERE})
        eventually(lambda: it.ask(f"/m?{LASTS}", container=moved, service="http-76").seen()["at"] == THERE, "the new place")
        # What can be said of it is checked.
        where = f"/containers/{CONTAINER}/proxy/settings"
        for body, why in (({"cache": {"on": True}}, "there are enabled and services"), ({"cache": {"enabled": 1}}, "enabled must be true or false"),
                          ({"cache": {"services": {"We b": True}}}, "no name of a service"), ({"cache": {"services": {"web": "x"}}}, "the service web"), ({"cache": []}, "must be an object"),
                          ({"cache": {"generation": 1}}, "and no generation"), ({"cash": {}}, "cash")):
            answer = it.api.ask("PUT", where, body, it.api.get(where).version)
            assert answer.status == 400 and why in answer.message, (body, answer)
        assert it.api.ask("PUT", where, {}).status == 428 and it.api.ask("PUT", where, {}, 1).status == 412
        assert it.api.ask("POST", f"/containers/{OTHER}/proxy/cache/purge").status == 404
        assert it.api.ask("POST", f"/containers/{CONTAINER}/proxy/services/We%20b/cache/purge").status == 400
        assert it.api.ask("PUT", f"/projects/{PROJECT}/proxy/settings", {"cache": {}}, 0).status == 400
        # Without memory for it nothing is kept, whatever the documents say.
        assert it.edge.end() == 0
        it.start("--cache-size", "0")
        assert it.ask(f"/none?{LASTS}").n != it.ask(f"/none?{LASTS}").n


@case("an alias that moves leads to nothing that was kept of where it led before; what is kept of one host is not another's; off is off")
def _():
    with site() as it:
        begin(it)
        it.settings({"cache": {"enabled": True}}, container=OTHER)
        made = it.api.ask("POST", "/proxy/aliases", {"alias": "my-app", "container_id": CONTAINER, "program": "terminal"})
        assert made.status == 200, made
        host, where = made.data["host"], f"/proxy/aliases/{made.data['id']}"

        def change(method, path, body):
            answer = it.api.ask(method, path, body, it.api.get(where).version)
            assert answer.status == 200, answer
        eventually(lambda: it.ask(f"/m?{LASTS}", host=host).status == 200, "the alias")
        here = it.ask(f"/m?{LASTS}", host=host)
        assert it.ask(f"/m?{LASTS}", host=host).n == here.n and here.seen()["at"] == HERE and dict(here.seen()["headers"])["host"] == host
        assert it.ask(f"/m?{LASTS}").n > here.n
        change("PATCH", where, {"container_id": OTHER})
        eventually(lambda: (got := it.ask(f"/m?{LASTS}", host=host)).status == 200 and got.seen()["at"] == THERE, "the other container")
        assert all(it.ask(f"/m?{LASTS}", host=host).seen()["at"] == THERE for _ in range(5))
        assert it.ask(f"/m?{LASTS}", host=host).cache == "hit"
        change("PATCH", where, {"container_id": CONTAINER, "target_path": "/under"})
        eventually(lambda: (got := it.ask(f"/m?{LASTS}", host=host)).status == 200 and got.seen()["target"] == f"/under/m?{LASTS}", "below its path")
        assert it.ask(f"/m?{LASTS}", host=host).cache == "hit"
        change("PATCH", f"{where}/state", {"enabled": False})
        eventually(lambda: it.ask(f"/m?{LASTS}", host=host).status == 503, "503 on what is kept")


if __name__ == "__main__":
    main()
