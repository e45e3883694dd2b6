//! The words that all of this crate, and the server above it, share.

use std::time::Duration;

use bytes::Bytes;
use quoris_engine::digest::Difference;
use quoris_engine::entry::Check;
use quoris_engine::events::KeyEvent;
use quoris_engine::garbage::Garbage;
use quoris_engine::machine::{BatchOutcome, Expiry, Read};
use quoris_engine::waiters::WaiterId;
use quoris_engine::{Reply, Stamp};

use crate::trust::Audit;

/// A node's number: given by the operator, 1 or more, never reused within a cluster.
pub type NodeId = u64;

/// A Raft group's number: 0 is the meta group, whose machine keeps the topology.
pub type GroupId = u32;

/// See [`GroupId`].
pub const META_GROUP: GroupId = 0;

/// What became of a write: the three outcomes, from the group to the client.
#[derive(Debug)]
pub enum WriteOutcome {
    /// Committed on a majority, applied here: one outcome for each batch.
    Applied(Vec<BatchOutcome>),
    /// Certainly not applied, now or later: safe to try again.
    Refused(Refusal),
    /// It entered the log, and this node cannot say whether it was, or will be, committed.
    Unknown(&'static str),
}

/// What became of a read.
pub type ReadOutcome = Result<Vec<Read>, Refusal>;

/// What an entry did that concerns others than those who proposed it.
#[derive(Debug, Default)]
pub struct Effects {
    /// Calls of this node's own proposals that have blocked.
    pub blocked: Vec<WaiterId>,
    /// Answers to calls that had blocked, whoever proposed them.
    pub served: Vec<(WaiterId, Reply)>,
    /// What happened to keys, if the machine is observed.
    pub events: Vec<KeyEvent>,
    /// How many keys were removed because they were due.
    pub expired: usize,
    /// How long an entry took that did nothing else.
    pub expiry: Option<Duration>,
    /// What is to be freed where nobody waits for it.
    pub garbage: Garbage,
    /// There are other users than before, or it is known now who there are.
    pub users: bool,
}

/// Learns of every entry's effects on this node, in the order of the log and before anybody who proposed the entry.
/// Called with the group's lock released, on the task that applies: it must neither wait nor fail.
pub trait Watcher: Send + Sync {
    /// An entry of `group` has been applied.
    fn applied(&self, group: GroupId, effects: Effects);

    /// The replica of `group` has been replaced by a leader's snapshot: what was applied in between is not told.
    fn replaced(&self, group: GroupId);

    /// Another node's server has something to say ([`crate::node::Node::tell_peers`]).
    fn told(&self, notice: Bytes);

    /// When what is due is removed, where this node leads. The conditions say the same.
    fn expiry(&self) -> Expiry {
        Expiry::AtOnce
    }

    /// What an entry of `group` that is proposed now says of this node's settings, and of what it sees of the group: all of
    /// its stamp but the clock and the seed.
    fn conditions(&self, _group: GroupId) -> Stamp {
        Stamp::default()
    }
}

/// Watches nothing.
impl Watcher for () {
    fn applied(&self, _: GroupId, _: Effects) {}

    fn replaced(&self, _: GroupId) {}

    fn told(&self, _: Bytes) {}
}

/// Why nothing was done. Always safe to try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another node leads the group.
    #[error("node {leader} leads the group")]
    NotLeader {
        /// The node to ask.
        leader: NodeId,
    },
    /// No node is known to lead the group, or the leader has lost its quorum.
    #[error("the group has no leader with a quorum")]
    NoQuorum,
    /// More is waiting than the node accepts ([`crate::limits`]).
    #[error("too many writes are waiting")]
    Busy,
    /// The node's log is at its bound, and writes wait until snapshots have made room.
    #[error("the log is full; a snapshot is making room")]
    LogFull,
    /// A part of a long write is missing, as when the leader changes meanwhile: none of it was done.
    #[error("the leader has changed while a long write was on its way")]
    PartMissing,
    /// This replica has become different from its leader's.
    #[error("this replica differs from its leader's and serves nothing")]
    Differs,
    /// The node is going down.
    #[error("the node is shutting down")]
    ShuttingDown,
}

/// What `ctl status` and CLUSTER show of a group, as this node sees it.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// The group.
    pub id: GroupId,
    /// Its leader, if one is known.
    pub leader: Option<NodeId>,
    /// The current term.
    pub term: u64,
    /// Index of the last entry in this node's log; 0 if there is none.
    pub last_index: u64,
    /// Index of the last entry known to be committed.
    pub committed: u64,
    /// Index of the last entry applied here.
    pub applied: u64,
    /// Index of the last entry in this node's newest snapshot; 0 if there is none.
    pub snapshot_index: u64,
    /// Index of the last entry that was purged from this node's log.
    pub purged: u64,
    /// The voters.
    pub voters: Vec<NodeId>,
    /// Who is sent the log and does not vote.
    pub learners: Vec<NodeId>,
    /// Whether this node's replica has been found to differ from a leader's.
    pub difference: Option<Difference>,
    /// The newest check that found it to be what its leader's was.
    pub verified: Option<Check>,
    /// Its newest audit.
    pub audit: Option<Audit>,
}
