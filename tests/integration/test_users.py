"""Users: whoever shows a token of theirs sees and touches what is theirs, and nothing else, whatever they try."""

import hashlib
import http.client
import itertools
import json
import os
import re
import signal
import socket
import struct

from conformance.lib import ws
from conformance.lib.wire import codec
from tests.integration import vtunnel_peer
from tests.integration.harness import BIN, Driver, Folder, Kit, Moment, Program, Tunnel, command, connect, eventually, free_port
from tests.support.tap import case, main

T = codec.NUMBERS
NAMES = {number: name for name, number in T.items()}
DOMAIN = "tunnel.localhost"
TOKENS = {name: f"ht_{name}{'x' * 40}" for name in ("ann", "bob", "root")}
BOBS = range(20100, 20200)  # what "ports: [20100-20199]" lets bob have


def digest(token):
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()


def users_file(folder, users=("ann", "bob", "root"), more="", each="", tokens=TOKENS):
    """`more`: lines of bob's. `each`: lines of all who are no admin."""
    path = folder.join("users.yaml")
    lines = ["users:"]
    for name in users:
        lines += [f"  - name: {name}", f"    tokens: [{digest(tokens[name])}]", "    admin: true" if name == "root" else each,
                  more if name == "bob" else ""]
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(line for line in lines if line) + "\n")
    return path


class Peer:
    """A driver that says exactly what it is told to."""

    def __init__(self, kit, user=None, version="v1"):
        self.socket = connect(kit.port)
        self.reader, self.frames, self.over = ws.Reader(masked=False), [], None
        self.stream = 0  # of the last frame
        auth = f"Authorization: Bearer {TOKENS.get(user, user)}\r\n" if user else ""
        self.socket.sendall(f"GET {codec.CONNECT_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {ws.new_key()}\r\n{auth}"
                            f"Sec-WebSocket-Protocol: hoody-tunnel.{version}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.socket.recv(1)
        self.status = int(head.split()[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def say(self, name, payload, stream=0):
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.socket.sendall(ws.build(ws.BINARY, codec.raw_frame(T[name], stream, body)))

    def next(self):
        """(name, payload) of the next frame that is no PING or WINDOW; ("close", code) at the end."""
        while True:
            while self.frames:
                name, self.stream, payload = self.frames.pop(0)
                if name not in ("PING", "WINDOW"):
                    return name, payload
            if self.over:
                return self.over
            data = self.socket.recv(65536)
            if not data:
                self.over = ("close", None)
            for event in self.reader.feed(data) if data else []:
                if event[0] == "close":
                    self.over = ("close", event[1])
                elif event[0] == "message":
                    at = 0
                    while at + 9 <= len(event[2]):
                        kind, stream, size = struct.unpack_from(">BII", event[2], at)
                        body = event[2][at + 9:at + 9 + size]
                        self.frames.append((NAMES.get(kind, kind), stream, json.loads(body) if body[:1] == b"{" else body))
                        at += 9 + size

    def expect(self, name):
        got, payload = self.next()
        assert got == name, f"{got} {payload!r:.400} instead of {name}"
        return payload

    def hello(self, version="v1", **more):
        self.say("HELLO", {"version": f"hoody-tunnel.{version}", **more})
        return self.expect("HELLO_OK")

    def leave(self):
        """Says goodbye, so that nothing parks."""
        self.say("GOAWAY", {"code": 0, "message": "", "lastStreamId": 0, "retryAfterMs": 0})

    def bind(self, port=0, mode="expose", **more):
        kind = "http" if mode == "expose" else "tcp"
        self.say("BIND", {"clientBindRef": 1, "kind": kind, "mode": mode, "containerPort": port, **more})
        return self.next()


def session(kit, user, version="v1", **more):
    peer = Peer(kit, user, version)
    assert peer.status == 101, peer.status
    peer.ok = peer.hello(version, **more)
    peer.id = peer.ok["sessionId"]
    return peer


def ask(kit, user, method, path):
    connection = http.client.HTTPConnection("127.0.0.1", kit.port, timeout=20)
    connection.request(method, "/api/v1/tunnel" + path, headers={"Authorization": f"Bearer {TOKENS[user]}"} if user else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, json.loads(body) if answer.getheader("Content-Type", "").startswith("application/json") else body.decode()


def users_kit(folder, *args, **more):
    return Kit("--users", users_file(folder, **more), *args)


def public_kit(folder, *args, **more):
    """One with names on a public port, which is its `public`. Each user may have all of them, and own domains."""
    domain = DOMAIN.title() + "."  # spelled as nobody else spells it
    kit = users_kit(folder, "--public", "127.0.0.1:0", "--domain", domain, *args, **{"each": '    names: ["*", "*.example.org"]', **more})
    kit.public = int(re.search(r"public on http://127\.0\.0\.1:(\d+)", kit.text()).group(1))
    return kit


def visit(kit, host):
    """A request for a host of the public port; the visitor's connection."""
    visitor = connect(kit.public)
    visitor.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    return visitor


def status_of(kit, host):
    with visit(kit, host) as visitor:
        return int(visitor.recv(4096).split()[1])


def comes_to(kit, host, peer):
    """A visitor of the host comes to this session, whatever else it was told before. (The visitor, the stream's id.)"""
    visitor = visit(kit, host)
    while peer.next()[0] != "STREAM_OPEN":
        assert not peer.over, f"{host} does not come to {peer.id}: {peer.over}"
    return visitor, peer.stream


CLIENT = {"id": "same-for-both-and-guessed-0123456789"}
NAMED = {"capabilities": ["client", "names"], "client": CLIENT}
CA = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


def hosted(name, **more):
    """HELLO of a driver with that name. Its client id is no secret here."""
    return {"capabilities": ["client", "hosts", "handover"], "client": {"id": f"the client id of {name:_<20}", "name": name}, **more}


class Owner:
    """What somebody has: a live session with a port and a name, one that is parked, and one with several sockets; and hosts of
    the public port, of a live session and of one that is parked."""

    def __init__(self, kit, user):
        self.user = user
        self.live = session(kit, user, **NAMED)
        name, ok = self.live.bind()
        assert name == "BIND_OK", ok
        self.port = ok["containerPort"]
        name, ok = self.live.bind(mode="pull", portless=True, names=[f"{user}.example:5432"])
        assert name == "BIND_OK", ok
        with session(kit, user) as gone:
            name, ok = gone.bind()
            assert name == "BIND_OK", ok
            self.parked, self.parked_port = gone.id, ok["containerPort"]
        eventually(lambda: any(s["sessionId"] == self.parked and s["parked"] for s in ask(kit, user, "GET", "/sessions")[1]["sessions"]), "it parks")
        self.v2 = session(kit, user, "v2", maxConnections=2, capabilities=["multi-ws", "reissue-tickets"])
        self.named = session(kit, user, **hosted(user))
        self.name, self.hostname, self.away = f"app-of-{user}", f"{user}.example.org", f"away-of-{user}"
        name, self.bound = self.named.bind(name=self.name, hostnames=[self.hostname])
        assert name == "BIND_OK" and len(self.bound["urls"]) == 3, self.bound
        self.hosts = [re.match(r"http://([^:/]+):", url).group(1) for url in self.bound["urls"]]
        with session(kit, user, **hosted(user)) as gone:
            name, ok = gone.bind(name=self.away)
            assert name == "BIND_OK", ok
            self.parked_named = gone.id
        eventually(lambda: self.parked_named in {s["sessionId"] for s in ask(kit, user, "GET", "/sessions")[1]["sessions"] if s["parked"]}, "it parks")
        self.ids = {self.live.id, self.parked, self.v2.id, self.named.id, self.parked_named}

    def ticket(self):
        return self.v2.ok["joinTickets"][0]["nonce"]

    def close(self):
        for peer in (self.live, self.v2, self.named):
            peer.__exit__()


def resumes_nothing(kit, by, of, which, **more):
    with Peer(kit, by) as p:
        ok = p.hello(resume={"sessionId": which}, **more)
        return not ok["resumed"] and not ok["resumedBinds"] and ok["sessionId"] not in of.ids


def resume_live(kit, by, of):
    return all(resumes_nothing(kit, by, of, which) for which in (of.live.id, of.v2.id, of.named.id))


def resume_parked(kit, by, of):
    return all(resumes_nothing(kit, by, of, which) for which in (of.parked, of.parked_named))


def resume_as_the_same_driver(kit, by, of):
    return all(resumes_nothing(kit, by, of, which, **hosted(of.user)) for which in (of.named.id, of.parked_named))


def join(kit, by, of):
    with Peer(kit, by, "v2") as p:
        p.say("JOIN", {"sessionId": of.v2.id, "index": 1, "nonce": "0" * 32})
        return p.expect("JOIN_ERR")["code"] == "UNKNOWN_SESSION"


def join_with_its_ticket(kit, by, of):
    with Peer(kit, by, "v2") as p:
        p.say("JOIN", {"sessionId": of.v2.id, "index": 1, "nonce": of.ticket()})
        return p.expect("JOIN_ERR")["code"] == "UNKNOWN_SESSION"


def bind_as(kit, by, of, port, **more):
    """The refusal of a port that another program has, word for word."""
    with socket.create_server(("127.0.0.1", 0)) as foreign, session(kit, by, **NAMED) as p:
        number = foreign.getsockname()[1]
        other, why = p.bind(number, **more)
        name, err = p.bind(port, **more)
        assert other == "BIND_ERR" and why["code"] == "PORT_IN_USE", why
        return name == "BIND_ERR" and err["code"] == "PORT_IN_USE" and err["message"] == why["message"].replace(str(number), str(port))


def bind_port(kit, by, of):
    return bind_as(kit, by, of, of.port)


def bind_parked(kit, by, of):
    return bind_as(kit, by, of, of.parked_port)


def takeover(kit, by, of):
    return bind_as(kit, by, of, of.port, takeover=True) and bind_as(kit, by, of, of.parked_port, takeover=True)


def same_client(kit, by, of):
    """Its client id, with which one's own next process would get the port of a parked session at once."""
    return bind_as(kit, by, of, of.parked_port)


def same_name(kit, by, of):
    """Names for the proxy are each user's own: what another has is free."""
    with session(kit, by, capabilities=["names"]) as p:
        name, answer = p.bind(mode="pull", portless=True, names=[f"{of.user}.example:5432"])
        return name == "BIND_OK" and answer["containerPort"] == 0


def host_is_taken(kit, by, host, hello, **more):
    """Somebody may be reached there, as anybody can see; whose it is and since when is not told."""
    with session(kit, by, **hello) as p:
        name, err = p.bind(**more)
        return name == "BIND_ERR" and err["code"] == "NAME_IN_USE" and err["message"] == f"{host} is another user's"


def bind_hosts(kit, by, of):
    """Its names and own domains, live and parked, in any spelling, with takeover, as the driver that holds them (whose name is taken)."""
    asked = [(f"{of.name}.{DOMAIN}", {"name": of.name}), (f"{of.name}.{DOMAIN}", {"name": of.name.upper()}),
             (of.hostname, {"hostnames": [of.hostname]}), (of.hostname, {"hostnames": [of.hostname.upper() + "."]}),
             (f"{of.away}.{DOMAIN}", {"name": of.away})]
    return all(host_is_taken(kit, by, host, hosted(by), takeover=takeover, **more) for host, more in asked for takeover in (False, True))


def drivers_name(kit, by, of):
    """Its driver's name, with its client id, and what a next port of it would be called."""
    for hello, more in ((hosted(of.user), {}), (hosted(of.user.upper()), {}), (hosted(by), {"name": f"{of.user}-4000"})):
        for takeover in (False, True):
            with session(kit, by, **hello) as p:
                name, err = p.bind(takeover=takeover, **more)
                if name != "BIND_ERR" or err["code"] != "NAME_IN_USE" or any(i in err["message"] for i in of.ids):
                    return False
    return True


def host_of_a_port(kit, by, of):
    """A driver without a name gets hosts of ports: another one's port is refused before its host is looked at."""
    port = int(re.match(r".*-(\d+)\.", of.hosts[-1]).group(1))
    return bind_as(kit, by, of, port) and bind_as(kit, by, of, port, takeover=True)


def unbind(kit, by, of):
    """Bindings are counted by session, so the number of another one's is nobody's."""
    with session(kit, by) as p:
        p.say("UNBIND", {"bindId": of.bound["bindId"]})
        return p.next()[0] == "UNBIND_ERR"


def kill_live(kit, by, of):
    return all(killed_is_absent(kit, by, which) for which in (of.live.id, of.v2.id, of.named.id))


def killed_is_absent(kit, by, which):
    status, body = ask(kit, by, "DELETE", f"/sessions/{which}")
    absent, said = ask(kit, by, "DELETE", "/sessions/S-00000000-0000-4000-8000-000000000000")
    return (status, absent) == (404, 404) and body["error"].replace(which, "") == said["error"].replace(
        "S-00000000-0000-4000-8000-000000000000", "")


def kill_parked(kit, by, of):
    return all(killed_is_absent(kit, by, which) for which in (of.parked, of.parked_named))


def lists(kit, by, of):
    shown = ""
    for path in ("/tunnels", "/sessions", "/bindings", "/status"):
        status, body = ask(kit, by, "GET", path)
        assert status == 200, body
        shown += json.dumps(body)
    return not any(what in shown for what in (*of.ids, *of.hosts, of.name, of.away, f'"port": {of.port},', f'"port": {of.parked_port},'))


def totals(kit, by, of):
    """The sums are of what is shown, too."""
    body = ask(kit, by, "GET", "/tunnels")[1]
    n = sum(len(s["exposeBindings"]) + len(s["pullBindings"]) for s in body["sessions"])
    own = ask(kit, by, "GET", "/bindings")[1]["total"]
    return own >= n and body["totalBindings"] == own


def metrics(kit, by, of):
    return ask(kit, by, "GET", "/metrics")[0] == 403


def certificates(kit, by, of):
    return ask(kit, by, "GET", "/ca.pem")[0] == 404


ATTACKS = [resume_live, resume_parked, resume_as_the_same_driver, bind_hosts, drivers_name, host_of_a_port, unbind, join, join_with_its_ticket, bind_port, bind_parked, takeover, same_client, same_name, kill_live, kill_parked,
           lists, totals, metrics, certificates]


@case("two users and every operation: what another one has is not there")
def _():
    with Folder() as folder:
        kit = public_kit(folder, "--max-sessions", "256", "--connect-proxy", "127.0.0.1:0")
        owners = {name: Owner(kit, name) for name in ("ann", "bob")}
        assert owners["ann"].live.ok["user"] == "ann" and owners["bob"].live.ok["user"] == "bob"
        missed = []
        for (by, of), attack in itertools.product([("ann", "bob"), ("bob", "ann")], ATTACKS):
            if not attack(kit, by, owners[of]):
                missed.append(f"{attack.__name__} by {by} on {of}")
        assert not missed, missed
        for name, owner in owners.items():  # and nothing of it was lost: each may do all that with what is theirs
            assert {s["sessionId"] for s in ask(kit, name, "GET", "/sessions")[1]["sessions"]} >= owner.ids
            for host in owner.hosts:
                comes_to(kit, host, owner.named)[0].close()
            assert status_of(kit, f"{owner.away}.{DOMAIN}") == 503, "parked, and nobody else's"
            with Peer(kit, name) as p:
                ok = p.hello(resume={"sessionId": owner.parked_named}, **hosted(name))
                assert ok["resumed"] and len(ok["resumedBinds"]) == 1
                p.id = ok["sessionId"]
                comes_to(kit, f"{owner.away}.{DOMAIN}", p)[0].close()
            with Peer(kit, name, "v2") as p:
                p.say("JOIN", {"sessionId": owner.v2.id, "index": 1, "nonce": owner.ticket()})
                p.expect("JOIN_OK")
            with Peer(kit, name) as p:
                assert p.hello(resume={"sessionId": owner.parked})["resumed"]
                assert ask(kit, name, "DELETE", f"/sessions/{owner.parked}")[0] == 202
            assert ask(kit, name, "DELETE", f"/sessions/{owner.live.id}")[0] == 202
            assert ask(kit, "root", "DELETE", f"/sessions/{owner.v2.id}")[0] == 202, "an admin may"
        assert ask(kit, "root", "GET", "/metrics")[0] == 200
        for owner in owners.values():
            owner.close()
        kit.end()


@case("a name and its URL stay with their driver, parked, resumed, handed over and taken over; another user never gets them")
def _():
    def nobody_else_gets_it():
        owner = type("Owner", (), {"user": "ann", "name": "shop", "away": "shop", "hostname": "ann.example.org", "ids": {first.id}})
        assert bind_hosts(kit, "bob", owner) and drivers_name(kit, "bob", owner)

    def is_reached(peer):
        return [comes_to(kit, host, peer) for host in (f"shop.{DOMAIN}", f"ann-3000.{DOMAIN}", "ann.example.org")]

    def has_urls():
        shown = [b for b in ask(kit, "ann", "GET", "/bindings")[1]["bindings"] if b["port"] == 3000]
        assert [(b["url"], b["hosts"]) for b in shown] == [(url, ["ann.example.org", f"shop.{DOMAIN}", f"ann-3000.{DOMAIN}"])], shown

    ask_for = {"port": 3000, "name": "shop", "hostnames": ["ann.example.org"]}
    with Folder() as folder:
        kit = public_kit(folder, "--no-ports", "--session-streams", "6")
        first = session(kit, "ann", **hosted("ann"))
        name, bound = first.bind(**ask_for)
        assert name == "BIND_OK", bound
        url = bound["publicUrl"]
        nobody_else_gets_it()
        first.__exit__()
        eventually(lambda: ask(kit, "ann", "GET", "/tunnels")[1]["orphanedSessions"] == 1, "it parks")
        has_urls()
        nobody_else_gets_it()
        assert status_of(kit, f"shop.{DOMAIN}") == 503
        second = session(kit, "ann", **hosted("ann", resume={"sessionId": first.id}))
        assert second.ok["resumed"] and second.id == first.id and second.ok["resumedBinds"][0]["bindId"] == bound["bindId"]
        has_urls()
        visitors = is_reached(second) + is_reached(second)  # the last streams that it may have
        assert second.expect("GOAWAY")["message"] == codec.GOAWAYS["RESTARTING"][1]
        waiting = visit(kit, f"shop.{DOMAIN}")
        nobody_else_gets_it()
        third = session(kit, "ann", **hosted("ann", resume={"sessionId": second.id}))
        assert third.ok["resumed"] and third.id != second.id and third.ok["resumedBinds"][0]["bindId"] == bound["bindId"]
        assert third.expect("STREAM_OPEN")["bindId"] == bound["bindId"]
        has_urls()
        nobody_else_gets_it()
        for visitor in (waiting, *(v for v, _ in visitors)):
            visitor.close()
        with session(kit, "ann", **hosted("ann")) as fourth:
            name, again = fourth.bind(takeover=True, **ask_for)
            assert name == "BIND_OK" and again["urls"] == bound["urls"] and again["publicUrl"] == url, again
            has_urls()
            nobody_else_gets_it()
            for visitor, _ in is_reached(fourth):
                visitor.close()
            while (told := third.next()[0]) != "BIND_REVOKED":
                assert told in ("EOF", "RESET"), told
        third.__exit__()
        kit.end()


@case("who somebody is: the upgrade or HELLO, no other token beside it, and JOIN without one by its ticket alone")
def _():
    with Folder() as folder:
        kit = users_kit(folder)
        assert ask(kit, None, "GET", "/sessions")[0] == 401 and ask(kit, None, "GET", "/health")[0] == 200
        assert Peer(kit, "x" * 40).status == 401
        with Peer(kit) as p:
            p.say("HELLO", {"version": "hoody-tunnel.v1"})
            assert p.expect("GOAWAY")["code"] == 11 and p.next() == ("close", 1008)
        with Peer(kit) as p:
            assert p.hello(auth={"kind": "bearer", "token": TOKENS["bob"]})["user"] == "bob"
        with Peer(kit, "ann") as p:
            assert p.hello(auth={"kind": "bearer", "token": "of the edge before the kit"})["user"] == "ann"
        with Peer(kit, "ann") as p:
            p.say("HELLO", {"version": "hoody-tunnel.v1", "auth": {"kind": "bearer", "token": TOKENS["bob"]}})
            assert p.expect("GOAWAY")["code"] == 11
        with session(kit, "ann", "v2", maxConnections=2, capabilities=["multi-ws"]) as s:
            ticket = {"sessionId": s.id, "index": 1}
            with Peer(kit, None, "v2") as p:
                p.say("JOIN", {**ticket, "nonce": "0" * 32})
                assert p.expect("JOIN_ERR")["code"] == "UNKNOWN_SESSION"
            with Peer(kit, None, "v2") as p:
                p.say("JOIN", {**ticket, "nonce": s.ok["joinTickets"][0]["nonce"]})
                p.expect("JOIN_OK")
        kit.end()


class Reader:
    """Reads events."""

    def __init__(self, kit, user):
        self.socket = connect(kit.port)
        self.socket.sendall(f"GET /api/v1/tunnel/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKENS[user]}\r\n\r\n".encode())
        self.text = ""
        while "events\n\n" not in self.text:
            self.more()

    def more(self):
        data = self.socket.recv(65536)
        self.text += data.decode()
        return data

    def until(self, words):
        while words not in self.text:
            assert self.more(), self.text
        return self.text


@case("clients of vtunnel's JSON are users too: by header or URL, each with ports, names and lists of their own, until they are taken away")
def _():
    def client(user, how="header"):
        where = {"headers": [f"Authorization: Bearer {TOKENS[user]}"]} if how == "header" else {"path": f"/?token={TOKENS[user]}"}
        return vtunnel_peer.Client(kit.port, **where)

    def refusal(c, port):
        c.say(type="listen", port=port)
        answer = c.next()
        assert answer["type"] == "listen_err" and answer["port"] == port, answer
        return answer["error"]

    def own_streams(name):
        """The proxy leads a user's program to the user's own client."""
        with connect(int(proxy)) as program:
            program.sendall(f"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example\r\nProxy-Authorization: Bearer {TOKENS[name]}\r\n\r\n".encode())
            got = clients[name].next()
            assert got["type"] == "connect" and got["port"] == ports[name], got
            program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert clients[name].next()["type"] == "close"
        clients[name].say(type="close", stream_id=got["stream_id"])

    with Folder() as folder, socket.create_server(("127.0.0.1", 0)) as foreign:
        more = "    ports: [20100-20199]\n    max-sessions: 1"
        kit = users_kit(folder, "--vtunnel", "--connect-proxy", "127.0.0.1:0", "--connect-default", "deny", more=more)
        proxy = ask(kit, "ann", "GET", "/proxy")[1]["address"].rsplit(":", 1)[1]
        for headers in ([], [f"Authorization: Bearer {'x' * 43}"]):
            try:
                vtunnel_peer.Client(kit.port, headers=headers).__exit__()
                raise AssertionError(f"{headers} is let in")
            except vtunnel_peer.Refused as refused:
                assert refused.status == 401
        clients, ports = {"ann": client("ann"), "bob": client("bob", "url")}, {"ann": free_port(), "bob": free_port(BOBS)}
        for name, c in clients.items():
            c.listen(ports[name], local_addr="db.example:5432")  # one name for both: each their own
        for name in clients:
            own_streams(name)
        assert "20100-20199" in refusal(clients["bob"], ports["ann"])
        of_another, number = refusal(clients["ann"], ports["bob"]), foreign.getsockname()[1]
        assert of_another == refusal(clients["ann"], number).replace(str(number), str(ports["bob"]))
        with client("bob") as c:
            assert c.next()[:2] == ("close", 1013)
        with session(kit, "ann") as p:  # of the same user, but another session: words that say whose it is
            name, err = p.bind(ports["ann"], mode="pull")
            assert err["code"] == "ALREADY_BOUND", err
            name, err = p.bind(ports["bob"], mode="pull")
            assert err["code"] == "PORT_IN_USE", err
            p.leave()
        ids = {}
        for name in clients:
            shown = [s for s in ask(kit, name, "GET", "/tunnels")[1]["sessions"] if s["protocol"] == "vtunnel"]
            assert [b["containerPort"] for s in shown for b in s["pullBindings"]] == [ports[name]], shown
            ids[name] = shown[0]["sessionId"]
        assert killed_is_absent(kit, "ann", ids["bob"]) and killed_is_absent(kit, "bob", ids["ann"])
        with session(kit, "ann", resume={"sessionId": ids["bob"]}) as p:
            assert not p.ok["resumed"] and p.id != ids["bob"]
            p.leave()
        users_file(folder, users=("ann", "root"))
        reload(kit)
        assert clients["bob"].next()[:2] == ("close", 1008)
        clients["ann"].say(type="ping")
        clients["ann"].expect(type="pong")
        eventually(lambda: {s["sessionId"] for s in ask(kit, "root", "GET", "/sessions")[1]["sessions"]} == {ids["ann"]}, "none of bob's, and no parked one")
        clients["ann"].listen(ports["bob"])
        for c in clients.values():
            c.__exit__()
        kit.end()


@case("events are told to whose they are, and to admins; their numbers tell nothing of others either")
def _():
    with Folder() as folder:
        kit = users_kit(folder)
        readers = {name: Reader(kit, name) for name in TOKENS}
        sessions = [session(kit, name) for name in ("ann", "bob", "bob")]
        for s in sessions:
            s.__exit__()
        last = session(kit, "ann")
        text = readers["ann"].until(last.id)
        assert not any(s.id in text for s in sessions[1:]) and sessions[0].id in text
        numbers = [int(n) for n in re.findall(r"^id: (\d+)$", text, re.M)]
        assert numbers == list(range(1, len(numbers) + 1)), numbers
        everything = readers["root"].until(last.id)
        assert all(s.id in everything for s in sessions)
        last.__exit__()
        for r in readers.values():
            r.socket.close()
        kit.end()


@case("a driver is told whose its session is, and tells it")
def _():
    with Folder() as folder:
        kit = users_kit(folder)
        driver = Driver(kit, "expose", str(port := free_port()), env={"HOODY_TUNNEL_TOKEN": TOKENS["bob"]})
        assert driver.events("connected")[0]["user"] == "bob"
        assert driver.end(signal.SIGINT) == 0
        lines = Program([BIN, "expose", str(port), "--url", kit.url], env={"HOODY_TUNNEL_TOKEN": TOKENS["ann"]})
        lines.wait_line("connected to .* as ann, session S-")
        assert lines.end(signal.SIGINT) == 0
        kit.end()
    with Tunnel() as t:
        assert t.expose(str(port)).events("connected")[0]["user"] is None


@case("names of the proxy are each user's own, and the proxy wants to know whose are meant")
def _():
    with Folder() as folder:
        kit = users_kit(folder, "--connect-proxy", "127.0.0.1:0", "--connect-default", "deny")
        assert ask(kit, "ann", "GET", "/proxy")[1]["wantsToken"]
        host, port = ask(kit, "ann", "GET", "/proxy")[1]["address"].rsplit(":", 1)
        peers = {name: session(kit, name, capabilities=["names"]) for name in ("ann", "bob")}
        for p in peers.values():
            assert p.bind(mode="pull", portless=True, names=["db.example:5432"])[0] == "BIND_OK"
        for name, other in (("ann", "bob"), ("bob", "ann")):
            with connect(int(port)) as c:
                c.sendall(f"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example\r\nProxy-Authorization: Bearer {TOKENS[name]}\r\n\r\n".encode())
                assert peers[name].expect("STREAM_OPEN")["authority"] == "db.example:5432"
                c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            answer = peers[other].bind(mode="pull", portless=True, names=[f"behind-{name}.example"])
            assert answer[0] == "BIND_OK", f"{other} was asked: {answer}"
        for said, status in (("", b"407"), (f"Proxy-Authorization: Bearer {'x' * 43}\r\n", b"407"),
                             (f"Proxy-Authorization: Bearer {TOKENS['root']}\r\n", b"403")):
            with connect(int(port)) as c:
                c.sendall(f"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example\r\n{said}\r\n".encode())
                assert c.recv(4096).split()[1] == status, said
        with connect(int(port)) as c:  # a connection for http:// URLs is one user's
            for name, status in (("ann", b"403"), ("bob", b"407")):
                c.sendall(f"GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\nProxy-Authorization: Bearer {TOKENS[name]}\r\n\r\n".encode())
                answer = b""
                while b"\r\n\r\n" not in answer:
                    answer += c.recv(4096)
                assert answer.split()[1] == status, answer
                if status == b"403" and b"close" in answer.lower():
                    break
        for p in peers.values():
            p.__exit__()
        assert host == "127.0.0.1"
        kit.end()


@case("what a user may have: ports, modes, so many sessions and bindings; the driver reads why not")
def _():
    more = "    ports: [20100-20199]\n    modes: [expose]\n    max-sessions: 1\n    max-bindings: 2"
    with Folder() as folder:
        kit = users_kit(folder, more=more)
        bob = session(kit, "bob")
        name, err = bob.bind(another := free_port())
        assert (name, err["code"]) == ("BIND_ERR", "NOT_ALLOWED") and "20100-20199" in err["message"], err
        name, err = bob.bind(mode="pull")
        assert (name, err["code"]) == ("BIND_ERR", "NOT_ALLOWED") and "bob may not pull" in err["message"], err
        name, ok = bob.bind(0)
        assert name == "BIND_OK" and 20100 <= ok["containerPort"] <= 20199, ok
        assert bob.bind(0)[0] == "BIND_OK"
        name, err = bob.bind(0)
        assert (name, err["code"]) == ("BIND_ERR", "BIND_CAP_EXCEEDED") and "max-bindings" in err["message"], err
        with Peer(kit, "bob") as p:
            p.say("HELLO", {"version": "hoody-tunnel.v1", "capabilities": ["client"]})
            said = p.expect("GOAWAY")
            assert said["code"] == 14 and "max-sessions" in said["message"], said
        with session(kit, "ann") as ann:
            assert ann.bind(another)[0] == "BIND_OK"
        bob.__exit__()
        kit.end()


@case("what a user may be called on the public port: also where the kit picks the port, with listeners and without")
def _():
    may_not = "the user bob may not have the host {}; the user's names are bob-*, app.bob.example"
    refused = [("ann", {"port": 20101}, f"ann-20101.{DOMAIN}"), ("bob", {"port": 20101, "name": "shop"}, f"shop.{DOMAIN}"),
               ("bob", {"port": 20101, "hostnames": ["bob.example"]}, "bob.example"), ("ann", {}, rf"ann-201\d\d.{DOMAIN}"),
               (None, {}, rf"201\d\d.{DOMAIN}")]
    for listens in ([], ["--no-ports"]):
        with Folder() as folder:
            more = "    ports: [20100-20199]\n    names: [bob-*, app.bob.example]"
            kit = public_kit(folder, *listens, each="", more=more)
            for called, asked, host in refused:
                with session(kit, "bob", **(hosted(called) if called else {})) as p:
                    name, err = p.bind(**asked)
                    assert (name, err["code"]) == ("BIND_ERR", "NOT_ALLOWED"), (asked, err)
                    assert re.fullmatch(may_not.format(host).replace("*", r"\*"), err["message"]), (asked, err)
            with session(kit, "bob", **hosted("bob")) as p:
                for _ in range(3):
                    name, ok = p.bind(name="bob-1", hostnames=["app.bob.example"], takeover=True)
                    assert name == "BIND_OK" and 20100 <= ok["containerPort"] <= 20199, ok
                    p.say("UNBIND", {"bindId": ok["bindId"]})
                    p.expect("UNBIND_OK")
            assert ask(kit, "root", "GET", "/bindings")[1]["total"] == 0
            kit.end()


def reload(kit):
    seen = len([line for line in kit.log if "SIGHUP" in line or "stay as they were" in line])
    os.kill(kit.pid, signal.SIGHUP)
    eventually(lambda: len([line for line in kit.log if "SIGHUP" in line or "stay as they were" in line]) > seen, "it was read again")


@case("SIGHUP: sessions of a user or a token that is gone end, others stay; a broken file changes nothing")
def _():
    with Folder() as folder:
        path = users_file(folder)
        kit = Kit("--users", path)
        ann, bob = session(kit, "ann"), session(kit, "bob")
        assert bob.bind()[0] == "BIND_OK"
        reader = Reader(kit, "bob")
        with open(path, "a", encoding="utf-8") as f:
            f.write("  - name: ann\n    tokens: [xyzzyx]\n    colour: red\n")
        reload(kit)
        text = kit.text()
        for words in ("users.yaml:9:", "there are two users called ann", "colour", "stay as they were"):
            assert words in text, (words, text)
        assert "xyzzyx" not in text  # a word that no id and no name of a folder has
        assert {s["sessionId"] for s in ask(kit, "root", "GET", "/sessions")[1]["sessions"]} == {ann.id, bob.id}
        users_file(folder, users=("ann", "root"))
        reload(kit)
        assert bob.expect("GOAWAY")["code"] == 11 and bob.next() == ("close", 1008)
        while reader.more():
            pass
        assert Peer(kit, "bob").status == 401
        assert [s["sessionId"] for s in ask(kit, "root", "GET", "/sessions")[1]["sessions"]] == [ann.id]
        users_file(folder, tokens={**TOKENS, "ann": "another token of ann, as long as need be"})
        reload(kit)
        assert ann.expect("GOAWAY")["code"] == 11
        assert session(kit, "bob").ok["user"] == "bob", "and back"
        secrets = [*TOKENS.values(), *(digest(t)[7:] for t in TOKENS.values())]
        assert not any(s in kit.text() for s in secrets)
        kit.end()


@case("a user is taken away in the middle of an upload and an answer: the visitors are told, nobody else's are, and the names are free")
def _():
    def ask_for(host, peer, upload):
        visitor = connect(kit.public)
        visitor.sendall(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {upload}\r\n\r\n".encode() + bytes(upload // 2))
        while peer.next()[0] != "STREAM_OPEN":
            assert not peer.over, peer.over
        return visitor, peer.stream

    def rest_of(visitor):
        got = b""
        try:
            while data := visitor.recv(65536):
                got += data
        except ConnectionResetError:
            pass
        return got

    head = {"status": 200, "headers": [["content-length", "10"]], "final": True}
    with Folder() as folder:
        kit = public_kit(folder, "--no-ports")
        peers = {name: session(kit, name, **hosted(name)) for name in ("ann", "bob")}
        for name, p in peers.items():
            assert p.bind(3000, name=f"app-of-{name}")[0] == "BIND_OK"
        uploads = {name: ask_for(f"app-of-{name}.{DOMAIN}", p, 100000) for name, p in peers.items()}
        answers = {name: ask_for(f"app-of-{name}.{DOMAIN}", p, 0) for name, p in peers.items()}
        for name, p in peers.items():
            p.say("STREAM_RESPONSE_HEAD", head, answers[name][1])
            p.say("DATA", b"half ", answers[name][1])
        for visitor, _ in answers.values():
            got = b""
            while not got.endswith(b"half "):
                got += visitor.recv(65536)
        users_file(folder, users=("ann", "root"), each='    names: ["*"]')
        reload(kit)
        while (got := peers["bob"].next())[0] != "GOAWAY":
            assert got[0] in ("DATA", "EOF"), got[0]
        assert got[1]["code"] == 11
        assert rest_of(uploads["bob"][0]).startswith(b"HTTP/1.1 503 ") and rest_of(answers["bob"][0]) == b""
        assert status_of(kit, f"app-of-bob.{DOMAIN}") == 404
        uploads["ann"][0].sendall(bytes(50000))
        peers["ann"].say("STREAM_RESPONSE_HEAD", head, uploads["ann"][1])
        for _, stream in (uploads["ann"], answers["ann"]):
            peers["ann"].say("DATA", b"the rest.."[:10 if stream == uploads["ann"][1] else 5], stream)
            peers["ann"].say("EOF", b"", stream)
        assert answers["ann"][0].recv(100) == b"the r"
        assert uploads["ann"][0].recv(4096).startswith(b"HTTP/1.1 200 OK")
        with session(kit, "ann", **hosted("ann")) as second:
            assert second.bind(3001, name="app-of-bob")[0] == "BIND_OK"
            second.leave()
        for visitor, _ in (*uploads.values(), *answers.values()):
            visitor.close()
        eventually(lambda: ask(kit, "root", "GET", "/tunnels")[1]["totalStreams"] == 0, "no stream is left")
        peers["ann"].leave()
        kit.end()


@case("a thousand users with a dozen tokens each are read again without a pause, and each token is found")
def _():
    def write(path, generation):
        lines = ["users:"]
        for i in range(1000):
            lines += [f"- name: u{i}", "  tokens:", *(f"  - {digest(f'{generation}-{i}-{j}')}" for j in range(12))]
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")

    with Folder() as folder:
        path = folder.join("users.yaml")
        write(path, 1)
        kit = Kit("--users", path)
        TOKENS.update({"first": "1-0-0", "last": "1-999-11", "next": "2-500-5", "none": "1-1000-0"})
        try:
            first, last = session(kit, "first"), session(kit, "last")
            assert (first.ok["user"], last.ok["user"]) == ("u0", "u999") and Peer(kit, "none").status == 401
            for generation in (1, 2):
                write(path, generation)
                seen, moment = len(kit.log), Moment()
                os.kill(kit.pid, signal.SIGHUP)
                eventually(lambda: any("SIGHUP" in line for line in kit.log[seen:]), "it was read again")
                moment.within(1.0, "reading the file again", slack=4.0)
                assert ask(kit, "first", "GET", "/me")[0] == (200 if generation == 1 else 401)
            assert ask(kit, "next", "GET", "/me")[1]["name"] == "u500"
            assert first.expect("GOAWAY")["code"] == 11 and last.expect("GOAWAY")["code"] == 11
        finally:
            for name in ("first", "last", "next", "none"):
                del TOKENS[name]
        kit.end()


@case("`token new` makes the token and its line; a file that is wrong, or a token beside it, starts nothing")
def _():
    status, out, _ = command("token", "new", "ann", "--json")
    made = json.loads(out)
    assert status == 0 and made["name"] == "ann" and made["digest"] == digest(made["token"]) and len(made["token"]) == 46
    assert json.loads(command("token", "new", "ann", "--json")[1])["token"] != made["token"]
    status, out, _ = command("token", "new", "ann")
    assert status == 0 and re.search(r"^      - sha256:[0-9a-f]{64}$", out, re.M), out
    assert command("token", "new", "a b")[0] == 2
    with Folder() as folder:
        path = users_file(folder)
        for args, env, words in ((["--users", folder.join("none")], {}, "users file"), (["--users", path], {"HOODY_TUNNEL_TOKEN": "x"}, "keep one"),
                                 (["--users", path, "--token-file", path], {}, "keep one")):
            status, _, err = command("serve", "--listen", "127.0.0.1:0", *args, env=env)
            assert status == 3 and words in err, (status, err)
        for text, words in (("", "empty"), ("users: []\n", "no user"), ("- a\n", "keys and values"), ("users:\n  - name: ann\n", "tokens is missing"),
                            ("users:\n  - {name: a b, tokens: []}\n", ":2:"), ("users:\n  - {name: ann, tokens: [ht_secret-itself]}\n", "does not belong"),
                            ("users:\n  - {name: ann, tokens: [], ports: [70000]}\n", "70000"), ("users:\n  - {name: ann, tokens: [], modes: [all]}\n", "modes"),
                            ("users:\n  - {name: ann, tokens: [], names: [A_B]}\n", "names"), ("users:\n  - {name: ann, tokens: [], rate: fast}\n", "rate"),
                            (f"users:\n  - {{name: ann, tokens: [{digest('x')}]}}\n  - {{name: bob, tokens: [{digest('x')}]}}\n", "one user only")):
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            status, _, err = command("serve", "--listen", "127.0.0.1:0", "--users", path)
            assert status == 3 and words in err and "secret-itself" not in err, (text, status, err)


if __name__ == "__main__":
    main()
