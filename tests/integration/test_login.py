"""login, logout, status: the kits that need not be named each time, who may read them, and what goes before them."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import stat
import subprocess

from tests.integration.harness import BIN, Folder, Kit, Program, command, eventually, hello, http_service, status
from tests.support.tap import case, main

TOKEN = "s3cret-of-the-kit"
NOBODY = "http://127.0.0.1:1"


class Home(Folder):
    """A user's own configuration; `kit` has TOKEN, `other` another one."""

    def __init__(self):
        super().__init__()
        self.env = {"XDG_CONFIG_HOME": self.join("config")}
        self.kits = self.join("config", "hoody-tunnel", "kits")

    def run(self, *args, typed=TOKEN, **more):
        env = {**self.env, **more.pop("env", {})}
        result = command(*args, env=env, input=typed + "\n" if typed else "", **more)
        assert TOKEN not in result[1] + result[2], result
        return result

    def text(self):
        with open(self.kits, encoding="utf-8") as f:
            return f.read()


@contextlib.contextmanager
def kit(token=TOKEN, *args):  # pylint: disable=keyword-arg-before-vararg
    program = Kit(*args, env={"HOODY_TUNNEL_TOKEN": token} if token else None)
    try:
        yield program
        assert program.end() == 0, program.text()
        program.check_sanitizers()
    finally:
        if program.process.poll() is None:
            program.end(signal.SIGKILL)


@case("login stores URL and token for this user alone; then no command names them; what others may read is said")
def _():
    with Home() as home, kit() as k, http_service(hello) as web:
        done = home.run("login", f"http://127.0.0.1:{k.port}")
        assert done[0] == 0 and f"logged in to http://127.0.0.1:{k.port}" in done[1] and home.kits in done[1], done
        assert stat.S_IMODE(os.stat(home.kits).st_mode) == 0o600 and stat.S_IMODE(os.stat(os.path.dirname(home.kits)).st_mode) == 0o700
        assert re.search(rf"^kit http://127.0.0.1:{k.port}\ntoken {TOKEN}\n\Z", home.text(), re.M), home.text()
        for words in (["list"], ["bindings", "list"], ["sessions", "list"], ["metrics"], ["status"], ["health"]):
            assert home.run(*words)[0] == 0, words
        driver = Program([BIN, f"0={web.port}", "--json"], env=home.env)
        port = json.loads(driver.wait_line(r'^\{.*"event":"bound".*\}$').group(0))["containerPort"]
        assert status(port) == 200
        done = home.run("status")
        assert done[0] == 0 and re.search(rf"port {port} +expose +live", done[1]), done
        assert driver.end(signal.SIGINT) == 0, driver.text()
        assert TOKEN not in driver.text() + k.text()
        os.chmod(home.kits, 0o640)
        done = home.run("list")
        assert done[0] == 0 and "chmod 600" in done[2], done


@case("what the kit refuses, and what is no kit, is not stored; a kit that knows no /me, and one without a token, are")
def _():
    with Home() as home, kit() as k, kit(token=None) as open_kit:
        url = f"127.0.0.1:{k.port}"
        for words, typed, code, says in ((["login", url], "wrong", 4, "refused the token"), (["login", url], "", 4, "wants a token"),
                                         (["login", NOBODY], TOKEN, 6, "nothing was stored"), (["login", "ftp://kit"], TOKEN, 2, "scheme"),
                                         (["login", url, "--token", TOKEN], "", 2, "--token is refused"),
                                         (["login", url], "x" * 9000, 3, "more than"), (["login", url, "--ca", "/dev/null/ca.pem"], TOKEN, 3, "--ca")):
            done = home.run(*words, typed=typed)
            assert done[0] == code and says in done[2] and not os.path.exists(home.kits), (words, done)
        for body, code in ((b"{}", 1), (b'{"totalBindings":0}', 0)):
            def older(head, _body, body=body):
                if "/me " in head:
                    return b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
                assert f"Bearer {TOKEN}" in head
                return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

            with http_service(older) as web:
                done = home.run("login", f"127.0.0.1:{web.port}")
                assert done[0] == code and os.path.exists(home.kits) == (code == 0), done
        done = home.run("login", open_kit.url, typed="")
        assert done[0] == 0 and "wants no token" in done[1], done
        assert home.run("list", typed="")[0] == 0


def typing(home, url, keys):
    """(exit status, what the terminal showed) of a login at which `keys` are typed once the terminal shows nothing typed."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(home.env)
        os.execv(BIN, [BIN, "login", url])
    seen = b""
    with contextlib.suppress(OSError):
        while True:
            assert select.select([fd], [], [], 30)[0], seen
            seen += os.read(fd, 4096)
            if keys and b"not shown): " in seen:
                os.write(fd, keys)
                keys = None
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(fd)
    return code, seen.decode()


@case("at a terminal the token is asked for and not shown, only when the kit wants one; Ctrl-C stores nothing")
def _():
    with Home() as home, kit() as k, kit(token=None) as open_kit:
        code, seen = typing(home, k.url, b"\x03")
        assert code == 130 and not os.path.exists(home.kits), (code, seen)
        code, seen = typing(home, k.url, b"wrong\n")
        assert code == 4 and "wrong" not in seen and not os.path.exists(home.kits), (code, seen)
        code, seen = typing(home, k.url, TOKEN.encode() + b"\n")
        assert code == 0 and TOKEN not in seen and f"token {TOKEN}\n" in home.text(), (code, seen)
        code, seen = typing(home, open_kit.url, None)
        assert code == 0 and "Token for" not in seen, (code, seen)


@case("several kits: the last is the default unless --no-default says otherwise; logout forgets one; two that log in at once are both there")
def _():
    def both(_head, _body):
        return b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{"name":"eve"}'

    with Home() as home, http_service(both) as web:
        assert "no kit is stored" in home.run("login")[1] and home.run("logout")[0] == 1
        os.makedirs(os.path.dirname(home.kits))
        with open(home.join("elsewhere"), "w", encoding="ascii"):
            os.symlink(home.join("elsewhere"), home.kits)
        spelled = f"ws://LOCALHOST:{web.port}/api/v1/tunnel/connect"
        for url, more in ((f"http://localhost:{web.port}", []), (f"http://127.0.0.1:{web.port}/team", ["--no-default"]), (spelled, ["--no-default"])):
            done = home.run("login", url, *more)
            assert done[0] == 0 and " as eve" in done[1] and ("another kit is the default" in done[1]) == (url.endswith("team")), done
        assert os.path.islink(home.kits) and home.text().count("\nkit ") == 2 and "ws://LOCALHOST" in home.text(), home.text()
        lines = home.run("login")[1].splitlines()
        assert lines[0].startswith(spelled) and lines[0].rstrip().endswith("default") and "/team" in lines[1] and TOKEN not in lines[1], lines
        assert home.run("logout", f"127.0.0.1:{web.port}")[0] == 1
        done = home.run("logout")
        assert done[0] == 0 and "/team" in home.run("login")[1] and "LOCALHOST" not in home.text(), done
        assert home.run("logout", f"127.0.0.1:{web.port}/team")[0] == 0 and TOKEN not in home.text()
    with Home() as home, http_service(both) as web:
        urls = [f"http://127.0.0.1:{web.port}/{i}" for i in range(6)]
        at_once = [subprocess.Popen([BIN, "login", url], env={**os.environ, **home.env, "HOODY_TUNNEL_TOKEN": f"t-{url[-1]}"},
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for url in urls]
        assert [p.wait(30) for p in at_once] == [0] * 6
        assert all(f"kit {url}\ntoken t-{url[-1]}\n" in home.text() for url in urls), home.text()
        assert os.listdir(os.path.dirname(home.kits)) == ["kits"]


@case("an argument goes before a variable, that before the file, that before login; a stored token goes to its own kit alone")
def _():
    shown = []

    def note(head, _body):
        shown.append(re.search(r"^authorization: bearer (\S+)", head, re.I | re.M))
        return b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 47\r\n\r\n{"name":"eve","sessions":[],"totalBindings":0 }'

    def token():
        found = shown.pop()
        assert not shown, shown
        return found and found.group(1)

    with Home() as home, http_service(note) as web, http_service(note) as other:
        url, foreign = f"http://127.0.0.1:{web.port}", f"http://127.0.0.1:{other.port}"
        assert home.run("login", url)[0] == 0 and token() == TOKEN
        with open(home.join("token"), "w", encoding="ascii") as f:
            f.write("from-a-file\n")
        for words, env, want in (([], {}, TOKEN), (["--url", f"ws://127.0.0.1:{web.port}/"], {}, TOKEN), (["--url", foreign], {}, None),
                                 (["--url", url + "/team"], {}, None), ([], {"HOODY_TUNNEL_URL": foreign}, None),
                                 ([], {"HOODY_TUNNEL_TOKEN": "from-a-variable"}, "from-a-variable"),
                                 (["--token-file", home.join("token")], {"HOODY_TUNNEL_TOKEN": "from-a-variable"}, "from-a-file")):
            done = home.run("list", *words, env=env)
            assert done[0] == 0 and token() == want, (words, env, done)
        files = {"none": "expose: [9]\n", "both": f"url: {foreign}\ntoken-file: token\nexpose: [9]\n", "url": f"url: {url}\nexpose: [9]\n"}
        for name, text in files.items():
            with open(home.join(name), "w", encoding="ascii") as f:
                f.write(text)
        for name, words, env, kit_url, url_from, token_from in (
                ("none", [], {}, url, "login", "login"), ("url", [], {}, url, "the file", "login"), ("both", [], {}, foreign, "the file", "the file"),
                ("both", [], {"HOODY_TUNNEL_URL": "ws://e"}, "ws://e", "HOODY_TUNNEL_URL", "the file"),
                ("both", ["--url", "ws://a"], {"HOODY_TUNNEL_URL": "ws://e", "HOODY_TUNNEL_TOKEN": "x"}, "ws://a", "--url", "HOODY_TUNNEL_TOKEN"),
                ("none", ["--url", foreign], {}, foreign, "--url", None)):
            done = home.run("config", "check", "-f", home.join(name), "--json", *words, env=env)
            got = json.loads(done[1])
            assert (got["url"], got["urlFrom"], got["tokenFrom"]) == (kit_url, url_from, token_from), (name, words, env, got)
        done = home.run("config", "check", "-f", home.join("none"))
        assert f"{url}  (login)" in done[1] and "that before what `hoody-tunnel login` has stored" in done[1], done
        assert "before what" in " ".join(home.run("expose", "--help")[1].split()) and "that before the default kit of `login`" in " ".join(
            home.run("list", "--help")[1].split())
        # One that is damaged is named with its line; where there is no place, nothing is stored, and all else works.
        with open(home.kits, "a", encoding="ascii") as f:
            f.write("tokne x\n")
        done = home.run("list")
        assert done[0] == 3 and f"{home.kits}:4: " in done[2], done
        assert home.run("list", "--url", url, env={"XDG_CONFIG_HOME": "", "HOME": ""})[0] == 0
        done = home.run("login", url, env={"XDG_CONFIG_HOME": "/dev/null"})
        assert done[0] == 3 and "/dev/null" in done[2], done


@case("a pin is checked and stored with the kit, and goes with the stored token; one for another certificate stores nothing")
def _():
    with Home() as home:
        k = Program([BIN, "serve", "--listen", "127.0.0.1:0", "--tls-self-signed"], env={"HOODY_TUNNEL_TOKEN": TOKEN})
        port = k.wait_line(r"listening on https?://127\.0\.0\.1:(\d+)").group(1)
        pin = re.search(r"sha256:[0-9a-fA-F:]+", eventually(lambda: "sha256:" in k.text() and k.text(), "its fingerprint"))[0]
        url = f"https://localhost:{port}"
        for more, code in (([], 6), (["--pin", "sha256:" + "ab" * 32], 6), (["--pin", pin], 0)):
            done = home.run("login", url, *more)
            assert done[0] == code and os.path.exists(home.kits) == (code == 0), (more, done)
        assert f"pin {pin}\n" in home.text() and home.run("list")[0] == 0 and home.run("list", "--url", url)[0] == 0
        assert home.run("list", "--pin", "sha256:" + "ab" * 32)[0] == 6
        assert k.end() == 0, k.text()


@case("status: what is parked ends with 1, as with --json; nothing is open; a token that was replaced is said, and another login mends a driver")
def _():
    with Home() as home, Folder() as folder, http_service(hello) as web:
        path = folder.join("token")

        def write(token):
            with open(path, "w", encoding="ascii") as f:
                f.write(token + "\n")

        write(TOKEN)
        with kit(None, "--token-file", path) as k:
            assert home.run("login", k.url)[0] == 0
            assert "nothing is open" in home.run("status")[1]
            driver = Program([BIN, "expose", f"0={web.port}", "--json", "--label", "shop"], env=home.env)
            port = json.loads(driver.wait_line(r'^\{.*"event":"bound".*\}$').group(0))["containerPort"]
            driver.process.send_signal(signal.SIGSTOP)  # as a laptop that sleeps meanwhile
            write("another")
            k.process.send_signal(signal.SIGHUP)
            k.wait_line("token")
            eventually(lambda: home.run("status")[0] == 4, "the old token is refused")
            done = home.run("status")
            assert "login` has stored" in done[2], done
            assert home.run("login", k.url, typed="another")[0] == 0
            driver.process.send_signal(signal.SIGCONT)
            eventually(lambda: status(port) == 200, "the driver shows the other token")
            driver.end(signal.SIGKILL)
            eventually(lambda: home.run("status")[0] == 1, "what is parked is told")
            done = home.run("status")
            assert re.search(rf"port {port} +expose +parked until .* +shop", done[1]), done
            done = home.run("status", "--json")
            assert done[0] == 1 and json.loads(done[1])["bindings"][0]["parked"] is True, done


if __name__ == "__main__":
    main()
