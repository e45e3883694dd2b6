//! One confirmation of leadership for all reads that wait (read index, Raft dissertation section 6.4).
//!
//! A read may use a confirmation that *began* after the read arrived: so while one is under way, newcomers wait for
//! the next.

use openraft::ReadPolicy;
use openraft::errors::{ForwardToLeader, LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};

use crate::consensus::TypeConfig;
use crate::group::GroupRaft;
use crate::node::ReadMode;
use crate::planted::{Bug, is_planted};
use crate::types::Refusal;

/// A read that waits.
pub type Waiting = oneshot::Sender<Result<(), Refusal>>;

/// Confirms, until the group is gone.
pub async fn run(raft: GroupRaft, mode: ReadMode, mut readers: mpsc::Receiver<Waiting>) {
    let mut waiting = Vec::new();
    while readers.recv_many(&mut waiting, usize::MAX).await > 0 {
        let result = confirm(&raft, mode).await;
        for reader in waiting.drain(..) {
            // A reader may have gone with its connection.
            let _ = reader.send(result.clone());
        }
    }
}

/// Ready when this replica has applied all that was committed before the call, and was the leader after it.
async fn confirm(raft: &GroupRaft, mode: ReadMode) -> Result<(), Refusal> {
    let policy = match mode {
        ReadMode::ReadIndex => ReadPolicy::ReadIndex,
        ReadMode::Lease => ReadPolicy::LeaseRead,
        ReadMode::Local => return Ok(()),
    };
    if is_planted(Bug::ReadWithoutLeadership) {
        return Ok(());
    }
    if is_planted(Bug::ReadBeforeApply) {
        return raft.get_read_log_id(policy).await.map(drop).map_err(|error| refusal(&error));
    }
    match raft.ensure_linearizable(policy).await {
        Ok(_) => Ok(()),
        Err(error) => Err(refusal(&error)),
    }
}

fn refusal(error: &RaftError<TypeConfig, LinearizableReadError<TypeConfig>>) -> Refusal {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(ForwardToLeader {
            leader_id: Some(leader),
            ..
        })) => Refusal::NotLeader { leader: *leader },
        RaftError::APIError(_) => Refusal::NoQuorum,
        RaftError::Fatal(_) => Refusal::ShuttingDown,
    }
}
