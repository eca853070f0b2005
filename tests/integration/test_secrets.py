"""Keys that stay on the laptop: programs in the container ask through the kit's proxy, and the driver adds what they do not have."""

import contextlib
import os
import subprocess
import threading

from tests.integration.guarded import CANARY, Api, Authority, Guarded, inject, secret_file
from tests.integration.harness import BIN, Folder, command, eventually, read_chunked, read_exactly, read_head
from tests.support.tap import case, main


def everything(folder):
    found = {}
    for base, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(base, name), "rb") as f:
                found[os.path.join(base, name)] = f.read()
    return found


def curl(t, *args):
    done = subprocess.run(["curl", "-sS", "-i", "--proxy", f"http://{t.proxy}", "--cacert", t.ca, *args], capture_output=True, text=True,
                          timeout=60, check=False, env={**os.environ, "NO_PROXY": "", "no_proxy": ""})
    return done.returncode, done.stdout, done.stderr


@case("the service gets the secret, and curl, the kit and whatever is written do not; a changed file is read anew")
def _():
    def echo(head, _body):
        return b"HTTP/1.1 200 OK\r\nX-Echo: %s\r\nContent-Length: 2\r\n\r\nok" % head.encode().split(b"uthorization: ")[1].split(b"\r\n")[0]

    with Folder() as folder, Api(Authority(folder), answer=echo) as api:
        state, path = folder.join("state"), secret_file(folder)
        entry = f'{{name: "api.test:443", target: "127.0.0.1:{api.port}", ca: {api.ca}, {inject(path)}, allow: ["GET /v1/*"]}}'
        with Guarded(folder, entry, env={"XDG_STATE_HOME": state}) as t:
            shown = [command("config", "check", "-f", t.file, *args, env={"XDG_STATE_HOME": state}) for args in ([], ["--json"])]
            assert [s[0] for s in shown] == [0, 0], shown
            assert "api.test:443 -> 127.0.0.1:%d, sets Authorization, allows 1 rule" % api.port in shown[0][1], shown
            status, out, said = curl(t, "https://api.test/v1/models")
            assert status == 0 and "HTTP/1.1 200 OK" in out and out.endswith("ok"), (status, out, said, t.up.text())
            assert api.lines() == ["GET /v1/models HTTP/1.1"] and api.field("authorization") == f"Bearer {CANARY}", api.seen
            status, refused, said = curl(t, "https://api.test/v2", "-H", "Authorization: Bearer mine")
            assert status == 0 and "HTTP/1.1 403 Forbidden" in refused and "error=guard-no-rule-allows-it" in refused, (refused, said)
            assert len(api.seen) == 1, api.seen
            secret_file(folder, text=CANARY + "-2")
            status, third, said = curl(t, "https://api.test/v1/again")
            assert status == 0 and api.field("authorization") == f"Bearer {CANARY}-2", (api.seen, said)
            # Whoever does not trust the certificate gets nothing, and says so, if he does not leave before it is heard.
            def distrusts():
                done = subprocess.run(["curl", "-sS", "--proxy", f"http://{t.proxy}", "--cacert", api.ca, "https://api.test/v1/models"],
                                      capture_output=True, timeout=60, check=False)
                assert done.returncode == 60 and len(api.seen) == 2, done
                return "does not trust" in t.up.text()

            eventually(distrusts, "a line of who does not trust")
            for pid in (t.kit.pid, t.up.pid):
                for name in ("environ", "cmdline"):
                    with open(f"/proc/{pid}/{name}", "rb") as f:
                        assert CANARY.encode() not in f.read(), name
            listed = [t.kit.request("GET", p)[1].decode() for p in ("/bindings", "/sessions", "/tunnels", "/metrics", "/ca.pem")]
            texts = [out, refused, third, *listed, *(text for s in shown for text in s[1:])]
        for text in (*texts, t.up.text(), t.kit.text()):
            assert CANARY not in text and "PRIVATE KEY" not in text, text
        for name, data in everything(folder.path).items():
            assert name == path or CANARY.encode() not in data, name
        keys = [n for n in everything(state) if "ca-key-" in n]
        assert len(keys) == 1 and os.stat(keys[0]).st_mode & 0o777 == 0o600, keys


@case("the real host is verified: another name, an authority that is unknown, a date that is over; a 502 each, and a line that says which")
def _():
    with Folder() as folder, Folder() as elsewhere:
        path, good, unknown = secret_file(folder), Authority(folder), Authority(elsewhere)
        rows = [
            (Api(good, "right.test"), good, 200, None, None),
            (Api(good, "name.test", san="DNS:elsewhere.test"), good, 502, "cert-name", "is for another name than name.test"),
            (Api(unknown, "authority.test"), good, 502, "cert-ca", "is not trusted: unable to get local issuer certificate; give its CA "
                                                                   "with `ca:`"),
            (Api(good, "date.test", days=-1), good, 502, "cert-date", "certificate has expired; this machine's clock says"),
        ]
        names = ("right.test", "name.test", "authority.test", "date.test")
        entries = [f'{{name: "{name}:443", target: "127.0.0.1:{row[0].port}", ca: {row[1].path("ca.pem")}, {inject(path)}}}'
                   for name, row in zip(names, rows)]
        try:
            with Guarded(folder, *entries) as t:
                for name, (api, _, want, word, says) in zip(names, rows):
                    status, head, body = t.ask("/", host=name)
                    assert status == want, (name, status, body, t.up.text())
                    if want == 200:
                        assert api.field("authorization") == f"Bearer {CANARY}", api.seen
                        continue
                    assert f"error=origin-{word}" in head and b"certificate" in body and api.seen == [], (head, body, api.seen)
                    eventually(lambda n=name, s=says: [x for x in t.up.log if x.find(n) >= 0 and s in x], f"a line with {says}")
                    t.ask("/", host=name)
                    assert sum(says in line and "warn" in line.lower() for line in t.up.log) == 1, t.up.text()
                assert CANARY not in t.up.text()
        finally:
            for row in rows:
                row[0].__exit__()


@case("a tls:// target is asked by its own name, in TLS and in Host")
def _():
    with Folder() as folder, Api(Authority(folder), "localhost") as api:
        path = secret_file(folder)
        entry = f'{{name: "api.test:443", target: "tls://localhost:{api.port}", ca: {api.ca}, {inject(path)}}}'
        with Guarded(folder, entry) as t:
            assert t.ask("/x")[0] == 200 and api.field("host") == f"localhost:{api.port}", api.seen
            assert api.field("authorization") == f"Bearer {CANARY}"
        with Guarded(folder, entry.replace("localhost:", "127.0.0.1:")) as t:
            status, head, _ = t.ask("/x")
            assert status == 502 and "error=origin-cert-name" in head and len(api.seen) == 1, head


@case("keep-alive, chunked upload, 100-continue, server-sent events and an upgrade go through as they are")
def _():
    go_on = threading.Event()

    def handle(c, api):
        rest = b""
        while True:
            try:
                head, rest = read_head(c, rest)
            except ConnectionResetError:
                return
            text = head.decode()
            api.seen.append(text)
            if text.startswith("GET /events"):
                c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")
                assert go_on.wait(30)
                c.sendall(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
            elif text.startswith("GET /ws"):
                c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nready")
                c.sendall(c.recv(100).upper())
                return
            elif "chunked" in text:
                body, rest = read_chunked(c, rest)
                c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            elif text.startswith("PUT"):
                body, rest = read_exactly(c, 5, rest), b""
                c.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\n" + body)
            else:
                c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    def until(c, what):
        said = b""
        while what not in said:
            data = c.recv(65536)
            assert data, said
            said += data
        return said

    with Folder() as folder, Api(Authority(folder), handle=handle) as api:
        with Guarded(folder, f'{{name: "api.test:443", target: "127.0.0.1:{api.port}", ca: {api.ca}, {inject(secret_file(folder))}}}') as t:
            with t.connection() as c:
                for path in ("/one", "/two"):
                    c.sendall(f"GET {path} HTTP/1.1\r\nHost: api.test\r\n\r\n".encode())
                    until(c, b"hello")
                c.sendall(b"POST /up HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
                eventually(lambda: len(api.seen) == 3, "the head, before the body's end")
                c.sendall(b"3\r\ntwo\r\n0\r\n\r\n")
                until(c, b"onetwo")
                c.sendall(b"PUT /c HTTP/1.1\r\nHost: api.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
                until(c, b"100 Continue\r\n\r\n")
                c.sendall(b"abcde")
                until(c, b"abcde")
                c.sendall(b"GET /events HTTP/1.1\r\nHost: api.test\r\n\r\n")
                until(c, b"data: 1")
                go_on.set()
                until(c, b"data: 2")
                c.sendall(b"GET /ws HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                until(c, b"ready")
                c.sendall(b"raw bytes")
                until(c, b"RAW BYTES")
            assert api.accepted == 1 and [api.field("authorization", i) for i in range(6)] == [f"Bearer {CANARY}"] * 6, api.seen


@case("checks come first: what each request gets, and which of them the service never hears of")
def _():
    with Folder() as folder:
        authority = Authority(folder)
        redirect = b"HTTP/1.1 302 Found\r\nLocation: https://other.test/there\r\nContent-Length: 0\r\n\r\n"
        with Api(authority, "api.test", answer=lambda head, body: redirect if "/away" in head else
                 b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as api, Api(authority, "other.test") as other:
            entries = (
                f'{{name: "api.test:443", target: "127.0.0.1:{api.port}", ca: {api.ca}, {inject(secret_file(folder))}, '
                'allow: ["GET /v1/*", "POST /v1/chat"], deny: ["* /v1/admin*"]}',
                f'{{name: "other.test:443", target: "127.0.0.1:{other.port}", ca: {api.ca}, replace: placeholder-1, '
                f'{inject(secret_file(folder, "two", "another-" + CANARY))}}}')
            with Guarded(folder, *entries) as t:
                def raw(text, host="api.test"):
                    """The status of the first answer on a connection of its own."""
                    with t.connection(host) as c:
                        c.sendall(text.encode())
                        return int(c.recv(65536).split(b" ")[1])

                def get(target, host="api.test", more=""):
                    return raw(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n", "api.test")

                passes = ("/v1/a", "/v1/a?x=/v1/admin", "/v1/a%20b", "/v1//a", "https://api.test/v1/abs")
                assert [get(target) for target in passes] == [200] * len(passes), t.up.text()
                assert get("/v1/a", "API.TEST") == 200 and get("/v1/a", "api.test:443") == 200
                assert all(api.field("authorization", i) == f"Bearer {CANARY}" for i in range(len(api.seen))), api.seen
                n = len(api.seen)
                refused = {"/v1/admin": 403, "/v1/ADMIN": 403, "/v1/%61dmin": 403, "/v1//admin": 403, "/v1/admin;x": 403, "/v1/admin/x?y": 403,
                           "/v2": 403, "/V1/a": 403, "//v1/a": 403, "/": 403, "/v1/../v1/a": 400, "/v1/./a": 400, "/v1/%2e%2e/a": 400,
                           "/v1/%2e/a": 400, "/v1/..%2fa": 400, "/v1/%252e%252e/a": 400, "/v1/a\\b": 400, "/v1/%00": 400,
                           "https://other.test/v1/a": 400, "http://api.test@other.test/v1/a": 400}
                got = {target: get(target) for target in refused}
                assert got == refused, {k: v for k, v in got.items() if v != refused[k]}
                assert [get("/v1/a", host) for host in ("other.test", "api.test.other.test", "api.test:444", "127.0.0.1")] == [421] * 4
                for text in ("GET /v1/a HTTP/1.1\r\n\r\n", "GET /v1/a HTTP/1.1\r\nHost: api.test\r\nHost: other.test\r\n\r\n",
                             "GET /v1/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                             "POST /v1/chat HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
                             "GET /v1/a HTTP/1.1\r\nHost: api.test\r\nX: a\nAuthorization: b\r\n\r\n"):
                    assert raw(text) == 400, text
                assert raw("POST /v1/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\n\r\n") == 403
                assert raw("TRACE /v1/a HTTP/1.1\r\nHost: api.test\r\n\r\n") == 405
                assert raw("CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n") in (400, 405)
                assert len(api.seen) == n, api.seen[n:]
                # h2c would be requests that nobody checks: the service never hears of it.
                assert get("/v1/up", more="Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n") == 200
                assert get("/v1/up", more="Connection: Upgrade\r\nUpgrade: h2c\r\n") == 200
                assert "pgrade" not in api.seen[-1] + api.seen[-2], api.seen
                # What Connection names cannot take the secret away again.
                assert get("/v1/a", more="Connection: authorization\r\n") == 200 and api.field("authorization") == f"Bearer {CANARY}"
                # A redirect is the program's to follow: it brings what it has, which is nothing.
                assert raw("GET /v1/away HTTP/1.1\r\nHost: api.test\r\n\r\n") == 302
                status, out, said = curl(t, "-L", "https://api.test/v1/away", "-H", "Authorization: Bearer mine")
                assert status == 0 and out.endswith("hello"), (out, said)
                assert other.field("authorization") is None and CANARY not in "".join(other.seen), other.seen
                # The placeholder becomes the secret at its host, in its field; anywhere else it is refused.
                seen = len(other.seen)
                assert t.ask("/", "other.test", headers={"Authorization": "Bearer placeholder-1"})[0] == 200
                assert other.field("authorization") == f"Bearer another-{CANARY}", other.seen
                assert t.ask("/", "other.test", headers={"X-Key": "placeholder-1"})[0] == 403
                assert t.ask("/?key=placeholder-1", "other.test")[0] == 403
                assert t.ask("/v1/a", headers={"Authorization": "Bearer placeholder-1"})[0] == 403
                assert t.ask("/v1/a?k=placeholder-1")[0] == 403
                assert len(other.seen) == seen + 1
                # Another host's name inside the tunnel of the first: TLS says which one is meant.
                assert t.ask("/there", "other.test")[0] == 200 and other.field("authorization") is None


@case("a command is run beside the loop: who waits for its answer waits, who does not goes on; its failure is told, never what it said")
def _():
    with Folder() as folder, contextlib.ExitStack() as stack:
        authority = Authority(folder)
        api, other = (stack.enter_context(Api(authority, name)) for name in ("api.test", "other.test"))
        fifo, log = folder.join("fifo"), folder.join("runs")
        os.mkfifo(fifo)
        entries = (f'{{name: "api.test:443", target: "127.0.0.1:{api.port}", ca: {other.ca}, inject: {{X-Key: "${{command:cat {fifo}}}"}}}}',
                   f'{{name: "other.test:443", target: "127.0.0.1:{other.port}", ca: {other.ca}, {inject(secret_file(folder))}}}',
                   f'{{name: "bad.test:443", target: "127.0.0.1:{other.port}", ca: {other.ca}, '
                   f'inject: {{X-Key: "${{command:echo ran >> {log}; echo {CANARY[:6]}${{NOTHING}}{CANARY[6:]}; exit 4}}"}}}}')
        with Guarded(folder, *entries) as t:
            eventually(lambda: "it ended with status 4" in t.up.text(), "the failure")
            answers = []
            waits = threading.Thread(target=lambda: answers.append(t.ask("/w", method="POST", body=b"abc")))
            waits.start()
            assert t.ask("/", "other.test")[0] == 200
            assert api.seen == [] and answers == []
            with open(fifo, "w", encoding="ascii") as f:
                f.write(CANARY + "\n")
            waits.join(30)
            assert [a[0] for a in answers] == [200] and api.field("x-key") == CANARY and "POST /w" in api.seen[0], (answers, t.up.text())
            status, head, body = t.ask("/", "bad.test")
            assert status == 503 and "error=guard-secret-unreadable" in head and CANARY.encode() not in body, (status, head, body)
            status, out, said = command("config", "check", "-f", t.file)
            assert status == 0 and CANARY not in out + said, (out, said)
            with open(log, encoding="ascii") as f:
                assert f.read().count("ran") <= 2  # by the driver alone: config check runs none
            assert CANARY not in t.up.text()


@case("what is wrong in the file has its line, and no value is shown")
def _():
    with Folder() as folder:
        path = folder.join("tunnel.yaml")
        for text, says in (
                ("  - {name: api.test, inject: {Host: x}}", ":3:31: error: inject: Host cannot be set"),
                (f"  - {{name: api.test, inject: {{X-Key: '${{{CANARY}}}'}}}}", ":3:31: error: inject: X-Key: a secret is written ${file:PATH}"),
                ("  - {name: api.test, allow: [GET]}", ":3:30: error: allow: the rule \"GET\" has no path"),
                ("  - {name: api.test, deny: ['GET /', 'get /']}", ":3:38: error: deny: the rule \"get /\" has a method"),
                ("  - {name: api.test, rate: fast}", ":3:28: error: the rate \"fast\" is not valid"),
                ("  - {name: '*.api.test', allow: ['GET /']}", ":3:12: error: name: *.api.test stands for many hosts"),
                ("  - {name: api.test, replace: sk-placeholder}", ":3:31: error: replace needs a field to set"),
                ("  - {name: api.test, user: git}", ":3:28: error: user needs a password beside it"),
                ("  - {name: api.test, inject: x}", ":3:30: error: inject: names, each with a text, are expected here"),
                ("  - {name: api.test, allow: GET /}", ":3:29: error: allow: a list is expected here and not a value"),
                ("  - {name: api.test, alow: [GET /]}", ":3:22: error: unknown key alow; did you mean allow?"),
                ("  - {name: api.test, rate: 1/s, target: 'tls+insecure://127.0.0.1:1'}", ":3:41: error: target: requests are checked only"),
                ("  - {name: api.test, rate: 1/s, alpn: h2}", "error: alpn: requests that are checked are HTTP/1.1"),
                ("  - {name: api.test, ca: x.pem}", "error: ca, cert, key, sni and alpn are for tls:// targets only"),
                ("  - {name: api.test, rate: 1/s, ca: x.pem}", "x.pem: No such file"),
                ("  - {name: api.test, inject: {X-Key: '${file:/nonexistent/key}'}}", "the secret of the file /nonexistent/key: No such file"),
                ("  - {name: api.test, inject: {X-Key: '${env:HT_NOT_SET}'}}", "the secret of the variable HT_NOT_SET: it is not set"),
        ):
            with open(path, "w", encoding="ascii") as f:
                f.write(f"url: ws://127.0.0.1:1\nreach:\n{text}\n")
            status, out, said = command("config", "check", "-f", path)
            assert status == 3 and says in said and CANARY not in out + said, (text, status, said)
            assert subprocess.run([BIN, "up", "-f", path], capture_output=True, timeout=60, check=False).returncode in (2, 3)


if __name__ == "__main__":
    main()
