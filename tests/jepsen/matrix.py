"""Which runs make up `short` and `all`."""

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
    ("append", "kill-leader+partition-halves+pause-leader+clock-jump"),
)
# What Redis does not promise, and loses.
REDIS = (
    ("register", "partition-leader"),
    ("append", "partition-leader"),
    ("register", "kill-leader+partition-leader"),
    ("append", "kill-leader+partition-leader"),
)
MIXED = ("kill-leader+partition-halves+pause-leader", "kill-one+net-loss+fsync-slow+clock-jump")


def pairs(which, only=None):
    if which == "short":
        return [pair for pair in SHORT if only in (None, pair[0])]
    if which == "redis":
        return [pair for pair in REDIS if only in (None, pair[0])]
    # By nemesis first, so that a matrix that is stopped early has seen every workload.
    found = []
    for nemesis in ["none", *MIXED, *nemeses.by_name()]:
        for name, workload in workloads.by_name().items():
            if not set(nemesis.split("+")) & set(workload.excluded):
                found.append((name, nemesis))
    return [pair for pair in found if only in (None, pair[0])]
