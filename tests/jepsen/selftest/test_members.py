"""What the harness takes for a member, when it lets one be lost, and when it calls the members settled."""

import random

import cluster
import pytest
from client import Client
from target import Target


class Process:
    """Stands for a server: it runs until it is killed, and says what it is told to."""

    def __init__(self):
        self.pid, self.said, self.ended = 1, None, False

    def poll(self):
        return 0 if self.ended else None

    def kill(self):
        self.ended = True

    def wait(self):
        pass

    def send_signal(self, signal):
        pass


@pytest.fixture
def target(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster.Node, "start", lambda node: setattr(node, "process", Process()))
    monkeypatch.setattr(cluster.Node, "pause", lambda node: setattr(node, "paused", True))
    monkeypatch.setattr(cluster.Node, "status", lambda node: node.process.said if node.running else None)
    target = Target(tmp_path / "nodes", nodes=3, groups=1)
    target.start()
    agree(target)
    return target


def agree(target, voters=None, learners=()):
    """Every member says who the members are, and that the voters are they, or `voters`."""
    ids = [node.id for node in target.nodes]
    group = {"id": 0, "leader": ids[0], "voters": voters or ids, "learners": list(learners)}
    for node in target.nodes:
        node.process.said = {"nodes": [{"id": i} for i in ids], "groups": [dict(group)]}


def answering(target, monkeypatch, *answers):
    """`quoris ctl` gives these answers, one after the other; what it was asked."""
    asked, answers = [], list(answers)

    def ctl(words, *_):
        asked.append(words)
        return answers.pop(0)

    monkeypatch.setattr(target.membership, "ctl", ctl)
    return asked


def test_a_node_that_joins_is_a_member_once_it_is_known_to_be(target, monkeypatch):
    said = "start it:\n\n  quoris serve \\\n    --initial-cluster 1=a:1@a:2,4=b:1@b:2\n\nIt votes"
    asked = answering(target, monkeypatch, None, said)
    assert target.membership.join(None) is None
    assert [node.id for node in target.nodes] == [1, 2, 3]
    node = target.membership.join(None)
    assert asked == [["add-node", node.as_member()]] * 2, "the same one, asked for again"
    assert [n.id for n in target.nodes] == [1, 2, 3, 4]
    assert node.running and node.config()["initial_cluster"] == "1=a:1@a:2,4=b:1@b:2"


def test_a_removed_node_is_healed_until_it_is_let_go_and_then_never(target, monkeypatch):
    one = target.node(1)
    answering(target, monkeypatch, None, "gone")
    assert not target.membership.leave(one, False, None)
    assert one not in target.nodes and one.client_addr not in target.addrs()
    one.kill()
    target.heal()
    assert one.running, "a group may still count on it"
    assert target.membership.finish()
    one.kill()
    target.heal()
    assert not one.running
    one.start(although_lost=True)
    assert one.client_addr in target.addrs(), "clients may find it"


def test_a_lost_node_is_not_healed(target, monkeypatch):
    one = target.node(1)
    answering(target, monkeypatch, None)
    target.membership.leave(one, True, None)
    target.heal()
    assert not one.running


def test_who_may_be_lost(target, monkeypatch):
    membership, one = target.membership, target.node(1)
    assert membership.can_spare(one)
    agree(target, voters=[1, 2])
    assert not membership.can_spare(one), "two vote, and one of them would be lost"
    agree(target)
    one.kill()
    assert membership.can_spare(one), "it need not answer itself"
    target.node(2).pause()
    assert not membership.can_spare(one)
    target.node(2).resume()
    answering(target, monkeypatch, None)
    membership.leave(target.node(3), False, None)
    agree(target)
    assert not membership.can_spare(one), "another one is on its way out"


def test_a_node_that_leaves_must_not_end_while_a_group_counts_on_it(target, monkeypatch):
    one, two, membership = target.node(1), target.node(2), target.membership
    answering(target, monkeypatch, *[None] * 5)
    membership.leave(one, False, None)
    for node in target.nodes:
        group = {"id": 0, "term": 7, "leader": 2, "voters": [1, 2, 3], "learners": []}
        node.process.said = {"node_id": node.id, "nodes": [], "groups": [group]}
    one.kill()
    membership.let_go(None)
    assert not membership.wrongs, "it was killed"
    one.dir.mkdir(parents=True)
    one.log_path.write_text("quoris: this node was removed from the cluster")
    target.node(3).process.said["groups"][0]["term"] = 8
    membership.let_go(None)
    assert not membership.wrongs, "who says so may lead no more"
    target.node(3).process.said["groups"][0]["term"] = 7
    membership.let_go(None)
    assert membership.wrongs == [f"{one} has ended, and node 2, which leads group 0, counts on it"]
    assert target.complaints() == membership.wrongs
    two.process.said["groups"][0]["voters"] = [2, 3]
    membership.wrongs.clear()
    membership.let_go(None)
    assert not membership.wrongs


def test_settled(target):
    membership = target.membership
    assert membership.unsettled() == ""
    agree(target, learners=[4])
    assert "[4] learn" in membership.unsettled()
    agree(target, voters=[1, 2])
    assert "[1, 2] vote in group 0" in membership.unsettled()
    agree(target)
    target.node(2).process.said["nodes"].append({"id": 9})
    assert "node 2" in membership.unsettled(), "one that is behind"
    with pytest.raises(AssertionError, match="have not settled"):
        membership.wait_settled(0.0)


def test_who_was_removed_must_end_unless_nobody_is_left_to_tell_it(target, monkeypatch):
    one, membership = target.node(1), target.membership
    answering(target, monkeypatch, "gone")
    membership.leave(one, False, None)
    agree(target)
    assert "has not ended" in membership.unsettled()
    one.process.said = {"nodes": [{"id": 1}, {"id": 8}], "groups": []}
    assert membership.unsettled() == "" and not one.running


def test_clients_learn_who_is_there_now():
    there = ["a", "b"]
    client = Client(lambda: there, random.Random(1), True, 1.0)
    assert client.home in ("a", "b")
    there[:] = ["c"]
    client.forsake(client.home)
    assert client.home == "c"
