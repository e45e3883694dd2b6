"""The fast checkers against a search that cannot be wrong, on thousands of small histories; and against large ones."""

import random
import time

import pytest

from checkers import counter, register, sets, wgl
from history import FAIL, INFO, OK, Op

SMALL_HISTORIES = 3000


def op(kind, value, start, end, outcome=OK, result=None, client=0):
    return Op(client, kind, "k", value, start, end, outcome, result)


def history_of(rng, state, act, steps=7, lie=0.5):
    """Operations that overlap at random, each taking effect at a moment within; then, often, one result is wrong."""
    ops = []
    for _ in range(rng.randint(2, steps)):
        start = rng.uniform(0, 10)
        outcome = rng.choices([OK, INFO, FAIL], [8, 3, 1])[0]
        ops.append(op(None, None, start, start + rng.choice([0.5, 3, 9]), outcome))
    ops.sort(key=lambda o: o.start)
    moment = {id(o): rng.uniform(o.start, o.end if o.outcome == OK else 30) for o in ops}
    for one in sorted(ops, key=lambda o: moment[id(o)]):
        takes_effect = one.outcome == OK or (one.outcome == INFO and rng.random() < 0.5)
        state = act(rng, one, state, takes_effect)
    if rng.random() < lie:
        damage(rng, ops)
    return ops


def damage(rng, ops):
    """Swaps two results, moves an operation in time, or changes an outcome."""
    reads = [o for o in ops if o.outcome == OK and o.kind in ("read", "update")]
    how = rng.randrange(3)
    if how == 0 and len(reads) > 1:
        one, other = rng.sample(reads, 2)
        one.result, other.result = other.result, one.result
    elif how == 1:
        one, by = rng.choice(ops), rng.uniform(-6, 6)
        one.start, one.end = one.start + by, one.end + by
    else:
        writes = [o for o in ops if o.kind in ("write", "add", "incr")]
        if writes:
            rng.choice(writes).outcome = rng.choice([INFO, FAIL])


def act_on_register(rng, one, state, takes_effect):
    one.kind = rng.choice(["read", "write", "write", "update"])
    if one.kind == "read":
        one.result = state
        return state
    one.value = f"v{id(one)}"
    if one.kind == "update":
        one.result = state
        if one.outcome == FAIL or (one.outcome == INFO and not takes_effect):
            # What it expected need not have been there.
            one.result = rng.choice([state, None])
    return one.value if takes_effect else state


def act_on_counter(rng, one, state, takes_effect):
    one.kind = rng.choice(["read", "incr", "incr"])
    if one.kind == "incr" and takes_effect:
        state += 1
    one.result = state if one.outcome == OK else None
    return state


def act_on_set(rng, one, state, takes_effect):
    one.kind = rng.choice(["read", "add"])
    if one.kind == "add":
        one.value = id(one)
        return state | {one.value} if takes_effect else state
    one.result = sorted(state)
    return state


@pytest.mark.parametrize(
    ("checker", "initial", "act", "model"),
    [
        (register, None, act_on_register, wgl.register),
        (counter, 0, act_on_counter, wgl.counter),
        (sets, frozenset(), act_on_set, wgl.growing_set),
    ],
    ids=["register", "counter", "set"],
)
def test_agrees_with_the_search(checker, initial, act, model):
    verdicts = {True: 0, False: 0}
    for seed in range(SMALL_HISTORIES):
        ops = history_of(random.Random(seed), initial, act)
        expected = wgl.linearizable(ops, initial, model)
        found = checker.check(ops)
        assert bool(found) != expected, f"seed {seed}: the search says {expected}\n" + "\n".join(
            map(str, [*ops, *found])
        )
        verdicts[expected] += 1
    print(verdicts)
    assert min(verdicts.values()) > SMALL_HISTORIES / 20, f"one-sided: {verdicts}"


def large_register(rng, count, clients):
    """One key, `clients` operations always under way, a tenth of them of unknown outcome; valid by construction."""
    ops, state = [], None
    free = [0.0] * clients
    for n in range(count):
        client = n % clients
        start = free[client] + rng.random() * 0.1
        end = start + 1 + rng.random()
        free[client] = end
        outcome = INFO if rng.random() < 0.1 else OK
        ops.append(op(rng.choice(["read", "write", "update"]), None, start, end, outcome, client=client))
    moment = {id(o): rng.uniform(o.start, o.end) for o in ops}
    for n, one in enumerate(sorted(ops, key=lambda o: moment[id(o)])):
        applied = one.outcome == OK or rng.random() < 0.5
        if one.kind == "read":
            one.result = state
            continue
        one.value, one.result = f"v{n}", state if one.kind == "update" else None
        state = one.value if applied else state
    return ops


def test_50000_operations_on_one_key_with_hundreds_under_way():
    rng = random.Random(1)
    ops = large_register(rng, 50_000, 400)
    began = time.process_time()
    assert register.check(ops) == []
    took = time.process_time() - began
    print(f"{took:.1f} s")
    assert took < 30
    # One stale read among them is found: it sees a value that was replaced long before.
    late = max((o for o in ops if o.kind == "read" and o.outcome == OK), key=lambda o: o.start)
    old = next(o for o in ops if o.kind == "read" and o.outcome == OK and o.result and o.end < late.start / 2)
    late.result = old.result
    assert register.check(ops)


def kinds(anomalies):
    return {anomaly.kind for anomaly in anomalies}


def test_planted_in_a_register():
    written = op("write", "a", 0, 1)
    assert kinds(register.check([written, op("read", None, 2, 3)])) == {"not linearizable"}
    assert kinds(register.check([op("write", "a", 0, 1, FAIL), op("read", None, 2, 3, result="a")])) == {
        "failed write took effect"
    }
    assert kinds(register.check([op("read", None, 2, 3, result="x")])) == {"phantom"}
    assert kinds(register.check([op("read", None, 0, 1, result="a"), op("write", "a", 2, 3)])) == {
        "read from the future"
    }
    two = [written, op("update", "b", 2, 3, result="a"), op("update", "c", 2, 3, result="a")]
    assert kinds(register.check(two)) == {"lost update"}
    around = [op("update", "b", 0, 9, result="a"), op("update", "a", 0, 9, result="b")]
    assert kinds(register.check(around)) == {"not linearizable"}
    stale = [written, op("write", "b", 2, 3), op("read", None, 4, 5, result="b"), op("read", None, 6, 7, result="a")]
    assert kinds(register.check(stale)) == {"not linearizable"}
    # An unknown write may take effect late, and once only.
    late = [
        op("write", "u", 0, 1, INFO),
        written,
        op("read", None, 2, 3, result="a"),
        op("read", None, 8, 9, result="u"),
    ]
    assert register.check(late) == []
    assert kinds(register.check([*late, op("read", None, 10, 11, result="a")])) == {"not linearizable"}


def test_planted_in_a_counter():
    assert kinds(counter.check([op("incr", None, 0, 1, result=1), op("incr", None, 0, 1, result=1)])) == {"lost update"}
    assert kinds(counter.check([op("incr", None, 0, 1, result=1), op("read", None, 2, 3, result=0)])) == {
        "not linearizable"
    }
    assert kinds(counter.check([op("incr", None, 0, 1, FAIL), op("read", None, 2, 3, result=1)])) == {
        "failed write took effect"
    }
    doubled = [op("incr", None, 0, 1, INFO), op("read", None, 2, 3, result=2)]
    assert kinds(counter.check(doubled)) == {"failed write took effect"}


def test_planted_in_a_set():
    assert kinds(sets.check([op("add", 1, 0, 1), op("read", None, 2, 3, result=[])])) == {"lost write"}
    assert kinds(sets.check([op("add", 1, 0, 1, FAIL), op("read", None, 2, 3, result=[1])])) == {
        "failed write took effect"
    }
