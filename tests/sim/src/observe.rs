//! Watches the replicas while a run goes on, through the product's own observation API, and tells the invariants.
//!
//! Each life of a node has a watcher of its own, a task on the node's host that looks at every group every few
//! milliseconds and reports what has changed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quoris_engine::entry::{NodeInfo, SlotRange, Topology};
use quoris_engine::{Machine, SlotId};
use quoris_raft::group::Group;
use quoris_raft::node::Node;
use quoris_raft::observe::{EntryId, Position};
use quoris_raft::types::{GroupId, NodeId};

use crate::coverage::{Coverage, Event};
use crate::invariants::Verdict;
use crate::invariants::committed_is_immutable::CommittedIsImmutable;
use crate::invariants::equal_digest_at_equal_index::EqualDigestAtEqualIndex;
use crate::invariants::log_matching::LogMatching;
use crate::invariants::one_leader_per_term::OneLeaderPerTerm;
use crate::invariants::slots_are_owned_once::{Slots, SlotsAreOwnedOnce};

/// How often a watcher looks.
const INTERVAL: Duration = Duration::from_millis(5);

/// A node must have stopped before a group of it has been seen so often to have failed: within 2.5 s. It waits for its clients
/// for as long as a write may take and a second, DRAIN_MS.
const FAILED_LOOKS: u64 = 500;

/// What a node says of itself and what a leader has in its log may cross on their way here: for so many looks.
const UNREADY_LOOKS: u64 = 20;

/// What all watchers of a run have seen.
#[derive(Default)]
pub struct Observed {
    leaders: OneLeaderPerTerm,
    log_matching: LogMatching,
    committed: CommittedIsImmutable,
    digests: EqualDigestAtEqualIndex,
    slots: SlotsAreOwnedOnce,
    /// The last index applied and its digest, by replica, in the current life of each node.
    states: BTreeMap<(NodeId, GroupId), (u64, u32)>,
    /// Who believes to lead which group.
    leading: BTreeSet<(GroupId, NodeId)>,
    /// The nodes that vote, as far as is known.
    voters: BTreeMap<NodeId, bool>,
    /// Nodes that have lost their disks and do not vote again yet.
    wiped: BTreeSet<NodeId>,
    /// The newest that any node has known of the members.
    members: Arc<Topology>,
    /// Nodes that have become members and do not vote yet.
    joining: BTreeSet<NodeId>,
    /// The nodes that have a watcher.
    alive: BTreeSet<NodeId>,
    /// Up to which of their epochs each replica's group has done what they say, as far as its log goes.
    settled: BTreeMap<(NodeId, GroupId), u64>,
    /// When groups had new leaders, in milliseconds of the simulation.
    pub elections: Vec<(GroupId, u64)>,
    /// The nodes that stand still because a replica has a long script to apply, and its group.
    pub busy: BTreeMap<NodeId, GroupId>,
    /// Rare events.
    pub coverage: Coverage,
    /// What cannot be.
    pub violations: Vec<String>,
}

/// What a run's watchers share.
pub type Shared = Rc<RefCell<Observed>>;

impl Observed {
    fn judge(&mut self, invariant: &str, verdict: Verdict) {
        if let Err(wrong) = verdict {
            self.violate(invariant, wrong);
        }
    }

    /// Notes a violation, unless it has been noted.
    pub fn violate(&mut self, invariant: &str, wrong: String) {
        let line = format!("{invariant}: {wrong}");
        if !self.violations.contains(&line) {
            crate::run::trace(|| format!("VIOLATION {line}"));
            self.violations.push(line);
        }
    }

    /// Whether `node` was voting when it was last seen.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.get(&node).copied().unwrap_or(false)
    }

    /// Whether `node` believes to lead any group.
    pub fn is_leader(&self, node: NodeId) -> bool {
        self.leading.iter().any(|(_, leader)| *leader == node)
    }

    fn votes(&mut self, node: NodeId, is_voter: bool) {
        let was = self.voters.insert(node, is_voter);
        if is_voter && self.wiped.remove(&node) {
            self.coverage.count(Event::NewcomerCaughtUp);
        }
        if is_voter && self.joining.remove(&node) {
            self.coverage.count(Event::NodeJoined);
        }
        if was != Some(is_voter) {
            crate::run::trace(|| format!("node {node} votes: {is_voter}"));
        }
    }

    /// `node`'s disk was wiped.
    pub fn wiped(&mut self, node: NodeId) {
        self.voters.insert(node, false);
        self.wiped.insert(node);
        self.coverage.count(Event::DiskWiped);
        self.stopped(node);
    }

    /// `node` has ended by itself, because of `reason`; `excused` if its disk was told to fail.
    pub fn ended(&mut self, node: NodeId, reason: &str, excused: bool) {
        if self.members.has_removed(node) && reason.contains("was removed from the cluster") {
            self.coverage.count(Event::RemovedStopped);
        } else if excused {
            self.coverage.count(Event::DiskFailed);
        } else {
            self.violate("a node stops only when its disk fails", format!("node {node}: {reason}"));
        }
        self.stopped(node);
    }

    /// `node` runs no longer.
    pub fn stopped(&mut self, node: NodeId) {
        self.states.retain(|(of, _), _| *of != node);
        self.leading.retain(|(_, leader)| *leader != node);
        self.busy.remove(&node);
        self.alive.remove(&node);
    }

    /// Whether all members vote, in all of `groups` groups, and nobody else does in any.
    pub fn all_vote(&self, groups: u64) -> bool {
        let in_all = |node| {
            let settled = |group| self.settled.get(&(node, group as GroupId)) == Some(&self.members.epoch);
            self.is_voter(node) && (0..groups).all(settled)
        };
        !self.members.nodes.is_empty() && self.members.nodes.iter().all(|node| in_all(node.id))
    }

    /// Whether that is so, and the members' replicas of each of `groups` groups have applied the same entries.
    pub fn have_converged(&self, groups: u64) -> bool {
        let state = |node, group| self.states.get(&(node, group as GroupId)).map(|(index, _)| *index);
        let equal = |group| {
            let mut states = self.members.nodes.iter().map(|node| state(node.id, group));
            let first = states.next().flatten();
            first.is_some() && states.all(|state| state == first)
        };
        let at_rest = || self.slots.all_are_owned().is_ok();
        let gone = |node: &NodeInfo| !self.alive.contains(&node.id);
        self.all_vote(groups) && (0..groups).all(equal) && at_rest() && self.members.removed.iter().all(gone)
    }

    /// `node` knows these members. Any change that is news has been committed.
    fn knows(&mut self, topology: Arc<Topology>) {
        if topology.epoch <= self.members.epoch {
            return;
        }
        for node in topology.nodes.iter().filter(|node| self.members.node(node.id).is_none()) {
            // All are news at first.
            if self.members.epoch > 0 {
                self.joining.insert(node.id);
            }
        }
        for node in topology.removed.iter().filter(|node| !self.members.has_removed(node.id)) {
            self.coverage.count(Event::NodeRemoved);
            if self.is_leader(node.id) {
                self.coverage.count(Event::LeaderRemoved);
            }
        }
        crate::run::trace(|| format!("the members are {topology:?}"));
        self.members = topology;
    }

    /// The newest that any node has known of the members.
    pub fn members(&self) -> &Topology {
        &self.members
    }

    fn has_settled(&mut self, node: NodeId, group: GroupId, epoch: u64) {
        self.settled.insert((node, group), epoch);
    }

    /// The end: what can only be judged when everything has been seen.
    pub fn finish(&mut self) {
        let verdict = self.slots.all_are_owned();
        self.judge("slots are owned once", verdict);
        self.coverage.add(Event::DigestCompared, self.digests.compared);
    }

    /// How far each replica is, for people.
    pub fn summary(&self) -> String {
        let state = |((node, group), (index, digest)): (&(NodeId, GroupId), &(u64, u32))| {
            format!("n{node}/g{group} {index} {digest:08x}")
        };
        let states: Vec<String> = self.states.iter().map(state).collect();
        let removed: Vec<NodeId> = self.members.removed.iter().map(|node| node.id).collect();
        let alive = &self.alive;
        format!("voters {:?}; running {alive:?}, removed {removed:?}; {}", self.voters, states.join(", "))
    }
}

/// What a watcher knows of one replica.
#[derive(Default)]
struct Known {
    position: Option<Position>,
    applied: u64,
    /// Entries that were not applied yet when they were seen.
    tail: Vec<EntryId>,
    founded: bool,
    /// The slots that it served.
    served: Option<Slots>,
    /// Snapshots that came up in this life.
    snapshots: u64,
    /// How often it was seen to have failed, its node being there.
    failed: u64,
    /// Up to which epoch of the members its group has done what they say.
    settled: u64,
    /// How often in a row the group was seen to count on a node that has not caught up.
    unready: u64,
}

/// Watches `node` for as long as it lives.
pub async fn watch(observed: Shared, node: Arc<Node>) {
    let mut known: Vec<Known> = node.groups().iter().map(|_| Known::default()).collect();
    loop {
        let topology = node.topology();
        observed.borrow_mut().alive.insert(node.id());
        observed.borrow_mut().votes(node.id(), node.is_voter());
        observed.borrow_mut().knows(Arc::clone(&topology));
        for (group, known) in node.groups().iter().zip(&mut known) {
            if known.settled < topology.epoch && group.has_settled(&topology) {
                known.settled = topology.epoch;
                observed.borrow_mut().has_settled(node.id(), group.id(), known.settled);
            }
            look_for_the_unready(&mut observed.borrow_mut(), group, known);
            look(&observed, &node, group, known).await;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// A group must not count on the vote of a node that has joined and does not vote yet, though it is there to say so.
fn look_for_the_unready(observed: &mut Observed, group: &Group, known: &mut Known) {
    let unready = observed.joining.intersection(&observed.alive).next().copied();
    let counted = unready.filter(|id| group.is_leader() && group.status().voters.contains(id));
    known.unready = if counted.is_some() { known.unready + 1 } else { 0 };
    if let (Some(id), UNREADY_LOOKS) = (counted, known.unready) {
        let wrong = format!("node {id} has a vote in group {}, and cannot give it yet", group.id());
        observed.violate("who votes has caught up", wrong);
    }
}

async fn look(observed: &Shared, node: &Node, group: &Group, known: &mut Known) {
    // What is applied is looked at first: the log then has those entries for good.
    let applied = group.with_machine(Machine::applied);
    let position = group.position();
    if position.has_failed {
        known.failed += 1;
        if known.failed == FAILED_LOOKS {
            let wrong = format!("node {} goes on though its group {} has failed", node.id(), group.id());
            observed.borrow_mut().violate("a node stops when it cannot keep its promise", wrong);
        }
    }
    if known.applied == applied && known.position == Some(position) {
        return;
    }
    if let Some(difference) = group.difference() {
        let wrong = format!("node {} serves group {} no longer: {difference:?}", node.id(), group.id());
        observed.borrow_mut().violate("no replica finds itself different", wrong);
    }
    note_position(&mut observed.borrow_mut(), node.id(), group.id(), known, position);
    known.position = Some(position);
    if known.applied != applied {
        look_at_machine(observed, node, group, known);
    }
    // From the last applied entry on, whose successor is new; at the beginning of a life all of the log. If the disk
    // has failed, the node is about to stop.
    if let Ok(entries) = node.entry_ids(group.id(), known.applied..u64::MAX).await {
        look_at_log(&mut observed.borrow_mut(), node.id(), group.id(), applied, known, entries);
    }
    known.applied = applied;
}

fn look_at_log(
    observed: &mut Observed,
    node: NodeId,
    group: GroupId,
    applied: u64,
    known: &mut Known,
    entries: Vec<EntryId>,
) {
    // A snapshot may have been installed over entries that it contradicts, and that are about to go: what ends before the last
    // applied entry is not what has been applied.
    let has_applied = entries.iter().any(|entry| entry.index == applied);
    for (i, entry) in entries.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| &entries[i]);
        let verdict = observed.log_matching.has(group, node, before, entry);
        observed.judge("log matching", verdict);
        // The log may run behind what the node knows to be committed, and but for snapshots never behind what it has applied.
        if has_applied && entry.index <= applied {
            let verdict = observed.committed.committed(group, node, entry);
            observed.judge("committed is immutable", verdict);
        }
    }
    let cut = |old: &EntryId| entries.iter().any(|new| new.index == old.index && new.term != old.term);
    if known.tail.iter().any(cut) {
        observed.coverage.count(Event::ConflictTruncated);
    }
    known.tail = entries.into_iter().filter(|entry| entry.index > applied).collect();
}

fn note_position(observed: &mut Observed, node: NodeId, group: GroupId, known: &mut Known, is: Position) {
    let was = known.position;
    if is.is_leader {
        match observed.leaders.leads(group, is.term, node) {
            Ok(true) => {
                crate::run::trace(|| format!("node {node} leads group {group} in term {}", is.term));
                observed.coverage.count(Event::LeaderElected);
                observed.elections.push((group, crate::run::now_ms()));
                if observed.busy.values().any(|of| *of == group) {
                    observed.coverage.count(Event::LeaderElectedInScript);
                }
            }
            Ok(false) => {}
            Err(wrong) => observed.violate("one leader per term", wrong),
        }
        observed.leading.insert((group, node));
        if observed.leading.range((group, 0)..(group + 1, 0)).count() > 1 {
            observed.coverage.count(Event::StaleLeader);
        }
    } else {
        observed.leading.remove(&(group, node));
    }
    if was.is_none() && is.snapshot > 0 {
        observed.coverage.count(Event::RestoredFromSnapshot);
    }
    if was.is_some_and(|was| was.snapshot < is.snapshot) {
        observed.coverage.count(Event::SnapshotTaken);
        known.snapshots += 1;
        if known.snapshots == 3 {
            observed.coverage.count(Event::SnapshotGenerations);
        }
    }
    if was.is_some_and(|was| was.snapshots_not_needed < is.snapshots_not_needed) {
        observed.coverage.count(Event::SnapshotNotNeeded);
    }
    if was.is_some_and(|was| was.held_back.0 < is.held_back.0) {
        observed.coverage.count(Event::FollowerHeldBack);
    }
    if was.is_some_and(|was| was.held_back.1 < is.held_back.1) {
        observed.coverage.count(Event::FirstWasLate);
    }
    if was.is_some_and(|was| was.is_leader && !is.is_leader && was.last_index > was.committed) {
        observed.coverage.count(Event::DeposedMidFlight);
    }
}

fn look_at_machine(observed: &Shared, node: &Node, group: &Group, known: &mut Known) {
    let (index, digest) = group.digest();
    let mut observed = observed.borrow_mut();
    let jumped = known.applied > 0 && index > known.applied + 1;
    if jumped && known.position.is_some_and(|position| position.snapshot == index) {
        observed.coverage.count(Event::SnapshotInstalled);
    }
    observed.states.insert((node.id(), group.id()), (index, digest));
    let verdict = observed.digests.applied(group.id(), node.id(), index, digest);
    observed.judge("equal digest at equal index", verdict);
    if !known.founded
        && let Some(slots) = group.with_machine(founded)
    {
        let verdict = observed.slots.founded(group.id(), slots);
        observed.judge("slots are owned once", verdict);
        known.founded = true;
    }
    let verdict = group.with_machine(|machine| {
        let ownership = machine.keyspace().ownership();
        let is_news = known.served.as_deref() != Some(ownership.served());
        is_news.then(|| {
            known.served = Some(ownership.served().to_vec());
            observed.slots.serves(group.id(), index, ownership)
        })
    });
    if let Some(verdict) = verdict {
        observed.judge("slots are owned once", verdict);
    }
}

/// The slots that the machine was founded with; `None` before its genesis.
fn founded(machine: &Machine) -> Option<Slots> {
    let genesis = machine.genesis();
    let range = |range: &SlotRange| range.start as SlotId..=range.end as SlotId;
    (!genesis.cluster_id.is_empty()).then(|| genesis.slots.iter().map(range).collect())
}
