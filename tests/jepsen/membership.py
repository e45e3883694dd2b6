"""Who is in the cluster: nodes join and leave by `quoris ctl`; each change is asked for until it is known to be done.

What an administrator must not do is not done either. A node goes for good, with what it has on disk, only if every
group has all members for its voters; and the next one leaves when no group counts on the last one any more.
"""

import random
import subprocess
import threading
import time

import cluster

PATIENCE_S = 20.0
CHECK_S = 0.1
# What a node says that ends because it was removed, and how near the end of its log.
REFUSAL = "removed from the cluster"
LAST_WORDS = 1000
NEVER = threading.Event()


class Membership:
    """The changes of a target's members that are under way: at most one node joins, and at most one leaves."""

    def __init__(self, target):
        self.target, self.rng = target, random.Random(1)
        self.joining = self.leaving = None
        # What a command said last.
        self.said = ""
        # What must never be.
        self.wrongs = []

    def join(self, halt):
        """Another node, or the one whose joining was broken off, is made a member and started; None if that failed."""
        node = self.joining = self.joining or self.target.new_node()
        said = self.ctl(["add-node", node.as_member()], halt)
        if said is None:
            return None
        # As the cluster says itself, a node is to be started.
        node.settings["initial_cluster"] = said.split("--initial-cluster")[1].split()[0]
        node.start()
        self.target.nodes = [*self.target.nodes, node]
        self.joining = None
        return node

    def leave(self, node, lost, halt, patience_s=PATIENCE_S):
        """Takes the node out; `lost`: as one that is down for good, which must be one that can be spared. Whether every
        group has let go of it."""
        self.leaving, node.is_lost = node, lost
        self.target.nodes = [other for other in self.target.nodes if other is not node]
        if lost:
            node.kill()
        return self.let_go(halt, patience_s)

    def let_go(self, halt, patience_s=PATIENCE_S):
        """Whether every group has let go of the one that leaves. If so, it ends by itself."""
        node = self.leaving
        if self.ctl(["remove-node", str(node.id)], halt, patience_s) is None:
            self.check_end(node)
            return False
        node.is_lost = True
        self.target.gone.append(node)
        self.leaving = None
        return True

    def check_end(self, node):
        """A node that leaves must not end, as one that was removed, while a group counts on it."""
        if not node.is_lost and not node.running and REFUSAL in node.log_text()[-LAST_WORDS:]:
            found = [f"{node} has ended, and {words}" for words in self.counting_on(node)]
            self.wrongs += [words for words in found if words not in self.wrongs]

    def counting_on(self, node):
        """The groups for which the node is a voter or a learner, as those say that lead them in the newest term."""
        states = [state for member in self.target.answering() if (state := member.status())]
        rows = [(state["node_id"], group) for state in states for group in state["groups"]]
        newest = {}
        for _, group in rows:
            newest[group["id"]] = max(group["term"], newest.get(group["id"], 0))
        for said_by, group in rows:
            leads = group["leader"] == said_by and group["term"] == newest[group["id"]]
            if leads and node.id in group["voters"] + group["learners"]:
                yield f"node {said_by}, which leads group {group['id']}, counts on it"

    def finish(self, halt=NEVER):
        """Goes on with what has begun. Whether nothing is left."""
        if self.joining:
            self.join(halt)
        if self.leaving:
            self.let_go(halt)
        return not self.joining and not self.leaving

    def can_spare(self, node):
        """Whether the node may be lost for good: every other member holds that all of them vote in every group."""
        return not self.joining and not self.leaving and not self.difference(without=node)

    def difference(self, without=None):
        """Which member does not itself hold the members to be all members and the voters of every group; or nothing."""
        ids = sorted(node.id for node in self.target.nodes)
        for node in self.target.nodes:
            if node is without:
                continue
            state = node.status() if node.running and not node.paused else None
            if not state:
                return f"{node} does not answer"
            said = sorted(member["id"] for member in state["nodes"])
            if said != ids:
                return f"{node} holds {said} to be the members, not {ids}"
            for group in state["groups"]:
                voters, learners = group["voters"], group["learners"]
                if sorted(voters) != ids or learners:
                    return f"at {node}, {voters} vote in group {group['id']}, not {ids}; {learners} learn"
        return ""

    def remaining(self):
        """Which removed node still runs and does not have to; or nothing."""
        for node in self.target.gone:
            if node.running and not self.is_forgotten(node):
                return f"{node} was removed, and has not ended"
        return ""

    def is_forgotten(self, node):
        """A removed node that knows of nobody who is left cannot learn that it was removed. It is ended then."""
        state, members = node.status(), {node.id for node in self.target.nodes}
        if not state or members & {known["id"] for known in state["nodes"]}:
            return False
        node.kill()
        return True

    def wait_settled(self, limit_s):
        """Until nothing is under way, the members are the voters of every group, and who was removed has ended."""
        deadline = time.monotonic() + limit_s
        while left := self.unsettled():
            assert time.monotonic() < deadline, f"the members have not settled within {limit_s:.0f} s: {left}"
            time.sleep(CHECK_S)

    def unsettled(self):
        if not self.finish():
            return f"joining: {self.joining}, leaving: {self.leaving}, and quoris ctl said: {self.said}"
        return self.difference() or self.remaining()

    def ctl(self, words, halt, patience_s=PATIENCE_S):
        """What `quoris ctl` said, or None if it failed or was broken off: it is done then, or not."""
        asked = [*self.target.answering(), *([self.leaving] if self.leaving and self.leaving.running else [])]
        if not asked:
            return None
        node = self.rng.choice(asked)
        command = [cluster.binary(), "ctl", "--addr", node.client_addr, *words]
        deadline = time.monotonic() + patience_s
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asking:
            while asking.poll() is None:
                if halt.wait(0.02) or time.monotonic() > deadline:
                    asking.kill()
            said, self.said = asking.stdout.read(), asking.stderr.read().strip()
        return said if asking.returncode == 0 else None
