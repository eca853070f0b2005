"""For the generator's tests: the generator on an edited copy of the specs, and C programs over what it makes."""

import contextlib
import fcntl
import glob
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

import gen.__main__
from gen import specfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_CFLAGS = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wshadow",
           "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wno-format-nonliteral", "-fsanitize=address,undefined",
           "-fno-sanitize-recover=undefined"]


def generate(output, to, spec_dir=os.path.join(ROOT, "spec")):
    """(exit status, standard error) of the generator, which runs in this process."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = gen.__main__.main([output, "-o", to, "--spec", spec_dir])
    return status, said.getvalue()


def complaints(output, spec, edits):
    """What the generator says about spec/<spec> after the edits, as a list of (line, text); [] when it is content.

    An edit is (old, new): the first `old` in the file becomes `new`.
    """
    with tempfile.TemporaryDirectory() as folder:
        specs = os.path.join(folder, "spec")
        shutil.copytree(os.path.join(ROOT, "spec"), specs)
        path = os.path.join(specs, spec)
        text = specfile.text(path)
        for old, new in edits:
            assert old in text, f"{old!r} is not in {spec}"
            text = text.replace(old, new, 1)
        with open(path, "w", encoding="utf-8") as f:  # its parts are in it
            f.write(text)
        status, said = generate(output, os.path.join(folder, "out"), specs)
        if status == 0:
            return []
        assert "Traceback" not in said, said
        out = []
        for row in said.splitlines():
            where, _, what = row.partition(": error: ")
            name, _, line = where.rpartition(":")
            assert name.endswith(spec) and what, row
            out.append((int(line), what))
        return out


def expect_complaint(output, spec, edits, at, what):
    """One complaint must be about the line that holds `at` after the edits, and its text must hold `what`."""
    text = specfile.text(os.path.join(ROOT, "spec", spec))
    for old, new in edits:
        text = text.replace(old, new, 1)
    line = text[:text.index(at)].count("\n") + 1
    found = complaints(output, spec, edits)
    assert any(n == line and what in said for n, said in found), f"expected {line}: ...{what}..., got {found}"


def make(*words):
    """What make says about these targets, variables and options."""
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", "--no-print-directory", "-C", ROOT, f"PYTHON={sys.executable}", *words], check=True, capture_output=True,
                          text=True, timeout=240, env=clean).stdout


def objects(*rooms, generated=(), sanitized=True):
    """The object files of these rooms and generated sources as the project's build makes them; what is not up to date is made."""
    w = os.environ.get("W", "build")
    folder = os.path.join(w, "san" if sanitized else "", "obj")
    found = [os.path.join(folder, os.path.relpath(path, os.path.join(ROOT, "src"))[:-2] + ".o")
             for room in rooms for path in sorted(glob.glob(os.path.join(ROOT, "src", room, "*.c")))]
    found += [os.path.join(folder, "gen", f"{name}.o") for name in generated]
    os.makedirs(os.path.join(ROOT, w), exist_ok=True)
    with open(os.path.join(ROOT, w, ".objects.lock"), "w", encoding="ascii") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        make(f"W={w}", *(["SAN=1"] if sanitized else []), *found)
    return [os.path.join(ROOT, path) for path in found]


class Program:
    """A C program of tests/gen/c over generated files and src/base, under the sanitizers. Removed with close()."""

    def __init__(self, source, outputs):
        self.folder, self.starts = tempfile.mkdtemp(), 0
        for output in outputs:
            status, said = generate(output, os.path.join(self.folder, output))
            assert status == 0, said
        sources = [os.path.join(ROOT, "tests", "gen", "c", source)]
        sources += [os.path.join(self.folder, o) for o in outputs if o.endswith(".c")]
        library = os.path.join(self.folder, "rooms.a")  # only what the program needs of them
        subprocess.run(["ar", "rcs", library, *objects("base", "opt")], check=True)
        self.path = os.path.join(self.folder, "program")
        done = subprocess.run([*shlex.split(os.environ.get("CC", "cc")), *_CFLAGS, "-I", os.path.join(ROOT, "src"), "-I", self.folder,
                               "-o", self.path, *sources, library, "-lyaml"], check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    def run(self, *args, env=None):
        """Standard output; the program must end well and say nothing on standard error. The search for leaks takes as long as all the
        rest of a start: the first of ten starts has it, and those that make allocations fail."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("HOODY_TUNNEL_")}
        if self.starts % 10 and args[:1] != ("fail",):
            clean["ASAN_OPTIONS"] = clean.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        self.starts += 1
        done = subprocess.run([self.path, *args], env={**clean, **(env or {})}, check=False, capture_output=True,
                              timeout=60)
        assert done.returncode == 0 and not done.stderr, (done.returncode, done.stderr.decode(errors="replace"))
        return done.stdout.decode()

    def close(self):
        shutil.rmtree(self.folder)


def rebuilt(outputs, touched):
    """For each of the touched files, which of the outputs make would make again if it were new."""
    with tempfile.TemporaryDirectory() as folder:
        targets = [os.path.join(folder, "gen", o) for o in outputs]
        base = [f"W={folder}", *targets]
        make(*base)
        found = {}
        for path in touched:
            said = make("-n", "-W", path, *base)
            made = {o for row in re.findall(r"^\S+ -m gen (.+) -d", said, re.M) for o in row.split()}
            found[path] = made & set(outputs)
        return found
