#!/usr/bin/env bash
# Measures three-node quoris beside Debian's redis-server and etcd on this machine. See README.md for what and how.
set -euo pipefail
BENCH_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../tools.sh
source "$BENCH_DIR/../tools.sh"

tools_redis
tools_etcd
tools_python
cd "$BENCH_DIR/../.."
packages=(--package quoris-bench-load)
[[ -n ${QUORIS_BIN:-} ]] || packages+=(--package quoris)
cargo build --release --locked "${packages[@]}"
exec "$PYTHON" -B "$BENCH_DIR/bench.py" "$@"
