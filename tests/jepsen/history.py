"""What the clients of a run did and saw: operations with their outcomes, and the faults meanwhile.

Times are seconds since the run began, of one clock for all clients. An operation whose outcome is unknown has no end:
it may take effect at any time after its start.
"""

import json
import math
import threading
import time
from dataclasses import asdict, dataclass, field

OK, FAIL, INFO = "ok", "fail", "info"
FOREVER = math.inf


@dataclass(slots=True)
class Op:
    """One operation of one client."""

    client: int
    kind: str
    key: str
    value: object
    start: float
    end: float
    outcome: str
    result: object = None
    error: str = ""
    index: int = -1

    @property
    def until(self):
        """When it had certainly taken effect, if it did: its reply's time, or never."""
        return self.end if self.outcome == OK else FOREVER

    def __str__(self):
        end = f"{self.end:.4f}" if self.outcome != INFO else "…"
        said = self.error if self.error else json.dumps(self.result)
        return (
            f"#{self.index} client {self.client} [{self.start:.4f}, {end}] {self.kind} {self.key} "
            f"{json.dumps(self.value)} -> {self.outcome} {said}"
        )


@dataclass(slots=True)
class Fault:
    """A nemesis at work."""

    name: str
    start: float
    end: float
    what: str


@dataclass
class History:
    """Append-only while a run lasts; sorted by start afterwards."""

    ops: list = field(default_factory=list)
    faults: list = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self):
        return time.monotonic() - self.began

    def add(self, op):
        with self.lock:
            self.ops.append(op)

    def seal(self):
        self.ops.sort(key=lambda op: op.start)
        for index, op in enumerate(self.ops):
            op.index = index

    def save(self, path):
        with open(path, "w") as file:
            for op in self.ops:
                file.write(json.dumps(asdict(op)) + "\n")
            for fault in self.faults:
                file.write(json.dumps({"fault": asdict(fault)}) + "\n")


def load(path):
    """A saved history, to be checked again."""
    history = History()
    with open(path) as file:
        for line in file:
            row = json.loads(line)
            if "fault" in row:
                history.faults.append(Fault(**row["fault"]))
            else:
                history.ops.append(Op(**row))
    return history
