"""Moves money between accounts until it is told to stop. Every transfer has a number, and is asked for until answered."""

import random
import uuid

from common import KEEP_S, Script, read_script, until_answered

BALANCES, JOURNAL = "{bank}:balances", "{bank}:journal"
REFUSED = "refused"
KEY = BALANCES
SCRIPT = read_script(__file__, "transfer.lua")
ACCOUNTS, INITIAL, MOST = 100, 100, 60


def prepare(redis, _seconds):
    """Opens the accounts."""
    until_answered(lambda: redis.delete(BALANCES, JOURNAL))
    until_answered(lambda: redis.hset(BALANCES, mapping={str(account): INITIAL for account in range(ACCOUNTS)}))


class Client:
    def __init__(self, redis, _name, script=SCRIPT):
        self.script = Script(redis, script)
        # {request: the answer}, for the checker.
        self.answers, self.doubts = {}, 0

    def act(self):
        """One transfer."""
        request = uuid.uuid4().hex
        source, target = random.sample(range(ACCOUNTS), 2)
        keys = [BALANCES, JOURNAL, f"{{bank}}:request:{request}"]
        args = [request, source, target, random.randint(1, MOST), KEEP_S]
        self.answers[request] = until_answered(lambda: self.script(keys, args), on_doubt=self.doubt)

    def doubt(self, _error):
        self.doubts += 1
