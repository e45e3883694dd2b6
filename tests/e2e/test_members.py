"""Nodes that join a running cluster and leave it: under load, through deaths, all in turn; and what is refused."""

import random
import subprocess
import time

import pytest
from redis.cluster import ClusterNode, RedisCluster

from cluster import MEMBERS_LIMIT_S, Cluster, free_port, wait_until
from load import Load, tag_for
from resp import Connection, ReplyError
from test_moves import Counter, as_clients_see_it, check_by_redis_cli, wait_alike

# More groups than nodes, so that whoever joins gets one to lead.
GROUPS = 4
WRITE_EVERY_S = 0.01
CALL_LIMIT_S = 20.0
# On a machine that is busy with much else; it is a few hundred milliseconds on others.
PAUSE_BAR_S = 5.0
REMOVED = "was removed from the cluster"


def wait_more(load, writes=90):
    """Until every writer has gone on for a while."""
    wanted = {writer: len(writer.ack_times) + writes // len(load.writers) for writer in load.writers}
    wait_until("more is written", lambda: all(len(w.ack_times) >= n for w, n in wanted.items()))


def longest_pause_s(load, since):
    until = time.monotonic()
    return max(writer.longest_gap_s(since, until) for writer in load.writers)


def led_by(cluster, node):
    return [g["id"] for g in cluster.status()["groups"] if g["leader"] == node.id]


def members_as_seen(node):
    """{number: (client address, peer address)}, or nothing if it does not answer."""
    state = node.status()
    return state and {n["id"]: (n["client_addr"], n["peer_addr"]) for n in state["nodes"]}


def members_of(nodes):
    return {node.id: (node.client_addr, node.peer_addr) for node in nodes}


def wait_agreed(cluster):
    """Until all members name the same members; these."""

    def agreed():
        seen = [members_as_seen(node) for node in cluster.answering()]
        return seen[0] if seen[0] and all(one == seen[0] for one in seen) else None

    return wait_until("all nodes name the same members", agreed)


def reaches(node, other):
    """Whether the node has a link to the other."""
    return next(n["reachable"] for n in node.status()["nodes"] if n["id"] == other.id)


def wait_said(node, words, since=0):
    """Until the node's log has these words, after the first `since` characters."""
    wait_until(f"{node} says: {words}", lambda: words in node.log_text()[since:])


def ends_by_itself(node, *words, since=0):
    """Asserts that the node stops, and says why."""
    code, said = node.wait_exit(), node.log_text()[since:]
    assert code not in (0, 101) and code > 0, f"exit code {code}: {said}"
    assert "panicked" not in said, said
    for word in words:
        assert word in said, f"{word!r} is not in: {said}"


def refused_start(node, *words):
    """Starts a node that must not run."""
    since = len(node.log_text())
    node.start()
    ends_by_itself(node, *words, since=since)


def insist(cluster, *words):
    """Asks by way of whoever answers until it is done: what went wrong may have been done, or is safe to ask again."""

    def done():
        code, said = cluster.ctl(*words)
        assert code in (0, 1), said
        return code == 0

    wait_until(f"ctl {words} is done", done, limit_s=60.0)


# --- under load --------------------------------------------------------------------------------------------------


def test_a_node_joins_under_load():
    with Cluster(groups=GROUPS) as cluster:
        node = cluster.newcomer()
        with Load(cluster, every_s=WRITE_EVERY_S) as load:
            wait_more(load)
            since = time.monotonic()
            cluster.add(node)
            node.start()
            cluster.wait_settled()
            took_s = time.monotonic() - since
            # As many nodes lead as there are groups: it leads one, too.
            cluster.wait_ready()
            wait_more(load)
            pause_s = longest_pause_s(load, since)
        assert led_by(cluster, node)
        print(f"\nvotes everywhere after {took_s:.2f} s; longest pause of a writer {pause_s * 1000:.0f} ms")
        assert pause_s < PAUSE_BAR_S
        load.check()
        wait_alike(cluster)
        # It counts: of four, three are needed.
        cluster.nodes[0].kill()
        for group in range(GROUPS):
            cluster.wait_led(group)
        load.check()


def test_a_node_that_leads_is_removed_under_load():
    with Cluster(nodes=4, groups=GROUPS) as cluster:
        leaving = cluster.wait_led(1)
        with Load(cluster, every_s=WRITE_EVERY_S) as load:
            wait_more(load)
            led, since = led_by(cluster, leaving), time.monotonic()
            assert led
            # By way of itself: it need not outlive the answer.
            cluster.remove(leaving, through=leaving)
            took_s = time.monotonic() - since
            ends_by_itself(leaving, REMOVED)
            cluster.wait_ready(), cluster.wait_settled()
            wait_more(load)
            pause_s = longest_pause_s(load, since)
        print(f"\nout of all groups, {len(led)} of them led, in {took_s:.2f} s; longest pause {pause_s * 1000:.0f} ms")
        assert pause_s < PAUSE_BAR_S
        load.check()
        wait_alike(cluster)
        refused_start(leaving, f"node {leaving.id} {REMOVED}")
        # Whoever forgets is told.
        leaving.wipe()
        refused_start(leaving, REMOVED)
        assert cluster.status()["nodes"] and leaving.id not in wait_agreed(cluster)


def test_a_dead_node_is_replaced():
    with Cluster() as cluster:
        with Load(cluster, every_s=WRITE_EVERY_S) as load:
            wait_more(load)
            dead = cluster.wait_led(0)
            dead.kill()
            cluster.remove(dead)
            node = cluster.newcomer()
            cluster.add(node)
            node.start()
            cluster.wait_settled(), cluster.wait_ready()
            wait_more(load)
            # It comes back, and knows of nothing.
            refused_start(dead, REMOVED)
            wait_more(load)
        load.check()
        wait_alike(cluster)
        assert wait_agreed(cluster) == members_of(cluster.nodes)


def replace_all(cluster, load):
    """Adds a node and removes one, until there are none but new ones."""
    for old in list(cluster.nodes):
        new = cluster.newcomer()
        cluster.add(new)
        new.start()
        cluster.wait_settled()
        load.meet(new.client_addr)
        cluster.remove(old)
        ends_by_itself(old, REMOVED)
        cluster.wait_settled()
        wait_more(load)


def test_all_nodes_are_replaced_under_load_and_killed_and_started_with_settings_of_long_ago():
    """While writers write and a cluster client of redis-py counts."""
    with Cluster() as cluster:
        founded = cluster.initial_cluster()
        counter = cluster_counter(cluster)
        with Load(cluster, per_group=1, every_s=WRITE_EVERY_S) as load:
            counter.start()
            wait_more(load)
            replace_all(cluster, load)
            assert [node.id for node in cluster.nodes] == [4, 5, 6]
            counted = dict(counter.counted)
            wait_until("it counts on", lambda: all(counter.counted[key] > n + 10 for key, n in counted.items()))
            counter.halt.set()
            counter.join()
            cluster.wait_ready()
            check_as_clients_see_it(cluster)
            for node in cluster.nodes:
                node.kill()
        print(f"\n{sum(counter.counted.values())} counted by redis-py; longest pause {counter.longest_s * 1000:.0f} ms")
        assert cluster.node(4).settings["initial_cluster"] == f"{founded},{cluster.node(4).member}"
        cluster.start()
        cluster.wait_ready(), cluster.wait_settled()
        load.check()
        with Connection(cluster.nodes[0].client_addr, CALL_LIMIT_S) as connection:
            counter.check(lambda key: connection.call("GET", key))
        wait_alike(cluster)
        assert wait_agreed(cluster) == members_of(cluster.nodes)
        # Its settings name nobody who is still there; whoever is finds it.
        empty = cluster.node(4)
        empty.kill(), empty.wipe(), empty.start()
        cluster.wait_ready(), cluster.wait_settled()
        wait_alike(cluster)


def cluster_counter(cluster):
    """Counts in every group by a cluster client that is told of nodes that will all be gone."""
    nodes = [ClusterNode("127.0.0.1", node.port) for node in cluster.nodes]
    client = RedisCluster(startup_nodes=nodes, socket_timeout=CALL_LIMIT_S)
    return Counter("members", [tag_for(slot) for slot in cluster.slotted_groups().values()], client.incr)


def check_as_clients_see_it(cluster):
    """Asserts that CLUSTER, redis-cli and a new cluster client know the members and nobody else."""
    check = check_by_redis_cli(cluster)
    assert "[OK] All 16384 slots covered" in check and "[ERR]" not in check and "[WARN" not in check, check
    now = {node.client_addr for node in cluster.nodes}
    assert all(addr in check for addr in now), check
    for node in cluster.nodes:
        assert set(as_clients_see_it(node).values()) <= now
        with Connection(node.client_addr) as connection:
            told = connection.call("CLUSTER", "NODES").decode()
        assert {line.split()[1].split("@")[0] for line in told.splitlines()} == now, told
        fresh = RedisCluster(host="127.0.0.1", port=node.port)
        assert {f"127.0.0.1:{other.port}" for other in fresh.get_nodes()} == now


# --- deaths ------------------------------------------------------------------------------------------------------

def strike(cluster, rng, newcomer):
    """Kills one or two of: the meta group's leader, a member, the node that joins. Starts them again."""
    leader = next((node for node in cluster.answering() if 0 in led_by(cluster, node)), cluster.nodes[0])
    victims = {rng.choice([leader, rng.choice(cluster.nodes), newcomer or leader])}
    if rng.random() < 0.3:
        victims.add(rng.choice(cluster.nodes))
    struck = [node for node in victims if node.running]
    for node in struck:
        node.kill()
    time.sleep(rng.uniform(0, 0.5))
    for node in struck:
        node.start()
    return [node.id for node in struck]


def test_changes_end_though_nodes_are_killed():
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    print(f"\nseed {seed}")
    with Cluster() as cluster:
        with Load(cluster, per_group=1, every_s=WRITE_EVERY_S) as load:
            wait_more(load)
            for change in ("add", "remove", "add", "remove"):
                began = time.monotonic()
                newcomer = cluster.newcomer() if change == "add" else None
                node = newcomer or rng.choice(cluster.nodes)
                words = ("add-node", node.member) if newcomer else ("remove-node", node.id)
                if newcomer:
                    newcomer.start()
                changing = cluster.begin_ctl(*words, through=rng.choice([n for n in cluster.nodes if n is not node]))
                time.sleep(rng.uniform(0, 1.0))
                struck = strike(cluster, rng, newcomer)
                changing.communicate(timeout=MEMBERS_LIMIT_S)
                insist(cluster, *words)
                if newcomer:
                    cluster.count_in(node)
                else:
                    cluster.count_out(node)
                    ends_by_itself(node, REMOVED)
                cluster.wait_settled()
                print(f"  {change} {node.id}: {struck} killed; ctl ended with {changing.returncode}; "
                      f"settled after {time.monotonic() - began:.1f} s")
            wait_more(load)
        cluster.wait_ready()
        load.check()
        wait_alike(cluster)
        assert wait_agreed(cluster) == members_of(cluster.nodes)


# --- too few nodes -----------------------------------------------------------------------------------------------


def test_a_removal_that_leaves_no_quorum_in_reach_is_refused():
    with Cluster() as cluster:
        one, two, dead = cluster.nodes
        dead.kill()
        wait_until("its death is noticed", lambda: not reaches(one, dead))
        cluster.wait_led(0)
        for leaving in (one, two):
            code, said = cluster.ctl("remove-node", leaving.id, through=two)
            assert code == 1 and f"without node {leaving.id} there would be no quorum" in said, said
            assert "of 2 other voters 1 are in reach" in said, said
        dead.start()
        cluster.wait_ready(), cluster.wait_settled()
        assert wait_agreed(cluster) == members_of(cluster.nodes)
        assert all("the members have changed" not in node.log_text() for node in cluster.nodes)
        cluster.remove(one)
        ends_by_itself(one, REMOVED)
        cluster.wait_settled()


def test_a_removal_is_refused_while_a_dead_node_keeps_a_newcomer_from_voting():
    with Cluster() as cluster:
        one, two, dead = cluster.nodes
        dead.kill()
        wait_until("its death is noticed", lambda: not reaches(one, dead))
        waiting = cluster.newcomer()
        cluster.add(waiting)
        waiting.start()
        wait_until("the newcomer is there", lambda: reaches(one, waiting) and reaches(two, waiting))
        asked = cluster.begin_ctl("remove-node", one.id, through=two)
        try:
            _, said = asked.communicate(timeout=CALL_LIMIT_S / 2)
        except subprocess.TimeoutExpired:
            asked.kill()
            said = "nothing"
        assert "there would be no quorum" in said, said
        with Connection(two.client_addr, CALL_LIMIT_S) as connection:
            for slot in cluster.slotted_groups().values():
                assert connection.call("SET", tag_for(slot), "v") == "OK"


CHANGES = {
    "addnode": lambda other, new: ("ADDNODE", new.id, new.client_addr, new.peer_addr),
    "removenode": lambda other, new: ("REMOVENODE", other.id),
}


def ask_alone(leader, *words):
    """What a leader that hears of nobody answers, and that it has taken the change into its log."""
    with Connection(leader.client_addr, CALL_LIMIT_S) as connection:
        with pytest.raises(ReplyError) as refused:
            connection.call("QUORIS", *words)
    meta = leader.status()["groups"][0]
    print(f"\nnode {leader.id}, alone, says: {refused.value}")
    assert refused.value.word == "UNKNOWN" and meta["last_index"] > meta["committed"], (refused.value, meta)


@pytest.mark.parametrize("change", CHANGES)
def test_what_an_isolated_leader_is_asked_and_does_not_confirm_is_undone(change):
    with Cluster(write_timeout_ms=1500) as cluster:
        leader = cluster.wait_led(0)
        others = [node for node in cluster.nodes if node is not leader]
        new, rival = cluster.newcomer(), cluster.newcomer()
        before = members_of(cluster.nodes)
        for node in others:
            node.pause()
        ask_alone(leader, *CHANGES[change](others[0], new))
        assert members_as_seen(leader) == before
        # What it has sent them dies with them. They go on without it, and take another change.
        leader.pause()
        for node in others:
            node.kill(), node.start()
        insist(cluster, "add-node", rival.member)
        assert wait_agreed(cluster) == {**before, **members_of([rival])}
        cluster.count_in(rival)
        leader.resume()
        rival.start()
        cluster.wait_settled()
        assert wait_agreed(cluster) == members_of(cluster.nodes)
        # Asked of the cluster, it is done.
        cluster.remove(others[0]) if change == "removenode" else cluster.add(new)
        assert wait_agreed(cluster) == members_of(cluster.nodes)


@pytest.mark.parametrize("change", CHANGES)
def test_what_an_isolated_leader_is_asked_happens_everywhere_or_nowhere(change):
    """The others wake up to what it has sent them: before, nobody can say whether it is done; then all say the same."""
    with Cluster(write_timeout_ms=1500) as cluster:
        leader, new = cluster.wait_led(0), cluster.newcomer()
        others = [node for node in cluster.nodes if node is not leader]
        before = members_of(cluster.nodes)
        words = CHANGES[change](others[0], new)
        for node in others:
            node.pause()
        ask_alone(leader, *words)
        for node in others:
            node.resume()
        # Asked again it is done, if it was not, and all that was in the log before has been decided.
        through = others[1].client_addr

        def done():
            with Connection(through, CALL_LIMIT_S) as connection:
                try:
                    return str(connection.call("QUORIS", *words))
                except ReplyError as error:
                    assert error.word in ("UNKNOWN", "CLUSTERDOWN"), error
                    return None

        said = wait_until("it is done", done)
        print(f"asked again: {said}")
        if change == "addnode":
            cluster.count_in(new)
            new.start()
        else:
            cluster.count_out(others[0])
            ends_by_itself(others[0], REMOVED)
        cluster.wait_settled()
        assert wait_agreed(cluster) == members_of(cluster.nodes) != before


# --- the order of things -----------------------------------------------------------------------------------------


def test_a_node_may_be_started_before_it_is_added_and_added_before_it_is_started():
    with Cluster() as cluster:
        early, late = cluster.newcomer(), cluster.newcomer()
        # One member is enough to hear of the others.
        late.settings["initial_cluster"] = f"{cluster.nodes[2].member},{late.member}"
        early.start()
        wait_said(early, f"no member of the cluster is node {early.id}")
        assert wait_agreed(cluster) == members_of(cluster.nodes)
        with Connection(early.client_addr, CALL_LIMIT_S) as connection, pytest.raises(ReplyError, match="CLUSTERDOWN"):
            connection.call("SET", "k", "v")
        cluster.add(early)
        cluster.wait_settled()
        cluster.add(late)
        # Until it is there the others do without it, and it is no voter yet.
        wait_until("it is a learner", lambda: all(late.id in g["learners"] for g in cluster.status()["groups"]))
        with Connection(early.client_addr, CALL_LIMIT_S) as connection:
            assert connection.call("SET", "k", "v") == "OK"
        late.start()
        cluster.wait_settled()
        with Connection(late.client_addr, CALL_LIMIT_S) as connection:
            assert connection.call("GET", "k") == b"v"
        wait_alike(cluster)


def test_a_member_gets_other_addresses():
    with Cluster() as cluster:
        with Load(cluster, per_group=1, every_s=WRITE_EVERY_S) as load:
            wait_more(load)
            for node in list(cluster.nodes):
                node.settings["initial_cluster"] = cluster.initial_cluster()
                old = node.client_addr
                node.stop()
                node.move(free_port([n.port for n in cluster.nodes]))
                node.start()
                load.meet(node.client_addr)
                # By way of another: who it is that is asked need not be known to the cluster yet.
                insist(cluster, "add-node", node.member)
                cluster.wait_settled()
                assert wait_agreed(cluster) == members_of(cluster.nodes)
                wait_more(load)
                assert old not in as_clients_see_it(node).values()
            for node in cluster.nodes:
                node.kill()
        # Their settings name the addresses of long ago.
        cluster.start()
        cluster.wait_ready(), cluster.wait_settled()
        load.check()
        wait_alike(cluster)
        assert wait_agreed(cluster) == members_of(cluster.nodes)


# --- what is refused ---------------------------------------------------------------------------------------------


def test_what_is_refused():
    with Cluster() as cluster:
        one, two, three = cluster.nodes
        new, other = cluster.newcomer(), cluster.newcomer()
        for words in (["4"], ["4=127.0.0.1:1"], ["0=a:1@a:2"], ["x=a:1@a:2"], ["4=a:1@a"], [new.member, "5"], []):
            code, said = cluster.ctl("add-node", *words)
            assert code == 2 and said.count("\n") == 1, (words, said)
        for words in (["x"], ["-1"], []):
            code, said = cluster.ctl("remove-node", *words)
            assert code == 2 and said.count("\n") == 1, (words, said)
        refusals = {
            ("add-node", f"4={two.client_addr}@{new.peer_addr}"): "nodes 2 and 4 would both be at",
            ("add-node", f"4={new.client_addr}@{two.peer_addr}"): "nodes 2 and 4 would both be at",
            ("add-node", f"3={two.client_addr}@{three.peer_addr}"): "nodes 2 and 3 would both be at",
            ("remove-node", "9"): "there is no node 9",
            ("remove-node", "0"): "a node's number is 1 or more",
        }
        for words, why in refusals.items():
            code, said = cluster.ctl(*words)
            assert code == 1 and why in said, (words, said)
        assert wait_agreed(cluster) == members_of(cluster.nodes)
        # To be told what one is already is no error, and no change.
        assert cluster.ctl("add-node", two.member)[0] == 0
        cluster.add(new)
        new.settings["groups"] = cluster.group_count + 2
        refused_start(new, "groups: got 5, but the cluster was founded with 3", "set groups = 3")
        del new.settings["groups"]
        new.start()
        cluster.wait_settled()
        cluster.remove(new)
        ends_by_itself(new, REMOVED)
        assert cluster.ctl("remove-node", new.id)[0] == 0, "again"
        code, said = cluster.ctl("add-node", f"{new.id}={other.client_addr}@{other.peer_addr}")
        assert code == 1 and f"node {new.id} was removed" in said, said
        cluster.wait_settled()
        assert wait_agreed(cluster) == members_of(cluster.nodes)
        wait_alike(cluster)


def test_the_last_node_stays():
    with Cluster(nodes=1, groups=1) as cluster:
        code, said = cluster.ctl("remove-node", 1)
        assert code == 1 and "it is the only node" in said, said
        with Connection(cluster.nodes[0].client_addr, CALL_LIMIT_S) as connection:
            assert connection.call("SET", "k", "v") == "OK"


def test_a_cluster_that_began_with_one_node_is_not_begun_again():
    with Cluster(nodes=1, groups=2) as cluster:
        first = cluster.nodes[0]
        with Connection(first.client_addr, CALL_LIMIT_S) as connection:
            assert connection.call("SET", "k", "v") == "OK"
        for _ in range(2):
            new = cluster.newcomer()
            cluster.add(new)
            new.start()
            cluster.wait_settled()
        first.kill()
        first.wipe()
        # The others try ever more seldom to reach it, every half second in the end.
        time.sleep(2)
        assert first.settings["initial_cluster"] == first.member, "it knows of nobody else"
        first.start()
        cluster.wait_settled()
        wait_until("it has what the others have", lambda: reads(first, "k") == b"v")
        wait_alike(cluster)


def reads(node, key):
    """What the node answers, or None."""
    try:
        with Connection(node.client_addr, CALL_LIMIT_S) as connection:
            return connection.call("GET", key)
    except (OSError, ReplyError):
        return None


def test_addresses_that_settings_have_changed_before_are_those_of_the_first_change():
    with Cluster() as cluster:
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.move(free_port([n.port for n in cluster.nodes]))
        cluster.start()
        cluster.wait_ready()
        new = cluster.newcomer()
        cluster.add(new)
        new.start()
        cluster.wait_settled()
        assert wait_agreed(cluster) == members_of(cluster.nodes)
