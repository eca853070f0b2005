"""packaging/deploy: each file is read, with the kit's command in it, and run as it is, but for ports and paths.

Runs: plain.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess

import yaml

from tests.integration.harness import BIN, ROOT, Driver, Folder, Program, eventually, free_port, http_service, run
from tests.support.tap import Skip, case, main

DEPLOY = os.path.join(ROOT, "packaging", "deploy")
DOMAIN = "tunnel.localhost"  # which is this machine, for curl and for drivers
TOKEN = "t0ken-of-the-kit"


def make_certificates(folder):
    """A wildcard certificate of an authority of its own: ca.pem, fullchain.pem, privkey.pem, tunnel.pem."""
    run(["sh", "-ec", f"""cd {folder.path}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=tests 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout privkey.pem -out csr -subj /CN={DOMAIN} 2>/dev/null
printf 'subjectAltName=DNS:{DOMAIN},DNS:*.{DOMAIN}' > ext
openssl x509 -req -in csr -CA ca.pem -CAkey ca.key -days 2 -extfile ext -out fullchain.pem 2>/dev/null
cat fullchain.pem privkey.pem > tunnel.pem; echo {TOKEN} > token.txt; chmod 644 privkey.pem tunnel.pem; chmod 600 token.txt"""])


def read(name):
    with open(os.path.join(DEPLOY, name), encoding="utf-8") as f:
        return f.read()


class Ports:
    """Numbers in a file -> free ones, the same for each place in which one stands."""

    def __init__(self):
        self.free = {}

    def __getitem__(self, number):
        return self.free.setdefault(number, free_port())

    def put(self, text, folder, *patterns):
        for pattern in patterns:
            text, n = re.subn(pattern, lambda m: m[1] + str(self[int(m[2])]), text)
            assert n, pattern
        return text.replace("tunnel.example.com", DOMAIN).replace(f"/etc/ssl/{DOMAIN}", folder.path)


@contextlib.contextmanager
def kit_of(text, ports, folder):
    """The kit whose command stands in a file's head."""
    words = shlex.split(re.search(r"^# +(hoody-tunnel serve .*)$", text, re.M)[1])[1:]
    argv = [re.sub(r"(127\.0\.0\.1:)(\d+)", lambda m: m[1] + str(ports[int(m[2])]), w).replace("tunnel.example.com", DOMAIN) for w in words]
    argv = [folder.join(w) if w.endswith(".txt") else w for w in argv]
    program = Program([BIN, *argv])
    try:
        program.wait_line("listening on http://127")
        yield program
        assert program.end() == 0, program.text()
        program.check_sanitizers()
    finally:
        if program.process.poll() is None:
            program.end(signal.SIGKILL)


@contextlib.contextmanager
def running(argv, port):
    program = Program(argv)
    try:
        eventually(lambda: program.process.poll() is not None or subprocess.run(["curl", "-sko", "/dev/null", f"https://{DOMAIN}:{port}/"],
                                                                              check=False).returncode not in (7, 35), "it listens")
        assert program.process.poll() is None, program.text()
        yield program
    finally:
        program.end(signal.SIGTERM)


def need(*programs):
    for program in programs:
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
            raise Skip(f"{program} is not installed")


def echo(head, body):
    """What the service saw: its request's first line, the fields that say who asked, and the body."""
    if "upgrade: websocket" in head.lower():
        return b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello"  # of the one key that is sent here
    said = "\n".join([head.splitlines()[0]] + sorted(line for line in head.splitlines() if re.match(r"host:|x-forwarded", line, re.I)))
    said = said.encode() + b"\n" + body
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said)


def curl(folder, url, *more):
    return run(["curl", "-sS", "--max-time", "20", "--cacert", folder.join("ca.pem"), *more, url])


def visit(folder, edge, url, host, http_port=None):
    """What a visitor of a service behind the edge meets: HTTP/1.1 and 2, what the service learns of him, bodies, an upgrade."""
    for version in ("--http1.1", "--http2"):
        seen = curl(folder, url + "/a?b=c", version, "-d", "body", "-H", "X-Forwarded-For: 6.6.6.6")
        assert seen.startswith("POST /a?b=c HTTP/1.1\n") and seen.endswith("\nbody"), (edge, seen)
        low = seen.lower()
        assert f"host: {host}" in low and "x-forwarded-proto: https" in low and "127.0.0.1" in low, (edge, seen)
    big = os.path.join(folder.path, "big")
    with open(big, "wb") as f:
        f.truncate(300000)
    seen = run(["curl", "-sS", "--max-time", "20", "--cacert", folder.join("ca.pem"), "--data-binary", f"@{big}", "-o", "/dev/null", "-w",
                "%{http_code} %{size_upload}", url + "/"])
    assert seen == "200 300000", (edge, seen)
    name, port = host.split(":")
    trust = ssl.create_default_context(cafile=folder.join("ca.pem"))
    with socket.create_connection(("127.0.0.1", int(port)), 20) as raw, trust.wrap_socket(raw, server_hostname=name) as c:
        c.sendall(f"GET /socket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        said = b""
        while not said.endswith(b"hello"):
            more = c.recv(4096)
            assert more, (edge, said)
            said += more
        assert said.startswith(b"HTTP/1.1 101 "), (edge, said)
    if http_port:
        head = run(["curl", "-sSI", "--max-time", "20", f"http://{host.split(':')[0]}:{http_port}/x?y"])
        assert re.match(r"HTTP/1.1 308 ", head) and re.search(r"^location: https://[^ ]*/x\?y", head, re.I | re.M), (edge, head)


@contextlib.contextmanager
def driver_of(folder, port, *args):
    """A driver that comes through the edge, with what it was told."""
    with http_service(echo) as web:
        kit = type("Edge", (), {"url": f"wss://{DOMAIN}:{port}"})
        driver = Driver(kit, "expose", *(a.format(port=web.port) for a in args), "--ca", folder.join("ca.pem"), "--token-file",
                        folder.join("token.txt"))
        try:
            yield driver.bound[0]
            assert driver.end(signal.SIGINT) == 0, driver.text()
        finally:
            if driver.process.poll() is None:
                driver.end(signal.SIGKILL)


def by_name(folder, edge, ports, http_port=None):
    with driver_of(folder, ports[443], "3000={port}", "--name", "myapp") as bound:
        assert bound["publicUrl"] == f"https://myapp-3000.{DOMAIN}", bound
        visit(folder, edge, f"https://myapp-3000.{DOMAIN}:{ports[443]}", f"myapp-3000.{DOMAIN}:{ports[443]}", http_port)
        code = run(["curl", "-sS", "--cacert", folder.join("ca.pem"), "-o", "/dev/null", "-w", "%{http_code}", f"https://other-3000.{DOMAIN}:{ports[443]}/"])
        assert code == "404", (edge, code)


@case("nginx.conf: names at the kit's public port, TLS at nginx")
def _():
    need("nginx", "curl", "openssl")
    with Folder() as folder:
        make_certificates(folder)
        ports, text = Ports(), read("nginx.conf")
        config = ports.put(text, folder, r"(listen (?:\[::\]:)?)(80|443)\b", r"(proxy_pass http://127\.0\.0\.1:)(\d+)")
        with kit_of(text, ports, folder), nginx(folder, config, ports[443]):
            by_name(folder, "nginx", ports, ports[80])


@contextlib.contextmanager
def nginx(folder, config, port):
    path = folder.join("nginx.conf")
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"daemon off; pid {path}.pid; worker_processes 1; {'user root;' if os.geteuid() == 0 else ''}\nevents {{}}\n"
                f"http {{\naccess_log off;\nclient_body_temp_path {folder.path}/body;\n{config}\n}}\n")
    with running([shutil.which("nginx") or "/usr/sbin/nginx", "-c", path, "-p", folder.path, "-e", f"{path}.log"], port):
        yield


@case("nginx-wildcard.conf: ports out of the host's name, a kit without names; other ports are not reached")
def _():
    need("nginx", "curl", "openssl")
    with Folder() as folder:
        make_certificates(folder)
        ports, text = Ports(), read("nginx-wildcard.conf")
        let_through = re.search(r"<picked>(.*)\)\\.tunnel", text)[1]
        assert [p for p in range(10000, 65536) if re.fullmatch(let_through, str(p))] == list(range(20000, 65535))
        config = ports.put(text, folder, r"(listen (?:\[::\]:)?)(443)\b", r"(proxy_pass http://127\.0\.0\.1:)(8050)")
        config = config.replace(r"tunnel\.example\.com", DOMAIN.replace(".", r"\."))
        with kit_of(text, ports, folder), nginx(folder, config, ports[443]), driver_of(folder, ports[443], "0={port}") as bound:
            port = bound["containerPort"]
            assert bound["publicUrl"] == f"https://myapp-{port}.{DOMAIN}", bound
            visit(folder, "nginx-wildcard", f"https://myapp-{port}.{DOMAIN}:{ports[443]}", f"myapp-{port}.{DOMAIN}:{ports[443]}")
            for name in ("myapp-22", "myapp-80", "myapp", "myapp-3000x"):
                code = run(["curl", "-sS", "--cacert", folder.join("ca.pem"), "-o", "/dev/null", "-w", "%{http_code}",
                            f"https://{name}.{DOMAIN}:{ports[443]}/"])
                assert code == "404", (name, code)


@case("Caddyfile: names at the kit's public port, TLS at Caddy")
def _():
    need("caddy", "curl", "openssl")
    with Folder() as folder:
        make_certificates(folder)
        ports, text = Ports(), read("Caddyfile")
        config = ports.put(text, folder, r"(reverse_proxy 127\.0\.0\.1:)(\d+)")
        path = folder.join("Caddyfile")
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"{{\n\tadmin off\n\thttp_port {ports[80]}\n\thttps_port {ports[443]}\n}}\n{config}")
        with kit_of(text, ports, folder), running(["env", f"HOME={folder.path}", "XDG_DATA_HOME=", "XDG_CONFIG_HOME=", "caddy", "run", "--config",
                                                   path, "--adapter", "caddyfile"], ports[443]):
            by_name(folder, "caddy", ports, ports[80])


@case("haproxy.cfg: names at the kit's public port, TLS at HAProxy")
def _():
    need("haproxy", "curl", "openssl")
    with Folder() as folder:
        make_certificates(folder)
        ports, text = Ports(), read("haproxy.cfg")
        config = ports.put(text, folder, r"(bind :)(80|443)\b", r"(127\.0\.0\.1:)(8050|8080)\b")
        path = folder.join("haproxy.cfg")
        with open(path, "w", encoding="utf-8") as f:
            f.write(config)
        with kit_of(text, ports, folder), running([shutil.which("haproxy") or "/usr/sbin/haproxy", "-f", path, "-db"], ports[443]):
            by_name(folder, "haproxy", ports, ports[80])


def alone(folder, ports, command, env):
    """A kit that ends TLS itself, by the variables of a file: a visit by name, the redirect, and the answers of an ACME client."""
    acme = folder.join("acme", ".well-known", "acme-challenge")
    os.makedirs(acme)
    with open(os.path.join(acme, "t0k"), "w", encoding="ascii") as f:
        f.write("t0k.answer")
    kit = Program([BIN, *command], env=env)
    try:
        kit.wait_line("listening on")
        eventually(lambda: f"public on https://0.0.0.0:{ports[443]}" in kit.text(), f"its public address: {kit.text()}")
        with driver_of(folder, ports[8443], "3000={port}", "--name", "myapp") as bound:
            assert bound["publicUrl"] == f"https://myapp-3000.{DOMAIN}:{ports[443]}", bound
            visit(folder, "alone", f"https://myapp-3000.{DOMAIN}:{ports[443]}", f"myapp-3000.{DOMAIN}:{ports[443]}", ports[80])
        said = run(["curl", "-sS", f"http://myapp-3000.{DOMAIN}:{ports[80]}/.well-known/acme-challenge/t0k"])
        assert said == "t0k.answer", said
        assert kit.end() == 0, kit.text()
        kit.check_sanitizers()
    finally:
        if kit.process.poll() is None:
            kit.end(signal.SIGKILL)


@case("public.conf: the variables of the unit are a kit alone, with TLS, the redirect and an ACME client's answers")
def _():
    need("curl", "openssl")
    with Folder() as folder:
        make_certificates(folder)
        ports, text = Ports(), read("public.conf")
        text = ports.put(text, folder, r"(0\.0\.0\.0:)(\d+)").replace("/var/lib/hoody-tunnel-acme", folder.join("acme"))
        credential = re.search(r"^LoadCredential=(\w+):/etc/hoody-tunnel/token$", text, re.M)[1]
        text = text.replace(f"%d/{credential}", folder.join("token.txt"))
        with open(os.path.join(ROOT, "packaging", "hoody-tunnel.service"), encoding="utf-8") as f:
            command = shlex.split(re.search(r"^ExecStart=(.*)$", f.read(), re.M)[1])[1:]
        alone(folder, ports, command, dict(re.findall(r"^Environment=(\w+)=(\S+)$", text, re.M)))


@case("compose.yaml: the same by the variables of the container, which gets each file that they name")
def _():
    need("curl", "openssl")
    with Folder() as folder:
        make_certificates(folder)
        ports = Ports()
        service = yaml.safe_load(ports.put(read("compose.yaml"), folder, r"(0\.0\.0\.0:)(\d+)"))["services"]["kit"]
        assert service["ports"] == ["443:443", "80:80", "8443:8443"], service["ports"]
        inside = dict((place, name) for name, place, _mode in (v.split(":") for v in service["volumes"]))
        real = {"./token": folder.join("token.txt"), "./certs": folder.path, "./acme": folder.join("acme")}
        env = {}
        for name, value in service["environment"].items():
            place = next((p for p in inside if str(value) == p or str(value).startswith(p + "/")), None)
            env[name] = real[inside[place]] + value[len(place):] if place else str(value)
        assert not any(value.startswith("/") and not value.startswith(folder.path) for value in env.values()), env
        alone(folder, ports, service["command"], {k: v for k, v in env.items() if k not in ("HOODY_TUNNEL_URL", "HOODY_TUNNEL_LOG_FORMAT")})


if __name__ == "__main__":
    main()
