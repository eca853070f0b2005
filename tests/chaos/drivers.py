"""Drivers at the level of the wire: they bind, take over, answer in every order, go away in every way, and come back."""

import asyncio
import json
import re
import struct

from tests.chaos.play import DOWN, RAW, UP, Over, pace, some_size
from tests.chaos.wire import PIECE, Link, frame, nonsense, upgrade, T
from tests.faults.transfer import MOST, content

TARGET = re.compile(r"/t\?n=(\d+)")
PULL_HEAD = struct.Struct("!QQQ")  # a TCP transfer's number, bytes up, bytes down
NAMES = {number: name for name, number in T.items()}


EATS = {"all": 12, "half": 2, "late": 2, "nothing": 1}


class Stream:
    """One stream of a peer: what came, what may be sent, and who serves it."""

    def __init__(self, side, link, sid, open_):
        self.side, self.link, self.id, self.open = side, link, sid, open_
        self.data = bytearray()
        self.eof = self.dead = False
        self.credit = side.stream_window
        self.event = asyncio.Event()
        self.eats = side.stage.pick(side.rng, EATS)
        self.owed = 0
        self.number = 0

    def wake(self):
        self.event.set()

    async def more(self):
        """Waits for anything that concerns the stream."""
        self.event.clear()
        if self.dead:
            raise Over("reset")
        await self.event.wait()

    def came(self, payload):
        self.data += payload
        self.owed += len(payload)
        if self.eats == "all" or self.eats == "half" and self.side.rng.random() < 0.5:
            self.give_back()
        elif self.eats == "nothing" or self.eats == "late":
            self.side.owe(self.owed)  # the session goes on
            self.owed = 0
        self.wake()

    def give_back(self):
        n, self.owed = self.owed, 0
        if n and not self.link.over:
            self.link.put(frame("WINDOW", self.id, struct.pack(">I", n)))
            self.side.owe(n)

    async def send(self, data, credit=True):
        """DATA within the credit of stream and session; without credit: whatever it may be worth."""
        at = 0
        while at < len(data):
            n = min(len(data) - at, PIECE, *((self.credit, self.side.credit) if credit else ()))
            if n <= 0:
                await self.more()
                continue
            if self.dead:
                raise Over("reset")
            self.credit -= n
            self.side.credit -= n
            self.link.put(frame("DATA", self.id, bytes(data[at:at + n])))
            at += n
            await self.link.room_for()

    def say(self, name, payload=b""):
        if not self.link.over:
            self.link.say(name, self.id, payload)

    def reset(self, code):
        if self.number:
            self.side.ledger.note(self.number, f"RESET {code} for stream {self.id}")
        self.say("RESET", struct.pack(">H", code) + b"so it is")
        self.dead = True
        self.side.forget(self)


class Side:
    """What both scripted peers are: a session with its links and streams."""

    def __init__(self, stage, rng):
        self.stage, self.rng, self.ledger = stage, rng, stage.ledger
        self.links, self.streams, self.tasks = [], {}, set()
        self.stream_window = self.credit = 0
        self.debt = 0

    def owe(self, n):
        """Session credit to give back, in pieces of some size."""
        self.debt += n
        if self.debt >= self.batch and self.links and not self.links[0].over:
            self.links[0].put(frame("WINDOW", 0, struct.pack(">I", self.debt)))
            self.debt = 0

    batch = 1

    def forget(self, st):
        if self.streams.get(st.id) is st:
            del self.streams[st.id]
        st.wake()

    def task(self, play, *more):
        task = asyncio.create_task(self._quiet(play, more))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _quiet(self, play, more):
        try:
            await play(*more)
        except (Over, OSError, asyncio.TimeoutError):
            pass
        except Exception as e:  # pylint: disable=broad-except
            self.ledger.found(f"a mistake of the play itself: {type(e).__name__}: {e}")
            raise

    def stream_frame(self, name, st, payload):
        """What both sides do with a frame of a stream they know. True: it is done."""
        if name == "DATA":
            st.came(payload)
        elif name == "EOF":
            st.eof = True
            st.wake()
        elif name == "RESET":
            self.ledger.note(st.number, f"came RESET {payload[:2].hex()} {payload[2:80]} for stream {st.id}")
            st.dead = True
            self.forget(st)
        elif name == "WINDOW":
            st.credit += struct.unpack(">I", payload)[0]
            st.wake()
        else:
            return False
        return True

    def lost(self, link):
        for st in list(self.streams.values()):
            if st.link is link:
                st.dead = True
                self.forget(st)

    def refill(self, n):
        self.credit += n
        for st in list(self.streams.values()):
            st.wake()

    async def end(self, how):
        for task in list(self.tasks):
            task.cancel()
        try:
            await asyncio.gather(*self.tasks, return_exceptions=True)
            for link in reversed(self.links):
                await link.leave(how)
        finally:
            for link in self.links:
                link.stop()


# ---- answers ----

INTERIM = [100, 102, 103]
BAD_HEADS = [(200, [["x", "a\r\nb"]]), (200, [["a b", "c"]]), (99, []), (200, [["content-length", "3"], ["content-length", "4"]]),
             (200, [["content-length", "-1"]]), (101, []), (200, [["transfer-encoding", "gzip"]]), (1000, []), ("200", [])]
HOW = {"whole": 30, "early": 12, "early and on": 6, "early and dead": 6, "never": 2, "reset": 4, "half": 5, "empty with data": 5, "long": 3,
       "short": 3, "interim": 4, "twice": 2, "bad head": 2, "no head": 2, "data first": 1, "trailers": 2, "late": 3}


class Answer:
    """Serves one HTTP stream of a scripted driver."""

    def __init__(self, st):
        self.st, self.rng, self.ledger = st, st.side.rng, st.side.ledger
        match = TARGET.match(st.open.get("target", ""))
        self.n = st.number = int(match.group(1)) if match else 0
        self.at = self.sent = 0
        self.upgrade = bool(st.open.get("isUpgrade"))

    def check(self):
        """What has come of the request so far."""
        st = self.st
        if self.n and st.data:
            self.at = self.ledger.check("driver", self.n, self.at, st.data, UP)
        st.data.clear()
        if st.eof and self.n and not self.upgrade:
            self.ledger.request_ended("driver", self.n, self.at)

    async def request(self):
        """The whole request, to its end."""
        while not self.st.eof:
            self.check()
            await self.st.more()
        self.check()
        if self.st.eats == "late":
            self.st.give_back()

    def head(self, status, headers=(), final=True):
        more = {"reason": "As it may be"} if self.rng.random() < 0.05 else {}
        self.st.say("STREAM_RESPONSE_HEAD", {"status": status, "headers": [["x-n", str(self.n)], *headers], "final": final, **more})

    async def body(self, size, salt=DOWN):
        """`size` bytes in order, in DATA frames of some sizes."""
        step = self.rng.choice([1000, 16384, PIECE, MOST])
        data = content(self.n, MOST, salt)
        while size:
            n = min(step, size)
            await self.st.send(data[self.sent:self.sent + n])
            self.sent, size = self.sent + n, size - n
            if self.rng.random() < 0.05:
                await pace(self.rng, 0.3)

    def eof(self):
        if not self.st.dead:
            self.ledger.done[self.n].add(self.sent)
            self.st.say("EOF")

    async def answer(self, status, size, declared=None, end=True):
        headers = [] if declared is None else [["content-length", str(declared)]]
        self.head(status, headers)
        if self.rng.random() < 0.2:
            await pace(self.rng, 0.5)
        await self.body(0 if status in (204, 304) or self.st.open.get("method") == "HEAD" else size)
        if end:
            self.eof()

    async def raw(self):
        """Behind a 101: bytes both ways, ended in some order."""
        self.head(101, [["connection", "upgrade"], ["upgrade", dict(map(tuple, self.st.open["headers"])).get("upgrade", "x")]])
        size, st = some_size(self.rng), self.st
        if self.rng.random() < 0.7:
            await self.body(size, RAW)
            self.eof()
        while not st.eof or self.rng.random() < 0.9:
            self.check()
            await st.more()

    async def play(self):
        rng, st = self.rng, self.st
        how = st.side.stage.pick(rng, HOW)
        size = some_size(rng)
        self.ledger.note(self.n, f"scripted driver, stream {st.id}: {how}, {size} bytes")
        declared = size if rng.random() < 0.6 else None
        if self.upgrade and rng.random() < 0.7:
            await self.raw()
        elif how in ("whole", "late"):
            await self.request()
            await pace(rng, 2.0 if how == "late" else 0.02)
            await self.answer(200, size, declared)
        elif how.startswith("early"):
            await self.answer(rng.choice([200, 204, 304, 401, 413, 413, 500]), size, declared, how != "early and dead")
            if how == "early and on":
                await self.request()
        elif how == "reset":
            await pace(rng, 1.0)
        elif how == "half":
            self.head(200, [["content-length", str(size)]] if declared is not None else [])
            await self.body(size // 2)
        elif how == "empty with data":
            self.head(rng.choice([204, 304, 205, 200]), [["content-length", "0"]] if rng.random() < 0.3 else [])
            await st.send(content(self.n, MOST)[:rng.randrange(1, 70000)])
        elif how in ("long", "short"):
            size += 2
            self.head(200, [["content-length", str(size // 2 if how == "long" else size * 2)]])
            await self.body(size)
            st.say("EOF")  # in order, but not as announced: nobody may take a short one for the whole
        elif how == "interim":
            for _ in range(rng.choice([5, 40, 200])):
                self.head(rng.choice(INTERIM), final=False)
            await self.answer(200, size, declared)
        elif how == "twice":
            self.head(200, [["content-length", "2"]])
            self.head(200, [["content-length", "3"]])
        elif how == "bad head":
            self.head(*rng.choice(BAD_HEADS))
        elif how == "no head":
            st.say("EOF")
        elif how == "data first":
            await st.send(content(self.n, 100))
        elif how == "trailers":
            self.head(200)
            await self.body(size)
            st.say(0x41, {"headers": [["x-sum", "1"], ["content-length", "5"]]})
            self.eof()
        if rng.random() < 0.5 and how not in ("never", "whole", "late"):
            await pace(rng, 0.5)
            st.reset(rng.choice([0, 1, 2, 6, 7, 13]))
        if rng.random() < 0.03:
            st.link.put(*(nonsense(rng, [st.id]) for _ in range(3)))
        await pace(rng, 0.5)
        st.give_back()


HOW_PULLED = {"whole": 8, "reset": 1, "early": 2, "cut": 1, "never": 1}


async def pulled(st):
    """Serves one PULL stream: the head says what goes up and what comes down."""
    rng, ledger, number, at = st.side.rng, st.side.ledger, 0, 0
    how = st.side.stage.pick(rng, HOW_PULLED)
    if how == "reset":
        st.reset(6)
        return
    while len(st.data) < PULL_HEAD.size:
        if st.eof:
            st.say("EOF")
            return
        await st.more()
    number, up, down = PULL_HEAD.unpack(st.data[:PULL_HEAD.size])
    st.number = number
    del st.data[:PULL_HEAD.size]

    ledger.note(number, f"scripted driver, stream {st.id}: {how}, {up} up, {down} down")

    async def take():
        nonlocal at
        while True:
            at = ledger.check("driver", number, at, st.data, UP)
            st.data.clear()
            if st.eof:
                ledger.request_ended("driver", number, at)
                return
            if at >= up:
                return
            await st.more()

    if how == "whole":
        await take()
    if how == "never":
        await pace(rng, 2.0)
        return
    await st.send(content(number, MOST)[:down if how != "cut" else down // 2])
    if how == "cut":
        st.reset(rng.choice([2, 6, 7]))
        return
    ledger.done[number].add(down)
    st.say("EOF")
    if how == "early":
        await take()


ACTS = {"bind": 35, "unbind": 8, "ping": 10, "stop reading": 7, "ask for tickets": 6, "lose a secondary": 6, "reset a stream": 4, "nonsense": 2,
        "nothing": 20}


class WireDriver(Side):
    """A driver's session from HELLO to its end; `last` remembers what may be resumed."""

    def __init__(self, stage, rng, kit_port, memory):
        super().__init__(stage, rng)
        self.port, self.memory = kit_port, memory
        self.version = rng.choice(["v1", "v2", "v2"])
        self.batch = rng.choice([1, 1, 60000, 200000])
        self.bound = {}
        self.refs = 0
        self.capabilities = [c for c in ("shard-map", "reissue-tickets", "auto-window", "trailers") if rng.random() < 0.5]
        if self.version == "v2":
            self.capabilities.append("multi-ws")
        self.tickets = []

    def on_frame(self, link, kind, sid, payload):
        name = NAMES.get(kind)
        if kind is None:
            self.lost(link)
        elif sid and sid in self.streams:
            self.stream_frame(name, self.streams[sid], payload)
        elif name == "STREAM_OPEN":
            self.streams[sid] = st = Stream(self, link, sid, json.loads(payload))
            self.ledger.count["streams"] += 1
            self.task(*([Answer(st).play] if st.open.get("kind") == "http" else [pulled, st]))
        elif name == "WINDOW" and sid == 0:
            self.refill(struct.unpack(">I", payload)[0])
        elif name == "DATA":  # for a stream that is gone: the session's credit goes back
            self.owe(len(payload))
        elif name == "PING" and self.rng.random() < 0.97:
            link.say("PONG", 0, payload)
        elif name in ("HELLO_OK", "JOIN_OK", "JOIN_ERR") and not link.hello.done():
            link.hello.set_result((name, json.loads(payload)))
        elif name == "BIND_OK":
            answer = json.loads(payload)
            self.bound[answer["bindId"]] = answer["containerPort"]
        elif name in ("BIND_REVOKED", "UNBIND_OK"):
            self.bound.pop(json.loads(payload)["bindId"], None)
        elif name == "REISSUE_JOIN_TICKETS":
            self.tickets = json.loads(payload).get("joinTickets", [])

    async def connect(self):
        rng = self.rng
        link = Link(await upgrade(self.port, rng, self.version), rng, True, self.on_frame)
        self.links.append(link)
        hello = {"version": f"hoody-tunnel.{self.version}", "capabilities": self.capabilities}
        if self.version == "v2":
            hello["maxConnections"] = rng.randrange(1, 5)
        if self.memory and rng.random() < 0.6:
            hello["resume"] = {"sessionId": rng.choice(self.memory)}
        if rng.random() < 0.5:
            hello["client"] = {"id": f"chaos-{rng.randrange(3)}-0123456789abcdef0123456789abcdef"[:36], "name": "x"}
        link.say("HELLO", 0, hello)
        got = await asyncio.wait_for(link.hello, 5)
        if not got or got[0] != "HELLO_OK":
            raise Over("no HELLO_OK")
        ok = got[1]
        self.stream_window, self.credit = ok["streamWindow"], ok["sessionWindow"]
        self.tickets = ok.get("joinTickets", [])
        self.bound = {b["bindId"]: b["containerPort"] for b in ok.get("resumedBinds", [])}
        self.memory.append(ok["sessionId"])
        del self.memory[:-6]
        self.session = ok["sessionId"]
        for ticket in list(self.tickets):
            if rng.random() < 0.9:
                await self.join(ticket)

    async def join(self, ticket):
        link = Link(await upgrade(self.port, self.rng, "v2"), self.rng, True, self.on_frame)
        self.links.append(link)
        link.say("JOIN", 0, {"sessionId": self.session, "index": ticket["index"], "nonce": ticket["nonce"]})
        await asyncio.wait_for(link.hello, 5)

    def bind(self, ports, pulls):
        self.refs += 1
        expose = self.rng.random() < 0.7 or not pulls
        self.links[0].say("BIND", 0, {
            "clientBindRef": self.refs, "kind": "http" if expose else "tcp", "mode": "expose" if expose else "pull",
            "containerPort": 0 if self.rng.random() < 0.05 else self.rng.choice(ports if expose else pulls),
            **({"takeover": True} if expose and self.rng.random() < 0.6 else {})})

    async def act(self, ports, pulls):
        """One thing that a driver does of its own will."""
        rng, first, how = self.rng, self.links[0], self.stage.pick(self.rng, ACTS)
        if how == "bind":
            self.bind(ports, pulls)
        elif how == "unbind" and self.bound:
            first.say("UNBIND", 0, {"bindId": rng.choice(list(self.bound))})
        elif how == "ping":
            first.say("PING", 0, rng.randbytes(8))
        elif how == "stop reading":
            link = rng.choice(self.links)
            link.going.clear()
            await pace(rng, 1.5)
            link.going.set()
        elif how == "ask for tickets" and self.version == "v2":
            first.say("REISSUE_JOIN_TICKETS", 0, {"indexes": rng.sample(range(1, 5), rng.randrange(1, 4))})
            await pace(rng, 0.2)
            if self.tickets:
                await self.join(rng.choice(self.tickets))
        elif how == "lose a secondary" and len(self.links) > 1:
            await rng.choice(self.links[1:]).leave(rng.choice(["reset", "fin", "drop", 1000, 1011]))
        elif how == "reset a stream" and self.streams:
            rng.choice(list(self.streams.values())).reset(rng.choice([0, 1, 6, 7, 13]))
        elif how == "nonsense":
            rng.choice(self.links).put(*(nonsense(rng, list(self.streams)) for _ in range(rng.randrange(1, 4))))
        await pace(rng, 0.3)


async def drive(rng, stage, kit_port, memory, ports, pulls):
    """A driver's life; the next one may resume its session, or that of another."""
    driver = WireDriver(stage, rng, kit_port, memory)
    how = rng.choice(["reset", "reset", "fin", "drop", 1000, None, 1001, 1011, "goaway"])
    try:
        await driver.connect()
        for _ in range(rng.randrange(1, 8)):
            driver.bind(ports, pulls)
        for _ in range(rng.choice([5, 40, 200])):
            await driver.act(ports, pulls)
            if driver.links[0].over:
                break
        if how == "goaway":
            driver.links[0].say("GOAWAY", 0, {"code": 0, "message": "bye", "lastStreamId": 0, "retryAfterMs": 0})
            await driver.links[0].drained()
    finally:
        await driver.end("drop" if how == "goaway" else how)
