"""Blocked clients while the leader they wait at is killed: each is answered, and no element is given to nobody."""

import contextlib
import itertools
import threading
import time

from load import tag_for
from resp import Connection, ReplyError

BLOCK_S = 1
# The write time-out, after which nobody waits for an answer any more, and slack for a busy machine.
ANSWER_LIMIT_S = 20.0
WARM_S, AFTER_S, PACE_S = 1.0, 3.0, 0.01


class Consumer(threading.Thread):
    """Pops from a list with BLPOP through one node; a call without an answer in time is a failure."""

    def __init__(self, addr, key):
        super().__init__(daemon=True)
        self.addr, self.key = addr, key
        self.halt = threading.Event()
        self.got, self.unknown, self.errors, self.silent = [], 0, [], False

    def run(self):
        try:
            with Connection(self.addr, ANSWER_LIMIT_S) as connection:
                while not self.halt.is_set():
                    self._pop(connection)
        except TimeoutError:
            self.silent = True
        except OSError:
            # Its own node was killed: what it was given, nobody has read.
            self.unknown += 1

    def _pop(self, connection):
        try:
            popped = connection.call("BLPOP", self.key, BLOCK_S)
            self.got += [int(popped[1])] if popped else []
        except ReplyError as error:
            self.errors.append(str(error))
            self.unknown += error.word == "UNKNOWN"


class Producer(threading.Thread):
    """Pushes numbers, each once."""

    def __init__(self, addr, key):
        super().__init__(daemon=True)
        self.addr, self.key = addr, key
        self.halt = threading.Event()
        self.acknowledged, self.unknown = set(), set()

    def run(self):
        with Connection(self.addr, ANSWER_LIMIT_S) as connection:
            for number in itertools.count():
                if self.halt.is_set():
                    return
                try:
                    connection.call("RPUSH", self.key, number)
                    self.acknowledged.add(number)
                except ReplyError as error:
                    if error.word == "UNKNOWN":
                        self.unknown.add(number)
                time.sleep(PACE_S)


def test_blpop_through_the_death_of_the_leader(cluster):
    group, slot = next(iter(cluster.slotted_groups().items()))
    key = f"{{{tag_for(slot)}}}:queue"
    leader = cluster.wait_led(group)
    others = [node for node in cluster.nodes if node is not leader]
    consumers = [Consumer(node.client_addr, key) for node in cluster.nodes for _ in range(2)]
    producer = Producer(others[0].client_addr, key)
    for thread in [*consumers, producer]:
        thread.start()
    time.sleep(WARM_S)
    assert all(consumer.got for consumer in consumers), "everybody gets a share"
    leader.kill()
    cluster.wait_led(group)
    time.sleep(AFTER_S)
    producer.halt.set()
    producer.join()
    # What is there is popped before the consumers end with a call that finds nothing.
    time.sleep(2 * BLOCK_S)
    for consumer in consumers:
        consumer.halt.set()
    for consumer in consumers:
        consumer.join()
    errors = [error for consumer in consumers for error in consumer.errors]
    print(f"{len(producer.acknowledged)} pushed, {len(producer.unknown)} unknown; {errors}")
    assert not any(consumer.silent for consumer in consumers), "a blocked client was never answered"
    with Connection(others[0].client_addr) as connection:
        left = [int(number) for number in connection.call("LRANGE", key, 0, -1)]
    seen = [number for consumer in consumers for number in consumer.got] + left
    assert len(seen) == len(set(seen)), "an element was given twice"
    missing = producer.acknowledged - set(seen)
    # A call that was answered UNKNOWN, or whose connection broke, may have taken one element each.
    assert len(missing) <= sum(consumer.unknown for consumer in consumers), missing
    assert set(seen) <= producer.acknowledged | producer.unknown


def test_a_blocked_read_is_safe_to_try_again_when_its_leader_dies(cluster):
    group, slot = next(iter(cluster.slotted_groups().items()))
    key = f"{{{tag_for(slot)}}}:stream"
    leader = cluster.wait_led(group)
    other = next(node for node in cluster.nodes if node is not leader)
    with Connection(other.client_addr, ANSWER_LIMIT_S) as blocked:
        blocked.send("XREAD", "BLOCK", 0, "STREAMS", key, "$")
        time.sleep(0.3)
        leader.kill()
        try:
            raise AssertionError(f"not an error: {blocked.read_reply()}")
        except ReplyError as error:
            assert error.word == "UNBLOCKED", "it has only looked"


def test_a_read_that_finds_no_leader_is_made_at_the_next_one(cluster):
    """It has not blocked yet, so no moment of its has passed."""
    group, slot = next(iter(cluster.slotted_groups().items()))
    key = f"{{{tag_for(slot)}}}:stream"
    for _ in range(3):
        leader = cluster.wait_led(group)
        others = [node for node in cluster.nodes if node is not leader]
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Connection(node.client_addr, ANSWER_LIMIT_S)) for node in others * 4]
            leader.kill()
            for client in clients:
                client.send("XREAD", "BLOCK", 500, "STREAMS", key, "$")
            for client in clients:
                assert client.read_reply() is None
        leader.start()
        cluster.wait_ready()


def test_a_blocked_client_that_leaves_takes_nothing_with_it(cluster):
    slot = next(iter(cluster.slotted_groups().values()))
    key = f"{{{tag_for(slot)}}}:queue"
    for node in cluster.nodes:
        with Connection(node.client_addr) as connection, Connection(node.client_addr) as killed:
            connection.send("BLPOP", key, 0)
            number = killed.call("CLIENT", "ID")
            killed.send("BLPOP", key, 0)
            with Connection(node.client_addr) as other:
                time.sleep(0.2)
                assert other.call("CLIENT", "KILL", "ID", number) == 1
        time.sleep(0.3)
        with Connection(node.client_addr) as other:
            assert other.call("RPUSH", key, "x") == 1, "nobody is waiting any more"
            assert other.call("LPOP", key) == b"x"
            info = other.call("INFO", "clients").decode()
            assert "blocked_clients:0" in info


def test_unblock_and_pipelines_behind_a_blocked_call(cluster):
    slot = next(iter(cluster.slotted_groups().values()))
    key = f"{{{tag_for(slot)}}}:queue"
    for node in cluster.nodes:
        with Connection(node.client_addr, ANSWER_LIMIT_S) as blocked, Connection(node.client_addr) as other:
            number = blocked.call("CLIENT", "ID")
            for how in (["TIMEOUT"], ["ERROR"]):
                blocked.send_raw(b"BLPOP %s 0\r\nPING\r\n" % key.encode())
                time.sleep(0.2)
                assert other.call("CLIENT", "UNBLOCK", number, *how) == 1
                try:
                    assert blocked.read_reply() is None and how == ["TIMEOUT"]
                except ReplyError as error:
                    assert how == ["ERROR"] and error.word == "UNBLOCKED"
                assert blocked.read_reply() == "PONG"
            assert other.call("CLIENT", "UNBLOCK", number) == 0
            began = time.monotonic()
            assert blocked.call("BLPOP", key, "0.3") is None
            assert 0.25 < time.monotonic() - began < 5
            blocked.send("BLPOP", key, 0)
            time.sleep(0.1)
            other.call("RPUSH", key, "y")
            assert blocked.read_reply() == [key.encode(), b"y"]
