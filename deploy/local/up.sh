#!/usr/bin/env bash
# Starts a quoris cluster on this machine and waits until it serves.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

show_help() {
    cat <<HELP
Usage: up.sh [--nodes N] [--groups N] [--base-port P] [--data DIR] [--fresh]

  --nodes N       nodes to run (3)
  --groups N      Raft groups the hash slots are spread over (3)
  --base-port P   Redis clients connect to P, P+1, … (7001); the peers use the same + 10000
  --data DIR      where configurations, data, logs and pids go (data/local in the repository)
  --fresh         stop what runs there and start from empty data

A data directory remembers its cluster: without options, up.sh starts again what was there, with the nodes that
'node.sh add' and 'node.sh remove' have made of it, and starting what already runs does nothing. QUORIS_BIN=FILE runs that binary instead of building one.
HELP
}

# settle NAME OPTION ASKED STORED DEFAULT: what was asked for, unless the existing cluster says otherwise.
settle() {
    if [[ -n $4 && -n $3 && $((10#$3)) != "$4" ]]; then
        usage_error "$2 $3: the cluster in $data has $4 (start over with --fresh, or use another --data)"
    fi
    printf -v "$1" '%d' "$((10#${3:-${4:-$5}}))"
}

nodes='' groups='' base_port='' data=$DEFAULT_DATA fresh=no
while (($#)); do
    case $1 in
    --help | -h) show_help && exit ;;
    --fresh) fresh=yes && shift && continue ;;
    --nodes | --groups | --base-port | --data) (($# > 1)) || usage_error "$1 needs a value" ;;
    *) usage_error "unknown option '$1'" ;;
    esac
    case $1 in
    --nodes) need_count "$1" "$2" 1 $MOST_NODES && nodes=$2 ;;
    --groups) need_count "$1" "$2" 1 1024 && groups=$2 ;;
    --base-port) need_count "$1" "$2" 1024 55000 && base_port=$2 ;;
    --data) data=$2 ;;
    esac
    shift 2
done

[[ $data == /* ]] || data=$PWD/$data
NODES=() LAST_NODE='' GROUP_COUNT='' BASE_PORT=''
if load_cluster "$data"; then
    if [[ $fresh == yes ]]; then
        mapfile -t all < <(seq 1 "$LAST_NODE")
        stop_nodes "$data" "${all[@]}"
        # Only what up.sh made goes; a --data that points at something else by mistake keeps its files.
        rm -rf "$data"/node-[0-9]* "$data/cluster.env"
        NODES=() LAST_NODE='' GROUP_COUNT='' BASE_PORT=''
    fi
elif [[ -n $(ls -A "$data" 2>/dev/null) ]]; then
    die "$data is not empty and holds no cluster of up.sh; choose another --data"
fi
node_count='' existing=${#NODES[@]}
settle node_count --nodes "$nodes" "${existing#0}" 3
settle GROUP_COUNT --groups "$groups" "$GROUP_COUNT" 3
settle BASE_PORT --base-port "$base_port" "$BASE_PORT" 7001

binary=$(quoris_binary)
mkdir -p "$data"
data=$(cd "$data" && pwd)
if ((existing == 0)); then
    mapfile -t NODES < <(seq 1 "$node_count")
    LAST_NODE=$node_count
    save_cluster "$data"
fi

started=()
for n in "${NODES[@]}"; do
    if node_pid "$data" "$n" >/dev/null; then
        echo "node $n already runs on $(client_addr "$n")"
        continue
    fi
    write_node_config "$data" "$n"
    start_node "$data" "$n" "$binary"
    started+=("$n")
    echo "node $n started on $(client_addr "$n"), log $data/node-$n/node.log"
done

if ! wait_cluster_ready "$data" "$binary"; then
    # A cluster that did not come up leaves nothing behind that this call started.
    if ((${#started[@]})); then stop_nodes "$data" "${started[@]}"; fi
    die "the cluster did not come up"
fi

option=''
[[ $data == "$DEFAULT_DATA" ]] || option=" --data ${data@Q}"
here=$LOCAL_DIR first=${NODES[0]}
[[ $PWD == "$REPO_DIR" ]] && here=./deploy/local
cat <<NEXT

${#NODES[@]} nodes, $GROUP_COUNT groups. Try next:
  redis-cli -c -p $((BASE_PORT + first - 1)) set greeting hello
  $binary ctl --addr $(client_addr "$first") status
  $here/node.sh kill $first$option      kill -9 a node; 'start $first' brings it back
  $here/node.sh add$option         one node more; 'remove N' takes one out
  $here/demo.sh$option             kill leaders under load and count what was lost
  $here/down.sh$option             stop everything; the data stays
NEXT
