"""spec/options.yaml -> what bash, zsh and fish complete."""

from gen import options
from gen.ctext import c_lines, c_string
from gen.render import banner, render as render_template


def _shown(command):
    """The options of a command that people are told about."""
    return [o for o in command.options if not o.hidden and o.type != "secret"]


def _spellings(option):
    """--name, --no-name, -n."""
    out = [f"--{option.name}"]
    if option.type == "bool":
        out.append(f"--no-{option.name}")
    if option.short:
        out.append(f"-{option.short}")
    return out


def _groups(commands):
    """First word -> [(second word, command)]; commands of one word have ("", command)."""
    out = {}
    for c in commands:
        first, _, second = c.name.partition(" ")
        out.setdefault(first, []).append((second, c))
    return out


def single_quoted(text):
    """For sh, zsh and the like."""
    return "'" + text.replace("'", "'\\''") + "'"


def fish_quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def zsh_text(text):
    """For the descriptions inside a spec of _arguments."""
    for special in "\\[]:":
        text = text.replace(special, "\\" + special)
    return text


def first_sentence(text):
    return text.split(". ")[0].rstrip(".")


SHELLS = ("bash", "zsh", "fish")


def render(name, spec_dir):
    model = options.load(spec_dir)
    if name.startswith("completions_gen."):
        files = [(shell, c_lines(_file(f"completion.{shell}", model))) for shell in SHELLS]
        return render_template(f"{name}.j2", banner=banner("options.yaml"), files=files, c=c_string)
    return _file(name, model)


def _file(name, model):
    return render_template(
        f"{name}.j2", banner=banner("options.yaml"), program=model["program"], commands=model["commands"], one_word=model["one_word"],
        groups=_groups(model["commands"]), shown=_shown, spellings=_spellings, sh=single_quoted, fish=fish_quoted,
        zsh=zsh_text, brief=first_sentence)
