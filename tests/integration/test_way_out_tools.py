"""Tools that people use, through the CONNECT proxy: git over https, npm and pip against registries' stand-ins, curl. Each goes twice:
to a host that the kit connects to itself, and by a name that only a driver knows.

Runs: plain.
"""

import contextlib
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import threading
import zipfile

from tests.integration.harness import Driver, Folder, Nginx, run
from tests.integration.tls_peer import Authority
from tests.integration.way_out import WayOut
from tests.support.tap import Skip, case, main

BACKEND = "/usr/lib/git-core/git-http-backend"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def environment(**more):
    """Nothing of the machine's own about proxies and certificates."""
    env = {k: v for k, v in os.environ.items() if k.lower() not in PROXIES and not k.lower().startswith(("git_", "npm_", "pip_", "ssl_cert", "requests_ca", "curl_ca", "node_extra"))}
    return {**env, **more}


class GitCgi(http.server.BaseHTTPRequestHandler):
    """git http-backend as a CGI program: what fcgiwrap would do."""

    protocol_version = "HTTP/1.1"
    root = ""

    def log_message(self, *_):
        pass

    def _body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _serve(self):
        path, _, query = self.path.partition("?")
        body = self._body()
        env = {"GIT_PROJECT_ROOT": self.root, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query, "REMOTE_USER": "somebody",
               "REMOTE_ADDR": "127.0.0.1", "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
               "CONTENT_LENGTH": str(len(body)), "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
               "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "PATH": os.environ["PATH"]}
        said = subprocess.run([BACKEND], input=body, env=env, stdout=subprocess.PIPE, check=False).stdout
        head, _, rest = said.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest)

    do_GET = do_POST = _serve


@contextlib.contextmanager
def cgi(root):
    handler = type("Handler", (GitCgi,), {"root": root})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


NAME = "tools.corp.test"  # no name server has it


def tls_site(folder, location, ipv6=False):
    """An nginx with TLS on port {0} that has `location`."""
    cert, key = Authority(folder).issue("localhost", f"DNS:localhost,DNS:{NAME},IP:127.0.0.1,IP:::1")
    six = "listen [::1]:{0} ssl;" if ipv6 else ""
    return Nginx(folder, "events {}\nhttp { access_log off; client_max_body_size 0; server { listen 127.0.0.1:{0} ssl; " + six +
                 f"ssl_certificate {cert}; ssl_certificate_key {key}; " + location + " } }")


@contextlib.contextmanager
def direct(site, *args):
    """(the kit, the site's URL, what the kit counts)"""
    with WayOut(*args, allow=[f"127.0.0.1:{site.port}"]) as way:
        yield way, f"https://localhost:{site.port}", "direct"


@contextlib.contextmanager
def by_name(site, *args):
    """The same through a driver, from a kit that connects to nothing by itself."""
    with WayOut("--connect-default", "deny", *args) as way:
        driver = Driver(way.kit, "reach", f"{NAME}:443=127.0.0.1:{site.port}")
        try:
            yield way, f"https://{NAME}", "tunnel"
            assert driver.end(signal.SIGINT) == 0, driver.text()
            driver.check_sanitizers()
        finally:
            if driver.process.poll() is None:
                driver.end(signal.SIGKILL)


def counted(way, outcome):
    return way.kit.metric(f'hoody_tunnel_connect_requests_total{{outcome="{outcome}"}}')


def git(*args, cwd=None, env=None):
    return run(["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *args], cwd=cwd, env=env)


def git_session(folder, way, url, outcome):
    """Clone, push, clone again; without the proxy, and with a wrong one."""
    name = folder.join(outcome)
    env = environment(HTTPS_PROXY=way.url, GIT_SSL_CAINFO=folder.join("ca.pem"), GIT_TERMINAL_PROMPT="0")
    url += f"/{outcome}.git"
    git("init", "-q", "--bare", f"{name}.git")
    git("-C", f"{name}.git", "config", "http.receivepack", "true")
    git("-C", f"{name}.git", "symbolic-ref", "HEAD", "refs/heads/main")
    git("clone", "-q", url, f"{name}-one", env=env)
    with open(f"{name}-one/big", "wb") as f:
        f.write(os.urandom(3 << 20))
    git("checkout", "-q", "-b", "main", cwd=f"{name}-one", env=env)
    git("add", "big", cwd=f"{name}-one", env=env)
    git("commit", "-q", "-m", "first", cwd=f"{name}-one", env=env)
    git("push", "-q", "origin", "main", cwd=f"{name}-one", env=env)
    git("clone", "-q", url, f"{name}-two", env=env)
    with open(f"{name}-one/big", "rb") as a, open(f"{name}-two/big", "rb") as b:
        assert a.read() == b.read()
    through = counted(way, outcome)
    assert through >= 3, through
    # Unset: the proxy sees nothing of it, and nobody knows the name. Wrong: it fails, and says so.
    plain = subprocess.run(["git", "ls-remote", url], env=environment(GIT_SSL_CAINFO=folder.join("ca.pem")), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (plain.returncode == 0) == (outcome == "direct"), plain
    assert outcome == "direct" or b"Could not resolve host" in plain.stderr, plain
    for wrong, word in ((f"http://127.0.0.1:{way.kit.port}", "40"), ("http://127.0.0.1:1", "connect")):
        done = subprocess.run(["git", "ls-remote", url], env={**env, "HTTPS_PROXY": wrong}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
        assert done.returncode != 0 and word in done.stderr.decode(), done
    assert counted(way, outcome) == through


@case("git: clone and push over https, directly and by name, through the proxy and not without it")
def _():
    if not os.path.exists(BACKEND):
        raise Skip("git has no http-backend here")
    with Folder() as folder, cgi(folder.path) as port, \
            tls_site(folder, "location / { proxy_pass http://127.0.0.1:%d; proxy_http_version 1.1; }" % port) as site:
        for route in (direct, by_name):
            with route(site) as (way, url, outcome):
                git_session(folder, way, url, outcome)


@case("git by SOCKS5, with the name looked up by the kit")
def _():
    if not os.path.exists(BACKEND):
        raise Skip("git has no http-backend here")
    with Folder() as folder:
        git("init", "-q", "--bare", folder.join("repo.git"))
        with cgi(folder.path) as port, tls_site(folder, "location / { proxy_pass http://127.0.0.1:%d; }" % port) as site, \
                WayOut(allow=[f"127.0.0.1:{site.port}"]) as way:
            git("ls-remote", f"https://localhost:{site.port}/repo.git",
                env=environment(ALL_PROXY=f"socks5h://127.0.0.1:{way.port}", GIT_SSL_CAINFO=folder.join("ca.pem")))
            assert way.kit.metric('hoody_tunnel_connect_requests_total{outcome="direct"}') == 1


def tarball(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


@case("npm installs from a registry with TLS, directly and by name")
def _():
    if not shutil.which("npm"):
        raise Skip("npm is not here")
    with Folder() as folder:
        package = {"name": "left", "version": "1.0.0", "main": "index.js"}
        blob = tarball({"package/package.json": json.dumps(package), "package/index.js": "module.exports = 'through the proxy'\n"})
        os.makedirs(folder.join("www"))
        with open(folder.join("www", "left.tgz"), "wb") as f:
            f.write(blob)
        with tls_site(folder, f"root {folder.join('www')}; location = /left {{ default_type application/json; try_files /left.json =404; }}") as site:
            for route in (direct, by_name):
                with route(site) as (way, url, outcome):
                    with open(folder.join("www", "left.json"), "w", encoding="utf-8") as f:
                        json.dump({"name": "left", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {
                            **package, "dist": {"tarball": f"{url}/left.tgz", "shasum": hashlib.sha1(blob).hexdigest()}}}}, f)
                    app = folder.join(outcome)
                    os.makedirs(app)
                    run(["npm", "install", "left", "--registry", url, "--no-audit", "--no-fund", "--cafile", folder.join("ca.pem"), "--cache", f"{app}-cache"],
                        cwd=app, env=environment(HTTPS_PROXY=way.url, HOME=folder.path))
                    with open(os.path.join(app, "node_modules/left/index.js"), encoding="ascii") as f:
                        assert "through the proxy" in f.read()
                    assert counted(way, outcome) >= 1


@case("pip installs from an index with TLS, directly and by name")
def _():
    if subprocess.run(["/usr/bin/python3", "-m", "pip", "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode:
        raise Skip("pip is not here")
    with Folder() as folder:
        wheel = folder.join("www", "left", "left-1.0-py3-none-any.whl")
        os.makedirs(os.path.dirname(wheel))
        with zipfile.ZipFile(wheel, "w") as z:
            z.writestr("left.py", "said = 'through the proxy'\n")
            z.writestr("left-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: left\nVersion: 1.0\n")
            z.writestr("left-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            z.writestr("left-1.0.dist-info/RECORD", "left.py,,\nleft-1.0.dist-info/METADATA,,\nleft-1.0.dist-info/WHEEL,,\nleft-1.0.dist-info/RECORD,,\n")
        with open(folder.join("www", "left", "index.html"), "w", encoding="utf-8") as f:
            f.write("<!DOCTYPE html><html><body><a href='left-1.0-py3-none-any.whl'>left-1.0-py3-none-any.whl</a></body></html>")
        with tls_site(folder, f"root {folder.join('www')};") as site:
            for route in (direct, by_name):
                with route(site) as (way, url, outcome):
                    lib = folder.join(outcome)
                    run(["/usr/bin/python3", "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--no-deps", "--target", lib,
                         "--cert", folder.join("ca.pem"), "--index-url", url, "left"],
                        env=environment(HTTPS_PROXY=way.url, HOME=folder.path, PIP_CONFIG_FILE="/dev/null"))
                    with open(os.path.join(lib, "left.py"), encoding="ascii") as f:
                        assert "through the proxy" in f.read()
                    assert counted(way, outcome) >= 1


@case("curl by name: HTTPS_PROXY set, unset, wrong, and an IPv6 address")
def _():
    with Folder() as folder, tls_site(folder, "location / { return 200 'by name\\n'; }") as site:
        def curl(**env):
            done = subprocess.run(["curl", "-sS", "--cacert", folder.join("ca.pem"), f"https://{NAME}/"], env=environment(**env), stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
            return done.returncode, done.stdout.decode() or done.stderr.decode()
        for at in ("127.0.0.1", "[::1]"):
            with by_name(site, "--connect-proxy", f"{at}:0") as (way, _, outcome):
                assert way.url.startswith(f"http://{at}:"), way.url
                assert curl(HTTPS_PROXY=way.url) == (0, "by name\n")
                assert curl(https_proxy=way.url.replace("http:", "socks5h:")) == (0, "by name\n")
                assert curl(HTTPS_PROXY=way.url, NO_PROXY=NAME)[0] == 6  # it cannot be resolved
                assert curl()[0] == 6
                status, said = curl(HTTPS_PROXY=f"http://127.0.0.1:{way.kit.port}")  # the kit's other port
                assert status == 56 and re.search("40[0-9]", said), (status, said)
                assert curl(HTTPS_PROXY="http://127.0.0.1:1")[0] == 7
                assert counted(way, outcome) == 2


@case("curl to an IPv6 address with TLS, and the certificate is the destination's own")
def _():
    with Folder() as folder, tls_site(folder, "location / { return 200 'by six\\n'; }", ipv6=True) as site, \
            WayOut(allow=[f"[::1]:{site.port}"]) as way:
        def curl(proxy):
            return run(["curl", "-sS", "-g", "--noproxy", "", "--cacert", folder.join("ca.pem"), "-x", proxy, f"https://[::1]:{site.port}/"], env=environment())
        assert curl(way.url) == "by six\n"
        assert curl(f"socks5h://127.0.0.1:{way.port}") == "by six\n"


if __name__ == "__main__":
    main()
