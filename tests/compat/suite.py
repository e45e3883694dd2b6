#!/usr/bin/env python3
"""Runs the unit files of Redis's own test suite against a running server and compares with skip.txt."""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULT = re.compile(r"^\[(ok|err|skip|exception)\]: (.*?)(?: \(\d+ ms\))?(?: in tests/\S+\.tcl)?$")
FILE_SECONDS = 600
# Seconds without progress before the suite gives a test up as hung.
TEST_SECONDS = 60


def skips():
    """{(file, test): reason} of skip.txt; a `*` for the test skips the file."""
    found = {}
    for line in (HERE / "skip.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            file, test, reason = line.split("\t")
            found[file, test] = reason
    return found


def prepare(suite, folder):
    """A copy of the suite's tests that sources our shim."""
    shutil.copytree(suite / "tests", folder / "tests")
    (folder / "tests/tmp").mkdir(exist_ok=True)
    (folder / "src").symlink_to(suite / "src")
    shutil.copy(HERE / "shim.tcl", folder / "tests/shim.tcl")
    helper = folder / "tests/test_helper.tcl"
    text = helper.read_text(encoding="latin-1")
    before, mark, after = text.partition("# parse arguments\n")
    assert mark, "the suite has changed: no place for the shim"
    helper.write_text(before + "source tests/shim.tcl\n" + mark + after, encoding="latin-1")


def run_file(folder, host, port, file, skipped, log):
    """[(status, test)] of one unit file, and whether it ran to its end."""
    names = folder / "skipped"
    names.write_text("".join(f"{test}\n" for test in skipped), encoding="latin-1")
    command = ["tclsh", "tests/test_helper.tcl", "--host", host, "--port", str(port), "--single", file,
               "--cluster-mode", "--tags", "-slow", "--timeout", str(TEST_SECONDS), "--skipfile", str(names)]
    with log.open("wb") as out:
        try:
            subprocess.run(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, timeout=FILE_SECONDS,
                           env={**os.environ, "TERM": "dumb"})
        except subprocess.TimeoutExpired:
            pass
    text = log.read_text(encoding="latin-1")
    # Behind this line the suite repeats the failures.
    body = text.partition("The End")[0]
    results = [match.groups() for match in map(RESULT.match, body.splitlines()) if match]
    return results, " done]: " in body


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path, help="root of Redis's source tree")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--files", nargs="*", help="these unit files alone, e.g. unit/type/list")
    parser.add_argument("--all", action="store_true", help="run what skip.txt leaves out, too")
    parser.add_argument("--out", type=Path, default=HERE / "out", help="where the suite's own output goes")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    reasons = {} if arguments.all else skips()
    counts = {"ok": 0, "err": 0, "skip": 0}
    ended = True
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(arguments.suite.resolve(), folder)
        listed = subprocess.run(["tclsh", "tests/test_helper.tcl", "--list-tests"], cwd=folder, text=True,
                                capture_output=True, check=True).stdout.split()
        for file in arguments.files or [name for name in listed if name.startswith("unit/")]:
            if (file, "*") in reasons:
                print(f"{file}: left out: {reasons[file, '*']}", flush=True)
                continue
            skipped = [test for (where, test) in reasons if where == file]
            log = arguments.out / (file.replace("/", "_") + ".log")
            results, whole = run_file(folder, arguments.host, arguments.port, file, skipped, log)
            mine = {status: sum(got == status for got, _ in results) for status in counts}
            for status, count in mine.items():
                counts[status] += count
            ended &= whole
            print(f"{file}: {mine['ok']} passed, {mine['err']} failed, {mine['skip']} skipped"
                  + ("" if whole else f"; did not run to its end, see {log}"), flush=True)
            for test in dict.fromkeys(test for status, test in results if status == "err"):
                print(f"  failed: {test}", flush=True)
    print(f"{counts['ok']} passed, {counts['err']} failed, {counts['skip']} skipped")
    return 0 if ended and not counts["err"] else 1


if __name__ == "__main__":
    sys.exit(main())
