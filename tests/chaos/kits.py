"""Kits at the level of the wire, for real drivers: they grant what they like, open streams of every kind, and break links."""

import asyncio
import itertools
import json
import struct

from conformance.lib import ws
from tests.chaos.drivers import NAMES, PULL_HEAD, Side, Stream
from tests.chaos.play import DOWN, RAW, UP, Over, pace, some_size
from tests.chaos.wire import Link, frame, js, nonsense
from tests.faults.transfer import MOST, content

KINDS = {"get": 30, "length": 20, "chunked": 15, "head": 4, "upgrade": 8, "lie": 4, "odd": 4}
ENDS = {"whole": 20, "reset": 3, "short": 3, "early end": 2, "flee": 3}
ACTS = {"http": 60, "tcp": 20, "nothing": 10, "ping": 4, "stop reading": 3, "reset a stream": 4, "revoke": 1, "nonsense": 1, "lose a secondary": 2,
        "goaway": 1, "cut": 2, "many": 3}
GREETS = {"welcome": 40, "refuse": 2, "hang": 1, "cut": 2, "goaway": 1, "odd": 1}
FIRST_WORDS = [b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
               b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nportal", b"\x15\x03\x01"]


class Session(Side):
    """A session at a scripted kit."""

    def __init__(self, hub, rng, version):
        super().__init__(hub.stage, rng)
        self.hub, self.version = hub, version
        self.id = f"S-{rng.getrandbits(128):032x}"
        self.batch = rng.choice([1, 60000])
        self.stream_window = rng.choice([65536, 65536, 300000, 1 << 20, 1 << 24])
        self.session_window = self.credit = rng.choice([65536, 1 << 20, 1 << 24])
        self.binds, self.ids, self.bind_ids = {}, itertools.count(2, 2), itertools.count(1)
        self.tickets = {}

    def on_frame(self, link, kind, sid, payload):
        name = NAMES.get(kind)
        if kind is None:
            self.lost(link)
        elif sid in self.streams:
            st = self.streams[sid]
            if name == "STREAM_RESPONSE_HEAD":
                st.heads.append(json.loads(payload))
                st.wake()
            else:
                self.stream_frame(name, st, payload)
        elif name == "WINDOW" and sid == 0:
            self.refill(struct.unpack(">I", payload)[0])
        elif name == "DATA":
            self.owe(len(payload))
        elif name == "PING" and self.rng.random() < 0.97:
            link.say("PONG", 0, payload)
        elif name == "BIND":
            self.bind(link, json.loads(payload))
        elif name == "UNBIND":
            link.say("UNBIND_OK", 0, {"bindId": json.loads(payload)["bindId"]})
        elif name == "REISSUE_JOIN_TICKETS":
            link.say("REISSUE_JOIN_TICKETS", 0, {"joinTickets": self.new_tickets(json.loads(payload).get("indexes", []))})

    def new_tickets(self, indexes):
        for index in indexes:
            self.tickets[index] = f"{self.rng.getrandbits(64):x}"
        return [{"index": i, "nonce": self.tickets[i], "expiresMs": 5000} for i in indexes]

    def bind(self, link, bind):
        if self.rng.random() < 0.02 and not self.hub.calm:
            link.say("BIND_ERR", 0, {"clientBindRef": bind["clientBindRef"], "code": self.rng.choice(["ALREADY_BOUND", "PORT_IN_USE"]),
                                     "message": "not now\x1b[31m"})
            return
        n = next(self.bind_ids)
        port = bind.get("containerPort") or self.rng.randrange(20000, 60000)
        self.binds[n] = (bind["kind"], port)
        link.say("BIND_OK", 0, {"clientBindRef": bind["clientBindRef"], "bindId": n, "containerPort": port, "publicUrl": None})

    def welcome(self, link, hello):
        rng, resumed = self.rng, False
        asked = (hello.get("resume") or {}).get("sessionId")
        granted = min(hello.get("maxConnections") or 1, 4 if self.hub.calm else rng.randrange(1, 5)) if self.version == "v2" else 1
        capabilities = [c for c in hello.get("capabilities", []) if c != "stream-resume" and rng.random() < 0.7]
        if asked and asked in self.hub.parked and rng.random() < 0.8:
            resumed, self.id = True, asked
            self.binds = dict(self.hub.parked[asked])
            self.bind_ids = itertools.count(max(self.binds, default=0) + 1)
        link.say("HELLO_OK", 0, {
            "sessionId": self.id, "resumed": resumed,
            "resumedBinds": [{"bindId": n, "kind": kind, "mode": "expose" if kind == "http" else "pull", "containerPort": port}
                             for n, (kind, port) in self.binds.items()],
            "streamWindow": self.stream_window, "sessionWindow": self.session_window, "connectionsGranted": granted,
            "joinTickets": self.new_tickets(range(1, granted)), "capabilities": capabilities,
            **({"maxStreams": rng.choice([4, 1024, 4000000000])} if rng.random() < 0.7 else {})})
        self.hub.parked[self.id] = self.binds

    # ---- streams ----

    def open(self, kind, bind, more):
        link = self.rng.choice(self.links)
        if link.over:
            return None
        st = Stream(self, link, next(self.ids), more)
        st.heads = []
        self.streams[st.id] = st
        self.ledger.count["streams"] += 1
        st.say("STREAM_OPEN", {"kind": kind, "bindId": bind, "containerPort": self.binds[bind][1], "peerAddr": "10.0.0.1:5", **more})
        return st

    async def http(self, bind):
        rng, ledger, n = self.rng, self.ledger, self.ledger.number()
        kind = self.stage.pick(rng, KINDS)
        size = some_size(rng) if kind in ("length", "chunked", "lie") else 0
        headers = [["host", "chaos"], ["x-y", "z" * rng.choice([1, 100, 2000])]]
        if kind in ("length", "lie"):
            headers.append(["content-length", str(size if kind == "length" else size + 10)])
        elif kind == "chunked":
            headers.append(["transfer-encoding", "chunked"])
        elif kind == "upgrade":
            headers += [["connection", "upgrade"], ["upgrade", rng.choice(["websocket", "tcp"])]]
        elif kind == "odd":
            headers.append(rng.choice([["a b", "c"], ["x", "a\r\nb"], ["content-length", "nine"], ["connection", "close, x-y"], ["x", "\u1234\x00"]]))
        method = "HEAD" if kind == "head" else "GET" if not size else "POST"
        st = self.open("http", bind, {"method": method, "target": f"/t?n={n}&s=0", "headers": headers, "isUpgrade": kind == "upgrade"})
        if kind not in ("length", "chunked", "lie"):
            ledger.sent[n] = 0  # nothing has to come behind such a head
        if st:
            await self.both(st, (self.send, st, n, size, kind), (self.take, st, n, method))

    async def tcp(self, bind):
        n, up, down = self.ledger.number(), some_size(self.rng), some_size(self.rng)
        st = self.open("tcp", bind, {})
        if st:
            st.heads.append(None)
            await st.send(PULL_HEAD.pack(n, up, down))
            await self.both(st, (self.send, st, n, up, "tcp"), (self.bytes, st, n, DOWN))

    async def both(self, st, sending, taking):
        tasks = [self.task(*sending), self.task(*taking)]
        await asyncio.wait(tasks, timeout=6)
        for task in tasks:
            task.cancel()
        if not st.dead:
            st.reset(7)

    async def send(self, st, n, size, kind):
        rng, at, data = self.rng, 0, content(n, MOST, UP)
        how = self.stage.pick(rng, ENDS)
        st.number = n
        self.ledger.note(n, f"scripted kit, stream {st.id}: {kind}, {size} bytes, {how}")
        upto = size if how == "whole" else size * 2 // 3
        step = rng.choice([1000, 30000, 1 << 22])
        if (how == "whole" or kind == "length" and not size) and kind != "lie":
            self.ledger.sent[n] = size  # its length says so before its EOF does
        while at < upto:
            await st.send(data[at:at + min(step, upto - at)])
            at += min(step, upto - at)
            if rng.random() < 0.1:
                await pace(rng, 0.5)
        if kind == "upgrade":
            st.say("EOF")
            while not st.heads or st.heads[-1]["status"] < 200 and st.heads[-1]["status"] != 101:
                await st.more()
            return
        if how in ("reset", "flee"):
            await pace(rng, 0.5)
            st.reset(rng.choice([0, 7, 13]))
        elif how == "early end" and kind in ("length", "lie"):
            st.say("EOF")  # in order, but the length says that something is missing
        elif how in ("whole", "early end") and kind != "lie":
            self.ledger.sent[n] = at
            st.say("EOF")

    async def take(self, st, n, method):
        while not st.heads or 100 <= st.heads[-1]["status"] < 200 and st.heads[-1]["status"] != 101:
            if st.eof:
                self.ledger.found(f"kit: transfer {n}: an end without a head")
            await st.more()
        head = st.heads[-1]
        fields = {name.lower(): value for name, value in head.get("headers", [])}
        self.ledger.count[str(head["status"])] += 1
        if fields.get("x-n") != str(n):
            self.ledger.found(f"kit: transfer {n} got the head of {fields.get('x-n')}: {head}")
        if method != "HEAD":
            await self.bytes(st, n, RAW if head["status"] == 101 else DOWN)

    async def bytes(self, st, n, salt):
        at = 0
        while True:
            at = self.ledger.check("kit", n, at, st.data, salt)
            st.data.clear()
            if st.eof:
                self.ledger.answer_ended("kit", n, at)
                return
            await st.more()
            if self.rng.random() < 0.02:
                await pace(self.rng, 0.5)
                st.give_back()

    async def act(self):
        rng, how = self.rng, self.stage.pick(self.rng, ACTS)
        first = self.links[0]
        binds = list(self.binds)
        if how in ("http", "tcp", "many") and binds:
            for _ in range(rng.randrange(10, 60) if how == "many" else 1):
                bind = rng.choice(binds)
                self.task(self.http if self.binds[bind][0] == "http" else self.tcp, bind)
        elif how == "ping":
            first.say("PING", 0, rng.randbytes(8))
        elif how == "stop reading":
            first.going.clear()
            await pace(rng, 1.5)
            first.going.set()
        elif how == "reset a stream" and self.streams:
            rng.choice(list(self.streams.values())).reset(rng.choice([0, 6, 7, 13]))
        elif how == "revoke" and len(binds) > 1:
            bind = rng.choice(binds)
            del self.binds[bind]
            first.say("BIND_REVOKED", 0, {"bindId": bind, "reason": "taken \x07"})
        elif how == "nonsense":
            rng.choice(self.links).put(*(nonsense(rng, list(self.streams)) for _ in range(rng.randrange(1, 4))))
        elif how == "lose a secondary" and len(self.links) > 1:
            await rng.choice(self.links[1:]).leave(rng.choice(["reset", "fin", 1000]))
        elif how == "goaway":
            code, message = rng.choice([(0, "restarting"), (10, "pong timeout"), (14, "tunnel session limit reached"), (2, "x" * 500), (1, "no")])
            first.say("GOAWAY", 0, {"code": code, "message": message, "lastStreamId": 0, "retryAfterMs": rng.choice([0, 100])})
            await pace(rng, 0.3)
            return False
        elif how == "cut":
            return False
        await pace(rng, 0.1)
        return not first.over

    async def live(self):
        while await self.act():
            pass


class Hub:
    """Where a real driver dials: whatever sessions it gets there. `calm`: only good ones, without streams."""

    def __init__(self, stage, name):
        self.stage, self.name, self.calm = stage, name, False
        self.turn, self.parked, self.sessions = itertools.count(), {}, {}
        self.bound = asyncio.Event()

    async def serve(self, sock):
        rng = self.stage.rng(self.name, next(self.turn))
        head = (await asyncio.wait_for(sock.until(b"\r\n\r\n"), 5)).decode("latin-1")
        fields = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in head.split("\r\n")[1:] if line)}
        how = "welcome" if self.calm else self.stage.pick(rng, GREETS)
        if how == "odd":
            await sock.send(rng.choice(FIRST_WORDS))
        if how in ("odd", "cut"):
            return
        if how == "hang":
            await pace(rng, 3.0)
            return
        offered = fields.get("sec-websocket-protocol", "").split(",")[0].strip()
        await sock.send(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        f"Sec-WebSocket-Accept: {ws.accept_key(fields['sec-websocket-key'])}\r\nSec-WebSocket-Protocol: {offered}\r\n\r\n".encode())
        begun = asyncio.get_running_loop().create_future()
        owner = None

        def on_frame(link, kind, sid, payload):
            if owner:
                owner.on_frame(link, kind, sid, payload)
            elif not begun.done():
                begun.set_result((NAMES.get(kind), payload))

        link = Link(sock, rng, False, on_frame)
        try:
            name, payload = await asyncio.wait_for(begun, 5)
            if name == "JOIN":
                owner = await self.join(link, json.loads(payload))
            elif name == "HELLO":
                if how == "refuse":
                    link.raw(ws.build(ws.CLOSE, ws.close_payload(rng.choice([1002, 1008, 1013]), "no"), mask=False))
                elif how == "goaway":
                    link.say("GOAWAY", 0, {"code": 14, "message": "tunnel session limit reached", "lastStreamId": 0, "retryAfterMs": 0})
                else:
                    owner = Session(self, rng, offered[-2:])
                    owner.links.append(link)
                    self.sessions[owner.id] = owner
                    owner.welcome(link, json.loads(payload))
                    self.sessions[owner.id] = owner
                    await self.host(owner, link, rng)
            await link.drained()
        finally:
            if owner and owner.links and owner.links[0] is link:
                await owner.end(rng.choice(["reset", "fin", "drop", 1000, 1001, 1011, None]) if not self.calm else "reset")
                if self.sessions.get(owner.id) is owner:
                    del self.sessions[owner.id]
            else:
                await link.leave("drop")

    async def host(self, session, link, rng):
        if self.calm:
            while not session.binds:
                await asyncio.sleep(0.01)
            self.bound.set()
            while not link.over:
                await asyncio.sleep(0.05)
            return
        await session.live()

    async def join(self, link, join):
        session = self.sessions.get(join["sessionId"])
        if not session or session.tickets.pop(join["index"], None) != join["nonce"]:
            link.say("JOIN_ERR", 0, {"code": "INVALID_TICKET", "message": "no"})
            return None
        link.put(frame("JOIN_OK", 0, js({"index": join["index"]})))
        session.links.append(link)
        while not link.over:
            await asyncio.sleep(0.05)
        return session
