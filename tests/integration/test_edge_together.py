"""What the edge has besides names, all at once: an alias into a service, a page to log in, hooks, a domain of one's own with its certificate.

Runs: plain.
"""

import json
import re

from tests.integration.edge_api import Api
from tests.integration.edge_gates import CONTAINER, DOMAIN, OTHER, Answer, password_hash, site
from tests.integration.harness import eventually
from tests.support.tap import case, main

SHOP, OWN = f"shop.node1.containers.{DOMAIN}", "api.mycompany.test"
BROWSER = ("-H", "Accept: text/html", "-H", "Sec-Fetch-Mode: navigate", "-H", "Sec-Fetch-Site: same-origin")
TEAM = {"default": "deny", "permissions": {"team": {"terminal": True}}}
BASIC = ("-u", "ann:sesame")


class Visitor:
    def __init__(self, it):
        self.it, self.ca = it, "/tmp/ca.pem"

    def get(self, host, path="/", *more):
        return Answer(self.it.container.run("curl", "-s", "-S", "-i", "--http1.1", "--path-as-is", "--max-time", "20", "--cacert", self.ca, "--resolve",
                                            f"{host}:443:192.0.2.1", *more, f"https://{host}{path}"))

    def target(self, host, path, *more):
        """(what the service is asked for, its fields), once the visitor is let in."""
        got = self.get(host, path, *BASIC, *more)
        assert got.status == 200, got.body
        return got.seen()


def begun(it):
    it.permissions({**TEAM, "groups": {"team": {"type": "password", "username": "ann", "password": password_hash("sesame")}}})
    it.start()
    api = Api(it.server.path(f"{it.folder}/run/api.sock"))
    made = api.ask("POST", "/proxy/aliases", {"alias": "shop", "container_id": CONTAINER, "program": "terminal", "target_path": "/api"})
    assert made.status == 200, made
    visitor = Visitor(it)
    eventually(lambda: visitor.get(SHOP, "/").status == 401, "the alias, and its gate")
    return api, made.data["id"], visitor


@case("an alias into a service asks for a password as the service does: the page leads back to where the visitor was, and its cookie is not the service's")
def _():
    with site() as it:
        _, _, visitor = begun(it)
        page = visitor.get(SHOP, "/x?q=1", *BROWSER)
        assert re.search(r'name="to" value="([^"]*)"', page.body).group(1) == "/x?q=1", page.body
        fields = [f for name, value in (("user", "ann"), ("password", "sesame"), ("to", "/x?q=1")) for f in ("--data-urlencode", f"{name}={value}")]
        into = visitor.get(SHOP, "/.hoody-edge/login", *BROWSER, "-H", f"Origin: https://{SHOP}", *fields)
        assert into.status == 303 and into.headers["location"] == "/x?q=1", (into.status, into.headers, into.body)
        ticket = into.headers["set-cookie"].split(";")[0]
        got = visitor.get(SHOP, "/x?q=1", *BROWSER, "-H", f"Cookie: a=b; {ticket}")
        assert got.status == 200, got.body
        target, seen = got.seen()
        assert target == "/api/x?q=1" and seen["cookie"] == ["a=b"] and seen["host"] == [SHOP], (target, seen)
        assert visitor.target(SHOP, "/x")[0] == "/api/x" and "authorization" not in visitor.target(SHOP, "/x")[1]
        assert visitor.get(SHOP, "/x", "-u", "ann:wrong").status == 401


@case("hooks act on who comes by an alias or a domain, behind the gate; the domain has its own certificate, and follows its alias; nothing of it is kept")
def _():
    with site() as it:
        api, alias, visitor = begun(it)
        hook = {"match": {"path": {"prefix": "/api"}}, "actions": [{"set": {"x-by": "hook"}}, {"path": {"prefix": "/api", "to": "/v2"}}]}
        version = api.get(f"/containers/{CONTAINER}/proxy/hooks").version
        assert api.ask("PUT", f"/containers/{CONTAINER}/proxy/hooks/terminal/one", hook, version).status == 200
        version = api.get(f"/containers/{CONTAINER}/proxy/settings").version
        assert api.ask("PUT", f"/containers/{CONTAINER}/proxy/settings", {"cache": {"enabled": True}}, version).status == 200
        eventually(lambda: (got := visitor.get(SHOP, "/x", *BASIC)).status == 200 and got.seen()[0] == "/v2/x", "the hook")
        assert visitor.target(SHOP, "/x")[1]["x-by"] == ["hook"] and visitor.get(SHOP, "/x").status == 401
        it.container.run("sh", "-ec", f"cd /tmp && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout own.key -out own.crt -subj /CN=own"
                         f" -addext subjectAltName=DNS:{OWN} 2>&1")
        texts = [it.container.run("cat", f"/tmp/own.{end}") for end in ("crt", "key")]
        assert api.ask("PUT", f"/proxy/domains/{OWN}", {"alias": alias}, 0).status == 200
        assert api.ask("PUT", f"/proxy/domains/{OWN}/certificate", {"certificate": texts[0], "key": texts[1]}, 1).status == 200
        visitor.ca = "/tmp/own.crt"
        eventually(lambda: it.container.run("sh", "-c", f"curl -s -o /dev/null --cacert /tmp/own.crt --resolve {OWN}:443:192.0.2.1 https://{OWN}/ && echo yes || true"),
                   "the domain's certificate")
        eventually(lambda: visitor.get(OWN, "/x").status == 401, "the domain's gate")
        target, seen = visitor.target(OWN, "/x")
        assert target == "/v2/x" and seen["host"] == [OWN] and seen["x-by"] == ["hook"], (target, seen)
        eventually(lambda: visitor.get(OWN, "/x", *BASIC).headers.get("cache-status", "").endswith("fwd=bypass"), "the cache, which keeps nothing of it")
        version = api.get(f"/proxy/aliases/{alias}").version
        moved = api.ask("PATCH", f"/proxy/aliases/{alias}", {"container_id": OTHER, "target_path": None}, version)
        assert moved.status == 200, moved
        eventually(lambda: (got := visitor.get(OWN, "/x")).status == 200 and json.loads(got.body)["target"] == "/x", "the other container, which is open and has no hooks")
        assert api.ask("PATCH", f"/proxy/aliases/{alias}/state", {"enabled": False}, moved.version).status == 200
        eventually(lambda: visitor.get(OWN, "/x").status == 503, "503 of what is off")


if __name__ == "__main__":
    main()
