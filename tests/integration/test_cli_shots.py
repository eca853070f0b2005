"""The block as a real terminal shows it: tmux at four widths, with one, a few and many bindings.

Runs: plain.
"""

import contextlib
import os
import re
import shutil
import subprocess

from tests.integration.harness import BIN, Folder, Tunnel, command, connect, eventually, http_service, read_head
from tests.support.tap import Skip, case, main

PATTERN = "https://a-project-with-a-long-name-{port}.eu-central-1.containers.example.com/"


class Tmux(contextlib.AbstractContextManager):
    """A tmux server of its own; each program gets a session, which is a terminal of the size that is asked for."""

    def __init__(self, folder):
        if not shutil.which("tmux"):
            raise Skip("tmux is not installed")
        with open(folder.join("tmux.conf"), "w", encoding="ascii") as f:
            f.write("set -s exit-empty off\n")  # sessions come and go
        self.words = ["tmux", "-f", folder.join("tmux.conf"), "-S", folder.join("tmux")]
        self.sessions = 0
        self.environment = {**os.environ, "LC_ALL": "C.UTF-8", "SHELL": "/bin/sh"}
        self.environment.pop("TMUX", None)

    def ask(self, *words):
        done = subprocess.run([*self.words, *words], env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=30, check=False)
        assert done.returncode == 0, (words, done.stdout)
        return done.stdout.decode()

    def start(self, argv, columns, rows):
        self.sessions += 1
        name = f"s{self.sessions}"
        self.ask("new-session", "-d", "-s", name, "-x", str(columns), "-y", str(rows), "exec " + " ".join(f"'{a}'" for a in argv))
        return Screen(self, name, columns)

    def __exit__(self, *_):
        if self.sessions:
            subprocess.run([*self.words, "kill-server"], env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, timeout=30, check=False)


class Screen:
    def __init__(self, tmux, name, columns):
        self.tmux, self.name, self.columns = tmux, name, columns

    def shown(self):
        """The rows of the screen."""
        return self.tmux.ask("capture-pane", "-p", "-t", self.name).splitlines()

    def copied(self, history=False):
        """The lines that somebody would copy: wrapped ones in one piece."""
        return self.tmux.ask("capture-pane", "-p", "-J", *(["-S", "-"] if history else []), "-t", self.name).splitlines()

    def until(self, pattern):
        return eventually(lambda: re.search(pattern, "\n".join(self.copied()), re.M), f"/{pattern}/ on {self.name}", 20)


def hello(_head, _body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def fetch(port):
    with connect(port) as c:
        c.sendall(b"GET /a/path HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        read_head(c)


def ports_in(path):
    if not os.path.exists(path):
        return None
    with open(path, encoding="ascii") as f:
        return [int(re.search(r"-(\d+)\.eu", line).group(1)) for line in f]


def check(screen, ports, many):
    urls = {PATTERN.replace("{port}", str(port)) for port in ports}
    fetch(ports[0])
    screen.until(r"^\d\d:\d\d:\d\d  200  .* 5 B +GET /a/path$")
    rows = screen.shown()
    assert all(len(row) <= screen.columns for row in rows), rows
    text = "\n".join(rows)
    for wanted in (r"^online  ", r"^\d+ open\b.*  in .*/s.*  out .*/s", r"^Ctrl-C ends it$"):
        assert len(re.findall(wanted, text, re.M)) == 1, (wanted, text)
    seen = [word for line in screen.copied() for word in line.split() if word.startswith("https://")]
    assert seen and set(seen) <= urls, (seen, urls)  # whole, each of them
    folded = re.search(r"^and (\d+) more$", text, re.M)
    if not many:
        assert set(seen) == urls and not folded, text
    elif folded:
        assert len({*seen}) + int(folded.group(1)) >= len(urls), text
    # Those that had no room have gone by above, where they stay.
    everything = "\n".join(screen.copied(history=True))
    assert all(url in everything for url in urls), everything


@case("60, 80, 120 and 200 columns, with 1, 8 and 30 bindings: no URL is cut, traffic and requests stay, Ctrl-C is mentioned")
def _():
    with Folder() as folder, Tunnel("--max-bindings-per-session", "30", "--public-url-pattern", PATTERN) as t, \
            http_service(hello) as web, Tmux(folder) as tmux:
        for columns in (60, 80, 120, 200):
            screens = []
            for count in (1, 8, 30):
                file = folder.join(f"{columns}-{count}")
                argv = [BIN, "expose", "--url", t.kit.url, "--url-file", file, *[f"0={web.port}"] * count]
                screens.append((tmux.start(argv, columns, 30), file, count))
            for screen, file, count in screens:
                check(screen, eventually(lambda f=file: ports_in(f), f"{count} URLs at {columns} columns", 30), count == 30)
            for screen, _file, _count in screens:
                tmux.ask("send-keys", "-t", screen.name, "C-c")
            eventually(lambda: t.kit.get("/tunnels")["totalBindings"] == 0, "all of them have ended")


@case("a lost port is listed first, however many bindings there are")
def _():
    with Folder() as folder, Tunnel("--max-bindings-per-session", "30") as t, http_service(hello) as web, Tmux(folder) as tmux:
        screen = tmux.start([BIN, "expose", "--url", t.kit.url, "--url-file", folder.join("urls"), *[f"0={web.port}"] * 30], 80, 24)
        eventually(lambda: os.path.exists(folder.join("urls")), "the URLs", 20)
        with open(folder.join("urls"), encoding="ascii") as f:
            last = f.read().splitlines()[-1]
        taker = t.expose(f"{last.rsplit(':', 1)[1]}={web.port}", "--takeover")
        screen.until(rf"^was taken over by another driver  {last} ")
        rows = screen.shown()
        first = next(row for row in rows if "http://" in row and "→" in row and not re.match(r"\d\d:\d\d:\d\d", row)
                     and rows.index(row) > next(i for i, r in enumerate(rows) if r.startswith("online")))
        assert first.startswith("was taken over"), rows
        assert taker.port == int(last.rsplit(":", 1)[1])
        tmux.ask("send-keys", "-t", screen.name, "C-c")
        eventually(lambda: t.kit.get("/tunnels")["totalBindings"] == 1, "only the other driver's is left")


@case("a pulled port is an address of the container, not a URL, whatever pattern the kit has: lines, file, JSON, block")
def _():
    with Folder() as folder, Tunnel("--public-url-pattern", PATTERN) as t, Tmux(folder) as tmux:
        driver = t.pull("0=9", "--url-file", folder.join("urls"))
        address = f"127.0.0.1:{driver.port}"
        assert driver.bound[0]["url"] == address and driver.bound[0]["publicUrl"] is None, driver.bound
        eventually(lambda: os.path.exists(folder.join("urls")), "the file")
        with open(folder.join("urls"), encoding="ascii") as f:
            assert f.read() == address + "\n"
        screen = tmux.start([BIN, "pull", "0=9", "--url", t.kit.url], 80, 24)
        screen.until(r"^127\.0\.0\.1:\d+ → 127\.0\.0\.1:9$")
        assert "https://" not in "\n".join(screen.copied(history=True))
        tmux.ask("send-keys", "-t", screen.name, "C-c")
        eventually(lambda: t.kit.get("/tunnels")["totalBindings"] == 1, "it has ended")
        status, out, _err = command("bindings", "list", "--url", t.kit.url)
        assert status == 0 and "https://" not in out, out


if __name__ == "__main__":
    main()
