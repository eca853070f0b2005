"""`edge doctor`: what it says of a server that has all it takes, and of each thing that is missing.

Runs: plain.
"""

import json
import re
import signal

from tests.integration.edge_visitors import AS_USER, DOMAIN, ROUTES, SERVER, needs_caddy, needs_tproxy, site, with_caps
from tests.integration.harness import BIN
from tests.support.tap import case, main

CHECKS = ["haproxy", "user", "rights", "folder", "port-443", "port-80", "name", "services", "containers", "certificate", "clock", "rules", "routes", "marks",
          "rp-filter", "lego", "http3"]
TPROXY = ("--client-address", "tproxy", "--container-network", "10.77.0.0/16")
CAPS = with_caps("net_admin", "net_bind_service")


def doctor(it, *more, how=(), want=None):
    """The checks by name; `want`: the names of those that fail."""
    out = it.server.run("sh", "-c", '"$@" 2>&1; echo "status $?"', "-", *how, BIN, "edge", "doctor", *it.args("--timeout", "5s", "--json", *more))
    told, status = json.loads(out[:out.index("\nstatus")]), int(out.rsplit(" ", 1)[1])
    assert [c["name"] for c in told["checks"]] == CHECKS and told["ok"] == (status == 0) and told["exitStatus"] == status, (told, status)
    found = {c["name"]: c for c in told["checks"]}
    failed = [c["name"] for c in told["checks"] if c["status"] == "failed"]
    assert failed == list(want or ()) and status == (3 if failed else 0), (failed, told)
    assert all(found[name]["help"] for name in failed), found
    return found


def with_names(it):
    """A name server of its own: what ends with the domain leads to the server."""
    it.server.write("/tmp/dns.py", r'''
import socket, sys
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 53))
print("answers", flush=True)
while True:
    q, who = s.recvfrom(2048)
    at = 12
    while q[at]: at += q[at] + 1
    kind, ours = q[at + 2], b"\x07example\x03com\0" in q
    answer = b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04" + socket.inet_aton(sys.argv[1]) if ours and kind == 1 else b""
    s.sendto(q[:2] + b"\x81" + (b"\x80" if ours else b"\x83") + b"\0\x01\0" + bytes([bool(answer)]) + b"\0\0\0\0" + q[12:at + 5] + answer, who)
''')
    it.server.write("/tmp/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:2\n")
    it.server.run("mount", "--bind", "/tmp/resolv.conf", "/etc/resolv.conf")
    return lambda address: start_names(it, address)


def start_names(it, address):
    names = it.server.start("/usr/bin/python3", "/tmp/dns.py", address)
    names.wait_line("answers")
    return names


@case("a server that has all it takes: nothing fails, before and while the edge runs; lines for people say the same")
def _():
    needs_tproxy()
    needs_caddy()
    with site() as it:
        names = with_names(it)(SERVER)
        it.server.run("sh", "-ec", "cd /tmp && openssl ecparam -genkey -name prime256v1 -noout -out key.pem && openssl req -x509 -new -key key.pem -days 90"
                      f" -subj /CN=tests -addext subjectAltName=DNS:*.{DOMAIN},DNS:*.node1.containers.{DOMAIN} -out cert.pem 2>&1; chmod 644 *.pem")
        cert = ("--tls-cert", "/tmp/cert.pem", "--tls-key", "/tmp/key.pem")
        it.server.run(ROUTES, "up")
        found = doctor(it, *TPROXY, *cert, "--http3", how=CAPS)
        assert all(c["status"] in ("ok", "skipped") for n, c in found.items() if n not in ("clock", "lego")), found
        assert re.search(r"haproxy: \d+\.\d+", found["haproxy"]["message"]) and f"leads here: {SERVER}" in found["services"]["message"], found
        assert re.search(r"good until \d{4}-\d\d-\d\d$", found["certificate"]["message"]), found
        out = it.server.run(*CAPS, BIN, "edge", "doctor", *it.args(*TPROXY, *cert, "--color", "never"))
        assert [line.split()[1] for line in out.splitlines()] == CHECKS, out
        it.tproxy(*cert, "--http3").wait_line("HTTP/3 answers")
        found = doctor(it, *TPROXY, *cert, "--http3", how=CAPS)
        assert "in use, by the edge" in found["port-443"]["message"] and "an edge works in it" in found["folder"]["message"], found
        assert "QUIC answers at UDP port 8443" in found["http3"]["message"], found
        assert it.edge.end() == 0, it.edge.text()
        it.edge = None
        names.end(signal.SIGKILL)


@case("each thing that is missing has its line, and the exit status is 3")
def _():
    needs_tproxy()
    with site(()) as it:
        names = with_names(it)
        gone = ("name", "services")
        found = doctor(it, how=CAPS, want=gone)
        assert found["containers"]["status"] == "warning" and found["certificate"]["status"] == "warning" and found["rules"]["status"] == "skipped", found
        elsewhere = names("198.51.100.9")
        found = doctor(it, how=CAPS)
        assert "198.51.100.9" in found["name"]["message"] and found["name"]["status"] == "warning", found
        elsewhere.end(signal.SIGKILL)
        here = names(SERVER)
        doctor(it, "--haproxy", "/nowhere/haproxy", how=CAPS, want=["haproxy"])
        it.server.write("/tmp/old", "#!/bin/sh\necho 'HAProxy version 2.4.22 2023/02/14'\n")
        it.server.run("chmod", "755", "/tmp/old")
        assert "needs 2.6 or later" in doctor(it, "--haproxy", "/tmp/old", how=CAPS, want=["haproxy"])["haproxy"]["message"]
        doctor(it, *TPROXY, want=["user", "rules", "routes", "marks"])
        doctor(it, how=AS_USER, want=["rights", "port-443", "port-80"])
        doctor(it, *TPROXY, how=with_caps("net_bind_service"), want=["rights", "rules", "routes"])
        doctor(it, "--client-address", "tproxy", how=CAPS, want=["rules", "routes", "marks", "rp-filter"])
        # One after the other of what is needed on the way back.
        it.server.run(ROUTES, "up")
        doctor(it, *TPROXY, how=CAPS)
        for take, give, missing in (("ip -4 rule del fwmark 0x4874", f"{ROUTES} up", "rules"), ("ip -4 route flush table 4874", f"{ROUTES} up", "routes"),
                                    ("nft delete table inet hoody_tunnel_edge", f"{ROUTES} up", "marks"),
                                    ("nft flush table inet hoody_tunnel_edge", f"{ROUTES} up", "marks"),
                                    ("sysctl -qw net.ipv4.conf.all.src_valid_mark=1", "sysctl -qw net.ipv4.conf.all.src_valid_mark=0", "rp-filter")):
            it.server.run("sh", "-c", take)
            doctor(it, *TPROXY, how=CAPS, want=[missing])
            it.server.run("sh", "-c", give)
            doctor(it, *TPROXY, how=CAPS)
        busy = it.server.start("/usr/bin/python3", "-uc", "import socket, time\ns = socket.create_server(('', 443))\nprint('has it')\ntime.sleep(600)")
        busy.wait_line("has it")
        assert "in use by another program" in doctor(it, how=CAPS, want=["port-443"])["port-443"]["message"]
        busy.end(signal.SIGKILL)
        it.server.run("mkdir", "-m", "700", "/tmp/edge")
        assert "belongs to user 0" in doctor(it, how=CAPS, want=["folder", "certificate"])["folder"]["message"]
        it.server.run("chmod", "755", "/tmp/edge")
        assert doctor(it)["folder"]["status"] == "warning"
        it.server.run("sh", "-ec", "cd /tmp && openssl ecparam -genkey -name prime256v1 -noout -out key.pem && openssl req -x509 -new -key key.pem -days 90"
                      " -subj /CN=tests -addext subjectAltName=DNS:*.example.net -out other.pem 2>&1 &&"
                      f" openssl req -x509 -new -key key.pem -days 3 -subj /CN=tests -addext subjectAltName=DNS:*.{DOMAIN} -out soon.pem 2>&1")
        key = ("--tls-key", "/tmp/key.pem")
        assert "is not for *." in doctor(it, "--tls-cert", "/tmp/other.pem", *key, want=["certificate"])["certificate"]["message"]
        assert "its key is not there" in doctor(it, "--tls-cert", "/tmp/soon.pem", want=["certificate"])["certificate"]["message"]
        assert doctor(it, "--tls-cert", "/tmp/soon.pem", *key)["certificate"]["status"] == "warning"
        doctor(it, "--tls-cert", "/tmp/none.pem", want=["certificate"])
        doctor(it, "--tls-cert", "/tmp/book.json", want=["certificate"])
        here.end(signal.SIGKILL)


@case("--http3: a port of HAProxy's own, or of another program, and root")
def _():
    needs_caddy()
    with site(()) as it:
        names = with_names(it)(SERVER)
        found = doctor(it, "--http3", how=CAPS)
        assert "UDP port 8443 is free" in found["http3"]["message"], found
        doctor(it, "--http3", want=["user"])
        doctor(it, "--http3", "--http3-port", "443", how=CAPS, want=["http3"])
        busy = it.server.start("/usr/bin/python3", "-uc", "import socket, time\ns = socket.socket(type=socket.SOCK_DGRAM)\ns.bind(('', 8443))\nprint('has it')\ntime.sleep(600)")
        busy.wait_line("has it")
        doctor(it, "--http3", how=CAPS, want=["http3"])
        busy.end(signal.SIGKILL)
        names.end(signal.SIGKILL)


if __name__ == "__main__":
    main()
