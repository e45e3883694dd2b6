"""A set that only grows: linearizable, exactly. Reads must be ordered by inclusion, and agree with time."""

from math import inf

from checkers import Anomaly, grouped
from history import FAIL, INFO, OK


def check(ops):
    """`ops` of kinds add (value) and read (result: a list)."""
    return [anomaly for key, of_key in sorted(grouped(ops).items()) for anomaly in check_key(key, of_key)]


def check_key(key, ops):
    adds = {op.value: op for op in ops if op.kind == "add"}
    reads = sorted((op for op in ops if op.kind == "read" and op.outcome == OK), key=lambda op: len(op.result))
    return (
        unfounded(key, adds, reads)
        or inclusion(key, reads)
        or time_of_reads(key, reads)
        or time_of_adds(key, adds, reads)
    )


def unfounded(key, adds, reads):
    for op in reads:
        for value in op.result:
            add = adds.get(value)
            if add is None:
                return [Anomaly("phantom", f"{value} was never added to {key}", [op])]
            if add.outcome == FAIL:
                return [Anomaly("failed write took effect", f"{value} is in {key}", [add, op])]
            if op.end < add.start:
                return [Anomaly("read from the future", f"{value} was in {key} before it was added", [op, add])]
    return []


def inclusion(key, reads):
    """Neither of two reads contains the other: they cannot both be of one growing set."""
    for small, large in zip(reads, reads[1:], strict=False):
        if absent := set(small.result) - set(large.result):
            what = f"{sorted(absent)[:5]} are in one read of {key}, and not in another, greater one"
            return [Anomaly("lost write", what, [small, large])]
    return []


def time_of_reads(key, reads):
    """A read that ended before another one started must not show more."""
    latest = (-inf, None)
    for op in reads:
        # Those before it in this order show less or the same, so none of them may have started after it ended.
        if op.end < latest[0] and len(op.result) > len(latest[1].result):
            return [
                Anomaly(
                    "not linearizable", f"{key} was read with less, after it had been read with more", [op, latest[1]]
                )
            ]
        latest = max(latest, (op.start, op), key=lambda pair: pair[0])
    return []


def time_of_adds(key, adds, reads):
    """Acknowledged before a read started, and not in it; or behind an element that was added only later."""
    shown = {}
    for level, op in enumerate(reads):
        for value in op.result:
            shown.setdefault(value, level)
    started, latest = [], (-inf, None)
    for op in reads:
        latest = max(latest, (op.start, op), key=lambda pair: pair[0])
        started.append(latest)
    for value, add in adds.items():
        # What nobody has seen and nobody has acknowledged need not be there.
        if add.outcome == OK or (add.outcome == INFO and value in shown):
            level = shown.get(value, len(reads))
            if level and started[level - 1][0] > add.until:
                what = f"{value} was acknowledged, and is absent from a later read of {key}"
                return [Anomaly("lost write", what, [add, started[level - 1][1]])]
    return order_of_adds(key, adds, shown, len(reads))


def order_of_adds(key, adds, shown, never):
    """An element added later must not be seen without one that was acknowledged before it was added."""
    done = sorted((add for add in adds.values() if add.outcome == OK), key=lambda add: add.end)
    place, highest = 0, (-1, None)
    for add in sorted(adds.values(), key=lambda add: add.start):
        while place < len(done) and done[place].end < add.start:
            highest = max(highest, (shown.get(done[place].value, never), done[place]), key=lambda pair: pair[0])
            place += 1
        if add.value in shown and shown[add.value] < highest[0]:
            what = f"a read of {key} shows {add.value} without {highest[1].value}, which was there before it"
            return [Anomaly("not linearizable", what, [highest[1], add])]
    return []
