"""What the edge answers itself: JSON, HTML or plain text, with a code that stays; pages of containers, projects and the edge.

Runs: plain.
"""

import contextlib
import http.client
import json
import os
import re
import signal

from tests.integration.edge_site import CONTAINER, DROPS, OTHER, PROJECT, host_of, site
from tests.integration.harness import BIN, eventually
from tests.support.tap import case, main

HTML, JSON, TEXT = "text/html; charset=utf-8", "application/json", "text/plain; charset=utf-8"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def is_own(answer, status, code):
    """One of the edge's own answers, as JSON."""
    assert answer.status == status and answer.headers["content-type"] == JSON, answer
    body = json.loads(answer.body)
    assert set(body) == {"error", "status", "message"} and (body["error"], body["status"]) == (code, status), answer
    assert re.fullmatch(r"[A-Z][^.\"<>]+\.", body["message"]), answer
    assert answer.headers["cache-control"] == "no-store" and answer.headers["vary"] == "accept" and answer.headers["x-content-type-options"] == "nosniff", answer
    return body["message"]


def until(it, status, *args, **more):
    """After a change, which may cut a request of the same moment."""
    def asked():
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = it.ask(*args, **more)
            return answer.status == status and answer
        return None
    return eventually(asked, f"{status} of {args} {more}")


@case("each answer of the edge's own is JSON, a page or a text, as Accept says, with one sentence and a code; the log knows why")
def _():
    with site() as it:
        it.start()
        wants = [("Accept", JSON)]
        refused = {}

        def own(status, code, *args, **more):
            refused[code] = is_own(until(it, status, *args, headers=wants, **more), status, code)
        own(404, "host", host="nobody.example.com")
        own(400, "malformed", host="a_b")
        own(404, "container", container="ffffffffffffffffffffffff")
        own(404, "service", service="nothing-1")
        own(503, "unreachable", service="http-9")
        own(502, "bad_answer", "/broken")
        own(502, "bad_answer", "/broken", service="drops-1")
        where = f"/containers/{CONTAINER}/proxy/permissions"
        it.api.change("PUT", where, {"default": "deny"})
        own(403, "denied")
        it.api.change("PUT", where, {"default": "deny", "groups": {"a": {"type": "jwt", "algorithm": "HS256", "secret": "s" * 32, "sources": [{"header": "Authorization"}]}}, "permissions": {"a": {"*": True}}})
        own(401, "token")
        it.api.change("PUT", where, {"default": "deny", "groups": {"a": {"type": "password", "username": "ann", "password": "secret"}}, "permissions": {"a": {"*": True}}})
        own(401, "login")
        assert until(it, 401, "/").headers["www-authenticate"].startswith("Basic ")
        it.api.change("PATCH", f"{where}/state", {"enable_proxy": False})
        own(503, "off")
        assert until(it, 503, "/").headers["retry-after"] == "60"
        it.api.change("PATCH", f"{where}/state", {"enable_proxy": True})
        it.api.change("DELETE", where)
        until(it, 200, "/")
        # One that has begun and then says nothing: HAProxy's own patience is minutes, so it is given less.
        path = it.server.path(f"{it.folder}/haproxy/haproxy.cfg")
        with open(path, encoding="utf-8") as f:
            text = f.read()
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace("timeout server 300s", "timeout server 700ms"))
        master = next(pid for pid in it.server.processes() if "-W" in open(f"/proc/{pid}/cmdline", encoding="utf-8").read().split("\0"))  # noqa: SIM115

        def worker():
            with contextlib.suppress(OSError):
                return re.search(r"^Pid: (\d+)$", it.admin("show info"), re.M).group(1)
        before = worker()
        os.kill(master, signal.SIGUSR2)
        eventually(lambda: worker() not in (before, None), "another process of HAProxy")
        own(504, "late", "/hang")
        assert len(set(refused.values())) == len(refused), refused
        # The forms, by what is accepted most.
        for accept, form in ((BROWSER, HTML), ("text/html", HTML), ("TEXT/HTML;q=0.5, application/json;q=0.4", HTML), ("application/json", JSON), ("application/problem+json", JSON),
                             ("text/html;q=0.1,application/json", JSON), ("application/json;q=0, text/html;q=0.2", HTML), ("*/*", TEXT), ("", TEXT), ("text/plain,text/html", TEXT),
                             ("text/html;q=2", TEXT), (",;q=,text/html;q=x", TEXT), ("text/html; a=b ; Q=0.000", TEXT), ("image/png", TEXT), ("text/html" + ",a/b" * 500, HTML)):
            answer = it.ask("/", [("Accept", accept)], service="nothing-1")
            assert answer.headers["content-type"] == form and answer.status == 404, (accept, answer)
            if form == HTML:
                assert "<title>404 Not Found</title>" in answer.text and "<p>No such service.</p>" in answer.text and "hoody-tunnel: service<" in answer.text, answer
                assert answer.headers["content-security-policy"].startswith("default-src 'none';"), answer
            elif form == TEXT:
                assert answer.text == "No such service.", answer
        assert it.ask("/", service="nothing-1").headers["content-type"] == TEXT
        head = it.ask("/", wants, service="nothing-1", method="HEAD")
        assert head.status == 404 and head.body == b"" and head.headers["content-type"] == JSON, head
        assert json.loads(it.h2("/", "-H", "Accept: application/json", service="nothing-1"))["error"] == "service"
        # What a service answers stays as it is, with its type.
        theirs = it.ask("/?status=404&h-content-type=x/y", wants)
        assert theirs.status == 404 and theirs.headers["content-type"] == "x/y" and "content-security-policy" not in theirs.headers, theirs
        rows = eventually(lambda: (r := {row.get("reason"): row["status"] for row in it.rows()}) and refused.keys() <= r.keys() and r, "the log")
        assert rows["unreachable"] == 503 and rows["bad_answer"] == 502 and rows["late"] == 504 and rows["off"] == 503, rows
        assert DROPS  # what answers once, and then no more, is no reason for an error: test_edge_pool.py


@case("pages of a container, its project and the edge stand in for the edge's own, for browsers alone, with what happened escaped")
def _():
    with site() as it:
        it.server.run("mkdir", "/tmp/pages")
        it.server.write("/tmp/pages/404.html", "<p>edge {{status}}\n\t{{title}} {{code}}: {{message}} at {{host}}")
        it.server.write("/tmp/pages/README", "no page")
        it.start("--error-pages-folder", "/tmp/pages")
        browser = [("Accept", BROWSER)]
        assert it.ask("/", browser, service="nothing-1").text == f"<p>edge 404  Not Found service: No such service. at {host_of('nothing-1')}"
        assert it.ask("/", browser, host="nobody.example.com").text == "<p>edge 404  Not Found host: Nothing is exposed here. at nobody.example.com"
        assert is_own(it.ask("/", [("Accept", JSON)], service="nothing-1"), 404, "service")
        it.api.change("PUT", f"/projects/{PROJECT}/proxy/settings", {"pages": {"404": "project {{code}}", "503": "<h1>project</h1>"}})
        text = json.dumps({"pages": {"service": "<b>äöü \u2603 {{message}}</b> %[src] %% \\ \" ' {x}", "unreachable": "u" * 8000}})
        it.server.write("/tmp/s.json", text)
        told = it.server.run(BIN, "edge", "settings", "--container", CONTAINER, "--folder", it.folder, "set", "/tmp/s.json")
        assert json.loads(told)["pages"] == json.loads(text)["pages"]
        assert json.loads(it.server.run(BIN, "edge", "settings", "--container", CONTAINER, "--folder", it.folder))["pages"] == json.loads(text)["pages"]
        eventually(lambda: it.ask("/", browser, service="nothing-1").text == "<b>äöü \u2603 No such service.</b> %[src] %% \\ \" ' {x}", "the container's page")
        answer = it.ask("/", browser, service="http-9")
        assert answer.status == 503 and answer.text == "u" * 8000 and answer.headers["content-type"] == HTML, answer
        assert answer.headers["content-security-policy"].startswith("default-src 'none';") and answer.headers["cache-control"] == "no-store", answer
        assert answer.headers["retry-after"] == "2"
        assert it.ask("/", browser, service="http-9", container=OTHER).text == "<h1>project</h1>"
        assert it.ask("/", browser, service="nothing-1", container=OTHER).text == "project service"
        assert it.ask("/", browser, container="ffffffffffffffffffffffff").text == "project container"
        stranger = "0" * 24
        assert it.ask("/", browser, host=f"{stranger}-{stranger}-web-1.node1.containers.example.com").text.startswith("<p>edge 404")
        assert it.ask("/", service="nothing-1").text == "No such service."
        # A reload and a restart find them again; one that is taken away is gone.
        os.kill(it.edge.inner, signal.SIGHUP)
        eventually(lambda: it.ask("/", browser, service="http-9").text == "u" * 8000, "a reload")
        assert it.edge.end() == 0
        it.start("--error-pages-folder", "/tmp/pages")
        assert it.ask("/", browser, service="http-9").text == "u" * 8000
        it.settings({})
        eventually(lambda: it.ask("/", browser, service="http-9").text == "<h1>project</h1>", "the project's page")
        it.api.change("PUT", f"/projects/{PROJECT}/proxy/settings", {})
        eventually(lambda: it.ask("/", browser, service="nothing-1").text.startswith("<p>edge 404"), "the edge's page")
        it.server.run("rm", "/tmp/pages/404.html")
        it.server.write("/tmp/pages/off.html", "off")
        os.kill(it.edge.inner, signal.SIGHUP)
        eventually(lambda: "hoody-tunnel: service" in it.ask("/", browser, service="nothing-1").text, "no page")
        # A change while HAProxy has many of them.
        pages = {"pages": {name: name + "x" * 7900 for name in ("404", "503", "502", "host", "container", "service", "off", "unreachable", "late", "denied", "login", "token")}}
        it.settings(pages)
        eventually(lambda: it.ask("/", browser, service="nothing-1").text == pages["pages"]["service"], "many pages")
        eventually(lambda: it.ask("/", browser, service="http-9").text == pages["pages"]["unreachable"], "many pages")
        # What is no page is said, and changes nothing.
        where = f"/containers/{CONTAINER}/proxy/settings"
        for body, why in (({"pages": {"teapot": "x"}}, "there is no page for teapot; there is one for a status, such as 503, or for malformed,"), ({"pages": {"418": "x"}}, "no page for 418"),
                          ({"pages": {"503": "x" * 8001}}, "it may have 1 to 8000"), ({"pages": {"503": ""}}, "has 0 bytes"), ({"pages": {"503": "{{secret}}"}}, "{{secret stands for nothing"),
                          ({"pages": {"503": "{{status}"}}, "stands for nothing"), ({"pages": {"503": "{{host}}" * 17}}, "more than 16 placeholders"), ({"pages": {"503": "\0"}}, "pages must be an object"),
                          ({"pages": {"503": 1}}, "pages must be an object"), ({"pages": ["x"]}, "pages must be an object")):
            refused = it.api.ask("PUT", where, body, it.api.get(where).version)
            assert refused.status == 400 and why in refused.message, (body, refused)
        assert it.api.get(where).data["pages"] == pages["pages"]
        assert it.edge.end() == 0
        it.server.write("/tmp/pages/503.html", "{{x}}")
        said = it.server.run("sh", "-c", f"{BIN} edge up --domain example.com --id node1 --folder {it.folder} --error-pages-folder /tmp/pages 2>&1; echo status $?")
        assert "/tmp/pages/503.html: the page for 503: {{x stands for nothing" in said and "status 2" in said, said


if __name__ == "__main__":
    main()
