//! One confirmation of leadership for all reads that wait (read index, Raft dissertation section 6.4).
//!
//! A read may use a confirmation that *began* after the read arrived: so while one is under way, newcomers wait for
//! the next. One that fails for want of a leader is tried again while the vacancy is young.

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};

use crate::group::GroupRaft;
use crate::limits;
use crate::node::ReadMode;
use crate::planted::{Bug, is_planted};
use crate::propose::turns;
use crate::types::Refusal;
use crate::vacancy::Vacancy;

/// A read that waits.
pub type Waiting = oneshot::Sender<Result<(), Refusal>>;

/// Confirms, until the group is gone.
pub async fn run(raft: GroupRaft, vacancy: Vacancy, mode: ReadMode, mut readers: mpsc::Receiver<Waiting>) {
    let mut waiting = Vec::new();
    while readers.recv_many(&mut waiting, usize::MAX).await > 0 {
        turns(limits::TURNS_PER_CONFIRMATION).await;
        // Those that have come meanwhile; a closed channel is noticed above.
        while let Ok(reader) = readers.try_recv() {
            waiting.push(reader);
        }
        let result = confirm(&raft, &vacancy, mode).await;
        for reader in waiting.drain(..) {
            // A reader may have gone with its connection.
            let _ = reader.send(result.clone());
        }
    }
}

/// Ready when this replica has applied all that was committed before the call, and was the leader after it.
async fn confirm(raft: &GroupRaft, vacancy: &Vacancy, mode: ReadMode) -> Result<(), Refusal> {
    let policy = match mode {
        ReadMode::ReadIndex => ReadPolicy::ReadIndex,
        ReadMode::Lease => ReadPolicy::LeaseRead,
        ReadMode::Local => return Ok(()),
    };
    if is_planted(Bug::ReadWithoutLeadership) {
        return Ok(());
    }
    if is_planted(Bug::ReadBeforeApply) {
        return raft.get_read_log_id(policy).await.map(drop).map_err(|_| Refusal::NoQuorum);
    }
    if vacancy.is_old() {
        return Err(vacancy.refusal());
    }
    loop {
        let elsewhere = match raft.ensure_linearizable(policy.clone()).await {
            Ok(_) => {
                vacancy.has_ended();
                return Ok(());
            }
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => vacancy.elsewhere(&to),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => None,
            Err(RaftError::Fatal(_)) => return Err(Refusal::ShuttingDown),
        };
        if let Some(leader) = elsewhere {
            vacancy.has_ended();
            return Err(Refusal::NotLeader { leader });
        }
        if !vacancy.outlast().await {
            return Err(vacancy.refusal());
        }
    }
}
