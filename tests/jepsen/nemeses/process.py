"""Processes that die, stand still, and are restarted."""

from nemeses import Nemesis


class KillOne(Nemesis):
    """kill -9 of any node."""

    name = "kill-one"

    def strike(self):
        return self.kill(self.some(1))

    def kill(self, nodes):
        for node in nodes:
            node.kill()
        return "kill -9 " + names(nodes)


class KillLeader(KillOne):
    """kill -9 of a node that leads a group."""

    name = "kill-leader"

    def strike(self):
        return self.kill([self.some_leader()])


class KillMajority(KillOne):
    """kill -9 of one node more than the cluster can spare."""

    name = "kill-majority"

    def strike(self):
        return self.kill(self.some(self.target.minority() + 1))


class KillAll(KillOne):
    """kill -9 of every node at nearly the same time."""

    name = "kill-all"
    struck_s = (0.2, 1.0)

    def strike(self):
        return self.kill(self.target.nodes)


class PauseOne(Nemesis):
    """SIGSTOP of any node, beyond the election timeout, then SIGCONT."""

    name = "pause-one"
    struck_s = (0.3, 4.0)

    def strike(self):
        return self.pause(self.some(1))

    def pause(self, nodes):
        for node in nodes:
            node.pause()
        return "SIGSTOP " + names(nodes)


class PauseLeader(PauseOne):
    """SIGSTOP of a node that leads a group: when it goes on it believes it still leads."""

    name = "pause-leader"

    def strike(self):
        return self.pause([self.some_leader()])


class PauseMajority(PauseOne):
    """SIGSTOP of one node more than the cluster can spare."""

    name = "pause-majority"

    def strike(self):
        return self.pause(self.some(self.target.minority() + 1))


class RollingRestart(Nemesis):
    """One node after the other is stopped gracefully and started again."""

    name = "rolling-restart"
    alone = True
    struck_s = (0.0, 0.5)

    def strike(self):
        for node in self.some(len(self.target.nodes)):
            node.stop()
            self.sleep(0.0, 0.5)
            node.start()
            self.sleep(0.5, 1.5)
        return "SIGTERM and start, one by one"


def names(nodes):
    return "node " + ", ".join(str(node.id) for node in sorted(nodes, key=lambda node: node.id))


ALL = (KillOne, KillLeader, KillMajority, KillAll, PauseOne, PauseLeader, PauseMajority, RollingRestart)
