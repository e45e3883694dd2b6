"""min-replicas-to-write: a leader refuses writes while it hears from too few followers, before it proposes them."""

import time

import pytest
from cluster import Cluster, wait_until
from resp import Connection, ReplyError

NO_REPLICAS = "^NOREPLICAS Not enough good replicas to write"
# Longer than the setting's lag, for a busy machine.
LAG_S, SILENCE_S = 1, 1.5


def set_everywhere(cluster, **settings):
    for node in cluster.answering():
        with Connection(node.client_addr) as client:
            for name, value in settings.items():
                assert client.call("CONFIG", "SET", name.replace("_", "-"), value) == "OK"


def good(client):
    info = client.call("INFO", "replication").decode()
    return int(info.split("min_slaves_good_slaves:")[1].split("\r\n")[0])


def writes(client):
    """Whether a write is taken; any other error fails the test."""
    try:
        return client.call("SET", "k", "v") == "OK"
    except ReplyError as error:
        if error.word != "NOREPLICAS":
            raise
        return False


@pytest.fixture
def cluster():
    with Cluster(nodes=3, groups=1) as cluster:
        set_everywhere(cluster, min_replicas_max_lag=LAG_S, min_replicas_to_write=2)
        yield cluster


def test_a_follower_that_falls_silent_ends_writes_and_its_return_lets_them_go_on(cluster):
    leader = cluster.wait_led(0)
    silent, other = (node for node in cluster.nodes if node != leader)
    with Connection(leader.client_addr) as client, Connection(other.client_addr) as forwarded:
        wait_until("a write", lambda: writes(client))
        assert good(client) == 2
        silent.pause()
        time.sleep(SILENCE_S)
        applied = leader.status()["groups"][0]["last_index"]
        for connection in (client, forwarded):
            for words in [("SET", "k", "2"), ("DEL", "k"), ("BLPOP", "l", "1"), ("FLUSHALL",), ("MIGRATE", "h", 1, "k", 0, 9)]:
                with pytest.raises(ReplyError, match=NO_REPLICAS):
                    connection.call(*words)
            connection.call("WATCH", "k")
            assert connection.call("MULTI") == "OK"
            connection.send("INCR", "k")
            try:
                connection.read_reply()
            except ReplyError as error:
                # Where the group is led, what cannot be done is not queued.
                assert error.word == "NOREPLICAS"
            with pytest.raises(ReplyError, match="^EXECABORT"):
                connection.call("EXEC")
            assert connection.call("GET", "k") == b"v"
            with pytest.raises(ReplyError, match=NO_REPLICAS):
                connection.call("EVAL", "return redis.call('set', KEYS[1], 3)", 1, "k")
            with pytest.raises(ReplyError, match=NO_REPLICAS):
                connection.call("EVAL", "#!lua\nreturn redis.call('get', KEYS[1])", 1, "k")
            assert connection.call("EVAL", "return redis.call('get', KEYS[1])", 1, "k") == b"v"
            assert connection.call("EVAL", "#!lua flags=no-writes\nreturn redis.call('get', KEYS[1])", 1, "k") == b"v"
        assert good(client) == 1
        # Six of these were scripts, whose entries say that nothing may be written, and a check comes each second at most.
        assert leader.status()["groups"][0]["last_index"] - applied < 20
        # The majority that is there is enough for less.
        set_everywhere(cluster, min_replicas_to_write=1)
        assert writes(client) and writes(forwarded)
        set_everywhere(cluster, min_replicas_to_write=2)
        silent.resume()
        wait_until("a write", lambda: writes(client))
        assert good(client) == 2


def test_a_follower_that_dies_ends_writes_at_once(cluster):
    leader = cluster.wait_led(0)
    victim = next(node for node in cluster.nodes if node != leader)
    set_everywhere(cluster, min_replicas_max_lag=600)
    with Connection(leader.client_addr) as client:
        wait_until("a write", lambda: writes(client))
        victim.kill()
        # Its link is gone, however long it might have been silent.
        wait_until("a refusal", lambda: not writes(client), limit_s=2)
        victim.start()
        wait_until("a write", lambda: writes(client))


def test_the_next_leader_counts_its_own_followers(cluster):
    leader = cluster.wait_led(0)
    others = [node for node in cluster.nodes if node != leader]
    with Connection(others[0].client_addr) as client:
        wait_until("a write", lambda: writes(client))
        leader.kill()
        cluster.wait_led(0)
        with pytest.raises(ReplyError, match=NO_REPLICAS):
            client.call("SET", "k", "2")
        assert client.call("GET", "k") == b"v"
        leader.start()
        wait_until("a write", lambda: writes(client))
