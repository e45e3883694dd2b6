//! Bringing each group's membership to what the meta group says the members are.
//!
//! Which nodes hold and vote in a group, its own log says: that is Raft's membership (dissertation, chapter 4; changes go
//! through a joint configuration, as in section 4.3). Whoever leads a group compares it with the members that its node knows of,
//! and takes the next step, one node at a time, until the two agree: a new member becomes a learner, a learner that has caught
//! up and may vote becomes a voter, who is no member any more becomes nothing. Nobody keeps a record of that: what is left to
//! do is seen in the membership, by whoever leads then.
//!
//! A leader whose node does not know the newest members may take a step that the next one takes back. That costs time and
//! nothing else: any membership that Raft agrees on is safe.
//!
//! A step into a configuration that has no quorum in reach would stop the group until its nodes come back. So none is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::Precondition;
use openraft::{ChangeMembers, EmptyNode};
use quoris_engine::entry::Topology;

use crate::consensus::{LogId, Membership, StoredMembership};
use crate::group::Group;
use crate::limits;
use crate::node::Node;
use crate::planted::{Bug, is_planted};
use crate::read_gate::is_quorum;
use crate::types::NodeId;
use crate::wire;
use crate::wire::proto::{MayLead, RecallReply, frame};

/// What brings a group's membership nearer to the members.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A change that has begun is to be ended: these vote.
    Settle(BTreeSet<NodeId>),
    /// A member is to be sent the log.
    Learn(NodeId),
    /// A learner that is ready for it is to vote.
    Promote(NodeId),
    /// The leader is to be dropped: it hands over.
    Resign,
    /// A node is to be neither voter nor learner.
    Drop(NodeId),
}

/// The next step, if there is one that can be taken; `leader` is the node that asks.
fn next(
    membership: &Membership,
    members: &Topology,
    leader: NodeId,
    ready: &BTreeSet<NodeId>,
) -> Option<Step> {
    let configs = membership.get_joint_config();
    let (last, earlier) = configs.split_last()?;
    // First: who is not in the configuration that it proposes does not lead on.
    if members.node(leader).is_none() || !last.contains(&leader) {
        return Some(Step::Resign);
    }
    if !earlier.is_empty() {
        return (!is_planted(Bug::JointLeftBehind)).then(|| Step::Settle(last.clone()));
    }
    let is_known = |id: &NodeId| membership.get_node(id).is_some();
    let new = members.nodes.iter().map(|node| node.id).find(|id| !is_known(id));
    if let Some(id) = new {
        return Some(Step::Learn(id));
    }
    let unready = is_planted(Bug::LearnerUnready);
    let in_reach = |id: &NodeId| *id == leader || ready.contains(id) || unready;
    let has_quorum =
        |voters: &BTreeSet<NodeId>| 2 * voters.iter().filter(|id| in_reach(id)).count() > voters.len();
    let grown = |id: NodeId| last.iter().copied().chain([id]).collect();
    let is_member = |id: &NodeId| members.node(*id).is_some();
    let promoted =
        membership.learner_ids().find(|id| is_member(id) && in_reach(id) && has_quorum(&grown(*id)));
    if let Some(id) = promoted {
        return Some(Step::Promote(id));
    }
    let left_without = |id: NodeId| last.iter().copied().filter(|voter| *voter != id).collect();
    // As many as can be keep what is written. So who answers goes only when all who are to stay vote.
    let all_vote = members.nodes.iter().all(|node| last.contains(&node.id));
    let gone =
        |id: &NodeId| !is_member(id) && (all_vote || !ready.contains(id)) && has_quorum(&left_without(*id));
    membership.nodes().map(|(id, _)| *id).find(gone).map(Step::Drop)
}

/// What replicas of a group say of its membership.
#[derive(Default)]
pub struct Accounts {
    by_node: BTreeMap<NodeId, (Option<LogId>, Vec<BTreeSet<NodeId>>)>,
}

impl Accounts {
    /// What `node` has answered.
    pub fn add(&mut self, node: NodeId, reply: &RecallReply) {
        let membership = wire::from_membership(&reply.membership.clone().unwrap_or_default());
        let at = reply.membership_at.as_ref().map(wire::from_log_id);
        self.by_node.insert(node, (at, membership.get_joint_config().clone()));
    }

    /// Who votes, as any of them says, and has not been asked; but for those that the group has dropped.
    pub fn missing(&self) -> impl Iterator<Item = NodeId> + '_ {
        let voters = self.by_node.values().flat_map(|(_, configs)| configs.iter().flatten().copied());
        voters.filter(|voter| !self.by_node.contains_key(voter) && !self.have_dropped(*voter))
    }

    /// Whether the group no longer counts on `node`, and will not: so says a quorum of the newest configuration, and so
    /// no log without that configuration is long enough for a leader's.
    pub fn have_dropped(&self, node: NodeId) -> bool {
        let without = |configs: &[BTreeSet<NodeId>]| !configs.iter().any(|voters| voters.contains(&node));
        let Some((_, newest)) = self.by_node.values().max_by_key(|(at, _)| *at) else { return false };
        let agree = self.by_node.iter().filter(|(_, (_, configs))| !configs.is_empty() && without(configs));
        let agree: BTreeSet<NodeId> = agree.map(|(id, _)| *id).collect();
        !newest.is_empty() && without(newest) && is_quorum(newest, &agree)
    }
}

/// Takes step after step in `group`, whenever this node leads it.
pub async fn keep_members(node: Weak<Node>, group: Arc<Group>) {
    let Some(mut changes) = node.upgrade().map(|node| node.members().changes()) else { return };
    loop {
        // Now and then even without news: leaders change, and nodes catch up.
        if let Ok(Err(_)) = tokio::time::timeout(limits::MEMBERS_CHECK, changes.changed()).await {
            return;
        }
        let Some(node) = node.upgrade() else { return };
        if group.is_led_here() && !group.has_settled(&node.members().get()) {
            take_steps(&node, &group).await;
        }
    }
}

async fn take_steps(node: &Node, group: &Group) {
    while group.is_led_here() {
        let (members, stored) = (node.members().get(), group.membership());
        let ready = ready_to_vote(node, group, &stored).await;
        let Some(step) = next(stored.membership(), &members, node.id(), &ready) else { return };
        tracing::info!(group = group.id(), ?step, "the members have changed");
        if !take(node, group, step, &stored).await {
            return;
        }
    }
}

/// Whether that was done; if not, the next round sees what is left.
async fn take(node: &Node, group: &Group, step: Step, seen: &StoredMembership) -> bool {
    let change = match step {
        Step::Resign => return resign(node, group, seen).await,
        Step::Settle(voters) => ChangeMembers::ReplaceAllVoters(voters),
        Step::Learn(id) => ChangeMembers::AddNodes([(id, EmptyNode {})].into()),
        Step::Promote(id) => ChangeMembers::AddVoterIds([id].into()),
        Step::Drop(id) if seen.voter_ids().any(|voter| voter == id) => {
            ChangeMembers::RemoveVoters([id].into())
        }
        Step::Drop(id) => ChangeMembers::RemoveNodes([id].into()),
    };
    // Not upon another membership than the one that the step was chosen for.
    let unchanged = Precondition::LastMembershipLogId { last_membership_log_id: *seen.log_id() };
    let changed = group.raft.change_membership_if(change, false, [unchanged]);
    match tokio::time::timeout(group.write_timeout(), changed).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            tracing::info!(group = group.id(), %error, "the membership has not changed yet");
            false
        }
        Err(_) => false,
    }
}

/// Hands the group over to a member that is to vote. Always false: what is left is the next leader's.
async fn resign(node: &Node, group: &Group, seen: &StoredMembership) -> bool {
    let members = node.members().get();
    let last = seen.membership().get_joint_config().last().cloned().unwrap_or_default();
    let may_stay = |id: &NodeId| *id != node.id() && last.contains(id) && members.node(*id).is_some();
    let heirs = node.heirs(group.id()).into_iter().filter(may_stay);
    for heir in heirs {
        if node.hand_over_to(group, heir).await {
            tokio::time::sleep(Duration::from_millis(node.config().timing.election_timeout_ms)).await;
            break;
        }
    }
    false
}

/// Who has nearly all of the leader's log, and says that it may lead: it votes, and its replica is sound.
async fn ready_to_vote(node: &Node, group: &Group, stored: &StoredMembership) -> BTreeSet<NodeId> {
    let mut ready = BTreeSet::new();
    for (id, _) in stored.nodes().filter(|(id, _)| **id != node.id()) {
        let asked = group
            .is_caught_up(*id)
            .then(|| group.ask_peer(*id, frame::Body::MayLead(MayLead {}), limits::CONNECT_TIMEOUT));
        if let Some(asked) = asked
            && matches!(asked.await, Some(frame::Body::MayLeadReply(reply)) if reply.ready)
        {
            ready.insert(*id);
        }
    }
    ready
}

impl Group {
    /// Who holds it and votes in it, as this replica's log says.
    pub(crate) fn membership(&self) -> StoredMembership {
        (*self.raft.server_metrics().borrow_watched().membership_config).clone()
    }

    /// Whether it holds `node` to be a voter or a learner, as this replica's log says.
    pub(crate) fn counts_on(&self, node: NodeId) -> bool {
        self.raft.server_metrics().borrow_watched().membership_config.membership().get_node(&node).is_some()
    }

    /// Whether all `members`, and nobody else, vote in it and hold it, as this replica's log says.
    pub fn has_settled(&self, members: &Topology) -> bool {
        let stored = self.membership();
        let voters: BTreeSet<NodeId> = members.nodes.iter().map(|node| node.id).collect();
        let counted: BTreeSet<NodeId> = stored.nodes().map(|(id, _)| *id).collect();
        matches!(&stored.membership().get_joint_config()[..], [config] if *config == voters)
            && counted == voters
    }
}

#[cfg(test)]
mod tests {
    use quoris_engine::entry::NodeInfo;

    use super::*;

    fn set(ids: &[NodeId]) -> BTreeSet<NodeId> {
        ids.iter().copied().collect()
    }

    /// What node 1 does next as the leader.
    fn step(configs: &[&[NodeId]], nodes: &[NodeId], members: &[NodeId], ready: &[NodeId]) -> Option<Step> {
        let configs = configs.iter().map(|ids| set(ids)).collect();
        let membership = Membership::new_with_defaults(configs, nodes.iter().copied());
        let node = |id: &NodeId| NodeInfo { id: *id, ..NodeInfo::default() };
        let members = Topology { nodes: members.iter().map(node).collect(), ..Topology::default() };
        next(&membership, &members, 1, &set(ready))
    }

    #[test]
    fn a_new_member_learns_and_votes_once_it_is_ready() {
        assert_eq!(step(&[&[1, 2, 3]], &[1, 2, 3], &[1, 2, 3], &[2, 3]), None);
        assert_eq!(step(&[&[1, 2, 3]], &[1, 2, 3], &[1, 2, 3, 4], &[2, 3]), Some(Step::Learn(4)));
        assert_eq!(step(&[&[1, 2, 3]], &[1, 2, 3, 4], &[1, 2, 3, 4], &[2, 3]), None, "it is not ready");
        assert_eq!(step(&[&[1, 2, 3]], &[1, 2, 3, 4], &[1, 2, 3, 4], &[2, 4]), Some(Step::Promote(4)));
        assert_eq!(
            step(&[&[1, 2, 3]], &[1, 2, 3, 4], &[1, 2, 3, 4], &[4]),
            None,
            "two of four are no quorum"
        );
    }

    type Configs<'a> = &'a [&'a [NodeId]];

    #[test]
    fn a_node_is_dropped_when_a_quorum_of_those_who_stay_say_so() {
        let has_dropped = |node, said: &[(NodeId, u64, Configs)]| {
            let mut accounts = Accounts::default();
            for (id, at, configs) in said {
                let configs = configs.iter().map(|ids| set(ids)).collect();
                accounts.by_node.insert(*id, (Some(LogId::new_term_index(1, *at)), configs));
            }
            accounts.have_dropped(node)
        };
        let old: Configs = &[&[1, 2, 3, 4]];
        let joint: Configs = &[&[1, 2, 3, 4], &[1, 2, 3]];
        let new: Configs = &[&[1, 2, 3]];
        assert!(!has_dropped(4, &[(1, 9, joint), (2, 9, joint), (3, 9, joint)]));
        assert!(!has_dropped(4, &[(1, 10, new), (2, 9, joint)]), "one is no quorum");
        assert!(has_dropped(4, &[(1, 10, new), (2, 10, new), (3, 5, old)]));
        assert!(has_dropped(4, &[(7, 20, &[&[7]]), (8, 5, old)]), "8 is late, and only learns");
        assert!(!has_dropped(4, &[]) && !has_dropped(4, &[(1, 0, &[])]), "who knows of nobody says nothing");
        assert!(!has_dropped(3, &[(1, 10, new), (2, 10, new)]), "it votes");
    }

    #[test]
    fn who_is_no_member_goes_unless_too_few_are_left() {
        assert_eq!(step(&[&[1, 2, 3]], &[1, 2, 3], &[1, 2], &[2]), Some(Step::Drop(3)));
        assert_eq!(
            step(&[&[1, 2, 3]], &[1, 2, 3], &[1, 3], &[2]),
            None,
            "3 does not answer, and 1 is not enough"
        );
        assert_eq!(step(&[&[1, 2, 3]], &[1, 2, 3], &[2, 3], &[2, 3]), Some(Step::Resign));
        assert_eq!(step(&[&[1, 2]], &[1, 2, 4], &[1, 2], &[2]), Some(Step::Drop(4)), "a learner");
    }

    #[test]
    fn a_change_that_has_begun_is_ended_first() {
        let step = step(&[&[1, 2, 3], &[1, 2, 3, 4]], &[1, 2, 3, 4], &[1, 2], &[]);
        assert_eq!(step, Some(Step::Settle(set(&[1, 2, 3, 4]))));
    }

    #[test]
    fn who_is_to_go_hands_over_before_it_does_anything_else() {
        assert_eq!(step(&[&[1, 2, 3]], &[1, 2, 3], &[2, 3, 4], &[2, 3]), Some(Step::Resign));
        assert_eq!(step(&[&[1, 2, 3], &[2, 3]], &[1, 2, 3], &[2, 3], &[2, 3]), Some(Step::Resign));
        assert_eq!(step(&[&[1, 2, 3], &[2, 3]], &[1, 2, 3], &[1, 2, 3], &[2, 3]), Some(Step::Resign));
    }

    #[test]
    fn one_node_may_be_replaced_by_another_with_one_gone() {
        let (all, wanted) = (&[1, 2, 3, 4][..], &[1, 2, 4][..]);
        assert_eq!(step(&[&[1, 2, 3]], all, wanted, &[2]), Some(Step::Drop(3)), "4 waits for it to go");
        assert_eq!(step(&[&[1, 2]], &[1, 2, 4], wanted, &[2, 4]), Some(Step::Promote(4)));
        assert_eq!(step(&[&[1, 2, 3]], all, wanted, &[2, 3]), None, "3 answers, and 4 does not yet");
    }
}
