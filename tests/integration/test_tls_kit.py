"""TLS in the kit: drivers and clients of the base listener, certificates that change under it, and what openssl says of it."""

import os
import signal
import socket
import ssl

from tests.integration.harness import BIN, Folder, Tunnel, eventually, hello, http_service, read_head, run
from tests.integration.tls_peer import Authority
from tests.support.tap import case, main


def secure(port, ca, name="localhost", **more):
    context = ssl.create_default_context(cafile=ca)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=10), server_hostname=name, **more)


def ask(connection, path="/readyz", host="localhost"):
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    head, _ = read_head(connection)
    return int(head.split(b" ", 2)[1])


def subject(port, ca, name="localhost"):
    with secure(port, ca, name) as c:
        return dict(row[0] for row in c.getpeercert()["subject"])["commonName"]


@case("a driver comes by wss:// without an edge, curl by https://, and a program of this machine in the clear")
def _():
    with Folder() as folder, http_service(hello) as service:
        ca = Authority(folder)
        cert, key = ca.issue("kit")
        with Tunnel("--tls-cert", cert, "--tls-key", key) as t:
            driver = t.expose(f"0=http://127.0.0.1:{service.port}", "--ca", ca.path("ca.pem"))
            assert t.kit.url.startswith("wss://")
            assert run(["curl", "-sS", driver.url]) == "hello"
            said = run(["curl", "-sS", "--cacert", ca.path("ca.pem"), f"https://localhost:{t.kit.port}/api/v1/tunnel/health"])
            assert '"status":"ok"' in said, said
            assert '"status":"ok"' in run(["curl", "-sS", f"http://localhost:{t.kit.port}/livez"])
            out = run([BIN, "list", "--url", f"https://localhost:{t.kit.port}", "--ca", ca.path("ca.pem")])
            assert str(driver.port) in out, out
            assert t.kit.metric('hoody_tunnel_tls_handshakes_total{session="full"}') >= 3


@case("files that change and SIGHUP: a new certificate is in force, a broken one is not, and no connection is lost")
def _():
    with Folder() as folder, http_service(hello) as service:
        ca = Authority(folder)
        trust = ca.path("ca.pem")
        cert, key = ca.issue("first")
        with Tunnel("--tls-cert", cert, "--tls-key", key) as t:
            driver = t.expose(f"0=http://127.0.0.1:{service.port}", "--ca", trust)
            with secure(t.kit.port, trust) as old:
                assert ask(old) == 200
                new_cert, new_key = ca.issue("second")
                os.replace(new_cert, cert)
                os.replace(new_key, key)
                eventually(lambda: subject(t.kit.port, trust) == "second", "the new certificate")
                with open(key, "w", encoding="ascii") as f:
                    f.write("nothing\n")
                t.kit.process.send_signal(signal.SIGHUP)
                t.kit.wait_line("no private key.*the old certificate stays in force")
                assert subject(t.kit.port, trust) == "second"
                assert ask(old) == 200
            assert run(["curl", "-sS", driver.url]) == "hello"
            assert len(driver.events("connected")) == 1 and not driver.events("disconnected")


if __name__ == "__main__":
    main()
