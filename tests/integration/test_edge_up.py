"""`edge up`: a server with the ports 80 and 443, a laptop whose driver comes in there, and a visitor.

Runs: plain.
"""

import contextlib
import json
import re
import signal

from tests.integration.edges import is_there, needs_haproxy
from tests.integration.harness import BIN, eventually
from tests.integration.machines import container_and_laptop
from tests.support.tap import case, main

DOMAIN = "tunnel.example.com"
HOSTS = " ".join(f"{label}.{DOMAIN}" for label in ("node1", "node1-3000", "app-3000", "node1-3001", "www"))


@contextlib.contextmanager
def machines():
    needs_haproxy()
    with container_and_laptop() as (server, laptop):
        laptop.write("/tmp/hosts", f"127.0.0.1 localhost\n192.0.2.1 {HOSTS}\n")
        laptop.run("mount", "--bind", "/tmp/hosts", "/etc/hosts")
        laptop.run("mkdir", "/tmp/www")
        laptop.write("/tmp/www/index.html", "a page of the laptop")
        web = laptop.start("/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "-d", "/tmp/www", "3000")
        yield server, laptop
        web.end()
        eventually(lambda: not any(map(is_there, server.processes())), "no process on the server")


def up(server, *args):
    edge = server.start(BIN, "edge", "up", "--domain", DOMAIN, "--id", "node1", "--folder", "/tmp/edge", *args)
    edge.wait_line(r"is served by HAProxy \d")
    return edge


def take(machine, path, to, name):
    with open(machine.path(path), encoding="utf-8") as f:
        to.write(name, f.read())


def curl(machine, url, *more):
    """(status, what came)"""
    out = machine.run("curl", "-s", "-S", "-i", "--max-time", "20", "--cacert", "/tmp/ca.pem", *more, url)
    return int(out.split(" ", 2)[1]), out


@case("a driver comes in at https://ID.DOMAIN with the token, its service is https://ID-PORT.DOMAIN; plain HTTP leads there")
def _():
    with machines() as (server, laptop):
        edge = up(server)
        edge.wait_line(rf"Drivers connect to https://node1\.{DOMAIN} with the token in /tmp/edge/kit\.token")
        take(server, "/tmp/edge/ca/ca.pem", laptop, "/tmp/ca.pem")
        take(server, "/tmp/edge/kit.token", laptop, "/tmp/token")
        assert server.run("stat", "-c", "%a", "/tmp/edge/kit.token").strip() == "600"
        assert curl(laptop, f"https://node1-3000.{DOMAIN}/")[0] == 404
        driver = laptop.start(BIN, "expose", "3000", "--name", "app", "--url", f"https://node1.{DOMAIN}", "--ca", "/tmp/ca.pem", "--token-file", "/tmp/token",
                              "--json")
        bound = json.loads(driver.wait_line(r'^\{.*"event":\s*"bound".*\}$').group(0))
        assert f"https://app-3000.{DOMAIN}" in json.dumps(bound), bound
        for host in ("node1-3000", "app-3000"):
            eventually(lambda h=host: curl(laptop, f"https://{h}.{DOMAIN}/")[0] == 200, f"the page at {host}")
        status, out = curl(laptop, f"http://node1-3000.{DOMAIN}/a?b")
        assert status == 308 and f"location: https://node1-3000.{DOMAIN}/a?b" in out.lower(), out
        assert "a page of the laptop" in curl(laptop, f"http://node1-3000.{DOMAIN}/", "-L")[1]
        assert driver.end(signal.SIGINT) == 0
        eventually(lambda: curl(laptop, f"https://node1-3000.{DOMAIN}/")[0] == 404, "no page")
        assert edge.end() == 0, edge.text()


@case("the kit's API is there for the token alone; a driver that takes its name gets no visitor of it")
def _():
    with machines() as (server, laptop):
        edge = up(server)
        take(server, "/tmp/edge/ca/ca.pem", laptop, "/tmp/ca.pem")
        take(server, "/tmp/edge/kit.token", laptop, "/tmp/token")
        with open(server.path("/tmp/edge/kit.token"), encoding="ascii") as f:
            token = f.read().strip()
        api = f"https://node1.{DOMAIN}/api/v1/tunnel/bindings"
        assert curl(laptop, api)[0] == 401
        assert curl(laptop, api, "-H", "Authorization: Bearer wrong")[0] == 401
        assert curl(laptop, api, "-H", f"Authorization: Bearer {token}")[0] == 200
        laptop.write("/tmp/hoody-tunnel.yaml", f"url: https://node1.{DOMAIN}\nca: /tmp/ca.pem\ntoken-file: /tmp/token\nexpose:\n  - target: 3000\n    name: node1\n")
        driver = laptop.start("sh", "-c", f"cd /tmp && exec {BIN} up -f /tmp/hoody-tunnel.yaml")
        listed = lambda: curl(laptop, api, "-H", f"Authorization: Bearer {token}")[1]  # noqa: E731
        eventually(lambda: f'"node1.{DOMAIN}"' in listed(), "the kit gives the name away")
        eventually(lambda: f"https://node1-3000.{DOMAIN}" in edge.text(), "the edge has seen it")
        assert f'"node1.{DOMAIN}"' in listed() and "a page" not in curl(laptop, f"https://node1.{DOMAIN}/")[1]
        assert driver.end(signal.SIGINT) == 0
        assert token not in edge.text()
        assert edge.end() == 0, edge.text()


@case("without root, or with port 443 taken, it says so; a certificate from files is shown")
def _():
    with machines() as (server, laptop):
        server.run("sh", "-ec", "cd /tmp && openssl ecparam -genkey -name prime256v1 -noout -out key.pem && openssl req -x509 -new -key key.pem -days 2"
                   f" -subj /CN=tests -addext subjectAltName=DNS:*.{DOMAIN} -out cert.pem 2>&1")
        edge = up(server, "--tls-cert", "/tmp/cert.pem", "--tls-key", "/tmp/key.pem")
        take(server, "/tmp/cert.pem", laptop, "/tmp/ca.pem")
        assert curl(laptop, f"https://www.{DOMAIN}/")[0] == 404
        assert "an authority of its own" not in edge.text()
        said = server.run("sh", "-c", f"{BIN} edge up --domain {DOMAIN} --id node1 --folder /tmp/other 2>&1; echo status $?")
        assert "port 443 is in use by another program" in said and "status 3" in said, said
        assert edge.end() == 0, edge.text()
        said = server.run("sh", "-c", "chmod 777 /tmp && setpriv --reuid=65534 --regid=65534 --clear-groups "
                          f"{BIN} edge up --domain {DOMAIN} --id node1 --folder /tmp/nobody 2>&1; echo status $?")
        may = re.search(r"(\d+)", server.run("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"))
        if int(may.group(1)) > 443:
            assert "port 443: only root" in said and "status 3" in said, said


if __name__ == "__main__":
    main()
