"""Transactions of appends and reads on lists, after Elle (Kingsbury and Alvaro, *Elle*, VLDB 2020).

Every appended value is different, so a read of a list tells which transactions wrote what is there, and in which order.
From that come the dependencies: `ww` from a write to the write that followed it, `wr` from a write to who read it, `rw`
from a reader to the write it did not see yet, and `rt` from what had ended to what started later. A cycle cannot be
explained by any order of the transactions. Its worst edge gives its name: only `ww` is G0, with `wr` G1c, with one `rw`
G-single, with more G2; with `rt` it contradicts strict serializability (`-realtime`).

An operation's value is a list of ["append", key, value] and ["read", key, null]; its result fills the reads in.
A transaction of unknown outcome took effect if somebody has seen it; otherwise it is taken as not done.
"""

from checkers import Anomaly
from checkers.cycles import Graph, components, shortest_cycle
from history import FAIL, OK

# From the most to the least damning. A cycle is reported under the first that it fits.
CLASSES = (
    ("G0", {"ww"}, False),
    ("G1c", {"ww", "wr"}, False),
    ("G-single", {"ww", "wr", "rw"}, True),
    ("G2", {"ww", "wr", "rw"}, False),
)


def check(ops):
    """`ops` are transactions."""
    return Judge(ops).judge()


class Judge:
    def __init__(self, ops):
        self.ops = ops
        self.writer, self.last_of = {}, {}
        for op in ops:
            for kind, key, value in op.value:
                if kind == "append":
                    assert (key, value) not in self.writer, f"{value} is appended twice: a fault of the workload"
                    self.writer[key, value] = op
                    self.last_of[id(op), key] = value
        succeeded = [op for op in ops if op.outcome == OK]
        # Those that show what other transactions have left, and all, which show the order of the elements as well.
        self.reads = [(op, key, result) for op in succeeded for key, result in external_reads(op)]
        self.all_reads = [(op, key, v) for op in succeeded for kind, key, v in micro_operations(op) if kind == "read"]
        self.orders = {}
        self.anomalies = []

    def judge(self):
        for op in self.ops:
            if op.outcome == OK and (found := internal(op)):
                self.anomalies.append(found)
        self._orders()
        for op, key, result in self.all_reads:
            self._read(op, key, result)
        self._lost()
        self._lost_updates()
        if not any(anomaly.kind in ("incompatible order", "phantom") for anomaly in self.anomalies):
            self._cycles()
        return self.anomalies

    def _orders(self):
        """The versions of each list, from its longest read; all others must be its beginnings."""
        longest = {}
        for op, key, result in self.all_reads:
            if key not in longest or len(result) > len(longest[key][1]):
                longest[key] = (op, result)
        for op, key, result in self.all_reads:
            whole = longest[key][1]
            if whole[: len(result)] != result:
                what = f"{key} was read as {brief(result)} and as {brief(whole)}"
                self.anomalies.append(Anomaly("incompatible order", what, [op, longest[key][0]]))
        self.orders = {key: result for key, (_, result) in longest.items()}

    def _read(self, op, key, result):
        if len(set(result)) != len(result):
            twice = next(value for value in result if result.count(value) > 1)
            self.anomalies.append(Anomaly("duplicate", f"{twice} stands twice in {key}", [op, self.writer[key, twice]]))
        for value in result:
            writer = self.writer.get((key, value))
            if writer is None:
                self.anomalies.append(Anomaly("phantom", f"{value} in {key} was never appended", [op]))
            elif writer.outcome == FAIL:
                what = f"G1a: {value} in {key} is of a transaction that was answered as certainly not done"
                self.anomalies.append(Anomaly("aborted read", what, [writer, op]))
        writer = self.writer.get((key, result[-1])) if result else None
        if writer not in (None, op) and self.last_of[id(writer), key] != result[-1]:
            what = f"G1b: {key} was read up to {result[-1]}, in the middle of a transaction"
            self.anomalies.append(Anomaly("intermediate read", what, [writer, op]))

    def _lost(self):
        """Acknowledged, and absent from a read that began later."""
        last_reads = {}
        for op, key, result in self.reads:
            if key not in last_reads or op.start > last_reads[key][0].start:
                last_reads[key] = (op, result)
        present = {key: set(result) for key, (_, result) in last_reads.items()}
        for (key, value), writer in self.writer.items():
            absent = key in last_reads and value not in present[key]
            if absent and writer.until < last_reads[key][0].start:
                what = f"{value} was acknowledged, and is not in {key}"
                self.anomalies.append(Anomaly("lost write", what, [writer, last_reads[key][0]]))

    def _lost_updates(self):
        """Two transactions read the same version of a list and both appended to it."""
        seen = {}
        for op, key, result in self.reads:
            if (id(op), key) not in self.last_of:
                continue
            version = (key, len(result))
            other = seen.setdefault(version, op)
            if other is not op:
                what = f"both read {key} with {len(result)} elements, and appended to it"
                self.anomalies.append(Anomaly("lost update", what, [other, op]))

    def _cycles(self):
        graph = self._graph()
        for members in components(graph):
            for name, kinds, once in CLASSES:
                found = shortest_cycle(graph, members, kinds, once)
                suffix = ""
                if not found:
                    found, suffix = shortest_cycle(graph, members, kinds | {"rt"}, once), "-realtime"
                if found:
                    self.anomalies.append(described(name + suffix, found))
                    break

    def _graph(self):
        committed = [op for op in self.ops if op.outcome == OK or self._was_seen(op)]
        graph = Graph(committed)
        for key, order in self.orders.items():
            writers = [self.writer[key, value] for value in order]
            for before, after in zip(writers, writers[1:], strict=False):
                graph.add(before, after, "ww", key)
        for op, key, result in self.reads:
            if result:
                graph.add(self.writer[key, result[-1]], op, "wr", key)
            if len(result) < len(self.orders[key]):
                graph.add(op, self.writer[key, self.orders[key][len(result)]], "rw", key)
        graph.add_real_time()
        return graph

    def _was_seen(self, op):
        """Also if it was answered as not done, which is reported by itself."""
        if not hasattr(self, "seen"):
            self.seen = {id(self.writer[key, v]) for key, order in self.orders.items() for v in order}
        return id(op) in self.seen


def micro_operations(op):
    """(kind, key, value) with the reads' results filled in."""
    return [(kind, key, op.result[n] if kind == "read" else value) for n, (kind, key, value) in enumerate(op.value)]


def external_reads(op):
    """Reads before the transaction's own appends to the same list."""
    own, found = set(), []
    for kind, key, value in micro_operations(op):
        if kind == "append":
            own.add(key)
        elif key not in own:
            found.append((key, value))
    return found


def internal(op):
    """A read must show what its own transaction has read and appended before."""
    known, appended = {}, {}
    for kind, key, value in micro_operations(op):
        if kind == "append":
            appended.setdefault(key, []).append(value)
            if key in known:
                known[key] = [*known[key], value]
            continue
        tail = appended.get(key, [])
        if (key in known and known[key] != value) or (tail and value[-len(tail) :] != tail):
            return Anomaly("internal", f"its own read of {key} does not follow from what it did before", [op])
        known[key] = value
    return None


def described(name, cycle):
    """`cycle` is [(operation, edge kind to the next, key)]."""
    steps = " ".join(f"#{op.index} -{kind}{f' {key}' if key else ''}->" for op, kind, key in cycle)
    return Anomaly(name, f"{steps} #{cycle[0][0].index}", [op for op, _, _ in cycle])


def brief(values):
    return str(values) if len(values) < 8 else f"[… {', '.join(map(str, values[-6:]))}] ({len(values)})"
