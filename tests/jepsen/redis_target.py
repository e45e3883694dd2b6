"""Redis Cluster as a target: three masters, three replicas. It shows that the checkers find what is there to be found.

Redis acknowledges a write before its replicas have it; its documentation says so. What clients were told is therefore
lost when a master dies, or is cut off, before it has passed on what it took. Persistence is as strict as it can be
(`appendfsync always`), so what is lost is lost by replication alone.
"""

import subprocess
import time
from pathlib import Path

import cluster
from resp import Connection, ReplyError
from target import Target, free_ports

MASTERS = 3
NODE_TIMEOUT_MS = 1000
TOOLS = Path(__file__).resolve().parents[1] / ".tools" / "bin"


class RedisNode(cluster.Node):
    """A redis-server. The others reach it through the wire."""

    def __init__(self, owner, number, ports):
        super().__init__(owner, number, next(ports))
        self.bus_port = next(ports)
        self.told_port, self.told_bus_port = (next(ports), next(ports)) if owner.wire else (self.port, self.bus_port)
        self.told_client_addr = f"127.0.0.1:{self.told_port}"

    def start(self):
        if self.running:
            return
        self.dir.mkdir(parents=True, exist_ok=True)
        settings = {
            "port": self.port, "bind": "127.0.0.1", "cluster-enabled": "yes", "cluster-port": self.bus_port,
            "cluster-announce-ip": "127.0.0.1", "cluster-announce-port": self.told_port,
            "cluster-announce-bus-port": self.told_bus_port, "cluster-node-timeout": NODE_TIMEOUT_MS,
            "cluster-replica-validity-factor": 0, "appendonly": "yes", "appendfsync": "always", "save": '""',
            "dir": self.dir, "replica-announce-ip": "127.0.0.1", "replica-announce-port": self.told_port,
            "repl-timeout": 3, "repl-ping-replica-period": 1, "repl-diskless-sync-delay": 0,
        }  # fmt: skip
        command = [
            TOOLS / "redis-server",
            *(word for key, value in settings.items() for word in (f"--{key}", str(value))),
        ]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
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

    def ask(self, *words):
        """The reply, or None if it does not answer."""
        try:
            with Connection(self.client_addr, 1.0) as connection:
                reply = connection.call(*words)
                return reply.decode() if isinstance(reply, bytes) else reply
        except (OSError, ReplyError, ValueError):
            return None

    def rows(self):
        """CLUSTER NODES, split into fields."""
        return [line.split() for line in (self.ask("CLUSTER", "NODES") or "").splitlines()]


class RedisTarget(Target):
    """Nodes 1 to 3 begin as masters, 4 to 6 as their replicas."""

    serves_plain_clients = False

    def __init__(self, directory, wire):
        super().__init__(directory, nodes=0, groups=0, wire=wire)
        ports = free_ports()
        self.nodes = [RedisNode(self, number, ports) for number in range(1, 2 * MASTERS + 1)]
        if self.wire:
            for node in self.nodes:
                self.wire.listen(node.id, node.told_client_addr, node.client_addr)
                self.wire.listen(node.id, f"127.0.0.1:{node.told_bus_port}", f"127.0.0.1:{node.bus_port}")

    def wait_ready(self, limit_s=60.0):
        cluster.wait_until("every node answers", lambda: all(n.ask("PING") for n in self.nodes))
        self._found()
        self.wait_serving(limit_s)

    def _found(self):
        """What `redis-cli --cluster create` does, without assuming where a bus port is."""
        share = -(-cluster.SLOTS // MASTERS)
        for n, master in enumerate(self.nodes[:MASTERS]):
            slots = range(n * share, min(cluster.SLOTS, (n + 1) * share))
            assert master.ask("CLUSTER", "ADDSLOTSRANGE", slots[0], slots[-1]) == "OK"
            assert master.ask("CLUSTER", "SET-CONFIG-EPOCH", n + 1) == "OK"
        for node in self.nodes[1:]:
            self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.told_port, node.told_bus_port)
        cluster.wait_until(
            "all nodes know each other", lambda: all(len(n.rows()) == len(self.nodes) for n in self.nodes)
        )
        for n, replica in enumerate(self.nodes[MASTERS:]):
            name = self.nodes[n].ask("CLUSTER", "MYID")
            cluster.wait_until(
                f"{replica} replicates", lambda r=replica, i=name: r.ask("CLUSTER", "REPLICATE", i) == "OK"
            )

    def leaders(self):
        """Masters with slots, as the first node that answers sees them."""
        rows = next((rows for node in self.answering() if (rows := node.rows())), [])
        ports = [
            int(row[1].split("@")[0].rsplit(":", 1)[1])
            for row in rows
            if "master" in row[2] and "fail" not in row[2] and len(row) > 8
        ]
        return [node for node in self.nodes if node.told_port in ports]

    def wait_serving(self, limit_s):
        def serving():
            info = [node.ask("CLUSTER", "INFO") or "" for node in self.nodes]
            links = [node.ask("INFO", "replication") or "" for node in self.nodes]
            return all("cluster_state:ok" in text for text in info) and not any(
                "master_link_status:down" in text for text in links
            )

        cluster.wait_until("the cluster serves", serving, limit_s, every_s=0.2)
        time.sleep(0.5)

    def heal(self):
        if self.wire:
            self.wire.heal()
        for node in self.nodes:
            node.resume()
            node.start()

    def complaints(self):
        return []
