"""Implementations under test: adapters, and the processes they start."""

import asyncio
import collections
import hashlib
import os
import re
import shlex
import signal
import socket
import sys
import tempfile
import time

import yaml

from .ports import free_port
from .wire import ROOT, codec


class Unsupported(Exception):
    """The adapter says that the implementation cannot do this."""


class Adapter:
    """One file of conformance/adapters/. README.md says what is in it."""

    def __init__(self, path, values=()):
        with open(path, encoding="utf-8") as f:
            doc = yaml.safe_load(f)
        self.path, self.doc = path, doc
        self.name, self.side = doc["name"], doc["side"]
        self.about = doc.get("about", "")
        self.unsupported = doc.get("unsupported", {}) or {}
        self.options = doc.get("options", {}) or {}
        self.versions = doc.get("versions", list(codec.VERSIONS))
        self.complaints = re.compile(doc["complaints"]) if "complaints" in doc else None
        self.at_url = "url" in doc and "start" not in doc
        self.values = {"python": sys.executable, "root": ROOT, **{k: os.path.expandvars(str(v))
                                                                  for k, v in (doc.get("values") or {}).items()},
                       **dict(values)}
        if self.side not in ("kit", "driver"):
            raise SystemExit(f"{path}: side must be kit or driver")

    def fill(self, text, more):
        def one(m):
            name = m.group(1)
            if name in more:
                return str(more[name])
            if name in self.values:
                return str(self.values[name])
            raise SystemExit(f"{self.path}: nobody knows what {{{name}}} stands for")
        return re.sub(r"\{([a-z_]+)\}", one, text)

    def words(self, command, more):
        parts = shlex.split(command) if isinstance(command, str) else command
        return [self.fill(part, more) for part in parts]

    def settings(self, wanted, more=None):
        """(arguments, environment) for abstract settings. Raises Unsupported for one the adapter does not know."""
        args, env, more = [], {}, more or {}
        for name, value in wanted.items():
            how = self.options.get(name)
            if how is None:
                raise Unsupported(f"the adapter has no option {name}")
            if isinstance(how, dict) and "values" in how:
                how = how["values"][str(value).lower()]
            if isinstance(how, dict) and "env" in how:
                env.update({k: self.fill(v, {"value": value, **more}) for k, v in how["env"].items()})
            else:
                args += [self.fill(part, {"value": value, **more}) for part in how]
        return args, env


USERS = ("ann", "bob", "carl", "root")  # whoever a case or a file of users may name


def token_of(user):
    """What a user of the suite shows. A file of users has it as {token_NAME}, or its digest as {sha256_NAME}."""
    return f"token-of-{user}-in-the-conformance-suite"


class Users:
    """The file that says who may come, while a kit runs."""

    def __init__(self, adapter):
        self.adapter = adapter
        self.rows = adapter.doc.get("users") or {}
        self.folder = tempfile.TemporaryDirectory(prefix="conformance-users-")  # pylint: disable=consider-using-with
        self.path = os.path.join(self.folder.name, "users")

    def write(self, which):
        text = self.rows["files"].get(which)
        if text is None:
            raise Unsupported(f"the adapter has no file of users {which}")
        for kind, user in set(re.findall(r"\{(token|sha256)_([a-z]+)\}", text)):
            token = token_of(user)
            shown = token if kind == "token" else hashlib.sha256(token.encode()).hexdigest()
            text = text.replace(f"{{{kind}_{user}}}", shown)
        with open(self.path, "w", encoding="utf-8") as f:
            f.write(text)

    def end(self):
        self.folder.cleanup()


class Process:
    """A child whose output is kept."""

    def __init__(self, argv, env=None, cwd=None):
        self.argv, self.env, self.cwd = argv, env, cwd
        self.lines = collections.deque(maxlen=400)
        self.process = None
        self.changed = asyncio.Event()
        self.readers = []

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            *self.argv, env={**os.environ, **(self.env or {})}, cwd=self.cwd, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=1 << 20, start_new_session=True)
        self.readers = [asyncio.create_task(self._read(self.process.stdout, "out")),
                        asyncio.create_task(self._read(self.process.stderr, "err"))]

    async def _read(self, stream, name):
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                continue
            if not line:
                self.changed.set()
                return
            self.lines.append((name, line.decode(errors="replace").rstrip("\n")))
            self.changed.set()

    @property
    def status(self):
        return self.process.returncode if self.process else None

    def signal(self, number):
        """Not by the Popen object, which would first look whether the child has ended and so take its status away."""
        if self.process.returncode is None:
            try:
                os.kill(self.process.pid, number)
            except ProcessLookupError:
                pass

    async def wait_line(self, pattern, timeout):
        """The first match in any line so far or to come."""
        deadline = time.monotonic() + timeout
        while True:
            for _, line in self.lines:
                match = re.search(pattern, line)
                if match:
                    return match
            if self.status is not None and all(r.done() for r in self.readers):
                return None
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), max(0.01, deadline - time.monotonic()))
            except asyncio.TimeoutError:
                return None

    async def wait_exit(self, timeout):
        try:
            return await asyncio.wait_for(self.process.wait(), timeout)
        except asyncio.TimeoutError:
            return None

    async def end(self, grace=10.0):
        """Signals, waits, and kills what does not end; False then."""
        if self.process is None:
            return True
        willing = True
        if self.process.returncode is None:
            self.signal(signal.SIGTERM)
            if await self.wait_exit(grace) is None:
                willing = False
                self.signal(signal.SIGKILL)
                await self.process.wait()
        for reader in self.readers:
            try:
                await asyncio.wait_for(reader, 2)
            except (asyncio.TimeoutError, asyncio.CancelledError):
                reader.cancel()
        return willing

    def complaint(self, pattern):
        """The first line of the output that is one, with some behind it; or None."""
        rows = list(self.lines)
        at = next((i for i, (_, line) in enumerate(rows) if pattern and pattern.search(line)), None)
        return None if at is None else "\n".join(line for _, line in rows[at:at + 40])

    def tail(self, n=40):
        return [f"{name}: {line}" for name, line in list(self.lines)[-n:]]


class Kit:
    """A running kit, started by its adapter or found at a URL."""

    def __init__(self, adapter, wanted):
        self.adapter, self.wanted = adapter, dict(wanted)
        self.host, self.port = adapter.doc.get("address", "127.0.0.1"), None
        self.visitors = adapter.fill(adapter.doc.get("visitors", "127.0.0.1"), {})  # where its exposed and pulled ports answer
        self.process = None
        self.users = None  # with the option `users`
        self.used = 0

    async def start(self, patience):
        if self.adapter.at_url:
            return self._found()
        if "users" in self.wanted and "users" in self.adapter.options:
            self.users = Users(self.adapter)
            self.users.write(self.wanted["users"])
        args, env = self.adapter.settings(self.wanted, {"users": self.users.path} if self.users else {})
        self.port = free_port() if "ready" not in self.adapter.doc else 0
        argv = self.adapter.words(self.adapter.doc["start"], {"port": self.port}) + args
        self.process = Process(argv, {**{k: str(v) for k, v in (self.adapter.doc.get("env") or {}).items()}, **env})
        await self.process.start()
        ready = self.adapter.doc.get("ready")
        if ready:
            match = await self.process.wait_line(ready, patience)
            if not match:
                tail = "\n".join(self.process.tail())
                await self.process.end()
                raise RuntimeError(f"{' '.join(argv)} never said /{ready}/; it said:\n{tail}")
            self.port = int(match.group("port"))
            return None
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            with socket.socket() as s:
                if s.connect_ex((self.host, self.port)) == 0:
                    return None
            await asyncio.sleep(0.02)
        await self.process.end()
        raise RuntimeError(f"{' '.join(argv)} never listened on port {self.port}")

    def _found(self):
        if self.wanted:
            raise Unsupported("a kit at a URL cannot be started with options")
        url = self.adapter.fill(self.adapter.doc["url"], {})
        match = re.fullmatch(r"(?:ws|http)://(\[[^\]]+\]|[^/:]+):(\d+).*", url)
        if not match:
            raise RuntimeError(f"{self.adapter.path}: ws://host:port is wanted, not {url}")
        self.host, self.port = match.group(1).strip("[]"), int(match.group(2))

    @property
    def alive(self):
        return self.process is None or self.process.status is None

    def change_users(self, which):
        self.users.write(which)
        self.process.signal(getattr(signal, f"SIG{self.users.rows['reload']}"))

    async def end(self):
        if self.process:
            await self.process.end()
        if self.users:
            self.users.end()
