"""What a kit finds of the one before it: records in --state-dir after a crash or a stop, a service manager's store, sockets that it opened."""

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import stat
import subprocess
import threading

from tests.integration.harness import (BIN, Driver, Folder, Program, Service, connect, eventually, free_port, hello, http_service, read_exactly,
                                       status)
from tests.integration.manager import Manager
from tests.integration.restarted import Restarted
from tests.support.tap import case, main


class At:
    """A kit at a fixed port, which may come back there."""

    def __init__(self, state=None, *args):
        self.port = free_port()
        self.args = ["--listen", f"127.0.0.1:{self.port}", *(["--state-dir", state] if state else []), *args]
        self.url = f"ws://127.0.0.1:{self.port}"
        self.now, self.gone = None, []

    def start(self, *args):
        self.now = Program([BIN, "serve", *self.args, *args])
        self.now.wait_line("listening on http")
        return self.now

    def stop(self, signum):
        got = self.now.end(signum)
        assert got == (-signum if signum == signal.SIGKILL else 0), self.now.text()
        self.now.check_sanitizers()
        self.gone.append(self.now)

    def ask(self, path, token=None):
        return subprocess.run(["curl", "-sS", *(["-H", f"Authorization: Bearer {token}"] if token else []),
                               f"http://127.0.0.1:{self.port}/api/v1/tunnel{path}"], stdout=subprocess.PIPE, check=True).stdout.decode()

    def get(self, path, token=None):
        return json.loads(self.ask(path, token))

    def kept(self, token=None):
        """What has become of sessions of before."""
        found = re.findall(r'^hoody_tunnel_kept_sessions_total\{outcome="(\w+)"\} (\d+)$', self.ask("/metrics", token), re.M)
        return {outcome: int(n) for outcome, n in found}


@contextlib.contextmanager
def running(*args):
    """A kit with a state folder, and a service."""
    with Folder() as folder, http_service(hello) as web:
        kit = At(folder.join("state"), *args)
        kit.folder = folder
        kit.start()
        try:
            yield kit, web
        finally:
            if kit.now.process.poll() is None:
                kit.now.end(signal.SIGKILL)
            for program in [*kit.gone, kit.now]:
                program.check_sanitizers()


def is_held(path):
    """Whether a kit has claimed the folder of this file."""
    with open(path, "rb") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def recorded(kit, condition, what="the records"):
    """Waits until a file of records is as it should be."""
    def look():
        texts = []
        for name in ("records.a", "records.b"):
            with contextlib.suppress(FileNotFoundError), open(kit.folder.join("state", name), encoding="utf-8") as f:
                texts.append(f.read())
        texts = [t for t in texts if t.count("\n") > 1]
        return texts and condition(max(texts, key=lambda t: json.loads(t.split("\n")[1]).get("seq", 0)))
    return eventually(look, what)


for signum in (signal.SIGKILL, signal.SIGTERM):
    @case(f"{signum.name} and a start: ports and sessions are there before the kit is ready, and drivers take them up again")
    def _(signum=signum):
        with running() as (kit, web), Service(lambda c: c.sendall(b"raw")) as raw:
            expose, pull = Driver(kit, "expose", f"0={web.port}"), Driver(kit, "pull", f"0={raw.port}")
            try:
                recorded(kit, lambda t: t.count('"type":"binding"') == 2)
                ids = [d.events("connected")[0]["sessionId"] for d in (expose, pull)]
                for d in (expose, pull):
                    d.process.send_signal(signal.SIGSTOP)  # so that the kit alone has brought the ports back
                kit.stop(signum)
                assert status(expose.port) is None
                kit.start()
                kit.now.wait_line("2 sessions with 2 bindings are restored from --state-dir")
                assert [(e["event"], e["sessions"]) for e in kit.get("/status")["events"]] == [("restored", 2)]
                assert kit.kept() == {"handed_over": 0, "restored": 2, "left_out": 0, "back": 0, "lost": 0}
                assert sorted(s["sessionId"] for s in kit.get("/sessions")["sessions"] if s["parked"]) == sorted(ids)
                with connect(expose.port) as visitor, connect(pull.port) as other:
                    visitor.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    for d in (expose, pull):
                        d.process.send_signal(signal.SIGCONT)
                    assert b" 200 " in visitor.recv(4096).split(b"\r\n")[0]
                    assert read_exactly(other, 3) == b"raw"
                for d, was in zip((expose, pull), ids):
                    again = eventually(lambda d=d: len(d.events("connected")) > 1 and d.events("connected")[-1], "it is back")
                    assert again["resumed"] and again["sessionId"] == was and len(d.events("bound")) == 1
                assert kit.kept() == {"handed_over": 0, "restored": 2, "left_out": 0, "back": 2, "lost": 0}
                mode = os.stat(kit.folder.join("state"))
                assert stat.S_IMODE(mode.st_mode) == 0o700
                for name in ("records.a", "records.b"):
                    assert stat.S_IMODE(os.stat(kit.folder.join("state", name)).st_mode) == 0o600
            finally:
                for d in (expose, pull):
                    d.process.send_signal(signal.SIGCONT)
                    d.end(signal.SIGINT)
            eventually(lambda: kit.get("/sessions")["total"] == 0, "no session")
            kit.stop(signal.SIGTERM)


@case("a port that another program has taken meanwhile is tried again, until it is free or its driver is back")
def _():
    with running() as (kit, web):
        driver = Driver(kit, "expose", f"{free_port()}={web.port}")
        recorded(kit, lambda t: '"type":"binding"' in t)
        driver.process.send_signal(signal.SIGSTOP)
        kit.stop(signal.SIGKILL)
        with socket.create_server(("127.0.0.1", driver.port)):
            kit.start()
            kit.now.wait_line(f"a port of the kit before is in use, and is tried again .*port={driver.port}")
            recorded(kit, lambda t: f'"port":{driver.port}' in t, "it stays in the records")
        kit.now.wait_line("the port is free again, and kept for its driver")
        driver.process.send_signal(signal.SIGCONT)
        eventually(lambda: status(driver.port) == 200, "its driver at its port")
        assert [e["resumed"] for e in driver.events("connected")] == [False, True] and len(driver.events("bound")) == 1
        kit.stop(signal.SIGKILL)
        with socket.create_server(("127.0.0.1", driver.port)):
            kit.start()
            eventually(lambda: len(driver.events("connected")) == 3, "the driver, without its port")
            eventually(lambda: kit.get("/tunnels")["totalBindings"] == 0, "no binding")
        eventually(lambda: status(driver.port) == 200, "the driver asks for it again, and has it", 60)
        driver.end(signal.SIGINT)
        kit.stop(signal.SIGTERM)


def spoil(kit, name, change):
    with open(kit.folder.join("state", name), "r+", encoding="utf-8") as f:
        text = change(f.read())
        f.seek(0)
        f.truncate()
        f.write(text)


@case("a damaged file of records: the other one is used; two of them, or a newer version's: said in words, and nothing is restored")
def _():
    with running("--takeover-grace", "5m") as (kit, web):
        driver = Driver(kit, "expose", f"0={web.port}")
        recorded(kit, lambda t: '"type":"binding"' in t)
        driver.process.send_signal(signal.SIGSTOP)
        kit.stop(signal.SIGTERM)  # writes both
        kit.start()
        kit.stop(signal.SIGTERM)
        spoil(kit, "records.a", lambda t: t[:-5] + "x" + t[-4:])
        kit.start()
        kit.now.wait_line("the records of sessions in --state-dir cannot be used: damaged: their hash is another one")
        kit.now.wait_line("1 sessions with 1 bindings are restored")
        kit.stop(signal.SIGTERM)
        for name in ("records.a", "records.b"):
            spoil(kit, name, lambda t: t.replace("hoody-tunnel-records 1 ", "hoody-tunnel-records 2 "))
        kit.start()
        kit.now.wait_line("cannot be used: a newer version of hoody-tunnel has written them: format 2, and this one knows formats up to 1")
        assert kit.get("/sessions")["total"] == 0
        driver.process.send_signal(signal.SIGCONT)
        eventually(lambda: status(driver.port) == 200, "its driver comes back all the same")
        driver.end(signal.SIGINT)
        kit.stop(signal.SIGTERM)


@case("whose time is over, or whose token is no longer valid, is left out")
def _():
    with Folder() as tokens:
        token = tokens.join("token")

        def write(text):
            with open(token, "w", encoding="ascii") as f:
                f.write(text + "\n")
            os.chmod(token, 0o600)
        write("sesame")
        with running("--token-file", token) as (kit, web):
            driver = Driver(kit, "expose", f"0={web.port}", "--token-file", token)
            recorded(kit, lambda t: '"token":"' in t and "sesame" not in t)
            driver.process.send_signal(signal.SIGSTOP)
            kit.stop(signal.SIGKILL)
            write("tahini")
            kit.start()
            kit.now.wait_line("a session of the kit before is left out .*its token is no longer valid")
            assert status(driver.port) is None and kit.kept("tahini")["left_out"] == 1
            assert [e["leftOut"] for e in kit.get("/status", "tahini")["events"]] == [1]
            kit.stop(signal.SIGTERM)
            driver.end(signal.SIGKILL)
    with running("--takeover-grace", "1s") as (kit, web):
        driver = Driver(kit, "expose", f"0={web.port}")
        recorded(kit, lambda t: '"type":"binding"' in t)
        driver.process.send_signal(signal.SIGSTOP)
        kit.stop(signal.SIGKILL)
        kit.start()
        eventually(lambda: kit.kept()["lost"] == 1, f"a driver that does not come: {kit.kept()}")
        kit.stop(signal.SIGTERM)
        driver.end(signal.SIGKILL)
        driver = Driver(kit, "expose", f"0={web.port}") if kit.start() else None
        recorded(kit, lambda t: '"type":"binding"' in t)
        driver.process.send_signal(signal.SIGSTOP)
        kit.stop(signal.SIGTERM)
        stopped = threading.Event()
        stopped.wait(1.1)
        kit.start()
        kit.now.wait_line("a session of the kit before is left out .*its grace is over")
        assert status(driver.port) is None
        kit.stop(signal.SIGTERM)
        driver.end(signal.SIGKILL)


@case("a folder is one kit's; files that others may change are refused")
def _():
    with running() as (kit, _web):
        other = subprocess.run([BIN, "serve", "--listen", "127.0.0.1:0", "--state-dir", kit.folder.join("state")], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20, check=False)
        assert other.returncode == 3 and b"another kit keeps its records there" in other.stdout, other
        kit.stop(signal.SIGTERM)
        os.chmod(kit.folder.join("state", "records.a"), 0o666)
        refused = subprocess.run([BIN, "serve", *kit.args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 timeout=20, check=False)
        assert refused.returncode == 3 and b"other users have rights to it" in refused.stdout, refused


@case("a folder stays one kit's over restarts; who takes it in the moment between is told of, and it is taken back in the end")
def _():
    with Folder() as folder, Restarted("--state-dir", folder.join("state")) as t:
        records = folder.join("state", "records.a")
        for _ in range(4):
            t.kit.restarts()
            t.only_one()
            eventually(lambda: is_held(records), "the folder is the new kit's")
        with open(records, "rb") as f:
            waiter = threading.Thread(target=lambda: fcntl.flock(f, fcntl.LOCK_EX), daemon=True)
            waiter.start()
            for _ in range(20):  # who waits in the kernel mostly comes before the one that asks again
                if waiter.is_alive():
                    t.kit.restarts()
                    waiter.join(0.5)
            assert not waiter.is_alive()
            t.kit.wait_line("another kit keeps its records there, too; end one of the two")
        eventually(lambda: is_held(records), "the folder is the kit's again")


# ---- a service manager ----


@case("a service manager's store: after a crash no visitor is refused, the sessions are there before READY, records have no secret")
def _():
    with Manager() as manager, http_service(hello) as web:
        port = free_port()
        argv = [BIN, "serve", "--listen", f"127.0.0.1:{port}"]
        env = {"HOODY_TUNNEL_TOKEN": "open-sesame"}
        kit = manager.start(argv, env=env)
        manager.ready()
        driver = Driver(type("Kit", (), {"url": f"ws://127.0.0.1:{port}"}), "expose", f"0={web.port}", env=env)
        names = {f"listener-127.0.0.1_{port}", f"listener-127.0.0.1_{driver.port}"}
        eventually(lambda: names <= set(manager.store), f"its sockets: {manager.store}")

        def records():
            texts = [os.pread(fds[0], 1 << 20, 0) for name, fds in list(manager.store.items()) if name.startswith("records-")]
            return [t for t in texts if b'"type":"binding"' in t and b"sesame" not in t]
        eventually(records, "its records")
        for n in range(2):
            driver.process.send_signal(signal.SIGSTOP)
            assert kit.end(signal.SIGKILL) == -signal.SIGKILL
            with connect(driver.port) as visitor:  # nobody serves, and nobody is refused
                visitor.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                kit = manager.start(argv, env=env)
                kit.wait_line("1 sessions with 1 bindings are restored from the service manager's store")
                manager.ready(n + 2)
                driver.process.send_signal(signal.SIGCONT)
                assert b" 200 " in visitor.recv(4096).split(b"\r\n")[0]
            eventually(lambda: len(driver.events("connected")) == n + 2, "its driver")
        assert driver.events("connected")[-1]["resumed"]
        driver.end(signal.SIGINT)
        eventually(lambda: set(manager.store) - {"records-0", "records-1"} == {f"listener-127.0.0.1_{port}"}, f"one socket: {manager.store}")
        assert kit.end() == 0, kit.text()
        kit.check_sanitizers()


@case("a service manager's store keeps the certificate of --tls-self-signed; without the option it is thrown away")
def _():
    with Manager() as manager, http_service(hello) as web:
        port = free_port()
        argv = [BIN, "serve", "--listen", f"127.0.0.1:{port}", "--tls-self-signed"]
        kit = manager.start(argv)
        pin = kit.wait_line(r"--pin (sha256:[0-9a-f]{64})").group(1)
        manager.ready()
        driver = Driver(type("Kit", (), {"url": f"wss://127.0.0.1:{port}"}), "expose", f"0={web.port}", "--pin", pin)
        for n in range(2):
            eventually(lambda: "certificate" in manager.store, "its certificate")
            assert kit.end(signal.SIGKILL) == -signal.SIGKILL
            kit = manager.start(argv)
            assert kit.wait_line(r"--pin (sha256:[0-9a-f]{64})").group(1) == pin
            eventually(lambda n=n: len(driver.events("connected")) == n + 2, "its driver")
            assert "cannot be used" not in kit.text() and "cannot be read" not in kit.text(), kit.text()
        driver.end(signal.SIGINT)
        assert kit.end() == 0, kit.text()
        kit = manager.start(argv[:-1])
        eventually(lambda: "certificate" not in manager.store, "no certificate")
        assert kit.end() == 0, kit.text()
        kit.check_sanitizers()


@case("sockets of a service manager: the kit takes those that it was to open, and says which it does not need")
def _():
    with Manager() as manager, http_service(hello) as web, socket.create_server(("127.0.0.1", 0)) as own, \
            socket.create_server(("127.0.0.1", 0)) as public, socket.create_server(("127.0.0.1", 0)) as other, socket.socket() as plain:
        port, door = own.getsockname()[1], public.getsockname()[1]
        with connect(port) as early:
            early.sendall(b"GET /api/v1/tunnel/health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            kit = manager.start([BIN, "serve", "--listen", f"127.0.0.1:{port}", "--public", f"127.0.0.1:{door}", "--domain", "tunnel.localhost"],
                                [("tunnel.socket", own), ("public", public), ("other", other), ("plain", plain)])
            manager.ready()
            got = early.recv(4096)
            assert b" 200 " in got.split(b"\r\n")[0], got
        kit.wait_line(r"\(plain\): it is no TCP socket that listens")
        kit.wait_line(f"nobody needs the inherited socket on 127.0.0.1:{other.getsockname()[1]}")
        named = free_port()
        driver = Driver(type("Kit", (), {"url": f"ws://127.0.0.1:{port}"}), "expose", f"{named}={web.port}", "--name", "app")
        with connect(door) as visitor:
            visitor.sendall(b"GET / HTTP/1.1\r\nHost: app-%d.tunnel.localhost\r\nConnection: close\r\n\r\n" % named)
            assert b" 200 " in visitor.recv(4096).split(b"\r\n")[0]
        driver.end(signal.SIGINT)
        assert kit.end() == 0, kit.text()
        kit.check_sanitizers()


@case("a restart under a service manager: the old kit names the new one before that says READY; a failure is told and taken back")
def _():
    with Manager() as manager, http_service(hello) as web, Folder() as folder:
        program = folder.join("hoody-tunnel")
        os.symlink(BIN, program)
        port = free_port()
        kit = manager.start([program, "serve", "--listen", f"127.0.0.1:{port}"], env={"WATCHDOG_USEC": "400000"})
        manager.ready()
        driver = Driver(type("Kit", (), {"url": f"ws://127.0.0.1:{port}"}), "expose", f"0={web.port}")
        os.unlink(program)
        os.symlink("/bin/false", program)
        kit.process.send_signal(signal.SIGUSR2)
        failed = eventually(lambda: [m for m in manager.messages("STATUS") if "the restart failed" in m["STATUS"]], "a failure")[0]
        assert failed["READY"] == "1" and "ended with status 1" in failed["STATUS"] and not manager.messages("MAINPID"), failed
        assert manager.messages("RELOADING")[0]["MONOTONIC_USEC"]
        os.unlink(program)
        os.symlink(BIN, program)
        kit.process.send_signal(signal.SIGUSR2)
        manager.ready(3)
        said = manager.said
        new = int(manager.messages("MAINPID")[0]["MAINPID"])
        at = {key: next(i for i, m in enumerate(said) if m.get("MAINPID") == str(new) or (key == "new" and m["pid"] == new)) for key in ("told", "new")}
        assert at["told"] <= at["new"], said
        assert [m["pid"] for m in manager.messages("READY")] == [kit.pid, kit.pid, new]
        eventually(lambda: len(driver.events("connected")) == 2, "its driver")
        assert kit.process.wait(20) == 0
        assert all(m["pid"] == kit.pid for m in said[:at["told"]]) and status(driver.port) == 200
        seen = len(manager.messages("WATCHDOG"))
        eventually(lambda: [m for m in manager.messages("WATCHDOG")[seen:] if m["pid"] == new], "the new one feeds the watchdog")
        driver.end(signal.SIGINT)
        os.kill(new, signal.SIGTERM)
        assert kit.end() == 0
        kit.check_sanitizers()


if __name__ == "__main__":
    main()
