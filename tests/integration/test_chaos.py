"""Random play around a kit and around a driver (tests/chaos); `make chaos SECONDS=3600` plays longer.

Runs: sanitized.
"""

import os
import subprocess
import sys

from tests.integration.harness import BIN, ROOT, SANITIZED
from tests.support.tap import case, main


def play(what, seconds):
    done = subprocess.run([sys.executable, os.path.join(ROOT, "tests/chaos/chaos.py"), "--only", what, "--seconds", str(seconds)],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          env={**os.environ, "HT_BIN": BIN})
    said = done.stdout.decode(errors="replace")
    print("".join(f"# {line}\n" for line in said.splitlines() if line.startswith("# seed")), end="")
    assert done.returncode == 0, said


@case("a kit amid drivers, visitors and admins of every kind")
def _():
    play("kit", 24 if SANITIZED else 6)


@case("drivers amid kits of every kind")
def _():
    play("driver", 16 if SANITIZED else 6)


if __name__ == "__main__":
    main()
