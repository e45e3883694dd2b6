//! Whether this node may follow leaders, and whether it may vote.
//!
//! A node whose disk was wiped has forgotten which entries it acknowledged and for whom it voted. So an empty node begins
//! as a *newcomer*, and takes part in two steps.
//!
//! 1. It *follows*, that is: takes entries and snapshots, and its acknowledgements count, once it knows a term that is at
//!    least as new as any it may have voted in before. Else it could help a deposed leader commit what the leader it
//!    had elected lacks. Whoever got its vote has a vote of its own in that term, on disk, before it asks for others'. So
//!    the newcomer asks *every* other node for its votes, and adopts the newest: every member, and whoever votes in a group as
//!    any of their logs says. Of a node that has just been added this asks more than is needed: it has never voted.
//! 2. It *votes*, and stands for election, once it has everything it may have acknowledged before: when for every group a
//!    leader that it follows has told a commit index of its own term, and what is up to there has been applied here and
//!    is on disk. Else it could help elect a leader that lacks an acknowledged write. That it votes is durable.
//!
//! Or it votes at once, by being founded together with a cluster that is empty everywhere: the node with the lowest number
//! asks all others whether they are empty, too. Who says yes votes from then on, and only if all say so does the founder
//! begin the groups.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use openraft::raft::AppendEntriesResponse;
use quoris_engine::digest::Difference;
use quoris_engine::entry::Topology;

use crate::catalog::Catalog;
use crate::consensus::{LogId, TypeConfig, Vote};
use crate::group::Group;
use crate::log::SharedLog;
use crate::planted::{Bug, is_planted};
use crate::types::GroupId;
use crate::wire::proto::Distrusted;

/// This node's standing.
pub struct Standing {
    voter: AtomicBool,
    /// Whether all groups' logs were empty at start.
    empty: bool,
    /// Whether it knows the newest term that it may have voted in.
    recalled: AtomicBool,
    catalog: Catalog,
    /// For each group the index that must be applied here, once a leader that has committed in its own term has
    /// told its commit index.
    catch_up: Mutex<BTreeMap<GroupId, u64>>,
    groups: u32,
}

impl Standing {
    pub fn new(catalog: Catalog, empty: bool, groups: u32) -> Standing {
        let voter = AtomicBool::new(catalog.is_voter());
        let recalled = AtomicBool::new(false);
        Standing { voter, empty, recalled, catalog, catch_up: Mutex::new(BTreeMap::new()), groups }
    }

    pub fn is_voter(&self) -> bool {
        self.voter.load(Ordering::Acquire)
    }

    /// Refuses, in words, what only a voter may answer.
    pub fn check_may_vote(&self) -> Result<(), String> {
        match self.is_voter() || is_planted(Bug::NewcomerVotes) {
            true => Ok(()),
            false => Err("it is new or was wiped, and has not caught up with a leader yet".into()),
        }
    }

    /// Whether this node may take what leaders send.
    pub fn may_follow(&self) -> bool {
        self.is_voter() || self.recalled.load(Ordering::Acquire) || is_planted(Bug::NewcomerFollows)
    }

    /// Refuses, in words, what a leader sends to a node that may not follow yet.
    pub fn check_may_follow(&self) -> Result<(), String> {
        match self.may_follow() {
            true => Ok(()),
            false => {
                Err("it is new or was wiped, and has not heard yet how every other node has voted".into())
            }
        }
    }

    /// The newest votes of all other nodes have been adopted.
    pub fn has_recalled(&self) {
        self.recalled.store(true, Ordering::Release);
    }

    /// Whether the cluster may be founded with this node: it is empty, and if so, a voter from now on.
    pub async fn accept_founding<'a>(&self, groups: impl IntoIterator<Item = &'a Arc<Group>>) -> bool {
        if !self.empty {
            return false;
        }
        for group in groups {
            // Empty at start, and part of a cluster since.
            if !group.is_blank().await && !is_planted(Bug::FoundTwice) {
                return false;
            }
        }
        self.become_voter().await
    }

    /// Whether this node is part of a cluster that somebody has founded.
    pub async fn has_joined(&self, groups: &[Arc<Group>]) -> bool {
        for group in groups {
            if group.is_blank().await {
                return false;
            }
        }
        true
    }

    /// This replica has answered `reply` to a leader with `vote` that knew `commit` to be committed: the first commit
    /// index of a leader in its own term covers every write that was ever acknowledged before.
    pub fn leader_spoke(
        &self,
        group: GroupId,
        vote: &Vote,
        commit: Option<&LogId>,
        reply: &AppendEntriesResponse<TypeConfig>,
    ) {
        // A reply of success to a newcomer's first entries also says that the leader has dealt with all that this
        // node had answered before it was wiped.
        if self.is_voter() || !matches!(reply, AppendEntriesResponse::Success) {
            return;
        }
        if let Some(commit) = commit.filter(|commit| commit.leader_id.term == vote.leader_id().term) {
            let mut catch_up = self.catch_up.lock().expect("no code panics while it holds this lock");
            catch_up.entry(group).or_insert(commit.index);
        }
    }

    /// Makes a newcomer a voter once it has caught up in every group, lets those replicas of a voter stand for election that
    /// can be trusted, and records which cannot. Called now and then.
    pub async fn review(&self, groups: &[Arc<Group>], log: &SharedLog) {
        if !self.is_voter()
            && self.has_caught_up(groups)
            && is_durable(log).await
            && self.become_voter().await
        {
            tracing::info!("caught up with every group: this node votes from now on");
        }
        if self.is_voter() {
            for group in groups {
                group.raft.runtime_config().elect(group.difference().is_none());
            }
        }
        if let Err(error) = self.record_distrust(groups).await {
            tracing::error!(%error, "cannot record which replicas are not to be trusted");
        }
    }

    /// Records which replicas are not to be trusted, if that has changed.
    pub async fn record_distrust(&self, groups: &[Arc<Group>]) -> std::io::Result<()> {
        let distrusted = |group: &Arc<Group>| {
            let Difference { index, ours, leaders } = group.trust.difference()?;
            Some(Distrusted { group: group.id(), index, ours, theirs: leaders })
        };
        let distrusted: Vec<Distrusted> = groups.iter().filter_map(distrusted).collect();
        if distrusted == self.catalog.distrusted() {
            return Ok(());
        }
        self.catalog.set_distrusted(distrusted).await
    }

    /// Records who the members are.
    pub async fn record_members(&self, topology: &Topology) -> std::io::Result<()> {
        self.catalog.set_topology(topology).await
    }

    /// Records that this node was removed, and is not needed.
    pub async fn record_dismissal(&self) -> std::io::Result<()> {
        self.catalog.set_dismissed().await
    }

    fn has_caught_up(&self, groups: &[Arc<Group>]) -> bool {
        let catch_up = self.catch_up.lock().expect("no code panics while it holds this lock");
        let applied = |group: &Arc<Group>| group.with_machine(|machine| machine.applied());
        catch_up.len() == self.groups as usize
            && groups.iter().all(|g| catch_up.get(&g.id()).is_some_and(|at| applied(g) >= *at))
    }

    async fn become_voter(&self) -> bool {
        if !self.is_voter() {
            if let Err(error) = self.catalog.set_voter().await {
                tracing::error!(%error, "cannot record that this node is a voter");
                return false;
            }
            self.voter.store(true, Ordering::Release);
        }
        true
    }
}

/// Entries are applied when a quorum has them on disk, which may be before this node has.
async fn is_durable(log: &SharedLog) -> bool {
    // If the log has failed, the node is about to stop.
    log.flush().await.is_ok()
}
