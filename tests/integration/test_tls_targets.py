"""Client-side TLS: plain TCP in the container, TLS from the laptop, against real servers with good and bad certificates."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading

from tests.integration.harness import (BIN, Folder, Nginx, Program, Service, Tunnel, command, connect, eventually, read_all, run, warned)
from tests.integration.tls_peer import Authority, TlsService
from tests.support.tap import case, main


def name_the_client(c):
    """A server that answers with the common name of the client's certificate."""
    subject = dict(pair[0] for pair in c.getpeercert()["subject"])
    c.sendall(subject["commonName"].encode())


def was_reset(port, says=b"x"):
    try:
        with connect(port) as c:
            c.sendall(says)
            return c.recv(10) is None
    except ConnectionResetError:
        return True


@case("curl in the container speaks HTTP, nginx gets HTTPS with SNI and the host's name")
def _():
    config = """events {} http { access_log off; server { listen 127.0.0.1:{0} ssl; ssl_certificate CERT; ssl_certificate_key KEY;
        location / { return 200 "$ssl_server_name $ssl_alpn_protocol $host"; } } }"""
    with Folder() as folder:
        ca = Authority(folder)
        cert, key = ca.issue("srv")
        with Nginx(folder, config.replace("CERT", cert).replace("KEY", key)) as nginx, Tunnel() as t:
            driver = t.pull(f"0=tls://localhost:{nginx.ports[0]}", "--target-ca", ca.path("ca.pem"))
            assert driver.bound[0]["target"] == f"tls://localhost:{nginx.ports[0]}", driver.bound
            assert (driver.bound[0]["tls"], driver.bound[0]["insecure"]) == (True, False)
            out = run(["curl", "-sS", "-H", "Host: localhost", f"http://127.0.0.1:{driver.port}/"])
            assert out == "localhost  localhost", out
            driver = t.pull(f"0=tls://localhost:{nginx.ports[0]}", "--target-ca", ca.path("ca.pem"), "--target-alpn", "http/1.1")
            out = run(["curl", "-sS", "-H", "Host: localhost", f"http://127.0.0.1:{driver.port}/"])
            assert out == "localhost http/1.1 localhost", out


@case("a certificate that is expired, for another name, or of an unknown authority: told at the start, and to each connection")
def _():
    with Folder() as folder:
        ca = Authority(folder)
        trust = ["--target-ca", ca.path("ca.pem")]
        rows = [
            (ca.issue("old", days=-1), trust, "certificate has expired; this machine's clock says"),
            (ca.issue("other", san="DNS:elsewhere.example"), trust, "is for another name"),
            (ca.issue("srv"), [], "; give its CA with --target-ca"),
        ]
        for (cert, key), args, says in rows:
            with TlsService(cert, key, lambda c: c.sendall(b"never")) as service, Tunnel() as t:
                driver = t.pull(f"0=tls://localhost:{service.port}", *args)
                warned(driver, f"connections to port {driver.port} are reset")
                assert any(says in line for line in driver.log), driver.text()
                assert was_reset(driver.port)
                event = eventually(lambda d=driver: d.events("connection"), "the event")[0]
                assert says in event["error"] and event["resetCode"] == 6, event
                assert service.failed or not says.startswith("is for"), service.failed


@case("a port without TLS behind it, and none at all, are told as what they are")
def _():
    with Service(lambda c: c.sendall(b"SSH-2.0-nothing\r\n")) as service, Tunnel() as t:
        driver = t.pull(f"0=tls://localhost:{service.port}")
        warned(driver, f"localhost:{service.port} does not speak TLS")
        assert was_reset(driver.port)


@case("tls+insecure:// takes any certificate, and says so in the log, in red, and in the event")
def _():
    with Folder() as folder:
        cert, key = Authority(folder).issue("old", san="DNS:elsewhere.example", days=-1)
        with TlsService(cert, key, lambda c: c.sendall(c.recv(100).upper())) as service, Tunnel() as t:
            driver = t.pull(f"0=tls+insecure://127.0.0.1:{service.port}")
            assert (driver.bound[0]["tls"], driver.bound[0]["insecure"]) == (True, True), driver.bound
            warned(driver, f"the certificate of tls+insecure://127.0.0.1:{service.port} is not verified")
            with connect(driver.port) as c:
                c.sendall(b"hello")
                assert read_all(c) == b"HELLO"
            # Beside it, in the same driver, one that is verified stays so.
            both = t.pull(f"0=tls+insecure://127.0.0.1:{service.port}", f"0=tls://127.0.0.1:{service.port}", bindings=2)
            ports = {b["insecure"]: b["containerPort"] for b in both.bound}
            assert was_reset(ports[False])
            with connect(ports[True]) as c:
                c.sendall(b"hello")
                assert read_all(c) == b"HELLO"
            url_file = folder.join("url")
            lines = subprocess.Popen([driver.argv[0], "pull", "--url", t.kit.url, f"0=tls+insecure://127.0.0.1:{service.port}",
                                      "--color", "always", "--url-file", url_file], stdout=subprocess.PIPE, text=True)
            try:
                eventually(lambda: os.path.exists(url_file), "the port")
            finally:
                lines.terminate()
                out = lines.communicate(timeout=20)[0]
            assert f"-> \033[31mtls+insecure://127.0.0.1:{service.port}\033[0m\033[31m  certificate not verified\033[0m" in out, out


@case("a certificate of our own: shown from one file or two; a server that misses it is told in the event")
def _():
    with Folder() as folder:
        ca = Authority(folder)
        cert, key = ca.issue("srv")
        mine, my_key = ca.issue("me")
        both = folder.join("both.pem")
        with open(both, "w", encoding="ascii") as f:
            for name in (mine, my_key):
                with open(name, encoding="ascii") as part:
                    f.write(part.read())
        trust = ["--target-ca", ca.path("ca.pem")]
        with TlsService(cert, key, name_the_client, ca=ca.path("ca.pem")) as service, Tunnel() as t:
            for args in (["--target-cert", mine, "--target-key", my_key], ["--target-cert", both]):
                driver = t.pull(f"0=tls://localhost:{service.port}", *trust, *args)
                with connect(driver.port) as c:
                    assert read_all(c) == b"me"
            driver = t.pull(f"0=tls://localhost:{service.port}", *trust)
            # Bytes that the server does not read any more would make its end a reset, and that overtakes what TLS says.
            assert was_reset(driver.port, says=b"")
            event = eventually(lambda: driver.events("connection"), "the event")[0]
            assert "certificate required" in event["error"], event


@case("a certificate of our own that is replaced is shown to the next connection; half of a new pair changes nothing")
def _():
    with Folder() as folder:
        ca = Authority(folder)
        cert, key = ca.issue("srv")
        shown, shown_key = folder.join("shown.pem"), folder.join("shown.key")

        def put(name, to):
            shutil.copy(name, to + ".new")
            os.replace(to + ".new", to)

        old, new = ca.issue("me"), ca.issue("me-again")
        put(old[0], shown)
        put(old[1], shown_key)
        with TlsService(cert, key, name_the_client, ca=ca.path("ca.pem")) as service, Tunnel() as t:
            driver = t.pull(f"0=tls://localhost:{service.port}", "--target-ca", ca.path("ca.pem"), "--target-cert", shown, "--target-key", shown_key)

            def who():
                with connect(driver.port) as c:
                    return read_all(c)

            assert who() == b"me"
            put(new[0], shown)
            assert who() == b"me"  # its key is still to come
            put(new[1], shown_key)
            assert who() == b"me-again"
            os.remove(shown)
            assert who() == b"me-again"


@case("what goes through is whole, both ways, with its half-close; a cut without TLS's last word is none")
def _():
    def answer_after_eof(c):
        digest = hashlib.sha256()
        while data := c.recv(65536):
            digest.update(data)
        c.sendall(digest.hexdigest().encode())

    cut = threading.Event()

    def cut_short(c):
        c.sendall(b"half of it")
        c.recv(1)
        raw = socket.socket(fileno=os.dup(c.fileno()))
        raw.shutdown(socket.SHUT_WR)  # a FIN, and no close_notify
        cut.wait(20)
        raw.close()

    with Folder() as folder:
        ca = Authority(folder)
        cert, key = ca.issue("srv")
        trust = ["--target-ca", ca.path("ca.pem")]
        with TlsService(cert, key, answer_after_eof) as service, Tunnel() as t:
            driver = t.pull(f"0=tls://localhost:{service.port}", *trust)
            for body in (b"", b"x", os.urandom(20_000_000)):
                with connect(driver.port) as c:
                    c.sendall(body)
                    c.shutdown(socket.SHUT_WR)
                    assert read_all(c) == hashlib.sha256(body).hexdigest().encode(), len(body)
        with TlsService(cert, key, cut_short) as service, Tunnel() as t:
            driver = t.pull(f"0=tls://localhost:{service.port}", *trust)
            try:
                with connect(driver.port) as c:
                    c.sendall(b"x")
                    read_all(c)
                    raise AssertionError("a cut looked like an orderly end")
            except ConnectionResetError:
                cut.set()


@case("the file of up: a certificate and authorities by item, beside the file; what is wrong has a line")
def _():
    with Folder() as folder:
        ca = Authority(folder)
        cert, key = ca.issue("srv")
        ca.issue("me")

        with TlsService(cert, key, name_the_client, ca=ca.path("ca.pem")) as service, Tunnel() as t:
            path = folder.join("tunnel.yaml")
            with open(path, "w", encoding="ascii") as f:
                f.write(f"url: {t.kit.url}\npull:\n  - target: tls://localhost:{service.port}\n    port: 0\n    ca: ca.pem\n"
                        "    cert: me.pem\n    key: me.key\n    alpn: http/1.1\n")
            status, out, said = command("config", "check", "-f", path)
            assert status == 0, said
            assert f"tls://localhost:{service.port}, trusts {ca.path('ca.pem')}, shows {ca.path('me.pem')}" in out, out
            listed = json.loads(command("config", "check", "-f", path, "--json")[1])["bindings"][0]
            assert (listed["tls"], listed["insecure"]) == (True, False), listed
            up = Program([BIN, "up", "-f", path, "--json"])
            port = json.loads(up.wait_line(r'^\{.*"event":\s*"bound".*\}$').group(0))["containerPort"]
            with connect(port) as c:
                assert read_all(c) == b"me"
            assert up.end() == 0
        for item, says in (
                ("{target: 'tls://localhost', ca: none.pem}", ":2:5: error: cannot read the CA certificates in "),
                ("{target: 'tls://localhost', cert: me.pem, key: srv.key}", ":2:5: error: the key in "),
                ("{target: 5432, ca: ca.pem}", ":2:5: error: \"5432\": TLS is spoken to https:// and tls:// targets only"),
                ("{target: 'tls://localhost/x'}", ":2:14: error: target: \"tls://localhost/x\": a target has no path"),
                ("{target: 'https://localhost'}", ":2:14: error: target: \"https://localhost\": https:// is for expose"),
        ):
            with open(path, "w", encoding="ascii") as f:
                f.write(f"pull:\n  - {item}\n")
            status, _, said = command("config", "check", "-f", path)
            assert status == 3 and says in said, (item, status, said)
        with open(path, "w", encoding="ascii") as f:
            f.write("expose: [8443=tls://localhost]\n")
        status, _, said = command("config", "check", "-f", path)
        assert status == 3 and "1:10: error:" in said and "tls:// is for pull" in said, said


@case("a command line that makes no sense is explained, with its exit code")
def _():
    with Folder() as folder:
        ca = Authority(folder)
        for args, status, says in (
                (["pull", "8085:tls://www.example.com"], 2, "write 8085=tls://www.example.com"),
                (["expose", "tls://localhost"], 2, "tls:// is for pull"),
                (["pull", "5432", "--target-ca", ca.path("ca.pem")], 2, "there is none"),
                (["pull", "tls://localhost", "--target-ca", "none.pem"], 3, "none.pem"),
                (["pull", "tls://localhost", "--target-key", ca.path("ca.key")], 2, "the certificate that it belongs to is missing"),
                (["pull", "tls+insecure://localhost", "--target-ca", ca.path("ca.pem")], 2, "is not verified"),
        ):
            ended, _, said = command(*args)
            assert ended == status and says in said, (args, ended, said)


if __name__ == "__main__":
    main()
