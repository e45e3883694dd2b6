"""Nothing acknowledged is lost: kill -9 of one, two and all nodes, silence, wiped disks, snapshots, under load."""

import time

from cluster import Cluster, wait_until
from load import Load
from resp import Connection

SILENCE_S = 4.0
SMALL_LOG = {"log_segment_bytes": 1 << 20, "snapshot_entries": 500}
# Well above what the small log above may take on disk, well below what the test writes without purging.
DISK_BOUND_BYTES = 64 << 20


def check_after(cluster, load):
    """Everything acknowledged is there, and every node has come to the same index."""
    cluster.wait_ready()
    load.check()
    cluster.wait_caught_up()


def test_one_node_after_the_other_killed(cluster):
    with Load(cluster) as load:
        for node in cluster.nodes:
            time.sleep(0.7)
            node.kill()
            time.sleep(1.0)
            node.start()
            cluster.wait_ready()
    check_after(cluster, load)


def test_two_nodes_killed(cluster):
    with Load(cluster) as load:
        for first, second in ((0, 1), (1, 2)):
            time.sleep(0.7)
            pair = cluster.nodes[first], cluster.nodes[second]
            for node in pair:
                node.kill()
            time.sleep(0.5)
            for node in pair:
                node.start()
            cluster.wait_ready()
        time.sleep(0.5)
    check_after(cluster, load)


def test_all_nodes_killed_again_and_again(cluster):
    with Load(cluster) as load:
        for _ in range(3):
            time.sleep(1.0)
            for node in cluster.nodes:
                node.kill()
            cluster.start()
            cluster.wait_ready()
        time.sleep(0.5)
    check_after(cluster, load)


def test_all_nodes_stopped_gracefully(cluster):
    with Load(cluster) as load:
        time.sleep(0.7)
    for node in cluster.nodes:
        node.stop()
    cluster.start()
    check_after(cluster, load)


def test_without_a_majority_nothing_is_acknowledged(cluster):
    with Load(cluster, per_group=1, limit_s=3.0) as load:
        time.sleep(0.7)
        cluster.nodes[0].kill()
        cluster.nodes[1].kill()
        # What was in flight may still be answered in this moment.
        time.sleep(1.0)
        before = load.acknowledged()
        time.sleep(3.0)
        assert load.acknowledged() == before, "acknowledged without a majority"
        cluster.start()
        cluster.wait_ready()
        wait_until("writers go on", lambda: load.acknowledged() > before + 10)
    check_after(cluster, load)


def test_a_silent_leader_is_replaced_and_returns_as_a_follower(cluster):
    with Load(cluster, limit_s=1.0) as load:
        time.sleep(0.7)
        group = min(cluster.slotted_groups())
        silent = cluster.wait_led(group)
        silent.pause()
        time.sleep(SILENCE_S)
        assert cluster.wait_led(group) is not silent
        silent.resume()
        time.sleep(1.5)
    check_after(cluster, load)


def test_a_wiped_node_catches_up(cluster):
    with Load(cluster) as load:
        time.sleep(0.7)
        wiped = cluster.nodes[2]
        wiped.kill()
        wiped.wipe()
        time.sleep(0.5)
        wiped.start()
        cluster.wait_ready()
        time.sleep(0.5)
    check_after(cluster, load)


def test_a_lagging_node_catches_up_by_snapshot_and_the_log_stays_bounded():
    with Cluster(**SMALL_LOG) as cluster:
        lagging = cluster.nodes[2]
        with Load(cluster, per_group=4) as load:
            time.sleep(0.5)
            lagging.kill()
            before = applied(cluster)
            # Far enough that the entries the node misses are purged from the others' logs.
            wait_until("a long tail", lambda: applied(cluster) > before + 12 * SMALL_LOG["snapshot_entries"], 60)
            lagging.start()
            cluster.wait_ready()
            time.sleep(0.5)
        check_after(cluster, load)
        for node in cluster.nodes:
            assert node.disk_bytes() < DISK_BOUND_BYTES, f"{node} holds {node.disk_bytes()} bytes"
        # What came by snapshot is durable on that node too.
        for node in cluster.nodes:
            node.kill()
        cluster.start()
        check_after(cluster, load)


def applied(cluster):
    return sum(group["applied"] for group in cluster.status()["groups"])


def test_restart_from_snapshot_and_log():
    with Cluster(**SMALL_LOG) as cluster:
        with Load(cluster, per_group=3) as load:
            wait_until("snapshots", lambda: applied(cluster) > 6 * SMALL_LOG["snapshot_entries"], 60)
        for node in cluster.nodes:
            node.kill()
        cluster.start()
        check_after(cluster, load)


def test_expired_keys_stay_gone_after_a_restart(cluster):
    node = cluster.wait_led(min(cluster.slotted_groups()))
    with Connection(node.client_addr) as connection:
        tag = next(w.tag for w in Load(cluster).by_group[min(cluster.slotted_groups())])
        assert connection.call("SET", f"{{{tag}}}brief", "1", "PX", "200") == "OK"
        assert connection.call("SET", f"{{{tag}}}long", "1", "EX", "1000") == "OK"
    for each in cluster.nodes:
        each.kill()
    time.sleep(0.3)
    cluster.start()
    cluster.wait_ready()
    with Connection(cluster.wait_led(min(cluster.slotted_groups())).client_addr) as connection:
        assert connection.call("GET", f"{{{tag}}}brief") is None
        assert 900 < connection.call("TTL", f"{{{tag}}}long") <= 1000
