"""Own domains at `edge up`: certificates by lego of a real ACME server (pebble), and from files.

Runs: plain.
"""

import json
import os
import re
import shutil
import signal
import threading
import time

from tests.integration.edge_acme import ADDRESS, ALIAS, ALIAS2, DOMAIN, FOREIGN, PROJECT, site
from tests.integration.edge_visitors import needs_caddy, with_caps
from tests.integration.harness import BIN, eventually
from tests.support.tap import Skip, case, main

API = "api.mycompany.test"


@case("a domain gets a certificate without a reload, keeps it over reloads and restarts, gets another one, and loses it when it is taken away")
def _():
    with site(reject=20) as it:
        it.start(*it.acme())
        own = it.shown(API)
        assert f"*.{DOMAIN}" in own[0], own
        worker = it.worker()
        told = it.add(API)
        assert told["state"] in ("waiting", "issuing") and told["alias"] == ALIAS and told["project_id"] == PROJECT and told["source"] == "acme", told
        got = it.until(API, "issued")
        assert "Pebble" in got["issuer"] and 89 * 86400 < got["not_after"] - got["not_before"] < 91 * 86400, got
        assert got["not_after"] - 36 * 86400 < got["next_try"] < got["not_after"] - 28 * 86400, got
        eventually(lambda: it.shown(API)[0] == {API}, "the new certificate")
        first = it.serial(API)
        assert it.worker() == worker and it.serial("other.test") == own[1] and it.orders() == 1
        # Files are for nobody else, and lego's own copies are gone.
        modes = it.server.run("sh", "-c", "cd /tmp/edge && find certs acme brought -type f -printf '%m %p\\n'")
        assert all(line.startswith("600 ") for line in modes.splitlines()), modes
        assert it.files("acme/lego/certificates") == [] and it.files("certs") == [f"{API}.pem", "edge.pem"] and it.files("acme/tries") == [], modes
        it.reload()
        assert it.serial(API) == first
        it.renew(API)
        eventually(lambda: it.serial(API) != first, "another certificate")
        second, worker = it.serial(API), it.worker()
        assert it.get(API)["state"] == "issued" and it.orders() == 2
        it.reload()
        assert it.serial(API) == second
        it.end()
        it.start(*it.acme())
        assert it.serial(API) == second and it.orders() == 2
        gone = it.api.ask("DELETE", f"/proxy/domains/{API}", version=1)
        assert gone.status == 200 and gone.data == {"file_version": 2}, gone
        eventually(lambda: it.shown(API)[0] != {API}, "no certificate any more")
        eventually(lambda: it.files("certs") == ["edge.pem"], "no file any more")
        assert it.api.get(f"/proxy/domains/{API}").status == 404
        with open(it.server.path("/tmp/edge/haproxy/domains.list"), encoding="ascii") as f:
            assert f.read() == ""
        it.reload()
        assert it.shown(API)[0] != {API}


@case("plain HTTP leads to HTTPS, but for challenges, which hand out nothing else")
def _():
    with site() as it:
        it.start(*it.acme())
        def ask(path, *more):
            return it.server.run("curl", "-s", "-i", "--path-as-is", *more, "-H", f"Host: {API}", f"http://{ADDRESS}{path}")
        assert ask("/x").startswith("HTTP/1.1 308") and f"location: https://{API}/x" in ask("/x")
        assert ask("/.well-known/acme-challenge").startswith("HTTP/1.1 308")
        it.server.run("sh", "-c", "mkdir -p /tmp/edge/acme/webroot/.well-known/acme-challenge && cd /tmp/edge/acme/webroot/.well-known/acme-challenge &&"
                      " echo the-answer > abc && ln -s /etc/passwd link && mkdir folder")
        assert ask("/.well-known/acme-challenge/abc").endswith("the-answer\n")
        for bad in ("", "nothing", "../../../../lego/x", "..%2f..%2f..%2fx", "a/b", "link", "folder", "abc%00", "abc/", "x" * 300):
            out = ask(f"/.well-known/acme-challenge/{bad}")
            assert out.startswith("HTTP/1.1 404") and "root:" not in out, (bad, out)
        # The gate of the folder: nobody but HAProxy and the edge's user comes to the socket.
        assert it.server.run("stat", "-c", "%a %G", "/tmp/edge/run/acme.sock").split() == ["660", "haproxy"]


@case("what fails is visible, with its reason, and tried again later: names that lead elsewhere or nowhere, an ACME server that refuses or is away")
def _():
    with site() as it:
        it.tell("add-a", host="elsewhere.test", addresses=["198.51.100.9"])
        it.tell("add-a", host="both.test", addresses=[ADDRESS, "198.51.100.9"])
        it.tell("add-a", host="loop.test", addresses=["127.0.0.1"])
        it.tell("set-default-ipv4", ip="")
        it.tell("add-a", host=API, addresses=[ADDRESS])
        it.tell("add-caa", host="refused.test", policies=[{"tag": "issue", "value": "other.test"}])
        it.tell("add-a", host="refused.test", addresses=[ADDRESS])
        it.start(*it.acme())
        for name in ("elsewhere.test", "both.test"):
            it.add(name)
            it.until(name, "failed", r"^198\.51\.100\.9 is one of its addresses, and does not lead to this server")
        it.add("loop.test")
        it.until("loop.test", "failed", r"^127\.0\.0\.1 is one")
        it.add("nowhere.test")
        it.until("nowhere.test", "failed", "its address cannot be found")
        assert it.orders() == 0
        it.add(API)
        it.until(API, "issued")
        failures = it.until("elsewhere.test", "failed")["failures"]
        eventually(lambda: it.get("elsewhere.test").get("failures", 0) > failures, "one more failure")
        # It is put right, and comes by itself.
        it.tell("clear-a", host="elsewhere.test")
        it.tell("add-a", host="elsewhere.test", addresses=[ADDRESS])
        it.until("elsewhere.test", "issued")
        assert "error" not in it.get("elsewhere.test")
        # The ACME server is away: a reason without what is secret, and what is there stays.
        serial = it.serial(API)
        it.pebble.end(signal.SIGKILL)
        it.renew(API)
        got = eventually(lambda: (d := it.get(API)).get("error") and d, "a failure")
        assert got["state"] == "issued" and "connection refused" in got["error"] and got["failures"] >= 1, got
        assert it.serial(API) == serial
        it.serve_acme()  # which has forgotten the account as well
        eventually(lambda: it.serial(API) != serial, "a new certificate")
        assert "error" not in it.until(API, "issued", "^$")


@case("the daily cap holds, over restarts too; renewals go first; a killed agent does not ask again at once, and ends well later")
def _():
    with site() as it:
        it.start(*it.acme("--acme-daily-cap", "2"))
        for name in ("a.test", "b.test", "c.test"):
            it.add(name)
        it.until("a.test", "issued")
        it.until("b.test", "issued")
        got = it.until("c.test", "waiting", "the daily cap of 2 orders is used up")
        assert 86000 < got["next_try"] - time.time() < 86500, got
        answer = it.api.ask("POST", "/proxy/domains/c.test/renew")
        assert answer.status == 409 and "daily cap" in answer.message, answer
        listed = it.api.get("/proxy/domains").data
        assert listed["daily_cap"] == 2 and listed["orders_today"] == 2 and listed["acme"] and [d["domain"] for d in listed["domains"]] == ["a.test", "b.test", "c.test"]
        it.end()
        it.start(*it.acme("--acme-daily-cap", "2"))
        it.until("c.test", "waiting", "the daily cap of 2 orders is used up")
        assert it.orders() == 2
        it.end()
        it.start(*it.acme("--acme-daily-cap", "50"))
        it.until("c.test", "issued")
        # Killed amid an order: lego ends with it, the order counts, and it is tried again when its time has come.
        it.pebble.end(signal.SIGKILL)
        stuck = it.server.start("/usr/bin/python3", "-uc", "import socket, time\ns = socket.create_server(('127.0.0.1', 14000))\nprint('stuck')\ntime.sleep(600)")
        stuck.wait_line("stuck")
        it.add("d.test")
        it.until("d.test", "issuing")
        eventually(lambda: it.runs("lego"), "lego")
        it.kill()
        stuck.end(signal.SIGKILL)
        it.serve_acme()
        it.start(*it.acme("--acme-daily-cap", "50"))
        assert it.api.get("/proxy/domains").data["orders_today"] == 4
        assert it.until("a.test", "issued") and it.shown("a.test")[0] == {"a.test"}
        it.until("d.test", "issued")
        assert it.shown("d.test")[0] == {"d.test"} and it.api.get("/proxy/domains").data["orders_today"] in (5, 6)
        # Killed at any moment of a renewal, what visitors see is whole.
        for wait in (0.05, 0.3, 0.6):
            it.renew("a.test")
            time.sleep(wait)
            it.kill()
            it.start(*it.acme("--acme-daily-cap", "50"))
            assert it.shown("a.test")[0] == {"a.test"} and it.get("a.test")["state"] in ("issued", "issuing")
            assert not [f for f in it.files("certs") if f.endswith(".part")]


@case("a certificate is renewed by itself when a third of its time is left")
def _():
    with site(lifetime=6) as it:
        it.start(*it.acme())
        it.add(API)
        it.until(API, "issued")
        seen = set()
        worker = it.worker()
        eventually(lambda: seen.add(it.serial(API)) or len(seen) >= 3, "the second certificate after the first")
        assert it.worker() == worker and it.orders() <= 5


@case("who may have a name: not another project's, nor below it, nor this server's own, no wildcard, no letters beyond ASCII; the right form is told")
def _():
    with site() as it:
        it.start(*it.acme())
        it.add("mycompany.test")
        it.until("mycompany.test", "issued")
        def put(name, alias=FOREIGN, version=0):
            return it.api.ask("PUT", f"/proxy/domains/{name}", {"alias": alias}, version)
        for version in (0, 1):
            answer = put("mycompany.test", version=version)
            assert answer.status == 409 and "belongs to another project" in answer.message, answer
        answer = put("evil.mycompany.test")
        assert answer.status == 409 and "mycompany.test, which is above evil.mycompany.test, belongs to another project" in answer.message, answer
        assert put("a.mycompany.test", ALIAS2).status == 200 and put("mycompany.test", ALIAS2, 1).data["alias"] == ALIAS2
        assert put("mycompany.test", ALIAS, 1).status == 412
        assert put("x.test", "64f1c0ffee64f1c0ffee6499").status == 404
        for bad, why in ((DOMAIN, "this server's own"), (f"www.{DOMAIN}", "this server's own"), (f"a-b-http-3000.node1.containers.{DOMAIN}", "this server's own"),
                         (f"*.node1.containers.{DOMAIN}", "wildcard"), ("*.mycompany.test", "wildcard"), ("test", "has a dot"), ("a..test", "empty"), ("-a.test", ""),
                         ("1.2.3.4", ""), ("a_b.test", ""), ("x" * 64 + ".test", "63"), (".".join(["x" * 40] * 3), "at most 100 bytes"), ("b%C3%BCcher.test", "xn--"),
                         ("a.test%00", ""), ("a.test%2f..", ""), ("A%20b.test", "")):
            answer = put(bad, ALIAS)
            assert answer.status == 400 and why in answer.message, (bad, answer)
        assert "xn--bcher-kva.test" in put("b%C3%BCcher.test").message or not os.path.exists("/usr/lib/x86_64-linux-gnu/libidn2.so.0")
        assert put("XN--BCHER-KVA.test.", ALIAS).data["domain"] == "xn--bcher-kva.test"
        assert it.until("xn--bcher-kva.test", "issued") and it.shown("xn--bcher-kva.test")[0] == {"xn--bcher-kva.test"}
        # Deleted, it is free for others.
        assert it.api.ask("DELETE", "/proxy/domains/mycompany.test", version=2).status == 200
        assert put("mycompany.test").status == 200
        for method, path in (("DELETE", "nobody.test"), ("GET", "nobody.test")):
            assert it.api.ask(method, f"/proxy/domains/{path}", version=1).status == 404
        assert it.api.ask("PUT", "/proxy/domains/y.test", {"alias": ALIAS}).status == 428
        names = [d["domain"] for d in it.api.get("/proxy/domains").data["domains"]]
        assert names == sorted(names) == ["a.mycompany.test", "mycompany.test", "xn--bcher-kva.test"], names
        page = it.api.get("/proxy/domains?limit=1&behind=a.mycompany.test").data
        assert page["more"] and [d["domain"] for d in page["domains"]] == ["mycompany.test"], page
        with open(it.server.path("/tmp/edge/audit.log"), encoding="utf-8") as f:
            lines = [json.loads(line) for line in f]
        assert [x["what"] for x in lines if x["id"] == "mycompany.test"] == ["domainPut", "domainPut", "domainDelete", "domainPut"], lines


@case("a certificate from files, by the command: shown at once, for its own name alone; one that does not fit is refused, and changes nothing")
def _():
    with site(acme=False) as it:
        it.start()
        def cli(*words, status=0):
            out = it.server.run("sh", "-c", '"$@" 2>&1; echo status $?', "-", BIN, "edge", "domains", "--folder", "/tmp/edge", *words)
            assert out.rstrip().endswith(f"status {status}"), (words, out)
            return out
        it.make_cert("good", [API, "other.test", f"*.{DOMAIN}"])
        it.make_cert("wrong", ["nobody.test"])
        it.make_cert("weak", [API], key="rsa:512")
        assert re.search(rf"{API} +{ALIAS} +none +acme", cli("add", API, ALIAS))
        assert "no ACME server may be asked" in cli("get", API)
        own = it.serial(API)
        for words, why in ((("/tmp/wrong.crt", "/tmp/wrong.key"), f"is not for {API}"), (("/tmp/good.crt", "/tmp/wrong.key"), "key"), (("/tmp/good.crt",), "key is not there"),
                           (("/tmp/weak.crt", "/tmp/weak.key"), "too small"), (("/etc/passwd",), "no PEM"), (("/tmp/none.crt",), "No such file")):
            out = cli("cert", API, *words, status=1)
            assert why in out, (words, out)
        assert it.serial(API) == own and it.files("brought") == [] and "file:" not in cli("get", API)
        worker = it.worker()
        assert re.search(rf"{API} +{ALIAS} +issued +file", cli("cert", API, "/tmp/good.crt", "/tmp/good.key"))
        eventually(lambda: it.serial(API) != own, "the certificate")
        serial = it.serial(API)
        assert it.worker() == worker and API in it.shown(API)[0]
        # It is for other names as well, which are not its owner's.
        assert it.serial("other.test") == own and it.serial(f"node1-3000.{DOMAIN}") == own
        it.reload()
        assert it.serial(API) == serial and API not in it.shown("other.test")[0]
        it.end()
        it.start()
        assert it.serial(API) == serial and "issued" in cli()
        assert "status 0" in cli("uncert", API)
        eventually(lambda: API not in it.shown(API)[0] and it.files("brought") == [], "no certificate any more")
        assert "no ACME server" in cli("renew", API, status=1)
        assert "xn--bcher-kva.test" in cli("add", "bücher.test", ALIAS, status=2) or not os.path.exists("/usr/lib/x86_64-linux-gnu/libidn2.so.0")
        assert f"{API} is taken away" in cli("remove", API)
        assert json.loads(cli("--json").rpartition("status")[0])["domains"] == []
        # Without a server to ask, nothing is handed out at port 80 either.
        assert it.server.run("curl", "-s", "-i", f"http://{ADDRESS}/.well-known/acme-challenge/x").startswith("HTTP/1.1 308")


@case("without root, as under systemd, and with HTTP/3: its server has the certificates that were issued, and none that was brought")
def _():
    needs_caddy()
    python = os.environ.get("H3_PYTHON") or os.path.expanduser("~/.cache/hoody-tunnel-tests/h3/bin/python3")
    if not shutil.which(python):
        raise Skip("no client of HTTP/3: `make h3-client` installs one")
    with site() as it:
        def by_h3(host):
            """The names in the certificate that a visitor gets by HTTP/3; none: there was no connection."""
            return set(it.server.run("sh", "-c", '"$@" 2>/dev/null || true', "-", "timeout", "10", python, "-c", SHOWN, ADDRESS, host).split())
        it.server.run("chmod", "755", "/tmp/home")
        it.start(*it.acme("--http3"), as_user=with_caps("net_bind_service"), env={**os.environ, "HOME": "/tmp/home"})
        it.edge.wait_line("HTTP/3 answers at port 8443")
        it.add(API)
        it.add("brought.test")
        pem = it.make_cert("brought", ["brought.test", "victim.test"])
        assert it.api.ask("PUT", "/proxy/domains/brought.test/certificate", {"certificate": "".join(pem)}, 1).status == 200
        it.until(API, "issued")
        eventually(lambda: by_h3(API) == {API}, "the certificate by HTTP/3")
        assert it.shown(API)[0] == {API}
        eventually(lambda: "victim.test" in it.shown("brought.test")[0], "what was brought")
        for name in ("brought.test", "victim.test"):
            assert "victim.test" not in by_h3(name)
        assert "victim.test" not in it.shown("victim.test")[0]


SHOWN = r'''
import asyncio, ssl, sys
from aioquic.asyncio.client import connect
from aioquic.quic.configuration import QuicConfiguration
from cryptography.x509 import DNSName, SubjectAlternativeName
async def go(server, host):
    setup = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name=host, verify_mode=ssl.CERT_NONE)
    async with connect(server, 8443, configuration=setup) as c:
        print(*c._quic.tls._peer_certificate.extensions.get_extension_for_class(SubjectAlternativeName).value.get_values_for_type(DNSName))
asyncio.run(go(*sys.argv[1:]))
'''


@case("certificates that come, change and go while HAProxy loads anew again and again: in the end it has them all, before and after one more reload")
def _():
    with site(acme=False) as it:
        it.start()
        names = [f"d{i}.test" for i in range(24)]
        pems = ["".join(it.make_cert(f"c{i}", [f"d{n}.test" for n in range(24)])) for i in range(3)]
        serials = [it.server.run("openssl", "x509", "-noout", "-serial", "-in", f"/tmp/c{i}.crt").strip().partition("=")[2] for i in range(3)]
        def bring(name, i):
            version = it.api.get(f"/proxy/domains/{name}").version
            answer = it.api.ask("PUT", f"/proxy/domains/{name}/certificate", {"certificate": pems[i]}, version)
            assert answer.status == 200, answer
        stop = threading.Event()
        def reload():
            while not stop.wait(0.05):
                os.kill(it.edge.inner, signal.SIGHUP)
        again = threading.Thread(target=reload)
        again.start()
        try:
            want = {}
            for turn in range(3):
                for n, name in enumerate(names):
                    if turn == 0:
                        it.add(name)
                    if turn < 2 or n % 2:
                        bring(name, turn)
                        want[name] = serials[turn]
                    else:
                        it.api.ask("DELETE", f"/proxy/domains/{name}", version=it.api.get(f"/proxy/domains/{name}").version)
                        want[name] = None
        finally:
            stop.set()
            again.join()
        def all_shown():
            seen = {name: it.serial(name) for name in names}
            return all(seen[n] == s if s else seen[n] not in serials for n, s in want.items())
        eventually(all_shown, "what was wanted")
        it.reload()
        assert all_shown()
        left = [n for n in names if want[n]]
        assert it.files("brought") == sorted(f"{n}.pem" for n in left)
        with open(it.server.path("/tmp/edge/haproxy/domains.list"), encoding="ascii") as f:
            assert f.read().split() == [x for n in sorted(left) for x in (f"/tmp/edge/brought/{n}.pem", n)]


@case("the server's own wildcard by DNS-01: the provider's secrets come from a file for its owner alone, and are in no log; SIGHUP and restarts keep it")
def _():
    with site() as it:
        it.server.write("/tmp/dns.sh", '#!/bin/sh\necho "$0 $* token=$SECRET_TOKEN" >&2\ncase "$1" in\n'
                        'present) curl -s -d "{\\"host\\":\\"$2\\",\\"value\\":\\"$3\\"}" http://127.0.0.1:8055/set-txt;;\n'
                        '*) curl -s -d "{\\"host\\":\\"$2\\"}" http://127.0.0.1:8055/clear-txt;;\nesac\nenv > /tmp/dns.saw\n')
        it.server.write("/tmp/dns.env", "# of a provider\nEXEC_PATH=/tmp/dns.sh\nEXEC_SEQUENCE_INTERVAL=1\nEXEC_POLLING_INTERVAL=1\nSECRET_TOKEN=hush-hush-4711\n\n")
        it.server.run("sh", "-c", "chmod 755 /tmp/dns.sh; chmod 644 /tmp/dns.env")
        dns = it.acme("--acme-dns", "exec", "--acme-dns-env", "/tmp/dns.env", "--no-acme-dns-check")
        def refused(*args, status=3):
            return it.server.run("sh", "-c", f'"$@" 2>&1; test $? = {status} && echo as wanted', "-", BIN, "edge", "up", "--domain", DOMAIN, "--id", "node1", "--folder", "/tmp/edge", *args)
        out = refused(*dns)
        assert "others may read it; chmod 600" in out and "as wanted" in out, out
        it.server.run("chmod", "600", "/tmp/dns.env")
        for args, why in ((("--acme-dns", "exec"), "without --acme-email"), ((*dns, "--tls-cert", "/tmp/pebble.crt"), "give one of them"), (("--acme-email", "x"), "no e-mail"),
                          (("--acme-email", "a@b.test", "--acme-server", "http://x"), "https URL")):
            out = refused(*args, status=2)
            assert why in out and "as wanted" in out, out
        out = refused(*it.acme("--lego", "/nowhere/lego"), status=2)
        assert "there is no such program" in out and "as wanted" in out, out
        it.start(*dns, env={**os.environ, "HOODY_TUNNEL_TOKEN": "not-for-lego"})
        wild = f"*.node1.containers.{DOMAIN}"
        worker = it.worker()
        got = it.until(wild, "issued", timeout=60)
        assert "alias" not in got and got["file_version"] == 0, got
        eventually(lambda: it.shown(f"x.node1.containers.{DOMAIN}")[0] == {wild, f"*.{DOMAIN}"}, "the wildcard")
        serial = it.serial(f"x.{DOMAIN}")
        assert it.worker() == worker and it.serial("unknown.test") == serial
        with open(it.server.path("/tmp/dns.saw"), encoding="utf-8") as f:
            saw = f.read()
        assert "SECRET_TOKEN=hush" in saw and "not-for-lego" not in saw and "HOODY" not in saw, saw
        assert "hush-hush" not in it.edge.text()
        it.reload()
        assert it.serial(f"x.{DOMAIN}") == serial
        it.add(API)
        it.until(API, "issued")
        it.renew(wild)
        eventually(lambda: it.serial(f"x.{DOMAIN}") != serial, "another one")
        serial = it.serial(f"x.{DOMAIN}")
        it.end()
        it.start(*dns)
        assert it.serial(f"x.{DOMAIN}") == serial and it.shown(API)[0] == {API}
        assert it.api.ask("DELETE", f"/proxy/domains/{wild}", version=0).status == 400
        # A provider that fails with its secret in its words.
        it.server.write("/tmp/dns.sh", '#!/bin/sh\necho "no: $SECRET_TOKEN is wrong"; exit 1\n')
        it.renew(wild)
        got = eventually(lambda: (d := it.get(wild)).get("error") and d, "a failure")
        assert got["state"] == "issued" and "hush" not in json.dumps(got) and "hush" not in it.edge.text(), got
        assert it.serial(f"x.{DOMAIN}") == serial


if __name__ == "__main__":
    main()
