"""Registers: SET, GET, compare-and-set by script and SET with GET, on a few hot keys, each linearizable."""

from dataclasses import replace

from checkers import register
from history import OK
from workloads import Workload, text

KEYS = 12
# A key is given up after a while, so that its absence is tested again and again.
STEPS_PER_GENERATION = 4000

COMPARE_AND_SET = """
local current = redis.call('GET', KEYS[1])
if current == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2])
  return {1, current}
end
return {0, current}
"""


class Register(Workload):
    name = "register"

    def __init__(self, rng):
        super().__init__(rng)
        self.steps = 0

    def step(self, worker):
        self.steps += 1
        key = f"register:{self.steps // STEPS_PER_GENERATION}:{worker.rng.randrange(KEYS)}"
        seen = worker.__dict__.setdefault("seen", {})
        call, value = worker.client.call, str(worker.number_of("value"))
        draw = worker.rng.random()
        if draw < 0.45:
            _, result = worker.attempt("read", key, None, lambda: text(call(key, "GET", key)))
            seen[key] = result or seen.get(key)
        elif draw < 0.70:
            if worker.attempt("write", key, value, lambda: call(key, "SET", key, value))[0] == OK:
                seen[key] = value
        elif draw < 0.80:
            worker.attempt("update", key, value, lambda: text(call(key, "SET", key, value, "GET")))
        elif seen.get(key):
            self.compare_and_set(worker, key, seen, value)

    def compare_and_set(self, worker, key, seen, value):
        expected = seen[key]

        def act():
            done, current = worker.client.call(key, "EVAL", COMPARE_AND_SET, 1, key, expected, value)
            return [done, text(current)]

        outcome, result = worker.attempt("cas", key, [expected, value], act)
        if outcome == OK:
            seen[key] = value if result[0] else result[1]

    def finish(self, worker):
        for key in sorted({op.key for op in worker.history.ops}):
            worker.insist("read", key, None, lambda key=key: text(worker.client.call(key, "GET", key)))

    def check(self, history):
        return register.check([as_register(op) for op in history.ops])


def as_register(op):
    """A compare-and-set is an update if it did something, and a read if it told why not."""
    if op.kind == "update" and op.outcome != OK:
        return replace(op, kind="write")
    if op.kind != "cas":
        return op
    expected, value = op.value
    if op.outcome != OK:
        return replace(op, kind="update", value=value, result=expected)
    done, current = op.result
    if done:
        return replace(op, kind="update", value=value, result=current)
    return replace(op, kind="read", value=None, result=current)
