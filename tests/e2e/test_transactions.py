"""MULTI, EXEC and WATCH on connections that know nothing of the cluster, while leaders die."""

import itertools
import threading
import time

from load import tag_for
from resp import Connection, ReplyError

WARM_S, AFTER_S = 1.0, 2.0
CALL_LIMIT_S = 15.0


class Transactor(threading.Thread):
    """Adds to two keys of a slot in one transaction, again and again, through whichever node answers."""

    def __init__(self, addrs, tag):
        super().__init__(daemon=True)
        self.addrs, self.keys = itertools.cycle(addrs), [f"{{{tag}}}:a", f"{{{tag}}}:b"]
        self.halt = threading.Event()
        self.acknowledged, self.unknown, self.answers = 0, 0, []

    def run(self):
        while not self.halt.is_set():
            try:
                with Connection(next(self.addrs), CALL_LIMIT_S) as connection:
                    self._use(connection)
            except OSError:
                time.sleep(0.01)

    def _use(self, connection):
        while not self.halt.is_set():
            connection.call("MULTI")
            try:
                for key in self.keys:
                    connection.call("INCR", key)
                first, second = connection.call("EXEC")
                assert first == second, "one of the two was missing"
                self.acknowledged += 1
            except ReplyError as error:
                self.answers.append(str(error))
                self.unknown += error.word == "UNKNOWN"
                if error.word != "EXECABORT" and error.word != "UNKNOWN":
                    return
            except OSError:
                self.unknown += 1
                raise


def test_a_transaction_is_whole_or_nothing_when_the_leader_is_killed(cluster):
    group, slot = next(iter(cluster.slotted_groups().items()))
    transactor = Transactor(cluster.addrs(), tag_for(slot))
    transactor.start()
    time.sleep(WARM_S)
    before = transactor.acknowledged
    cluster.wait_led(group).kill()
    cluster.wait_led(group)
    time.sleep(AFTER_S)
    transactor.halt.set()
    transactor.join()
    assert 0 < before < transactor.acknowledged, transactor.answers
    with Connection(cluster.answering()[0].client_addr) as connection:
        first, second = (int(value) for value in connection.call("MGET", *transactor.keys))
    print(f"{transactor.acknowledged} acknowledged, {transactor.unknown} unknown, {first} found")
    assert first == second
    assert transactor.acknowledged <= first <= transactor.acknowledged + transactor.unknown
    assert not [answer for answer in transactor.answers if answer.startswith("MOVED")]


def test_watch_notices_other_nodes_and_outlives_the_leader(cluster):
    group, slot = next(iter(cluster.slotted_groups().items()))
    key = f"{{{tag_for(slot)}}}:watched"
    leader = cluster.wait_led(group)
    near, far = [node for node in cluster.nodes if node is not leader]
    with Connection(near.client_addr, CALL_LIMIT_S) as watcher, Connection(far.client_addr, CALL_LIMIT_S) as other:

        def execute():
            watcher.call("MULTI")
            watcher.call("INCR", key)
            return watcher.call("EXEC")

        other.call("SET", key, 1)
        watcher.call("WATCH", key)
        assert execute() == [2], "nothing has changed"
        watcher.call("WATCH", key)
        other.call("SET", key, 10)
        assert execute() is None, "another node's client has changed it"
        watcher.call("WATCH", key)
        leader.kill()
        cluster.wait_led(group)
        assert execute() == [11], "a new leader changes nothing"

        other.call("DEL", key)
        watcher.call("WATCH", key)
        assert execute() == [1], "it is still absent"
        other.call("DEL", key)
        watcher.call("WATCH", key)
        other.call("SET", key, 20)
        other.call("DEL", key)
        assert execute() is None, "it is absent again"

        leader.start()
        cluster.wait_ready()
        watcher.call("WATCH", key)
        other.call("SET", key, 30)
        # It leads again as a rule; if not yet, the change and EXEC have the same leader.
        if cluster.wait_led(group) is leader:
            leader.kill()
            cluster.wait_led(group)
        assert execute() is None, "changed under the old leader, executed under the new one"
        assert other.call("GET", key) == b"30"
