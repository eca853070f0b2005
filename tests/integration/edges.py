"""An edge for tests: `hoody-tunnel edge dev` with a real HAProxy on a port of its own, drivers at its kit, curl as visitor."""

import base64
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess

from conformance.lib.ports import free_port
from tests.integration.harness import BIN, Driver, Folder, Program, eventually, run
from tests.support.tap import Skip

DOMAIN = "edge.localhost"


def needs_haproxy():
    if not any(shutil.which(p) for p in ("haproxy", "/usr/sbin/haproxy")):
        raise Skip("haproxy is not installed")


def descendants(pid):
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
            for child in f.read().split():
                found += [int(child), *descendants(int(child))]
    return found


def is_there(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return f.read().rsplit(") ", 1)[1][0] not in "ZX"
    return False


class Answer:
    """What curl got: .status, .headers (lower case), .body."""

    def __init__(self, raw):
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self.text = self.body.decode(errors="replace")


class Edge(contextlib.AbstractContextManager):
    """`edge dev`. Its end is orderly, nothing that it has started is left, and its log has no error that a test did not `expect`."""

    def __init__(self, *args, folder=None, port=None, env=None):
        needs_haproxy()
        self.own = None if folder else Folder()
        self.folder = folder or self.own.join("edge")
        self.port = port or free_port()
        self.expected = []
        self.drivers = []
        self.program = Program([BIN, "edge", "dev", "--port", str(self.port), "--folder", self.folder, "--log-level", "info", *args], env=env)
        try:
            self.url = "ws://" + self.program.wait_line(r"expose 3000 --name \w+ --url (127\.0\.0\.1:\d+)").group(1)
        except AssertionError:
            self.program.end(signal.SIGKILL)
            raise
        self.ca = os.path.join(self.folder, "ca", "ca.pem")

    def expose(self, *args, bindings=1):
        self.drivers.append(Driver(self, "expose", *args, bindings=bindings))
        return self.drivers[-1]

    def expect(self, text):
        self.expected.append(text)

    def get(self, host, path="/", *more):
        """A visitor's request with curl, which trusts the edge's authority alone. `host` without a dot is one of the domain."""
        if "." not in host:
            host = f"{host}.{DOMAIN}"
        raw = subprocess.run(["curl", "-sS", "-i", "--http1.1", "--path-as-is", "--max-time", "20", "--cacert", self.ca, "--resolve",
                              f"{host}:{self.port}:127.0.0.1", *more, f"https://{host}:{self.port}{path}"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
        assert raw.returncode == 0, (raw.returncode, raw.stderr.decode())
        return Answer(raw.stdout)

    def until(self, host, status, timeout=15.0):
        """Waits until a host answers with this status."""
        return eventually(lambda: (answer := self.get(host)).status == status and answer, f"{status} of {host}", timeout)

    def admin(self, command):
        """HAProxy's answer at its runtime socket."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(os.path.join(self.folder, "run", "admin.sock"))
            s.sendall(command.encode() + b"\n")
            got = b""
            while more := s.recv(65536):
                got += more
            return got.decode()

    def worker(self):
        """The process of HAProxy that serves; None while there is none."""
        with contextlib.suppress(OSError, AttributeError):
            return int(re.search(r"^Pid: (\d+)$", self.admin("show info"), re.M).group(1))
        return None

    def master(self):
        return descendants(self.program.pid)[0]

    def map(self, name="bindings"):
        """(key, value) of all entries that HAProxy has."""
        shown = self.admin(f"show map {self.folder}/haproxy/maps/{name}.map")
        return sorted(tuple(line.split(" ", 2)[1:]) for line in shown.splitlines() if line.startswith("0x"))

    def pin(self):
        """For a browser: it takes the edge's certificate."""
        public = subprocess.run(["openssl", "pkey", "-in", os.path.join(self.folder, "certs", "edge.pem"), "-pubout", "-outform", "der"],
                                stdout=subprocess.PIPE, check=True).stdout
        return "--ignore-certificate-errors-spki-list=" + base64.b64encode(hashlib.sha256(public).digest()).decode()

    def __exit__(self, kind, value, traceback):
        left = descendants(self.program.pid) if self.program.process.poll() is None else []
        try:
            if kind is None:
                for driver in self.drivers:
                    if driver.process.poll() is None:
                        assert driver.end(signal.SIGINT) == 0, driver.text()
                    driver.check_sanitizers()
                if self.program.process.poll() is None:
                    assert self.program.end() == 0, self.program.text()
                self.program.check_sanitizers()
                bad = [line for line in self.program.log if re.search(r" error (edge|kit): ", line) and not any(e in line for e in self.expected)]
                assert not bad, bad
            elif kind is not Skip:
                print(f"# log of the edge: {value}")
                for line in self.program.log[-60:]:
                    print(f"#   {line}")
        finally:
            for program in [*self.drivers, self.program]:
                if program.process.poll() is None:
                    program.process.kill()
                    program.process.wait()
            eventually(lambda: not any(map(is_there, left)), f"the end of all that the edge has started: {left}")
            if self.own:
                self.own.__exit__()
        return False


def verified(ca, cert):
    """What openssl says of a certificate and an authority."""
    return run(["openssl", "verify", "-CAfile", ca, "-untrusted", cert, cert])
