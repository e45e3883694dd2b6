"""Workloads: what clients do, and how what they saw is judged. One file each; `ALL` is the list."""

import time

from history import FAIL, INFO, OK, Op
from outcomes import NotApplied, Unknown

PAUSE_AFTER_ERROR_S = 0.005
FINAL_LIMIT_S = 30.0


class Worker:
    """One client thread's hands: performs operations, and notes each in the history."""

    def __init__(self, number, client, rng, history):
        self.number, self.client, self.rng, self.history = number, client, rng, history

    def attempt(self, kind, key, value, act):
        """Performs `act` once and records it; returns (outcome, result)."""
        start = self.history.now()
        result, error = None, ""
        try:
            result, outcome = act(), OK
        except NotApplied as failure:
            outcome, error = FAIL, str(failure)
        except Unknown as failure:
            outcome, error = INFO, str(failure)
        op = Op(self.number, kind, key, value, start, self.history.now(), outcome, result, error)
        self.history.add(op)
        if outcome != OK:
            time.sleep(PAUSE_AFTER_ERROR_S)
        return outcome, result

    def insist(self, kind, key, value, act):
        """Repeats until it succeeds, for reads after the last fault; None if the cluster does not come back."""
        deadline = time.monotonic() + FINAL_LIMIT_S
        while time.monotonic() < deadline:
            outcome, result = self.attempt(kind, key, value, act)
            if outcome == OK:
                return result
        raise TimeoutError(f"{kind} {key}: no answer for {FINAL_LIMIT_S:.0f} s after the last fault")

    def number_of(self, kind):
        """A value that nobody else writes."""
        self.counts = getattr(self, "counts", {})
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return self.number * 1_000_000 + self.counts[kind]


class Workload:
    """Subclasses say what one client does at a time, what is read at the end, and what must hold."""

    name = ""
    # Nemeses under which what is checked is not promised, with the reason.
    excluded = {}

    def __init__(self, rng):
        self.rng = rng

    def prepare(self, worker):
        """Before the first fault, by one client."""

    def step(self, worker):
        """One operation, or a few."""
        raise NotImplementedError

    def finish(self, worker):
        """After the last fault is healed, by one client."""

    def check(self, history):
        """A list of `checkers.Anomaly`."""
        raise NotImplementedError


def text(value):
    """A reply's bytes as text; nil stays None."""
    return value.decode() if isinstance(value, bytes) else value


def by_name():
    # Here, for they import this module.
    from workloads import append, bank, counter, lock, pubsub, queue, register, sets, stream, watch

    all_of_them = (
        register.Register, counter.Counter, append.Append, sets.Sets, bank.Bank,
        stream.Stream, queue.Queue, lock.Lock, watch.Watch, pubsub.PubSub,
    )  # fmt: skip
    return {workload.name: workload for workload in all_of_them}
