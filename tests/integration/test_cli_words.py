"""What a newcomer types: the words and spellings of other tools, what is missing, and what he is told then.

Runs: plain.
"""

import ctypes
import json
import os
import re
import shlex
import shutil
import signal

from tests.integration.harness import BIN, ROOT, Driver, Folder, Program, Tunnel, command, connect, free_port, http_service, run
from tests.support.tap import case, main


def hello(_head, _body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


NOBODY = ("--url", "127.0.0.1:1")


@case("names with letters beyond ASCII are refused, with the A-label where libidn2 is there; a driver's name can be none")
def _():
    try:
        ctypes.CDLL("libidn2.so.0")
        told = ("written as A-labels: {}", "written as A-labels: {}")
    except OSError:
        told = ("must be written as an A-label", "must be written as an A-label")
    with Folder() as folder:
        path = folder.join("t.yaml")
        for typed, right in (("b\u00fccher.example", "xn--bcher-kva.example"), ("B\u00dcCHER.example", "xn--bcher-kva.example"),
                             ("stra\u00dfe.example", "xn--strae-oqa.example"), ("\u65e5\u672c.b\u00fccher", "xn--wgv71a.xn--bcher-kva")):
            status, out, err = command("expose", "3000", "--hostname", typed, *NOBODY)
            assert status == 2 and not out and told[0].format(right) in err, (typed, err)
            with open(path, "w", encoding="utf-8") as f:
                f.write(f"url: 127.0.0.1:1\nexpose:\n  - {{target: 3000, name: {typed.split('.')[0]}, hostname: {typed}}}\n")
            status, out, err = command("config", "check", "-f", path)
            assert status == 3 and told[1].format(right) + "\n" in err + "\n" and f'name: "' in err, (typed, status, err, out)
        for typed in ("b\u00fccher..example", "b\u00fccher." + 70 * "\u00fc", "\ufffe.example"):
            status, _, err = command("expose", "3000", "--hostname", typed, *NOBODY)
            assert status == 2 and ("A-label (xn--...)" in err or "empty" in err), (typed, err)
    status, _, err = command("expose", "3000", "--name", "b\u00fccher", *NOBODY)
    assert status == 2 and "; write b-cher" in err, err


@case("two ports with a colon, as docker and ssh write them, are refused before anything is sent")
def _():
    for tool in ("expose", "pull"):
        for text, right in (("8080:3000", "8080=3000"), ("80:3000", "80=3000"), ("8080:localhost:3000", "8080=localhost:3000"),
                            ("0:[::1]:3000", "0=[::1]:3000")):
            status, out, err = command(tool, text, *NOBODY)
            assert status == 2 and not out and f'"{text}": write {right} for port' in err, (tool, text, status, err)
        for text in ("9=8080:3000", "127.1:3000", "256.0.0.1:80", "http://8080:3000"):
            status, _out, err = command(tool, text, *NOBODY)
            assert status == 2 and "cannot connect" not in err, (tool, text, status, err)
    with Folder() as folder:
        path = folder.join("t.yaml")
        with open(path, "w", encoding="ascii") as f:
            f.write("url: 127.0.0.1:1\nexpose:\n  - 8080:3000\n  - target: 80:3000\n")
        for words in (["up"], ["config", "check"]):
            status, _out, err = command(*words, "-f", path)
            assert status == 3, (words, status, err)
            first, second = err.splitlines()
            assert first.startswith(f"{path}:3:5: error: ") and "write 8080=3000" in first, first
            assert second.startswith(f"{path}:4:13: error: ") and "write target: 3000, and port: 80" in second, second


@case("a port alone is no kit: --url 8050 does not leave this machine")
def _():
    for text in ("8050", ":8050", "http://8050"):
        status, _out, err = command("list", "--url", text)
        assert status == 2 and "127.0.0.1:8050" in err, (text, status, err)


@case("expose http://localhost:PORT works; a URL that cannot work is refused with what is possible")
def _():
    with Tunnel() as t, http_service(hello) as web:
        driver = t.expose(f"0=http://127.0.0.1:{web.port}/")
        assert driver.bound[0]["target"] == f"127.0.0.1:{web.port}", driver.bound
        with connect(driver.port) as c:
            c.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert c.recv(100).startswith(b"HTTP/1.1 200")
    for text, right in (("tls://localhost:3443", "write https://localhost:3443"), ("http://localhost:3000/app", "write localhost:3000"),
                        ("tcp://localhost:5432", "write localhost:5432"), ("http://me:s3cret@localhost:3000", "contains a user name")):
        status, _out, err = command("expose", text, *NOBODY)
        assert status == 2 and right in err and "s3cret" not in err, (text, status, err)


@case("a word is enough: a target in the place of a command is exposed, with tcp behind it pulled; alone the program helps")
def _():
    for words in ([], ["--help"]):
        status, out, err = command(*words)
        assert status == 0 and not err and out.startswith("Usage: hoody-tunnel COMMAND"), (status, out, err)
        assert re.search(r"hoody-tunnel TARGET\.\.\. +is hoody-tunnel expose TARGET", out) and "tcp" in out, out
    with Tunnel() as t, http_service(hello) as web:
        port = free_port()
        for words, kind in (([f"{port}=localhost:{web.port}"], "http"), ([f"{port}={web.port}", "http"], "http"),
                            ([f"{port}={web.port}", "tcp"], "tcp")):
            driver = Driver(t.kit, *words)
            assert driver.bound[0]["kind"] == kind and driver.port == port, driver.bound
            with connect(driver.port) as c:
                c.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert c.recv(100).startswith(b"HTTP/1.1 200")
            assert driver.end(signal.SIGINT) == 0


@case("words of other tools get a hint, and nothing is opened")
def _():
    for words, right in ((["http", "3000"], "`hoody-tunnel expose 3000`"), (["tcp", "5432"], "`hoody-tunnel pull 5432`"),
                         (["client"], "`hoody-tunnel expose 3000`"), (["ps"], "`hoody-tunnel status`"),
                         (["authtoken", "x"], "`hoody-tunnel login URL`"),
                         (["server"], "`hoody-tunnel serve`"), (["udp", "53"], "UDP is not carried"),
                         (["8080:3000"], "write 8080=3000"), (["3000", "udp"], "UDP is not carried"), (["3000", "tls"], "`hoody-tunnel pull 5432`"),
                         (["expose", "-p", "8080", "3000"], "`hoody-tunnel expose 8080=3000`"),
                         (["expose", "-p8080", "3000"], "left of a ="), (["pull", "--port=80", "1"], "left of a ="),
                         (["serve", "-p", "80"], "--listen"), (["list", "--server", "x"], "--url"), (["up", "-c", "x"], "-f or --file"),
                         (["expose", "3000", "-k"], "--ca"), (["expose", "3000", "-v"], "--log-level debug"),
                         (["completion", "csh"], "bash, zsh and fish")):
        status, out, err = command(*words)
        assert status == 2 and not out and right in err, (words, status, out, err)


@case("a name that URLs cannot begin with is refused with the right one, by option, variable and file; another is kept for the machine")
def _():
    for words, env in ((["expose", "9", "--name", "My App"], {}), (["pull", "9"], {"HOODY_TUNNEL_NAME": "my_app"}), (["9", "--name", "-my-app"], {})):
        status, out, err = command(*words, *NOBODY, env=env)
        assert status == 2 and not out and "write my-app" in err and "cannot connect" not in err, (words, status, err)
    with Folder() as folder, http_service(hello) as web:
        with open(folder.join("t.yaml"), "w", encoding="ascii") as f:
            f.write("url: 127.0.0.1:1\nname: My_App\nexpose: [9]\n")
        status, _out, err = command("config", "check", "-f", folder.join("t.yaml"))
        assert status == 3 and err.startswith(folder.join("t.yaml") + ":2:7: error: name: ") and "write my-app" in err, err
        status, out, err = command("config", "check", "-f", "-", "--name", "mine", "--json", input="url: 127.0.0.1:1\nname: theirs\nexpose: [9]\n")
        assert status == 0 and json.loads(out)["name"] == "mine", (status, out, err)
        env = {"XDG_STATE_HOME": folder.path}
        for _ in range(2):
            assert command("expose", str(web.port), *NOBODY, "--retry-for", "0", env=env)[0] == 6
        kept = [name for name in os.listdir(folder.join("hoody-tunnel")) if name.startswith("name-")]
        assert len(kept) == 1 and os.stat(folder.join("hoody-tunnel", kept[0])).st_mode & 0o777 == 0o600, kept
        status, _out, err = command("expose", "9", *NOBODY, "--retry-for", "0", env={"XDG_STATE_HOME": "/dev/null"})
        assert status == 6 and "name could not be kept" in err and "--name" in err, err


@case("a name that somebody else has is an error that says what to do, and never another name; the own one is had twice")
def _():
    with Tunnel("--public", "127.0.0.1:0", "--domain", "tunnel.localhost") as t, Folder() as folder:
        t.expose("0=9", "--name", "shop")
        stranger = {"XDG_STATE_HOME": folder.path}
        for words in (["expose", "0=9", "--json"], ["0=9"]):
            status, out, err = command(*words, "--name", "shop", "--url", t.kit.url, env=stranger)
            assert status == 5 and "NAME_IN_USE" in err and "--name gives this machine another one" in err and '"bound"' not in out, (status, out, err)
        second = t.expose("0=9", "--name", "shop")
        assert f"//shop-{second.port}.tunnel.localhost:" in second.bound[0]["publicUrl"], second.bound
        t.expose("0=9", "--name", "shop-2", env=stranger)
        # Each URL is told: the own domain first, in JSON, in lines, and by status.
        third = t.expose("0=9", "--name", "shop", "--hostname", "app.example.org").bound[0]
        urls = third["urls"].split(",")
        assert len(urls) == 2 and urls[0] == third["publicUrl"] and urls[0].startswith("http://app.example.org:"), third
        assert urls[1].startswith(f"http://shop-{third['containerPort']}.tunnel.localhost:"), third
        lines = Program([BIN, "0=9", "--name", "shop", "--hostname", "www.example.org", "--url", t.kit.url])
        lines.wait_line(r"http://www\.example\.org:\d+ -> 127\.0\.0\.1:9$")
        lines.wait_line(r"^ +also http://shop-\d+\.tunnel\.localhost:\d+$")
        assert lines.end(signal.SIGINT) == 0
        assert urls[0] in command("status", "--url", t.kit.url)[1]


@case("version and completion SHELL: what --version says, and the files that make install puts in place")
def _():
    status, out, _err = command("version")
    assert status == 0 and out == command("--version")[1], out
    for shell in ("bash", "zsh", "fish"):
        status, out, _err = command("completion", shell)
        with open(os.path.join(ROOT, os.environ.get("W", "build"), "gen", f"completion.{shell}"), encoding="utf-8") as f:
            assert status == 0 and out == f.read(), shell


@case("a path of --url is a prefix of the protocol's own, for the tunnel and for the kit's API")
def _():
    seen = []

    def edge(head, _body):
        seen.append(head.split()[1])
        return b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    with http_service(edge) as web:
        base = f"http://127.0.0.1:{web.port}"
        for path, connect_path in (("/team/a", "/team/a/api/v1/tunnel/connect"), ("/team/a/", "/team/a/api/v1/tunnel/connect"),
                                   ("/team/a/api/v1/tunnel", "/team/a/api/v1/tunnel/connect"), ("/own/connect", "/own/connect"),
                                   ("/team?key=1", "/team/api/v1/tunnel/connect?key=1")):
            assert command("expose", "1", "--url", base + path, "--retry-for", "0")[0] != 0
            assert seen.pop() == connect_path and not seen, (path, seen)
        for path, api in (("/team/a", "/team/a/api/v1/tunnel/tunnels"), ("/team/api/v1/tunnel/connect", "/team/api/v1/tunnel/tunnels"),
                          ("/own/connect", "/own/tunnels")):
            assert command("list", "--url", base + path)[0] == 1
            assert seen.pop() == api and not seen, (path, seen)
        assert command("ready", "--url", base + "/team/a")[0] == 1
        assert seen == ["/team/a/readyz"], seen


@case("a byte order mark at the beginning of the file or of the token file is skipped")
def _():
    with Folder() as folder, Tunnel(env={"HOODY_TUNNEL_TOKEN": "s3cret"}) as t:
        t.kit.get = lambda path: json.loads(t.kit.request("GET", path, {"Authorization": "Bearer s3cret"})[1])
        for name, text in (("t.yaml", f"url: {t.kit.url}\r\ntoken-file: token\r\nexpose: ['0=9']\r\n"), ("token", "s3cret\r\n")):
            with open(folder.join(name), "w", encoding="utf-8-sig", newline="") as f:
                f.write(text)
        status, out, err = command("config", "check", "-f", folder.join("t.yaml"))
        assert status == 0 and "is good" in out, (status, out, err)
        assert command("list", "--url", t.kit.url, "--token-file", folder.join("token"))[0] == 0


@case("every command recognises a server that is no kit, even when it answers 200")
def _():
    for kind, body in ((b"application/json", b'{"status":"ok"}'), (b"application/json", b"{}"), (b"text/html", b"<html>hello</html>")):
        def foreign(_head, _body, kind=kind, body=body):
            return b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (kind, len(body), body)

        with http_service(foreign) as web:
            for words in (["list"], ["sessions", "list"], ["bindings", "list"], ["health"], ["ready"], ["metrics"], ["sessions", "kill", "S-1"]):
                for more in ([], ["--json"]):
                    status, out, err = command(*words, *more, "--url", f"127.0.0.1:{web.port}")
                    assert status == 1 and not out and "not a kit" in err, (words, more, body, status, out, err)


@case("what is missing or refused is named with the option that mends it: no URL, no token, a full kit, a port too many")
def _():
    for words in (["expose", "9"], ["pull", "9"], ["list"], ["health"], ["ready"]):
        _status, _out, err = command(*words, env={"HOODY_TUNNEL_URL": ""})
        assert "--url or HOODY_TUNNEL_URL" in err, (words, err)
        _status, _out, err = command(*words, *NOBODY)
        assert "HOODY_TUNNEL_URL" not in err, (words, err)
    with Tunnel("--max-bindings-per-session", "2", "--max-sessions", "1") as t:
        status, _out, err = command("expose", "0=9", "0=9", "0=9", "--url", t.kit.url)
        assert status == 5 and "--max-bindings-per-session" in err and " 2 " in err, (status, err)
        t.expose("0=9")
        status, _out, err = command("expose", "0=9", "--url", t.kit.url, "--retry-for", "0")
        assert status == 6 and err.count("--max-sessions") == 1 and ": 1 sessions" in err, (status, err)
    with Tunnel(env={"HOODY_TUNNEL_TOKEN": "s3cret"}) as t:
        t.kit.get = lambda path: json.loads(t.kit.request("GET", path, {"Authorization": "Bearer s3cret"})[1])
        for words in (["expose", "9"], ["list"], ["events"]):
            status, _out, err = command(*words, "--url", t.kit.url)
            assert status == 4 and "--token-file or HOODY_TUNNEL_TOKEN" in err, (words, status, err)
            status, _out, err = command(*words, "--url", t.kit.url, env={"HOODY_TUNNEL_TOKEN": "wrong"})
            assert status == 4 and "refused the token" in err and "gives one" not in err, (words, status, err)


@case("the README's lines can be pasted into bash and into zsh, and are commands that exist")
def _():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        blocks = re.findall(r"^```\n(.*?)^```", f.read(), re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith(("hoody-tunnel ", "make ", "export "))]
    assert len(lines) > 10, lines
    for line in lines:
        assert " #" not in line, line  # zsh takes no comments on its prompt
        words = shlex.split(line)
        for shell in ("bash", "zsh"):
            if not shutil.which(shell):
                continue
            # Prompts have neither of these by default; -i reads no file with these.
            argv = [shell, *(["-f"] if shell == "zsh" else ["--norc", "--noprofile"]), "-i", "-c",
                    "hoody-tunnel() { printf '%s\\n' hoody-tunnel \"$@\"; }; make() { printf '%s\\n' make \"$@\"; }; " + line]
            if words[0] != "export":
                assert run(argv, cwd="/").splitlines() == words, (shell, line)
        if words[0] == "hoody-tunnel":
            assert command(*words[1:3], "--help")[0] == 0 or command(words[1], "--help")[0] == 0, line


if __name__ == "__main__":
    main()
