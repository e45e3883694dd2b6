"""SHUTDOWN: a client has a node stop, and nobody else notices much."""

import time

import pytest
from cluster import STOP_LIMIT_S, Cluster, wait_until
from resp import Connection, ReplyError


def ended(client):
    """Whether the server has closed the connection."""
    try:
        client.read_reply()
        return False
    except OSError:
        return True


@pytest.mark.parametrize("words", [[], ["NOSAVE", "FORCE"], ["SAVE"], ["NOW"]])
def test_a_node_that_is_told_to_stop_hands_over_and_ends(words):
    with Cluster(nodes=3, groups=3) as cluster:
        victim, other = cluster.nodes[0], cluster.nodes[1]
        with Connection(victim.client_addr) as client, Connection(other.client_addr) as witness:
            assert client.call("SET", "before", "1") == "OK"
            client.send("SHUTDOWN", *words)
            assert ended(client), "no reply, and no connection any more"
            assert victim.process.wait(STOP_LIMIT_S) == 0
            assert witness.call("GET", "before") == b"1"
            assert witness.call("SET", "after", "2") == "OK"
        assert all(cluster.wait_led(group) != victim for group in range(3))
        # With NOW the others find out by themselves.
        logs = "".join(node.log_text() for node in cluster.nodes if node != victim)
        assert ("the leader's process has died" in logs) == ("NOW" in words), logs
        victim.start()
        cluster.wait_ready()
        with Connection(victim.client_addr) as client:
            assert client.call("GET", "after") == b"2"


def test_it_can_be_taken_back_while_the_node_still_serves():
    with Cluster(nodes=3, groups=3) as cluster:
        victim, heir = cluster.nodes[0], cluster.nodes[1:]
        # Nobody can take over, so the hand-over takes its time: twice the election timeout.
        for node in heir:
            node.pause()
        with Connection(victim.client_addr) as client, Connection(victim.client_addr) as other:
            client.send("SHUTDOWN", "NOSAVE")
            time.sleep(0.1)
            assert other.call("SHUTDOWN", "ABORT") == "OK"
            with pytest.raises(ReplyError, match="Errors trying to SHUTDOWN"):
                client.read_reply()
            with pytest.raises(ReplyError, match="No shutdown in progress"):
                other.call("SHUTDOWN", "ABORT")
            for node in heir:
                node.resume()
            cluster.wait_ready()
            assert victim.running
            wait_until("a write", lambda: client.call("SET", "k", "v") == "OK")
            # And again, in earnest.
            client.send("SHUTDOWN")
            assert ended(client) and victim.process.wait(STOP_LIMIT_S) == 0
