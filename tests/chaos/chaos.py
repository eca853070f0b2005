"""Random play of the whole: `make chaos SEED=1 SECONDS=60`.

Rounds of a few seconds, each with a seed of its own that is printed (the first is SEED, the next SEED + 1, ...): in most of them a
kit, which some of them restart, stands amid drivers, visitors and admins of every kind, in the others a driver meets kits of every kind. What must hold:

    * no report of a sanitizer, and no end that nobody asked for
    * every byte is its visitor's own, in order, once; an end in order means that all of it came
    * /health is answered, in time
    * when everybody has left, no stream, session or binding is left, and the descriptors are those of a new program

    tests/chaos/chaos.py [--seed N] [--seconds N] [--only kit|driver]      exit status 1 when something was found

What depends on the machine's moment is not repeated by a seed, but most is: try a seed several times.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)
sys.dont_write_bytecode = True

from tests.chaos import driver_round, kit_round, shape  # noqa: E402

ROUND = 12.0  # seconds of play


def rounds(seed, seconds, only, binary, own_net):
    """Plays until the time is over; True when nothing was found."""
    end, good, n = time.monotonic() + seconds, True, 0
    while time.monotonic() < end:
        round_seed = seed + n
        n += 1
        rng = random.Random(f"round {round_seed}")
        path = shape.shape(rng) if own_net else "the machine's loopback"
        begun = time.monotonic()
        what = only or ("kit" if rng.random() < 0.7 else "driver")
        play = {"kit": kit_round, "driver": driver_round}[what].play
        stage = asyncio.run(play(round_seed, min(ROUND, max(3.0, end - begun)), binary))
        ledger = stage.ledger
        print(f"# seed {round_seed}: {what}, {stage.theme}; {path}; {time.monotonic() - begun:.0f} s; {ledger.last} transfers, "
              f"{', '.join(f'{name}: {count}' for name, count in sorted(ledger.count.items()) if name != 'watch')}", flush=True)
        for find in ledger.finds:
            good = False
            print(f"FOUND with seed {round_seed}: {find}", flush=True)
        if not good:
            return False
    return good


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", choices=["kit", "driver"])
    args = parser.parse_args()
    own_net = shape.enter()
    binary = os.path.join(ROOT, os.environ.get("HT_BIN", "build/san/hoody-tunnel"))
    print(f"# seed {args.seed}, {args.seconds:.0f} s, {'a network of its own' if own_net else 'the loopback of everybody'}", flush=True)
    return 0 if rounds(args.seed, args.seconds, args.only, binary, own_net) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
