"""Reads `quoris ctl status --json` for the shell scripts of this directory (no package beyond Python's own).

    status.py summary BINARY ADDR…   one line on how far the cluster has come; exit 0 if it is ready, else 1
    status.py leaders BINARY ADDR…   "GROUP NODE" lines as the first node that answers sees them
    status.py votes BINARY NODE ADDR…   in how many groups the node votes, as who knows least sees it; exit 0 if in all

Ready: every address answers, every group has a leader, the leaders are spread over the nodes, and the groups' slots
cover all 16384.
"""

import json
import subprocess
import sys

CTL_LIMIT_S = 5
SLOTS = 16384


def status(binary, addr):
    """The node's status, or None if it does not answer."""
    command = [binary, "ctl", "--addr", addr, "status", "--json"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=CTL_LIMIT_S, check=True)
        return json.loads(done.stdout)
    except (subprocess.SubprocessError, json.JSONDecodeError):
        return None


def summary(binary, addrs):
    seen = [s for s in (status(binary, addr) for addr in addrs) if s]
    line = f"{len(seen)} of {len(addrs)} nodes answer"
    if not seen:
        return line, False
    # The node that knows least decides: ready means ready through any node.
    led, groups, covered, leaders = min(map(progress, seen))
    spread = leaders == min(groups, len(addrs))
    line += f", {led} of {groups} groups have a leader"
    if led == groups and covered < SLOTS:
        line += f", {SLOTS - covered} slots unassigned"
    if led == groups and not spread:
        line += ", spreading the leaders"
    return line, len(seen) == len(addrs) and groups > 0 and led == groups and covered == SLOTS and spread


def progress(state):
    groups = state["groups"]
    led = sum(group["leader"] is not None for group in groups)
    covered = sum(end - start + 1 for group in groups for start, end in group["slots"])
    leaders = {group["leader"] for group in groups} - {None}
    return led, len(groups), covered, len(leaders)


def votes(binary, node, addrs):
    seen = [s["groups"] for s in (status(binary, addr) for addr in addrs) if s]
    if not seen:
        return "no node answers", False
    groups = len(seen[0])
    voted = min(sum(node in group["voters"] for group in each) for each in seen)
    return f"node {node} votes in {voted} of {groups} groups", voted == groups


def main(verb, binary, *addrs):
    if verb == "summary":
        line, ready = summary(binary, addrs)
        print(line)
        return 0 if ready else 1
    if verb == "votes":
        line, ready = votes(binary, int(addrs[0]), addrs[1:])
        print(line)
        return 0 if ready else 1
    if verb == "leaders":
        state = next((s for s in (status(binary, addr) for addr in addrs) if s), None)
        for group in state["groups"] if state else []:
            print(group["id"], group["leader"] if group["leader"] is not None else "-")
        return 0 if state else 1
    raise SystemExit(__doc__)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    sys.exit(main(*sys.argv[1:]))
