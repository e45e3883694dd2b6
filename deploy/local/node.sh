#!/usr/bin/env bash
# Plays with one node of the local cluster: start, stop, kill -9, SIGSTOP, SIGCONT.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

show_help() {
    cat <<HELP
Usage: node.sh start|stop|kill|pause|resume N [--data DIR]

  start    start node N again, on the data it has
  stop     graceful: hands its leaderships over first (SIGTERM)
  kill     kill -9
  pause    SIGSTOP: the node falls silent, its connections stay open
  resume   SIGCONT
HELP
}

data=$DEFAULT_DATA words=()
while (($#)); do
    case $1 in
    --help | -h) show_help && exit ;;
    --data)
        (($# > 1)) || usage_error "$1 needs a value"
        data=$2
        shift 2
        ;;
    -*) usage_error "unknown option '$1'" ;;
    *) words+=("$1") && shift ;;
    esac
done
((${#words[@]} == 2)) || usage_error "takes a verb and a node"
verb=${words[0]} n=${words[1]}
[[ $verb =~ ^(start|stop|kill|pause|resume)$ ]] || usage_error "unknown verb '$verb'"
load_cluster "$data" || die "no cluster in $data: run up.sh first"
data=$(cd "$data" && pwd)
need_count "the node" "$n" 1 "$NODE_COUNT"
n=$((10#$n))
pid=$(node_pid "$data" "$n") || pid=''

if [[ $verb == start ]]; then
    if [[ -n $pid ]]; then
        echo "node $n already runs (pid $pid)"
        exit
    fi
    binary=$(quoris_binary)
    start_node "$data" "$n" "$binary"
    # A refusal (a port in use, a damaged log) comes at once; say it here instead of in a log nobody opens.
    sleep 0.3
    if ! pid=$(node_pid "$data" "$n"); then
        show_log_tail "$data" "$n" >&2
        die "node $n exited at once"
    fi
    echo "node $n started (pid $pid) on $(client_addr "$n")"
    exit
fi

if [[ -z $pid ]]; then
    echo "node $n does not run"
    [[ $verb == stop || $verb == kill ]] && exit
    exit 1
fi
case $verb in
stop)
    stop_nodes "$data" "$n"
    echo "node $n stopped"
    ;;
kill)
    kill -KILL "$pid"
    wait_node_gone "$data" "$n" 5 || die "node $n (pid $pid) survives kill -9"
    rm -f "$data/node-$n/pid"
    echo "node $n killed with -9 (pid $pid)"
    ;;
pause)
    kill -STOP "$pid"
    echo "node $n paused (pid $pid)"
    ;;
resume)
    kill -CONT "$pid"
    echo "node $n resumed (pid $pid)"
    ;;
esac
