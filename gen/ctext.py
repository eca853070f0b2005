"""C as text: string literals, comments, names."""

import re
import textwrap


def c_string(text):
    """A string literal; `??` is broken up so that no trigraph can come about (C11 5.2.1.1)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("??", "?\\?")
    return f'"{escaped}"'


def comment(text, indent=""):
    """A comment for the line above what it is about, with `indent` before all lines but the first."""
    lines = textwrap.wrap(text.replace("*/", "* /"), 114 - len(indent), break_on_hyphens=False)
    return "/* " + f"\n{indent} * ".join(lines) + " */"


def snake(name):
    """listTunnels -> list_tunnels, HealthMemory -> health_memory, grace-ms -> grace_ms."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()
