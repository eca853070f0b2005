"""`hoody-tunnel env`: what is printed leads real programs through the kit's proxy, in each shell's own quoting."""

import http.server
import json
import os
import shutil
import stat
import subprocess
import threading

from tests.integration.harness import Folder, Kit, command, http_service, run
from tests.integration.tls_peer import Authority, TlsService
from tests.support.tap import case, main

PROXY = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
BUNDLE = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "CARGO_HTTP_CAINFO"]
CLEAN = {name: "" for name in [*PROXY, *BUNDLE, "NO_PROXY", "no_proxy", "NODE_EXTRA_CA_CERTS"]}


class Answers:
    """What plays a kit: a path, and the (status, type, body) that is answered to it."""

    def __init__(self, answers):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # pylint: disable=invalid-name
                status, kind, body = answers.get(self.path.rsplit("/", 1)[1], (404, "application/json", b'{"error":"not found"}'))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def proxy_at(address, wants_token=False):
    return 200, "application/json", json.dumps({"address": address, "wantsToken": wants_token}).encode()


def certificate(folder, name="ca"):
    path = folder.join(f"{name}.pem")
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder.join("key"),
         "-out", path, "-days", "2", "-subj", f"/CN={name}"])
    with open(path, "rb") as f:
        return f.read()


def env_of(*args, env=None):
    status, out, said = command("env", *args, env={**CLEAN, **(env or {})})
    assert status == 0, said
    return out


@case("curl goes through the proxy of a real kit with what is printed, and past it for this machine's own names")
def _():
    kit = Kit("--connect-proxy", "127.0.0.1:0", "--connect-allow", "127.0.0.1")
    try:
        address = kit.get("/proxy")
        assert address["wantsToken"] is False and address["address"].startswith("127.0.0.1:"), address
        out = env_of("--url", kit.url)
        want = {name: f"http://{address['address']}" for name in PROXY}
        want |= {"NO_PROXY": "localhost,127.0.0.1,::1", "no_proxy": "localhost,127.0.0.1,::1"}
        assert json.loads(env_of("--url", kit.url, "--format", "json")) == want
        with http_service(lambda head, body: b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nfrom the service") as service:
            script = f'eval "$(cat)"; unset NO_PROXY no_proxy; curl -sS -v -p http://127.0.0.1:{service.port}/ 2>&1'
            said = subprocess.run(["sh", "-c", script], input=out, capture_output=True, text=True, timeout=60, check=True,
                                  env={**os.environ, **CLEAN}).stdout
            assert "from the service" in said and f"port {address['address'].rsplit(':', 1)[1]}" in said, said
            script = f'eval "$(cat)"; curl -sS -v -p http://127.0.0.1:{service.port}/ 2>&1'
            said = subprocess.run(["sh", "-c", script], input=out, capture_output=True, text=True, timeout=60, check=True,
                                  env={**os.environ, **CLEAN}).stdout
            assert "from the service" in said and f"port {service.port}" in said, said
    finally:
        assert kit.end() == 0


@case("a kit without a proxy, an older one, no kit, a refused token: told, with the exit code")
def _():
    kit = Kit()
    try:
        assert kit.get("/proxy") == {"address": None, "wantsToken": False}
        status, out, said = command("env", "--url", kit.url)
        assert (status, out) == (1, "") and "start it with --connect-proxy 127.0.0.1:9090" in said, said
    finally:
        kit.end()
    with Answers({}) as old:
        status, out, said = command("env", "--url", old.url)
        assert (status, out) == (1, "") and "not a kit, or an older one" in said, said
    with Answers({"proxy": (200, "text/html", b"<p>")}) as other:
        assert command("env", "--url", other.url)[0] == 1
    with Answers({"proxy": proxy_at("x; rm -rf /")}) as other:
        status, out, said = command("env", "--url", other.url)
        assert (status, out) == (1, "") and "is not an address" in said, said
    with Answers({"proxy": (401, "application/json", b"{}")}) as locked:
        assert command("env", "--url", locked.url)[0] == 4
    assert command("env", "--url", "http://127.0.0.1:1")[0] == 6
    assert command("env", "--format", "csh")[0] == 2


@case("a proxy that wants the token gets it, percent-encoded; one on all addresses has the kit's name")
def _():
    with Answers({"proxy": proxy_at("0.0.0.0:9090", True)}) as kit:
        out = json.loads(env_of("--url", kit.url, "--format", "json", env={"HOODY_TUNNEL_TOKEN": "a/b'c$d"}))
        assert out["https_proxy"] == "http://tunnel:a%2Fb%27c%24d@127.0.0.1:9090", out
        status, out, said = command("env", "--url", kit.url)
        assert (status, out) == (4, "") and "--token-file or HOODY_TUNNEL_TOKEN" in said, said
    with Answers({"proxy": proxy_at("[::1]:9090")}) as kit:
        assert json.loads(env_of("--url", kit.url, "--format", "json"))["https_proxy"] == "http://[::1]:9090"


@case("each format says the same to its reader, whatever is in a value")
def _():
    with Folder() as folder, Answers({}) as kit:
        answers = {"proxy": proxy_at("127.0.0.1:9090"), "ca.pem": (200, "application/x-pem-file", certificate(folder))}
        with Answers(answers) as kit:
            bundle = folder.join("it's a \"$HOME\" `id` \\ \\' é & ;.pem")
            more = {"NO_PROXY": "a.example, b.example\n,$(id)"}
            args = ["--url", kit.url, "--ca-bundle", bundle]
            want = json.loads(env_of(*args, "--format", "json", env=more))
            assert want["SSL_CERT_FILE"] == bundle and want["NO_PROXY"] == "a.example,b.example,$(id),localhost,127.0.0.1,::1", want
            show = "import json,os,sys; print(json.dumps({k: os.environ[k] for k in sys.argv[1:]}))"
            python = f"/usr/bin/python3 -c '{show}' {' '.join(want)}"
            shells = [(["sh"], "sh"), (["bash", "--norc"], "sh"), (["dash"], "sh"), (["zsh", "-f"], "sh"), (["fish", "-N"], "fish")]
            seen = 0
            for shell, form in shells:
                if not shutil.which(shell[0]):
                    continue
                seen += 1
                path = folder.join(f"script-{shell[0]}")
                with open(path, "w", encoding="utf-8") as f:
                    f.write(env_of(*args, "--format", form, env=more))
                load = f"source {path}" if form == "fish" else f'eval "$(cat {path})"'
                got = json.loads(run([*shell, "-c", f"{load}; {python}"], env={**os.environ, "HOME": folder.path}))
                assert got == want, (shell, got)
            assert seen >= 2, "no shell but one"
            docker = dict(line.split("=", 1) for line in env_of(*args, "--format", "docker", env=more).splitlines())
            assert docker == want, docker
            dotenv = env_of(*args, "--format", "dotenv", env=more)
            assert "HTTPS_PROXY=http://127.0.0.1:9090\n" in dotenv, dotenv
            assert 'SSL_CERT_FILE="' + folder.path + "/it's a \\\"\\$HOME\\\" \\`id\\` \\\\ \\\\' é & ;.pem\"\n" in dotenv, dotenv


@case("the authorities that drivers offer: joined with the system's, beside them alone, for everybody to read, and nothing without")
def _():
    with Folder() as folder:
        ca, system = certificate(folder), certificate(folder, "system")
        state = folder.join("state")
        with Answers({"proxy": proxy_at("127.0.0.1:9090"), "ca.pem": (200, "application/x-pem-file", ca)}) as kit:
            env = {"XDG_STATE_HOME": state, "SSL_CERT_FILE": folder.join("system.pem")}
            for _round in range(2):  # the second time what is exported names our own
                out = json.loads(env_of("--url", kit.url, "--format", "json", env=env))
                bundle, extra = out["SSL_CERT_FILE"], out["NODE_EXTRA_CA_CERTS"]
                assert bundle == f"{state}/hoody-tunnel/ca-bundle.pem" and all(out[name] == bundle for name in BUNDLE), out
                with open(bundle, "rb") as f:
                    text = f.read()
                assert text.endswith(ca) and text.count(ca) == 1, text
                assert _round or text == system + ca
                with open(extra, "rb") as f:
                    assert f.read() == ca
                assert stat.S_IMODE(os.stat(bundle).st_mode) == 0o644
                env["SSL_CERT_FILE"] = bundle
            os.remove(bundle)
            os.symlink(folder.join("precious"), bundle)  # a link is replaced, and not followed
            env_of("--url", kit.url, env=env)
            assert not os.path.islink(bundle) and not os.path.exists(folder.join("precious"))
            status, _, said = command("env", "--url", kit.url, env={**CLEAN, "XDG_STATE_HOME": "", "HOME": ""})
            assert status == 3 and "--ca-bundle" in said, said
            status, _, said = command("env", "--url", kit.url, "--ca-bundle", folder.join("no", "where"))
            assert status == 3 and "cannot write" in said, said
        for bad in (b"<html>", ca + b"-----BEGIN PRIVATE KEY-----\n"):
            with Answers({"proxy": proxy_at("127.0.0.1:9090"), "ca.pem": (200, "text/html", bad)}) as kit:
                status, out, said = command("env", "--url", kit.url)
                assert (status, out) == (1, "") and "not a list of certificates" in said, said
        with Answers({"proxy": proxy_at("127.0.0.1:9090"), "ca.pem": (200, "application/x-pem-file", b"")}) as kit:
            out = json.loads(env_of("--url", kit.url, "--format", "json"))
            assert not set(out) & {*BUNDLE, "NODE_EXTRA_CA_CERTS"}, out


@case("Python and curl take a certificate of that authority with what is exported, and not without")
def _():
    with Folder() as folder:
        ca = Authority(folder)
        cert, key = ca.issue("srv")
        with open(ca.path("ca.pem"), "rb") as f:
            pem = f.read()

        def answer(c):
            while b"\r\n\r\n" not in c.recv(65536):
                pass
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")

        with TlsService(cert, key, answer) as service, Answers({"proxy": proxy_at("127.0.0.1:9090"), "ca.pem": (200, "x/y", pem)}) as kit:
            out = env_of("--url", kit.url, "--ca-bundle", folder.join("bundle.pem"))
            url = f"https://localhost:{service.port}/"
            fetch = f"import urllib.request; print(urllib.request.urlopen('{url}').read().decode())"
            for program in (f"curl -sS {url}", f'/usr/bin/python3 -c "{fetch}"'):
                done = subprocess.run(["sh", "-c", f'eval "$(cat)"; {program}'], input=out, capture_output=True, text=True, timeout=60,
                                      check=False, env={**os.environ, **CLEAN})
                assert done.stdout.strip() == "hello", done
                without = {k: v for k, v in {**os.environ, "NO_PROXY": "localhost"}.items() if k not in BUNDLE}
                done = subprocess.run(["sh", "-c", program], capture_output=True, text=True, timeout=60, check=False, env=without)
                assert done.returncode != 0 and "certificate" in done.stderr.lower(), done


if __name__ == "__main__":
    main()
