//! Whether this node may vote.
//!
//! A node whose disk was wiped has forgotten which entries it acknowledged and for whom it voted. Until a leader has
//! brought it up to date it grants no vote and stands for no election: else it could help elect a leader that lacks
//! an acknowledged write. So an empty node begins as a *newcomer*; it becomes a voter by being founded together with
//! a cluster that is empty everywhere, or by catching up. That it is a voter is durable.
//!
//! Founding: the node with the lowest number asks all others whether they are empty as well. Who says yes is a voter
//! from then on, and only if all say so does the founder begin the groups.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::catalog::Catalog;
use crate::group::Group;
use crate::planted::{Bug, is_planted};
use crate::types::GroupId;
use crate::wire::proto::AppendRequest;

/// This node's standing.
pub struct Standing {
    voter: AtomicBool,
    /// Whether its groups stand for election when they miss their leader.
    stands: AtomicBool,
    /// Whether all groups' logs were empty at start.
    empty: bool,
    catalog: Catalog,
    /// For each group the index that must be applied here, once a leader that has committed in its own term has
    /// told its commit index.
    catch_up: Mutex<BTreeMap<GroupId, u64>>,
    groups: u32,
}

impl Standing {
    pub fn new(catalog: Catalog, empty: bool, groups: u32) -> Standing {
        let voter = AtomicBool::new(catalog.is_voter());
        let stands = AtomicBool::new(catalog.is_voter());
        Standing { voter, stands, empty, catalog, catch_up: Mutex::new(BTreeMap::new()), groups }
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

    /// Whether the cluster may be founded with this node: it is empty, and if so, a voter from now on.
    pub async fn accept_founding(&self) -> bool {
        self.empty && self.become_voter().await
    }

    /// A leader sends entries: the first commit index of a leader in its own term covers every write that was ever
    /// acknowledged before.
    pub fn leader_speaks(&self, group: &Arc<Group>, request: &AppendRequest) {
        if self.is_voter() {
            return;
        }
        let (Some(vote), Some(commit)) = (&request.vote, &request.commit) else { return };
        if vote.term == commit.term {
            let mut catch_up = self.catch_up.lock().expect("no code panics while it holds this lock");
            catch_up.entry(group.id()).or_insert(commit.index);
        }
    }

    /// Makes a newcomer a voter once it has caught up in every group, and lets a new voter stand for election. Called
    /// now and then.
    pub async fn review(&self, groups: &[Arc<Group>]) {
        if !self.is_voter() && self.has_caught_up(groups) && self.become_voter().await {
            tracing::info!("caught up with every group: this node votes from now on");
        }
        if self.is_voter() && !self.stands.swap(true, Ordering::AcqRel) {
            groups.iter().for_each(|group| group.raft.runtime_config().elect(true));
        }
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
