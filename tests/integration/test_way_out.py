"""The CONNECT proxy with real programs: who is led where, who is not, and what everybody is told."""

import contextlib
import os
import signal
import socket
import subprocess

from tests.integration.harness import BIN, Folder, Kit, Service, command, eventually, http_service, read_exactly, run
from tests.integration.way_out import WayOut
from tests.support.tap import case, main


def answer(head, body):
    said = f"{head.splitlines()[0]} {len(body)}".encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said)


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


def established(s):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = s.recv(1)
        assert data, head
        head += data
    assert head == b"HTTP/1.1 200 Connection established\r\n\r\n", head


@case("curl through CONNECT, by address and by name; the status that it is told when the way is closed")
def _():
    with http_service(answer) as web, WayOut(allow=[f"127.0.0.1:{web.port}"]) as way:
        def curl(url, *args):
            done = subprocess.run(["curl", "-sS", "--noproxy", "", "-p", "-x", way.url, "-w", " %{http_connect}", *args, url],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
            return done.stdout.decode()
        for host in ("127.0.0.1", "localhost", "LOCALHOST"):
            assert curl(f"http://{host}:{web.port}/a") == "GET /a HTTP/1.1 0 200"
            assert curl(f"http://{host}:{web.port}/b", "-d", "x" * 100000) == "POST /b HTTP/1.1 100000 200"
        assert curl("http://169.254.169.254/latest/meta-data/") == " 403"
        assert curl(f"http://[::1]:{web.port}/") == " 403"
        assert curl(f"http://127.0.0.1:{way.kit.port}/api/v1/tunnel/health") == " 403"
        assert curl(f"http://127.0.0.1:{way.port}/") == " 403"
        assert way.kit.metric('hoody_tunnel_connect_requests_total{outcome="direct"}') == 6
        assert way.kit.metric('hoody_tunnel_connect_requests_total{outcome="denied"}') == 4
        assert way.kit.metric('hoody_tunnel_connect_bytes_total{direction="received"}') > 300000
        eventually(lambda: "it is a port of the kit" in way.kit.text(), "the reason in the log")


@case("curl through SOCKS5, with names that the kit looks up")
def _():
    with http_service(answer) as web, WayOut(allow=[f"127.0.0.1:{web.port}"]) as way:
        def curl(scheme, url):
            done = subprocess.run(["curl", "-sS", "--noproxy", "", "-x", f"{scheme}://127.0.0.1:{way.port}", url],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
            return done.stdout.decode() or done.stderr.decode()
        for scheme in ("socks5h", "socks5"):
            assert curl(scheme, f"http://localhost:{web.port}/a") == "GET /a HTTP/1.1 0"
        assert "(2)" in curl("socks5h", "http://169.254.169.254/"), "not allowed by the rules"
        assert "(2)" in curl("socks5h", f"http://localhost:{way.kit.port}/")
        assert "(8)" in curl("socks5h", "http://0x7f.1.example.0x1/")


@case("http:// URLs: curl's requests in absolute form, one connection for several hosts, answers of every framing")
def _():
    def any_answer(head, body):
        path = head.split()[1]
        assert "proxy" not in head.lower() and path.startswith("/"), head
        if path == "/chunked":
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        if path == "/empty":
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        return answer(head, body)
    with http_service(any_answer) as web, http_service(any_answer) as other, \
            WayOut(allow=[f"127.0.0.1:{web.port}", f"127.0.0.1:{other.port}"]) as way:
        def curl(*args):
            return run(["curl", "-sS", "--noproxy", "", "-x", way.url, "-w", " %{http_code} %{num_connects}\n", *args])
        assert curl(f"http://127.0.0.1:{web.port}/a", f"http://localhost:{other.port}/b") == "GET /a HTTP/1.1 0 200 1\nGET /b HTTP/1.1 0 200 0\n"
        assert curl("-d", "x" * 100000, f"http://localhost:{web.port}/up") == "POST /up HTTP/1.1 100000 200 1\n"
        assert curl("-H", "Transfer-Encoding: chunked", "-d", "x" * 3000, f"http://localhost:{web.port}/up") == "POST /up HTTP/1.1 3000 200 1\n"
        assert curl(f"http://localhost:{web.port}/chunked", f"http://localhost:{web.port}/empty") == "hello 200 1\n 204 0\n"
        assert curl("-I", f"http://localhost:{web.port}/").endswith(" 200 1\n")
        for url in ("http://169.254.169.254/", f"http://localhost:{way.kit.port}/", f"http://127.0.0.1:{way.port}/"):
            assert " 403 1\n" in curl(url), url
        assert " 400 1\n" in run(["curl", "-sS", "-w", " %{http_code} %{num_connects}\n", way.url])  # asked as if it were the service


@case("a name is looked up from inside the sandbox")
def _():
    with WayOut() as way:
        assert way.status("no-such-name.invalid:80") in ((502, "proxy-unknown"), (504, "proxy-timeout"))
        assert way.status(f"localhost:{way.port}") == (403, "proxy-denied")
        eventually(lambda: "few system calls" in way.kit.text(), "a sandbox")


@case("IPv6: an address in brackets, and the loopback address only for who is told to")
def _():
    listener = socket.socket(socket.AF_INET6)
    listener.bind(("::1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    with listener, WayOut(allow=[f"[::1]:{port}"]) as way:
        with way.ask(f"[::1]:{port}", behind=b"early") as s:
            established(s)
            other, _ = listener.accept()
            with other:
                assert read_exactly(other, 5) == b"early"
                other.sendall(b"late")
                assert read_exactly(s, 4) == b"late"
        assert way.status("[::ffff:127.0.0.1]:80") == (403, "proxy-denied")
        assert way.status("[64:ff9b::7f00:1]:80") == (403, "proxy-denied")


@case("half-close both ways, bytes behind the head, a cut that stays a cut")
def _():
    with Service(echo) as raw, WayOut(allow=[f"127.0.0.1:{raw.port}"]) as way:
        with way.ask(f"127.0.0.1:{raw.port}", behind=b"x" * 100000) as s:
            s.shutdown(socket.SHUT_WR)
            established(s)
            assert read_exactly(s, 100000) == b"x" * 100000
            assert s.recv(1) == b""
        s = way.ask(f"127.0.0.1:{raw.port}")
        established(s)
        way.kit.process.kill()
        with s:
            try:
                assert s.recv(1) != b"", "a kit that was killed must not look like an end"
            except ConnectionResetError:
                pass
        way.kit.process.wait()
        way.kit = Kit()  # for the end of the test
        way.kit.metric = lambda name: 0


@case("--connect-default deny: what is allowed and nothing else; deny goes first")
def _():
    with http_service(answer) as web, \
            WayOut("--connect-default", "deny", "--connect-deny", "*:25,*.evil.example", allow=[f"127.0.0.1:{web.port}", "*.example:80"]) as way:
        with way.ask(f"127.0.0.1:{web.port}") as s:
            established(s)
        for target in ("192.0.2.1:443", "example.com:443", "a.example:25", "x.evil.example:80", "a.example:443", "[2001:db8::1]:80"):
            assert way.status(target) == (403, "proxy-denied"), target


@case("an address that is not loopback wants a token, and then each client has to show it; SIGHUP with another one ends them")
def _():
    code, _, said = command("serve", "--listen", "127.0.0.1:0", "--connect-proxy", "0.0.0.0:0")
    assert code == 3 or "0.0.0.0:0 is not a loopback address: set a token" in said, (code, said)
    with Folder() as folder, Service(echo) as raw, http_service(answer) as web:
        token = folder.join("token")
        with open(token, "w", encoding="ascii") as f:
            f.write("first\n")
        # The later --connect-proxy counts.
        with WayOut("--connect-proxy", "0.0.0.0:0", "--token-file", token,
                    allow=[f"127.0.0.1:{raw.port},127.0.0.1:{web.port}"]) as way:
            way.kit.metric = lambda name: 0  # which wants the token as well
            target = f"127.0.0.1:{raw.port}"
            assert way.status(target) == (407, "proxy-token")
            assert way.status(target, "Proxy-Authorization: Bearer second\r\n") == (407, "proxy-token")
            assert run(["curl", "-sS", "--noproxy", "", "-p", "-x", f"http://x:first@127.0.0.1:{way.port}", "-o", "/dev/null", "-w",
                        "%{http_connect}", f"http://127.0.0.1:{web.port}/"]) == "200"
            s = way.ask(target, "Proxy-Authorization: Bearer first\r\n")
            established(s)
            with open(token, "w", encoding="ascii") as f:
                f.write("second\n")
            way.kit.process.send_signal(signal.SIGHUP)
            with s, contextlib.suppress(ConnectionResetError):
                assert s.recv(1) == b""
            assert way.status(target, "Proxy-Authorization: Bearer first\r\n") == (407, "proxy-token")
            with way.ask(target, "Proxy-Authorization: Bearer second\r\n") as s:
                established(s)
            assert "first" not in way.kit.text() and "second" not in way.kit.text()


@case("what cannot be meant ends the start, and says what would be right")
def _():
    for args, said in ((["--connect-allow", "10.0.0.0/33"], '--connect-allow: "10.0.0.0/33" is no destination; write a name'),
                       (["--connect-deny", "a,http://b"], '--connect-deny: "http://b" is no destination'),
                       (["--connect-proxy", "example.com:1"], "--connect-proxy example.com:1: give a numeric address")):
        done = subprocess.run([BIN, "serve", "--listen", "127.0.0.1:0", "--connect-proxy", "127.0.0.1:0", *args], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20, check=False)
        assert done.returncode == 3 and said in done.stdout.decode(), done
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        at = "127.0.0.1:%d" % taken.getsockname()[1]
        code, out, err = command("serve", "--listen", "127.0.0.1:0", "--connect-proxy", at)
        assert code == 3 and f"cannot listen on {at}: address already in use" in out + err, (code, out, err)


@case("a drain waits for connections through the proxy, and ends them when its time is over")
def _():
    with Service(echo) as raw:
        for ends in (True, False):
            way = WayOut("--drain-timeout", "30s" if ends else "100ms", allow=[f"127.0.0.1:{raw.port}"])
            s = way.ask(f"127.0.0.1:{raw.port}")
            established(s)
            way.kit.process.send_signal(signal.SIGTERM)
            way.kit.wait_line("draining")
            if ends:
                assert way.status("127.0.0.1:1") == (503, "proxy-ending")
                s.sendall(b"still")
                assert read_exactly(s, 5) == b"still"
                s.close()
            status = way.kit.process.wait(20)
            assert status == 0, f"kit ended with {status}:\n{way.kit.text()}"
            way.kit.end()
            way.kit.check_sanitizers()
            s.close()


if __name__ == "__main__":
    os.environ.pop("NO_PROXY", None)
    main()
