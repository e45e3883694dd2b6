//! Writes of all connections, combined into entries, proposed, and their fate brought back.
//!
//! While entries are in flight, writes that arrive wait and become the next entry together, with those that the sockets
//! hold when it is closed: entries grow with load by themselves, and a lone client waits for nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use quoris_engine::Stamp;
use quoris_engine::entry::{self, Draft};
use quoris_engine::machine::BatchOutcome;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::consensus::{Callback, Data, TypeConfig};
use crate::env::Env;
use crate::env::offload::beside;
use crate::group::GroupRaft;
use crate::limits;
use crate::log::SharedLog;
use crate::planted::{Bug, is_planted};
use crate::types::{GroupId, Refusal, Watcher, WriteOutcome};
use crate::vacancy::Vacancy;

/// A write on its way into the log.
pub struct Proposal {
    draft: Draft,
    stage: Stage,
    tell: oneshot::Sender<WriteOutcome>,
}

/// Whoever made a proposal: the end that tells of its fate.
pub struct Caller {
    stage: Stage,
    tell: oneshot::Sender<WriteOutcome>,
}

/// The other end, at which a proposal's fate arrives.
pub struct Waiter {
    stage: Stage,
    /// Until it has been told.
    told: Option<oneshot::Receiver<WriteOutcome>>,
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
    /// A write of a draft's batches, and the end at which its fate arrives.
    pub fn new(draft: Draft) -> (Proposal, Waiter) {
        let (tell, told) = oneshot::channel();
        let stage = Stage::default();
        (Proposal { draft, stage: stage.clone(), tell }, Waiter { stage, told: Some(told) })
    }

    /// What it writes, and who waits for its fate.
    pub fn apart(self) -> (Draft, Caller) {
        (self.draft, Caller { stage: self.stage, tell: self.tell })
    }
}

impl Caller {
    /// Another draft whose fate is that of the caller's write.
    pub fn of(self, draft: Draft) -> Proposal {
        Proposal { draft, stage: self.stage, tell: self.tell }
    }

    /// Whether the caller has stopped waiting.
    pub fn is_withdrawn(&self) -> bool {
        self.stage.0.load(Ordering::Acquire) == WITHDRAWN
    }

    /// Tells the caller what became of the write, if that still waits.
    pub fn tell(self, outcome: WriteOutcome) {
        let _ = self.tell.send(outcome);
    }
}

impl Waiter {
    /// The write's fate, within `limit`: a write that has not been proposed by then is withdrawn and certainly
    /// never applied; of one that has, nothing can be said yet, but perhaps later.
    pub async fn wait(&mut self, limit: Duration) -> WriteOutcome {
        const GONE: WriteOutcome = WriteOutcome::Unknown("the node is shutting down");
        // Nothing more will be told.
        let Some(told) = &mut self.told else { return GONE };
        let told = tokio::time::timeout(limit, told).await;
        if told.is_ok() {
            self.told = None;
        }
        match told {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) if self.stage.advance(WITHDRAWN) => WriteOutcome::Refused(Refusal::ShuttingDown),
            Ok(Err(_)) => GONE,
            Err(_) if self.stage.advance(WITHDRAWN) || is_planted(Bug::TimeoutIsRefused) => {
                WriteOutcome::Refused(Refusal::NoQuorum)
            }
            Err(_) => WriteOutcome::Unknown("no quorum has confirmed the write in time"),
        }
    }
}

/// Proposes what arrives, until the group is gone.
///
/// What arrives while the node's log is full is refused: so beyond its bound the log grows by what is in flight only.
pub async fn run(
    group: GroupId,
    raft: GroupRaft,
    vacancy: Vacancy,
    log: SharedLog,
    env: Env,
    watcher: Arc<dyn Watcher>,
    mut waiting: mpsc::Receiver<Proposal>,
) {
    let in_flight = Arc::new(Semaphore::new(limits::ENTRIES_IN_FLIGHT));
    while let Some(first) = waiting.recv().await {
        // Never closed: acquiring cannot fail.
        let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else { return };
        await_company(&waiting).await;
        let (combined, bytes) = combine(first, &mut waiting);
        if combined.is_empty() {
            continue;
        }
        let offer = Offer::new(&env, watcher.conditions(group), combined, bytes, permit).await;
        match log.is_full() {
            true => offer.tell(|| WriteOutcome::Refused(Refusal::LogFull)),
            false => propose(raft.clone(), vacancy.clone(), offer).await,
        }
    }
}

/// Lets the runtime turn for as long as that brings more writes.
async fn await_company(waiting: &mpsc::Receiver<Proposal>) {
    let mut seen = waiting.len();
    for _ in 0..limits::TURNS_PER_ENTRY {
        turns(1).await;
        if waiting.len() <= seen {
            return;
        }
        seen = waiting.len();
    }
}

/// Lets the runtime turn so many times: all that is ready runs, and the sockets are polled, before this goes on.
pub async fn turns(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// `first` and whatever else waits, within the limits of an entry, and how many bytes that has; what was withdrawn is left out.
fn combine(first: Proposal, waiting: &mut mpsc::Receiver<Proposal>) -> (Vec<Proposal>, usize) {
    let (mut calls, mut bytes) = (0, 0);
    let mut combined = Vec::new();
    let mut next = Some(first);
    while let Some(proposal) = next {
        if proposal.stage.advance(PROPOSED) {
            calls += proposal.draft.calls();
            bytes += proposal.draft.size();
            combined.push(proposal);
        }
        let full = calls >= limits::CALLS_PER_ENTRY || bytes >= limits::BYTES_PER_ENTRY;
        next = if full { None } else { waiting.try_recv().ok() };
    }
    (combined, bytes)
}

/// How many of `writes`, each of another connection, become one entry. For `tests/counts` alone, which counts what it costs.
#[doc(hidden)]
pub fn combined(writes: Vec<Draft>) -> usize {
    let (sender, mut waiting) = mpsc::channel(writes.len().max(1));
    let mut waiters = Vec::with_capacity(writes.len());
    for draft in writes {
        let (proposal, waiter) = Proposal::new(draft);
        waiters.push(waiter);
        // There is room for each.
        let _ = sender.try_send(proposal);
    }
    waiting.try_recv().map_or(0, |first| combine(first, &mut waiting).0.len())
}

/// An entry on its way, and those who wait for its fate.
struct Offer {
    data: Data,
    /// For each proposal the number of its batches.
    tells: Vec<(usize, oneshot::Sender<WriteOutcome>)>,
    _permit: OwnedSemaphorePermit,
}

impl Offer {
    /// An entry of `combined`, whose drafts have so many `bytes`.
    async fn new(
        env: &Env,
        conditions: Stamp,
        combined: Vec<Proposal>,
        bytes: usize,
        permit: OwnedSemaphorePermit,
    ) -> Offer {
        let (now_ms, seed) = (env.clock.now_ms(), env.rng.next_u64());
        let mut stamp = Stamp { now_ms, seed, ..conditions };
        if is_planted(Bug::TickAhead) && combined.iter().all(|proposal| proposal.draft.batches() == 0) {
            stamp.now_ms += limits::TICK_INTERVAL.as_millis() as u64;
        }
        let apart = |Proposal { draft, tell, .. }: Proposal| {
            let batches = draft.batches();
            (draft, (batches, tell))
        };
        let (drafts, tells): (Vec<_>, Vec<_>) = combined.into_iter().map(apart).unzip();
        let encode = move || entry::encode(&stamp, drafts.iter());
        let entry = if bytes > limits::BESIDE_BYTES { beside(&*env.cpu, encode).await } else { encode() };
        Offer { data: Data(entry.into()), tells, _permit: permit }
    }

    /// Who has stopped waiting has answered UNKNOWN, which none of these contradicts.
    fn tell(self, outcome: impl Fn() -> WriteOutcome) {
        for (_, tell) in self.tells {
            let _ = tell.send(outcome());
        }
    }

    fn applied(mut self, outcomes: Vec<BatchOutcome>) {
        if let ([first, .., last], true) = (&mut self.tells[..], is_planted(Bug::RepliesSwapped)) {
            std::mem::swap(&mut first.1, &mut last.1);
        }
        let mut outcomes = outcomes.into_iter();
        for (batches, tell) in self.tells {
            let own = outcomes.by_ref().take(batches).collect();
            let _ = tell.send(applied(own));
        }
    }
}

/// What an applied entry means to who proposed batches with these outcomes: a part that was missing leaves the write undone.
fn applied(outcomes: Vec<BatchOutcome>) -> WriteOutcome {
    match outcomes.first() {
        Some(BatchOutcome::PartMissing) => WriteOutcome::Refused(Refusal::PartMissing),
        _ => WriteOutcome::Applied(outcomes),
    }
}

/// Boxed, because an entry that is refused for want of a leader is proposed again from its own callback.
fn propose(raft: GroupRaft, vacancy: Vacancy, offer: Offer) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let (data, again) = (offer.data.clone(), raft.clone());
        if is_planted(Bug::ProposeTwice) {
            let _ = raft.write(data.clone()).responder(Callback(Box::new(drop))).await;
        }
        let settle = move |result: ClientWriteResult<TypeConfig>| settle(again, vacancy, offer, result);
        // If the group has stopped, the callback is dropped with the request, and so tells everybody.
        let _ = raft.write(data).responder(Callback(Box::new(settle))).await;
    })
}

/// Brings the entry's fate to those who wait for it.
fn settle(raft: GroupRaft, vacancy: Vacancy, offer: Offer, result: ClientWriteResult<TypeConfig>) {
    match result {
        Ok(response) => {
            vacancy.has_ended();
            offer.applied(response.data.0);
        }
        // Never appended.
        Err(ClientWriteError::ForwardToLeader(to)) => match vacancy.elsewhere(&to) {
            Some(leader) => {
                vacancy.has_ended();
                offer.tell(|| WriteOutcome::Refused(Refusal::NotLeader { leader }));
            }
            None => drop(tokio::spawn(propose_to_the_next(raft, vacancy, offer))),
        },
        // Appended here, then cut off by another leader or covered by its snapshot: it may live on elsewhere.
        Err(ClientWriteError::LogEntryDiscarded(_)) => {
            offer.tell(|| WriteOutcome::Unknown("the leader has changed before the write was confirmed"));
        }
        Err(ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)) => {
            unreachable!("only changes of the membership end so")
        }
    }
}

/// Proposes the entry, which is in no log, again when the group has a leader; refuses it if that takes too long.
async fn propose_to_the_next(raft: GroupRaft, vacancy: Vacancy, offer: Offer) {
    match vacancy.outlast().await {
        true => propose(raft, vacancy, offer).await,
        false => offer.tell(|| WriteOutcome::Refused(vacancy.refusal())),
    }
}
