"""Nodes that join and leave while clients work, so that after a while no node is left of those that began."""

import random
import threading
import time
import traceback

from membership import REFUSAL
from nemeses import Nemesis
from nemeses.process import names

# More than it began with.
MOST_MORE = 2
REFUSED_WITHIN_S = 5.0


class Members(Nemesis):
    """Nodes of new numbers are added, and others removed: leaders, and now and then one that is lost with its disk. A
    removed one comes back at times, with what it had or with nothing, and must be refused."""

    name = "members"

    def __init__(self, target, rng):
        super().__init__(target, rng)
        self.membership, self.least = target.membership, len(target.nodes)

    def strike(self):
        self.halt, self.done, self.failure = threading.Event(), [], ""
        # A generator of its own: how many changes there is time for must not change what strikes next.
        rng = random.Random(self.rng.random())
        self.changer = threading.Thread(target=self.keep_changing, args=(rng,), daemon=True)
        self.changer.start()
        return "nodes join and leave"

    def relieve(self):
        self.halt.set()
        self.changer.join()
        if self.failure:
            raise RuntimeError(self.failure)
        return "; ".join(self.done) or "no change came to its end"

    def keep_changing(self, rng):
        try:
            while not self.halt.is_set():
                self.change(rng)
                self.halt.wait(rng.uniform(0, 0.3))
        except Exception:
            self.failure = traceback.format_exc()

    def change(self, rng):
        count, membership = len(self.target.nodes), self.membership
        back = [node for node in self.target.gone if not node.running]
        if back and rng.random() < 0.15:
            self.come_back(rng.choice(back), rng)
        elif membership.joining or count <= self.least:
            self.join(rng)
        elif membership.leaving:
            self.note(membership.leaving, "is removed", membership.let_go(self.halt))
        elif count >= self.least + MOST_MORE or rng.random() < 0.6:
            self.leave(rng)
        else:
            self.join(rng)

    def join(self, rng):
        node = self.membership.join(self.halt)
        if node:
            self.done.append(f"{names([node])} joins")
            # Else the next change comes while it catches up.
            while rng.random() < 0.9 and not self.halt.wait(0.1) and self.membership.difference():
                pass

    def leave(self, rng):
        leaders = self.target.leaders() if rng.random() < 0.4 else []
        node = rng.choice(leaders or self.target.nodes)
        lost = not node.running or rng.random() < 0.3
        if lost and not self.membership.can_spare(node):
            return
        # Sometimes the next change comes before the groups have let go of it.
        let_go = self.membership.leave(node, lost, self.halt, rng.choice([0.2, 20.0]))
        self.note(node, "is lost and removed" if lost else "is removed", let_go)

    def note(self, node, how, let_go):
        self.done.append(f"{names([node])} {how}" + ("" if let_go else ", not known to be done"))

    def come_back(self, node, rng):
        """A removed node is started again, and its number asked for again. Neither is to be had."""
        if rng.random() < 0.5 and self.membership.ctl(["add-node", node.as_member()], self.halt) is not None:
            self.membership.wrongs.append(f"{node} was removed, and is a member again")
        had = "what it had"
        if rng.random() < 0.3:
            had = "nothing"
            node.wipe()
            node.settings["initial_cluster"] = f"{self.target.initial_cluster()},{node.as_member()}"
        before = len(node.log_text())
        node.faults.clear()
        node.start(although_lost=True)
        self.done.append(f"{names([node])} comes back with {had} and {self.became_of(node, before)}")

    def became_of(self, node, before):
        deadline = time.monotonic() + REFUSED_WITHIN_S
        while node.running and time.monotonic() < deadline:
            state = node.status() or {"groups": []}
            if any(group["leader"] == node.id for group in state["groups"]):
                self.membership.wrongs.append(f"{node} was removed, and leads a group")
            if self.halt.wait(0.1):
                break
        if not node.running:
            if REFUSAL not in (said := node.log_text()[before:]):
                self.membership.wrongs.append(f"{node} was removed, came back and ended otherwise: {said[-500:]}")
            return "is refused"
        # In the end it must be gone.
        return "knows of nobody who is left" if self.membership.is_forgotten(node) else "is not refused yet"


ALL = (Members,)
