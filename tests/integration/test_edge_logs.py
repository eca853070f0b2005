"""The log of the edge: what HAProxy tells of each request is in log.db, whatever visitors send and whoever is killed.

Runs: plain.
"""

import contextlib
import json
import os
import random
import re
import signal
import socket
import sqlite3
import ssl
import string
import subprocess
import time

from tests.integration.edge_lines import feed
from tests.integration.edges import DOMAIN, Edge, descendants, is_there
from tests.integration.harness import Folder, eventually, http_service
from tests.support.tap import Skip, case, main

PROJECT, CONTAINER = "67e89abc123def456789abcd", "890abcdef12345678901cdef"
DOTS = "\u2022" * 4


def page():
    return http_service(lambda head, _: b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


def rows(folder, where="1=1", *values):
    """The rows that are committed, as dictionaries, the oldest first."""
    path = os.path.join(folder, "log.db")
    if not os.path.exists(path):
        return []
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as db:
        db.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in db.execute(f"SELECT * FROM log WHERE {where} ORDER BY id", values)]
        except sqlite3.OperationalError as e:
            if "no such" in str(e):  # it is being made just now
                return []
            raise


def until(folder, count, where="1=1", *values, timeout=30.0):
    return eventually(lambda: len(got := rows(folder, where, *values)) >= count and got, f"{count} rows of the log where {where}", timeout)


def tls(edge, host):
    context = ssl.create_default_context(cafile=edge.ca)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", edge.port), 20), server_hostname=host)


def say(edge, data, host=f"me-3000.{DOMAIN}"):
    """Sends bytes over a connection of their own, and reads until it is closed."""
    with tls(edge, host) as s:
        s.settimeout(20)
        with contextlib.suppress(OSError):
            s.sendall(data)
            while s.recv(65536):
                pass


@case("a request, a refused one and a broken connection are rows; secrets in URLs are not told")
def _():
    with Edge() as edge, page() as service:
        edge.expose(f"3000=127.0.0.1:{service.port}")
        edge.until("me-3000", 200)
        before = max(row["id"] for row in until(edge.folder, 1, "status = 200"))
        edge.get("me-3000", "/a%20b?token=geheim&q=1;password=auch", "-A", "it's \"me\"")
        edge.get("nobody-1", "/x?eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "-X", "DELETE")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", edge.port), 10) as s:
            s.sendall(b"GET / HTTP/1.1\r\n\r\n")
            s.recv(1)
        say(edge, b"GARBAGE?token=geheim\r\n\r\n")
        one, two, three, four = until(edge.folder, 4, "id > ?", before)[:4]
        assert (one["kind"], one["level"], one["status"], one["method"]) == (0, 0, 200, "GET"), one
        assert one["url"] == f"/a%20b?token={DOTS}&q=1;password={DOTS}" and one["userAgent"] == 'it\'s "me"', one
        assert one["host"] == f"me-3000.{DOMAIN}" and one["client"] == "127.0.0.1" and one["address"] == "127.0.0.1" and one["port"], one
        assert one["bytesIn"] > 50 and one["bytesOut"] > 5 and one["totalMs"] >= 0 and one["tls"].startswith("TLSv1."), one
        assert abs(one["time"] / 1000 - time.time()) < 60 and one["clientPort"] > 0 and one["reason"] is None, one
        assert (two["kind"], two["level"], two["status"], two["method"], two["reason"]) == (1, 1, 404, "DELETE", "host"), two
        assert two["url"] == f"/x?{DOTS}", two
        assert (three["kind"], three["status"], three["level"]) == (2, None, 1) and "handshake" in three["message"], three
        assert (four["kind"], four["status"], four["message"]) == (2, 400, "the request could not be read"), four
        with open(os.path.join(edge.folder, "log.db"), "rb") as f:
            assert b"geheim" not in f.read()
        assert os.stat(os.path.join(edge.folder, "log.db")).st_mode & 0o777 == 0o600


@case("containers have rows and sums by service; an address book's switches are told")
def _():
    with Folder() as folder:
        book = folder.join("book.json")
        with open(book, "w", encoding="ascii") as f:
            json.dump({"containers": [{"project": PROJECT, "container": CONTAINER, "address": "198.51.100.7", "off": ["exec"]}]}, f)
        with Edge("--containers", book, "--log-address-masking") as edge:
            name = f"{PROJECT}-{CONTAINER}"
            for service, status in (("exec-1", 503), ("nothing-1", 404), ("terminal-2", None)):
                answer = edge.get(f"{name}-{service}.me.containers.{DOMAIN}", "/", "-k")
                assert status in (None, answer.status), (service, answer.status)  # None: nothing that we know is at the container's address
            exec_, nothing, terminal = until(edge.folder, 3)[:3]
            assert (exec_["container"], exec_["serviceName"], exec_["serviceNumber"], exec_["reason"]) == (name, "exec", "1", "off"), exec_
            assert exec_["client"] == "127.0.0.0" and exec_["clientPort"] is None, exec_
            assert (nothing["serviceName"], nothing["reason"], nothing["status"]) == ("nothing", "service", 404), nothing
            assert (terminal["serviceName"], terminal["address"], terminal["port"]) == ("terminal", "198.51.100.7", "76"), terminal
            alone = terminal["reason"] == "unreachable"  # so says a machine without a way there; on others somebody may answer
            assert terminal["kind"] == int(alone), terminal
            with contextlib.closing(sqlite3.connect(os.path.join(edge.folder, "log.db"), timeout=20)) as db:
                sums = db.execute("SELECT container, service, host, requests, refused, errors FROM sums ORDER BY service").fetchall()
            assert [row[:5] for row in sums] == [(name, "exec", "", 1, 1), (name, "terminal", "", 1, int(alone))] and sums[0][5] == 1, sums


@case("what nobody took while the agent stood still comes later, all of it and in order")
def _():
    with Edge() as edge:
        edge.get("one-1")
        until(edge.folder, 1)
        edge.expect("backend 'gate' has no server available")  # HAProxy looks twice a second
        os.kill(edge.program.pid, signal.SIGSTOP)
        try:
            with tls(edge, f"two-2.{DOMAIN}") as s:
                s.settimeout(20)
                reader = s.makefile("rb")
                for i in range(2000):
                    s.sendall(b"GET /%d?%s HTTP/1.1\r\nHost: two-2.%s\r\n\r\n" % (i, b"x" * 300, DOMAIN.encode()))
                    while (line := reader.readline()) != b"\r\n":
                        assert line
                    reader.read(len("Nothing is exposed here."))
        finally:
            os.kill(edge.program.pid, signal.SIGCONT)
        got = until(edge.folder, 2000, "host = ?", f"two-2.{DOMAIN}")
        assert [int(re.match(r"/(\d+)\?", row["url"]).group(1)) for row in got] == list(range(2000))


def hostile(random_):
    """A request that no one means well: one part of it, or several."""
    bad = bytes(c for c in range(256) if c not in b"\r\n\0")

    def anything(most):
        return bytes(random_.choice(bad) for _ in range(random_.randrange(most)))

    name = "".join(random_.choices(string.ascii_lowercase, k=9))
    hosts = [b'{"a":1}', b'","status":"200', b"a" * random_.randrange(300), b"\xff\xfe", b"x\x00y", anything(40), b"\xe2\x80\xaeedge", b"[::1]", b"a b", b"%00", b"\\u0000",
             f"{PROJECT}-{CONTAINER}-{name}-1.me.containers.{DOMAIN}".encode(), f"{name}-3000.{DOMAIN}".encode()]
    agents = [b'"}{"time":"1"', b"\\", b'\\"', b"\x1b]0;x\x07", anything(600), b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"x" * 2000, b"", b"-", b"${jndi:x}", b"'; DROP TABLE log; --",
              b"\xe2\x80\xae", b"\xc3" * 511 + b"\xa9" * 9, b"\x1b" * 700]
    paths = [b"/" + b"%" * random_.randrange(4000), b"/?" + b"&token=geheim" * 400, b"/" + anything(300).replace(b" ", b""), b'/"' * 900, b"//\\", b"*", b"http://u:geheim@h/", b"",
             b"/\xe2\x80\xae", b"/" + b"%c3%a9" * 2000, b"/" + b"/a" * 3500, b"/?eyJa.eyJb." + b"geheim" * 50, b"/?" + b"pw=geheim;" * 300, b"/?%70assword=geheim"]
    heads = [b"POST", b"\x00", b"G" * 60, b'"GET', b"get", b"PRI", b"CONNECT"]
    versions = [b" HTTP/1.0", b" HTTP/9.9", b"", b' HTTP/1."']
    mores = [b"Transfer-Encoding: chunked, x", b"Content-Length: -1", b"Host: twice", b": none"]
    what = random_.randrange(8)
    many = what == 0
    head = (random_.choice(heads) if many or what == 1 else b"GET") + b" " + (random_.choice(paths) if many or what in (2, 3, 4) else b"/")
    fields = [head + (random_.choice(versions) if many or what == 5 else b" HTTP/1.1"),
              b"Host: " + (random_.choice(hosts) if many or what in (2, 6) else b"me-3000." + DOMAIN.encode()),
              b"User-Agent: " + (random_.choice(agents) if what != 1 else b"x"), b"Connection: close", random_.choice(mores) if many else b"X: y"]
    return b"\r\n".join([*fields, b"", b""])


HOSTILE = int(os.environ.get("HOSTILE", "300"))


@case("so many hostile requests are as many rows, each of them valid")
def _():
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    print(f"# SEED={seed}")
    random_ = random.Random(seed)
    with Edge() as edge, page() as service:
        edge.expose(f"3000=127.0.0.1:{service.port}")
        edge.until("me-3000", 200)
        edge.get("last-1", "/before")
        before = until(edge.folder, 1, "url = '/before'")[0]["id"]
        for _i in range(HOSTILE):
            with contextlib.suppress(ssl.SSLError):
                say(edge, hostile(random_))
        edge.get("last-1", "/behind")
        last = until(edge.folder, 1, "url = '/behind'")[0]["id"]
        got = rows(edge.folder, "id > ? AND id < ?", before, last)
        kinds = [row["kind"] for row in got]
        print(f"# {kinds.count(0)} requests, {kinds.count(1)} refused, {kinds.count(2)} could not be read, {kinds.count(3)} words of HAProxy")
        assert len(got) == HOSTILE, len(got)
        assert 3 not in kinds, [row for row in got if row["kind"] == 3][:3]
        for row in got:
            assert all(isinstance(value, (int, str, type(None))) for value in row.values()), row  # text that is no UTF-8 would have raised
            assert len(row["url"] or "") <= 8192 and "geheim" not in (row["url"] or ""), row
            assert row["client"] == "127.0.0.1" and row["time"] > 1.7e12, row
        assert edge.get("me-3000").status == 200


@case("killed at any moment: the next agent goes on with what was committed, and the file is whole")
def _():
    random_ = random.Random(7)
    with Folder() as folder:
        known, path = {}, folder.join("edge")
        for round_ in range(5):
            with Edge(folder=path) as edge:
                left = descendants(edge.program.pid)
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(os.path.join(path, "run", "log.sock"))
                    end = time.monotonic() + random_.uniform(0.05, 0.5)
                    n = 0
                    # A slow one may have committed nothing in all that time; the last waits for it.
                    while time.monotonic() < end or (round_ == 4 and not rows(path)):
                        line = b'{"time":"%d","url":"/%d","status":"200"}' % (time.time() * 1000, n)
                        s.sendall(b"%d %s" % (len(line), line))
                        n += 1
                    seen = {row["id"]: row["url"] for row in rows(path)}
                    edge.program.process.kill()
                    edge.program.process.wait()
                eventually(lambda: not any(map(is_there, left)), "the end of HAProxy")
            assert known.items() <= seen.items()
            now = {row["id"]: row["url"] for row in rows(path)}
            assert seen.items() <= now.items(), (len(seen), len(now))
            known = now
            with contextlib.closing(sqlite3.connect(os.path.join(path, "log.db"))) as db:
                assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        print(f"# {len(known)} rows in the end")
        assert known and sorted(known) == list(range(1, len(known) + 1))


@case("the file is no larger than --log-max-size, and the newest rows are there")
def _():
    with Edge("--log-max-size", "2M") as edge:
        feed(edge.folder, 30000)
        until(edge.folder, 1, "url LIKE '/29999?%'")
        assert os.path.getsize(os.path.join(edge.folder, "log.db")) <= 2 << 20
        assert os.path.getsize(os.path.join(edge.folder, "log.db-wal")) <= 8 << 20
        got = rows(edge.folder)
        assert 1000 < len(got) < 8000 and [row["id"] for row in got] == list(range(got[0]["id"], 30001)), (len(got), got[0]["id"])


@case("what is no log at the socket ends its connection and nothing else")
def _():
    with Edge() as edge:
        for bad in (b"x", b"0 ", b"99999 ", b"7\n", b"GET / HTTP/1.1\r\n\r\n"):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(os.path.join(edge.folder, "run", "log.sock"))
                s.settimeout(20)
                s.sendall(bad)
                assert s.recv(1) == b"", bad
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(os.path.join(edge.folder, "run", "log.sock"))
            s.sendall(b"30 cut")
        edge.get("one-1")
        assert until(edge.folder, 1)[0]["host"] == f"one-1.{DOMAIN}"


@case("a disk that is full takes lines away and no request; it is said once, and once more when it is over")
def _():
    with Folder() as folder:
        mount = folder.join("small")
        os.mkdir(mount)
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", mount], capture_output=True, check=False).returncode:
            raise Skip("a file system of its own cannot be mounted")
        try:
            with Edge(folder=os.path.join(mount, "edge")) as edge:
                edge.expect("the log cannot be written")
                edge.get("one-1")
                until(edge.folder, 1)
                filler = os.path.join(mount, "filler")
                with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as f:
                    while f.write(b"x" * 4096):
                        pass
                feed(edge.folder, 2000)
                edge.program.wait_line("the log cannot be written, and its lines are lost until it can: ")
                assert edge.get("two-2").status == 404
                os.unlink(filler)
                eventually(lambda: edge.get("three-3").status == 404 and rows(edge.folder, "host = ?", f"three-3.{DOMAIN}"), "a row again")
                edge.program.wait_line(r"the log is written again; \d+ lines were lost")
                lost = rows(edge.folder, "kind = 3 AND message LIKE '% lines were lost%'")
                assert len(lost) == 1 and lost[0]["level"] == 2, lost
                assert sum("the log cannot be written" in line for line in edge.program.log) == 1
        finally:
            subprocess.run(["umount", mount], check=True)


@case("a file that is damaged is set aside, and said; one that another program has locked is waited for")
def _():
    with Folder() as folder:
        path = folder.join("edge")
        os.mkdir(path, 0o700)
        with open(os.path.join(path, "log.db"), "wb") as f:
            f.write(b"no database, " * 1000)
        with Edge(folder=path) as edge:
            edge.expect("the log's file was damaged")
            assert re.search(r"the log's file was damaged: it is \S+/log\.db\.damaged now, and a new one is begun", edge.program.text())
            edge.get("one-1")
            until(path, 1)
            with contextlib.closing(sqlite3.connect(os.path.join(path, "log.db"), isolation_level=None)) as db:
                db.execute("BEGIN IMMEDIATE")
                edge.get("two-2")
                assert edge.get("three-3").status == 404
                db.execute("COMMIT")
            until(path, 1, "host = ?", f"two-2.{DOMAIN}")


@case("a reload keeps the log going: rows of before, meanwhile and after")
def _():
    with Edge() as edge:
        worker = edge.worker()
        edge.get("one-1", "/before")
        edge.program.process.send_signal(signal.SIGHUP)
        n = 0
        while edge.worker() in (worker, None) or n < 20:
            edge.get("one-1", f"/{n}")
            n += 1
        edge.get("one-1", "/behind")
        until(edge.folder, 1, "url = '/behind'")
        urls = {row["url"] for row in rows(edge.folder)}
        lost = [i for i in range(n) if f"/{i}" not in urls]
        print(f"# {n} requests around a reload, {len(lost)} not in the log")
        assert "/before" in urls and len(lost) <= 2, lost


if __name__ == "__main__":
    main()
