"""Who may visit an exposed service, and what it gets to read: Host, fields about the visitor, header rules, logins, addresses,
pages of one's own."""

import base64
import json
import os
import re
import signal
import socket
import subprocess

from tests.integration.harness import (BIN, Folder, Program, Service, Tunnel, command, connect, eventually, http_handler, read_exactly,
                                       read_head, run)
from tests.support.tap import case, main

PASSWORD = "sesame: öffne dich"


def echo(head, _body):
    """Answers with the request's head, in lower case names as they came."""
    if "\r\nX-Redirect:" in head or "\nx-redirect:" in head:
        to = re.search(r"x-redirect: *(\S+)", head, re.I)[1].encode()
        return b"HTTP/1.1 302 Found\r\nLocation: " + to + b"\r\nServer: old\r\nContent-Length: 0\r\n\r\n"
    data = head.encode("latin-1")
    return b"HTTP/1.1 200 OK\r\nServer: old\r\nX-Powered-By: it\r\nContent-Length: %d\r\n\r\n" % len(data) + data


def ask(port, fields="", host="visited.example", method="GET"):
    """(status, head, body) of one request."""
    with connect(port) as c:
        c.sendall(f"{method} /a HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n".encode("latin-1"))
        data = b""
        while more := c.recv(65536):
            data += more
    head, _, body = data.decode("latin-1").partition("\r\n\r\n")
    return int(head.split()[1]), head, body


def field(head, name):
    """All values of the field, joined."""
    return ", ".join(re.findall(rf"^{name}: ([^\r\n]*)", head, re.I | re.M))


def basic(user, password=PASSWORD):
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() + "\r\n"


def write(path, text, mode=0o600):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


def hashed(password=PASSWORD, method="-6"):
    return run(["openssl", "passwd", method, password]).strip()


def crypted(password, setting):
    """What crypt(3) of this system makes, as htpasswd (bcrypt) and mkpasswd (yescrypt) do."""
    return run(["/usr/bin/python3", "-W", "ignore", "-c", "import crypt, sys; print(crypt.crypt(sys.argv[1], sys.argv[2]))", password, setting]).strip()


@case("Host as the visitor sent it, rewritten, or a value; its own Origin follows, a foreign one does not; redirects lead back")
def _():
    with Service(http_handler(echo)) as web, Tunnel() as t:
        plain = t.expose(f"0={web.port}")
        status, _, body = ask(plain.port, "X-Forwarded-For: 9.9.9.9\r\n")
        assert status == 200 and field(body, "host") == "visited.example" and field(body, "x-forwarded-for") == "9.9.9.9", body
        for value, told in (("rewrite", f"localhost:{web.port}"), ("app.test:1234", "app.test:1234")):
            port = t.expose(f"0={web.port}", "--host-header", value).port
            _, _, body = ask(port, "Origin: http://visited.example\r\n")
            assert (field(body, "host"), field(body, "origin")) == (told, f"http://{told}"), body
            assert field(ask(port, "Origin: https://evil.example\r\n")[2], "origin") == "https://evil.example"
            assert field(body, "x-forwarded-host") == "visited.example" and field(body, "x-forwarded-proto") == "http", body
            for to, back in ((f"http://{told}/x?y", "http://visited.example/x?y"), ("/x", "/x"), (f"http://{told}0/x", f"http://{told}0/x"),
                             ("https://elsewhere.example/", "https://elsewhere.example/")):
                assert field(ask(port, f"X-Redirect: {to}\r\n")[1], "location") == back, (to, back)


@case("what a visitor says of himself is removed, what a trusted edge says stays and gets the edge's address")
def _():
    said = ("X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a.example\r\nX-Real-IP: 198.51.100.7\r\n"
            "Forwarded: for=198.51.100.7\r\nX_Forwarded_For: 1.2.3.4\r\n")
    with Service(http_handler(echo)) as web, Tunnel() as t:
        body = ask(t.expose(f"0={web.port}", "--forwarded", "set").port, said)[2]
        got = {name: field(body, name) for name in ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port",
                                                    "x-real-ip", "x_forwarded_for", "forwarded")}
        assert got == {"x-forwarded-for": "127.0.0.1", "x-forwarded-host": "visited.example", "x-forwarded-proto": "http",
                       "x-forwarded-port": "80", "x-real-ip": "", "x_forwarded_for": "",
                       "forwarded": 'for=127.0.0.1;host="visited.example";proto=http'}, got
        body = ask(t.expose(f"0={web.port}", "--forwarded", "set", "--trusted-edge", "127.0.0.0/8,::1").port, said)[2]
        assert field(body, "x-forwarded-for") == "198.51.100.7, 127.0.0.1", body
        assert (field(body, "x-forwarded-host"), field(body, "x-forwarded-proto"), field(body, "x-real-ip")) == (
            "a.example", "https", "198.51.100.7"), body
        assert field(body, "forwarded") == 'for=198.51.100.7, for=127.0.0.1;host="visited.example";proto=https', body
        # A visitor who comes by the URL of the service: the URL tells the scheme, when no trusted edge does.
        with Tunnel("--public-url-pattern", "https://{port}.tunnel.test") as behind_tls:
            driver = behind_tls.expose(f"0={web.port}", "--host-header", "rewrite")
            host = f"{driver.port}.tunnel.test"
            head, body = ask(driver.port, "Origin: https://" + host + "\r\n", host=host)[1:]
            assert (field(body, "x-forwarded-proto"), field(body, "x-forwarded-port"), field(body, "x-forwarded-host")) == ("https", "443", host)
            assert field(body, "origin") == f"http://localhost:{web.port}" and f'host="{host}";proto=https' in field(body, "forwarded"), body
            head = ask(driver.port, f"X-Redirect: http://localhost:{web.port}/x\r\n", host=host)[1]
            assert field(head, "location") == f"https://{host}/x", head
        # HTTP/2 behind an upgrade would say of itself what it likes.
        h2c = "Connection: Upgrade\r\nUpgrade: foo, h2c\r\n"
        with connect(t.expose(f"0={web.port}", "--forwarded", "set").port) as c:
            c.sendall(f"GET / HTTP/1.1\r\nHost: a\r\n{h2c}\r\n".encode())
            head, rest = read_head(c)
            seen = read_exactly(c, int(field(head.decode(), "content-length")), rest).decode().lower()
            assert "upgrade" not in seen and "x-forwarded-for" in seen, seen
        # Host rewritten, and the fields passed as they came.
        body = ask(t.expose(f"0={web.port}", "--host-header", "rewrite", "--forwarded", "pass").port, said)[2]
        assert field(body, "x-forwarded-for") == "198.51.100.7" and field(body, "x-real-ip") == "198.51.100.7", body


@case("header fields are set, added and removed, in requests and answers, in their order, by a file of up as well")
def _():
    rules = ["X-Env: dev", "+Accept: text/html", "-Cookie"]
    back = ["-Server", "X-Powered-By: us", "+X-Powered-By: them"]
    with Service(http_handler(echo)) as web, Tunnel() as t, Folder() as folder:
        args = [a for r in rules for a in ("--request-header", r)] + [a for r in back for a in ("--response-header", r)]
        config = "expose:\n  - target: %d\n    port: 0\n    request-header: %s\n    response-header: %s\n" % (
            web.port, json.dumps(rules), json.dumps(back))
        write(folder.join("up.yaml"), config)
        up = Program([BIN, "up", "--url", t.kit.url, "-f", folder.join("up.yaml"), "--url-file", folder.join("url")])
        eventually(lambda: os.path.exists(folder.join("url")), "the URL")
        with open(folder.join("url"), encoding="ascii") as f:
            port = int(f.read().rsplit(":", 1)[1])
        for p in (t.expose(f"0={web.port}", *args).port, port):
            _, head, body = ask(p, "X-Env: prod\r\nx-env: test\r\nAccept: a/b\r\nCookie: c=1\r\n")
            assert (field(body, "x-env"), field(body, "accept"), field(body, "cookie")) == ("dev", "a/b, text/html", ""), body
            assert (field(head, "server"), field(head, "x-powered-by")) == ("", "us, them"), head
        up.end()
        # Files of an item stand beside the file of `up`.
        write(folder.join("visitors"), f"ann:{hashed()}\n")
        write(folder.join("sorry.html"), "<p>{code}</p>")
        write(folder.join("up.yaml"), f"expose:\n  - target: {web.port}\n    port: 0\n    host-header: rewrite\n    basic-auth: visitors\n"
                                      f"    error-page: ['401=sorry.html']\n    allow-ip: [127.0.0.1]\n")
        os.unlink(folder.join("url"))
        up = Program([BIN, "up", "--url", t.kit.url, "-f", folder.join("up.yaml"), "--url-file", folder.join("url")], cwd="/")
        eventually(lambda: os.path.exists(folder.join("url")), "the URL")
        with open(folder.join("url"), encoding="ascii") as f:
            port = int(f.read().rsplit(":", 1)[1])
        assert ask(port, "Accept: text/html\r\n")[2] == "<p>visitor-login</p>"
        assert field(ask(port, basic("ann"))[2], "host") == f"localhost:{web.port}"
        up.end()
        status, out, _err = command("config", "check", "-f", folder.join("up.yaml"))
        assert status == 0 and "Host: rewrite" in out and "logins of" in out and "some addresses" in out, out
        write(folder.join("up.yaml"), f"expose:\n  - target: {web.port}\n    request-header: ['Host: x']\n")
        status, _out, err = command("config", "check", "-f", folder.join("up.yaml"))
        assert status == 3 and "up.yaml:2:" in err and "--host-header" in err, err


@case("a rule that could smuggle or break a message is refused at the start")
def _():
    for option, rule, says in (
            ("--request-header", "X-A: b\r\nX-C: d", "a character that a header cannot carry"),
            ("--response-header", "Set-Cookie: a\nb", "a character that a header cannot carry"),
            ("--request-header", "Content-Length: 5", "says where a message ends"),
            ("--request-header", "transfer-encoding: chunked", "is about one connection"),
            ("--response-header", "-Connection", "is about one connection"),
            ("--request-header", "Upgrade: h2c", "is about one connection"),
            ("--request-header", "Sec-WebSocket-Key: x", "handshake of a WebSocket"),
            ("--request-header", "Host: a", "--host-header"),
            ("--request-header", "no name", "has no name"),
            ("--request-header", "X-A:", "removes it"),
            ("--request-header", "-X-A: b", "no colon"),
            ("--host-header", "a b", "is no Host"),
            ("--host-header", "a\r\nX: y", "is no Host"),
            ("--allow-ip", "10.0.0.0/33", "is not a network"),
            ("--error-page", "99=x.html", "a status from 400 to 599"),
            ("--error-page", "502=/nonexistent.html", "cannot be opened")):
        status, _out, err = command("expose", "3000", option, rule)
        assert status in (1, 2, 3) and says in err and "X-C" not in err, (option, rule, status, err)


@case("visitors log in: 401 with a form that fits, each request of a kept connection, upgrades; the service never sees it")
def _():
    with Service(http_handler(echo)) as web, Tunnel() as t, Folder() as folder:
        users = write(folder.join("users"), f"# who may\nann:{hashed()}\nbob:{hashed('other', '-5')}\n"
                      f"cat:{crypted('meow', '$2b$10$abcdefghijklmnopqrstuu')}\ndan:{crypted('yes', '$y$j9T$abcdefghijklmnopqrstu.')}\n")
        driver = t.expose(f"0={web.port}", "--basic-auth", users)
        for fields in ("", basic("ann", "wrong"), basic("eve"), "Authorization: Bearer x\r\n", "Authorization: Basic !!\r\n"):
            status, head, body = ask(driver.port, fields)
            assert (status, field(head, "www-authenticate")) == (401, 'Basic realm="This service", charset="UTF-8"'), head
            assert field(head, "x-hoody-tunnel") == "error=visitor-login" and "name and a password" in body
        assert json.loads(ask(driver.port, "Accept: application/json\r\n")[2])["error"] == "visitor-login"
        assert "<h1>401" in ask(driver.port, "Accept: text/html\r\n")[2]
        assert ask(driver.port, method="HEAD")[2] == ""
        accepted = web.accepted
        assert accepted <= 1, "the service was asked"  # the probe at the start
        status, _, body = ask(driver.port, basic("ann"))
        assert status == 200 and "authorization" not in body.lower(), body
        made = subprocess.run([BIN, "password", "new", "eve"], input="p\u00e4ss w\u00f6rd\n", capture_output=True, text=True, check=True).stdout
        assert re.fullmatch(r"eve:\$y\$\S{60,}\n", made), made
        with open(users, "a", encoding="ascii") as f:
            f.write(made)
        os.kill(driver.pid, signal.SIGHUP)
        eventually(lambda: ask(driver.port, basic("eve", "p\u00e4ss w\u00f6rd"))[0] == 200, "that eve is let in")
        for user, password in (("bob", "other"), ("cat", "meow"), ("dan", "yes")):
            assert ask(driver.port, basic(user, password))[0] == 200, user
        with connect(driver.port) as c:  # one connection: the second request brings no login
            c.sendall(("GET /1 HTTP/1.1\r\nHost: a\r\n" + basic("ann") + "\r\n").encode())
            head, rest = read_head(c)
            assert head.startswith(b"HTTP/1.1 200")
            read_exactly(c, int(re.search(rb"content-length: (\d+)", head, re.I)[1]), rest)
            c.sendall(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert read_head(c)[0].startswith(b"HTTP/1.1 401")
        for login, status in (("", b"401"), (basic("ann"), b"200")):  # the service knows no upgrade, but was asked
            with connect(driver.port) as c:
                c.sendall(("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                           f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{login}\r\n").encode())
                assert read_head(c)[0].startswith(b"HTTP/1.1 " + status)
        both = t.expose(f"0={web.port}", "--basic-auth", users, "--basic-auth-pass")
        assert "authorization: basic" in ask(both.port, basic("ann"))[2].lower()
        big = "x" * 300000  # a body that comes while the password is checked
        with connect(t.expose(f"0={web.port}", "--basic-auth", users).port) as c:
            c.sendall(("POST /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + basic("ann") + f"Content-Length: {len(big)}\r\n\r\n{big}").encode())
            assert read_head(c)[0].startswith(b"HTTP/1.1 200")


@case("SIGHUP reads the file of users again; a bad one changes nothing, and is told")
def _():
    with Service(http_handler(echo)) as web, Tunnel() as t, Folder() as folder:
        users = write(folder.join("users"), f"ann:{hashed()}\n")
        driver = t.expose(f"0={web.port}", "--basic-auth", users)
        assert ask(driver.port, basic("ann"))[0] == 200
        write(users, "ann:plain\n")
        os.kill(driver.pid, signal.SIGHUP)
        eventually(lambda: any("a password in plain text" in line for line in driver.log), "the warning")
        assert ask(driver.port, basic("ann"))[0] == 200
        write(users, f"bob:{hashed('new')}\n")
        os.kill(driver.pid, signal.SIGHUP)
        eventually(lambda: ask(driver.port, basic("ann"))[0] == 401, "that ann is gone")
        assert ask(driver.port, basic("bob", "new"))[0] == 200


@case("guessing is slowed down by address, also many at once; whoever is logged in goes on, and a file that is unsafe is refused")
def _():
    with Service(http_handler(echo)) as web, Tunnel() as t, Folder() as folder:
        users = write(folder.join("users"), f"ann:{hashed()}\n")
        driver = t.expose(f"0={web.port}", "--basic-auth", users, "--trusted-edge", "127.0.0.1")
        me, you = "X-Forwarded-For: 203.0.113.1\r\n", "X-Forwarded-For: 203.0.113.2\r\n"
        assert ask(driver.port, me + basic("ann"))[0] == 200
        sockets = []
        for i in range(30):
            c = connect(driver.port)
            c.sendall(f"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{me}{basic('ann', f'guess {i}')}\r\n".encode())
            sockets.append(c)
        codes = [int(read_head(c)[0].split()[1]) for c in sockets]
        for c in sockets:
            c.close()
        assert codes.count(401) <= 7 and codes.count(429) >= 23, codes
        # The first wait is a second, and may be over on a busy machine; each guess that is looked at doubles it.
        _, head, _ = eventually(lambda: (a := ask(driver.port, me + basic("ann", "guess")))[0] == 429 and a, "a guess that is slowed down")
        assert 1 <= int(field(head, "retry-after")) <= 60, head
        assert ask(driver.port, me + basic("ann"))[0] == 200, "that login is remembered"
        assert ask(driver.port, you + basic("ann", "wrong"))[0] == 401, "another address is not slowed down"
        for text, mode, says in ((f"ann:{hashed()}\n", 0o644, "chmod 600"), ("ann:secret\n", 0o600, "a password in plain text"),
                                 ("ann:$apr1$abc$def\n", 0o600, "MD5"), ("ann:$2y$05$" + "a" * 53 + "\n", 0o600, "cost below 10"),
                                 ("", 0o600, "has no user"), ("ann\n", 0o600, "a line is NAME:HASH")):
            os.unlink(users)
            status, _out, err = command("expose", "3000", "--basic-auth", write(users, text, mode))
            assert status in (1, 2, 3) and says in err and "secret" not in err and "$apr1$abc" not in err, (text, err)


@case("visitors by address: as the kit names them, and as a trusted edge does; what others write there does not count")
def _():
    with Service(http_handler(echo)) as web, Tunnel("--max-sessions", "32") as t:
        rows = [
            (["--allow-ip", "127.0.0.1"], "", 200), (["--allow-ip", "10.0.0.0/8"], "", 403),
            (["--deny-ip", "127.0.0.0/8"], "", 403), (["--deny-ip", "10.0.0.0/8,::1"], "", 200),
            (["--allow-ip", "203.0.113.0/24"], "X-Forwarded-For: 203.0.113.9\r\n", 403),
            (["--allow-ip", "203.0.113.0/24", "--trusted-edge", "127.0.0.1"], "X-Forwarded-For: 10.1.1.1, 203.0.113.9\r\n", 200),
            (["--allow-ip", "203.0.113.0/24", "--trusted-edge", "127.0.0.1"], "X-Forwarded-For: 203.0.113.9, 10.1.1.1\r\n", 403),
            (["--deny-ip", "203.0.113.9", "--trusted-edge", "127.0.0.1"], "X-Forwarded-For: 203.0.113.9:4711\r\n", 403),
            (["--deny-ip", "203.0.113.9", "--trusted-edge", "127.0.0.1"], "", 403),
            (["--deny-ip", "203.0.113.9", "--trusted-edge", "127.0.0.1"], "X-Forwarded-For: who?\r\n", 403)]
        for args, fields, status in rows:
            driver = t.expose(f"0={web.port}", *args)
            got, head, _ = ask(driver.port, fields)
            assert got == status and (status == 200 or field(head, "x-hoody-tunnel") == "error=visitor-denied"), (args, fields, head)
            event = eventually(lambda d=driver: d.events("request"), "the event")[0]
            assert event["status"] == status, event


@case("pages of one's own for what the driver answers itself, escaped, by Accept; and for a service that is down")
def _():
    with Folder() as folder, Tunnel() as t:
        page = write(folder.join("sorry.html"), "<title>{status} {title}</title>{code}|{message}|{other}")
        other = write(folder.join("denied.json"), '{"why": "{code}", "text": "{message}"}')
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            port = reserved.getsockname()[1]
        driver = t.expose(f"0={port}", "--error-page", page, "--error-page", f"403={other}")
        _, head, body = ask(driver.port, "Accept: text/html\r\n")
        assert head.startswith("HTTP/1.1 502 ") and body.startswith("<title>502 Bad Gateway</title>origin-refused|the local service"), body
        assert body.endswith("|{other}") and field(head, "content-type") == "text/html; charset=utf-8", head
        assert ask(driver.port, "Accept: text/html\r\n", method="HEAD")[2] == ""
        assert ask(driver.port)[2].startswith("the local service is not running"), "text is the kit's"
        event = eventually(lambda: driver.events("request"), "the event")[0]
        assert event["status"] == 502 and "cannot connect" in event["error"] and event["resetCode"] == 0, event
        denied = t.expose(f"0={port}", "--deny-ip", "127.0.0.1", "--error-page", page, "--error-page", f"403={other}")
        _, head, body = ask(denied.port, "Accept: application/json\r\n")
        assert head.startswith("HTTP/1.1 403 ") and json.loads(body)["why"] == "visitor-denied", body
        write(page, "another {status}")
        os.kill(denied.pid, signal.SIGHUP)
        eventually(lambda: ask(denied.port, "Accept: text/html\r\n")[2] == "another 403", "the new page")


if __name__ == "__main__":
    main()
