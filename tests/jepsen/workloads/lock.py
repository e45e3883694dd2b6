"""Locks: SET with NX and PX, given back by a script that compares the token; never held by two."""

import time

from checkers import lock
from workloads import Workload

KEYS = 3
LIMITS_MS = (300, 1000, 3000)

RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Lock(Workload):
    name = "lock"
    excluded = dict.fromkeys(("clock-jump", "clock-strobe"), "how long a key lives depends on the clocks")

    def step(self, worker):
        key, token = f"lock:{worker.rng.randrange(KEYS)}", worker.number_of("token")
        limit_ms, call = worker.rng.choice(LIMITS_MS), worker.client.call

        def acquire():
            return call(key, "SET", key, token, "NX", "PX", limit_ms) is not None

        _, granted = worker.attempt("acquire", key, [token, limit_ms / 1000], acquire)
        if granted:
            time.sleep(worker.rng.uniform(0, 0.03))
            # Some holders die, and the limit frees their lock.
            if worker.rng.random() < 0.9:
                worker.attempt("release", key, token, lambda: call(key, "EVAL", RELEASE, 1, key, token))

    def check(self, history):
        return lock.check(history.ops)
