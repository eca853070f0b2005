"""The ways from the load to the services that `make bench` measures: each is started here with its own documented commands.

A start function takes a Rig and a Link and returns a Way. Every way leads to the same two services: one for bulk, one for small
requests. The Link is what stands between the two hops of a way.
"""

import dataclasses
import os
import re
import shutil
import socket
import subprocess

from tests.integration.harness import BIN, Folder, Kit, Nginx, Program, Tunnel, eventually, free_port

LOAD = os.path.join(os.path.dirname(BIN), "bench/load")
SLOW = os.path.join(os.path.dirname(BIN), "bench/slow")

STREAM_HOP = "server { listen 127.0.0.1:%(listen)s; proxy_pass 127.0.0.1:%(to)s; proxy_buffer_size 256k; }"
HTTP_HOP = """
    upstream u%(to)s { server 127.0.0.1:%(to)s; keepalive 128; }
    server { listen 127.0.0.1:%(listen)s; keepalive_requests 1000000000;
        location / { proxy_pass http://u%(to)s; proxy_http_version 1.1; proxy_set_header Connection "";
                     proxy_request_buffering off; proxy_buffering on; proxy_buffers 8 256k; proxy_buffer_size 256k;
                     proxy_busy_buffers_size 512k; client_body_buffer_size 256k; proxy_max_temp_file_size 0; } }
"""
TEMP = """access_log off; client_max_body_size 0; client_body_temp_path %(d)s/t; proxy_temp_path %(d)s/t;
    fastcgi_temp_path %(d)s/t; uwsgi_temp_path %(d)s/t; scgi_temp_path %(d)s/t;"""


@dataclasses.dataclass
class Way:
    name: str
    kind: str  # TCP or HTTP
    bulk: int  # ports that lead to the two services
    small: int
    pids: list = dataclasses.field(default_factory=list)  # the processes of both hops
    peer: bool = False  # somebody else's: when it fails it is left out


class Link:
    """The way between two hops: through slow.c when it has a delay, and otherwise nothing. Each start has a link of its own."""

    def __init__(self, name="", delay_ms=0, mbit=0):
        self.name, self.delay_ms, self.mbit = name, delay_ms, mbit

    def to(self, stack, port, address="127.0.0.1", listen=0):
        """The port at `address` that leads to `port` of this machine."""
        if not self.delay_ms:
            return port
        slow = Program([SLOW, str(self.delay_ms), str(self.mbit), str(port), address, str(listen)])
        stack.callback(slow.end)
        return int(slow.wait_line(r"^(\d+)$").group(1))


class Rig:
    """The two services, a folder, and a stack that ends everything."""

    def __init__(self, stack):
        self.stack, self.bore = stack, None  # its server, which all links share
        self.folder = self.scratch()
        os.makedirs(self.folder.join("t"))
        self.bulk = int(self.program([LOAD, "serve"], 9).wait_line(r"^(\d+)$").group(1))
        page = "http { %s keepalive_requests 1000000000; server { listen 127.0.0.1:{0}; location / { return 200 '%s'; } } }"
        self.small = self.nginx(page % (TEMP % {"d": self.folder.path}, "x" * 1024)).port

    def scratch(self):
        return self.stack.enter_context(Folder())

    def program(self, argv, signum=15):
        program = Program([str(arg) for arg in argv])
        self.stack.callback(program.end, signum)
        return program

    def quiet(self, argv, **more):
        """A program whose output goes to a file: reading it would take time from what is measured."""
        folder = self.scratch()
        with open(folder.join("log"), "wb") as log:
            process = subprocess.Popen([str(arg) for arg in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **more)
        self.stack.callback(end, process)
        return process

    def nginx(self, config, ports=1):
        return self.stack.enter_context(Nginx(self.folder, "events { worker_connections 8192; }\n" + config, ports,
                                              main="worker_processes 1; worker_rlimit_nofile 20000;"))

    def file(self, text):
        path = self.scratch().join("config.toml")
        with open(path, "w", encoding="ascii") as f:
            f.write(text)
        return path


def end(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def answers(port):
    return subprocess.run([LOAD, "latency", str(port), "2", "10"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          timeout=30, check=False).returncode == 0


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def ready(way):
    for port in (way.bulk, way.small):
        eventually(lambda p=port: answers(p), f"{way.name} answers on port {port}", 20)
    return way


# ---- what is always there ----


def direct(rig, link, kind):
    return Way("direct", kind, link.to(rig.stack, rig.bulk), link.to(rig.stack, rig.small))


def two_nginx(rig, link, kind):
    """Two nginx processes in a row, one worker each."""
    hop, head = (STREAM_HOP, "") if kind == "TCP" else (HTTP_HOP, TEMP % {"d": rig.folder.path})
    to, pids = [rig.bulk, rig.small], []
    for far in (True, False):
        hops = "".join(hop % {"listen": "{%d}" % i, "to": port} for i, port in enumerate(to))
        nginx = rig.nginx(f"{'stream' if kind == 'TCP' else 'http'} {{ {head} {hops} }}", ports=2)
        to = [link.to(rig.stack, port) if far else port for port in nginx.ports]
        pids.append(nginx.program.pid)
    return ready(Way("two nginx", kind, *to, pids))


class Driver(Program):
    """`expose` or `pull` of the two services, which writes no line for each request."""

    def __init__(self, rig, binary, url, command, *args):
        urls = rig.scratch().join("urls")
        super().__init__([binary, command, "--url", url, "--log-level", "warn", "--url-file", urls, *args,
                          f"0={rig.bulk}", f"0={rig.small}"])
        eventually(lambda: os.path.exists(urls), f"{command} is bound: {self.text()}")
        with open(urls, encoding="ascii") as f:
            self.ports = [int(re.search(r":(\d+)/?$", line).group(1)) for line in f.read().split()]


class Ours:
    """A kit of one build with a driver for each kind, over one or several connections."""

    def __init__(self, rig, link, name, binary, connections=1, kinds=("TCP", "HTTP")):
        self.tunnel = rig.stack.enter_context(Tunnel(binary=binary))
        self.kit: Kit = self.tunnel.kit
        url = f"ws://127.0.0.1:{link.to(rig.stack, self.kit.port)}"
        self.drivers, self.ways = {}, {}
        for kind in kinds:
            driver = Driver(rig, binary, url, "pull" if kind == "TCP" else "expose", "--connections", str(connections))
            self.tunnel.drivers.append(driver)
            rig.stack.callback(driver.end, 2)  # before the link that it needs for its farewell
            self.drivers[kind] = driver
            self.ways[kind] = ready(Way(name, kind, *driver.ports, [self.kit.pid, driver.pid]))
        if connections > 1:
            eventually(lambda: {len(s["connections"]) for s in self.kit.get("/status")["sessions"]} == {connections}, "all connections")


def ssh_reverse(rig, link):
    """sshd and ssh -R on loopback with throw-away keys; None when they are not installed."""
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    if not os.path.exists(sshd) or not shutil.which("ssh"):
        return None
    folder = rig.scratch()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder.join(name)], check=True)
    os.makedirs("/run/sshd", exist_ok=True)
    shutil.copy(folder.join("user.pub"), folder.join("keys"))
    port, bulk, small = free_port(), free_port(), free_port()
    with open(folder.join("sshd.conf"), "w", encoding="ascii") as f:
        f.write(f"ListenAddress 127.0.0.1:{port}\nHostKey {folder.join('host')}\nAuthorizedKeysFile {folder.join('keys')}\n"
                "StrictModes no\nUsePAM no\nPidFile none\nMaxSessions 100\n")
    server = rig.program([sshd, "-D", "-e", "-f", folder.join("sshd.conf")])
    server.wait_line("Server listening")
    client = rig.quiet(["ssh", "-N", "-p", link.to(rig.stack, port), "-i", folder.join("user"), "-o", "StrictHostKeyChecking=no",
                        "-o", f"UserKnownHostsFile={folder.join('known')}", "-o", "ExitOnForwardFailure=yes",
                        "-R", f"127.0.0.1:{bulk}:127.0.0.1:{rig.bulk}", "-R", f"127.0.0.1:{small}:127.0.0.1:{rig.small}", "127.0.0.1"])
    return ready(Way("ssh -R", "TCP", bulk, small, [server.pid, client.pid]))


# ---- peers, whose programs are in the folder that --peers names ----


def rathole(rig, link, programs):
    port, bulk, small = free_port(), free_port(), free_port()
    services = "".join(f'[server.services.{name}]\ntoken = "bench"\nbind_addr = "127.0.0.1:{p}"\n'
                       for name, p in (("bulk", bulk), ("small", small)))
    server = rig.quiet([*programs, rig.file(f'[server]\nbind_addr = "127.0.0.1:{port}"\n{services}')])
    eventually(lambda: listens(port), "rathole's server")
    services = "".join(f'[client.services.{name}]\ntoken = "bench"\nlocal_addr = "127.0.0.1:{p}"\n'
                       for name, p in (("bulk", rig.bulk), ("small", rig.small)))
    client = rig.quiet([*programs, rig.file(f'[client]\nremote_addr = "127.0.0.1:{link.to(rig.stack, port)}"\n{services}')])
    return Way("rathole", "TCP", bulk, small, [server.pid, client.pid])


def wstunnel(rig, link, programs):
    port, bulk, small = free_port(), free_port(), free_port()
    server = rig.quiet([*programs, "server", f"ws://127.0.0.1:{port}"])
    eventually(lambda: listens(port), "wstunnel's server")
    client = rig.quiet([*programs, "client", "-R", f"tcp://127.0.0.1:{bulk}:127.0.0.1:{rig.bulk}",
                        "-R", f"tcp://127.0.0.1:{small}:127.0.0.1:{rig.small}", f"ws://127.0.0.1:{link.to(rig.stack, port)}"])
    return Way("wstunnel", "TCP", bulk, small, [server.pid, client.pid])


BORE_PORT = 7835  # bore has no option for it, so a slow link has an address of its own
_bore_links = iter(range(2, 255))


def bore(rig, link, programs):
    if not rig.bore:
        assert not listens(BORE_PORT), f"somebody else has port {BORE_PORT}, and bore has no option for another one"
        server = rig.quiet([*programs, "server", "--min-port", 10000, "--max-port", 32000, "--bind-addr", "127.0.0.1"])
        eventually(lambda: listens(BORE_PORT), "bore's server")
        rig.bore = server.pid
    address = f"127.0.0.{next(_bore_links)}" if link.delay_ms else "127.0.0.1"
    link.to(rig.stack, BORE_PORT, address, BORE_PORT)
    pids, ports = [rig.bore], []
    for local in (rig.bulk, rig.small):
        ports.append(free_port())
        pids.append(rig.quiet([*programs, "local", local, "--to", address, "--port", ports[-1]]).pid)
    return Way("bore", "TCP", *ports, pids)


def frp(rig, link, programs):
    frps, frpc = programs
    port, bulk, small = free_port(), free_port(), free_port()
    server = rig.quiet([frps, "-c", rig.file(f'bindAddr = "127.0.0.1"\nbindPort = {port}\nproxyBindAddr = "127.0.0.1"\n')])
    eventually(lambda: listens(port), "frps")
    proxies = "".join(f'[[proxies]]\nname = "{name}"\ntype = "tcp"\nlocalIP = "127.0.0.1"\nlocalPort = {local}\nremotePort = {remote}\n'
                      for name, local, remote in (("bulk", rig.bulk, bulk), ("small", rig.small, small)))
    client = rig.quiet([frpc, "-c", rig.file(f'serverAddr = "127.0.0.1"\nserverPort = {link.to(rig.stack, port)}\n{proxies}')])
    return Way("frp", "TCP", bulk, small, [server.pid, client.pid])


def chisel(rig, link, programs):
    port, bulk, small = free_port(), free_port(), free_port()
    server = rig.quiet([*programs, "server", "--host", "127.0.0.1", "--port", port, "--reverse"])
    eventually(lambda: listens(port), "chisel's server")
    client = rig.quiet([*programs, "client", f"http://127.0.0.1:{link.to(rig.stack, port)}",
                        f"R:127.0.0.1:{bulk}:127.0.0.1:{rig.bulk}", f"R:127.0.0.1:{small}:127.0.0.1:{rig.small}"])
    return Way("chisel", "TCP", bulk, small, [server.pid, client.pid])


# name -> (its programs, how it is started)
PEERS = {
    "rathole": (["rathole"], rathole),
    "wstunnel": (["wstunnel"], wstunnel),
    "bore": (["bore"], bore),
    "frp": (["frps", "frpc"], frp),
    "chisel": (["chisel"], chisel),
}


class Peers:
    """The peers that are there."""

    def __init__(self, folder, say):
        self.programs, self.say = {}, say
        for name, (wanted, _) in PEERS.items() if folder else ():
            found = [os.path.join(folder, program) for program in wanted]
            missing = [path for path in found if not os.access(path, os.X_OK)]
            if missing:
                say(f"{name} is left out: no {' and no '.join(missing)}")
            else:
                self.programs[name] = [os.path.abspath(path) for path in found]

    def start(self, rig, link):
        """A way for each; one that does not start is said and left out."""
        for name, programs in self.programs.items():
            try:
                way = ready(PEERS[name][1](rig, link, programs))
                way.peer = True
                yield way
            except (AssertionError, OSError, subprocess.SubprocessError) as e:
                self.say(f"{name}{' on a slow link' if link.delay_ms else ''} is left out, it does not start: {e}")

    def versions(self):
        return {name: version(programs[0]) for name, programs in self.programs.items()}


def version_in(text):
    """What a program calls its version, or else the first number with a dot."""
    found = re.search(r"version:?\s+v?(\d+\.[\w.-]+)", text, re.I) or re.search(r"(\d+\.\d+[\w.-]*)", text)
    return found.group(1) if found else "?"


def version(program, flag="--version"):
    try:
        done = subprocess.run([program, flag], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return "?"
    return version_in(done.stdout.decode(errors="replace"))
