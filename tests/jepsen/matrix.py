"""Which runs make up `short` and `all`."""

import json

import nemeses
import workloads

# CI's: each workload once, and each kind of fault.
SHORT = (
    ("register", "kill-leader"),
    ("append", "partition-leader"),
    ("bank", "pause-leader"),
    ("counter", "fsync-fails"),
    ("set", "partition-ring"),
    ("watch", "partition-one-way"),
    ("queue", "kill-majority"),
    ("stream", "rolling-restart"),
    ("lock", "net-loss"),
    ("pubsub", "kill-all"),
    ("register", "damage"),
    ("bank", "move-slots+kill-leader"),
    ("set", "members"),
    ("stream", "members+kill-leader"),
    ("append", "kill-leader+partition-halves+pause-leader+clock-jump"),
)
# What Redis does not promise, and loses.
REDIS = (
    ("register", "partition-leader"),
    ("append", "partition-leader"),
    ("append", "kill-leader+partition-leader"),
)
# Disks that go back in time: what every checker of stored data must find. (Of locks it is found by luck alone.)
BETRAYED = tuple((name, "rollback") for name in "register counter append set bank stream queue watch".split())
MUST_FAIL = {"redis": REDIS, "betrayed": BETRAYED}
MIXED = (
    "kill-leader+partition-halves+pause-leader",
    "kill-one+net-loss+fsync-slow+clock-jump",
    "move-slots+kill-leader",
    "members+kill-leader",
    "members+partition-halves+pause-leader",
)


def pairs(which, only=None):
    if which == "short":
        return [pair for pair in SHORT if only in (None, pair[0])]
    if which in MUST_FAIL:
        return [pair for pair in MUST_FAIL[which] if only in (None, pair[0])]
    # By nemesis first, so that a matrix that is stopped early has seen every workload.
    found = []
    for nemesis in ["none", *MIXED, *(name for name, kind in nemeses.by_name().items() if kind.survivable)]:
        for name, workload in workloads.by_name().items():
            if not set(nemesis.split("+")) & set(workload.excluded):
                found.append((name, nemesis))
    return [pair for pair in found if only in (None, pair[0])]


def table(out):
    """The verdicts of all runs in a folder, and how many faults struck, as Markdown: nemeses down, workloads across."""
    rows = [json.loads(path.read_text()) for path in sorted(out.glob("*/verdict.json"))]
    names = [name for name in workloads.by_name() if any(row["workload"] == name for row in rows)]
    lines = ["| nemesis | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    order = {nemesis: place for place, (_, nemesis) in enumerate(pairs("all"))}
    for nemesis in sorted({row["nemesis"] for row in rows}, key=lambda n: order.get(n, 999)):
        cells = []
        for name in names:
            runs = [row for row in rows if (row["nemesis"], row["workload"]) == (nemesis, name)]
            excluded = set(nemesis.split("+")) & set(workloads.by_name()[name].excluded)
            said = ", ".join(f"{row['verdict']} ({row['faults']})" for row in runs)
            cells.append(said or ("does not apply" if excluded else "not run"))
        lines.append(f"| {nemesis} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
