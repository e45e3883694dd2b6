"""What a run is pointed at: a cluster of quoris, to be hurt and healed."""

import random
import shutil
import threading
import time
from pathlib import Path

import cluster
import shims
from membership import Membership
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
        # It was removed from the cluster, and does not come back.
        self.is_lost = False
        # One nemesis may heal it while another one removes it.
        self.lock = threading.RLock()

    def as_member(self):
        """As `initial-cluster` and `quoris ctl add-node` take it."""
        return f"{self.id}={self.told_client_addr}@{self.told_peer_addr}"

    def start(self, although_lost=False):
        with self.lock:
            if self.running or (self.is_lost and not although_lost):
                return
            # As administrators do, it is left what it was when the node was new.
            self.settings.setdefault("initial_cluster", self.cluster.initial_cluster())
            if self.cluster.shim:
                self.environment = self.faults.environment(self.cluster.shim)
            super().start()
            if self.cluster.wire:
                self.cluster.wire.owns(self.id, self.process.pid)

    def kill(self):
        with self.lock:
            if self.running:
                super().kill()

    def pause(self):
        with self.lock:
            if self.running:
                super().pause()

    def resume(self):
        with self.lock:
            if self.running and self.paused:
                super().resume()

    def rejoin(self):
        """What says who the members are may be damaged, so it is told anew."""
        self.settings["initial_cluster"] = self.cluster.initial_cluster()
        self.config_path.write_text(cluster.toml(self.config()))
        return super().rejoin()


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
        self.ports, self.made = free_ports(), 0
        # `nodes` are the members, never changed in place; `gone` are those that were.
        self.nodes, self.gone = [], []
        self.nodes = [self.new_node() for _ in range(nodes)]
        self.membership = Membership(self)

    def new_node(self):
        """A node of the next number, not started yet."""
        self.made += 1
        node = Node(self, self.made, self.ports)
        if self.wire:
            self.wire.listen(node.id, node.told_client_addr, node.client_addr)
            self.wire.listen(node.id, node.told_peer_addr, node.peer_addr)
        return node

    def everyone(self):
        """Members, who leaves, and who was removed."""
        leaving = self.membership.leaving
        return [*self.nodes, *([leaving] if leaving and leaving not in self.gone else []), *self.gone]

    def __exit__(self, *_):
        for node in self.everyone():
            node.resume()
            node.kill()
        cluster.Cluster.live.remove(self)
        if self.wire:
            self.wire.close()

    def initial_cluster(self):
        return ",".join(node.as_member() for node in self.nodes)

    def addrs(self):
        """Where clients look for somebody: also at who was removed and came back."""
        return [node.client_addr for node in [*self.nodes, *(node for node in self.gone if node.running)]]

    def translate(self, addr):
        """Where a client connects when it is told to go to `addr`."""
        return next((n.client_addr for n in self.everyone() if n.told_client_addr == addr), addr)

    def leaders(self):
        """The members that lead groups, as the first node that answers sees it."""
        state = self.status() or {"groups": []}
        return [node for g in state["groups"] for node in self.nodes if node.id == g["leader"]]

    def wait_ready(self, limit_s=READY_LIMIT_S):
        super().wait_ready(limit_s)

    def wait_serving(self, limit_s):
        """Until every group has a leader that is alive, and all members and nobody else for its voters; who leads what
        does not matter."""
        deadline = time.monotonic() + limit_s

        def led():
            for node in self.nodes:
                assert node.running, f"{node} ended: {node.log_text()[-500:]}"
            state = self.status()
            return state and all(g["leader"] is not None for g in state["groups"])

        cluster.wait_until("every group led after the faults", led, limit_s)
        self.membership.wait_settled(deadline - time.monotonic())

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
        for node in self.everyone():
            node.faults.clear()
            node.resume()
            node.start()

    def logs(self):
        return [(f"node-{node.id}.log", node.log_path) for node in self.everyone()]

    def complaints(self):
        """What must never be, as a node's log tells, or as was seen of the members."""
        found = list(self.membership.wrongs)
        for node in self.everyone():
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
