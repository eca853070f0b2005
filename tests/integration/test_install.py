"""make install and make uninstall, what a stranger's build sees of the library, and that released names and layouts stay."""

import os
import platform
import re
import shutil
import subprocess

from tests.integration.harness import BIN, ROOT, SANITIZED, Folder, run
from tests.support.tap import Skip, case, main

W = os.environ.get("W", "build")
HEADER = os.path.join(ROOT, "src/driver/hoody_tunnel.h")


def header():
    with open(HEADER, encoding="utf-8") as f:
        return re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)


def make(*words):
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "SAN", "DESTDIR", "PREFIX")}
    return run(["make", "--no-print-directory", "-C", ROOT, *words], env=environment, timeout=200)


def files(folder):
    return sorted(os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names)


@case("make install: units, descriptions and schemas beside the program; pkg-config needs nobody else's files; make uninstall")
def _():
    if SANITIZED:
        raise Skip("the same files")
    with Folder() as folder:
        where = (f"DESTDIR={folder.path}", "PREFIX=/opt/ht")
        make("install", *where)
        there = files(folder.join("opt/ht"))
        for name in ("bin/hoody-tunnel", "lib/libhoody-tunnel.so", "lib/libhoody-tunnel.a", "include/hoody_tunnel.h",
                     "lib/systemd/system/hoody-tunnel.service", "lib/systemd/system/hoody-tunnel-up@.service", "lib/systemd/system/hoody-tunnel.socket",
                     "lib/systemd/system/hoody-tunnel-edge.service", "lib/systemd/system/hoody-tunnel-edge-routes.service",
                     "lib/systemd/system/hoody-tunnel-edge-agent.service", "lib/systemd/system/hoody-tunnel-edge-haproxy.service", "bin/hoody-tunnel-edge-routes",
                     "lib/systemd/user/hoody-tunnel-up@.service", "share/hoody-tunnel/openapi.json", "share/hoody-tunnel/inspector.json",
                     "share/hoody-tunnel/schemas/protocol.schema.json", "share/hoody-tunnel/schemas/log_line.schema.json", "share/hoody-tunnel/schemas/audit_line.schema.json", "share/man/man1/hoody-tunnel-expose.1",
                     "share/man/man5/hoody-tunnel.yaml.5", "share/zsh/site-functions/_hoody-tunnel"):
            assert name in there, (name, there)
        for name in there:
            if name.endswith(".service"):
                with open(folder.join("opt/ht", name), encoding="utf-8") as f:
                    assert re.search(r"^ExecStart=(/opt/ht/bin/hoody-tunnel(-edge-routes)?|/usr/sbin/haproxy) ", f.read(), re.M), name
        environment = {**os.environ, "PKG_CONFIG_LIBDIR": folder.join("opt/ht/lib/pkgconfig")}
        assert run(["pkg-config", "--cflags", "--libs", "hoody-tunnel"], env=environment).split() == \
            ["-I/opt/ht/include", "-L/opt/ht/lib", "-lhoody-tunnel"]
        assert "-lssl" in run(["pkg-config", "--static", "--libs", "hoody-tunnel"], env=environment).split()
        make("uninstall", *where)
        assert files(folder.path) == [], files(folder.path)


@case("nothing large is a thread's own variable: the loader writes all of them in every program and thread")
def _():
    segments = run(["readelf", "-lW", BIN])
    size = re.search(r"^ +TLS +\S+ +\S+ +\S+ +\S+ +(0x[0-9a-f]+) ", segments, re.M)
    assert not size or int(size.group(1), 16) <= 4096, size.group(0)


@case("large tables hold no pointers: the loader would write to them in every process that starts")
def _():
    if SANITIZED:
        raise Skip("sanitizers have tables of their own")
    size = re.search(r"\.data\.rel\.ro +PROGBITS +\S+ +\S+ +(\S+) ", run(["readelf", "-SW", BIN]))
    assert int(size.group(1), 16) <= 40 * 1024, size.group(0)


@case("systemd-analyze verify finds nothing in the units")
def _():
    if not shutil.which("systemd-analyze"):
        raise Skip("systemd-analyze (Debian's systemd) is not there")
    with Folder() as folder:
        for name in ("hoody-tunnel.service", "hoody-tunnel.socket", "hoody-tunnel-up@.service", "hoody-tunnel-edge.service", "hoody-tunnel-edge-routes.service",
                     "hoody-tunnel-edge-agent.service", "hoody-tunnel-edge-haproxy.service", "user/hoody-tunnel-up@.service"):
            with open(os.path.join(ROOT, "packaging", name), encoding="utf-8") as f:
                unit = f.read().replace("/usr/local/bin/hoody-tunnel-edge-routes", os.path.join(ROOT, "packaging", "hoody-tunnel-edge-routes"))
                unit = unit.replace("/usr/local/bin/hoody-tunnel", BIN)
            path = folder.join(os.path.basename(name))
            with open(path, "w", encoding="utf-8") as f:
                f.write(unit)
            said = subprocess.run(["systemd-analyze", *(["--user"] if name.startswith("user/") else []), "verify", "--man=no", path],
                                  capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "XDG_RUNTIME_DIR": folder.path})
            assert said.returncode == 0 and BIN not in said.stderr and name.split("/")[-1] not in said.stderr, (name, said)


@case("hoody-tunnel.socket opens what the kit listens on when nobody says otherwise; a kit that is started then takes it")
def _():
    with open(os.path.join(ROOT, "packaging", "hoody-tunnel.socket"), encoding="utf-8") as f:
        addresses = re.findall(r"^ListenStream=(.*)$", f.read(), re.M)
    told = re.search(r"--listen .*?Default (\S+)\.\s", run([BIN, "serve", "--help"]), re.S)
    assert told and addresses == [told.group(1)], (addresses, told)


@case("the shared library shows what the header declares, each name with its version, and nothing else")
def _():
    if SANITIZED:
        raise Skip("the same names")
    declared = set(re.findall(r"^HT_API [^;]*?\b(ht_\w+)\(", header(), re.M))
    out = run(["nm", "-D", "--defined-only", "--with-symbol-versions", os.path.join(ROOT, W, "libhoody-tunnel.so.0")])
    shown = {line.split()[-1] for line in out.splitlines() if " A " not in line}
    assert shown == {f"{name}@@HOODY_TUNNEL_0.1" for name in declared}, shown


@case("every field of a public structure stays where programs that were built before will look for it")
def _():
    if platform.machine() != "x86_64":
        raise Skip("the list is of x86-64")
    with open(os.path.join(ROOT, "src/driver/hoody_tunnel.abi"), encoding="ascii") as f:
        released = [line.split() for line in f if line.strip() and not line.startswith("#")]
    checks = "\n".join(f'_Static_assert(offsetof(struct {s}, {m}) == {at}, "{s}.{m} has moved");' for s, m, at in released)
    with Folder() as folder:
        with open(folder.join("abi.c"), "w", encoding="ascii") as f:
            f.write(f'#include "{HEADER}"\n{checks}\nint main(void) {{ return 0; }}\n')
        done = subprocess.run(["cc", "-std=c11", "-fsyntax-only", folder.join("abi.c")], capture_output=True, text=True, check=False,
                              timeout=60)
        assert done.returncode == 0, done.stderr
    known = {(s, m) for s, m, _ in released}
    for name, body in re.findall(r"^struct (ht_\w+) \{(.*?)^\};", header(), re.M | re.S):
        for field in re.findall(r"\b(\w+)(?=[,;])|\(\*(\w+)\)\(", re.sub(r"\(\*(\w+)\)\([^)]*\)", r"\1", body)):
            member = field[0] or field[1]
            assert (name, member) in known, f"{name}.{member} is new: add it to src/driver/hoody_tunnel.abi"


if __name__ == "__main__":
    main()
