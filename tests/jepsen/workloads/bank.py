"""A bank: transfers by script between accounts of a slot. Money is neither made nor lost, in any read.

Each transfer also leaves a record. At the end the records must hold every acknowledged transfer once, no refused one,
and add up to the balances.
"""

from checkers import Anomaly
from history import FAIL, OK
from workloads import Workload

BANKS = 4
ACCOUNTS = 6
OPENING_BALANCE = 100

TRANSFER = """
local amount = tonumber(ARGV[1])
if tonumber(redis.call('GET', KEYS[1])) < amount then return 0 end
redis.call('DECRBY', KEYS[1], amount)
redis.call('INCRBY', KEYS[2], amount)
redis.call('HSET', KEYS[3], ARGV[2], ARGV[3])
return 1
"""


class Bank(Workload):
    name = "bank"

    def account(self, bank, number):
        return f"{{bank:{bank}}}:{number}"

    def accounts(self, bank):
        return [self.account(bank, n) for n in range(ACCOUNTS)]

    def records(self, bank):
        return f"{{bank:{bank}}}:records"

    def prepare(self, worker):
        for bank in range(BANKS):
            words = [word for key in self.accounts(bank) for word in (key, OPENING_BALANCE)]
            worker.insist("open", f"bank:{bank}", None, lambda w=words: worker.client.call(w[0], "MSET", *w))

    def step(self, worker):
        bank = worker.rng.randrange(BANKS)
        if worker.rng.random() < 0.3:
            worker.attempt("read", f"bank:{bank}", None, lambda: self.balances(worker.client, bank, worker.rng))
            return
        source, target = worker.rng.sample(range(ACCOUNTS), 2)
        number, amount = worker.number_of("transfer"), worker.rng.randint(1, 40)
        record = f"{source}>{target}:{amount}"
        keys = [self.account(bank, source), self.account(bank, target), self.records(bank)]
        words = ["EVAL", TRANSFER, 3, *keys, amount, number, record]
        worker.attempt("transfer", f"bank:{bank}", [number, record], lambda: worker.client.call(keys[0], *words))

    def balances(self, client, bank, rng):
        """By one MGET, or by GETs in a transaction."""
        keys = self.accounts(bank)
        if rng.random() < 0.5:
            return [int(v) for v in client.call(keys[0], "MGET", *keys)]
        return [int(v) for v in client.transaction(keys[0], [("GET", key) for key in keys])]

    def finish(self, worker):
        for bank in range(BANKS):
            worker.insist("audit", f"bank:{bank}", None, lambda b=bank: self.books(worker.client, b))

    def books(self, client, bank):
        """Balances and records of one moment: a transfer of unknown outcome may still come between two reads."""
        keys = self.accounts(bank)
        *balances, pairs = client.transaction(keys[0], [*(("GET", k) for k in keys), ("HGETALL", self.records(bank))])
        return {"balances": [int(v) for v in balances], "records": records(pairs)}

    def check(self, history):
        anomalies = []
        for op in history.ops:
            if op.kind == "read" and op.outcome == OK:
                if sum(op.result) != ACCOUNTS * OPENING_BALANCE or min(op.result) < 0:
                    what = f"balances {op.result} add up to {sum(op.result)}"
                    anomalies.append(Anomaly("money made or lost", what, [op]))
        for op in history.ops:
            if op.kind == "audit" and op.outcome == OK:
                anomalies += audit(op, [o for o in history.ops if o.key == op.key])
        return anomalies


def records(pairs):
    return {number.decode(): record.decode() for number, record in zip(pairs[::2], pairs[1::2], strict=True)}


def audit(final, ops):
    """The records against what clients were told, and against the balances."""
    noted = final.result["records"]
    anomalies, balances = [], [OPENING_BALANCE] * ACCOUNTS
    for record in noted.values():
        way, amount = record.split(":")
        source, target = map(int, way.split(">"))
        balances[source] -= int(amount)
        balances[target] += int(amount)
    for op in ops:
        recorded = op.kind == "transfer" and str(op.value[0]) in noted
        if op.kind == "transfer" and op.outcome == OK and bool(op.result) != recorded:
            kind = "phantom" if recorded else "lost write"
            anomalies.append(Anomaly(kind, f"transfer {op.value} and the records differ", [op]))
        if recorded and op.outcome == FAIL:
            anomalies.append(Anomaly("failed write took effect", f"transfer {op.value} is recorded", [op]))
    if final.result["balances"] != balances:
        what = f"balances {final.result['balances']}, but the records add up to {balances}"
        anomalies.append(Anomaly("not atomic", what, [final]))
    return anomalies
