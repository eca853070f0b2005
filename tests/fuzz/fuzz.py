#!/usr/bin/env python3
"""Runs fuzz targets one after another and prints a table of executions.

    fuzz.py FOLDER SECONDS UNIT...      FOLDER: where fuzz_<unit>, seeds/ and dict/ are

What libFuzzer finds worth keeping gathers in FOLDER/work/<unit> from run to run; an input that breaks a target is written to
FOLDER/found/. Exit status 1 when any was.
"""

import os
import re
import subprocess
import sys

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
# Longest input in bytes, where libFuzzer's 4096 is not right.
MAX_LEN = {"options": 512, "url": 2048, "list": 512, "ws": 2048, "session": 2048}


def run(folder, unit, seconds):
    """One target. Returns (executions, edges covered, inputs kept, found)."""
    work = os.path.join(folder, "work", unit)
    found = os.path.join(folder, "found")
    for path in (work, found):
        os.makedirs(path, exist_ok=True)
    sources = [os.path.join(CORPUS, unit), os.path.join(folder, "seeds", unit)]
    argv = [os.path.join(folder, f"fuzz_{unit}"), f"-max_total_time={seconds}", f"-max_len={MAX_LEN.get(unit, 4096)}",
            f"-artifact_prefix={found}/{unit}-", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1",
            "-use_value_profile=1", work, *[s for s in sources if os.path.isdir(s)]]
    words = os.path.join(folder, "dict", f"{unit}.dict")
    if os.path.exists(words):
        argv.insert(1, f"-dict={words}")
    with open(os.path.join(folder, f"{unit}.log"), "wb") as log:
        status = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, check=False).returncode
    with open(os.path.join(folder, f"{unit}.log"), encoding="utf-8", errors="replace") as f:
        text = f.read()
    executions = re.search(r"stat::number_of_executed_units: (\d+)", text)
    covered = re.findall(r" cov: (\d+)", text)
    if status != 0:
        print("\n".join("    " + line for line in text.splitlines()[-40:]))
    return int(executions.group(1)) if executions else 0, int(covered[-1]) if covered else 0, len(os.listdir(work)), status != 0


def main():
    folder, seconds, units = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    broken = []
    total = 0
    print(f"{'unit':<12}{'executions':>14}{'edges':>8}{'kept':>8}  {seconds} s each")
    for unit in units:
        executions, covered, kept, found = run(folder, unit, seconds)
        total += executions
        broken += [unit] if found else []
        print(f"{unit:<12}{executions:>14,}{covered:>8}{kept:>8}{'  BROKEN' if found else ''}", flush=True)
    print(f"{'all':<12}{total:>14,}")
    if broken:
        print(f"broken: {', '.join(broken)}; the inputs are in {folder}/found/")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
