"""The page of a run: what was measured on what, the bars, the plots, every row."""

import plots
from bars import Measured, bars

NAMES = {
    "set": "SET", "get": "GET", "mixed": "50/50", "reads": "5/95", "incr": "INCR", "hset": "HSET", "zadd": "ZADD",
    "xadd": "XADD", "multi": "MULTI of five", "transfer": "EVALSHA transfer", "rank": "EVALSHA rank",
    "score": "EVALSHA score", "buy": "EVALSHA buy",
}
OURS = ("quoris-1", "quoris-3")
INTRODUCTION = """\
# Benchmarks

*Written by `tests/bench/run.sh`; [its README](../../tests/bench/README.md) says what is measured, how, and how to read it.
Machines differ and are noisy: the ratios within one run are what counts.*
"""


def write(directory, results):
    """README.md and the plots."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, text in drawings(results).items():
        path = directory / f"{name}.svg"
        path.unlink(missing_ok=True)
        if text:
            path.write_text(text)
            drawn.append(f"![{name.replace('-', ' ')}]({path.name})\n")
    (directory / "README.md").write_text("\n".join([INTRODUCTION, setting(results), *sections(results, drawn)]))


def drawings(results):
    titles = results["run"]["titles"]
    measured = {row["server"] for row in results["closed"]} | {ladder["server"] for ladder in results["ladders"]}
    servers = [server for server in titles if server in measured]
    return {
        "throughput": plots.throughput(results["closed"], servers, titles),
        "latency": plots.latency(results["ladders"], servers, titles),
        "processor-time": plots.processor_time(results["closed"], NAMES, servers, titles),
    }


def setting(results):
    run, plan = results["run"], results["run"]["plan"]
    fsyncs = sorted(row["fsync_us"] for row in results["closed"]) or [0]
    lines = [
        f"- {run['at']}, commit {run['commit']}{', `--quick`' if run['quick'] else ''}.",
        f"- {run['processor']}, {run['system']}; all servers, three nodes each, and the generator share them. "
        f"Load average before: {run['load']:.1f}.",
        f"- {', '.join(run['versions'])}.",
        f"- {plan['keys']:,} keys, values of 128 bytes; every row {plan['rounds']} times, {plan['seconds']:g} s each: medians.",
        f"- An fsync of 4 KiB beside the rows: median {fsyncs[len(fsyncs) // 2]:.0f} µs, "
        f"from {fsyncs[0]:.0f} to {fsyncs[-1]:.0f} µs.",
    ]
    if results["failed"]:
        lines.append(f"- **Turns that failed, and are in no figure:** {'; '.join(results['failed'])}.")
    if run["note"]:
        lines.append(f"- **{run['note']}**")
    return "\n".join(lines) + "\n"


def sections(results, drawn):
    yield "## Bars\n"
    yield bars_table(results) + "\n"
    yield from drawn
    if results["closed"]:
        yield "## Rows\n\nClosed loop. CPU, bytes and flushes are those of the server's processes, and of the device, per command.\n"
        yield rows_table(results) + "\n"
    rated = [(l["workload"], l["server"], f) for l in results["ladders"] for f in l["rates"]]
    rated += [("set", server, figures) for server, figures in results["halves"].items()]
    if rated:
        yield "## Fixed rates\n\nOpen loop, 50 connections; latency from the moment a command was due.\n"
        yield rates_table(rated, results["run"]["titles"]) + "\n"


def table(heads, rows):
    """Markdown; a head that begins with `>` is of a column of numbers."""
    lines = ["| " + " | ".join(head.lstrip(">") for head in heads) + " |"]
    lines.append("|" + "|".join("---:" if head.startswith(">") else "---" for head in heads) + "|")
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def bars_table(results):
    measured = Measured(results)
    heads = ["bar", ">wanted"]
    for server in OURS:
        heads += [f">{server}", "met"]
    rows = []
    for bar in bars():
        row = [bar.text, bar.wanted]
        for server in OURS:
            said, met = bar.verdict(measured, server)
            row += [said, {None: "", True: "yes", False: "**no**"}[met]]
        rows.append(row)
    return table(heads, rows)


def milliseconds(micros):
    return f"{micros / 1000:.2f}"


def optional(value, form):
    return "–" if value is None else format(value, form)


def rows_table(results):
    heads = ["load", ">c", ">p", "server", ">requests/s", ">p50 ms", ">p99 ms", ">p99.9 ms", ">CPU-s/million",
             ">generator", ">bytes", ">flushes", ">RSS MB", ">fsync µs"]
    return table(heads, [
        [
            NAMES[row["workload"]], row["connections"], row["pipeline"], row["server"],
            f"{row['requests_per_second']:,.0f}", *latencies(row), f"{row['cpu_seconds_per_million']:.1f}",
            f"{row['generator_cpu_seconds_per_million']:.1f}", f"{row['written_bytes_per_command']:,.0f}",
            optional(row["flushes_per_command"], ".4f"), f"{row['resident_bytes'] / 1e6:,.0f}", f"{row['fsync_us']:.0f}",
        ]
        for row in results["closed"]
    ])


def rates_table(rated, titles):
    heads = ["load", "server", ">asked/s", ">answered/s", ">p50 ms", ">p99 ms", ">p99.9 ms", ">CPU-s/million",
             ">sent late, p99 ms", ">fsync µs"]
    return table(heads, [
        [
            NAMES[workload], server, f"{f['asked_per_second']:,.0f}", f"{f['requests_per_second']:,.0f}", *latencies(f),
            f"{f['cpu_seconds_per_million']:.1f}", milliseconds(f["sent_late_p99_us"]), f"{f['fsync_us']:.0f}",
        ]
        for workload, server, f in rated
    ])


def latencies(figures):
    return [milliseconds(figures[key]) for key in ("p50_us", "p99_us", "p999_us")]
