"""A server with an edge, and another machine that is a container and a visitor, for tests."""

import contextlib
import json
import os
import signal

from tests.integration.edges import is_there, needs_haproxy
from tests.integration.harness import BIN, eventually
from tests.integration.machines import container_and_laptop

DOMAIN = "example.com"
PROJECT, CONTAINER, OTHER = "67e89abc123def456789abcd", "890abcdef12345678901cdef", "0123456789abcdef01234567"


class Site:
    def __init__(self, server, container):
        self.server, self.container, self.edge = server, container, None
        self.services = []

    def book(self, **more):
        one = {"project": PROJECT, "container": CONTAINER, "address": "192.0.2.2", **more.pop("container", {})}
        self.server.write("/tmp/book.json", json.dumps({"containers": [one], **more}))

    def start(self, *args):
        self.edge = self.server.start(BIN, "edge", "up", "--domain", DOMAIN, "--id", "node1", "--folder", "/tmp/edge", *(args or ["--containers", "/tmp/book.json"]))
        self.edge.wait_line(r"is served by HAProxy \d")
        with open(self.server.path("/tmp/edge/ca/ca.pem"), encoding="ascii") as f:
            self.container.write("/tmp/ca.pem", f.read())

    def again(self, text=None, **more):
        """Another file, and SIGHUP."""
        if text is None:
            self.book(**more)
        else:
            self.server.write("/tmp/book.json", text)
        os.kill(self.edge.inner, signal.SIGHUP)

    def get(self, service, container=CONTAINER, project=PROJECT, suffix=f"node1.containers.{DOMAIN}"):
        """(status, body) of a visitor who trusts the edge's authority alone. A connection that a change ends has the status 0, or an answer in part."""
        host = f"{project}-{container}-{service}.{suffix}"
        out = self.container.run("sh", "-c", 'r=0; "$@" || r=$?; case $r in 0|18|52|56) ;; *) exit $r ;; esac', "sh", "curl", "-s", "-S", "--max-time", "20", "--cacert", "/tmp/ca.pem", "--resolve", f"{host}:443:192.0.2.1",
                                 "-w", "\n%{http_code}", f"https://{host}/")
        body, _, status = out.rpartition("\n")
        return int(status), body

    def until(self, service, status, body="", **more):
        return eventually(lambda: (got := self.get(service, **more))[0] == status and body in got[1], f"{status} {body} of {service}")


@contextlib.contextmanager
def site():
    needs_haproxy()
    with container_and_laptop() as (server, container):
        it = Site(server, container)
        for port in ("3000", "76", "7000"):
            container.run("mkdir", f"/tmp/{port}")
            container.write(f"/tmp/{port}/index.html", f"this is port {port}")
            it.services.append(container.start("/usr/bin/python3", "-m", "http.server", "--bind", "192.0.2.2", "-d", f"/tmp/{port}", port))
        yield it
        for service in it.services:
            service.end()
        eventually(lambda: not any(map(is_there, server.processes())), "no process on the server")
