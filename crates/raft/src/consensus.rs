//! openraft with quoris's types: which the entries, terms and nodes are, and how a proposal's fate comes back.

use std::fmt;

use bytes::Bytes;
use openraft::raft::responder::Responder;
use openraft::{EmptyNode, alias};
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use quoris_engine::machine::BatchOutcome;

use crate::types::NodeId;

/// quoris's choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Data;
    type R = Applied;
    type NodeId = NodeId;
    type Node = EmptyNode;
    type Term = u64;
    // At most one leader per term, as in the Raft paper.
    type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, NodeId>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Data, NodeId, EmptyNode>;
    type Entry = openraft::Entry<<Self::LeaderId as openraft::vote::RaftLeaderId>::Committed, Self::Payload>;
    // Election timeouts come from the seed that `Node::start` draws from the node's own source of randomness.
    type AsyncRuntime = DeterministicRng<TokioRuntime>;
    type Responder<T>
        = Callback<T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub type LogId = alias::LogIdOf<TypeConfig>;
pub type Vote = alias::VoteOf<TypeConfig>;
pub type Entry = alias::EntryOf<TypeConfig>;
pub type Membership = openraft::Membership<NodeId, EmptyNode>;
pub type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;

/// An encoded [`quoris_engine::Entry`].
#[derive(Clone)]
pub struct Data {
    /// Its bytes.
    pub bytes: Bytes,
    /// Those of the whole log entry that it was found in, if it is long: they need not be made again.
    pub logged: Option<Bytes>,
}

impl Data {
    /// What is in no log yet.
    pub fn new(bytes: Bytes) -> Data {
        Data { bytes, logged: None }
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Data) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Data {}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying an entry gave, where somebody waits for it.
#[derive(Debug)]
pub struct Applied(pub Vec<BatchOutcome>);

/// Takes a proposal's fate straight to those who wait for it, on the task that learns of it.
pub struct Callback<T>(pub Box<dyn FnOnce(T) + Send>);

impl<T: Send + 'static> Responder<TypeConfig, T> for Callback<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}
