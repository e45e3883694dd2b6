"""Queues: RPUSH, BLPOP and LPOP; every element is taken once, first in first out."""

from checkers import queue
from workloads import Workload

KEYS = 4


class Queue(Workload):
    name = "queue"

    def step(self, worker):
        key = f"queue:{worker.rng.randrange(KEYS)}"
        draw, call = worker.rng.random(), worker.client.call
        if draw < 0.55:
            value = worker.number_of("value")
            worker.attempt("push", key, value, lambda: call(key, "RPUSH", key, value))
        elif draw < 0.85:
            worker.attempt("pop", key, "BLPOP", lambda: element(call(key, "BLPOP", key, "0.2")))
        else:
            worker.attempt("pop", key, "LPOP", lambda: number(call(key, "LPOP", key)))

    def finish(self, worker):
        # In one read: a take that is tried again would be of unknown fate itself.
        for n in range(KEYS):
            key = f"queue:{n}"
            worker.insist("rest", key, None, lambda k=key: [int(v) for v in worker.client.call(k, "LRANGE", k, 0, -1)])

    def check(self, history):
        return queue.check(history.ops)


def element(reply):
    return None if reply is None else int(reply[1])


def number(reply):
    return None if reply is None else int(reply)
