"""The server's own certificate by DNS-01: lego, pebble, and a provider that is a script.

Runs: plain.
"""

import json
import os

from tests.integration.edge_acme import API, DOMAIN, site
from tests.integration.harness import BIN, eventually
from tests.support.tap import case, main


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
