"""What quoris must reach, as ratios of what was measured beside it in the same run."""

from dataclasses import dataclass
from typing import Callable

# At 50 connections. A write's bars are against Redis with two replicas and WAIT, a read's against Redis alone.
MANY = 50
WRITES = {"set": "SET", "incr": "INCR", "hset": "HSET", "zadd": "ZADD", "xadd": "XADD", "multi": "MULTI of five"}
RATE, CPU = "requests_per_second", "cpu_seconds_per_million"
# What users say they need: so many a second, at some number of connections and some pipelining.
NEEDED = {
    "transfer": (50_000, "transfers by script"),
    "xadd": (100_000, "stream appends"),
    "rank": (100_000, "leaderboard updates by script (ZADD and XADD)"),
    "buy": (10_000, "purchases by script, at p99 < 10 ms"),
}
PURCHASE_P99_US = 10_000


class Measured:
    """The figures of a run, by row; None where a row was not measured."""

    def __init__(self, results):
        self.rows = {(r["workload"], r["connections"], r["pipeline"], r["server"]): r for r in results["closed"]}
        self.halves = results["halves"]

    def figure(self, figure, workload, connections, pipeline, server):
        row = self.rows.get((workload, connections, pipeline, server))
        return row and row[figure]

    def ratio(self, figure, workload, pipeline, server, other, connections=MANY):
        """The server's figure as a multiple of another's."""
        ours, theirs = (self.figure(figure, workload, connections, pipeline, name) for name in (server, other))
        return ours / theirs if ours and theirs else None

    def best(self, workload, server, p99_us=None):
        """The most a second over all connections and pipelines, and the row that did it."""
        rows = [r for (w, _, _, s), r in self.rows.items() if (w, s) == (workload, server)]
        rows = [r for r in rows if p99_us is None or r["p99_us"] < p99_us]
        return max(rows, key=lambda row: row[RATE], default=None)


@dataclass(frozen=True)
class Bar:
    """A claim. `measure` gives (figure, where) of a server, or None; `at_most` says which side of the limit is good."""

    text: str
    limit: float
    measure: Callable
    at_most: bool = False
    unit: str = "×"

    def verdict(self, measured, server):
        """Figure as text, and whether the bar is met; None if it was not measured."""
        found = self.measure(measured, server)
        if found is None:
            return "–", None
        value, where = found if isinstance(found, tuple) else (found, "")
        met = value <= self.limit if self.at_most else value >= self.limit
        return self.show(value) + where, met

    def show(self, value):
        return f"{value:.2f} {self.unit}" if self.unit == "×" else f"{value:,.0f}{self.unit}"

    @property
    def wanted(self):
        return ("≤ " if self.at_most else "≥ ") + self.show(self.limit)


def bars():
    return [*throughput(), *latency(), *needed()]


def throughput():
    scripted = {"transfer": "EVALSHA transfer"}
    for workload, name in {**WRITES, **scripted}.items():
        for pipeline in (1, 16):
            rate, cpu = (3.0, 0.40) if pipeline == 16 and workload != "transfer" else (2.5, 0.45)
            piped = ", pipelined 16" if pipeline == 16 else ""
            yield compared(f"{name}{piped}: rate of Redis + WAIT", rate, RATE, workload, pipeline, "redis-wait")
            yield compared(f"{name}{piped}: its CPU", cpu, CPU, workload, pipeline, "redis-wait", at_most=True)
    yield compared("GET: rate of Redis alone", 0.85, RATE, "get", 1, "redis-none")
    yield compared("GET, pipelined 16: rate of Redis alone", 0.7, RATE, "get", 16, "redis-none")
    yield compared("SET: rate of one Redis, fsync always", 1.0, RATE, "set", 1, "redis-always")


def compared(text, limit, figure, workload, pipeline, other, at_most=False):
    def measure(measured, server):
        return measured.ratio(figure, workload, pipeline, server, other)

    return Bar(text, limit, measure, at_most)


def latency():
    """Open loop at half of the server's own most; the fsync is the one measured beside."""
    for figure, name, limit in (("p99_us", "p99", 4.0), ("p999_us", "p99.9", 12.0)):

        def at_half(measured, server, figure=figure):
            half = measured.halves.get(server)
            return half and (half[figure] / half["fsync_us"], f" of {half['fsync_us']:.0f} µs")

        yield Bar(f"SET at half the most, open loop: {name} in fsyncs", limit, at_half, at_most=True)

    def lone_set(measured, server):
        median = measured.figure("p50_us", "set", 1, 1, server)
        fsync = measured.figure("fsync_us", "set", 1, 1, server)
        return median and (median - 2 * fsync, f" = {median:.0f} − 2 × {fsync:.0f}")

    yield Bar("a lone client's SET: median beyond 2 fsyncs", 200, lone_set, at_most=True, unit=" µs")

    def lone_get(measured, server):
        return measured.ratio("p50_us", "get", 1, server, "redis-none", connections=1)

    yield Bar("a lone client's GET: median of Redis's", 3.0, lone_get, at_most=True)


def needed():
    for workload, (rate, name) in NEEDED.items():

        def most(measured, server, workload=workload):
            row = measured.best(workload, server, PURCHASE_P99_US if workload == "buy" else None)
            return row and (row[RATE], f" (c {row['connections']}, p {row['pipeline']})")

        yield Bar(name, rate, most, unit="/s")
