"""What a key takes in memory, by kind, in quoris's engine beside redis-server in cluster mode with the same keys.

Run by memory.sh. Resident memory of each process, after the keys less before them, per key. quoris is measured as
its engine alone (`crates/engine/examples/memory.rs`): what a node holds besides grows with its log, not with its keys.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

from cluster import REPO, free_port, wait_until  # noqa: E402
from resp import Connection, encode  # noqa: E402

REDIS_SERVER = REPO / "tests" / ".tools" / "bin" / "redis-server"
ELEMENTS = 100
AT_ONCE = 500
# How many keys of each kind, how many times Redis's memory they may take, and what they are called.
KINDS = {
    "string": (1_000_000, 1.0, "a string of 128 bytes"),
    "hash": (20_000, 1.3, f"a hash of {ELEMENTS} fields"),
    "set": (20_000, 1.3, f"a set of {ELEMENTS} members"),
    "zset": (20_000, 1.3, f"a sorted set of {ELEMENTS} members"),
    "list": (20_000, 1.3, f"a list of {ELEMENTS} elements"),
}


def call(kind, n):
    """The call that makes key number `n`; the same as in memory.rs."""
    key = f"key:{n:012}"
    numbers = range(ELEMENTS)
    if kind == "string":
        return ["set", key, f"{n:0128}"]
    if kind == "hash":
        return ["hset", key, *(word for i in numbers for word in (f"field:{i}", f"value:{i}"))]
    if kind == "set":
        return ["sadd", key, *(f"member:{i}" for i in numbers)]
    if kind == "zset":
        return ["zadd", key, *(word for i in numbers for word in (i, f"member:{i}"))]
    return ["rpush", key, *(f"element:{i}" for i in numbers)]


def resident(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


def of_redis(kind, count):
    """Bytes a key in a redis-server of its own."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="quoris-memory-") as scratch:
        flags = ["--port", str(port), "--bind", "127.0.0.1", "--dir", scratch, "--save", "", "--cluster-enabled", "yes"]
        process = subprocess.Popen([REDIS_SERVER, *flags], stdout=subprocess.DEVNULL)
        try:
            wait_until("redis-server", lambda: answers(port))
            with Connection(f"127.0.0.1:{port}", limit_s=60) as connection:
                connection.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                wait_until("the slots", lambda: b"cluster_state:ok" in connection.call("CLUSTER", "INFO"))
                before = resident(process.pid)
                for first in range(0, count, AT_ONCE):
                    numbers = range(first, min(first + AT_ONCE, count))
                    connection.send_raw(b"".join(encode(*call(kind, n)) for n in numbers))
                    for _ in numbers:
                        connection.read_reply()
                return (resident(process.pid) - before) // count
        finally:
            process.kill()
            process.wait()


def answers(port):
    try:
        with Connection(f"127.0.0.1:{port}") as connection:
            return connection.call("PING") == "PONG"
    except OSError:
        return False


def of_quoris(kind, count):
    """Bytes a key in quoris's engine."""
    command = ["cargo", "run", "--release", "--locked", "--quiet", "-p", "quoris-engine", "--example", "memory"]
    output = subprocess.run([*command, "--", kind, str(count)], cwd=REPO, check=True, text=True, capture_output=True).stdout
    return int(re.search(r"(\d+) bytes resident", output)[1])


def main():
    kinds = sys.argv[1:] or list(KINDS)
    print("| each key holds | quoris | redis-server | times |\n|---|---:|---:|---:|")
    over = []
    for kind in kinds:
        count, bar, name = KINDS[kind]
        ours, theirs = of_quoris(kind, count), of_redis(kind, count)
        print(f"| {name} ({count:,} keys) | {ours:,} | {theirs:,} | {ours / theirs:.2f} |", flush=True)
        if ours > bar * theirs:
            over.append(f"{name}: more than {bar} times what redis-server takes")
    print("\n".join(over), end="\n" if over else "")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
