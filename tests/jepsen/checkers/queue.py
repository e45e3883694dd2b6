"""A queue of different elements, filled at one end and emptied at the other.

Every acknowledged element is taken once, in the order in which they came; what was refused never appears. A taker whose
fate is unknown may have taken one element that nobody has. The last takers empty the queue, so what is missing then is
lost.
"""

from bisect import bisect_left

from checkers import Anomaly, grouped
from history import FAIL, INFO, OK


def check(ops):
    """`ops` of kinds push (value), pop (result: an element or None), and rest (result: what was left at the end)."""
    return [anomaly for key, of_key in sorted(grouped(ops).items()) for anomaly in check_key(key, of_key)]


def check_key(key, ops):
    pushes = {op.value: op for op in ops if op.kind == "push"}
    taken, anomalies = {}, []
    for op in ops:
        for value in taken_by(op):
            push = pushes.get(value)
            if push is None:
                anomalies.append(Anomaly("phantom", f"{value} was never pushed to {key}", [op]))
            elif push.outcome == FAIL:
                anomalies.append(Anomaly("failed write took effect", f"{value} was taken from {key}", [push, op]))
            elif op.end < push.start:
                anomalies.append(Anomaly("read from the future", f"{value} was taken before it was pushed", [op, push]))
            if taken.setdefault(value, op) is not op:
                anomalies.append(Anomaly("duplicate", f"{value} was taken twice from {key}", [taken[value], op]))
    return anomalies + lost(key, ops, pushes, taken) + out_of_order(key, pushes, taken)


def taken_by(op):
    if op.outcome != OK or op.kind == "push":
        return []
    return op.result if op.kind == "rest" else [op.result] if op.result is not None else []


def lost(key, ops, pushes, taken):
    """Each unknown pop that had not been refused may account for one element that had been there for it."""
    if not any(op.kind == "rest" and op.outcome == OK for op in ops):
        return []
    missing = [op for value, op in pushes.items() if op.outcome == OK and value not in taken]
    excuses = sum(op.kind == "pop" and op.outcome == INFO for op in ops)
    if len(missing) <= excuses:
        return []
    what = f"{len(missing)} acknowledged elements of {key} are gone; {excuses} takers of unknown fate may have one each"
    return [Anomaly("lost write", what, missing[:5])]


def out_of_order(key, pushes, taken):
    """One element was pushed after another was in, and taken before anybody began to take that one."""
    known = sorted((pushes[v].until, v) for v in taken if v in pushes and pushes[v].outcome == OK)
    ends = [end for end, _ in known]
    # Of the elements whose push had ended by then, the one that was begun to be taken last.
    latest, so_far = [], None
    for _, value in known:
        if so_far is None or taken[value].start > taken[so_far].start:
            so_far = value
        latest.append(so_far)
    for value, pop in taken.items():
        place = bisect_left(ends, pushes[value].start) - 1 if value in pushes else -1
        if place >= 0 and taken[latest[place]].start > pop.end:
            earlier = latest[place]
            what = f"{earlier} was in {key} before {value} was pushed, and was taken after it"
            return [Anomaly("out of order", what, [pushes[earlier], pushes[value], pop, taken[earlier]])]
    return []
