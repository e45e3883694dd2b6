"""Scores points until it is told to stop. Every score has a number, and is sent until answered."""

import random
import uuid

from common import KEEP_S, Script, read_script, until_answered

BOARD, HISTORY = "{game}:board", "{game}:history"
KEY = BOARD
SCRIPT = read_script(__file__, "score.lua")
PLAYERS, MOST = 200, 50


def prepare(redis, _seconds):
    """An empty board."""
    until_answered(lambda: redis.delete(BOARD, HISTORY))


class Client:
    def __init__(self, redis, _name, script=SCRIPT):
        self.script = Script(redis, script)
        # {request: the answer}, for the checker.
        self.answers, self.doubts = {}, 0

    def act(self):
        """One score."""
        request, player = uuid.uuid4().hex, f"player-{random.randrange(PLAYERS)}"
        keys = [BOARD, HISTORY, f"{{game}}:request:{request}"]
        args = [request, player, random.randint(1, MOST), KEEP_S]
        self.answers[request] = until_answered(lambda: self.script(keys, args), on_doubt=self.doubt)

    def doubt(self, _error):
        self.doubts += 1
