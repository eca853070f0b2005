"""`make bench`: the same loads through hoody-tunnel and, beside it in the same minutes, direct, two chained nginx and ssh -R.

Prints a table of medians and the ratios that matter, and writes build/bench.json. Options: --runs N (3), --size MIB of a bulk
transfer (1024), --only NAME,... (a part of the measurements), --quick (small sizes, one run: does it work at all).
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests.integration.harness import (ROOT, Folder, Nginx, Program, Tunnel, eventually, free_port, status_kib)  # noqa: E402

LOAD = os.path.join(ROOT, "build/bench/load")
CODEC = os.path.join(ROOT, "build/bench/codec")
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20

STREAM_HOP = """
    server { listen 127.0.0.1:%(listen)s; proxy_pass 127.0.0.1:%(to)s; proxy_buffer_size 256k; }
"""
HTTP_HOP = """
    upstream u%(to)s { server 127.0.0.1:%(to)s; keepalive 128; }
    server { listen 127.0.0.1:%(listen)s; keepalive_requests 1000000000;
        location / { proxy_pass http://u%(to)s; proxy_http_version 1.1; proxy_set_header Connection "";
                     proxy_request_buffering off; proxy_buffering %(buffering)s; proxy_buffers 8 256k; proxy_buffer_size 256k;
                     proxy_busy_buffers_size 512k; client_body_buffer_size 256k; proxy_max_temp_file_size 0; } }
"""
TEMP = """access_log off; client_max_body_size 0; client_body_temp_path %(d)s/t; proxy_temp_path %(d)s/t;
    fastcgi_temp_path %(d)s/t; uwsgi_temp_path %(d)s/t; scgi_temp_path %(d)s/t;"""


def tree(pid):
    """A process and its children."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
                for child in f.read().split():
                    found += tree(int(child))
    return found


def cpu(pids):
    """CPU seconds that these processes and their children have used."""
    total = 0
    for pid in {p for top in pids for p in tree(top)}:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def load(*args):
    done = subprocess.run([LOAD, *map(str, args)], stdout=subprocess.PIPE, check=True, timeout=600)
    return [float(x) for x in done.stdout.split()]


def wrk(port, seconds, connections, *more):
    """Requests per second; an error or an answer other than 2xx fails the run."""
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *more, f"http://127.0.0.1:{port}/bytes/1024"],
                         stdout=subprocess.PIPE, check=True, timeout=seconds + 60).stdout.decode()
    assert "Non-2xx" not in out, out
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))


class Way:
    """One way from the load to the service: a port, and the processes in between."""

    def __init__(self, name, port, pids=()):
        self.name, self.port, self.pids = name, port, list(pids)


def two_nginx(stack, folder, kind, origin):
    """Two nginx processes in a row, one worker each."""
    to, pids = origin, []
    for _ in range(2):
        hop = (STREAM_HOP if kind == "stream" else HTTP_HOP) % {"listen": "{0}", "to": to, "buffering": "on"}
        head = TEMP % {"d": folder.path} if kind == "http" else ""
        nginx = stack.enter_context(Nginx(folder, f"events {{ worker_connections 8192; }}\n{kind} {{ {head} {hop} }}",
                                          main="worker_processes 1; worker_rlimit_nofile 20000;"))
        to = nginx.port
        pids.append(nginx.program.pid)
    return to, pids


def ssh_reverse(stack, folder, origin):
    """sshd and ssh -R on loopback with throw-away keys; None when sshd is not installed."""
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    if not os.path.exists(sshd) or not shutil.which("ssh"):
        return None
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder.join(name)], check=True)
    os.makedirs("/run/sshd", exist_ok=True)
    shutil.copy(folder.join("user.pub"), folder.join("keys"))
    port, remote = free_port(), free_port()
    with open(folder.join("sshd.conf"), "w", encoding="ascii") as f:
        f.write(f"ListenAddress 127.0.0.1:{port}\nHostKey {folder.join('host')}\nAuthorizedKeysFile {folder.join('keys')}\n"
                "StrictModes no\nUsePAM no\nPidFile none\nMaxSessions 100\n")
    server = Program([sshd, "-D", "-e", "-f", folder.join("sshd.conf")])
    stack.callback(server.end)
    server.wait_line("Server listening")
    client = Program(["ssh", "-N", "-p", str(port), "-i", folder.join("user"), "-o", "StrictHostKeyChecking=no",
                      "-o", f"UserKnownHostsFile={folder.join('known')}", "-o", "ExitOnForwardFailure=yes",
                      "-R", f"127.0.0.1:{remote}:127.0.0.1:{origin}", "127.0.0.1"])
    stack.callback(client.end)

    def answers():
        return subprocess.run([LOAD, "latency", str(remote), "2", "10"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              check=False).returncode == 0

    eventually(answers, "ssh -R forwards")
    return Way("ssh -R", remote, [server.pid, client.pid])


class Bench:
    def __init__(self, args):
        self.args = args
        self.results = {}  # metric -> way -> [values]
        self.units = {}

    def note(self, metric, way, value, unit):
        self.units[metric] = unit
        self.results.setdefault(metric, {}).setdefault(way, []).append(value)

    def wanted(self, name):
        return not self.args.only or name in self.args.only.split(",")

    def median(self, metric, way):
        values = self.results.get(metric, {}).get(way)
        return statistics.median(values) if values else None

    # ---- measurements ----

    def bulk(self, ways, size):
        gib = size / (1 << 30)
        for way in ways:
            for direction in ("download", "upload"):
                before = cpu(way.pids)
                seconds, = load("get", way.port, size) if direction == "download" else load("put", way.port, size)
                self.note(f"{way.kind} {direction}", way.name, size / MIB / seconds, "MiB/s")
                if way.pids:
                    self.note(f"{way.kind} {direction} CPU", way.name, (cpu(way.pids) - before) / gib, "s/GiB")

    def parallel(self, ways, size):
        for way in ways:
            seconds, = load("get", way.port, size // 64, 64)
            self.note(f"{way.kind} 64 parallel downloads", way.name, size / MIB / seconds, "MiB/s")

    def requests(self, ways, seconds):
        for way in ways:
            before = cpu(way.pids)
            rate = wrk(way.port, seconds, 64)
            self.note(f"{way.kind} requests", way.name, rate, "1/s")
            if way.pids:
                self.note(f"{way.kind} requests CPU", way.name, (cpu(way.pids) - before) / seconds / rate * 1e6, "us each")

    def connections(self, ways, seconds):
        for way in ways:
            self.note(f"{way.kind} new connections", way.name, wrk(way.port, seconds, 16, "-H", "Connection: close"), "1/s")

    def latency(self, ways, count):
        for way in ways:
            with subprocess.Popen([LOAD, "get", str(way.port), str(1 << 42)], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL) as bulk:
                p50, p99 = load("latency", way.port, count, 1000)
                bulk.kill()
            self.note(f"{way.kind} small request beside a download, p50", way.name, p50, "us")
            self.note(f"{way.kind} small request beside a download, p99", way.name, p99, "us")

    def memory(self, tunnel, expose, pull, count):
        programs = {"kit": tunnel.kit.pid, "expose driver": expose.pid, "pull driver": pull.pid}
        before = {name: status_kib(pid, "VmRSS") for name, pid in programs.items()}
        for name, kib in before.items():
            self.note("RSS after the load", name, kib, "KiB")
        for kind, driver, http, metric in (("expose", expose, 1, None), ("pull", pull, 0, "pull")):
            start = {name: status_kib(pid, "VmRSS") for name, pid in programs.items()}
            with subprocess.Popen([LOAD, "idle", str(driver.port), str(count), str(http)], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE) as idle:
                idle.stdout.readline()
                if metric:
                    eventually(lambda: tunnel.kit.get("/tunnels")["totalStreams"] >= count, "the streams stand", 30)
                for name, pid in programs.items():
                    grown = status_kib(pid, "VmRSS") - start[name]
                    if name == "kit" or name.startswith(kind):
                        self.note(f"RSS for an idle {kind} visitor", name, grown / count, "KiB")
                idle.stdin.close()

    # ---- the whole ----

    def run(self):
        args = self.args
        size = (64 if args.quick else args.size) * MIB
        seconds = 1 if args.quick else 4
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(Folder())
            os.makedirs(folder.join("t"))
            server = Program([LOAD, "serve"])
            stack.callback(server.end, 9)
            origin = int(server.wait_line(r"^(\d+)$").group(1))
            nginx = stack.enter_context(Nginx(folder, "events { worker_connections 8192; }\nhttp { %s keepalive_requests 1000000000;\n"
                                              "server { listen 127.0.0.1:{0}; location / { return 200 '%s'; } } }"
                                              % (TEMP % {"d": folder.path}, "x" * 1024), main="worker_processes 1;"))
            tunnel = stack.enter_context(Tunnel())
            fresh = status_kib(tunnel.kit.pid, "VmRSS")
            self.note("RSS idle", "kit", fresh, "KiB")

            def ways(kind, target):
                found = [Way("direct", target)]
                port, pids = two_nginx(stack, folder, "stream" if kind == "TCP" else "http", target)
                found.append(Way("two nginx", port, pids))
                driver = (tunnel.pull if kind == "TCP" else tunnel.expose)(f"0={target}")
                self.note("RSS idle", f"{'pull' if kind == 'TCP' else 'expose'} driver", status_kib(driver.pid, "VmRSS"), "KiB")
                found.append(Way("hoody-tunnel", driver.port, [tunnel.kit.pid, driver.pid]))
                if kind == "TCP" and not args.no_ssh:
                    ssh = ssh_reverse(stack, scratch(stack), target)
                    if ssh:
                        found.append(ssh)
                for way in found:
                    way.kind, way.driver = kind, driver
                return found

            tcp, http = ways("TCP", origin), ways("HTTP", origin)
            tcp_small, http_small = ways("TCP", nginx.port), ways("HTTP", nginx.port)
            for i in range(1 if args.quick else args.runs):
                print(f"run {i + 1}", file=sys.stderr, flush=True)
                if self.wanted("bulk"):
                    self.bulk(tcp + http, size)
                if self.wanted("parallel"):
                    self.parallel(tcp + http, size)
                if self.wanted("requests"):
                    self.requests(http_small + tcp_small, seconds)
                if self.wanted("connections"):
                    self.connections([w for w in tcp_small if w.name != "ssh -R"], seconds)
                if self.wanted("latency"):
                    self.latency(http + tcp, 300 if args.quick else 3000)
            if self.wanted("memory"):
                self.memory(tunnel, http[0].driver, tcp[0].driver, 100 if args.quick else 1000)
            if self.wanted("codec"):
                for _ in range(1 if args.quick else args.runs):
                    out = subprocess.run([CODEC], stdout=subprocess.PIPE, check=True, timeout=300).stdout.decode()
                    for name, value in re.findall(r"^(.+): ([\d.]+)$", out, re.M):
                        self.note("codec frames", name, float(value) / 1e6, "million/s")
        self.report()

    def marks(self):
        """The first marks: (what, ours, theirs, ratio, wanted, met)."""
        rows = []

        def ratio(what, metric, beside, at_least=None, at_most=None):
            ours, theirs = self.median(metric, "hoody-tunnel"), self.median(metric, beside)
            if ours is None or not theirs:
                return
            r = ours / theirs
            wanted = f">= {at_least}" if at_least else f"<= {at_most}"
            rows.append((what, r, wanted, r >= at_least if at_least else r <= at_most))

        def bound(what, metric, way, at_most):
            value = self.median(metric, way)
            if value is not None:
                rows.append((f"{what} ({self.units[metric]})", value, f"<= {at_most}", value <= at_most))

        for direction in ("download", "upload"):
            ratio(f"TCP {direction} / two nginx", f"TCP {direction}", "two nginx", at_least=0.85)
            ratio(f"TCP {direction} CPU / two nginx", f"TCP {direction} CPU", "two nginx", at_most=1.35)
        ratio("EXPOSE requests / two nginx", "HTTP requests", "two nginx", at_least=1.0)
        ratio("PULL requests / two nginx", "TCP requests", "two nginx", at_least=1.2)
        ratio("EXPOSE p99 beside a download / direct", "HTTP small request beside a download, p99", "direct", at_most=2)
        ratio("PULL p99 beside a download / direct", "TCP small request beside a download, p99", "direct", at_most=2)
        for name in ("kit", "expose driver", "pull driver"):
            bound(f"RSS idle, {name}", "RSS idle", name, 8192)
        bound("RSS for an idle visitor, kit", "RSS for an idle expose visitor", "kit", 8)
        return rows

    def report(self):
        names = []
        for by_way in self.results.values():
            names += [w for w in by_way if w not in names]
        main_ways = [n for n in ("direct", "two nginx", "ssh -R", "hoody-tunnel") if n in names]
        print(f"{os.cpu_count()} cores; medians of {1 if self.args.quick else self.args.runs}\n")
        print(f"{'':52}" + "".join(f"{w:>14}" for w in main_ways))
        others = []
        for metric, by_way in self.results.items():
            if any(w in main_ways for w in by_way):
                cells = "".join(f"{self.median(metric, w):14.1f}" if by_way.get(w) and self.median(metric, w) >= 10 else
                                f"{self.median(metric, w):14.3f}" if by_way.get(w) else f"{'-':>14}" for w in main_ways)
                print(f"{metric + ' (' + self.units[metric] + ')':52}{cells}")
            else:
                others += [(f"{metric}, {w} ({self.units[metric]})", self.median(metric, w)) for w in by_way]
        print()
        for what, value in others:
            print(f"{what:66}{value:14.2f}")
        print()
        for what, value, wanted, met in self.marks():
            print(f"{'met   ' if met else 'MISSED'}  {what:50}{value:10.2f}   wanted {wanted}")
        path = os.path.join(ROOT, "build/bench.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"cores": os.cpu_count(), "results": self.results, "units": self.units,
                       "marks": [{"what": w, "value": v, "wanted": x, "met": m} for w, v, x, m in self.marks()]}, f, indent=1)


def scratch(stack):
    """A scratch folder that lives as long as the whole run."""
    return stack.enter_context(Folder())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--only", default="")
    parser.add_argument("--no-ssh", action="store_true")
    parser.add_argument("--quick", action="store_true")
    Bench(parser.parse_args()).run()


if __name__ == "__main__":
    main()
