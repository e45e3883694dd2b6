"""Runs one example: clients that act at the same time, leaders that are killed with -9 meanwhile, then the checker.

Run by run.sh, which owns the cluster's life; this program only kills and restarts nodes with node.sh.
"""

import argparse
import random
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "deploy" / "local"))

import demo  # noqa: E402
import status  # noqa: E402

PAUSE_S = (0.01, 0.06)


def load(name):
    """The client and the checker of an example."""
    sys.path[:0] = [str(HERE / name), str(HERE)]
    import check
    import client

    return client, check


class Worker(threading.Thread):
    """One client, on a connection of its own."""

    def __init__(self, client, stop):
        super().__init__(daemon=True)
        self.client, self.stop, self.error = client, stop, None

    def run(self):
        try:
            while not self.stop.is_set():
                self.client.act()
                time.sleep(random.uniform(*PAUSE_S))
        except Exception as error:  # Whatever it is, the run has failed, and its reason is told.
            self.error = error


def leader_of(args, slot):
    """The node that leads the slot's group, as the first node that answers sees it."""
    while True:
        state = next((s for s in (status.status(args.binary, addr) for addr in args.addrs) if s), None)
        for group in state["groups"] if state else ():
            if group["leader"] and any(first <= slot <= last for first, last in group["slots"]):
                return group["leader"]
        time.sleep(0.1)


def kill_leaders(args, slot):
    """Kills whoever leads the slot that the example's keys are in, at even intervals."""
    began, every_s = time.monotonic(), args.seconds / (args.kills + 1)
    for kill in range(args.kills):
        time.sleep(max(0.0, began + (kill + 1) * every_s - time.monotonic()))
        victim = leader_of(args, slot)
        print(f"  kill -9 node {victim}, the leader", flush=True)
        demo.node_sh("kill", victim, args.data)
        time.sleep(min(1.0, every_s / 2))
        demo.node_sh("start", victim, args.data)
        demo.wait_ready(args.binary, args.addrs)
    time.sleep(max(0.0, began + args.seconds - time.monotonic()))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("example")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--script", type=Path)
    parser.add_argument("addrs", nargs="+")
    args = parser.parse_args()
    client, check = load(args.example)
    from common import connect

    redis, stop = connect(args.addrs), threading.Event()
    client.prepare(redis, args.seconds)
    script = args.script.read_text() if args.script else client.SCRIPT
    clients = [client.Client(connect(args.addrs), f"client-{n}", script) for n in range(args.clients)]
    workers = [Worker(one, stop) for one in clients]
    print(f"{args.example}: {args.clients} clients for {args.seconds:.0f} s, {args.kills} leaders killed", flush=True)
    for worker in workers:
        worker.start()
    try:
        kill_leaders(args, redis.keyslot(client.KEY))
    finally:
        stop.set()
    for worker in workers:
        worker.join()
    answers = {request: answer for one in clients for request, answer in one.answers.items()}
    figures, wrong = check.check(redis, answers)
    figures |= {"answered": len(answers), "asked again": sum(one.doubts for one in clients)}
    wrong += [f"a client broke off: {worker.error!r}" for worker in workers if worker.error][:3]
    if not answers:
        wrong.append("no request was answered: nothing was shown")
    print("  " + ", ".join(f"{name} {figure:,}" for name, figure in figures.items()))
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    print(f"{args.example}: {'WRONG' if wrong else 'all as it must be'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
