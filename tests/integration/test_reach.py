"""`reach`, and the name of a pulled host: what is registered, shown, refused and explained."""

import json
import re
import signal
import subprocess

from tests.integration.harness import BIN, Folder, Program, Tunnel, command, connect, eventually, http_service
from tests.support.tap import case, main

WITH_PROXY = ("--connect-proxy", "127.0.0.1:0")


def proxy_of(t):
    return t.kit.get("/proxy")["address"]


def ask(t, url):
    """(status, body) of a request through the proxy's CONNECT; status 0: no way was made."""
    done = subprocess.run(["curl", "-sS", "-p", "-x", f"http://{proxy_of(t)}", "-w", "\n%{http_code}", url], capture_output=True, text=True,
                          timeout=60, check=False)
    body, status = done.stdout.rsplit("\n", 1)
    return int(status), body


def service():
    return http_service(lambda head, body: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@case("reach takes no port: names are registered, told with the proxy's address, lead where they say, and are given back")
def _():
    with Tunnel(*WITH_PROXY) as t, service() as s:
        driver = t.reach("GitLab.example.com.", "*.corp.example:443", f"myapi.test:80=127.0.0.1:{s.port}", bindings=3)
        assert driver.events("connected")[0]["proxy"] == proxy_of(t)
        got = [(b["containerPort"], b["names"], b["url"]) for b in driver.bound]
        assert got == [(0, "gitlab.example.com", None), (0, "*.corp.example:443", None), (0, "myapi.test:80", None)], got
        assert ask(t, "http://myapi.test/") == (200, "ok")
        event = eventually(lambda: driver.events("connection"), "the event")[0]
        assert event["authority"] == "myapi.test:80" and event["error"] is None, event
        assert driver.end(signal.SIGINT) == 0
        assert ask(t, "http://myapi.test/")[0] == 0


@case("lines for people: what to do in the container, once, and a line for each name")
def _():
    with Tunnel(*WITH_PROXY) as t:
        program = Program([BIN, "reach", "--url", t.kit.url, "gitlab.example.com", "myapi.test:80=127.0.0.1:8080"])
        program.wait_line(r"^myapi\.test:80 -> 127\.0\.0\.1:8080$")
        text = program.text()
        assert re.search(rf'in the container: eval "\$\(hoody-tunnel env\)", or export HTTPS_PROXY=http://{proxy_of(t)}$', text, re.M), text
        assert re.search(r"^(out: )?gitlab\.example\.com -> by name, from this machine$", text, re.M), text
        assert program.end() == 0


@case("pull registers its host's name by itself; this machine, addresses and tls:// targets have none")
def _():
    with Tunnel(*WITH_PROXY) as t:
        driver = t.pull("0=GitLab.example.com:443", "0=127.0.0.1:5432", "0=[::1]:5432", "0=10.0.0.1:22", "0=localhost:1", "0=5432", bindings=6)
        assert [b["names"] for b in driver.bound] == ["gitlab.example.com:443", *[None] * 5], driver.bound
        # A name that somebody has already costs nobody his port.
        other = t.pull("0=gitlab.example.com:443", "--log-level", "debug", env={"XDG_STATE_HOME": "/nonexistent"})
        assert other.bound[0]["names"] is None and other.port > 0, other.bound
        eventually(lambda: "is reached by its port alone" in other.text(), "why")
        assert driver.end(signal.SIGINT) == 0
        again = t.pull("0=gitlab.example.com:443")
        assert again.bound[0]["names"] == "gitlab.example.com:443"
    with Tunnel() as t, service() as s:
        driver = t.pull(f"0=localhost:{s.port}", "0=gitlab.example.com:443", bindings=2)
        with connect(driver.port) as c:
            c.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert c.recv(15) == b"HTTP/1.1 200 OK"
        assert "warn" not in driver.text(), driver.text()


@case("a kit without a proxy, and a name that another session has: told, with exit status 5")
def _():
    with Tunnel() as t:
        for args in ([], ["--json"]):
            status, _, said = command("reach", "--url", t.kit.url, "gitlab.example.com", *args)
            assert status == 5 and "the kit has no proxy" in said and "--connect-proxy 127.0.0.1:9090" in said, said
    with Tunnel(*WITH_PROXY) as t:
        t.reach("gitlab.example.com:443")
        status, _, said = command("reach", "--url", t.kit.url, "db.example.com:5432", "gitlab.example.com:443",
                                  env={"XDG_STATE_HOME": "/nonexistent"})
        assert status == 5 and "the kit refused the name gitlab.example.com:443: ALREADY_BOUND: " in said, said


@case("what is no name is explained with what would be right")
def _():
    for text, says in (
            ("8080", "`pull 8080` gives it to the container, and `reach myapi.test:80=8080`"),
            ("8083=gitlab.example.com:443", "`reach gitlab.example.com:443` the name"),
            ("https://gitlab.example.com/group/x", "write gitlab.example.com:443"),
            ("http://gitlab.example.com", "write gitlab.example.com:80"),
            ("https://gitlab.example.com:8443=127.0.0.1:1", "write gitlab.example.com:8443=127.0.0.1:1"),
            ("https://me:secret@gitlab.example.com", "contains a user name"),
            ("localhost:3000", "myapi.test:3000=localhost:3000"),
            ("127.0.0.1:3000", "myapi.test:3000=127.0.0.1:3000"),
            ("a..b", "between two dots"),
            ("127.1:80", "which some would read as an address"),
            ("x.example:0", "port"),
            ("x.example=nowhere", "the port is missing"),
            ("x.example=", "empty"),
    ):
        status, _, said = command("reach", text)
        assert status == 2 and says in said and "secret" not in said, (text, status, said)
    status, _, said = command("reach")
    assert status == 2 and "NAME" in said, said
    status, _, said = command("reach", "x.example", "--target-ca", "ca.pem")
    assert status == 2 and "--target-* options" in said, said


@case("the file of up: reach beside expose and pull; config check shows it; what is wrong has its line")
def _():
    with Folder() as folder, Tunnel(*WITH_PROXY) as t:
        path = folder.join("tunnel.yaml")

        def write(text):
            with open(path, "w", encoding="ascii") as f:
                f.write(text)

        write(f"url: {t.kit.url}\nreach:\n  - gitlab.example.com\n  - {{name: 'myapi.test:80', target: '127.0.0.1:8080', label: api}}\n"
              "pull:\n  - 0=db.example.com:5432\n")
        status, out, said = command("config", "check", "-f", path)
        assert status == 0, said
        assert re.search(r"^reach\s+gitlab\.example\.com$", out, re.M), out
        assert re.search(r"^reach\s+myapi\.test:80 -> 127\.0\.0\.1:8080  \(api\)$", out, re.M), out
        assert re.search(r"^pull .* -> db\.example\.com:5432, and by name$", out, re.M), out
        listed = json.loads(command("config", "check", "-f", path, "--json")[1])["bindings"]
        got = sorted((b["mode"], b["names"], b["target"]) for b in listed)
        assert got == [("pull", "db.example.com:5432", "db.example.com:5432"), ("reach", "gitlab.example.com", None),
                       ("reach", "myapi.test:80", "127.0.0.1:8080")], got
        up = Program([BIN, "up", "-f", path, "--json"])
        names = [json.loads(up.wait_line(r'^\{.*"event":\s*"bound".*\}$').group(0))["names"] for _ in range(3)]
        assert sorted(names) == ["db.example.com:5432", "gitlab.example.com", "myapi.test:80"], names
        assert up.end() == 0
        for text, says in (
                ("reach: [8080]", ":1:9: error: \"8080\": a port is not a name"),
                ("reach:\n  - {name: 'https://x.example'}", ":2:12: error: name: \"https://x.example\""),
                ("reach:\n  - {name: x.example, target: nowhere}", ":2:31: error: target: \"nowhere\": the port is missing"),
                ("reach:\n  - {name: x.example=127.0.0.1:1}", ":2:12: error: name: \"x.example=127.0.0.1:1\" has a target in it"),
                ("reach:\n  - {target: '127.0.0.1:1'}", ":2:5: error: name is missing"),
                ("reach:\n  - {name: x.example, ca: ca.pem}", "tls:// targets only"),
        ):
            write(text + "\n")
            status, _, said = command("config", "check", "-f", path)
            assert status == 3 and says in said, (text, status, said)


if __name__ == "__main__":
    main()
