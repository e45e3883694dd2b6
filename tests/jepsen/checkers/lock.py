"""Locks with a time limit: no two clients may hold one at the same time.

A holder is sure of its lock from the reply that granted it until it gives it back, or until the limit has passed since
it *asked*; the server counts from a later moment, so this interval lies within what was promised. (Its clock is cut to
milliseconds, but a key is there until the millisecond of its deadline is over.) Two such intervals of one lock must not
overlap. Nodes' clocks must agree: under clocks that jump this is not promised, by Redis or anybody.
"""

from checkers import Anomaly, grouped
from history import OK


def check(ops):
    """`ops` of kinds acquire (value: [token, limit in seconds], result: granted or not) and release (value: token)."""
    return [anomaly for key, of_key in sorted(grouped(ops).items()) for anomaly in check_key(key, of_key)]


def check_key(key, ops):
    released = {op.value: op.start for op in ops if op.kind == "release"}
    held = []
    for op in ops:
        if op.kind == "acquire" and op.outcome == OK and op.result:
            token, limit_s = op.value
            until = min(op.start + limit_s, released.get(token, float("inf")))
            if until > op.end:
                held.append((op.end, until, op))
    held.sort(key=lambda h: h[0])
    anomalies, latest = [], None
    for one in held:
        if latest and one[0] < latest[1]:
            what = f"{key} was held by two from {one[0]:.4f} to {min(one[1], latest[1]):.4f}"
            anomalies.append(Anomaly("lock held twice", what, [latest[2], one[2]]))
        if latest is None or one[1] > latest[1]:
            latest = one
    return anomalies + given_back(key, ops, held)


def given_back(key, ops, held):
    """A lock that was certainly held when its holder gave it back must have been the holder's."""
    until = {op.value[0]: end for _, end, op in held}
    for op in ops:
        if op.kind == "release" and op.outcome == OK and not op.result:
            grant = next((h for h in held if h[2].value[0] == op.value), None)
            if (
                grant
                and op.end < grant[2].start + grant[2].value[1]
                and until[op.value] == op.start
            ):
                what = f"{key} was gone before its time limit"
                return [Anomaly("lost write", what, [grant[2], op])]
    return []
