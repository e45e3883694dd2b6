"""The page's plots, as SVG files that need nothing else: rate by connections, latency by rate, processor time by command."""

import html
import math

from svg import label, line, rect

COLOURS = {
    "quoris-1": "#c2410c",
    "quoris-3": "#f59e0b",
    "redis-wait": "#1d4ed8",
    "redis-always": "#0891b2",
    "redis-none": "#94a3b8",
    "etcd": "#7c3aed",
}
WIDTH, LEFT, RIGHT, TOP, BOTTOM, GAP = 920, 70, 16, 40, 34, 70
PANEL_WIDTH, PANEL_HEIGHT = (WIDTH - LEFT - RIGHT - GAP) / 2, 200
BAR, BETWEEN = 11, 8


class Axis:
    """Values to places, in powers of ten."""

    def __init__(self, values, begin, end):
        self.low = 10 ** math.floor(math.log10(min(values)))
        self.high = 10 ** math.ceil(math.log10(max(values) * 1.0001))
        self.begin, self.end = begin, end

    def place(self, value):
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self):
        value = self.low
        while value <= self.high * 1.0001:
            yield value
            value *= 10


def short(value):
    """1,000 as 1k."""
    for factor, letter in ((1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g}{letter}"
    return f"{value:g}"


def picture(height, title, body, servers, titles):
    """The whole file, with a line on top that says whose each colour is."""
    rules = "".join(f".{name}{{stroke:{COLOURS[name]};fill:{COLOURS[name]}}}" for name in servers)
    style = (
        ".tick{font:11px sans-serif;fill:#475569}.head{font:bold 12px sans-serif;fill:#0f172a}"
        ".grid{stroke:#e2e8f0}" + rules + ".bar{stroke:none}.line{fill:none;stroke-width:2}"
    )
    rows, x, y = [], LEFT, 8
    for name in servers:
        wide = 26 + 5.8 * len(titles[name])
        if x + wide > WIDTH:
            x, y = LEFT, y + 16
        rows.append(rect(f"bar {name}", x, y, 10, 10) + label(x + 14, y + 9, html.escape(titles[name]), "start"))
        x += wide
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{html.escape(title)}"><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(rows)}{body}</svg>\n'
    )


def panel(number, title, series, x_ticks, y_said, x_said):
    """One small chart out of several, two in a row. `series` is [(class, [(x, y)])], both axes in powers of ten."""
    left = LEFT + (number % 2) * (PANEL_WIDTH + GAP)
    top = TOP + 24 + (number // 2) * (PANEL_HEIGHT + BOTTOM + 40)
    points = [point for _, of in series for point in of]
    xs = Axis([*x_ticks, *(x for x, _ in points)], left, left + PANEL_WIDTH)
    xs.low, xs.high = min(x_ticks), max(x_ticks)
    ys = Axis([y for _, y in points], top + PANEL_HEIGHT, top)
    parts = [f'<text class="head" x="{left:.0f}" y="{top - 8:.0f}">{html.escape(title)}</text>']
    for y in ys.ticks():
        at = ys.place(y)
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{left + PANEL_WIDTH:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(label(left - 6, at + 4, y_said(y), "end"))
    for x in x_ticks:
        parts.append(label(xs.place(x), top + PANEL_HEIGHT + 16, x_said(x), "middle"))
    for kind, of in series:
        parts.append(line(kind, [(xs.place(x), ys.place(y)) for x, y in of]))
    return "".join(parts)


def panels(title, charts, servers, titles, x_said, y_said):
    """A picture of small charts; none if there is nothing to show. `charts` is [(title, series, ticks of x)]."""
    charts = [chart for chart in charts if chart[1]]
    if not charts:
        return None
    body = "".join(panel(n, name, series, ticks, y_said, x_said) for n, (name, series, ticks) in enumerate(charts))
    height = TOP + 24 + math.ceil(len(charts) / 2) * (PANEL_HEIGHT + BOTTOM + 40)
    return picture(height, title, body, servers, titles)


def throughput(rows, servers, titles):
    charts = []
    for workload, name in (("set", "SET"), ("get", "GET"), ("transfer", "EVALSHA transfer")):
        for pipeline in (1, 16):
            series = []
            for server in servers:
                of = [r for r in rows if (r["workload"], r["pipeline"], r["server"]) == (workload, pipeline, server)]
                if len(of) > 1:
                    series.append((server, sorted((r["connections"], r["requests_per_second"]) for r in of)))
            ticks = sorted({x for _, points in series for x, _ in points})
            charts.append((f"{name}{', pipelined 16' if pipeline > 1 else ''}: requests/s by connections", series, ticks))
    return panels("requests per second by connections", charts, servers, titles, str, short)


def latency(ladders, servers, titles):
    charts = []
    for workload in ("set", "get"):
        for figure, name in (("p50_us", "p50"), ("p99_us", "p99")):
            series = []
            for ladder in ladders:
                if ladder["workload"] == workload:
                    points = [(f["asked_per_second"], f[figure] / 1000) for f in ladder["rates"]]
                    series.append((ladder["server"], points))
            ticks = sorted({x for _, points in series for x, _ in points})
            charts.append((f"{workload.upper()}, open loop: {name} by requests/s", series, ticks if len(ticks) > 1 else ()))
    charts = [chart for chart in charts if chart[2]]
    return panels("latency by rate", charts, servers, titles, short, lambda ms: f"{ms:g} ms")


def processor_time(rows, names, servers, titles):
    """Bars for each command, at 50 connections, not pipelined."""
    rows = {(r["workload"], r["server"]): r for r in rows if (r["connections"], r["pipeline"]) == (50, 1)}
    if not rows:
        return None
    values = Axis([r["cpu_seconds_per_million"] for r in rows.values()], 110, WIDTH - 60)
    parts, y = [], TOP + 20
    for workload, name in names.items():
        shown = [(server, rows[workload, server]) for server in servers if (workload, server) in rows]
        if not shown:
            continue
        parts.append(label(102, y + len(shown) * BAR / 2 + 4, html.escape(name), "end"))
        for server, row in shown:
            cpu = row["cpu_seconds_per_million"]
            end = values.place(cpu)
            parts.append(rect(f"bar {server}", 110, y, end - 110, BAR - 1))
            parts.append(label(end + 4, y + BAR - 1, f"{cpu:.3g}", "start"))
            y += BAR
        y += BETWEEN
    for value in values.ticks():
        at = values.place(value)
        parts.insert(0, f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP + 14}" y2="{y}"/>')
        parts.append(label(at, y + 14, f"{value:g}", "middle"))
    said = "CPU seconds per million commands, all server processes, 50 connections, not pipelined"
    parts.append(label(110, y + 32, said, "start"))
    return picture(y + 42, said, "".join(parts), servers, titles)
