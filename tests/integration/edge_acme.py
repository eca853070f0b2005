"""A server with an edge, and with an ACME server and a name server of its own (pebble), for tests of own domains."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess

from tests.integration.edge_api import Api
from tests.integration.edges import is_there, needs_haproxy
from tests.integration.harness import BIN, eventually
from tests.integration.machines import namespaces
from tests.support.tap import Skip

DOMAIN = "example.com"
ADDRESS = "203.0.113.1"
PROJECT, OTHER, CONTAINER = "67e89abc123def456789abcd", "0123456789abcdef01234567", "890abcdef12345678901cdef"
ALIAS, ALIAS2, FOREIGN = "64f1c0ffee64f1c0ffee6401", "64f1c0ffee64f1c0ffee6402", "64f1c0ffee64f1c0ffee6403"
API = "api.mycompany.test"
EMAIL = "ops@mycompany.test"
DIRECTORY = "https://127.0.0.1:14000/dir"


def needs_acme():
    needs_haproxy()
    missing = [p for p in ("lego", "pebble", "pebble-challtestsrv") if not shutil.which(p)]
    if missing:
        raise Skip(f"{' and '.join(missing)}: not installed; apt-get install lego pebble")


class Site:
    def __init__(self, server):
        self.server, self.edge, self.api, self.pebble, self.names = server, None, None, None, None
        self.expected = []

    # ---- names, and the ACME server ----

    def serve_names(self):
        self.names = self.server.start("pebble-challtestsrv", "-dns01", "127.0.0.1:53", "-defaultIPv4", ADDRESS, "-defaultIPv6", "", "-http01", "", "-https01", "",
                                       "-tlsalpn01", "", "-management", "127.0.0.1:8055")
        eventually(lambda: "000" not in self.server.run("sh", "-c", "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8055/ || true"), "the name server")

    def tell(self, what, **how):
        self.server.run("curl", "-s", "-S", "-f", "-d", json.dumps(how), f"http://127.0.0.1:8055/{what}")

    def serve_acme(self, lifetime=7776000, reject=0):
        """pebble, whose certificates are good for so many seconds, and which refuses so many of 100 nonces."""
        config = {"listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000", "certificate": "/tmp/pebble.crt", "privateKey": "/tmp/pebble.key",
                  "httpPort": 80, "tlsPort": 443, "ocspResponderURL": "", "externalAccountBindingRequired": False, "certificateValidityPeriod": lifetime}
        self.server.write("/tmp/pebble.json", json.dumps({"pebble": config}))
        if not os.path.exists(self.server.path("/tmp/pebble.crt")):
            self.server.run("sh", "-ec", "cd /tmp && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout pebble.key -out pebble.crt"
                            " -subj /CN=pebble -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:TRUE 2>&1")
        self.pebble = self.server.start("pebble", "-config", "/tmp/pebble.json", "-dnsserver", "127.0.0.1:53",
                                        env={**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": str(reject), "PEBBLE_AUTHZREUSE": "0"})
        self.pebble.wait_line("Listening on: 127.0.0.1:14000")

    def orders(self):
        """How many orders the ACME server has had."""
        return len(re.findall(r"Added order", self.pebble.text()))

    # ---- the edge ----

    def acme(self, *more, retry="1s"):
        return ("--acme-email", EMAIL, "--acme-server", DIRECTORY, "--acme-ca", "/tmp/pebble.crt", "--acme-retry", retry, *more)

    def start(self, *args, env=None, as_user=()):
        self.server.run("sh", "-ec", "mkdir -p -m 700 /tmp/edge /tmp/edge/state /tmp/edge/state/alias")
        for alias, project in ((ALIAS, PROJECT), (ALIAS2, PROJECT), (FOREIGN, OTHER)):
            if not os.path.exists(self.server.path(f"/tmp/edge/state/alias/{alias}.json")):
                self.server.write(f"/tmp/edge/state/alias/{alias}.json", json.dumps({"file_version": 1, "alias": f"a{alias[-2:]}", "project_id": project,
                                             "container_id": CONTAINER, "program": "http", "port": 3000}))
        if as_user:
            self.server.run("chown", "-R", "65534:65534", "/tmp/edge")
        self.edge = self.server.start(*as_user, BIN, "edge", "up", "--domain", DOMAIN, "--id", "node1", "--folder", "/tmp/edge", "--log-level", "debug", *args, env=env)
        self.edge.wait_line(r"is served by HAProxy \d")
        self.api = Api(self.server.path("/tmp/edge/run/api.sock"))
        return self.edge

    def end(self):
        assert self.edge.end() == 0, self.edge.text()
        self.edge.check_sanitizers()
        bad = [line for line in self.edge.log if re.search(r" error (edge|kit): ", line) and not any(e in line for e in self.expected)]
        assert not bad, bad

    def add(self, domain, alias=ALIAS, version=0):
        answer = self.api.ask("PUT", f"/proxy/domains/{domain}", {"alias": alias}, version)
        assert answer.status == 200, answer
        return answer.data

    def get(self, domain):
        answer = self.api.get(f"/proxy/domains/{domain}")
        assert answer.status == 200, answer
        return answer.data

    def until(self, domain, state, error="", timeout=30.0):
        return eventually(lambda: (d := self.get(domain))["state"] == state and re.search(error, d.get("error", "")) and d, f"{domain} {state} {error}", timeout)

    def renew(self, domain):
        answer = self.api.ask("POST", f"/proxy/domains/{domain}/renew")
        assert answer.status == 200, answer
        return answer.data

    def shown(self, host):
        """(subject alternative names, serial number, issuer) of the certificate that a visitor gets."""
        # Without the authorities of the system: it would read them each time, and nobody asks whether they know this one.
        out = self.server.run("sh", "-c", f"openssl s_client -no-CAfile -no-CApath -no-CAstore -connect {ADDRESS}:443 -servername {host} </dev/null 2>/dev/null | "
                              "openssl x509 -noout -serial -issuer -ext subjectAltName 2>/dev/null; true")
        if "serial=" not in out:
            return (set(), "", "")
        return (set(re.findall(r"DNS:([^\s,]+)", out)), re.search(r"serial=(\w+)", out).group(1), re.search(r"issuer=(.*)", out).group(1))

    def serial(self, host):
        return self.shown(host)[1]

    def worker(self):
        """The process of HAProxy that serves."""
        return self.server.run("/usr/bin/python3", "-c", "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('/tmp/edge/run/admin.sock')\n"
                               "s.sendall(b'show info\\n')\nout = b''\nwhile m := s.recv(65536): out += m\nprint(out.decode().split('Pid: ')[1].split()[0])").strip()

    def reload(self):
        was = self.worker()
        os.kill(self.edge.inner, signal.SIGHUP)
        eventually(lambda: self.worker() != was, "a new process of HAProxy")

    def runs(self, name):
        """The processes of a program on the server; what has ended and is not waited for is none."""
        return self.server.run("sh", "-c", f"ps -C {name} -o pid=,stat= | grep -v Z || true").split()

    def kill(self):
        """The edge alone; what it has started ends with it."""
        self.edge.end(signal.SIGKILL)
        for name in ("lego", "haproxy"):
            eventually(lambda n=name: not self.runs(n), f"the end of {name}")

    def files(self, folder):
        return sorted(os.listdir(self.server.path(f"/tmp/edge/{folder}")))

    def make_cert(self, name, names, days=90, key="ec -pkeyopt ec_paramgen_curve:P-256"):
        """/tmp/NAME.crt and .key of an authority that nobody knows."""
        self.server.run("sh", "-ec", f"cd /tmp && openssl req -x509 -newkey {key} -nodes -days {days} -keyout {name}.key -out {name}.crt -subj /CN={name}"
                        f" -addext subjectAltName={','.join('DNS:' + n for n in names)} 2>&1")
        texts = []
        for end in (".crt", ".key"):
            with open(self.server.path(f"/tmp/{name}{end}"), encoding="ascii") as f:
                texts.append(f.read())
        return texts


@contextlib.contextmanager
def site(acme=True, **more):
    needs_acme()
    with namespaces(1) as (server,):
        server.run("ip", "addr", "add", f"{ADDRESS}/32", "dev", "lo")
        server.write("/tmp/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:2\n")
        server.run("mount", "--bind", "/tmp/resolv.conf", "/etc/resolv.conf")
        it = Site(server)
        it.serve_names()
        if acme:
            it.serve_acme(**more)
        try:
            yield it
        except BaseException:
            for what in (it.edge, it.pebble):
                for line in (what.log if what else [])[-150:]:
                    print(f"# {line}")
            raise
        if it.edge and it.edge.process.poll() is None:
            it.end()
        for program in (it.pebble, it.names):
            if program:
                program.end(signal.SIGKILL)
        eventually(lambda: not any(map(is_there, server.processes())), "no process on the server")
