//! Comparing whole states: an audit.
//!
//! The running digest sees what shows in replies, and takes the leader's word. An audit sees everything, and counts. Its
//! leader writes an entry that changes nothing and has every replica take a view of its state as that entry left it, which
//! costs a pointer for each page of slots, and digest the view beside its other work. Then the leader asks each replica for its digest.
//! What more than half of all replicas have is right, whoever leads, and each is told: one that has something else is
//! distrusted from then on, and one that was distrusted, because it differed from a leader that was itself the broken one, is
//! trusted again. If no digest has a majority, nobody is told anything: that is for a person to judge.
//!
//! Audits are held when somebody asks for one, when a replica comes to be distrusted (it *appeals*), and around a rebuild; several
//! may be under way at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use quoris_engine::digest::Difference;
use quoris_engine::{Entry, Stamp};

use crate::group::Group;
use crate::limits;
use crate::trust::Audit;
use crate::types::{NodeId, Refusal};
use crate::wire::proto::{self, frame};

/// What an audit has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditReport {
    /// Where the replicas were compared.
    pub index: u64,
    /// The leader's digest.
    pub digest: u32,
    /// Each node's digest; none if it did not answer.
    pub replicas: BTreeMap<NodeId, Option<u32>>,
    /// The digest of a majority.
    pub majority: Option<u32>,
}

impl Group {
    /// Has every replica digest its whole state at one index, and waits for this one's digest. This node must lead.
    pub(crate) async fn audit_here(&self) -> Option<Audit> {
        let (now_ms, seed) = (self.env.clock.now_ms(), self.env.rng.next_u64());
        let stamp = Stamp { now_ms, seed, ..Stamp::default() };
        let entry = Entry { stamp: Some(stamp), audit: true, ..Entry::default() };
        let index = self.write_entry(entry).await?;
        Some(Audit { index, digest: self.audited(index).await? })
    }

    /// This replica's digest at `index`, once it is there; `None` if it never will be.
    pub(crate) async fn audited(&self, index: u64) -> Option<u32> {
        tokio::time::timeout(limits::AUDIT_TIMEOUT, self.trust.audited(index)).await.ok()?
    }

    /// Compares the whole states of the group's replicas, which this node must lead, and tells each what a majority has.
    pub async fn audit(self: &Arc<Group>) -> Result<AuditReport, Refusal> {
        if !self.is_leader() {
            return Err(self
                .leader_in_reach()
                .map_or(Refusal::NoQuorum, |leader| Refusal::NotLeader { leader }));
        }
        let Audit { index, digest } = self.audit_here().await.ok_or(Refusal::NoQuorum)?;
        let voters = self.status().voters.into_iter().filter(|voter| *voter != self.node_id);
        let peers = voters.map(|peer| async move { (peer, self.ask_audited(peer, index).await) });
        let mut replicas: BTreeMap<NodeId, Option<u32>> = join_all(peers).await.into_iter().collect();
        replicas.insert(self.node_id, Some(digest));
        let majority = majority(&replicas);
        if let Some(majority) = majority {
            let answered = replicas.iter().filter(|(_, digest)| digest.is_some());
            join_all(answered.map(|(node, _)| self.tell_verdict(*node, index, majority))).await;
        }
        Ok(AuditReport { index, digest, replicas, majority })
    }

    async fn ask_audited(&self, peer: NodeId, index: u64) -> Option<u32> {
        let body = frame::Body::Audited(proto::Audited { index });
        match self.ask_peer(peer, body, limits::AUDIT_TIMEOUT).await {
            Some(frame::Body::AuditedReply(reply)) => Some(reply.digest),
            _ => None,
        }
    }

    async fn tell_verdict(self: &Arc<Group>, node: NodeId, index: u64, majority: u32) {
        if node == self.node_id {
            self.hear_verdict(index, majority);
            return;
        }
        let body = frame::Body::Verdict(proto::Verdict { index, majority });
        if self.ask_peer(node, body, limits::CONNECT_TIMEOUT).await.is_none() {
            tracing::error!(
                group = self.id(),
                node,
                index,
                "cannot tell a node what a majority of replicas has"
            );
        }
    }

    /// What a majority had at the audit of `index`.
    pub(crate) fn hear_verdict(self: &Arc<Group>, index: u64, majority: u32) {
        // The newest alone: what an older one has shown may be of a state that has been replaced.
        let Some(ours) = self.trust.newest_audit().filter(|audit| audit.index == index) else { return };
        if ours.digest != majority {
            self.distrust(Difference { index, ours: ours.digest.into(), leaders: majority.into() });
        } else if self.difference().is_some() && !self.rebuilding.load(Ordering::Acquire) {
            tokio::spawn(acquit(Arc::clone(self), index));
        }
    }

    /// Has the group audited once, if this replica has come to be distrusted: it may be the leader that is wrong.
    pub(crate) fn appeal(self: &Arc<Group>) {
        let Some(leader) = self.leader_in_reach().filter(|_| self.trust.begin_appeal()) else { return };
        let group = Arc::clone(self);
        tokio::spawn(async move {
            let heard = match leader == group.node_id {
                true => group.audit().await.is_ok(),
                false => {
                    let body = frame::Body::Audit(proto::Audit {});
                    group.ask_peer(leader, body, limits::AUDIT_TIMEOUT).await.is_some()
                }
            };
            if !heard {
                group.trust.may_appeal_again();
            }
        });
    }

    /// What a peer answers; none if it does not, or refuses.
    pub(crate) async fn ask_peer(
        &self,
        peer: NodeId,
        body: frame::Body,
        limit: Duration,
    ) -> Option<frame::Body> {
        let link = self.links.get(peer)?;
        match tokio::time::timeout(limit, link.request(self.id(), body)).await {
            Ok(Ok(frame::Body::Refused(_)) | Err(_)) | Err(_) => None,
            Ok(Ok(body)) => Some(body),
        }
    }
}

/// Trusts the replica again, which is what a majority has; what it restarts from must be so, too.
async fn acquit(group: Arc<Group>, index: u64) {
    // A snapshot of after the audit replaces whatever was written before it.
    if group.save().await {
        group.acquit();
        tracing::warn!(group = group.id(), index, "this replica is what a majority has, and serves again");
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
