"""gen/haproxy.py: mistakes of spec/haproxy.yaml and of the configuration's template are said, and HAProxy takes what comes of them."""

import os
import re
import shutil
import subprocess
import tempfile

from gen import haproxy, specfile
from tests.gen.scratch import ROOT, expect_complaint
from tests.support.tap import Skip, case, main

SPEC = "haproxy.yaml"


@case("a name that is there twice is reported on its line")
def _():
    expect_complaint("haproxy_gen.h", SPEC, [("{name: port, doc: The port there.}", "{name: address, doc: The port there.}")],
                     "{name: address, doc: The port there.}", "field address is used twice")


@case("what the template does not use is reported on its line")
def _():
    expect_complaint("haproxy_gen.h", SPEC, [("settings:\n", "settings:\n  - {name: spare, doc: Nobody wants it.}\n")],
                     "{name: spare", "do not use 'spare' of settings")


@case("fields of the log that cannot be are reported on their lines")
def _():
    name, bad = "haproxy_gen.h", [
        ("{name: host, type: text, var: host,", "{name: host, type: text, var: hots,", "there is no variable 'hots'"),
        ("{name: method, type: text, take", "{name: method, type: number, take", "is a number, which only HAProxy's log-format has"),
        ("{name: host, type: text, var: host, max: 255,", "{name: host, type: text, error: true, var: host, max: 255,", "has to be in HAProxy's log-format"),
        ("{name: clientPort, type: number", "{name: client, type: number", "field of the log client is used twice"),
    ]
    for old, new, said in bad:
        expect_complaint(name, SPEC, [(old, new)], new, said)


@case("a row of the log in the API has the fields of the log, and no others")
def _():
    doc, _ = haproxy.load(os.path.join(ROOT, "spec"))
    api = specfile.load(os.path.join(ROOT, "spec", "edge.yaml"), os.path.join(ROOT, "spec", "openapi.schema.json"))
    shown = api["components"]["schemas"]["LogEntry"]["properties"]
    wanted = [(f["name"], "integer" if f["type"] == "number" else "string", f["doc"]) for f in doc["log"]["fields"]]
    assert [(name, p["type"], p["description"]) for name, p in list(shown.items())[3:]] == wanted
    assert list(shown)[:3] == ["id", "kind", "level"]


@case("a configuration with all and with few settings is one that HAProxy takes")
def _():
    program = next(filter(None, map(shutil.which, ("haproxy", "/usr/sbin/haproxy"))), None)
    if not program or not shutil.which("openssl"):
        raise Skip("haproxy and openssl are needed")
    doc, pieces = haproxy.load(os.path.join(ROOT, "spec"))
    with tempfile.TemporaryDirectory(prefix="hoody-tunnel-") as folder:
        os.makedirs(os.path.join(folder, "haproxy", "maps"))
        os.makedirs(os.path.join(folder, "certs"))
        for m in doc["maps"]:
            with open(os.path.join(folder, "haproxy", "maps", m["name"] + ".map"), "w", encoding="ascii"):
                pass
        with open(os.path.join(folder, doc["acme"]["list"]), "w", encoding="ascii"):
            pass
        subprocess.run(["sh", "-c", "openssl ecparam -genkey -name prime256v1 -noout -out k && openssl req -x509 -new -key k -days 2 -subj /CN=x -out c && cat c k > edge.pem"],
                       cwd=os.path.join(folder, "certs"), check=True, capture_output=True)
        full = {"folder": folder, "containers": ".node1.containers.example.com", "ipv4": "127.0.0.1", "ipv6": "::1", "https_port": "8443", "http_port": "8080", "account": "", "log_size": "1048576", "maxconn": "100", "revision": "0123456789abcdef",
                "client_address": "header", "from_kits": "127.0.0.2", "http3_port": "8444", "cache_size": "8", "cache_max_object": "1048576", "cache_max_age": "3600", "idle": "10", "acme": "on"}
        assert full.keys() == {s["name"] for s in doc["settings"]}
        for settings in (full, {**full, "ipv6": "", "http_port": ""}, {**full, "ipv6": ""}, {**full, "http3_port": ""}, {**full, "acme": ""}, {**full, "client_address": "proxy"}, {**full, "client_address": "tproxy"}, {**full, "cache_size": "0"}):
            for kind, file in (("spoe", "gate.spoe"), ("lua", "gate.lua"), ("answer_lua", "answer.lua"), ("config", "haproxy.cfg")):
                text = "".join(piece + (settings[name] if name else "") for piece, name in pieces[kind])
                path = os.path.join(folder, "haproxy", file)
                with open(path, "w", encoding="ascii") as f:
                    f.write(text)
                assert not re.search(r"\x01|\{\{|\}\}|\{%", text)
            done = subprocess.run([program, "-c", "-f", path], capture_output=True, check=False)
            said = (done.stdout + done.stderr).decode()
            assert done.returncode == 0 and "WARNING" not in said, said


if __name__ == "__main__":
    main()
