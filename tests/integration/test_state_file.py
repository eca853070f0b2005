"""--state-file: there while a driver's tunnel stands, and `ready` about it; no killed driver's file is a yes."""

import json
import os
import signal
import stat

from tests.integration.harness import BIN, Driver, Folder, Program, Relay, Tunnel, command, eventually, free_port, hello, http_service
from tests.support.tap import case, main


def ready(path):
    """(exit status, what was said)"""
    status, out, err = command("ready", "--state-file", path)
    assert len((out + err).splitlines()) == 1, (status, out, err)
    return status, out + err


def becomes(path, status, text):
    eventually(lambda: ready(path)[0] == status and text in ready(path)[1], f"{status}: {text}")


@case("ready follows the link: not before, while it stands, not while it is lost, again when it is back, not behind its end")
def _():
    with Folder() as folder, Tunnel() as t, http_service(hello) as web, Relay(t.kit.port) as relay:
        path = folder.join("state")
        relay.held = True
        assert ready(path) == (1, f"hoody-tunnel: not ready: there is no {path}; a driver with this --state-file writes it once it is "
                                  "connected and all its ports are bound\n")
        waiting = Program([BIN, "expose", f"0={web.port}", f"0={web.port}", "--url", relay.url, "--json", "--retry-for", "1h",
                           "--state-file", path])
        t.drivers.append(waiting)
        waiting.wait_line('"event":"retrying"')
        assert not os.path.exists(path) and ready(path)[0] == 1
        relay.held = False
        becomes(path, 0, f"ready: process {waiting.pid} is connected, with 2 ports, since 20")
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        status, out, _ = command("ready", "--json", env={"HOODY_TUNNEL_STATE_FILE": path})
        assert status == 0 and json.loads(out)["pid"] == waiting.pid and json.loads(out)["ports"] == 2, out
        relay.held = True
        relay.cut()
        becomes(path, 1, "there is no")
        relay.held = False
        waiting.process.send_signal(signal.SIGHUP)  # tries again at once
        becomes(path, 0, "2 ports")
        assert waiting.text().count('"event":"bound"') == 2, waiting.text()  # resumed
        assert waiting.end(signal.SIGINT) == 0, waiting.text()
        assert os.listdir(folder.path) == []


@case("a killed driver's file is a no, whether or not anybody saw it end; the next driver's is a yes, and the one it replaced leaves it")
def _():
    with Folder() as folder, Tunnel() as t, http_service(hello) as web:
        path = folder.join("state")
        killed = Driver(t.kit, "expose", f"0={web.port}", "--state-file", path)
        becomes(path, 0, f"process {killed.pid}")
        killed.process.kill()
        becomes(path, 1, "was killed or has crashed, and left the file behind")  # a zombie: nobody has waited for it
        killed.end()
        assert ready(path) == (1, f"hoody-tunnel: not ready: process {killed.pid}, the driver that wrote {path}, was killed or has crashed, and left the file behind\n")
        first = t.expose(f"{killed.port}={web.port}", "--state-file", path)
        becomes(path, 0, f"process {first.pid}")
        second = t.pull(f"0={web.port}", env={"HOODY_TUNNEL_STATE_FILE": path})
        becomes(path, 0, f"process {second.pid} is connected, with 1 port, since")
        assert first.end(signal.SIGINT) == 0, first.text()
        assert ready(path)[0] == 0
        second.process.send_signal(signal.SIGSTOP)
        becomes(path, 1, "is stopped")
        second.process.send_signal(signal.SIGCONT)
        becomes(path, 0, f"process {second.pid}")
        assert second.end(signal.SIGINT) == 0, second.text()
        assert not os.path.exists(path)


@case("a port that was taken over: the tunnel does not stand any more as it was asked for")
def _():
    with Folder() as folder, Tunnel() as t, http_service(hello) as web:
        path, port = folder.join("state"), free_port()
        driver = t.expose(f"{port}={web.port}", f"0={web.port}", "--state-file", path, bindings=2)
        becomes(path, 0, "2 ports")
        t.expose(f"{port}={web.port}", "--takeover", env={"XDG_STATE_HOME": folder.join("other")})
        eventually(lambda: driver.events("unbound"), "it is told")
        becomes(path, 1, "there is no")
        assert driver.process.poll() is None, driver.text()


@case("up takes it from its file, relative to that; where nothing can be written it ends with 3 and says where")
def _():
    with Folder() as folder, Tunnel() as t, http_service(hello) as web:
        config = folder.join("tunnel.yaml")
        with open(config, "w", encoding="ascii") as f:
            f.write(f"url: {t.kit.url}\nstate-file: state\nexpose: ['0={web.port}']\n")
        t.drivers.append(Program([BIN, "up", "-f", config]))
        becomes(folder.join("state"), 0, "1 port,")
        nowhere = folder.join("none", "state")
        status, out, err = command("expose", f"0={web.port}", "--url", t.kit.url, "--state-file", nowhere)
        assert status == 3 and f"cannot write {nowhere}: No such file or directory" in err, (status, out, err)


if __name__ == "__main__":
    main()
