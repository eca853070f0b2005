"""What a person sees: the block on a terminal (through a pseudo-terminal and a terminal emulator), QR codes, colours, lines."""

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time

from tests.integration.harness import (BIN, Folder, Kit, Program, Service, Tunnel, command, connect, eventually, free_port,
                                       http_service, insist, read_head)
from tests.support.tap import Skip, case, main

try:
    import pyte
except ImportError:
    pyte = None


class Terminal(contextlib.AbstractContextManager):
    """A program of ours on a terminal of its own; .lines() is what the screen shows."""

    def __init__(self, *args, columns=100, rows=30, env=None):
        if not pyte:
            raise Skip("python3-pyte is not installed")
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.lock = threading.Lock()
        self.master, self.slave = os.openpty()
        self._size(columns, rows)
        self.before = termios.tcgetattr(self.slave)
        environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(env or {})}
        if "NO_COLOR" not in (env or {}):
            environment.pop("NO_COLOR", None)

        def own_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen([BIN, *args], stdin=self.slave, stdout=self.slave, stderr=self.slave, env=environment,
                                        preexec_fn=own_terminal)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _size(self, columns, rows):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self):
        while True:
            try:
                if not select.select([self.master], [], [], 0.2)[0]:
                    continue
                data = os.read(self.master, 65536)
            except (OSError, ValueError):
                return
            if not data:
                return
            with self.lock:
                self.raw += data
                self.stream.feed(data)

    def resize(self, columns, rows):
        with self.lock:
            self.screen.resize(rows, columns)
            self.screen.cursor.y = min(self.screen.cursor.y, rows - 1)  # as real terminals do, and pyte forgets
            self._size(columns, rows)

    def lines(self):
        with self.lock:
            return [line.rstrip() for line in self.screen.display]

    def text(self):
        return "\n".join(self.lines()).rstrip()

    def wait(self, pattern, timeout=15):
        """Until the screen shows it; the match."""
        ended = None

        def look():
            nonlocal ended
            found = re.search(pattern, self.text(), re.M)
            if not found and self.process.poll() is not None:
                ended = ended or time.monotonic()  # what it said last may still be on its way
                assert time.monotonic() < ended + 3, f"ended with {self.process.poll()} without /{pattern}/"
            return found

        try:
            return eventually(look, f"/{pattern}/ on the screen", timeout)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.text()}") from None

    def restored(self):
        """The terminal as it was: echo on, cursor shown."""
        return termios.tcgetattr(self.slave)[3] == self.before[3] and not self.screen.cursor.hidden

    def end(self, signum=signal.SIGINT):
        if self.process.poll() is None:
            self.process.send_signal(signum)
        return self.process.wait(20)

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if kind is not None:
            print("# the screen:\n" + "\n".join("#   " + line for line in self.lines()))
        os.close(self.slave)
        if self.master >= 0:
            self.reader.join(5)
            os.close(self.master)

    def hang_up(self):
        """The window is closed. The reader's system call ends with the last writer, so it is stopped by hand."""
        os.close(self.slave)
        self.slave = os.open("/dev/null", os.O_RDWR)
        os.close(self.master)
        self.master = -1


def hello(_head, _body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def fetch(port, path="/"):
    with connect(port) as c:
        c.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return read_head(c)[0]


def count(pattern, text):
    return len(re.findall(pattern, text, re.M))


@case("the block: link, bindings with their URLs, traffic, requests; drawn in place; the terminal is given back")
def _():
    with Tunnel() as t, http_service(hello) as web, Service(lambda c: c.sendall(b"x")) as tcp, Folder() as folder:
        path = folder.join("t.yaml")
        with open(path, "w", encoding="ascii") as f:
            f.write(f"url: {t.kit.url}\nexpose: [{{target: {web.port}, port: 0, label: shop}}]\npull: [{{target: {tcp.port}, port: 0}}]\n")
        with Terminal("up", "-f", path) as term:
            term.wait(rf"^online  {t.kit.url}  \S+ (us|ms)  up 0:0\d$")
            port = int(term.wait(rf"^http://127\.0\.0\.1:(\d+) → 127\.0\.0\.1:{web.port}  shop$").group(1))
            pull = int(term.wait(rf"^127\.0\.0\.1:(\d+) → 127\.0\.0\.1:{tcp.port}$").group(1))
            term.wait(r"^0 open, 0 so far  in 0 B/s \(0 B\)  out 0 B/s \(0 B\)$")
            assert not termios.tcgetattr(term.slave)[3] & termios.ECHO
            for i in range(12):
                fetch(port, f"/{i}")
            with connect(pull) as c:
                assert c.recv(1) == b"x"
            term.wait(r"^\d\d:\d\d:\d\d  200  .* B  *GET /11$")
            term.wait(r"^0 open, 13 so far ")
            term.wait(r"^\d\d:\d\d:\d\d  tcp  ")
            shown = term.text()
            assert count(r"GET /", shown) == 7 and "GET /4" not in shown, shown  # the last eight, one of them TCP
            assert count("^online", shown) == 1 and count("so far", shown) == 1, shown
            os.write(term.master, b"typed\n\n")  # is not shown, and moves nothing
            fetch(port, "/again")
            term.wait("GET /again")
            assert count("^online", term.text()) == 1 and "typed" not in term.text(), term.text()
            assert term.end() == 0
            eventually(term.restored, "the terminal as it was")
            term.wait(r"^ended  ")
            assert count("shop$", term.text()) == 1, term.text()


@case("a kit that goes away: what happened scrolls by above the block, attempts are counted, then it is online again")
def _():
    port = free_port()
    kit = Kit("--listen", f"127.0.0.1:{port}")
    with Terminal("expose", f"0={free_port()}", "--url", kit.url) as term:
        try:
            term.wait("^online")
            assert kit.end(signal.SIGKILL) == -signal.SIGKILL
            term.wait(r"^kit away  ")
            term.wait(r"^attempt \d+ in \d+ s: .*refused")
            term.wait(r"^\d\d:\d\d:\d\d  disconnected: ")
            kit = Kit("--listen", f"127.0.0.1:{port}")
            term.process.send_signal(signal.SIGHUP)
            term.wait("^online")
            term.wait(r"^\d\d:\d\d:\d\d  connected to ")
            shown = term.text()
            assert count("^(online|kit away)", shown) == 1 and shown.index("disconnected:") < shown.index("online"), shown
            assert term.end() == 0
        finally:
            kit.end()


@case("escape sequences in targets do not reach the terminal; long texts are cut with a mark")
def _():
    with Tunnel() as t, http_service(lambda h, b: b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n") as web:
        with Terminal("expose", f"0={web.port}", "--url", t.kit.url, "--label", "a\x1b[2Jb\u202ec\u0085", columns=60) as term:
            port = int(term.wait(r"^http://127\.0\.0\.1:(\d+)\n  → \S+  a\\x1b\[2Jb\\").group(1))
            fetch(port, "/" + "x" * 300)
            term.wait(r"^\S+  404  .*GET /x+…$")
            assert all(len(line) <= 60 for line in term.lines())
            with term.lock:
                raw = term.raw
            assert b"\x1b[2J" not in raw and "\u202e".encode() not in raw and b"\xc2\x85" not in raw
            assert b"\x1b[33m404" in raw  # colours on a terminal
            assert term.end() == 0


@case("narrow and low terminals, and terminals that change: what matters most stays, nothing is left over")
def _():
    with Tunnel("--max-bindings-per-session", "20") as t, http_service(hello) as web:
        targets = [f"0={web.port}"] * 12
        with Terminal("expose", *targets, "--url", t.kit.url, columns=24, rows=8) as term:
            term.wait("^online")
            term.wait(r"^http://127\.0\.0\.1:\d+\n  → 127\.0\.0\.1:\d+\nand 11 more$")  # whole, or not there
            term.wait(r"^0 open  in 0 B/s  out 0…$")
            assert all(len(line) <= 24 for line in term.lines())
            term.resize(100, 30)
            term.wait(r"so far  in")
            eventually(lambda: count(r"^http://\S+ → 127\.0\.0\.1:\d+$", term.text()) == 12, "all twelve bindings")
            assert count("^online", term.text()) == 1 and "more" not in term.text(), term.text()
            term.resize(40, 12)
            term.wait(r"^and \d+ more$")
            eventually(lambda: count("^online", term.text()) == 1, "one block")
            term.resize(100, 2)
            eventually(lambda: [line for line in term.lines() if line][-1:] and count("^online", term.text()) == 1, "one row")
            assert term.end() == 0
            eventually(term.restored, "the terminal as it was")


@case("Ctrl-Z gives the terminal back; after fg the block is drawn again")
def _():
    with Tunnel() as t:
        with Terminal("expose", f"0={free_port()}", "--url", t.kit.url) as term:
            term.wait("^online")
            os.write(term.master, b"\x1a")
            def stopped():
                with open(f"/proc/{term.process.pid}/stat", encoding="ascii", errors="replace") as f:
                    return f.read().rsplit(")", 1)[1].split()[0] == "T"
            eventually(stopped, "the process is stopped")
            eventually(term.restored, "the terminal as it was")
            term.process.send_signal(signal.SIGCONT)
            eventually(lambda: not termios.tcgetattr(term.slave)[3] & termios.ECHO, "no echo")
            eventually(lambda: count("^online", term.text()) == 2, "the block is drawn again, below the old one")
            term.process.send_signal(signal.SIGINT)
            assert term.process.wait(20) == 0
            eventually(term.restored, "the terminal as it was")


@case("a terminal that is closed ends it, in order; SIGHUP alone does not")
def _():
    with Tunnel() as t:
        for words in (["expose", f"0={free_port()}"], ["expose", "--no-live", f"0={free_port()}"], ["events"]):
            with Terminal(*words, "--url", t.kit.url) as term:
                if words[0] == "events":
                    eventually(lambda: t.kit.metric("hoody_tunnel_event_readers") == 1, "a reader of events")
                else:
                    term.wait("127.0.0.1:")
                    eventually(lambda: t.kit.get("/tunnels")["totalBindings"] == 1, "a binding")
                term.process.send_signal(signal.SIGHUP)
                term.hang_up()
                assert term.process.wait(20) == 0
            eventually(lambda: t.kit.get("/tunnels")["totalBindings"] == 0, "it said goodbye")


@case("errors are said above the block and not in it; a third Ctrl-C gives the terminal back too")
def _():
    with Tunnel() as t, Folder() as folder:
        with Terminal("expose", "1=1", "--url", t.kit.url) as term:
            assert term.process.wait(20) == 5
            term.wait(r"^hoody-tunnel: the kit refused port 1 for ")
            eventually(term.restored, "the terminal as it was")
        with Terminal("expose", f"0={free_port()}", "--url", t.kit.url, "--url-file", folder.join("none", "urls")) as term:
            assert term.process.wait(20) == 3
            term.wait(r"^hoody-tunnel: cannot write .*No such file or directory")
    kit = Kit()
    with Terminal("expose", f"0={free_port()}", "--url", kit.url) as term:
        term.wait("^online")
        kit.process.send_signal(signal.SIGSTOP)  # an orderly goodbye takes its time now
        term.process.send_signal(signal.SIGINT)
        term.wait("^closing")
        assert insist(term.process) == 1
        eventually(term.restored, "the terminal as it was")
        kit.process.send_signal(signal.SIGCONT)
        kit.end()


@case("no block: --no-live, --json, TERM=dumb, debug logs; NO_COLOR and --color decide about colours alone")
def _():
    with Tunnel() as t, http_service(hello) as web:
        for more, env, colored in ((["--no-live"], {}, True), (["--no-live"], {"NO_COLOR": "1"}, False),
                                   (["--no-live", "--color=never"], {}, False), (["--log-level=debug"], {}, True),
                                   (["--no-live", "--color=always"], {"NO_COLOR": "1"}, True), ([], {"TERM": "dumb"}, False)):
            with Terminal("expose", f"0={web.port}", "--url", t.kit.url, *more, env=env) as term:
                port = int(term.wait(r"^http://127\.0\.0\.1:(\d+) -> ").group(1))
                fetch(port, "/x")
                term.wait(r"^\d\d:\d\d:\d\d  200  GET /x  5 B, ")
                assert (b"\x1b[32m200" in term.raw) == colored, (more, env, term.raw)
                assert b"\x1b[?25l" not in term.raw and termios.tcgetattr(term.slave)[3] & termios.ECHO
                assert term.end() == 0
        driver = t.expose(f"0={web.port}", "--color=always")
        assert not any("\x1b" in line for line in driver.log), driver.log  # JSON has none


@case("a QR code: the modules of the first URL, on a terminal in the block's way up, elsewhere when asked for")
def _():
    def modules(rows):
        """Half blocks back to modules: True is dark."""
        out = []
        for row in rows:
            out.append([c in " ▄" for c in row])
            out.append([c in " ▀" for c in row])
        return out

    with Tunnel() as t, http_service(hello) as web:
        with Terminal("expose", f"0={web.port}", "--url", t.kit.url, "--qr", columns=100, rows=50) as term:
            url = term.wait(r"^(http://\S+) → ").group(1)
            term.wait("▀▀▀▀")
            # Rows of the code are those that begin with its quiet zone.
            rows = [line for line in term.lines() if re.match("^[█▀▄]{2}", line)]
            wide = len(rows[0])
            assert all(len(row) == wide for row in rows) and (wide - 4) % 4 == 1, rows
            dark = modules(rows)
            size = wide - 4
            finder = ["1111111", "1000001", "1011101", "1011101", "1011101", "1000001", "1111111"]
            for top, left in ((2, 2), (2, 2 + size - 7), (2 + size - 7, 2)):  # ISO/IEC 18004, 6.3.3
                got = ["".join("1" if dark[top + y][left + x] else "0" for x in range(7)) for y in range(7)]
                assert got == finder, (top, left, got)
            timing = [dark[2 + 6][2 + x] for x in range(8, size - 8)]
            assert timing == [x % 2 == 0 for x in range(8, size - 8)], timing
            assert term.text().index("▀") < term.text().index("online") and url in term.text()
            assert term.end() == 0
        driver = Program([BIN, "expose", f"0={web.port}", "--url", t.kit.url, "--qr"], env={"LC_ALL": "C"})
        driver.wait_line("^(##){10}")
        assert driver.end(signal.SIGINT) == 0
    status, _out, err = command("expose", "1", "--qr", "--json")
    assert status == 2 and "leave one of them out" in err, err


@case("demo: what to try scrolls by once, the block stands below it")
def _():
    with Terminal("demo", rows=40) as term:
        term.wait("^online")
        port = int(term.wait(r"^http://127\.0\.0\.1:(\d+) → 127\.0\.0\.1:\d+  demo$").group(1))
        fetch(port, "/")
        term.wait(r"  200  .*GET /$")
        assert count("Open it, or try", term.text()) == 1 and count("^online", term.text()) == 1, term.text()
        assert term.end() == 0
        eventually(term.restored, "the terminal as it was")


if __name__ == "__main__":
    main()
