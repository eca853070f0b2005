"""`make bench`: the same loads through hoody-tunnel and, beside it in the same minutes, direct, two chained nginx, ssh -R, other tunnels
and another build of ours.

Prints medians and the ratios that matter, and writes build/bench.json and build/bench.html. Rounds take turns: each round measures all
ways, every other one in the opposite order. Environment: BENCH_COMPARE=FILE, another build of ours.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests.bench import netns, ways  # noqa: E402
from tests.bench.figures import BEFORE, BESIDE, OURS, SEVERAL, Figures, marks, text  # noqa: E402
from tests.bench.page import page  # noqa: E402
from tests.bench.ways import LOAD, Link, Ours, Peers, Rig  # noqa: E402
from tests.integration.harness import BIN, ROOT, status_kib  # noqa: E402

CODEC = os.path.join(os.path.dirname(BIN), "bench/codec")
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20
FAR, THIN = Link("40 ms", 20), Link("40 ms, 40 Mbit/s", 20, 40)
SECTIONS = ("bulk", "parallel", "requests", "connections", "latency", "slow", "memory", "codec")


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


def rss_kib(top):
    return sum(status_kib(pid, "VmRSS") for pid in tree(top))


def load(*args):
    done = subprocess.run([LOAD, *map(str, args)], stdout=subprocess.PIPE, check=True, timeout=300)
    return [float(x) for x in done.stdout.split()]


def wrk(port, seconds, connections, *more):
    """Requests per second; an error or an answer other than 2xx fails the run."""
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *more, f"http://127.0.0.1:{port}/bytes/1024"],
                         stdout=subprocess.PIPE, check=True, timeout=seconds + 60).stdout.decode()
    assert "Non-2xx" not in out, out
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))


def say(line):
    print(line, file=sys.stderr, flush=True)


class Bench:
    def __init__(self, args):
        self.args, self.figures = args, Figures()
        self.size = (64 if args.quick else args.size) * MIB
        self.seconds = 1 if args.quick else args.seconds
        self.peers = Peers(args.peers, say)
        self.at = 0  # the round

    def each(self, found, measure):
        """measure(way) gives [(metric, value or None, unit, less is better)]; a peer that fails gives nothing this time."""
        for way in found:
            try:
                rows = measure(way)
            except (AssertionError, subprocess.SubprocessError) as e:
                if not way.peer:
                    raise
                say(f"{way.name}: {measure.__name__.strip('_')} is left out: {str(e).splitlines()[0]}")
                continue
            for metric, value, unit, less in rows:
                if value is not None:
                    self.figures.note(f"{way.kind} {metric}", way.name, value, unit, less, self.at)

    # ---- measurements ----

    def bulk(self, way):
        rows = []
        for direction, mode in (("download", "get"), ("upload", "put")):
            before = cpu(way.pids)
            seconds, = load(mode, way.bulk, self.size)
            spent = (cpu(way.pids) - before) * 1024 * MIB / self.size if way.pids else None
            rows += [(direction, self.size / MIB / seconds, "MiB/s", False), (f"{direction} CPU", spent, "s/GiB", True)]
        return rows

    def parallel(self, way):
        before = cpu(way.pids)
        seconds, = load("get", way.bulk, self.size // 64, 64)
        spent = (cpu(way.pids) - before) * 1024 * MIB / self.size if way.pids else None
        return [("64 parallel downloads", self.size / MIB / seconds, "MiB/s", False), ("64 parallel downloads CPU", spent, "s/GiB", True)]

    def rated(self, way, what, connections, *more):
        before = cpu(way.pids)
        rate = wrk(way.small, self.seconds, connections, *more)
        spent = (cpu(way.pids) - before) / self.seconds / rate * 1e6 if way.pids else None
        return [(what, rate, "1/s", False), (f"{what} CPU", spent, "us each", True)]

    def requests(self, way):
        return self.rated(way, "requests", 64)

    def connections(self, way):
        return self.rated(way, "new connections", 16, "-H", "Connection: close")

    def latency(self, way):
        p50, p99 = load("latency", way.bulk, 300 if self.args.quick else 3000, 1000, 16 * MIB)
        return [(f"{BESIDE}, p50", p50, "us", True), (f"{BESIDE}, p99", p99, "us", True)]

    def far(self, way):
        one, = load("flow", way.bulk, self.seconds)
        many, = load("flow", way.bulk, self.seconds, 64)
        return [(f"{FAR.name}, download", one / MIB, "MiB/s", False), (f"{FAR.name}, 64 parallel downloads", many / MIB, "MiB/s", False)]

    def thin(self, way):
        p50, p99 = load("latency", way.bulk, 10 if self.args.quick else 60, 20000, 4 * MIB)
        return [(f"{THIN.name}, {BESIDE}, p50", p50, "us", True), (f"{THIN.name}, {BESIDE}, p99", p99, "us", True)]

    def memory(self, way):
        """Both hops together; each visitor has had an answer before it became idle."""
        count = 100 if self.args.quick else 1000
        before = [rss_kib(pid) for pid in way.pids]
        with subprocess.Popen([LOAD, "idle", str(way.bulk), str(count), "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as idle:
            told = idle.stdout.readline()
            grown = [(rss_kib(pid) - kib) / count for pid, kib in zip(way.pids, before)]
            idle.stdin.close()
        assert told == b"ready\n", "visitors without an answer"
        if way.name == OURS:
            name = "pull" if way.kind == "TCP" else "expose"
            for program, kib in zip(("kit", f"{name} driver"), grown):
                self.note_own(f"RSS for an idle {name} visitor", program, kib)
        return [("memory for an idle connection", sum(grown), "KiB", True)] if way.pids else []

    def note_own(self, metric, program, kib):
        self.figures.note(metric, program, kib, "KiB", True)

    def resident(self, metric, ours):
        for program, pid in {"kit": ours.kit.pid, "expose driver": ours.drivers["HTTP"].pid, "pull driver": ours.drivers["TCP"].pid}.items():
            self.note_own(metric, program, status_kib(pid, "VmRSS"))

    def codec(self):
        out = subprocess.run([CODEC], stdout=subprocess.PIPE, check=True, timeout=300).stdout.decode()
        for name, value in re.findall(r"^(.+): ([\d.]+)$", out, re.M):
            self.figures.note("codec frames", name, float(value) / 1e6, "million/s")

    # ---- the whole ----

    def start(self, rig, link, ours):
        """All ways over a link; those of our builds are (name, binary, connections, kinds)."""
        found = [ways.direct(rig, link, kind) for kind in ("TCP", "HTTP")] + [ways.two_nginx(rig, link, kind) for kind in ("TCP", "HTTP")]
        self.started = [Ours(rig, link, *each) for each in ours]
        for each in self.started:
            found += each.ways.values()
        ssh = None if self.args.no_ssh else ways.ssh_reverse(rig, link)
        return found + ([ssh] if ssh else []) + list(self.peers.start(rig, link))

    def wanted(self, name):
        return not self.args.only or name in self.args.only.split(",")

    def builds(self):
        builds = [(OURS, BIN, 1, ("TCP", "HTTP"))]
        if self.args.compare:
            builds.append((BEFORE, self.args.compare, 1, ("TCP", "HTTP")))
        return builds + [(name, BIN, n, ("TCP",)) for n, name in SEVERAL.items()]

    def round(self, near, far, thin, several):
        """One round: each measurement of all ways, one after the other."""
        few = [way for way in near if way.name not in several]
        for name, found in (("bulk", near), ("parallel", near), ("requests", few), ("connections", few), ("latency", near)):
            if self.wanted(name):
                self.each(found, getattr(self, name))
        self.each(far, self.far)
        self.each(thin, self.thin)

    def run(self):
        runs = 1 if self.args.quick else self.args.runs
        resource.setrlimit(resource.RLIMIT_NOFILE, [min(20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])] * 2)
        with contextlib.ExitStack() as stack:
            rig = Rig(stack)
            near = self.start(rig, Link(), self.builds())
            ours = self.started[0]
            self.resident("RSS idle", ours)
            slow = [self.start(rig, link, self.builds()) if self.wanted("slow") else [] for link in (FAR, THIN)]
            for i in range(runs):
                self.at = i
                say(f"round {i + 1} of {runs}")
                turned = [found[::-1] if i % 2 else found for found in (near, *slow)]
                self.round(*turned, SEVERAL.values())
                if self.wanted("codec"):
                    self.codec()
            self.at = 0
            if self.wanted("memory"):
                self.resident("RSS after the load", ours)
                self.each([way for way in near if way.name not in SEVERAL.values()], self.memory)
        self.report(runs)

    def facts(self, runs):
        with open("/proc/sys/net/ipv4/tcp_congestion_control", encoding="ascii") as f:
            control = f.read().strip()
        versions = {OURS: ways.version(BIN), "nginx": ways.version(shutil.which("nginx") or "/usr/sbin/nginx", "-v"),
                    "ssh": ways.version("ssh", "-V"), **self.peers.versions()}
        if self.args.compare:
            versions[BEFORE] = f"{ways.version(self.args.compare)} ({self.args.compare})"
        return {"congestion control": control, "cores": os.cpu_count(), "kernel": platform.release(),
                "versions": ", ".join(f"{name} {said}" for name, said in versions.items()),
                "rounds": f"{runs}, medians of them; {self.size // MIB} MiB, {self.seconds} s",
                "load": f"{os.getloadavg()[0]:.1f} processes that run or want to, the bench's own among them"}

    def report(self, runs):
        facts, figures = self.facts(runs), self.figures
        print(text(figures, facts))
        with open(os.path.join(ROOT, "build/bench.json"), "w", encoding="utf-8") as f:
            json.dump({"facts": facts, "results": figures.values, "units": figures.units,
                       "marks": [dict(zip(("what", "value", "rounds", "wanted", "met"), row)) for row in marks(figures)]}, f, indent=1)
        with open(os.path.join(ROOT, "build/bench.html"), "w", encoding="utf-8") as f:
            f.write(page(figures, facts))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="rounds (3)")
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="of a bulk transfer (1024)")
    parser.add_argument("--seconds", type=int, default=4, metavar="N", help="for each rate (4)")
    parser.add_argument("--only", default="", metavar="NAME,...", help=f"a part: {', '.join(SECTIONS)}")
    parser.add_argument("--peers", metavar="DIR", help="where the programs of other tunnels are: " + ", ".join(ways.PEERS))
    parser.add_argument("--cc", metavar="NAME", help="in a network namespace of its own with this congestion control; needs root")
    parser.add_argument("--no-ssh", action="store_true")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does it work at all")
    args = parser.parse_args()
    args.compare = os.environ.get("BENCH_COMPARE")
    unknown = set(filter(None, args.only.split(","))) - set(SECTIONS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if args.compare and not os.access(args.compare, os.X_OK):
        parser.error(f"BENCH_COMPARE={args.compare} is no program")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended as after Ctrl-C
    if args.cc:
        netns.enter(args.cc)
    Bench(args).run()


if __name__ == "__main__":
    main()
