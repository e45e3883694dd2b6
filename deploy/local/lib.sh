# What up.sh, down.sh, node.sh and demo.sh share: where a local cluster's files are, and how its processes are
# started, found and stopped. Sourced, never run.
#
# A data directory holds one cluster:
#   cluster.env         what up.sh was told (group count, base port), which nodes there are now, the highest number ever given
#   node-N/quoris.toml  the node's configuration; `quoris serve --config` reads it
#   node-N/data/        the node's own files; nothing here looks inside
#   node-N/node.log     what the process printed, all starts appended
#   node-N/pid          "PID BIRTH" of the process; BIRTH tells it from a later process with the same number
#
# These scripts know the server only by its command line (`serve`, `ctl`) and by signals.
# shellcheck shell=bash

LOCAL_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO_DIR=$(cd "$LOCAL_DIR/../.." && pwd)
# shellcheck disable=SC2034 # used by the scripts that source this file
DEFAULT_DATA=$REPO_DIR/data/local
START_LIMIT_S=60
STOP_LIMIT_S=20
LOG_TAIL_LINES=15
# So many a cluster may have.
# shellcheck disable=SC2034
MOST_NODES=64

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# A mistake on the command line: one line, exit code 2.
usage_error() {
    echo "${0##*/}: $* (--help shows what it takes)" >&2
    exit 2
}

# need_count OPTION VALUE MIN MAX: refuses what is not a whole number in the range.
need_count() {
    if ! [[ $2 =~ ^[0-9]{1,5}$ ]] || ((10#$2 < $3 || 10#$2 > $4)); then
        usage_error "$1 takes a number from $3 to $4, got '$2'"
    fi
}

# Prints the path of the server: $QUORIS_BIN if set, else the release build, brought up to date by cargo.
quoris_binary() {
    if [[ -n ${QUORIS_BIN:-} ]]; then
        [[ -x $QUORIS_BIN ]] || die "QUORIS_BIN=$QUORIS_BIN is not an executable file"
        echo "$QUORIS_BIN"
        return
    fi
    command -v cargo >/dev/null || die "cargo not found: install Rust's toolchain, or set QUORIS_BIN to a built quoris"
    (cd "$REPO_DIR" && cargo build --release --locked --package quoris --bin quoris >&2) || die "the build failed"
    echo "${CARGO_TARGET_DIR:-$REPO_DIR/target}/release/quoris"
}

# Reads DATA/cluster.env into NODES, LAST_NODE, GROUP_COUNT, BASE_PORT; fails if there is no cluster there.
load_cluster() {
    [[ -f $1/cluster.env ]] || return 1
    local MEMBERS='' NODE_COUNT=''
    # shellcheck source=/dev/null
    source "$1/cluster.env"
    # Where nobody has ever changed the nodes there may be a count alone.
    if [[ -z $MEMBERS ]]; then MEMBERS=$(seq -s ' ' 1 "$NODE_COUNT") LAST_NODE=$NODE_COUNT; fi
    read -ra NODES <<<"$MEMBERS"
}

# Writes them there, whole or not at all.
save_cluster() {
    local env=$1/cluster.env
    printf 'MEMBERS="%s"\nLAST_NODE=%d\nGROUP_COUNT=%d\nBASE_PORT=%d\n' \
        "${NODES[*]}" "$LAST_NODE" "$GROUP_COUNT" "$BASE_PORT" >"$env.new"
    mv "$env.new" "$env"
}

# is_member N: it is one of NODES.
is_member() { [[ " ${NODES[*]} " == *" $1 "* ]]; }

client_addr() { echo "127.0.0.1:$((BASE_PORT + $1 - 1))"; }
peer_addr() { echo "127.0.0.1:$((BASE_PORT + 10000 + $1 - 1))"; }

# member N: as initial-cluster and `ctl add-node` name it.
member() { echo "$1=$(client_addr "$1")@$(peer_addr "$1")"; }

all_client_addrs() {
    local n
    for n in "${NODES[@]}"; do client_addr "$n"; done
}

# When process PID was started, in a form that only ever equals itself; empty if there is no such process.
process_birth() {
    if [[ -r /proc/$1/stat ]]; then
        sed -E 's/^.*\) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
    else
        ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' '_' || true
    fi
}

# process_state PID: its one-letter state (T is stopped, Z is dead but not yet collected).
process_state() { ps -o stat= -p "$1" 2>/dev/null | cut -c1 || true; }

# node_pid DATA N: prints the pid of the running node; fails if it is not running.
node_pid() {
    local pid birth
    [[ -f $1/node-$2/pid ]] || return 1
    read -r pid birth <"$1/node-$2/pid" || return 1
    [[ -n $birth && $(process_birth "$pid") == "$birth" && $(process_state "$pid") != Z ]] || return 1
    echo "$pid"
}

# node_state DATA N: running, paused or gone.
node_state() {
    local pid
    if ! pid=$(node_pid "$1" "$2"); then
        echo gone
    elif [[ $(process_state "$pid") == T ]]; then
        echo paused
    else
        echo running
    fi
}

write_node_config() {
    local data=$1 n=$2 members='' i processors
    processors=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
    for i in "${NODES[@]}"; do members+="${members:+,}$(member "$i")"; done
    mkdir -p "$data/node-$n"
    cat >"$data/node-$n/quoris.toml" <<TOML
# Written by deploy/local.
node_id = $n
cluster_id = "local"
listen = "$(client_addr "$n")"
peer_listen = "$(peer_addr "$n")"
data_dir = "$data/node-$n/data"
initial_cluster = "$members"
groups = $GROUP_COUNT
# The nodes share this machine.
threads = $((processors > ${#NODES[@]} ? processors / ${#NODES[@]} : 1))
TOML
}

# start_node DATA N BINARY: starts the node in the background; does not wait until it serves.
start_node() {
    local dir=$1/node-$2 pid launch=()
    mkdir -p "$dir"
    # A session of its own keeps a Ctrl-C in the caller's terminal from reaching the nodes.
    if command -v setsid >/dev/null; then launch=(setsid); fi
    "${launch[@]}" "$3" serve --config "$dir/quoris.toml" </dev/null >>"$dir/node.log" 2>&1 &
    pid=$!
    disown "$pid" 2>/dev/null || true
    echo "$pid $(process_birth "$pid")" >"$dir/pid"
}

# wait_node_gone DATA N SECONDS: succeeds as soon as the node is not running.
wait_node_gone() {
    local deadline=$((SECONDS + $3))
    while node_pid "$1" "$2" >/dev/null; do
        ((SECONDS < deadline)) || return 1
        sleep 0.05
    done
}

# stop_nodes DATA N…: graceful stop, all at once; what does not end in STOP_LIMIT_S is killed, and said.
stop_nodes() {
    local data=$1 n pid
    shift
    for n in "$@"; do
        pid=$(node_pid "$data" "$n") || continue
        kill -TERM "$pid" 2>/dev/null || true
        kill -CONT "$pid" 2>/dev/null || true
    done
    for n in "$@"; do
        if ! wait_node_gone "$data" "$n" "$STOP_LIMIT_S"; then
            echo "node $n did not stop within $STOP_LIMIT_S s; killing it"
            kill -KILL "$(node_pid "$data" "$n")" 2>/dev/null || true
            wait_node_gone "$data" "$n" 5 || die "node $n survives kill -9"
        fi
        rm -f "$data/node-$n/pid"
    done
}

show_log_tail() {
    echo "--- the last $LOG_TAIL_LINES lines of $1/node-$2/node.log"
    tail -n "$LOG_TAIL_LINES" "$1/node-$2/node.log" 2>/dev/null || echo "(no log)"
}

# wait_for DATA BINARY VERB NODES… -- WORDS…: until `status.py VERB BINARY WORDS…` is content. Prints one progress line; on
# failure shows the log of the node of NODES that is to blame, and returns 1.
wait_for() {
    local data=$1 binary=$2 verb=$3 began=$SECONDS n line last='' watched=()
    shift 3
    while [[ $1 != -- ]]; do watched+=("$1") && shift; done
    shift
    while true; do
        for n in "${watched[@]}"; do
            if ! node_pid "$data" "$n" >/dev/null; then
                echo "node $n exited while starting." >&2
                show_log_tail "$data" "$n" >&2
                return 1
            fi
        done
        line=$(python3 "$LOCAL_DIR/status.py" "$verb" "$binary" "$@") && break
        if ((SECONDS - began >= START_LIMIT_S)); then
            echo "not ready after $START_LIMIT_S s: $line" >&2
            for n in "${watched[@]}"; do show_log_tail "$data" "$n" >&2; done
            return 1
        fi
        # A terminal gets one line that changes; a file gets a line only when there is news.
        if [[ -t 1 ]]; then
            printf '\r\033[Kwaiting: %s (%d s)' "$line" $((SECONDS - began))
        elif [[ $line != "$last" ]]; then
            echo "waiting: $line"
        fi
        last=$line
        sleep 0.2
    done
    if [[ -t 1 ]]; then printf '\r\033[K'; fi
    echo "ready after $((SECONDS - began)) s: $line"
}

# Waits until every node of DATA answers and every group has a leader.
wait_cluster_ready() {
    local addrs
    mapfile -t addrs < <(all_client_addrs)
    wait_for "$1" "$2" summary "${NODES[@]}" -- "${addrs[@]}"
}
