"""The `config` and `users` sections of spec/options.yaml: the mappings of these files and their keys."""

from dataclasses import dataclass, field


@dataclass
class Key:
    name: str
    kind: str  # "value", "texts" (a mapping of texts), "lines" (a list of texts), "list" (of mappings)
    doc: str
    example: str
    required: bool = False
    max: int = 0  # texts and items
    of: str = ""  # the mapping of an item
    option: object = None  # a value's type, bounds and default


@dataclass
class Mapping:
    name: str
    c_name: str  # of its structure, opt_<c_name>
    doc: str
    keys: list = field(default_factory=list)

    @property
    def options(self):
        """The keys that have one value, as options: the C tables are the same."""
        return [k.option for k in self.keys if k.option]


def load(section, raw, options, make_option, problems):
    """The checked model: {file, doc, example, mappings}. `make_option` turns a key into an Option."""
    by_name = {o.name: o for o in options}
    names = [m["name"] for m in raw["mappings"]]
    mappings = []
    for m in raw["mappings"]:
        mapping = Mapping(name=m["name"], doc=m["doc"], c_name=section if m is raw["mappings"][0] else f"{section}_{m['name']}")
        for key in m["keys"]:
            made = _key(key, by_name, names, make_option, problems)
            if made and any(k.name == made.name for k in mapping.keys):
                problems.add(key.line, f"mapping '{m['name']}': the key '{made.name}' is declared twice")
            elif made:
                mapping.keys.append(made)
        mappings.append(mapping)
    return {"file": raw["file"], "doc": raw["doc"], "example": raw["example"], "mappings": mappings}


def _key(raw, by_name, names, make_option, problems):
    if "option" in raw:
        option = by_name.get(raw["option"])
        if not option:
            problems.add(raw.line_of("option"), f"there is no option '{raw['option']}' to take a key from")
            return None
        return Key(name=option.name, kind="value", doc=option.doc, example=option.example or "true", option=option)
    common = {"name": raw["name"], "doc": raw["doc"], "example": str(raw["example"]), "required": raw.get("required", False)}
    if "list" in raw and raw["list"] not in names:
        problems.add(raw.line_of("list"), f"key '{raw['name']}': there is no mapping '{raw['list']}'; name one of "
                                          + ", ".join(names))
    if "type" in raw:
        return Key(kind="value", option=make_option(raw), **common)
    if "list" in raw:
        return Key(kind="list", of=raw["list"], max=raw["max"], **common)
    return Key(kind="texts" if "texts" in raw else "lines", max=raw["max"], **common)
