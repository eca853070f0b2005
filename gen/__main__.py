"""python3 -m gen OUTPUT -o FILE [--spec DIR]: renders one output. OUTPUT is a name in OUTPUTS, or man/PAGE."""

import argparse
import importlib
import os
import re
import sys

from gen.specfile import SpecError

# output name -> module in gen/ whose render(name, spec_dir) returns the text
OUTPUTS = {
    "wire_gen.h": "gen.protocol",
    "wire_gen.c": "gen.protocol",
    "vectors.json": "gen.vectors",
    "hoody_wire.py": "gen.pycodec",
    "protocol.md": "gen.reference",
    "vtunnel_gen.h": "gen.textwire",
    "vtunnel_gen.c": "gen.textwire",
    "vtunnel_vectors.json": "gen.textvectors",
    "vtunnel_wire.py": "gen.textcodec",
    "vtunnel.md": "gen.textref",
    "options_gen.h": "gen.options",
    "options_gen.c": "gen.options",
    "metrics_gen.h": "gen.metrics",
    "metrics_gen.c": "gen.metrics",
    "admin_gen.h": "gen.openapi",
    "admin_gen.c": "gen.openapi",
    "openapi.json": "gen.openapi",
    "events_gen.h": "gen.events",
    "events_gen.c": "gen.events",
    "audit_gen.h": "gen.events",
    "audit_line.schema.json": "gen.events",
    "completions_gen.h": "gen.completions",
    "completions_gen.c": "gen.completions",
    "log_gen.h": "gen.log",
    "log_line.schema.json": "gen.log",
    "completion.bash": "gen.completions",
    "completion.zsh": "gen.completions",
    "completion.fish": "gen.completions",
}


def module_of(output):
    """Manual pages have a name for each command, man/hoody-tunnel-....1, which is not repeated here."""
    return "gen.manpages" if re.fullmatch(r"man/hoody-tunnel[a-z.-]*\.[15]", output) else OUTPUTS.get(output)


def main():
    parser = argparse.ArgumentParser(prog="python3 -m gen", description=__doc__)
    parser.add_argument("output", help="man/PAGE or one of " + ", ".join(OUTPUTS))
    parser.add_argument("-o", "--out", required=True, help="file to write")
    parser.add_argument("--spec", default=os.path.join(os.path.dirname(__file__), "..", "spec"),
                        help="directory of the specs (default: the project's)")
    args = parser.parse_args()
    module = module_of(args.output)
    if not module:
        parser.error(f"there is no output {args.output}")
    try:
        text = importlib.import_module(module).render(args.output, os.path.normpath(args.spec))
    except SpecError as e:
        print(e, file=sys.stderr)
        return 1
    os.makedirs(os.path.dirname(args.out) or ".", exist_ok=True)
    part = args.out + ".part"
    with open(part, "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(part, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
