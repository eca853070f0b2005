"""A round around a real driver: kits of every kind play with it, then a calm one must find it as it was."""

import asyncio
import signal
import time

from tests.chaos.kit_round import LEFT
from tests.chaos.kits import Hub
from tests.chaos.play import Listener, Stage, ended, pace
from tests.chaos.programs import Program
from tests.chaos.services import Services
from conformance.lib.ports import free_port

ENDS = {0, 1, 3, 4, 5, 6, 7}  # a kit may well turn a driver away; another one is started then


class Guest:
    """One real driver and the place where it dials."""

    def __init__(self, stage, binary, name, services):
        self.stage, self.rng = stage, stage.rng(name)
        self.hub = Hub(stage, f"hub {name}")
        self.listener = Listener(self.hub.serve)
        rng = self.rng
        expose = rng.random() < 0.65
        targets = [f"{free_port()}={rng.choice(services['http' if expose else 'tcp'])}" for _ in range(rng.randrange(1, 4))]
        self.argv = [binary, "expose" if expose else "pull", "--url", f"ws://127.0.0.1:{self.listener.port}", "--ping-interval", "500ms",
                     "--pong-timeout", "1s", "--connections", str(rng.choice([1, 2, 4])), "--connect-timeout", "1s", "--json", *targets]
        self.program, self.baseline = None, None

    async def start(self):
        self.hub.bound.clear()
        self.program = await Program(self.stage, self.argv).start()

    async def play(self):
        """Starts it anew when it ended, and makes it try again when it waits."""
        while True:
            await pace(self.rng, 0.4)
            if self.program.status is not None:
                await self.program.end()
                self.program.check(ENDS)
                self.stage.ledger.count[f"ended with {self.program.status}"] += 1
                await self.start()
            elif self.rng.random() < 0.5 and self.program.lines:
                self.program.tell(signal.SIGHUP)

    async def calm(self):
        """Bound at a good kit, and nothing more: how many descriptors does it have?"""
        end = time.monotonic() + LEFT
        while time.monotonic() < end:
            if self.program.status is not None:
                await self.program.end()
                self.program.check(ENDS)
                await self.start()
            if self.hub.bound.is_set():
                return True
            if self.program.lines:
                self.program.tell(signal.SIGHUP)
            await asyncio.sleep(0.1)
        self.stage.ledger.found("the driver did not come to a calm kit:\n" + "\n".join(self.program.lines[-30:]))
        return False

    async def leave(self):
        end = time.monotonic() + LEFT
        n = 0
        while self.program.status is None and (n := self.program.fds()) > self.baseline and time.monotonic() < end:
            await asyncio.sleep(0.05)
        if self.program.status is None and n > self.baseline:
            self.stage.ledger.found(f"the driver keeps {n} descriptors, {self.baseline} when it was new")
        await self.program.end(signal.SIGINT)
        self.program.check({0})


async def play(seed, seconds, binary):
    stage = Stage(seed)
    services = Services(stage)
    listeners = [Listener(services.http), Listener(services.http, small=4096), Listener(services.tcp)]
    targets = {"http": [listeners[0].port, listeners[0].port, listeners[1].port, free_port()], "tcp": [listeners[2].port]}
    guests = [Guest(stage, binary, f"guest {i}", targets) for i in range(stage.rng("guests").randrange(1, 4))]
    for guest in guests:
        guest.hub.calm = True
        await guest.start()
    good = all([await guest.calm() for guest in guests])
    playing = []
    if good:
        for guest in guests:
            guest.baseline = guest.program.fds()
            guest.hub.calm = False
            guest.hub.bound.clear()
            guest.listener.cut()
            playing.append(asyncio.create_task(guest.play()))
        end = time.monotonic() + seconds
        while time.monotonic() < end and not stage.ledger.finds:
            await asyncio.sleep(0.05)
    await ended(playing)
    for guest in guests:
        guest.hub.calm = True
        guest.hub.bound.clear()
        guest.listener.cut()
    if good:
        for guest in guests:
            await guest.calm()
    for listener in listeners:
        await listener.end()
    for guest in guests:
        if guest.baseline:
            await guest.leave()
        else:
            await guest.program.end()
        await guest.listener.end()
    return stage
