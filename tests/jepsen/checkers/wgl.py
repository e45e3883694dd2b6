"""Linearizability of anything that has a sequential model, by search (Wing and Gong 1993; Lowe's memory of states).

Exact for any model, and exponential in how much is concurrent. The checkers of registers, counters and sets are exact,
too, and fast; this one holds them to account (`selftest/`).

A model is a function (state, op) -> state after it, or IMPOSSIBLE. States must be hashable. An operation of unknown
outcome may take effect at any time after its start, or never.
"""

from history import FAIL, OK

IMPOSSIBLE = object()


def linearizable(ops, initial, model):
    """Whether some order explains all results."""
    ops = sorted((op for op in ops if op.outcome != FAIL), key=lambda op: op.start)
    must = frozenset(n for n, op in enumerate(ops) if op.outcome == OK)
    tried, stack = set(), [(frozenset(), initial)]
    while stack:
        done, state = stack.pop()
        if must <= done:
            return True
        if (done, state) in tried:
            continue
        tried.add((done, state))
        left = [n for n in range(len(ops)) if n not in done]
        # Nothing may come before something that had ended when it started.
        first_end = min(ops[n].until for n in left)
        for n in left:
            if ops[n].start <= first_end:
                after = model(state, ops[n])
                if after is not IMPOSSIBLE:
                    stack.append((done | {n}, after))
    return False


def register(state, op):
    """Kinds write, read and update, as in `checkers.register`."""
    if op.kind == "write":
        return op.value
    if op.result != state:
        return IMPOSSIBLE
    return state if op.kind == "read" else op.value


def counter(state, op):
    if op.kind == "read":
        return state if op.result == state else IMPOSSIBLE
    return state + 1 if op.outcome != OK or op.result == state + 1 else IMPOSSIBLE


def growing_set(state, op):
    if op.kind == "add":
        return state | {op.value}
    return state if frozenset(op.result) == state else IMPOSSIBLE
