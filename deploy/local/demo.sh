#!/usr/bin/env bash
# Writes numbered records while killing leaders with -9, then counts what was lost. Exit code 1 if anything was.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=../../tests/tools.sh
source "$REPO_DIR/tests/tools.sh"

show_help() {
    cat <<HELP
Usage: demo.sh [--seconds N] [--writers N] [--data DIR]

  --seconds N   how long leaders are killed (25)
  --writers N   concurrent writers (4)
  --data DIR    the cluster to use if it runs (data/local)

If no cluster runs there, the demo starts its own on ports 7401, 7402, 7403 and removes it afterwards. A cluster
that was running is left running, and the demo's records are deleted from it.
HELP
}

seconds=25 writers=4 data=$DEFAULT_DATA
while (($#)); do
    case $1 in
    --help | -h) show_help && exit ;;
    --seconds | --writers | --data) (($# > 1)) || usage_error "$1 needs a value" ;;
    *) usage_error "unknown option '$1'" ;;
    esac
    case $1 in
    --seconds) need_count "$1" "$2" 1 3600 && seconds=$((10#$2)) ;;
    --writers) need_count "$1" "$2" 1 64 && writers=$((10#$2)) ;;
    --data) data=$2 ;;
    esac
    shift 2
done

# all_run DATA: every node of the cluster in DATA runs.
all_run() {
    local n
    load_cluster "$1" || return 1
    for n in "${NODES[@]}"; do node_pid "$1" "$n" >/dev/null || return 1; done
}

tools_python
binary=$(quoris_binary)
if all_run "$data"; then
    data=$(cd "$data" && pwd)
    echo "using the cluster in $data"
else
    data=$REPO_DIR/data/demo
    echo "starting a cluster of the demo's own in $data"
    trap '"$LOCAL_DIR/down.sh" --data "$data" && rm -rf "$data"' EXIT
    "$LOCAL_DIR/up.sh" --fresh --base-port 7401 --data "$data" >/dev/null
    load_cluster "$data"
fi
mapfile -t addrs < <(all_client_addrs)
# node.sh restarts what the demo kills; with the binary given it need not ask cargo each time.
QUORIS_BIN=$binary "$PYTHON" "$LOCAL_DIR/demo.py" --binary "$binary" --data "$data" \
    --seconds "$seconds" --writers "$writers" "${addrs[@]}"
