"""spec/options.yaml -> manual pages: hoody-tunnel(1), one for each command, hoody-tunnel.yaml(5), hoody-tunnel-users.yaml(5)."""

import textwrap

from gen import options
from gen.render import banner, render as render_template


def roff(text):
    """Running text: backslashes, hyphens that are meant as such, and lines that would read as requests."""
    out = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga").replace("^", "\\(ha")
    out = out.replace("~", "\\(ti").replace('"', "\\(dq")
    return "\\&" + out if out.startswith(".") else out


def filled(text):
    """The same, cut into lines that a person can read in the source."""
    lines = textwrap.wrap(text, 100, break_on_hyphens=False, break_long_words=False)
    return "\n".join(roff(line) for line in lines)


def facts(option):
    """Default, range, variable: what --help says."""
    return options.facts(option)


def literal(text):
    """Lines as they are."""
    return "\n".join(roff(line) for line in text.rstrip("\n").splitlines())


def page_of(model, name):
    """The command that a page is about, or None for the overview."""
    for command in model["commands"]:
        if name == f"{model['program']}-{command.name.replace(' ', '-')}.1":
            return command
    return None


def render(name, spec_dir):
    model = options.load(spec_dir)
    base = name.rsplit("/", 1)[-1]
    common = {"banner": banner("options.yaml"), "roff": roff, "filled": filled, "literal": literal, "facts": facts, "model": model,
              "program": model["program"], "date": model["date"]}
    for file in ("config", "users"):
        if base == f"{model[file]['file']}.5":
            return render_template(f"{file}.5.j2", config=model[file], **common)
    command = page_of(model, base)
    if base == f"{model['program']}.1":
        variables = {}
        for o in model["options"]:
            if o.env:
                variables.setdefault(o.env, o)
        return render_template("program.1.j2", variables=variables, **common)
    if not command:
        raise KeyError(f"no command has a page {base}")
    shown = [o for o in command.options if not o.hidden and o.type != "secret"]
    return render_template("command.1.j2", command=command, shown=shown,
                           secrets=[o for o in command.options if o.type == "secret"], **common)
