"""`doctor`: each step that can fail, what it says and the exit status; and that a kit is as it was afterwards."""

import http.server
import json
import os
import threading

from tests.integration.harness import Folder, Kit, Tunnel, command, free_port
from tests.integration.proxies import OurProxy, tinyproxy
from tests.integration.tls_peer import Authority
from tests.support.tap import case, main

STEPS = ["name", "tcp", "proxy", "tls", "upgrade", "token", "bind", "round-trip"]


def doctor(want, *args, failed=None, env=None):
    """Runs it for programs and for people; returns the checks by name."""
    code, out, said = command("doctor", *args, "--json", env=env)
    assert (code, said) == (want, ""), (code, out, said)
    told = json.loads(out)
    checks = {c["name"]: c for c in told["checks"]}
    assert list(checks) == STEPS and told["ok"] == (want == 0) and told["exitStatus"] == want, told
    assert [c["name"] for c in told["checks"] if c["status"] == "failed"] == ([failed] if failed else []), told
    if failed:  # and nothing behind it was tried
        assert all(checks[s]["status"] == "skipped" for s in STEPS[STEPS.index(failed) + 1:]), told
    code, out, said = command("doctor", *args, "--color", "never", env=env)
    lines = out.splitlines()
    assert (code, said) == (want, "") and [line.split()[1] for line in lines] == STEPS, (code, out, said)
    return checks


@case("a kit that works: every step is ok, and nothing is left behind in it")
def _():
    with Folder() as folder:
        ca = Authority(folder)
        cert, key = ca.issue("kit")
        with open(folder.join("token"), "w", encoding="ascii") as f:
            f.write("s3cret-token\n")
        os.chmod(folder.join("token"), 0o600)
        with Tunnel() as t:
            checks = doctor(0, "--url", t.kit.url)
            assert "a request to http://127.0.0.1:" in checks["round-trip"]["message"], checks
            tunnels = t.kit.get("/tunnels")
            assert tunnels["sessions"] == [] and tunnels["totalBindings"] == 0 and tunnels["orphanedSessions"] == 0, tunnels
        kit = Kit("--tls-cert", cert, "--tls-key", key, "--token-file", folder.join("token"))
        try:
            secret = ("--token-file", folder.join("token"), "--ca", ca.path("ca.pem"), "--url", f"wss://localhost:{kit.port}")
            checks = doctor(0, *secret)
            assert checks["tls"]["status"] == "warning" and "by Test CA is good until" in checks["tls"]["message"], checks  # it has two days
            assert checks["token"]["status"] == "ok"
            with tinyproxy() as proxy:
                checks = doctor(0, *secret, "--proxy", f"http://127.0.0.1:{proxy.port}")
            assert "opens connections to localhost" in checks["proxy"]["message"], checks
            # what does not fit fails at its own step
            checks = doctor(4, *secret[2:], failed="token")
            assert "--token-file" in checks["token"]["help"], checks
            doctor(4, *secret[2:], failed="token", env={"HOODY_TUNNEL_TOKEN": "another"})
            checks = doctor(3, *secret[4:], failed="tls")
            assert "--ca" in checks["tls"]["message"], checks
            code, out, said = command("list", *secret)
            assert code == 0 and "0 sessions, 0 parked, 0 bindings" in out, (out, said)
        finally:
            assert kit.end() == 0, kit.text()


@case("name, tcp and proxy fail each at their own step")
def _():
    with Tunnel() as t, OurProxy(b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"Corp\"\r\n\r\n") as wants:
        checks = doctor(6, "--url", "ws://kit.invalid", failed="name")
        assert "cannot resolve kit.invalid" in checks["name"]["message"], checks
        checks = doctor(6, "--url", f"ws://127.0.0.1:{free_port()}", failed="tcp")
        assert "connection refused" in checks["tcp"]["message"] and "--proxy" in checks["tcp"]["help"], checks
        checks = doctor(6, "--url", t.kit.url, "--proxy", f"http://ann:secret@127.0.0.1:{free_port()}", failed="tcp")
        assert "proxy" in checks["tcp"]["help"] and "secret" not in str(checks), checks
        checks = doctor(6, "--url", t.kit.url, "--proxy", wants.url, failed="proxy")
        assert 'wants credentials for "Corp"' in checks["proxy"]["message"], checks
        checks = doctor(6, "--url", f"ws://kit.test:{t.kit.port}", failed="proxy", env={"HTTP_PROXY": wants.url})
        assert "(HTTP_PROXY)" in checks["proxy"]["message"], checks
        code, _, said = command("doctor", "--url", t.kit.url, "--proxy", "gopher://x")
        assert code == 2 and "of a kind that is not known" in said, said


class Portal(http.server.BaseHTTPRequestHandler):
    """The login page of a network, or an edge: what it answers stands in `answer`."""
    answer = 200, {}, ""

    def do_GET(self):  # pylint: disable=invalid-name
        status, fields, body = Portal.answer
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):  # pylint: disable=arguments-differ
        pass


PAGE = "<!DOCTYPE html><html><head><title>\n  Hotel\x1b[31m W\u00e4rme  </title></head><body>Pay</body></html>"
ANSWERS = [
    ((200, {"Content-Type": "text/html"}, PAGE), 'answered 200 OK: a web page, "Hotel\\x1b[31m W\u00e4rme"; something other than a kit'),
    ((302, {"Location": "http://login.test/?a=b"}, ""), "it leads to http://login.test/; it is not a kit"),
    ((401, {"WWW-Authenticate": 'Basic realm="Staging"'}, ""), 'it wants a login: Basic realm="Staging"; what stands in front of the kit wants'),
    ((403, {}, "no"), "403 Forbidden: no; the kit, or what stands in front of it, refuses"),
    ((407, {"Proxy-Authenticate": "Basic"}, ""), "it wants a login: Basic; a proxy of this network is in between"),
    ((502, {}, ""), "502 Bad Gateway; what stands in front of the kit does not reach it"),
    ((503, {}, ""), "503 Service Unavailable; what stands in front"),
    ((504, {}, ""), "504 Gateway Timeout; what stands in front"),
]


@case("the upgrade: a login page and an edge are named, whatever they answer; the same in expose")
def _():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Portal) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        url = f"ws://127.0.0.1:{server.server_address[1]}"
        for Portal.answer, word in ANSWERS:
            checks = doctor(6, "--url", url, failed="upgrade")
            assert word in checks["upgrade"]["message"], (word, checks)
            code, _, said = command("expose", "1", "--url", url)
            assert code == 6 and word in said, (word, said)
        Portal.answer = 401, {"WWW-Authenticate": "Bearer"}, ""
        doctor(4, "--url", url, failed="token")
        server.shutdown()
        thread.join()


@case("bind, and the way through: a kit that cannot open ports, and one whose ports are elsewhere")
def _():
    with Tunnel("--expose-address", "192.0.2.77") as t:
        checks = doctor(5, "--url", t.kit.url, failed="bind")
        assert checks["bind"]["message"], checks
    with Tunnel("--expose-address", "127.0.0.9") as t:
        checks = doctor(1, "--url", t.kit.url, failed="round-trip")
        assert "connection refused" in checks["round-trip"]["message"], checks


if __name__ == "__main__":
    main()
