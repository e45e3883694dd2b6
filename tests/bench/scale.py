"""Measures what grows: with the number of keys (memory, snapshots, restarts) and with the number of groups. Run by scale.sh.

Three nodes, values of 128 bytes, on this machine's disk and processors, which the load generator shares.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent / "e2e"))

from bench import load  # noqa: E402
from cluster import Cluster, wait_until  # noqa: E402
from resp import Connection, ReplyError  # noqa: E402
from servers import Usage, resident_bytes  # noqa: E402
from stalls import LIMIT_S, Place, Probes, high_water, seen  # noqa: E402

MILLION = 1_000_000
THREADS = max(1, os.cpu_count() // 3)
QUIET_S = 5.0
RESTART_LIMIT_S = 600.0


def table(rows):
    """Rows of one kind as Markdown."""
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---:|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(f"{v:,.2f}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else v for v in row.values()) + " |")


def filled(cluster, keys):
    load("fill", "--addr", cluster.nodes[0].client_addr, "--keys", keys)
    cluster.wait_caught_up(LIMIT_S)


def resident(node):
    return resident_bytes(node.process.pid)


# Growth with keys.


def growth(millions):
    """Memory, snapshots and restarts with so many keys."""
    rows = []
    for count in millions:
        with Cluster(groups=1, threads=THREADS) as cluster, tempfile.TemporaryDirectory() as scratch:
            empty = resident(cluster.nodes[0])
            began = time.monotonic()
            filled(cluster, count * MILLION)
            took = time.monotonic() - began
            rows.append({"million keys": count, "filled in s": took, **of_snapshot(cluster, scratch, empty, count * MILLION)})
            rows[-1] |= of_restarts(cluster)
            print(rows[-1], file=sys.stderr, flush=True)
    table(rows)
    return rows


def of_snapshot(cluster, scratch, empty, keys):
    """A snapshot at the leader, while nothing else is asked of it but by the probes."""
    place = Place(cluster)
    leader = next(node for node in cluster.nodes if node.client_addr == place.addr)
    save(place.addr)
    # Entries enough for all slots to be brought together with what has changed of them while the fill was snapshotted.
    load("run", "--addr", place.addr, "--keys", 1, "--mix", "set", "--connections", 8, "--seconds", 2)
    per_key = (resident(leader) - empty) / keys
    probes = Probes(place, scratch)
    time.sleep(QUIET_S)
    began = time.time_ns()
    save(place.addr)
    ended = time.time_ns()
    quiet = (began - int(QUIET_S * 1e9), began)
    calls = probes.calls()
    longest = {name: seen(its, (began, ended))[0] for name, its in calls.items()}
    without = {name: seen(its, quiet)[0] for name, its in calls.items()}
    return {
        "bytes/key": per_key,
        "snapshot s": (ended - began) / 1e9,
        "snapshot MB": leader.disk_bytes("snapshots") / 1e6,
        "longest GET ms": f"{longest['get same']:.1f} ({without['get same']:.1f})",
        "longest SET ms": f"{longest['set same']:.1f} ({without['set same']:.1f})",
    }


def of_restarts(cluster):
    """Of a follower, and of all nodes at once, after kill -9; until it has applied all, and until a SET is answered."""
    leader = cluster.wait_led(min(cluster.slotted_groups()))
    follower = next(node for node in cluster.nodes if node is not leader)
    follower.kill()
    began = time.monotonic()
    follower.start()
    wait_until("the node back", lambda: follower.status(), RESTART_LIMIT_S)
    cluster.wait_caught_up(RESTART_LIMIT_S)
    one = time.monotonic() - began
    for node in cluster.nodes:
        node.kill()
    began = time.monotonic()
    cluster.start()
    wait_until("a SET answered", lambda: is_written(cluster), RESTART_LIMIT_S)
    return {"one back s": one, "all back s": time.monotonic() - began}


def is_written(cluster):
    try:
        with Connection(cluster.nodes[0].client_addr, limit_s=5) as client:
            return client.call("SET", "scale", "1") == "OK"
    except (OSError, EOFError, ReplyError):
        return False


# Snapshots under load.


def snapshots(millions, groups, rounds, seconds):
    """Turns of full write load, with a snapshot at each leader and without."""
    rows = []
    for count in millions:
        with Cluster(groups=groups, threads=THREADS) as cluster, tempfile.TemporaryDirectory() as scratch:
            filled(cluster, count * MILLION)
            turns = [turn for _ in range(rounds) for turn in both_turns(cluster, scratch, count * MILLION, seconds)]
        for saving in (False, True):
            own = [turn for saves, turn in turns if saves == saving]
            middle = {name: statistics.median(turn[name] for turn in own) for name in own[0]}
            rows.append({"million keys": count, "snapshots": "yes" if saving else "no", **middle})
    table(rows)
    return rows


def both_turns(cluster, scratch, keys, seconds):
    # What the turn before has begun ends first.
    for saving in (False, True):
        time.sleep(2)
        yield saving, turn_of(cluster, scratch, keys, saving, seconds)


def turn_of(cluster, scratch, keys, saving, seconds):
    """50 clients that SET any of the keys, and a probe of GET and of SET beside them."""
    place = Place(cluster)
    leader = next(node for node in cluster.nodes if node.client_addr == place.addr)
    probes = Probes(place, scratch)
    before = resident(leader)
    high_water(cluster)
    saved = []
    saver = threading.Thread(target=save, args=(place.addr, saved))
    began = time.time_ns()
    if saving:
        saver.start()
    report = load("run", "--addr", place.addr, "--keys", keys, "--mix", "set", "--connections", 50, "--seconds", seconds, "--warmup-seconds", 0.5)
    ended = time.time_ns()
    marks = high_water(cluster)
    if saving:
        saver.join()
    calls = probes.calls()
    return {
        "SET/s": report["requests_per_second"],
        "p50 ms": report["p50_us"] / 1e3,
        "p99 ms": report["p99_us"] / 1e3,
        "p99.9 ms": report["p999_us"] / 1e3,
        "longest GET ms": seen(calls["get same"], (began, ended))[0],
        "longest SET ms": seen(calls["set same"], (began, ended))[0],
        "snapshot s": saved[0] if saved else 0.0,
        "overwritten %": report["all_commands"] / keys * 100,
        "memory more %": (marks[leader.client_addr] - before) / before * 100,
    }


def save(addr, took=None):
    """Has a node snapshot all of its groups; how long that took goes to the end of `took`, in seconds."""
    with Connection(addr, limit_s=RESTART_LIMIT_S) as client:
        began = time.monotonic()
        assert client.call("SAVE") == "OK"
        if took is not None:
            took.append(time.monotonic() - began)


# Groups.

LOADS = (("set", 50, 1), ("set", 50, 16), ("get", 50, 1))


def groups_of(counts, rounds):
    """The same loads with more and more groups, in turns."""
    clusters = [Cluster(groups=count, threads=THREADS) for count in counts]
    found = {}
    for cluster in clusters:
        with cluster:
            filled(cluster, 100_000)
            for round_, (mix, connections, pipeline) in ((r, l) for r in range(rounds + 1) for l in LOADS):
                figures = of_load(cluster, mix, connections, pipeline)
                # The first round makes the log's files.
                if round_:
                    found.setdefault((mix, connections, pipeline, cluster.group_count), []).append(figures)
    rows = []
    for (mix, connections, pipeline, count), figures in sorted(found.items()):
        middle = {name: statistics.median(one[name] for one in figures) for name in figures[0]}
        rows.append({"load": mix, "c": connections, "p": pipeline, "groups": count, **middle})
    table(rows)
    return rows


def of_load(cluster, mix, connections, pipeline):
    pids = [node.process.pid for node in cluster.nodes]
    entries, before, slept = applied(cluster), Usage.of(pids, cluster.dir), switches(pids)
    report = load("run", "--addr", cluster.nodes[0].client_addr, "--keys", 100_000, "--mix", mix, "--connections", connections, "--pipeline", pipeline, "--seconds", 1.5, "--warmup-seconds", 0.3)
    commands = report["all_commands"]
    used = Usage.of(pids, cluster.dir).per_command(before, commands)
    slept = {name: (count - slept[name]) / commands for name, count in switches(pids).items()}
    entries = applied(cluster) - entries
    return {
        "commands/entry": commands / entries if mix == "set" else 0.0,
        "requests/s": report["requests_per_second"],
        "CPU-s/million": used["cpu_seconds_per_million"],
        "flushes": used["flushes_per_command"] or 0.0,
        "bytes": used["written_bytes_per_command"],
        **slept,
    }


def applied(cluster):
    """Entries of all groups so far, as the first node has it."""
    return sum(group["applied"] for group in cluster.nodes[0].status()["groups"])


def switches(pids):
    """How often the logs' threads and all others have waited for something; and how often any was driven out while it would have gone on."""
    counted = {"log sleeps": 0, "others sleep": 0, "driven out": 0}
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            text = status.read_text()
            field = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
            counted["log sleeps" if field["Name"] == "log" else "others sleep"] += int(field["voluntary_ctxt_switches"])
            counted["driven out"] += int(field["nonvoluntary_ctxt_switches"])
    return counted


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("growth", "snapshots", "groups"))
    parser.add_argument("--millions", default="1,4,16", help="of keys, for growth and snapshots")
    parser.add_argument("--groups", default="1,2,4,8", help="of groups, one cluster after the other; for snapshots the first one counts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of load with a snapshot, and without")
    parser.add_argument("--out", type=Path, help="a file for all figures, as JSON")
    options = parser.parse_args()
    millions, groups = ([int(n) for n in text.split(",")] for text in (options.millions, options.groups))
    rows = {
        "growth": lambda: growth(millions),
        "snapshots": lambda: snapshots(millions, groups[0], options.rounds, options.seconds),
        "groups": lambda: groups_of(groups, options.rounds),
    }[options.what]()
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
