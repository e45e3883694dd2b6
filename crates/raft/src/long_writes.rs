//! Writes that are too long for one entry, proposed part by part, with whatever else waits in between.
//!
//! An entry of 64 MB holds up its group, and the log that all groups of the node share, for as long as the disk, the network and
//! every copy of it take; in parts it holds up nobody for longer than one part. The parts mean nothing until the last one is
//! applied (`parts.rs` of the engine). So the last one's fate is the write's, and until it is proposed the write can still be
//! refused or withdrawn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use quoris_engine::entry::Draft;
use tokio::sync::mpsc;

use crate::env::Rng;
use crate::limits;
use crate::propose::{Proposal, Waiter};
use crate::types::{Refusal, WriteOutcome};

/// Carries out one long write of a group after the other: of another one's parts a replica would keep nothing.
pub struct LongWrites {
    pub rng: Arc<dyn Rng>,
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
        let mut parts = draft.in_parts(self.rng.next_u64(), limits::PART_BYTES).peekable();
        let mut under_way: VecDeque<Waiter> = VecDeque::new();
        while let Some(part) = parts.next() {
            if last.is_withdrawn() {
                return false;
            }
            if under_way.len() >= limits::PARTS_IN_FLIGHT
                && let Some(first) = under_way.pop_front()
                && let Err(refusal) = self.applied(first).await
            {
                last.tell(WriteOutcome::Refused(refusal));
                return false;
            }
            if parts.peek().is_none() {
                // Whoever waits for it is told by the entry itself. A closed queue tells them, too.
                let _ = self.proposals.send(last.of(part)).await;
                return true;
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

#[cfg(test)]
mod tests {
    use quoris_engine::{Batch, Call};

    use super::*;
    use crate::propose::Caller;

    struct Seven;

    impl Rng for Seven {
        fn next_u64(&self) -> u64 {
            7
        }
    }

    /// A group whose proposals a test sees, and a write of so many parts.
    fn group(parts: usize) -> (mpsc::Sender<Proposal>, mpsc::Receiver<Proposal>, Waiter) {
        let (proposals, proposed) = mpsc::channel(100);
        let (long_writes, waiting) = mpsc::channel(100);
        let write_timeout = Duration::from_secs(5);
        tokio::spawn(LongWrites { rng: Arc::new(Seven), proposals, write_timeout }.run(waiting));
        let word = vec![b'x'; (parts - 1) * limits::PART_BYTES];
        let (proposal, waiter) = Proposal::new(Batch::of(vec![Call::new([word])]).into());
        long_writes.try_send(proposal).expect("room");
        (long_writes, proposed, waiter)
    }

    async fn next(proposed: &mut mpsc::Receiver<Proposal>) -> (Draft, Caller) {
        proposed.recv().await.expect("a proposal").apart()
    }

    fn apply(part: Caller) {
        part.tell(WriteOutcome::Applied(Vec::new()));
    }

    /// Nothing is proposed, however long one waits.
    async fn assert_nothing(proposed: &mut mpsc::Receiver<Proposal>) {
        let waited = tokio::time::timeout(Duration::from_secs(1), proposed.recv()).await;
        assert!(waited.is_err(), "nothing is to be proposed");
    }

    fn is_end(draft: &Draft) -> bool {
        draft.batches() == 0
    }

    #[tokio::test(start_paused = true)]
    async fn some_parts_are_under_way_at_once_and_the_last_ones_fate_is_the_writes() {
        let (_group, mut proposed, mut waiter) = group(6);
        let mut under_way = VecDeque::new();
        for _ in 0..limits::PARTS_IN_FLIGHT {
            under_way.push_back(next(&mut proposed).await.1);
        }
        for _ in limits::PARTS_IN_FLIGHT..6 {
            assert_nothing(&mut proposed).await;
            apply(under_way.pop_front().expect("a part"));
            under_way.push_back(next(&mut proposed).await.1);
        }
        under_way.pop_back().expect("the last").tell(WriteOutcome::Unknown("as it is"));
        assert!(matches!(waiter.wait(Duration::ZERO).await, WriteOutcome::Unknown("as it is")));
        assert_nothing(&mut proposed).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_is_not_known_to_be_applied_is_the_end() {
        for lost in [WriteOutcome::Refused(Refusal::LogFull), WriteOutcome::Unknown("gone")] {
            let (_group, mut proposed, mut waiter) = group(6);
            next(&mut proposed).await.1.tell(lost);
            assert!(!is_end(&next(&mut proposed).await.0), "it was on its way");
            assert!(is_end(&next(&mut proposed).await.0));
            assert!(matches!(waiter.wait(Duration::ZERO).await, WriteOutcome::Refused(_)));
            assert_nothing(&mut proposed).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_waits_for_is_given_up_and_certainly_not_applied() {
        let (_group, mut proposed, mut waiter) = group(6);
        assert!(matches!(waiter.wait(Duration::ZERO).await, WriteOutcome::Refused(Refusal::NoQuorum)));
        assert!(is_end(&next(&mut proposed).await.0));
        assert_nothing(&mut proposed).await;
    }
}
