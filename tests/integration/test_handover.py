"""Stream ids end: a session gives way to another one before, and no visitor notices. --session-streams makes that happen soon."""

import contextlib
import hashlib
import http.client
import signal
import socket
import threading

from tests.integration.harness import (Service, Tunnel, connect, eventually, http_service, read_exactly, read_head)
from tests.support.tap import case, main

VISITORS = 6
PIECE = bytes(range(256)) * 64


def answer(head, body):
    text = hashlib.sha256(head.split(" ")[1].encode() + body).hexdigest().encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


class Steady:
    """Visitors who ask one after the other until they are told to stop: kept connections, new ones, and bodies."""

    def __init__(self, port):
        self.port, self.stop = port, False
        self.right, self.wrong = 0, []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(VISITORS)]
        for thread in self.threads:
            thread.start()

    def _run(self, who):
        kept = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        for n in range(1 << 30):
            if self.stop:
                break
            body = b"b" * (n % 3 * 5000)
            connection = kept if who % 2 else http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                connection.request("POST" if body else "GET", f"/{who}/{n}", body or None)
                got = connection.getresponse()
                text = got.read()
                good = got.status == 200 and text == hashlib.sha256(f"/{who}/{n}".encode() + body).hexdigest().encode()
                what = (got.status, text[:100])
            except (OSError, http.client.HTTPException) as e:
                good, what = False, repr(e)
            with self.lock:
                self.right += good
                if not good:
                    self.wrong.append((who, n, what))
            if connection is not kept:
                connection.close()
        kept.close()

    def end(self):
        self.stop = True
        for thread in self.threads:
            thread.join(60)
        assert not self.wrong, (len(self.wrong), self.wrong[:5])


def sessions(driver):
    return driver.events("connected")


def check_sessions(driver, at_least):
    seen = sessions(driver)
    assert len(seen) >= at_least, seen
    assert [s["resumed"] for s in seen] == [False] + [True] * (len(seen) - 1), seen
    assert len({s["sessionId"] for s in seen}) == len(seen), "a session's ids are its own"
    assert not driver.events("disconnected") and len(driver.events("bound")) == len(driver.bound)


@contextlib.contextmanager
def download(service, port):
    """A response that goes on as long as its visitor asks for more."""
    asker = connect(port, timeout=60)
    asker.sendall(b"GET /download HTTP/1.1\r\nHost: a\r\n\r\n")
    far = service.takes()
    far.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (3 * len(PIECE)))
    head, rest = read_head(asker)
    assert head.startswith(b"HTTP/1.1 200 "), head

    def more():
        nonlocal rest
        far.sendall(PIECE)
        assert read_exactly(asker, len(PIECE), rest) == PIECE
        rest = b""

    more()
    yield more
    asker.close()


class Held(Service):
    """An HTTP service whose connections that ask for /download are the test's."""

    def __init__(self):
        self.held, self.came, self.done = [], threading.Semaphore(0), threading.Event()
        plain = http_service(answer)
        self.plain = plain
        super().__init__(self._route)

    def _route(self, connection):
        first = connection.recv(65536, socket.MSG_PEEK)
        if first.startswith(b"GET /download "):
            read_head(connection)
            self.held.append(connection)
            self.came.release()
            self.done.wait()
        else:
            self.plain.handle(connection)

    def takes(self):
        assert self.came.acquire(timeout=30), "no request for /download"
        return self.held[-1]

    def __exit__(self, *args):
        self.done.set()
        self.plain.__exit__(*args)
        return super().__exit__(*args)


for sockets in (1, 4):
    @case(f"requests without a pause, {sockets} WebSockets: sessions follow each other, and none is answered wrongly")
    def _(sockets=sockets):
        with Tunnel("--session-streams", "150") as t, http_service(answer) as service:
            driver = t.expose("--connections", str(sockets), f"0={service.port}")
            visitors = Steady(driver.port)
            eventually(lambda: len(sessions(driver)) >= 6 or visitors.wrong, "five handovers", 60)
            visitors.end()
            check_sessions(driver, 6)
            print(f"# {visitors.right} right answers, {len(sessions(driver)) - 1} handovers")

    @case(f"a download goes on over {sockets} WebSockets while its session is handed over")
    def _(sockets=sockets):
        with Tunnel("--session-streams", "200") as t, Held() as service:
            driver = t.expose("--connections", str(sockets), "--pool-size", "0", f"0={service.port}")
            with download(service, driver.port) as more:
                visitors = Steady(driver.port)
                eventually(lambda: len(sessions(driver)) >= 2 or visitors.wrong, "a handover", 60)
                visitors.end()
                more()
                more()
            check_sessions(driver, 2)

    @case(f"pulled connections over {sockets} WebSockets: one that lasts, and many that come and go")
    def _(sockets=sockets):
        def echo(connection):
            while data := connection.recv(65536):
                connection.sendall(data)

        def says(connection, text):
            connection.sendall(text)
            assert read_exactly(connection, len(text)) == text

        with Tunnel("--session-streams", "40") as t, Service(echo) as service:
            driver = t.pull("--connections", str(sockets), f"0={service.port}")
            with connect(driver.port, 60) as lasting:
                says(lasting, b"first")
                for n in range(60):
                    with connect(driver.port, 60) as short:
                        says(short, b"number %d" % n)
                eventually(lambda: len(sessions(driver)) == 2, "a handover")
                says(lasting, b"last")
            check_sessions(driver, 2)


@case("a visitor that comes during the handover waits for the next session")
def _():
    with Tunnel("--session-streams", "3") as t, http_service(answer) as service:
        driver = t.expose(f"0={service.port}")
        driver.process.send_signal(signal.SIGSTOP)
        asked = []
        for n in range(8):
            asked.append(connect(driver.port, 60))
            asked[n].sendall(b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % n)
        eventually(lambda: t.kit.get("/tunnels")["totalStreams"] == 3, "as many streams as the session may have")
        driver.process.send_signal(signal.SIGCONT)
        for n, connection in enumerate(asked):
            with connection:
                head, rest = read_head(connection)
                assert head.startswith(b"HTTP/1.1 200 "), head
                want = hashlib.sha256(b"/%d" % n).hexdigest().encode()
                assert read_exactly(connection, len(want), rest) == want
        check_sessions(driver, 3)


if __name__ == "__main__":
    main()
