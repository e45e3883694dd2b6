"""The charts of a run's page, as SVG: operations, latencies, availability, over the same seconds, beside the faults."""

import html
import math
from collections import Counter

from history import FAIL, INFO, OK
from svg import label, line, nice_step, rect

WIDTH, LEFT, RIGHT = 1000, 64, 12
INNER = WIDTH - LEFT - RIGHT
BUCKETS = 150
BAR = INNER / BUCKETS
PERCENTILES = ((50, "p50"), (95, "p95"), (99, "p99"), (100, "max"))
LOW_MS, HIGH_MS = 0.1, 10_000.0
LATENCY_TICKS = ((0.1, "0.1 ms"), (1, "1 ms"), (10, "10 ms"), (100, "100 ms"), (1000, "1 s"), (10_000, "10 s"))
LANE = 20


class Frame:
    """The plot area that all charts of a page share: the same seconds at the same place."""

    def __init__(self, history):
        ends = [op.end for op in history.ops] + [fault.end for fault in history.faults] + [1.0]
        self.seconds = max(ends)
        self.bucket_s = self.seconds / BUCKETS
        self.faults = history.faults

    def x(self, second):
        return LEFT + INNER * second / self.seconds

    def bucket(self, second):
        return min(BUCKETS - 1, int(second / self.bucket_s))

    def chart(self, height, title, body, ticks):
        """`ticks` is a list of (y, label)."""
        parts = []
        for fault in self.faults:
            x, until = self.x(fault.start), self.x(fault.end)
            said = f"{fault.name}: {fault.what}, {fault.start:.1f} to {fault.end:.1f} s"
            parts.append(rect("fault", x, 0, max(1.5, until - x), height, said))
        for y, said in ticks:
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(label(LEFT - 8, y + 4, said, "end"))
        parts.append(body)
        step = nice_step(self.seconds / 10)
        for n in range(int(self.seconds / step) + 1):
            parts.append(label(self.x(n * step), height + 18, f"{n * step:g} s", "middle"))
        return svg(height + 26, "".join(parts), title)


def operations(frame, history, height=170):
    """Stacked bars: how many a second, by outcome."""
    counts = [Counter() for _ in range(BUCKETS)]
    for op in history.ops:
        counts[frame.bucket(op.end)][op.outcome] += 1
    most = max(sum(count.values()) for count in counts) or 1
    step = nice_step(most / frame.bucket_s / 4)
    steps = math.ceil(most / frame.bucket_s / step)
    tall = height / (steps * step * frame.bucket_s)
    bars = []
    for number, count in enumerate(counts):
        y = height
        for outcome in (OK, FAIL, INFO):
            y -= tall * count[outcome]
            bars.append(bar(number, outcome, y, tall * count[outcome], 0.86))
    ticks = [(height - height * n / steps, f"{n * step:,.0f}") for n in range(steps + 1)]
    return frame.chart(height, "operations per second", "".join(bars), ticks)


def latencies(frame, history, height=200):
    """A line for each percentile of the successful ones; a bucket without a success is a gap."""
    buckets = [[] for _ in range(BUCKETS)]
    for op in history.ops:
        if op.outcome == OK:
            buckets[frame.bucket(op.end)].append(1000 * (op.end - op.start))
    for values in buckets:
        values.sort()

    def y(ms):
        return height * (1 - math.log10(min(max(ms, LOW_MS), HIGH_MS) / LOW_MS) / math.log10(HIGH_MS / LOW_MS))

    lines = []
    for percent, name in reversed(PERCENTILES):
        points = []
        for number, values in enumerate([*buckets, []]):
            if values:
                value = values[max(0, math.ceil(percent / 100 * len(values)) - 1)]
                points.append((frame.x((number + 0.5) * frame.bucket_s), y(value)))
            elif points:
                lines.append(line(name, points))
                points = []
    return frame.chart(height, "latency percentiles", "".join(lines), [(y(ms), said) for ms, said in LATENCY_TICKS])


def availability(frame, history, height=60):
    """The share of operations that succeeded."""
    done, all_of = Counter(), Counter()
    for op in history.ops:
        all_of[frame.bucket(op.end)] += 1
        done[frame.bucket(op.end)] += op.outcome == OK
    bars = []
    for number in sorted(all_of):
        share = done[number] / all_of[number]
        word = OK if share > 0.99 else FAIL if share > 0 else INFO
        bars.append(bar(number, word, height * (1 - share), max(2, height * share)))
    return frame.chart(height, "availability", "".join(bars), [(0, "100%"), (height, "0%")])


def timeline(ops):
    """A few operations as bars, each in a lane of its own: what overlaps and what does not."""
    if not ops:
        return ""
    begin = min(op.start for op in ops)
    span = 1.1 * max(max(op.end for op in ops) - begin, 1e-6)
    lanes = []
    for lane, op in enumerate(ops):
        x = LEFT + INNER * (op.start - begin) / span
        until = LEFT + INNER * (op.end - begin) / span if op.outcome == OK else WIDTH
        lanes.append(rect(f"bar {op.outcome}", x, 4 + lane * LANE, max(3, until - x), LANE - 6, str(op)))
        lanes.append(label(LEFT - 8, LANE - 5 + lane * LANE, op.index, "end"))
    return svg(8 + LANE * len(ops), "".join(lanes), "when the operations ran")


def svg(height, body, title):
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(title)}">{body}</svg>'


def bar(number, kind, y, height, share=1.0):
    """Of a bucket; nothing where there is nothing to show."""
    return rect(f"bar {kind}", LEFT + number * BAR, y, BAR * share, height) if height else ""
