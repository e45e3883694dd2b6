"""What becomes of keys besides what commands say: they wake who waits for them, and are evicted."""

import pytest

from cluster import Cluster, wait_until
from resp import Connection, ReplyError

LIMIT_S = 10


@pytest.fixture
def node():
    with Cluster(nodes=1, groups=1) as cluster:
        yield cluster.wait_led(0)


def test_keys_that_are_restored_or_copied_into_place_wake(node):
    with Connection(node.client_addr) as writer, Connection(node.client_addr) as waiter:
        writer.call("RPUSH", "{t}list", "a", "b")
        dump = writer.call("DUMP", "{t}list")
        for words in (("RESTORE", "{t}queue", 0, dump), ("COPY", "{t}list", "{t}queue")):
            writer.call("DEL", "{t}queue")
            waiter.send("BLPOP", "{t}queue", LIMIT_S)
            wait_until("a blocked client", lambda: b"blocked_clients:1\r\n" in writer.call("INFO", "clients"))
            writer.call(*words)
            assert waiter.read_reply() == [b"{t}queue", b"a"]


def test_a_stream_with_consumer_groups_is_evicted_only_if_a_setting_says_so(node):
    with Connection(node.client_addr) as connection:

        def evicts():
            """A call that needs room, which makes some."""
            with pytest.raises(ReplyError, match="^OOM"):
                connection.call("SET", "{t}key", "v")
            return connection.call("DBSIZE")

        connection.call("XADD", "{t}stream", "*", "a", "1")
        connection.call("XGROUP", "CREATE", "{t}stream", "group", "0")
        connection.call("XADD", "{t}plain", "*", "a", "1")
        connection.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", "1")
        wait_until("all but one to be evicted", lambda: evicts() == 1)
        assert connection.call("EXISTS", "{t}stream") == 1
        connection.call("CONFIG", "SET", "evict-consumer-groups", "yes")
        wait_until("the stream to be evicted, too", lambda: connection.call("DBSIZE") == 0)
