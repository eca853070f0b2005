"""The edge's page to log in, as browsers and attackers see it, with a real HAProxy.

Runs: plain.
"""

import json
import os
import re
import select
import signal
import socket
import subprocess
import time

from tests.integration.browser import CHROMIUM, Browser, audited
from tests.integration.edge_api import Api
from tests.integration.edge_gates import CONTAINER, DOMAIN, OTHER, PROJECT, password_hash, site
from tests.integration.edges import Edge
from tests.integration.harness import cpu_seconds, eventually
from tests.support.tap import Skip, case, main

PATH, COOKIE = "/.hoody-edge/", "__Host-hoody-edge"
BROWSER = ["-H", "Accept: text/html,application/xhtml+xml,*/*;q=0.8", "-H", "Sec-Fetch-Mode: navigate", "-H", "Sec-Fetch-Dest: document"]


def host(service="terminal-1", container=CONTAINER):
    return f"{PROJECT}-{container}-{service}.node1.containers.{DOMAIN}"


def team(password=None, **more):
    return {"default": "deny", "groups": {"team": {"type": "password", "username": "ann", "password": password or password_hash("sesame"), **more}},
            "permissions": {"team": {"terminal": True, "web": True}}}


def form(it, *fields, path="login", origin=None, more=(), **where):
    """A browser sends the form."""
    data = [x for f in fields for x in ("--data-urlencode", f)]
    own = f"https://{host(**where)}"
    return it.get(PATH + path, *BROWSER, "-H", f"Origin: {own if origin is None else origin}", "-H", "Sec-Fetch-Site: same-origin", *(data or ["-d", ""]), *more, **where)


def login(it, password="sesame", user="ann", to="/", **more):
    return form(it, f"user={user}", f"password={password}", f"to={to}", **more)


def ticket_of(answer):
    """The cookie, whose attributes are checked."""
    found = re.fullmatch(COOKIE + r"=([\w-]{43}); Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=(\d+)", answer.headers["set-cookie"])
    assert found, answer.headers
    return ["-H", f"Cookie: a=b; {COOKIE}={found.group(1)}; c=d"]


def is_page(answer, status=401):
    assert answer.status == status, (answer.status, answer.body)
    assert answer.headers["content-type"] == "text/html; charset=utf-8" and "<form" in answer.body, answer.body
    assert not answer.headers.get("www-authenticate", "").startswith("Basic"), answer.headers
    csp = answer.headers["content-security-policy"]
    assert "default-src 'none'" in csp and "frame-ancestors 'none'" in csp and "script" not in csp and "unsafe" not in csp, csp
    assert answer.headers["cache-control"] == "no-store" and answer.headers["x-frame-options"] == "DENY"
    assert not [h for h in answer.headers if h.startswith("x-hoody")], answer.headers
    assert "<script" not in answer.body and " on" not in re.sub(r"<style>.*?</style>", "", answer.body.replace(" one", "")), answer.body
    return re.search(r'name="to" value="([^"]*)"', answer.body).group(1)


def told(it, command):
    """HAProxy's answer at its runtime socket."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(it.server.path(f"{it.folder}/run/admin.sock"))
        s.sendall(command.encode() + b"\n")
        got = b""
        while more := s.recv(65536):
            got += more
    return got.decode()


@case("a browser gets a page, logs in, and comes to where it was; the service never sees what opened it; then it logs out")
def _():
    with site() as it:
        it.permissions(team())
        it.permissions(team(), key=OTHER)
        it.start()
        # Programs are asked for Basic, as before; parts of a page are not, since a browser would open a dialog.
        plain = it.get("/x")
        assert plain.status == 401 and plain.headers["www-authenticate"].startswith("Basic "), plain.headers
        part = it.get("/x", "-H", "Sec-Fetch-Mode: cors")
        assert part.status == 401 and part.headers["www-authenticate"].startswith("Session "), part.headers
        posted = it.get("/x", *BROWSER, "-d", "a=b")
        assert posted.status == 401 and posted.headers["www-authenticate"].startswith("Session "), posted.headers
        assert it.get("/x", "-H", "Accept: text/html", "-d", "a=b").headers["www-authenticate"].startswith("Basic ")
        for version in ("--http1.1", "--http2"):
            assert is_page(it.get("/a/b?x=1&y=%22%3E", *BROWSER, version=version)) == "/a/b?x=1&amp;y=%22%3E"
        assert is_page(it.get(PATH + "login?to=%2Fa%3Fb", "-H", "Accept: text/html"), 200) == "/a?b"
        head = it.get("/x", "-I", *BROWSER)
        assert head.status == 401 and head.body == ""
        for user, word in (("ann", "guess-1"), ("bob", "sesame"), ("ann", ""), ("a" * 200, "guess-2"), ("ann", "guess" * 120)):
            wrong = login(it, word, user, "/a?b")
            assert is_page(wrong) == "/a?b" and "set-cookie" not in wrong.headers and "is wrong" in wrong.body, wrong.body
            assert word == "" or word not in wrong.body, "no password comes back"
        good = login(it, to="/a?b=1")
        assert (good.status, good.headers["location"]) == (303, "/a?b=1"), (good.status, good.headers)
        ticket = ticket_of(good)
        for version in ("--http1.1", "--http2"):
            inside = it.get("/a?b=1", *BROWSER, *ticket, version=version)
            assert inside.status == 200, inside.body
            target, fields = inside.seen()
            assert target == "/a?b=1" and fields["cookie"] == ["a=b; c=d"], fields
        assert it.status("/", *ticket, service="web-1") == 200, "another program of the same container"
        assert it.status("/", *ticket, service="exec-1") == 403, "what the group may not"
        assert it.status("/", *ticket, container=OTHER) == 401, "another container, with the very same permissions"
        name = ticket[1].split(f"{COOKIE}=")[1][:43]
        for bad in (f"{COOKIE}={name[:-1]}x", f"{COOKIE}={name}; {COOKIE}={name}", f"{COOKIE.lower()}={name}", f"{COOKIE}={name}A", f"{COOKIE}="):
            assert it.status("/", "-H", f"Cookie: {bad}") == 401, bad
        # Without a name that opens it there is nothing to log in to.
        assert login(it, service="exec-1").status == 403
        # Out again, here and for who has copied the cookie.
        assert "Log out" in it.get(PATH + "logout", *BROWSER, *ticket).body
        out = form(it, path="logout", more=ticket)
        assert out.status == 303 and out.headers["location"] == PATH + "login" and "Max-Age=0" in out.headers["set-cookie"], out.headers
        assert is_page(it.get("/", *BROWSER, *ticket)) == "/"
        assert is_page(login(it, "wrong", to="/z")) == "/z"
        # The log says it all, and no secret is in it.
        api = Api(it.server.path(f"{it.folder}/run/api.sock"))
        eventually(lambda: any(row.get("url") == PATH + "logout" and row["status"] == 303 for row in api.get("/_logs?limit=200").data["logs"]), "the log")
        found = api.get("/_logs?limit=200").data["logs"]
        said = {(row.get("status"), row.get("gate"), row.get("gateReason"), row.get("group")) for row in found if "gate" in row}
        assert {(401, "page", "nobody"), (401, "session", "nobody"), (401, "page", "password")} <= {s[:3] for s in said}, said
        assert {(303, "allow", "password", "team"), (200, "allow", "page", "team")} <= said, said
        assert {(303, "page", "logout"), (403, "deny", "nobody")} <= {s[:3] for s in said}, said
        text = json.dumps(found)
        assert name not in text and "sesame" not in text, text


@case("attacks: forms of other sites, ways back that lead away, bodies that are none, guesses, the path by other names")
def _():
    with site() as it:
        it.permissions(team())
        it.start()
        own = f"https://{host()}"
        data = ["-d", "user=ann&password=sesame&to=/"]
        for what, more in (("another site", ["-H", "Origin: https://evil.example"]), ("no site", ["-H", "Origin: null"]), ("plain HTTP", ["-H", f"Origin: http://{host()}"]),
                           ("another service", ["-H", f"Origin: https://{host('web-1')}"]), ("a longer name", ["-H", f"Origin: {own}.evil.example"]),
                           ("another port", ["-H", f"Origin: {own}:8443"]), ("neither field", []), ("another site by fetch", ["-H", "Sec-Fetch-Site: cross-site"]),
                           ("a sibling by fetch", ["-H", f"Origin: {own}", "-H", "Sec-Fetch-Site: same-site"])):
            for path in ("login", "logout"):
                answer = it.get(PATH + path, *data, *more)
                assert answer.status == 403 and "set-cookie" not in answer.headers, (what, path, answer.status, answer.headers)
        assert it.get(PATH + "login", *data, "-H", f"Origin: {own}:443").status == 303
        # All the others are in tests/edge/test_form.c.
        for to in ("//evil.example/", "https://evil.example/", "/\\evil.example/", "/a\r\nSet-Cookie: x=y", f"{PATH}logout"):
            answer = login(it, to=to)
            assert (answer.status, answer.headers["location"]) == (303, "/"), (to, answer.headers)
        assert is_page(it.get("//evil.example/x", *BROWSER)) == "/"
        assert is_page(it.get(PATH + "login?to=%2F%2Fevil.example&to=/x", *BROWSER), 200) == "/x"
        assert is_page(it.get(PATH + "login?to=%22%3E%3Cscript%3E", *BROWSER), 200) == "/"
        markup = login(it, "wrong", '"><script>alert(1)</script>', "/'\"><b>")
        assert "<script>" not in markup.body and "<b>" not in markup.body and "&quot;&gt;&lt;script&gt;" in markup.body, markup.body
        # Bodies.
        ok = ["-H", f"Origin: {own}"]
        for what, more, statuses in (("no name", ["-d", "password=sesame"], {400}), ("two passwords", ["-d", "user=ann&password=x&password=sesame"], {400}),
                                     ("JSON", ["-H", "Content-Type: application/json", "-d", "{}"], {415}), ("nothing", ["-d", ""], {400}),
                                     ("too much", ["-d", "user=ann&password=" + "x" * 9000], {413}), ("a NUL", ["-d", "user=ann%00&password=sesame"], {401}),
                                     ("PUT", ["-X", "PUT", "-d", "a=b"], {405})):
            answer = it.get(PATH + "login", *ok, *more)
            assert answer.status in statuses and "set-cookie" not in answer.headers, (what, answer.status)
        chunked = it.get(PATH + "login", *ok, "-H", "Transfer-Encoding: chunked", "-d", "user=ann&password=sesame&to=/c")
        assert (chunked.status, chunked.headers["location"]) == (303, "/c")
        # What HAProxy says to the agent is not what a visitor says.
        lies = ["-H", f"X-Hoody-Gate-Container: {PROJECT}-{OTHER}", "-H", "X-Forwarded-For: 127.0.0.1", "-H", f"X-Forwarded-Host: {host(container=OTHER)}"]
        assert it.get(PATH + "login", *ok, *lies, *data).status == 303
        assert it.get(PATH + "elsewhere", *ok).status == 404
        # It is never the service's, whether there are permissions or not, and the service's own paths are no one else's.
        assert it.get(PATH + "login", container=OTHER).status == 200 and "<form" in it.get(PATH + "login", container=OTHER).body
        assert it.get(PATH + "login", *data, "-H", f"Origin: https://{host(container=OTHER)}", container=OTHER).headers["location"] == "/"
        assert it.get("/.hoody-edg/", container=OTHER).seen()[0] == "/.hoody-edg/"
        # Guesses on the page and guesses without one count together. Who is slowed down may guess again after a second, then after two,
        # after four: a busy machine may take as long for a request, but not often.
        for i in range(3):
            assert login(it, f"guess{i}").status == 401

        def slowed():
            plain, page = it.get("/", "-u", "ann:guess"), login(it, "yet another")
            assert {plain.status, page.status} <= {401, 429}, (plain.status, page.status)
            return (plain, page) if plain.status == page.status == 429 else None

        plain, page = eventually(slowed, "guesses of both kinds that are slowed down")
        for slow in (plain, page):
            assert 1 <= int(slow.headers["retry-after"]) <= 60, slow.headers
        assert "<form" in page.body, page.body


@case("a login ends: with its age, unused, when permissions or the password change, and not when the address does")
def _():
    with site() as it:
        secret = password_hash("sesame")
        it.permissions(team(secret))
        it.start()
        api = Api(it.server.path(f"{it.folder}/run/api.sock"))
        base = f"/containers/{CONTAINER}/proxy"
        ticket = ticket_of(login(it))
        assert it.status("/", *ticket) == 200
        # Another part of the document is no reason to log in again.
        api.change("PATCH", f"{base}/permissions/state", {"enable_proxy": False})
        it.becomes(503, "/", *ticket)
        api.change("PATCH", f"{base}/permissions/state", {"enable_proxy": True})
        it.becomes(200, "/", *ticket)
        version = api.get(f"{base}/permissions").version
        document = {"default": "deny", "groups": team(password_hash("sesame"))["groups"], "permissions": team(secret)["permissions"]}
        version = api.change("PUT", f"{base}/permissions", document, version).version
        it.becomes(401, "/", *ticket)
        # Back to what it was: the older login does not come back.
        version = api.change("PUT", f"{base}/permissions", team(secret), version).version
        it.becomes(200, "/", "-u", "ann:sesame")
        assert it.status("/", *ticket) == 401
        other = ticket_of(login(it))
        it.becomes(200, "/", *other)
        version = api.change("PUT", f"{base}/permissions", team("simsalabim"), version).version
        it.becomes(401, "/", *other)
        old = login(it)
        assert old.status == 401, (old.status, old.body)
        assert login(it, "simsalabim").status == 303
        for bad in (59, 2592001, -1, 1.5, "60", None):
            answer = api.ask("PUT", f"{base}/permissions", team(secret, max_age=bad), version)
            assert answer.status == 400 and "groups.team.max_age: a number of seconds from 60 to 2592000" in answer.message, (bad, answer)
        api.change("PUT", f"{base}/permissions", team(secret, max_age=60, idle=60), version)
        it.becomes(200, "/", "-u", "ann:sesame")
        ticket = ticket_of(login(it))
        assert "Max-Age=60" in login(it).headers["set-cookie"] and it.status("/", *ticket) == 200
        # While the agent is away there is no page either, and nobody waits for it; then all is as it was.
        os.kill(it.edge.inner, signal.SIGSTOP)
        try:
            eventually(lambda: re.search(r"^gate,agent,.*,DOWN", told(it, "show stat"), re.M), "HAProxy to see it")
            away = it.get(PATH + "login", *BROWSER)
            assert (away.status, away.headers["retry-after"]) == (503, "2"), away.headers
        finally:
            os.kill(it.edge.inner, signal.SIGCONT)
            os.kill(it.edge.pid, signal.SIGCONT)  # nsenter stops with its child
        eventually(lambda: it.status("/", *ticket) == 200, "the agent again")
        assert is_page(eventually(lambda: (a := it.get(PATH + "login", *BROWSER)).status == 200 and a, "the page again"), 200) == "/"


@case("a name that nobody has takes as long as one with a wrong password")
def _():
    with site() as it:
        it.permissions(team())
        it.start()
        work = {}
        for user in ("ann", "bob"):
            before = cpu_seconds(it.edge.inner)
            for i in range(3):
                assert login(it, f"wrong{i}", user).status == 401
            work[user] = cpu_seconds(it.edge.inner) - before
        print(f"# seconds of the agent: {work}")
        assert work["ann"] / 2 < work["bob"] < work["ann"] * 2, work


@case("Chromium: the page, a wrong password, the right one, a page behind it that fetches, what it gets when that is over, and out")
def _():
    if not CHROMIUM:
        raise Skip("chromium is not installed")
    with site() as it:
        it.permissions(team())
        it.start()
        pin = subprocess.run(["sh", "-c", f"openssl x509 -in {it.server.path(it.folder)}/certs/edge.pem -pubkey -noout | openssl pkey -pubin -outform der | "
                              "openssl dgst -sha256 -binary | openssl base64"], stdout=subprocess.PIPE, check=True).stdout.decode().strip()
        # An address that comes meanwhile would make it give up a request: ERR_NETWORK_CHANGED.
        it.container.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        with it.container.network():
            browser = Browser(f"--ignore-certificate-errors-spki-list={pin}", f"--host-resolver-rules=MAP *.{DOMAIN} 192.0.2.1")
        with browser:
            tab = browser.page(f"https://{host()}/a?b=1")
            tab.until("document.title === 'Log in'")
            assert tab.js("document.activeElement.name") == "user"
            audited(tab)
            tab.scheme("dark")
            audited(tab)

            def send(password):
                tab.js(f"document.querySelector('[name=user]').value = 'ann'; document.querySelector('[name=password]').value = '{password}';"
                       "document.querySelector('button').click()")
            send("wrong")
            tab.until("document.querySelector('[role=alert]')?.textContent.includes('is wrong')")
            assert tab.js("document.querySelector('[name=user]').value") == "ann" and tab.js("document.querySelector('[name=password]').value") == ""
            send("sesame")
            tab.until("location.pathname + location.search === '/a?b=1' && document.body.innerText.includes('headers')")
            assert tab.js("document.cookie") == "", "no script reads it"
            assert tab.js("fetch('/f').then((r) => r.status)") == 200
            # What a page fetches when the login is over opens no dialog.
            tab.js(f"fetch('{PATH}logout', {{method: 'POST', redirect: 'manual'}})")
            assert tab.js("fetch('/f').then((r) => r.status)") == 401
            tab.open(f"https://{host()}/a")
            tab.until("document.title === 'Log in'")
            send("sesame")
            tab.until("location.pathname === '/a' && document.body.innerText.includes('headers')")
            tab.open(f"https://{host()}{PATH}logout")
            tab.js("document.querySelector('button').click()")
            tab.until(f"location.pathname === '{PATH}login'")
            assert not [c for c in tab.complaints if "style" in c or "script" in c], tab.complaints


def put(where, document, version, path=f"/api/v1/containers/{CONTAINER}/proxy/permissions"):
    """A connection to the API on which a PUT is under way."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(where)
    body = json.dumps(document).encode()
    s.sendall(f"PUT {path} HTTP/1.1\r\nHost: edge\r\nIf-Match: file:v{version}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return s


def status_of(s):
    with s, s.makefile("rb") as f:
        return int(f.readline().split()[1])


@case("passwords in plain text are hashed beside other requests: who asks meanwhile is answered, of two changes one holds, and who leaves harms nobody")
def _():
    with Edge() as edge:
        where = os.path.join(edge.folder, "run", "api.sock")
        api = Api(where)
        many = {"groups": {f"g{i}": {"type": "password", "username": f"u{i}", "password": f"word-{i}"} for i in range(4)}}
        slow = put(where, many, 0)
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(where)
            other.sendall(b"GET /api/v1/containers HTTP/1.1\r\nHost: edge\r\n\r\n")
            first = select.select([slow, other], [], [], 60)[0]
            assert first == [other], "the answer that waits for nothing comes first"
        assert status_of(slow) == 200
        shown = api.get(f"/containers/{CONTAINER}/proxy/permissions")
        assert shown.version == 1 and shown.data["groups"]["g3"]["password"] == "***", shown
        # Two changes of one version, at the same time.
        both = [put(where, {"groups": {"one": {"type": "password", "username": f"by-{i}", "password": f"word-{i}"}}}, 1) for i in range(2)]
        assert sorted(status_of(s) for s in both) == [200, 412]
        # One of a version that is gone by then.
        late = put(where, many, 2)
        assert api.ask("PATCH", f"/containers/{CONTAINER}/proxy/permissions/default", {"default": "allow"}, 2).status == 200
        assert status_of(late) == 412
        # What is wrong besides is said at once, and nothing is hashed for it.
        wrong = api.ask("PUT", f"/containers/{CONTAINER}/proxy/permissions", {**many, "permissions": {"g9": {"exec": True}}}, 3)
        assert wrong.status == 400 and "g9" in wrong.message, wrong
        for _ in range(3):
            put(where, many, 3).close()
        eventually(lambda: api.get("/containers").status == 200, "the API")
        version = api.get(f"/containers/{CONTAINER}/proxy/permissions").version
        assert version in (3, 4), version
        put(where, many, 4)  # and it ends meanwhile


if __name__ == "__main__":
    main()
