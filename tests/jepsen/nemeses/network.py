"""The network between the nodes, by way of the wire. Clients reach every node meanwhile."""

from itertools import permutations

from nemeses import Nemesis
from nemeses.process import names


class Network(Nemesis):
    needs_wire = True

    def relieve(self):
        self.target.wire.heal()

    def cut(self, allowed):
        """Cuts all pairs but those for which `allowed(a, b)`: may `a` send to `b`?"""
        pairs = permutations([node.id for node in self.target.nodes], 2)
        self.target.wire.cut([(a, b) for a, b in pairs if not allowed(a, b)])

    def isolate(self, nodes):
        inside = {node.id for node in nodes}
        self.cut(lambda a, b: (a in inside) == (b in inside))
        return "cut off " + names(nodes)


class Halves(Network):
    """A minority on one side, a majority on the other."""

    name = "partition-halves"

    def strike(self):
        return self.isolate(self.some(self.target.minority()))


class IsolatedLeader(Network):
    """A node that leads a group is alone."""

    name = "partition-leader"

    def strike(self):
        return self.isolate([self.some_leader()])


class OneWay(Network):
    """One node hears nobody, or nobody hears it."""

    name = "partition-one-way"

    def strike(self):
        node = self.some_leader()
        if self.rng.random() < 0.5:
            self.cut(lambda a, _: a != node.id)
            return f"nobody hears {names([node])}"
        self.cut(lambda _, b: b != node.id)
        return f"{names([node])} hears nobody"


class MajorityRing(Network):
    """Every node sees a majority, and no two see the same one."""

    name = "partition-ring"
    nodes = 5

    def strike(self):
        ring = [node.id for node in self.some(len(self.target.nodes))]
        reach = self.target.minority() // 2
        place = {number: n for n, number in enumerate(ring)}

        def allowed(a, b):
            apart = abs(place[a] - place[b])
            return min(apart, len(ring) - apart) <= reach

        self.cut(allowed)
        return f"ring {ring}"


class Bridge(Network):
    """Two halves that only one node connects."""

    name = "partition-bridge"
    nodes = 5

    def strike(self):
        bridge, *rest = [node.id for node in self.some(len(self.target.nodes))]
        left = set(rest[: len(rest) // 2])
        self.cut(lambda a, b: bridge in (a, b) or (a in left) == (b in left))
        return f"node {bridge} between {sorted(left)} and {sorted(set(rest) - left)}"


class Flapping(Network):
    """Cuts between other nodes every few hundred milliseconds."""

    name = "partition-flapping"
    struck_s = (0.05, 0.6)

    def strike(self):
        for _ in range(6):
            said = self.isolate(self.some(self.target.minority()))
            self.sleep(0.1, 0.7)
            self.target.wire.heal()
            self.sleep(0.05, 0.5)
        return "six times, such as: " + said


class SlowNetwork(Network):
    """Everything takes tens of milliseconds longer."""

    name = "net-delay"

    def strike(self):
        delay_ms, jitter_ms = self.rng.randint(5, 80), self.rng.randint(0, 80)
        self.target.wire.degrade(delay_ms=delay_ms, jitter_ms=jitter_ms)
        return f"{delay_ms} to {delay_ms + jitter_ms} ms one way"


class LossyNetwork(Network):
    """Some of what is sent is lost, and sent again after 200 ms, as TCP would."""

    name = "net-loss"

    def strike(self):
        loss = self.rng.choice([0.01, 0.05, 0.2])
        self.target.wire.degrade(loss=loss)
        return f"{loss:.0%} lost"


ALL = (Halves, IsolatedLeader, OneWay, MajorityRing, Bridge, Flapping, SlowNetwork, LossyNetwork)
