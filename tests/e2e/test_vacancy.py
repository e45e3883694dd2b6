"""Calls for a group without a leader wait for the next one, so that clients need not know of elections."""

import subprocess
import threading
import time

from cluster import Cluster
from load import tag_for
from resp import Connection, ReplyError, cluster_connection

WAIT_S = 0.6
# Far more than any election here takes, so that only an election that never ends is answered CLUSTERDOWN.
PATIENT = {"leader_wait_ms": 5000, "write_timeout_ms": 10000, "forward": "never"}
FAULTS = 6
PACE_S = 0.002


class Caller(threading.Thread):
    """Writes to one slot through one node that stays up, follows MOVED once, and never retries: what a call is
    answered is what a simple client's user sees."""

    def __init__(self, cluster, slot):
        super().__init__(daemon=True)
        self.cluster, self.key = cluster, f"{{{tag_for(slot)}}}:caller"
        self.halt = threading.Event()
        self.through, self.answered, self.errors = None, 0, []

    def run(self):
        while not self.halt.is_set():
            self._call()
            time.sleep(PACE_S)

    def _call(self):
        """Calls a node that is up; the one that it names only if that is up too (a client cannot be told of a death
        that nobody has noticed yet)."""
        addr = self.through
        for _ in range(16):
            if addr not in [node.client_addr for node in self.cluster.answering()]:
                return
            try:
                with Connection(addr, 10.0) as connection:
                    assert connection.call("SET", self.key, self.answered) == "OK"
                self.answered += 1
                return
            except ReplyError as error:
                if error.word != "MOVED":
                    # Its fate is unknown: it was under way at the leader that died.
                    self.errors += [str(error)] if error.word != "UNKNOWN" else []
                    return
                addr = str(error).split(" ")[2]
            except OSError:
                return
        self.errors.append("sent back and forth")


def call_through(cluster, fault, heal):
    """Strikes the leader of a group again and again, calling through a node that is not struck."""
    group, slot = next(iter(cluster.slotted_groups().items()))
    answered, errors = 0, []
    for _ in range(FAULTS):
        victim = cluster.wait_led(group)
        caller = Caller(cluster, slot)
        caller.through = next(node for node in cluster.nodes if node is not victim).client_addr
        caller.start()
        time.sleep(0.3)
        fault(victim)
        time.sleep(1.0)
        caller.halt.set()
        caller.join()
        answered, errors = answered + caller.answered, errors + caller.errors
        heal(victim)
        cluster.wait_ready()
    print({"answered": answered, "errors": errors})
    assert answered > FAULTS * 100, "the caller stood still: nothing was shown"
    return errors


def test_no_call_is_refused_while_a_dead_leader_is_replaced():
    with Cluster(**PATIENT) as cluster:
        assert call_through(cluster, lambda node: node.kill(), lambda node: node.start()) == []


def test_no_call_is_refused_while_a_leader_hands_over():
    with Cluster(**PATIENT) as cluster:
        assert call_through(cluster, lambda node: node.stop(), lambda node: node.start()) == []


def test_without_waiting_elections_show():
    """What the tests above would see if nothing waited. With deaths: a hand-over may be over between two calls."""
    with Cluster(leader_wait_ms=0, forward="never") as cluster:
        errors = call_through(cluster, lambda node: node.kill(), lambda node: node.start())
        assert any(error.startswith("CLUSTERDOWN") for error in errors), errors


def test_an_outage_that_lasts_is_answered_at_once():
    with Cluster(forward="never") as cluster:
        outlast_an_outage(cluster)


def outlast_an_outage(cluster):
    group, slot = next(iter(cluster.slotted_groups().items()))
    survivor = cluster.wait_led(group)
    for node in cluster.nodes:
        if node is not survivor:
            node.kill()
    key = f"{{{tag_for(slot)}}}:key"

    def refused_after():
        began = time.monotonic()
        with Connection(survivor.client_addr, 10.0) as connection:
            try:
                connection.call("GET", key)
            except ReplyError as error:
                assert error.word == "CLUSTERDOWN", error
                return time.monotonic() - began
        raise AssertionError("a read without a majority")

    assert refused_after() < 5 * WAIT_S
    time.sleep(WAIT_S)
    assert max(refused_after() for _ in range(3)) < WAIT_S / 2
    cluster.start()
    cluster.wait_ready()
    with Connection(cluster.wait_led(group).client_addr) as connection:
        assert connection.call("SET", key, "1") == "OK"


def test_commands_over_all_keys_wait_for_every_group(cluster):
    """Right after a death, with no pause: what the living nodes count together is all there is."""
    for number in range(90):
        subprocess.run(["redis-cli", "-c", "-p", str(cluster.nodes[0].port), "set", f"k{number}", "v"],
                       check=True, capture_output=True)
    for victim in cluster.nodes:
        victim.kill()
        counted = 0
        for node in cluster.answering():
            with cluster_connection(node.client_addr, 10.0) as connection:
                counted += connection.call("DBSIZE")
        assert counted == 90, f"{counted} keys right after {victim} died"
        victim.start()
        cluster.wait_ready()
