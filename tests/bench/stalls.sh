#!/usr/bin/env bash
# Measures for how long big things (a value of 64 MB, a list of 10 million elements, …) keep other clients waiting. See README.md.
set -euo pipefail
BENCH_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$BENCH_DIR/../.."
packages=(--package quoris-bench-load)
[[ -n ${QUORIS_BIN:-} ]] || packages+=(--package quoris)
cargo build --release --locked "${packages[@]}"
exec python3 -B "$BENCH_DIR/stalls.py" "$@"
