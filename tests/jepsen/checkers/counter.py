"""A counter that only INCR changes: linearizable, exactly, in O(n log n).

The values tell the order. An INCR that returned n was the n-th; a read of n came after the n-th and before the next.
Increments of unknown outcome fill the gaps: each gap must be given one that started before anybody saw a value beyond
it.
"""

from math import inf

from checkers import Anomaly, grouped
from history import INFO, OK


def check(ops):
    """`ops` of kinds incr and read, both with a number as their result."""
    return [anomaly for key, of_key in sorted(grouped(ops).items()) for anomaly in check_key(key, of_key)]


def check_key(key, ops):
    seen = sorted((op for op in ops if op.outcome == OK), key=lambda op: op.result)
    return twice(key, seen) or disorder(key, seen) or gaps(key, ops, seen)


def twice(key, seen):
    owner = {}
    for op in seen:
        if op.kind == "incr" and owner.setdefault(op.result, op) is not op:
            return [Anomaly("lost update", f"two increments of {key} returned {op.result}", [owner[op.result], op])]
    return []


def disorder(key, seen):
    """Whoever started after a greater value had been returned must not see a smaller one, or increment to the same."""
    by_end = sorted(seen, key=lambda op: op.end)
    greatest, place = None, 0
    for op in sorted(seen, key=lambda op: op.start):
        while place < len(by_end) and by_end[place].end < op.start:
            if greatest is None or by_end[place].result > greatest.result:
                greatest = by_end[place]
            place += 1
        if greatest and (op.result < greatest.result or (op.result == greatest.result and op.kind == "incr")):
            return [
                Anomaly("not linearizable", f"{key} went back from {greatest.result} to {op.result}", [greatest, op])
            ]
    return []


def gaps(key, ops, seen):
    unknown = sorted((op for op in ops if op.kind == "incr" and op.outcome == INFO), key=lambda op: op.start)
    taken = {op.result for op in seen if op.kind == "incr"}
    most = seen[-1].result if seen else 0
    # From the top down: the earliest end of an operation that saw at least this much.
    deadline, at = {}, (inf, None)
    waiting = list(seen)
    for value in range(most, 0, -1):
        while waiting and waiting[-1].result >= value:
            op = waiting.pop()
            at = min(at, (op.end, op), key=lambda pair: pair[0])
        deadline[value] = at
    missing = [value for value in range(1, most + 1) if value not in taken]
    for n, value in enumerate(missing):
        end, witness = deadline[value]
        if n >= len(unknown) or unknown[n].start > end:
            what = f"{key} reached {witness.result}, but nobody can have made it {value}: one failed, or came twice"
            return [Anomaly("failed write took effect", what, [witness])]
    return []
