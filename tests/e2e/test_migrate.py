"""MIGRATE to Redis, to another cluster, and to targets that behave badly: no write is lost on the way."""

import contextlib
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
from cluster import Cluster, free_port, wait_until
from resp import Connection, ReplyError

REDIS = Path(__file__).resolve().parents[1] / ".tools/bin/redis-server"
# Long enough for a busy machine; what is to run out of time says so.
PATIENT_MS = 10_000


@pytest.fixture(scope="module")
def source():
    with Cluster(nodes=3, groups=3) as cluster:
        yield cluster


@contextlib.contextmanager
def redis(*options):
    """A redis-server with databases; its port and process."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [REDIS, "--port", str(port), "--dir", folder, "--save", "", "--enable-debug-command", "yes", *options]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_until("redis-server", lambda: answers(port))
            yield port, process
        finally:
            process.kill()
            process.wait()


def answers(port):
    try:
        with Connection(f"127.0.0.1:{port}") as connection:
            connection.send("PING")
            return bool(connection.socket.recv(1))
    except OSError:
        return False


class FakeTarget:
    """Hears what MIGRATE sends, does something, and then answers as it is told."""

    def __init__(self, act, answer):
        self.listener = socket.create_server(("127.0.0.1", free_port()))
        self.port = self.listener.getsockname()[1]
        self.heard = []
        self.thread = threading.Thread(target=self._serve, args=(act, answer), daemon=True)
        self.thread.start()

    def _serve(self, act, answer):
        peer, _ = self.listener.accept()
        with peer:
            self.heard.append(peer.recv(1 << 16))
            act()
            if answer:
                peer.sendall(answer)
                peer.recv(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


def migrate(client, port, key, db=0, timeout_ms=PATIENT_MS, *options):
    return client.call("MIGRATE", "127.0.0.1", port, key, db, timeout_ms, *options)


def plain(cluster, number=1):
    return Connection(cluster.node(number).client_addr, limit_s=30)


def every_type(client, tag):
    """Keys of one slot, one of each type."""
    calls = [
        ("SET", "string", "x" * 100),
        ("RPUSH", "list", *range(1000)),
        ("SADD", "set", *range(600)),
        ("ZADD", "zset", *[word for n in range(300) for word in (n, f"m{n}")]),
        ("HSET", "hash", *[word for n in range(600) for word in (f"f{n}", n)]),
        ("XADD", "stream", "1-1", "f", "v"),
    ]
    for name, key, *words in calls:
        client.call(name, "{%s}%s" % (tag, key), *words)
    return ["{%s}%s" % (tag, key) for _, key, *_ in calls]


def values(client, keys):
    string, lst, st, zset, hsh, stream = keys
    return [
        client.call("GET", string),
        client.call("LRANGE", lst, 0, -1),
        sorted(client.call("SMEMBERS", st)),
        client.call("ZRANGE", zset, 0, -1, "WITHSCORES"),
        sorted(zip(*[iter(client.call("HGETALL", hsh))] * 2)),
        client.call("XRANGE", stream, "-", "+"),
    ]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_keys_of_every_type_go_to_redis_and_come_back(source, number):
    # From any node: who does not lead the slot has the leader do it.
    tag = f"all{number}"
    with redis("--requirepass", "secret") as (port, _), plain(source, number) as client:
        with Connection(f"127.0.0.1:{port}") as target:
            target.call("AUTH", "secret")
            target.call("SELECT", 9)
            keys = every_type(client, tag)
            before = values(client, keys)
            client.call("PEXPIRE", keys[0], 600_000)
            options = ("AUTH", "secret", "KEYS", *keys, "{%s}none" % tag)
            assert migrate(client, port, "", 9, PATIENT_MS, *options) == "OK"
            assert client.call("EXISTS", *keys) == 0
            assert values(target, keys) == before
            assert 590_000 < target.call("PTTL", keys[0]) <= 600_000
            assert target.call("TTL", keys[1]) == -1
            assert migrate(client, port, "", 9, PATIENT_MS, *options) == "NOKEY"
            leader = source.node(number).client_addr.split(":")
            for key in keys:
                assert migrate(target, leader[1], key) == "OK"
            assert values(client, keys) == before
            assert target.call("DBSIZE") == 0


def test_copy_replace_and_what_stands_in_the_way(source):
    with redis() as (port, _), plain(source) as client, Connection(f"127.0.0.1:{port}") as target:
        client.call("MSET", "{c}a", "1", "{c}b", "2", "{c}d", "3")
        target.call("SET", "{c}b", "theirs")
        with pytest.raises(ReplyError, match="^ERR Target instance replied with error: BUSYKEY"):
            migrate(client, port, "", 0, PATIENT_MS, "COPY", "KEYS", "{c}a", "{c}b", "{c}d")
        assert client.call("EXISTS", "{c}a", "{c}b", "{c}d") == 3, "COPY deletes nothing"
        assert target.call("MGET", "{c}a", "{c}b", "{c}d") == [b"1", b"theirs", b"3"]
        target.call("DEL", "{c}a", "{c}d")
        with pytest.raises(ReplyError, match="BUSYKEY"):
            migrate(client, port, "", 0, PATIENT_MS, "KEYS", "{c}a", "{c}b", "{c}d")
        assert client.call("MGET", "{c}a", "{c}b", "{c}d") == [None, b"2", None], "only what was taken is deleted"
        assert migrate(client, port, "{c}b", 0, PATIENT_MS, "REPLACE") == "OK"
        assert (client.call("EXISTS", "{c}b"), target.call("GET", "{c}b")) == (0, b"2")


def test_a_wrong_password_or_database_puts_nothing_anywhere(source):
    with redis("--requirepass", "secret") as (port, _), plain(source) as client:
        with Connection(f"127.0.0.1:{port}") as target:
            target.call("AUTH", "secret")
            client.call("SET", "pw", "1")
            for options in [("AUTH", "no"), ("AUTH2", "default", "no")]:
                with pytest.raises(ReplyError, match="error: WRONGPASS"):
                    migrate(client, port, "pw", 0, PATIENT_MS, *options)
            with pytest.raises(ReplyError, match="error: ERR DB index is out of range"):
                migrate(client, port, "pw", 99, PATIENT_MS, "AUTH2", "default", "secret")
            assert (client.call("GET", "pw"), target.call("DBSIZE")) == (b"1", 0)
            assert migrate(client, port, "pw", 0, PATIENT_MS, "AUTH2", "default", "secret") == "OK"
            # Whose password has opened a connection is asked for it again: it is nobody else's.
            client.call("SET", "pw2", "1")
            with pytest.raises(ReplyError, match="error: NOAUTH"):
                migrate(client, port, "pw2")
            target.call("CONFIG", "SET", "requirepass", "other")
            with pytest.raises(ReplyError, match="error: WRONGPASS"):
                migrate(client, port, "pw2", 0, PATIENT_MS, "AUTH", "secret")


def test_to_another_cluster_of_quoris(source):
    with Cluster(nodes=3, groups=3) as other, plain(source) as client, plain(other, 3) as target:
        keys = every_type(client, "q")
        client.call("HPEXPIRE", keys[4], 600_000, "FIELDS", 1, "f0")
        before = values(client, keys)
        port = other.node(2).port
        assert migrate(client, port, "", 0, PATIENT_MS, "KEYS", *keys) == "OK"
        assert values(target, keys) == before
        assert 500_000 < target.call("HPTTL", keys[4], "FIELDS", 1, "f0")[0] <= 600_000
        assert client.call("EXISTS", *keys) == 0
        client.call("SET", "q1", "v")
        with pytest.raises(ReplyError, match="SELECT is not allowed in cluster mode"):
            migrate(client, port, "q1", 1)
        assert client.call("GET", "q1") == b"v"


def test_onto_itself_loses_nothing(source):
    with plain(source) as client:
        client.call("SET", "self", "v")
        port = source.node(2).port
        with pytest.raises(ReplyError, match="BUSYKEY"):
            migrate(client, port, "self")
        with pytest.raises(ReplyError, match="has changed while it was migrated"):
            migrate(client, port, "self", 0, PATIENT_MS, "REPLACE")
        assert client.call("GET", "self") == b"v"


def test_a_write_that_comes_between_stays(source):
    with plain(source) as client, plain(source, 2) as writer:
        client.call("SET", "late", "1")
        with FakeTarget(lambda: writer.call("INCR", "late"), b"+OK\r\n") as target:
            with pytest.raises(ReplyError, match="has changed while it was migrated"):
                migrate(client, target.port, "late")
        assert b"RESTORE-ASKING" in target.heard[0]
        assert client.call("GET", "late") == b"2", "an acknowledged write is not deleted"


@pytest.mark.parametrize("answer", [b"", b"-ERR no\r\n", b":1\r\n", b"garbage\r\n"])
def test_without_the_targets_ok_nothing_is_deleted(source, answer):
    with plain(source) as client:
        client.call("SET", "kept", "1")
        with FakeTarget(lambda: None, answer) as target:
            error = "replied with error: ERR no" if answer.startswith(b"-") else "^IOERR error or timeout reading"
            with pytest.raises(ReplyError, match=error):
                migrate(client, target.port, "kept")
        assert client.call("GET", "kept") == b"1"


def test_a_target_that_is_silent_or_not_there(source):
    with redis() as (port, process), plain(source) as client:
        client.call("SET", "quiet", "1")
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(ReplyError, match="^IOERR error or timeout reading to target instance"):
            migrate(client, port, "quiet", 0, 300)
        assert 0.3 <= time.monotonic() - began < 5
        process.send_signal(signal.SIGCONT)
        assert client.call("GET", "quiet") == b"1"
        # It may have been taken, or may still be: then this is needed.
        assert migrate(client, port, "quiet", 0, PATIENT_MS, "REPLACE") == "OK"
        client.call("SET", "quiet", "2")
        with pytest.raises(ReplyError, match="^IOERR error or timeout connecting"):
            migrate(client, free_port(), "quiet")
        assert client.call("GET", "quiet") == b"2"


def test_whether_it_is_deleted_may_be_unknown_and_is_said():
    with Cluster(nodes=3, groups=1, write_timeout_ms=1000) as cluster:
        leader = cluster.wait_led(0)
        others = [node for node in cluster.nodes if node != leader]

        def lose_the_quorum():
            for node in others:
                node.pause()
            # A process stops a moment after its signal.
            time.sleep(0.2)

        with plain(cluster, leader.id) as client:
            client.call("SET", "k", "1")
            with FakeTarget(lose_the_quorum, b"+OK\r\n") as target:
                with pytest.raises(ReplyError, match="^UNKNOWN the target has the keys"):
                    migrate(client, target.port, "k")
        for node in others:
            node.resume()
        cluster.wait_ready()
        with plain(cluster) as client:
            assert client.call("GET", "k") in (b"1", None)


def test_connections_are_kept_for_some_seconds(source):
    def kept(client):
        info = client.call("INFO", "stats").decode()
        return int(next(line for line in info.splitlines() if "migrate_cached_sockets" in line).split(":")[1])

    with redis() as (port, _), Cluster(nodes=1, groups=1) as cluster, plain(cluster) as client:
        for i in range(3):
            client.call("SET", f"k{i}", "v")
            assert migrate(client, port, f"k{i}") == "OK"
            assert kept(client) == 1
        with Connection(f"127.0.0.1:{port}") as target:
            assert target.call("DBSIZE") == 3
            # Its own and the one that is kept.
            assert target.call("INFO", "clients").split(b"connected_clients:")[1].startswith(b"2\r\n")
        time.sleep(8)
        assert kept(client) == 1
        wait_until("its end", lambda: kept(client) == 0, limit_s=6)
