"""`vtunnel-client`: against a server of this test, a kit with --vtunnel, and vtunnel's own server."""

import base64
import hashlib
import os
import queue
import signal
import socket
import sys
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)
os.chdir(ROOT)

from conformance.lib import ws  # noqa: E402  pylint: disable=wrong-import-position
from tests.integration.harness import BIN, Moment, Program, Service, Tunnel, command, connect, eventually, free_port, read_exactly  # noqa: E402
from tests.integration.vtunnel_peer import SIZE, carries_much, echo, giver, original, taker, wire  # noqa: E402
from tests.support.tap import case, main  # noqa: E402  pylint: disable=wrong-import-position

def client(url, *forwards, env=None):
    args = [x for f in forwards for x in ("-forward", f)]
    return Program([BIN, "vtunnel-client", "-server", url, *args, "--json"], env=env)


def answers(port):
    try:
        with connect(port, timeout=5) as v:
            v.sendall(b"x")
            return v.recv(1) == b"x"
    except OSError:
        return False


class Server(Service):
    """A WebSocket server: each connection is a Peer in .peers."""

    def __init__(self):
        self.peers = queue.Queue()
        super().__init__(self._upgrade)

    def _upgrade(self, connection):
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        head = head.decode("latin-1")
        key = next(line.split(":", 1)[1].strip() for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key:"))
        accept = base64.b64encode(hashlib.sha1(key.encode() + ws.GUID).digest()).decode()
        connection.sendall(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            f"Sec-WebSocket-Accept: {accept}\r\n\r\n").encode())
        peer = Peer(connection, head)
        self.peers.put(peer)
        peer.over.wait()

    def next(self):
        return self.peers.get(timeout=20)


class Peer:
    def __init__(self, connection, head):
        self.connection, self.head = connection, head
        self.reader, self.events, self.over = ws.Reader(masked=True), [], threading.Event()

    def next(self):
        self.connection.settimeout(20)
        while not self.events:
            data = self.connection.recv(1 << 20)
            if not data:
                return None
            for event in self.reader.feed(data):
                assert event[0] != "message" or event[1] == ws.TEXT, event
                self.events.append(wire.decode(event[2], "client") if event[0] == "message" else event)
        return self.events.pop(0)

    def expect(self, **want):
        got = self.next()
        assert got == want, f"{got} instead of {want}"

    def say(self, **message):
        self.connection.sendall(ws.message(wire.encode(message), False, opcode=ws.TEXT))

    def end(self, code=None):
        if code:
            self.connection.sendall(ws.build(ws.CLOSE, ws.close_payload(code), mask=False))
        self.connection.shutdown(socket.SHUT_RDWR)
        self.over.set()


@case("what it says: no subprotocol, the path as given, listen with the target; connect, data, close; 1000 at its end")
def _():
    with Server() as server, Service(echo) as e:
        gone = free_port()
        c = client(f"ws://127.0.0.1:{server.port}/a/path?q=1", f"9000=localhost:{e.port}", f"9001=127.0.0.1:{gone}",
                   env={"HOODY_TUNNEL_TOKEN": "abc123"})
        try:
            peer = server.next()
            assert peer.head.startswith("GET /a/path?q=1 HTTP/1.1\r\n") and "sec-websocket-protocol" not in peer.head.lower(), peer.head
            assert "Authorization: Bearer abc123\r\n" in peer.head
            peer.expect(type="listen", port=9000, local_addr=f"localhost:{e.port}")
            peer.expect(type="listen", port=9001, local_addr=f"127.0.0.1:{gone}")
            peer.say(type="listen_ok", port=9000)
            peer.say(type="listen_ok", port=9001)
            c.wait_line(r'"event":"bound".*"containerPort":9000')
            c.wait_line(r'"event":"bound".*"containerPort":9001')
            peer.say(type="connect", port=9000, stream_id=0)  # stream 0 is one like any other
            peer.say(type="data", data=b"hello")
            peer.expect(type="data", data=b"hello")
            peer.say(type="close")
            peer.expect(type="close")
            peer.say(type="connect", port=9002, stream_id=7)  # no forward
            peer.expect(type="close", stream_id=7)
            peer.say(type="connect", port=9001, stream_id=8)  # nobody there
            peer.expect(type="close", stream_id=8)
            peer.say(type="data", stream_id=8, data=b"x")
            c.process.send_signal(signal.SIGTERM)
            said = peer.next()
            assert said == ("close", 1000, ""), said
            peer.end(1000)
            assert c.process.wait(20) == 0
        finally:
            assert c.end(signal.SIGKILL) is not None
        c.check_sanitizers()


@case("after a loss it dials at once, then after 1 s and 2 s, and asks for its ports again; a port still taken is asked for later")
def _():
    with Server() as server, Service(echo) as e:
        c = client(f"ws://127.0.0.1:{server.port}/", f"9000=localhost:{e.port}")
        try:
            peer = server.next()
            peer.expect(type="listen", port=9000, local_addr=f"localhost:{e.port}")
            peer.say(type="listen_ok", port=9000)
            c.wait_line(r'"event":"bound"')
            times = []
            for code in (1001, 1000, None):
                begun = Moment()
                peer.end(code)
                peer = server.next()
                times.append(begun.took())
                if code == 1001:
                    begun.within(0.9, "the attempt that is made at once")
                peer.expect(type="listen", port=9000, local_addr=f"localhost:{e.port}")
            assert times[1] >= 0.95 and times[2] >= 1.95, times
            peer.say(type="listen_err", port=9000, error="listen tcp 127.0.0.1:9000: bind: address already in use")
            peer.expect(type="listen", port=9000, local_addr=f"localhost:{e.port}")
            peer.say(type="listen_ok", port=9000)
            peer.say(type="connect", port=9000, stream_id=4294967295)
            peer.say(type="data", stream_id=4294967295, data=b"again")
            peer.expect(type="data", stream_id=4294967295, data=b"again")
        finally:
            c.end(signal.SIGKILL)


@case("command lines that are wrong, and a first connection that fails")
def _():
    for args, status, said in (
            (["-forward", "9000=localhost:1"], 2, "-server is missing"),
            (["-server", "ws://127.0.0.1:1/"], 2, "-forward is missing"),
            (["-server", "ws://127.0.0.1:1/", "-forward", "x=localhost:1"], 2, "PORT=TARGET"),
            (["-server", "ws://127.0.0.1:1/", "-forward", "9000"], 2, "PORT=TARGET"),
            (["-server", "ws://127.0.0.1:1/", "-forward", "0=localhost:1"], 2, "PORT=TARGET"),
            (["-server", "ws://127.0.0.1:1/", "-forward", "9000=localhost:99999"], 2, "99999"),
            (["-server=ws://127.0.0.1:1/", "-forward=9000=localhost:1", "-nonsense"], 2, "-nonsense"),
            ([f"-server=ws://127.0.0.1:{free_port()}/", "--forward=9000=localhost:1"], 6, "refused")):
        code, out, err = command("vtunnel-client", *args)
        assert code == status and said in out + err, (args, code, out, err)


@case(f"against a kit with --vtunnel: two ports, {SIZE >> 20} MiB each way, a kill of the kit and of the client")
def _():
    with Tunnel("--vtunnel") as t, Service(echo) as e, Service(giver) as g, Service(taker) as k:
        ports = [free_port() for _ in range(3)]
        c = client(t.kit.url + "/", *(f"{p}=127.0.0.1:{s.port}" for p, s in zip(ports, (e, g, k))))
        try:
            for _ in ports:
                c.wait_line(r'"event":"bound"')
            assert [s["protocol"] for s in t.kit.get("/tunnels")["sessions"]] == ["vtunnel"]
            visitors = [connect(ports[0]) for _ in range(20)]
            for i, v in enumerate(visitors):
                v.sendall(b"%d" % i * 1000)
            for i, v in enumerate(visitors):
                assert read_exactly(v, len(b"%d" % i * 1000)) == b"%d" % i * 1000
            for v in visitors:
                v.close()
            carries_much(*ports[1:])
            c.process.kill()
            eventually(lambda: t.kit.get("/bindings")["bindings"] == [], "its ports go with it")
        finally:
            c.end(signal.SIGKILL)


@case(f"against vtunnel's own server: two ports, {SIZE >> 20} MiB each way, and a server that is killed")
def _():
    program = original()
    server_port = free_port()

    def serve():
        server = Program([program, "server", "-port", str(server_port)])
        server.wait_line("Starting server")
        eventually(lambda: answers_http(server_port), "it listens")
        return server

    with Service(echo) as e, Service(giver) as g, Service(taker) as k:
        ports = [free_port() for _ in range(3)]
        server = serve()
        c = client(f"ws://127.0.0.1:{server_port}/", *(f"{p}=127.0.0.1:{s.port}" for p, s in zip(ports, (e, g, k))))
        try:
            for _ in ports:
                c.wait_line(r'"event":"bound"')
            assert answers(ports[0])
            carries_much(*ports[1:])
            server.end(signal.SIGKILL)
            server = serve()
            eventually(lambda: answers(ports[0]), "the port answers again")
            assert c.end(signal.SIGINT) == 0
            server.wait_line("peer_close code=1000")
        finally:
            c.end(signal.SIGKILL)
            server.end(signal.SIGKILL)
        c.check_sanitizers()


def answers_http(port):
    try:
        connect(port, timeout=5).close()
        return True
    except OSError:
        return False


if __name__ == "__main__":
    main()
