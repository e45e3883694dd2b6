//! Writes of all connections, combined into entries, proposed, and their fate brought back.
//!
//! While entries are in flight, writes that arrive wait and become the next entry together: entries grow with
//! load by themselves, and a lone client waits for nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use openraft::errors::{ClientWriteError, ForwardToLeader};
use openraft::raft::ClientWriteResult;
use prost::Message;
use quoris_engine::machine::BatchOutcome;
use quoris_engine::{Batch, Entry, Stamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::consensus::{Callback, Data, TypeConfig};
use crate::env::Env;
use crate::group::GroupRaft;
use crate::limits;
use crate::planted::{Bug, is_planted};
use crate::types::{Refusal, WriteOutcome};

/// A write on its way into the log.
pub struct Proposal {
    batches: Vec<Batch>,
    stage: Stage,
    tell: oneshot::Sender<WriteOutcome>,
}

/// Who waits for a proposal's fate.
pub struct Waiter {
    stage: Stage,
    told: oneshot::Receiver<WriteOutcome>,
}

/// How far a proposal has come, decided once, by whoever is first: the proposer or the caller's timeout.
#[derive(Clone, Default)]
struct Stage(Arc<AtomicU8>);

const WAITING: u8 = 0;
const PROPOSED: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Stage {
    fn advance(&self, to: u8) -> bool {
        self.0.compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Proposal {
    /// A write of `batches`, and the end at which its fate arrives.
    pub fn new(batches: Vec<Batch>) -> (Proposal, Waiter) {
        let (tell, told) = oneshot::channel();
        let stage = Stage::default();
        (Proposal { batches, stage: stage.clone(), tell }, Waiter { stage, told })
    }
}

impl Waiter {
    /// The write's fate, within `limit`: a write that has not been proposed by then is withdrawn and certainly
    /// never applied; of one that has, nothing can be said.
    pub async fn wait(self, limit: Duration) -> WriteOutcome {
        match tokio::time::timeout(limit, self.told).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) if self.stage.advance(WITHDRAWN) => WriteOutcome::Refused(Refusal::ShuttingDown),
            Ok(Err(_)) => WriteOutcome::Unknown("the node is shutting down"),
            Err(_) if self.stage.advance(WITHDRAWN) || is_planted(Bug::TimeoutIsRefused) => {
                WriteOutcome::Refused(Refusal::NoQuorum)
            }
            Err(_) => WriteOutcome::Unknown("no quorum has confirmed the write in time"),
        }
    }
}

/// Proposes what arrives, until the group is gone.
pub async fn run(raft: GroupRaft, env: Env, mut waiting: mpsc::Receiver<Proposal>) {
    let in_flight = Arc::new(Semaphore::new(limits::ENTRIES_IN_FLIGHT));
    while let Some(first) = waiting.recv().await {
        // Never closed: acquiring cannot fail.
        let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else { return };
        let combined = combine(first, &mut waiting);
        if combined.is_empty() {
            continue;
        }
        propose(&raft, &env, combined, permit).await;
    }
}

/// `first` and whatever else waits, within the limits of an entry; what was withdrawn is left out.
fn combine(first: Proposal, waiting: &mut mpsc::Receiver<Proposal>) -> Vec<Proposal> {
    let (mut calls, mut bytes) = (0, 0);
    let mut combined = Vec::new();
    let mut next = Some(first);
    while let Some(proposal) = next {
        if proposal.stage.advance(PROPOSED) {
            for call in proposal.batches.iter().flat_map(|batch| &batch.calls) {
                calls += 1;
                bytes += call.args.iter().map(|word| word.len()).sum::<usize>();
            }
            combined.push(proposal);
        }
        let full = calls >= limits::CALLS_PER_ENTRY || bytes >= limits::BYTES_PER_ENTRY;
        next = if full { None } else { waiting.try_recv().ok() };
    }
    combined
}

async fn propose(raft: &GroupRaft, env: &Env, combined: Vec<Proposal>, permit: OwnedSemaphorePermit) {
    let stamp = Stamp { now_ms: env.clock.now_ms(), seed: env.rng.next_u64() };
    let mut tells = Vec::with_capacity(combined.len());
    let mut batches = Vec::with_capacity(combined.len());
    for proposal in combined {
        tells.push((proposal.batches.len(), proposal.tell));
        batches.extend(proposal.batches);
    }
    let entry = Entry { stamp: Some(stamp), batches, genesis: None };
    let tell = move |result: ClientWriteResult<TypeConfig>| {
        drop(permit);
        tell_all(tells, result);
    };
    let data = Data(entry.encode_to_vec().into());
    if is_planted(Bug::ProposeTwice) && stamp.seed.is_multiple_of(64) {
        let _ = raft.write(data.clone()).responder(Callback(Box::new(drop))).await;
    }
    // If the group has stopped, the callback is dropped with the request, and so tells everybody.
    let _ = raft.write(data).responder(Callback(Box::new(tell))).await;
}

fn tell_all(tells: Vec<(usize, oneshot::Sender<WriteOutcome>)>, result: ClientWriteResult<TypeConfig>) {
    match result {
        Ok(response) => {
            let mut outcomes: std::vec::IntoIter<BatchOutcome> = response.data.0.into_iter();
            for (batches, tell) in tells {
                let own = outcomes.by_ref().take(batches).collect();
                // Who has stopped waiting has answered UNKNOWN, which this does not contradict.
                let _ = tell.send(WriteOutcome::Applied(own));
            }
        }
        Err(error) => {
            for (_, tell) in tells {
                let _ = tell.send(outcome_of(&error));
            }
        }
    }
}

/// The fate that an error stands for.
fn outcome_of(error: &ClientWriteError<TypeConfig>) -> WriteOutcome {
    match error {
        // Never appended.
        ClientWriteError::ForwardToLeader(ForwardToLeader { leader_id: Some(leader), .. }) => {
            WriteOutcome::Refused(Refusal::NotLeader { leader: *leader })
        }
        ClientWriteError::ForwardToLeader(_) => WriteOutcome::Refused(Refusal::NoQuorum),
        // Appended here, then cut off by another leader or covered by its snapshot: it may live on elsewhere.
        ClientWriteError::LogEntryDiscarded(_) => {
            WriteOutcome::Unknown("the leader has changed before the write was confirmed")
        }
        ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_) => {
            unreachable!("only changes of the membership end so")
        }
    }
}
