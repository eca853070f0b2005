"""A round around a kit: everybody plays for some seconds, leaves, and then the kit must be as it was."""

import asyncio
import json
import random
import signal
import time

from conformance.lib.ports import free_port
from tests.chaos import admins, drivers, visitors
from tests.chaos.play import Listener, Over, Stage
from tests.chaos.programs import BrokenPath, Program, RestartedKit, real_driver, restart
from tests.chaos.services import Services

GRACE = 1.5
LEFT = 45.0  # seconds until nothing is left


def options(rng):
    """How the kit is started: every time-out short, so that it is met, and the bounds of every size."""
    return ["--listen", "127.0.0.1:0", "--takeover-grace", "1500ms", "--head-timeout", "2s", "--keepalive-timeout", "3s",
            "--response-timeout", "3s", "--send-timeout", "3s", "--half-close-timeout", "1s", "--ping-interval", "500ms",
            "--pong-timeout", "2s", "--idle-timeout", "2s", "--hello-timeout", "1s", "--drain-timeout", "2s",
            "--max-sessions", str(rng.choice([4, 16])), "--max-streams-per-session", str(rng.choice([8, 64, 1024])),
            "--stream-initial-window", rng.choice(["64K", "256K", "1M"]), "--session-initial-window", rng.choice(["128K", "1M", "16M"]),
            "--session-buffer", rng.choice(["1M", "64M"]), "--max-fds", rng.choice(["0", "0", "100"]), "--log-level", rng.choice(["info", "debug"])]


async def eventually(stage, program, condition, what):
    end = time.monotonic() + LEFT
    last = None
    while time.monotonic() < end:
        if program.status is not None:
            return  # check() tells
        last = await condition()
        if last is True:
            return
        await asyncio.sleep(0.05)
    stage.ledger.found(f"not within {LEFT} s after everybody left: {what}; last seen: {last}")


class KitRound:
    def __init__(self, seed, binary):
        self.stage, self.binary = Stage(seed), binary
        self.rng = self.stage.rng("kit round")
        self.ports = {"http": [free_port() for _ in range(self.rng.randrange(2, 6))], "tcp": [free_port() for _ in range(2)]}

    async def begin(self):
        stage, rng = self.stage, self.rng
        argv = [self.binary, "serve", *options(rng)]
        restarts = stage.rng("restarts").random() < 0.5
        if restarts:
            argv += ["--restart-drain", stage.rng("drain").choice(["3s", "24h"])]
        self.kit = await (RestartedKit if restarts else Program)(stage, argv).start()
        match = await self.kit.line(r"listening on http://127\.0\.0\.1:(\d+)")
        if not match:
            stage.ledger.found(f"the kit did not start:\n{chr(10).join(self.kit.lines)}")
            return False
        self.port = port = int(match.group(1))
        await admins.ask(rng, port, "GET", "/health")
        self.baseline = self.kit.fds()
        services = Services(stage)
        self.listeners = [Listener(services.http), Listener(services.http, small=4096), Listener(services.tcp)]
        self.paths = [BrokenPath(stage, port, f"path {i}") for i in range(2)]
        targets = {"http": [self.listeners[0].port, self.listeners[1].port, self.nobody()], "tcp": [self.listeners[2].port]}
        http, tcp, memory = self.ports["http"], self.ports["tcp"], []
        for i in range(rng.randrange(3, 8)):
            stage.start(f"driver-{i}", drivers.drive, stage, port, memory, http, tcp)
        for i in range(rng.randrange(1, 4)):
            url = f"ws://127.0.0.1:{rng.choice([port, *(p.listener.port for p in self.paths)])}"
            stage.start(f"program-{i}", real_driver, stage, self.binary, url, self.ports, targets)
        for i in range(rng.randrange(10, 40)):
            stage.start(f"visitor-{i}", visitors.visit, stage, http)
        for i in range(rng.randrange(2, 8)):
            stage.start(f"puller-{i}", visitors.pull, stage, tcp)
        if rng.random() < 0.5:
            stage.start("flood-0", visitors.flood, stage, http)
        for name, who, most in (("admin", admins.administrate, 3), ("events", admins.read_events, 3), ("knock", admins.knock, 6)):
            for i in range(rng.randrange(most)):
                stage.start(f"{name}-{i}", who, stage, port)
        if restarts:
            stage.start("restart-0", restart, stage, self.kit)
        stage.start("probe-0", admins.probe, stage, port)
        stage.start("watch-0", admins.watch, stage)
        return True

    @staticmethod
    def nobody():
        """A port where no service listens."""
        return free_port()

    async def play(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.kit.status is None and not self.stage.ledger.finds:
            await asyncio.sleep(0.05)

    async def leave(self):
        await self.stage.end()
        for path in self.paths:
            await path.listener.end()
        for listener in self.listeners:
            await listener.end()
        await eventually(self.stage, self.kit, self.empty, "no stream, session or binding")
        if isinstance(self.kit, RestartedKit):
            await eventually(self.stage, self.kit, self.alone, "the ends of old programs")
        await eventually(self.stage, self.kit, self.closed, "the descriptors of a new kit")
        if self.kit.status is not None:
            self.stage.ledger.found(f"the kit ended though nobody had asked it to, with {self.kit.status}\n" + "\n".join(self.kit.lines[-60:]))
        await self.kit.end(signal.SIGTERM)
        self.kit.check({0})

    async def empty(self):
        try:
            status, body = await admins.ask(self.rng, self.port, "GET", "/tunnels")
        except (Over, OSError, asyncio.TimeoutError) as e:
            return repr(e)
        seen = json.loads(body) if status == 200 else {"status": status}
        return True if seen.get("sessions") == [] and not any(seen[k] for k in ("orphanedSessions", "totalStreams", "totalBindings")) else seen

    async def alone(self):
        return self.kit.elders() or True

    async def closed(self):
        n = self.kit.fds()
        return True if n <= self.baseline else f"{n} of {self.baseline}"


async def play(seed, seconds, binary):
    this = KitRound(seed, binary)
    if await this.begin():
        await this.play(seconds)
        await this.leave()
    return this.stage
