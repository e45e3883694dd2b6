"""Slots that move between groups while clients go on: nothing is lost, doubled or resurrected, and nobody is misled."""

import itertools
import random
import re
import select
import subprocess
import threading
import time

import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster

from cluster import SLOTS, Cluster, binary, free_port, wait_until
from load import Load, tag_for
from resp import Connection, ReplyError, cluster_connection, encode
from test_pubsub import Listener

LOAD_S = 8.0
CALL_LIMIT_S = 20.0
MOVE_LIMIT_S = 60.0
PAUSE_BAR_S = 3.0
# What a client may be told of a call that has done nothing, and then try again.
RETRIED = ("MOVED", "TRYAGAIN", "CLUSTERDOWN")


def ctl(*words):
    """`quoris ctl`, as a person would."""
    return subprocess.Popen([binary(), "ctl", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def begin_move(cluster, slots, to):
    node = cluster.answering()[0]
    return ctl("--addr", node.client_addr, "move", "--slots", ",".join(map(str, slots)), "--to", str(to))


def move(cluster, slots, to):
    """Has group `to` serve `slots`; how long that took."""
    began = time.monotonic()
    moving = begin_move(cluster, slots, to)
    _, said = moving.communicate(timeout=MOVE_LIMIT_S)
    assert moving.returncode == 0, said
    return time.monotonic() - began


def group_of(node, slot):
    """Which group serves the slot, as the node sees it."""
    state = node.status()
    return next(g["id"] for g in state["groups"] if any(start <= slot <= end for start, end in g["slots"]))


class Place:
    """A slot, its group, another group, and the nodes that lead the two."""

    def __init__(self, cluster, at=0):
        groups = cluster.slotted_groups()
        self.cluster, (self.home, self.away) = cluster, sorted(groups)[:2]
        self.slot = groups[self.home] + at
        self.tag = tag_for(self.slot)
        self.leader, self.heir = cluster.wait_led(self.home), cluster.wait_led(self.away)
        self.other = next(node for node in cluster.nodes if node not in (self.leader, self.heir))

    def key(self, name):
        return f"{{{self.tag}}}:{name}"

    def leave(self):
        return move(self.cluster, [self.slot], self.away)

    def come_back(self):
        return move(self.cluster, [self.slot], self.home)


@pytest.fixture(scope="module")
def shared():
    """One cluster for the tests that hurt nobody."""
    # On a busy machine a large slot may be on its way for longer than calls wait as a rule.
    with Cluster(forward="all", write_timeout_ms=10000) as started:
        yield started


def connect(node):
    return Connection(node.client_addr, CALL_LIMIT_S)


def as_clients_see_it(node):
    """For each slot the address of its primary."""
    with Connection(node.client_addr) as connection:
        rows = connection.call("CLUSTER", "SLOTS")
    return {slot: f"{row[2][0].decode()}:{row[2][1]}" for row in rows for slot in range(row[0], row[1] + 1)}


def wait_agreed(cluster, slots, group):
    """Until all nodes show the slots at the leader of the group, and every slot at the same primary."""
    addr = cluster.wait_led(group).client_addr

    def agreed():
        seen = [as_clients_see_it(node) for node in cluster.nodes]
        return all(one == seen[0] for one in seen) and len(seen[0]) == SLOTS and all(seen[0][s] == addr for s in slots)

    wait_until(f"all nodes show {len(slots)} slots at group {group}", agreed, limit_s=10)


def check_by_redis_cli(cluster):
    addr = cluster.answering()[0].client_addr
    return subprocess.run(["redis-cli", "--cluster", "check", addr], capture_output=True, text=True, timeout=60).stdout


def wait_alike(cluster):
    """Until every replica is shown to be what its leader's is, wholly."""

    def alike():
        done = ctl("--addr", cluster.nodes[0].client_addr, "verify", "--whole")
        done.communicate(timeout=MOVE_LIMIT_S)
        return done.returncode == 0

    wait_until("replicas are alike", alike)


# --- under load --------------------------------------------------------------------------------------------------


class Counter(threading.Thread):
    """Counts in some keys by one kind of client, and notes how long it stood still."""

    def __init__(self, name, tags, call):
        super().__init__(daemon=True)
        self.keys, self.call = [f"{{{tag}}}:{name}" for tag in tags], call
        self.halt = threading.Event()
        self.counted = dict.fromkeys(self.keys, 0)
        self.errors, self.longest_s = [], 0.0

    def run(self):
        for key in itertools.cycle(self.keys):
            if self.halt.is_set():
                return
            began = time.monotonic()
            try:
                self.call(key)
                self.counted[key] += 1
            except (ReplyError, redis.RedisError, OSError) as error:
                self.errors.append(f"{type(error).__name__}: {error}")
            self.longest_s = max(self.longest_s, time.monotonic() - began)

    def check(self, read):
        assert not self.errors, self.errors[:5]
        for key, counted in self.counted.items():
            assert int(read(key)) == counted > 20, key


def counters(cluster, tags):
    """Plain clients of every node, and cluster clients of redis-py."""
    nodes = [ClusterNode("127.0.0.1", node.port) for node in cluster.nodes]
    made = []
    for node in cluster.nodes:
        connection = connect(node)
        made.append(Counter(f"plain-{node.id}", tags, lambda key, c=connection: c.call("INCR", key)))
        client = RedisCluster(startup_nodes=nodes, socket_timeout=CALL_LIMIT_S)
        made.append(Counter(f"cluster-{node.id}", tags, lambda key, c=client: c.incr(key)))
    return made


def test_slots_move_to_and_fro_under_load():
    with Cluster(forward="all") as cluster:
        groups = sorted(cluster.slotted_groups())
        slots = [start + i for start in cluster.slotted_groups().values() for i in range(4)]
        moved = slots + [slot for slot in range(100, 16000, 700)]
        still = {f"still:{number}": str(number) for number in range(3000)}
        with connect(cluster.nodes[0]) as connection:
            connection.send_raw(b"".join(encode("SET", key, value) for key, value in still.items()))
            assert {connection.read_reply() for _ in still} == {"OK"}
        threads = counters(cluster, [tag_for(slot) for slot in slots[::2]])
        moves, checks = [], []
        with Load(cluster, per_group=1, every_s=0.002) as load:
            for thread in threads:
                thread.start()
            until = time.monotonic() + LOAD_S
            for to in itertools.cycle(groups):
                moves.append(move(cluster, moved, to))
                wait_agreed(cluster, moved, to)
                checks.append(check_by_redis_cli(cluster))
                if time.monotonic() > until and to == groups[0]:
                    break
            for thread in threads:
                thread.halt.set()
            for thread in threads:
                thread.join()
        figures = load.check()
        paused = max(writer.longest_gap_s(writer.ack_times[0], writer.ack_times[-1]) for writer in load.writers)
        counted = sum(sum(thread.counted.values()) for thread in threads)
        longest = max(thread.longest_s for thread in threads)
        print(f"\n{len(moves)} moves of {len(moved)} slots, {max(moves):.2f} s the longest; {counted} counted;")
        print(f"longest pause: {longest * 1000:.0f} ms, of a writer that tries again itself {paused * 1000:.0f} ms")
        for check in checks:
            assert "[OK] All 16384 slots covered" in check and "[ERR]" not in check and "[WARN" not in check, check
        assert figures["unknown"] == 0 and max(longest, paused) < PAUSE_BAR_S
        assert {word for writer in load.writers for word in writer.ledger.errors} <= set(RETRIED)
        with connect(cluster.nodes[1]) as connection:
            for thread in threads:
                thread.check(lambda key: connection.call("GET", key))
            expected = set(still) | {key for thread in threads for key in thread.keys}
            for writer in load.writers:
                expected |= {writer.key(record) for record in writer.ledger.acknowledged} | {writer.counter}
            for node in cluster.nodes:
                with connect(node) as each:
                    assert each.call("DBSIZE") == len(expected)
            assert {key.decode() for key in connection.call("KEYS", "*")} == expected
            for key, value in still.items():
                assert connection.call("GET", key).decode() == value
        wait_alike(cluster)


# --- deaths ------------------------------------------------------------------------------------------------------

DEATHS = 3
SLOTS_OF_SOME_SIZE, KEYS_PER_SLOT, VALUE_BYTES = 2, 250, 12_000
VICTIMS = {
    "the old group's leader": lambda cluster, old, new: [cluster.wait_led(old)],
    "the new group's leader": lambda cluster, old, new: [cluster.wait_led(new)],
    "all nodes": lambda cluster, old, new: cluster.nodes,
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_move_ends_though_nodes_are_killed(victim):
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    with Cluster(forward="all", move_piece_bytes=32768) as cluster:
        place = Place(cluster)
        slots = [place.slot + i for i in range(SLOTS_OF_SOME_SIZE)]
        keys = fill(cluster.nodes[0], slots)
        old, new = place.home, place.away
        unhurt_s = max(move(cluster, slots, to) for to in (new, old))
        print(f"\nseed {seed}: {len(keys)} keys of {VALUE_BYTES} bytes move within {unhurt_s:.2f} s unhurt")
        for _ in range(DEATHS):
            moving = begin_move(cluster, slots, new)
            after_s = rng.uniform(0, unhurt_s)
            time.sleep(after_s)
            victims = VICTIMS[victim](cluster, old, new)
            for node in victims:
                node.kill()
            time.sleep(rng.uniform(0, 1))
            for node in victims:
                node.start()
            cluster.wait_led(old), cluster.wait_led(new)
            # Begun or not, all is there at once; then it is asked for again, should it not have begun.
            whole(cluster, keys)
            moving.communicate(timeout=MOVE_LIMIT_S)
            move(cluster, slots, new)
            whole(cluster, keys)
            for node in cluster.nodes:
                wait_until("the node sees it", lambda n=node: {group_of(n, slot) for slot in slots} == {new})
            print(f"  killed after {after_s:.2f} s: ctl had ended with {moving.returncode}")
            old, new = new, old
        wait_alike(cluster)


def fill(node, slots):
    """{key: (value, when it expires)}, half of the keys with a time to live."""
    keys = {}
    with connect(node) as connection:
        for slot, number in itertools.product(slots, range(KEYS_PER_SLOT)):
            key = f"{{{tag_for_cached(slot)}}}:{number}"
            keys[key] = (f"{number}-".encode() * (VALUE_BYTES // len(f"{number}-")), number % 2 == 0)
        for key, (value, expires) in keys.items():
            connection.send("SET", key, value, *(["EX", 3600] if expires else []))
            assert connection.read_reply() == "OK"
        return {key: (value, connection.call("PEXPIRETIME", key)) for key, (value, _) in keys.items()}


TAGS = {}


def tag_for_cached(slot):
    return TAGS.setdefault(slot, tag_for(slot))


def whole(cluster, keys):
    """Asserts that every key is there once, as it was, and no other."""
    with connect(cluster.answering()[-1]) as connection:
        for key, (value, expires) in keys.items():
            assert insist(connection, "GET", key) == value, key
            assert insist(connection, "PEXPIRETIME", key) == expires, key
        assert insist(connection, "DBSIZE") == len(keys)
        assert {key.decode() for key in insist(connection, "KEYS", "*")} == set(keys)


def insist(connection, *words):
    """The reply to what only reads, after a death."""
    deadline = time.monotonic() + CALL_LIMIT_S
    while True:
        try:
            return connection.call(*words)
        except ReplyError as error:
            assert time.monotonic() < deadline and error.word in RETRIED, error
            time.sleep(0.05)


# --- blocked calls -----------------------------------------------------------------------------------------------


def refusal(connection):
    """The error that comes next."""
    with pytest.raises(ReplyError) as refused:
        connection.read_reply()
    return refused.value


def test_a_blocked_cluster_client_is_sent_where_its_slot_has_gone(shared):
    place = Place(shared, at=10)
    key = place.key("queue")
    with cluster_connection(place.leader.client_addr, CALL_LIMIT_S) as blocked:
        blocked.send("BLPOP", key, 0)
        wait_blocked(place.leader, 1)
        place.leave()
        assert str(refusal(blocked)) == f"MOVED {place.slot} {place.heir.client_addr}"
        with cluster_connection(place.heir.client_addr, CALL_LIMIT_S) as again:
            again.send("BLPOP", key, 0)
            with connect(place.other) as pusher:
                assert pusher.call("RPUSH", key, "x") == 1
            assert again.read_reply() == [key.encode(), b"x"]
        # Nobody is left behind that would be given an element.
        place.come_back()
        with connect(place.leader) as other:
            assert other.call("RPUSH", key, "y") == 1
            assert other.call("LPOP", key) == b"y"
            assert blocked.call("PING") == "PONG"


def wait_blocked(node, count):
    def blocked():
        with Connection(node.client_addr) as connection:
            return f"blocked_clients:{count}\r" in connection.call("INFO", "clients").decode()

    wait_until(f"{count} blocked at {node}", blocked)


def test_blocked_plain_clients_stay_blocked_and_are_served_in_the_new_group(shared):
    place = Place(shared, at=20)
    key = place.key("queue")
    blocked = [connect(node) for node in shared.nodes for _ in range(2)]
    for connection in blocked:
        connection.send("BLPOP", key, 0)
    wait_blocked(place.leader, len(blocked))
    for round_number in range(3):
        place.leave(), place.come_back()
    place.leave()
    wait_blocked(place.heir, len(blocked))
    with connect(place.other) as pusher:
        for number in range(len(blocked)):
            pusher.call("RPUSH", key, number)
        popped = [connection.read_reply() for connection in blocked]
        assert sorted(int(value) for _, value in popped) == list(range(len(blocked)))
        assert pusher.call("EXISTS", key) == 0
    place.come_back()


def test_the_time_of_a_blocked_call_runs_on_through_moves(shared):
    place = Place(shared, at=30)
    calls = (
        ("BLPOP", place.key("queue"), 2),
        ("BLMPOP", 2, 1, place.key("queue"), "LEFT"),
        ("BZPOPMIN", place.key("zset"), 2),
        ("XREAD", "BLOCK", 2000, "STREAMS", place.key("stream"), "0"),
    )
    blocked = {(node, call): connect(node) for node in shared.nodes for call in calls}
    began = time.monotonic()
    for (_, call), connection in blocked.items():
        connection.send(*call)
    time.sleep(1)
    place.leave(), place.come_back(), place.leave()
    for asked, connection in blocked.items():
        assert connection.read_reply() is None
        assert 1.9 < time.monotonic() - began < 2.9, asked
    place.come_back()


def test_a_blocked_call_can_be_ended_after_its_slot_has_moved(shared):
    place = Place(shared, at=40)
    key = place.key("queue")
    for node in shared.nodes:
        with connect(node) as blocked, connect(node) as other:
            number = blocked.call("CLIENT", "ID")
            for how in ("TIMEOUT", "ERROR"):
                blocked.send("BLPOP", key, 0)
                wait_blocked(place.leader, 1)
                place.leave()
                wait_blocked(place.heir, 1)
                assert other.call("CLIENT", "UNBLOCK", number, how) == 1
                if how == "TIMEOUT":
                    assert blocked.read_reply() is None
                else:
                    assert refusal(blocked).word == "UNBLOCKED"
                place.come_back()
            blocked.send("BLPOP", key, 0)
            wait_blocked(place.leader, 1)
            place.leave()
            wait_blocked(place.heir, 1)
        # The entry that has the waiter forgotten comes a moment after the client has gone.
        wait_blocked(place.heir, 0)
        time.sleep(0.5)
        with connect(node) as other:
            assert other.call("RPUSH", key, "x") == 1 and other.call("LPOP", key) == b"x"
        place.come_back()


def test_a_blocked_read_of_what_comes_from_now_on_is_not_made_anew(shared):
    """Elsewhere it would begin at another moment, and miss what came in between."""
    place = Place(shared, at=50)
    for node in shared.nodes:
        with connect(node) as blocked:
            blocked.send("XREAD", "BLOCK", 0, "STREAMS", place.key("stream"), "$")
            wait_blocked(place.leader, 1)
            place.leave()
            assert refusal(blocked).word == "UNBLOCKED"
        with connect(node) as blocked:
            blocked.send("XREAD", "BLOCK", 0, "STREAMS", place.key("stream"), "0")
            wait_blocked(place.heir, 1)
            place.come_back()
            wait_blocked(place.leader, 1)
            with connect(node) as writer:
                entry = writer.call("XADD", place.key("stream"), "*", "a", "b")
                assert blocked.read_reply() == [[place.key("stream").encode(), [[entry, [b"a", b"b"]]]]]
                writer.call("DEL", place.key("stream"))


def test_calls_during_a_move_find_what_moves(shared):
    """Also those that would block: the slot is on its way, and the elements are in it."""
    place = Place(shared, at=60)
    for way in (place.away, place.home):
        with connect(place.other) as connection:
            connection.call("RPUSH", place.key("queue"), *range(len(shared.nodes)))
            for number in range(BALLAST_KEYS):
                assert connection.call("SET", place.key(f"ballast:{number}"), b"b" * BALLAST_BYTES) == "OK"
        moving = begin_move(shared, [place.slot], way)
        with connect(place.other) as probe:
            wait_until("calls wait for the slot", lambda: waits(probe, "EXISTS", place.key("ballast:0")), every_s=0)
            clients = [connect(node) for node in shared.nodes]
            for client in clients:
                client.send("BLPOP", place.key("queue"), 0)
            assert probe.read_reply() == 1
        assert sorted(int(client.read_reply()[1]) for client in clients) == list(range(len(shared.nodes)))
        assert moving.wait(MOVE_LIMIT_S) == 0
        with connect(place.other) as connection:
            assert connection.call("EXISTS", place.key("queue")) == 0
            assert len(connection.call("KEYS", place.key("*"))) == BALLAST_KEYS
    empty(place)


# So much that a move takes a while.
BALLAST_KEYS, BALLAST_BYTES = 200, 100_000


def waits(connection, *words):
    """Whether a call that is answered at once as a rule is not; then its reply is still to come."""
    connection.send(*words)
    if select.select([connection.socket], [], [], 0.05)[0]:
        connection.read_reply()
        return False
    return True


def empty(place):
    with connect(place.other) as connection:
        for key in connection.call("KEYS", place.key("*")):
            connection.call("UNLINK", key)


# --- transactions ------------------------------------------------------------------------------------------------


def test_watch_misses_no_change_though_the_slot_moves(shared):
    """Each way of moving, with a change at each moment or none: EXEC runs only if nothing has changed."""
    place = Place(shared, at=70)
    key = place.key("watched")
    ran = 0
    for node, steps in itertools.product(shared.nodes, STEPS):
        with connect(node) as watcher, connect(place.other) as other:
            other.call("SET", key, "1")
            watcher.call("WATCH", key)
            for step in steps.split():
                {"leave": place.leave, "back": place.come_back, "set": lambda: other.call("SET", key, "1")}[step]()
            watcher.call("MULTI")
            watcher.call("APPEND", key, "2")
            done = watcher.call("EXEC")
            ran += done is not None
            assert done in (None, [2]), steps
            assert not ("set" in steps and done), f"{steps}: a change was missed at {node}"
            assert other.call("GET", key) == (b"12" if done else b"1")
            if "leave" in steps and "back" not in steps:
                place.come_back()
    print(f"\n{ran} of {len(shared.nodes) * len(STEPS)} ran")
    assert ran >= len(shared.nodes), "without a move and a change it runs"


STEPS = ("", "set", "leave", "set leave", "leave set", "leave back", "leave set back", "set leave back")


def test_watch_of_a_cluster_client_whose_slot_leaves(shared):
    place = Place(shared, at=80)
    key = place.key("watched")
    for steps in STEPS:
        with cluster_connection(place.leader.client_addr, CALL_LIMIT_S) as watcher, connect(place.other) as other:
            other.call("SET", key, "1")
            watcher.call("WATCH", key)
            for step in steps.split():
                {"leave": place.leave, "back": place.come_back, "set": lambda: other.call("SET", key, "1")}[step]()
            watcher.call("MULTI")
            gone = "leave" in steps and "back" not in steps
            try:
                watcher.call("APPEND", key, "2")
                assert not gone
                done = watcher.call("EXEC")
                assert done in (None, [2]) and not ("set" in steps and done), f"{steps}: a change was missed"
            except ReplyError as error:
                assert gone and error.word == "MOVED", steps
                done = None
                watcher.send("EXEC")
                assert refusal(watcher).word == "EXECABORT"
            assert other.call("GET", key) == (b"12" if done else b"1")
            if gone:
                place.come_back()


# --- what nodes push ---------------------------------------------------------------------------------------------


def test_subscribers_of_a_slots_channels_are_told_that_it_has_gone(shared):
    place = Place(shared, at=90)
    channel = place.key("channel")
    listener, plain = Listener(place.leader.client_addr), Listener(place.leader.client_addr)
    listener.send("READONLY")
    assert listener.reply() == "OK"
    for each in (listener, plain):
        each.send("SSUBSCRIBE", channel)
        assert each.push() == [b"ssubscribe", channel.encode(), 1]
    place.leave()
    assert listener.push() == [b"sunsubscribe", channel.encode(), 0]
    again = Listener(place.heir.client_addr)
    again.send("SSUBSCRIBE", channel)
    assert again.push() == [b"ssubscribe", channel.encode(), 1]
    with cluster_connection(place.heir.client_addr) as publisher:
        assert publisher.call("SPUBLISH", channel, "x") == 1
    # One that goes nowhere else has kept its subscription.
    for each in (again, plain):
        assert each.push() == [b"smessage", channel.encode(), b"x"]
    place.come_back()


@pytest.mark.parametrize("mode", ["keys", "bcast"])
def test_clients_that_cache_are_told_of_every_change_through_moves(shared, mode):
    place = Place(shared, at=100)
    key = place.key("cached")
    how = ["BCAST", "PREFIX", key] if mode == "bcast" else []
    readers = [Listener(node.client_addr) for node in shared.nodes]
    with connect(place.other) as writer:
        writer.call("SET", key, "0")
        for reader in readers:
            reader.send("CLIENT", "TRACKING", "ON", *how)
            assert reader.reply() == "OK"
        for number in range(1, 5):
            for reader in readers:
                reader.send("GET", key)
                assert reader.reply() == str(number - 1).encode()
            place.leave() if number % 2 else place.come_back()
            writer.call("SET", key, number)
            for reader, node in zip(readers, shared.nodes, strict=True):
                assert told_of(reader, key), f"{node} after move {number}"


def told_of(reader, key):
    """Whether it is told to forget the key, or all keys."""
    return reader.push() in ([b"invalidate", [key.encode()]], [b"invalidate", None])


# --- SCAN --------------------------------------------------------------------------------------------------------


def test_scan_returns_what_is_there_throughout(shared):
    keys = {f"scanned:{number}" for number in range(2000)}
    with connect(shared.nodes[0]) as connection:
        connection.send_raw(b"".join(encode("SET", key, "v") for key in keys))
        assert {connection.read_reply() for _ in keys} == {"OK"}
    place = Place(shared)
    slots = [place.slot + i for i in range(200, 2200, 40)]
    halt, moves = threading.Event(), []

    def keep_moving():
        for to in itertools.cycle((place.away, place.home)):
            moves.append(move(shared, slots, to))
            if halt.is_set() and to == place.home:
                return

    mover = threading.Thread(target=keep_moving)
    mover.start()
    try:
        for _ in range(3):
            for node in shared.nodes:
                with connect(node) as connection:
                    found = scanned(connection)
                assert keys <= found, f"{len(keys - found)} of {len(keys)} are missing at {node}"
    finally:
        halt.set()
        mover.join()
    print(f"\n{len(moves)} moves of {len(slots)} slots meanwhile")
    with connect(shared.nodes[0]) as connection:
        for key in keys:
            connection.call("UNLINK", key)


def scanned(connection):
    cursor, found = b"0", set()
    while True:
        cursor, names = connection.call("SCAN", cursor, "COUNT", 40)
        found |= {name.decode() for name in names}
        if cursor == b"0":
            return found


# --- whatever a slot holds ---------------------------------------------------------------------------------------


def test_values_of_every_type_survive_whole(shared):
    place = Place(shared, at=110)
    key = place.key
    with connect(place.other) as c:
        c.call("SET", key("string"), bytes(range(256)) * 8, "PX", 10_000_000)
        c.call("SET", key("number"), 42)
        c.call("RPUSH", key("list"), *range(300))
        c.call("SADD", key("set"), *(f"member-{n}" for n in range(600)))
        c.call("SADD", key("ints"), *range(40))
        c.call("ZADD", key("zset"), *(word for n in range(300) for word in (n / 7, f"m{n}")))
        c.call("HSET", key("hash"), *(word for n in range(300) for word in (f"f{n}", f"v{n}")))
        c.call("HPEXPIRE", key("hash"), 9_000_000, "FIELDS", 2, "f1", "f2")
        c.call("PFADD", key("hll"), *range(1000))
        c.call("GEOADD", key("geo"), 13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")
        for number in range(250):
            c.call("XADD", key("stream"), f"{number + 1}-1", "n", number)
        c.call("XGROUP", "CREATE", key("stream"), "group", "0")
        c.call("XREADGROUP", "GROUP", "group", "alice", "COUNT", 20, "STREAMS", key("stream"), ">")
        c.call("XREADGROUP", "GROUP", "group", "bob", "COUNT", 5, "STREAMS", key("stream"), ">")
        c.call("XACK", key("stream"), "group", "3-1", "22-1")
        c.call("XDEL", key("stream"), "7-1")
        for way in (place.leave, place.come_back):
            before = contents(c, place)
            way()
            assert contents(c, place) == before
        taken = c.call("XREADGROUP", "GROUP", "group", "bob", "COUNT", 1, "STREAMS", key("stream"), ">")
        assert taken[0][1][0][0] == b"26-1", "the group goes on where it was"
    empty(place)


def test_time_runs_on_for_what_moves(shared):
    place = Place(shared, at=112)
    short, long, hash_ = (place.key(name) for name in ("short", "long", "hash"))
    with connect(place.other) as c:
        c.call("SET", short, "x", "PX", 2000)
        c.call("SET", long, "x", "PX", 9_000_000)
        c.call("HSET", hash_, "short", "x", "long", "x", "endless", "x")
        c.call("HPEXPIRE", hash_, 2000, "FIELDS", 1, "short")
        c.call("HPEXPIRE", hash_, 9_000_000, "FIELDS", 1, "long")
        place.leave()
        wait_until("what is due is gone", lambda: c.call("EXISTS", short) == 0 and c.call("HLEN", hash_) == 2)
        assert 8_900_000 < c.call("PTTL", long) < 9_000_000
        (left,) = c.call("HPTTL", hash_, "FIELDS", 1, "long")
        assert 8_900_000 < left < 9_000_000 and c.call("HPTTL", hash_, "FIELDS", 1, "endless") == [-1]
        place.come_back()
    empty(place)


def contents(c, place):
    """All that clients can see of the slot's keys, but how long ago something was."""
    seen = {}
    for name in sorted(c.call("KEYS", place.key("*"))):
        kind = c.call("TYPE", name)
        seen[name] = [kind, c.call("DUMP", name), c.call("PEXPIRETIME", name), c.call("OBJECT", "ENCODING", name)]
        if kind == "hash":
            seen[name].append(c.call("HPEXPIRETIME", name, "FIELDS", 3, "f1", "f2", "f3"))
        if kind == "stream":
            full = c.call("XINFO", "STREAM", name, "FULL", "COUNT", 0)
            seen[name] += [c.call("XRANGE", name, "-", "+"), full, c.call("XPENDING", name, "group")]
    assert len(seen) >= 10
    return seen


def test_big_values_survive(shared):
    place = Place(shared, at=120)
    elements = 200_000
    with connect(place.other) as c:
        for first in range(0, elements, 1000):
            c.call("RPUSH", place.key("list"), *(f"element-{n}" for n in range(first, first + 1000)))
        c.call("SET", place.key("string"), random.Random(1).randbytes(4_000_000))
        for way in (place.leave, place.come_back):
            before = [c.call("DUMP", place.key(name)) for name in ("list", "string")]
            way()
            assert [c.call("DUMP", place.key(name)) for name in ("list", "string")] == before
            assert c.call("LLEN", place.key("list")) == elements
            assert c.call("LINDEX", place.key("list"), 123_456) == b"element-123456"
    empty(place)


LIBRARY = """#!lua name=moves
redis.register_function('fset', function(keys, args) return redis.call('SET', keys[1], args[1]) end)
"""


def test_scripts_and_functions_work_in_the_new_group(shared):
    place = Place(shared, at=130)
    key = place.key("scripted")
    with connect(place.leader) as c:
        sha = c.call("SCRIPT", "LOAD", "return redis.call('APPEND', KEYS[1], ARGV[1])")
        c.call("FUNCTION", "LOAD", "REPLACE", LIBRARY)
    place.leave()
    for node in shared.nodes:
        with connect(node) as c:
            assert c.call("FCALL", "fset", 1, key, "a") == "OK"
            assert c.call("EVALSHA", sha, 1, key, "b") == 2
            assert c.call("GET", key) == b"ab"
    place.come_back()


# --- bad input ---------------------------------------------------------------------------------------------------

BAD_SLOTS = ("16384", "70000", "-1", "x", "", "5-3", "1-16384", "1,,2", "1-2-3", "1;2")


def refused(*words):
    """The exit code and the line that is said."""
    asked = ctl(*words)
    _, said = asked.communicate(timeout=MOVE_LIMIT_S)
    lines = said.splitlines()
    assert len(lines) == 1 and lines[0].startswith("quoris: "), said
    assert "panicked" not in said
    return asked.returncode, lines[0]


@pytest.mark.parametrize("slots", BAD_SLOTS)
def test_slots_that_are_none_are_named(shared, slots):
    code, line = refused("--addr", shared.nodes[0].client_addr, "move", f"--slots={slots}", "--to", "1")
    assert code == 2 and "--slots" in line, line


@pytest.mark.parametrize("words", ["--slots 1", "--to 1", "--slots 1 --to x", "--slots 1 --to=-1"])
def test_what_is_missing_or_no_group_is_named(shared, words):
    code, line = refused("--addr", shared.nodes[0].client_addr, "move", *words.split())
    assert code == 2 and ("--to" in line or "--slots" in line), line


def test_a_group_that_does_not_exist(shared):
    code, line = refused("--addr", shared.nodes[0].client_addr, "move", "--slots", "1", "--to", "99")
    assert code == 1 and "no group 99" in line, line


def test_a_node_that_is_down():
    addr = f"127.0.0.1:{free_port()}"
    code, line = refused("--addr", addr, "move", "--slots", "1", "--to", "1")
    assert code == 1 and addr in line and "refused" in line, line


def test_quoris_move_says_what_is_wrong(shared):
    place = Place(shared, at=140)
    with connect(place.leader) as c:
        for words, said in (
            (["x", place.slot], "ERR value is not an integer or out of range"),
            ([place.away, "x"], "ERR value is not an integer or out of range"),
            ([place.away, SLOTS], "ERR Invalid slot"),
            ([99, place.slot], "ERR there is no group 99"),
            ([-1, place.slot], "ERR there is no such group"),
            ([place.away], "ERR wrong number of arguments"),
        ):
            with pytest.raises(ReplyError, match=f"^{re.escape(said)}"):
                c.call("QUORIS", "MOVE", *words)
        slots = shared.slotted_groups()
        far = max(slots)
        with pytest.raises(ReplyError, match="^ERR slots .* are served by different groups"):
            c.call("QUORIS", "MOVE", place.away, place.slot, slots[far])
        assert c.call("QUORIS", "MOVE", place.away, place.slot, place.slot) == b"1", "named twice, moved once"
        assert c.call("QUORIS", "MOVE", place.away, place.slot) == b"0", "it is there"
    with connect(place.leader) as c:
        with pytest.raises(ReplyError, match=f"^MOVED {place.slot} {place.heir.client_addr}"):
            c.call("QUORIS", "MOVE", place.home, place.slot)
    place.come_back()


def test_slots_scattered_over_groups_are_shown_and_found():
    """As many ranges as there can be."""
    with Cluster(groups=2, forward="all") as cluster:
        home, away = sorted(cluster.slotted_groups())
        with connect(cluster.nodes[0]) as c:
            for number in range(500):
                c.call("SET", number, "v")
            move(cluster, range(0, SLOTS // 2, 2), away)
            move(cluster, range(SLOTS // 2, SLOTS, 2), home)
            shown = ctl("--addr", cluster.nodes[0].client_addr, "status")
            table, said = shown.communicate(timeout=MOVE_LIMIT_S)
            assert shown.returncode == 0 and " 8190 " in table, said
            assert len(set(as_clients_see_it(cluster.nodes[0]).values())) == 2
            assert scanned(c) == {str(number) for number in range(500)} and c.call("DBSIZE") == 500


def test_moves_within_one_node():
    """Two groups of one leader: clients of either kind never leave it."""
    with Cluster(nodes=1, groups=2, forward="all") as cluster:
        home, away = sorted(cluster.slotted_groups())
        slot, node = cluster.slotted_groups()[home], cluster.nodes[0]
        key = f"{{{tag_for(slot)}}}:queue"
        with cluster_connection(node.client_addr, CALL_LIMIT_S) as follower, connect(node) as plain:
            for to in (away, home):
                follower.send("BLPOP", key, 0)
                wait_blocked(node, 1)
                move(cluster, [slot], to)
                word = refusal(follower).word
                assert word in RETRIED, word
                follower.send("BLPOP", key, 0)
                wait_blocked(node, 1)
                plain.call("RPUSH", key, "x")
                assert follower.read_reply() == [key.encode(), b"x"]
                assert plain.call("DBSIZE") == 0
