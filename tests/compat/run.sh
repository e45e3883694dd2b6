#!/usr/bin/env bash
# Runs Redis's own test suite against one node of quoris with one group. Arguments go to suite.py.
#
# QUORIS_BIN=FILE tests that server; PORT=N is its port (PORT+10000 must be free, too).
set -euo pipefail
COMPAT_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../tools.sh
source "$COMPAT_DIR/../tools.sh"

VERSION=7.0.15
SUITE=${SUITE:-$TOOLS_DIR/redis-$VERSION}
PORT=${PORT:-25180}

# The suite is not part of this repository: Debian's source package has it.
fetch_suite() {
    [[ -f $SUITE/tests/test_helper.tcl ]] && return
    mkdir -p "$TOOLS_DIR/redis-source"
    (cd "$TOOLS_DIR/redis-source" && apt-get source --download-only "redis=5:$VERSION*") ||
        tools_fail "apt-get source redis failed; enable deb-src in apt's sources and run apt-get update"
    tar -xzf "$TOOLS_DIR/redis-source/redis_$VERSION.orig.tar.gz" -C "$TOOLS_DIR"
}

tools_apt tclsh tcl
tools_redis
fetch_suite
bin=${QUORIS_BIN:-}
if [[ -z $bin ]]; then
    (cd "$COMPAT_DIR/../.." && cargo build --locked -p quoris)
    bin=${CARGO_TARGET_DIR:-$COMPAT_DIR/../../target}/debug/quoris
fi

# The suite looks for Redis's tools under src/.
mkdir -p "$SUITE/src"
for tool in redis-cli redis-benchmark; do
    [[ -e $SUITE/src/$tool ]] || ln -s "$(command -v $tool)" "$SUITE/src/$tool"
done

scratch=$(mktemp -d)
"$bin" serve --node-id 1 --initial-cluster "1=127.0.0.1:$PORT@127.0.0.1:$((PORT + 10000))" --groups 1 \
    --data-dir "$scratch/data" --enable-debug-command yes >"$scratch/node.log" 2>&1 &
node=$!
trap 'kill $node 2>/dev/null || true; wait $node || true; rm -rf "$scratch"' EXIT
for ((i = 0; i < 100; i++)); do
    [[ $(redis-cli -p "$PORT" set ready 1 2>/dev/null) == OK ]] && break
    sleep 0.2
done
((i < 100)) || { cat "$scratch/node.log" >&2; tools_fail "the node did not start"; }
python3 "$COMPAT_DIR/suite.py" "$SUITE" 127.0.0.1 "$PORT" "$@"
