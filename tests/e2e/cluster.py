"""Real quoris processes in a temporary directory, to be started, killed, paused, wiped and looked at.

The harness knows the server by its command line, its status and signals alone, so that what the tests show holds
for what a person runs. It kills only processes it started.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
SLOTS = 16384
READY_LIMIT_S = 30.0
STOP_LIMIT_S = 20.0
CTL_LIMIT_S = 5.0
# `ctl remove-node` itself waits for up to a minute.
MEMBERS_LIMIT_S = 90.0
LOG_TAIL_BYTES = 6000
# Both ranges lie below the ports Linux hands out by itself, so that no outgoing connection sits on one.
CLIENT_PORTS = range(*(int(n) for n in os.environ.get("QUORIS_TEST_PORTS", "11000-20000").split("-")))
PEER_OFFSET = 10000


def binary():
    """The server under test: $QUORIS_BIN, else the build of $QUORIS_PROFILE (release)."""
    if chosen := os.environ.get("QUORIS_BIN"):
        return chosen
    return built("quoris")


def built(name):
    """A binary that run.sh has built."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target"))
    path = target / os.environ.get("QUORIS_PROFILE", "release") / name
    assert path.exists(), f"{path} is missing: run tests/run.sh, or cargo build --release"
    return str(path)


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def free_port(taken=()):
    """A client port that is free now, with its peer port free too."""
    while True:
        port = random.choice(CLIENT_PORTS)
        if port not in taken and is_free(port) and is_free(port + PEER_OFFSET):
            return port


def wait_until(what, condition, limit_s=READY_LIMIT_S, every_s=0.02):
    """The condition's first true value; an assertion that names what was waited for otherwise."""
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what}: not within {limit_s:.0f} s"
        time.sleep(every_s)


class Node:
    """One server process and its directory. Survives its own restarts."""

    def __init__(self, cluster, number, port):
        self.cluster, self.id = cluster, number
        self.client_addr = f"127.0.0.1:{port}"
        self.peer_addr = f"127.0.0.1:{port + PEER_OFFSET}"
        self.port = port
        self.dir = cluster.dir / f"node-{number}"
        self.data_dir = self.dir / "data"
        self.log_path = self.dir / "node.log"
        self.config_path = self.dir / "quoris.toml"
        self.process = None
        self.paused = False
        # Added to its environment, and to the cluster's settings, when it starts.
        self.environment, self.settings = {}, {}

    def __repr__(self):
        return f"node {self.id} ({self.client_addr})"

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    @property
    def member(self):
        """As `initial-cluster` and `ctl add-node` name it."""
        return f"{self.id}={self.client_addr}@{self.peer_addr}"

    def move(self, port):
        """Gives it other addresses, for its next start."""
        assert not self.running
        self.port, self.client_addr, self.peer_addr = port, f"127.0.0.1:{port}", f"127.0.0.1:{port + PEER_OFFSET}"

    def config(self):
        return {
            "node_id": self.id,
            "cluster_id": self.cluster.cluster_id,
            "listen": self.client_addr,
            "peer_listen": self.peer_addr,
            "data_dir": str(self.data_dir),
            "initial_cluster": self.cluster.initial_cluster(),
            "groups": self.cluster.group_count,
            **self.cluster.settings,
            **self.settings,
        }

    def start(self):
        assert not self.running, f"{self} already runs"
        self.dir.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(toml(self.config()))
        with open(self.log_path, "ab") as log:
            command = [binary(), "serve", "--config", str(self.config_path)]
            environment = {**os.environ, **self.environment}
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()
        self.paused = False

    def stop(self):
        """Graceful; asserts that it ends by itself and reports success."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(STOP_LIMIT_S) == 0, f"{self} ended with {self.process.returncode} on SIGTERM"

    def pause(self):
        """Returns when it stands still: one thread takes the signal, and stops the others when its turn comes."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)
        self.paused = True

    def resume(self):
        self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def wipe(self):
        assert not self.running
        shutil.rmtree(self.data_dir)

    def rejoin(self):
        """Sets aside what it has, which must be damaged; what was said."""
        assert not self.running
        command = [binary(), "rejoin", "--config", str(self.config_path)]
        return subprocess.run(command, capture_output=True, timeout=CTL_LIMIT_S, check=True, text=True).stdout

    def wait_exit(self, limit_s=READY_LIMIT_S):
        """The exit code of a process that is expected to end by itself."""
        return self.process.wait(limit_s)

    def status(self):
        """What `quoris ctl status --json` says, or None if the node does not answer."""
        command = [binary(), "ctl", "--addr", self.client_addr, "status", "--json"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=CTL_LIMIT_S, check=True)
            return json.loads(done.stdout)
        except (subprocess.SubprocessError, json.JSONDecodeError):
            return None

    def disk_bytes(self, part=""):
        """What its data directory, or a part of it, takes; files may go while it looks."""
        total = 0
        for file in (self.data_dir / part).rglob("*"):
            try:
                total += file.stat().st_blocks * 512
            except FileNotFoundError:
                pass
        return total

    def log_text(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""


class Cluster:
    """Several nodes. As a context manager: started and ready inside, killed and removed at the end."""

    live = []

    def __init__(self, nodes=3, groups=3, **settings):
        self.dir = Path(tempfile.mkdtemp(prefix="quoris-e2e-"))
        self.cluster_id = self.dir.name
        self.group_count, self.settings = groups, settings
        ports = []
        while len(ports) < nodes:
            ports.append(free_port(ports))
        # The members, as far as the tests have had them added and removed; and who is not yet one of them, or no more.
        self.nodes = [Node(self, number, port) for number, port in enumerate(ports, 1)]
        self.strangers = []

    def __enter__(self):
        Cluster.live.append(self)
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for node in self.nodes + self.strangers:
            if node.running:
                node.kill()
        Cluster.live.remove(self)
        shutil.rmtree(self.dir, ignore_errors=True)

    def initial_cluster(self):
        return ",".join(n.member for n in self.nodes)

    def addrs(self):
        return [node.client_addr for node in self.nodes]

    def node(self, number):
        return next(n for n in self.nodes if n.id == number)

    def start(self):
        for node in self.nodes:
            if not node.running:
                node.start()

    def begin_ctl(self, *words, through=None):
        """`quoris ctl`, as a person would, by way of a node that answers."""
        through = through or self.answering()[0]
        command = [binary(), "ctl", "--addr", through.client_addr, *map(str, words)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ctl(self, *words, through=None):
        """Its exit code, and what it said."""
        asked = self.begin_ctl(*words, through=through)
        out, errors = asked.communicate(timeout=MEMBERS_LIMIT_S)
        return asked.returncode, out + errors

    def newcomer(self):
        """A node of the next number, neither a member nor started. Its settings name the members of now and itself."""
        self._keep_settings()
        known = self.nodes + self.strangers
        node = Node(self, max(n.id for n in known) + 1, free_port([n.port for n in known]))
        node.settings["initial_cluster"] = f"{self.initial_cluster()},{node.member}"
        self.strangers.append(node)
        return node

    def add(self, node, through=None):
        """Makes it a member, whether it runs or not."""
        code, said = self.ctl("add-node", node.member, through=through)
        assert code == 0, said
        self.count_in(node)

    def remove(self, node, through=None):
        """Takes it out; by way of another, unless it is said by which."""
        through = through or next(n for n in self.answering() if n is not node)
        code, said = self.ctl("remove-node", node.id, through=through)
        assert code == 0, said
        self.count_out(node)

    def _keep_settings(self):
        """Whoever was founded keeps the settings of the founding."""
        for node in self.nodes:
            node.settings.setdefault("initial_cluster", self.initial_cluster())

    def count_in(self, node):
        self.strangers.remove(node)
        self.nodes.append(node)

    def count_out(self, node):
        self._keep_settings()
        self.nodes.remove(node)
        self.strangers.append(node)

    def wait_settled(self, limit_s=READY_LIMIT_S):
        """Until every member that answers sees the members, and nobody else, vote in every group."""
        ids = sorted(node.id for node in self.nodes)

        def settled(node):
            state = node.status()
            if not state or sorted(n["id"] for n in state["nodes"]) != ids:
                return False
            return all(sorted(g["voters"]) == ids and not g["learners"] for g in state["groups"])

        wait_until(f"nodes {ids} vote in all groups", lambda: all(map(settled, self.answering())), limit_s, every_s=0.1)

    def answering(self):
        return [n for n in self.nodes if n.running and not n.paused]

    def status(self):
        """The status as the first node that answers sees it."""
        return next((s for s in (n.status() for n in self.answering()) if s), None)

    def wait_ready(self, limit_s=READY_LIMIT_S):
        """Until every node sees a living leader for every group, leaders on as many nodes as can be, all slots served."""

        def ready():
            for node in self.answering():
                assert node.running or node.process.poll() is None, f"{node} exited"
                if not self._sees_all_groups_led(node):
                    return False
            return True

        for node in self.nodes:
            assert node.running, f"{node} is not running"
        wait_until("every group led", ready, limit_s)

    def _sees_all_groups_led(self, node):
        state = node.status()
        if not state:
            assert node.running, f"{node} exited while starting"
            return False
        covered = sum(end - start + 1 for g in state["groups"] for start, end in g["slots"])
        led = all(g["leader"] is not None and self.node(g["leader"]) in self.answering() for g in state["groups"])
        spread = len({g["leader"] for g in state["groups"]}) == min(len(self.nodes), len(state["groups"]))
        return led and spread and covered == SLOTS

    def wait_led(self, group, limit_s=READY_LIMIT_S):
        """The node that leads the group, as soon as a node that answers names one that is alive."""

        def leader():
            for node in self.answering():
                state = node.status()
                number = state and next(g["leader"] for g in state["groups"] if g["id"] == group)
                if number is not None and self.node(number) in self.answering():
                    return self.node(number)
            return None

        return wait_until(f"a leader of group {group}", leader, limit_s)

    def wait_caught_up(self, limit_s=READY_LIMIT_S):
        """Until all nodes have applied the same index in every group. Needs a cluster without load."""

        def level():
            states = [n.status() for n in self.answering()]
            if not all(states):
                return False
            applied = [{g["id"]: g["applied"] for g in s["groups"]} for s in states]
            return all(one == applied[0] for one in applied)

        wait_until("the same applied index on all nodes", level, limit_s, every_s=0.1)

    def slotted_groups(self):
        """{group id: one of its slots}, for groups that own slots."""
        state = wait_until("a status", self.status)
        return {g["id"]: g["slots"][0][0] for g in state["groups"] if g["slots"]}

    def log_tails(self):
        """The ends of the nodes' logs, for a failed test's report."""
        everyone = self.nodes + self.strangers
        return [(f"{node} log", node.log_text()[-LOG_TAIL_BYTES:]) for node in everyone]


def toml(settings):
    """Settings as TOML; json's strings and numbers are TOML's too."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
