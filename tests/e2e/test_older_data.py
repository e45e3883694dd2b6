"""Data that earlier builds have written are read to exactly the state that they were, written to, and read again."""

import pytest

import frozen
from cluster import Cluster
from disk import exchange
from freeze import GOES_TO_0, LATE_0, LOADED, PASSWORD, STAYS_1, Lenient, sha_of, write_families
from load import tag_for
from resp import Connection

# In either group one that the data know nothing of.
NEW_TAGS = [tag_for(slot) for slot in (7000, 15000)]


@pytest.fixture(params=frozen.names())
def older(request):
    """A lone node, not yet started, that has what an earlier one left; and what clients saw of that one."""
    expected = frozen.expected(request.param)
    cluster = Cluster(nodes=1, groups=len(expected["groups"]))
    cluster.cluster_id = expected["cluster_id"]
    frozen.unpack(request.param, cluster.nodes[0].data_dir)
    return cluster, expected


def restart(cluster):
    (node,) = cluster.nodes
    node.kill()
    node.start()
    cluster.wait_ready()


def test_what_an_earlier_build_wrote_is_read_to_the_same_state(older):
    cluster, expected = older
    (node,) = cluster.nodes
    with cluster:
        seen = frozen.observe(node, expected["questions"])
        assert frozen.differences(expected, seen) == []
        assert seen["keys"].keys() == expected["keys"].keys()
        assert "differs from the others" not in node.log_text()
        assert [known["client_addr"] for known in node.status()["nodes"]] == [node.client_addr]

        # Whoever waited is gone; scripts, libraries and users are there, and work.
        with Connection(node.client_addr) as connection:
            assert b"blocked_clients:0\r\n" in connection.call("INFO", "clients")
            assert connection.call("RPUSH", f"{{{STAYS_1}}}:never", "x") == 1
            assert connection.call("LLEN", f"{{{STAYS_1}}}:never") == 1
            assert connection.call("AUTH", "ann", PASSWORD) == "OK"
        write = Lenient(node)
        # Over what is there, too, where some calls are answered otherwise than they were.
        for tag in (STAYS_1, GOES_TO_0, LATE_0, *NEW_TAGS):
            write_families(write, tag)
        assert write("EVALSHA", sha_of(LOADED), 1, f"{{{NEW_TAGS[0]}}}:once-more") == 1
        assert write("FCALL", "bump", 1, f"{{{NEW_TAGS[1]}}}:once-more", "times") == 1
        frozen.rest(cluster, node)
        before = frozen.observe(node, expected["questions"])
        restart(cluster)
        assert frozen.differences(before, frozen.observe(node, expected["questions"])) == []

        # And when it is all in a snapshot that this build has written.
        write = Lenient(node)
        assert write("SAVE") == "OK"
        restart(cluster)
        after = frozen.observe(node, expected["questions"])
        for section in ("node", "questions", "keys"):
            assert frozen.differences(before[section], after[section]) == []


def test_an_entry_that_is_read_as_another_one_is_noticed(older):
    """What the test above would see of a build that takes an older entry for something else."""
    cluster, expected = older
    (node,) = cluster.nodes
    exchange(node.data_dir, b"asked-for", b"asked-fur")
    with cluster:
        seen = frozen.observe(node, expected["questions"])
        found = frozen.differences(expected, seen)
        print(found)
        assert [line for line in found if line.startswith("groups / 1 / verified")]
        assert [line for line in found if "asked-for" in line]
        assert "differs from the others" in node.log_text()
