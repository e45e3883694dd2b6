#!/usr/bin/env bash
# Stops the local cluster gracefully; its data stays.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

data=$DEFAULT_DATA
while (($#)); do
    case $1 in
    --help | -h)
        echo "Usage: down.sh [--data DIR]     stops the cluster of up.sh; its data stays"
        exit
        ;;
    --data)
        (($# > 1)) || usage_error "$1 needs a value"
        data=$2
        shift 2
        ;;
    *) usage_error "unknown option '$1'" ;;
    esac
done

if ! load_cluster "$data"; then
    echo "nothing to stop: no cluster in $data"
    exit
fi
running=()
# A node that was removed may run still, if it was cut off.
for ((n = 1; n <= LAST_NODE; n++)); do
    if node_pid "$data" "$n" >/dev/null; then running+=("$n"); fi
done
if ((${#running[@]} == 0)); then
    echo "nothing to stop: no node of $data runs"
    exit
fi
stop_nodes "$data" "${running[@]}"
echo "stopped: node ${running[*]}"
