"""Local services that are not as one would like them: one thread, TLS, nobody there."""

import http.client
import http.server
import json
import socket
import ssl
import subprocess
import threading

from tests.integration.harness import BIN, Folder, Moment, Service, Tunnel, eventually, free_port
from tests.support.tap import case, main


class Slow(http.server.BaseHTTPRequestHandler):
    """A third of a second for each request, and keep-alive: one connection after another."""

    protocol_version = "HTTP/1.1"
    gate = threading.Event()

    def do_GET(self):
        self.gate.wait(0.3)  # never set: the work that a request is
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def four_at_once(port, fresh):
    """How long four parallel requests take. `fresh`: each on a connection of its own that closes behind it."""
    done = []

    def one():
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        c.request("GET", "/", headers={"Connection": "close"} if fresh else {})
        done.append(c.getresponse().read())
        c.close()

    threads = [threading.Thread(target=one) for _ in range(4)]
    moment = Moment()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert done == [b"ok"] * 4, done
    return moment, moment.took()


@case("a single-threaded keep-alive service is about as fast through the tunnel as directly")
def _():
    server = http.server.HTTPServer(("127.0.0.1", 0), Slow)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with Tunnel() as t:
            port = t.expose(f"0={server.server_address[1]}").port
            _, direct = four_at_once(server.server_address[1], fresh=True)
            for _ in range(3):
                moment, took = four_at_once(port, fresh=False)
                moment.within(2 * direct + 1, f"through the tunnel, with {direct:.2f} s direct, it", took)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(port, accept="*/*"):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    c.request("GET", "/", headers={"Accept": accept})
    answer = c.getresponse()
    body = answer.read().decode()
    c.close()
    return answer, body


@case("nobody at the service's port: the driver warns at once, the visitor learns why, in the form that it asked for")
def _():
    with Tunnel() as t:
        nobody = free_port()
        driver = t.expose(f"0={nobody}")
        eventually(lambda: "connection refused" in driver.text(), "the warning")
        answer, body = ask(driver.port)
        assert answer.status == 502 and answer.headers["X-Hoody-Tunnel"] == "error=origin-refused", answer.headers
        assert answer.headers["Cache-Control"] == "no-store" and answer.headers["Date"].endswith(" GMT"), answer.headers
        assert "not running" in body and answer.headers["Content-Type"] == "text/plain; charset=utf-8", body
        answer, body = ask(driver.port, "application/json")
        assert json.loads(body)["error"] == "origin-refused", body
        answer, body = ask(driver.port, "text/html,*/*;q=0.8")
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8" and "<h1>502 Bad Gateway</h1>" in body, body


def on_v6_alone():
    """A listener on ::1, and a socket that keeps everybody else from its port on 127.0.0.1 and refuses who dials."""
    while True:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6, backlog=64)
        held = socket.socket()
        try:
            held.bind(("127.0.0.1", listener.getsockname()[1]))
            return listener, held
        except OSError:
            listener.close()
            held.close()


@case("a service on ::1 alone is found by its port, and by localhost")
def _():
    def hello(connection):
        while connection.recv(65536):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    try:
        listener, held = on_v6_alone()
    except OSError:
        print("# no IPv6 on this machine's loopback")
        return
    port = listener.getsockname()[1]

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=hello, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        with Tunnel() as t:
            for target in (f"0={port}", f"0=localhost:{port}"):
                assert ask(t.expose(target).port)[1] == "hello"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        held.close()
        thread.join(5)


@case("the error for a TLS service behind a plain target says that it may speak TLS")
def _():
    with Folder() as folder, Tunnel() as t:
        key, cert = folder.join("key.pem"), folder.join("cert.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-subj", "/CN=localhost", "-keyout", key, "-out", cert], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)

        def handle(connection):
            try:
                context.wrap_socket(connection, server_side=True).close()
            except (ssl.SSLError, OSError):
                pass

        with Service(handle) as service:
            answer, body = ask(t.expose(f"0={service.port}").port)
            assert answer.status == 502 and "TLS" in body, body
            assert answer.headers["X-Hoody-Tunnel"] in ("error=origin-closed", "error=origin-tls"), answer.headers


@case("a driver's own bounds: requests beyond --max-streams are told 503, a kit that wants more than --max-window is refused")
def _():
    go = threading.Event()

    def held(connection):
        connection.recv(65536)
        go.wait(30)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    with Tunnel() as t, Service(held) as service:
        driver = t.expose(f"0={service.port}", "--max-streams", "1")
        first = http.client.HTTPConnection("127.0.0.1", driver.port, timeout=30)
        first.request("GET", "/")
        eventually(lambda: t.kit.get("/tunnels")["totalStreams"] == 1, "the first request is under way")
        answer, body = ask(driver.port)
        assert answer.status == 503 and answer.headers["X-Hoody-Tunnel"] == "error=driver-busy", (answer.headers, body)
        assert answer.headers["Retry-After"], answer.headers
        go.set()
        assert first.getresponse().read() == b"ok"
        first.close()
        done = subprocess.run([BIN, "expose", f"0={service.port}", "--url", t.kit.url, "--max-window", "64K"], capture_output=True,
                              text=True, timeout=30, check=False)
        assert done.returncode == 1 and "--max-window lets it have more" in done.stderr, (done.returncode, done.stderr)


if __name__ == "__main__":
    main()
