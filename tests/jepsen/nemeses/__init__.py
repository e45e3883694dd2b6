"""Nemeses: what is done to the cluster while clients work, on a schedule that the seed decides. `ALL` is the list."""

import random
import threading
import time
import traceback

from history import Fault

CALM_S = (1.0, 2.5)
STRUCK_S = (1.2, 3.5)


class Nemesis:
    """One kind of fault. `strike` says what it did, in a few words; `relieve` undoes it, and may say it better."""

    name = ""
    # What the target must have been built with.
    needs_wire = needs_shim = False
    nodes = 3
    # It waits for the cluster to serve, so nothing else may strike meanwhile.
    alone = False
    # What is promised holds under it.
    survivable = True
    struck_s = STRUCK_S

    def __init__(self, target, rng):
        self.target, self.rng = target, rng

    def strike(self):
        raise NotImplementedError

    def relieve(self):
        """By default everything that can be healed is."""
        self.target.heal()

    def sleep(self, least_s, most_s):
        time.sleep(self.rng.uniform(least_s, most_s))

    def some_leader(self):
        """A node that leads a group, or any if nobody knows one."""
        return self.rng.choice(self.target.leaders() or self.target.nodes)

    def some(self, count):
        return self.rng.sample(self.target.nodes, count)


class Schedule(threading.Thread):
    """Strikes and relieves in turn until stopped; with several nemeses, draws one or two at the same time."""

    def __init__(self, nemeses, rng, history):
        super().__init__(daemon=True)
        self.nemeses, self.rng, self.history = nemeses, rng, history
        self.halt = threading.Event()
        self.failure = None

    def run(self):
        try:
            while self.nemeses and not self.halt.wait(self.rng.uniform(*CALM_S)):
                self._once(self._drawn())
        except Exception:
            self.failure = traceback.format_exc()

    def _drawn(self):
        count = min(len(self.nemeses), self.rng.randint(1, 2))
        drawn = self.rng.sample(self.nemeses, count)
        return drawn[:1] if any(nemesis.alone for nemesis in drawn) else drawn

    def _once(self, together):
        """The second one strikes while the first one's fault lasts."""
        begun = []
        for nemesis in together:
            start = self.history.now()
            begun.append((nemesis, start, nemesis.strike()))
            self.halt.wait(self.rng.uniform(*nemesis.struck_s))
        for nemesis, start, what in begun:
            what = nemesis.relieve() or what
            self.history.faults.append(Fault(nemesis.name, start, self.history.now(), what))

    def stop(self):
        self.halt.set()
        self.join()
        if self.failure:
            raise RuntimeError(f"the nemesis failed: {self.failure}")


def by_name():
    from nemeses import clients, clock, disk, members, network, process, slots

    kinds = [kind for module in (process, network, disk, clock, clients, slots, members) for kind in module.ALL]
    return {kind.name: kind for kind in kinds}


def named(names):
    """The classes of `a+b`; `none` is none."""
    return [by_name()[name] for name in names.split("+") if name != "none"]


def rng_of(seed, what):
    """Independent streams from one seed."""
    return random.Random(f"{seed}/{what}")
