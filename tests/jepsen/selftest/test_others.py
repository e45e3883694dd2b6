"""Planted anomalies for the checkers of queues, streams, locks, banks and messages."""

import random

from checkers import lock, queue, stream
from history import FAIL, INFO, OK, History, Op
from workloads.bank import Bank
from outcomes import ReplyError
from workloads.pubsub import PubSub, crossed


def op(kind, value, start, end, outcome=OK, result=None, client=1, key="k"):
    return Op(client, kind, key, value, start, end, outcome, result)


def kinds(anomalies):
    return {anomaly.kind for anomaly in anomalies}


PUSHES = [op("push", 1, 0, 1), op("push", 2, 2, 3)]


def test_queue():
    good = [*PUSHES, op("pop", "", 4, 5, result=1), op("pop", "", 6, 7, result=2), op("rest", None, 8, 9, result=[])]
    assert queue.check(good) == []
    swapped = [*PUSHES, op("pop", "", 4, 5, result=2), op("pop", "", 6, 7, result=1)]
    assert kinds(queue.check(swapped)) == {"out of order"}
    twice = [*PUSHES, op("pop", "", 4, 5, result=1), op("pop", "", 6, 7, result=1)]
    assert kinds(queue.check(twice)) == {"duplicate"}
    lost = [*PUSHES, op("pop", "", 4, 5, result=1), op("rest", None, 8, 9, result=[])]
    assert kinds(queue.check(lost)) == {"lost write"}
    assert queue.check([*lost, op("pop", "", 4, 5, INFO)]) == []
    assert kinds(queue.check([op("push", 1, 0, 1, FAIL), op("pop", "", 4, 5, result=1)])) == {
        "failed write took effect"
    }
    assert kinds(queue.check([op("pop", "", 4, 5, result=1)])) == {"phantom"}


def test_lock():
    first = op("acquire", [1, 1.0], 0, 0.1, result=True)
    assert (
        lock.check([first, op("release", 1, 0.5, 0.6, result=1), op("acquire", [2, 1.0], 0.5, 0.7, result=True)]) == []
    )
    assert lock.check([first, op("acquire", [2, 1.0], 0.9, 1.1, result=True)]) == []
    assert kinds(lock.check([first, op("acquire", [2, 1.0], 0.5, 0.6, result=True)])) == {"lock held twice"}
    assert kinds(lock.check([first, op("release", 1, 0.3, 0.4, result=0)])) == {"lost write"}


def stream_of(*more, ids=("1-0", "2-0"), given=(("1-0", 1), ("2-0", 2))):
    adds = [op("add", n, 2 * n, 2 * n + 1, result=entry) for n, entry in enumerate(ids, 1)]
    everything = [[entry, n] for n, entry in enumerate(ids, 1)]
    return [
        *adds,
        *more,
        op("drain", "", 20, 21, result=[list(pair) for pair in given]),
        op("all", None, 30, 31, result=everything),
    ]


def test_stream():
    assert stream.check(stream_of()) == []
    assert kinds(stream.check(stream_of(ids=("2-0", "1-0"), given=(("1-0", 2), ("2-0", 1))))) == {"not linearizable"}
    assert kinds(stream.check(stream_of(given=(("1-0", 1),)))) == {"lost write"}
    assert kinds(stream.check(stream_of(op("add", 9, 10, 11, result="3-0")))) == {"lost write"}
    again = op("deliver", "", 6, 7, result=[["1-0", 1]])
    assert kinds(stream.check(stream_of(again))) >= {"duplicate"}
    acked = [
        op("deliver", "", 6, 7, result=[["1-0", 1]]),
        op("ack", "1-0", 8, 9, result=1),
        op("claim", "", 10, 11, result=[["1-0", 1]]),
    ]
    assert kinds(stream.check(stream_of(*acked, given=(("2-0", 2),)))) == {"delivered after acknowledgement"}
    late = [op("deliver", "", 6, 7, result=[["2-0", 2]])]
    assert kinds(stream.check(stream_of(*late, given=(("1-0", 1),)))) == {"out of order"}


def bank(*ops):
    return kinds(Bank(random.Random(1)).check(History(list(ops))))


def test_bank():
    whole = [100] * 6
    moved = [90, 110, 100, 100, 100, 100]
    transfer = op("transfer", [7, "0>1:10"], 0, 1, result=1)
    assert bank(transfer, op("audit", None, 5, 6, result={"balances": moved, "records": {"7": "0>1:10"}})) == set()
    assert bank(op("read", None, 5, 6, result=[99, *whole[1:]])) == {"money made or lost"}
    assert bank(transfer, op("audit", None, 5, 6, result={"balances": whole, "records": {}})) == {"lost write"}
    refused = op("transfer", [7, "0>1:10"], 0, 1, FAIL)
    assert bank(refused, op("audit", None, 5, 6, result={"balances": moved, "records": {"7": "0>1:10"}})) == {
        "failed write took effect"
    }
    assert bank(transfer, op("audit", None, 5, 6, result={"balances": whole, "records": {"7": "0>1:10"}})) == {
        "not atomic"
    }


def messages(*got):
    sent = [op("publish", n, n, n + 1, result=1, key="c") for n in (1, 2, 3)]
    heard = [op("listen", None, 10 + n, 11 + n, result=[["c", m]], key="ear") for n, m in enumerate(got)]
    return kinds(PubSub(random.Random(1)).check(History([*sent, *heard])))


def test_messages():
    assert messages("c/1/7/1", "c/1/7/3") == set()
    assert messages("c/1/7/2", "c/1/7/1") == {"message twice or out of order"}
    assert messages("c/1/7/1", "c/1/7/1") == {"message twice or out of order"}
    assert messages("c/1/7/2", "c/1/8/1") == set()
    assert messages("c/1/7/9") == {"foreign message"}
    crossed = op("tagged", 1, 0, 1, result=["('ECHO', 'a') was answered b"])
    assert kinds(PubSub(random.Random(1)).check(History([crossed]))) == {"crossed reply"}


def test_crossed_replies():
    """A tag is demanded of a GET unless a write to its key may not have been done, or may come late."""
    get = ("GET", "tag:1:2")
    assert crossed(get, "1:9", b"1:9", {}) is None
    assert crossed(get, "1:9", b"1:8", {}) is not None
    held = {"tag:1:2": {"1:8", "1:9", None}}
    assert crossed(get, "1:9", b"1:8", held) is None
    assert crossed(get, "1:9", None, held) is None
    assert crossed(get, "1:9", b"2:8", held) is not None
    assert crossed(("ECHO", "1:9"), "1:9", b"1:8", held) is not None
    assert crossed(("SET", "tag:1:2", "1:9"), "OK", ReplyError("UNKNOWN it"), {}) is None
