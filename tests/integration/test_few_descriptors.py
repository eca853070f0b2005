"""A kit with few descriptors whose permits are all taken: refused visitors neither stay nor stand in the way of probes."""

import contextlib
import resource
import socket
import threading
import time

from tests.integration.harness import Moment, Tunnel, connect, eventually, fds, hello, http_service, pace, status
from tests.support.tap import case, main

LIMIT = 256
A_SECOND = 600
SECONDS = 3
PERMITS = "hoody_tunnel_fd_permits_available"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Refused(threading.Thread):
    """Visitors, A_SECOND of them each second; the latest ones stay."""

    def __init__(self, port, stay=40):
        super().__init__(daemon=True)
        self.port, self.stay, self.count, self.answered = port, stay, 0, 0
        self.open = []

    def run(self):
        begun = time.monotonic()
        while (late := time.monotonic() - begun) < SECONDS:
            if self.count >= late * A_SECOND:
                pace(0.002)
                continue
            with contextlib.suppress(OSError):
                self.open.append(socket.create_connection(("127.0.0.1", self.port), timeout=10))
                self.open[-1].sendall(GET)
            self.count += 1
            if len(self.open) > self.stay:
                self.leave(self.open.pop(0))
        for c in self.open:
            self.leave(c)

    def leave(self, c):
        with c, contextlib.suppress(OSError):
            self.answered += c.recv(4096).startswith(b"HTTP/1.1 503 ")


@case("600 refused connections each second fail no health probe of a kit with 256 descriptors")
def _():
    # For the kit, which raises its soft limit to the hard one; this process keeps to it as well.
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    with Tunnel() as t, http_service(hello) as service:
        port = t.expose(f"0={service.port}").port
        assert status(port) == 200
        with contextlib.ExitStack() as held:

            def all_taken():
                held.enter_context(connect(port)).sendall(b"GET / HT")
                return t.kit.metric(PERMITS) == 0
            eventually(all_taken, "visitors hold all permits")
            crowd = Refused(port)
            crowd.start()
            probes = 0
            while crowd.is_alive():
                moment = Moment()
                t.kit.get("/health")
                moment.within(2, "a health probe")
                assert fds(t.kit.pid) < LIMIT, "the descriptors of the kit ran out"
                probes += 1
                pace(0.01)
            crowd.join()
            print(f"# {probes} probes beside {crowd.count} refused visitors, of whom {crowd.answered} read their 503")
            assert crowd.answered > 0
            t.kit.wait_line(fr"visitor: a visitor was turned away session=S-\S+ port={port} peer=127\.0\.0\.1:\d+ "
                            r'reason="no file descriptors left: .* all \d+ \(--max-fds, ulimit -n\)"')
        eventually(lambda: t.kit.metric(PERMITS) > LIMIT / 4, "the permits come back")
        assert status(port) == 200


if __name__ == "__main__":
    main()
