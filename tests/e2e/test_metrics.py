"""What Prometheus is told, read as its own client library reads it."""

import urllib.error
import urllib.request

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cluster import Cluster, free_port, wait_until
from load import tag_for
from resp import Connection, ReplyError


def scrape(addr):
    """Every sample: by its name, its labels and value."""
    with urllib.request.urlopen(f"http://{addr}/metrics", timeout=5) as page:
        assert page.headers["Content-Type"].startswith("application/openmetrics-text")
        families = text_string_to_metric_families(page.read().decode())
    samples = {}
    for family in families:
        assert family.documentation, family.name
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


@pytest.fixture
def cluster():
    cluster = Cluster()
    for node in cluster.nodes:
        node.settings["metrics_listen"] = f"127.0.0.1:{free_port()}"
    with cluster:
        yield cluster


def test_metrics_tell_what_happens(cluster):
    group, slot = next(iter(cluster.slotted_groups().items()))
    key = f"{{{tag_for(slot)}}}:counted"
    leader = cluster.wait_led(group)

    def figures(node):
        return scrape(node.settings["metrics_listen"])

    def of_group(node, name):
        return next(value for labels, value in figures(node)[name] if labels["group"] == str(group))

    with Connection(leader.client_addr) as connection:
        for _ in range(5):
            connection.call("SET", key, "v", "EX", "1000")
        connection.call("GET", key)
        with pytest.raises(ReplyError, match="WRONGTYPE"):
            connection.call("LPUSH", key, "v")
        found = figures(leader)
        commands = {labels["command"]: value for labels, value in found["quoris_commands_total"]}
        assert (commands["set"], commands["get"], commands["lpush"]) == (5, 1, 1), commands
        assert ({"kind": "WRONGTYPE"}, 1) in found["quoris_errors_total"]
        assert found["quoris_keyspace_hits_total"][0][1] == 1
        assert found["quoris_connected_clients"][0][1] >= 1
        assert found["quoris_resident_memory_bytes"][0][1] > 1 << 20
    assert sum(of_group(node, "quoris_group_leader") for node in cluster.nodes) == 1
    cluster.wait_caught_up()
    for name in ("quoris_group_keys", "quoris_group_expiring_keys"):
        assert {of_group(node, name) for node in cluster.nodes} == {1}, name
    assert len({of_group(node, "quoris_group_applied_index") for node in cluster.nodes}) == 1

    other = next(node for node in cluster.nodes if node is not leader)
    leader.kill()
    lost = ({"peer": str(leader.id)}, 0)
    wait_until("the peer is missed", lambda: lost in figures(other)["quoris_peer_reachable"])
    cluster.wait_led(group)
    wait_until("another leader", lambda: of_group(other, "quoris_group_has_leader") == 1)


def test_another_path_has_nothing(cluster):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://{cluster.nodes[0].settings['metrics_listen']}/", timeout=5)
