"""The live proof: what is under way goes on while links are lost and kits are restarted.

    make restart-live [SEED=1] [LIVE_ARGS="--losses 100 --restarts 20 --mixed"]

A kit with drivers of both versions, each behind a proxy of its own, and visitors who never pause: a download that lasts for the
whole play, WebSockets, pulled connections and feeds that count, requests at a steady rate, and SQL sessions within transactions
(PostgreSQL and pgbench). Then links are lost in several ways and the kit is restarted (SIGUSR2). Nobody may see an error; what is
printed is how long each kind of visitor waited, before, during the losses and during the restarts. What is lost when is
drawn from the seed.
"""

import argparse
import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time

from tests.faults.rig import FaultProxy
from tests.integration.harness import BIN, Driver, Program, eventually, pace
from tests.integration.restarted import RestartedKit, alive
from tests.live.database import Database
from tests.live.visitors import Crowd

WHOLE = {"size": 2 << 30, "websocket": 200, "feed": 10, "pulled": 20, "requests": 200, "gap": 0.5}
DOWN_FOR = (0.1, 0.6)  # seconds that no link can be had


class Told:
    """What a driver has told of its links so far. Its lines about requests are many, and looked at once."""

    def __init__(self, driver):
        self.driver, self.seen = driver, 0
        self.connected, self.disconnected = [], []

    def look(self):
        log = self.driver.log
        for line in log[self.seen:]:
            if '"event":"connected"' in line:
                self.connected.append(json.loads(line[5:]))
            elif '"event":"disconnected"' in line:
                self.disconnected.append(json.loads(line[5:]))
        self.seen = len(log)
        return self


class Scene(contextlib.ExitStack):
    """Kit, services and drivers: EXPOSE with one WebSocket and with three, PULL with one and with three."""

    def __init__(self, database=None):
        super().__init__()
        try:
            self.kit = RestartedKit("--takeover-grace", "5m")
            self.callback(self._end_kit)
            self.service = Program([sys.executable, "-m", "tests.live.services"], stdin=subprocess.PIPE)
            self.callback(self._end_service)
            web, tcp = self.service.wait_line(r"^ports (\d+) (\d+)", 60).groups()
            self.proxies, self.drivers, self.told = [], [], []
            self.web = [self._driver("expose", web, sockets) for sockets in (1, 3)]
            self.tcp = [self._driver("pull", tcp, sockets) for sockets in (1, 3)]
            self.sql = self._driver("pull", database.port, 1) if database else None
        except BaseException:
            self.close()
            raise

    def _driver(self, command, port, sockets):
        proxy = self.enter_context(FaultProxy(self.kit.port, calm=True))
        driver = Driver(proxy, command, f"0={port}", "--connections", str(sockets))
        self.callback(self._end_driver, driver)
        self.proxies.append(proxy)
        self.drivers.append(driver)
        self.told.append(Told(driver))
        return driver.port

    def _end_driver(self, driver):
        status = driver.end(signal.SIGINT)
        assert status == 0, f"a driver ended with {status}:\n{driver.text()}"
        driver.check_sanitizers()

    def _end_service(self):
        self.service.process.stdin.close()
        assert self.service.end(0) == 0, self.service.text()
        self.service.process.stdin = None

    def _end_kit(self):
        status = self.kit.end()
        assert status == 0, f"the kit ended with {status}:\n{self.kit.text()}"
        self.kit.check_sanitizers()

    def wrong(self):
        """What the services have seen that must not be."""
        return [line[5:] for line in self.service.log if line.startswith("out: WRONG") or line.startswith("err: ")]

    # ---- what is done to it ----

    def lose(self, rng):
        """The links of some drivers, or of all, in one of several ways. What it was, in words."""
        which = rng.sample(self.proxies, rng.choice((1, 1, 2, len(self.proxies))))
        how = rng.choice(("reset", "reset", "gone for a while", "dead for a while"))
        if how == "gone for a while":
            for proxy in which:
                proxy.say("hold")
        if how == "dead for a while":
            for proxy in which:
                proxy.say("freeze")
            pace(rng.uniform(*DOWN_FOR))
        for proxy in which:
            proxy.say("cut")
        if how == "dead for a while":
            for proxy in which:
                proxy.say("thaw")
        if how == "gone for a while":
            pace(rng.uniform(*DOWN_FOR))
            for proxy in which:
                proxy.say("take")
        return f"{how}: {len(which)} drivers"

    def back(self):
        """Every driver has its links."""
        for told in self.told:
            eventually(lambda t=told: len(t.look().connected) > len(t.disconnected), f"a driver's link: {told.driver.argv}", 60)

    def restart(self):
        """And every driver is at the new program."""
        before = [len(told.look().connected) for told in self.told]
        self.kit.restarts()
        for told, n in zip(self.told, before):
            eventually(lambda t=told, m=n: len(t.look().connected) > m, f"a driver at the new program: {told.driver.argv}", 60)

    def old_programs(self):
        serving = self.kit.serving
        return [pid for pid in self.kit.known if pid != serving and alive(pid)]


def plan(rng, losses, restarts, mixed):
    """The order of what happens."""
    acts = ["losses"] * losses + ["restarts"] * restarts
    if mixed:
        rng.shuffle(acts)
    return acts


def play(seed, losses, restarts, mixed, how, gap, database=None):
    """`gap`: seconds between two acts, on average. Returns the texts of all errors."""
    rng = random.Random(seed)
    seconds = (losses + restarts) * (gap + 0.3) + 2 * min(5.0, gap)
    how = {**how, "speed": max(65536, int(how["size"] / seconds))}
    scene = Scene(database)
    with scene:
        crowd = Crowd(scene.web, scene.tcp, seed, how)
        diary = crowd.diary
        sql = database.play(scene.sql, 1.2 * seconds + 5) if database else None
        try:
            eventually(lambda: diary.done["request"] > 10 and diary.moved, "visitors are served")
            pace(min(5.0, gap))
            for i, act in enumerate(plan(rng, losses, restarts, mixed)):
                diary.phase = "mixed" if mixed else act
                pace(rng.uniform(0.2 * gap, 1.8 * gap))
                what = scene.lose(rng) if act == "losses" else "restart"
                scene.restart() if act == "restarts" else scene.back()
                if i % 20 == 19:
                    print(f"# {i + 1} acts, {time.monotonic() - diary.begun:.0f} s, the last: {what}; {diary.done['request']} requests, "
                          f"{diary.moved >> 20} MiB, {len(scene.old_programs())} old programs, errors: "
                          f"{sum(map(len, diary.errors.values()))}", flush=True)
            pace(min(5.0, gap))
            if not diary.errors["download"]:
                eventually(lambda: diary.done["download"] or diary.errors["download"], "the download", seconds + 120)
        finally:
            diary.over = True
            crowd.join(120)
        alive_still = crowd.is_alive()
        errors = [f"{kind}: {text}" for kind, texts in diary.errors.items() for text in texts]
        if database:  # its sessions are through when this says so, and not before
            errors += database.ended(sql, diary)
        tell(scene, diary, seed)
        assert not alive_still, "visitors wait for ever"
        errors += scene.wrong()
        eventually(lambda: not scene.old_programs(), f"the ends of old programs: {scene.kit.text()}", 60)
        if errors:
            print("".join(f"# ERROR {text}\n" for text in errors[:40]), end="", flush=True)
            print("".join(f"#   {line}\n" for program in (scene.kit, *scene.drivers)
                          for line in [line for line in program.log if '"event":"request"' not in line][-80:]), end="", flush=True)
    return errors


def tell(scene, diary, seed):
    version = subprocess.run([BIN, "--version"], stdout=subprocess.PIPE, check=True).stdout.decode().split("\n")[0]
    lost, again = ([len(getattr(told.look(), what)) for told in scene.told] for what in ("disconnected", "connected"))
    kept = sum(e["whole"] for told in scene.told for e in told.connected)
    print(f"# {version}, seed {seed}; {time.monotonic() - diary.begun:.0f} s; links of drivers lost: {lost}, begun: {again}, "
          f"{kept} of them after a pause; {len(scene.kit.known) - 1} restarts")
    print(f"# whole visits: {dict(diary.done)}; the download has {diary.moved} bytes")
    for line in diary.table():
        print(f"# {line}", flush=True)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--losses", type=int, default=100)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--gap", type=float, default=4.0, help="seconds between two of them, on average")
    parser.add_argument("--mixed", action="store_true", help="losses and restarts in any order, not first the ones and then the others")
    parser.add_argument("--megabytes", type=int, default=WHOLE["size"] >> 20, help="of the download")
    parser.add_argument("--without-sql", action="store_true")
    args = parser.parse_args()
    print(f"# seed {args.seed}", flush=True)
    with contextlib.ExitStack() as stack:
        database = None if args.without_sql or not shutil.which("pgbench") else stack.enter_context(Database())
        errors = play(args.seed, args.losses, args.restarts, args.mixed, {**WHOLE, "size": args.megabytes << 20}, args.gap, database)
    print(f"# {len(errors)} errors")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
