"""python3 -m gen OUTPUT... -d FOLDER [--spec DIR], or OUTPUT -o FILE. OUTPUT is a name in OUTPUTS, or man/PAGE."""

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
    "restart_gen.h": "gen.textwire",
    "restart_gen.c": "gen.textwire",
    "restart_wire.py": "gen.textcodec",
    "options_gen.h": "gen.options",
    "options_gen.c": "gen.options",
    "metrics_gen.h": "gen.metrics",
    "metrics_gen.c": "gen.metrics",
    "admin_gen.h": "gen.openapi",
    "admin_gen.c": "gen.openapi",
    "openapi.json": "gen.openapi",
    "inspect_api_gen.h": "gen.openapi",
    "inspect_api_gen.c": "gen.openapi",
    "inspector.json": "gen.openapi",
    "edge_api_gen.h": "gen.openapi",
    "edge_api_gen.c": "gen.openapi",
    "edge.json": "gen.openapi",
    "events_gen.h": "gen.events",
    "events_gen.c": "gen.events",
    "audit_gen.h": "gen.events",
    "audit_line.schema.json": "gen.events",
    "completions_gen.h": "gen.completions",
    "completions_gen.c": "gen.completions",
    "log_gen.h": "gen.log",
    "log_line.schema.json": "gen.log",
    "haproxy_gen.h": "gen.haproxy",
    "haproxy_gen.c": "gen.haproxy",
    "page_gen.h": "gen.page",
    "page_gen.c": "gen.page",
    "completion.bash": "gen.completions",
    "completion.zsh": "gen.completions",
    "completion.fish": "gen.completions",
}


def module_of(output):
    """Manual pages have a name for each command, man/hoody-tunnel-....1, which is not repeated here."""
    return "gen.manpages" if re.fullmatch(r"man/hoody-tunnel[a-z.-]*\.[15]", output) else OUTPUTS.get(output)


def write(path, text):
    """A file that says the same already keeps its time, so that nothing is made anew for it."""
    try:
        with open(path, encoding="utf-8", newline="") as f:
            if f.read() == text:
                return
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    part = path + ".part"
    with open(part, "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(part, path)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python3 -m gen", description=__doc__)
    parser.add_argument("outputs", nargs="+", metavar="OUTPUT", help="man/PAGE or one of " + ", ".join(OUTPUTS))
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-o", "--out", help="file to write, for one output")
    where.add_argument("-d", "--folder", help="folder in which each output is written under its name")
    parser.add_argument("--spec", default=os.path.join(os.path.dirname(__file__), "..", "spec"),
                        help="directory of the specs (default: the project's)")
    args = parser.parse_args(argv)
    for output in args.outputs:
        if not module_of(output):
            parser.error(f"there is no output {output}")
    if args.out and len(args.outputs) > 1:
        parser.error("-o names one file, and there are several outputs; give a folder with -d")
    try:
        texts = {o: importlib.import_module(module_of(o)).render(o, os.path.normpath(args.spec)) for o in args.outputs}
    except SpecError as e:
        print(e, file=sys.stderr)
        return 1
    for output, text in texts.items():
        write(args.out or os.path.join(args.folder, output), text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
