"""A replica whose state is not what the others' is: found, stopped, and rebuilt by command.

The state is made wrong where no checksum can see it: in a snapshot whose checksums are made right again.
"""

import json
import struct
import subprocess
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

from cluster import Cluster, binary, free_port, wait_until
from load import tag_for
from resp import Connection
from test_metrics import scrape

HEADER, FRAME_HEADER, END = 32, 8, 0xFFFFFFFF


def ctl(node, *words):
    """Exit code and output of `quoris ctl`."""
    command = [binary(), "ctl", "--addr", node.client_addr, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def spoil(snapshot, old, new):
    """Exchanges `old` for `new` in a snapshot (docs/internals/disk-format.md), with checksums as if it had been written so."""
    raw = bytearray(snapshot.read_bytes())
    assert raw.count(old) == 1 and len(old) == len(new)
    place = raw.index(old)
    raw[place : place + len(old)] = new
    (meta,) = struct.unpack_from("<I", raw, 24)
    (salt,) = struct.unpack_from("<I", raw, 28)
    at, number = HEADER + meta, 0
    while True:
        (length,) = struct.unpack_from("<I", raw, at)
        if length == END:
            break
        data = raw[at + FRAME_HEADER : at + FRAME_HEADER + length]
        crc = zlib.crc32(struct.pack("<IQ", salt, number) + data)
        struct.pack_into("<I", raw, at + 4, crc)
        at, number = at + FRAME_HEADER + length, number + 1
    snapshot.write_bytes(raw)


def row(node, group):
    status = node.status()
    return status and next(g for g in status["groups"] if g["id"] == group)


def cluster_with_a_spoilt_follower(cluster):
    """A group, a key of it, and the node whose replica holds another value there than the others."""
    group, slot = next(iter(cluster.slotted_groups().items()))
    key = f"{{{tag_for(slot)}}}:amount"
    leader = cluster.wait_led(group)
    with Connection(leader.client_addr) as connection:
        assert connection.call("SET", key, "amount-1000") == "OK"
    cluster.wait_caught_up()
    victim = next(node for node in cluster.nodes if node is not leader)
    with Connection(victim.client_addr) as connection:
        assert connection.call("SAVE") == "OK"
    victim.kill()
    (snapshot,) = (victim.data_dir / "snapshots").glob(f"{group:08x}-*.snap")
    spoil(snapshot, b"amount-1000", b"amount-9000")
    victim.start()
    cluster.wait_ready()
    return group, key, victim


def test_whole_states_are_compared_by_command_and_a_replica_rebuilt():
    cluster = Cluster()
    for node in cluster.nodes:
        node.settings["metrics_listen"] = f"127.0.0.1:{free_port()}"
    with cluster:
        for node in cluster.nodes:
            code, said = ctl(node, "verify", "--whole")
            assert code == 0, said
        group, key, victim = cluster_with_a_spoilt_follower(cluster)
        leader = cluster.wait_led(group)
        code, said = ctl(victim, "rebuild", "--group", str(group))
        assert code == 1 and "nothing to rebuild" in said, said

        code, said = ctl(leader, "verify", "--whole")
        assert code == 1 and said.count("DIFFERS") == 1, said
        code, said = ctl(leader, "verify", "--json")
        verified = json.loads(said.splitlines()[0])
        assert code == 1 and not verified["sound"]
        check_that_it_has_stopped(cluster, victim, group, key)

        # The verdict outlives the process, once it is recorded: within a round of the node's upkeep, a tenth of a second.
        time.sleep(0.5)
        victim.kill()
        victim.start()
        wait_until("an answer", victim.status)
        assert row(victim, group)["difference"], victim.log_text()
        cluster.wait_ready()

        code, said = ctl(victim, "rebuild", "--group", str(group))
        assert code == 0 and "rebuilt" in said, said
        assert row(victim, group)["difference"] is None
        code, said = ctl(leader, "verify", "--whole")
        assert code == 0, said
        # And it leads, and answers as the others do, also after a restart.
        victim.kill()
        victim.start()
        cluster.wait_ready()
        for node in cluster.nodes:
            if node is not victim:
                node.stop()
                wait_until("another leader", lambda: cluster.wait_led(group) is not node)
                with Connection(cluster.wait_led(group).client_addr) as connection:
                    assert connection.call("GET", key) == b"amount-1000"
                node.start()
                cluster.wait_ready()
        code, said = ctl(leader, "verify", "--whole")
        assert code == 0, said


def test_comparisons_at_the_same_time_do_not_spoil_each_other():
    with Cluster() as cluster:
        for slot in cluster.slotted_groups().values():
            with Connection(cluster.nodes[0].client_addr) as connection:
                for i in range(100):
                    connection.call("SET", f"{{{tag_for(slot)}}}:{i}", "x")
        cluster.wait_caught_up()
        with ThreadPoolExecutor(6) as pool:
            nodes = cluster.nodes * 4
            for code, said in pool.map(lambda node: ctl(node, "verify", "--whole"), nodes):
                assert code == 0, said


def check_that_it_has_stopped(cluster, victim, group, key):
    found = row(victim, group)["difference"]
    text = victim.log_text()
    assert "this replica differs from the others" in text
    assert found["ours"] in text and found["leaders"] in text, text
    code, said = ctl(victim, "status")
    assert code == 0 and found["ours"] in said and "ctl rebuild" in said, said
    metrics = scrape(victim.settings["metrics_listen"])
    differs = {labels["group"]: value for labels, value in metrics["quoris_group_differs"]}
    assert differs.pop(str(group)) == 1 and set(differs.values()) == {0}, differs
    with Connection(victim.client_addr) as connection:
        info = connection.call("INFO", "replication").decode()
        assert "quoris_groups_that_differ:1" in info, info
        # It forwards, and never answers by itself.
        assert connection.call("GET", key) == b"amount-1000"


def test_a_reply_that_differs_stops_the_replica_within_seconds():
    with Cluster() as cluster:
        group, key, victim = cluster_with_a_spoilt_follower(cluster)
        leader = cluster.wait_led(group)
        with Connection(leader.client_addr) as connection:
            assert connection.call("SET", key, "amount-1001", "GET") == b"amount-1000"
        wait_until("it is found", lambda: row(victim, group)["difference"], 5)
        code, said = ctl(victim, "rebuild", "--group", str(group))
        assert code == 0, said
        code, said = ctl(victim, "verify", "--whole")
        assert code == 0, said


def test_a_rebuild_needs_a_majority_of_equal_replicas():
    with Cluster() as cluster:
        group, key, victim = cluster_with_a_spoilt_follower(cluster)
        leader = cluster.wait_led(group)
        code, said = ctl(leader, "verify", "--whole")
        assert code == 1, said
        third = next(node for node in cluster.nodes if node not in (leader, victim))
        third.kill()
        wait_until("a leader", lambda: cluster.wait_led(group))
        code, said = ctl(victim, "rebuild", "--group", str(group))
        assert code == 1 and "no majority" in said, said
        assert row(victim, group)["difference"]
        third.start()
        cluster.wait_ready()
        code, said = ctl(victim, "rebuild", "--group", str(group))
        assert code == 0, said
