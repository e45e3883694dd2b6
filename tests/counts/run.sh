#!/usr/bin/env bash
# Counts instructions per command and compares them with baseline.txt. See README.md.
set -euo pipefail
COUNTS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../tools.sh
source "$COUNTS_DIR/../tools.sh"

tools_apt valgrind valgrind
cd "$COUNTS_DIR/../.."
cargo build --release --locked --package quoris-counts
exec python3 -B "$COUNTS_DIR/counts.py" "$@"
