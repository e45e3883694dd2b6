#!/usr/bin/env python3
"""Runs the unit files of Redis's own test suite against a running server.

Counts what passes against reference.txt, how many tests of each file redis-server passes in the same way, and lists what
fails although skip.txt does not name it."""
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
# Where the suite's own server listens, behind the tested one's port, so that two runs do not meet.
SUITE_PORT_OFFSET = 64
# Files that keep off servers which they have not started, though their first part needs none of its own; they leave users behind.
OF_USERS = ("unit/acl", "unit/acl-v2")
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


def reference():
    """{file: how many of its tests redis-server passes}."""
    lines = (HERE / "reference.txt").read_text().splitlines()
    pairs = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return {file: int(count) for file, count in pairs}


def write_reference(passed):
    head = ("# How many tests of each file redis-server 7.0.15 passes in cluster mode, as one node with all slots:\n"
            "# tests/compat/run.sh --reference\n")
    (HERE / "reference.txt").write_text(head + "".join(f"{file}\t{count}\n" for file, count in passed.items()))


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
    for file in OF_USERS:
        path = folder / f"tests/{file}.tcl"
        head, end, rest = path.read_text(encoding="latin-1").partition("\n")
        path.write_text(head.replace("external:skip", "") + end + rest, encoding="latin-1")


def forget_users(host, port):
    """Removes what a file has left: users, and settings of theirs."""
    def ask(*words):
        done = subprocess.run(["redis-cli", "-h", host, "-p", str(port), *words], text=True, capture_output=True, check=True)
        return done.stdout.split()

    for user in ask("acl", "users"):
        if user != "default":
            ask("acl", "deluser", user)
    ask("acl", "setuser", "default", "reset", "on", "nopass", "~*", "&*", "+@all")
    ask("config", "set", "acllog-max-len", "128")


def run_file(folder, host, port, file, skipped, log):
    """[(status, test)] of one unit file, and whether it ran to its end."""
    names = folder / "skipped"
    names.write_text("".join(f"{test}\n" for test in skipped), encoding="latin-1")
    command = ["tclsh", "tests/test_helper.tcl", "--host", host, "--port", str(port), "--single", file,
               "--baseport", str(port + SUITE_PORT_OFFSET), "--cluster-mode", "--tags", "-slow",
               "--timeout", str(TEST_SECONDS), "--skipfile", str(names)]
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
    parser.add_argument("--write-reference", action="store_true", help="the server is redis-server: note what it passes")
    parser.add_argument("--out", type=Path, default=HERE / "out", help="where the suite's own output goes")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    reasons = {} if arguments.all or arguments.write_reference else skips()
    passed, explained, unexplained = {}, [], []
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
            if file in OF_USERS:
                forget_users(arguments.host, arguments.port)
            count = {status: sum(got == status for got, _ in results) for status in ("ok", "err", "skip")}
            passed[file] = count["ok"]
            print(f"{file}: {count['ok']} passed, {count['err']} failed, {count['skip']} skipped"
                  + ("" if whole else f"; did not run to its end, see {log}"), flush=True)
            failed = list(dict.fromkeys(test for status, test in results if status == "err"))
            failed += [] if whole else ["(the file did not run to its end)"]
            for test in failed:
                print(f"  failed: {test}", flush=True)
            unexplained += [(file, test) for test in failed]
            explained += [(file, test) for status, test in results if status == "skip" and test in skipped]
    if arguments.write_reference:
        write_reference(passed)
    else:
        summarize(passed, explained, unexplained, whole_suite=not arguments.files)
    return 1 if unexplained else 0


def summarize(passed, explained, unexplained, whole_suite):
    counts = reference()
    files = counts if whole_suite else passed
    total = sum(counts.get(file, 0) for file in files)
    done = sum(min(count, counts.get(file, 0)) for file, count in passed.items())
    share = f" ({100 * done / total:.1f} %)" if total else ""
    print(f"{done} passed of the {total} that redis-server passes{share}; {len(explained)} not run, as skip.txt says; "
          f"{len(unexplained)} failed that it does not explain")
    for file, test in unexplained:
        print(f"  {file}: {test}")


if __name__ == "__main__":
    sys.exit(main())
