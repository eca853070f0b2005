"""PULL with real servers and clients: PostgreSQL with pgbench, Redis with redis-benchmark; raw TCP with half-close.

Runs: plain.
"""

import glob
import hashlib
import os
import shutil
import signal
import socket
import threading

from tests.integration.harness import (Folder, Program, Service, Tunnel, connect, eventually, free_port, run)
from tests.support.tap import case, main


def as_user(user, argv):
    """PostgreSQL refuses to run as root."""
    return ["runuser", "-u", user, "--", *argv] if os.geteuid() == 0 else argv


@case("PostgreSQL through PULL: pgbench initialises, runs with 8 clients, and the sums agree")
def _():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    assert found, "PostgreSQL's server is not installed"
    bin_dir = os.path.dirname(found[-1])
    pgbench = shutil.which("pgbench") or os.path.join(bin_dir, "pgbench")
    with Folder("postgres") as folder, Tunnel() as t:
        data = folder.join("data")
        run(as_user("postgres", [f"{bin_dir}/initdb", "-D", data, "-U", "tester", "-A", "trust", "--no-sync"]), cwd=folder.path)
        port = free_port()
        server = Program(as_user("postgres", [f"{bin_dir}/postgres", "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1",
                                              "-k", folder.path, "-F"]), cwd=folder.path)
        try:
            server.wait_line("ready to accept connections", 60)
            driver = t.pull(f"0={port}")
            env = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(driver.port), "PGUSER": "tester", "PGDATABASE": "postgres"}
            run([pgbench, "-i", "-s", "2", "-q"], env=env, cwd=folder.path)
            out = run([pgbench, "-c", "8", "-j", "2", "-t", "100"], env=env, cwd=folder.path)
            assert "number of transactions actually processed: 800/800" in out, out
            query = "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)"
            assert run([f"{bin_dir}/psql", "-Atc", query], env=env, cwd=folder.path).strip() == "t"
            out = run([pgbench, "-c", "4", "-t", "20", "-C", "-S"], env=env, cwd=folder.path)  # a connection a transaction
            assert "80/80" in out, out
        finally:
            # SIGINT is PostgreSQL's fast shutdown; runuser passes SIGTERM only, so the server is asked through its pid file.
            with open(os.path.join(data, "postmaster.pid"), encoding="ascii") as f:
                os.kill(int(f.readline()), signal.SIGINT)
            server.end()


@case("Redis through PULL: redis-benchmark with pipelining and a 16 MiB value")
def _():
    with Folder() as folder, Tunnel() as t:
        port = free_port()
        server = Program(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder.path])
        try:
            server.wait_line("Ready to accept connections", 30)
            driver = t.pull(f"0={port}")
            out = run(["redis-benchmark", "-p", str(driver.port), "-n", "20000", "-c", "50", "-P", "8", "-q", "-t", "set,get,lpush"])
            assert out.count("requests per second") >= 3, out
            value = os.urandom(16 << 20).hex()[:16 << 20].encode()
            with connect(driver.port) as c:
                c.sendall(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n%s\r\n" % (len(value), value))
                assert c.recv(5) == b"+OK\r\n"
                c.sendall(b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n")
                data = b""
                want = b"$%d\r\n" % len(value) + value + b"\r\n"
                while len(data) < len(want):
                    data += c.recv(1 << 20)
                assert hashlib.sha256(data).digest() == hashlib.sha256(want).digest()
        finally:
            server.end()


@case("half-close: the request ends with FIN, the answer comes after it, both ways")
def _():
    def answer_after_eof(c):
        digest = hashlib.sha256()
        while data := c.recv(65536):
            digest.update(data)
        c.sendall(digest.hexdigest().encode())

    with Tunnel() as t, Service(answer_after_eof) as service:
        driver = t.pull(f"0={service.port}")
        payload = os.urandom(5_000_000)
        for body in (b"", b"x", payload):
            with connect(driver.port) as c:
                c.sendall(body)
                c.shutdown(socket.SHUT_WR)
                got = b""
                while data := c.recv(65536):
                    got += data
                assert got == hashlib.sha256(body).hexdigest().encode(), (len(body), got)

    first_eof = threading.Event()

    def eof_first(c):
        c.sendall(b"hello")
        c.shutdown(socket.SHUT_WR)
        got = b""
        while data := c.recv(65536):
            got += data
        assert got == b"thanks", got
        first_eof.set()

    with Tunnel() as t, Service(eof_first) as service:
        with connect(t.pull(f"0={service.port}").port) as c:
            got = b""
            while data := c.recv(100):
                got += data
            assert got == b"hello", got
            c.sendall(b"thanks")
        assert first_eof.wait(10)


@case("the local service refuses or resets: so does the pulled port")
def _():
    with Tunnel() as t:
        driver = t.pull(f"0={free_port()}")
        try:  # the reset may come before connect() has returned
            with connect(driver.port, timeout=10) as c:
                assert c.recv(1) == b""
        except ConnectionResetError:
            pass

    def reset(c):
        c.recv(1)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    with Tunnel() as t, Service(reset) as service:
        with connect(t.pull(f"0={service.port}").port) as c:
            c.sendall(b"x")
            try:
                c.recv(1)
                raise AssertionError("a reset looked like an orderly end")
            except ConnectionResetError:
                pass


@case("200 TCP connections at once echo their own bytes; then nothing is left")
def _():
    def echo(c):
        while data := c.recv(65536):
            c.sendall(data)

    with Tunnel() as t, Service(echo) as service:
        driver = t.pull(f"0={service.port}")
        connections = [connect(driver.port) for _ in range(200)]
        for round_ in range(3):
            for i, c in enumerate(connections):
                c.sendall(b"%d/%d." % (round_, i) * 100)
            for i, c in enumerate(connections):
                want = b"%d/%d." % (round_, i) * 100
                got = b""
                while len(got) < len(want):
                    got += c.recv(65536)
                assert got == want
        assert t.kit.get("/tunnels")["totalStreams"] == 200
        for c in connections:
            c.close()
        eventually(lambda: t.kit.get("/tunnels")["totalStreams"] == 0, "the streams end with their connections")


if __name__ == "__main__":
    main()
