"""Edits of a source file that a test wants to see: FROM, which stands there exactly once, becomes TO.

White space may differ, so that a formatter does not make an edit untrue; where FROM stands once as it is, that place is meant.
"""

import re

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\w+|\S')


class Misfit(ValueError):
    """FROM is not there, or more than once."""


def _pattern(text):
    out, before = "", ""
    for token in _TOKEN.findall(text):
        if before:
            out += r"\s+" if before[-1].isalnum() and token[0].isalnum() else r"\s*"
        out += re.escape(token)
        before = token
    return out


def _cuts_a_word(text, at):
    return 0 < at < len(text) and re.match(r"\w\w", text[at - 1:at + 1])


def place(text, old):
    """(begin, end) of the only place."""
    if text.count(old) == 1:
        begin = text.index(old)
        found = [(begin, begin + len(old))]
    else:
        found = [m.span() for m in re.finditer(_pattern(old), text)]
    if len(found) != 1:
        raise Misfit(f"{len(found)} times, not once: {old!r}")
    if any(_cuts_a_word(text, at) for at in found[0]):
        raise Misfit(f"only inside a longer word: {old!r}")
    return found[0]


def apply(text, old, new):
    """The text after the edit; Misfit."""
    begin, end = place(text, old)
    return text[:begin] + new + text[end:]
