"""Which of the three outcomes each way to fail is. The README has this table in words; here is the only code for it.

An error reply whose first word stands in CERTAINLY_NOT says that the write was not done and will not be. Everything
else that ends a call without a reply of success leaves its fate unknown.
"""

import resp
from resp import NotApplied, ReplyError, Unknown

# Beside those of tests/e2e/resp.py. EXECABORT: a call could not be queued, so nothing of the transaction ran.
# UNBLOCKED: a blocked call was sent away. The others are Redis's own, refusals before a command runs.
CERTAINLY_NOT = frozenset(resp.CERTAINLY_NOT) | {
    "EXECABORT",
    "UNBLOCKED",
    "NOSCRIPT",
    "NOGROUP",
    "BUSYGROUP",
    "MASTERDOWN",
    "NOREPLICAS",
    "MISCONF",
    "NOAUTH",
}


def raise_for(error: ReplyError):
    """The exception that an error reply amounts to."""
    if error.word in CERTAINLY_NOT:
        raise NotApplied(str(error)) from error
    raise Unknown(str(error)) from error
