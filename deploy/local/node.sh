#!/usr/bin/env bash
# Plays with one node of the local cluster (start, stop, kill -9, SIGSTOP, SIGCONT), adds one, and takes one out.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

show_help() {
    cat <<HELP
Usage: node.sh start|stop|kill|pause|resume|remove N [--data DIR]
       node.sh add [--data DIR]

  start    start node N again, on the data it has
  stop     graceful: hands its leaderships over first (SIGTERM)
  kill     kill -9
  pause    SIGSTOP: the node falls silent, its connections stay open
  resume   SIGCONT
  add      a new node, under a number that none has had: makes it a member, starts it, waits until it votes in every group
  remove   takes node N out for good, running or not: waits until no group counts on it and its process is gone

While clients go on; docs/guide/changing-nodes.md has the whole story.
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
verb=${words[0]:-}
case $verb in
add) ((${#words[@]} == 1)) || usage_error "add takes no node: the number is the next one" ;;
start | stop | kill | pause | resume | remove) ((${#words[@]} == 2)) || usage_error "takes a verb and a node" ;;
'') usage_error "takes a verb and a node" ;;
*) usage_error "unknown verb '$verb'" ;;
esac
load_cluster "$data" || die "no cluster in $data: run up.sh first"
data=$(cd "$data" && pwd)

# ask_ctl WORDS…: `quoris ctl` by way of a node that answers, but not of node `n`.
ask_ctl() {
    local through addr
    for through in "${NODES[@]}"; do
        [[ $through != "$n" && $(node_state "$data" "$through") == running ]] || continue
        addr=$(client_addr "$through")
        "$binary" ctl --addr "$addr" status >/dev/null 2>&1 || continue
        "$binary" ctl --addr "$addr" "$@" >/dev/null
        return
    done
    echo "no other node answers" >&2
    return 1
}

add_node() {
    local addr before=("${NODES[@]}") addrs
    n=$((LAST_NODE + 1))
    ((${#NODES[@]} < MOST_NODES)) || die "a cluster has at most $MOST_NODES nodes"
    for addr in "$(client_addr "$n")" "$(peer_addr "$n")"; do
        if (exec 3<>"/dev/tcp/${addr%:*}/${addr#*:}") 2>/dev/null; then die "node $n: $addr is in use"; fi
    done
    ask_ctl status || die "node $n has nobody to join"
    # Before it is asked for: what is not known to be done may be done.
    LAST_NODE=$n
    save_cluster "$data"
    ask_ctl add-node "$(member "$n")" || die "node $n is not known to be a member; the next 'add' takes another number"
    NODES+=("$n")
    save_cluster "$data"
    write_node_config "$data" "$n"
    echo "node $n is a member, besides ${before[*]}"
    start_node "$data" "$n" "$binary"
    echo "node $n started on $(client_addr "$n"), log $data/node-$n/node.log"
    mapfile -t addrs < <(all_client_addrs)
    wait_for "$data" "$binary" votes "$n" -- "$n" "${addrs[@]}" || die "node $n is a member, and does not vote everywhere yet"
}

remove_node() {
    local left=() other
    ask_ctl remove-node "$n" || die "node $n is not out"
    for other in "${NODES[@]}"; do [[ $other == "$n" ]] || left+=("$other"); done
    NODES=("${left[@]}")
    save_cluster "$data"
    echo "node $n is out of all groups; left are ${NODES[*]}"
    if pid=$(node_pid "$data" "$n"); then
        # One that is paused cannot hear of it.
        kill -CONT "$pid" 2>/dev/null || true
        if ! wait_node_gone "$data" "$n" "$STOP_LIMIT_S"; then
            show_log_tail "$data" "$n" >&2
            die "node $n (pid $pid) has not stopped by itself"
        fi
        echo "node $n has stopped by itself"
    fi
    rm -f "$data/node-$n/pid"
    echo "its files are in $data/node-$n; nothing needs them any more"
}

if [[ $verb == add ]]; then
    binary=$(quoris_binary)
    add_node
    exit
fi
need_count "the node" "${words[1]}" 1 "$LAST_NODE"
n=$((10#${words[1]}))
is_member "$n" || die "node $n was removed; the nodes are ${NODES[*]}"
if [[ $verb == remove ]]; then
    binary=$(quoris_binary)
    remove_node
    exit
fi
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
