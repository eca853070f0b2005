"""What operators type at a real kit: sessions kill, ready, events; how each ends."""

import json
import signal

from tests.integration.harness import BIN, Kit, Program, Tunnel, command, eventually, free_port
from tests.support.tap import case, main


def follow(kit, *args):
    """`events`, once the kit has one reader more."""
    before = kit.metric("hoody_tunnel_event_readers")
    program = Program([BIN, "events", "--url", kit.url, *args])
    eventually(lambda: kit.metric("hoody_tunnel_event_readers") > before, "the kit has one more reader of events")
    return program


@case("sessions kill: the session ends with exit status 7, a second kill finds none")
def _():
    with Tunnel() as t:
        driver = t.expose(f"0={free_port()}")
        session = t.kit.get("/sessions")["sessions"][0]["sessionId"]
        status, out, err = command("sessions", "kill", session, "--grace-ms", "0", "--url", t.kit.url)
        assert (status, out, err) == (0, f"{session} is closing\n", ""), (status, out, err)
        assert driver.process.wait(20) == 7, driver.text()
        t.drivers.remove(driver)
        driver.end()
        status, out, err = command("sessions", "kill", session, "--url", t.kit.url)
        assert status == 1 and f"no session {session}" in err, (status, out, err)


@case("events: lines, JSON, Ctrl-C is 0; a kit that is away is waited for, or given up")
def _():
    port = free_port()
    kit = Kit("--listen", f"127.0.0.1:{port}")
    lines, objects = follow(kit), follow(kit, "--json")
    colored, brief = follow(kit, "--color=always"), follow(kit, "--retry-for", "0")
    try:
        driver = Program([BIN, "expose", f"0={free_port()}", "--url", kit.url, "--label", "x"])
        line = lines.wait_line(r"^(\S+)Z  bind  owner=admin  sessionId=(S-\S+)  .*port=(\d+)  kind=http  mode=expose")
        event = json.loads(objects.wait_line(r'.*"event":"bind".*').group(0))
        assert (event["sessionId"], str(event["port"])) == line.groups()[1:], (event, line.groups())
        colored.wait_line("Z  \033\\[1mbind\033\\[0m  owner=admin  sessionId=")
        assert driver.end(signal.SIGINT) == 0
        assert kit.end() == 0
        brief.wait_line("hoody-tunnel: ")
        assert brief.process.wait(20) == 6, brief.text()
        lines.wait_line("hoody-tunnel: .*; trying again")
        kit = Kit("--listen", f"127.0.0.1:{port}")
        lines.process.send_signal(signal.SIGHUP)
        objects.process.send_signal(signal.SIGHUP)
        lines.wait_line("reading the kit's events again")
        objects.wait_line("reading the kit's events again")
        driver = Program([BIN, "pull", f"0={free_port()}", "--url", kit.url])
        lines.wait_line(r"Z  bind  .*kind=tcp  mode=pull")
        assert driver.end(signal.SIGINT) == 0
    finally:
        for program in (lines, objects, colored, brief):
            status = program.end(signal.SIGINT)
            program.check_sanitizers()
            assert status == (6 if program is brief else 0), (status, program.text())
        assert kit.end() == 0


@case("events: a token that is wanted, a kit that is not there, a port that is no kit")
def _():
    kit = Kit(env={"HOODY_TUNNEL_TOKEN": "s3cret"})
    try:
        status, out, err = command("events", "--url", kit.url)
        assert status == 4 and "wants a token" in err and not out, (status, out, err)
        status, out, err = command("events", "--url", kit.url, env={"HOODY_TUNNEL_TOKEN": "wrong"})
        assert status == 4 and "refused the token" in err and "wrong" not in err, (status, out, err)
        status, out, err = command("events", "--url", f"http://127.0.0.1:{kit.port}/elsewhere")
        assert status == 1, (status, out, err)
    finally:
        assert kit.end() == 0
    status, out, err = command("events", "--url", f"127.0.0.1:{free_port()}")
    assert status == 6 and "refused" in err, (status, out, err)
    status, out, err = command("events", "--url", f"127.0.0.1:{free_port()}", "--retry-for", "1s")
    assert status == 6 and "trying again" in err, (status, out, err)
    assert command("events", "--nonsense")[0] == 2
    assert command("events", "--token-file", "/nonexistent")[0] == 3


@case("ready: 0 when it takes drivers, 1 while it drains and when it is gone")
def _():
    kit = Kit("--drain-timeout", "30s", env={"HOODY_TUNNEL_TOKEN": "s3cret"})
    assert command("ready", "--url", kit.url) == (0, "ready\n", "")
    assert json.loads(command("ready", "--url", kit.url, "--json")[1])["status"] == "ok"
    assert kit.end() == 0
    status, out, err = command("ready", "--url", kit.url)
    assert status == 1 and not out and "refused" in err, (status, out, err)


if __name__ == "__main__":
    main()
