"""`up` and `config check` with real files, kits and services."""

import json
import os
import signal
import stat
import subprocess

from gen import options
from tests.integration.harness import (BIN, ROOT, Folder, Kit, Program, Service, Tunnel, command, connect, eventually, free_port, http_service,
                                       read_head)
from tests.support.tap import case, main


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def hello(head, _body):
    name = head.split()[1].encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name)


def fetch(port, path):
    with connect(port) as c:
        c.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        head, body = read_head(c)
        while more := c.recv(65536):
            body += more
        return head.split(b" ", 2)[1], body


@case("up: eight bindings of both kinds from one file, a token from beside it, every port answers")
def _():
    def echo(connection):
        while data := connection.recv(65536):
            connection.sendall(data)

    with Folder() as folder, Tunnel(env={"HOODY_TUNNEL_TOKEN": "s3cret"}) as t, http_service(hello) as web, Service(echo) as tcp:
        t.kit.get = lambda path: json.loads(t.kit.request("GET", path, {"Authorization": "Bearer s3cret"})[1])
        os.mkdir(folder.join("conf"))
        write(folder.join("conf", "token"), "s3cret\n")
        os.chmod(folder.join("conf", "token"), 0o600)
        fixed = free_port()
        path = write(folder.join("conf", "tunnel.yaml"),
                     f"url: {t.kit.url}\ntoken-file: token\nurl-file: urls\nexpose:\n"
                     f"  - target: {web.port}\n    port: {fixed}\n    label: web\n" + f"  - 0={web.port}\n" * 4 +
                     f"pull:\n  - {{target: 'localhost:{tcp.port}', port: 0, label: database}}\n" + f"  - 0={tcp.port}\n" * 2)
        driver = Program([BIN, "up", "--json", "-f", path])
        try:
            bound = [json.loads(driver.wait_line(r'^\{.*"event":"bound".*\}$').group(0)) for _ in range(8)]
            assert bound[0]["containerPort"] == fixed, bound
            assert [b["kind"] for b in bound] == ["http"] * 5 + ["tcp"] * 3, bound
            for i, b in enumerate(bound):
                if b["kind"] == "http":
                    assert fetch(b["containerPort"], f"/{i}") == (b"200", b"/%d" % i)
                else:
                    with connect(b["containerPort"]) as c:
                        c.sendall(b"hello")
                        assert c.recv(5) == b"hello"
            eventually(lambda: os.path.exists(folder.join("conf", "urls")), "the file with the URLs")
            with open(folder.join("conf", "urls"), encoding="ascii") as f:
                assert f.read().splitlines() == [b["url"] for b in bound]
            assert len(t.kit.get("/bindings")["bindings"]) == 8
        finally:
            assert driver.end(signal.SIGINT) == 0, driver.text()
            driver.check_sanitizers()
        assert sorted(os.listdir(folder.join("conf"))) == ["token", "tunnel.yaml", "urls"]


@case("up: one binding that the kit refuses ends it with 5 and leaves nothing; no kit is 6; a bad file is 3")
def _():
    with Folder() as folder, Tunnel() as t:
        path = write(folder.join("a.yaml"), f"url: {t.kit.url}\nexpose: [0={free_port()}]\npull: [{{target: 1, port: 50}}]\n")
        status, out, err = command("up", "-f", path)
        assert status == 5 and "RESERVED_PORT" in err, (status, out, err)
        eventually(lambda: t.kit.get("/tunnels")["totalBindings"] == 0, "no binding is left")
        status, out, err = command("up", "-f", path, "--url", f"127.0.0.1:{free_port()}")
        assert status == 6 and "refused" in err, (status, out, err)
        status, out, err = command("up", "-f", path, env={"HOODY_TUNNEL_URL": "gopher://x"})
        assert status == 2 and "scheme" in err, (status, out, err)
        status, out, err = command("up", "-f", write(folder.join("b.yaml"), "expose: [1]\nulr: x\n"))
        assert status == 3 and err == f"{folder.join('b.yaml')}:2:1: error: unknown key ulr; did you mean url?\n", err
        status, out, err = command("up", "-f", folder.join("none.yaml"))
        assert status == 3 and "No such file" in err, err
        status, out, err = command("up", cwd=folder.path)
        assert status == 3 and "hoody-tunnel.yaml cannot be opened" in err, err


@case("config check: a good file says what would be done, as text and as JSON; the example of the manual is good")
def _():
    example = options.load(os.path.join(ROOT, "spec"))["config"]["example"]
    with Folder() as folder:
        path = write(folder.join("hoody-tunnel.yaml"), example)
        status, out, err = command("config", "check", cwd=folder.path)
        assert status == 0 and not err, err
        for line in ("kit      wss://kit.example  (the file)", "retries  for 600 s, at the start too", "token    none",
                     "expose   port 8080 -> 127.0.0.1:3000  (web), taken from whoever holds it",
                     "expose   port 9090 -> api.local:90", "pull     port 5432 -> localhost:5432  (database)"):
            assert line in out.splitlines(), (line, out)
        status, out, err = command("config", "check", "-f", path, "--json", "--url", "ws://elsewhere")
        plan = json.loads(out)
        assert plan["ok"] and plan["url"] == "ws://elsewhere" and len(plan["bindings"]) == 4, plan
        assert plan["bindings"][0] == {"mode": "expose", "containerPort": 8080, "names": None, "target": "3000", "tls": False,
                                       "insecure": False, "label": "web", "takeover": True}, plan


@case("config check: every mistake, also those that only the system knows, as FILE:LINE:COLUMN and as JSON")
def _():
    with Folder() as folder:
        path = write(folder.join("bad.yaml"), "url: wss://a\nca: nope.pem\ntoken-file: nope\nheaders:\n  Host: x\n  X-Ok: s3cret\nexpose: [1]\n")
        status, out, err = command("config", "check", "-f", path)
        assert status == 3 and not out and "s3cret" not in err, (status, out, err)
        rows = err.splitlines()
        assert [row.split(":")[1:3] for row in rows] == [["2", "5"], ["3", "13"], ["5", "3"]], rows
        assert all("No such file" in row for row in rows[:2]), rows
        assert all(row.startswith(f"{path}:") and ": error: " in row for row in rows), rows
        status, out, err = command("config", "check", "-f", path, "--json")
        said = json.loads(out)
        assert status == 3 and not said["ok"] and [e["line"] for e in said["errors"]] == [2, 3, 5] and not err, (out, err)
        os.chmod(write(folder.join("t"), "x\n"), stat.S_IRUSR | stat.S_IWUSR)
        write(path, "token-file: t\nexpose: [1]\n")
        assert command("config", "check", "-f", path)[0] == 0


@case("--json: every event has the members that the specification declares, in that order")
def _():
    declared = {e["name"]: ["event", "time", *(m["name"] for m in e["members"])] for e in options.load(os.path.join(ROOT, "spec"))["events"]}
    seen = set()

    def check(program):
        for line in program.log:
            if line.startswith("out: "):
                event = json.loads(line[5:])
                assert list(event) == declared[event["event"]], (event, declared[event["event"]])
                seen.add(event["event"])

    port = free_port()
    kit = Kit("--listen", f"127.0.0.1:{port}")
    with http_service(hello) as web, Service(lambda c: c.sendall(b"x")) as tcp:
        driver = Program([BIN, "up", "--json", "-f", "-", "--url", kit.url], stdin=subprocess.PIPE)
        driver.process.stdin.write(f"inspect: 0\nexpose: [0={web.port}]\npull: [0={tcp.port}]\n".encode())
        driver.process.stdin.close()
        ports = [json.loads(driver.wait_line('"event":"bound"').string)["containerPort"] for _ in range(2)]
        assert fetch(ports[0], "/x") == (b"200", b"/x")
        with connect(ports[1]) as c:
            assert c.recv(1) == b"x"
        driver.wait_line('"event":"connection"')
        taker = Program([BIN, "expose", "--json", "--takeover", f"{ports[0]}=9", "--url", kit.url])
        driver.wait_line('"event":"unbound"')
        assert kit.end(signal.SIGKILL) == -signal.SIGKILL
        taker.wait_line('"event":"retrying"')
        kit = Kit("--listen", f"127.0.0.1:{port}")
        taker.process.send_signal(signal.SIGHUP)
        taker.wait_line('"event":"connected"')
        refused = Program([BIN, "pull", "--json", "1=1", "--url", kit.url])
        assert refused.process.wait(20) == 5
        for program in (driver, taker, refused):
            program.end(signal.SIGINT)
            program.check_sanitizers()
            check(program)
        assert kit.end() == 0
    # What is decided about requests is in test_audit.py.
    assert seen == set(declared) - {"audit", "audit_gap", "edge_change"}, set(declared) - seen


@case("more entries than the kit gives a session are one error, before a port changes hands")
def _():
    entries = [free_port() for _ in range(15)]
    with Folder() as folder, Tunnel() as t:
        holder = t.expose(f"{entries[0]}=9")
        path = write(folder.join("a.yaml"), "expose:\n" + "".join(f"  - {{port: {p}, target: 9, takeover: true}}\n" for p in entries))
        for more in ([], ["--json"]):
            status, out, err = command("up", "-f", path, "--url", t.kit.url, *more)
            assert status == 5, (status, err)
            assert err.count("\n") == 1 and "15 ports" in err and " 8 " in err and "--max-bindings-per-session" in err, err
            assert "bound" not in out, out
        assert holder.process.poll() is None and t.kit.metric("hoody_tunnel_takeovers_total") == 0
        assert t.kit.get("/tunnels")["totalBindings"] == 1
        assert t.kit.get("/tunnels")["orphanedSessions"] == 0


@case("headers of the arguments and of the file reach the edge; the process list does not show what they say")
def _():
    seen = []

    def edge(connection):
        seen.append(read_head(connection)[0].decode())
        connection.sendall(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with Folder() as folder, Service(edge) as service:
        url = f"ws://127.0.0.1:{service.port}"
        path = write(folder.join("a.yaml"), f"url: {url}\nheaders: {{X-File: from file}}\nexpose: [1]\n")
        status, _out, err = command("up", "-f", path, "--header", "X-Argument: from argument")
        assert status == 4, err
        assert "x-file: from file" in seen[0].lower() and "x-argument: from argument" in seen[0].lower(), seen
        assert command("expose", "1", "--url", url, "--header", "X-A: 1", "--header=X-B: 2")[0] == 4
        assert "X-A: 1\r\nX-B: 2" in seen[1], seen
        for bad in ("Host: x", "no colon", "a b: c"):
            status, _out, err = command("expose", "1", "--url", url, "--header", bad)
            assert status == 2 and "header" in err, (status, err)
    with Tunnel() as t:
        driver = t.expose(f"0={free_port()}", "--header", "X-A: s3cret", "--header=X-B: s3cret2")
        with open(f"/proc/{driver.pid}/cmdline", "rb") as f:
            words = f.read()
        assert b"X-A:" in words and b"X-B:" in words and b"s3cret" not in words, words


if __name__ == "__main__":
    main()
