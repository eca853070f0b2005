"""What all players share: the ledger that knows every byte, sockets that may be told to misbehave, and their pace.

A transfer has a number. Its bytes are a slice of one block of noise at a place drawn from the number (tests/faults/transfer.py),
so that bytes of another visitor's, doubled or lost ones are seen at once. Who ends something in order writes that down first;
an end in order that nobody wrote down is a truncation that does not show.
"""

import asyncio
import collections
import random
import socket
import struct
import time

from tests.faults.transfer import MOST, NOISE, PERIOD, content, place

UP, DOWN, RAW = 1, 0, 3  # salts: a request's body and what follows it, an answer's body, what comes behind a 101
RST = struct.pack("ii", 1, 0)
OWN_ANSWERS = range(400, 506)  # what a kit answers by itself, without a number


class Over(Exception):
    """The other side has ended the connection: .how is "fin" or "reset"."""

    def __init__(self, how):
        super().__init__(how)
        self.how = how


class Ledger:
    """sent[n]: how long the request body of transfer n was when its sender ended it in order. done[n]: the same of its answer,
    once for each time it was served. finds: what must not be."""

    def __init__(self):
        self.last, self.begun = 0, time.monotonic()
        self.sent, self.done = {}, collections.defaultdict(set)
        self.count = collections.Counter()
        self.finds = []
        self.stories = collections.defaultdict(list)

    def note(self, n, what):
        """What happened to transfer n, for whoever has to understand a find."""
        self.stories[n].append(f"{time.monotonic() - self.begun:.3f} {what}")

    def number(self):
        self.last += 1
        return self.last

    def found(self, text, n=0):
        self.count["finds"] += 1
        if len(self.finds) < 20:
            self.finds.append("\n    ".join([text, *self.stories[n]]))

    def check(self, who, n, at, data, salt):
        """`data` has to be what transfer n has at `at`. Returns where the next bytes belong."""
        want = content(n, MOST, salt)[at:at + len(data)]
        if at + len(data) > MOST or bytes(want) != bytes(data):
            wrong = next((i for i, (a, b) in enumerate(zip(want, data)) if a != b), len(want))
            self.found(f"{who}: transfer {n}: bytes {at} to {at + len(data)} are not its own from {at + wrong} on; "
                       f"there is {self.whose(bytes(data[wrong:wrong + 64]))}", n)
        return at + len(data)

    def whose(self, data):
        """Which transfers have these bytes, and where."""
        at = bytes(NOISE[:2 * PERIOD]).find(data) if len(data) >= 8 else -1
        if at < 0:
            return repr(data)
        names = {UP: "request", DOWN: "answer", RAW: "raw answer"}
        near = [(at - place(n, salt)) % PERIOD for n in range(1, self.last + 1) for salt in names]
        best = sorted((offset, i) for i, offset in enumerate(near))[:4]
        return "; or ".join(f"byte {offset} of the {list(names.values())[i % 3]} of {i // 3 + 1}" for offset, i in best)

    def request_ended(self, who, n, size):
        if self.sent.get(n) != size:
            self.found(f"{who}: transfer {n}: its request ended in order after {size} bytes, its visitor "
                       f"{'sent ' + str(self.sent[n]) if n in self.sent else 'never ended it'}", n)

    def answer_ended(self, who, n, size):
        if size not in self.done[n]:
            self.found(f"{who}: transfer {n}: its answer ended in order after {size} bytes; served: {sorted(self.done[n])}", n)


class Sock:
    """A non-blocking socket of the running loop. All that waits is cancelled before it is closed."""

    def __init__(self, sock):
        sock.setblocking(False)
        self.sock, self.loop = sock, asyncio.get_running_loop()
        self.rest = b""
        self.broken = False  # sending failed: the kernel has told of a reset, and will call what follows an end

    @classmethod
    async def dial(cls, port, rng, small=False, source=None):
        sock = socket.socket()
        self = cls(sock)
        try:
            if small:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rng.choice((2048, 8192, 32768)))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, rng.choice((4096, 16384, 65536)))
            if source:
                sock.bind((source, 0))
            await self.loop.sock_connect(sock, ("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.close()
            raise
        return self

    async def send(self, data):
        try:
            await self.loop.sock_sendall(self.sock, data)
        except OSError as e:
            self.broken = True
            raise Over("reset") from e

    async def recv(self, n=65536):
        """Some bytes; Over at the end."""
        if self.rest:
            data, self.rest = self.rest[:n], self.rest[n:]
            return data
        try:
            data = await self.loop.sock_recv(self.sock, n)
        except OSError as e:
            raise Over("reset") from e
        if not data:
            for _ in range(3):  # a sender that was told at the same moment is heard first
                await asyncio.sleep(0)
            raise Over("reset" if self.broken else "fin")
        return data

    async def until(self, mark, most=131072):
        """Up to and with `mark`; what is behind it comes with the next call."""
        data = b""
        while (at := data.find(mark)) < 0:
            if len(data) > most:
                raise Over("nonsense")
            data += await self.recv()
        at += len(mark)
        self.rest = data[at:] + self.rest
        return data[:at]

    def fin(self):
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def reset(self):
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        except OSError:
            pass
        self.close()

    def close(self):
        if self.sock.fileno() >= 0:
            self.loop.remove_reader(self.sock.fileno())
            self.loop.remove_writer(self.sock.fileno())
            self.sock.close()


class Listener:
    """Serves each connection in a task: serve(Sock). Ended with all of them by end()."""

    def __init__(self, serve, small=None):
        self.serve = serve
        self.sock = socket.socket()
        if small:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, small)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(256)
        self.sock.setblocking(False)
        self.port = self.sock.getsockname()[1]
        self.tasks = set()
        self.task = asyncio.create_task(self._run())

    async def _run(self):
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self.sock)
            task = asyncio.create_task(self._one(Sock(sock)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _one(self, sock):
        try:
            await self.serve(sock)
        except (Over, OSError, asyncio.TimeoutError):
            pass
        finally:
            sock.close()

    def cut(self):
        for task in list(self.tasks):
            task.cancel()

    async def end(self):
        await ended([self.task, *self.tasks])
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.sock.fileno())
        self.sock.close()


async def ended(tasks):
    """Cancels tasks and waits for them; what they failed with is raised, but not that they were cancelled."""
    tasks = [t for t in tasks if t]
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception) and not isinstance(outcome, (Over, OSError, asyncio.TimeoutError)):
            raise outcome


async def pace(rng, most):
    """A pause as people and programs make them, most of them short. Part of the play: nothing is waited for."""
    await asyncio.sleep(most * rng.random() ** 3)


def pieces(rng, data):
    """The same bytes in one, a few or many pieces."""
    how = rng.random()
    if how < 0.5 or len(data) < 2:
        return [data]
    if how < 0.9:
        cuts = sorted({rng.randrange(1, len(data)) for _ in range(rng.randrange(1, 5))})
    else:
        cuts = range(1, min(len(data), 200), rng.randrange(1, 9))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)])]


def some_size(rng):
    """Mostly small, sometimes nothing, sometimes more than any window."""
    how = rng.random()
    if how < 0.15:
        return 0
    if how < 0.6:
        return rng.randrange(1, 3000)
    if how < 0.9:
        return rng.randrange(3000, 200000)
    return rng.randrange(200000, MOST)


def address(rng):
    """A loopback address for a visitor, so that there are many."""
    return f"127.{rng.randrange(1, 4)}.{rng.randrange(4)}.{rng.randrange(1, 20)}"


# What a round may be about: the keys of all tables of weights that it favours.
THEMES = {
    "everything": (),
    "early answers": ("length", "chunked", "by and by", "early", "early and on", "early and dead", "empty with data", "wait", "bind", "unbind"),
    "cuts": ("cut", "reset", "half", "short", "close", "lose a secondary", "stop reading", "flee", "many", "reset a stream"),
    "upgrades": ("upgrade", "fin", "half", "late"),
    "oddities": ("twice", "bad head", "no head", "data first", "nonsense", "bad", "odd", "long", "interim", "trailers"),
}


class Stage:
    """One round of play: its random numbers, ledger, and the tasks of its players."""

    def __init__(self, seed):
        self.seed, self.ledger = seed, Ledger()
        rng = self.rng("theme")
        self.theme = "everything" if rng.random() < 0.4 else rng.choice(list(THEMES))
        self.over = False
        self.latest = 0.0  # the longest that the play was late since somebody set it to 0
        self.players = []
        self.tastes = {}

    def rng(self, *name):
        """Random numbers of one player's own: what others do does not change them."""
        return random.Random(f"{self.seed}/{name}")

    def pick(self, rng, table):
        """A key of a table of weights, as this round likes them: it leaves some things out and does others much more often, so
        that rare meetings become frequent ones in some round. The first key always stays."""
        if id(table) not in self.tastes:
            taste, favours = self.rng("taste", *table), set(THEMES[self.theme]) & set(table)
            likes = {key: weight * taste.choice([0, 1, 1, 1, 5]) for key, weight in table.items()}
            likes.update((key, weight) for key, weight in list(table.items())[:1] if not likes[key])
            if favours:
                likes = {key: weight * 6 if key in favours else weight / 2 for key, weight in table.items()}
            self.tastes[id(table)] = likes
        likes = self.tastes[id(table)]
        return rng.choices(list(likes), list(likes.values()))[0]

    def start(self, name, play, *more):
        """`play(rng)` again and again until the stage is over; a task of its own for each name."""
        self.players.append(asyncio.create_task(self._again(name, play, more)))

    async def _again(self, name, play, more):
        turn = 0
        while not self.over:
            rng = self.rng(name, turn)
            turn += 1
            try:
                await play(rng, *more)
                self.ledger.count[name.split("-")[0]] += 1
            except (Over, OSError, asyncio.TimeoutError):
                self.ledger.count[name.split("-")[0] + " cut"] += 1
            if name != "watch-0":
                await pace(rng, 0.05)

    async def end(self):
        self.over = True
        await ended(self.players)
