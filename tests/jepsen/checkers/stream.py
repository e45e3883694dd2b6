"""A stream read by a consumer group.

Every acknowledged entry is in the stream, once, at ids that grow with time; each is delivered at least once, to one
consumer unless it was claimed, and never again after it was acknowledged; a group hands out entries in their order.
"""

from checkers import Anomaly, grouped
from history import FAIL, OK


def check(ops):
    """`ops`: add (value; result: id), deliver and claim (result: [[id, value]…]), ack (value: id; result: count), and
    at the end: all (result: [[id, value]…]) and drain (like deliver, what nobody had been given)."""
    return [anomaly for key, of_key in sorted(grouped(ops).items()) for anomaly in check_key(key, of_key)]


def check_key(key, ops):
    final = next((op for op in ops if op.kind == "all" and op.outcome == OK), None)
    anomalies = entries(key, ops, final) if final else []
    deliveries = [op for op in ops if op.kind in ("deliver", "drain") and op.outcome == OK]
    return (
        anomalies
        + once(key, deliveries)
        + in_order(key, deliveries)
        + after_ack(key, ops)
        + all_delivered(key, ops, final)
    )


def entries(key, ops, final):
    anomalies, adds = [], {op.value: op for op in ops if op.kind == "add"}
    at = {}
    for entry, value in final.result:
        add = adds.get(value)
        if value in at:
            anomalies.append(Anomaly("duplicate", f"{value} is in {key} twice", [final]))
        elif add is None:
            anomalies.append(Anomaly("phantom", f"{value} was never added to {key}", [final]))
        elif add.outcome == FAIL:
            anomalies.append(Anomaly("failed write took effect", f"{value} is in {key}", [add]))
        elif add.outcome == OK and add.result != entry:
            anomalies.append(Anomaly("wrong id", f"{value} was acknowledged as {add.result}, and is {entry}", [add]))
        at[value] = numeric(entry)
    done = sorted((op for op in adds.values() if op.outcome == OK), key=lambda op: op.end)
    missing = [op for op in done if op.value not in at]
    if missing:
        anomalies.append(Anomaly("lost write", f"{len(missing)} acknowledged entries are not in {key}", missing[:5]))
    # Ids follow time: an entry that was added later has a greater one.
    place, highest = 0, None
    for op in sorted(adds.values(), key=lambda op: op.start):
        while place < len(done) and done[place].end < op.start:
            if done[place].value in at and (highest is None or at[done[place].value] > at[highest.value]):
                highest = done[place]
            place += 1
        if op.value in at and highest and at[op.value] < at[highest.value]:
            anomalies.append(Anomaly("not linearizable", f"{key}: a later entry has a smaller id", [highest, op]))
            break
    return anomalies


def once(key, deliveries):
    """What is new to the group is handed out once."""
    given, anomalies = {}, []
    for op in deliveries:
        for entry, _ in op.result:
            if given.setdefault(entry, op) is not op:
                anomalies.append(
                    Anomaly("duplicate", f"{entry} of {key} was handed out as new twice", [given[entry], op])
                )
    return anomalies


def in_order(key, deliveries):
    """A delivery that began after another had ended hands out later entries."""
    ended = sorted((op for op in deliveries if op.result), key=lambda op: op.end)
    place, highest = 0, None
    for op in sorted((op for op in deliveries if op.result), key=lambda op: op.start):
        ids = [numeric(entry) for entry, _ in op.result]
        if ids != sorted(ids):
            return [Anomaly("out of order", f"{key}: one delivery is not in order", [op])]
        while place < len(ended) and ended[place].end < op.start:
            last = numeric(ended[place].result[-1][0])
            highest = max(highest or (last, ended[place]), (last, ended[place]), key=lambda pair: pair[0])
            place += 1
        if highest and ids[0] < highest[0]:
            return [Anomaly("out of order", f"{key}: an earlier entry was handed out later", [highest[1], op])]
    return []


def after_ack(key, ops):
    """What was acknowledged is neither delivered nor claimed any more."""
    acked = {op.value: op for op in ops if op.kind == "ack" and op.outcome == OK and op.result}
    for op in ops:
        if op.kind in ("deliver", "claim", "drain") and op.outcome == OK:
            for entry, _ in op.result:
                ack = acked.get(entry)
                if ack and ack.end < op.start:
                    return [Anomaly("delivered after acknowledgement", f"{entry} of {key}", [ack, op])]
    return []


def all_delivered(key, ops, final):
    """At least once, to somebody who was told. What went to one of unknown fate is pending, and claimed at the end."""
    drained = [op for op in ops if op.kind == "drain" and op.outcome == OK]
    if not final or not drained:
        return []
    shown = {
        entry for op in ops if op.kind in ("deliver", "claim", "drain") and op.outcome == OK for entry, _ in op.result
    }
    if missing := [entry for entry, _ in final.result if entry not in shown]:
        what = f"{len(missing)} entries of {key} were never delivered, such as {missing[:3]}"
        return [Anomaly("lost write", what, drained[-1:])]
    return []


def numeric(entry):
    ms, sequence = entry.split("-")
    return int(ms), int(sequence)
