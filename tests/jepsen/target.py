"""What a run is pointed at: a cluster of quoris, to be hurt and healed."""

import random
import shutil
from pathlib import Path

import cluster
import shims
from wire import Wire


# Founding goes through the wire, on a machine that may be busy.
READY_LIMIT_S = 60.0


class Node(cluster.Node):
    """A node whose peers may reach it through the wire only, and whose libc may be interposed."""

    def __init__(self, owner, number, ports):
        super().__init__(owner, number, next(ports))
        self.peer_addr = f"127.0.0.1:{next(ports)}"
        # What the others are told. Clients of a run connect to `client_addr`, past the wire.
        self.told_client_addr, self.told_peer_addr = self.client_addr, self.peer_addr
        if owner.wire:
            self.told_client_addr = f"127.0.0.1:{next(ports)}"
            self.told_peer_addr = f"127.0.0.1:{next(ports)}"
        self.faults = shims.Switches(self.dir / "faults")

    def start(self):
        if self.running:
            return
        if self.cluster.shim:
            self.environment = self.faults.environment(self.cluster.shim)
        super().start()
        if self.cluster.wire:
            self.cluster.wire.owns(self.id, self.process.pid)

    def kill(self):
        if self.running:
            super().kill()

    def pause(self):
        if self.running:
            super().pause()

    def resume(self):
        if self.running and self.paused:
            super().resume()


class Target(cluster.Cluster):
    """A cluster in the run's own directory. What it needs to be hurt is decided when it is made."""

    # Any node serves any key, to clients that do not ask for the cluster.
    serves_plain_clients = True

    def __init__(self, directory, nodes, groups, wire=False, shim=False, **settings):
        self.wire = Wire() if wire else None
        super().__init__(nodes=0, groups=groups, **settings)
        shutil.rmtree(self.dir)
        self.dir = Path(directory)
        self.dir.mkdir(parents=True)
        self.shim = shims.build("faults", self.dir) if shim else None
        ports = free_ports()
        self.nodes = [Node(self, number, ports) for number in range(1, nodes + 1)]
        if self.wire:
            for node in self.nodes:
                self.wire.listen(node.id, node.told_client_addr, node.client_addr)
                self.wire.listen(node.id, node.told_peer_addr, node.peer_addr)

    def __exit__(self, *_):
        for node in self.nodes:
            if node.running:
                node.kill()
        cluster.Cluster.live.remove(self)
        if self.wire:
            self.wire.close()

    def initial_cluster(self):
        return ",".join(f"{n.id}={n.told_client_addr}@{n.told_peer_addr}" for n in self.nodes)

    def translate(self, addr):
        """Where a client connects when it is told to go to `addr`."""
        return next((n.client_addr for n in self.nodes if n.told_client_addr == addr), addr)

    def leaders(self):
        """The nodes that lead groups, as the first node that answers sees it."""
        state = self.status() or {"groups": []}
        return [self.node(g["leader"]) for g in state["groups"] if g["leader"] is not None]

    def wait_ready(self, limit_s=READY_LIMIT_S):
        super().wait_ready(limit_s)

    def wait_serving(self, limit_s):
        """Until every group has a leader that is alive; who leads what does not matter."""

        def led():
            for node in self.nodes:
                assert node.running, f"{node} ended: {node.log_text()[-500:]}"
            state = self.status()
            return state and all(g["leader"] is not None for g in state["groups"])

        cluster.wait_until("every group led after the faults", led, limit_s)

    def wait_rejoined(self, node, limit_s):
        """Until the node has applied, in every group, what was committed when the question was asked."""
        state = cluster.wait_until(
            "a status", lambda: next((s for s in (n.status() for n in self.answering() if n is not node) if s), None)
        )
        goal = {g["id"]: g["committed"] for g in state["groups"]}

        def level():
            own = node.status()
            return own and all(g["applied"] >= goal[g["id"]] for g in own["groups"])

        cluster.wait_until(f"{node} has caught up", level, limit_s)

    def minority(self):
        return (len(self.nodes) - 1) // 2

    def heal(self):
        """Everything that is down or still is up again."""
        if self.wire:
            self.wire.heal()
        for node in self.nodes:
            node.faults.clear()
            node.resume()
            node.start()

    def logs(self):
        return [(f"node-{node.id}.log", node.log_path) for node in self.nodes]

    def complaints(self):
        """What a node's log tells that must never be."""
        found = []
        for node in self.nodes:
            for line in node.log_text().splitlines():
                if "panicked" in line or "differs from the others" in line or "assertion" in line:
                    found.append(f"{node}: {line}")
        return found


def free_ports():
    taken = set()
    while True:
        port = random.choice(cluster.CLIENT_PORTS)
        if port not in taken and cluster.is_free(port):
            taken.add(port)
            yield port
