"""Real dev servers behind a kit, in Chromium: the page loads for a host that they do not know, hot reload works over the WebSocket,
and all of it goes through the tunnel. `make dev-servers` runs it: npm fetches Vite and Next.js first, which takes minutes once.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time

from tests.integration.browser import CHROMIUM, Browser
from tests.integration.harness import Folder, Program, Tunnel, connect, eventually, read_head
from tests.support.tap import Skip, case, main

CACHE = os.environ.get("DEV_SERVERS", "build/dev-servers")
NEEDS = {"vite": {"vite": "8.4.0"}, "next": {"next": "16.4.6", "react": "19.3.1", "react-dom": "19.3.1"}}
HOST = "visited.example"  # what the browser takes for 127.0.0.1, and what a dev server does not know


def fetch(name):
    """The packages in a folder of their own."""
    folder = os.path.abspath(os.path.join(CACHE, name))
    wanted = json.dumps({"private": True, "dependencies": NEEDS[name]})
    stamp = os.path.join(folder, "package.json")
    if os.path.exists(stamp) and os.path.isdir(os.path.join(folder, "node_modules")):
        with open(stamp, encoding="ascii") as f:
            if f.read() == wanted:
                return folder
    if not shutil.which("npm"):
        raise Skip("there is no npm")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with open(os.path.join(folder, "package.json.new"), "w", encoding="ascii") as f:
        f.write(wanted)
    shutil.copy(os.path.join(folder, "package.json.new"), stamp)
    done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(folder)
        raise Skip(f"npm gives no {name}: {done.stderr[-200:]!r}")
    return folder


def write(folder, files):
    for name, text in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)


def served(program, pattern):
    """The port that the server says it listens on."""
    line = program.wait_line(pattern, timeout=180)
    return int(re.sub(r"\x1b\[[0-9;]*m", "", line.group(0)).rsplit(":", 1)[1].strip("/ "))


def answer(port, path="/", fields=""):
    with connect(port) as c:
        c.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n{fields}Connection: close\r\n\r\n".encode())
        return read_head(c)[0].decode()


def hot_reload(driver, browser, shown, edit):
    """Opens the page, edits a source, and waits for what it becomes without a reload. Seconds of both."""
    began = time.monotonic()
    page = browser.page(f"http://{HOST}:{driver.port}/")
    page.until(f"document.title === 'alive' && document.body.innerText.includes({json.dumps(shown)})", timeout=180)
    loaded = time.monotonic()
    eventually(lambda: any("answered" in line and "status=101" in line for line in driver.log), "a WebSocket that goes through the tunnel")
    page.js("window.untouched = true")
    for number in range(6):  # a server that has just begun to watch may miss an edit: the editor saves again
        edited = time.monotonic()
        edit(f"after the edit {number}")
        try:
            page.until(f"document.body.innerText.includes('after the edit {number}')", timeout=20)
            break
        except AssertionError:
            assert number < 5, driver.text()[-3000:]
    assert page.js("window.untouched"), "the page was loaded anew"
    took = time.monotonic()
    page.close()
    eventually(lambda: [e for e in driver.events("request") if e["status"] == 101], "the end of the WebSocket")
    return loaded - began, took - edited


def told(what, port, seconds):
    print(f"# {what}: port {port}, page shown after {seconds[0]:.1f} s, edit shown after {seconds[1]:.1f} s")


@case("Vite: refuses a host that it does not know; with --host-header rewrite it loads, and hot reload works")
def _():
    folder = fetch("vite")
    if not CHROMIUM:
        raise Skip("there is no Chromium")
    write(folder, {"index.html": '<!doctype html><body><p id="a">loading</p><script type="module" src="/main.js"></script>',
                   "main.js": "import { text } from './text.js'\ndocument.title = 'alive'\nconst show = t => document.getElementById('a').textContent = t\nshow(text)\n"
                              "import.meta.hot.accept('./text.js', m => show(m.text))\n",
                   "text.js": "export const text = 'before the edit'\n"})
    vite = Program([os.path.join(folder, "node_modules/.bin/vite"), "--port", "5173", "--clearScreen", "false"], cwd=folder,
                   env={**os.environ, "NO_COLOR": "1"})
    try:
        port = served(vite, r"Local: +http://localhost:\d+/")
        with Tunnel() as t, Browser(f"--host-resolver-rules=MAP {HOST} 127.0.0.1") as browser:
            plain = t.expose(f"0=localhost:{port}")
            assert answer(plain.port).startswith("HTTP/1.1 403 "), "Vite takes any host now: what are we for?"
            driver = t.expose(f"0=localhost:{port}", "--host-header", "rewrite", "--log-level", "debug")
            seconds = hot_reload(driver, browser, "before the edit", lambda text: write(folder, {"text.js": f"export const text = '{text}'\n"}))
            told("Vite", port, seconds)
    finally:
        vite.end()


@case("Next.js: with --host-header rewrite a page loads, and hot reload works, though it checks the Origin of its WebSocket")
def _():
    folder = fetch("next")
    if not CHROMIUM:
        raise Skip("there is no Chromium")
    page = ("'use client'\nimport { useEffect } from 'react'\n"
            "export default function Page() { useEffect(() => { document.title = 'alive' }, []); return <p>%s</p> }\n")
    write(folder, {"app/layout.jsx": "export default function Layout({ children }) { return <html><body>{children}</body></html> }\n",
                   "app/page.jsx": page % "before the edit"})
    server = Program(["node", os.path.join(folder, "node_modules/next/dist/bin/next"), "dev", "--port", "0", "--hostname", "localhost"], cwd=folder,
                     env={**os.environ, "NO_COLOR": "1", "NEXT_TELEMETRY_DISABLED": "1"})
    try:
        port = served(server, r"Local: +http://localhost:\d+")
        with Tunnel() as t, Browser(f"--host-resolver-rules=MAP {HOST} 127.0.0.1") as browser:
            driver = t.expose(f"0=localhost:{port}", "--host-header", "rewrite", "--log-level", "debug")
            seconds = hot_reload(driver, browser, "before the edit", lambda text: write(folder, {"app/page.jsx": page % text}))
            told("Next.js", port, seconds)
    finally:
        server.end()


if __name__ == "__main__":
    main()
