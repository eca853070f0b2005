"""The whole service in its sandbox: as another user, after a log rotation and a new token, with every kind of traffic.

To see the first case fail, give the kit --no-sandbox; the second one, leave --user out. Every other integration test runs
with the sandbox too, because it is on by default; the harness fails a test in whose log a system call was refused.
"""

import contextlib
import http.client
import os
import pwd
import shutil
import signal
import subprocess

from tests.integration.harness import BIN, Folder, Kit, Service, Tunnel, connect, eventually, free_port, http_service, read_exactly
from tests.support.tap import Skip, case, main


def status(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def root_only():
    if os.geteuid() != 0:
        raise Skip("only root can become another user")


def answer(_head, body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


def traffic(tunnel):
    """An exposed and a pulled port, both used."""
    with http_service(answer) as web, Service(echo) as raw:
        expose, pull = tunnel.expose(f"0={web.port}"), tunnel.pull(f"0={raw.port}")
        visitor = http.client.HTTPConnection("127.0.0.1", expose.port, timeout=20)
        for size in (0, 1, 1 << 20):
            visitor.request("POST", "/", body=b"x" * size)
            got = visitor.getresponse()
            assert got.status == 200 and len(got.read()) == size
        visitor.close()
        with connect(pull.port) as s:
            s.sendall(b"ping")
            assert read_exactly(s, 4) == b"ping"
        tunnel.kit.request("GET", "/metrics")
        tunnel.kit.get("/health")
        tunnel.settle()


@case("by default: no new privileges, a filter of system calls, and everything works")
def _():
    with Tunnel() as t:
        now = status(t.kit.pid)
        assert now["NoNewPrivs"] == "1" and now["Seccomp"] == "2", now
        t.kit.wait_line("few system calls")
        traffic(t)
        assert all(status(driver.pid)["NoNewPrivs"] == "1" for driver in t.drivers)


@case("--no-sandbox and HOODY_TUNNEL_SANDBOX=false leave the process as it was, and the log says so")
def _():
    for args, env in ((["--no-sandbox"], {}), ([], {"HOODY_TUNNEL_SANDBOX": "false"})):
        with Tunnel(*args, env=env) as t:
            t.kit.wait_line("sandbox: switched off")
            now = status(t.kit.pid)
            assert now["NoNewPrivs"] == "0" and now["Seccomp"] == "0", now


@case("--user: another user without capabilities; the token is read again, the log reopened, the manager told")
def _():
    root_only()
    user = pwd.getpwnam("nobody")
    with Folder("nobody") as folder:
        log, token = folder.join("log"), folder.join("token")
        with open(token, "w", encoding="ascii") as f:
            f.write("first\n")
        os.chown(token, user.pw_uid, user.pw_gid)
        kit = subprocess.Popen([BIN, "serve", "--listen", "127.0.0.1:0", "--user", "nobody", "--log-file", log, "--token-file", token],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            def text(name=log):
                with contextlib.suppress(FileNotFoundError), open(name, encoding="utf-8") as f:
                    return f.read()
                return ""
            eventually(lambda: "few system calls" in text(), "the sandbox in the log")
            now = status(kit.pid)
            assert set(now["Uid"].split()) == {str(user.pw_uid)} and set(now["Gid"].split()) == {str(user.pw_gid)}, now
            assert now["Groups"].split() == [str(user.pw_gid)] and int(now["CapPrm"], 16) == 0, now
            assert now["NoNewPrivs"] == "1" and now["Seccomp"] == "2", now
            assert os.stat(log).st_uid == user.pw_uid
            assert "SIGHUP will not" not in text()
            port = int(text().split("listening on http://127.0.0.1:")[1].split("\n")[0])

            def sessions(bearer):
                c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                c.request("GET", "/api/v1/tunnel/sessions", headers={"Authorization": f"Bearer {bearer}"})
                code = c.getresponse().status
                c.close()
                return code
            assert sessions("first") == 200
            os.rename(log, log + ".1")
            with open(token, "w", encoding="ascii") as f:
                f.write("second\n")
            kit.send_signal(signal.SIGHUP)
            eventually(lambda: "SIGHUP: reloaded" in text(), "the new log")
            assert sessions("first") == 401 and sessions("second") == 200
            kit.send_signal(signal.SIGTERM)
            out = kit.communicate(timeout=20)[0].decode()
            assert kit.returncode == 0 and out == "", (kit.returncode, out)
            assert "refused" not in text() and "refused" not in text(log + ".1")
        finally:
            kit.kill()
            kit.wait()
            kit.stdout.close()


@case("--user with traffic; a low port stays within reach only when it was allowed to drivers")
def _():
    root_only()
    with Tunnel("--user", "nobody") as t:
        assert int(status(t.kit.pid)["CapPrm"], 16) == 0
        traffic(t)
    with Tunnel("--user", "nobody", "--allow-privileged-expose") as t, http_service(answer) as web:
        assert int(status(t.kit.pid)["CapEff"], 16) == 1 << 10  # CAP_NET_BIND_SERVICE
        port = free_port(range(600, 1024))
        assert t.expose(f"{port}={web.port}").port == port


@case("--user: what cannot be done ends the start with a text, never halfway")
def _():
    for user, why in (("no-such-user", 'no user "no-such-user"'), ("root", "that is root"), ("47110", "as 47110:47110")):
        done = subprocess.run([BIN, "serve", "--listen", "127.0.0.1:0", "--user", user], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20, check=False)
        assert done.returncode == 3 and why in done.stdout.decode(), done
    root_only()
    # Without the right to change users, root is as helpless as anybody: the kit must not go on as root.
    done = subprocess.run([shutil.which("setpriv"), "--bounding-set=-setuid", "--inh-caps=-setuid", BIN, "serve", "--listen",
                           "127.0.0.1:0", "--user", "nobody"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=20, check=False)
    assert done.returncode == 3 and "cannot set the user" in done.stdout.decode(), done


@case("files that the user cannot open again are named at the start")
def _():
    root_only()
    with Folder() as folder:
        token = folder.join("token")
        with open(token, "w", encoding="ascii") as f:
            f.write("secret-of-root\n")
        os.chmod(token, 0o600)
        kit = Kit("--user", "nobody", "--token-file", token)
        try:
            kit.wait_line("token file .*: Permission denied for the user of --user; SIGHUP will not")
        finally:
            assert kit.end() == 0
        kit.check_sanitizers()
        assert "secret-of-root" not in kit.text()


if __name__ == "__main__":
    main()
