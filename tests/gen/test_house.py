"""The house agrees with itself: an option keeps its name, a number stands once, and every room is where the pages say."""

import glob
import os
import re

import yaml

from gen import options, protocolref
from tests.lint import layers
from tests.support.tap import case, main

MODEL = options.load("spec")


def sources(*rooms):
    """(path, text) of the sources of these rooms, or of all."""
    for path in sorted(p for room in rooms or ["*"] for p in glob.glob(f"src/{room}/*.[ch]")):
        with open(path, encoding="utf-8") as f:
            yield path, f.read()


def page(name):
    with open(name, encoding="utf-8") as f:
        return f.read()


# ---- one name for one option ----

# (field, option's field): why the two differ.
OTHER_NAMES = {
    ("session_window", "session_initial_window"): "limits/SESSION_WINDOW: the protocol's name",
    ("max_streams", "max_streams_per_session"): "in a structure of one session, and of HELLO_OK",
    ("max_bindings", "max_bindings_per_session"): "of HELLO_OK",
    ("resume_grace_ms", "takeover_grace_ms"): "of HELLO_OK: the streams wait as long as the ports",
    ("hostnames", "hostname"): "a list in the library, and one at a time on the command line",
    **{(f"{name}s", name): "the same" for name in ("request_header", "response_header", "trusted_edge", "allow_ip", "deny_ip", "error_page")},
    ("dial_timeout_ms", "connect_dial_timeout_ms"): "in relay_connect_config, whose name has the rest",
    ("idle_timeout_ms", "connect_idle_timeout_ms"): "in relay_connect_config, whose name has the rest",
    **{(name, f"acme_{name}"): "in edge_acme_config, whose name has the rest" for name in ("email", "server", "ca", "daily_cap", "retry_ms", "dns", "dns_env", "dns_check")},
    ("total", "max_fds"): "all that may be given out, which is less when the system allows less",
    ("url", "server"): "the flag of vtunnel's own client",
}


@case("an option has the same name in the spec, in the command's structure, and in what it is handed to")
def _():
    fields = {o.c_field for o in MODEL["options"]} | {o.c_field for m in MODEL["config"]["mappings"] for o in m.options}
    handed = re.compile(r"(?:\.|->)(\w+)\s*=\s*(?:\([\w ]+\))?\s*\(?(?:\w+->)*(?:o|opt)\)?(?:->|\.)(?:n_)?(\w+)\s*[,;}\n\\]")
    found = {}
    for path, text in sources("cli", "kit"):
        for match in handed.finditer(text):
            field, option = match[1].removeprefix("n_"), match[2]
            if option in fields and field != option:
                found.setdefault((field, option), f"{path}:{text.count(chr(10), 0, match.start()) + 1}")
    assert found.keys() == OTHER_NAMES.keys(), {k: found.get(k, "no longer there") for k in found.keys() ^ OTHER_NAMES.keys()}


@case("a key of the configuration file that is an option by another way is called as the option is")
def _():
    known = {o.name for o in MODEL["options"]}
    header = page("src/driver/hoody_tunnel.h")
    policy = header[header.index("struct ht_policy {"):]
    policy = {w.removeprefix("n_") for w in re.findall(r"\*?(\w+)[,;]", policy[:policy.index("};")])}
    for mapping in MODEL["config"]["mappings"]:
        of = {o.name for c in MODEL["commands"] if c.name == mapping.name for o in c.options}
        for key in mapping.keys:
            short = {o for o in of if o.split("-", 1)[-1] == key.name and o != key.name}  # target-ca of a target: ca
            own = {"config": {"expose", "pull", "reach", "headers"}, "reach": {"name", "target"}}.get(mapping.name, {"target", "port"})
            assert key.name in known or short or key.name in own | policy, f"{mapping.name}: {key.name}"


# ---- a number stands once ----

WORDS_OF_NO_WEIGHT = {"MAX", "MIN", "MS", "ROOM", "LEN"}
# name: why it is another number than the limit that is called so.
OTHER_NUMBERS = {
    "HEAD_MAX": "of the answer to an upgrade",
    "MAX_HEAD": "of requests to the base listener",
    "HTTP_MAX_HEADERS": "http knows no protocol; relay asserts that the two are the same",
    "HT_MAX_CONNECTIONS": "in the public header, which includes nothing of ours; the driver asserts that the two are the same",
    "MUX_REASON_MAX": "of a RESET's reason that we send",
    "WS_REASON_MAX": "RFC 6455's",
    "WS_HEADER_MAX": "RFC 6455's",
    "GUARD_HEADERS_MAX": "that one policy sets",
    "STREAMS": "of a session in memory: descriptors end before that",
}


@case("no #define is called as a limit of the protocol is: the limit itself is used")
def _():
    rooms = {r.upper() for r in layers.ROOMS} | {"HT"}
    limits = {}
    for row in yaml.safe_load(page("spec/protocol.yaml"))["limits"]:
        limits[frozenset(row["name"].split("_")) - WORDS_OF_NO_WEIGHT] = row["name"]
    found = {}
    for path, text in sources():
        for name, value in re.findall(r"^#define (\w+) +(\(?[0-9][^/\n]*)", text, re.M):
            limit = limits.get(frozenset(name.split("_")) - WORDS_OF_NO_WEIGHT - rooms)
            if limit:
                found[name] = f"{path}: {value.strip()}, beside limits/{limit}"
    assert found.keys() == OTHER_NUMBERS.keys(), {k: found.get(k, "no longer there") for k in found.keys() ^ OTHER_NUMBERS.keys()}


@case("the defaults that the public header tells are the protocol's")
def _():
    header = page("src/driver/hoody_tunnel.h")
    told = header[header.index("struct ht_tunnel_options {"):header.index("#define HT_NO_POOL")]
    protocol = protocolref.Protocol("spec")
    for limit in ("CONNECT_TIMEOUT", "POOL_SIZE", "POOL_IDLE", "RETRY_MIN", "PING_INTERVAL", "PONG_TIMEOUT", "SUSPECT_AFTER",
                  "MAX_STREAMS"):
        value = protocol.limit(f"limits/{limit}")[0]
        assert re.search(rf"\b{value:,}\b", told), f"limits/{limit} is {value:,}"


# ---- rooms ----

@case("each room of src/ has a line in README.md's house and in layers.py, in the same order, and nothing else has")
def _():
    there = {os.path.basename(os.path.dirname(p)) for p in glob.glob("src/*/*.c")}
    text = page("README.md")
    house = re.findall(r"^src/(\w+)/ ", text[text.index("## The house"):], re.M)
    assert set(house) == there and len(house) == len(there), set(house) ^ there
    assert set(layers.ROOMS) == there, set(layers.ROOMS) ^ there
    built = re.search(r"^ROOMS := (.*)$", page("Makefile"), re.M)[1].split()
    assert set(built) == there, set(built) ^ there


@case("each folder of tests/ and of the top that README.md's house names is there")
def _():
    text = page("README.md")
    house = text[text.index("## The house"):]
    house = house[:house.index("A room includes itself")]
    for folder in re.findall(r"^([\w/]+/) ", house, re.M):
        assert os.path.isdir(folder), folder
    for folder in re.findall(r"\b(\w+)/(?=[ ,])", re.search(r"^tests/ (.*)$", house, re.M)[1]):
        assert os.path.isdir(f"tests/{folder}"), folder


@case("README.md tells how many kinds of attack there are")
def _():
    text = page("README.md")
    attacks = len(yaml.safe_load(page("tests/hardening.yaml"))["cases"])
    assert f"lists {attacks} ways" in text, attacks


@case("every file, function and structure that CONTRIBUTING.md names is in the tree")
def _():
    text = page("CONTRIBUTING.md")
    code = "\n".join(t for _, t in sources())
    for word in re.findall(r"`([^`\n]+)`", text):
        if re.fullmatch(r"[\w./*-]+/[\w.*-]*|\w+\.(?:c|h|md|yaml|py)", word):
            assert glob.glob(word) or glob.glob(f"src/*/{word}"), f"there is no {word}"
        elif re.fullmatch(r"\w+\(\)|struct \w+|\w+(?:_\w+)+(?:\.\w+)?", word) and "<" not in word:
            assert all(re.search(rf"\b{part}\b", code) for part in word.removeprefix("struct ").removesuffix("()").split(".")), \
                f"nothing is called {word}"


if __name__ == "__main__":
    main()
