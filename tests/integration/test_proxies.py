"""Proxies before the kit: real ones and hostile ones, by option and by environment, and which hop is told to have failed."""

import contextlib
import os
import signal

from tests.integration.harness import BIN, Driver, Folder, Moment, Program, Tunnel, command, eventually, free_port, hello, http_service, status
from tests.integration.proxies import OurProxy, microsocks, tinyproxy, tls_before
from tests.integration.tls_peer import Authority
from tests.support.tap import case, main


class Secure:
    """A kit that speaks TLS, and what a driver needs for it."""

    def __init__(self, folder):
        self.ca = Authority(folder)
        self.cert, self.key = self.ca.issue("kit")
        self.file = self.ca.path("ca.pem")


def served(t, *args, more=()):
    """A driver behind the proxy serves; then the same of a command."""
    with http_service(hello) as service:
        driver = t.expose(f"0={service.port}", *args, *more)
        assert status(driver.port) == 200
        code, out, said = command("list", "--url", t.kit.url, *args)
        assert code == 0 and str(driver.port) in out, (code, out, said)
        assert driver.end(signal.SIGINT) == 0, driver.text()
        return driver.text()


@case("ws and wss through tinyproxy, with and without credentials, over several connections")
def _():
    with Folder() as folder, tinyproxy() as plain, tinyproxy("ann:secret") as guarded:
        tls = Secure(folder)
        with Tunnel() as t:
            served(t, "--proxy", f"http://127.0.0.1:{plain.port}")
            said = served(t, "--proxy", f"http://ann:secret@127.0.0.1:{guarded.port}",
                          more=("--connections", "2", "--log-level", "debug"))
            assert "secret" not in said, said
            with open(folder.join("login"), "w", encoding="ascii") as f:
                f.write("ann:secret\n")
            os.chmod(folder.join("login"), 0o644)
            _, _, said = command("health", "--url", t.kit.url, "--proxy", f"127.0.0.1:{guarded.port}", "--proxy-auth-file", folder.join("login"))
            assert "chmod 600" in said and "secret" not in said.replace("keeps the proxy's credentials secret", ""), said
            os.chmod(folder.join("login"), 0o600)
            code, _, said = command("health", "--url", t.kit.url, "--proxy", f"127.0.0.1:{guarded.port}", "--proxy-auth-file", folder.join("login"))
            assert (code, said) == (0, ""), said
        with Tunnel("--tls-cert", tls.cert, "--tls-key", tls.key) as t:
            served(t, "--ca", tls.file, "--proxy", f"http://127.0.0.1:{plain.port}", more=("--connections", "2"))


@case("wss through a proxy with TLS (TLS in TLS), much data both ways, and ws through it")
def _():
    with Folder() as folder, tinyproxy() as inner:
        tls = Secure(folder)
        with tls_before(inner.port, tls.cert, tls.key) as outer, http_service(lambda _, body: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
                                                                              % (len(body), body)) as service:
            by = ("--proxy", f"https://localhost:{outer.port}", "--proxy-ca", tls.file)
            with Tunnel("--tls-cert", tls.cert, "--tls-key", tls.key) as t:
                driver = t.expose(f"0={service.port}", "--ca", tls.file, *by)
                body = os.urandom(3 << 20)
                with open(folder.join("body"), "wb") as f:
                    f.write(body)
                for _ in range(2):
                    code = os.system(f"curl -sS -m 60 --data-binary @{folder.join('body')} {driver.url}/ -o {folder.join('back')}")
                    with open(folder.join("back"), "rb") as f:
                        assert code == 0 and f.read() == body
                assert driver.end(signal.SIGINT) == 0, driver.text()
            with Tunnel() as t:
                served(t, *by)
            code, _, said = command("health", "--url", "wss://localhost:1", "--proxy", f"https://localhost:{outer.port}")
            assert code == 6 and "the certificate of the proxy localhost" in said and "--proxy-ca" in said, (code, said)
            code, _, said = command("expose", "1", "--url", "wss://localhost:1", "--proxy", f"https://localhost:{outer.port}")
            assert code == 3 and "the certificate of the proxy localhost" in said and "--proxy-ca" in said, (code, said)


@case("ws and wss through microsocks, with and without credentials")
def _():
    with Folder() as folder, microsocks() as plain, microsocks("ann:secret") as guarded:
        tls = Secure(folder)
        with Tunnel() as t:
            served(t, "--proxy", f"socks5://127.0.0.1:{plain.port}")
            served(t, "--proxy", f"socks5h://ann:secret@localhost:{guarded.port}")
            code, _, said = command("health", "--url", t.kit.url, "--proxy", f"socks5://ann:wrong@127.0.0.1:{guarded.port}")
            assert code == 6 and "refused the credentials" in said and "wrong" not in said, said
            code, _, said = command("health", "--url", t.kit.url, "--proxy", f"socks5://127.0.0.1:{guarded.port}")
            assert code == 6 and "wants credentials" in said, said
            code, _, said = command("health", "--url", f"ws://localhost:{free_port()}", "--proxy", f"socks5://127.0.0.1:{plain.port}")
            assert code == 6 and "was refused by localhost" in said, said
        with Tunnel("--tls-cert", tls.cert, "--tls-key", tls.key) as t:
            served(t, "--ca", tls.file, "--proxy", f"socks5://127.0.0.1:{plain.port}")


@case("each refusal names its hop, and what helps")
def _():
    with Tunnel() as t, tinyproxy("ann:secret") as guarded, tinyproxy(deny=True) as denies, OurProxy() as ours:
        nobody = free_port()
        for proxy, code, word in [
                (f"http://127.0.0.1:{nobody}", 6, f"cannot connect to the proxy 127.0.0.1:{nobody} (--proxy): connection refused"),
                ("http://proxy.invalid:1", 6, "cannot resolve the proxy proxy.invalid:1 (--proxy)"),
                (f"http://127.0.0.1:{guarded.port}", 6, "wants credentials"),
                (f"http://ann:wrong@127.0.0.1:{guarded.port}", 6, "refused the credentials"),
                (f"http://127.0.0.1:{denies.port}", 6, f"refuses connections to 127.0.0.1:{t.kit.port}"),
                (f"http://127.0.0.1:{t.kit.port}", 6, "does not open connections by CONNECT"),
                (f"https://127.0.0.1:{t.kit.port}", 3, "does not speak TLS"),
                ("gopher://x", 2, "of a kind that is not known"),
                ("http://u:secret@x:y", 2, "no good host and port")]:
            got, _, said = command("expose", "1", "--url", t.kit.url, "--proxy", proxy)
            assert got == code and word in said, (proxy, got, said)
            assert "secret" not in said and "wrong" not in said, said
            got, _, said = command("list", "--url", t.kit.url, "--proxy", proxy)
            assert got == (6 if code == 3 else code) and word in said, (proxy, got, said)
        kit = f"kit.test:{t.kit.port}"
        for answer, word in [("502 Bad Gateway", f"did not reach {kit} (502 Bad Gateway)"), ("504 x", f"got no answer from {kit}"),
                             ("302 Found\r\nLocation: http://portal.test/", "leads to http://portal.test/"),
                             ("200 OK\r\n\r\n<html>", "bytes of its own")]:
            ours.answer = f"HTTP/1.1 {answer}\r\n\r\n".encode()
            got, _, said = command("expose", "1", "--url", f"ws://{kit}", "--proxy", ours.url)
            assert got == 6 and word in said, (answer, got, said)
        ours.answer = None
        got, _, said = command("expose", "1", "--url", f"ws://kit.test:{nobody}", "--proxy", ours.url)
        assert got == 6 and "closed the connection before it answered" in said, said


@case("a proxy that never ends, or never answers, is left in time")
def _():
    with OurProxy(b"") as silent, OurProxy(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100000) as endless:
        for proxy, word in ((silent, "did not answer within 400 ms"), (endless, "has no end")):
            moment = Moment()
            code, _, said = command("expose", "1", "--url", "ws://kit.test", "--proxy", proxy.url, "--connect-timeout", "400ms")
            moment.within(1.5)
            assert code == 6 and word in said, said


@case("the environment: which variable, NO_PROXY, and what goes before them")
def _():
    with Tunnel("--trusted-proxy", "127.0.0.1") as t, OurProxy() as a, OurProxy() as b:
        url = f"ws://kit.test:{t.kit.port}"

        def goes(want, url=url, args=(), **env):
            counts = [len(p.asked) for p in (a, b)]
            _, _, said = command("health", "--url", url, *args, env=env)
            used = "".join(name for name, p, n in zip("ab", (a, b), counts) if len(p.asked) > n) or "-"
            assert used == want and ("cannot resolve kit.test" in said) == (want == "-" and "kit.test" in url), (want, used, env, said)
            return said
        goes("-")
        goes("a", http_proxy=a.url, HTTP_PROXY=b.url)
        goes("b", HTTP_PROXY=b.url, HTTPS_PROXY=a.url)
        goes("-", HTTP_PROXY=b.url, REQUEST_METHOD="GET")
        goes("a", ALL_PROXY=a.url)
        goes("b", ALL_PROXY=a.url, HTTP_PROXY=b.url)
        goes("-", HTTP_PROXY=a.url, NO_PROXY="other.test,.test")
        goes("a", HTTP_PROXY=a.url, NO_PROXY="kit.test", no_proxy="other.test")
        goes("-", HTTP_PROXY=a.url, NO_PROXY=f"kit.test:{t.kit.port}")
        goes("a", HTTP_PROXY=a.url, NO_PROXY="kit.test:1")
        goes("-", HTTP_PROXY=a.url, NO_PROXY="*")
        goes("-", url=t.kit.url, HTTP_PROXY=a.url)  # this machine's own
        goes("a", url=t.kit.url, args=("--proxy", a.url), NO_PROXY="*")
        goes("b", args=("--proxy", b.url), HTTP_PROXY=a.url)
        goes("b", HOODY_TUNNEL_PROXY=b.url, HTTP_PROXY=a.url)
        goes("-", args=("--proxy", "none"), HTTP_PROXY=a.url)
        assert "(HTTP_PROXY)" in command("health", "--url", url, env={"HTTP_PROXY": "http://127.0.0.1:1"})[2]
        with Folder() as folder, http_service(hello) as service:
            with open(folder.join("up.yaml"), "w", encoding="ascii") as f:
                f.write(f"url: {url}\nproxy: http://ann:secret@127.0.0.1:{a.port}\nexpose:\n  - 0={service.port}\n")
            code, _, said = command("config", "check", "-f", folder.join("up.yaml"))
            assert code == 0, said
            up = Program([BIN, "up", "-f", folder.join("up.yaml"), "--json"])
            t.drivers.append(up)
            up.wait_line('"bound"')
            assert "Proxy-Authorization: Basic YW5uOnNlY3JldA==" in a.asked[-1], a.asked[-1]
            assert up.end(signal.SIGINT) == 0, up.text()


@case("credentials of --proxy are not among the arguments of the process")
def _():
    with Tunnel() as t, OurProxy() as ours, http_service(hello) as service:
        driver = t.expose(f"0={service.port}", "--proxy", f"http://ann:secret@127.0.0.1:{ours.port}")
        with open(f"/proc/{driver.pid}/cmdline", "rb") as f:
            line = f.read()
        assert b"secret" not in line and f"@127.0.0.1:{ours.port}".encode() in line, line
        assert driver.end(signal.SIGINT) == 0, driver.text()


@case("a tunnel comes back through a proxy that starts anew, and through one that refuses for a while")
def _():
    with Tunnel() as t, tinyproxy() as real, OurProxy() as ours, http_service(hello) as service:
        first = t.expose(f"0={service.port}", "--proxy", f"http://127.0.0.1:{real.port}")
        second = Driver(t.kit, "expose", f"0={service.port}", "--proxy", ours.url)
        t.drivers.append(second)
        real.stop()
        first.wait_line('"disconnected"')
        real.start()

        def works(driver):
            driver.process.send_signal(signal.SIGHUP)
            return status(driver.port) == 200
        eventually(lambda: works(first), "the first serves again", 20)
        for refusal in ("407 Proxy Authentication Required", "403 Forbidden", "502 Bad Gateway"):
            ours.answer = f"HTTP/1.1 {refusal}\r\n\r\n".encode()
            for c in list(ours.open):
                with contextlib.suppress(OSError):
                    c.shutdown(2)
            eventually(lambda: second.process.send_signal(signal.SIGHUP) or
                       any(refusal[:3] in line for line in second.log if '"retrying"' in line), f"{refusal} is told", 20)
            assert second.process.poll() is None, second.text()
            ours.answer = None
            eventually(lambda: works(second), "the second serves again", 20)
        for driver in (first, second):
            assert driver.end(signal.SIGINT) == 0, driver.text()


if __name__ == "__main__":
    main()
