"""spec/options.yaml -> options_gen.h, options_gen.c: every command and option, its parser and its --help."""

import ipaddress
import os
import re
import textwrap
from dataclasses import dataclass, field

from gen import configfile, protocolref, specfile
from gen.ctext import Texts, c_string, comment
from gen.render import banner, render as render_template

WIDTH = 80
_DURATION = {"ms": 1, "": 1000, "s": 1000, "m": 60 * 1000, "h": 3600 * 1000}
_SIZE = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_PLACEHOLDER = {
    "string": "TEXT", "file": "FILE", "secret": "TEXT", "bool": "", "int": "N", "duration": "TIME", "size": "BYTES",
    "addr": "HOST:PORT", "ip": "ADDRESS", "cidr": "CIDR", "ports": "PORTS",
    "header": "NAME:VALUE", "files": "FILE", "destination": "DESTINATION", "forward": "PORT=TARGET",
    "listen": "ADDRESS", "hosts": "HOST", "rules": "RULE", "nets": "CIDR", "pages": "[STATUS=]FILE",
}
_C_TYPE = {
    "string": "const char *", "file": "const char *", "secret": "const char *", "ip": "const char *", "bool": "bool ",
    "int": "unsigned ", "duration": "uint64_t ", "size": "uint64_t ", "addr": "struct opt_addr ",
    "cidr": "struct ht_cidr *", "ports": "struct opt_port_range *", "header": "const char **",
    "destination": "const char **", "forward": "const char **", "files": "const char **",
    "listen": "const char **", "hosts": "const char **", "rules": "const char **", "nets": "const char **",
    "pages": "const char **",
}
_LISTS = ("cidr", "ports", "header", "destination", "forward", "files", "listen", "hosts", "rules", "nets", "pages")
_RESERVED = {"help", "version"}
_C_WORDS = {"default"}  # of those that an option may well be called
# Keys that only some types have.
_ONLY_FOR = {
    "min": ("int", "duration", "size"), "max": ("int", "duration", "size"), "unit": ("int",), "values": ("enum",),
    "c_enum": ("enum",), "refuse": ("secret",), "repeatable": _LISTS, "list_name": _LISTS,
}


def parse_value(kind, text, values=()):
    """The value that `text` stands for; ValueError says what is accepted. The generated C parser does the same."""
    if kind == "bool":
        if not isinstance(text, bool):
            raise ValueError("must be true or false")
        return text
    if isinstance(text, bool):
        raise ValueError("must be a text or a number, not true or false")
    text = str(text)
    if kind == "int":
        if not re.fullmatch(r"[0-9]+", text) or int(text) > 0xFFFFFFFF:
            raise ValueError("must be a whole number below 4294967296")
        return int(text)
    if kind == "duration":
        m = re.fullmatch(r"([0-9]+)(ms|s|m|h|)", text)
        if not m:
            raise ValueError("must be a duration such as 500ms, 5s, 2m or 1h; a bare number is seconds")
        return int(m[1]) * _DURATION[m[2]]
    if kind == "size":
        m = re.fullmatch(r"([0-9]+)([KMG]?)", text.upper())
        if not m:
            raise ValueError("must be a size such as 65536, 64K or 1M")
        return int(m[1]) * _SIZE[m[2]]
    if kind == "addr":
        m = re.fullmatch(r"(?:(\[[0-9a-fA-F:.]+\]|[^:\[\]]*):)?([0-9]+)", text)
        if not m or int(m[2]) > 65535:
            raise ValueError("must be host:port or [address]:port with a port up to 65535")
        return text
    if kind == "ip":
        ipaddress.ip_address(text)
        return text
    if kind in ("cidr", "nets"):
        nets = [ipaddress.ip_network(part, strict=False) for part in text.split(",")]
        return nets if kind == "cidr" else text
    if kind == "ports":
        if text == "none":
            return []
        out = []
        for part in text.split(","):
            m = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
            first, last = (int(m[1]), int(m[2] or m[1])) if m else (0, 0)
            if not 1 <= first <= last <= 65535:
                raise ValueError("must be ports and ranges such as 80,443,3000-3010, or none")
            out.append((first, last))
        return out
    if kind == "header" and not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ -~]*", text):
        raise ValueError("must be a header such as X-Team: blue")
    if kind == "forward" and not re.fullmatch(r"[0-9]+=[!-~]+", text):
        raise ValueError("must be a port and a target such as 9000=localhost:3000")
    if kind == "listen" and not re.fullmatch(r"(https?://)?(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]*):[0-9]+", text):
        raise ValueError("must be an address such as 0.0.0.0:443 or http://0.0.0.0:80")
    if kind == "hosts" and not re.fullmatch(r"[0-9A-Za-z.-]+", text):
        raise ValueError("must be a host such as app.example.com")
    if kind == "destination":
        for part in text.split(","):
            if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+(/[0-9]+)?\]|[*0-9A-Za-z._-]+(/[0-9]+)?)(:(\*|[0-9]+(-[0-9]+)?))?", part):
                raise ValueError("must be destinations such as example.com, *.example.com:443 or 10.0.0.0/8")
    if kind == "enum" and text not in values:
        raise ValueError("must be one of " + ", ".join(values))
    return text


@dataclass
class Option:
    name: str
    type: str
    doc: str
    c_name: str
    c_field: str
    c_type: str
    is_list: bool
    placeholder: str
    env: str = ""
    unit: str = ""
    default: str = ""
    has_default: bool = False
    min: int = 0
    max: int = 0
    default_number: int = 0  # of those with a max
    min_text: str = ""
    max_text: str = ""
    example: str = ""
    refuse: str = ""
    hidden: bool = False
    repeatable: bool = False
    short: str = ""
    values: list = field(default_factory=list)
    c_enum: dict = field(default_factory=dict)
    commands: list = field(default_factory=list)


@dataclass
class Command:
    name: str
    doc: str
    c_name: str
    help: str
    args: dict
    examples: list
    exit_codes: list
    single_dash: bool = False
    options: list = field(default_factory=list)


def _friendly(value, units):
    """A number in the largest unit that leaves it whole."""
    name, factor = max(((n, f) for n, f in units.items() if n and value % f == 0), key=lambda u: u[1], default=("", 1))
    return f"{value // factor}{name}"


def _ranges(ports):
    """4, 5, 7 -> 4-5,7"""
    runs = []
    for port in ports:
        if runs and runs[-1][1] == port - 1:
            runs[-1][1] = port
        else:
            runs.append([port, port])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) or "none"


def _resolve_protocol(options, protocol, config, problems):
    """A number that the protocol states (`default: {from: limits/NAME}`) becomes the text that a user would write."""
    for raw in options:
        for key in ("default", "min", "max"):
            if isinstance(raw.get(key), dict):
                raw[key] = _from_elsewhere(raw, raw[key], protocol, config, problems)
        raw["doc"] = re.sub(r"\{(limits/[A-Z_]+)\}", lambda m, raw=raw: _in_words(raw, m[1], protocol, problems), raw["doc"])


def _in_words(raw, path, protocol, problems):
    """A limit that a doc names ({limits/NAME}), as a user would write it."""
    try:
        value, unit = protocol.limit(path)
    except KeyError:
        problems.add(raw.line_of("doc"), f"option '{raw['name']}': protocol.yaml has no {path}; name one of its limits")
        return path
    return _friendly(value, {"ms": _DURATION, "bytes": _SIZE}.get(unit, {}))


def _from_elsewhere(raw, reference, protocol, config, problems):
    path, line = reference["from"], reference.line_of("from")
    if path == "config/file":
        return config["file"]
    if path == "reserved_ports" and raw.get("type") == "ports":
        return _ranges(protocol.reserved_ports())
    try:
        value, unit = protocol.limit(path)
    except KeyError:
        problems.add(line, f"option '{raw['name']}': protocol.yaml has no {path}; name one of its limits")
        return raw["example"]
    wanted = {"ms": "duration", "bytes": "size"}.get(unit, "int")
    if raw.get("type") == "int" and raw.get("unit") == unit:
        wanted = "int"
    if wanted != raw.get("type", "int"):
        problems.add(line, f"option '{raw['name']}': {path} is a number of {unit}, so the type must be '{wanted}'")
    return {"duration": lambda: _friendly(value, _DURATION), "size": lambda: _friendly(value, _SIZE),
            "int": lambda: value}[wanted]()


def _check_values(raw, problems):
    """Default, bounds and example against the type and against each other."""
    kind, values = raw["type"], raw.get("values", ())
    for key, kinds in _ONLY_FOR.items():
        if key in raw and kind not in kinds:
            problems.add(raw.line_of(key), f"option '{raw['name']}': '{key}' goes with the types {', '.join(kinds)}; "
                                           f"this is of type {kind}")
    if kind == "secret" and "default" in raw:
        problems.add(raw.line_of("default"), f"option '{raw['name']}': a secret has no default")
    parsed = {}
    for key in ("min", "max", "default", "example"):
        if key not in raw:
            continue
        try:
            parsed[key] = parse_value(kind, raw[key], values)
        except ValueError as e:
            problems.add(raw.line_of(key), f"option '{raw['name']}': {key} '{raw[key]}': {e}")
    if "min" in parsed and "max" in parsed:
        if parsed["min"] > parsed["max"]:
            problems.add(raw.line_of("min"), f"option '{raw['name']}': min {raw['min']} is above max {raw['max']}")
        for key in ("default", "example"):
            if key in parsed and not parsed["min"] <= parsed[key] <= parsed["max"]:
                problems.add(raw.line_of(key), f"option '{raw['name']}': {key} {raw[key]} is out of bounds; "
                                               f"it must be {raw['min']} to {raw['max']}")
    return parsed


def _option(raw, parsed):
    kind = raw["type"]
    c_name = raw["name"].replace("-", "_")
    # An enumeration that no header has is made here.
    c_enum = raw.get("c_enum", {"header": "", "type": f"opt_{c_name}", "prefix": f"OPT_{c_name.upper()}_"})
    placeholder = "|".join(raw["values"]) if kind == "enum" else _PLACEHOLDER[kind]
    return Option(
        name=raw["name"], type=kind, doc=raw["doc"], c_name=c_name,
        c_field=raw.get("list_name", c_name + ("_ms" if kind == "duration" else "_" if c_name in _C_WORDS else "")),
        c_type=f"enum {c_enum['type']} " if kind == "enum" else _C_TYPE[kind],
        is_list=kind in _LISTS, placeholder=placeholder, env=raw.get("env", ""), unit=raw.get("unit", ""),
        default="true" if raw.get("default") is True else str(raw.get("default", "")),
        has_default="default" in raw and raw["default"] is not False,  # what is not given is false already
        min=parsed.get("min", 0), max=parsed.get("max", 0),
        default_number=parsed.get("default", 0) if "max" in parsed else 0, min_text=str(raw.get("min", "")),
        max_text=str(raw.get("max", "")), example=str(raw.get("example", "")), refuse=raw.get("refuse", ""),
        hidden=raw.get("hidden", False), repeatable=raw.get("repeatable", False), short=raw.get("short", ""),
        values=list(raw.get("values", [])), c_enum=dict(c_enum),
        commands=list(raw.get("commands", ())))


def _unique(items, key, what, problems):
    seen = {}
    for item in items:
        value = item.get(key)
        if value is None:
            continue
        if value in seen:
            problems.add(item.line_of(key), f"{what} '{value}' is used twice (first on line {seen[value]}); "
                                            "give each its own")
        else:
            seen[value] = item.line_of(key)


def _hints(raw_hints, commands, problems):
    """[(word, command or "", what to say)]: words of other tools in the place of a command, or among its options."""
    found = {}
    for raw in raw_hints:
        for i, name in enumerate(raw.get("commands", ())):
            if name not in commands:
                problems.add(raw["commands"].line_of(i), f"there is no command '{name}' to give a hint for; name one of "
                                                         + ", ".join(commands))
        for i, word in enumerate(raw["words"]):
            line = raw["words"].line_of(i)
            if word.startswith("-") != ("commands" in raw):
                problems.add(line, f"the hint for '{word}': an option's has 'commands', a command's has none")
            for name in raw.get("commands", [""]):
                taken = {s for o in commands[name].options for s in (f"--{o.name}", f"-{o.short}")} if name in commands else commands
                if word in taken:
                    problems.add(line, f"the hint for '{word}': it is one of ours and needs none")
                if (word, name) in found:
                    problems.add(line, f"the hint for '{word}' is given twice; leave one of them out")
                found[word, name] = raw["doc"]
    return [(word, name, says) for (word, name), says in found.items()]


def _one_word(rows, commands, problems):
    """[(word behind the targets or "", Command)]: what is meant without a command."""
    for raw in rows:
        if raw["command"] not in commands:
            problems.add(raw.line_of("command"), f"there is no command '{raw['command']}' to leave out; name one of "
                                                 + ", ".join(commands))
        elif not commands[raw["command"]].args:
            problems.add(raw.line_of("command"), f"the command '{raw['command']}' takes no arguments, so it cannot be left out")
    _unique(rows, "word", "word behind the targets", problems)
    return [(raw.get("word", ""), commands[raw["command"]]) for raw in rows if raw["command"] in commands]


@specfile.once
def load(spec_dir):
    """The checked model of options.yaml: {program, doc, exit_codes, commands, hints, options}."""
    path = os.path.join(spec_dir, "options.yaml")
    doc = specfile.load(path, os.path.join(spec_dir, "options.schema.json"))
    problems = specfile.Problems(doc.path)
    _unique(doc["exit_codes"], "code", "exit code", problems)
    _unique(doc["exit_codes"], "name", "exit code name", problems)
    _unique(doc["commands"], "name", "command", problems)
    _unique(doc["options"], "name", "option", problems)
    _unique(doc["events"], "name", "event", problems)
    for event in doc["events"]:
        _unique(event["members"], "name", f"{event['name']}: member", problems)
    _unique(doc["decisions"], "name", "decision", problems)
    _unique(doc["decisions"], "word", "decision's word", problems)
    _unique(doc["visits"], "name", "visit", problems)
    _unique(doc["visits"], "word", "visit's word", problems)
    _unique(doc["options"], "env", "variable", problems)

    own_keys = [key for file in ("config", "users") for mapping in doc[file]["mappings"] for key in mapping["keys"] if "doc" in key]
    _resolve_protocol(doc["options"] + own_keys, protocolref.Protocol(spec_dir), doc["config"], problems)

    exits = {e["name"]: e for e in doc["exit_codes"]}
    commands = {}
    for raw in doc["commands"]:
        for i, name in enumerate(raw["exit_codes"]):
            if name not in exits:
                problems.add(raw["exit_codes"].line_of(i), f"command '{raw['name']}': no exit code is named '{name}'; "
                                                           "name one of " + ", ".join(exits))
        if raw.get("args", {}).get("min", 0) > raw.get("args", {}).get("max", 0):
            problems.add(raw["args"].line_of("min"), f"command '{raw['name']}': fewer arguments allowed than needed")
        commands[raw["name"]] = Command(
            name=raw["name"], doc=raw["doc"], c_name=raw["name"].replace(" ", "_").replace("-", "_"), single_dash=raw.get("single_dash", False), help=raw.get("help", ""),
            args=dict(raw.get("args", {})), examples=list(raw["examples"]),
            exit_codes=[exits[n] for n in raw["exit_codes"] if n in exits])

    names = {o["name"] for o in doc["options"]}
    options = []
    for raw in doc["options"]:
        if raw["name"] in _RESERVED or raw["name"].startswith("no-"):
            problems.add(raw.line_of("name"), f"option '{raw['name']}': --help, --version and --no-... are taken")
        if raw["name"] in {f"no-{n}" for n in names}:
            problems.add(raw.line_of("name"), f"option '{raw['name']}' reads as the negation of another")
        option = _option(raw, _check_values(raw, problems))
        options.append(option)
        for i, name in enumerate(raw["commands"]):
            if name in commands:
                commands[name].options.append(option)
            else:
                problems.add(raw["commands"].line_of(i), f"option '{raw['name']}': there is no command '{name}'; "
                                                         "name one of " + ", ".join(commands))
    for raw in doc["commands"]:
        unless = raw.get("args", {}).get("unless")
        if unless and not any(o.name == unless and o.type == "bool" for o in commands[raw["name"]].options):
            problems.add(raw["args"].line_of("unless"), f"command '{raw['name']}': '{unless}' must be one of its "
                                                        "bool options")
    one_word = _one_word(doc["one_word"], commands, problems)
    hints = _hints(doc["hints"], commands, problems)
    config, users = (configfile.load(name, doc[name], options, lambda key: _option(key, _check_values(key, problems)), problems)
                     for name in ("config", "users"))
    problems.check()
    return {"config": config, "users": users, "one_word": one_word, "hints": hints, "events": list(doc["events"]), "decisions": list(doc["decisions"]), "visits": list(doc["visits"]), "program": doc["program"], "doc": doc["doc"], "date": doc["date"], "exit_codes": list(doc["exit_codes"]),
            "commands": list(commands.values()), "options": options}


def _fill(text, indent):
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False,
                         break_long_words=False)


def _columns(rows, indent="  "):
    wide = max(len(left) for left, _ in rows) + 2
    out = []
    for left, right in rows:
        lines = textwrap.wrap(right, WIDTH - len(indent) - wide, break_on_hyphens=False) or [""]
        out += [(indent + (left if i == 0 else "").ljust(wide) + line).rstrip() for i, line in enumerate(lines)]
    return out


def facts(option):
    """Default, range and variable of an option, as sentences."""
    found = []
    if option.has_default:
        found.append("On by default." if option.type == "bool" else f"Default {option.default}.")
    if option.max_text:
        found.append(f"From {option.min_text} to {option.max_text}{' ' + option.unit if option.unit else ''}.")
    if option.env:
        found.append(f"Variable {option.env}.")
    return " ".join(found)


def _argument(command):
    return command.args["name"] + ("..." if command.args["max"] > 1 else "")


def help_lines(model, command):
    """What `hoody-tunnel COMMAND --help` prints."""
    args = command.args
    usage = f"Usage: {model['program']} {command.name} [OPTION]..."
    if args:
        one = _argument(command)
        usage += f" {one}" if args["min"] else f" [{one}]"
    out = [usage, "", command.doc + "."]
    if command.help:
        out += [""] + _fill(command.help, "")
    if args:
        out += [""] + _columns([(args["name"], args["doc"])])
    out += ["", "Options:"]
    for o in command.options:
        if o.hidden or o.type == "secret":
            continue
        short = f"-{o.short} {o.placeholder}, " if o.short else ""
        out.append(f"  --[no-]{o.name}" if o.type == "bool" else f"  {short}--{o.name} {o.placeholder}")
        out += _fill(o.doc, " " * 8)
        if facts(o):
            out += _fill(facts(o), " " * 8)
    out += ["  --help, -h", "        Show this."]
    secrets = [o for o in command.options if o.type == "secret"]
    if secrets:
        out += ["", "Variables beside those named above:"] + _columns([(o.env, o.doc) for o in secrets])
    out += ["", "Examples:"]
    for example in command.examples:
        out += [f"  {example['run']}", f"        {example['doc']}"]
    out += ["", "Exit codes:"] + _columns([(str(e["code"]), e["doc"]) for e in command.exit_codes])
    return out


def overview_lines(model):
    """What `hoody-tunnel --help` prints."""
    rows = [(c.name + (f" {_argument(c)}" if c.args else ""), c.doc) for c in model["commands"]]
    short = [(f"{model['program']} {_argument(c)}{' ' + word if word else ''}", f"is {model['program']} {c.name} {_argument(c)}")
             for word, c in model["one_word"] if not word or all(c is not other for w, other in model["one_word"] if not w)]
    return ([f"Usage: {model['program']} COMMAND [OPTION]... [ARGUMENT]..."] + _columns(short, "       ") + [""] + _fill(model["doc"], "") +
            ["", "Commands:"] + _columns(rows) +
            ["", f"`{model['program']} COMMAND --help` tells more. `{model['program']} --version` names the version."])


def render(name, spec_dir):
    model = load(spec_dir)
    texts = Texts()
    return render_template(
        f"{name}.j2", banner=banner("options.yaml"), c=c_string, comment=comment, help_lines=help_lines,
        overview_lines=overview_lines, texts=texts, t=texts.place, hints=model["hints"], one_word=model["one_word"], model=model, program=model["program"], commands=model["commands"], mappings=model["config"]["mappings"] + model["users"]["mappings"], exit_codes=model["exit_codes"],
        enums=[o for o in model["options"] if o.type == "enum"],
        headers=sorted({o.c_enum["header"] for o in model["options"] if o.type == "enum" and o.c_enum["header"]}))
