"""The driver's machine gets into another network: the tunnel is back at once, and what has nothing to do with it disturbs nobody.
Kit and driver are on machines of their own (namespaces)."""

import contextlib
import hashlib
import http.client
import json
import signal
import threading
import time

from tests.integration.harness import BIN, Moment, eventually, hello, http_service, pace, run
from tests.integration.machines import container_and_laptop
from tests.support.tap import case, main

KIT = "192.0.2.1"
PATIENT = ("--ping-interval", "1h", "--suspect-after", "1h")  # nothing but the network's news says that a link is dead


class Scene:
    def __init__(self, container, laptop, service):
        self.container, self.laptop = container, laptop
        self.kit = container.start(BIN, "serve", "--listen", f"{KIT}:8050", "--insecure-listen", "--takeover-grace", "10m", *PATIENT)
        self.kit.wait_line("listening")
        self.driver = laptop.start(BIN, "expose", f"0={service.port}", "--url", f"ws://{KIT}:8050", "--json", *PATIENT,
                                   env={"HOME": "/tmp/home", "XDG_STATE_HOME": "/tmp/state"})
        self.port = json.loads(self.driver.wait_line(r'^\{.*"event":\s*"bound".*\}$').group(0))["containerPort"]

    def events(self, kind):
        found = [json.loads(line[5:]) for line in list(self.driver.log) if line.startswith("out: {")]
        return [e for e in found if e["event"] == kind]

    def status(self):
        """What a visitor in the container gets."""
        with self.container.network():
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as c:
                c.request("GET", "/")
                return c.getresponse().status

    def pings(self):
        with self.container.network():
            with contextlib.closing(http.client.HTTPConnection(KIT, 8050, timeout=20)) as c:
                c.request("GET", "/api/v1/tunnel/metrics")
                text = c.getresponse().read().decode()
        name = 'hoody_tunnel_pings_total{direction="received"} '
        return int(next(float(line[len(name):]) for line in text.splitlines() if line.startswith(name)))

    def shell(self, text):
        self.laptop.run("sh", "-ec", text)


@contextlib.contextmanager
def scene(answer=hello):
    with container_and_laptop() as (container, laptop):
        with laptop.network():
            web = http_service(answer)
        with web:
            s = Scene(container, laptop, web)
            assert answer is not hello or s.status() == 200
            yield s
            assert len(s.events("bound")) == 1, s.driver.text()  # whatever came, the port stayed
            for program in (s.driver, s.kit):
                assert program.end() == 0, program.text()
                program.check_sanitizers()


def back(s, moment, bound, what):
    eventually(lambda: len(s.events("connected")) == 2, what)
    took = moment.within(bound, what)
    print(f"# {what}: back after {took:.2f} s")
    assert s.events("connected")[1]["resumed"], s.driver.text()
    assert s.status() == 200


@case("the address goes and another one comes: back within a second or so, with the same port")
def _():
    with scene() as s:
        moment = Moment()
        s.shell("ip addr del 192.0.2.2/24 dev eth0; ip addr add 192.0.2.3/24 dev eth0")
        back(s, moment, 1.2, "another address")
        assert "192.0.2.2" in s.events("disconnected")[0]["message"], s.driver.text()


@case("another cable: the first one's network is gone for a while, and the tunnel is back once there is a way")
def _():
    with scene() as s:
        run(["nsenter", "-t", str(s.laptop.pid), "-n", "--", "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns",
             str(s.container.pid)])
        s.container.run("sh", "-ec", "ip addr add 198.51.100.1/24 dev eth1; ip link set eth1 up")
        s.shell("ip link set eth0 down; ip addr flush dev eth0; ip link set eth1 up")
        moment = Moment()
        s.shell(f"ip addr add 198.51.100.2/24 dev eth1; ip route add {KIT}/32 via 198.51.100.1")
        back(s, moment, 1.2, "another cable")


@case("what has nothing to do with the tunnel disturbs nobody, and costs a PING now and then")
def _():
    with scene() as s:
        begun, before, asked = time.monotonic(), s.pings(), 0
        s.shell("ip link add other type veth peer name end; ip link set end up; ip link set other up")
        eventually(lambda: s.pings() > before, "the first PING")
        while time.monotonic() < begun + 4.5:
            s.shell("for i in 1 2 3 4 5; do ip addr add 203.0.113.$i/24 dev other; ip route add 198.51.100.0/24 via 203.0.113.99; "
                    "ip route del 198.51.100.0/24; done; ip addr flush dev other")
            assert s.status() == 200
            asked += 1
        seen = s.pings() - before
        print(f"# {seen} PINGs for {asked * 21} changes")
        assert 1 <= seen <= (time.monotonic() - begun) / 2 + 1, seen
        assert not s.events("disconnected") and len(s.events("connected")) == 1, s.driver.text()


SIZE = 48 << 20


def slowly(_head, _body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + pattern(SIZE)


def pattern(n):
    return hashlib.sha256(b"a download").digest() * (n // 32)


class Download(threading.Thread):
    """Takes its time: the changes happen while it runs."""

    def __init__(self, s):
        super().__init__(daemon=True)
        self.scene, self.got, self.error = s, bytearray(), None
        with s.container.network():
            self.c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=60)
            self.c.connect()
        self.start()

    def run(self):
        try:
            self.c.request("GET", "/")
            answer = self.c.getresponse()
            while piece := answer.read(65536):
                self.got += piece
                if len(self.got) % (1 << 20) == 0:
                    pace(0.1)
        except OSError as e:
            self.error = e
        finally:
            self.c.close()

    def reaches(self, part):
        eventually(lambda: self.error or len(self.got) >= SIZE * part, f"{part:.0%} of the download")
        assert not self.error, self.error

    def check(self):
        self.join(60)
        assert not self.error and len(self.got) == SIZE and bytes(self.got) == pattern(SIZE), (self.error, len(self.got))


@case("a download goes on through one network after the other, and through a way that leads nowhere: no byte is lost")
def _():
    with scene(slowly) as s:
        download = Download(s)
        download.reaches(0.1)
        s.shell("ip addr del 192.0.2.2/24 dev eth0; ip addr add 192.0.2.3/24 dev eth0")
        download.reaches(0.3)
        s.shell("ip addr del 192.0.2.3/24 dev eth0")
        pace(0.5)
        s.shell("ip addr add 192.0.2.4/24 dev eth0")
        download.reaches(0.5)
        # A route to nowhere: the address stays, and what says that the link is dead is a PING that is not answered in a second.
        eventually(lambda: len(s.events("connected")) == 1 + len(s.events("disconnected")) >= 3, "the second change is over")
        s.shell("ip link add nowhere type veth peer name end; ip link set end up; ip link set nowhere up")
        before = len(s.events("disconnected"))  # a busy machine may have answered a PING late, which is one more
        moment = Moment()
        s.shell(f"ip route add {KIT}/32 dev nowhere")
        eventually(lambda: len(s.events("disconnected")) > before, "the driver notices")
        print(f"# noticed after {moment.within(4, 'noticing'):.1f} s")
        s.shell(f"ip route del {KIT}/32 dev nowhere")
        download.check()
        lost, found = s.events("disconnected"), s.events("connected")
        assert len(lost) >= 3 and all(e["paused"] == 1 for e in lost), lost
        assert len(found) == len(lost) + 1 and all(e["whole"] for e in found[1:]), found
        print(f"# paused for {', '.join(str(e['pausedMs']) for e in found[1:])} ms")


@case("what was on its way when the way was lost is no answer to whether it is there")
def _():
    with scene(slowly) as s:
        before = s.pings()
        s.shell("ip link add nowhere type veth peer name end; ip link set end up; ip link set nowhere up")
        eventually(lambda: s.pings() > before, "the PING for this change")
        pace(2.5)  # it asks once in two seconds
        download = Download(s)
        download.reaches(0.1)
        s.kit.process.send_signal(signal.SIGSTOP)  # it has something to read, and to say ACK to, when it goes on
        pace(0.2)
        s.shell(f"ip route add {KIT}/32 dev nowhere")
        pace(0.5)  # the question is out
        s.kit.process.send_signal(signal.SIGCONT)
        moment = Moment()
        eventually(lambda: s.events("disconnected"), "the driver notices")
        print(f"# noticed after {moment.within(4, 'noticing'):.1f} s")
        s.shell(f"ip route del {KIT}/32 dev nowhere")
        download.check()


if __name__ == "__main__":
    main()
