"""Histories of `append` in the format of Elle, for other checkers to judge: Elle itself, or `adya` in Rust.

tests/jepsen/run.sh elle --out FOLDER > history.elle.jsonl
adya check -m list-append -c strict-serializable history.elle.jsonl
"""

import json

from history import INFO

FIRST_OF_OTHERS = 1000


def lines(ops):
    """An invocation and a completion for each. A client whose call is unknown goes on as another process."""
    events, process, others = [], {}, FIRST_OF_OTHERS
    for op in ops:
        own = process.get(op.client, op.client)
        events.append((op.start, 1, "invoke", own, op))
        events.append((op.end, 0, op.outcome, own, op))
        if op.outcome == INFO:
            process[op.client], others = others, others + 1
    events.sort(key=lambda event: event[:2])
    for index, (time, _, kind, own, op) in enumerate(events):
        done = op.result if kind == "ok" else [None] * len(op.value)
        value = [
            [k, key, v] if k == "append" else ["r", key, read] for (k, key, v), read in zip(op.value, done, strict=True)
        ]
        yield json.dumps({"index": index, "type": kind, "process": own, "time": int(time * 1e9), "value": value})
