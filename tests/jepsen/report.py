"""One page that shows a run: what clients got over time, beside the faults, and the smallest explanation of a failure.

Self-contained: inline SVG and style, no script, nothing fetched.
"""

import html
import math
from collections import Counter
from pathlib import Path

from history import FAIL, INFO, OK

WIDTH, LEFT, RIGHT = 1000, 64, 12
BUCKETS = 150
PERCENTILES = ((50, "p50"), (95, "p95"), (99, "p99"), (100, "max"))
ANOMALIES_SHOWN = 12
STYLE = Path(__file__).with_name("report.css")


class Frame:
    """The plot area that all charts of a page share: the same seconds at the same place."""

    def __init__(self, history):
        ends = [op.end for op in history.ops] + [fault.end for fault in history.faults] + [1.0]
        self.seconds = max(ends)
        self.bucket_s = self.seconds / BUCKETS
        self.faults = history.faults

    def x(self, second):
        return LEFT + (WIDTH - LEFT - RIGHT) * second / self.seconds

    def bucket(self, second):
        return min(BUCKETS - 1, int(second / self.bucket_s))

    def chart(self, height, title, body, ticks):
        """`ticks` is a list of (y, label)."""
        parts = [f'<svg viewBox="0 0 {WIDTH} {height + 26}" role="img" aria-label="{html.escape(title)}">']
        for fault in self.faults:
            x, width = self.x(fault.start), max(1.5, self.x(fault.end) - self.x(fault.start))
            label = html.escape(f"{fault.name}: {fault.what}, {fault.start:.1f} to {fault.end:.1f} s")
            parts.append(f'<rect class="fault" x="{x:.1f}" y="0" width="{width:.1f}" height="{height}"><title>{label}</title></rect>')
        for y, label in ticks:
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
        parts.append(body)
        step = nice_step(self.seconds / 10)
        for n in range(int(self.seconds / step) + 1):
            parts.append(f'<text class="tick" x="{self.x(n * step):.1f}" y="{height + 18}" text-anchor="middle">{n * step:g} s</text>')
        return "".join([*parts, "</svg>"])


def page(plan, verdict, history):
    frame = Frame(history)
    legend = "".join(f'<span class="key {word}">{label}</span>' for word, label in ((OK, "ok"), (FAIL, "certainly not done"), (INFO, "unknown"), ("faults", "a fault")))
    percentiles = "".join(f'<span class="key {name}">{name}</span>' for _, name in PERCENTILES)
    body = [
        f"<h1>{html.escape(plan.workload)} <small>under</small> {html.escape(plan.nemesis)}</h1>",
        banner(plan, verdict, history),
        explanations(verdict),
        f"<h2>Operations <em>per second, by outcome</em>{legend}</h2>",
        operations(frame, history),
        f"<h2>Latency <em>of successful operations</em>{percentiles}</h2>",
        latencies(frame, history),
        "<h2>Availability <em>share of operations that succeeded</em></h2>",
        availability(frame, history),
        faults(history),
        errors(history),
    ]
    title = html.escape(plan.title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE.read_text()}</style>'
        f"<main>{''.join(body)}</main></html>\n"
    )


def banner(plan, verdict, history):
    done = sorted(op.end - op.start for op in history.ops if op.outcome == OK) or [0.0]
    figures = [
        (f"{verdict.counts.get(OK, 0):,}", "ok"),
        (f"{verdict.counts.get(FAIL, 0):,}", "certainly not done"),
        (f"{verdict.counts.get(INFO, 0):,}", "unknown"),
        (f"{verdict.faults}", "faults"),
        (f"{longest_gap(history):.2f} s", "longest time without a success"),
        (f"{1000 * done[len(done) // 2]:.1f} ms", "median latency"),
    ]
    words = {
        "valid": "Valid: some order of the operations explains all that clients saw.",
        "ANOMALY": f"{len(verdict.anomalies)} anomalies: what clients saw cannot have happened if the promise was kept.",
        "TROUBLE": "The run itself went wrong; it shows nothing.",
    }
    cells = "".join(f"<div><b>{value}</b>{label}</div>" for value, label in figures)
    said = f"{plan.system}, seed {plan.seed}, {plan.seconds:g} s, {plan.clients} clients; checked in {verdict.checked_in_s:.1f} s"
    return (
        f'<p class="verdict {verdict.word}">{words[verdict.word]}</p><p class="plan">{html.escape(said)}</p>'
        f'<div class="figures">{cells}</div>'
    )


def longest_gap(history):
    times = sorted(op.end for op in history.ops if op.outcome == OK)
    return max((after - before for before, after in zip(times, times[1:], strict=False)), default=0.0)


def explanations(verdict):
    if not verdict.anomalies and not verdict.trouble:
        return ""
    parts = ["<h2>What went wrong <em>the fewest operations that show it</em></h2>"]
    if verdict.trouble:
        parts.append(f"<pre>{html.escape(verdict.trouble)}</pre>")
    for anomaly in sorted(verdict.anomalies, key=lambda a: len(a.ops))[:ANOMALIES_SHOWN]:
        rows = "".join(operation_row(op) for op in anomaly.ops)
        parts.append(f'<section class="anomaly"><h3>{html.escape(anomaly.kind)}</h3><p>{html.escape(anomaly.what)}</p>')
        parts.append(f"<table><tr><th>op<th>client<th>from<th>to<th>what<th>outcome</tr>{rows}</table>{timeline(anomaly.ops)}</section>")
    if len(verdict.anomalies) > ANOMALIES_SHOWN:
        parts.append(f"<p>… and {len(verdict.anomalies) - ANOMALIES_SHOWN} more.</p>")
    return "".join(parts)


def operation_row(op):
    what = html.escape(clipped(f"{op.kind} {op.key} {'' if op.value is None else op.value}"))
    outcome = html.escape(clipped(op.error or f"{op.result}"))
    end = f"{op.end:.4f}" if op.outcome == OK else "…"
    return f'<tr><td>{op.index}<td>{op.client}<td>{op.start:.4f}<td>{end}<td><code>{what}</code><td class="{op.outcome}">{op.outcome} <code>{outcome}</code></tr>'


def clipped(text, limit=160):
    return text if len(text) <= limit else text[:limit] + "…"


def timeline(ops):
    """The operations as bars, each in a lane of its own: what overlaps and what does not."""
    if not ops:
        return ""
    begin = min(op.start for op in ops)
    end = max(op.end for op in ops)
    span = max(end - begin, 1e-6) * 1.1
    lanes = []
    for lane, op in enumerate(ops):
        x = LEFT + (WIDTH - LEFT - RIGHT) * (op.start - begin) / span
        until = op.end if op.outcome == OK else begin + span
        width = max(3, LEFT + (WIDTH - LEFT - RIGHT) * (until - begin) / span - x)
        lanes.append(f'<rect class="bar {op.outcome}" x="{x:.1f}" y="{4 + lane * 20}" width="{width:.1f}" height="14"/>')
        lanes.append(f'<text class="tick" x="{LEFT - 8}" y="{15 + lane * 20}" text-anchor="end">{op.index}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {8 + 20 * len(ops)}">{"".join(lanes)}</svg>'


def operations(frame, history, height=170):
    counts = [Counter() for _ in range(BUCKETS)]
    for op in history.ops:
        counts[frame.bucket(op.end)][op.outcome] += 1
    most = max(sum(count.values()) for count in counts) or 1
    step = nice_step(most / frame.bucket_s / 4)
    top = math.ceil(most / frame.bucket_s / step) * step * frame.bucket_s
    width = (WIDTH - LEFT - RIGHT) / BUCKETS
    bars = []
    for number, count in enumerate(counts):
        y = height
        for outcome in (OK, FAIL, INFO):
            tall = height * count[outcome] / top
            y -= tall
            if tall:
                bars.append(f'<rect class="bar {outcome}" x="{LEFT + number * width:.1f}" y="{y:.1f}" width="{width * 0.86:.1f}" height="{tall:.1f}"/>')
    ticks = [(height - height * n * step * frame.bucket_s / top, f"{n * step:,.0f}") for n in range(int(top / frame.bucket_s / step + 0.5) + 1)]
    return frame.chart(height, "operations per second", "".join(bars), ticks)


def latencies(frame, history, height=200):
    buckets = [[] for _ in range(BUCKETS)]
    for op in history.ops:
        if op.outcome == OK:
            buckets[frame.bucket(op.end)].append(1000 * (op.end - op.start))
    low, high = 0.1, 10_000.0

    def y(ms):
        place = math.log10(min(max(ms, low), high) / low) / math.log10(high / low)
        return height * (1 - place)

    lines = []
    for percent, name in reversed(PERCENTILES):
        stretch = []
        for number, values in enumerate([*buckets, []]):
            if values:
                values.sort()
                value = values[max(0, math.ceil(percent / 100 * len(values)) - 1)]
                stretch.append(f"{frame.x((number + 0.5) * frame.bucket_s):.1f},{y(value):.1f}")
            elif stretch:
                # A bucket without a success is a gap, not a line across it.
                dot = stretch[0].split(",")
                lines.append(
                    f'<polyline class="line {name}" points="{" ".join(stretch)}"/>'
                    if len(stretch) > 1
                    else f'<circle class="dot {name}" cx="{dot[0]}" cy="{dot[1]}" r="2"/>'
                )
                stretch = []
    ticks = [(y(ms), label) for ms, label in ((0.1, "0.1 ms"), (1, "1 ms"), (10, "10 ms"), (100, "100 ms"), (1000, "1 s"), (10000, "10 s"))]
    return frame.chart(height, "latency percentiles", "".join(lines), ticks)


def availability(frame, history, height=60):
    done, all_of = Counter(), Counter()
    for op in history.ops:
        all_of[frame.bucket(op.end)] += 1
        done[frame.bucket(op.end)] += op.outcome == OK
    width = (WIDTH - LEFT - RIGHT) / BUCKETS
    cells = []
    for number in range(BUCKETS):
        if all_of[number]:
            share = done[number] / all_of[number]
            word = OK if share > 0.99 else FAIL if share > 0 else INFO
            cells.append(f'<rect class="bar {word}" x="{LEFT + number * width:.1f}" y="{height * (1 - share):.1f}" width="{width:.2f}" height="{max(2, height * share):.1f}"/>')
    return frame.chart(height, "availability", "".join(cells), [(0, "100%"), (height, "0%")])


def faults(history):
    if not history.faults:
        return ""
    rows = "".join(f"<tr><td>{f.start:.1f} s<td>{f.end - f.start:.1f} s<td>{html.escape(f.name)}<td>{html.escape(f.what)}</tr>" for f in history.faults)
    return f"<details><summary>{len(history.faults)} faults</summary><table><tr><th>at<th>for<th>nemesis<th>what</tr>{rows}</table></details>"


def errors(history):
    words = Counter((op.outcome, op.kind, clipped(error_text(op.error), 90)) for op in history.ops if op.outcome != OK)
    if not words:
        return ""
    rows = "".join(f'<tr><td>{n:,}<td class="{outcome}">{outcome}<td>{kind}<td><code>{html.escape(text)}</code></tr>' for (outcome, kind, text), n in words.most_common(30))
    return f"<details open><summary>Errors</summary><table><tr><th>times<th>outcome<th>operation<th>error</tr>{rows}</table></details>"


def error_text(error):
    """Without what differs from one occurrence to the next."""
    return "MOVED …" if error.startswith("MOVED") else error


def nice_step(rough):
    """1, 2 or 5 times a power of ten, at least `rough`."""
    power = 10 ** math.floor(math.log10(max(rough, 1e-9)))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= rough)
