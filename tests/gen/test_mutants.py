"""Seeded faults (src/base/mutant.h): they name rules, there are enough of them, and a plain build knows nothing of them."""

import glob
import os
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)
os.chdir(ROOT)

from gen import mutants, protocol  # noqa: E402  pylint: disable=wrong-import-position
from tests.support.tap import Skip, case, main  # noqa: E402  pylint: disable=wrong-import-position

W = os.environ.get("W", "build")
SEED = re.compile(r"HT_MUTANT\((\w+)\)")
INCLUDES = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Isrc"]


def seeds():
    """(file, line number, id) of each."""
    for path in sorted(glob.glob("src/*/*.[ch]") + glob.glob("gen/templates/wire_gen.*.j2")):
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                if path != "src/base/mutant.h":
                    yield from ((path, number, name) for name in SEED.findall(line))


@case("every seeded fault is named for a rule of the spec")
def _():
    known = {name for name, _ in mutants.ids("spec")}
    strange = [f"{path}:{number}: {name}" for path, number, name in seeds() if name not in known]
    assert not strange, strange


@case("there is a fault for nearly every rule, and one at least in each room that keeps rules")
def _():
    found = list(seeds())
    rules = {rule for name, rule in mutants.ids("spec") if name in {n for _, _, n in found}}
    missing = sorted(set(protocol.load("spec").rules) - rules)
    assert len({n for _, _, n in found}) >= 100 and len(missing) <= 12, (len(found), missing)
    rooms = {path.split("/")[1] for path, _, _ in found if path.startswith("src/")}
    assert {"wire", "flow", "mux", "http", "ws", "relay", "kit", "driver"} <= rooms, rooms


@case("a plain build holds no trace of them: no symbol, no text")
def _():
    looked = 0
    for path in (f"{W}/hoody-tunnel", f"{W}/libhoody-tunnel.so.0", f"{W}/librooms.a"):
        if os.path.exists(path):
            with open(path, "rb") as f:
                data = f.read()
            symbols = subprocess.run(["nm", path], capture_output=True, text=True, check=False).stdout
            # Debug information names no macro, so neither of the two spellings may be anywhere.
            assert b"HT_MUTANT" not in data and b"ht_mutant" not in data and "mutant" not in symbols, path
            looked += 1
    if not looked:
        raise Skip(f"nothing is built in {W}")


@case("a plain build's machine code is that of the sources without the macro")
def _():
    with tempfile.TemporaryDirectory() as folder:
        for source in ("src/flow/flow.c", "src/mux/window.c", "src/mux/out.c", "src/wire/frames.c", "src/json/json.c"):
            code = []
            for extra in ([], ["-DHT_BASE_MUTANT_H", "-DHT_MUTANT(id)=0"]):
                out = os.path.join(folder, f"{len(code)}.s")
                subprocess.run([*shlex.split(os.environ.get("CC", "cc")), *INCLUDES, f"-I{W}/gen", *extra, "-S", "-o", out, source], check=True)
                with open(out, encoding="utf-8") as f:
                    code.append(f.read())
            assert code[0] == code[1], source


if __name__ == "__main__":
    main()
