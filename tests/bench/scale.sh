#!/usr/bin/env bash
# Measures what grows with keys (memory, snapshots, restarts) and with groups. See README.md.
set -euo pipefail
BENCH_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../tools.sh
source "$BENCH_DIR/../tools.sh"

tools_python
cd "$BENCH_DIR/../.."
packages=(--package quoris-bench-load)
[[ -n ${QUORIS_BIN:-} ]] || packages+=(--package quoris)
cargo build --release --locked "${packages[@]}"
exec "$PYTHON" -B "$BENCH_DIR/scale.py" "$@"
