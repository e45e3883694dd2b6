"""Clients that know nothing of the cluster: any node serves every key, through a failover too."""

import subprocess
import threading
import time

import pytest
import redis

from cluster import Cluster
from cluster import Cluster
from load import tag_for
from resp import Connection, ReplyError

KEYS = 300
WARM_S, AFTER_S = 1.0, 2.0
CALL_LIMIT_S = 15.0


def client(node, **options):
    return redis.Redis(port=node.port, socket_timeout=CALL_LIMIT_S, **options)


@pytest.mark.parametrize("protocol", [2, 3])
def test_each_node_serves_the_whole_keyspace(cluster, protocol):
    for node in cluster.nodes:
        client(node).config_set("forward", "all")
    for node in cluster.nodes:
        r = client(node, protocol=protocol, decode_responses=True)
        with r.pipeline(transaction=False) as pipe:
            for i in range(KEYS):
                pipe.set(f"key:{i}", i)
                pipe.get(f"key:{i}")
            got = pipe.execute()
        assert got == [value for i in range(KEYS) for value in (True, str(i))]
        assert r.dbsize() == KEYS == len(r.keys("*"))
        assert sorted(r.scan_iter(count=7)) == sorted(f"key:{i}" for i in range(KEYS))
        assert r.randomkey().startswith("key:")
        with r.pipeline() as pipe:
            pipe.hset("{h}", mapping={"a": 1})
            pipe.hgetall("{h}")
            pipe.ping()
            assert pipe.execute() == [1, {"a": "1"}, True]
        with pytest.raises(redis.exceptions.ResponseError, match="same slot"):
            r.mget("key:1", "key:2")
        r.flushall()
        assert [client(other).dbsize() for other in cluster.nodes] == [0, 0, 0]


def test_the_tools_of_redis_work_without_cluster_mode(cluster):
    for node in cluster.nodes:
        port = str(node.port)
        for i in range(20):
            done = subprocess.run(["redis-cli", "-p", port, "set", f"k{i}", "v"], capture_output=True, text=True)
            assert done.stdout == "OK\n", done
        command = ["redis-benchmark", "-p", port, "-t", "set,get,incr", "-n", "2000", "-r", "1000", "-c", "8", "-P", "4", "-q"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "requests per second" in done.stdout and "rror" not in done.stdout + done.stderr


def test_only_those_who_ask_for_the_cluster_are_sent_away(cluster):
    tags = [tag_for(slot) for slot in cluster.slotted_groups().values()]

    def moved(connection):
        count = 0
        for tag in tags:
            try:
                connection.call("SET", f"{{{tag}}}", "x")
            except ReplyError as error:
                count += error.word == "MOVED"
        return count

    for node in cluster.nodes:
        with Connection(node.client_addr) as connection:
            assert moved(connection) == 0
            connection.call("CLUSTER", "MYID")
            assert moved(connection) == 2
            connection.call("RESET")
            assert moved(connection) == 0
            connection.call("READONLY")
            assert moved(connection) == 2
        with Connection(node.client_addr) as connection:
            connection.call("CONFIG", "SET", "forward", "never")
            assert moved(connection) == 2


class Writer(threading.Thread):
    """Counts in every group through one node."""

    def __init__(self, node, tags):
        super().__init__(daemon=True)
        self.node, self.keys = node, [f"{{{tag}}}:{node.id}" for tag in tags]
        self.halt = threading.Event()
        self.acknowledged = {key: 0 for key in self.keys}
        self.unknown = {key: 0 for key in self.keys}
        self.errors = []

    def run(self):
        with Connection(self.node.client_addr, CALL_LIMIT_S) as connection:
            while not self.halt.is_set():
                for key in self.keys:
                    try:
                        connection.call("INCR", key)
                        self.acknowledged[key] += 1
                    except ReplyError as error:
                        self.errors.append(str(error))
                        self.unknown[key] += error.word == "UNKNOWN"


def test_plain_writers_get_through_a_failover():
    # An election on a busy machine may take longer than calls wait as a rule.
    with Cluster(leader_wait_ms=5000, write_timeout_ms=10000) as cluster:
        group = next(iter(cluster.slotted_groups()))
        tags = [tag_for(slot) for slot in cluster.slotted_groups().values()]
        victim = cluster.wait_led(group)
        writers = [Writer(node, tags) for node in cluster.nodes if node is not victim]
        for writer in writers:
            writer.start()
        time.sleep(WARM_S)
        victim.kill()
        cluster.wait_led(group)
        time.sleep(AFTER_S)
        for writer in writers:
            writer.halt.set()
        for writer in writers:
            writer.join()
            print(writer.node, sum(writer.acknowledged.values()), writer.errors)
            assert not [error for error in writer.errors if not error.startswith("UNKNOWN")]
            with Connection(writer.node.client_addr) as connection:
                for key in writer.keys:
                    found = int(connection.call("GET", key))
                    assert writer.acknowledged[key] <= found <= writer.acknowledged[key] + writer.unknown[key]
                    assert writer.acknowledged[key] > 10


def test_wait_tells_how_many_nodes_have_the_write(cluster):
    slot = next(iter(cluster.slotted_groups().values()))
    key = f"{{{tag_for(slot)}}}:w"
    for node in cluster.nodes:
        with Connection(node.client_addr, CALL_LIMIT_S) as connection:
            connection.call("SET", key, "1")
            assert connection.call("WAIT", 2, 5000) == 2
            assert connection.call("WAITAOF", 1, 2, 5000) == [1, 2]
            assert connection.call("WAIT", 3, 100) == 2
    paused = next(node for node in cluster.nodes if node is not cluster.wait_led(next(iter(cluster.slotted_groups()))))
    with Connection(next(n for n in cluster.nodes if n is not paused).client_addr, CALL_LIMIT_S) as connection:
        paused.pause()
        connection.call("SET", key, "2")
        began = time.monotonic()
        assert connection.call("WAIT", 2, 500) == 1
        assert time.monotonic() - began >= 0.5
        paused.resume()
        assert connection.call("WAIT", 2, 10000) == 2
