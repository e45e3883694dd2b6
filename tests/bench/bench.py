"""Measures quoris beside redis-server: rate, latency, and the processor time its commands cost.

Run by run.sh. Both servers run on the same disk and the same processors, under the same load generator
(tests/bench/load). Both servers are up the whole time and take turns at each load, and the disk's fsync time is taken
beside every row, because a shared disk may be ten times slower from one minute to the next. Processor time is that
of the server processes alone, all of them summed, over the very commands the generator counted.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent / "e2e"))

from cluster import Cluster, built, free_port, wait_until  # noqa: E402
from resp import Connection  # noqa: E402

REDIS_SERVER = BENCH.parent / ".tools" / "bin" / "redis-server"
CONNECTIONS = (1, 50, 500)
PIPELINES = (1, 16)
MIXES = {"set": "SET", "get": "GET", "mixed": "50/50", "transfer": "EVALSHA"}
KEYS = 100_000
LONE_SET_BAR_FSYNCS = 3.0
PROBE_ROUNDS = 300


class Redis:
    """A redis-server that fsyncs its append-only file before each reply; the processes' interface of Cluster."""

    name = "redis"

    def __init__(self):
        self.dir = tempfile.TemporaryDirectory(prefix="quoris-bench-")
        self.addr = f"127.0.0.1:{free_port()}"

    def __enter__(self):
        port = self.addr.split(":")[1]
        flags = ["--port", port, "--bind", "127.0.0.1", "--dir", self.dir.name, "--save", ""]
        flags += ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]
        self.process = subprocess.Popen([REDIS_SERVER, *flags], stdout=subprocess.DEVNULL)
        wait_until("redis-server", self._answers)
        return self

    def _answers(self):
        try:
            with Connection(self.addr) as connection:
                return connection.call("PING") == "PONG"
        except OSError:
            return False

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.dir.cleanup()

    def cpu_seconds(self):
        return process_cpu_seconds(self.process.pid)


class Quoris:
    """Three nodes, three groups."""

    name = "quoris"

    def __init__(self):
        # Three nodes and the generator share the machine: see `threads` in docs/config.md.
        self.cluster = Cluster(threads=max(1, os.cpu_count() // 3))

    def __enter__(self):
        self.cluster.__enter__()
        self.addr = self.cluster.nodes[0].client_addr
        return self

    def __exit__(self, *_):
        self.cluster.__exit__()

    def cpu_seconds(self):
        return sum(process_cpu_seconds(node.process.pid) for node in self.cluster.nodes)


def process_cpu_seconds(pid):
    """User plus system time so far, children's excluded."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(*words):
    """One run of the load generator; its report."""
    done = subprocess.run([built("quoris-bench-load"), *map(str, words)], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def fsync_us(directory):
    """The median fsync time right now."""
    return load("fsync", "--dir", directory, "--rounds", PROBE_ROUNDS)["median_us"]


def measure(server, disk, mix, connections, pipeline, seconds):
    """One row of the table."""
    before, cpu = fsync_us(disk), server.cpu_seconds()
    target = ("--addr", server.addr, "--keys", KEYS)
    shape = ("--mix", mix, "--connections", connections, "--pipeline", pipeline)
    row = load("run", *target, *shape, "--seconds", seconds, "--warmup-seconds", seconds / 4)
    spent = server.cpu_seconds() - cpu
    row |= {"server": server.name, "mix": mix, "connections": connections, "pipeline": pipeline}
    row["cpu_seconds_per_million"] = spent / row["all_commands"] * 1e6
    row["fsync_us"] = (before + fsync_us(disk)) / 2
    print(f"  {server.name} {mix} c={connections} p={pipeline}", file=sys.stderr, flush=True)
    return row


def measure_all(disk, seconds):
    with Quoris() as quoris, Redis() as redis:
        for server in (quoris, redis):
            load("fill", "--addr", server.addr, "--keys", KEYS)
        return [
            measure(server, disk, mix, connections, pipeline, seconds)
            for mix in MIXES
            for connections in CONNECTIONS
            for pipeline in PIPELINES
            for server in (quoris, redis)
        ]


def milliseconds(micros):
    return f"{micros / 1000:.2f}"


def table(rows):
    """The rows as Markdown, the two servers' figures of one load under one another."""
    lines = [
        "| load | connections | pipeline | server | requests/s | p50 ms | p99 ms | p99.9 ms | CPU-s per million | fsync µs |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {MIXES[row['mix']]} | {row['connections']} | {row['pipeline']} | {row['server']} "
            f"| {row['requests_per_second']:,.0f} | {milliseconds(row['p50_us'])} | {milliseconds(row['p99_us'])} "
            f"| {milliseconds(row['p999_us'])} | {row['cpu_seconds_per_million']:.1f} | {row['fsync_us']:.0f} |"
        )
    return lines


def report(rows, seconds):
    """The whole page, and how many fsync times a lone client's SET takes."""
    fsync = statistics.median(row["fsync_us"] for row in rows)
    lone = next(
        r for r in rows if (r["server"], r["mix"], r["connections"], r["pipeline"]) == ("quoris", "set", 1, 1)
    )
    fsyncs = lone["p50_us"] / lone["fsync_us"]
    version = subprocess.run([REDIS_SERVER, "--version"], capture_output=True, text=True).stdout.split()[2]
    lines = [
        f"# quoris (3 nodes, 3 groups) beside redis-server {version} (appendfsync always)",
        "",
        f"{datetime.now():%Y-%m-%d %H:%M}, {os.cpu_count()} processors ({platform.machine()}), "
        f"{seconds:g} s a row, values of 64 bytes, {KEYS:,} keys.",
        "",
        *table(rows),
        "",
        f"fsync of 4 KiB, the median of all rows: {fsync:.0f} µs.",
        f"A lone client's SET, median: {lone['p50_us']} µs = {fsyncs:.1f} times the {lone['fsync_us']:.0f} µs of an "
        f"fsync beside it (bar: {LONE_SET_BAR_FSYNCS:g}).",
    ]
    return "\n".join(lines), fsyncs


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1.5 s a row instead of 8")
    parser.add_argument("--out", type=Path, help="where the page goes too (tests/bench/out/<time>.md)")
    args = parser.parse_args()
    seconds = 1.5 if args.quick else 8.0
    out = args.out or BENCH / "out" / f"{time.strftime('%Y%m%d-%H%M%S')}.md"
    out.parent.mkdir(parents=True, exist_ok=True)

    with tempfile.TemporaryDirectory(prefix="quoris-bench-") as disk:
        rows = measure_all(disk, seconds)
    page, fsyncs = report(rows, seconds)
    out.write_text(page + "\n")
    print(page)
    return 0 if fsyncs <= LONE_SET_BAR_FSYNCS else 1


if __name__ == "__main__":
    sys.exit(main())
