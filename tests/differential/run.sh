#!/usr/bin/env bash
# Compares quoris with redis-server 7.0, command by command. Arguments go to differential.py (--help shows them).
#
# QUORIS_BIN=FILE compares that server instead of building one.
set -euo pipefail
DIFFERENTIAL_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../tools.sh
source "$DIFFERENTIAL_DIR/../tools.sh"

tools_redis
command -v python3 >/dev/null || tools_apt python3 python3
bin=${QUORIS_BIN:-}
if [[ -z $bin ]]; then
    (cd "$DIFFERENTIAL_DIR/../.." && cargo build --release --locked -p quoris)
    bin=${CARGO_TARGET_DIR:-$DIFFERENTIAL_DIR/../../target}/release/quoris
fi
PYTHONDONTWRITEBYTECODE=1 exec python3 "$DIFFERENTIAL_DIR/differential.py" --binary "$bin" "$@"
