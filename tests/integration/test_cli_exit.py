"""Exit codes: every code that spec/options.yaml gives a command, by a real run of that command.

Runs: plain.
"""

import json
import os
import signal
import subprocess

from gen import options
from tests.integration.edges import Edge, needs_haproxy
from tests.integration.harness import (BIN, ROOT, SANITIZED, Folder, Kit, Moment, Program, Service, ask_twice,
                                       command, eventually, free_port, hello, http_handler, http_service, insist,
                                       state_of)
from tests.integration.inspected import Inspected
from tests.integration.restarted import RestartedKit
from tests.support.tap import Skip, case, main

MODEL = options.load(os.path.join(ROOT, "spec"))
TUNNELS = ("expose", "pull", "up")
NAMED = "name.test:443"
ADMIN = ("list", "status", "sessions list", "sessions kill", "bindings list", "health", "metrics", "events", "env")


class World:
    """What the runs need: a kit, one with a token, a server that is no kit, a folder with configuration files."""

    def __enter__(self):
        self.folder = Folder()
        self.kit = Kit("--connect-proxy", "127.0.0.1:0", "--vtunnel")
        self.guarded = Kit("--vtunnel", env={"HOODY_TUNNEL_TOKEN": "s3cret"})
        self.broken = http_service(lambda head, body: b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self.nobody = f"127.0.0.1:{free_port()}"
        self.seen = None
        return self

    def inspected(self):
        """A driver with an inspector that has one request."""
        if not self.seen:
            self.service = http_service(hello)
            self.seen = Inspected(self.service.port)
            self.seen.request()
            self.seen.done(1)
        return self.seen

    def __exit__(self, *_):
        self.broken.__exit__()
        if self.seen:
            self.seen.__exit__(None, None, None)
            self.service.__exit__()
        assert self.kit.end() == 0 and self.guarded.end() == 0
        self.folder.__exit__()

    def words(self, name, port="0"):
        """The command with what it cannot do without."""
        if name in ("expose", "pull"):
            return [name, f"{port}=9"]
        if name == "reach":
            return [name, f"{NAMED}=127.0.0.1:9"]
        if name == "vtunnel-client":
            return [name, "-forward", f"{free_port() if port == '0' else port}=9"]
        if name == "up":
            path = self.folder.join(f"{port}.yaml")
            with open(path, "w", encoding="ascii") as f:
                f.write(f"expose: ['{port}=9']\n")
            return ["up", "-f", path]
        return [*name.split(), "S-1"] if name == "sessions kill" else name.split()

    def started(self, name, url, *more):
        """A tunnel that stands."""
        program = Program([BIN, *self.words(name), *to(name, url), *more])
        program.wait_line(" -> ")
        return program


def to(name, url):
    """The option that names the kit."""
    return ["-server" if name == "vtunnel-client" else "--url", url]


def status_of(*args, env=None):
    return command(*args, env=env)[0]


def interrupted(program):
    status = program.end(signal.SIGINT)
    program.check_sanitizers()
    return status


# ---- tunnels ----


def third_interrupt(world, name):
    """A kit that says nothing any more makes the goodbye take its time."""
    kit = Kit("--connect-proxy", "127.0.0.1:0", "--vtunnel")
    program = world.started(name, kit.url)
    kit.process.send_signal(signal.SIGSTOP)
    status = insist(program.process)
    program.end()
    kit.process.send_signal(signal.SIGCONT)
    kit.end()
    return status


def killed(world, name):
    program = world.started(name, world.kit.url)
    session = world.kit.get("/sessions")["sessions"][-1]["sessionId"]
    assert status_of("sessions", "kill", session, "--grace-ms=0", "--url", world.kit.url) == 0
    return program.process.wait(20), program.end()


def refused(world, name):
    """The port cannot be had; the name has somebody already."""
    if name != "reach":
        return status_of(*world.words(name, "1"), *to(name, world.kit.url))
    holder = world.started(name, world.kit.url)
    status = status_of(*world.words(name), *to(name, world.kit.url))
    assert interrupted(holder) == 0
    return status


def tunnel(world, name, code):
    url = to(name, world.kit.url)
    return {
        "ok": lambda: interrupted(world.started(name, world.kit.url)),
        "failure": lambda: third_interrupt(world, name),
        "usage": lambda: status_of(*world.words(name), "--nonsense"),
        "config": lambda: status_of(*world.words(name), *url, "--token-file", "/nonexistent"),
        "auth": lambda: status_of(*world.words(name), *to(name, world.guarded.url)),
        "bind": lambda: refused(world, name),
        "gave_up": lambda: status_of(*world.words(name), *to(name, f"ws://{world.nobody}/")),
        "revoked": lambda: killed(world, name)[0],
    }[code]()


# ---- the kit's API ----


def admin(world, name, code):
    words = world.words(name)
    if code == "ok" and name == "events":
        readers = world.kit.metric("hoody_tunnel_event_readers")
        program = Program([BIN, *words, "--url", world.kit.url])
        eventually(lambda: world.kit.metric("hoody_tunnel_event_readers") > readers, "a reader of events")
        return interrupted(program)
    if code == "ok" and name == "sessions kill":
        program = world.started("expose", world.kit.url)
        words[-1] = world.kit.get("/sessions")["sessions"][-1]["sessionId"]
        status = status_of(*words, "--url", world.kit.url)
        assert program.process.wait(20) == 7  # by itself: a signal of ours could be quicker than the kill
        program.end()
        return status
    return {
        "ok": lambda: status_of(*words, "--url", world.kit.url),
        "failure": lambda: status_of(*words, "--url", f"127.0.0.1:{world.broken.port}"),
        "usage": lambda: status_of(*words, "--timeout", "soon"),
        "config": lambda: status_of(*words, "--url", world.kit.url, "--token-file", "/nonexistent"),
        "auth": lambda: status_of(*words, "--url", world.guarded.url),
        "gave_up": lambda: status_of(*words, "--url", world.nobody),
    }[code]()


# ---- the others ----


def kit(world, _name, code):
    return {
        "ok": lambda: Kit().end(),
        "usage": lambda: status_of("serve", "--max-sessions", "none"),
        "config": lambda: status_of("serve", "--listen", f"127.0.0.1:{world.kit.port}"),
    }[code]()


def demo(_world, _name, code):
    def started():
        program = Program([BIN, "demo"])
        program.wait_line("Requests show up below")
        return program

    return {
        "ok": lambda: interrupted(started()),
        "failure": lambda: status_of("demo", env={"HOODY_TUNNEL_RESERVED_PORTS": "1-65535"}),  # no port to expose on
        "usage": lambda: status_of("demo", "now"),
        "config": lambda: status_of("demo", env={"HOODY_TUNNEL_TOKEN_FILE": "/nonexistent"}),
    }[code]()


def ready(world, _name, code):
    return {
        "ok": lambda: status_of("ready", "--url", world.guarded.url),  # needs no token
        "failure": lambda: status_of("ready", "--url", world.nobody),
        "usage": lambda: status_of("ready", "--url", "gopher://a"),
        "config": lambda: status_of("ready", "--url", "https://localhost:1", "--ca", "/nonexistent"),
    }[code]()


def check(world, _name, code):
    words = ["config", "check", *world.words("up")[1:]]

    def full():
        with open("/dev/full", "w", encoding="ascii") as disk:
            return subprocess.run([BIN, *words], stdout=disk, stderr=subprocess.DEVNULL, check=False, timeout=30).returncode

    return {
        "ok": lambda: status_of(*words),
        "failure": full,
        "usage": lambda: status_of(*words, "more"),
        "config": lambda: status_of("config", "check", "-f", "/nonexistent"),
    }[code]()


def about(_world, name, code):
    words = {"completion": ["completion", "bash"], "token new": ["token", "new", "ann"]}.get(name, [name])

    def full():
        with open("/dev/full", "w", encoding="ascii") as disk:
            return subprocess.run([BIN, *words], stdout=disk, stderr=subprocess.DEVNULL, check=False, timeout=30).returncode

    return {"ok": lambda: status_of(*words), "failure": full, "usage": lambda: status_of(*words, "more")}[code]()


def password(_world, _name, code):
    words = ["password", "new", "ann"]

    def of(stdin, out=subprocess.DEVNULL, more=()):
        return subprocess.run([BIN, *words, *more], input=stdin, stdout=out, stderr=subprocess.DEVNULL, check=False, timeout=30).returncode

    def full():
        with open("/dev/full", "w", encoding="ascii") as disk:
            return of(b"secret\n", disk)

    return {"ok": lambda: of(b"secret\n"), "failure": full, "usage": lambda: of(b"secret\n", more=["more"]), "config": lambda: of(b"")}[code]()


def stored(world, name, code):
    """login and logout, whose kits are kept in a home of their own."""
    url = f"127.0.0.1:{world.kit.port}"
    with Folder() as folder:
        home = {"XDG_CONFIG_HOME": folder.path}
        if code == "ok" and name == "logout":
            assert status_of("login", url, env=home) == 0
        where = {"failure": f"127.0.0.1:{world.broken.port}", "auth": world.guarded.url, "gave_up": world.nobody}.get(code, url)
        words = [name] if name == "logout" else [name, where]
        more = {"usage": ["--nonsense"], "config": ["--token-file", "/nonexistent"] if name == "login" else []}.get(code, [])
        return status_of(*words, *more, env={"XDG_CONFIG_HOME": "", "HOME": ""} if code == "config" else home)


def inspector(world, name, code):
    words = name.split() if name == "requests list" else [*name.split(), "1"]
    seen = world.inspected()
    no_inspector = f"http://127.0.0.1:{world.broken.port}/#x"
    return {
        "ok": lambda: status_of(*words, "--inspector", seen.url),
        "failure": lambda: status_of(*words, "--inspector", no_inspector),
        "usage": lambda: status_of(*words, "--inspector", "nonsense"),
        "auth": lambda: status_of(*words, "--inspector", seen.url + "0"),
        "gave_up": lambda: status_of(*words, "--inspector", f"http://{world.nobody}/#x"),
    }[code]()


def doctor(world, name, code):
    if code not in ("failure", "bind"):
        return admin(world, name, code)
    # Ports that it cannot find, or that the kit cannot open.
    at = Kit("--expose-address", "127.0.0.9" if code == "failure" else "192.0.2.77")
    try:
        return status_of("doctor", "--url", at.url)
    finally:
        at.end()


def restart(_world, _name, code):
    at = RestartedKit()
    try:
        return {"ok": lambda: at.restart()[0], "failure": lambda: status_of("restart", "--pid-file", at.pid_file + ".not"),
                "usage": lambda: status_of("restart")}[code]()
    finally:
        assert at.end() == 0


def edge(_world, name, code):
    needs_haproxy()
    if name == "edge up" and os.geteuid() != 0:
        raise Skip("ports 80 and 443 are for root")
    where = ["--domain", "edge.test", "--id", "n1"] if name == "edge up" else []
    with Folder() as folder:
        def served():
            program = Program([BIN, *name.split(), *where, "--folder", folder.join("edge"), *([] if where else ["--port", str(free_port())])])
            program.wait_line(r"is served by HAProxy \d")
            return program

        return {
            "ok": lambda: interrupted(served()),
            "usage": lambda: status_of(*name.split(), *where, "--folder"),
            "config": lambda: status_of(*name.split(), *where, "--folder", folder.join("edge"), "--haproxy", "/nonexistent"),
        }[code]()


def edge_api(world, name, code):
    project, one = "67e89abc123def456789abcd", "890abcdef12345678901cdef"
    words = {"edge containers": ["list"], "edge services": [one], "edge state": ["off", "--project", project], "edge permissions": ["--project", project],
             "edge aliases": ["list"], "edge hooks": ["--container", one], "edge domains": ["list"],
             "edge settings": ["--container", one], "edge cache": ["purge", "--container", one]}[name]
    if code == "gave_up":
        return status_of(*name.split(), *words, "--folder", world.folder.join("nowhere"))
    if code == "usage":
        return status_of(*name.split(), "dance", "--folder", world.folder.join("nowhere"))
    with Edge() as e:
        at = ["--folder", e.folder]
        if code == "failure":
            words = {"edge containers": ["remove", one], "edge services": [one], "edge state": ["on", "--container", one], "edge permissions": ["remove", "--container", one],
                     "edge aliases": ["get", "my-app"], "edge hooks": ["delete", "http", "--container", one], "edge domains": ["get", "a.test"],
                     "edge settings": ["set", "/nonexistent", "--container", one], "edge cache": words}[name]
        elif name == "edge cache":
            with open(os.path.join(e.folder, "s.json"), "w", encoding="ascii") as f:
                f.write('{"cache": {"enabled": true}}')
            assert status_of("edge", "settings", "set", f.name, "--container", one, *at) == 0
        elif name == "edge services":
            assert status_of("edge", "containers", "set", one, "192.0.2.7", "--project", project, *at) == 0
        return status_of(*name.split(), *words, *at)


def edge_log(_world, name, code):
    # The edge's API on a Unix socket; a failure is what answers there and is no edge.
    with Folder() as folder:
        os.makedirs(folder.join("edge", "run"))
        path = folder.join("edge", "run", "api.sock")
        data = {"logs": [], "lastId": 0} if name == "edge logs" else {"rows": 0, "services": []}

        def served(body, status=b"200 OK"):
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            with Service(http_handler(lambda _head, _body: b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text)), path=path):
                return status_of(*name.split(), "--folder", folder.join("edge"))

        return {
            "ok": lambda: served({"statusCode": 200, "message": "x", "data": data}),
            "failure": lambda: served(b"hello"),
            "usage": lambda: served({"statusCode": 400, "message": "level must be info, warn or error", "data": None}, b"400 Bad Request") if name == "edge logs"
            else status_of(*name.split(), "--hours", "0"),
            "gave_up": lambda: status_of(*name.split(), "--folder", folder.join("edge")),
        }[code]()


def edge_doctor(_world, _name, code):
    needs_haproxy()
    if os.geteuid() != 0:
        raise Skip("ports 80 and 443 are for root")
    words = ["edge", "doctor", "--domain", "localhost", "--id", "n1"]

    def full():
        with open("/dev/full", "w", encoding="ascii") as disk:
            return subprocess.run([BIN, *words, "--folder", folder.join("edge")], stdout=disk, stderr=subprocess.DEVNULL, check=False, timeout=60).returncode

    with Folder() as folder:
        return {
            "ok": lambda: status_of(*words, "--folder", folder.join("edge")),
            "failure": full,
            "usage": lambda: status_of("edge", "doctor", "--id", "n1"),
            "config": lambda: status_of(*words, "--haproxy", "/nonexistent"),
        }[code]()


RUNS = {"edge doctor": edge_doctor, "edge aliases": edge_api, "edge domains": edge_api, "edge permissions": edge_api, "edge settings": edge_api, "edge cache": edge_api, "edge hooks": edge_api, "edge logs": edge_log, "edge stats": edge_log, "edge containers": edge_api, "edge services": edge_api, "edge state": edge_api, "edge dev": edge, "edge up": edge, "restart": restart, "doctor": doctor, "requests list": inspector, "requests show": inspector, "requests replay": inspector, "login": stored, "logout": stored, "token new": about, "password new": password, "version": about, "completion": about, "serve": kit, "demo": demo, "ready": ready, "config check": check, **{name: tunnel for name in (*TUNNELS, "reach", "vtunnel-client")},
        **{name: admin for name in ADMIN}}


WORLD = World()
# These share their code with others that stay; under sanitizers each start of a program takes its time.
ALIKE = ("pull", "list", "status", "sessions list", "bindings list", "metrics")


def define(name, codes):
    @case(f"{name}: " + ", ".join(f"{code['code']} {code['name']}" for code in codes))
    def _():
        text = command(*name.split(), "--help")[1]
        for code in codes:
            status = RUNS[name](WORLD, name, code["name"])
            assert status == code["code"], (name, code["name"], status)
            assert f"\n  {code['code']}  {code['doc'][:40]}" in text, (name, code, text)


for each in MODEL["commands"]:
    if not (SANITIZED and each.name in ALIKE):
        define(each.name, each.exit_codes)


@case("exit code 7 after another driver took the port over")
def _():
    program = Program([BIN, "expose", "0=9", "--url", WORLD.kit.url])
    port = program.wait_line(r"http://127\.0\.0\.1:(\d+) -> ").group(1)
    other = Program([BIN, "expose", f"{port}=9", "--takeover", "--url", WORLD.kit.url])
    other.wait_line(" -> ")
    assert program.process.wait(20) == 7, program.text()
    program.end()
    assert interrupted(other) == 0


def in_time(words, line):
    """Under timeout(1), which passes a signal on to its child, and again to the group of both.

    A SIGCONT comes behind each. One that meets the leak check of a program that ends takes away the stop which the check waits for,
    and both wait for ever: no check here.
    """
    options = os.environ.get("ASAN_OPTIONS", "").replace("detect_leaks=1", "detect_leaks=0")
    program = Program(["timeout", "300", BIN, *words], env={"ASAN_OPTIONS": options})
    if line:
        program.wait_line(line)
    # Until fork() has returned there, timeout(1) does not know its child, and a signal would end it alone.
    eventually(lambda: state_of(program.pid) == "S", "timeout(1) that waits for its child")
    return program


def nothing_left(kit):
    tunnels = kit.get("/tunnels")
    assert tunnels["sessions"] == [] and tunnels["orphanedSessions"] == 0 and tunnels["totalBindings"] == 0, tunnels


@case("timeout(1) sends two signals: the goodbye is sent, and the status is 0")
def _():
    for _ in range(3):
        for name in TUNNELS:
            program = in_time([*WORLD.words(name), "--url", WORLD.kit.url], " -> ")
            assert program.end() == 0, program.text()
            nothing_left(WORLD.kit)
            program.check_sanitizers()
        program = in_time(["demo"], "Requests show up below")
        assert program.end() == 0, program.text()
        program.check_sanitizers()


@case("two signals at once count as one: the goodbye is sent, and the status is 0")
def _():
    for name in TUNNELS:
        program = WORLD.started(name, WORLD.kit.url)
        ask_twice(program.process)
        status = program.process.wait(30)
        assert status == 0 and program.end() == 0, (status, program.text())
        nothing_left(WORLD.kit)
        program.check_sanitizers()


@case("two signals at once end a kit and a reader of events in order, as one does")
def _():
    for _ in range(5):
        kit = Kit()
        program = Program([BIN, "events", "--url", kit.url])
        eventually(lambda kit=kit: kit.metric("hoody_tunnel_event_readers") == 1, "a reader of events")
        for ended in (program, kit):
            ask_twice(ended.process)
            status = ended.process.wait(30)
            assert status == 0 and ended.end() == 0, (status, ended.text())
            ended.check_sanitizers()
        assert "second signal" not in kit.text() and "drained, bye" in kit.text(), kit.text()
        kit = in_time(["serve", "--listen", "127.0.0.1:0"], "listening on")  # and its first moments are like later ones
        status = kit.end()
        assert status == 0 and "drained, bye" in kit.text(), (status, kit.text())


@case("a later signal cuts the goodbye short, and the kit keeps nothing all the same")
def _():
    kit = Kit()
    program = WORLD.started("expose", kit.url)
    kit.process.send_signal(signal.SIGSTOP)
    begun = Moment()
    while program.process.poll() is None:
        program.process.send_signal(signal.SIGTERM)
        try:
            # Longer than what the goodbye takes after the second, so that there is no third.
            program.process.wait(0.6)
        except subprocess.TimeoutExpired:
            pass
    took = begun.took()
    assert program.end() == 0, program.text()
    begun.within(1.5, "the goodbye", took)
    kit.process.send_signal(signal.SIGCONT)
    eventually(lambda: kit.get("/tunnels")["sessions"] == [], "no session")
    nothing_left(kit)
    assert kit.end() == 0


if __name__ == "__main__":
    with WORLD:
        main()
