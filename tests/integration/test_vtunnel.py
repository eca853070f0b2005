"""`serve --vtunnel` and its clients: ports, streams, ends, limits, and vtunnel's own client."""

import base64
import hashlib
import os
import random
import signal
import socket
import sys
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)
os.chdir(ROOT)

from tests.integration.harness import (Program, Service, Tunnel, connect, eventually, free_port, read_exactly)  # noqa: E402
from tests.integration.vtunnel_peer import SIZE, Client, Refused, carries_much, echo, giver, original, taker, ws  # noqa: E402
from tests.support.tap import case, main  # noqa: E402  pylint: disable=wrong-import-position

TOKEN = "correct%41horse"
URL_TOKEN = "correct%2541hors%65"


def no_streams(kit):
    eventually(lambda: kit.get("/tunnels")["totalStreams"] == 0, "no stream is left")


@case("listen, connect, data both ways, close: the visitor's end first, then the client's")
def _():
    with Tunnel("--vtunnel") as t, Client(t.kit.port, "/any/path?x=1") as c:
        port = free_port()
        c.listen(port, local_addr="localhost:3000")
        visitor = connect(port)
        c.expect(type="connect", port=port, stream_id=1)
        visitor.sendall(b"hello")
        c.expect(type="data", stream_id=1, data=b"hello")
        c.say(type="data", stream_id=1, data=b"world")
        assert read_exactly(visitor, 5) == b"world"
        visitor.close()
        c.expect(type="close", stream_id=1)
        c.say(type="close", stream_id=1)
        second = connect(port)
        c.expect(type="connect", port=port, stream_id=2)
        c.say(type="data", stream_id=2, data=b"bye")
        c.say(type="close", stream_id=2)
        assert read_exactly(second, 3) == b"bye" and second.recv(1) == b""
        second.close()
        c.expect(type="close", stream_id=2)
        no_streams(t.kit)
        c.say(type="close", stream_id=2)  # the second of the two, and one for nobody
        c.say(type="close", stream_id=77)
        c.say(type="data", stream_id=77, data=b"x")
        c.say(type="ping")
        c.expect(type="pong")
        assert c.texts == {ws.TEXT}
        assert c.close() == ("close", 1000, "")
        eventually(lambda: t.kit.get("/tunnels")["totalBindings"] == 0, "the port goes with the connection")


@case("messages of every shape: fragments of 4,096 bytes, binary, keys in capitals; a broken one is ignored")
def _():
    with Tunnel("--vtunnel") as t, Client(t.kit.port) as c:
        port = free_port()
        c.raw('{"TYPE":"listen","Port":%d,"later":{"a":[1]}}' % port, opcode=ws.BINARY)
        c.expect(type="listen_ok", port=port)
        visitor = connect(port)
        c.expect(type="connect", port=port, stream_id=1)
        big = os.urandom(150000)
        text = '{"type":"data","stream_id":1,"data":"%s"}' % base64.b64encode(big).decode()
        c.raw(text, fragments=-(-len(text) // 4096))
        assert read_exactly(visitor, len(big)) == big
        for broken in ("", "x", "[]", '{"type":"lisen"}', '{"type":"connect","port":1}', '{"type":"data","stream_id":4294967296}', "\xff",
                       '{"type":"listen","port":"1"}', '{"type":"ping","type":"ping"}', '{"type":"data","stream_id":-1,"data":"QQ=="}'):
            c.raw(broken.encode("latin-1"))
        c.say(type="ping")
        c.expect(type="pong")
        c.raw(r'{"type":"data","stream_id":1,"data":"\/\/\/\u0041"}')
        assert read_exactly(visitor, 3) == b"\xff\xff\xc0"
        # bytes that cannot be read leave a hole: that stream ends, the connection does not
        c.raw('{"type":"data","stream_id":1,"data":"A"}')
        c.expect(type="close", stream_id=1)
        try:
            assert visitor.recv(1) == b""
        except ConnectionResetError:
            pass
        visitor.close()
        c.say(type="ping")
        c.expect(type="pong")
        c.close()


@case("listen: a port twice, one of another's, outside of the range, reserved, 0, and too many")
def _():
    with Tunnel("--vtunnel", "--max-bindings-per-session", "4") as t, Client(t.kit.port) as c, Client(t.kit.port) as other, \
            Service(echo) as taken:
        port = free_port()
        c.listen(port)
        c.listen(port)
        other.say(type="listen", port=port)
        other.expect(type="listen_err", port=port, error=f"listen tcp 127.0.0.1:{port}: bind: address already in use")
        other.say(type="listen", port=taken.port)
        other.expect(type="listen_err", port=taken.port, error=f"listen tcp 127.0.0.1:{taken.port}: bind: address already in use")
        for wrong in (70000, -1, 65536):
            c.say(type="listen", port=wrong)
            c.expect(type="listen_err", port=wrong, error=f"listen tcp: address {wrong}: invalid port")
        c.say(type="listen", port=t.kit.port)
        refused = c.next()
        assert refused["type"] == "listen_err" and refused["port"] == t.kit.port and "reserved" in refused["error"].lower(), refused
        c.say(type="listen")  # of the kit's choice, and nobody is told
        c.expect(type="listen_ok")
        bindings = t.kit.get("/bindings")["bindings"]
        chosen = next(b["port"] for b in bindings if b["port"] != port)
        visitor = connect(chosen)
        c.expect(type="connect", stream_id=1)
        c.listen(free_port())
        c.listen(free_port())
        c.say(type="listen", port=free_port())
        refused = c.next()
        assert refused["type"] == "listen_err" and refused["error"], refused
        visitor.close()
        c.expect(type="close", stream_id=1)
        c.say(type="close", stream_id=1)
        c.close()
        other.listen(port)  # free at once
        other.close()


@case("an admin sees the session, kills it, and its client hears why; SIGTERM says 1001")
def _():
    with Tunnel("--vtunnel") as t:
        with Client(t.kit.port) as c:
            port = free_port()
            c.listen(port, local_addr="gitlab.example.com:443")
            (session,) = t.kit.get("/tunnels")["sessions"]
            assert session["protocol"] == "vtunnel", session
            (binding,) = t.kit.get("/bindings")["bindings"]
            assert (binding["port"], binding["kind"], binding["mode"]) == (port, "tcp", "pull"), binding
            assert t.kit.request("DELETE", f"/sessions/{session['sessionId']}")[0] == 202
            event = c.next()
            assert event == ("close", 1000, "closed by admin"), event
        eventually(lambda: t.kit.get("/tunnels")["sessions"] == [], "it is gone, and not parked")
        assert t.kit.get("/tunnels")["orphanedSessions"] == 0
        with Client(t.kit.port) as c:
            c.listen(free_port())
            t.kit.process.send_signal(signal.SIGTERM)
            assert c.next() == ("close", 1001, "shutting down")
            c.socket.sendall(ws.build(ws.CLOSE, ws.close_payload(1001)))
        assert t.kit.process.wait(20) == 0
        t._check = lambda: None  # pylint: disable=protected-access


@case("who may come in: a token by header or in the URL, no browser's page, no name that is not this machine's")
def _():
    def refused(kit, *args, **more):
        try:
            Client(kit.port, *args, **more).socket.close()
        except Refused as e:
            return e.status
        return 101

    with Tunnel("--vtunnel", env={"HOODY_TUNNEL_TOKEN": TOKEN}) as t:
        right, wrong = (f"Authorization: Bearer {x}" for x in (TOKEN, "wrong"))
        assert refused(t.kit) == 401
        assert refused(t.kit, headers=[wrong]) == 401
        assert refused(t.kit, "/?token=wrong") == 401
        assert refused(t.kit, "/?xtoken=" + URL_TOKEN) == 401
        assert refused(t.kit, "/", headers=[right]) == 101
        assert refused(t.kit, "/x?a=b&token=" + URL_TOKEN) == 101
        assert refused(t.kit, "/?token=" + URL_TOKEN, headers=["Origin: http://evil.example"]) == 101
        eventually(lambda: t.kit.request("GET", "/tunnels", {"Authorization": f"Bearer {TOKEN}"})[1].find(b'"sessions":[]') > 0, "all are gone")
        said = t.kit.text().replace("a wrong token", "")
        assert "horse" not in said and "hors%" not in said and "wrong" not in said, said
        t._check = lambda: None  # pylint: disable=protected-access
        assert t.kit.end() == 0
    with Tunnel("--vtunnel") as t:
        assert refused(t.kit, headers=["Origin: http://evil.example"]) == 403
        assert refused(t.kit, host="evil.example") == 403
        assert refused(t.kit, host="localhost:1") == 101
        assert refused(t.kit, headers=["Sec-WebSocket-Protocol: other"]) == 404  # no path of ours, and a subprotocol
        assert t.kit.get("/health")["status"] == "ok"
    with Tunnel() as t:
        assert refused(t.kit, "/api/v1/tunnel/connect") == 400 and refused(t.kit) == 404


@case("one session more than allowed is closed with 1013 and the reason; a message that is too big with 1009")
def _():
    with Tunnel("--vtunnel", "--max-sessions", "1") as t, Client(t.kit.port) as c:
        c.say(type="ping")
        c.expect(type="pong")
        with Client(t.kit.port) as second:
            event = second.next()
            assert event[:2] == ("close", 1013) and "session limit" in event[2], event
        try:
            c.raw(b" " * 262145)
        except ConnectionError:
            pass
        assert c.next()[:2] == ("close", 1009)


@case("1 MB each way on two streams at once, with hashes; pieces of at most 32,768 bytes")
def _():
    size = 1 << 20
    with Tunnel("--vtunnel") as t, Client(t.kit.port) as c:
        ports = [free_port(), free_port()]
        for port in ports:
            c.listen(port)
        seed = random.randrange(1 << 30)
        print(f"# seed {seed}")
        blobs = [random.Random(seed + i).randbytes(size) for i in range(4)]
        got = {}

        def visit(i):
            with connect(ports[i]) as s:
                sender = threading.Thread(target=s.sendall, args=(blobs[i],))
                sender.start()
                got["down", i] = hashlib.sha256(read_exactly(s, size)).hexdigest()
                sender.join()

        visitors = [threading.Thread(target=visit, args=(i,)) for i in range(2)]
        for v in visitors:
            v.start()
        streams, up, largest, closes = {}, {}, 0, 0
        while len(streams) < 2:
            m = c.next()
            if m["type"] == "connect":
                streams[m["stream_id"]] = ports.index(m["port"])
                up[m["stream_id"]] = hashlib.sha256()
            else:
                up[m["stream_id"]].update(m["data"])
                largest = max(largest, len(m["data"]))

        def send():
            for at in range(0, size, 30000):
                for stream, i in streams.items():
                    c.say(type="data", stream_id=stream, data=blobs[2 + i][at:at + 30000])

        sender = threading.Thread(target=send)
        sender.start()
        while closes < 2:
            m = c.next()
            if m["type"] == "close":
                closes += 1
                c.say(type="close", stream_id=m["stream_id"])
            else:
                up[m["stream_id"]].update(m["data"])
                largest = max(largest, len(m["data"]))
        sender.join()
        for v in visitors:
            v.join(60)
        for stream, i in streams.items():
            assert up[stream].hexdigest() == hashlib.sha256(blobs[i]).hexdigest(), "up"
            assert got["down", i] == hashlib.sha256(blobs[2 + i]).hexdigest(), "down"
        assert largest <= 32768, largest
        no_streams(t.kit)
        c.close()


@case("a visitor that does not read holds one window; beside it others are served, and beyond it the reading stops")
def _():
    window = 1 << 20
    with Tunnel("--vtunnel", "--session-initial-window", str(window)) as t, Client(t.kit.port) as c:
        slow_port, port = free_port(), free_port()
        c.listen(slow_port)
        c.listen(port)
        slow = socket.create_connection(("127.0.0.1", slow_port))
        c.expect(type="connect", port=slow_port, stream_id=1)
        piece = os.urandom(30000)
        for _ in range(window // len(piece) // 2):  # half a window
            c.say(type="data", stream_id=1, data=piece)
        visitor = connect(port)
        c.expect(type="connect", port=port, stream_id=2)
        c.say(type="data", stream_id=2, data=b"quick")
        assert read_exactly(visitor, 5) == b"quick"
        c.socket.settimeout(2)
        sent = window // len(piece) // 2
        try:
            while sent < 2000:
                c.say(type="data", stream_id=1, data=piece)
                sent += 1
        except TimeoutError:
            pass
        assert sent < 2000, "it read on without end"
        # When the visitor reads, all of it comes, whole: what was cut in the middle of a message ends this client, no other.
        slow.settimeout(20)
        assert read_exactly(slow, sent * len(piece)) == piece * sent
        slow.close()
        visitor.close()


@case("names: programs ask the kit's proxy for the client's targets, and for nothing of the client's own machine")
def _():
    def asks(t, target):
        s = socket.create_connection(("127.0.0.1", int(t.kit.get("/proxy")["address"].rsplit(":", 1)[1])), timeout=20)
        s.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        return s

    def status(t, target):
        with asks(t, target) as s:
            return s.recv(12).decode()[-3:]

    with Tunnel("--vtunnel", "--connect-proxy", "127.0.0.1:0", "--connect-default", "deny") as t:
        with Client(t.kit.port) as c, Client(t.kit.port) as other:
            ports = {name: free_port() for name in ("Git.corp.test:443", "localhost:5432", "127.0.0.1:81", "tls://tls.corp.test:443", "no-port.corp.test", "[fd00::1]:80")}
            for name, port in ports.items():
                c.listen(port, local_addr=name)
            names = [b.get("names") for b in t.kit.get("/bindings")["bindings"]]
            assert names == [["git.corp.test:443"], None, None, None, None, ["[fd00::1]:80"]], names
            for target in ("localhost:5432", "127.0.0.1:81", "tls.corp.test:443", "no-port.corp.test:443", "git.corp.test:80"):
                assert status(t, target) == "403", target
            with asks(t, "git.corp.test:443") as s:
                s.sendall(b"early")
                stream = c.next()
                assert stream == {"type": "connect", "port": ports["Git.corp.test:443"], "stream_id": stream["stream_id"]}, stream
                c.expect(type="data", stream_id=stream["stream_id"], data=b"early")
                c.say(type="data", stream_id=stream["stream_id"], data=b"late")
                want = b"HTTP/1.1 200 Connection established\r\n\r\nlate"
                assert read_exactly(s, len(want)) == want
            c.expect(type="close", stream_id=stream["stream_id"])
            c.say(type="close", stream_id=stream["stream_id"])
            # A name that somebody has costs nobody his port.
            port = free_port()
            other.listen(port, local_addr="git.corp.test:443")
            with connect(port):
                other.expect(type="connect", port=port, stream_id=1)
            other.expect(type="close", stream_id=1)
            assert other.close() == ("close", 1000, "") and c.close() == ("close", 1000, "")
        eventually(lambda: status(t, "git.corp.test:443") == "403", "the name goes with its client")


@case(f"vtunnel's own client: two ports, many visitors, a reply of {SIZE >> 20} MiB and as much back, kill -9")
def _():
    program = original()
    with Tunnel("--vtunnel") as t, Service(echo) as e, Service(giver) as g, Service(taker) as k:
        ports = [free_port() for _ in range(3)]
        forwards = [x for p, s in zip(ports, (e, g, k)) for x in ("-forward", f"{p}=localhost:{s.port}")]
        client = Program([program, "client", "-server", t.kit.url + "/", *forwards])
        try:
            eventually(lambda: len(t.kit.get("/bindings")["bindings"]) == 3, "its three ports")
            visitors = [connect(ports[0]) for _ in range(20)]
            for i, v in enumerate(visitors):
                v.sendall(b"%d" % i * 100)
            for i, v in enumerate(visitors):
                assert read_exactly(v, len(b"%d" % i * 100)) == b"%d" % i * 100
            for v in visitors:
                v.close()
            carries_much(*ports[1:])
            no_streams(t.kit)
            client.process.kill()
            eventually(lambda: t.kit.get("/tunnels")["sessions"] == [], "its session goes with it")
            assert t.kit.get("/bindings")["bindings"] == []
        finally:
            client.end(signal.SIGKILL)


@case("vtunnel's own client comes back to a kit that was killed, and its ports stand again")
def _():
    program = original()
    with Service(echo) as e:
        port = free_port()
        kit_port = free_port()
        from tests.integration.harness import BIN  # pylint: disable=import-outside-toplevel
        kit = Program([BIN, "serve", "--vtunnel", "--listen", f"127.0.0.1:{kit_port}"])
        kit.wait_line("listening on")
        client = Program([program, "client", "-server", f"ws://127.0.0.1:{kit_port}/", "-forward", f"{port}=localhost:{e.port}"])
        try:
            def answers():
                try:
                    with connect(port, timeout=5) as v:
                        v.sendall(b"x")
                        return v.recv(1) == b"x"
                except OSError:
                    return False
            eventually(answers, "the port answers")
            kit.end(signal.SIGKILL)
            kit = Program([BIN, "serve", "--vtunnel", "--listen", f"127.0.0.1:{kit_port}"])
            kit.wait_line("listening on")
            eventually(answers, "the port answers again")
            assert client.end(signal.SIGTERM) == 0
            kit.wait_line("over")
        finally:
            client.end(signal.SIGKILL)
            kit.end(signal.SIGKILL)


if __name__ == "__main__":
    main()
