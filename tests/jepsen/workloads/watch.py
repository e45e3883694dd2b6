"""Compare-and-set by WATCH, GET, MULTI, SET and EXEC: an update is atomic, or nothing is done."""

from checkers import register
from outcomes import NotApplied, ReplyError, Unknown, raise_for
from resp import encode, key_slot
from workloads import Workload, text
from workloads.register import as_register

KEYS = 6


class Watch(Workload):
    name = "watch"

    def step(self, worker):
        key, value = f"watch:{worker.rng.randrange(KEYS)}", str(worker.number_of("value"))
        draw, call = worker.rng.random(), worker.client.call
        if draw < 0.3:
            worker.attempt("read", key, None, lambda: text(call(key, "GET", key)))
        elif draw < 0.4:
            worker.attempt("write", key, value, lambda: call(key, "SET", key, value))
        else:
            update(worker, key, value)

    def finish(self, worker):
        for key in sorted({op.key for op in worker.history.ops}):
            worker.insist("read", key, None, lambda key=key: text(worker.client.call(key, "GET", key)))

    def check(self, history):
        return register.check([as_register(op) for op in history.ops])


def update(worker, key, value):
    """Reads under WATCH, and sets if nothing has changed meanwhile. Noted as a `cas` of what was read."""
    expected = [None, value]

    def act():
        link, addr = worker.client.link_for(key_slot(key))
        try:
            expected[0] = watched(worker.client, link, key)
        except (OSError, ValueError) as error:
            worker.client.forsake(addr)
            raise NotApplied(f"connection, before EXEC: {type(error).__name__}") from error
        try:
            done = execute(link, ("SET", key, value))
        except (OSError, ValueError) as error:
            worker.client.forsake(addr)
            raise Unknown(f"connection: {type(error).__name__}") from error
        if not done:
            raise NotApplied("watched key has changed")
        return [1, expected[0]]

    worker.attempt("cas", key, expected, act)


def watched(client, link, key):
    try:
        link.call("WATCH", key)
        return text(link.call("GET", key))
    except ReplyError as error:
        # Nothing is watched any more by a connection that is used again.
        link.call("UNWATCH")
        if error.word == "MOVED":
            client.places[key_slot(key)] = client.translate(str(error).split(" ")[2])
        raise NotApplied(str(error)) from error


def execute(link, *calls):
    """EXEC's reply; what it says decides alone."""
    link.send_raw(b"".join(encode(*words) for words in [("MULTI",), *calls, ("EXEC",)]))
    replies = []
    for _ in range(len(calls) + 2):
        try:
            replies.append(link.read_reply())
        except ReplyError as error:
            replies.append(error)
    if isinstance(replies[-1], ReplyError):
        raise_for(replies[-1])
    return replies[-1] is not None
