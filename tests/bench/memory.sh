#!/usr/bin/env bash
# Measures what keys take in memory, in quoris's engine and in Debian's redis-server, and prints a Markdown table.
# Arguments: kinds (string, hash, set, zset, list); all of them without any. Exit code 1 if one takes too much.
set -euo pipefail
BENCH_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../tools.sh
source "$BENCH_DIR/../tools.sh"

tools_redis
(cd "$BENCH_DIR/../.." && cargo build --release --locked --quiet -p quoris-engine --example memory)
exec python3 "$BENCH_DIR/memory.py" "$@"
