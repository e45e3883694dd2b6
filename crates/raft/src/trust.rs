//! Whether a replica is what its group's others are, as far as anybody has found out.
//!
//! Two comparisons feed it. A leader's *checks* compare running digests as entries are applied
//! ([`quoris_engine::digest`]). An *audit* compares whole states at one index, when somebody asks for it (`audit.rs`). A
//! replica that either has found to differ is *distrusted*: it answers nothing, grants no vote, and leads nothing, until it
//! has been rebuilt (`rebuild.rs`), has taken a leader's snapshot, or an audit has shown it to be what a majority is.
//! (When it grants a vote all the same, `Group::check_may_grant` says.) Distrust is recorded in the catalog (`standing.rs`),
//! so that it outlives the process.
//!
//! Invariant: distrust ends only when the replica's state has come from another replica, durably, or equals a majority's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use quoris_engine::digest::Difference;
use quoris_engine::snapshot::{Snapshot, StateDigest};
use tokio::sync::watch;

/// A replica's whole state at one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The index of the entry that asked for it.
    pub index: u64,
    /// The digest of the state that the entry left.
    pub digest: u32,
}

/// So many audits are remembered: several may be under way at once, and each asks for its own.
const REMEMBERED: usize = 16;

/// What is known of one replica. Shared by the group and by what applies its entries.
pub struct Trust {
    found: Mutex<Option<Difference>>,
    /// Whether `found` has anything, for those who ask at every call.
    distrusted: AtomicBool,
    /// Whether the replica has appealed against it.
    appealed: AtomicBool,
    /// Those whose digest is there, oldest first.
    audits: watch::Sender<VecDeque<Audit>>,
    views: Mutex<Views>,
}

/// States that wait to be digested, oldest first.
#[derive(Default)]
struct Views {
    waiting: VecDeque<Snapshot>,
    /// Whether somebody digests.
    busy: bool,
}

impl Trust {
    /// With what was recorded of the replica before the node started.
    pub fn new(recorded: Option<Difference>) -> Trust {
        let distrusted = AtomicBool::new(recorded.is_some());
        Trust {
            found: Mutex::new(recorded),
            distrusted,
            appealed: AtomicBool::new(false),
            audits: watch::Sender::default(),
            views: Mutex::default(),
        }
    }

    /// Why the replica is distrusted, if it is.
    pub fn difference(&self) -> Option<Difference> {
        *self.found()
    }

    /// Whether the replica is distrusted.
    pub fn is_distrusted(&self) -> bool {
        self.distrusted.load(Ordering::Acquire)
    }

    /// Distrusts the replica; false if it was already.
    pub fn distrust(&self, difference: Difference) -> bool {
        let mut found = self.found();
        let first = found.is_none();
        found.get_or_insert(difference);
        self.distrusted.store(true, Ordering::Release);
        first
    }

    /// Ends distrust: the replica's state has come from another one, or is what a majority has.
    pub fn restore(&self) {
        let mut found = self.found();
        *found = None;
        self.distrusted.store(false, Ordering::Release);
        self.appealed.store(false, Ordering::Release);
    }

    /// Whether an appeal is due: the replica is distrusted, and has not appealed yet. From now on it has.
    pub fn begin_appeal(&self) -> bool {
        self.is_distrusted() && !self.appealed.swap(true, Ordering::AcqRel)
    }

    /// The appeal was not heard.
    pub fn may_appeal_again(&self) {
        self.appealed.store(false, Ordering::Release);
    }

    /// Digests `state` beside the group's other work (it may be as large as the memory), after those that came before it.
    pub fn audit(self: &Arc<Trust>, state: Snapshot) {
        let mut views = self.views();
        views.waiting.push_back(state);
        if !std::mem::replace(&mut views.busy, true) {
            tokio::spawn(digest(Arc::clone(self)));
        }
    }

    /// The newest audit whose digest is there.
    pub fn newest_audit(&self) -> Option<Audit> {
        self.audits.borrow().back().copied()
    }

    /// The digest of the audit at `index`, once it is there; `None` when a later one is and this replica has none of it.
    pub async fn audited(&self, index: u64) -> Option<u32> {
        let mut audits = self.audits.subscribe();
        let there = audits.wait_for(|audits| audits.back().is_some_and(|newest| newest.index >= index));
        let audits = there.await.ok()?;
        audits.iter().find(|audit| audit.index == index).map(|audit| audit.digest)
    }

    fn remember(&self, audit: Audit) {
        self.audits.send_modify(|audits| {
            audits.push_back(audit);
            if audits.len() > REMEMBERED {
                audits.pop_front();
            }
        });
    }

    fn next_view(&self) -> Option<Snapshot> {
        let mut views = self.views();
        let next = views.waiting.pop_front();
        views.busy = next.is_some();
        next
    }

    fn views(&self) -> MutexGuard<'_, Views> {
        self.views.lock().expect("no code panics while it holds this lock")
    }

    fn found(&self) -> MutexGuard<'_, Option<Difference>> {
        self.found.lock().expect("no code panics while it holds this lock")
    }
}

/// Digests what waits, until nothing does.
async fn digest(trust: Arc<Trust>) {
    while let Some(state) = trust.next_view() {
        let mut digest = StateDigest::default();
        for chunk in state.chunks() {
            digest.add(&chunk);
            tokio::task::yield_now().await;
        }
        trust.remember(Audit { index: state.applied(), digest: digest.value() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_counts_until_the_state_is_anothers() {
        let difference = |index| Difference { index, ours: 1, leaders: 2 };
        let trust = Trust::new(None);
        assert!(!trust.is_distrusted());
        assert!(trust.distrust(difference(7)));
        assert!(!trust.distrust(difference(9)), "it was distrusted");
        assert_eq!((trust.is_distrusted(), trust.difference()), (true, Some(difference(7))));
        assert_eq!((trust.begin_appeal(), trust.begin_appeal()), (true, false), "once");
        trust.restore();
        assert!(!trust.begin_appeal());
        assert_eq!((trust.is_distrusted(), trust.difference()), (false, None));
        assert!(Trust::new(Some(difference(7))).is_distrusted(), "what was recorded counts");
    }

    #[tokio::test]
    async fn each_of_several_audits_gets_its_own_digest() {
        let trust = Arc::new(Trust::new(None));
        let mut machine = quoris_engine::Machine::new(1);
        let last = REMEMBERED as u64 + 3;
        for index in 1..=last {
            machine.skip(quoris_engine::Position { term: 1, index: 2 * index });
            trust.audit(machine.snapshot());
        }
        assert_eq!(trust.audited(2 * last).await, Some(machine.digest()));
        assert_eq!(trust.newest_audit().map(|audit| audit.index), Some(2 * last));
        assert!(trust.audited(2 * last - 2).await.is_some(), "the one before is remembered");
        assert_eq!(trust.audited(2 * last - 1).await, None, "there was no such audit, and none will be");
        assert_eq!(trust.audited(2).await, None, "it is forgotten");
    }
}
