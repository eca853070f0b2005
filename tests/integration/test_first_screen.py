"""What the README's first screen promises, by the commands that stand there: two on one machine, four for an HTTPS URL of one's own.

Runs: plain.
"""

import base64
import hashlib
import os
import re
import shutil
import signal
import stat

from tests.integration.harness import BIN, ROOT, eventually, run
from tests.integration.machines import container_and_laptop
from tests.support.tap import Skip, case, main

DOMAIN = "tunnel.example.com"
HELLO = "a page of the laptop"


def blocks(heading):
    """The commands below a heading of the README, a list for each of its blocks."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        part = re.search(rf"^### {heading}\n(.*?)^(?:#|Words of)", f.read(), re.M | re.S)[1]
    return [block.splitlines() for block in re.findall(r"^```\n(.*?)^```", part, re.M | re.S)]


class Person:
    """Somebody at a machine that is new: an empty home, and the program in the PATH."""

    def __init__(self, machine, hosts=""):
        self.machine = machine
        machine.run("sh", "-ec", "mkdir /tmp/bin /tmp/work && ln -s $0 /tmp/bin/hoody-tunnel", BIN)
        self.hosts = "127.0.0.1 localhost\n" + hosts
        machine.write("/tmp/hosts", self.hosts)
        machine.run("mount", "--bind", "/tmp/hosts", "/etc/hosts")
        self.env = ["env", "-i", "HOME=/tmp/home", "PATH=/tmp/bin:/usr/sbin:/usr/bin:/bin", "SSL_CERT_FILE=/tmp/work/ca.pem"]
        self.env += [f"{name}={os.environ[name]}" for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS") if name in os.environ]

    def knows(self, host, address):
        self.hosts += f"{address} {host}\n"
        self.machine.write("/tmp/hosts", self.hosts)

    def types(self, line):
        """A command that ends by itself."""
        return self.machine.run(*self.env, "sh", "-c", f"cd /tmp/work && {line}")

    def starts(self, line):
        return self.machine.start(*self.env, "sh", "-c", f"cd /tmp/work && exec {line}")

    def serves(self):
        self.machine.write("/tmp/work/index.html", f"<!doctype html><title>x</title><p>{HELLO}")
        web = self.starts("/usr/bin/python3 -m http.server --bind 127.0.0.1 3000")
        eventually(lambda: web.process.poll() is None and HELLO in self.types("curl -s http://127.0.0.1:3000/ || true"), "the service")
        return web

    def looks(self, url, *more):
        """What a browser shows."""
        if not shutil.which("chromium"):
            raise Skip("chromium is not installed")
        return self.machine.run(*self.env, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                                "--user-data-dir=/tmp/chromium", *more, "--dump-dom", url)


def ended(*programs):
    for program in programs:
        status = program.end(signal.SIGINT)
        assert status == 0, (status, program.text())
        program.check_sanitizers()


def certificate(server):
    """fullchain.pem and privkey.pem for the domain, and their authority in ca.pem. Returns the pin for a browser."""
    if not shutil.which("openssl"):
        raise Skip("openssl is not installed")
    server.types(f"""sh -ec 'key() {{ openssl ecparam -genkey -name prime256v1 -noout -out $1; }}
key ca.key; key privkey.pem
openssl req -x509 -new -key ca.key -days 2 -subj /CN=tests -out ca.pem
openssl req -new -key privkey.pem -subj /CN={DOMAIN} -out csr
printf "subjectAltName=DNS:{DOMAIN},DNS:*.{DOMAIN}" > ext
openssl x509 -req -in csr -CA ca.pem -CAkey ca.key -days 2 -extfile ext -out fullchain.pem' 2>&1""")
    der = server.types("openssl pkey -in privkey.pem -pubout -outform der | base64 -w0")
    return base64.b64encode(hashlib.sha256(base64.b64decode(der)).digest()).decode()


@case("two commands on one machine lead to http://app-3000.tunnel.localhost:8080, for curl and for a browser")
def _():
    serve, expose = blocks("Two commands on one machine")[0]
    with container_and_laptop() as (_server, machine):
        person = Person(machine)
        web = person.serves()
        kit = person.starts(serve)
        kit.wait_line("public on http://127.0.0.1:8080")
        driver = person.starts(expose)
        url = driver.wait_line(r"(http://app-3000\.tunnel\.localhost:8080)").group(1)
        assert HELLO in person.types(f"curl -s {url}/")
        assert HELLO in person.looks(f"{url}/")
        ended(driver, kit)
        web.end()


@case("four commands lead to an HTTPS URL of one's own domain; the URL is the same tomorrow")
def _():
    (token, serve), (login, expose) = blocks("Four commands for an HTTPS URL of your own domain")
    with container_and_laptop() as (machine, other):
        server, laptop = Person(machine), Person(other, f"192.0.2.1 {DOMAIN}\n")
        pin = certificate(server)
        laptop.machine.write("/tmp/work/ca.pem", server.types("cat ca.pem"))
        web = laptop.serves()
        server.types(token)
        kit = server.starts(serve)
        kit.wait_line("public on https://0.0.0.0:443")
        laptop.machine.write("/tmp/token", server.types("cat token.txt"))
        assert f"logged in to https://{DOMAIN}" in laptop.types(f"{login} < /tmp/token")
        assert stat.S_IMODE(os.stat(laptop.machine.path("/tmp/home/.config/hoody-tunnel/kits")).st_mode) == 0o600
        urls = []
        for _day in range(2):
            driver = laptop.starts(expose)
            urls.append(driver.wait_line(rf"(https://[a-z0-9-]+-3000\.{re.escape(DOMAIN)}) ").group(1))
            if len(urls) == 1:
                laptop.knows(urls[0][len("https://"):], "192.0.2.1")
                assert HELLO in laptop.types(f"curl -sS {urls[0]}/")
                assert HELLO in laptop.looks(f"{urls[0]}/", f"--ignore-certificate-errors-spki-list={pin}")
                assert urls[0] in laptop.types("hoody-tunnel status")
            ended(driver)
        assert urls[0] == urls[1], urls
        ended(kit)
        web.end()


if __name__ == "__main__":
    main()
