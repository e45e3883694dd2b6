"""Measures quoris beside redis-server and etcd: rate, latency, and what a command costs in processor time and disk.

Run by run.sh. All servers are up the whole time, on the same disk and the same processors, under the same load
generator (tests/bench/load), and take turns at each load, several times; what is reported is the median of the turns.
The disk's fsync time is taken beside every row, because a shared disk may be ten times slower from one minute to the
next. What a row used is that of the server's processes alone, all of them summed, over the very commands sent.
"""

import argparse
import contextlib
import itertools
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).resolve().parent
REPO = BENCH.parents[1]
sys.path.insert(0, str(BENCH.parent / "e2e"))

import page  # noqa: E402
from cluster import built  # noqa: E402
from servers import all_servers  # noqa: E402

WRITES = ("set", "incr", "hset", "zadd", "xadd", "multi", "transfer")
WORKLOADS = ("set", "get", "mixed", "reads", *WRITES[1:], "rank", "score", "buy")
CONNECTIONS = (1, 50, 500)
PIPELINES = (1, 16)
RATES = (500, 1000, 2000, 5000, 10_000, 20_000, 40_000, 80_000)
RATE_CONNECTIONS = 50
# So many SETs before anything is measured: a log of quoris writes its files for the first time until it has had half of its
# bound, 512 MB, and whoever runs a database for more than a minute has that behind him. The same for each that has a log.
SETTLING_SETS = 3_500_000
# A server that answers less than this share of what it is asked is over its limit; higher rates tell nothing more.
HELD = 0.97


@dataclass(frozen=True)
class Plan:
    """How thorough a run is."""

    keys: int
    rounds: int
    seconds: float
    rate_seconds: float
    rates: tuple
    rate_workloads: tuple
    fsync_probes: int

    @property
    def warmup(self):
        return self.seconds / 4


FULL = Plan(1_000_000, 3, 3.0, 4.0, RATES, ("set", "get"), 300)
QUICK = Plan(100_000, 2, 0.4, 1.0, (1000, 5000), ("set",), 60)


@dataclass(frozen=True)
class Row:
    """One server under one closed-loop load."""

    workload: str
    connections: int
    pipeline: int
    server: str

    def __str__(self):
        return f"{self.workload}/c{self.connections}/p{self.pipeline}/{self.server}"


def rows_of(quick, servers, wanted):
    """The rows to measure, each load's servers one after another."""
    loads = itertools.product(WORKLOADS, CONNECTIONS, PIPELINES)
    rows = [
        Row(workload, connections, pipeline, server.name)
        for workload, connections, pipeline in loads
        for server in servers
        if server.runs(workload, connections * pipeline)
    ]
    return [row for row in rows if (not quick or in_quick(row)) and wanted(str(row))]


def in_quick(row):
    """What the bars of page.py need, and not much more."""
    if row.connections == 1:
        alone = {"set": "redis-always", "get": "redis-none"}.get(row.workload)
        return row.pipeline == 1 and alone and row.server in ("quoris-1", "quoris-3", alone)
    if row.connections == 500:
        return False
    if row.workload in ("set", "get"):
        return True
    compared = ("redis-wait",) if row.workload in WRITES else ()
    return row.workload not in ("mixed", "reads") and row.server in ("quoris-1", "quoris-3", *compared)


def load(*words):
    """One run of the load generator; its report, and the processor time that it took itself.

    Raises `CalledProcessError` if the server did not answer all commands as it should.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "RUST_BACKTRACE": "0"}
    command = [built("quoris-bench-load"), *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout) | {"own_cpu_seconds": own}


class Bench:
    """A run: its servers, and the figures so far."""

    def __init__(self, plan, servers, disk):
        self.plan, self.disk = plan, disk
        self.servers = {server.name: server for server in servers}
        self.failed = []
        self.began = time.monotonic()

    def progress(self, text):
        print(f"{time.monotonic() - self.began:6.0f} s  {text}", file=sys.stderr, flush=True)

    def target(self, server):
        return [*server.load_arguments(), "--keys", self.plan.keys]

    def fsync_us(self):
        return load("fsync", "--dir", self.disk, "--rounds", self.plan.fsync_probes)["median_us"]

    def fill(self):
        for server in self.servers.values():
            load("fill", *self.target(server))
            self.progress(f"filled {server.name}")

    def settle(self):
        """Has every log get over its beginning."""
        shape = ("--mix", "set", "--connections", RATE_CONNECTIONS, "--pipeline", max(PIPELINES))
        for server in (server for server in self.servers.values() if server.has_log):
            written = 0
            while written < SETTLING_SETS:
                written += load("run", *self.target(server), *shape, "--seconds", 2)["all_commands"]
                server.tidy()
            self.progress(f"settled {server.name}")

    def measure(self, server, *words):
        """One turn of a server under a load."""
        server.tidy()
        target = self.target(server)
        fsync_us, before = self.fsync_us(), server.usage()
        figures = load(*words[:1], *target, *words[1:])
        commands = max(1, figures["all_commands"])
        figures |= server.usage().per_command(before, commands)
        figures["generator_cpu_seconds_per_million"] = figures.pop("own_cpu_seconds") / commands * 1e6
        return figures | {"fsync_us": fsync_us, "resident_bytes": server.resident_bytes()}

    def turn(self, name, server, *words):
        """The figures of one turn. One that failed is said, in the page too, and does not end an hour's work."""
        try:
            figures = self.measure(server, *words)
        except subprocess.CalledProcessError as error:
            self.progress(f"{name}  FAILED: {error}")
            self.failed.append(name)
            return []
        self.progress(f"{name}  {figures['requests_per_second']:,.0f}/s  p99 {figures['p99_us']:,.0f} µs")
        return [figures]

    def closed(self, rows):
        """{row: median figures}, without rows that never succeeded."""
        turns = {row: [] for row in rows}
        for number in range(self.plan.rounds):
            for done, row in enumerate(self.in_turn(rows, number), 1):
                shape = ("--mix", row.workload, "--connections", row.connections, "--pipeline", row.pipeline)
                times = ("--seconds", self.plan.seconds, "--warmup-seconds", self.plan.warmup)
                at = f"round {number + 1}/{self.plan.rounds}, row {done}/{len(rows)}"
                turns[row] += self.turn(f"{at}  {row}", self.servers[row.server], "run", *shape, *times)
        return {row: medians(of) for row, of in turns.items() if of}

    @staticmethod
    def in_turn(rows, number):
        """The rows of one round. Nobody follows the same server in every round."""
        for _, group in itertools.groupby(rows, lambda row: (row.workload, row.connections, row.pipeline)):
            group = list(group)
            first = number % len(group)
            yield from group[first:] + group[:first]

    def open(self, workload, server, rate):
        """Median figures, or None if no turn succeeded."""
        shape = ("--mix", workload, "--connections", RATE_CONNECTIONS, "--rate", rate)
        times = ("--seconds", self.plan.rate_seconds, "--warmup-seconds", self.plan.rate_seconds / 4)
        name = f"{workload} at {rate:,.0f}/s  {server.name}"
        turns = [self.turn(name, server, "rate", *shape, *times) for _ in range(self.plan.rounds)]
        return medians(sum(turns, [])) if any(turns) else None

    def ladder(self, wanted):
        """{(workload, server): [figures at each rate]}, up to the first rate that the server does not hold."""
        ladders = {}
        for workload, server in itertools.product(self.plan.rate_workloads, self.servers.values()):
            if not server.runs(workload):
                continue
            for rate in self.plan.rates:
                if not wanted(f"rate/{workload}/{rate}/{server.name}"):
                    continue
                figures = self.open(workload, server, rate)
                if not figures:
                    break
                ladders.setdefault((workload, server.name), []).append(figures)
                if figures["requests_per_second"] < HELD * rate:
                    break
        return ladders

    def halves(self, closed, wanted):
        """{server: figures of SET at half of what it could do at most}."""
        halves = {}
        for server in self.servers.values():
            most = closed.get(Row("set", RATE_CONNECTIONS, 1, server.name))
            if server.name.startswith("quoris") and most and wanted(f"half/set/{server.name}"):
                halves[server.name] = self.open("set", server, round(most["requests_per_second"] / 2))
        return {name: figures for name, figures in halves.items() if figures}


def medians(turns):
    return {
        key: None if value is None else statistics.median(turn[key] for turn in turns)
        for key, value in turns[0].items()
    }


def commit():
    def git(*words):
        return subprocess.run(["git", *words], cwd=REPO, capture_output=True, text=True).stdout.strip()

    # The figures' own page is no change.
    dirty = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":!docs/benchmarks")
    return git("rev-parse", "--short", "HEAD") + (", with changes" if dirty else "")


def processor():
    text = Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*: (.+)", text)
    return f"{os.cpu_count()} processors" + (f" ({name[1].strip()})" if name else "")


def arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/run.sh", description="Measures quoris beside Redis and etcd.")
    parser.add_argument("--quick", action="store_true", help="what the bars need, roughly, in three minutes")
    parser.add_argument("--only", action="append", type=re.compile, default=[], metavar="REGEX", help=(
        "measure only rows that match; may be repeated. Rows: WORKLOAD/cCONNECTIONS/pPIPELINE/SERVER, "
        "rate/WORKLOAD/RATE/SERVER, half/set/SERVER"))
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    parser.add_argument("--rounds", type=int, help="turns of each row")
    parser.add_argument("--seconds", type=float, help="of each turn of a closed-loop row")
    parser.add_argument("--keys", type=int, help="how many keys")
    parser.add_argument("--note", default="", help="a sentence for the page, such as what else the machine did")
    parser.add_argument("--page-of", type=Path, metavar="JSON", help="write the page of an earlier run's figures and stop")
    parser.add_argument("--out", type=Path, default=REPO / "docs" / "benchmarks", help="where the page goes")
    return parser.parse_args()


def main():
    args = arguments()
    if args.page_of:
        page.write(args.out, json.loads(args.page_of.read_text()))
        return
    changes = {name: getattr(args, name) for name in ("rounds", "seconds", "keys") if getattr(args, name)}
    plan = Plan(**vars(QUICK if args.quick else FULL) | changes)

    def wanted(name):
        return not args.only or any(pattern.search(name) for pattern in args.only)

    servers = all_servers()
    rows = rows_of(args.quick, servers, wanted)
    if args.list:
        print(*rows, sep="\n")
        return
    rated = any(pattern.search("rate/") for pattern in args.only)
    servers = [s for s in servers if rated or any(row.server == s.name for row in rows)]
    run = {
        "at": time.strftime("%Y-%m-%d %H:%M"), "commit": commit(), "processor": processor(), "note": args.note,
        "system": f"{os.uname().sysname} {os.uname().release}", "load": os.getloadavg()[0], "quick": args.quick,
        "plan": vars(plan), "versions": sorted({server.version() for server in servers}),
        "titles": {server.name: server.title for server in servers},
    }
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(tempfile.TemporaryDirectory(prefix="quoris-bench-"))
        bench = Bench(plan, [stack.enter_context(server) for server in servers], disk)
        bench.fill()
        bench.settle()
        closed = bench.closed(rows)
        halves = bench.halves(closed, wanted)
        ladders = bench.ladder(wanted)
    results = {
        "run": run,
        "closed": [vars(row) | figures for row, figures in closed.items()],
        "failed": bench.failed,
        "halves": halves,
        "ladders": [{"workload": w, "server": s, "rates": rates} for (w, s), rates in ladders.items()],
    }
    figures = BENCH / "out" / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    figures.parent.mkdir(exist_ok=True)
    figures.write_text(json.dumps(results) + "\n")
    page.write(args.out, results)
    print(page.bars_table(results))
    print(f"\n{args.out}/README.md written; every figure: {figures}")


if __name__ == "__main__":
    main()
