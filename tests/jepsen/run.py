"""One run: a cluster, a workload's clients, a nemesis, a verdict, a folder with all of it."""

import json
import shutil
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import nemeses
import report
import workloads
from checkers import Anomaly
from client import Client
from history import OK, History
from target import Target

READY_AFTER_FAULTS_S = 60.0
# Impatient clients leave more behind whose fate is unknown.
CLIENT_LIMITS_S = (0.4, 1.0, 3.0)
GROUPS = 3
# Small enough that snapshots, purging and new segments happen within a run, and slots move in pieces.
SETTINGS = {
    "snapshot_entries": 2000, "entries_behind_snapshot": 200, "log_segment_bytes": 1 << 20, "move_piece_bytes": 100,
}  # fmt: skip


@dataclass
class Plan:
    """What is asked for."""

    workload: str
    nemesis: str
    seconds: float
    seed: int
    out: Path
    clients: int = 10
    rate: float = 100.0
    nodes: int | None = None
    system: str = "quoris"
    settings: dict = field(default_factory=dict)

    @property
    def title(self):
        settings = "".join(f", {name}={value}" for name, value in self.settings.items())
        return f"{self.system}{settings}: {self.workload} × {self.nemesis}, {self.seconds:.0f} s, seed {self.seed}"


@dataclass
class Verdict:
    """What came of it. Valid: it ran, clients got through, and nothing contradicts the promise."""

    anomalies: list = field(default_factory=list)
    counts: dict = field(default_factory=dict)
    trouble: str = ""
    faults: int = 0
    checked_in_s: float = 0.0

    @property
    def word(self):
        if self.anomalies:
            return "ANOMALY"
        return "TROUBLE" if self.trouble else "valid"


def make_target(plan, kinds):
    if plan.system == "redis":
        from redis_target import RedisTarget

        return RedisTarget(plan.out / "nodes", wire=any(kind.needs_wire for kind in kinds))
    nodes = plan.nodes or max([3, *(kind.nodes for kind in kinds)])
    wire, shim = any(kind.needs_wire for kind in kinds), any(kind.needs_shim for kind in kinds)
    return Target(plan.out / "nodes", nodes, GROUPS, wire, shim, **SETTINGS | plan.settings)


def run(plan):
    if plan.out.exists():
        shutil.rmtree(plan.out)
    plan.out.mkdir(parents=True)
    kinds = nemeses.named(plan.nemesis)
    workload = workloads.by_name()[plan.workload](nemeses.rng_of(plan.seed, "workload"))
    target, verdict, history = make_target(plan, kinds), Verdict(), History()
    try:
        with target:
            history = History()
            drive(plan, target, workload, kinds, history)
    except Exception:
        verdict.trouble = traceback.format_exc()
    for name, path in target.logs():
        if path.exists():
            shutil.copy(path, plan.out / name)
    complaints = target.complaints()
    history.seal()
    history.save(plan.out / "history.jsonl")
    judge(verdict, workload, history, complaints)
    conclude(plan, verdict, history)
    return verdict


def drive(plan, target, workload, kinds, history):
    """Clients work and faults strike for the time asked for; then all is healed, and the last reads are made."""
    workers = [make_worker(plan, target, history, number) for number in range(1, plan.clients + 1)]
    last = make_worker(plan, target, history, plan.clients + 1)
    workload.prepare(last)
    halt, failures = threading.Event(), []
    threads = [threading.Thread(target=work, args=(plan, workload, w, halt, failures), daemon=True) for w in workers]
    rng = nemeses.rng_of(plan.seed, "nemesis")
    schedule = nemeses.Schedule([kind(target, rng) for kind in kinds], rng, history)
    for thread in [*threads, schedule]:
        thread.start()
    try:
        time.sleep(plan.seconds)
        schedule.stop()
        target.heal()
        target.wait_serving(READY_AFTER_FAULTS_S)
    finally:
        halt.set()
        for thread in threads:
            thread.join()
    if failures:
        raise RuntimeError(f"a client failed: {failures[0]}")
    workload.finish(last)


def make_worker(plan, target, history, number):
    rng = nemeses.rng_of(plan.seed, f"client {number}")
    # Half of the clients know nothing of the cluster, where the system serves such clients.
    plain = number % 2 == 0 and target.serves_plain_clients
    client = Client(target.addrs, rng, plain, rng.choice(CLIENT_LIMITS_S), target.translate)
    return workloads.Worker(number, client, rng, history)


def work(plan, workload, worker, halt, failures):
    """About `rate` operations a second, at times that do not beat in step."""
    try:
        while not halt.is_set():
            workload.step(worker)
            time.sleep(worker.rng.expovariate(plan.rate))
    except Exception:
        failures.append(traceback.format_exc())
    finally:
        worker.client.close()


def judge(verdict, workload, history, complaints):
    began = time.monotonic()
    try:
        verdict.anomalies = workload.check(history)
    except Exception:
        verdict.trouble += "\nthe checker failed: " + traceback.format_exc()
    verdict.anomalies += [Anomaly("a node's complaint", line) for line in complaints[:10]]
    verdict.checked_in_s = time.monotonic() - began
    for op in history.ops:
        verdict.counts[op.outcome] = verdict.counts.get(op.outcome, 0) + 1
    verdict.faults = len(history.faults)
    if not verdict.counts.get(OK) and not verdict.trouble:
        verdict.trouble = "no operation succeeded: nothing was shown"


def conclude(plan, verdict, history):
    lines = [f"{plan.title}: {verdict.word}"]
    lines.append(f"operations {verdict.counts}, faults {verdict.faults}, checked in {verdict.checked_in_s:.1f} s")
    lines += [str(anomaly) for anomaly in verdict.anomalies[:20]]
    lines += [verdict.trouble] if verdict.trouble else []
    (plan.out / "verdict.txt").write_text("\n".join(lines) + "\n")
    summary = {
        "workload": plan.workload, "nemesis": plan.nemesis, "seconds": plan.seconds, "seed": plan.seed,
        "system": plan.system, "settings": plan.settings, "verdict": verdict.word, "counts": verdict.counts,
        "faults": verdict.faults, "anomalies": len(verdict.anomalies),
        "trouble": verdict.trouble.strip().splitlines()[-1:],
    }  # fmt: skip
    (plan.out / "verdict.json").write_text(json.dumps(summary) + "\n")
    (plan.out / "report.html").write_text(report.page(plan, verdict, history))
    if verdict.word == "valid":
        # The data directories matter only where something is to be explained.
        shutil.rmtree(plan.out / "nodes", ignore_errors=True)
