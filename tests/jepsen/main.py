"""The command line: see run.sh."""

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import elle
import history
import matrix
import nemeses
import workloads
from cluster import CLIENT_PORTS
from run import Plan, run

HERE = Path(__file__).resolve().parent


def arguments():
    parser = argparse.ArgumentParser(
        prog="tests/jepsen/run.sh", description="Histories and checkers against real processes."
    )
    parser.add_argument(
        "what",
        nargs="?",
        choices=["one", "short", "all", "betrayed", "redis", "table", "again", "elle"],
        default="one",
        help="one run; CI's matrix; the whole one; two demonstrations that anomalies are found; "
        "the verdicts in OUT as a table; the run in OUT judged again, or in Elle's format",
    )
    parser.add_argument("--workload", default="register", help=", ".join(workloads.by_name()))
    parser.add_argument(
        "--nemesis", default="kill-leader", help="none, or several joined by +, of: " + ", ".join(nemeses.by_name())
    )
    parser.add_argument(
        "--seconds", type=float, help="how long clients work and faults strike (one: 20, short: 8, all: 60)"
    )
    parser.add_argument("--seed", type=int, default=1, help="decides who is struck, when, and what clients do")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rate", type=float, default=100.0, help="operations a second of each client, at most")
    parser.add_argument("--nodes", type=int, help="3, or 5 where the nemesis needs them")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the nodes, such as read_mode=lease",
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs of short or all at a time, each with ports of its own")
    parser.add_argument("--resume", action="store_true", help="leave out the runs whose verdict is there")
    parser.add_argument("--out", type=Path, default=HERE / "out")
    return parser.parse_args()


def setting(text):
    name, value = text.split("=", 1)
    return name, int(value) if value.isdigit() else value


def again(folder):
    """Judges the history in a run's folder with the checkers as they are now."""
    row = json.loads((folder / "verdict.json").read_text())
    workload = workloads.by_name()[row["workload"]](nemeses.rng_of(row["seed"], "workload"))
    anomalies = workload.check(history.load(folder / "history.jsonl"))
    return "\n".join(map(str, anomalies)) or "valid"


def side_by_side(pairs, args, seconds):
    """Some runs at a time, each in a process of its own; how many went well, and how many did not."""
    share = len(CLIENT_PORTS) // args.jobs
    ports = queue.Queue()
    for job in range(args.jobs):
        own = CLIENT_PORTS[job * share : (job + 1) * share]
        ports.put(f"{own[0]}-{own[-1] + 1}")
    under_way = set()

    def one(pair):
        workload, nemesis = pair
        if args.resume and (args.out / f"quoris-{workload}-{nemesis}-{args.seed}" / "verdict.json").exists():
            return None
        command = [sys.executable, __file__, "one", "--workload", workload, "--nemesis", nemesis, "--seconds", seconds]
        command += ["--seed", args.seed, "--clients", args.clients, "--rate", args.rate, "--out", args.out]
        command += ["--nodes", args.nodes] if args.nodes else []
        command += [word for text in args.set for word in ("--set", text)]
        own = ports.get()
        environment = os.environ | {"QUORIS_TEST_PORTS": own}
        run = subprocess.Popen([str(word) for word in command], env=environment, stdout=subprocess.PIPE, text=True)
        under_way.add(run)
        said, _ = run.communicate()
        under_way.discard(run)
        ports.put(own)
        print(said.rsplit("test result:", 1)[0], end="", flush=True)
        return run.returncode == 0

    with ThreadPoolExecutor(args.jobs) as pool:
        try:
            results = list(pool.map(one, pairs))
        except SystemExit:
            # Told to end: each takes its nodes with it.
            pool.shutdown(wait=False, cancel_futures=True)
            for run in list(under_way):
                run.terminate()
            raise
    return results.count(True), results.count(False)


def main():
    args = arguments()
    # A run that is told to end takes its nodes with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    if args.what == "table":
        return print(matrix.table(args.out))
    if args.what == "again":
        return print(again(args.out))
    if args.what == "elle":
        return print("\n".join(elle.lines(history.load(args.out / "history.jsonl").ops)))
    if args.what == "one":
        pairs = [(args.workload, args.nemesis)]
    else:
        pairs = matrix.pairs(args.what, args.workload if "--workload" in sys.argv else None)
    system = "redis" if args.what == "redis" else "quoris"
    seconds = args.seconds or {"one": 20, "short": 8, "all": 60, "betrayed": 9, "redis": 30}[args.what]
    if args.jobs > 1 and args.what in ("short", "all"):
        good, bad = side_by_side(pairs, args, seconds)
        print(f"test result: {good} passed, {bad} failed")
        sys.exit(0 if bad == 0 and good else 1)
    good = bad = 0
    for workload, nemesis in pairs:
        out = args.out / f"{system}-{workload}-{nemesis}-{args.seed}"
        if args.resume and (out / "verdict.json").exists():
            continue
        plan = Plan(
            workload,
            nemesis,
            seconds,
            args.seed,
            out,
            args.clients,
            args.rate,
            args.nodes,
            system,
            dict(setting(text) for text in args.set),
        )
        began = time.monotonic()
        verdict = run(plan)
        as_hoped = verdict.word == ("ANOMALY" if args.what in matrix.MUST_FAIL else "valid")
        good, bad = good + as_hoped, bad + (not as_hoped)
        counts = " ".join(f"{verdict.counts.get(word, 0):>6} {word}" for word in ("ok", "fail", "info"))
        took = f"{verdict.faults:>3} faults {time.monotonic() - began:5.0f} s"
        print(f"{workload:8} {nemesis:24} seed {args.seed:<6} {counts} {took}  {verdict.word}", flush=True)
        if verdict.word != "valid":
            print((out / "verdict.txt").read_text()[:4000], flush=True)
            print(f"  the run's folder: {out}")
    print(f"test result: {good} passed, {bad} failed")
    sys.exit(0 if bad == 0 and good else 1)


if __name__ == "__main__":
    main()
