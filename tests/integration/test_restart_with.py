"""Restarts of kits that are not like others: users with tokens, another user of the machine, a log file, vtunnel clients, very many ports, TLS."""

import hashlib
import os
import pwd
import re
import signal
import time

from tests.integration.harness import BIN, Driver, Folder, Program, Service, connect, eventually, free_port, hello, http_service, status
from tests.integration.restarted import Restarted, RestartedKit, alive
from tests.support.tap import Skip, case, main

TOKENS = {name: f"ht_{name}{'x' * 40}" for name in ("ann", "bob", "root")}
PORTS = int(os.environ.get("HT_RESTART_PORTS", "384"))


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def users_file(path, *names):
    lines = [f"  - {{name: {n}, tokens: [\"sha256:{hashlib.sha256(TOKENS[n].encode()).hexdigest()}\"]{', admin: true' if n == 'root' else ''}}}"
             for n in names]
    return write(path, "users:\n" + "\n".join(lines) + "\n")


class Users(RestartedKit):
    """A kit with users, asked by the one who sees everything."""

    def request(self, method, path, headers=None):
        return super().request(method, path, {"Authorization": f"Bearer {TOKENS['root']}", **(headers or {})})


def alone(kit):
    serving = kit.serving
    eventually(lambda: [p for p in kit.known if alive(p)] == [serving], f"the end of the programs before: {kit.text()}")


@case("users: sessions stay their users'; the new program has read the file anew, and who is no longer in it loses ports and link")
def _():
    with Folder() as folder, http_service(hello) as web:
        path = users_file(folder.join("users.yaml"), "ann", "bob", "root")
        kit = Users("--users", path)
        drivers = {n: Driver(kit, "expose", f"0={web.port}", env={"HOODY_TUNNEL_TOKEN": TOKENS[n]}) for n in ("ann", "bob")}
        try:
            kit.restarts()
            for d in drivers.values():
                eventually(lambda d=d: len(d.events("connected")) == 2, "the driver at the new program")
                assert d.events("connected")[1]["resumed"] and status(d.port) == 200

            def owners():
                return sorted((s["owner"], s["bindings"][0]["port"]) for s in kit.get("/status")["sessions"])
            eventually(lambda: owners() == [("ann", drivers["ann"].port), ("bob", drivers["bob"].port)], f"both: {kit.text()}")
            alone(kit)
            users_file(path, "ann", "root")
            kit.restarts()
            kit.wait_line("a session of the kit before is left out .*its token is no longer valid")
            eventually(lambda: len(drivers["ann"].events("connected")) == 3, "ann at the new program")
            bob = drivers.pop("bob")
            assert bob.process.wait(30) == 4, bob.text()
            eventually(lambda: status(bob.port) is None, f"bob's port is free: {kit.text()}")
            assert status(drivers["ann"].port) == 200
            eventually(lambda: owners() == [("ann", drivers["ann"].port)], f"ann alone: {kit.text()}")
            assert kit.metric('hoody_tunnel_kept_sessions_total{outcome="left_out"}') == 1
            bob.end()
            alone(kit)
        finally:
            for d in drivers.values():
                d.end(signal.SIGINT)
            assert kit.end() == 0, kit.text()
        kit.check_sanitizers()


def uids(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return set(re.search(r"^Uid:(.*)$", f.read(), re.M).group(1).split())


@case("--user: the new program reads what only root may read, and becomes that user again; --log-file goes on, also behind a rotation")
def _():
    if os.getuid() != 0:
        raise Skip("only root can become another user")
    nobody = pwd.getpwnam("nobody")
    with Folder("nobody") as folder, http_service(hello) as web:
        token, log = write(folder.join("token"), "sesame\n"), folder.join("log")
        os.chmod(token, 0o600)
        os.chown(token, 0, 0)
        pid_file = folder.join("pid")
        kit = Program([BIN, "serve", "--listen", "127.0.0.1:0", "--user", "nobody", "--log-file", log, "--token-file", token, "--pid-file", pid_file])

        def text(name=log):
            try:
                with open(name, encoding="utf-8") as f:
                    return f.read()
            except FileNotFoundError:
                return ""

        def serving():
            with open(pid_file, encoding="ascii") as f:
                return int(f.read())
        eventually(lambda: "few system calls" in text() and os.path.exists(pid_file), "the kit")
        port = int(re.search(r"listening on http://127\.0\.0\.1:(\d+)", text()).group(1))
        driver = Driver(type("Kit", (), {"url": f"ws://127.0.0.1:{port}"}), "expose", f"0={web.port}", env={"HOODY_TUNNEL_TOKEN": "sesame"})
        known = {serving()}
        try:
            for n in range(2):
                done = Program([BIN, "restart", "--pid-file", pid_file])
                assert done.end(0, timeout=90) == 0, (done.text(), text())
                known.add(serving())
                assert uids(serving()) == {str(nobody.pw_uid)}, text()
                eventually(lambda n=n: len(driver.events("connected")) == n + 2, f"the driver at the new program: {text()}")
                assert status(driver.port) == 200
            assert text().count("few system calls") == 3 and text().count("listening on") == 3
            os.rename(log, log + ".1")
            os.kill(serving(), signal.SIGHUP)
            eventually(lambda: "the old token stays in force" in text(), "the new file, and that the token cannot be read again")
            old = serving()
            done = Program([BIN, "restart", "--pid-file", pid_file])
            assert done.end(0, timeout=90) == 0, (done.text(), text())
            known.add(serving())
            eventually(lambda: "this program has finished, bye" in text() and not alive(old), f"the old one's last words: {text()}")
            assert "serves since now" in text() and os.stat(log).st_uid == nobody.pw_uid
            assert "Sanitizer" not in text() + text(log + ".1") and "the sandbox refused" not in text() + text(log + ".1")
        finally:
            driver.end(signal.SIGINT)
            os.kill(serving(), signal.SIGTERM)
            kit.end()
            eventually(lambda: not [p for p in known if alive(p)], "the end of all")


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


def echoes(port):
    try:
        with connect(port, 5) as c:
            c.sendall(b"ping")
            return c.recv(4) == b"ping"
    except OSError:
        return False


@case("a vtunnel client has its port at the new program soon, though it knows nothing of restarts")
def _():
    with Restarted("--vtunnel") as t, Service(echo) as service:
        port = free_port()
        client = Program([BIN, "vtunnel-client", "-server", t.kit.url + "/", "-forward", f"{port}=127.0.0.1:{service.port}", "--json"])
        try:
            eventually(lambda: echoes(port), f"its port: {client.text()} {t.kit.text()}")
            for _ in range(2):
                old = t.kit.restarts()
                eventually(lambda old=old: not alive(old), f"the end of the program before: {t.kit.text()}")
                eventually(lambda: echoes(port), f"its port at the new program: {client.text()} {t.kit.text()}")
        finally:
            client.end(signal.SIGINT)


@case(f"{PORTS} ports: all of them are there behind a restart that takes no longer than a second for each thousand and one more")
def _():
    most = 64  # of a command
    with Restarted("--max-sessions", str(PORTS // most), "--max-bindings-per-session", str(most)) as t, http_service(hello) as web:
        drivers = [t.expose(*[f"0={web.port}"] * most, bindings=most) for _ in range(PORTS // most)]
        ports = [b["containerPort"] for d in drivers for b in d.bound]
        assert len(set(ports)) == PORTS // most * most
        start = time.monotonic()
        t.kit.restarts()
        took = time.monotonic() - start
        for d in drivers:
            eventually(lambda d=d: len(d.events("connected")) == 2, "the driver at the new program")
        assert {status(p) for p in ports[::7]} == {200}
        t.only_one()
        said = re.search(r"serves since now, after (\d+) ms; visitors and HELLOs waited for (\d+) ms", t.kit.text())
        print(f"# {len(ports)} ports: {took:.2f} s, of which the kits took {said.group(1)} ms, and visitors waited for {said.group(2)} ms")
        assert int(said.group(2)) <= 1000 + len(ports), said.group(0)


@case("more drivers than HELLOs have room: they are told a few at a time, and nobody is turned away")
def _():
    with Restarted("--max-pre-auth-connections", "4", "--max-sessions", "12") as t, http_service(hello) as web:
        drivers = [t.expose(f"0={web.port}") for _ in range(12)]
        for n in range(2):
            t.kit.restarts()
            for d in drivers:
                assert status(d.port) == 200  # whoever serves it
                eventually(lambda d=d, n=n: len(d.events("connected")) == n + 2, "the driver at the new program")
                assert not d.events("disconnected") and not d.events("retrying"), d.text()
            assert "too many WebSockets" not in t.kit.text(), t.kit.text()
            t.only_one()


if __name__ == "__main__":
    main()
