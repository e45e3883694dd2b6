#!/usr/bin/env bash
# Runs clients against a real cluster while it is hurt, and judges what they saw. See README.md.
#
#   tests/jepsen/run.sh --workload register --nemesis kill-leader --seconds 20 --seed 1
#   tests/jepsen/run.sh short | all | redis
#
# QUORIS_BIN=FILE tests that server instead of building one; QUORIS_TEST_PORTS=27000-28000 chooses the ports.
set -euo pipefail
JEPSEN_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../tools.sh
source "$JEPSEN_DIR/../tools.sh"

tools_python
tools_apt cc gcc libc6-dev
[[ " $* " != *" redis "* ]] || tools_redis
if [[ -z ${QUORIS_BIN:-} && " $* " != *" redis "* ]]; then
    (cd "$JEPSEN_DIR/../.." && cargo build --release --locked --package quoris)
fi
export PYTHONPATH=$JEPSEN_DIR:$TESTS_DIR/e2e PYTHONDONTWRITEBYTECODE=1
exec "$PYTHON" "$JEPSEN_DIR/main.py" "$@"
