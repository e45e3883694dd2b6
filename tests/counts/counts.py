"""Counts instructions per command with callgrind, and compares them with baseline.txt.

Run by run.sh. Each step runs in a process of its own, with the same input each time; only what happens inside
`counted` of src/main.rs is counted. How busy the machine is does not matter.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

COUNTS = Path(__file__).resolve().parent
BASELINE = COUNTS / "baseline.txt"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", COUNTS.parents[1] / "target"))
PROGRAM = TARGET / "release" / "quoris-counts"
LIMIT = 0.10
HEAD = """\
# Instructions per command, by step, as callgrind counts them. Written by `tests/counts/run.sh --update`.
# Built by: {compiler}
"""
# mimalloc gives memory back when a time has passed; that must not depend on the machine.
ENVIRONMENT = {**os.environ, "MIMALLOC_PURGE_DELAY": "-1"}


def steps():
    return subprocess.run([PROGRAM], capture_output=True, text=True, check=True).stdout.split()


def count(step):
    """Instructions per command."""
    with tempfile.TemporaryDirectory(prefix="quoris-counts-") as scratch:
        out = Path(scratch) / "callgrind.out"
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--toggle-collect=*quoris_counts*counted*"]
        done = subprocess.run([*tool, PROGRAM, step], capture_output=True, text=True, env=ENVIRONMENT, cwd=scratch)
        assert done.returncode == 0, f"{step} ended with {done.returncode}:\n{done.stderr[-3000:]}"
        instructions = int(re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.M)[1])
    assert instructions, f"{step}: nothing was counted; is the function still called `counted`?"
    return instructions / int(done.stdout)


def count_all(names):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(names, pool.map(count, names)))


def read_baseline():
    lines = BASELINE.read_text().splitlines() if BASELINE.exists() else []
    compiler = next((line.split(": ", 1)[1] for line in lines if line.startswith("# Built by: ")), None)
    pairs = (line.split() for line in lines if line and not line.startswith("#"))
    return compiler, {name: float(value) for name, value in pairs}


def write_baseline(compiler, counts):
    lines = "".join(f"{name:16} {value:10.1f}\n" for name, value in counts.items())
    BASELINE.write_text(HEAD.format(compiler=compiler) + lines)


def compare(counts, baseline):
    """Prints every step; what is wrong, as sentences."""
    wrong = []
    print(f"{'step':16} {'baseline':>10} {'now':>10} {'change':>8}")
    for name, now in counts.items():
        before = baseline.get(name)
        if before is None:
            wrong.append(f"{name} has no baseline")
            print(f"{name:16} {'–':>10} {now:10.1f}")
            continue
        change = now / before - 1
        print(f"{name:16} {before:10.1f} {now:10.1f} {change:+8.1%}{'  <<<' if change > LIMIT else ''}")
        if change > LIMIT:
            wrong.append(f"{name} takes {change:.1%} more instructions than its baseline ({before:.0f}, now {now:.0f})")
        elif change < -LIMIT:
            print(f"{'':16} that is better than the baseline: keep it with tests/counts/run.sh --update")
    wrong += [f"{name} has a baseline but is no step" for name in baseline.keys() - counts.keys()]
    return wrong


def main():
    parser = argparse.ArgumentParser(prog="tests/counts/run.sh", description="Counts instructions per command.")
    parser.add_argument("--update", action="store_true", help="write what is counted to baseline.txt")
    parser.add_argument("steps", nargs="*", help="count these steps alone")
    args = parser.parse_args()
    began = time.monotonic()
    compiler = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    counts = count_all(args.steps or steps())
    was_compiler, baseline = read_baseline()
    if args.update:
        write_baseline(compiler, counts if not args.steps else baseline | counts)
        print(f"{BASELINE.name} written: say in the commit why the counts moved")
        return 0
    if args.steps:
        baseline = {name: baseline[name] for name in args.steps if name in baseline}
    wrong = compare(counts, baseline)
    print()
    for sentence in wrong:
        print(f"FAILED {sentence}")
    if wrong:
        if compiler != was_compiler:
            print(f"The baseline is of {was_compiler}, this build of {compiler}: first see what the compiler alone changes,")
            print("by --update on the commit before yours.")
        print("If the change is worth it, or the step's input is another: tests/counts/run.sh --update, and say why in the commit.")
    # As pytest would say it: tests/run.sh adds these up.
    print(f"=== {len(counts) - len(wrong)} passed, {len(wrong)} failed in {time.monotonic() - began:.1f}s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
