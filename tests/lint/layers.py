"""Checks that no include points up: a room of src/ includes itself, lower rooms and what is generated at its level.

Prints `file:line: error: ...` for each include that does, and exits 1. Also: no foreign
*_priv.h; ev.h only in io, wslay only in ws, cJSON only in admin and cli, and so on.
"""

import pathlib
import re
import sys

ROOMS = ["base", "opt", "json", "proc", "wire", "flow", "mux", "http", "io", "auth", "ws", "web", "relay", "vtunnel", "guard", "gate", "inspect", "admin", "kit", "driver", "edge", "cli"]
# http, io, ws and web stand beside the tunnel, not on it; kit and driver do not know each other.
FORBIDDEN = {
    "http": {"wire", "flow", "mux"},
    "io": {"wire", "flow", "mux", "http"},
    "auth": {"opt", "json", "proc", "wire", "flow", "mux", "http"},
    "proc": {"opt", "json"},
    "ws": {"wire", "flow", "mux"},
    "vtunnel": {"opt", "http", "io", "proc", "ws", "web", "relay"},
    "guard": {"opt", "json", "proc", "ws", "web"},
    "inspect": {"proc", "ws", "vtunnel", "guard"},
    "kit": {"guard", "inspect"},
    "admin": {"mux", "io", "ws", "web", "relay", "guard", "inspect"},
    "driver": {"kit", "admin"},
    "edge": {"wire", "flow", "mux", "ws", "relay", "vtunnel", "guard", "gate", "admin", "kit", "driver"},
}
GENERATED = {"wire_gen.h": "wire", "vtunnel_gen.h": "wire", "restart_gen.h": "wire", "options_gen.h": "opt", "metrics_gen.h": "base", "admin_gen.h": "base", "inspect_api_gen.h": "inspect",
             "events_gen.h": "edge", "edge_api_gen.h": "edge", "audit_gen.h": "base", "page_gen.h": "web", "haproxy_gen.h": "edge"}
ONLY_IN = {"ev.h": {"io"}, "wslay/wslay.h": {"ws"}, "cjson/cJSON.h": {"admin", "cli"}, "yaml.h": {"opt"}, "qrencode.h": {"admin", "cli"}, "openssl/ssl.h": {"io"}, "seccomp.h": {"proc"},
           "zlib.h": {"inspect"}, "brotli/decode.h": {"inspect"}, "zstd.h": {"inspect"}, "dlfcn.h": {"base"}, "crypt.h": {"auth"}, "sqlite3.h": {"edge"}, "linux/rtnetlink.h": {"io"}}


def main():
    bad = 0
    root = pathlib.Path("src")
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".c", ".h", ".rl")):
        room = path.parts[1]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = re.match(r'\s*#\s*include\s+[<"]([^">]+)[">]', line)
            if not match:
                continue
            name = match.group(1)
            target = GENERATED.get(name) or (name.split("/")[0] if name.split("/")[0] in ROOMS else None)
            why = None
            if name in ONLY_IN and room not in ONLY_IN[name]:
                why = f"<{name}> belongs to {' and '.join(sorted(ONLY_IN[name]))} alone"
            elif target and ROOMS.index(target) > ROOMS.index(room):
                why = f"{room} is below {target}: an include never points up"
            elif name.endswith("_priv.h") and name.split("/")[0] != room:
                why = f"a private header of {name.split('/')[0]}"
            elif target in FORBIDDEN.get(room, ()):
                why = f"{room} must not know {target}"
            if why:
                bad += 1
                print(f"{path}:{number}: error: includes {name}: {why}")
    if not bad:
        print(f"layers: {len(ROOMS)} rooms, no include points up")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
