"""Version 2 between our driver and our kit, with real visitors: several WebSockets under load, one after the other cut."""

import hashlib
import http.client
import random
import signal
import threading

from tests.faults.rig import FaultProxy, long_wait
from tests.integration.harness import Driver, Moment, Tunnel, eventually, http_service, run
from tests.support.tap import case, main

SOCKETS = 4
VISITORS = 8


def content(seed, n):
    return random.Random(seed).randbytes(n)


def answer(head, body):
    """GET /N/SIZE gives content(N, SIZE); a POST gives the hash of what was posted."""
    if head.startswith("POST"):
        text = hashlib.sha256(body).hexdigest().encode()
    else:
        _, number, size = head.split(" ")[1].split("/")
        text = content(int(number), int(size))
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


class Visitors:
    """Ask until they are told to stop: an answer is right, or it does not look complete."""

    def __init__(self, port):
        self.port, self.stop = port, False
        self.right, self.cut, self.wrong = 0, 0, []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(VISITORS)]
        for thread in self.threads:
            thread.start()

    def _one(self, connection, rng):
        size = rng.choice((1, 100, 5000, 70000, 300000))
        if rng.random() < 0.3:
            data = rng.randbytes(size)
            connection.request("POST", "/", data)
            expected = hashlib.sha256(data).hexdigest().encode()
        else:
            number = rng.randrange(1000)
            connection.request("GET", f"/{number}/{size}")
            expected = content(number, size)
        got = connection.getresponse()
        body = got.read()
        return got.status, body == expected

    def _run(self, number):
        rng = random.Random(number)
        connection = None
        while not self.stop:
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                status, same = self._one(connection, rng)
                with self.lock:
                    self.right += status == 200 and same
                    self.cut += status in (502, 503)
                    if status == 200 and not same or status not in (200, 502, 503):
                        self.wrong.append((status, same))
            except (OSError, http.client.HTTPException):
                with self.lock:
                    self.cut += 1
                connection = None
        if connection:
            connection.close()

    def more(self, n=20):
        """Waits until so many more have had right answers."""
        before = self.right
        eventually(lambda: self.right >= before + n, f"{n} more right answers", 30)

    def end(self):
        self.stop = True
        for thread in self.threads:
            thread.join(30)
        assert not self.wrong, self.wrong[:5]


def opened(proxy):
    """Numbers of the connections that came, in order."""
    return [int(line.split()[2]) for line in list(proxy.log) if line.startswith("out: open ")]


def start(t, proxy, service, *args):
    driver = Driver(proxy, "expose", "--connections", str(SOCKETS), *args, f"0={service.port}")
    t.drivers.append(driver)
    eventually(lambda: len(opened(proxy)) == SOCKETS, "all sockets are there")
    session = t.kit.get("/sessions")["sessions"][0]
    assert session["isV2"] and session["connectionsGranted"] == SOCKETS, session
    return driver


@case("four WebSockets under load, each secondary cut in its turn: only its own streams are hit, and it comes back")
def _():
    with Tunnel() as t, http_service(answer) as service, FaultProxy(t.kit.port, calm=True) as proxy:
        driver = start(t, proxy, service)
        visitors = Visitors(driver.port)
        visitors.more(50)
        assert visitors.cut == 0, visitors.cut
        rounds = SOCKETS  # the last one is a socket that was replaced already
        for i in range(rounds):
            before = visitors.cut
            proxy.say(f"cut {opened(proxy)[1 + i]}")
            eventually(lambda: len(opened(proxy)) == SOCKETS + i + 1, "a new socket in its place")
            visitors.more()
            assert visitors.cut - before <= VISITORS, (visitors.cut, before)
        visitors.end()
        print(f"# {visitors.right} right answers, {visitors.cut} cut by {rounds} cuts of a secondary")
        assert len(driver.events("connected")) == 1 and not driver.events("disconnected")
        assert driver.end(signal.SIGINT) == 0, driver.text()


@case("the primary's fate is the session's: cut, it is resumed with all of its WebSockets, on the same port")
def _():
    with Tunnel() as t, http_service(answer) as service, FaultProxy(t.kit.port, calm=True) as proxy:
        driver = start(t, proxy, service)
        visitors = Visitors(driver.port)
        visitors.more()
        primary = opened(proxy)[0]
        for i in range(1, 4):
            proxy.say(f"cut {primary}")
            eventually(lambda: len(driver.events("connected")) == 1 + i, "it is resumed", 10 + long_wait(driver))
            eventually(lambda: len(opened(proxy)) == SOCKETS * (i + 1), "with all of its sockets")
            primary = opened(proxy)[SOCKETS * i]
            visitors.more()
        visitors.end()
        assert [c["resumed"] for c in driver.events("connected")] == [False, True, True, True]
        assert len(driver.events("bound")) == 1
        assert driver.end(signal.SIGINT) == 0, driver.text()


@case("a dead link is noticed within --ping-interval and --pong-timeout, and resumed")
def _():
    with Tunnel() as t, http_service(answer) as service, FaultProxy(t.kit.port, calm=True) as proxy:
        driver = start(t, proxy, service, "--ping-interval", "200ms", "--pong-timeout", "400ms", "--connect-timeout", "500ms")
        assert run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", driver.url + "/1/1"]) == "200"
        proxy.say("freeze")
        begun = Moment()
        eventually(lambda: driver.events("disconnected"), "the driver notices")
        took = begun.within(2, "noticing")
        assert took >= 0.4, took
        proxy.say("thaw")
        driver.process.send_signal(signal.SIGHUP)
        eventually(lambda: len(driver.events("connected")) == 2, "it is back", 10 + long_wait(driver))
        assert driver.events("connected")[1]["resumed"]
        assert run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", driver.url + "/1/1"]) == "200"
        print(f"# noticed after {took:.2f} s")
        assert driver.end(signal.SIGINT) == 0, driver.text()


if __name__ == "__main__":
    main()
