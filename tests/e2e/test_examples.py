"""The examples, run as a person runs them but shorter; and their checkers on scripts that are broken."""

import os
import subprocess

import pytest

from cluster import REPO, binary, free_port, is_free

SECONDS, KILLS = 6, 2
LIMIT_S = 120.0
EXAMPLES = REPO / "examples"


def run(*words):
    """The exit code and what was printed."""
    base = free_port()
    while not all(is_free(base + n) and is_free(base + n + 10000) for n in range(3)):
        base = free_port()
    command = [EXAMPLES / "run.sh", *map(str, words), "--base-port", str(base)]
    environment = {**os.environ, "QUORIS_BIN": binary()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    print(done.stdout, done.stderr)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("example", ["inventory", "payments", "leaderboard"])
def test_an_example_keeps_its_promise_while_leaders_are_killed(example):
    code, text = run(example, "--seconds", SECONDS, "--kills", KILLS, "--clients", 64)
    assert code == 0
    assert text.count("kill -9") == KILLS


@pytest.mark.parametrize(
    "example, script, line, told",
    [
        ("inventory", "buy.lua", "DECRBY", "is not the initial"),
        ("payments", "transfer.lua", "'HINCRBY', balances, from", "the balances' sum is"),
        ("leaderboard", "score.lua", "'XADD', history", "are not the sum of their history"),
    ],
)
def test_a_checker_notices_a_script_that_lacks_a_line(example, script, line, told, tmp_path):
    lines = (EXAMPLES / example / script).read_text().splitlines(keepends=True)
    broken = [one for one in lines if line not in one]
    assert len(broken) == len(lines) - 1
    (tmp_path / script).write_text("".join(broken))
    code, text = run(example, "--seconds", 1, "--kills", 0, "--clients", 8, "--script", tmp_path / script)
    assert code == 1 and told in text
