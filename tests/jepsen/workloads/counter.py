"""Counters: INCR and GET, linearizable; an increment is done once, or not at all if it was refused."""

from checkers import counter
from workloads import Workload

KEYS = 9


class Counter(Workload):
    name = "counter"

    def step(self, worker):
        key = f"counter:{worker.rng.randrange(KEYS)}"
        if worker.rng.random() < 0.6:
            worker.attempt("incr", key, None, lambda: worker.client.call(key, "INCR", key))
        else:
            worker.attempt("read", key, None, lambda: int(worker.client.call(key, "GET", key) or 0))

    def finish(self, worker):
        for key in sorted({op.key for op in worker.history.ops}):
            worker.insist("read", key, None, lambda key=key: int(worker.client.call(key, "GET", key) or 0))

    def check(self, history):
        return counter.check(history.ops)
