#!/usr/bin/env bash
# Runs every test of the project; installs what they need first. Exit code 1 if any failed.
#
# Each suite's output goes to tests/out/SUITE.log and to the screen. The last line is "N passed, N failed".
set -euo pipefail
RUN_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=tools.sh
source "$RUN_DIR/tools.sh"
cd "$RUN_DIR/.."

SUITES=(unit counts sim e2e differential jepsen)

show_help() {
    cat <<HELP
Usage: tests/run.sh [--only SUITE]… [-- PYTEST_ARGUMENT…]

  --only SUITE   run this suite alone (${SUITES[*]}); may be repeated
  -- …           further arguments for the end-to-end tests, such as: -k failover --kills 50 -s

QUORIS_BIN=FILE runs the end-to-end, differential and jepsen tests against that server instead of building one.
HELP
}

only=() pytest_arguments=()
while (($#)); do
    case $1 in
    --help | -h) show_help && exit ;;
    --only)
        [[ " ${SUITES[*]} " == *" ${2:-} "* ]] || { echo "run.sh: --only takes one of: ${SUITES[*]}" >&2 && exit 2; }
        only+=("$2")
        shift 2
        ;;
    --) shift && pytest_arguments=("$@") && break ;;
    *) echo "run.sh: unknown option '$1' (--help shows what it takes)" >&2 && exit 2 ;;
    esac
done
((${#only[@]})) || only=("${SUITES[@]}")

suite_unit() {
    cargo test --workspace --locked --exclude quoris-sim
}

# Instructions per command, beside their baseline: a step that takes a tenth more fails.
suite_counts() {
    tests/counts/run.sh
}

# The simulator: its own tests (the meta-test, the planted bugs) and the seeds. What it runs is decided here alone.
suite_sim() {
    cargo test --locked --package quoris-sim
}

suite_e2e() {
    local packages=(--package quoris-e2e-redis-rs)
    [[ -n ${QUORIS_BIN:-} ]] || packages+=(--package quoris)
    # In steps: a failed build must not let the tests run against an older binary.
    tools_redis && tools_python && tools_ioredis || return 1
    cargo build --release --locked "${packages[@]}" || return 1
    (cd tests/e2e && PYTHONDONTWRITEBYTECODE=1 "$PYTHON" -m pytest "${pytest_arguments[@]}")
}

# Random commands beside redis-server: a sample of what tests/differential/run.sh does for as long as one likes.
suite_differential() {
    tests/differential/run.sh --commands 60000 --seed 1
}

# The checkers against known histories, then histories of a real cluster (minutes; `tests/jepsen/run.sh all` takes hours).
suite_jepsen() {
    tools_python || return 1
    (cd tests/jepsen && PYTHONDONTWRITEBYTECODE=1 "$PYTHON" -m pytest -p no:cacheprovider selftest) || return 1
    tests/jepsen/run.sh short
}

# count WORD FILE: the sum of the numbers before WORD in the summary lines of cargo test and pytest.
count() {
    awk -v word="$1" '
        /^test result:/ || /^=+ .*(passed|failed|error|skipped|deselected|no tests ran).* in [0-9.]+s/ {
            for (i = 2; i <= NF; i++) { if ($i ~ "^" word "[,;.]?$") { sum += $(i - 1) } }
        }
        END { print sum + 0 }' "$2"
}

mkdir -p tests/out
passed=0 failed=0 summary=()
for suite in "${SUITES[@]}"; do
    [[ " ${only[*]} " == *" $suite "* ]] || continue
    log=tests/out/$suite.log
    echo "=== $suite"
    began=$SECONDS status=0
    # A subshell without -e: the suite's own exit code is what counts, and tee must not hide it.
    (set -o pipefail && "suite_$suite" 2>&1 | tee "$log") || status=$?
    good=$(count passed "$log")
    bad=$(($(count failed "$log") + $(count 'errors?' "$log")))
    # A suite that fails without naming a test (a build that breaks, a crash) is one failure.
    if ((status != 0 && bad == 0)); then bad=1; fi
    passed=$((passed + good)) failed=$((failed + bad))
    summary+=("$(printf '%-12s %5d passed %4d failed %6d s' "$suite" "$good" "$bad" $((SECONDS - began)))")
done

echo
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
