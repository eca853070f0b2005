"""Visitors who open and reset as fast as they can cost themselves, not the driver that serves them (hardening case 28)."""

import collections
import contextlib
import socket
import struct
import threading
import time

from tests.integration.harness import Tunnel, connect, eventually, hello, http_service, status
from tests.support.tap import case, main

SECONDS = 2.0
UNDER_WAY = 200  # opened and not reset yet: the kit has read the request by then
RST = struct.pack("ii", 1, 0)


class Churn:
    """Requests that are reset once the kit has passed them on."""

    def __init__(self, port, threads=1):
        self.port, self.visits = port, 0
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self):
        under_way = collections.deque()
        while not self.over.is_set():
            with contextlib.suppress(OSError):
                s = connect(self.port, 5)
                s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                under_way.append(s)
                self.visits += 1
            if len(under_way) >= UNDER_WAY:
                self._leave(under_way.popleft())
        while under_way:
            self._leave(under_way.popleft())

    @staticmethod
    def _leave(s):
        with contextlib.suppress(OSError):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        s.close()

    def leave(self):
        self.over.set()
        for thread in self.threads:
            thread.join(20)


@case("thousands of requests opened and reset each second end no driver and no session")
def _():
    with Tunnel() as t, http_service(hello) as web, socket.create_server(("127.0.0.1", 0), backlog=1) as deaf:
        driver = t.expose(f"0={deaf.getsockname()[1]}", f"0={web.port}", bindings=2)
        other = t.expose(f"0={web.port}")
        honest = driver.bound[1]["containerPort"]
        assert status(honest) == 200 and status(other.port) == 200
        churn = Churn(driver.port)
        answers = collections.Counter()
        begin = time.monotonic()
        try:
            while time.monotonic() - begin < SECONDS:
                answers[status(other.port)] += 1
                churn.over.wait(0.02)
        finally:
            churn.leave()
        print(f"# {churn.visits / SECONDS:.0f} opened and reset each second; beside them {dict(answers)}")
        assert churn.visits > 100 * SECONDS, churn.visits
        assert set(answers) == {200}, answers
        eventually(lambda: status(honest) == 200, "the driver serves again")
        for d in (driver, other):
            assert d.process.poll() is None and not d.events("disconnected") and len(d.events("connected")) == 1, d.text()
        assert t.kit.metric("hoody_tunnel_sessions_active") == 2


if __name__ == "__main__":
    main()
