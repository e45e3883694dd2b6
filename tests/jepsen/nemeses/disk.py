"""Disks that are full, slow, broken or lie. Never more nodes at a time than the cluster can spare."""

import os
import shutil

import cluster
from nemeses import Nemesis
from nemeses.process import names

ENDS_WITHIN_S = 10.0
BACK_WITHIN_S = 60.0
# What a node has on disk. Files kept for later hold nothing yet.
DAMAGED = ("log/*.log", "snapshots/*.snap", "catalog")


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

    It may start and catch up, or refuse to start; then it is told to rejoin, as an administrator would, and comes back as
    a newcomer. Once it is back another node is killed, so that what it may have forgotten would be missed.
    """

    name = "damage"
    alone = True
    struck_s = (0.5, 1.5)

    def strike(self):
        # Two voters could not spare one.
        self.target.wait_serving(BACK_WITHIN_S)
        node = self.rng.choice(self.target.nodes)
        node.kill()
        what = self.harm(node)
        node.start()
        refused = not self.stays(node)
        if refused:
            node.rejoin()
            node.start()
        self.target.wait_rejoined(node, BACK_WITHIN_S)
        other = self.rng.choice([n for n in self.target.nodes if n is not node])
        other.kill()
        came = "refused to start and was told to rejoin" if refused else "started"
        return f"{what} of {names([node])}; it {came}; then kill -9 {names([other])}"

    def harm(self, node):
        files = {f for part in DAMAGED for f in node.data_dir.glob(part) if f.is_file() and any(f.read_bytes())}
        if not files:
            return "nothing to damage"
        file = self.rng.choice(sorted(files))
        name, data = file.relative_to(node.data_dir), bytearray(file.read_bytes())
        # Not in padding, nor in room that was never written: there it would be harmless.
        written = [at for at, byte in enumerate(data) if byte]
        if self.rng.random() < 0.3:
            at = self.rng.choice(written)
            os.truncate(file, at)
            return f"cut off {name} at {at}"
        # Often near the end, where a torn write would be.
        at = self.rng.choice(written if self.rng.random() < 0.5 else written[-200:])
        data[at] ^= 1 << self.rng.randrange(8)
        file.write_bytes(data)
        return f"flipped a bit at {at} of {written[-1]} in {name}"

    def stays(self, node):
        """Whether it runs and answers, rather than end by itself."""

        def decided():
            return not node.running or node.status()

        cluster.wait_until(f"{node} starts or refuses to", decided, ENDS_WITHIN_S)
        self.sleep(0.3, 0.3)
        return node.running


class Rollback(Nemesis):
    """Every disk goes back to what it was a while ago. No database survives that: the checkers must find it."""

    name = "rollback"
    alone = True
    survivable = False
    struck_s = (1.0, 2.0)

    def strike(self):
        self.restart_all(lambda node: shutil.copytree(node.data_dir, self.copy_of(node), dirs_exist_ok=True))
        self.sleep(1.0, 2.0)
        self.restart_all(self.take_back)
        return "all disks are as they were a second or two ago"

    def restart_all(self, meanwhile):
        for node in self.target.nodes:
            node.kill()
        for node in self.target.nodes:
            meanwhile(node)
            node.start()

    def take_back(self, node):
        shutil.rmtree(node.data_dir)
        self.copy_of(node).rename(node.data_dir)

    def copy_of(self, node):
        return node.dir / "copy"


ALL = (FullDisk, FailingFsync, SlowFsync, Damage, Rollback)
