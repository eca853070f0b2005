"""Many sessions and many streams against one kit, then a look at what is left of them: memory and descriptors have to be
back where they were.

    make soak [SESSIONS=10000] [STREAMS=1000000]

Beside the sessions that come and go there are two drivers that stay: they serve the streams, and their links are cut again
and again.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

from tests.faults.rig import FaultProxy, Prompter, linked
from tests.integration.harness import (BIN, SANITIZED, Driver, Kit, Program, connect, eventually, fds, run, status_kib)

FOLDER = os.path.dirname(BIN)
PARALLEL = 16
CONNECTIONS = 32
TOGETHER = 500
GRACE = 1.0
# What glibc keeps of a heap that was larger is no leak; a byte a stream would be one.
SLACK_KIB = 1024


def streams(kit):
    return int(sum(kit.metric('hoody_tunnel_streams_total{mode="%s"}' % mode) for mode in ("expose", "pull")))


def sessions(kit):
    return int(kit.metric("hoody_tunnel_sessions_total"))


class Soak:
    def __init__(self, n_sessions, n_streams):
        self.n_sessions, self.n_streams = n_sessions, n_streams
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        self.origin = Program([os.path.join(FOLDER, "bench/load"), "serve"])
        self.origin_port = int(self.origin.wait_line(r"(\d+)").group(1))
        self.kit = Kit("--takeover-grace", f"{GRACE}s".replace(".0s", "s"), "--max-sessions", "256")
        self.proxy = self.stack.enter_context(FaultProxy(self.kit.port, calm=True))
        # Sessions that are dropped stay parked for the grace, so many may be.
        self.web = Driver(self.proxy, "expose", f"0={self.origin_port}")
        self.tcp = Driver(self.proxy, "pull", f"0={self.origin_port}")
        return self

    def __exit__(self, *failure):
        for program in (self.web, self.tcp, self.kit, self.origin):
            if program.process.poll() is None:
                program.end(signal.SIGKILL)
            if failure[0] and program in (self.kit,):
                print("\n".join(f"# {line}" for line in program.log[-20:]))
        return self.stack.__exit__(*failure)

    # ---- load ----

    def make_sessions(self, n):
        out = run([os.path.join(FOLDER, "tests/soak_sessions"), self.kit.url, str(n), str(PARALLEL)], timeout=600)
        return [int(x) for x in re.findall(r"(\d+) [a-z]", out)]

    def visit_at_once(self, port, n):
        """n connections that stand together, with a request each."""
        while n > 0:
            part = min(n, TOGETHER)
            crowd = Program([os.path.join(FOLDER, "bench/load"), "idle", str(port), str(part), "1"],
                            stdin=subprocess.PIPE)
            crowd.wait_line("ready", 60)
            crowd.process.stdin.close()
            crowd.process.wait(60)
            assert crowd.end() == 0, crowd.text()
            n -= part

    def make_streams(self, n):
        """At least n of them: connections of PULL, visitors with a connection each, and most on kept connections. Only
        some on fresh ones: each leaves a port in TIME_WAIT for a minute."""
        end = streams(self.kit) + n
        self.visit_at_once(self.tcp.port, n // 100)
        self.visit_at_once(self.web.port, n // 100)
        while streams(self.kit) < end:
            out = run(["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", "1" if n < 100_000 else "2",
                       f"http://127.0.0.1:{self.web.port}/bytes/100"], timeout=60)
            assert "Non-2xx" not in out, out

    def cut(self, n):
        """The links of the drivers that stay, while nobody is under way."""
        prompter = Prompter([self.web, self.tcp])
        try:
            for _ in range(n):
                self.forget()
                before = self.connections()
                self.proxy.say("cut")
                eventually(lambda b=before: all(now > then for now, then in zip(self.connections(), b)), "both are back")
        finally:
            prompter.end()

    def connections(self):
        return [len(driver.events("connected")) for driver in (self.web, self.tcp)]

    def forget(self):
        """This program's own memory of what the drivers said."""
        for driver in (self.web, self.tcp):
            del driver.log[:-200]

    # ---- what is left ----

    def settle(self):
        def quiet():
            tunnels = self.kit.get("/tunnels")
            return len(tunnels["sessions"]) == 2 and tunnels["totalStreams"] == tunnels["orphanedSessions"] == 0
        eventually(quiet, "only the two drivers that stay", 30)

    def look(self, what):
        self.settle()
        n = [fds(p.pid) for p in (self.kit, self.web, self.tcp)]
        rss = [status_kib(p.pid, "VmRSS") for p in (self.kit, self.web, self.tcp)]
        print(f"# {what}: {sessions(self.kit)} sessions, {streams(self.kit)} streams so far; kit {rss[0]} KiB and {n[0]} "
              f"descriptors, drivers {rss[1]} and {rss[2]} KiB, {n[1]} and {n[2]} descriptors", flush=True)
        return n, rss

    def await_fds(self, most):
        programs = (self.kit, self.web, self.tcp)
        eventually(lambda: all(fds(p.pid) <= k for p, k in zip(programs, most)), f"at most {most} descriptors", 60)


def soak(n_sessions, n_streams, patient=True):
    """`patient`: waits until the drivers give up the connections to the local service that they keep for half a minute."""
    begun = time.monotonic()
    with Soak(n_sessions, n_streams) as s:
        new, _ = s.look("new")
        # Warm: pools, tables and buffers have the size that this load needs.
        for driver in (s.web, s.tcp):
            s.visit_at_once(driver.port, TOGETHER)
        s.make_streams(max(2000, n_streams // 20))
        s.make_sessions(max(100, n_sessions // 20))
        s.cut(5)
        warm, warm_rss = s.look("warm")
        ends = [0, 0, 0]
        rounds = 4 if patient else 2
        for i in range(rounds):
            for k, n in enumerate(s.make_sessions(-(-(n_sessions - sessions(s.kit)) // (rounds - i)))):
                ends[k] += n
            s.make_streams(-(-(n_streams - streams(s.kit)) // (rounds - i)))
            s.cut(10)
            s.look(f"round {i + 1}")
        s.await_fds(new if patient else [new[0], *warm[1:]])
        if not SANITIZED:  # what was needed for a moment is kept for a second or two
            with contextlib.suppress(AssertionError):
                eventually(lambda: status_kib(s.kit.pid, "VmRSS") <= warm_rss[0] + SLACK_KIB, "the memory goes back", 10)
        left, left_rss = s.look("at the end")
        resumed = int(s.kit.metric("hoody_tunnel_resumes_total"))
        print(f"# {ends[0]} sessions ended in order, {ends[1]} were dropped, {ends[2]} before their ports were bound; "
              f"{resumed} resumes; {time.monotonic() - begun:.0f} s")
        grown = [b - a for a, b in zip(warm_rss, left_rss)]
        print(f"# grown since it was warm: kit {grown[0]:+} KiB, drivers {grown[1]:+} and {grown[2]:+} KiB; "
              f"descriptors {left} after {new} when new")
        assert sessions(s.kit) >= n_sessions and streams(s.kit) >= n_streams
        if not SANITIZED:  # AddressSanitizer keeps what is freed
            assert max(grown) <= SLACK_KIB, grown
        assert all(linked(d) for d in (s.web, s.tcp))
        for program in (s.web, s.tcp):
            assert program.end(signal.SIGINT) == 0, program.text()
            program.check_sanitizers()
        eventually(lambda: s.kit.get("/tunnels")["sessions"] == [], "no session")
        eventually(lambda: fds(s.kit.pid) <= s.kit.baseline_fds, "the descriptors of a new kit")
        assert s.kit.end() == 0, s.kit.text()
        s.kit.check_sanitizers()
        s.origin.end()


if __name__ == "__main__":
    soak(int(sys.argv[1]), int(sys.argv[2]))
