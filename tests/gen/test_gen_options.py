"""spec/options.yaml and what comes of it: bad specs, the parsers in C, the help, what make rebuilds."""

import json
import os

from gen import options
from tests.gen.scratch import ROOT, Program, complaints, expect_complaint, rebuilt
from tests.support.tap import case, main

SPEC = "options.yaml"
PROBE = Program("options_probe.c", ["options_gen.h", "options_gen.c"])
MODEL = options.load(os.path.join(ROOT, "spec"))


def parse(*args, env=None):
    """The probe's lines as a dictionary."""
    return dict(line.split("=", 1) for line in PROBE.run(*args, env=env).splitlines())


def error(*args, env=None):
    got = parse(*args, env=env)
    assert got["rc"] == "-7", got
    return got["error"]


def bad(edits, at, what):
    expect_complaint("options_gen.h", SPEC, edits, at, what)


# ---- specs ----

@case("the spec as it is has no complaints")
def _():
    assert complaints("options_gen.c", SPEC, []) == []


@case("a duplicate name is reported on its second line")
def _():
    bad([("- name: log-file", "- name: listen")], "- name: listen\n    commands: [serve]\n    type: file", "used twice")


@case("a duplicate variable is reported on its second line")
def _():
    bad([("env: HOODY_TUNNEL_LOG_FILE", "env: HOODY_TUNNEL_LISTEN")],
        "env: HOODY_TUNNEL_LISTEN\n    since: \"1.0\"\n    example: /var", "used twice")


@case("an unknown command is reported on its line")
def _():
    bad([("commands: [serve, expose, pull, reach, up, demo, vtunnel-client, edge dev, edge up]", "commands: [serve, exposse]")], "[serve, exposse]", "no command 'exposse'")


@case("a default out of bounds, and bounds the wrong way round")
def _():
    bad([("default: 10s\n    min: 0s", "default: 2h\n    min: 0s")], "default: 2h", "out of bounds; it must be 0s to 1h")
    bad([("min: 0s\n    max: 1h", "min: 2h\n    max: 1h")], "min: 2h", "above max")


@case("a value that its type does not take: default, bound, example")
def _():
    bad([("default: 10s\n    min: 0s", "default: 10 s\n    min: 0s")], "default: 10 s", "must be a duration")
    bad([("min: 64K", "min: 64Q")], "min: 64Q", "must be a size")
    bad([("example: 10.0.0.0/8", "example: 10.0.0.0/40")], "example: 10.0.0.0/40", "10.0.0.0/40")
    bad([("default: info", "default: loud")], "default: loud", "one of error, warn")


@case("what the schema refuses: a missing doc, an unknown key, a type that is none, a bound on a text")
def _():
    bad([("    doc: Allow drivers to expose ports below {limits/PRIVILEGED_BELOW}.\n", "")], "- name: allow-privileged-expose", "'doc' is a required")
    bad([("    doc: Allow drivers to expose", "    dok: x\n    doc: Allow drivers to expose")], "- name: allow-privileged-expose",
        "'dok' was unexpected")
    bad([("type: addr", "type: adr")], "type: adr", "is not one of")
    bad([("type: ip\n", "type: ip\n    min: 5\n")], "min: 5\n",
        "'min' goes with the types int, duration, size; this is of type ip")


@case("reserved option names")
def _():
    bad([("- name: log-file", "- name: help")], "- name: help", "taken")
    bad([("- name: log-file", "- name: no-json")], "- name: no-json", "taken")


@case("a limit that the protocol does not have, or of another kind")
def _():
    bad([("limits/HELLO_TIMEOUT", "limits/HELLO_TIMOUT")], "limits/HELLO_TIMOUT", "has no limits/HELLO_TIMOUT")
    bad([("expose ports below {limits/PRIVILEGED_BELOW}", "expose ports below {limits/PRIVILEGED}")], "doc: Allow drivers to expose", "has no limits/PRIVILEGED")
    bad([("limits/HELLO_TIMEOUT", "limits/MAX_PAYLOAD")], "limits/MAX_PAYLOAD", "must be 'size'")


@case("exit codes and `unless` must name what there is")
def _():
    bad([("exit_codes: [ok, usage, config]", "exit_codes: [ok, usages]")], "[ok, usages]", "no exit code is named 'usages'")
    bad([("unless: sample", "unless: samples")], "unless: samples", "bool options")


@case("the configuration file's keys: an option that is not, a mapping that is not, a key declared twice, a bad example")
def _():
    bad([("- {option: url-file}", "- {option: url-fil}")], "- {option: url-fil}", "no option 'url-fil'")
    bad([("list: pull", "list: pulls")], "list: pulls", "no mapping 'pulls'")
    bad([("- {option: url-file}", "- {option: url}")], "- {option: url}\n        - {option: state-file}", "declared twice")
    bad([("example: 8080\n", "example: 80800\n")], "example: 80800", "out of bounds")
    bad([("texts: true\n          max: 32\n", "texts: true\n")], "- name: headers", "is not valid under")


@case("-f is --file")
def _():
    for args in (("-f", "x.yaml"), ("--file", "x.yaml"), ("--file=x.yaml",)):
        assert parse("up", *args)["file"] == "x.yaml"
    assert parse("up")["file"] == MODEL["config"]["file"]
    assert error("up", "-f") == "--file needs a value, such as staging.yaml"
    assert "options are written --name" in error("up", "-g")
    assert "options are written --name" in error("up", "-fx")


@case("headers: a name and a colon, any number of them, values that are never shown")
def _():
    got = parse("up", "--header", "X-A: b", "--header=Cookie: a=b,c:d")
    assert (got["header[0]"], got["header[1]"]) == ("X-A: b", "Cookie: a=b,c:d")
    for bad_header in ("s3cret", ": s3cret", "a b: s3cret", "X-A: s3cret\x01"):
        said = error("up", "--header", bad_header)
        assert said.startswith("--header: ") and "s3cret" not in said, said


@case("neighbours that changed places are one mistake")
def _():
    assert error("expose", "1", "--ulr", "x") == "unknown option --ulr; did you mean --url?"
    assert "did you mean" not in error("expose", "1", "--q")


@case("invalid YAML, and a duplicate key")
def _():
    bad([("program: hoody-tunnel", "program: [hoody-tunnel")], "date: \"", "not valid YAML")
    bad([("    default: info\n", "    default: info\n    default: warn\n")], "default: warn", "duplicate key")


# ---- parsers ----

DEFAULTS = {
    "listen": "127.0.0.1|50", "insecure-listen": "0", "expose-address": "127.0.0.1", "allow-privileged-expose": "0",
    "allow-privileged-pull": "0", "max-sessions": "8", "max-bindings-per-session": "8", "max-streams-per-session": "1024",
    "max-connections": "16", "max-pre-auth-connections": "32", "max-fds": "0", "stream-initial-window": "1048576",
    "session-initial-window": "16777216", "session-buffer": "67108864", "hello-timeout": "5000",
    "ping-interval": "30000", "pong-timeout": "60000", "suspect-after": "15000", "takeover-grace": "60000", "idle-timeout": "300000",
    "response-timeout": "300000", "head-timeout": "30000", "keepalive-timeout": "75000", "min-body-rate": "500",
    "send-timeout": "120000", "half-close-timeout": "30000",
    "drain-timeout": "10000", "log-level": "2", "log-format": "0", "set": "", "rc": "0",
    "reserved-ports[0]": "4-5", "reserved-ports[1]": "75-76", "reserved-ports[2]": "3971-3971",
    "reserved-ports[3]": "3998-4000", "reserved-ports[4]": "23333-23333", "reserved-ports[5]": "60000-60000",
}


@case("serve without arguments: the documented defaults and nothing else")
def _():
    assert parse("serve") == DEFAULTS


@case("an argument beats the environment, which beats the default; set_x tells")
def _():
    env = {"HOODY_TUNNEL_MAX_SESSIONS": "3"}
    assert parse("serve", env=env)["max-sessions"] == "3"
    assert parse("serve", env=env)["set"] == "max-sessions "
    assert parse("serve", "--max-sessions", "5", env=env)["max-sessions"] == "5"
    assert parse("serve", env={"HOODY_TUNNEL_MAX_SESSIONS": ""})["max-sessions"] == "8"


@case("--name value and --name=value; the last one counts")
def _():
    assert parse("serve", "--listen=0.0.0.0:1", "--listen", "[::1]:8050")["listen"] == "::1|8050"
    assert parse("serve", "--public-url-pattern=https://x/?a=b{port}")["public-url-pattern"] == "https://x/?a=b{port}"


@case("addresses")
def _():
    for given, want in (("8050", "127.0.0.1|8050"), (":0", "127.0.0.1|0"), ("localhost:1", "localhost|1"),
                        ("[fe80::1]:65535", "fe80::1|65535")):
        assert parse("serve", "--listen", given)["listen"] == want
    for given, why in (("host", "port"), ("host:", "port"), ("a:65536", "port"), ("::1:50", "ambiguous"),
                       ("[zz]:50", "IPv6"), ("x" * 300 + ":50", "255"), ("h:5x", "port"), ("", "port")):
        assert why in error("serve", "--listen", given), given
    assert "numeric address" in error("serve", "--expose-address", "localhost")


@case("durations and sizes, in every unit, at and beyond both bounds")
def _():
    for given, want in (("700ms", "700"), ("5", "5000"), ("5s", "5000"), ("2m", "120000"), ("100ms", "100"), ("5m", "300000")):
        assert parse("serve", "--hello-timeout", given)["hello-timeout"] == want
    for given in ("99ms", "301s", "1h", "0", "18446744073709551616", "9" * 40, "99999999999999999h"):
        assert error("serve", "--hello-timeout", given) == \
            f"--hello-timeout: {given} is out of range; it must be 100ms to 5m"
    for given in ("", "s", "-1", "1.5s", "5 s", "5d", "0x5", "5ss"):
        assert "write 500ms, 5s, 2m or 1h" in error("serve", "--hello-timeout", given), given
    for given, want in (("65536", "65536"), ("64K", "65536"), ("1m", "1048576"), ("16M", "16777216")):
        assert parse("serve", "--stream-initial-window", given)["stream-initial-window"] == want
    assert error("serve", "--stream-initial-window", "63K") == \
        "--stream-initial-window: 63K is out of range; it must be 64K to 16M"
    assert "is not a size" in error("serve", "--stream-initial-window", "1MB")


@case("whole numbers say their bounds and unit")
def _():
    assert error("serve", "--max-sessions", "0") == "--max-sessions: 0 is out of range; it must be 1 to 1024 sessions"
    assert error("serve", "--max-sessions=8x") == '--max-sessions: "8x" is not a whole number'
    assert error("serve", "--max-sessions=-8") == '--max-sessions: "-8" is not a whole number'
    assert parse("serve", "--max-sessions", "1024")["max-sessions"] == "1024"


@case("an error of the environment names the variable")
def _():
    assert error("serve", env={"HOODY_TUNNEL_MAX_SESSIONS": "0"}) == \
        "HOODY_TUNNEL_MAX_SESSIONS: 0 is out of range; it must be 1 to 1024 sessions"
    assert error("serve", env={"HOODY_TUNNEL_INSECURE_LISTEN": "maybe"}).startswith("HOODY_TUNNEL_INSECURE_LISTEN: ")


@case("enumerations become the enumerators that log.h has")
def _():
    for number, name in enumerate(("error", "warn", "info", "debug", "trace")):
        assert parse("serve", "--log-level", name)["log-level"] == str(number)
    assert error("serve", "--log-level", "loud") == '--log-level: "loud" is none of error, warn, info, debug, trace'


@case("bools: --name, --no-name, no value, and words in a variable")
def _():
    assert parse("expose", "1", "--takeover")["takeover"] == "1"
    assert parse("expose", "1", "--takeover", "--no-takeover")["takeover"] == "0"
    assert parse("expose", "1", "--no-takeover")["set-takeover"] == "1"
    assert error("expose", "1", "--takeover=yes") == "--takeover takes no value; write --takeover or --no-takeover"
    assert "can be negated" in error("expose", "1", "--no-label")
    for word, want in (("1", "1"), ("true", "1"), ("yes", "1"), ("on", "1"), ("0", "0"), ("false", "0"), ("off", "0")):
        assert parse("serve", env={"HOODY_TUNNEL_INSECURE_LISTEN": word})["insecure-listen"] == want


@case("lists: commas, repetition, arguments replace the variable")
def _():
    got = parse("serve", "--trusted-proxy", "10.0.0.0/8,::1", "--trusted-proxy", "fd00::/8",
                env={"HOODY_TUNNEL_TRUSTED_PROXY": "192.168.0.0/16"})
    assert [got[f"trusted-proxy[{i}]"] for i in range(3)] == ["4/8 0a00", "6/128 0000", "6/8 fd00"]
    assert "trusted-proxy[3]" not in got
    got = parse("serve", env={"HOODY_TUNNEL_TRUSTED_PROXY": "192.168.0.0/16"})
    assert got["trusted-proxy[0]"] == "4/16 c0a8" and got["set"] == "trusted-proxy"
    assert "reserved-ports[0]" not in parse("serve", "--reserved-ports", "none")
    for given in ("10.0.0.0/33", "::1/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/8,", "", "x", "10.0.0.0/8 "):
        assert "is not a network" in error("serve", "--trusted-proxy", given), given
    for given in ("0", "1-", "5-4", "65536", "1,,2", "", "a", "1-2-3"):
        assert "list of ports" in error("serve", "--reserved-ports", given), given


@case("which addresses are in which networks")
def _():
    for address, networks, want in (
            ("10.1.2.3", ["10.0.0.0/8"], 1), ("11.0.0.1", ["10.0.0.0/8"], 0), ("10.128.0.1", ["10.0.0.0/9"], 0),
            ("10.127.255.255", ["10.0.0.0/9"], 1), ("1.2.3.4", ["0.0.0.0/0"], 1), ("1.2.3.4", ["1.2.3.4"], 1),
            ("1.2.3.5", ["1.2.3.4"], 0), ("10.9.9.9", ["10.1.2.3/8"], 1), ("::ffff:10.1.1.1", ["10.0.0.0/8"], 1),
            ("::ffff:10.1.1.1", ["::/0"], 0), ("fd12::1", ["fd00::/8"], 1), ("fe00::1", ["fd00::/8"], 0),
            ("::1", ["10.0.0.0/8", "::1/128"], 1), ("::2", ["::1/128"], 0), ("10.0.0.1", ["::/0"], 0), ("::1", [], 0)):
        assert PROBE.run("match", address, *networks) == f"{want}\n", (address, networks)


@case("which ports are in a list")
def _():
    assert PROBE.run("ports", "80,443,3000-3010", "79", "80", "81", "443", "2999", "3000", "3010", "3011") == "01010110\n"


@case("positional arguments, options between them, and -- before those that look like options")
def _():
    got = parse("expose", "3000", "--takeover", "8080=api:80", "--", "--takeover", "-x")
    assert [got[f"args[{i}]"] for i in range(4)] == ["3000", "8080=api:80", "--takeover", "-x"]
    assert parse("expose", "-")["args[0]"] == "-"
    assert "TARGET is missing" in error("expose")
    assert parse("expose", "--sample")["rc"] == "0"
    assert "TARGET is missing" in error("expose", "--no-sample")
    assert error("expose", *["1"] * 65) == "too many arguments: 65, at most 64 are taken"
    assert error("serve", "x") == '`serve` takes no arguments, so what is "x"?'


@case("an option without its value")
def _():
    assert error("serve", "--listen") == "--listen needs a value, such as 0.0.0.0:8050"
    assert error("serve", "--listen", "--log-level", "info") == "--listen needs a value, such as 0.0.0.0:8050"
    assert parse("expose", "1", "--label=--x")["label"] == "--x"
    assert error("expose", "1", "--label", "") == '--label: "" is empty'


@case("unknown options: the nearest name, the command they belong to, or the way to the list")
def _():
    assert error("serve", "--max-sesions", "3") == "unknown option --max-sesions; did you mean --max-sessions?"
    assert error("serve", "--max-sesions=3") == "unknown option --max-sesions; did you mean --max-sessions?"
    assert error("expose", "1", "--no-takeovr") == "unknown option --no-takeovr; did you mean --no-takeover?"
    assert error("serve", "--takeover") == "--takeover is not for `serve`, but for `expose`"
    assert error("serve", "--frobnicate") == "unknown option --frobnicate; `hoody-tunnel serve --help` lists all"
    assert error("expose", "1", "--smaple") == "unknown option --smaple; `hoody-tunnel expose --help` lists all"
    assert error("serve", "-x").startswith("unknown option -x")
    assert "did you mean" not in error("serve", "--" + "x" * 500)


@case("a token on the command line is refused and not repeated")
def _():
    for args in (["--token=s3cret"], ["--token", "s3cret"], ["--token"]):
        said = error("serve", *args)
        assert "--token is refused" in said and "HOODY_TUNNEL_TOKEN" in said and "s3cret" not in said
    assert parse("serve", env={"HOODY_TUNNEL_TOKEN": "s3cret"})["token"] == "s3cret"
    said = error("serve", env={"HOODY_TUNNEL_TOKEN": "s3 cret\r\nx: y"})
    assert said.startswith("HOODY_TUNNEL_TOKEN: ") and "cret" not in said


@case("help and version inside a command; help goes before all errors")
def _():
    for args in (["--help"], ["-h"], ["--bogus", "--help"]):
        assert PROBE.run("serve", *args) == "rc=1\n"
    assert PROBE.run("serve", "--help", env={"HOODY_TUNNEL_LISTEN": "rubbish"}) == "rc=1\n"
    assert PROBE.run("serve", "--version") == "rc=2\n"
    assert parse("expose", "--", "--help")["args[0]"] == "--help"


@case("commands of one and of two words, help for each, and what is near")
def _():
    assert parse("sessions", "list", "--timeout", "2", "--json") == \
        {"url": "127.0.0.1:50", "json": "1", "timeout": "2000", "rc": "0"}
    for args, want in (
            (["--help"], "1 "), (["help"], "1 "), (["-h"], "1 "), (["help", "serve"], "1 serve"), (["--version"], "2 "),
            (["help", "sessions", "list"], "1 sessions list"), (["-V"], "2 "),
            (["sessions"], "-7 there is no command `sessions`; did you mean `sessions list`?"),
            (["sessions", "lst"], "-7 there is no command `sessions lst`; did you mean `sessions list`?"),
            (["exposr"], "-7 there is no command `exposr`; did you mean `expose`?"),
            (["frob"], "-7 there is no command `frob`; `hoody-tunnel --help` lists all"),
            (["--json", "list"], "-7 the command comes first, then its options: hoody-tunnel COMMAND --json"),
            ([], "1 ")):
        assert PROBE.run(*args) == f"find={want}\n", args


@case("a command that is left out: expose, or what the word behind the targets says; another tool's word has its hint")
def _():
    for args, want in (
            (["3000"], "expose 3000"), (["3000", "8080=80"], "expose 3000 8080=80"), (["3000", "http"], "expose 3000"),
            (["5432", "tcp"], "pull 5432"), (["5432", "6379", "tcp", "--label", "db"], "pull 5432 6379 --label db"),
            (["3000", "--label", "tcp"], "expose 3000 --label tcp"),
            (["3000", "--label", "a", "--json", "tcp"], "pull 3000 --label a --json"), (["3000", "--", "tcp"], "expose 3000 -- tcp"), (["tcp"], "expose tcp"),
            (["53", "udp"], "`udp` is no target; UDP is not carried; `expose` is for HTTP and `pull` for TCP")):
        assert PROBE.run("word", *args) == f"{want}\n", args


@case("words of other tools have their hint, before what is near; a hint must not be for one of our own words")
def _():
    assert PROBE.run("http", "3000").startswith("find=-7 there is no command `http`; `hoody-tunnel expose 3000` ")
    assert error("expose", "1", "--port", "80").startswith("unknown option --port; the container's port goes left of a =")
    assert error("expose", "1", "-p80").startswith("unknown option -p80; the container's port")


@case("each allocation may fail; nothing leaks")
def _():
    assert parse("fail", "serve", "--trusted-proxy", "10.0.0.0/8,::1") == {"failed": "9"}
    assert parse("fail", "expose", "1", "2") == {"failed": "1"}


@case("the help names every visible option with its default, bounds and variable, and fits 80 columns")
def _():
    said = PROBE.run("all-help")
    parts = said.split("=== ")
    assert len(parts) == len(MODEL["commands"]) + 1
    assert all(c.name in parts[0] for c in MODEL["commands"])
    assert max(len(line) for line in said.splitlines()) <= 88
    for command, part in zip(MODEL["commands"], parts[1:]):
        flat = " ".join(part.split())
        assert flat.startswith(f"{command.name} Usage: hoody-tunnel {command.name}")
        for o in command.options:
            shown = o.type != "secret" and not o.hidden
            assert (f"--{o.name} " in flat or f"--[no-]{o.name} " in flat) == shown, (command.name, o.name)
            if shown:
                default = "On by default." if o.type == "bool" else f"Default {o.default}."
                assert o.doc in flat and (not o.has_default or default in flat)
            if o.env:
                assert o.env in flat
        assert all(e["doc"] in flat for e in command.exit_codes)


@case("every default, bound and example of the spec is taken by the C parser")
def _():
    serve = next(c for c in MODEL["commands"] if c.name == "serve")
    for o in serve.options:
        for value in (o.default, o.min_text, o.max_text, o.example):
            if value and o.type not in ("bool", "secret"):
                assert parse("serve", f"--{o.name}", value)["rc"] == "0", (o.name, value)


# ---- make ----

OUTPUTS = ["options_gen.h", "options_gen.c", "metrics_gen.h", "metrics_gen.c", "admin_gen.h", "admin_gen.c", "openapi.json"]


@case("make rebuilds what depends on the touched file only")
def _():
    cases = {
        "gen/templates/options_gen.h.j2": {"options_gen.h"},
        "gen/templates/api_gen.c.j2": {"admin_gen.c"},
        "gen/metrics.py": {"metrics_gen.h", "metrics_gen.c"},
        "spec/options.yaml": {"options_gen.h", "options_gen.c"},
        "spec/openapi.schema.json": {"admin_gen.h", "admin_gen.c", "openapi.json"},
        "spec/protocol.yaml": set(OUTPUTS),
        "gen/specfile.py": set(OUTPUTS),
        "tests/run": set(),
    }
    assert rebuilt(OUTPUTS, cases) == cases


@case("the schema of the spec is itself a JSON Schema")
def _():
    import jsonschema
    for name in ("options", "metrics", "openapi"):
        with open(os.path.join(ROOT, "spec", f"{name}.schema.json"), encoding="utf-8") as f:
            jsonschema.Draft202012Validator.check_schema(json.load(f))


if __name__ == "__main__":
    try:
        main()
    finally:
        PROBE.close()
