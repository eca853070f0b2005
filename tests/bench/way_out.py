"""How fast the way out is: by name through the CONNECT proxy beside a pulled port, and tls:// targets beside plain ones.

    make all && PYTHONPATH=. /usr/bin/python3 tests/bench/way_out.py [--size MIB] [--runs N]

One curl downloads from one nginx on loopback by each way in turn, --runs times over; medians and the ratios that matter are printed. Run
it on a quiet machine.
"""

import argparse
import contextlib
import os
import re
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests.bench.bench import cpu  # noqa: E402
from tests.integration.harness import Folder, Nginx, Tunnel  # noqa: E402
from tests.integration.tls_peer import Authority  # noqa: E402

SERVER = """events {} http { access_log off; sendfile on; tcp_nopush on; types {} default_type application/octet-stream;
    server { listen 127.0.0.1:{0}; listen 127.0.0.1:{1} ssl; ssl_certificate %(cert)s; ssl_certificate_key %(key)s; root %(root)s; } }"""
TLS_HOP = """events {} stream { server { listen 127.0.0.1:{0}; proxy_pass 127.0.0.1:%(to)s; proxy_ssl on; proxy_ssl_verify on;
    proxy_ssl_trusted_certificate %(ca)s; proxy_ssl_name localhost; proxy_buffer_size 256k; } }"""


def curl(*args):
    """MiB per second."""
    done = subprocess.run(["curl", "-sS", "--fail", "-o", "/dev/null", "--noproxy", "", "-w", "%{speed_download} %{http_code}", *args],
                          stdout=subprocess.PIPE, check=True, timeout=600, env={k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")})
    speed, code = done.stdout.decode().split()
    assert code == "200", code
    return float(speed) / (1 << 20)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, metavar="MIB")
    parser.add_argument("--runs", type=int, default=5, metavar="N")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(Folder())
        cert, key = Authority(folder).issue("localhost", "DNS:localhost,DNS:bench.test,IP:127.0.0.1")
        os.makedirs(folder.join("www"))
        with open(folder.join("www", "blob"), "wb") as f:
            f.truncate(options.size << 20)
        nginx = stack.enter_context(Nginx(folder, SERVER % {"cert": cert, "key": key, "root": folder.join("www")}, ports=2))
        plain, tls = nginx.ports
        hop = stack.enter_context(Nginx(folder, TLS_HOP % {"to": tls, "ca": folder.join("ca.pem")}))
        t = stack.enter_context(Tunnel("--connect-proxy", "127.0.0.1:0", "--connect-allow", f"127.0.0.1:{plain}"))
        proxy = re.search(r"CONNECT proxy on (http://\S+:\d+)", t.kit.text()).group(1)
        pull = t.pull(f"0=127.0.0.1:{plain}")
        over_tls = t.pull(f"0=tls://localhost:{tls}", "--target-ca", folder.join("ca.pem"))
        t.reach(f"bench.test:80=127.0.0.1:{plain}", f"bench.test:443=127.0.0.1:{tls}", bindings=2)
        pids = [t.kit.pid, *(d.pid for d in t.drivers)]
        ways = {
            "pull": [f"http://127.0.0.1:{pull.port}/blob"],
            "by name": ["-p", "-x", proxy, "http://bench.test/blob"],
            "by name, http:// URL": ["-x", proxy, "http://bench.test/blob"],
            "by name, TLS end to end": ["-x", proxy, "--cacert", folder.join("ca.pem"), "https://bench.test/blob"],
            "connected to by the kit": ["-p", "-x", proxy, f"http://127.0.0.1:{plain}/blob"],
            "pull, tls:// target": [f"http://127.0.0.1:{over_tls.port}/blob"],
            "nginx, proxy_ssl": [f"http://127.0.0.1:{hop.port}/blob"],
            "no proxy at all": [f"http://127.0.0.1:{plain}/blob"],
        }
        speeds, spent = {name: [] for name in ways}, {name: 0.0 for name in ways}
        for _ in range(options.runs):
            for name, args in ways.items():
                before = cpu(pids)
                speeds[name].append(curl(*args))
                spent[name] += cpu(pids) - before
        median = {name: statistics.median(values) for name, values in speeds.items()}
        print(f"{options.size} MiB, {options.runs} runs; CPU is the kit's and the drivers' for each GiB")
        for name in ways:
            print(f"{name:26} {median[name]:8.0f} MiB/s  (from {min(speeds[name]):.0f} to {max(speeds[name]):.0f})  "
                  f"{spent[name] / options.runs / options.size * 1024:5.2f} s CPU")
        for one, other in (("by name", "pull"), ("by name, http:// URL", "pull"), ("pull, tls:// target", "pull"), ("pull, tls:// target", "nginx, proxy_ssl")):
            print(f"{one} / {other}: {median[one] / median[other]:.2f}")


if __name__ == "__main__":
    main()
