"""The proof: an agent in a container uses an API whose key is on the laptop, and the key is nowhere in the container, nor in anything
that the driver writes. Container and laptop are namespaces of their own."""

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys

from tests.integration.guarded import Api, Authority
from tests.integration.harness import BIN, ROOT, SANITIZED, Folder
from tests.integration.machines import container_and_laptop, memory_holds
from tests.support.tap import Skip, case, main

KEY, SECOND = "canary-7be1f0a9c4", "canary-2c6d83e5b1"  # the secrets
BASIC = base64.b64encode(f"git:{SECOND}".encode()).decode()
PLACEHOLDER = "sk-placeholder-3f"
FILE = f"""url: ws://192.0.2.1:8050
token-file: token
reach:
  - name: api.test
    replace: {PLACEHOLDER}
    inject: {{Authorization: "Bearer ${{file:~/key}}"}}
    allow: ["GET /v1/*", "POST /v1/chat"]
  - name: git.test:443
    user: git
    inject: {{Authorization: "${{command:cat ~/second}}"}}
"""


def echo(head, _body):
    """A service that repeats what it was sent, as it should not."""
    field = re.search(r"^authorization: *(.*?)\r?$", head, re.I | re.M)
    return b"HTTP/1.1 200 OK\r\nX-Echo: %s\r\nContent-Length: 2\r\n\r\nok" % (field.group(1) if field else "-").encode()


@contextlib.contextmanager
def scene(folder):
    """(container, laptop, kit, driver, api): all of it runs."""
    with container_and_laptop() as (container, laptop):
        authority = Authority(folder)
        with laptop.network():
            api = Api(authority, "api.test", answer=echo, port=443, san="DNS:api.test,DNS:git.test")
        laptop.write("/tmp/hosts", "127.0.0.1 localhost api.test git.test\n")
        laptop.run("mount", "--bind", "/tmp/hosts", "/etc/hosts")
        for machine in (container, laptop):
            machine.write("/tmp/token", "a-token-for-the-proof\n")
        for name, text in (("tunnel.yaml", FILE), ("home/key", KEY + "\n"), ("home/second", SECOND + "\n")):
            laptop.write(f"/tmp/{name}", text)
        with open(api.ca, encoding="ascii") as f:
            laptop.write("/tmp/authorities.pem", f.read())
        kit = container.start(BIN, "serve", "--listen", "0.0.0.0:8050", "--token-file", "/tmp/token", "--connect-proxy", "127.0.0.1:9090",
                              "--connect-default", "deny", "--log-level", "debug")
        kit.wait_line("listening on")
        driver = laptop.start(BIN, "up", "-f", "/tmp/tunnel.yaml", "--json", "--log-level", "debug", "--audit", "/tmp/audit.jsonl",
                              "--audit-query", env={"HOME": "/tmp/home", "XDG_STATE_HOME": "/tmp/state", "SSL_CERT_FILE": "/tmp/authorities.pem"})
        try:
            for _ in range(2):
                driver.wait_line(r'"event":\s*"bound"')
            yield container, laptop, kit, driver, api
            assert driver.end() == 0, driver.text()
            assert kit.end() == 0, kit.text()
            kit.check_sanitizers()
            driver.check_sanitizers()
        finally:
            api.__exit__()


def environment(container):
    """What `hoody-tunnel env` says in the container, with a home there."""
    home = {"HOME": "/tmp/home", "XDG_STATE_HOME": "/tmp/state"}
    said = container.run(BIN, "env", "--url", "http://127.0.0.1:8050", "--token-file", "/tmp/token", "--format", "json", env=home)
    return {**home, **json.loads(said)}


def core_of(pid, folder):
    """A core of a process by gdb's gcore, or None."""
    if not shutil.which("gcore") or SANITIZED:  # whose memory has terabytes
        return None
    done = subprocess.run(["gcore", "-o", folder.join("core"), str(pid)], capture_output=True, timeout=120, check=False)
    path = folder.join(f"core.{pid}")
    return path if done.returncode == 0 and os.path.exists(path) else None


@case("an agent in the container gets its answers, and the key is nowhere there: files, variables, memory, answers, errors, listings, a core")
def _():
    with Folder() as folder, scene(folder) as (container, laptop, kit, driver, api):
        with open(os.path.join(ROOT, "tests/integration/agent.py"), encoding="utf-8") as f:
            container.write("/tmp/agent.py", f.read())
        agent = container.start(sys.executable, "/tmp/agent.py", BIN, PLACEHOLDER, env=environment(container))
        agent.wait_line("^found$", timeout=120)
        found = json.loads(container.files()[container.path("/tmp/found.json")])
        # It works: each tool has had its answer, and the service the key.
        assert found["urllib"]["status"] == found["urllib, posted"]["status"] == found["by command"]["status"] == 200, found
        assert "200 OK" in found["curl"]["out"] and "200 OK" in found.get("node", {"out": "200 OK"})["out"], found
        asked = [api.field("authorization", i) for i in range(len(api.seen))]
        assert asked.count(f"Bearer {KEY}") == (4 if "node" in found else 3), (asked, api.lines())
        assert asked.count(f"Basic {BASIC}") == 1 and api.lines().count("GET /v1/bare HTTP/1.1") == 1, (asked, api.lines())
        wrong = [found[k].get("status") for k in ("denied", "elsewhere", "in the query", "plain")]
        assert wrong == [403] * 4 and "error" in found["another port"] and "error" in found["nobody's name"], found
        assert found["not trusted"]["status"] != 0 and found["resolved"]["status"] != 0, found
        # And the key is not there. What is there is found, so the search is one.
        text = json.dumps(found)
        for secret in (KEY, SECOND, BASIC):
            assert secret not in text, [k for k, v in found.items() if secret in json.dumps(v)]
            for name, data in container.files().items():
                assert secret.encode() not in data, name
            assert secret not in kit.text(), kit.text()
            for pid in container.processes():
                assert not memory_holds(pid, secret.encode()), (pid, secret)
        assert kit.inner in container.processes() and agent.inner in container.processes()
        assert memory_holds(agent.inner, PLACEHOLDER.encode()) and memory_holds(driver.inner, KEY.encode())
        core = core_of(kit.inner, folder)
        if core:
            with open(core, "rb") as f:
                data = f.read()
            assert b"hoody-tunnel" in data and KEY.encode() not in data and SECOND.encode() not in data
        # Nor in what the driver writes or shows.
        shown = laptop.run(BIN, "config", "check", "-f", "/tmp/tunnel.yaml", env={"HOME": "/tmp/home", "SSL_CERT_FILE": "/tmp/authorities.pem"})
        for name in ("cmdline", "environ", "comm"):
            with open(f"/proc/{driver.inner}/{name}", "rb") as f:
                shown += f.read().decode(errors="replace")
        for secret in (KEY, SECOND):
            assert secret not in shown + driver.text(), secret
            kept = [name for name, data in laptop.files().items() if secret.encode() in data]
            assert [os.path.basename(name) for name in kept] == ["key" if secret == KEY else "second"], kept
        with open(laptop.path("/tmp/audit.jsonl"), encoding="utf-8") as f:
            noted = [json.loads(line) for line in f]
        assert {"allowed", "no-rule-allows-it", "placeholder-elsewhere", "secret-over-plain-http"} <= {n["reason"] for n in noted}, noted
        agent.process.kill()
        agent.process.wait()


@case("the driver leaves no core, and who has the same user cannot look into it")
def _():
    if not shutil.which("setpriv"):
        raise Skip("setpriv (util-linux) is not there")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    with Folder() as folder, scene(folder) as (_, laptop, _, _, _):
        laptop.run("sh", "-c", "cp -r /tmp/home /tmp/other && chown -R 65534:65534 /tmp/other && chmod 755 /tmp/other && chmod 644 /tmp/token")
        laptop.write("/tmp/other.yaml", FILE.replace("name: api.test", "name: b.test").replace("name: git.test", "name: c.test")
                     .replace("placeholder", "placeheld"))
        driver = laptop.start(*nobody, BIN, "up", "-f", "/tmp/other.yaml", "--json",
                              env={"HOME": "/tmp/other", "XDG_STATE_HOME": "/tmp/other", "SSL_CERT_FILE": "/tmp/authorities.pem"})
        for _ in range(2):
            driver.wait_line(r'"event":\s*"bound"')
        # What is not dumpable belongs to root in /proc, whoever runs it.
        assert os.stat(f"/proc/{driver.inner}").st_uid == 65534 and os.stat(f"/proc/{driver.inner}/environ").st_uid == 0
        with open(f"/proc/{driver.inner}/status", encoding="ascii") as f:
            number = re.search(r"^NSpid:.*\s(\d+)$", f.read(), re.M).group(1)
        for name in ("mem", "environ", "maps", "fd"):
            done = subprocess.run(["nsenter", "-t", str(laptop.pid), "-n", "-m", "-p", "--", *nobody, "sh", "-c",
                                   f"exec {'ls' if name == 'fd' else 'cat'} /proc/{number}/{name}"], capture_output=True, timeout=60, check=False)
            assert done.returncode != 0 and b"Permission denied" in done.stderr, (name, done)
        assert driver.end() == 0


def page():
    """(the file, the commands) of README's page."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        text = f.read().split("### An agent in a container, your keys on the laptop\n", 1)[1]
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.S | re.M)
    return blocks[0], blocks[1].splitlines()


@case("README's page works as it is written: a file and three commands")
def _():
    file, commands = page()
    assert len(commands) == 3, commands
    path = {"PATH": f"{os.path.dirname(BIN)}:{os.environ['PATH']}", "HOME": "/tmp/home", "XDG_STATE_HOME": "/tmp/state"}
    with Folder() as folder, container_and_laptop() as (container, laptop):
        authority = Authority(folder)
        with laptop.network():
            api = Api(authority, "api.openai.com", answer=echo, port=443)
        started = []

        def start(machine, line, **env):
            started.append(machine.start("sh", "-c", f"cd /tmp && exec {line}", env={**path, **env}))
            return started[-1]

        try:
            laptop.write("/tmp/hosts", "192.0.2.1 container.example\n127.0.0.1 api.openai.com\n")
            laptop.run("mount", "--bind", "/tmp/hosts", "/etc/hosts")
            laptop.run("mkdir", "/tmp/home/.secrets")
            for machine in (container, laptop):
                machine.write("/tmp/token.txt", "a-token-for-the-page\n")
            laptop.write("/tmp/home/.secrets/openai", KEY + "\n")
            laptop.write("/tmp/hoody-tunnel.yaml", file)
            with open(api.ca, encoding="ascii") as f:
                laptop.write("/tmp/authorities.pem", f.read())
            start(container, commands[0]).wait_line("listening on")
            driver = start(laptop, commands[1], SSL_CERT_FILE="/tmp/authorities.pem")
            for _ in range(2):
                driver.wait_line(" -> ")
            out = container.run("sh", "-c", f"cd /tmp && {commands[2]} && curl -sS -i https://api.openai.com/v1/models", env=path)
            assert "HTTP/1.1 200 OK" in out and out.endswith("ok") and KEY not in out, (out, driver.text())
            assert api.field("authorization") == f"Bearer {KEY}", api.seen
            out = container.run("sh", "-c", f"cd /tmp && {commands[2]} && curl -sS -i -X DELETE https://api.openai.com/v1/models", env=path)
            assert "HTTP/1.1 403 Forbidden" in out and len(api.seen) == 1, out
            assert [p.end() for p in reversed(started)] == [0, 0], [p.text() for p in started]
        finally:
            api.__exit__()
            for program in started:
                if program.process.poll() is None:
                    program.end()


if __name__ == "__main__":
    main()
