"""Certificates of own domains from files, amid reloads, and by HTTP/3.

Runs: plain.
"""

import json
import os
import re
import shutil
import signal
import threading

from tests.integration.edge_acme import ADDRESS, ALIAS, API, DOMAIN, site
from tests.integration.edge_visitors import needs_caddy, with_caps
from tests.integration.harness import BIN, eventually
from tests.support.tap import Skip, case, main


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
        eventually(lambda: it.files("brought") == sorted(f"{n}.pem" for n in left), "the files of those alone")
        with open(it.server.path("/tmp/edge/haproxy/domains.list"), encoding="ascii") as f:
            assert f.read().split() == [x for n in sorted(left) for x in (f"/tmp/edge/brought/{n}.pem", n)]


if __name__ == "__main__":
    main()
