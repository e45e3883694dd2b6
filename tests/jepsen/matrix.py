"""Which runs make up `short` and `all`."""

import nemeses
import workloads

SHORT = (("register", "kill-leader"),)


def pairs(which, only=None):
    if which == "short":
        return [pair for pair in SHORT if only in (None, pair[0])]
    found = []
    for name, workload in workloads.by_name().items():
        found += [(name, nemesis) for nemesis in ["none", *nemeses.by_name()] if nemesis not in workload.excluded]
    return [pair for pair in found if only in (None, pair[0])]
