#!/usr/bin/env bash
# Measures a three-node quoris beside Debian's redis-server on this machine. See README.md for what and how.
set -euo pipefail
BENCH_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../tools.sh
source "$BENCH_DIR/../tools.sh"

case ${1:-} in
--help | -h)
    echo "Usage: tests/bench/run.sh [--quick] [--out FILE]     prints a Markdown table; also under tests/bench/out/"
    exit
    ;;
esac
tools_redis
tools_python
cd "$BENCH_DIR/../.."
packages=(--package quoris-bench-load)
[[ -n ${QUORIS_BIN:-} ]] || packages+=(--package quoris)
cargo build --release --locked "${packages[@]}"
exec "$PYTHON" "$BENCH_DIR/bench.py" "$@"
