"""C as text: string literals, comments, names."""

import re
import textwrap


def c_string(text):
    """A string literal; `??` is broken up so that no trigraph can come about (C11 5.2.1.1)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("??", "?\\?")
    return f'"{escaped}"'


def c_lines(text):
    """A long text as string literals, one for each of its lines."""
    return [c_string(line) for line in text.splitlines(keepends=True)]


class Texts:
    """Texts that stand in one array of C, for tables that have their places in it. Place 0 is no text."""

    def __init__(self):
        self.places = {}
        self.size = 1

    def place(self, text):
        """Where the text stands. It is added if it is new."""
        if text not in self.places:
            self.places[text] = self.size
            self.size += len(text.encode()) + 1
        return self.places[text]

    def lines(self):
        """The array's string literals: behind each text a zero, and one in front of all."""
        out = ['"\\0"']
        for text in self.places:
            *first, last = c_lines(text) or ['""']
            out += [*first, last[:-1] + '\\0"']
        return out


def comment(text, indent=""):
    """A comment for the line above what it is about, with `indent` before all lines but the first."""
    lines = textwrap.wrap(text.replace("*/", "* /"), 114 - len(indent), break_on_hyphens=False)
    return "/* " + f"\n{indent} * ".join(lines) + " */"


def snake(name):
    """listTunnels -> list_tunnels, HealthMemory -> health_memory, grace-ms -> grace_ms."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()
