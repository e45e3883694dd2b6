"""What is measured: servers that are started, asked, and looked at from outside, all in the same way.

What a server has used is read from /proc, for its processes alone. Flushes are the device's own count, because Redis
counts no fsyncs: one for each fsync, or for several that the kernel could serve together. That count is of the whole
device, whoever else writes to it.
"""

import os
import subprocess
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import cluster
from cluster import Cluster, binary, free_port, wait_until
from resp import Connection

TOOLS = Path(__file__).resolve().parents[1] / ".tools"
REDIS_SERVER = TOOLS / "bin" / "redis-server"
ETCD = TOOLS / "etcd" / "usr" / "bin" / "etcd"
AOF_REWRITE_BYTES = 1 << 30
REWRITE_LIMIT_S = 120.0
READS_ALONE = ("get",)
# More writes at once are refused.
ETCD_IN_FLIGHT = 5000
ETCD_HAS = ("set", "get", "mixed", "reads", "multi")


@dataclass(frozen=True)
class Usage:
    """What processes have used so far."""

    cpu_seconds: float
    written_bytes: int
    flushes: int | None

    @classmethod
    def of(cls, pids, directory):
        return cls(sum(map(cpu_seconds, pids)), sum(map(written_bytes, pids)), device_flushes(directory))

    def per_command(self, before, commands):
        """The figures of a row whose commands were sent since `before`."""
        flushes = None if self.flushes is None else (self.flushes - before.flushes) / commands
        return {
            "cpu_seconds_per_million": (self.cpu_seconds - before.cpu_seconds) / commands * 1e6,
            "written_bytes_per_command": (self.written_bytes - before.written_bytes) / commands,
            "flushes_per_command": flushes,
        }


def cpu_seconds(pid):
    """User plus system time, children's excluded."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def written_bytes(pid):
    """What went to the device, or will: pages made dirty."""
    return int(Path(f"/proc/{pid}/io").read_text().split("\nwrite_bytes: ")[1].split()[0])


def resident_bytes(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def device_flushes(directory):
    """None where the file system is on no block device that counts them."""
    device = os.stat(directory).st_dev
    path = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    fields = path.read_text().split() if path.exists() else []
    return int(fields[15]) if len(fields) > 15 else None


class Server:
    """One thing to measure. As a context manager: runs inside, is gone after."""

    # Of a Redis with replicas: how many must have a write before it counts.
    wait = 0
    etcd = False
    # Whether its log is worth settling before it is measured; etcd would take minutes over it.
    has_log = False

    def runs(self, workload, in_flight=1):
        """Whether it can be measured so, with that many commands at once."""
        return True

    def load_arguments(self):
        """For the load generator."""
        return ["--addr", self.addr, "--wait", self.wait, *(["--etcd"] if self.etcd else [])]

    def usage(self):
        return Usage.of(self.pids(), self.directory)

    def resident_bytes(self):
        return sum(map(resident_bytes, self.pids()))

    def tidy(self):
        """Between rows: whatever keeps its files from filling the disk."""


class Quoris(Server):
    """Three nodes."""

    has_log = True

    def __init__(self, groups):
        self.name = f"quoris-{groups}"
        self.title = f"quoris, 3 nodes, {groups} group{'s' if groups > 1 else ''}"
        # Three nodes and the generator share the machine: see `threads` in docs/config.md.
        self.cluster = Cluster(groups=groups, threads=max(1, os.cpu_count() // 3))
        self.directory = self.cluster.dir

    def __enter__(self):
        self.cluster.__enter__()
        self.addr = self.cluster.nodes[0].client_addr
        return self

    def __exit__(self, *_):
        self.cluster.__exit__()

    def pids(self):
        return [node.process.pid for node in self.cluster.nodes]

    @staticmethod
    def version():
        return subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout.strip()


class Processes(Server):
    """A server of one or more processes in a directory of its own."""

    def __enter__(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="quoris-bench-")
        self.directory = Path(self.scratch.name)
        self.processes = []
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()
        self.scratch.cleanup()

    def run(self, name, command):
        directory = self.directory / name
        directory.mkdir()
        with open(self.directory / f"{name}.log", "wb") as log:
            process = subprocess.Popen([*map(str, command)], cwd=directory, stdout=log, stderr=log)
        self.processes.append(process)

    def pids(self):
        return [process.pid for process in self.processes]


class Redis(Processes):
    """redis-server, alone or with replicas."""

    def __init__(self, name, title, fsync=True, replicas=0):
        self.name, self.title, self.fsync, self.replicas = name, title, fsync, replicas
        self.has_log = fsync
        self.wait = min(replicas, 1)

    def runs(self, workload, in_flight=1):
        # A read of a primary that fsyncs is one of a primary that does not.
        return workload not in READS_ALONE or not self.fsync

    def start(self):
        self.addrs = [self.start_one("primary")]
        self.addr = self.addrs[0]
        for number in range(self.replicas):
            self.addrs.append(self.start_one(f"replica-{number}", "--replicaof", self.addr.replace(":", " ")))
        wait_until("the replicas", self._replicas_follow)

    def start_one(self, name, *arguments):
        port = free_port()
        flags = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--auto-aof-rewrite-percentage", 0]
        if self.fsync:
            flags += ["--appendonly", "yes", "--appendfsync", "always"]
        # A replica that lags is not dropped: that would be a measurement of its resynchronisation.
        flags += ["--client-output-buffer-limit", "replica 0 0 0"]
        self.run(name, [REDIS_SERVER, *flags, *arguments])
        addr = f"127.0.0.1:{port}"
        wait_until("redis-server", lambda: self._answers(addr))
        return addr

    @staticmethod
    def _answers(addr):
        try:
            with Connection(addr) as connection:
                return connection.call("PING") == "PONG"
        except OSError:
            return False

    def _replicas_follow(self):
        return info(self.addr, "replication").count("state=online") == self.replicas

    def tidy(self):
        for addr in self.addrs if self.fsync else ():
            if int(field(addr, "persistence", "aof_current_size")) > AOF_REWRITE_BYTES:
                with Connection(addr) as connection:
                    connection.call("BGREWRITEAOF")
                wait_until("the rewrite", lambda: not self._rewrites(addr), REWRITE_LIMIT_S, 0.1)

    @staticmethod
    def _rewrites(addr):
        keys = ("aof_rewrite_in_progress", "aof_rewrite_scheduled")
        return any(field(addr, "persistence", key) == "1" for key in keys)

    @staticmethod
    def version():
        words = subprocess.run([REDIS_SERVER, "--version"], capture_output=True, text=True, check=True).stdout.split()
        return f"redis-server {words[2].removeprefix('v=')}"


def info(addr, section):
    with Connection(addr) as connection:
        return connection.call("INFO", section).decode()


def field(addr, section, key):
    """One line of INFO."""
    return info(addr, section).split(f"\n{key}:")[1].split()[0]


class Etcd(Processes):
    """Three nodes; the leader is asked, so that no command is forwarded."""

    name, title, etcd = "etcd", "etcd, 3 nodes", True

    def runs(self, workload, in_flight=1):
        return workload in ETCD_HAS and in_flight < ETCD_IN_FLIGHT

    def start(self):
        ports = []
        while len(ports) < 3:
            ports.append(free_port(ports))
        self.clients = [f"127.0.0.1:{port}" for port in ports]
        peers = [f"http://127.0.0.1:{port + cluster.PEER_OFFSET}" for port in ports]
        members = ",".join(f"n{number}={peer}" for number, peer in enumerate(peers))
        for number, (client, peer) in enumerate(zip(self.clients, peers)):
            flags = ["--name", f"n{number}", "--data-dir", ".", "--log-level", "error", "--logger", "zap"]
            flags += ["--listen-client-urls", f"http://{client}", "--advertise-client-urls", f"http://{client}"]
            flags += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            flags += ["--initial-cluster", members, "--quota-backend-bytes", 8 << 30]
            # Old revisions are of no use here.
            flags += ["--auto-compaction-mode", "revision", "--auto-compaction-retention", 10_000]
            self.run(f"n{number}", [ETCD, *flags])
        wait_until("etcd's leader", self._leader)

    @property
    def addr(self):
        return wait_until("etcd's leader", self._leader)

    def _leader(self):
        return next((client for client in self.clients if self._leads(client)), None)

    @staticmethod
    def _leads(client):
        try:
            with urllib.request.urlopen(f"http://{client}/metrics", timeout=5) as page:
                return b"\netcd_server_is_leader 1\n" in page.read()
        except OSError:
            return False

    @staticmethod
    def version():
        words = subprocess.run([ETCD, "--version"], capture_output=True, text=True, check=True).stdout.split()
        return f"etcd {words[2]}"


def all_servers():
    return [
        Quoris(1),
        Quoris(3),
        Redis("redis-wait", "redis, 2 replicas, fsync always, WAIT 1", replicas=2),
        Redis("redis-always", "redis alone, fsync always"),
        Redis("redis-none", "redis alone, nothing on disk", fsync=False),
        Etcd(),
    ]
