"""The library's examples, one for each way to drive a tunnel, against a real kit."""

import os
import signal
import subprocess

from tests.faults.rig import FaultProxy
from tests.integration.harness import BIN, Kit, Program, Tunnel, ask_twice, eventually, http_service, insist, run
from tests.support.tap import case, main


def hello(head, body):
    text = b"hello " + head.split(" ")[1].encode() + b" " + body
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


class Example(Program):
    """Ended by the end of its input, or by a signal where it reads none."""

    def __init__(self, name, *args, reads=True, env=None):
        self.reads = reads
        super().__init__([os.path.join(os.path.dirname(BIN), "examples", name), *args], env=env,
                         stdin=subprocess.PIPE if reads else subprocess.DEVNULL)

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def url(self):
        return self.wait_line(r"(http://127\.0\.0\.1:\d+) -> ").group(1)

    def end(self, signum=signal.SIGTERM, timeout=20.0):
        if self.reads and not self.process.stdin.closed:
            self.process.stdin.close()
            signum = 0 if signum in (signal.SIGTERM, signal.SIGINT) else signum
        return super().end(signum, timeout)


def curl(url, *args):
    return run(["curl", "-sS", *args, url])


@case("own_loop: serves, and says goodbye at Ctrl-C")
def _():
    with Tunnel() as t, http_service(hello) as service:
        e = Example("own_loop", t.kit.url, str(service.port), reads=False)
        t.drivers.append(e)
        url = e.url()
        assert curl(url + "/a") == "hello /a "
        assert curl(url + "/b", "-d", "x" * 100000) == "hello /b " + "x" * 100000
        e.wait_line(r"^POST /b: 200")


@case("own_loop: two signals at once, and one that comes later, end it in order")
def _():
    for _ in range(5):
        with Tunnel() as t:
            e = Example("own_loop", t.kit.url, "9", reads=False)
            e.url()
            ask_twice(e.process)
            status = insist(e.process)
            assert status == 0 and e.end() == 0, (status, e.text())
            eventually(lambda t=t: t.kit.get("/tunnels")["sessions"] == [], "no session")
            assert t.kit.get("/tunnels")["orphanedSessions"] == 0
            e.check_sanitizers()


@case("poll_loop: serves beside what else the program does")
def _():
    with Tunnel() as t, http_service(hello) as service:
        e = Example("poll_loop", t.kit.url, str(service.port))
        t.drivers.append(e)
        url = e.url()
        for i in range(5):
            assert curl(f"{url}/{i}") == f"hello /{i} "
        eventually(lambda: (e.say("") or e.wait_line(r"^(\d+) served").group(1)) == "5", "all are counted")
        e.say("")
        e.wait_line(r"^5 served, 0 under way, [1-9]\d* bytes out")


@case("thread: bindings are asked for from another thread")
def _():
    with Tunnel() as t, http_service(hello) as one, http_service(hello) as two:
        e = Example("thread", t.kit.url)
        t.drivers.append(e)
        e.say(str(one.port))
        e.say(str(two.port))
        urls = [e.url(), e.url()]
        for url in urls:
            assert curl(url + "/x") == "hello /x "
        e.say("")
        e.wait_line(r"^2 bindings, 2 requests so far")
        e.say("nonsense:")
        e.wait_line(r"^nonsense:: ")


@case("an example ends at once on an error that a retry cannot mend, with that error's status")
def _():
    for name, args, reads in (("own_loop", ["3000"], False), ("poll_loop", ["3000"], True), ("thread", [], True)):
        kit = Kit(env={"HOODY_TUNNEL_TOKEN": "right"})
        try:
            e = Example(name, kit.url, *args, reads=reads, env={"HOODY_TUNNEL_TOKEN": "wrong"})
            if name == "thread":
                e.wait_line(r"token")
                e.process.stdin.close()
            status = e.process.wait(20)
            assert status == 4, (name, status, e.text())
            e.end()
            e.check_sanitizers()
        finally:
            kit.end()


@case("thread: the link is lost and comes back while the program knows nothing of it")
def _():
    def served():
        return subprocess.run(["curl", "-sf", url + "/y"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              check=False).returncode == 0

    with Tunnel() as t, http_service(hello) as service, FaultProxy(t.kit.port, calm=True) as proxy:
        e = Example("thread", proxy.url)
        t.drivers.append(e)
        e.say(str(service.port))
        url = e.url()
        for i in range(1, 4):
            proxy.say("cut")
            eventually(lambda: t.kit.metric("hoody_tunnel_resumes_total") == i, "it is back", 20)
            eventually(served, "it serves again")
        e.end()


if __name__ == "__main__":
    main()
