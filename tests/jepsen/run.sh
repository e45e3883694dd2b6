#!/usr/bin/env bash
# Runs clients against a real cluster while it is hurt, and judges what they saw. See README.md.
#
#   tests/jepsen/run.sh --workload register --nemesis kill-leader --seconds 20 --seed 1
#   tests/jepsen/run.sh short | all | betrayed | redis | table | again | elle
#
# QUORIS_BIN=FILE tests that server instead of building one; QUORIS_TEST_PORTS=27000-28000 chooses the ports.
set -euo pipefail
JEPSEN_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../tools.sh
source "$JEPSEN_DIR/../tools.sh"

tools_python
case ${1:-one} in
table | again | elle | -h | --help) ;;
redis) tools_redis ;;
*)
    tools_apt cc gcc libc6-dev
    [[ -n ${QUORIS_BIN:-} ]] || (cd "$JEPSEN_DIR/../.." && cargo build --release --locked --package quoris)
    ;;
esac
export PYTHONPATH=$JEPSEN_DIR:$TESTS_DIR/e2e PYTHONDONTWRITEBYTECODE=1
exec "$PYTHON" "$JEPSEN_DIR/main.py" "$@"
