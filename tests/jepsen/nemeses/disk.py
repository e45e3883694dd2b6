"""Disks that are full, slow, broken or lie. Never more nodes at a time than the cluster can spare."""

import cluster
from nemeses import Nemesis
from nemeses.process import names

ENDS_WITHIN_S = 10.0
BACK_WITHIN_S = 60.0
# The file that says whether it may vote is left alone by `damage`: it is no part of the log.
DAMAGED_PARTS = ("log", "snapshots")


class FullDisk(Nemesis):
    """Files of one node cannot grow or be written: it stops. Then there is room again, and it starts."""

    name = "disk-full"
    needs_shim = True

    def strike(self):
        node = self.some_leader()
        node.faults.disk_is_full()
        return "no room: " + names([node])


class FailingFsync(Nemesis):
    """fsync of one node returns EIO: it must stop, for what it wrote may be gone."""

    name = "fsync-fails"
    needs_shim = True

    def strike(self):
        node = self.some_leader()
        node.faults.fsync_fails()
        return "EIO: " + names([node])


class SlowFsync(Nemesis):
    """fsync takes long, on a leader or on all nodes."""

    name = "fsync-slow"
    needs_shim = True

    def strike(self):
        nodes = [self.some_leader()] if self.rng.random() < 0.7 else self.target.nodes
        delay_ms = self.rng.choice([10, 50, 200, 700])
        for node in nodes:
            node.faults.fsync_takes(delay_ms)
        return f"{delay_ms} ms: {names(nodes)}"


class Damage(Nemesis):
    """A node is killed and a file of its log or a snapshot is damaged: a flipped bit, or a missing end.

    It may start and catch up, or refuse to start; then it is wiped, as an administrator would, and comes back as a
    newcomer. Once it is back another node is killed, so that what it may have forgotten would be missed.
    """

    name = "damage"
    alone = True
    struck_s = (0.5, 1.5)

    def strike(self):
        node = self.rng.choice(self.target.nodes)
        node.kill()
        what = self.harm(node)
        node.start()
        refused = not self.stays(node)
        if refused:
            node.wipe()
            node.start()
        self.target.wait_rejoined(node, BACK_WITHIN_S)
        other = self.rng.choice([n for n in self.target.nodes if n is not node])
        other.kill()
        came = "refused to start and was wiped" if refused else "started"
        return f"{what} of {names([node])}; it {came}; then kill -9 {names([other])}"

    def harm(self, node):
        files = [f for part in DAMAGED_PARTS for f in sorted((node.data_dir / part).rglob("*")) if f.is_file()]
        files = [f for f in files if f.stat().st_size]
        if not files:
            return "nothing to damage"
        file = self.rng.choice(files)
        size = file.stat().st_size
        # Most of a log file may be room that was never written: harm where something stands.
        used = len(file.read_bytes().rstrip(b"\0")) or size
        name = file.relative_to(node.data_dir)
        if self.rng.random() < 0.3:
            with open(file, "r+b") as opened:
                opened.truncate(self.rng.randrange(used))
            return f"truncated {name}"
        # Often near the end, where a torn write would be.
        at = self.rng.randrange(used) if self.rng.random() < 0.5 else max(0, used - 1 - self.rng.randrange(200))
        with open(file, "r+b") as opened:
            opened.seek(at)
            byte = opened.read(1)[0]
            opened.seek(at)
            opened.write(bytes([byte ^ 1 << self.rng.randrange(8)]))
        return f"bit flipped at {at} of {used} in {name}"

    def stays(self, node):
        """Whether it runs and answers, rather than end by itself."""

        def decided():
            return not node.running or node.status()

        cluster.wait_until(f"{node} starts or refuses to", decided, ENDS_WITHIN_S)
        self.sleep(0.3, 0.3)
        return node.running


ALL = (FullDisk, FailingFsync, SlowFsync, Damage)
