"""What stands between a driver and its kit refuses it, and passes: a login page, an edge that starts anew, a wrong clock."""

import signal
import ssl
import subprocess

from tests.integration.harness import BIN, Driver, Folder, Program, Relay, Tunnel, command, eventually, hello, http_service, status
from tests.support.tap import case, main

NONE = "Content-Length: 0\r\nConnection: close\r\n\r\n"
LOGIN = "<html><title>Hotel</title>Please log in</html>"
# What it says, and what the driver must say of it.
REFUSALS = [
    (f"HTTP/1.1 400 Bad Request\r\n{NONE}", "400 Bad Request"),
    (f"HTTP/1.1 401 Unauthorized\r\n{NONE}", "wants a token"),
    (f"HTTP/1.1 403 Forbidden\r\n{NONE}", "403 Forbidden"),
    (f"HTTP/1.1 404 Not Found\r\n{NONE}", "404 Not Found"),
    (f"HTTP/1.1 426 Upgrade Required\r\n{NONE}", "426 Upgrade Required"),
    (f"HTTP/1.1 302 Found\r\nLocation: http://hotel.example/?me=1\r\n{NONE}", "it leads to http://hotel.example/; it is not a kit: the login page"),
    (f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(LOGIN)}\r\n\r\n{LOGIN}", r'a web page, \"Hotel\"; something other than a kit'),
    (f"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"Staging\"\r\n{NONE}", "--header 'Authorization: ...'"),
    (f"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n{NONE}", "it wants a login: Basic; a proxy of this network"),
    (f"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n{NONE}", "or the kit is busy"),
    (f"HTTP/1.1 504 Gateway Timeout\r\n{NONE}", "504 Gateway Timeout"),
    (f"HTTP/1.1 500 Internal Server Error\r\n{NONE}", "500 Internal Server Error"),
    (f"HTTP/1.1 502 Bad Gateway\r\n{NONE}", "502 Bad Gateway"),
    ("\x15\x03\x01 garbage\r\n\r\n", "the answer is not HTTP"),
    ("", "without an answer"),
]


class Edge(Relay):
    """Stands before a kit: passes connections on, or refuses them with `answer`; with TLS when `tls` is a context."""

    def __init__(self, port, tls=None):
        self.tls, self.answer = tls, None
        super().__init__(port)
        if tls:
            self.url = f"wss://localhost:{self.port}"

    def _pass(self, near):
        plain = near
        if self.tls:
            near = self.tls.wrap_socket(plain, server_side=True)
            self.open.add(near)
        try:
            if self.answer is None:
                self.carry(near)
            elif near.recv(65536):
                near.sendall(self.answer.encode("latin-1"))
        finally:
            self.open.discard(near)
            near.close()


def told(program, word):
    """A line or event of an attempt that failed, with this word."""
    return any(word in line for line in list(program.log) if '"retrying"' in line)


def attempts(program):
    return sum('"retrying"' in line for line in list(program.log))


def through(edge, driver, refusals, set_to):
    """One refusal after the other; with each the driver says what it met and tries again, and at last it serves."""
    for refusal, word in refusals:
        set_to(edge, refusal)
        before = attempts(driver)
        edge.cut()

        def met():
            assert driver.process.poll() is None, driver.text()
            if attempts(driver) > before and told(driver, word):
                return True
            driver.process.send_signal(signal.SIGHUP)  # now, not after the usual wait
            return False
        eventually(met, f"the driver meets {word!r}: {driver.text()}", 20)


def serve_again(driver, port):
    def works():
        assert driver.process.poll() is None, driver.text()
        driver.process.send_signal(signal.SIGHUP)
        return status(port) == 200
    eventually(works, "the service is back", 20)


def set_answer(edge, refusal):
    edge.answer = refusal


@case("a driver that was connected survives every refusal, reports it, and serves again")
def _():
    with Tunnel() as t, http_service(hello) as service, Edge(t.kit.port) as edge:
        driver = Driver(edge, "expose", f"0={service.port}")
        t.drivers.append(driver)
        assert status(driver.port) == 200
        through(edge, driver, REFUSALS, set_answer)
        edge.answer = None
        serve_again(driver, driver.port)
        assert driver.end(signal.SIGINT) == 0, driver.text()  # while the edge is there to say goodbye through


@case("with --retry-for the first connection is retried after each of these refusals; without it the first refusal ends the command")
def _():
    codes = {"wants a token": 4}
    with Tunnel() as t, http_service(hello) as service, Edge(t.kit.port) as edge:
        for refusal, word in REFUSALS[:9]:
            edge.answer = refusal
            code, _, said = command("expose", f"0={service.port}", "--url", edge.url)
            assert code == codes.get(word, 6) and word.replace('\\', '') in said, (code, said)
            code, _, said = command("expose", f"0={service.port}", "--url", edge.url, "--retry-for", "300ms")
            assert code == codes.get(word, 6) and said.count(word.replace('\\', '')) >= 2, (code, said)
        program = Program([BIN, "expose", f"0={service.port}", "--url", edge.url, "--json", "--retry-for", "5m"])
        try:
            eventually(lambda: attempts(program), "the first attempt has failed", 20)
            through(edge, program, REFUSALS, set_answer)
            edge.answer = None
            eventually(lambda: program.process.send_signal(signal.SIGHUP) or any('"bound"' in line for line in program.log),
                       "the port is bound", 20)
        finally:
            assert program.end(signal.SIGINT) == 0, program.text()


@case("events: a reader goes on after a refusal")
def _():
    with Tunnel() as t, Edge(t.kit.port) as edge:
        program = Program([BIN, "events", "--url", edge.url])
        try:
            eventually(lambda: t.kit.metric("hoody_tunnel_event_readers") == 1, "somebody reads the events")
            with http_service(hello) as service:
                t.expose(f"0={service.port}")
                program.wait_line(r"\bbind\b")  # the kit's answer has come through
            edge.answer = REFUSALS[2][0]
            edge.cut()
            program.wait_line("403")
            program.process.send_signal(signal.SIGHUP)
            edge.answer = None
            eventually(lambda: program.process.send_signal(signal.SIGHUP) or
                       t.kit.metric("hoody_tunnel_event_readers") == 1, "they are read again", 20)
        finally:
            assert program.end(signal.SIGINT) == 0, program.text()


@case("a name that cannot be resolved is tried again where that is asked for")
def _():
    code, _, said = command("expose", "3000", "--url", "ws://kit.invalid", "--retry-for", "300ms")
    assert code == 6 and said.count("kit.invalid") >= 2, (code, said)
    code, _, said = command("expose", "3000", "--url", "ws://kit.invalid")
    assert code == 6, (code, said)


class Authority:
    """Certificates of one authority, by openssl(1)."""

    def __init__(self, folder):
        self.folder = folder
        with open(folder.join("ca.cnf"), "w", encoding="ascii") as f:
            f.write("[ca]\ndefault_ca = here\n[here]\ndatabase = index\nserial = serial\nnew_certs_dir = .\ndefault_md = sha256\n"
                    "policy = any\nunique_subject = no\ncopy_extensions = copy\n[any]\ncommonName = supplied\n")
        for name, text in (("index", ""), ("serial", "01\n")):
            with open(folder.join(name), "w", encoding="ascii") as f:
                f.write(text)
        self._run("req", "-x509", *self._key("ca"), "-out", "ca.pem", "-subj", "/CN=ca", "-days", "3650")
        self.file = folder.join("ca.pem")

    def _run(self, *args):
        done = subprocess.run(["openssl", *args], cwd=self.folder.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        assert done.returncode == 0, done.stdout.decode(errors="replace")

    @staticmethod
    def _key(name):
        return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"

    def context(self, name, host="localhost", begin="20200101000000Z", end="20491231000000Z"):
        self._run("req", "-new", *self._key(name), "-out", f"{name}.csr", "-subj", f"/CN={host}", "-addext",
                  f"subjectAltName=DNS:{host}")
        self._run("ca", "-batch", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-in", f"{name}.csr", "-out",
                  f"{name}.pem", "-startdate", begin, "-enddate", end, "-notext")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder.join(f"{name}.pem"), self.folder.join(f"{name}.key"))
        return context


class Garbage:
    """In the place of a TLS context: what comes back is not TLS."""

    def wrap_socket(self, plain, server_side):  # pylint: disable=unused-argument
        plain.recv(65536)
        plain.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        raise OSError("refused")


@case("a bad certificate (expired, not yet valid, wrong name, unknown issuer) and a server without TLS are retried")
def _():
    with Folder() as folder, Folder() as other, Tunnel() as t, http_service(hello) as service:
        authority = Authority(folder)
        good = authority.context("good")
        tls = [(authority.context("old", end="20210101000000Z"), "expired"),
               (authority.context("young", begin="20480101000000Z"), "clock"),
               (authority.context("name", host="other.example"), "another name"),
               (Authority(other).context("stranger"), "not trusted"),
               (Garbage(), "does not speak TLS")]

        def set_tls(edge, context):
            edge.tls = context
        with Edge(t.kit.port, tls=good) as edge:
            driver = Driver(edge, "expose", f"0={service.port}", "--ca", authority.file)
            t.drivers.append(driver)
            assert status(driver.port) == 200
            through(edge, driver, tls, set_tls)
            edge.tls = good
            serve_again(driver, driver.port)
            assert driver.end(signal.SIGINT) == 0, driver.text()
            edge.tls = tls[0][0]
            first = ("expose", f"0={service.port}", "--url", edge.url, "--ca", authority.file)
            code, _, said = command(*first)
            assert code == 3 and "expired" in said, (code, said)
            code, _, said = command(*first, "--retry-for", "300ms")
            assert code == 3 and said.count("expired") >= 2, (code, said)


if __name__ == "__main__":
    main()
