"""What whoever runs a kit meets: its log, its signals, its files."""

import json
import os
import pwd
import signal
import subprocess

import jsonschema

from gen import log
from tests.integration.harness import (BIN, ROOT, Folder, Kit, Service, Tunnel, connect, eventually, free_port, hello, http_service,
                                       status)
from tests.support.tap import Skip, case, main


@case("JSON lines have the fields of the schema; an answer of the kit's own and a kill say whom they concern")
def _():
    check = jsonschema.Draft202012Validator(log.line_schema(log.load(os.path.join(ROOT, "spec"))))
    kit = Kit("--log-format", "json", "--log-level", "debug", "--takeover-grace", "0s")
    try:
        with Tunnel() as other, http_service(hello) as web:
            del other
            driver = subprocess.Popen([BIN, "expose", f"0={web.port}", "--url", kit.url, "--json"], stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
            port = None
            while port is None:
                event = json.loads(driver.stdout.readline())
                port = event.get("containerPort") if event["event"] == "bound" else None
            assert status(port) == 200
        assert eventually(lambda: status(port) == 502, "a 502 of a service that is gone")
        session = kit.get("/sessions")["sessions"][0]["sessionId"]
        assert kit.request("DELETE", f"/sessions/{session}")[0] == 202
        driver.wait(20)
        driver.stdout.close()
    finally:
        ended = kit.end()
    assert ended == 0
    lines = [json.loads(line[5:]) for line in kit.log if line.startswith("err: {")]
    for line in lines:
        check.validate(line)
    own = [line for line in lines if line.get("status") == 502 and line["level"] == "info"]
    assert own and own[0]["session"] == session and own[0]["port"] == port and own[0]["peer"].startswith("127.0.0.1:"), lines
    killed = [line for line in lines if line["message"] == "session ended by an admin"]
    assert len(killed) == 1 and killed[0]["session"] == session and killed[0]["by"].startswith("127.0.0.1:"), lines
    took = [line["duration_us"] for line in lines if "duration_us" in line]
    assert took and max(took) < 60_000_000, took


@case("the driver's debug level tells each request, each connection to the service, and what the pool does, by fields")
def _():
    with Tunnel() as t, http_service(hello) as web, Service(lambda c: c.sendall(b"x")) as tcp:
        expose = t.expose(f"0={web.port}", "--log-level", "debug")
        pull = t.pull(f"0={tcp.port}", "--log-level", "debug")
        nobody = t.expose(f"0={free_port()}", "--log-level", "debug")
        assert [status(expose.port), status(expose.port), status(nobody.port)] == [200, 200, 502]
        with connect(pull.port) as c:
            assert c.recv(10) == b"x" and c.recv(10) == b""
        of = {}
        for driver, service in ((expose, web.port), (pull, tcp.port)):
            session = driver.events("connected")[0]["sessionId"]
            of[driver] = (fr"debug origin: %s session={session} port={driver.port} ", fr"target=127\.0\.0\.1:{service}")
        line, target = of[expose]
        expose.wait_line(line % "a request" + r"stream=2 peer=127\.0\.0\.1:\d+ method=GET target=/")
        expose.wait_line(line % "connected" + target + r" stream=2 peer=\S+ duration_us=\d+")
        expose.wait_line(line % "answered" + target + r" stream=2 status=200 duration_us=\d+")
        expose.wait_line(line % "a request is over" + target + r" stream=2 status=200 code=0 bytes_in=0 bytes_out=\d+ duration_us=\d+$")
        expose.wait_line(line % "an idle connection is used again" + target + r" stream=4 count=0")
        expose.wait_line(line % "a request is over" + target + r" stream=4 status=200 ")
        line, target = of[pull]
        pull.wait_line(line % "a connection" + target + r" stream=2 peer=127\.0\.0\.1:\d+")
        pull.wait_line(line % "connected" + target + r" stream=2 ")
        pull.wait_line(line % "a connection is over" + target + r" stream=2 peer=\S+ code=0 bytes_in=0 bytes_out=1 duration_us=\d+$")
        nobody.wait_line(r'debug origin: not connected .* reason="cannot connect to .*refused')
        nobody.wait_line(r"debug origin: a request is reset .* stream=2 status=502 code=\d+ .* reason=")


@case("a flood of wrong tokens leaves lines with the address, and a count of the others")
def _():
    kit = Kit(env={"HOODY_TUNNEL_TOKEN": "sesame"})
    try:
        for _ in range(120):
            assert kit.request("GET", "/sessions", {"Authorization": "Bearer swordfish"})[0] == 401
    finally:
        assert kit.end() == 0
    told = [line for line in kit.log if "a wrong token was shown" in line]
    assert 50 <= len(told) < 120 and "peer=127.0.0.1:" in told[0], kit.text()
    assert "log lines about clients without a token were left out: too many at once count=" in kit.text()
    assert "swordfish" not in kit.text()


@case("a token that is replaced: the kit ends what the old one opened, the driver reads its file and comes back by itself")
def _():
    with Folder() as folder, http_service(hello) as web:
        token = folder.join("token")

        def write(text):
            with open(token, "w", encoding="ascii") as f:
                f.write(text + "\n")
            os.chmod(token, 0o600)
        write("sesame")
        with Tunnel("--token-file", token) as t:
            driver = t.expose(f"0={web.port}", "--token-file", token, "--log-level", "debug")
            assert status(driver.port) == 200
            write("tahini")
            t.kit.process.send_signal(signal.SIGHUP)
            t.kit.wait_line("the token has changed")
            eventually(lambda: len(driver.events("connected")) == 2, "the driver is back", 30)
            eventually(lambda: status(driver.port) == 200, "its port serves again", 30)
            for said in ("connecting", "upgraded", "HELLO_OK"):
                assert said in driver.text(), driver.text()
            assert "tahini" not in driver.text() + t.kit.text()
            driver.end(signal.SIGINT)
            t.drivers.remove(driver)
            t.kit.get = lambda path, old=t.kit: json.loads(old.request("GET", path, {"Authorization": "Bearer tahini"})[1])


@case("signals that mean nothing to a kit or a driver do not end it")
def _():
    with Tunnel() as t, http_service(hello) as web:
        driver = t.expose(f"0={web.port}")
        for signum in (signal.SIGUSR1, signal.SIGALRM, signal.SIGIO, signal.SIGRTMIN + 3):
            t.kit.process.send_signal(signum)
            driver.process.send_signal(signum)
        driver.process.send_signal(signal.SIGUSR2)  # a kit restarts for it, test_restart.py
        t.kit.get("/health")
        assert status(driver.port) == 200


@case("--user: a log that a link of that user leads elsewhere is not written; root keeps its files")
def _():
    if os.geteuid() != 0:
        raise Skip("only root can become another user")
    user = pwd.getpwnam("nobody")
    with Folder("nobody") as own, Folder() as roots:
        secret = roots.join("secret")
        os.chmod(roots.path, 0o755)
        with open(secret, "w", encoding="ascii") as f:
            f.write("untouched\n")
        os.chmod(secret, 0o600)
        made = roots.join("made")
        for name, to in (("old", secret), ("new", made)):
            os.symlink(to, own.join(name))
        folder = own.join("folder")
        os.symlink(roots.path, folder)
        for log_file in (own.join("old"), own.join("new"), os.path.join(folder, "made"), os.path.join(folder, "secret")):
            for as_user in (["--user", "nobody"], []):
                if not as_user and "folder" in log_file:
                    continue  # root that stays root looks at the last name
                done = subprocess.run([BIN, "serve", "--listen", "127.0.0.1:0", "--log-file", log_file, *as_user],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20, check=False)
                assert done.returncode == 3 and "log file" in done.stdout.decode(), (log_file, as_user, done)
        assert not os.path.exists(made)
        with open(secret, encoding="ascii") as f:
            assert f.read() == "untouched\n"
        # A folder of root's alone still takes a log, which then belongs to the user.
        kit = subprocess.Popen([BIN, "serve", "--listen", "127.0.0.1:0", "--user", "nobody", "--log-file", roots.join("log")],
                               stdin=subprocess.DEVNULL)
        try:
            eventually(lambda: os.path.exists(roots.join("log")) and os.stat(roots.join("log")).st_uid == user.pw_uid, "the log")
        finally:
            kit.send_signal(signal.SIGTERM)
            kit.wait(20)


if __name__ == "__main__":
    main()
