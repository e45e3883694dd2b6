"""Slots that change groups while clients use them."""

import random
import subprocess
import threading

from cluster import SLOTS, binary
from nemeses import Nemesis
from resp import Connection, ReplyError, key_slot

PATIENCE_S = 1.0
USED, UNUSED = 6, 10


class MoveSlots(Nemesis):
    """One group after the other is to serve slots that clients use, and some that they do not."""

    name = "move-slots"

    def strike(self):
        self.halt, self.moves, self.ended = threading.Event(), 0, 0
        # A generator of its own: how many moves there is time for must not change what strikes next.
        rng = random.Random(self.rng.random())
        self.mover = threading.Thread(target=self.keep_moving, args=(rng,), daemon=True)
        self.mover.start()
        return f"{USED} slots in use and {UNUSED} others"

    def relieve(self):
        self.halt.set()
        self.mover.join()
        return f"{self.moves} moves, {self.ended} of them seen to their end"

    def keep_moving(self, rng):
        while not self.halt.is_set():
            slots, groups = self.slots(rng), [g["id"] for g in (self.target.status() or {"groups": []})["groups"]]
            nodes = self.target.answering()
            if groups and nodes:
                self.moves += 1
                self.ended += self.move(rng.choice(nodes).client_addr, slots, rng.choice(groups))
            self.halt.wait(rng.uniform(0, 0.2))

    def move(self, addr, slots, to):
        """Whether it came to its end. One that is broken off has begun or not; if so, whoever leads the groups goes on."""
        words = ["ctl", "--addr", addr, "move", "--slots", ",".join(map(str, slots)), "--to", str(to)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([binary(), *words], **quiet) as moving:
            while moving.poll() is None:
                if self.halt.wait(0.02):
                    moving.kill()
        return moving.returncode == 0

    def slots(self, rng):
        used = set()
        for node in self.target.answering():
            try:
                with Connection(node.client_addr, PATIENCE_S) as connection:
                    used |= {key_slot(key.decode()) for key in connection.call("KEYS", "*")}
            except (OSError, ReplyError):
                pass
        used = sorted(used)
        return {*rng.sample(used, min(USED, len(used))), *(rng.randrange(SLOTS) for _ in range(UNUSED))}


ALL = (MoveSlots,)
