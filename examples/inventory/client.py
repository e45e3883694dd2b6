"""Buys from a shop until it is told to stop. Every purchase has a number of its own, and is asked for until answered."""

import random
import uuid

from common import KEEP_S, Script, read_script, until_answered

# One hash tag: a script's keys must share a slot.
STOCK, SALES, INITIAL = "{shop}:stock", "{shop}:sales", "{shop}:initial"
SOLD_OUT = "sold out"
KEY = STOCK
SCRIPT = read_script(__file__, "buy.lua")
MOST_PIECES = 3


def prepare(redis, seconds):
    """Fills the shop: with less than 64 clients ask for in the time."""
    pieces = int(500 * seconds)
    for key, value in ((STOCK, pieces), (INITIAL, pieces)):
        until_answered(lambda key=key, value=value: redis.set(key, value))
    until_answered(lambda: redis.delete(SALES))


class Client:
    def __init__(self, redis, name, script=SCRIPT):
        self.name, self.script = name, Script(redis, script)
        # {request: the answer}, for the checker.
        self.answers, self.doubts = {}, 0

    def act(self):
        """One purchase."""
        request, pieces = uuid.uuid4().hex, random.randint(1, MOST_PIECES)
        keys = [STOCK, SALES, f"{{shop}}:request:{request}"]
        args = [request, self.name, pieces, KEEP_S]
        self.answers[request] = until_answered(lambda: self.script(keys, args), on_doubt=self.doubt)

    def doubt(self, _error):
        self.doubts += 1
