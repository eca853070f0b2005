"""HAProxy as a unit of its own beside the agent: each is killed, ended and started again while visitors come and documents change.

The unit's own command lines are run, and started again as it says; there is no systemd in a test.

Runs: plain.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time

from tests.integration.edge_api import Api
from tests.integration.edge_scale import PORT, Load, Places, Visitor, container, host, in_a_network_of_its_own, place, write_documents
from tests.integration.edges import DOMAIN, Edge, needs_haproxy
from tests.integration.harness import BIN, ROOT, Folder, Program, eventually, run
from tests.support.tap import case, main

CONTAINERS = 60
GATED = 49  # the one with permissions: edge_scale.write_documents()
KEY = {"x-key": "open sesame, please"}


class Unit:
    """hoody-tunnel-edge-haproxy.service, with the folder in the place of its own: what systemd would do."""

    def __init__(self, folder):
        with open(os.path.join(ROOT, "packaging", "hoody-tunnel-edge-haproxy.service"), encoding="utf-8") as f:
            unit = f.read().replace("%S/hoody-tunnel/edge", folder)
        self.before, self.start = (shlex.split(re.search(rf"^{name}=(.*)$", unit, re.M).group(1)) for name in ("ExecStartPre", "ExecStart"))
        assert re.search(r"^Restart=always\nRestartSec=200ms$", unit, re.M)
        self.process, self.refused, self.over = None, 0, False
        self.log = open(os.path.join(os.path.dirname(folder), "haproxy.log"), "w+b")  # noqa: SIM115 - until its end
        self.thread = threading.Thread(target=self._keep, daemon=True)
        self.thread.start()

    def _keep(self):
        while not self.over:
            if subprocess.run(self.before, check=False, stdout=self.log, stderr=self.log).returncode == 0:
                self.process = subprocess.Popen(self.start, stdout=self.log, stderr=self.log, start_new_session=True)
                self.process.wait()
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.refused += 1
            time.sleep(0.2)

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)

    def end(self):
        self.over = True
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.log.close()

    def text(self):
        with open(self.log.name, encoding="utf-8") as f:
            return f.read()


class Apart:
    """An edge of two units. It has what Edge has for visitors and for HAProxy's sockets."""

    port = 443
    admin, worker, map = Edge.admin, Edge.worker, Edge.map

    def __init__(self, folder):
        self.folder, self.ca = folder, os.path.join(os.path.dirname(folder), "cert.pem")
        self.key = os.path.join(os.path.dirname(folder), "key.pem")
        run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tests", "-addext",
             f"subjectAltName=DNS:*.{DOMAIN},DNS:*.me.containers.{DOMAIN}", "-keyout", self.key, "-out", self.ca])
        self.agent = None
        self.api = Api(os.path.join(folder, "run", "api.sock"))

    def start_agent(self):
        self.agent = Program([BIN, "edge", "up", "--engine", "external", "--domain", DOMAIN, "--id", "me", "--folder", self.folder, "--tls-cert", self.ca,
                              "--tls-key", self.key, "--log-level", "info"])
        return self.agent

    def answers(self):
        with contextlib.suppress(OSError):
            return self.api.get("/containers?limit=1").status == 200
        return False

    def switch(self, n, on):
        one = f"/containers/{container(n)}/proxy"
        assert self.api.ask("PATCH", f"{one}/permissions/state", {"enable_proxy": on}, self.api.get(one).version).status == 200


@contextlib.contextmanager
def apart():
    needs_haproxy()
    with Folder() as folder:
        where = folder.join("edge")
        os.mkdir(where, 0o700)
        write_documents(where, CONTAINERS, 0)
        it, places = Apart(where), Places()
        unit = Unit(where)
        try:
            it.start_agent()
            it.agent.wait_line(r"is served by HAProxy \d")
            yield it, unit
            assert it.agent.end() == 0, it.agent.text()
            assert ask(it, 45)[0] == 200  # HAProxy goes on
        except AssertionError:
            print("# " + unit.text().replace("\n", "\n# "))
            raise
        finally:
            unit.end()
            places.end()
            if it.agent.process.poll() is None:
                it.agent.process.kill()
                it.agent.process.wait()


def ask(it, n, headers=None):
    """(status, body) of a new connection; (0, why) when there is none."""
    visitor = Visitor(it)
    try:
        return visitor.get(host(n), headers)
    except OSError as e:
        return 0, repr(e)
    finally:
        if visitor.conn:
            visitor.conn.close()


def is_gated(it):
    """Whoever shows nothing is refused. An agent that does not answer in time, as one that has just begun on a busy machine, is one
    that is away: then the gate is closed."""
    status, said = ask(it, GATED)
    assert status in (401, 403, 503), (status, said)
    return status != 503


def doctor(it):
    """What `edge doctor` says, by check: (status, text)."""
    out = subprocess.run([BIN, "edge", "doctor", "--engine", "external", "--domain", DOMAIN, "--id", "me", "--folder", it.folder, "--json", "--timeout", "2s"],
                         stdout=subprocess.PIPE, check=False, timeout=60).stdout
    return {c["name"]: (c["status"], c["message"]) for c in json.loads(out)["checks"]}


def until(what, status, start=None):
    """Seconds until `what` answers with the status."""
    start = start or time.monotonic()
    while what()[0] != status:
        assert time.monotonic() - start < 20, what()
        time.sleep(0.005)
    return time.monotonic() - start


@case("the agent is killed under load: who needs no permission is served all the time, who needs one within a second of its return, and what was acknowledged holds")
def _():
    with apart() as (it, _unit):
        eventually(lambda: is_gated(it), "the gate")
        until(lambda: ask(it, GATED, KEY), 200)
        load = Load(it, [host(n) for n in range(10, 20)])
        haproxy = it.worker()
        for round_ in range(3):
            it.switch(round_, False)
            told = round_ == 0  # otherwise it may be on the disk alone: HAProxy hears of it when the agent is back
            if told:
                until(lambda n=round_: ask(it, n), 503)
            it.agent.process.kill()
            it.agent.process.wait()
            assert ask(it, round_)[0] in ((503,) if told else (503, 200))
            until(lambda: ask(it, GATED, KEY), 503)
            # A document that somebody changes meanwhile, by hand: the edge of another has put it there.
            write_documents_of(it, 30 + round_, place(30 + round_, 1))
            start = time.monotonic()
            it.start_agent()
            back = until(lambda: ask(it, GATED, KEY), 200, start)
            print(f"# gated again after {back:.2f} s", flush=True)
            # What was on the disk alone is HAProxy's a moment later.
            held = until(lambda n=round_: ask(it, n), 503, start)
            assert back <= held < 1.0 + 2.0 * (os.getloadavg()[0] > 4), (back, held)
            eventually(lambda: is_gated(it), "the gate as before")
            eventually(lambda n=30 + round_: ask(it, n) == (200, f"{place(n, 1)}:{PORT}"), "the document that was changed meanwhile")
            eventually(it.answers, "the API")
        assert it.worker() == haproxy, "HAProxy has what the agent wants, and need not load anew"
        assert not load.end(), load.failed[:5]
        print(f"# {load.done} requests without permissions, none failed", flush=True)
        assert load.done > 50


def write_documents_of(it, n, ip):
    path = f"{it.folder}/state/container/{container(n)}.json"
    with open(path, encoding="ascii") as f:
        text = f.read()
    with open(path, "w", encoding="ascii") as f:
        f.write(text.replace(place(n), ip))


@case("a worker is killed, and then all of HAProxy: its unit starts it, with the documents that changed meanwhile from its first answer on")
def _():
    with apart() as (it, unit):
        for n, kill in enumerate((lambda: os.kill(it.worker(), signal.SIGKILL), unit.kill, lambda: os.kill(unit.process.pid, signal.SIGKILL))):
            before = it.worker()
            kill()
            it.switch(n, False)
            one = f"/containers/{container(n + 20)}/proxy"
            assert it.api.ask("PUT", f"{one}/permissions", {"groups": {}, "permissions": {}, "default": "deny"}, 1).status == 200
            eventually(lambda was=before: it.worker() not in (None, was), "another process of HAProxy", 15)
            first = []
            until(lambda n=n: first.append(ask(it, n + 20)) or first[-1], 403)
            assert all(status in (0, 403, 503) for status, _ in first), first
            assert ask(it, n)[0] == 503 and ask(it, 40)[0] == 200
        assert "HAProxy has ended" not in it.agent.text()


@case("neither the one nor the other is there for a while, both with changes: HAProxy starts alone from the files, and the agent finds it")
def _():
    with apart() as (it, unit):
        it.switch(0, False)
        one = f"/containers/{container(1)}/proxy"
        assert it.api.ask("PUT", f"{one}/permissions", {"groups": {}, "permissions": {}, "default": "deny"}, 1).status == 200
        it.agent.process.kill()
        it.agent.process.wait()
        before = it.worker()
        unit.kill()
        eventually(lambda: it.worker() not in (None, before), "another process of HAProxy", 15)
        assert ask(it, 0)[0] == 503 and ask(it, 1)[0] == 403 or ask(it, 1)[0] == 503, (ask(it, 0), ask(it, 1))
        assert ask(it, 2)[0] == 200
        it.start_agent()
        until(lambda: ask(it, 1), 403)
        eventually(it.answers, "the API")
        it.switch(0, True)
        until(lambda: ask(it, 0), 200)


@case("HAProxy does not start from the files of another boot; the agent writes them anew, and has it load another certificate")
def _():
    with apart() as (it, unit):
        assert it.agent.end() == 0
        with open(f"{it.folder}/haproxy/boot_id", "w", encoding="ascii") as f:
            f.write("0" * 36 + "\n")
        refused = unit.refused
        told = doctor(it)
        assert told["folder"][0] == told["rights"][0] == "ok" and "HAProxy, another unit's, serves" in told["folder"][1], told
        unit.kill()
        eventually(lambda: unit.refused > refused + 2, "HAProxy's unit refuses")
        assert ask(it, 2)[0] == 0
        unit.before = ["false"]
        it.start_agent()
        eventually(it.answers, "the API")
        told = doctor(it)
        assert told["folder"][0] == "failed" and "no HAProxy is there" in told["folder"][1], told
        assert it.api.ask("PUT", f"/containers/{container(3)}/proxy/address", {"ip": place(3, 1)}, 1).status == 200  # it need not wait for HAProxy
        unit.before = ["true"]
        until(lambda: ask(it, 2), 200)
        assert ask(it, 3) == (200, f"{place(3, 1)}:{PORT}")
        told = doctor(it)
        assert told["port-443"] == ("ok", f"in use, by the edge that works in {it.folder}"), told
        before = it.worker()
        assert it.agent.end() == 0
        run(["openssl", "req", "-x509", "-key", it.key, "-days", "3", "-subj", "/CN=another", "-addext", f"subjectAltName=DNS:*.me.containers.{DOMAIN}", "-out", it.ca])
        it.start_agent()
        eventually(lambda: it.worker() not in (None, before), "it has loaded anew", 15)
        assert ask(it, 2)[0] == 200
        # And by a signal, as before.
        before = it.worker()
        it.agent.process.send_signal(signal.SIGHUP)
        eventually(lambda: it.worker() not in (None, before), "it has loaded anew", 15)
        assert ask(it, 2)[0] == 200


if __name__ == "__main__":
    in_a_network_of_its_own()
    main()
