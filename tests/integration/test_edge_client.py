"""Who the visitor is, behind `edge up`: what containers and kits see, and that no visitor can be somebody else.

Runs: plain.
"""

import json
import os
import re
import signal

from tests.integration.edge_visitors import (DOMAIN, OTHER, ROUTES, SECOND, SERVER, SERVER6, VISITOR, VISITOR6, needs_tproxy,
                                             site, with_caps)
from tests.integration.harness import BIN, ROOT, eventually
from tests.support.tap import case, main

LIES = ("x-forwarded-for: 6.6.6.6", "X-Forwarded-For: 7.7.7.7", "x_forwarded_for: 6.6.6.6", "x-forwarded-host: evil.example", "x-forwarded-proto: http",
        "X-Forwarded-Port: 1", "forwarded: for=6.6.6.6", "x-real-ip: 6.6.6.6", "x_real_ip: 6.6.6.6", "true-client-ip: 6.6.6.6", "x-client-ip: 6.6.6.6",
        "cf-connecting-ip: 6.6.6.6", "x-hoody-h3-client: 6.6.6.6", "x-original-forwarded-for: 6.6.6.6", "x-cluster-client-ip: 6.6.6.6", "proxy: 6.6.6.6",
        "connection: close, x-forwarded-for, forwarded")


def lies():
    return [arg for line in LIES for arg in ("-H", line)]


def check_fields(seen, visitor, host):
    assert seen.one("x-forwarded-for") == visitor and seen.one("x-forwarded-proto") == "https" and seen.one("x-forwarded-host") == host, seen.fields
    name = f'"[{visitor}]"' if ":" in visitor else visitor
    assert seen.one("forwarded") == f'for={name};host="{host}";proto=https', seen.fields
    whole = json.dumps(seen.fields)
    assert "6.6.6.6" not in whole and "7.7.7.7" not in whole and "evil" not in whole, whole
    assert "x-forwarded" not in " ".join(seen.fields.get("connection", [])), whole


@case("without an option the visitor is in X-Forwarded-For and Forwarded, whatever it writes there itself, over IPv4, IPv6, HTTP/1.1 and HTTP/2")
def _():
    with site() as it:
        it.start()
        for version in ("--http1.1", "--http2"):
            check_fields(it.seen(version, *lies()), VISITOR, it.host())
            check_fields(it.seen(version, *lies(), "--interface", OTHER), OTHER, it.host())
        seen = it.seen(*lies(), at=SERVER6)
        check_fields(seen, VISITOR6, it.host())
        assert seen.peer == "10.77.0.1" and seen.proxied is None
        # An upgrade stays one, and takes no other field with it.
        status, body = it.curl("--http1.1", "-H", "Connection: Upgrade, X-Forwarded-For", "-H", "Upgrade: websocket", "-H",
                               "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
        assert status == 200 and '["connection", "upgrade"]' in body and f'["x-forwarded-for", "{VISITOR}"]' in body, body


@case("tproxy: the container's peer is the visitor itself, with strict reverse paths; 4,000 requests of two visitors, none with the other's address")
def _():
    needs_tproxy()
    with site() as it:
        for link in ("all", "cont", "vis"):
            it.server.run("sysctl", "-qw", f"net.ipv4.conf.{link}.rp_filter=1")
        it.tproxy()
        for address in (VISITOR, OTHER):
            seen = it.seen("--interface", address, *lies())
            assert seen.peer == address, vars(seen)
            check_fields(seen, address, it.host())
        seen = it.seen(at=SERVER6, host=it.host(SECOND))
        assert seen.peer == VISITOR6, vars(seen)
        # Of the other family than the container: this server's address, and the field.
        seen = it.seen(at=SERVER6)
        assert seen.peer == "10.77.0.1" and seen.one("x-forwarded-for") == VISITOR6, vars(seen)
        seen = it.seen(host=it.host(SECOND))
        assert seen.peer == "fd77::1" and seen.one("x-forwarded-for") == VISITOR, vars(seen)
        # A container as visitor would be answered past this server, and this server's loopback has no way back.
        seen = it.seen(machine=it.container)
        assert seen.peer == "10.77.0.1" and seen.one("x-forwarded-for") == "10.77.0.2", vars(seen)
        seen = it.seen(machine=it.server, at="127.0.0.1")
        assert seen.peer == "10.77.0.1" and seen.one("x-forwarded-for") == "127.0.0.1", vars(seen)
        assert it.seen(machine=it.server).peer in (SERVER, "10.77.0.1")
        out = it.visitor.run("/usr/bin/python3", "/tmp/load.py", it.host(), SERVER, "200", "5", VISITOR, OTHER, VISITOR, OTHER, timeout=300)
        assert out.split() == ["4000", "0"], out
        # What containers send of their own goes where it went, also to a visitor.
        it.server.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        it.visitor.run("ip", "route", "add", "10.77.0.0/16", "via", SERVER)
        own = it.visitor.start("/usr/bin/python3", "-u", "-m", "http.server", "--bind", VISITOR, "-d", "/tmp", "8000")
        own.wait_line("Serving")
        assert "create_connection" in it.container.run("curl", "-sS", "-m", "20", f"http://{VISITOR}:8000/load.py")
        assert it.seen().peer == VISITOR
        own.end()


@case("tproxy: rules and routes come, stay one when made twice, and go without a trace; without them the container does not answer")
def _():
    needs_tproxy()
    with site() as it:
        state = lambda: it.server.run("sh", "-c", "ip -4 rule; ip -6 rule; ip -4 route show table 4874 2>/dev/null; ip -6 route show table 4874 2>/dev/null;"  # noqa: E731
                                      " nft list ruleset")
        before = state()
        it.tproxy()
        once = state()
        it.server.run(ROUTES, "up")
        assert state() == once != before
        assert it.seen().peer == VISITOR
        it.server.run(ROUTES, "down")
        assert state() == before, (before, state())
        it.server.run(ROUTES, "down")
        assert it.curl("--http1.1", "-m", "30")[0] == 503
        it.server.run(ROUTES, "up")
        assert it.seen().peer == VISITOR


@case("tproxy: as root, without the capability or without a network it says what is missing")
def _():
    with site(()) as it:
        asks = lambda how, *more: it.server.run("sh", "-c", '"$@" 2>&1; echo status $?', "-", *how, BIN, "edge", "up",  # noqa: E731
                                                *it.args("--client-address", "tproxy", *more))
        nets = ("--container-network", "10.77.0.0/16")
        said = asks(())
        assert "needs --container-network" in said and "status 2" in said, said
        said = asks((), *nets)
        assert "HAProxy would have to stay root" in said and "status 3" in said, said
        it.server.run("rm", "-r", "/tmp/edge")
        said = asks(with_caps("net_bind_service"), *nets)
        assert "HAProxy needs CAP_NET_ADMIN as an ambient capability" in said and "status 3" in said, said


@case("--proxy-protocol: who stands in front says by a PROXY header who the visitor is, to services and to the port that redirects; nobody else does")
def _():
    with site() as it:
        it.start("--proxy-protocol", f"{OTHER}/32")
        assert it.seen("--interface", VISITOR).one("x-forwarded-for") == VISITOR
        assert it.curl("--interface", VISITOR, "--haproxy-protocol")[0] == 0  # a stranger's header is no TLS
        assert it.curl("--interface", OTHER, "-m", "5")[0] == 0  # one of the front without one
        seen = it.seen("--interface", OTHER, "--haproxy-protocol", *lies())
        check_fields(seen, OTHER, it.host())
        for first, from_whom in ((b"PROXY TCP4 198.51.100.7 203.0.113.1 40000 443\r\n", "198.51.100.7"),
                                 (b"PROXY TCP6 2001:db8::7 2001:db8:1::1 40000 443\r\n", "2001:db8::7"),
                                 (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\xcb\0\x71\x01\x9c\x40\x01\xbb", "198.51.100.7")):
            assert fronted(it, OTHER, first) == from_whom, first
        assert fronted(it, VISITOR, b"PROXY TCP4 198.51.100.7 203.0.113.1 40000 443\r\n") is None
        plain = ("--haproxy-protocol", "--interface")
        out = it.visitor.run("curl", "-s", "-i", "-m", "10", *plain, OTHER, f"http://{SERVER}/", "-H", f"Host: {it.host()}")
        assert " 308 " in out.split("\n")[0], out
        out = it.visitor.run("curl", "-s", "-i", "-m", "10", *plain, VISITOR, f"http://{SERVER}/", "-H", f"Host: {it.host()}")
        assert " 400 " in out.split("\n")[0], out


FRONT = r'''
import json, socket, ssl, sys
address, server, host, first = sys.argv[1], sys.argv[2], sys.argv[3], bytes.fromhex(sys.argv[4])
raw = socket.create_connection((server, 443), timeout=20, source_address=(address, 0))
raw.sendall(first)
try:
    s = ssl.create_default_context(cafile="/tmp/ca.pem").wrap_socket(raw, server_hostname=host)
except OSError:
    sys.exit("refused")
s.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n".encode())
got = b""
while more := s.recv(65536):
    got += more
print(dict(json.loads(got.partition(b"\r\n\r\n")[2])["fields"])["x-forwarded-for"])
'''


def fronted(it, address, first):
    """Who the service says the visitor is, of a connection that begins with these bytes; None: it was not let in."""
    it.visitor.write("/tmp/front.py", FRONT)
    out = it.visitor.run("sh", "-c", '"$@" 2>&1 || true', "-", "/usr/bin/python3", "/tmp/front.py", address, SERVER, it.host(), first.hex())
    return None if "refused" in out else out.strip()


@case("--trusted-proxy: the last of X-Forwarded-For that does not stand in front is the visitor; a stranger's is dropped, as everything else is")
def _():
    with site() as it:
        it.start("--trusted-proxy", f"{OTHER}/32", "--trusted-proxy", "10.9.0.0/16")
        told = lambda *values, by=OTHER: it.seen("--interface", by, *(a for v in values for a in ("-H", f"X-Forwarded-For: {v}"))).one("x-forwarded-for")  # noqa: E731
        assert told("198.51.100.7", by=VISITOR) == VISITOR
        assert told("198.51.100.7") == "198.51.100.7"
        assert told("6.6.6.6, 198.51.100.7") == "198.51.100.7"
        assert told("6.6.6.6", "198.51.100.7, 10.9.0.1") == "198.51.100.7"
        assert told("6.6.6.6, 198.51.100.7, 10.9.0.1, 10.9.3.3") == "198.51.100.7"
        assert told("2001:db8::9") == "2001:db8::9"
        # Whoever is not named is not somebody further in front.
        assert told() == OTHER
        assert told("6.6.6.6, unknown") == OTHER
        assert told("6.6.6.6, unknown, 10.9.0.1") == "10.9.0.1"
        assert told("6.6.6.6, _hidden, 203.0.113.51") == OTHER
        # 6to4 has an IPv4 address in it, which anybody may write there.
        it.visitor.run("ip", "addr", "add", "2002:cb00:7133::1/64", "dev", "eth0", "nodad")
        it.server.run("ip", "-6", "route", "add", "2002::/16", "dev", "vis")
        seen = it.seen("--interface", "2002:cb00:7133::1", "-H", "X-Forwarded-For: 6.6.6.6", at=SERVER6)
        assert seen.one("x-forwarded-for") == "2002:cb00:7133::1", seen.fields
        assert told("6.6.6.6, 2002:a09:1::1") == "2002:a09:1::1"
        seen = it.seen("--interface", OTHER, "-H", "Forwarded: for=6.6.6.6", "-H", "X-Real-IP: 6.6.6.6", "-H", "X-Forwarded-For: 198.51.100.7",
                       "-H", "X-Forwarded-Host: evil.example")
        check_fields(seen, "198.51.100.7", it.host())


@case("--client-address proxy: a container's connections begin with a PROXY header, one visitor's are never another's")
def _():
    with site() as it:
        it.start("--client-address", "proxy")
        for _ in range(20):
            for address in (VISITOR, OTHER):
                seen = it.seen("--interface", address, *lies())
                assert seen.proxied == address, vars(seen)
                check_fields(seen, address, it.host())
        assert it.seen(at=SERVER6, host=it.host(SECOND)).proxied == VISITOR6
        assert it.seen(at=SERVER6).proxied == VISITOR6


@case("the kit beside the edge knows visitors by a PROXY header: addresses that a driver lets in are the visitors' own, and its service is told so")
def _():
    with site(("3000",)) as it:
        it.start()
        it.server.run("cp", "/tmp/edge/kit.token", "/tmp/token")
        it.server.write("/tmp/hosts", f"127.0.0.1 localhost\n{SERVER} node1.{DOMAIN}\n")
        it.server.run("mount", "--bind", "/tmp/hosts", "/etc/hosts")
        driver = it.server.start(BIN, "expose", "10.77.0.2:3000", "--name", "app", "--url", f"https://node1.{DOMAIN}", "--ca", "/tmp/ca.pem", "--token-file",
                                 "/tmp/token", "--allow-ip", VISITOR, "--forwarded", "set", "--json")
        bound = json.loads(driver.wait_line(r'^\{.*"event":\s*"bound".*\}$').group(0))
        host = re.search(rf"app-\d+\.{re.escape(DOMAIN)}", json.dumps(bound)).group(0)
        eventually(lambda: it.curl(host=host)[0] == 200, "the service")
        seen = it.seen(*lies(), host=host)
        assert seen.one("x-forwarded-for") == VISITOR and "6.6.6.6" not in json.dumps(seen.fields), seen.fields
        for more in ((), lies(), ("-H", f"X-Forwarded-For: {VISITOR}"), ("-H", f"Forwarded: for={VISITOR}")):
            assert it.curl("--interface", OTHER, *more, host=host)[0] == 403, more
        assert driver.end(signal.SIGINT) == 0


@case("the numbers of the script for rules and routes are those of the spec, and its unit names it")
def _():
    with open(ROUTES, encoding="utf-8") as f:
        script = f.read()
    with open(os.path.join(ROOT, "spec", "haproxy.yaml"), encoding="utf-8") as f:
        spec = re.search(r"^tproxy: \{(.*)\}$", f.read(), re.M).group(1)
    for name, value in (pair.split(": ") for pair in spec.split(", ")):
        assert f"\n{'NFT' if name == 'nft_table' else name.upper()}={value}\n" in script, (name, value)


if __name__ == "__main__":
    main()
