"""HTTP/3 at `edge up`, by Caddy beside HAProxy: who the visitor is, the same answers as by HTTP/2, and that it is told of only while it answers.

Runs: plain.
"""

import json
import os
import re
import shutil
import signal
import subprocess

from tests.integration.edge_visitors import CONTAINER, OTHER, PROJECT, SERVER, SERVER6, VISITOR, VISITOR6, Seen, needs_caddy, needs_tproxy, site, with_caps
from tests.integration.edges import descendants, is_there
from tests.integration.harness import BIN, ROOT, eventually
from tests.support.tap import Skip, case, main

PORT = 8443
CLIENT = os.path.join(ROOT, "tests", "integration", "h3_client.py")


def client_python():
    for name in (os.environ.get("H3_PYTHON"), os.path.join(ROOT, "build/h3-client/bin/python3"), "python3"):
        python = name and shutil.which(name)
        if python and subprocess.run([python, "-c", "import aioquic"], capture_output=True, check=False).returncode == 0:
            return python
    raise Skip("no client of HTTP/3: `make h3-client` installs one")


def needs_h3():
    needs_caddy()
    return client_python()


class H3:
    def __init__(self, it, python):
        self.it, self.python = it, python

    def start(self, *more, caps=("net_bind_service",)):
        edge = self.it.start("--http3", *more, as_user=with_caps(*caps))
        edge.wait_line(rf"HTTP/3 answers at port {PORT}")
        return edge

    def ask(self, *requests, own=VISITOR, server=SERVER, host=None):
        out = self.it.visitor.run(self.python, CLIENT, server, str(PORT), host or self.it.host(), own,
                                  json.dumps([[*r, *("GET", "/", [], "")[len(r):]] for r in requests or [()]]))
        return json.loads(out)

    def seen(self, fields=(), **how):
        answer = self.ask(("GET", "/", [list(f) for f in fields]), **how)[0]
        assert answer.get("status") == 200, answer
        return Seen(json.loads(answer["body"]))

    def told(self):
        """The Alt-Svc of an answer over TCP."""
        head = self.it.curl("--http1.1", "-i")[1]
        found = re.search(r"^alt-svc: (.*?)\r?$", head, re.M | re.I)
        return found and found.group(1)

    def caddy(self):
        for pid in descendants(self.it.edge.pid):
            with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                if f.read().strip() == "caddy":
                    return pid
        return None


LIES = [["x-hoody-h3-client", "6.6.6.6"], ["x_hoody_h3_client", "6.6.6.6"], ["x-forwarded-for", "6.6.6.6"], ["x_forwarded_for", "6.6.6.6"], ["forwarded", "for=6.6.6.6"],
        ["x-real-ip", "6.6.6.6"], ["x-forwarded-host", "evil.example"], ["x-forwarded-proto", "http"]]


@case("HTTP/3: the service sees the visitor, by IPv4 and IPv6, whatever the visitor says of itself; unknown hosts are 404; many streams, none with another's address")
def _():
    python = needs_h3()
    with site() as it:
        h3 = H3(it, python)
        h3.start()
        assert h3.told() == f'h3=":{PORT}"; ma=3600'
        for own in (VISITOR, OTHER):
            seen = h3.seen(LIES, own=own)
            assert seen.one("x-forwarded-for") == own and seen.one("forwarded").startswith(f"for={own};") and seen.one("x-forwarded-proto") == "https", seen.fields
            whole = json.dumps(seen.fields)
            assert "6.6.6.6" not in whole and "evil" not in whole and "h3-client" not in whole and "via" not in seen.fields, whole
        assert h3.seen(LIES, own=VISITOR6, server=SERVER6).one("x-forwarded-for") == VISITOR6
        assert h3.ask(host=it.host(CONTAINER[::-1]))[0]["status"] == 404
        assert h3.ask(("GET", "/"), host=f"{PROJECT}-{CONTAINER}-nothing-1.node1.containers.example.com")[0]["status"] == 404
        for own in (VISITOR, OTHER) * 3:
            for answer in h3.ask(*[("GET", f"/{i}", LIES) for i in range(50)], own=own):
                assert answer["status"] == 200 and Seen(json.loads(answer["body"])).one("x-forwarded-for") == own, answer
        # By TCP the field of that socket is nobody's.
        assert it.seen("-H", "x-hoody-h3-client: 6.6.6.6").one("x-forwarded-for") == VISITOR
        assert it.seen("--http1.1", "-H", "x-hoody-h3-client: 6.6.6.6").one("x-forwarded-for") == VISITOR
        # Nor does a client reach the socket by itself.
        assert it.server.run("stat", "-c", "%a %u", "/tmp/edge/run/h3.sock").split() == ["600", "65534"]
        out = it.server.run("sh", "-c", '"$@" 2>&1; echo status $?', "-", "setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "curl", "-sS",
                            "--unix-socket", "/tmp/edge/run/h3.sock", "-H", "x-hoody-h3-client: 6.6.6.6", f"http://{it.host()}/")
        assert "status 0" not in out, out
        # What Caddy has open besides is no way past.
        out = it.visitor.run("sh", "-c", '"$@" 2>&1 || true', "-", "curl", "-sS", "-m", "10", "--cacert", "/tmp/ca.pem", "--resolve",
                             f"{it.host()}:{PORT}:{SERVER}", "-H", "x-hoody-h3-client: 6.6.6.6", "-H", "x-forwarded-for: 6.6.6.6", f"https://{it.host()}:{PORT}/")
        assert "6.6.6.6" not in out, out


@case("HTTP/3 with tproxy: the container's peer is the visitor itself")
def _():
    python = needs_h3()
    needs_tproxy()
    with site() as it:
        h3 = H3(it, python)
        it.tproxy("--http3").wait_line(rf"HTTP/3 answers at port {PORT}")
        for own in (VISITOR, OTHER, VISITOR):
            assert h3.seen(own=own).peer == own
        assert h3.seen(own=VISITOR6, server=SERVER6).peer == "10.77.0.1"


@case("visitors are told of HTTP/3 only while it answers: Caddy that is stopped, killed, started again; SIGHUP changes its certificate; nothing is left at the end")
def _():
    python = needs_h3()
    with site() as it:
        h3 = H3(it, python)
        edge = h3.start()
        first = h3.caddy()
        os.kill(first, signal.SIGSTOP)
        edge.wait_line(r"HTTP/3 does not answer")
        eventually(lambda: h3.told() == "clear", "Alt-Svc: clear")
        os.kill(first, signal.SIGCONT)
        eventually(lambda: h3.told() == f'h3=":{PORT}"; ma=3600', "Alt-Svc")
        os.kill(first, signal.SIGKILL)
        edge.wait_line(r"Caddy has ended, and is started again")
        eventually(lambda: (h3.caddy() or first) != first and h3.told() == f'h3=":{PORT}"; ma=3600', "Caddy again, and Alt-Svc")
        assert h3.seen().one("x-forwarded-for") == VISITOR
        def shown():
            return it.visitor.run("sh", "-c", '"$@" 2>/dev/null || true', "-", python, "-c", SHOWN, SERVER, str(PORT), it.host()).strip()
        before = shown()
        os.kill(edge.inner, signal.SIGHUP)
        eventually(lambda: shown() not in (before, ""), "another certificate by HTTP/3")
        eventually(lambda: h3.told() == f'h3=":{PORT}"; ma=3600', "Alt-Svc")
        assert h3.seen().one("x-forwarded-for") == VISITOR
        left = descendants(edge.pid)
        assert edge.end() == 0, edge.text()
        eventually(lambda: not any(map(is_there, left)), "the end of all that was started")
        it.edge = None


SHOWN = r'''
import asyncio, ssl, sys
from aioquic.asyncio.client import connect
from aioquic.quic.configuration import QuicConfiguration
async def go(server, port, host):
    setup = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name=host, verify_mode=ssl.CERT_REQUIRED)
    setup.load_verify_locations("/tmp/ca.pem")
    async with connect(server, int(port), configuration=setup) as c:
        print(c._quic.tls._peer_certificate.serial_number)
asyncio.run(go(*sys.argv[1:]))
'''


@case("without --http3 nothing is told of it; as root, at HAProxy's own port or without Caddy it says so; a port that another has is told as such")
def _():
    needs_h3()
    with site() as it:
        asks = lambda how, *more: it.server.run("sh", "-c", '"$@" 2>&1; echo status $?', "-", *how, BIN, "edge", "up", *it.args("--http3", *more))  # noqa: E731
        said = asks(())
        assert "--http3: what ends QUIC must not be root" in said and "status 3" in said, said
        it.server.run("rm", "-r", "/tmp/edge")
        said = asks(with_caps("net_bind_service"), "--http3-port", "443")
        assert "Caddy, which does it then, cannot have a port that HAProxy has" in said and "status 3" in said, said
        said = asks((*with_caps("net_bind_service"), "env", "PATH=/nowhere"))
        if not any(os.access(f"{folder}/caddy", os.X_OK) for folder in ("/usr/sbin", "/usr/local/sbin", "/sbin")):
            assert "install the package caddy" in said and "status 3" in said, said
        # Somebody else answers QUIC there: that is not ours to tell of.
        busy = it.server.start("/usr/bin/python3", "-uc", "import socket, time\ns = socket.socket(type=socket.SOCK_DGRAM)\n"
                               f"s.bind(('0.0.0.0', {PORT}))\nprint('has it')\ns.recv(1)")
        busy.wait_line("has it")
        edge = it.start("--http3", as_user=with_caps("net_bind_service"))
        edge.wait_line(rf"UDP port {PORT}: Address already in use")
        assert H3(it, None).told() == "clear"
        busy.end(signal.SIGKILL)
        edge.wait_line(rf"HTTP/3 answers at port {PORT}")
        assert edge.end() == 0, edge.text()
        it.server.run("rm", "-r", "/tmp/edge")
        it.start(as_user=with_caps("net_bind_service"))
        assert H3(it, None).told() is None


if __name__ == "__main__":
    main()
