"""What a disk can do to a node: a log at its bound, a file system that is full, an fsync that fails."""

import contextlib
import os
import subprocess
import threading
import time

import pytest

import shims
from cluster import Cluster, wait_until
from load import Load, tag_for
from resp import Connection, ReplyError

KB, MB = 1 << 10, 1 << 20
# Without forwarding, a refusal is seen; a plain client's call would be tried again until there is room.
TINY_LOG = {
    "log_segment_bytes": 64 * KB,
    "log_max_bytes": 256 * KB,
    "snapshot_entries": 1_000_000,
    "forward": "never",
}
VALUE_BYTES = 8 * KB
KEYS_PER_FLOOD = 16
# docs/internals/disk-format.md, bounds: what was under way when the log became full, two entries of each group, may
# come on top. A flood's call is small, so an entry here is at most all the floods' calls together.
SLACK_BYTES = 512 * KB
# Room for a few segments, and not for what the writers write.
SMALL_DISK_BYTES = 6 * MB


class Flood(threading.Thread):
    """Overwrites a few keys of one slot with large values, as fast as it is answered."""

    def __init__(self, cluster, group, slot, number):
        super().__init__(daemon=True)
        self.cluster, self.group, self.prefix = cluster, group, f"{{{tag_for(slot)}}}:{number}"
        self.halt = threading.Event()
        self.acknowledged, self.written, self.full, self.others = {}, 0, 0, []

    def value(self, turn):
        return f"{turn}:".ljust(VALUE_BYTES, "x")

    def run(self):
        with Connection(self.cluster.wait_led(self.group).client_addr, 20.0) as connection:
            turn = 0
            while not self.halt.is_set():
                turn += 1
                key = f"{self.prefix}:{turn % KEYS_PER_FLOOD}"
                try:
                    connection.call("SET", key, self.value(turn))
                    self.acknowledged[key] = turn
                    self.written += 1
                except ReplyError as error:
                    if str(error).startswith("TRYAGAIN the log is full"):
                        self.full += 1
                    else:
                        self.others.append(str(error))


def test_a_full_log_refuses_writes_stays_bounded_and_serves_on():
    with Cluster(**TINY_LOG) as cluster:
        groups = cluster.slotted_groups()
        floods = [Flood(cluster, group, slot, n) for group, slot in groups.items() for n in range(2)]
        for flood in floods:
            flood.start()
        most, until = 0, time.monotonic() + 6
        while time.monotonic() < until:
            most = max(most, *(node.disk_bytes("log") for node in cluster.nodes))
            time.sleep(0.02)
        for flood in floods:
            flood.halt.set()
        for flood in floods:
            flood.join()
        full, written = sum(flood.full for flood in floods), sum(flood.written for flood in floods)
        print({"refused": full, "written": written, "most bytes of a log": most})
        assert [error for flood in floods for error in flood.others] == []
        assert full > 0, "the log was never full: nothing was shown"
        assert written * VALUE_BYTES > 10 * TINY_LOG["log_max_bytes"], "hardly anything was written"
        assert most <= TINY_LOG["log_max_bytes"] + SLACK_BYTES

        # Without a load, there is room again by itself, and everything is where it was.
        key = f"{floods[0].prefix}:after"
        with Connection(cluster.wait_led(floods[0].group).client_addr) as connection:
            wait_until("a write is taken", lambda: taken(connection, key), 5)
        for node in cluster.nodes:
            node.kill()
        cluster.start()
        cluster.wait_ready()
        for flood in floods:
            with Connection(cluster.wait_led(flood.group).client_addr) as connection:
                for key, turn in flood.acknowledged.items():
                    assert connection.call("GET", key).decode() == flood.value(turn), key


def taken(connection, key):
    try:
        return connection.call("SET", key, "1") == "OK"
    except ReplyError as error:
        assert error.word == "TRYAGAIN", error
        return False


@contextlib.contextmanager
def small_disk(path):
    """A file system of a few megabytes at `path`."""
    path.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "none", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_full_disk_stops_the_node_and_loses_nothing():
    cluster = Cluster(log_segment_bytes=MB)
    struck = cluster.nodes[2]
    with small_disk(struck.data_dir), cluster:
        with Load(cluster, per_group=4) as load:
            assert struck.wait_exit(60) == 1
            time.sleep(1.0)
        said = last_line(struck)
        assert "the log has failed" in said and "No space left on device" in said, said
        load.check()
        # With room again it starts, and catches up.
        subprocess.run(["mount", "-o", "remount,size=1g", str(struck.data_dir)], check=True)
        struck.start()
        cluster.wait_ready()
        load.check()
        cluster.wait_caught_up()


def test_a_snapshot_that_finds_no_room_stops_the_node_and_loses_nothing():
    """Its log is elsewhere, and well: a group that can go on no longer must not be left to answer UNKNOWN for ever."""
    cluster = Cluster(snapshot_entries=1_000_000)
    struck = cluster.nodes[2]
    snapshots = struck.data_dir / "snapshots"
    with contextlib.ExitStack() as within:
        within.enter_context(cluster)
        struck.stop()
        within.enter_context(small_disk(snapshots))
        struck.start()
        cluster.wait_ready()
        group, slot = next(iter(cluster.slotted_groups().items()))
        with Connection(cluster.wait_led(group).client_addr) as connection:
            for i in range(8):
                connection.call("SET", f"{{{tag_for(slot)}}}:big:{i}", os.urandom(MB))
        cluster.wait_caught_up()
        with Load(cluster) as load:
            time.sleep(0.5)
            with Connection(struck.client_addr) as connection, pytest.raises((ReplyError, OSError)):
                connection.call("SAVE")
            assert struck.wait_exit(10) == 1
            time.sleep(0.7)
        said = last_line(struck)
        assert "group " in said and "No space left on device" in said, said
        load.check()
        subprocess.run(["mount", "-o", "remount,size=1g", str(snapshots)], check=True)
        struck.start()
        cluster.wait_ready()
        load.check()
        cluster.wait_caught_up()


def test_a_disk_that_is_full_at_start_is_named():
    cluster = Cluster(nodes=1, groups=1)
    (node,) = cluster.nodes
    with small_disk(node.data_dir):
        node.start()
        assert node.wait_exit() == 1
        said = last_line(node)
        assert said.startswith("quoris: ") and "No space left on device" in said, said
        assert str(node.data_dir) in said, said


def test_a_failing_fsync_stops_the_node_and_loses_nothing(tmp_path):
    cluster = Cluster()
    struck = cluster.nodes[0]
    faults = shims.Switches(cluster.dir / "faults")
    struck.environment = faults.environment(shims.build("faults", tmp_path))
    with cluster:
        with Load(cluster) as load:
            time.sleep(0.7)
            faults.fsync_fails()
            assert struck.wait_exit(10) == 1
            time.sleep(0.7)
        said = last_line(struck)
        assert "the log has failed" in said and "Input/output error" in said, said
        struck.environment = {}
        struck.start()
        cluster.wait_ready()
        load.check()
        cluster.wait_caught_up()


def last_line(node):
    """What it said when it ended; another of its threads may have logged something after that."""
    lines = node.log_text().rstrip().splitlines()
    return next((line for line in reversed(lines) if line.startswith("quoris: ")), lines[-1])
