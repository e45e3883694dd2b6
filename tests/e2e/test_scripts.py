"""Scripts that do not end, and budgets that differ from node to node."""

import re
import threading
import time
from pathlib import Path

import pytest

from cluster import Cluster, wait_until
from load import tag_for
from resp import Connection, ReplyError, cluster_connection

ENDLESS = "while true do end"
ENDLESS_WRITER = "redis.call('set', KEYS[1], 'written') while true do end"
LIBRARY = """#!lua name=endless
redis.register_function{function_name='endless', callback=function() while true do end end, flags={'no-writes'}}
"""
CALLS, SLOWEST_S = 200, 1.0
LONG_S = 30.0


class Caller(threading.Thread):
    """One call, and what became of it."""

    def __init__(self, addr, *words):
        super().__init__(daemon=True)
        self.connection, self.words = cluster_connection(addr, LONG_S), words
        self.error, self.took_s = None, 0.0
        self.start()

    def run(self):
        began = time.monotonic()
        try:
            self.connection.call(*self.words)
        except ReplyError as error:
            self.error = str(error)
        self.took_s = time.monotonic() - began

    def ended(self):
        self.join(LONG_S)
        assert not self.is_alive(), f"{self.words[0]} goes on"
        return self.error


@pytest.fixture
def led(cluster):
    """A group's leader, and a hash tag of the group."""
    group, slot = next(iter(cluster.slotted_groups().items()))
    return cluster.wait_led(group), tag_for(slot)


def kill(connection, what="SCRIPT"):
    """Has the script killed as soon as it runs."""

    def killed():
        try:
            return connection.call(what, "KILL") == "OK"
        except ReplyError as error:
            assert error.word == "NOTBUSY", error
            return False

    wait_until(f"{what} KILL", killed)


def slowest_call_s(connection, tag):
    slowest = 0.0
    for n in range(CALLS):
        began = time.monotonic()
        assert connection.call("SET", f"{{{tag}}}:{n}", n) == "OK"
        assert connection.call("GET", f"{{{tag}}}:{n}") == str(n).encode()
        slowest = max(slowest, time.monotonic() - began)
    return slowest


@pytest.mark.parametrize(
    "words",
    [
        ("EVAL_RO", ENDLESS, 1, "{tag}"),
        ("EVAL", f"#!lua flags=no-writes\n{ENDLESS}", 1, "{tag}"),
        ("EVAL_RO", ENDLESS, 0),
    ],
)
def test_an_endless_script_that_reads_stalls_nobody_and_is_killed(led, words):
    leader, tag = led
    words = [tag if word == "{tag}" else word for word in words]
    script = Caller(leader.client_addr, *words)
    with cluster_connection(leader.client_addr) as other:
        time.sleep(0.2)
        assert script.is_alive()
        assert slowest_call_s(other, tag) < SLOWEST_S
        assert script.is_alive()
        with pytest.raises(ReplyError, match="^BUSY .*SCRIPT KILL"):
            other.call("FUNCTION", "KILL")
        kill(other)
        assert "Script killed by user with SCRIPT KILL" in script.ended()
        with pytest.raises(ReplyError, match="^NOTBUSY"):
            other.call("SCRIPT", "KILL")


def test_an_endless_function_is_shown_and_killed(led):
    leader, tag = led
    with cluster_connection(leader.client_addr) as other:
        other.call("FUNCTION", "LOAD", LIBRARY)
        function = Caller(leader.client_addr, "FCALL_RO", "endless", 1, tag)

        def shown():
            return other.call("FUNCTION", "STATS")[1]

        running = wait_until("a running function", shown)
        assert running[:4] == [b"name", b"endless", b"command", [b"FCALL_RO", b"endless", b"1", tag.encode()]]
        assert running[4] == b"duration_ms" and running[5] >= 0
        with pytest.raises(ReplyError, match="^BUSY .*FUNCTION KILL"):
            other.call("SCRIPT", "KILL")
        kill(other, "FUNCTION")
        assert "Script killed by user with FUNCTION KILL" in function.ended()
        assert other.call("FUNCTION", "STATS")[1] is None


def test_a_plain_client_kills_its_script_wherever_it_runs(cluster, led):
    leader, tag = led
    elsewhere = next(node for node in cluster.nodes if node is not leader)
    script = Caller(leader.client_addr, "EVAL_RO", ENDLESS, 1, tag)
    with Connection(elsewhere.client_addr) as plain:
        kill(plain)
    assert "killed" in script.ended()


def test_an_endless_script_that_reads_ends_by_its_time(led):
    leader, tag = led
    with cluster_connection(leader.client_addr) as other:
        other.call("CONFIG", "SET", "script-read-limit-ms", 700)
        script = Caller(leader.client_addr, "EVAL_RO", ENDLESS, 1, tag)
        assert "run for as long as" in script.ended()
        assert 0.6 < script.took_s < 5.0
        other.call("CONFIG", "SET", "script-read-limit-ms", 60000)
        # More than the node has places for: the last is told so, and the others are still there to be killed.
        crowd = [Caller(leader.client_addr, "EVAL_RO", ENDLESS, 1, tag) for _ in range(64)]
        wait_until("a refusal", lambda: any(script.error for script in crowd))
        assert {script.error.split(" ")[0] for script in crowd if script.error} == {"BUSY"}
        while any(script.is_alive() for script in crowd):
            try:
                other.call("SCRIPT", "KILL")
            except ReplyError:
                time.sleep(0.01)


def test_an_endless_script_ends_with_the_node(led):
    leader, tag = led
    Caller(leader.client_addr, "EVAL_RO", ENDLESS, 1, tag)
    time.sleep(0.2)
    leader.stop()


def test_an_endless_script_that_may_write_is_tried_out_and_killed(led):
    leader, tag = led
    with cluster_connection(leader.client_addr) as other:
        other.call("CONFIG", "SET", "script-instructions", 1_000_000_000_000, "busy-reply-threshold", 0)
        script = Caller(leader.client_addr, "EVAL", ENDLESS_WRITER, 1, tag)
        time.sleep(0.2)
        assert slowest_call_s(other, tag) < SLOWEST_S
        assert script.is_alive()
        other.call("CONFIG", "SET", "busy-reply-threshold", 100)
        for words in [("GET", tag), ("PING",), ("EXEC",)]:
            with pytest.raises(ReplyError, match="BUSY .*SCRIPT KILL"):
                other.call(*words)
        kill(other)
        assert "Script killed by user with SCRIPT KILL" in script.ended()
        assert other.call("GET", tag) is None


def test_a_script_that_does_not_end_within_its_budget_never_enters_the_log(led):
    leader, tag = led
    script = Caller(leader.client_addr, "EVAL", ENDLESS_WRITER, 1, tag)
    assert "runs more instructions than it may; its writes are undone" in script.ended()
    with cluster_connection(leader.client_addr) as other:
        assert other.call("GET", tag) is None


def test_an_endless_script_in_the_log_is_undone_and_cannot_be_killed(led):
    leader, tag = led
    with cluster_connection(leader.client_addr) as other:
        # It has shown itself short, and is so no longer.
        turncoat = "redis.call('set', KEYS[1], 'written') while ARGV[1] == 'endless' do end return redis.call('del', KEYS[1])"
        other.call("EVAL", turncoat, 1, tag, "short")
        script = Caller(leader.client_addr, "EVAL", turncoat, 1, tag, "endless")

        def refused():
            try:
                other.call("SCRIPT", "KILL")
            except ReplyError as error:
                return error.word == "UNKILLABLE"

        wait_until("UNKILLABLE", refused)
        assert "runs more instructions than it may; its writes are undone" in script.ended()
        assert other.call("GET", tag) is None


def test_the_leaders_budget_holds_on_every_replica():
    # One that fits the budget of two nodes, and not that of the third.
    script = "redis.call('incr', KEYS[1]) for i = 1, 4000000 do end return 'ended'"
    # The pieces are kept, so that it needs about so many megabytes.
    hungry = "local t = {} for i = 1, 20 do t[i] = string.rep(tostring(i % 10), 1000000) end return #t"
    with Cluster(script_instructions=2_000_000) as cluster:
        small = cluster.nodes[0]
        for node in cluster.nodes[1:]:
            with cluster_connection(node.client_addr) as connection:
                connection.call("CONFIG", "SET", "script-instructions", 10_000_000)
        with cluster_connection(small.client_addr) as connection:
            connection.call("CONFIG", "SET", "script-memory", "4mb")
        for group, slot in cluster.slotted_groups().items():
            leader, tag = cluster.wait_led(group), tag_for(slot)
            with cluster_connection(leader.client_addr) as connection:
                for words, error in [((script, 1, tag), "more instructions"), ((hungry, 1, tag), "more memory")]:
                    if leader is small:
                        with pytest.raises(ReplyError, match=error):
                            connection.call("EVAL", *words)
                    else:
                        connection.call("EVAL", *words)
                assert connection.call("GET", tag) == (None if leader is small else b"1")
        # Longer than the time from one check of the replicas to the next.
        time.sleep(2.5)
        assert not any("differs from the others" in node.log_text() for node in cluster.nodes)
        with cluster_connection(small.client_addr) as connection:
            assert connection.call("CONFIG", "GET", "script-instructions")[1] == b"2000000"
        small.kill()
        values = []
        for group, slot in cluster.slotted_groups().items():
            with cluster_connection(cluster.wait_led(group).client_addr) as connection:
                values.append(connection.call("GET", tag_for(slot)))
        assert sorted(values, key=str) == [None, b"1", b"1"] or sorted(values, key=str) == [b"1", b"1", None]


def each_group_runs(cluster, sha):
    """Asserts that every group's leader, whoever it is by then, knows the script `sha` and the function `known`."""
    node = next(node for node in cluster.nodes if node.running)
    for slot in cluster.slotted_groups().values():
        with Connection(node.client_addr, LONG_S) as plain:
            key = tag_for(slot)
            assert plain.call("EVALSHA", sha, 1, key) == key.encode()
            assert plain.call("FCALL", "known", 1, key) == key.encode()


def test_scripts_and_functions_outlive_failovers_and_restarts(cluster):
    library = "#!lua name=lasting\nredis.register_function('known', function(keys) return keys[1] end)"
    with cluster_connection(cluster.nodes[0].client_addr) as connection:
        sha = connection.call("SCRIPT", "LOAD", "return KEYS[1]").decode()
        assert connection.call("FUNCTION", "LOAD", library) == b"lasting"
    each_group_runs(cluster, sha)
    for node in cluster.nodes:
        node.kill()
        each_group_runs(cluster, sha)
        node.start()
        cluster.wait_ready()
    for node in cluster.nodes:
        node.kill()
    cluster.start()
    each_group_runs(cluster, sha)
    dumps = set()
    for node in cluster.nodes:
        with cluster_connection(node.client_addr) as connection:
            dumps.add(connection.call("FUNCTION", "DUMP"))
    assert len(dumps) == 1


def resident_mb(node):
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


def test_many_different_scripts_take_bounded_memory():
    # What is kept of the last ones, in the log and by the allocator, has its size after some 20,000. The text of those that
    # follow is 32 MB; what Lua makes of it is more.
    scripts, warm_up, most_mb = 30_000, 20_000, 20
    with Cluster(nodes=1, groups=1) as cluster, cluster_connection(cluster.nodes[0].client_addr, LONG_S) as client:
        for first in range(0, scripts, 100):
            if first == warm_up:
                before = resident_mb(cluster.nodes[0])
            for n in range(first, first + 100):
                client.send("EVAL", f"local t = {{'{n}{'x' * 2000}', {f'{n}, ' * 200}}} return #t", 0)
            assert [client.read_reply() for _ in range(100)] == [201] * 100
        grown = resident_mb(cluster.nodes[0]) - before
        print(f"{scripts - warm_up} scripts: {grown:.1f} MB more than before")
        assert grown < most_mb


def test_an_endless_script_in_the_log_does_not_keep_a_node_from_stopping():
    # It is known to be short, and so is not tried out, when it turns out to be endless.
    script = "if redis.call('exists', KEYS[1]) == 1 then while true do end end"
    with Cluster(nodes=1, groups=1, threads=1, script_instructions=10**12) as cluster:
        node = cluster.nodes[0]
        with cluster_connection(node.client_addr, LONG_S) as client:
            assert client.call("EVAL", script, 1, "k") is None
            assert client.call("SET", "k", "v") == "OK"
            client.send("EVAL", script, 1, "k")
            time.sleep(1)
            node.process.terminate()
            # quoris serve gives itself 10 s.
            assert node.process.wait(LONG_S) == 1
