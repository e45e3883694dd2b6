"""Messages and invalidations between nodes: what one node's client says, another node's client hears."""

import socket

import pytest
import redis

from cluster import wait_until
from resp import Connection, ReplyError, key_slot

LIMIT_S = 10.0


class Listener(Connection):
    """A RESP3 connection that is sent what it has not asked for."""

    def __init__(self, addr):
        super().__init__(addr, LIMIT_S)
        self.pushes = []
        self.send("HELLO", "3")
        self.reply()

    def reply(self):
        """The next reply; what is pushed before it is kept."""
        while True:
            kind, value = self.next()
            if kind != b">":
                return value
            self.pushes.append(value)

    def push(self):
        """The next push."""
        while not self.pushes:
            kind, value = self.next()
            assert kind == b">", value
            self.pushes.append(value)
        return self.pushes.pop(0)

    def next(self):
        """The kind and value of whatever comes next."""
        kind, rest = self._line()
        if kind in b">*~":
            return kind, [self.next()[1] for _ in range(int(rest))]
        if kind == b"%":
            return kind, {self.next()[1]: self.next()[1] for _ in range(int(rest))}
        if kind == b"$":
            return kind, self._exactly(int(rest))
        if kind == b":":
            return kind, int(rest)
        if kind == b"_":
            return kind, None
        if kind == b"-":
            raise ReplyError(rest.decode())
        return kind, rest.decode()

    def is_silent(self, for_s=0.3):
        """Whether nothing comes for a while."""
        self.socket.settimeout(for_s)
        try:
            self.next()
            return False
        except socket.timeout:
            return True
        finally:
            self.socket.settimeout(LIMIT_S)


def leader_of(cluster, key):
    """The node that leads the key's slot."""
    slot = key_slot(key)

    def find():
        for node in cluster.nodes:
            if node.running:
                with Connection(node.client_addr) as connection:
                    for first, last, primary, *_ in connection.call("CLUSTER", "SLOTS"):
                        if first <= slot <= last:
                            addr = f"{primary[0].decode()}:{primary[1]}"
                            return next((n for n in cluster.nodes if n.client_addr == addr and n.running), None)
        return None

    return wait_until(f"a leader of slot {slot}", find)


def test_a_message_reaches_every_node_in_order(cluster):
    messages = 2000
    listeners = [Listener(node.client_addr) for node in cluster.nodes]
    for listener in listeners:
        listener.send("SUBSCRIBE", "news")
        assert listener.push() == [b"subscribe", b"news", 1]
        listener.send("PSUBSCRIBE", "n*")
        assert listener.push() == [b"psubscribe", b"n*", 2]
    with Connection(cluster.nodes[0].client_addr) as publisher:
        for number in range(messages):
            publisher.send("PUBLISH", "news", number)
        # Receivers on this node, as in Redis Cluster.
        assert [publisher.read_reply() for _ in range(messages)] == [2] * messages
    for listener in listeners:
        for number in range(messages):
            assert listener.push() == [b"message", b"news", str(number).encode()]
            assert listener.push() == [b"pmessage", b"n*", b"news", str(number).encode()]
        listener.close()


def test_a_shard_channel_lives_where_its_slot_is_led(cluster):
    channel = "orders"
    leader = leader_of(cluster, channel)
    other = next(node for node in cluster.nodes if node is not leader)
    with Connection(other.client_addr) as elsewhere:
        elsewhere.call("READONLY")
        with pytest.raises(ReplyError, match="^MOVED"):
            elsewhere.call("SSUBSCRIBE", channel)
        with pytest.raises(ReplyError, match="^MOVED"):
            elsewhere.call("SPUBLISH", channel, "x")
    listener = Listener(leader.client_addr)
    listener.send("SSUBSCRIBE", channel)
    assert listener.push() == [b"ssubscribe", channel.encode(), 1]
    with Connection(leader.client_addr) as publisher:
        assert publisher.call("SPUBLISH", channel, "x") == 1
    assert listener.push() == [b"smessage", channel.encode(), b"x"]


def test_a_shard_subscriber_is_told_of_a_failover(cluster):
    channel = "orders"
    leader = leader_of(cluster, channel)
    listener, plain = Listener(leader.client_addr), Listener(leader.client_addr)
    listener.send("READONLY")
    assert listener.reply() == "OK"
    for each in (listener, plain):
        each.send("SSUBSCRIBE", channel)
        assert each.push() == [b"ssubscribe", channel.encode(), 1]
    # Paused for longer than its lease: the others elect, and it learns so when it wakes.
    leader.pause()
    heir = wait_until("a new leader", lambda: find_other_leader(cluster, channel, leader))
    leader.resume()
    probe = [b"smessage", channel.encode(), b"probe"]
    while (push := listener.push()) == probe:
        pass
    assert push == [b"sunsubscribe", channel.encode(), 0]
    again = Listener(heir.client_addr)
    again.send("SSUBSCRIBE", channel)
    assert again.push() == [b"ssubscribe", channel.encode(), 1]
    with Connection(heir.client_addr) as publisher:
        assert publisher.call("SPUBLISH", channel, "x") == 1
    assert again.push() == [b"smessage", channel.encode(), b"x"]
    # One that goes nowhere else has kept its subscription.
    while (push := plain.push()) == probe:
        pass
    assert push == [b"smessage", channel.encode(), b"x"]


def test_a_plain_client_has_shard_channels_at_any_node(cluster):
    clients = [redis.Redis(port=node.port, socket_timeout=LIMIT_S, decode_responses=True) for node in cluster.nodes]
    listeners = [client.pubsub(ignore_subscribe_messages=True) for client in clients]
    for listener in listeners:
        listener.ssubscribe("orders")
        wait_until("a subscription", lambda listener=listener: listener.get_sharded_message(timeout=0.1) or listener.subscribed)
    for number, client in enumerate(clients):
        assert client.execute_command("SPUBLISH", "orders", number) == 1, "receivers on this node"
        for listener in listeners:
            assert next(messages(listener)) == ("smessage", "orders", str(number))
    for number in range(500):
        clients[0].execute_command("SPUBLISH", "orders", number)
    for listener in listeners:
        heard = messages(listener)
        assert [next(heard)[2] for _ in range(500)] == [str(number) for number in range(500)]
    with pytest.raises(redis.exceptions.ResponseError, match="same slot"):
        clients[0].execute_command("SSUBSCRIBE", "a", "b")


def messages(listener):
    """What a subscriber hears."""
    while True:
        message = listener.get_sharded_message(timeout=LIMIT_S)
        if message:
            yield message["type"], message["channel"], message["data"]


def find_other_leader(cluster, channel, old):
    for node in cluster.nodes:
        if node is old:
            continue
        with Connection(node.client_addr) as connection:
            connection.call("READONLY")
            try:
                connection.call("SPUBLISH", channel, "probe")
                return node
            except ReplyError:
                continue
    return None


def test_a_cached_key_is_invalidated_wherever_it_is_written(cluster):
    leader = leader_of(cluster, "k")
    reader = Listener(leader.client_addr)
    reader.send("CLIENT", "TRACKING", "ON")
    assert reader.reply() == "OK"
    with Connection(leader.client_addr) as writer:
        writer.call("SET", "k", "1")
        reader.send("GET", "k")
        assert reader.reply() == b"1"
        writer.call("SET", "k", "2")
        assert reader.push() == [b"invalidate", [b"k"]]
        writer.call("SET", "k", "3")
        assert reader.is_silent(), "it has not been read again"
    # Another node follows the group: one that broadcasts is told there, too.
    other = next(node for node in cluster.nodes if node is not leader)
    watcher = Listener(other.client_addr)
    watcher.send("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "k")
    assert watcher.reply() == "OK"
    with Connection(leader.client_addr) as writer:
        writer.call("SET", "k", "4")
    assert watcher.push() == [b"invalidate", [b"k"]]


def test_a_client_with_noloop_is_not_told_of_its_own_writes_wherever_they_go(cluster):
    for node in cluster.nodes:
        # One of its own: what others wrote to it before may reach this node's replica late.
        key = f"k{node.id}"
        client = Listener(node.client_addr)
        client.send("CLIENT", "TRACKING", "ON", "NOLOOP")
        assert client.reply() == "OK"
        client.send("GET", key)
        client.reply()
        client.send("SET", key, "own")
        assert client.reply() == "OK"
        assert client.is_silent(), "its own write"
        # The relay that brought it bears its mark no longer.
        with Connection(node.client_addr) as other:
            client.send("GET", key)
            client.reply()
            other.call("SET", key, "another's")
        assert client.push() == [b"invalidate", [key.encode()]], str(node)


def test_events_of_all_keys_are_heard_at_one_node(cluster):
    node = cluster.nodes[0]
    listener = Listener(node.client_addr)
    listener.send("CONFIG", "SET", "notify-keyspace-events", "E$")
    assert listener.reply() == "OK"
    listener.send("PSUBSCRIBE", "__keyevent@0__:*")
    listener.push()
    keys = [f"key-{number}" for number in range(20)]
    for key in keys:
        with Connection(leader_of(cluster, key).client_addr) as writer:
            writer.call("SET", key, "1")
    heard = {listener.push()[3] for _ in keys}
    assert heard == {key.encode() for key in keys}
    assert listener.is_silent(), "each is heard once"


def test_a_subscriber_that_does_not_read_is_closed_and_others_are_not_harmed(cluster):
    node = cluster.nodes[0]
    with Connection(node.client_addr) as admin:
        admin.call("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 0 0")
        lazy, keen = Listener(node.client_addr), Listener(node.client_addr)
        for listener in (lazy, keen):
            listener.send("SUBSCRIBE", "flood")
            listener.push()
        message = b"x" * 65536
        receivers = 2
        for _ in range(2000):
            receivers = admin.call("PUBLISH", "flood", message)
            if receivers == 2:
                keen.push()
            else:
                break
        assert receivers == 1, "the one that does not read has been closed"
        keen.push()
