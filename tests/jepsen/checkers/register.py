"""Linearizability of registers whose values are all different: exact, in O(n log n), however many are concurrent.

With different values, every read names the write that it saw (Gibbons and Korach, *Testing shared memories*, 1997).
All that concerns one value, its write and the reads of it, must then stand together in any linearization, as one
*cluster*; and an atomic update from `a` to `b` puts `b`'s cluster right behind `a`'s, so that these form a *chain*.
Let `first_end` be when the first operation of a chain ended and `last_start` when its last one started. Chain X must
stand before chain Y exactly if X.first_end < Y.last_start. Among chains, this relation has a cycle only if it has one
of length two: of the chains of a cycle take the one with the greatest last_start; all others stand before it, and it
stands before one of them. So it is enough to look for pairs.

A write of unknown outcome never ends; one whose value nobody has seen is taken as not done, which is always allowed.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from math import inf

from checkers import Anomaly, grouped
from history import FAIL, INFO, OK

INITIAL = None


@dataclass(slots=True)
class Cluster:
    """The operations on one value of one key."""

    value: object
    write: object = None
    reads: list = field(default_factory=list)
    # The atomic update from this value to another one.
    update: object = None

    def ends(self):
        """(end, operation) of all that belongs here; an initial value was written before all time."""
        own = [(-inf, None)] if self.value is INITIAL else [(self.write.until, self.write)]
        return own + [(op.end, op) for op in self.reads]

    def starts(self):
        own = [(-inf, None)] if self.value is INITIAL else [(self.write.start, self.write)]
        return own + [(op.start, op) for op in self.reads]


@dataclass(slots=True)
class Chain:
    """Clusters that stand right behind one another."""

    clusters: list
    first_end: tuple = (inf, None)
    last_start: tuple = (-inf, None)


def check(ops):
    """`ops` of kinds write (value), read (result), update (value is the new one, result the old one).

    An unknown update names the value it can have started from; if that is not known, it is a write.
    """
    anomalies = []
    for key, of_key in sorted(grouped(ops).items()):
        anomalies += check_key(key, of_key)
    return anomalies


def check_key(key, ops):
    clusters, anomalies = clusters_of(key, ops)
    if anomalies:
        return anomalies
    chains = chains_of(clusters)
    if found := circle(key, clusters, chains):
        return [found]
    for chain in chains:
        if found := disorder_within(key, chain):
            return [found]
    return disorder_between(key, chains)


def clusters_of(key, ops):
    writes = {}
    for op in ops:
        if op.kind in ("write", "update"):
            assert op.value not in writes, f"{op.value} is written twice to {key}: a fault of the workload"
            writes[op.value] = op
    seen = seen_values(ops)
    clusters, anomalies = {INITIAL: Cluster(INITIAL)}, []
    for value, op in writes.items():
        if op.outcome == OK or (op.outcome == INFO and value in seen):
            clusters[value] = Cluster(value, op)
    for op in ops:
        if op.kind == "write" or not (op.outcome == OK or took_effect(op, seen)):
            continue
        cluster = clusters.get(op.result)
        if cluster is None:
            anomalies.append(unfounded(key, op, writes.get(op.result)))
        elif op.kind == "read":
            cluster.reads.append(op)
            if cluster.write and op.end < cluster.write.start:
                anomalies.append(Anomaly("read from the future", f"{key} = {op.result}", [op, cluster.write]))
        elif cluster.update is not None:
            what = f"{key}: two atomic updates started from {op.result}"
            anomalies.append(Anomaly("lost update", what, [cluster.update, op]))
        else:
            cluster.update = op
    return clusters, anomalies


def seen_values(ops):
    """What somebody has read, or must have: an unknown update whose value was seen has seen the one it names."""
    seen = {op.result for op in ops if op.outcome == OK and op.kind in ("read", "update")}
    unknown = {op.value: op.result for op in ops if op.outcome == INFO and op.kind == "update"}
    found = list(seen)
    while found:
        value = unknown.get(found.pop(), INITIAL)
        if value is not INITIAL and value not in seen:
            seen.add(value)
            found.append(value)
    return seen


def took_effect(op, seen):
    return op.kind == "update" and op.outcome == INFO and op.value in seen


def unfounded(key, op, write):
    if write is not None and write.outcome == FAIL:
        what = f"{key} = {op.result} was answered as certainly not done, and took effect"
        return Anomaly("failed write took effect", what, [write, op])
    return Anomaly("phantom", f"{key} = {op.result} was never written", [op])


def chains_of(clusters):
    followers = {cluster.update.value for cluster in clusters.values() if cluster.update}
    chains = []
    for value, cluster in clusters.items():
        if value in followers:
            continue
        members = [cluster]
        while members[-1].update is not None:
            members.append(clusters[members[-1].update.value])
        chain = Chain(members)
        for member in members:
            chain.first_end = min(chain.first_end, *member.ends(), key=first)
            chain.last_start = max(chain.last_start, *member.starts(), key=first)
        chains.append(chain)
    return chains


def circle(key, clusters, chains):
    """Updates that each started from the value of the next one, around: none can have been the first, and no chain has them."""
    in_chains = {member.value for chain in chains for member in chain.clusters}
    updates = [cluster.update for value, cluster in clusters.items() if value not in in_chains]
    if not updates:
        return None
    return Anomaly("not linearizable", f"{key}: atomic updates started from one another's values", updates)


def disorder_within(key, chain):
    """Something about a later cluster had ended before something about an earlier one started."""
    latest = (-inf, None)
    for cluster in chain.clusters:
        end = min(cluster.ends(), key=first)
        if end[0] < latest[0]:
            what = f"{key}: {latest[1].result or latest[1].value} was current again after a value that replaced it"
            return Anomaly("not linearizable", what, [op for op in (end[1], latest[1]) if op])
        latest = max(latest, *cluster.starts(), key=first)
    return None


def disorder_between(key, chains):
    forward = sorted((c for c in chains if c.first_end[0] < c.last_start[0]), key=lambda c: c.first_end[0])
    for before, after in zip(forward, forward[1:], strict=False):
        if after.first_end[0] < before.last_start[0]:
            return [crossing(key, before, after)]
    firsts = [c.first_end[0] for c in forward]
    for chain in chains:
        if chain.first_end[0] < chain.last_start[0]:
            continue
        # The forward chain that may have something ended before this one started.
        place = bisect_left(firsts, chain.last_start[0]) - 1
        if place >= 0 and chain.first_end[0] < forward[place].last_start[0]:
            return [crossing(key, forward[place], chain)]
    return []


def crossing(key, one, other):
    """Each chain has something that ended before something of the other started."""
    ops = [one.first_end[1], other.last_start[1], other.first_end[1], one.last_start[1]]
    ops = sorted({id(op): op for op in ops if op}.values(), key=lambda op: op.start)
    values = " and ".join(str(list(dict.fromkeys(c.value for c in chain.clusters))[:3]) for chain in (one, other))
    return Anomaly("not linearizable", f"{key}: each of {values} must come before the other", ops)


def first(pair):
    return pair[0]
