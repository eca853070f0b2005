"""How fast TLS is ended, checked and begun anew: a download through a kit's proxy and a driver that adds a key, beside nginx in the
driver's place (TLS from the client, a header set, verified TLS to the origin), and directly. Pairs are interleaved.

    python3 -m tests.bench.ending [--runs 3] [--size MIB]

Prints MiB/s and the ratio to nginx; its median should be at least 0.8."""

import argparse
import contextlib
import os
import statistics
import subprocess

from tests.integration.guarded import Authority, Guarded, secret_file
from tests.integration.harness import Folder, Nginx

ORIGIN = """events {} http { access_log off; server { listen 127.0.0.1:{0} ssl; server_name api.test; ssl_certificate %(cert)s;
    ssl_certificate_key %(key)s; root %(root)s; sendfile off; output_buffers 4 256k; } }"""
ENDING = """events {} http { access_log off; proxy_temp_path %(root)s/t;
    upstream origin { server 127.0.0.1:%(to)s; keepalive 16; }
    server { listen 127.0.0.1:{0} ssl; server_name api.test; ssl_certificate %(cert)s; ssl_certificate_key %(key)s;
        location / { proxy_pass https://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host api.test;
            proxy_set_header Authorization "Bearer key"; proxy_ssl_verify on; proxy_ssl_trusted_certificate %(ca)s;
            proxy_ssl_name api.test; proxy_ssl_server_name on; proxy_buffering on; proxy_buffers 8 256k; proxy_buffer_size 256k;
            proxy_busy_buffers_size 512k; proxy_max_temp_file_size 0; } } }"""


def download(*args):
    """MiB/s of one download."""
    done = subprocess.run(["curl", "-sS", "-f", "-o", "/dev/null", "-w", "%{speed_download}", *args], stdout=subprocess.PIPE, check=True,
                          timeout=600, env={**os.environ, "NO_PROXY": "", "no_proxy": ""})
    return float(done.stdout) / (1 << 20)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="MiB of one download")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(Folder())
        authority = Authority(folder)
        cert, key = authority.issue("api", san="DNS:api.test")
        with open(folder.join("bytes"), "wb") as f:
            f.truncate(args.size << 20)
        more = {"cert": cert, "key": key, "root": folder.path, "ca": authority.path("ca.pem")}
        one = "worker_processes 1;"
        origin = stack.enter_context(Nginx(folder, ORIGIN % more, main=one))
        nginx = stack.enter_context(Nginx(folder, ENDING % {**more, "to": origin.port}, main=one))
        t = stack.enter_context(Guarded(folder, f'{{name: "api.test:443", target: "127.0.0.1:{origin.port}", ca: {more["ca"]}, '
                                                f'inject: {{Authorization: "Bearer ${{file:{secret_file(folder)}}}"}}}}',
                                        args=("--log-level", "info")))

        def past(port):
            return ["--cacert", more["ca"], "--resolve", f"api.test:{port}:127.0.0.1", f"https://api.test:{port}/bytes"]

        ways = {
            "direct": past(origin.port),
            "nginx": past(nginx.port),
            "hoody-tunnel": ["--proxy", f"http://{t.proxy}", "--cacert", t.ca, "https://api.test/bytes"],
        }
        got = {name: [] for name in ways}
        for _ in range(args.runs):
            for name, way in ways.items():
                got[name].append(download(*way))
        ratios = [ours / theirs for ours, theirs in zip(got["hoody-tunnel"], got["nginx"])]
        for name, values in got.items():
            print(f"{name:<14}{statistics.median(values):8.0f} MiB/s  ({', '.join(f'{v:.0f}' for v in values)})")
        print(f"to nginx      {statistics.median(ratios):8.2f}        ({', '.join(f'{r:.2f}' for r in ratios)})")


if __name__ == "__main__":
    main()
