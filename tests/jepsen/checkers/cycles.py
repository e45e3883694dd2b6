"""Graphs of operations: strongly connected components and the shortest cycles in them.

Real-time order would have a number of edges that grows with the square of the operations. Instead, moments in time are
nodes, too: an operation leads to the moment of its end, each moment to the next, and the last moment before an
operation's start to the operation. Moments lead forwards only, so they close no cycle by themselves.
"""

import random
import time
from bisect import bisect_left
from collections import deque

# How long the shortest cycle of a component is looked for; the first one found stands afterwards.
SEARCH_LIMIT_S = 4.0


class Graph:
    """Nodes are numbers: first the operations, then the moments."""

    def __init__(self, ops):
        self.ops = list(ops)
        self.number = {id(op): n for n, op in enumerate(self.ops)}
        self.out = [{} for _ in self.ops]

    def add(self, before, after, kind, key):
        a, b = self.number[id(before)], self.number[id(after)]
        if a != b:
            self.out[a].setdefault(b, {}).setdefault(kind, key)

    def add_real_time(self):
        ended = sorted((op.until, n) for n, op in enumerate(self.ops) if op.until < float("inf"))
        times = [time for time, _ in ended]
        first = len(self.ops)
        self.out += [{} for _ in ended]
        for place, (_, n) in enumerate(ended):
            self.out[n].setdefault(first + place, {})["rt"] = ""
            if place + 1 < len(ended):
                self.out[first + place][first + place + 1] = {"rt": ""}
        for n, op in enumerate(self.ops):
            place = bisect_left(times, op.start) - 1
            if place >= 0:
                self.out[first + place].setdefault(n, {})["rt"] = ""


def components(graph):
    """Strongly connected components of more than one node (Tarjan), without recursion; the operations in them."""
    count = len(graph.out)
    index, low, on_stack = [None] * count, [0] * count, [False] * count
    stack, found, counter = [], [], 0
    for root in range(count):
        if index[root] is not None:
            continue
        work = [(root, iter(graph.out[root]))]
        index[root] = low[root] = counter
        counter += 1
        stack.append(root)
        on_stack[root] = True
        while work:
            node, successors = work[-1]
            for after in successors:
                if index[after] is None:
                    index[after] = low[after] = counter
                    counter += 1
                    stack.append(after)
                    on_stack[after] = True
                    work.append((after, iter(graph.out[after])))
                    break
                if on_stack[after]:
                    low[node] = min(low[node], index[after])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = set()
                    while True:
                        member = stack.pop()
                        on_stack[member] = False
                        component.add(member)
                        if member == node:
                            break
                    if len(component) > 1:
                        found.append(component)
    return found


def shortest_cycle(graph, members, kinds, one_rw):
    """[(operation, kind, key)] of the shortest cycle with edges of `kinds` alone, or None.

    With `one_rw`, exactly one `rw` edge; the other edges are of the remaining kinds.
    """
    best = None
    until = time.monotonic() + SEARCH_LIMIT_S
    starts = sorted(n for n in members if n < len(graph.ops))
    # A large component is full of cycles, and any sample of it will do; but those against time itself come first.
    random.Random(0).shuffle(starts)
    starts.sort(key=lambda n: not contradicts_time(graph, n))
    for start in starts:
        if time.monotonic() > until:
            break
        first = {"rw"} if one_rw else kinds
        edges = [
            (start, after, kind, labels[kind])
            for after, labels in graph.out[start].items()
            if (kind := usable(labels, first))
        ]
        cycle = shortest_way_back(graph, members, start, edges, kinds - {"rw"} if one_rw else kinds)
        if cycle and (best is None or len(cycle) < len(best)):
            best = cycle
        # Two operations, and a moment between them: there is none shorter.
        if best and len(without_moments(graph, best)) == 2:
            break
    return best and without_moments(graph, best)


def contradicts_time(graph, node):
    """Whether something that had ended before it started must come after it."""
    op = graph.ops[node]
    return any(after < len(graph.ops) and graph.ops[after].until < op.start for after in graph.out[node])


def shortest_way_back(graph, members, start, edges, kinds):
    """[(node, kind, key)] of a cycle that leaves `start` by one of `edges`, and goes on by edges of `kinds`.

    What leaves a moment costs nothing: from the end of one operation to the start of another is one step.
    """
    before, cost, queue = {}, {start: 0}, deque()
    while True:
        for node, after, kind, key in edges:
            free = node >= len(graph.ops)
            total = cost[node] + (not free)
            known = before if after == start else cost
            if after in members and (after not in known or total < cost[after]):
                before[after], cost[after] = (node, kind, key), total
                (queue.appendleft if free else queue.append)(after)
        if start in before:
            break
        if not queue:
            return None
        node = queue.popleft()
        edges = [
            (node, after, kind, labels[kind])
            for after, labels in graph.out[node].items()
            if (kind := usable(labels, kinds))
        ]
    path, at = [before[start]], before[start][0]
    while at != start:
        path.append(before[at])
        at = before[at][0]
    return path[::-1]


def usable(labels, kinds):
    """The strongest kind of an edge that is allowed: dependencies before time."""
    return next((kind for kind in ("ww", "wr", "rw", "rt") if kind in kinds and kind in labels), None)


def without_moments(graph, cycle):
    """Operations alone: a stretch over moments becomes one `rt` edge."""
    return [(graph.ops[n], kind, key) for n, kind, key in cycle if n < len(graph.ops)]
