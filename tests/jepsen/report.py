"""One page that shows a run: what clients got over time, beside the faults, and the smallest explanation of a failure.

Self-contained: inline SVG and style, no script, nothing fetched.
"""

from collections import Counter
from html import escape
from pathlib import Path

import charts
from history import FAIL, INFO, OK

ANOMALIES_SHOWN = 12
ERRORS_SHOWN = 30
STYLE = Path(__file__).with_name("report.css")
OUTCOMES = ((OK, "ok"), (FAIL, "certainly not done"), (INFO, "unknown"), ("faults", "a fault"))
WORDS = {
    "valid": "Valid: some order of the operations explains all that clients saw.",
    "ANOMALY": "What clients saw cannot have happened if the promise was kept.",
    "TROUBLE": "The run itself went wrong; it shows nothing.",
}


def page(plan, verdict, history):
    frame = charts.Frame(history)
    body = [
        f"<h1>{escape(plan.workload)} <small>under</small> {escape(plan.nemesis)}</h1>",
        banner(plan, verdict, history),
        explanations(verdict),
        f"<h2>Operations <em>per second, by outcome</em>{legend(OUTCOMES)}</h2>",
        charts.operations(frame, history),
        f"<h2>Latency <em>of successful operations</em>{legend((n, n) for _, n in charts.PERCENTILES)}</h2>",
        charts.latencies(frame, history),
        "<h2>Availability <em>share of operations that succeeded</em></h2>",
        charts.availability(frame, history),
        faults(history),
        errors(history),
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(plan.title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE.read_text()}</style>'
        f"<main>{''.join(body)}</main></html>\n"
    )


def legend(kinds):
    return "".join(f'<span class="key {kind}">{label}</span>' for kind, label in kinds)


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
    cells = "".join(f"<div><b>{value}</b>{label}</div>" for value, label in figures)
    said = f"{plan.title}, {plan.clients} clients; checked in {verdict.checked_in_s:.1f} s"
    return (
        f'<p class="verdict {verdict.word}">{WORDS[verdict.word]}</p><p class="plan">{escape(said)}</p>'
        f'<div class="figures">{cells}</div>'
    )


def longest_gap(history):
    times = sorted(op.end for op in history.ops if op.outcome == OK)
    return max((after - before for before, after in zip(times, times[1:], strict=False)), default=0.0)


def explanations(verdict):
    if not verdict.anomalies and not verdict.trouble:
        return ""
    count = f"{len(verdict.anomalies)} anomalies; " if verdict.anomalies else ""
    parts = [f"<h2>What went wrong <em>{count}the fewest operations that show each</em></h2>"]
    if verdict.trouble:
        parts.append(f"<pre>{escape(verdict.trouble)}</pre>")
    for anomaly in sorted(verdict.anomalies, key=lambda a: len(a.ops))[:ANOMALIES_SHOWN]:
        rows = [operation(op) for op in anomaly.ops]
        shown = table(("op", "client", "from", "to", "what", "outcome"), rows) + charts.timeline(anomaly.ops)
        said = f"<h3>{escape(anomaly.kind)}</h3><p>{escape(anomaly.what)}</p>"
        parts.append(f'<section class="anomaly">{said}{shown}</section>')
    if len(verdict.anomalies) > ANOMALIES_SHOWN:
        parts.append(f"<p>… and {len(verdict.anomalies) - ANOMALIES_SHOWN} more.</p>")
    return "".join(parts)


def operation(op):
    what = code(f"{op.kind} {op.key} {'' if op.value is None else op.value}")
    end = f"{op.end:.4f}" if op.outcome == OK else "…"
    outcome = f'<span class="{op.outcome}">{op.outcome}</span> {code(op.error or op.result)}'
    return op.index, op.client, f"{op.start:.4f}", end, what, outcome


def faults(history):
    rows = [(f"{f.start:.1f} s", f"{f.end - f.start:.1f} s", f.name, escape(f.what)) for f in history.faults]
    return folded(f"{len(rows)} faults", table(("at", "for", "nemesis", "what"), rows)) if rows else ""


def errors(history):
    times = Counter((op.outcome, op.kind, error_text(op.error)) for op in history.ops if op.outcome != OK)
    rows = [
        (f"{n:,}", f'<span class="{outcome}">{outcome}</span>', kind, code(error))
        for (outcome, kind, error), n in times.most_common(ERRORS_SHOWN)
    ]
    return folded("Errors", table(("times", "outcome", "operation", "error"), rows), " open") if rows else ""


def error_text(error):
    """Without what differs from one occurrence to the next."""
    return "MOVED …" if error.startswith("MOVED") else error


def table(head, rows):
    """Cells are HTML."""
    lines = [f"<tr><th>{'<th>'.join(head)}</tr>"]
    lines += [f"<tr><td>{'<td>'.join(map(str, row))}</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def folded(summary, body, is_open=""):
    return f"<details{is_open}><summary>{summary}</summary>{body}</details>"


def code(value, limit=160):
    text = str(value)
    return f"<code>{escape(text if len(text) <= limit else text[:limit] + '…')}</code>"
