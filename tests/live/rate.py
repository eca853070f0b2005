"""Restarts under a steady rate of requests (rate.c): none is refused, and this is what they cost.

    make restart-rate [RATE_ARGS="--rate 5000 --restarts 5"]
"""

import argparse
import contextlib
import os
import subprocess
import sys

from tests.integration.harness import BIN, Folder, Program, eventually, pace
from tests.integration.restarted import RestartedKit, alive

FOLDER = os.path.dirname(BIN)
BEFORE, BETWEEN, WINDOW = 2.0, 1.0, 0.3  # seconds; a window ends that long after the driver is at the new program
MOST = 600  # seconds of requests


class Outcome:
    """What rate.c has printed. `inside` and `outside`: (requests, p50, p99 and longest in microseconds)."""

    def __init__(self, program):
        lines = [line.removeprefix("out: ").split(" ", 1) for line in program.log if line.startswith("out: ")]
        said = dict(lines)
        self.inside, self.outside = (tuple(map(int, said[name].split())) for name in ("inside", "outside"))
        self.errors, self.first = said["errors"].split(" ", 1)
        self.errors = int(self.errors)
        self.connections = int(said["connections"])

    def table(self):
        for name, (n, p50, p99, longest) in (("inside", self.inside), ("outside", self.outside)):
            yield f"{name:8} {n:7} requests, ms: p50 {p50 / 1000:.2f}, p99 {p99 / 1000:.2f}, longest {longest / 1000:.2f}"


class Rig(contextlib.ExitStack):
    """A service, a kit and a driver, whose lines, one for each request, nobody reads."""

    def __init__(self, sockets):
        super().__init__()
        try:
            folder = self.enter_context(Folder())
            origin = self.program([os.path.join(FOLDER, "bench/load"), "serve"])
            self.kit = RestartedKit()
            self.callback(self.kit.end)
            with open(folder.join("log"), "wb") as log:
                driver = subprocess.Popen([BIN, "expose", "--url", self.kit.url, "--url-file", folder.join("url"), "--connections", str(sockets),
                                           f"0={origin.wait_line(r'([0-9]+)').group(1)}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.callback(driver.wait)
            self.callback(driver.terminate)
            eventually(lambda: os.path.exists(folder.join("url")), "the driver's URL")
            with open(folder.join("url"), encoding="ascii") as f:
                self.port = int(f.read().strip().rsplit(":", 1)[1])
        except BaseException:
            self.close()
            raise

    def program(self, argv, **more):
        program = Program(argv, **more)
        self.callback(program.end)
        return program

    def restart(self):
        self.kit.restarts()
        eventually(self.linked, "the driver at the new program")

    def linked(self):
        return [s for s in self.kit.get("/sessions")["sessions"] if not s["parked"]]


def play(rate, restarts, sockets=1, between=BETWEEN):
    """`restarts` while `rate` requests a second come. Returns an Outcome."""
    with Rig(sockets) as rig:
        load = rig.program([os.path.join(FOLDER, "tests/live_rate"), str(rig.port), str(rate), str(MOST)], stdin=subprocess.PIPE)

        def mark(word):
            load.process.stdin.write(word + b"\n")
            load.process.stdin.flush()

        pace(BEFORE)
        for _ in range(restarts):
            mark(b"begin")
            rig.restart()
            pace(WINDOW)
            mark(b"end")
            pace(between)
        load.process.stdin.close()
        load.process.wait(60)
        eventually(lambda: [pid for pid in rig.kit.known if alive(pid)] == [rig.kit.serving], "the ends of old programs")
        return Outcome(load)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--sockets", type=int, default=1)
    args = parser.parse_args()
    outcome = play(args.rate, args.restarts, args.sockets)
    print(f"# {args.rate} requests a second, {args.restarts} restarts, {outcome.connections} connections, {outcome.errors} errors {outcome.first}")
    for line in outcome.table():
        print(f"# {line}")
    return 1 if outcome.errors else 0


if __name__ == "__main__":
    sys.exit(main())
