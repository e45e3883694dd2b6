//! The time in which a group has no leader that takes calls, and how long calls wait for the next one.
//!
//! Elections and hand-overs are short: a call that arrives meanwhile waits, so that clients need not notice. What is
//! bounded is the age of the vacancy, not each call's patience. So calls wait while a leader is being elected, and
//! in an outage that lasts they are refused at once.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ForwardReason, ForwardToLeader};
use openraft::{Instant as _, ServerState};
use tokio::time::Instant;

use crate::consensus::TypeConfig;
use crate::group::GroupRaft;
use crate::limits;
use crate::links::Links;
use crate::node::NodeConfig;
use crate::types::{NodeId, Refusal};

/// One group's vacancy, shared by all who wait for its end. Cheap to clone.
#[derive(Clone)]
pub struct Vacancy {
    inner: Arc<Inner>,
}

struct Inner {
    node_id: NodeId,
    raft: GroupRaft,
    links: Links,
    /// How long a leader takes writes after a quorum has last confirmed it.
    lease: Duration,
    /// The age of a vacancy from which on nobody waits for its end.
    most: Duration,
    /// When a call first missed a leader, if none has found one since.
    since: Mutex<Option<Instant>>,
}

impl Vacancy {
    /// Of the group that `raft` serves.
    pub fn new(config: &NodeConfig, raft: GroupRaft, links: Links) -> Vacancy {
        let lease = Duration::from_millis(2 * config.timing.election_timeout_ms);
        let most = Duration::from_millis(config.timing.leader_wait_ms);
        let inner = Inner { node_id: config.node_id, raft, links, lease, most, since: Mutex::new(None) };
        Vacancy { inner: Arc::new(inner) }
    }

    /// The leader, if it is this node or one that this node can reach.
    pub fn leader(&self) -> Option<NodeId> {
        let (leader, state) = {
            let metrics = self.inner.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            (metrics.current_leader?, metrics.state)
        };
        match leader == self.inner.node_id {
            // After a restart a node may find that it was the leader.
            true => (state == ServerState::Leader).then_some(leader),
            false => self.is_reachable(leader).then_some(leader),
        }
    }

    /// A call has been taken here, or has learnt of a leader elsewhere.
    pub fn has_ended(&self) {
        *self.since() = None;
    }

    /// Ends the vacancy that nobody has asked about since there is a leader again.
    pub fn review(&self) {
        if self.is_filled() {
            self.has_ended();
        }
    }

    /// Called with a refusal for want of a leader. Ready with true as soon as it makes sense to try again, and with
    /// false when nobody should wait any longer.
    pub async fn outlast(&self) -> bool {
        let since = *self.since().get_or_insert_with(Instant::now);
        let filled = async {
            loop {
                // At least once: what has refused the call may need a moment to show.
                tokio::time::sleep(limits::VACANCY_CHECK).await;
                if self.is_filled() {
                    return;
                }
            }
        };
        tokio::time::timeout_at(since + self.inner.most, filled).await.is_ok()
    }

    /// Whether nobody should wait any longer, nor ask: a leader that has lost its quorum takes its time to say so.
    pub fn is_old(&self) -> bool {
        let since = *self.since();
        since.is_some_and(|since| since.elapsed() >= self.inner.most) && !self.is_filled()
    }

    /// What openraft's refusal means: the leader elsewhere, or `None` if there is none to go to now.
    pub fn elsewhere(&self, refused: &ForwardToLeader<TypeConfig>) -> Option<NodeId> {
        // Who is to take over does not lead yet.
        let leads = refused.reason == ForwardReason::NotLeader;
        refused
            .leader_id
            .filter(|leader| leads && *leader != self.inner.node_id && self.is_reachable(*leader))
    }

    /// The refusal of those who have waited in vain: a leader that is out of this node's reach may still be in the
    /// client's.
    pub fn refusal(&self) -> Refusal {
        let leader = self.inner.raft.server_metrics().borrow_watched().current_leader;
        match leader.filter(|leader| *leader != self.inner.node_id) {
            Some(leader) => Refusal::NotLeader { leader },
            None => Refusal::NoQuorum,
        }
    }

    /// Whether there is a leader: another that can be reached, or this node with a quorum behind it.
    pub fn is_filled(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        if leader != self.inner.node_id {
            return true;
        }
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let alone = metrics.membership_config.voter_ids().count() == 1;
        let confirmed =
            metrics.last_quorum_acked.is_some_and(|at| at.into_inner().elapsed() < self.inner.lease);
        confirmed || alone
    }

    fn is_reachable(&self, node: NodeId) -> bool {
        self.inner.links.is_up(node)
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.inner.since.lock().expect("no code panics while it holds this lock")
    }
}
