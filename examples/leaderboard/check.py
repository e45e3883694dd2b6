"""What must hold of the board, whatever was killed: it is the sum of its history, in which each score stands once."""

from collections import Counter

from client import BOARD, HISTORY
from common import entries, until_answered


def check(redis, answers):
    """The figures, and what is wrong. `answers`: {request: the player's score after it}."""
    board = dict(until_answered(lambda: redis.zrange(BOARD, 0, -1, withscores=True)))
    history = entries(redis, HISTORY)
    folded, recorded, ranking = Counter(), {}, until_answered(lambda: redis.zrevrange(BOARD, 0, -1))
    for _, fields in history:
        folded[fields["player"]] += int(fields["points"])
        recorded[fields["request"]] = str(folded[fields["player"]])
    wrong = []
    if board != folded:
        differ = sum(board.get(player) != score for player, score in folded.items())
        wrong.append(f"{max(differ, abs(len(board) - len(folded)))} scores are not the sum of their history")
    if ranking != sorted(folded, key=lambda player: (folded[player], player), reverse=True):
        wrong.append("the ranking is not that of the history's sums")
    if len(recorded) != len(history):
        wrong.append(f"{len(history) - len(recorded)} scores stand in the history twice")
    if recorded != answers:
        wrong.append(f"{len(recorded.items() ^ answers.items())} scores are not what their senders were told")
    return {"players": len(board), "scores": len(history), "points": sum(folded.values())}, wrong
