"""Streams with a consumer group: XADD, XREADGROUP, XACK, XAUTOCLAIM; each entry delivered, none after its XACK."""

from checkers import stream
from outcomes import NotApplied
from workloads import Workload, text

KEYS = 3
GROUP = "group"


class Stream(Workload):
    name = "stream"

    def prepare(self, worker):
        for n in range(KEYS):
            key = f"stream:{n}"
            worker.insist("found", key, None, lambda k=key: create(worker.client, k))

    def step(self, worker):
        key, call = f"stream:{worker.rng.randrange(KEYS)}", worker.client.call
        draw, consumer = worker.rng.random(), f"consumer-{worker.number}"
        held = worker.__dict__.setdefault("held", {}).setdefault(key, [])
        if draw < 0.45:
            value = worker.number_of("value")
            worker.attempt("add", key, value, lambda: text(call(key, "XADD", key, "*", "v", value)))
        elif draw < 0.75:
            _, got = worker.attempt("deliver", key, consumer, lambda: new(worker.client, key, consumer, worker.rng))
            held += [entry for entry, _ in got or []]
        elif draw < 0.97 and held:
            entry = held.pop(0)
            worker.attempt("ack", key, entry, lambda: call(key, "XACK", key, GROUP, entry))
        elif draw >= 0.97:
            _, got = worker.attempt("claim", key, consumer, lambda: claim(worker.client, key, consumer, 200))
            held += [entry for entry, _ in got or []]

    def finish(self, worker):
        for n in range(KEYS):
            key = f"stream:{n}"
            # Until nothing new is left. An attempt of unknown fate leaves entries pending, and the claim finds them.
            while worker.insist("drain", key, None, lambda k=key: new(worker.client, k, "last", worker.rng)):
                pass
            worker.insist("claim", key, None, lambda k=key: claim(worker.client, k, "last", 0, 1_000_000))
            worker.insist("all", key, None, lambda k=key: pairs(worker.client.call(k, "XRANGE", k, "-", "+")))

    def check(self, history):
        return stream.check(history.ops)


def create(client, key):
    try:
        return client.call(key, "XGROUP", "CREATE", key, GROUP, "0", "MKSTREAM")
    except NotApplied as error:
        if "BUSYGROUP" in str(error):
            return "OK"
        raise


def new(client, key, consumer, rng):
    block = ["BLOCK", 100] if rng.random() < 0.5 else []
    words = ["XREADGROUP", "GROUP", GROUP, consumer, "COUNT", rng.randint(1, 20), *block, "STREAMS", key, ">"]
    reply = client.call(key, *words)
    return pairs(reply[0][1]) if reply else []


def claim(client, key, consumer, idle_ms, count=20):
    return pairs(client.call(key, "XAUTOCLAIM", key, GROUP, consumer, idle_ms, "0", "COUNT", count)[1])


def pairs(entries):
    return [[entry.decode(), int(fields[1])] for entry, fields in entries]
