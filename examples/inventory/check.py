"""What must hold of the shop, whatever was killed: stock + sold = initial, and each sale stands in the stream once."""

from client import INITIAL, SALES, SOLD_OUT, STOCK
from common import entries, until_answered


def check(redis, answers):
    """The figures, and what is wrong. `answers`: {request: what its buyer was told}."""
    stock, initial = (int(until_answered(lambda key=key: redis.get(key))) for key in (STOCK, INITIAL))
    sales = entries(redis, SALES)
    sold = sum(int(fields["pieces"]) for _, fields in sales)
    recorded = {fields["request"]: number for number, fields in sales}
    told = {request: answer for request, answer in answers.items() if answer != SOLD_OUT}
    wrong = []
    if stock < 0:
        wrong.append(f"oversold: the stock is {stock}")
    if stock + sold != initial:
        wrong.append(f"stock {stock} + sold {sold} is not the initial {initial}")
    if len(recorded) != len(sales):
        wrong.append(f"{len(sales) - len(recorded)} sales stand in the stream twice")
    if recorded != told:
        wrong.append(f"{len(recorded.items() ^ told.items())} sales are not what their buyers were told")
    figures = {"initial": initial, "stock": stock, "sold": sold, "sales": len(sales), "asked": len(answers)}
    return figures, wrong
