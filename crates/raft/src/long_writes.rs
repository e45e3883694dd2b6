//! Writes that are too long for one entry, proposed part by part, with whatever else waits in between.
//!
//! An entry of 64 MB holds up its group, and the log that all groups of the node share, for as long as the disk, the network and
//! every copy of it take; in parts it holds up nobody for longer than one part. The parts mean nothing until the last one is
//! applied (`parts.rs` of the engine). So the last one's fate is the write's, and until it is proposed the write can still be
//! refused or withdrawn.

use std::collections::VecDeque;
use std::time::Duration;

use quoris_engine::entry::Draft;
use tokio::sync::mpsc;

use crate::env::Env;
use crate::limits;
use crate::propose::{Proposal, Waiter};
use crate::types::{Refusal, WriteOutcome};

/// Carries out one long write of a group after the other: of another one's parts a replica would keep nothing.
pub struct LongWrites {
    pub env: Env,
    /// Where the parts are proposed.
    pub proposals: mpsc::Sender<Proposal>,
    /// How long a part may take.
    pub write_timeout: Duration,
}

impl LongWrites {
    /// Carries out what arrives, until the group is gone.
    pub async fn run(self, mut waiting: mpsc::Receiver<Proposal>) {
        while let Some(write) = waiting.recv().await {
            if !self.carry_out(write).await {
                // If that is lost, too, the group's next long write or leader does the same.
                let _ = self.proposals.send(Proposal::new(Draft::without_parts()).0).await;
            }
        }
    }

    /// Proposes all of a write's parts; whether it did, or has given the write up.
    async fn carry_out(&self, write: Proposal) -> bool {
        let (draft, last) = write.apart();
        let mut parts = draft.in_parts(self.env.rng.next_u64(), limits::PART_BYTES).peekable();
        let mut under_way: VecDeque<Waiter> = VecDeque::new();
        while let Some(part) = parts.next() {
            if last.is_withdrawn() {
                return false;
            }
            if parts.peek().is_none() {
                // Whoever waits for it is told by the entry itself. A closed queue tells them, too.
                let _ = self.proposals.send(last.of(part)).await;
                return true;
            }
            if under_way.len() >= limits::PARTS_IN_FLIGHT
                && let Some(first) = under_way.pop_front()
                && let Err(refusal) = self.applied(first).await
            {
                last.refuse(refusal);
                return false;
            }
            let (proposal, waiter) = Proposal::new(part);
            let _ = self.proposals.send(proposal).await;
            under_way.push_back(waiter);
        }
        unreachable!("a write that is long has a last part");
    }

    /// Whether a part has been applied. Without it the write does nothing, now or later, even if nobody knows what has become
    /// of the part.
    async fn applied(&self, mut part: Waiter) -> Result<(), Refusal> {
        match part.wait(self.write_timeout).await {
            WriteOutcome::Applied(_) => Ok(()),
            WriteOutcome::Refused(refusal) => Err(refusal),
            WriteOutcome::Unknown(_) => Err(Refusal::NoQuorum),
        }
    }
}
