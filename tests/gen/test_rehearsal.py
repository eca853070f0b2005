"""A third version of the protocol, tried out: generated from an edited copy of the spec, built, and spoken by one kit beside v1
and v2. Its peers are those of the conformance suite, whose codec comes from the same spec.

    tests/gen/test_rehearsal.py           what changed, and a part of the suite, for all three versions
    tests/gen/test_rehearsal.py all       all of the kit's suite for all three versions (`make rehearsal`)

Runs: make rehearsal.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)
os.chdir(ROOT)

from tests.gen.evolve import REHEARSAL, edited  # noqa: E402  pylint: disable=wrong-import-position
from tests.support.tap import case, main  # noqa: E402  pylint: disable=wrong-import-position

VERSIONS = ["v1", "v2", "v3"]
WHOLE = sys.argv[1:] == ["all"]
del sys.argv[1:]
# For a quick look: what tells versions apart, and a request.
PART = ["handshake/hello", "handshake/choice", "handshake/crossed", "kit/messages/", "kit/shards/", "http/get"]


class Tree:
    """A copy of what the build reads, with the edited spec; the sources are the project's."""

    folder = None

    @classmethod
    def get(cls):
        if cls.folder:
            return cls.folder
        cls.folder = tempfile.mkdtemp(prefix="ht-rehearsal-")
        skip = shutil.ignore_patterns("__pycache__", "released")
        for name in ("spec", "gen", "conformance"):
            shutil.copytree(name, os.path.join(cls.folder, name), ignore=skip)
        for name in ("src", "tests", "packaging", "Makefile"):
            os.symlink(os.path.join(ROOT, name), os.path.join(cls.folder, name))
        with open(os.path.join(cls.folder, "spec", "protocol.yaml"), "w", encoding="utf-8") as f:
            f.write(edited(REHEARSAL))
        shutil.copy("tests/gen/rehearsal.yaml", os.path.join(cls.folder, "conformance", "cases", "kit"))
        for side in ("kit", "driver"):
            path = os.path.join(cls.folder, "conformance", "adapters", f"hoody-{side}.yaml")
            with open(path, encoding="utf-8") as f:
                adapter = yaml.safe_load(f)
            adapter["versions"] = VERSIONS if side == "kit" else adapter.get("versions", VERSIONS[:2])
            with open(path, "w", encoding="utf-8") as f:
                yaml.safe_dump(adapter, f)
        return cls.folder

    @classmethod
    def run(cls, command, timeout):
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "W", "HT_BIN")}
        done = subprocess.run(command, cwd=cls.get(), env={**env, "PYTHONPATH": "", "W": "build"}, check=False, timeout=timeout,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout.decode(errors="replace")


@case("hoody-tunnel.v3 is generated and built, and nothing but the spec was edited")
def _():
    # Speed does not matter here, the time that compiling takes does.
    status, said = Tree.run(["make", "-j2", "--no-print-directory", "OPT=-O0", "HARDEN=", "CFLAGS=", "all"], 220)
    assert status == 0, said


def suite(*args, timeout=200):
    status, said = Tree.run([sys.executable, "conformance/run.py", "-a", "hoody-kit", *args], timeout)
    bad = [line for line in said.splitlines() if line.startswith(("not ok", "conformance:", "Traceback"))]
    assert status == 0 and not bad, "\n".join([*bad[:20], said[-4000:]])
    return {v: len(re.findall(rf"^ok \d+ - \S*@{v}\b(?!.*# SKIP)", said, re.M)) for v in VERSIONS}, said


@case("what v3 changes, v1 and v2 beside it in one kit")
def _():
    passed, said = suite("-k", "rehearsal/")
    assert passed["v1"] >= 5 and passed["v2"] >= 5 and passed["v3"] >= 8, (passed, said)


@case("the conformance suite of kits, in all three versions")
def _():
    passed, said = suite(*([] if WHOLE else [word for part in PART for word in ("-k", part)]), timeout=1500)
    assert min(passed.values()) >= 4, (passed, said)
    print(f"# {passed}")


if __name__ == "__main__":
    try:
        main()
    finally:
        if Tree.folder:
            shutil.rmtree(Tree.folder)
