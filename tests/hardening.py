"""The list of tests/hardening.yaml: which test shows which case, and whether it can fail.

    python3 -m tests.hardening          switches each defence off in a copy of the tree and wants its test to fail
    python3 -m tests.hardening 3 9      those cases only
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

from tests.support.edits import Misfit, apply, place

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE = "tests/hardening.yaml"
CASES, MORE = 26, 52  # those that must be there; those behind them come as they are mended


def load():
    with open(os.path.join(ROOT, TABLE), encoding="utf-8") as f:
        return yaml.safe_load(f)["cases"]


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def problems(cases):
    """What is wrong with the table, one text each."""
    found = []
    numbers = [case.get("number") for case in cases]
    if numbers[:CASES] != list(range(1, CASES + 1)) or numbers != sorted(set(numbers)) or numbers[-1] > MORE:
        found.append(f"cases 1 to {CASES} have a row each, more up to {MORE} may, in order; there are {numbers}")
    for case in cases:
        where = f"case {case.get('number')}"
        unknown = set(case) - {"number", "title", "tests"}
        if unknown or not case.get("title") or not case.get("tests"):
            found.append(f"{where}: number, title and at least one test; nothing else than that: {sorted(unknown)}")
        for row in case.get("tests") or []:
            found += [f"{where}: {text}" for text in row_problems(row)]
    return found


def row_problems(row):
    if set(row) - {"test", "without", "edit"} or not row.get("test") or not row.get("without"):
        return [f"a row has test, without and may have edit: {row}"]
    path, _, name = row["test"].partition("::")
    if not os.path.exists(os.path.join(ROOT, path)):
        return [f"there is no {path}"]
    # As C or Python would have it between quotes.
    if f'"{name}"' not in read(path).replace('\\"', "'"):
        return [f"{path} has no test {name!r}"]
    edit = row.get("edit")
    if edit is None:
        return []
    if set(edit) != {"file", "from", "to"}:
        return [f"an edit has file, from and to: {edit}"]
    if not os.path.exists(os.path.join(ROOT, edit["file"])):
        return [f"there is no {edit['file']}"]
    try:
        place(read(edit["file"]), edit["from"])
    except Misfit as e:
        return [f"{edit['file']} has {e}"]
    return []


def run(command, cwd, timeout, **more):
    return subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False, timeout=timeout, **more)


def judged(command, name, cwd):
    """(whether the test of this name passes, what was said until then). It fails as well when it hangs or takes the program along.
    A built program has further tests behind it, which may hang without the defence: they are not waited for."""
    said, passed, wanted = [], None, re.escape(name).replace("'", "['\"]")
    with subprocess.Popen(["timeout", "--kill-after=5", "120", *command], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": cwd}) as program:
        for line in program.stdout:
            said.append(line.decode(errors="replace"))
            verdict = re.match(rf"(not )?ok \d+ - (.*: )?{wanted}\s*(#|$)", said[-1])
            if verdict:
                passed = not verdict.group(1)
                if command[0] != sys.executable:
                    program.terminate()
                    break
    return program.returncode == 0 if passed is None else passed, "".join(said)


def attempt(tree, row):
    """None when the test fails without its defence; else what happened instead."""
    edit = row["edit"]
    path, _, name = row["test"].partition("::")
    changed = os.path.join(tree, edit["file"])
    with open(changed, encoding="utf-8") as f:
        before = f.read()
    with open(changed, "w", encoding="utf-8") as f:
        f.write(apply(before, edit["from"], edit["to"]))
    try:
        python = path.endswith(".py")
        binary = "build/hoody-tunnel" if python else "build/" + path[:-2]
        made = run(["make", "--no-print-directory", binary], tree, 600)
        if made.returncode:
            return "it does not build:\n" + made.stdout.decode(errors="replace")
        passed, said = judged([sys.executable, path, name] if python else [binary], name, tree)
        return "the test passes all the same:\n" + said if passed else None
    finally:
        with open(changed, "w", encoding="utf-8") as f:
            f.write(before)
        os.utime(changed)


def main():
    cases = load()
    wanted = {int(a) for a in sys.argv[1:]} or set(range(1, MORE + 1))
    failed = 0
    with tempfile.TemporaryDirectory(prefix="hoody-tunnel-") as scratch:
        tree = os.path.join(scratch, "tree")
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", "san", "__pycache__"))
        for case in cases:
            for row in case["tests"] if case["number"] in wanted else []:
                if "edit" not in row:
                    continue
                why = "\n".join(row_problems(row)) or attempt(tree, row)
                failed += why is not None
                print(f"{'ok' if why is None else 'NOT'} {case['number']}: {row['test']}: {row['without']}", flush=True)
                if why:
                    print("    " + why[-3000:].replace("\n", "\n    "))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
