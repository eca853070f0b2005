"""spec/options.yaml, section `events` -> events_gen.h, events_gen.c: what `--json` prints, one writer for each event."""

from gen import options
from gen.ctext import c_string, comment, snake
from gen.render import banner, render as render_template

_C_TYPE = {"text": "const char *", "number": "uint64_t ", "bool": "bool "}


def c_type(member):
    return _C_TYPE[member["type"]]


def has_flag(member):
    """A text says by itself that it is missing."""
    return member.get("nullable", False) and member["type"] != "text"


def render(name, spec_dir):
    model = options.load(spec_dir)
    return render_template(f"{name}.j2", banner=banner("options.yaml"), events=model["events"], c=c_string, comment=comment,
                           snake=snake, c_type=c_type, has_flag=has_flag)
