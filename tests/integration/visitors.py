"""Visitors who come without a pause, and a transfer that lasts: for tests of what they must not notice."""

import contextlib
import hashlib
import http.client
import socket
import threading

from tests.integration.harness import Service, connect, http_service, read_exactly, read_head

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
