"""Unmodified clients in cluster mode: everything before, through and after the loss of a leader."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import Cluster, built, wait_until
from resp import Connection

CLIENTS = Path(__file__).with_name("clients")
PROGRAMS = {
    "redis-py": lambda: [sys.executable, CLIENTS / "redis_py.py"],
    "ioredis": lambda: ["node", CLIENTS / "ioredis" / "client.js"],
    "redis-rs": lambda: [built("quoris-e2e-redis-rs")],
}
CHECK_KEYS = "300"
HAMMER_S = 6
PROGRAM_LIMIT_S = 60


def run(command):
    """The program's output; its errors are the assertion's message."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_LIMIT_S)
    assert done.returncode == 0, f"{command} exited {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def redis_cli(cluster, *words, node=0):
    return run(["redis-cli", "-c", "-p", str(cluster.nodes[node].port), *words]).strip()


@pytest.mark.parametrize("name", PROGRAMS)
def test_library_works_through_a_failover(cluster, name):
    program = [*PROGRAMS[name](), ",".join(cluster.addrs())]
    assert run([*program, "check", CHECK_KEYS]).strip() == "ok"

    command = [*program, "hammer", str(HAMMER_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as hammer:
        time.sleep(1.5)
        group = min(cluster.slotted_groups())
        victim = cluster.wait_led(group)
        victim.kill()
        cluster.wait_led(group)
        output, errors = hammer.communicate(timeout=PROGRAM_LIMIT_S)
    assert hammer.returncode == 0, errors[-4000:]
    figures = json.loads(output)
    print(name, figures)
    assert figures["lost"] == 0
    assert figures["acknowledged"] > 100, "the client stood still"
    assert figures["longest_pause_ms"] < HAMMER_S * 1000 / 2, "the client did not get over the failover"

    # Right after: one node is still dead, and the whole keyspace is counted, listed, scanned and flushed.
    for node in cluster.answering():
        run(["redis-cli", "-p", str(node.port), "flushall"])
    living = [*PROGRAMS[name](), ",".join(node.client_addr for node in cluster.answering())]
    assert run([*living, "check", CHECK_KEYS]).strip() == "ok"

    victim.start()
    cluster.wait_ready()
    assert run([*program, "check", CHECK_KEYS]).strip() == "ok"


# redis-rs's blocking connection has to be made anew by its owner when its node dies, from addresses the owner knows.
@pytest.mark.parametrize("name", ("redis-py", "ioredis"))
def test_library_that_knows_one_node_finds_the_others_when_it_dies(name):
    """One group: its leader leads everything, and the other nodes have no range of their own."""
    with Cluster(groups=1) as cluster:
        leader = cluster.wait_led(0)
        command = [*PROGRAMS[name](), leader.client_addr, "hammer", str(HAMMER_S)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as hammer:
            time.sleep(1.5)
            leader.kill()
            output, errors = hammer.communicate(timeout=PROGRAM_LIMIT_S)
        assert hammer.returncode == 0, errors[-4000:]
        figures = json.loads(output)
        print(name, figures)
        assert figures["lost"] == 0
        assert figures["longest_pause_ms"] < HAMMER_S * 1000 / 2, "the client did not find the other nodes"


def test_redis_cli_follows_redirections(cluster):
    for key in range(30):
        assert redis_cli(cluster, "set", f"key:{key}", str(key), node=key % 3) == "OK"
    for key in range(30):
        assert redis_cli(cluster, "get", f"key:{key}", node=(key + 1) % 3) == str(key)

    # Right after each death, without a pause: redis-cli never tries again by itself.
    for victim in cluster.nodes:
        victim.kill()
        alive = cluster.nodes.index(cluster.answering()[0])
        for key in range(30):
            assert redis_cli(cluster, "get", f"key:{key}", node=alive) == str(key)
            assert redis_cli(cluster, "set", f"key:{key}", str(key), node=alive) == "OK"
        victim.start()
        cluster.wait_ready()


def test_redis_cli_cluster_info_and_check_are_content(cluster):
    for key in range(30):
        redis_cli(cluster, "set", f"key:{key}", str(key))

    def content():
        info = run(["redis-cli", "--cluster", "info", cluster.answering()[0].client_addr])
        check = run(["redis-cli", "--cluster", "check", cluster.answering()[0].client_addr])
        assert "30 keys in" in info, info
        assert "[OK] All 16384 slots covered" in check, check
        assert "[ERR]" not in check and "[WARNING]" not in check, check

    content()
    group = min(cluster.slotted_groups())
    victim = cluster.wait_led(group)
    victim.kill()
    cluster.wait_led(group)
    info = run(["redis-cli", "--cluster", "info", cluster.answering()[0].client_addr])
    assert "30 keys in" in info, info
    victim.start()
    cluster.wait_ready()
    content()


def test_redis_benchmark_runs_in_cluster_mode(cluster):
    def benchmark():
        port = str(cluster.answering()[0].port)
        command = ["redis-benchmark", "--cluster", "-p", port, "-t", "set,get", "-n", "4000", "-c", "12", "-P", "4"]
        output = run([*command, "-r", "1000", "-q", "--threads", "2"])
        assert output.count("requests per second") >= 2, output
        assert "error" not in output.lower(), output

    benchmark()
    group = min(cluster.slotted_groups())
    victim = cluster.wait_led(group)
    victim.kill()
    cluster.wait_led(group)
    # redis-benchmark connects to every node it is told of, so it can only run once the dead one is back.
    victim.start()
    cluster.wait_ready()
    benchmark()


def test_redis_benchmark_runs_through_a_change_of_leaders(cluster):
    """Its connections must survive, as with Redis: so a leader falls silent for a while, and then follows."""
    command = ["redis-benchmark", "--cluster", "-p", str(cluster.nodes[0].port), "-t", "set", "-c", "12", "-r", "1000"]
    command += ["-n", "20000", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as benchmark:
        time.sleep(0.5)
        group = min(cluster.slotted_groups())
        victim = cluster.wait_led(group)
        victim.pause()
        assert cluster.wait_led(group) is not victim
        time.sleep(0.5)
        assert benchmark.poll() is None, "it was done before the leader fell silent: nothing was shown"
        victim.resume()
        output, errors = benchmark.communicate(timeout=PROGRAM_LIMIT_S)
    assert benchmark.returncode == 0, errors[-2000:]
    assert "requests per second" in output and "Error" not in output + errors, output + errors


def test_every_node_tells_the_same_slots(cluster):
    def told(node):
        with Connection(node.client_addr) as connection:
            rows = connection.call("CLUSTER", "SLOTS")
        return sorted((first, last, leader[1]) for first, last, leader, *_ in rows)

    def agreed():
        views = [told(node) for node in cluster.nodes]
        return views[0] if all(view == views[0] for view in views) else None

    view = wait_until("one view of the slots", agreed)
    assert sum(last - first + 1 for first, last, _ in view) == 16384
