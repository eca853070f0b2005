"""A link that is lost comes back by itself: a kit that dies and is started again, a connection that is cut."""

import signal
import socket
import threading
import time

from tests.faults.rig import BUSY, long_wait
from tests.integration.harness import (Driver, Kit, Service, Tunnel, connect, eventually, free_port,
                                       http_service)
from tests.support.tap import case, main

GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def hello(_head, _body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def status(port):
    """The status a visitor gets, or None when the port refuses or cuts him."""
    try:
        with connect(port) as c:
            c.settimeout(5)
            c.sendall(GET)
            return int(c.recv(65536).split(b" ", 2)[1])
    except (OSError, IndexError, ValueError):
        return None


class Relay(Service):
    """Passes TCP through to a port until it is cut; while `held` it takes nothing new."""

    def __init__(self, port):
        self.to, self.held = port, False
        super().__init__(self._pass)
        self.url = f"ws://127.0.0.1:{self.port}"

    def _pass(self, near):
        if self.held:
            return
        with socket.create_connection(("127.0.0.1", self.to)) as far:
            back = threading.Thread(target=self._copy, args=(far, near), daemon=True)
            back.start()
            self._copy(near, far)
            back.join()

    @staticmethod
    def _copy(source, to):
        try:
            while data := source.recv(65536):
                to.sendall(data)
        except OSError:
            pass
        for end in (source, to):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        for connection in list(self.open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@case("a kit that was killed and comes back serves the same port again")
def _():
    listen = free_port()
    with Tunnel("--listen", f"127.0.0.1:{listen}") as t, http_service(hello) as service:
        driver = t.expose(f"0={service.port}")
        assert status(driver.port) == 200
        t.kit.end(signal.SIGKILL)
        eventually(lambda: driver.events("disconnected"), "the driver notices")
        event = driver.events("disconnected")[0]
        assert 0 <= event["retryInMs"] <= 250 and event["error"], event
        assert driver.process.poll() is None and status(driver.port) is None
        t.kit = Kit("--listen", f"127.0.0.1:{listen}")
        back = time.monotonic()
        within = (15 if BUSY else 2) + long_wait(driver)
        eventually(lambda: status(driver.port) == 200, "the service is back", within)
        print(f"# back after {time.monotonic() - back:.2f} s")
        connected = driver.events("connected")
        assert [c["resumed"] for c in connected] == [False, False], connected
        assert len(driver.events("bound")) == 2


@case("a cut connection is resumed: same session, and no visitor is refused meanwhile")
def _():
    with Tunnel() as t, http_service(hello) as service, Relay(t.kit.port) as relay:
        driver = Driver(relay, "expose", f"0={service.port}")
        t.drivers.append(driver)
        assert status(driver.port) == 200
        relay.held = True
        relay.cut()
        eventually(lambda: status(driver.port) == 503, "the kit parks the session")
        seen = {status(driver.port) for _ in range(20)}
        assert seen == {503}, seen
        relay.held = False
        driver.process.send_signal(signal.SIGHUP)
        seen = set()
        eventually(lambda: seen.add(status(driver.port)) or 200 in seen, "the service is back")
        assert seen <= {200, 503}, seen
        connected = driver.events("connected")
        assert [c["resumed"] for c in connected] == [False, True], connected
        assert connected[0]["sessionId"] == connected[1]["sessionId"]
        assert len(driver.events("bound")) == 1
        assert driver.end(signal.SIGINT) == 0, driver.text()  # while the relay is there to say goodbye through


@case("a kit that stays away is given up after --retry-for, and 0 gives it up at once")
def _():
    for retry_for in ("300ms", "0"):
        with http_service(hello) as service:
            kit = Kit()
            driver = Driver(kit, "expose", f"0={service.port}", "--retry-for", retry_for)
            kit.end(signal.SIGKILL)
            assert driver.process.wait(20) == 6, driver.text()
            driver.check_sanitizers()


if __name__ == "__main__":
    main()
