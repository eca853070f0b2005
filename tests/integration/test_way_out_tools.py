"""Tools that people use, through the CONNECT proxy: git over https, npm and pip against registries' stand-ins, IPv6."""

import contextlib
import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
import zipfile

from tests.integration.harness import Folder, Nginx, run
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


def tls_site(folder, location, ipv6=False):
    """An nginx with TLS on port {0} that has `location`."""
    cert, key = Authority(folder).issue("localhost", "DNS:localhost,IP:127.0.0.1,IP:::1")
    six = "listen [::1]:{0} ssl;" if ipv6 else ""
    return Nginx(folder, "events {}\nhttp { access_log off; client_max_body_size 0; server { listen 127.0.0.1:{0} ssl; " + six +
                 f"ssl_certificate {cert}; ssl_certificate_key {key}; " + location + " } }")


def git(*args, cwd=None, env=None):
    return run(["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *args], cwd=cwd, env=env)


@case("git: clone, push and fetch over https, through the proxy and not without it")
def _():
    if not os.path.exists(BACKEND):
        raise Skip("git has no http-backend here")
    with Folder() as folder:
        git("init", "-q", "--bare", folder.join("repo.git"))
        git("-C", folder.join("repo.git"), "config", "http.receivepack", "true")
        git("-C", folder.join("repo.git"), "symbolic-ref", "HEAD", "refs/heads/main")
        with cgi(folder.path) as port, \
                tls_site(folder, "location / { proxy_pass http://127.0.0.1:%d; proxy_http_version 1.1; }" % port) as site, \
                WayOut(allow=[f"127.0.0.1:{site.port}"]) as way:
            env = environment(HTTPS_PROXY=way.url, GIT_SSL_CAINFO=folder.join("ca.pem"), GIT_TERMINAL_PROMPT="0")
            url = f"https://localhost:{site.port}/repo.git"
            git("clone", "-q", url, folder.join("one"), env=env)
            with open(folder.join("one", "big"), "wb") as f:
                f.write(os.urandom(3 << 20))
            git("checkout", "-q", "-b", "main", cwd=folder.join("one"), env=env)
            git("add", "big", cwd=folder.join("one"), env=env)
            git("commit", "-q", "-m", "first", cwd=folder.join("one"), env=env)
            git("push", "-q", "origin", "main", cwd=folder.join("one"), env=env)
            git("clone", "-q", url, folder.join("two"), env=env)
            with open(folder.join("one", "big"), "rb") as a, open(folder.join("two", "big"), "rb") as b:
                assert a.read() == b.read()
            through = way.kit.metric('hoody_tunnel_connect_requests_total{outcome="direct"}')
            assert through >= 3, through
            # Unset: the proxy sees nothing of it. Wrong: it fails, and says so.
            git("ls-remote", url, env=environment(GIT_SSL_CAINFO=folder.join("ca.pem")))
            assert way.kit.metric('hoody_tunnel_connect_requests_total{outcome="direct"}') == through
            for wrong, word in ((f"http://127.0.0.1:{way.kit.port}", "40"), ("http://127.0.0.1:1", "connect")):
                done = subprocess.run(["git", "ls-remote", url], env={**env, "HTTPS_PROXY": wrong}, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
                assert done.returncode != 0 and word in done.stderr.decode(), done


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


@case("npm installs from a registry with TLS")
def _():
    if not shutil.which("npm"):
        raise Skip("npm is not here")
    with Folder() as folder:
        package = {"name": "left", "version": "1.0.0", "main": "index.js"}
        blob = tarball({"package/package.json": json.dumps(package), "package/index.js": "module.exports = 'through the proxy'\n"})
        os.makedirs(folder.join("www"))
        with tls_site(folder, f"root {folder.join('www')}; location = /left {{ default_type application/json; try_files /left.json =404; }}") as site, \
                WayOut(allow=[f"127.0.0.1:{site.port}"]) as way:
            url = f"https://localhost:{site.port}"
            with open(folder.join("www", "left.tgz"), "wb") as f:
                f.write(blob)
            with open(folder.join("www", "left.json"), "w", encoding="utf-8") as f:
                json.dump({"name": "left", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {
                    **package, "dist": {"tarball": f"{url}/left.tgz", "shasum": hashlib.sha1(blob).hexdigest()}}}}, f)
            os.makedirs(folder.join("app"))
            run(["npm", "install", "left", "--registry", url, "--no-audit", "--no-fund", "--cafile", folder.join("ca.pem"), "--cache", folder.join("cache")], cwd=folder.join("app"),
                env=environment(HTTPS_PROXY=way.url, HOME=folder.path))
            assert run(["node", "-p", "require('left')"], cwd=folder.join("app")) == "through the proxy\n"
            assert way.kit.metric('hoody_tunnel_connect_requests_total{outcome="direct"}') >= 1


@case("pip installs from an index with TLS")
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
        with tls_site(folder, f"root {folder.join('www')};") as site, WayOut(allow=[f"127.0.0.1:{site.port}"]) as way:
            run(["/usr/bin/python3", "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--no-deps", "--target", folder.join("lib"),
                 "--cert", folder.join("ca.pem"), "--index-url", f"https://localhost:{site.port}", "left"],
                env=environment(HTTPS_PROXY=way.url, HOME=folder.path, PIP_CONFIG_FILE="/dev/null"))
            assert run(["/usr/bin/python3", "-c", "import left; print(left.said)"], env=environment(PYTHONPATH=folder.join("lib"))) == "through the proxy\n"
            assert way.kit.metric('hoody_tunnel_connect_requests_total{outcome="direct"}') >= 1


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
