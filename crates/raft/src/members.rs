//! Who is in the cluster, as far as this node has heard.
//!
//! The members are state of the meta group (`quoris_engine::topology`), numbered by an epoch. A node learns of a newer epoch
//! as it applies that group's log or takes its snapshot; from every node that it links up with, for each says in its hello
//! what it knows, and on a link that stands when it has news; and from its own catalog when it starts. At first there is what its settings say, which is epoch 1. So a node
//! that was away while all others were replaced is told by the first of them that links up with it.
//!
//! Which nodes hold and vote in a group is not decided here: that is the group's own log's business (`membership.rs`).

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use quoris_engine::entry::Topology;
use tokio::sync::watch;

use crate::planted::{Bug, is_planted};
use crate::types::NodeId;
use crate::wire::proto::Hello;

/// What is known, for all who ask. Cheap to clone.
#[derive(Clone)]
pub struct Members {
    me: NodeId,
    cluster_id: Arc<str>,
    known: watch::Sender<Arc<Topology>>,
    /// Whether the others have told this node that no group counts on it any more.
    dismissed: watch::Sender<bool>,
}

impl Members {
    /// What node `me` begins with.
    pub fn new(me: NodeId, cluster_id: &str, topology: Topology) -> Members {
        let (known, dismissed) = (watch::Sender::new(Arc::new(topology)), watch::Sender::new(false));
        Members { me, cluster_id: cluster_id.into(), known, dismissed }
    }

    /// The cluster's name.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// This node's number.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// The newest that is known.
    pub fn get(&self) -> Arc<Topology> {
        Arc::clone(&self.known.borrow())
    }

    /// Tells of news.
    pub fn changes(&self) -> watch::Receiver<Arc<Topology>> {
        self.known.subscribe()
    }

    /// Takes what somebody else knows, if it is newer.
    pub fn learn(&self, topology: &Topology) {
        self.known.send_if_modified(|known| {
            let newer = topology.epoch > known.epoch;
            if newer {
                *known = Arc::new(topology.clone());
            }
            newer
        });
    }

    /// What is known, for another node to hear.
    pub fn tell(&self) -> Bytes {
        self.known.borrow().encode_to_vec().into()
    }

    /// Takes what another node of the cluster has told. What cannot be read says nothing.
    pub fn hear(&self, told: &Bytes) {
        if let Ok(topology) = Topology::decode(told.clone()) {
            self.learn(&topology);
        }
    }

    /// How this node introduces itself to node `to`.
    pub fn hello(&self, to: NodeId) -> Hello {
        Hello { cluster_id: self.cluster_id.to_string(), node_id: self.me, to, topology: self.tell() }
    }

    /// Whether this node has been removed, as far as it knows.
    pub fn am_removed(&self) -> bool {
        self.known.borrow().has_removed(self.me)
    }

    /// This node has been removed, and no group counts on it any more.
    pub fn dismiss(&self) {
        self.dismissed.send_replace(!is_planted(Bug::RemovedRemains));
    }

    /// Ready when it has been.
    pub async fn dismissed(&self) {
        // The sender is part of this.
        let _ = self.dismissed.subscribe().wait_for(|dismissed| *dismissed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_newer_is_learnt_from_whoever_says_it_and_what_is_older_from_nobody() {
        let at = |epoch| Topology { epoch, ..Topology::default() };
        let (ours, theirs) = (Members::new(1, "c", at(1)), Members::new(2, "c", at(3)));
        ours.hear(&theirs.hello(1).topology);
        assert_eq!(ours.get().epoch, 3);
        theirs.hear(&Members::new(1, "c", at(2)).tell());
        theirs.hear(&Bytes::from_static(b"\xff"));
        assert_eq!(theirs.get().epoch, 3);
    }
}
