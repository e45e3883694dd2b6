#!/usr/bin/env bash
# Runs an example against a cluster of its own while leaders are killed, and checks what must hold. Exit code 1 if it does not.
set -euo pipefail
EXAMPLES_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../deploy/local/lib.sh
source "$EXAMPLES_DIR/../deploy/local/lib.sh"
# shellcheck source-path=SCRIPTDIR source=../tests/tools.sh
source "$REPO_DIR/tests/tools.sh"

show_help() {
    cat <<HELP
Usage: run.sh inventory|payments|leaderboard [--seconds N] [--clients N] [--kills N] [--base-port P] [--script FILE]

  --seconds N     how long the clients act (20)
  --clients N     concurrent clients (64)
  --kills N       leaders killed with -9 meanwhile (5)
  --base-port P   clients' ports are P, P+1, P+2 (7501); the peers use the same + 10000
  --script FILE   runs this script instead of the example's own: break it, and see the checker notice
HELP
}

example='' seconds=20 clients=64 kills=5 base_port=7501 script=()
while (($#)); do
    case $1 in
    --help | -h) show_help && exit ;;
    inventory | payments | leaderboard) example=$1 && shift && continue ;;
    --seconds | --clients | --kills | --base-port | --script) (($# > 1)) || usage_error "$1 needs a value" ;;
    *) usage_error "unknown option '$1'" ;;
    esac
    case $1 in
    --seconds) need_count "$1" "$2" 1 3600 && seconds=$((10#$2)) ;;
    --clients) need_count "$1" "$2" 1 1000 && clients=$((10#$2)) ;;
    --kills) need_count "$1" "$2" 0 1000 && kills=$((10#$2)) ;;
    --base-port) need_count "$1" "$2" 1024 55000 && base_port=$((10#$2)) ;;
    --script) script=(--script "$2") ;;
    esac
    shift 2
done
[[ -n $example ]] || usage_error "which example: inventory, payments or leaderboard"

tools_python
binary=$(quoris_binary)
data=$(mktemp -d "${TMPDIR:-/tmp}/quoris-example.XXXXXX")
trap '"$LOCAL_DIR/down.sh" --data "$data" >/dev/null; rm -rf "$data"' EXIT
QUORIS_BIN=$binary "$LOCAL_DIR/up.sh" --base-port "$base_port" --data "$data" >/dev/null
load_cluster "$data"
mapfile -t addrs < <(all_client_addrs)
QUORIS_BIN=$binary PYTHONDONTWRITEBYTECODE=1 "$PYTHON" "$EXAMPLES_DIR/run.py" "$example" --binary "$binary" --data "$data" \
    --seconds "$seconds" --clients "$clients" --kills "$kills" "${script[@]}" "${addrs[@]}"
