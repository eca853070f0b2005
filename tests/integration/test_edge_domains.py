"""Own domains at `edge up`: certificates by lego of a real ACME server (pebble), and whose a name is.

Runs: plain.
"""

import json
import os

from tests.integration.edge_acme import ADDRESS, ALIAS, ALIAS2, API, DOMAIN, FOREIGN, PROJECT, site
from tests.integration.harness import eventually
from tests.support.tap import case, main


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
                      " echo the-answer > abc && ln -s /etc/passwd link && mkdir folder && echo root: > folder/b && echo root: > ../other")
        assert ask("/.well-known/acme-challenge/abc").endswith("the-answer\n")
        for bad in ("", "nothing", "../../../../lego/x", "..%2f..%2f..%2fx", "../other", "%2e%2e/other", "folder/b", "link", "folder", "abc%00", "abc/", "x" * 300):
            out = ask(f"/.well-known/acme-challenge/{bad}")
            assert out.startswith("HTTP/1.1 404") and "root:" not in out, (bad, out)
        # The gate of the folder: nobody but HAProxy and the edge's user comes to the socket.
        assert it.server.run("stat", "-c", "%a %G", "/tmp/edge/run/acme.sock").split() == ["660", "haproxy"]


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


if __name__ == "__main__":
    main()
