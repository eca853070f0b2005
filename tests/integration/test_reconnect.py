"""A link that is lost comes back by itself: a kit that dies and is started again, a connection that is cut."""

import signal

from tests.faults.rig import long_wait
from tests.integration.harness import (Driver, Kit, Moment, Relay, Tunnel, eventually, free_port, hello,
                                       http_service, status)
from tests.support.tap import case, main


@case("a kit that was killed and comes back serves the same port again")
def _():
    listen = free_port()
    with Tunnel("--listen", f"127.0.0.1:{listen}") as t, http_service(hello) as service:
        driver = t.expose(f"{free_port()}={service.port}")
        assert status(driver.port) == 200
        t.kit.end(signal.SIGKILL)
        eventually(lambda: driver.events("disconnected"), "the driver notices")
        event = driver.events("disconnected")[0]
        assert 0 <= event["retryInMs"] <= 250 and event["error"], event
        assert driver.process.poll() is None and status(driver.port) is None
        t.kit = Kit("--listen", f"127.0.0.1:{listen}")
        back = Moment()
        eventually(lambda: status(driver.port) == 200, "the service is back")
        print(f"# back after {back.within(2 + long_wait(driver), 'the return'):.2f} s")
        connected = driver.events("connected")
        assert [c["resumed"] for c in connected] == [False, False], connected
        assert len(driver.events("bound")) == 2


@case("a cut connection is resumed: same session, and no visitor is refused meanwhile")
def _():
    with Tunnel("--hold", "0") as t, http_service(hello) as service, Relay(t.kit.port) as relay:
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
