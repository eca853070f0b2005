"""Real programs around a real kit and a real driver. Everything a test starts here is ended and checked at its end.

`Tunnel` is the heart: a kit on a free loopback port and drivers beside it. Leaving its `with` block waits until no stream is
left, closes the drivers, waits until no session is left and the kit is back at the number of descriptors it had when it was
new, ends the kit with SIGTERM and wants exit status 0 and a log without a sanitizer's report.
"""

import atexit
import contextlib
import fcntl
import http.client
import json
import os
import pwd
import queue
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import termios
import threading
import time

from conformance.lib.ports import free_port  # noqa: F401  pylint: disable=unused-import

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.join(ROOT, os.environ.get("HT_BIN", "build/hoody-tunnel"))
SANITIZED = bool(os.environ.get("HT_SAN"))
API = "/api/v1/tunnel"


def _keep_state_apart():
    """Drivers keep their identity in a folder of the test, and not in the home of whoever runs it. Programs that a test starts have the
    test's, also those that import this; it is removed by whoever has made it, also behind an exec."""
    if "HT_STATE_OWNER" not in os.environ:
        state = tempfile.mkdtemp(prefix="hoody-tunnel-state-")
        os.environ.update(HT_STATE_OWNER=str(os.getpid()), XDG_STATE_HOME=state,
                          XDG_CONFIG_HOME=os.path.join(state, "config"))  # nobody has logged in
    if os.environ["HT_STATE_OWNER"] == str(os.getpid()):
        atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)


_keep_state_apart()


def eventually(condition, what, timeout=30.0):
    """Waits until condition() is true and returns its value; says what was awaited when it never was. To ask takes a third of a
    processor at most, and the answer is late by a fiftieth of the wait, so that many can wait beside each other."""
    begun = time.monotonic()
    pause = threading.Event()
    while True:
        asked = time.monotonic()
        value = condition()
        if value:
            return value
        now = time.monotonic()
        if now > begun + timeout:
            raise AssertionError(f"not within {timeout} s: {what}; last seen: {value!r}")
        pause.wait(max(0.01, 2 * min(now - asked, 0.1), min((now - begun) / 50, 0.1)))


class Moment:
    """Times something. A bound that is promised holds for a machine that has processors to give: when they were busy with other
    things meanwhile, or under sanitizers, only the bound with SLACK added is demanded."""

    SLACK = 20.0

    def __init__(self):
        self.begun, self.ticks = time.monotonic(), self._ticks()

    @staticmethod
    def _ticks():
        """(idle, all) of the processors so far, and how many processes want one now."""
        with open("/proc/stat", encoding="ascii") as f:
            text = f.read()
        fields = [int(n) for n in text.split("\n", 1)[0].split()[1:9]]
        return fields[3] + fields[4], sum(fields), int(re.search(r"^procs_running (\d+)", text, re.M).group(1))

    def took(self):
        return time.monotonic() - self.begun

    def had_time(self):
        if SANITIZED:
            return False
        idle, ticks, wanting = (now - then for now, then in zip(self._ticks(), (*self.ticks[:2], 0)))
        return idle >= ticks / 4 if ticks >= 20 else max(wanting, self.ticks[2]) <= (os.cpu_count() or 1)

    def within(self, seconds, what="it", took=None, slack=SLACK):
        """Wants `took`, or the time since it began, below the bound; returns it. `slack`: where SLACK would take in what is wrong."""
        took = self.took() if took is None else took
        bound = seconds if self.had_time() else seconds + slack
        assert took < bound, f"{what} took {took:.3f} s, more than {bound:.3f} s"
        return took


def pace(seconds):
    """What a visitor or a service takes its time for. Not for waiting: see eventually()."""
    threading.Event().wait(max(0.0, seconds))


def fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def status_kib(pid, field):
    """VmRSS or VmHWM of a process, in KiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(rf"^{field}:\s+(\d+) kB", f.read(), re.M).group(1))


def cpu_seconds(pid):
    """The seconds that a process had a processor, in all its threads, in steps of 10 ms."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


_started = []


@atexit.register
def _end_what_is_left():
    """A test that fails between a start and its end must not leave a process behind."""
    for process in _started:
        if process.poll() is None:
            process.kill()
            process.wait()


def state_of(pid):
    """The letter of proc_pid_stat(5): R runs, S sleeps, T is stopped, Z has ended."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return f.read().rsplit(") ", 1)[1][0]


def ask_twice(process):
    """SIGINT and SIGTERM, both there before the process can do anything about the first."""
    process.send_signal(signal.SIGSTOP)
    eventually(lambda: state_of(process.pid) in "TZ", "a process that is stopped")
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        process.send_signal(signum)


def insist(process):
    """Asks a process to end again and again until it does, each time twice. Returns its status."""
    while process.poll() is None:
        ask_twice(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    return process.returncode


class Program:
    """A child process whose output lines arrive in .lines; ended at the latest by end()."""

    def __init__(self, argv, env=None, cwd=None, stdin=subprocess.DEVNULL, close_fds=True):
        self.argv = argv
        self._log = []
        self.lines = queue.Queue()
        self.process = subprocess.Popen(argv, env={**os.environ, **(env or {})}, cwd=cwd, stdin=stdin,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, close_fds=close_fds)
        _started.append(self.process)
        self.reading = threading.Lock()  # held from a read until its lines are in ._log
        self.readers = [threading.Thread(target=self._read, args=(stream, name), daemon=True)
                        for name, stream in (("out", self.process.stdout), ("err", self.process.stderr))]
        for reader in self.readers:
            reader.start()

    def _read(self, stream, name):
        readable = select.poll()
        readable.register(stream, select.POLLIN)
        chunk, rest = b"...", b""
        while chunk:
            readable.poll()
            with self.reading:
                chunk = os.read(stream.fileno(), 1 << 16)
                *lines, rest = (rest + chunk).split(b"\n")
                for raw in lines if chunk or not rest else [*lines, rest]:
                    line = raw.decode(errors="replace")
                    self._log.append(f"{name}: {line}")
                    self.lines.put((name, line))
        self.lines.put((name, None))

    @property
    def log(self):
        """All lines that the program has written until now."""
        for reader, stream in zip(self.readers, (self.process.stdout, self.process.stderr)):
            while reader.is_alive() and not stream.closed:
                with self.reading:
                    waits = fcntl.ioctl(stream.fileno(), termios.FIONREAD, b"\0" * 4) != b"\0" * 4
                if not waits:
                    break
                threading.Event().wait(0.001)
        return self._log

    @property
    def pid(self):
        return self.process.pid

    def text(self):
        return "\n".join(self.log)

    def wait_line(self, pattern, timeout=15.0):
        """The first match of `pattern` in a line not looked at before."""
        deadline = time.monotonic() + timeout
        ended = 0
        while ended < 2:
            try:
                _, line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if line is None:
                ended += 1
                continue
            match = re.search(pattern, line)
            if match:
                return match
        raise AssertionError(f"{self.argv[0]} never said /{pattern}/; it said:\n{self.text()}")

    def end(self, signum=signal.SIGTERM, timeout=20.0):
        """Signals (unless it has ended already), waits, and returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.argv} did not end within {timeout} s of signal {signum}:\n{self.text()}") from None
        for reader in self.readers:
            reader.join(5)
            assert not reader.is_alive(), f"{self.argv} ended with {status}, but a child of it lives on:\n{self.text()}"
        self.process.stdout.close()
        self.process.stderr.close()
        return status

    def check_sanitizers(self):
        text = self.text()
        for mark in ("AddressSanitizer", "LeakSanitizer", "runtime error:"):
            assert mark not in text, f"sanitizer report of {self.argv}:\n{text}"
        assert "the sandbox refused" not in text, f"{self.argv} needs a system call that its sandbox refuses:\n{text}"


class Kit(Program):
    def __init__(self, *args, env=None, binary=BIN):
        super().__init__([binary, "serve", "--listen", "127.0.0.1:0", *args], env=env)
        try:
            listens = self.wait_line(r"listening on http(s?)://127\.0\.0\.1:(\d+)")
            self.port = int(listens.group(2))
        except AssertionError:
            self.end(signal.SIGKILL)
            raise
        self.url = f"ws{listens.group(1)}://127.0.0.1:{self.port}"
        self.get("/health")  # the first request makes what lives for ever
        self.baseline_fds = fds(self.pid)

    def request(self, method, path, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, API + path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path):
        status, body = self.request("GET", path)
        assert status == 200, (status, body)
        return json.loads(body)

    def metric(self, name):
        """The value of one sample, written as in the exposition: name{label="value"}."""
        status, body = self.request("GET", "/metrics")
        assert status == 200
        for line in body.decode().splitlines():
            if line.startswith(name + " "):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no metric {name} in:\n{body.decode()}")


class Driver(Program):
    """`expose` or `pull` with --json: .bound holds one event per binding, in the order of the targets."""

    def __init__(self, kit, command, *args, env=None, bindings=1):
        super().__init__([BIN, command, "--url", kit.url, "--json", *args], env=env)
        self.bound = []
        try:
            while len(self.bound) < bindings:
                line = self.wait_line(r'^\{.*"event":\s*"bound".*\}$').group(0)
                self.bound.append(json.loads(line))
        except AssertionError:
            self.end(signal.SIGKILL)
            raise
        self.port = self.bound[0]["containerPort"]
        self.url = f"http://127.0.0.1:{self.port}"

    def events(self, kind):
        found = []
        for line in list(self.log):
            if line.startswith("out: {"):
                event = json.loads(line[5:])
                if event.get("event") == kind:
                    found.append(event)
        return found


class Tunnel(contextlib.AbstractContextManager):
    def __init__(self, *kit_args, env=None, binary=BIN):
        self.kit = Kit(*kit_args, env=env, binary=binary)
        self.drivers = []

    def expose(self, *args, **more):
        self.drivers.append(Driver(self.kit, "expose", *args, **more))
        return self.drivers[-1]

    def pull(self, *args, **more):
        self.drivers.append(Driver(self.kit, "pull", *args, **more))
        return self.drivers[-1]

    def reach(self, *args, **more):
        self.drivers.append(Driver(self.kit, "reach", *args, **more))
        return self.drivers[-1]

    def settle(self):
        """Waits until no stream is left anywhere."""
        eventually(lambda: self.kit.get("/tunnels")["totalStreams"] == 0, "zero live streams", 15)

    def __exit__(self, kind, value, traceback):
        programs = [*self.drivers, self.kit]
        try:
            if kind is None:
                self._check()
        except BaseException:
            kind = AssertionError
            raise
        finally:
            for program in programs:
                if program.process.poll() is None:
                    program.process.kill()
                    program.process.wait()
                if kind is not None:
                    print(f"# log of {' '.join(program.argv[1:3])}:")
                    for line in program.log[-60:]:
                        print(f"#   {line}")
        return False

    def _check(self):
        self.settle()
        for driver in self.drivers:
            status = driver.end(signal.SIGINT)
            assert status == 0, f"driver ended with {status}:\n{driver.text()}"
            driver.check_sanitizers()
        eventually(lambda: self.kit.get("/tunnels")["sessions"] == [], "zero live sessions")
        tunnels = self.kit.get("/tunnels")
        assert tunnels["orphanedSessions"] == 0 and tunnels["totalBindings"] == 0, tunnels
        eventually(lambda: fds(self.kit.pid) <= self.kit.baseline_fds, "the descriptors of a new kit")
        status = self.kit.end()
        assert status == 0, f"kit ended with {status}:\n{self.kit.text()}"
        self.kit.check_sanitizers()


# ---- services on the laptop's side ----


class Service(contextlib.AbstractContextManager):
    """A TCP server on a free loopback port, or at a Unix socket: handle(connection) runs in a thread for each connection."""

    def __init__(self, handle, port=0, path=None):
        self.handle = handle
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            self.listener.listen(64)
        else:
            self.listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port = None if path else self.listener.getsockname()[1]
        self.open = set()
        self.accepted = 0
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            self.open.add(connection)
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection):
        try:
            self.handle(connection)
        except OSError:
            pass
        finally:
            self.open.discard(connection)
            connection.close()

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)


GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def hello(_head, _body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def status(port):
    """The status a visitor gets, or None when the port refuses or cuts him."""
    try:
        with connect(port) as c:
            c.settimeout(5)
            c.sendall(GET)
            return int(c.recv(65536).split(b" ", 2)[1])
    except (OSError, IndexError, ValueError):
        return None


class Relay(Service):
    """Passes TCP through to a port until it is cut; while `held` it takes nothing new."""

    def __init__(self, port):
        self.to, self.held = port, False
        super().__init__(self._pass)
        self.url = f"ws://127.0.0.1:{self.port}"

    def _pass(self, near):
        if not self.held:
            self.carry(near)

    def carry(self, near):
        with socket.create_connection(("127.0.0.1", self.to)) as far:
            back = threading.Thread(target=self._copy, args=(far, near), daemon=True)
            back.start()
            self._copy(near, far)
            back.join()

    @staticmethod
    def _copy(source, to):
        try:
            while data := source.recv(65536):
                to.sendall(data)
        except (OSError, ValueError):  # the second is TLS's word for one that was closed
            pass
        for end in (source, to):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        for connection in list(self.open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def read_head(connection, early=b""):
    """Reads up to the empty line; returns (head, bytes behind it)."""
    data = early
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise ConnectionResetError("closed inside a head")
        data += more
    head, rest = data.split(b"\r\n\r\n", 1)
    return head, rest


def read_exactly(connection, n, early=b""):
    """n bytes, of which `early` have already come."""
    data = bytearray(early)
    while len(data) < n:
        more = connection.recv(min(1 << 20, n - len(data)))
        if not more:
            raise ConnectionResetError(f"closed after {len(data)} of {n} bytes")
        data += more
    return bytes(data)


def read_all(connection):
    """Everything until the other side closes."""
    got = b""
    while more := connection.recv(65536):
        got += more
    return got


def warned(driver, text):
    """The lines of a driver's log that hold the text, when there is one."""
    return eventually(lambda: [line for line in driver.log if text in line], f"a line with {text}")


def http_handler(answer):
    """Serves one keep-alive HTTP/1.1 connection. answer(head: str, body: bytes) returns the raw bytes of the response."""

    def handle(connection):
        rest = b""
        while True:
            try:
                head, rest = read_head(connection, rest)
            except ConnectionResetError:
                return
            text = head.decode("latin-1")
            length = re.search(r"^content-length:\s*(\d+)", text, re.I | re.M)
            body = b""
            if length:
                data = read_exactly(connection, int(length.group(1)), rest) if len(rest) < int(length.group(1)) else rest
                body, rest = data[:int(length.group(1))], data[int(length.group(1)):]
            elif re.search(r"^transfer-encoding:\s*chunked", text, re.I | re.M):
                body, rest = read_chunked(connection, rest)
            connection.sendall(answer(text, body))

    return handle


def http_service(answer):
    """The same as a service of its own."""
    return Service(http_handler(answer))


def read_chunked(connection, early=b""):
    """A chunked body, whose trailers are left out; returns (body, bytes behind it)."""
    data, body = early, b""

    def line():
        nonlocal data
        while b"\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                raise ConnectionResetError("closed inside a chunked body")
            data += more
        first, data = data.split(b"\r\n", 1)
        return first

    while True:
        size = int(line().split(b";")[0], 16)
        if size == 0:
            while line():  # trailers
                pass
            return body, data
        data = data if len(data) >= size + 2 else read_exactly(connection, size + 2, data)
        body += data[:size]
        assert data[size:size + 2] == b"\r\n"
        data = data[size + 2:]


class Folder(contextlib.AbstractContextManager):
    """A scratch folder that is gone afterwards; `user` may enter it."""

    def __init__(self, user=None):
        self.path = tempfile.mkdtemp(prefix="hoody-tunnel-")
        os.chmod(self.path, 0o755)
        if user and os.geteuid() == 0:
            entry = pwd.getpwnam(user)
            os.chown(self.path, entry.pw_uid, entry.pw_gid)

    def join(self, *parts):
        return os.path.join(self.path, *parts)

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)


class Nginx(contextlib.AbstractContextManager):
    """nginx in the foreground with the given http{} or stream{} text; `ports` asks for that many free ports ({0}, {1}, ...)."""

    def __init__(self, folder, config, ports=1, main=""):
        self.ports = [free_port() for _ in range(ports)]
        self.port = self.ports[0] if self.ports else None
        for i, port in enumerate(self.ports):
            config = config.replace("{%d}" % i, str(port))
        path = folder.join(f"nginx-{id(self)}.conf")
        modules = "/usr/lib/nginx/modules/ngx_stream_module.so"
        load = f"load_module {modules};\n" if "stream {" in config and os.path.exists(modules) else ""
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"{load}daemon off;\npid {path}.pid;\nerror_log {path}.log warn;\nuser root;\n{main}\n{config}\n"
                    if os.geteuid() == 0 else
                    f"{load}daemon off;\npid {path}.pid;\nerror_log {path}.log warn;\n{main}\n{config}\n")
        self.program = Program([shutil.which("nginx") or "/usr/sbin/nginx", "-c", path, "-p", folder.path, "-e", f"{path}.log"])
        for port in self.ports:
            eventually(lambda p=port: self._accepts(p), f"nginx on port {port}: {self.program.text()}")

    def _accepts(self, port):
        assert self.program.process.poll() is None, f"nginx ended:\n{self.program.text()}"
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    def __exit__(self, *_):
        self.program.end(signal.SIGQUIT)


def run(argv, timeout=120, **more):
    """Runs a command to its end and returns its output; an assertion with all it said when it fails."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                          check=False, **more)
    assert done.returncode == 0, (f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout.decode(errors='replace')}"
                                  f"{done.stderr.decode(errors='replace')}")
    return done.stdout.decode(errors="replace")


def command(*args, env=None, cwd=None, timeout=60, input=""):  # pylint: disable=redefined-builtin
    """(exit status, standard output, standard error) of a command of the program under test that ends by itself."""
    done = subprocess.run([BIN, *args], input=input.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                          check=False, cwd=cwd, env={**os.environ, **(env or {})})
    said = done.stderr.decode(errors="replace")
    assert "Sanitizer" not in said and "runtime error:" not in said, said
    return done.returncode, done.stdout.decode(errors="replace"), said


def connect(port, timeout=20):
    s = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s
