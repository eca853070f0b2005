"""What plays an agent in the container: it uses the API as tools do, and writes down all that it is told. It knows no secret, and
what it can find of one is looked for in what it leaves. Its last word is awaited before its memory is searched."""

import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

NODE = """
const {HTTPS_PROXY} = process.env, http = require('http'), tls = require('tls'), p = new URL(HTTPS_PROXY);
const auth = p.username ? {'Proxy-Authorization': 'Basic ' + Buffer.from(p.username + ':' + p.password).toString('base64')} : {};
http.request({host: p.hostname, port: p.port, method: 'CONNECT', path: process.argv[1] + ':443', headers: auth})
  .on('connect', (answer, socket) => {
    const c = tls.connect({socket, servername: process.argv[1]}, () =>
      c.write(`GET /v1/node HTTP/1.1\\r\\nHost: ${process.argv[1]}\\r\\nAuthorization: Bearer ${process.argv[2]}\\r\\nConnection: close\\r\\n\\r\\n`));
    c.on('data', d => process.stdout.write(d));
  }).end();
"""


def fetch(url, **more):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **more), timeout=30) as a:
            return {"status": a.status, "headers": str(a.headers), "body": a.read().decode(errors="replace")}
    except urllib.error.HTTPError as e:
        return {"status": e.code, "headers": str(e.headers), "body": e.read().decode(errors="replace")}
    except OSError as e:
        return {"error": str(e)}


def tool(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError as e:
        return {"status": -1, "err": str(e)}
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr}


def kit(path):
    c = http.client.HTTPConnection("127.0.0.1", 8050, timeout=30)
    with open("/tmp/token", encoding="ascii") as f:
        c.request("GET", path, headers={"Authorization": "Bearer " + f.read().strip()})
    a = c.getresponse()
    body = a.read().decode(errors="replace")
    c.close()
    return {"status": a.status, "headers": str(a.headers), "body": body}


def processes():
    """What /proc says of everybody here, as far as it lets us."""
    found = {}
    for pid in (n for n in os.listdir("/proc") if n.isdigit()):
        for name in ("cmdline", "environ", "status", "maps", "stack", "syscall"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as f:
                    found[f"{pid}/{name}"] = f.read().decode(errors="replace")
            except OSError as e:
                found[f"{pid}/{name}"] = str(e)
    return found


def main():
    program, placeholder = sys.argv[1:3]
    bearer = {"Authorization": f"Bearer {placeholder}"}
    found = {
        "environment": dict(os.environ),
        "urllib": fetch("https://api.test/v1/models", headers=bearer),
        "urllib, posted": fetch("https://api.test/v1/chat", data=b"{}", headers=bearer),
        "curl": tool("curl", "-sS", "-v", "-i", "-H", f"Authorization: Bearer {placeholder}", "https://api.test/v1/curl"),
        "by command": fetch("https://git.test/repository"),
        "without the placeholder": fetch("https://api.test/v1/bare"),
        "denied": fetch("https://api.test/admin", headers=bearer),
        "elsewhere": fetch("https://git.test/", headers=bearer),
        "in the query": fetch(f"https://api.test/v1/x?key={placeholder}"),
        "plain": fetch("http://api.test/v1/models", headers=bearer),
        "another port": fetch("https://api.test:8443/v1/models", headers=bearer),
        "nobody's name": fetch("https://other.test/", headers=bearer),
        "not trusted": tool("curl", "-sS", "--cacert", "/dev/null", "https://api.test/v1/curl"),
        "resolved": tool("getent", "hosts", "api.test"),
        "list": tool(program, "list", "--url", "http://127.0.0.1:8050", "--token-file", "/tmp/token", "--json"),
        "processes": processes(),
    }
    for path in ("bindings", "sessions", "tunnels", "proxy", "ca.pem", "metrics", "health", "openapi.json"):
        found[path] = kit(f"/api/v1/tunnel/{path}")
    if tool("node", "--version")["status"] == 0:
        found["node"] = tool("node", "-e", NODE, "api.test", placeholder)
    with open("/tmp/found.json", "w", encoding="utf-8") as f:
        json.dump(found, f)
    print("found", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
