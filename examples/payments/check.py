"""What must hold of the bank, whatever was killed: no money is made or lost, no account is overdrawn, and the journal,
replayed from the beginning, gives the balances."""

from client import ACCOUNTS, BALANCES, INITIAL, JOURNAL, REFUSED
from common import entries, until_answered


def check(redis, answers):
    """The figures, and what is wrong. `answers`: {request: what its client was told}."""
    balances = {account: int(balance) for account, balance in until_answered(lambda: redis.hgetall(BALANCES)).items()}
    journal = entries(redis, JOURNAL)
    replayed = {str(account): INITIAL for account in range(ACCOUNTS)}
    overdrawn = 0
    for _, fields in journal:
        replayed[fields["from"]] -= int(fields["amount"])
        replayed[fields["to"]] += int(fields["amount"])
        overdrawn += replayed[fields["from"]] < 0
    recorded = {fields["request"]: number for number, fields in journal}
    told = {request: answer for request, answer in answers.items() if answer != REFUSED}
    wrong = []
    if sum(balances.values()) != ACCOUNTS * INITIAL:
        wrong.append(f"the balances' sum is {sum(balances.values())}, not {ACCOUNTS * INITIAL}")
    if overdrawn or min(balances.values()) < 0:
        wrong.append(f"{overdrawn} transfers overdrew an account; the lowest balance is {min(balances.values())}")
    if replayed != balances:
        wrong.append(f"{sum(replayed[a] != balances.get(a) for a in replayed)} balances are not what the journal gives")
    if len(recorded) != len(journal):
        wrong.append(f"{len(journal) - len(recorded)} transfers stand in the journal twice")
    if recorded != told:
        wrong.append(f"{len(recorded.items() ^ told.items())} transfers are not what their clients were told")
    figures = {"sum": sum(balances.values()), "transfers": len(journal), "refused": len(answers) - len(told)}
    return figures, wrong
