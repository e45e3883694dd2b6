//! Comparing whole states: an audit.
//!
//! The running digest sees what shows in replies. An audit sees everything. Its leader writes an entry that changes nothing
//! and has every replica take a view of its state as that entry left it, which costs a pointer for each slot, and digest
//! the view beside its other work. Then the leader asks each replica for its digest. The one that most voters have is
//! right, whoever leads: a replica that has another one is told so, and is distrusted from then on. If no digest has a
//! majority, nobody is told: that is for a person to judge.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use quoris_engine::digest::Difference;
use quoris_engine::{Entry, Stamp};

use crate::group::Group;
use crate::limits;
use crate::node::Node;
use crate::trust::Audit;
use crate::types::{GroupId, NodeId, Refusal};
use crate::wire::proto::{self, frame};

/// What an audit has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditReport {
    /// Where the replicas were compared.
    pub index: u64,
    /// Each node's digest; none if it did not answer.
    pub replicas: BTreeMap<NodeId, Option<u32>>,
    /// The digest of a majority.
    pub majority: Option<u32>,
}

impl Group {
    /// Has every replica digest its whole state at one index, and waits for this one's digest. This node must lead.
    pub(crate) async fn audit_here(&self) -> Option<Audit> {
        let audits = self.trust.audits();
        let before = audits.borrow().map_or(0, |audit| audit.index);
        let (now_ms, seed) = (self.env.clock.now_ms(), self.env.rng.next_u64());
        let stamp = Stamp { now_ms, seed, ..Stamp::default() };
        self.write_entry(Entry { stamp: Some(stamp), audit: true, ..Entry::default() }).await;
        self.audit_at_least(before + 1).await
    }

    /// This replica's digest at `index`, once it is there.
    pub(crate) async fn audited(&self, index: u64) -> Option<u32> {
        let audit = self.audit_at_least(index).await?;
        (audit.index == index).then_some(audit.digest)
    }

    async fn audit_at_least(&self, index: u64) -> Option<Audit> {
        let mut audits = self.trust.audits();
        let there = audits.wait_for(|audit| audit.is_some_and(|audit| audit.index >= index));
        let audit = tokio::time::timeout(limits::AUDIT_TIMEOUT, there).await.ok()?.ok()?;
        *audit
    }

    /// An audit has found that a majority had another state than this replica.
    pub(crate) fn distrust_audit(&self, index: u64, ours: u32, majority: u32) {
        self.distrust(Difference { index, ours: ours.into(), leaders: majority.into() });
    }
}

impl Node {
    /// Compares the whole states of the replicas of `group`, which this node must lead. One that differs from the
    /// majority serves no longer.
    pub async fn audit(&self, group: &Group) -> Result<AuditReport, Refusal> {
        if !group.is_leader() {
            return Err(group.leader_in_reach().map_or(Refusal::NoQuorum, |leader| Refusal::NotLeader { leader }));
        }
        let Audit { index, digest } = group.audit_here().await.ok_or(Refusal::NoQuorum)?;
        let peers = self.links.keys().map(|peer| async move { (*peer, self.ask_audited(*peer, group.id(), index).await) });
        let mut replicas: BTreeMap<NodeId, Option<u32>> = join_all(peers).await.into_iter().collect();
        replicas.insert(self.id(), Some(digest));
        let majority = majority(&replicas);
        if let Some(majority) = majority {
            self.tell_minority(group, index, &replicas, majority).await;
        }
        Ok(AuditReport { index, replicas, majority })
    }

    async fn ask_audited(&self, peer: NodeId, group: GroupId, index: u64) -> Option<u32> {
        let body = frame::Body::Audited(proto::Audited { index });
        match self.ask_peer(peer, group, body, limits::AUDIT_TIMEOUT).await {
            Some(frame::Body::AuditedReply(reply)) => Some(reply.digest),
            _ => None,
        }
    }

    async fn tell_minority(
        &self,
        group: &Group,
        index: u64,
        replicas: &BTreeMap<NodeId, Option<u32>>,
        majority: u32,
    ) {
        for (node, digest) in replicas {
            let Some(ours) = digest.filter(|digest| *digest != majority) else { continue };
            if *node == self.id() {
                group.distrust_audit(index, ours, majority);
                continue;
            }
            let body = frame::Body::Distrust(proto::Distrust { index, ours, majority });
            if self.ask_peer(*node, group.id(), body, limits::CONNECT_TIMEOUT).await.is_none() {
                tracing::error!(group = group.id(), node, index, "cannot tell a node that its replica differs");
            }
        }
    }

    /// What a peer answers; none if it does not, or refuses.
    pub(crate) async fn ask_peer(
        &self,
        peer: NodeId,
        group: GroupId,
        body: frame::Body,
        limit: Duration,
    ) -> Option<frame::Body> {
        let asked = self.links.get(&peer)?.request(group, body);
        match tokio::time::timeout(limit, asked).await {
            Ok(Ok(frame::Body::Refused(_)) | Err(_)) | Err(_) => None,
            Ok(Ok(body)) => Some(body),
        }
    }
}

/// The digest that more than half of all replicas have, answered or not.
fn majority(replicas: &BTreeMap<NodeId, Option<u32>>) -> Option<u32> {
    let mut votes: BTreeMap<u32, usize> = BTreeMap::new();
    for digest in replicas.values().flatten() {
        *votes.entry(*digest).or_default() += 1;
    }
    votes.into_iter().find(|(_, votes)| 2 * votes > replicas.len()).map(|(digest, _)| digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_is_of_all_replicas() {
        let of = |digests: &[Option<u32>]| majority(&(1..).zip(digests.iter().copied()).collect());
        assert_eq!(of(&[Some(7), Some(8), Some(8)]), Some(8), "whoever leads");
        assert_eq!(of(&[Some(7), None, Some(7)]), Some(7));
        assert_eq!(of(&[Some(7), None, None]), None, "who does not answer may differ");
        assert_eq!(of(&[Some(7), Some(8), None]), None);
        assert_eq!(of(&[Some(7), Some(7), Some(8), Some(8)]), None);
    }
}
