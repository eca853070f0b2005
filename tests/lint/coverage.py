"""Line coverage of each room by the unit tests and the replayed fuzz corpora: `make coverage`.

    coverage.py FOLDER [-v]     FOLDER: where a build with --coverage and its .gcda files are; -v names the lines never run
"""

import collections
import glob
import json
import os
import subprocess
import sys


def lines_of(folder):
    """{source: {line: was it run}}, of the sources below src/."""
    found = collections.defaultdict(dict)
    counts = sorted(glob.glob(os.path.join(folder, "obj", "**", "*.gcda"), recursive=True))
    done = subprocess.run(["gcov", "--json-format", "--stdout", *counts], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=True)
    for text in done.stdout.splitlines():
        for file in json.loads(text)["files"]:
            if file["file"].startswith("src/"):
                seen = found[file["file"]]
                for line in file["lines"]:
                    number = line["line_number"]
                    seen[number] = seen.get(number, False) or line["count"] > 0
    return found


def main():
    folder, verbose = sys.argv[1], "-v" in sys.argv[2:]
    rooms = collections.defaultdict(lambda: [0, 0])
    for source, lines in sorted(lines_of(folder).items()):
        room = rooms[source.split("/")[1]]
        room[0] += sum(lines.values())
        room[1] += len(lines)
        missed = [n for n, ran in sorted(lines.items()) if not ran]
        if verbose and missed:
            print(f"{source}: {', '.join(map(str, missed))}")
    print(f"{'room':<8}{'lines':>8}{'run':>8}")
    for room, (ran, lines) in sorted(rooms.items()):
        print(f"{room:<8}{lines:>8}{100 * ran / lines:>7.1f}%")
    return 0 if rooms else 1


if __name__ == "__main__":
    sys.exit(main())
