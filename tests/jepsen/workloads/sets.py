"""Sets that grow: SADD and SMEMBERS, linearizable; what was added stays."""

from checkers import sets
from workloads import Workload

KEYS = 6
ADDS_PER_SET = 300


class Sets(Workload):
    name = "set"

    def __init__(self, rng):
        super().__init__(rng)
        self.added = 0

    def step(self, worker):
        key = f"set:{worker.rng.randrange(KEYS)}:{self.added // (KEYS * ADDS_PER_SET)}"
        if worker.rng.random() < 0.7:
            self.added += 1
            value = worker.number_of("value")
            worker.attempt("add", key, value, lambda: worker.client.call(key, "SADD", key, value))
        else:
            worker.attempt("read", key, None, lambda: members(worker.client, key))

    def finish(self, worker):
        for key in sorted({op.key for op in worker.history.ops}):
            worker.insist("read", key, None, lambda key=key: members(worker.client, key))

    def check(self, history):
        return sets.check(history.ops)


def members(client, key):
    return sorted(int(value) for value in client.call(key, "SMEMBERS", key))
