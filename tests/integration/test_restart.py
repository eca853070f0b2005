"""Kits restart unseen: SIGUSR2 while visitors come, transfers that last, new programs that do not start, and who ends when.

Runs: sanitized.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading

from tests.integration.harness import (API, BIN, Driver, Folder, Program, Service, command, connect, eventually, free_port, hello, http_service,
                                       pace, read_all, read_exactly, read_head, status)
from tests.integration.restarted import Gone, Restarted, RestartedKit, alive
from tests.integration.visitors import Held, Steady, answer, download
from tests.support.tap import case, main

RESTARTS = int(os.environ.get("HT_RESTARTS", "4"))


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


for sockets in (1, 4):
    @case(f"requests without a pause, {sockets} WebSockets: {RESTARTS} restarts, and none is refused or answered wrongly")
    def _(sockets=sockets):
        with Restarted() as t, http_service(answer) as service:
            driver = t.expose("--connections", str(sockets), f"0={service.port}")
            visitors = Steady(driver.port)
            for n in range(RESTARTS):
                seen = visitors.right
                eventually(lambda: visitors.right > seen + 50 or visitors.wrong, "visitors")
                t.kit.restarts()
                eventually(lambda: len(driver.events("connected")) == n + 2 or visitors.wrong, "the driver at the new program")
            visitors.end()
            t.only_one()
            assert status(driver.port) == 200
            assert not driver.events("disconnected") and [e["resumed"] for e in driver.events("connected")] == [False] + [True] * RESTARTS
            assert len(driver.events("bound")) == 1, driver.events("bound")
            print(f"# {visitors.right} right answers")


@case("what lasts is finished by the program that began it: a download, a WebSocket, a pulled connection; then it ends")
def _():
    with Restarted() as t, Held() as web, Service(echo) as raw:
        expose, pull = t.expose(f"0={web.port}", "--pool-size", "0"), t.pull(f"0={raw.port}")
        with download(web, expose.port) as more, connect(pull.port, 60) as lasting:
            lasting.sendall(b"before")
            assert read_exactly(lasting, 6) == b"before"
            old = t.kit.restarts()
            for driver in (expose, pull):
                eventually(lambda d=driver: len(d.events("connected")) == 2, "the driver at the new program")
            more()
            lasting.sendall(b"after")
            assert read_exactly(lasting, 5) == b"after"
            with connect(pull.port) as short:
                short.sendall(b"new")
                assert read_exactly(short, 3) == b"new"
            older = t.kit.restarts()
            more()
            assert alive(old), t.kit.text()
            eventually(lambda: not alive(older), "the end of the one in between, which has nothing to finish")
        eventually(lambda: not alive(old), f"the end of the first: {t.kit.text()}")


@case("a connection that is kept is answered once more by the old program, and told to close; the next one is the new program's")
def _():
    with Restarted() as t, http_service(hello) as web:
        driver = t.expose(f"0={web.port}")
        kept = http.client.HTTPConnection("127.0.0.1", driver.port, timeout=30)
        kept.request("GET", "/1")
        assert kept.getresponse().read() == b"hello"
        old = t.kit.restarts()
        eventually(lambda: len(driver.events("connected")) == 2, "the driver at the new program")
        assert alive(old)
        kept.request("GET", "/2")
        got = kept.getresponse()
        assert got.status == 200 and got.read() == b"hello" and got.headers["Connection"] == "close", got.headers
        kept.close()
        t.only_one()


@case("whoever is connected to the kit itself, and has asked nothing yet, or half, or something before, is answered, and told to close")
def _():
    with Restarted("--keepalive-timeout", "60s") as t, contextlib.ExitStack() as stack:
        head = f"GET {API}/health HTTP/1.1\r\nHost: 127.0.0.1:{t.kit.port}\r\n".encode()
        new, half, kept = (stack.enter_context(connect(t.kit.port)) for _ in range(3))
        half.sendall(head)
        kept.sendall(head + b"\r\n")
        assert read_head(kept)[0].startswith(b"HTTP/1.1 200 ")
        old = t.kit.restarts()
        for connection, rest in ((new, head + b"\r\n"), (half, b"\r\n"), (kept, head + b"\r\n")):
            assert alive(old)
            connection.sendall(rest)
            got = read_head(connection)[0]
            assert got.startswith(b"HTTP/1.1 200 ") and b"Connection: close" in got, got
            read_all(connection)
        t.only_one()


@case("names and hosts: visitors at the kit's own addresses wait for their driver, and find it")
def _():
    with Restarted("--public", "127.0.0.1:0", "--domain", "tunnel.localhost", "--connect-proxy", "127.0.0.1:0") as t, \
            http_service(hello) as web:
        public = int(eventually(lambda: [line for line in t.kit.log if "public on http://127.0.0.1:" in line], "its address")[0]
                     .split("127.0.0.1:")[1].split(",")[0])
        proxy = int([line for line in t.kit.log if "CONNECT proxy on" in line][0].rsplit(":", 1)[1])
        named = free_port()
        driver = t.expose(f"{named}={web.port}", "--name", "app")
        reach = t.reach(f"api.test:80=127.0.0.1:{web.port}")
        for n in range(2):
            for d in (driver, reach):
                d.process.send_signal(signal.SIGSTOP)  # so that it comes late
            t.kit.restarts()
            with connect(public) as c, connect(proxy) as p:
                c.sendall(b"GET / HTTP/1.1\r\nHost: app-%d.tunnel.localhost\r\nConnection: close\r\n\r\n" % named)
                p.sendall(b"CONNECT api.test:80 HTTP/1.1\r\nHost: api.test:80\r\n\r\n")
                pace(0.2)
                for d in (driver, reach):
                    d.process.send_signal(signal.SIGCONT)
                assert b" 200 " in c.recv(4096).split(b"\r\n")[0]
                assert b" 200 " in read_head(p)[0].split(b"\r\n")[0]
            assert status(driver.port) == 200
            t.only_one()
            assert len(driver.events("connected")) == n + 2


# ---- new programs that do not start ----


def serves_on(t, driver, why, old):
    """The restart fails for that reason, and nobody has noticed anything."""
    visitors = Steady(driver.port)
    got, said = t.kit.restart("--restart-timeout", "80s")
    assert got == 1 and re.search(why, said), (said, t.kit.text())
    seen = visitors.right
    eventually(lambda: visitors.right > seen + 20 or visitors.wrong, "visitors go on")
    visitors.end()
    assert t.kit.serving == old and len(driver.events("connected")) == 1 and not driver.events("disconnected")


@case("a file that is no program, one that ends at once, one that dies at any later moment: the old one serves on")
def _():
    with Restarted("--restart-timeout", "60s") as t, http_service(answer) as service:
        driver = t.expose(f"0={service.port}")
        old = t.kit.serving
        for path, why in (("/etc/passwd", "Permission denied"), ("/nowhere", "No such file"), ("/bin/false", "ended with status 1")):
            t.kit.becomes(path)
            serves_on(t, driver, why, old)
        for text, why in (
                ("old.say('go')", "says what nobody understands"),
                ("old.socket.send(b'nonsense'); pause()", "says what nobody understands"),
                ("old.hello(format=0); pause()", "older version"),
                ("old.hello(); old.until('prepare'); old.say('refused', reason='no memory today'); pause()", "no memory today"),
                ("old.hello(); old.until('prepare'); sys.exit(5)", "ended with status 5"),
                ("old.hello(); old.until('prepare'); old.say('prepared'); old.until('take'); sys.exit(5)", "ended with status 5"),
                ("old.hello(); old.until('prepare'); old.say('prepared'); old.until('take'); pause()", "did not take over in time"),
                ("old.hello(); old.until('prepare'); old.say('prepared'); old.until('take'); old.say('taken'); old.until('go'); sys.exit(5)",
                 "ended with status 5 before it served"),
                ("old.hello(); old.until('prepare'); old.say('prepared'); old.until('take'); old.say('taken'); old.until('go'); pause()",
                 "was killed by signal 9 before it served"),
        ):
            t.kit.script(text)
            # On a busy machine its socket ends long before it does, and the kit does not wait for that.
            serves_on(t, driver, f"{why}|has hung up" if "ended with" in why else why, old)
        t.kit.becomes(BIN)
        t.kit.restarts()
        eventually(lambda: len(driver.events("connected")) == 2, "the driver at the new program")
        assert status(driver.port) == 200
        t.only_one()


@case("a new program that says nothing in time, from the beginning or later: the old one serves on")
def _():
    with Restarted("--restart-timeout", "1s") as t, http_service(answer) as service:
        driver = t.expose(f"0={service.port}")
        old = t.kit.serving
        for text in ("pause()", "old.hello(); old.until('prepare'); pause()"):
            t.kit.script(text)
            serves_on(t, driver, "was not ready in time", old)


@case("an option that is wrong by now, and a token file that is gone: the new program says so, and the old one serves on")
def _():
    with Folder() as folder, http_service(answer) as service:
        token = folder.join("token")
        with open(token, "w", encoding="ascii") as f:
            f.write("sesame\n")
        with Restarted("--token-file", token) as t:
            driver = t.expose(f"0={service.port}", "--token-file", token)
            os.rename(token, token + ".away")
            serves_on(t, driver, "No such file", t.kit.serving)
            os.rename(token + ".away", token)
            t.kit.restarts()
            eventually(lambda: len(driver.events("connected")) == 2, "the driver at the new program")
            driver.end(signal.SIGINT)
            t.drivers.remove(driver)
            t.kit.get = lambda path, old=t.kit: json.loads(old.request("GET", path, {"Authorization": "Bearer sesame"})[1])


@case("records in the conversation hold no token and no id of a client")
def _():
    with Folder() as folder, http_service(hello) as web:
        token, out = folder.join("token"), folder.join("out")
        with open(token, "w", encoding="ascii") as f:
            f.write("open-sesame\n")
        with Restarted("--token-file", token) as t:
            driver = t.expose(f"0={web.port}", "--token-file", token)
            t.kit.script("old.hello(); old.until('prepare'); old.say('prepared'); old.until('take')\n"
                         f"import os; open({out!r}, 'wb').write(os.pread(old.fds[-1], 1 << 20, 0))")
            assert t.kit.restart()[0] == 1
            with open(out, "rb") as f:
                text = f.read()
            assert text.startswith(b"hoody-tunnel-records 1 ") and b'"token":"' in text and b'"client":"' in text, text
            client, = (open(os.path.join(at, name), "rb").read().strip()  # pylint: disable=consider-using-with
                       for at, _, names in os.walk(os.environ["XDG_STATE_HOME"]) for name in names if name.startswith("client-"))
            assert len(client) >= 22 and client not in text and b"open-sesame" not in text
            driver.end(signal.SIGINT)
            t.drivers.remove(driver)
            t.kit.get = lambda path, old=t.kit: json.loads(old.request("GET", path, {"Authorization": "Bearer open-sesame"})[1])


# ---- when ----


@case("asked twice at once: one restart follows the other; asked while it drains, or of a program that has handed over: no")
def _():
    with Restarted() as t, http_service(hello) as web:
        driver = t.expose(f"0={web.port}")
        first = t.kit.serving
        t.kit.slow_script()
        t.kit.process.send_signal(signal.SIGUSR2)
        eventually(lambda: "the program is started anew" in t.kit.text(), "the first")
        t.kit.process.send_signal(signal.SIGUSR2)
        eventually(lambda: "another one follows" in t.kit.text(), "the second")
        eventually(lambda: t.kit.text().count("serves since now") == 2, f"both: {t.kit.text()}")
        eventually(lambda: len(driver.events("connected")) == 3, "the driver at the last program")
        assert t.kit.serving != first and status(driver.port) == 200
        t.only_one()
        with Held() as web2:
            lasting = t.expose(f"0={web2.port}", "--pool-size", "0")
            with download(web2, lasting.port) as more:
                before = t.kit.restarts()
                os.kill(before, signal.SIGUSR2)
                eventually(lambda: "SIGUSR2: this program has handed over to process" in t.kit.text(), "a word")
                assert t.kit.serving != before
                more()
                os.kill(before, signal.SIGTERM)  # ends the old program alone, once it has finished
                eventually(lambda: f"SIGTERM: this program has handed over to process {t.kit.serving}, which serves on" in t.kit.text(), "a word")
                more()
        t.only_one()


@case("the pid file: a number is in it at every moment, also while the kit is restarted")
def _():
    with Restarted() as t:
        with Gone(t.kit.folder) as gone:
            for _ in range(20):
                t.kit.restarts()
            t.only_one()
        assert set(gone.names) == {"pid.new"}, gone.names


@case("SIGTERM to the one that serves ends the old ones, too, which drain")
def _():
    with Held() as web:
        kit = RestartedKit("--drain-timeout", "300ms")
        try:
            driver = Driver(kit, "expose", f"0={web.port}", "--pool-size", "0")
            with download(web, driver.port) as more:
                old = kit.restarts()
                eventually(lambda: len(driver.events("connected")) == 2, "the driver at the new program")
                more()
                assert alive(old)
                os.kill(kit.serving, signal.SIGTERM)
                eventually(lambda: not alive(old), f"its end: {kit.text()}")
            driver.end(signal.SIGINT)
        finally:
            assert kit.end() == 0, kit.text()
        kit.check_sanitizers()


@case("--restart-drain: what is left then is cut, and the old program ends")
def _():
    with Restarted("--restart-drain", "1s", "--drain-timeout", "200ms") as t, Held() as web:
        driver = t.expose(f"0={web.port}", "--pool-size", "0")
        with contextlib.suppress(ConnectionError), download(web, driver.port) as more:
            old = t.kit.restarts()
            more()
            eventually(lambda: not alive(old), f"its end: {t.kit.text()}")
            assert "--restart-drain is over" in t.kit.text()
        assert status(driver.port) in (200, 502, 504) or True
        t.only_one()


@case("a driver that ends during the restart takes its port with it; one that is lost finds it again at the new program")
def _():
    with Restarted() as t, http_service(hello) as web:
        leaves, lost = t.expose(f"0={web.port}"), t.expose(f"0={web.port}")
        for d in (leaves, lost):
            d.process.send_signal(signal.SIGSTOP)
        t.kit.restarts()
        leaves.process.send_signal(signal.SIGINT)
        leaves.process.send_signal(signal.SIGCONT)
        assert leaves.process.wait(20) == 0
        t.drivers.remove(leaves)
        eventually(lambda: status(leaves.port) is None, f"a port that is free: {t.kit.text()}")
        lost.process.send_signal(signal.SIGCONT)
        eventually(lambda: len(lost.events("connected")) == 2, "it at the new program")
        assert status(lost.port) == 200
        t.only_one()


@case("the new program is killed later: the drivers' ports are gone with it, and old programs finish what they have")
def _():
    with Held() as web:
        kit = RestartedKit()
        try:
            driver = Driver(kit, "expose", f"0={web.port}", "--pool-size", "0")
            with download(web, driver.port) as more:
                old = kit.restarts()
                eventually(lambda: len(driver.events("connected")) == 2, "the driver at the new program")
                os.kill(kit.serving, signal.SIGKILL)
                more()
                more()
            eventually(lambda: not alive(old), f"its end: {kit.text()}")
            driver.end(signal.SIGKILL)
        finally:
            kit.end()


# ---- what people see ----


def told(reader):
    return [json.loads(line[5:]) for line in list(reader.log) if line.startswith("out: {")]


@case("events, the status and the metrics tell of restarts: asked for, failed, done, for how long, how many sessions, who still finishes")
def _():
    with Restarted() as t, Held() as web, http_service(hello) as quick:
        drivers = t.expose(f"0={web.port}", "--pool-size", "0"), t.expose(f"0={quick.port}")
        reader = Program([BIN, "events", "--json", "--url", t.kit.url])
        eventually(lambda: t.kit.metric("hoody_tunnel_event_readers") == 1, "the reader")
        with download(web, drivers[0].port) as more:
            t.kit.becomes("/bin/false")
            assert t.kit.restart()[0] == 1
            eventually(lambda: [e["event"] for e in told(reader)] == ["restart-begun", "restart-failed"], f"both: {reader.text()}")
            assert "ended with status 1" in told(reader)[1]["reason"]
            assert t.kit.metric('hoody_tunnel_restarts_total{outcome="not_ready"}') == 1
            t.kit.becomes("/nowhere")
            assert t.kit.restart()[0] == 1
            assert t.kit.metric('hoody_tunnel_restarts_total{outcome="not_started"}') == 1
            assert t.kit.metric('hoody_tunnel_restarts_total{outcome="done"}') == 0
            t.kit.becomes(BIN)
            for n in range(2):
                t.kit.restarts()
                done = eventually(lambda n=n: [e for e in told(reader) if e["event"] == "restarted"][n:], f"an event: {reader.text()}")[0]
                assert done["sessions"] == 2 and 0 <= done["pausedMs"] <= done["tookMs"] < 60000, done
                for d in drivers:
                    eventually(lambda d=d, n=n: len(d.events("connected")) == n + 2, "the driver at the new program")
                for name, value in (('restarts_total{outcome="done"}', n + 1), ("restart_seconds_count", 1), ("restart_pause_seconds_count", 1),
                                    ('kept_sessions_total{outcome="handed_over"}', 2), ('kept_sessions_total{outcome="left_out"}', 0),
                                    ('kept_sessions_total{outcome="back"}', 2), ('kept_sessions_total{outcome="lost"}', 0)):
                    assert t.kit.metric(f"hoody_tunnel_{name}") == value, (name, value)
                # The first program has the download; the one in between has nothing to finish.
                eventually(lambda: t.kit.metric("hoody_tunnel_restart_elders_active") == 1, "one that finishes")
                latest = [e for e in t.kit.get("/status")["events"] if e["event"] == "restarted"]
                assert len(latest) == 1 and latest[0]["sessions"] == 2, latest
                eventually(lambda: t.kit.metric("hoody_tunnel_event_readers") == 1, "the reader at the new program")
            more()
            more()
        eventually(lambda: t.kit.metric("hoody_tunnel_restart_elders_active") == 0, "the end of the first program")
        assert reader.end(signal.SIGINT) == 0, reader.text()


def pin(kit):
    return re.findall(r"--pin (sha256:[0-9a-f]{64})", kit.text())


@case("--tls-self-signed: the new program has the certificate of before, so that a driver with --pin comes to it; with another --domain it says so")
def _():
    with Restarted("--tls-self-signed") as t, http_service(hello) as web:
        first, = pin(t.kit)
        driver = t.expose(f"0={web.port}", "--pin", first)
        for n in range(2):
            t.kit.restarts()
            eventually(lambda n=n: len(driver.events("connected")) == n + 2, f"the driver at the new program: {driver.text()}")
            assert set(pin(t.kit)) == {first} and len(pin(t.kit)) == n + 2, pin(t.kit)
            assert "self-signed, of the kit before" in t.kit.text()
        assert not driver.events("disconnected")
        driver.end(signal.SIGINT)
        t.drivers.remove(driver)
        t.kit.wrapped("--public https://127.0.0.1:0 --domain two.localhost")
        t.kit.restarts()
        t.kit.wait_line("the certificate of the kit before is for other names")
        assert len(set(pin(t.kit))) == 2


# ---- what people use ----


@case("--keep-pid: the number stays, signals are passed on, the status is the kit's; restarts work as without")
def _():
    with Restarted("--keep-pid") as t, http_service(answer) as service:
        driver = t.expose(f"0={service.port}")
        parent = t.kit.process.pid
        assert t.kit.serving == parent
        visitors = Steady(driver.port)
        for n in range(2):
            got, said = t.kit.restart()
            assert got == 0 and f"process {parent} serves" in said, said
            eventually(lambda: len(driver.events("connected")) == n + 2 or visitors.wrong, "the driver at the new program")
        visitors.end()
        t.kit.process.send_signal(signal.SIGHUP)
        eventually(lambda: "SIGHUP: reloaded" in t.kit.text(), "it is passed on")
        assert t.kit.serving == parent and status(driver.port) == 200


@case("`restart` says what is wrong: no such file, a number of nobody, of another program, of none")
def _():
    with Folder() as folder:
        path = folder.join("pid")
        assert command("restart")[0] == 2
        for text, why in ((None, "No such file"), ("", "no process number"), ("x\n", "no process number"), ("-1\n", "no process number"),
                          ("999999999\n", "is not running"), (f"{os.getpid()}\n", "no kit that can be restarted")):
            if text is not None:
                with open(path, "w", encoding="ascii") as f:
                    f.write(text)
            got, _, said = command("restart", "--pid-file", path)
            assert got == 1 and why in said, (text, said)
        # The number is new in the file because the kit that serves on has put it back.
        with open(folder.join("kit"), "w", encoding="utf-8") as f:
            f.write(f"""import os, signal
def put(name, text):
    with open("part", "w", encoding="ascii") as f:
        f.write(text)
    os.rename("part", name)
os.chdir({folder.path!r})
signal.signal(signal.SIGUSR2, lambda *_: (put("pid.failed", "no memory today"), put("pid", f"{{os.getpid()}}")))
put("pid", f"{{os.getpid()}}")
while True:
    signal.pause()
""")
        kit = subprocess.Popen([sys.executable, folder.join("kit")])
        try:
            eventually(lambda: open(path, encoding="ascii").read() == str(kit.pid), "its pid file")
            for _ in range(20):
                got, _, said = command("restart", "--pid-file", path)
                assert got == 1 and "no memory today" in said, said
        finally:
            kit.kill()
            kit.wait()


@case("`restart --unit` asks systemd which process it is, and for what came of it")
def _():
    with Restarted() as t, Folder() as folder, http_service(hello) as web:
        driver = t.expose(f"0={web.port}")
        with open(folder.join("systemctl"), "w", encoding="utf-8") as f:
            f.write(f"""#!/bin/sh
case "$1 $6" in
show*) test "$4" = hoody-tunnel || exit 1; printf 'MainPID=%s\\nStatusText=%s\\n' "$(cat {t.kit.pid_file})" "$(cat {folder.path}/status)";;
"kill hoody-tunnel" | kill*) kill -USR2 "$(cat {t.kit.pid_file})";;
esac
""")
        os.chmod(folder.join("systemctl"), 0o755)
        with open(folder.join("status"), "w", encoding="ascii") as f:
            f.write("listening")
        env = {"PATH": folder.path + ":" + os.environ["PATH"]}
        before = t.kit.serving
        got, out, said = command("restart", "--unit", "hoody-tunnel", env=env)
        assert got == 0 and f"process {t.kit.serving} serves" in out and t.kit.serving != before, (out, said)
        eventually(lambda: len(driver.events("connected")) == 2, "the driver at the new program")
        t.only_one()
        t.kit.becomes("/bin/false")

        def failed():
            eventually(lambda: "serves on" in t.kit.text(), "the failure", 60)
            with open(folder.join("status"), "w", encoding="ascii") as f:
                f.write("the restart failed at 12:00: the new program ended with status 1")
        teller = threading.Thread(target=failed)
        teller.start()
        got, out, said = command("restart", "--unit", "hoody-tunnel", env=env)
        teller.join()
        assert got == 1 and "ended with status 1" in said, (out, said)
        assert command("restart", "--unit", "other", env=env)[0] == 1


if __name__ == "__main__":
    main()
