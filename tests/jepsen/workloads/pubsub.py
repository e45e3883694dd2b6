"""Tagged replies and messages: every reply belongs to its call, every message to its channel, in its publisher's order.

Calls of several kinds and slots go down one connection at once, each with a tag that its reply must carry. Publishing
is at most once: a message may be lost with a link, but none comes twice, late behind a later one, or from nowhere.
"""

import select

from checkers import Anomaly
from history import OK
from outcomes import ReplyError
from resp import Connection, key_slot
from workloads import Workload, text

CHANNELS = 4
PIPELINE = 24
LISTEN_S = 0.05
ECHO = "return {KEYS[1], ARGV[1]}"


class PubSub(Workload):
    name = "pubsub"

    def step(self, worker):
        if worker.number % 5 == 0:
            listen(worker)
        elif worker.rng.random() < 0.5:
            publish(worker)
        else:
            tagged(worker)

    def check(self, history):
        anomalies = []
        for op in history.ops:
            if op.kind == "tagged" and op.outcome == OK:
                anomalies += [Anomaly("crossed reply", wrong, [op]) for wrong in op.result]
        return anomalies + messages(history)


def publish(worker):
    channel = f"channel:{worker.rng.randrange(CHANNELS)}"
    number = worker.number_of(channel)

    def act():
        # Messages of one connection come in order; between two connections there is none.
        link, _ = worker.client.link_for(key_slot(channel))
        message = f"{channel}/{worker.number}/{link.socket.getsockname()[1]}/{number}"
        return worker.client.call(channel, "PUBLISH", channel, message)

    worker.attempt("publish", channel, number, act)


def tagged(worker):
    """A pipeline over many slots; the result lists the replies that are not their calls' own."""
    sent, unsure = worker.__dict__.setdefault("sent", {}), worker.__dict__.setdefault("unsure", set())
    calls, wanted = [], []
    for _ in range(worker.rng.randint(2, PIPELINE)):
        tag = f"{worker.number}:{worker.number_of('tag')}"
        key = f"tag:{worker.number}:{worker.rng.randrange(8)}"
        kind = worker.rng.randrange(4)
        if kind == 0:
            calls += [("ECHO", tag)]
            wanted += [tag]
        elif kind == 1:
            calls += [("EVAL", ECHO, 1, key, tag)]
            wanted += [[key, tag]]
        elif kind == 2:
            calls += [("SET", key, tag), ("GET", key)]
            wanted += ["OK", tag]
        else:
            calls += [("GETSET", f"{key}:old", tag), ("GET", f"{key}:old")]
            wanted += [None, tag]
    writes = [call for call in calls if call[0] in ("SET", "GETSET")]
    for _, key, tag in writes:
        sent.setdefault(key, set()).add(tag)

    def act():
        try:
            replies = worker.client.exchange(f"tag:{worker.number}:0", calls)
        except Exception:
            unsure.update(key for _, key, _ in writes)
            raise
        failed = [call for call, reply in zip(calls, replies, strict=True) if isinstance(reply, ReplyError)]
        unsure.update(call[1] for call in failed if call in writes)
        held = {key: sent[key] | {None} for key in unsure}
        return [said for triple in zip(calls, wanted, replies, strict=True) if (said := crossed(*triple, held))]

    worker.attempt("tagged", f"client:{worker.number}", len(calls), act)


def crossed(call, wanted, reply, held):
    """What is wrong with a reply, or None. An error is nobody's.

    `held`: what a GET may find at keys to which a write was refused, or is of unknown fate and may come late.
    """
    reply = [text(part) for part in reply] if isinstance(reply, list) else text(reply)
    if isinstance(reply, ReplyError) or wanted is None or reply == wanted:
        return None
    if call[0] == "GET" and call[1] in held and reply in held[call[1]]:
        return None
    return f"{call} was answered {reply}"


def listen(worker):
    """Subscribes for good, and takes what has come."""
    held = worker.__dict__
    if held.get("ear") is None:
        try:
            held["ear"] = ear = Connection(worker.rng.choice(worker.client.addrs()), 1.0)
            held["ears"] = held.get("ears", 0) + 1
            ear.call("SUBSCRIBE", *(f"channel:{channel}" for channel in range(CHANNELS)))
        except (OSError, ReplyError):
            held["ear"] = None
            return
    got = []
    try:
        # A message that has begun to come is read to its end.
        while len(got) < 200 and (held["ear"].buffer or select.select([held["ear"].socket], [], [], LISTEN_S)[0]):
            kind, channel, message = held["ear"].read_reply()
            # Beside messages come the confirmations of the subscription.
            if kind == b"message":
                got.append([channel.decode(), text(message)])
    except (OSError, ValueError, ReplyError):
        held["ear"] = None
    worker.attempt("listen", f"ear:{worker.number}:{held['ears']}", None, lambda: got)


def messages(history):
    published = {(op.key, op.client, op.value): op for op in history.ops if op.kind == "publish"}
    anomalies, latest = [], {}
    for op in sorted(history.ops, key=lambda op: op.start):
        if op.kind != "listen" or op.outcome != OK:
            continue
        for channel, message in op.result:
            named, client, connection, number = message.split("/")
            client, number = int(client), int(number)
            if named != channel or (channel, client, number) not in published:
                anomalies.append(Anomaly("foreign message", f"{message} came on {channel}", [op]))
            before = latest.get((op.key, channel, client, connection), 0)
            if number <= before:
                what = f"{message} came after number {before} of the same publisher"
                anomalies.append(
                    Anomaly("message twice or out of order", what, [published.get((channel, client, number), op), op])
                )
            latest[op.key, channel, client, connection] = max(before, number)
    return anomalies
