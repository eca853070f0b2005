"""Stream ids end: a session gives way to another one before, and no visitor notices. --session-streams makes that happen soon."""

import hashlib
import signal

from tests.integration.harness import (Service, Tunnel, connect, eventually, http_service, read_exactly, read_head)
from tests.integration.visitors import Held, Steady, answer, download
from tests.support.tap import case, main

def sessions(driver):
    return driver.events("connected")


def check_sessions(driver, at_least):
    seen = sessions(driver)
    assert len(seen) >= at_least, seen
    assert [s["resumed"] for s in seen] == [False] + [True] * (len(seen) - 1), seen
    assert len({s["sessionId"] for s in seen}) == len(seen), "a session's ids are its own"
    assert not driver.events("disconnected") and len(driver.events("bound")) == len(driver.bound)


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
