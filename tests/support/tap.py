"""Test programs in Python: functions marked @case run in order and print TAP. Standard library only.

    from tests.support.tap import case, main

    @case("every property that must hold")
    def _():
        assert ...

    if __name__ == "__main__":
        main()
"""

import sys
import time
import traceback

_cases = []


class Skip(Exception):
    """Raised by a case that cannot run here; the text says what is missing."""


def case(name):
    def register(run):
        _cases.append((name, run))
        return run
    return register


def main():
    """Runs the cases (those whose name holds argv[1], when given) and exits with 1 if any failed."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [(name, run) for name, run in _cases if wanted in name]
    failed = 0
    for number, (name, run) in enumerate(chosen, 1):
        start = time.monotonic()
        try:
            run()
            print(f"ok {number} - {name} # {time.monotonic() - start:.2f} s", flush=True)
        except Skip as e:
            print(f"ok {number} - {name} # SKIP {e}", flush=True)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print(f"not ok {number} - {name}", flush=True)
            for line in traceback.format_exc().splitlines():
                print(f"# {line}", flush=True)
    print(f"1..{len(chosen)}")
    sys.exit(1 if failed else 0)
