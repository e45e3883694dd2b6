"""`quoris verify`, as a person runs it on a cluster of their own: what is sound is valid, what loses writes is found."""

import json
import subprocess
import threading
import time

import pytest

from cluster import REPO, binary, free_port, wait_until
from resp import Connection, ReplyError

SECONDS = 8
LIMIT_S = 120.0
REDIS = REPO / "tests" / ".tools" / "bin" / "redis-server"


def verify(addrs, *words):
    """The exit code, the verdict, and what was told meanwhile."""
    command = [binary(), "verify", "--nodes", ",".join(addrs), "--json", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    print(done.stderr, done.stdout)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def judgements(verdict):
    return {row["workload"]: row["judgement"] for row in verdict["workloads"]}


def test_a_cluster_is_valid_while_leaders_are_killed(cluster, tmp_path):
    killed = []

    def kills():
        for group in list(cluster.slotted_groups())[:2]:
            time.sleep(1.5)
            node = cluster.wait_led(group)
            killed.append(node.id)
            node.kill()
            time.sleep(1)
            node.start()

    thread = threading.Thread(target=kills)
    thread.start()
    # One address is enough: the others are asked for.
    node = cluster.node(3)
    code, verdict, told = verify([node.client_addr], "--seconds", SECONDS, "--output", tmp_path / "out")
    thread.join()
    assert len(killed) == 2
    assert code == 0 and verdict["judgement"] == "valid"
    assert len(verdict["workloads"]) == 10 and set(judgements(verdict).values()) == {"valid"}
    assert all(row["ok"] > 500 for row in verdict["workloads"])
    # What was under way at a node that was killed.
    assert sum(row["info"] for row in verdict["workloads"]) > 0
    assert sorted(verdict["nodes"]) == sorted(cluster.addrs())
    lines = (tmp_path / "out" / "bank.jsonl").read_text().splitlines()
    assert len(lines) == sum(verdict["workloads"][4][outcome] for outcome in ("ok", "fail", "info"))
    assert json.loads((tmp_path / "out" / "verdict.json").read_text()) == verdict
    assert told.count("longest pause so far") >= SECONDS - 1
    # Nothing of it is left.
    cluster.wait_ready()
    for node in cluster.nodes:
        with Connection(node.client_addr) as connection:
            assert connection.call("DBSIZE") == 0


class Redis:
    """A redis-server of its own, to be killed and started."""

    def __init__(self, directory, *settings):
        self.port, self.process = free_port(), None
        self.addr = f"127.0.0.1:{self.port}"
        self.command = [REDIS, "--port", self.port, "--bind", "127.0.0.1", "--dir", directory, *settings]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()

    def start(self):
        command = list(map(str, self.command))
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_until("redis-server answers", self.answers)

    def answers(self):
        try:
            with Connection(self.addr) as connection:
                return connection.call("PING") == "PONG"
        except (OSError, ReplyError):
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def restart_after(self, seconds):
        def restart():
            time.sleep(seconds)
            self.kill()
            self.start()

        thread = threading.Thread(target=restart)
        thread.start()
        return thread


def test_a_server_that_forgets_is_found_out(tmp_path):
    with Redis(tmp_path, "--save", "", "--appendonly", "no") as server:
        restart = server.restart_after(3)
        code, verdict, _ = verify([server.addr], "--seconds", 5)
        restart.join()
    assert code == 1 and verdict["judgement"] == "anomaly"
    found = judgements(verdict)
    # Messages may be lost.
    assert found.pop("pubsub") == "valid"
    # Whether somebody holds a lock just then is a matter of luck.
    found.pop("lock")
    assert set(found.values()) == {"anomaly"}
    lost = next(row for row in verdict["workloads"] if row["workload"] == "set")["anomalies"][0]
    assert lost["kind"] == "lost write or stale read" and 2 <= len(lost["operations"]) <= 3


def test_a_failover_to_a_replica_that_lags_is_found_out(tmp_path):
    """Redis acknowledges before its replicas have a write. Clients look for the new master by themselves."""
    settings = ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]
    with Redis(tmp_path, *settings) as master, Redis(tmp_path, *settings) as replica:

        def failover():
            ask(replica, "REPLICAOF", "127.0.0.1", master.port)
            wait_until("it follows", lambda: "master_link_status:up" in ask(replica, "INFO", "replication").decode())
            time.sleep(1.5)
            # Cut off from its master, and promoted a second later: as a network does it, and Sentinel.
            ask(replica, "REPLICAOF", "127.0.0.1", free_port())
            time.sleep(1)
            master.kill()
            ask(replica, "REPLICAOF", "NO", "ONE")

        thread = threading.Thread(target=failover)
        thread.start()
        code, verdict, _ = verify([replica.addr, master.addr], "--seconds", 6, "--workload", "set,bank,append")
        thread.join()
    assert code == 1 and set(judgements(verdict).values()) == {"anomaly"}
    # They did go on with the new master.
    assert all(row["trouble"] is None for row in verdict["workloads"])


def ask(server, *words):
    with Connection(server.addr) as connection:
        return connection.call(*words)


def test_a_server_that_remembers_is_valid(tmp_path):
    """One redis-server that fsyncs each write keeps the promise, too: no alarm is a false one."""
    with Redis(tmp_path, "--save", "", "--appendonly", "yes", "--appendfsync", "always") as server:
        restart = server.restart_after(3)
        code, verdict, _ = verify([server.addr], "--seconds", 5)
        restart.join()
        assert code == 0 and set(judgements(verdict).values()) == {"valid"}
        with Connection(server.addr) as connection:
            assert connection.call("DBSIZE") == 0


def test_keys_are_kept_if_wanted(cluster):
    words = ["--seconds", 1, "--workload", "register,set", "--keep", "--prefix", "mine:", "--seed", 7]
    code, verdict, told = verify(cluster.addrs(), *words)
    assert code == 0 and list(judgements(verdict)) == ["register", "set"]
    assert verdict["seed"] == 7 and verdict["prefix"].startswith("mine:") and verdict["prefix"] in told
    keys = []
    for node in cluster.nodes:
        with Connection(node.client_addr) as connection:
            keys += connection.call("KEYS", "*")
    assert keys and all(key.decode().startswith(verdict["prefix"]) for key in keys)


def test_a_password_is_asked_for(tmp_path):
    with Redis(tmp_path, "--save", "") as server:
        with Connection(server.addr) as connection:
            assert connection.call("CONFIG", "SET", "requirepass", "secret") == "OK"
        words = ["--seconds", 1, "--workload", "counter"]
        code, _, told = verify([server.addr], *words)
        assert code == 3 and "NOAUTH" in told
        code, _, told = verify([server.addr], *words, "--password", "wrong")
        assert code == 3 and "WRONGPASS" in told
        assert verify([server.addr], *words, "--password", "secret")[0] == 0


@pytest.mark.parametrize("words", [["--seconds", "0"], ["--workload", "other"], ["--prefix", "{x}"], ["--output", "/dev/null/x"]])
def test_what_cannot_be_is_said_before_anything_is_done(words):
    code, verdict, told = verify(["127.0.0.1:1"], *words)
    assert code == 2 and verdict is None and told.count("\n") == 1


def test_nobody_is_there():
    code, verdict, told = verify([f"127.0.0.1:{free_port()}"], "--seconds", 1)
    assert code == 3 and verdict is None and "no node answers" in told
