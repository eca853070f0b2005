"""What other specs take from spec/protocol.yaml, so that no number and no list of the protocol is kept twice.

A reference is a path: limits/NAME, fields/FRAME.FIELD, enums/NAME, codes, versions, wires, visitor_answers.
"""

import os
from dataclasses import dataclass

from gen import specfile


@dataclass
class Names:
    """A list of names; `numbers` are those that wire_gen.h gives them, in the same order, or none."""

    values: list
    numbers: list


class Protocol:
    def __init__(self, spec_dir):
        self._doc = specfile.shared(os.path.join(spec_dir, "protocol.yaml"))
        self._dir = spec_dir

    @property
    def _text(self):
        return specfile.shared(os.path.join(self._dir, "vtunnel.yaml"))

    def _row(self, table, name):
        for row in self._doc.get(table, []):
            if row["name"] == name:
                return row
        raise KeyError(f"{table}/{name}")

    def limit(self, path):
        """(value, unit) of limits/NAME, or of the most items of fields/FRAME.FIELD; KeyError if there is none."""
        table, _, name = path.partition("/")
        if table == "fields":
            frame, _, field = name.partition(".")
            rows = [f for f in self._row("frames", frame)["payload"].get("fields", []) if f["name"] == field and "max" in f]
            return {field: (f["max"], "items") for f in rows}[field]
        if table != "limits":
            raise KeyError(path)
        row = self._row(table, name)
        return row["value"], row["unit"]

    def names(self, path):
        """The Names that `path` leads to; KeyError if it leads nowhere."""
        table, _, name = path.partition("/")
        if table == "enums" and name:
            values = [v["text"] for v in self._row(table, name)["values"]]
            return Names(values, list(range(1, len(values) + 1)))  # 0 is UNKNOWN there
        if path in ("codes", "versions"):
            return Names([c["name"] for c in self._doc[path]], [c["number"] for c in self._doc[path]])
        if path == "wires":  # the versions, and the other wires that a kit speaks
            versions = self.names("versions")
            return Names([*versions.values, self._text["protocol"]], [*versions.numbers, max(versions.numbers) + 1])
        if path == "visitor_answers":
            return Names([a["name"].lower() for a in self._doc["visitor_answers"]], [])
        raise KeyError(path)

    def connect_path(self):
        return self._doc["connect_path"]

    def reserved_ports(self):
        return sorted(p["port"] for p in self._doc["reserved_ports"])

    def binding_pairs(self):
        return [(p["kind"], p["mode"]) for p in self._doc["binding_pairs"]]
