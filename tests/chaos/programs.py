"""The program under test as a kit or a driver, a kit that is restarted, and a path to it that breaks."""

import asyncio
import contextlib
import ctypes
import os
import re
import shutil
import signal
import tempfile

from tests.chaos.play import Listener, Over, Sock, ended, pace, pieces

MARKS = ("AddressSanitizer", "LeakSanitizer", "UndefinedBehavior", "runtime error:", "the sandbox refused")
KEPT = 2000


def _dies_with_us(prctl=ctypes.CDLL(None).prctl, pdeathsig=1):
    prctl(pdeathsig, signal.SIGKILL)


def doing(pid):
    """What a process does that does not end: its threads' states, what they wait for in the kernel, signals that wait for it."""
    said = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status", encoding="utf-8", errors="replace") as f:
                facts = dict(line.split(":", 1) for line in f.read().splitlines())
            with open(f"/proc/{pid}/task/{task}/wchan", encoding="ascii", errors="replace") as f:
                facts["wchan"] = f.read()
            said.append(" ".join(f"{name} {facts[name].strip()}" for name in ("Name", "State", "TracerPid", "SigPnd", "ShdPnd", "wchan")))
    return f"process {pid} ({'; '.join(said) or 'gone'})"


class Program:
    """A child whose last lines are kept and searched for reports."""

    def __init__(self, stage, argv, paused=False):
        """`paused`: it will get SIGSTOP. The search for leaks, at the end, does not survive one: it would hang for ever."""
        self.stage, self.argv, self.lines = stage, argv, []
        options = os.environ.get("ASAN_OPTIONS", "")
        self.env = {**os.environ, "ASAN_OPTIONS": options.replace("detect_leaks=1", "detect_leaks=0")} if paused else None
        self.process = None
        self.report = None
        self.changed = asyncio.Event()

    async def start(self):
        starting = asyncio.create_task(asyncio.create_subprocess_exec(
            *self.argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            limit=1 << 20, env=self.env, preexec_fn=_dies_with_us))
        try:
            self.process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            process = await starting
            process.kill()
            await process.wait()
            raise
        self.reading = asyncio.create_task(self._read())
        return self

    async def _read(self):
        while line := await self.process.stdout.readline():
            text = line.decode(errors="replace").rstrip("\n")
            self.lines.append(text)
            self.heard(text)
            if self.report is None and any(mark in text for mark in MARKS):
                self.report = text
            if len(self.lines) > 2 * KEPT and self.report is None:
                del self.lines[:-KEPT]
            self.changed.set()
        self.changed.set()

    def heard(self, text):
        """For programs whose lines mean something."""

    async def line(self, pattern, most=15.0):
        """The first match in what it said or says; None when it ends or stays silent."""
        try:
            async with asyncio.timeout(most):
                while True:
                    self.changed.clear()
                    for text in self.lines:
                        if match := re.search(pattern, text):
                            return match
                    if self.process.returncode is not None and self.reading.done():
                        return None
                    await self.changed.wait()
        except asyncio.TimeoutError:
            return None

    @property
    def pid(self):
        return self.process.pid

    @property
    def status(self):
        return self.process.returncode

    def tell(self, number):
        if self.process.returncode is None:
            try:
                os.kill(self.process.pid, number)
            except ProcessLookupError:
                pass

    async def end(self, number=signal.SIGTERM, most=45.0):
        """Its exit status; a program that does not end is a find."""
        self.tell(number)
        try:
            await asyncio.wait_for(self.process.wait(), most)
        except asyncio.TimeoutError:
            self.stage.ledger.found(f"{self.argv[1]} did not end within {most} s of signal {int(number)}: {doing(self.process.pid)}\n"
                                    + "\n".join(self.lines[-30:]))
            self.tell(signal.SIGKILL)
            await self.process.wait()
        await self.reading
        return self.process.returncode

    def check(self, allowed):
        """Finds: a report, or an end that nobody asked for."""
        tail = "\n".join(self.lines[-200 if self.report else -40:])
        if self.report:
            self.stage.ledger.found(f"{' '.join(self.argv)}: {self.report}\n{tail}")
        elif self.status not in allowed:
            self.stage.ledger.found(f"{' '.join(self.argv)} ended with {self.status}\n{tail}")

    def fds(self):
        """How many descriptors it has; none when it is gone."""
        try:
            return len(os.listdir(f"/proc/{self.pid}/fd"))
        except FileNotFoundError:
            return 0


def _inherits_orphans(prctl=ctypes.CDLL(None).prctl, child_subreaper=36):
    """What a program leaves behind becomes a child of this process, which learns how it ends."""
    prctl(child_subreaper, 1)


class RestartedKit(Program):
    """A kit that is restarted (SIGUSR2): the process that serves is another one then, and is who .pid, .status and tell() are
    about. Each of them has to end as the first one would."""

    TAKES = 30.0  # seconds, most, for a restart, on a busy machine

    def __init__(self, stage, argv):
        _inherits_orphans()
        self.folder = tempfile.mkdtemp(prefix="hoody-tunnel-chaos-")
        self.pid_file = os.path.join(self.folder, "pid")
        super().__init__(stage, [*argv, "--pid-file", self.pid_file])
        self.ends = {}  # process -> its exit status, None as long as it runs
        self.serves = None  # as the pid file has it
        self.ending = False
        self.may_miss = True  # the pid file, before the first kit serves and when the last one ends

    @property
    def pid(self):
        try:
            with open(self.pid_file, encoding="ascii") as f:
                self.serves = int(f.read())
            self.may_miss = self.ending
        except (FileNotFoundError, ValueError) as e:
            if not self.may_miss:
                self.may_miss = True  # said once
                self.stage.ledger.found(f"nobody finds the kit that serves: {e}; the last one was {self.serves}\n" + "\n".join(self.lines[-60:]))
        pid = self.serves or self.process.pid
        self.ends.setdefault(pid, None)
        return pid

    def look(self, pid):
        """The exit status of one of the processes, if it has one by now."""
        if pid == self.process.pid:
            self.ends[pid] = self.process.returncode
        elif self.ends[pid] is None:
            try:
                got, status = os.waitpid(pid, os.WNOHANG)
                self.ends[pid] = os.waitstatus_to_exitcode(status) if got else None
            except ChildProcessError:  # its parent, the one before, has not ended
                self.ends[pid] = None if os.path.exists(f"/proc/{pid}") else 0  # and has been told how it ended
        return self.ends[pid]

    def heard(self, text):
        if match := re.search(r"restart: process (\d+) serves since now", text):
            self.ends.setdefault(int(match.group(1)), None)

    @property
    def status(self):
        return self.look(self.pid)

    def tell(self, number):
        if self.status is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def elders(self):
        """Those that have handed over and still run."""
        pid = self.pid
        return [other for other in list(self.ends) if other != pid and self.look(other) is None]

    async def restart(self, rng):
        """Another process serves afterwards."""
        before = self.pid
        for _ in range(rng.choice([1, 1, 1, 2])):
            self.tell(signal.SIGUSR2)
        for other in self.elders() if rng.random() < 0.2 else []:
            os.kill(other, signal.SIGUSR2)  # which has handed over, and says so
        deadline = asyncio.get_running_loop().time() + self.TAKES
        while self.pid == before and self.status is None:
            if asyncio.get_running_loop().time() > deadline:
                self.stage.ledger.found(f"no other kit within {self.TAKES} s of SIGUSR2:\n" + "\n".join(self.lines[-60:]))
                return
            await asyncio.sleep(0.02)

    async def end(self, number=signal.SIGTERM, most=45.0):
        self.ending = True
        told = self.pid
        self.tell(number)
        deadline = asyncio.get_running_loop().time() + most
        while left := [pid for pid in list(self.ends) if self.look(pid) is None]:
            if asyncio.get_running_loop().time() > deadline:
                self.stage.ledger.found(f"processes did not end within {most} s of signal {int(number)} to {told}: {', '.join(map(doing, left))}\n"
                                        + "\n".join(self.lines[-30:]))
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                deadline += most
            await asyncio.sleep(0.02)
        await self.process.wait()
        await self.reading
        shutil.rmtree(self.folder, ignore_errors=True)
        return max(self.ends.values(), key=abs)

    def check(self, allowed):
        super().check(allowed)
        odd = {pid: status for pid, status in self.ends.items() if status not in allowed}
        if odd:
            self.stage.ledger.found(f"kits that ended otherwise: {odd}\n" + "\n".join(self.lines[-60:]))


async def restart(rng, stage, kit):
    """An operator with a new version, now and then."""
    await pace(rng, 4.0)
    await kit.restart(rng)
    stage.ledger.count["elders at once"] = max(stage.ledger.count["elders at once"], len(kit.elders()))


class BrokenPath:
    """Passes TCP to a port, in odd pieces, and cuts where it likes."""

    def __init__(self, stage, port, name):
        self.stage, self.port, self.name, self.turn = stage, port, name, 0
        self.listener = Listener(self._pass)

    async def _pass(self, near):
        self.turn += 1
        rng = self.stage.rng(self.name, self.turn)
        far = await Sock.dial(self.port, rng, small=rng.random() < 0.4)
        # Some are cut within the first bytes, most within some megabytes, some never.
        self.left = [rng.choice([rng.randrange(1, 2000), rng.randrange(1 << 16, 1 << 23), 1 << 60]) for _ in range(2)]
        ways = [asyncio.create_task(self._way(rng, near, far, 0)), asyncio.create_task(self._way(rng, far, near, 1))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if rng.random() < 0.3:
                await pace(rng, 0.3)
        finally:
            await ended(ways)
            for sock in rng.sample([near, far], 2):
                sock.reset() if rng.random() < 0.6 else sock.close()

    async def _way(self, rng, source, to, which):
        left, odd = self.left[which], rng.random() < 0.2
        while left > 0:
            data = (await source.recv())[:left]
            left -= len(data)
            for part in pieces(rng, data) if odd else [data]:
                await to.send(part)
            if rng.random() < 0.01:
                await pace(rng, 2.0)
        raise Over("cut")


DRIVER_ENDS = {0, 1, 5, 6, 7, -signal.SIGKILL, -signal.SIGINT}
TOO_EARLY = {-signal.SIGHUP, -signal.SIGTERM}  # before it could listen to signals


async def real_driver(rng, stage, binary, kit_url, ports, services, life=6.0):
    """A real driver for a while: it takes ports, is killed, told to try again, or told to go."""
    expose = rng.random() < 0.7
    targets = [f"{port}={rng.choice(services['http' if expose else 'tcp'])}" for port in rng.sample(ports["http" if expose else "tcp"], rng.randrange(1, 3))]
    words = [binary, "expose" if expose else "pull", "--url", kit_url, "--retry-for", rng.choice(["0", "1s", "30s"]), "--ping-interval", "500ms",
             "--pong-timeout", "1s", "--connections", str(rng.choice([1, 1, 2, 4])), "--connect-timeout", "1s", "--json"]
    if expose and rng.random() < 0.7:
        words.append("--takeover")
    turns, paused = rng.randrange(1, 6), rng.random() < 0.4
    program = await Program(stage, [*words, *targets], paused).start()
    try:
        for _ in range(turns):
            await pace(rng, life)
            if rng.random() < 0.3:
                program.tell(signal.SIGHUP)
            if paused and rng.random() < 0.5:
                program.tell(signal.SIGSTOP)
                await pace(rng, 2.0)
                program.tell(signal.SIGCONT)
    finally:
        program.tell(signal.SIGCONT)
        how = rng.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
        await asyncio.shield(program.end(how))
        program.check(DRIVER_ENDS if program.lines else DRIVER_ENDS | TOO_EARLY)
