"""Wall clocks that jump. Nothing that is promised may depend on them, but how long a key lives does."""

from nemeses import Nemesis
from nemeses.process import names


class ClockJump(Nemesis):
    """Some nodes' clocks jump, forwards or back, by up to minutes; later they are right again."""

    name = "clock-jump"
    needs_shim = True

    def strike(self):
        said = []
        for node in self.some(self.rng.randint(1, len(self.target.nodes))):
            offset_s = self.rng.choice([-1, 1]) * self.rng.choice([0.2, 2, 30, 300])
            node.faults.clock(offset_s)
            said.append(f"{names([node])} {offset_s:+g} s")
        return ", ".join(said)

    def relieve(self):
        for node in self.target.nodes:
            node.faults.clock(0.0)


class ClockStrobe(ClockJump):
    """Clocks jump to and fro many times a second."""

    name = "clock-strobe"

    def strike(self):
        for _ in range(40):
            for node in self.target.nodes:
                node.faults.clock(self.rng.uniform(-2.0, 2.0))
            self.sleep(0.01, 0.1)
        return "all, within 2 s of the right time, 40 times"


ALL = (ClockJump, ClockStrobe)
