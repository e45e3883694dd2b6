"""Checkers: pure functions from a history to anomalies. None of them knows the system under test."""

from dataclasses import dataclass, field


@dataclass
class Anomaly:
    """Something that cannot have happened if the promise was kept, with the fewest operations that show it."""

    kind: str
    what: str
    ops: list = field(default_factory=list)

    def __str__(self):
        return "\n".join([f"{self.kind}: {self.what}", *(f"    {op}" for op in self.ops)])


def grouped(ops, key=lambda op: op.key):
    """Operations by key, each in the order they came."""
    groups = {}
    for op in ops:
        groups.setdefault(key(op), []).append(op)
    return groups
