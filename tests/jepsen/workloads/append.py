"""Lists in transactions: MULTI with RPUSH and LRANGE on several keys of a slot, strictly serializable."""

from checkers import append
from workloads import Workload

TAGS = 6
KEYS_PER_TAG = 3
APPENDS_PER_LIST = 48
LONGEST_TRANSACTION = 4


class Append(Workload):
    name = "append"

    def __init__(self, rng):
        super().__init__(rng)
        self.appended = {}

    def key(self, tag, number):
        """A list is given up when it has become long, so that reading all of it stays cheap."""
        name = f"{{append:{tag}}}:{number}"
        return f"{name}:{self.appended.get(name, 0) // APPENDS_PER_LIST}", name

    def step(self, worker):
        rng, tag, calls = worker.rng, worker.rng.randrange(TAGS), []
        for _ in range(rng.randint(1, LONGEST_TRANSACTION)):
            key, name = self.key(tag, rng.randrange(KEYS_PER_TAG))
            if rng.random() < 0.5:
                calls.append(["append", key, worker.number_of("value")])
                # Racy, and need not be exact.
                self.appended[name] = self.appended.get(name, 0) + 1
            else:
                calls.append(["read", key, None])
        worker.attempt("txn", f"{{append:{tag}}}", calls, lambda: run(worker.client, calls))

    def finish(self, worker):
        keys = sorted({key for op in worker.history.ops for _, key, _ in op.value})
        for key in keys:
            calls = [["read", key, None]]
            worker.insist("txn", key, calls, lambda calls=calls: run(worker.client, calls))

    def check(self, history):
        return append.check(history.ops)


def run(client, calls):
    """A single call without MULTI, as an application would."""
    words = [("RPUSH", k, v) if kind == "append" else ("LRANGE", k, 0, -1) for kind, k, v in calls]
    key = calls[0][1]
    replies = [client.call(key, *words[0])] if len(words) == 1 else client.transaction(key, words)
    return [
        [int(v) for v in reply] if kind == "read" else None for (kind, _, _), reply in zip(calls, replies, strict=True)
    ]
