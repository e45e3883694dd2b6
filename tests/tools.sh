# Installs what the tests, the bench and the demo need besides Rust. Sourced, never run.
#
# Everything that can live in the project does (tests/.tools, tests/e2e/clients/ioredis/node_modules; both
# git-ignored). Debian packages are the exception: they are installed when missing and we are root, and asked
# for by name otherwise. Each function is a no-op once its work is done.
# shellcheck shell=bash

TESTS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOOLS_DIR=$TESTS_DIR/.tools
PYTHON=$TOOLS_DIR/venv/bin/python

tools_fail() {
    echo "tests/tools.sh: $*" >&2
    exit 1
}

# tools_apt COMMAND PACKAGE…: makes sure COMMAND exists, from Debian's PACKAGEs.
tools_apt() {
    local command=$1
    shift
    command -v "$command" >/dev/null && return
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        tools_fail "needs '$command'; install it with: sudo apt-get install $*"
    fi
    echo "installing $* (Debian) for '$command'"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
        tools_fail "apt-get install $* failed"
}

# redis-cli and redis-benchmark, and a `redis-server` in tests/.tools/bin: Debian's redis-tools carries the
# server's executable under another name, so nothing is installed that would start a service.
tools_redis() {
    tools_apt redis-cli redis-tools
    command -v redis-benchmark >/dev/null || tools_fail "needs 'redis-benchmark' (Debian: redis-tools)"
    local server
    server=$(command -v redis-server || command -v redis-check-rdb) ||
        tools_fail "needs 'redis-server' (Debian: redis-tools or redis-server)"
    mkdir -p "$TOOLS_DIR/bin"
    ln -sfn "$(readlink -f "$server")" "$TOOLS_DIR/bin/redis-server"
}

# etcd, unpacked from Debian's package into tests/.tools/etcd: installing it would start a service.
tools_etcd() {
    local dir=$TOOLS_DIR/etcd
    [[ -x $dir/usr/bin/etcd ]] && return
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || tools_fail "unpacks etcd from a Debian package: needs apt-get"
    echo "unpacking etcd-server (Debian) into tests/.tools/etcd"
    rm -rf "$dir" && mkdir -p "$dir"
    (cd "$dir" && apt-get download -qq etcd-server 2>/dev/null) || tools_fail "apt-get download etcd-server failed"
    dpkg-deb -x "$dir"/etcd-server_*.deb "$dir"
    rm "$dir"/etcd-server_*.deb
}

# A Python environment of the project's own, rebuilt when tests/requirements.txt changes.
tools_python() {
    local stamp=$TOOLS_DIR/venv/.installed
    cmp -s "$TESTS_DIR/requirements.txt" "$stamp" && [[ -x $PYTHON ]] && return
    command -v python3 >/dev/null || tools_apt python3 python3 python3-venv
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        [[ $(id -u) == 0 ]] || tools_fail "Python's venv is missing; install it with: sudo apt-get install python3-venv"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
    fi
    echo "installing the Python test environment into tests/.tools/venv"
    rm -rf "$TOOLS_DIR/venv"
    mkdir -p "$TOOLS_DIR"
    python3 -m venv "$TOOLS_DIR/venv"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps -r "$TESTS_DIR/requirements.txt"
    cp "$TESTS_DIR/requirements.txt" "$stamp"
}

# ioredis, exactly as the lockfile says.
tools_ioredis() {
    local dir=$TESTS_DIR/e2e/clients/ioredis
    cmp -s "$dir/package-lock.json" "$dir/node_modules/.installed" && return
    tools_apt node nodejs
    tools_apt npm npm
    echo "installing ioredis into tests/e2e/clients/ioredis/node_modules"
    (cd "$dir" && npm ci --silent --no-audit --no-fund --ignore-scripts)
    cp "$dir/package-lock.json" "$dir/node_modules/.installed"
}
