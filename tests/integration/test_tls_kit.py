"""TLS in the kit: drivers and clients of the base listener, certificates that change under it, and what openssl says of it."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess

from tests.integration.harness import BIN, Folder, Tunnel, command, eventually, hello, http_service, read_head, run
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


@case("a certificate that the kit makes: --pin takes it and no other, and vouches for its name and date alone")
def _():
    with Folder() as folder, http_service(hello) as service:
        with Tunnel("--tls-self-signed") as t:
            pin = re.search(r"--pin (sha256:[0-9a-f]{64})", t.kit.text()).group(1)
            url = t.kit.url.replace("127.0.0.1", "127.1.2.3")  # a name that is not in it
            driver = t.expose(f"0=http://127.0.0.1:{service.port}", "--pin", pin.upper().replace("SHA256", "sha256"))
            assert run(["curl", "-sS", driver.url]) == "hello"
            assert "sessions" in run([BIN, "list", "--json", "--url", t.kit.url, "--pin", pin])
            another = "sha256:" + "00" * 32
            for args, status, says in (
                    (["--url", t.kit.url, "--pin", another], 3, f"is not the pinned one: its fingerprint is {pin}"),
                    (["--url", t.kit.url], 3, "is not trusted"),
                    (["--url", url, "--pin", "sha256:12"], 2, "is not the fingerprint of a certificate"),
                    (["--url", f"ws://127.0.0.1:{t.kit.port}", "--pin", pin], 2, "spoken to without TLS"),
            ):
                ended, _, said = command("expose", str(service.port), "--retry-for", "0", *args)
                assert ended == status and says in said, (args, ended, said)
            ended, _, said = command("list", "--url", t.kit.url, "--pin", another)
            assert ended != 0 and "is not the pinned one" in said, (ended, said)
            ended, _, said = command("events", "--url", t.kit.url, "--pin", another, "--retry-for", "0")
            assert ended != 0 and "is not the pinned one" in said, (ended, said)
            # The certificate as PEM is one to trust, too.
            pem = ssl.get_server_certificate(("127.0.0.1", t.kit.port))
            with open(folder.join("kit.pem"), "w", encoding="ascii") as f:
                f.write(pem)
            trust = ["--ca", folder.join("kit.pem")]
            t.expose(f"0=http://127.0.0.1:{service.port}", *trust)
            t.expose(f"0=http://127.0.0.1:{service.port}", *trust, "--pin", pin)
        with Tunnel("--tls-self-signed", "--public", "https://127.0.0.1:0", "--domain", "T.Test.") as t:
            pem = ssl.get_server_certificate(("127.0.0.1", t.kit.port))
            names = subprocess.run(["openssl", "x509", "-noout", "-ext", "subjectAltName"], input=pem.encode(), check=True, stdout=subprocess.PIPE).stdout
            assert b"DNS:t.test, DNS:*.t.test\n" in names, names


@case("a certificate that ends soon is told in the log and by /readyz?verbose, and one that has ended too")
def _():
    with Folder() as folder:
        ca = Authority(folder)
        pairs = [ca.issue("fine", "DNS:fine.test", days=60), ca.issue("soon", "DNS:soon.test", days=13),
                 ca.issue("over", "DNS:over.test", days=-1)]
        with Tunnel("--tls-cert", ",".join(c for c, _ in pairs), "--tls-key", ",".join(k for _, k in pairs)) as t:
            said = json.loads(run(["curl", "-sS", f"http://localhost:{t.kit.port}/readyz?verbose"]))
            soon, over = said["warnings"]
            assert soon.startswith("the certificate for soon.test ends on ") and over.startswith("the certificate for over.test ended on ")
            eventually(lambda: "soon.test ends on" in t.kit.text() and "over.test ended on" in t.kit.text(), "both in the log")
            assert "fine.test ends" not in t.kit.text()


@case("what cannot be used ends the start, and says which file and why")
def _():
    with Folder() as folder:
        ca = Authority(folder)
        cert, key = ca.issue("one")
        _, another = ca.issue("two")
        for args, says in (
                (["--tls-cert", cert, "--tls-key", another], "is not the one of the first certificate in"),
                (["--tls-cert", folder.join("none.pem")], "none.pem"),
                (["--tls-cert", cert], "no private key"),
                (["--tls-cert", f"{cert},{cert}", "--tls-key", key], "give as many"),
                (["--tls-key", key], "no use without --tls-cert"),
        ):
            status, _, said = command("serve", "--listen", "127.0.0.1:0", *args)
            assert status == 3 and says in said, (args, status, said)


if __name__ == "__main__":
    main()
