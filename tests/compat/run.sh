#!/usr/bin/env bash
# Runs Redis's own test suite against one node of quoris with one group. Arguments go to suite.py; `--reference` alone runs it
# against redis-server instead, and notes in reference.txt what that passes.
#
# QUORIS_BIN=FILE tests that server; PORT=N is its port (PORT+10000 must be free, too).
set -euo pipefail
COMPAT_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../tools.sh
source "$COMPAT_DIR/../tools.sh"

VERSION=7.0.15
SUITE=${SUITE:-$TOOLS_DIR/redis-$VERSION}
PORT=${PORT:-25180}

# The suite is not part of this repository: Debian's source package has it. It is looked for where this machine's packages come
# from, by lists of our own: nothing of the system's is changed, and no deb-src entry is needed.
fetch_suite() {
    [[ -f $SUITE/tests/test_helper.tcl ]] && return
    local apt=$TOOLS_DIR/apt file
    rm -rf "$apt"
    mkdir -p "$apt/parts" "$apt/lists/partial" "$apt/cache/archives/partial" "$TOOLS_DIR/redis-source"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
        if [[ -f $file ]] && grep -q debian "$file"; then
            sed -e 's/^Types:.*/Types: deb-src/' -e 's/^deb /deb-src /' "$file" >"$apt/parts/${file##*/}"
        fi
    done
    local options=(-o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$apt/parts" -o "Dir::State::Lists=$apt/lists"
        -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=)
    apt-get -qq "${options[@]}" update || tools_fail "apt-get update failed"
    (cd "$TOOLS_DIR/redis-source" && apt-get -qq "${options[@]}" source --download-only redis) ||
        tools_fail "apt-get source redis failed"
    tar -xzf "$TOOLS_DIR/redis-source/redis_$VERSION.orig.tar.gz" -C "$TOOLS_DIR" ||
        tools_fail "this Debian's redis is another one than $VERSION: give SUITE=DIR"
}

tools_apt tclsh tcl
tools_redis
fetch_suite

# The suite looks for Redis's tools under src/.
mkdir -p "$SUITE/src"
for tool in redis-cli redis-benchmark; do
    [[ -e $SUITE/src/$tool ]] || ln -s "$(command -v $tool)" "$SUITE/src/$tool"
done

scratch=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; wait || true; rm -rf "$scratch"' EXIT

start_quoris() {
    local bin=${QUORIS_BIN:-}
    if [[ -z $bin ]]; then
        (cd "$COMPAT_DIR/../.." && cargo build --locked --release -p quoris)
        bin=${CARGO_TARGET_DIR:-$COMPAT_DIR/../../target}/release/quoris
    fi
    # As in Redis: endless scripts are to be killed, not to end by their budget; and what two connections send without waiting
    # for each other runs in the order in which it arrives, which one thread keeps to.
    "$bin" serve --node-id 1 --initial-cluster "1=127.0.0.1:$PORT@127.0.0.1:$((PORT + 10000))" --groups 1 --threads 1 --script-instructions 1000000000000 \
        --data-dir "$scratch/data" --enable-debug-command yes >"$scratch/server.log" 2>&1 &
    server=$!
}

start_redis() {
    "$TOOLS_DIR/bin/redis-server" --port "$PORT" --dir "$scratch" --cluster-enabled yes --enable-debug-command yes \
        --save "" >"$scratch/server.log" 2>&1 &
    server=$!
    until redis-cli -p "$PORT" cluster addslotsrange 0 16383 >/dev/null 2>&1; do
        kill -0 $server || tools_fail "redis-server did not start"
        sleep 0.2
    done
}

# Until it serves.
await_server() {
    for ((i = 0; i < 100; i++)); do
        [[ $(redis-cli -p "$PORT" set ready 1 2>/dev/null) == OK ]] && return
        sleep 0.2
    done
    cat "$scratch/server.log" >&2
    tools_fail "the server did not start"
}

if [[ ${1:-} == --reference ]]; then
    start_redis
    await_server
    suite_arguments=(--write-reference)
else
    start_quoris
    await_server
    suite_arguments=("$@")
fi
python3 "$COMPAT_DIR/suite.py" "$SUITE" 127.0.0.1 "$PORT" "${suite_arguments[@]}"
