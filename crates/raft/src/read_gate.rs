//! One confirmation of leadership for all reads that wait (read index, Raft dissertation section 6.4).
//!
//! A read may use a confirmation that *began* after the read arrived: so while one is under way, newcomers wait for
//! the next. The first one of a term is openraft's: it waits until this replica has applied all that was committed
//! before it led. From then on a write is acknowledged when it has been applied here, and what is left to know is that no
//! newer leader has been elected: so a quorum is asked whether it has voted in a newer term, which costs each of them a
//! look at its vote. If that fails, it is openraft's again; and if *that* fails for want of a leader, it is tried again while
//! the vacancy is young.

use std::collections::BTreeSet;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::group::GroupRaft;
use crate::limits;
use crate::links::Links;
use crate::log::GroupLog;
use crate::node::ReadMode;
use crate::peer::Link;
use crate::planted::{Bug, is_planted};
use crate::propose::turns;
use crate::storage::stored_vote;
use crate::thrifty::Thrifty;
use crate::types::{GroupId, NodeId, Refusal};
use crate::vacancy::Vacancy;
use crate::wire::proto::{Confirm, frame};

/// A read that waits.
pub type Waiting = oneshot::Sender<Result<(), Refusal>>;

/// Confirms one group's reads.
pub struct ReadGate {
    pub group: GroupId,
    pub node_id: NodeId,
    pub raft: GroupRaft,
    pub vacancy: Vacancy,
    pub log: GroupLog,
    pub links: Links,
    pub thrifty: Thrifty,
    pub mode: ReadMode,
    /// The term of this node's in which openraft has confirmed a read.
    pub settled: Option<u64>,
}

impl ReadGate {
    /// Confirms, until the group is gone.
    pub async fn run(mut self, mut readers: mpsc::Receiver<Waiting>) {
        let mut waiting = Vec::new();
        while readers.recv_many(&mut waiting, usize::MAX).await > 0 {
            turns(limits::TURNS_PER_CONFIRMATION).await;
            // Those that have come meanwhile; a closed channel is noticed above.
            while let Ok(reader) = readers.try_recv() {
                waiting.push(reader);
            }
            let result = self.confirm().await;
            for reader in waiting.drain(..) {
                // A reader may have gone with its connection.
                let _ = reader.send(result.clone());
            }
        }
    }

    /// Ready when this replica has applied all that was acknowledged before the call, and was the leader after it.
    async fn confirm(&mut self) -> Result<(), Refusal> {
        let policy = match self.mode {
            ReadMode::ReadIndex => ReadPolicy::ReadIndex,
            ReadMode::Lease => ReadPolicy::LeaseRead,
            ReadMode::Local => return Ok(()),
        };
        if is_planted(Bug::ReadWithoutLeadership) {
            return Ok(());
        }
        let term = self.own_term();
        if self.mode == ReadMode::ReadIndex
            && let Some(term) = term
            && (self.settled == Some(term) || is_planted(Bug::ReadBeforeApply))
            && self.quorum_knows_no_newer(term).await
        {
            return Ok(());
        }
        self.ask_openraft(policy).await?;
        // If it is another term by now, this one is over.
        self.settled = term;
        Ok(())
    }

    /// The term of this node's vote, if it is for itself.
    fn own_term(&self) -> Option<u64> {
        // One that does not decode is nobody's; openraft has the node stop.
        let vote = stored_vote(&self.log).ok()??;
        (vote.node_id == self.node_id).then_some(vote.term)
    }

    /// Whether a quorum, asked now, has voted in no newer term than `term`. Who would be elected in a newer one, needs the
    /// vote of one of them, and gets it later than it was asked here.
    async fn quorum_knows_no_newer(&self, term: u64) -> bool {
        let membership = self.raft.server_metrics().borrow_watched().membership_config.clone();
        let configs = membership.membership().get_joint_config();
        let mut agree = BTreeSet::from([self.node_id]);
        let links = self.links.all();
        let ask = async |(id, link): (&NodeId, &Link)| {
            (*id, link.request(self.group, frame::Body::Confirm(Confirm {})).await)
        };
        let voters = links.iter().filter(|(id, _)| configs.iter().any(|voters| voters.contains(id)));
        let (first, mut rest): (Vec<_>, Vec<_>) = voters.partition(|(id, _)| self.thrifty.is_first(**id));
        let mut asked: FuturesUnordered<_> = first.into_iter().map(ask).collect();
        let agreed = async {
            while !is_quorum(configs, &agree) {
                let answer = match rest.is_empty() {
                    true => asked.next().await,
                    false => timeout(limits::THRIFTY_QUESTION, asked.next()).await.ok().flatten(),
                };
                match answer {
                    Some((id, Ok(frame::Body::ConfirmReply(reply)))) if reply.term <= term => {
                        agree.insert(id);
                    }
                    Some((_, Ok(frame::Body::ConfirmReply(_)))) => return false,
                    // It cannot tell, or cannot be reached, or not at once.
                    _ if !rest.is_empty() => asked.extend(rest.drain(..).map(ask)),
                    Some(_) => {}
                    None => return false,
                }
            }
            true
        };
        timeout(limits::CONFIRMATION_TIMEOUT, agreed).await.unwrap_or(false)
    }

    async fn ask_openraft(&self, policy: ReadPolicy) -> Result<(), Refusal> {
        if self.vacancy.is_old() {
            return Err(self.vacancy.refusal());
        }
        loop {
            let elsewhere = match self.raft.ensure_linearizable(policy.clone()).await {
                Ok(_) => {
                    self.vacancy.has_ended();
                    return Ok(());
                }
                Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                    self.vacancy.elsewhere(&to)
                }
                Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => None,
                Err(RaftError::Fatal(_)) => return Err(Refusal::ShuttingDown),
            };
            if let Some(leader) = elsewhere {
                self.vacancy.has_ended();
                return Err(Refusal::NotLeader { leader });
            }
            if !self.vacancy.outlast().await {
                return Err(self.vacancy.refusal());
            }
        }
    }
}

/// Whether `agree` has more than half of each of `configs`.
pub(crate) fn is_quorum(configs: &[BTreeSet<NodeId>], agree: &BTreeSet<NodeId>) -> bool {
    configs.iter().all(|voters| 2 * voters.intersection(agree).count() > voters.len())
}
