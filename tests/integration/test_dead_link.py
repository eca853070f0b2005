"""A link that is dead and says nothing of it, without stream-resume: who waits is told soon, and the way back is short.
(With it, who waits goes on waiting: test_resume.py.)

    make dead-link       the first case with the figures of the spec as well; it takes half a minute of waiting
"""

import os
import re
import signal
import time

from tests.faults.rig import FaultProxy
from tests.integration.harness import Driver, Moment, Service, Tunnel, connect, eventually, hello, http_service, status
from tests.support.tap import case, main

CUT = ("--replay-buffer", "0")
SUSPECT = ("--suspect-after", "1s")
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def answer_of(c, timeout=20):
    """All that a visitor gets before the connection closes, or up to the end of a head."""
    c.settimeout(timeout)
    got = b""
    while b"\r\n\r\n" not in got and (more := c.recv(65536)):
        got += more
    return got.decode("latin-1")


def told_to_come_again(text):
    return text.startswith("HTTP/1.1 503 ") and re.search(r"(?i)\r\nretry-after: 5\r\n", text)


def frozen(seconds, *options):
    """KEEP-5: after `seconds` of silence a PING, and as long again for its answer; no other timer has a part in it."""
    with Tunnel(*options, "--takeover-grace", "60s") as t, http_service(hello) as service, \
            FaultProxy(t.kit.port, calm=True) as proxy:
        driver = Driver(proxy, "expose", f"0={service.port}", *options, *CUT)
        t.drivers.append(driver)
        before = time.monotonic()
        assert status(driver.port) == 200  # the last byte that is heard comes behind this beginning
        proxy.say("freeze")
        moment = Moment()
        with connect(driver.port) as waiting:
            waiting.sendall(GET)
            text = answer_of(waiting, 3 * seconds + 30)
        took, silent = moment.took(), time.monotonic() - before
        print(f"# told after {took:.1f} s")
        assert told_to_come_again(text), text
        assert silent > 2 * seconds - 0.1, silent
        # Below what everybody's figures come to, 30 seconds, on a busy machine as well.
        bound = 3 * seconds + 8
        moment.within(bound, "the answer", took, slack=28 - bound if options else Moment.SLACK)
        with connect(driver.port) as late:  # nobody waits for what is known to be dead
            late.sendall(GET)
            assert told_to_come_again(answer_of(late))
        proxy.say("thaw")
        eventually(lambda: status(driver.port) == 200, "the service is back", 40)
        assert driver.process.poll() is None, driver.text()
        assert len(driver.events("bound")) == 1, driver.text()  # resumed
        assert driver.end(signal.SIGINT) == 0, driver.text()  # while the proxy is there to say goodbye through


@case("a frozen relay: a visitor is told 503 with Retry-After soon, the driver comes back by itself when it thaws")
def _():
    frozen(1, *SUSPECT)


@case("the same with three times the patience: it is this option that says how soon")
def _():
    frozen(3, "--suspect-after", "3s")


if os.environ.get("HT_DEFAULTS"):
    @case("the same as everybody has it: 15 seconds of silence, and 15 more for the answer")
    def _():
        frozen(15)


@case("a frozen relay under a request of the driver's side: it gives the link up without a word of the kit")
def _():
    def silent(connection):
        while connection.recv(65536):
            pass
    with Tunnel("--suspect-after", "1h", "--ping-interval", "1h") as t, Service(silent) as service, \
            FaultProxy(t.kit.port, calm=True) as proxy:
        driver = Driver(proxy, "pull", f"0={service.port}", *SUSPECT)
        t.drivers.append(driver)
        with connect(driver.port) as c:
            c.sendall(b"x")
            eventually(lambda: service.accepted == 1, "the connection stands")
            proxy.say("freeze")
            eventually(lambda: driver.events("disconnected"), "the driver notices", 20)
            proxy.say("thaw")
            eventually(lambda: len(driver.events("connected")) == 2, "the driver is back", 40)
            assert driver.end(signal.SIGINT) == 0, driver.text()


if __name__ == "__main__":
    main()
