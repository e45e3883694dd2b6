"""The main job on real input: numbered records written through a cluster client while leaders are killed with -9.

Every record is written once, under its own number, by redis-py's cluster client. A write the client was told
succeeded is *acknowledged*; a write that ended in any error is *unknown*, because the client's own retries hide
which attempt failed and how. Afterwards every record is read back: an acknowledged one that is missing is lost.

Run by demo.sh, which owns the cluster's life; this program only kills and restarts nodes with node.sh.
"""

import argparse
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

import status

NODE_SH = Path(__file__).with_name("node.sh")
SETTLE_S = 1.0
HEAL_LIMIT_S = 15.0
READ_LIMIT_S = 20.0
SOCKET_LIMIT_S = 2.0
CHUNK = 500


def connect(addrs):
    nodes = [ClusterNode(*addr.split(":")) for addr in addrs]
    return RedisCluster(
        startup_nodes=nodes,
        socket_timeout=SOCKET_LIMIT_S,
        socket_connect_timeout=SOCKET_LIMIT_S,
        retry=Retry(ConstantBackoff(0.02), 3),
    )


class Writer(threading.Thread):
    """Writes one record after the other until told to stop; remembers how each ended."""

    def __init__(self, run, number, addrs, stop):
        super().__init__(daemon=True)
        self.run_name, self.number, self.addrs, self.stop = run, number, addrs, stop
        self.acknowledged, self.unknown = [], []
        self.longest_pause_s = 0.0
        self.finished = False

    def key(self, record):
        return f"demo:{self.run_name}:{self.number}:{record}"

    def run(self):
        client = connect(self.addrs)
        last_ack = time.monotonic()
        record = 0
        while not self.stop.is_set():
            record += 1
            try:
                client.set(self.key(record), record)
                self.acknowledged.append(record)
                now = time.monotonic()
                self.longest_pause_s = max(self.longest_pause_s, now - last_ack)
                last_ack = now
            # The second is no RedisError: a client that cannot rebuild its slot map raises it.
            except (RedisError, RedisClusterException):
                self.unknown.append(record)
                time.sleep(0.005)
        # A pause that had not ended counts as long as it was seen.
        self.longest_pause_s = max(self.longest_pause_s, time.monotonic() - last_ack)
        self.finished = True


def leaders(binary, addrs):
    """{group: node id or None} as the first node that answers sees it."""
    state = next((s for s in (status.status(binary, addr) for addr in addrs) if s), None)
    return {group["id"]: group["leader"] for group in state["groups"]} if state else {}


def node_sh(verb, node, data):
    subprocess.run([NODE_SH, verb, str(node), "--data", data], check=True, stdout=subprocess.DEVNULL)


def kill_leaders(binary, addrs, data, until):
    """Kills the leader of one group after the other until the time is up; returns how many were killed."""
    kills = 0
    while time.monotonic() < until:
        led = {group: node for group, node in leaders(binary, addrs).items() if node is not None}
        if not led:
            time.sleep(0.1)
            continue
        group = sorted(led)[kills % len(led)]
        victim = led[group]
        print(f"  kill -9 node {victim}, the leader of group {group}", flush=True)
        node_sh("kill", victim, data)
        kills += 1
        time.sleep(SETTLE_S)
        node_sh("start", victim, data)
        wait_ready(binary, addrs)
        time.sleep(SETTLE_S)
    return kills


def wait_ready(binary, addrs):
    deadline = time.monotonic() + HEAL_LIMIT_S
    while True:
        line, ready = status.summary(binary, addrs)
        if ready:
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"demo: the cluster did not heal within {HEAL_LIMIT_S:.0f} s: {line}")
        time.sleep(0.05)


def patiently(action):
    """Runs an idempotent action again until it succeeds, within READ_LIMIT_S."""
    deadline = time.monotonic() + READ_LIMIT_S
    while True:
        try:
            return action()
        except (RedisError, RedisClusterException) as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"demo: the cluster does not answer reads: {error}") from error
            time.sleep(0.1)


def present(client, keys):
    """The subset of keys that exist with the value written to them."""
    found = set()
    for at in range(0, len(keys), CHUNK):
        chunk = keys[at : at + CHUNK]
        values = patiently(lambda: client.mget_nonatomic(chunk))
        found.update(key for key, value in zip(chunk, values) if value == key.rsplit(":", 1)[1].encode())
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--writers", type=int, required=True)
    parser.add_argument("addrs", nargs="+")
    args = parser.parse_args()

    stop = threading.Event()
    run = uuid.uuid4().hex[:8]
    writers = [Writer(run, number, args.addrs, stop) for number in range(args.writers)]
    print(f"{args.writers} writers for {args.seconds:.0f} s, through redis-py's cluster client", flush=True)
    for writer in writers:
        writer.start()
    time.sleep(SETTLE_S)
    try:
        kills = kill_leaders(args.binary, args.addrs, args.data, time.monotonic() + args.seconds)
    finally:
        stop.set()
    for writer in writers:
        writer.join()

    client = connect(args.addrs)
    acknowledged = [w.key(r) for w in writers for r in w.acknowledged]
    unknown = [w.key(r) for w in writers for r in w.unknown]
    found = present(client, acknowledged + unknown)
    lost = [key for key in acknowledged if key not in found]
    records = sorted(found)
    for at in range(0, len(records), CHUNK):
        chunk = records[at : at + CHUNK]
        patiently(lambda: client.delete(*chunk))

    print()
    print(f"leaders killed      {kills:>9,}")
    print(f"acknowledged        {len(acknowledged):>9,}")
    print(f"unknown             {len(unknown):>9,}")
    print(f"found afterwards    {len(found):>9,}   ({len(found) - len(acknowledged) + len(lost)} of the unknown ones)")
    print(f"lost                {len(lost):>9,}")
    print(f"longest pause       {max(w.longest_pause_s for w in writers):>9.2f} s")
    for key in lost[:10]:
        print(f"LOST: {key}", file=sys.stderr)
    died = [writer.number for writer in writers if not writer.finished]
    if died:
        print(f"demo: writers {died} broke off; their figures mean nothing", file=sys.stderr)
    if not acknowledged:
        print("demo: no write was acknowledged; nothing was shown", file=sys.stderr)
    return 1 if lost or died or not acknowledged else 0


if __name__ == "__main__":
    sys.exit(main())
