//! Bugs that can be planted, so that the simulator can be shown to find them.
//!
//! A test that cannot fail proves nothing. Each [`Bug`] is a mistake that a system like this one has made; the place
//! where it would be made asks [`is_planted`]. `tests/sim/tests/planted.rs` plants one after the other and demands that
//! the simulator notices.
//!
//! Only a build with the feature `planted-bugs`, which tests/sim alone turns on, *and* with debug assertions knows
//! them. In every other one, in a release build of the whole workspace too, [`is_planted`] is the constant `false` and
//! nothing is left of them.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use openraft::EntryPayload;
use quoris_engine::entry::Message;

use crate::log::Payload;
use crate::wire;

/// Whether this build can have a bug planted.
pub const POSSIBLE: bool = cfg!(all(feature = "planted-bugs", debug_assertions));

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// The log says that entries are durable when it has accepted them.
    AcknowledgeBeforeFsync = 1,
    /// A follower takes every entry that it is sent for committed, and applies it.
    ApplyBeforeCommit,
    /// Replicas use a number of their own while they apply.
    ApplyDiverges,
    /// A slot that moves is taken for whole when its first piece has come.
    ArrivedByHalf,
    /// What a new leader's first entry has done is told to nobody.
    BlankIsMute,
    /// Each replica allows a script as many instructions as its own node is set to.
    BudgetIsLocal,
    /// A blocked call that its client no longer waits for is not forgotten by the log.
    CancelNotLogged,
    /// The catalog is replaced by a file that was not fsynced.
    CatalogNotDurable,
    /// Who is asked whether it knows of a newer leader says no, whatever it knows.
    ConfirmBlindly,
    /// A snapshot's bytes are taken for right, whatever their checksum says.
    DamageUnnoticed,
    /// A read looks at a key that is due by its leader's clock, and not by the log's yet.
    DueIsAlive,
    /// One replica, once, applies an entry without its calls.
    EntryLost,
    /// A node goes on though one of its groups can do so no longer.
    FailedGroupIgnored,
    /// The keys of a slot that moves are dropped before they have arrived.
    ForgottenEarly,
    /// A write whose relay broke is answered as certainly not applied.
    ForwardLostIsRefused,
    /// A node takes part in founding a cluster though it is part of one.
    FoundTwice,
    /// The log goes on after a failed fsync as if it had worked.
    FsyncErrorIgnored,
    /// The log takes what found no room on the disk for written.
    FullDiskIgnored,
    /// Nobody who links two nodes asks whether they are those that the other takes them for.
    HelloUnchecked,
    /// A change of membership that a leader has left half done stays so.
    JointLeftBehind,
    /// A node that has joined votes in a group before it has caught up.
    LearnerUnready,
    /// The log's clock begins anew with the first entry of a term: at its leader's.
    NewTermNewClock,
    /// A node whose disk was wiped follows leaders before it knows the newest term.
    NewcomerFollows,
    /// A node whose disk was wiped votes at once.
    NewcomerVotes,
    /// A node reads entries that it has written in an earlier life as if they had no seed: as one would whose build looks for
    /// it elsewhere than the one that wrote them.
    OlderEntryMisread,
    /// A node answers its peers only when its clients' writes have been answered.
    PeersWaitForClients,
    /// A write is proposed again before its fate is known.
    ProposeTwice,
    /// The log is purged behind a snapshot that is not durable.
    PurgeBeforeSnapshotDurable,
    /// The log is purged one entry further than the snapshot goes.
    PurgeTooFar,
    /// A read does not wait until what is committed is applied.
    ReadBeforeApply,
    /// A read does not confirm that its node still leads.
    ReadWithoutLeadership,
    /// A node that starts takes what it reads of its log for durable.
    RecoveredNotHardened,
    /// A script whose leader has lost its group while it was tried out is answered with what it came to there.
    RehearsalAnswers,
    /// A node that was removed goes on for ever.
    RemovedRemains,
    /// Two writes that shared an entry are given each other's replies.
    RepliesSwapped,
    /// After another leader's entries should have been cut off, their indexes count as filled.
    ReuseIndexAfterTruncation,
    /// A script reads a clock of its own replica's.
    ScriptReadsClock,
    /// The name of a new segment of the log is not made durable.
    SegmentNameNotDurable,
    /// A leader that restarts goes on in its term, without the no-op of a new one.
    SkipNoop,
    /// A group is born with a slot of its neighbour's.
    SlotOwnedTwice,
    /// A snapshot does not say who the voters are.
    SnapshotWithoutMembership,
    /// A snapshot does not have what has come of a write in parts.
    SnapshotWithoutParts,
    /// A snapshot does not say who waits for which key.
    SnapshotWithoutWaiters,
    /// An entry that only carries the time carries that of the next one, so that keys which are due by then are removed.
    TickAhead,
    /// A write that has entered the log and not been confirmed in time is answered as certainly not applied.
    TimeoutIsRefused,
    /// A node that starts takes a torn batch of its log for whole.
    TornBatchTaken,
    /// A vote is given to a candidate whose log is behind.
    VoteForShorterLog,
    /// A vote is given and not written.
    VoteNotDurable,
    /// A transaction runs though a key that it watches has changed.
    WatchIgnored,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Bug; 49] = [
        Bug::AcknowledgeBeforeFsync,
        Bug::ApplyBeforeCommit,
        Bug::ApplyDiverges,
        Bug::ArrivedByHalf,
        Bug::BlankIsMute,
        Bug::BudgetIsLocal,
        Bug::CancelNotLogged,
        Bug::CatalogNotDurable,
        Bug::ConfirmBlindly,
        Bug::DamageUnnoticed,
        Bug::DueIsAlive,
        Bug::EntryLost,
        Bug::FailedGroupIgnored,
        Bug::ForgottenEarly,
        Bug::ForwardLostIsRefused,
        Bug::FoundTwice,
        Bug::FsyncErrorIgnored,
        Bug::FullDiskIgnored,
        Bug::HelloUnchecked,
        Bug::JointLeftBehind,
        Bug::LearnerUnready,
        Bug::NewTermNewClock,
        Bug::NewcomerFollows,
        Bug::NewcomerVotes,
        Bug::OlderEntryMisread,
        Bug::PeersWaitForClients,
        Bug::ProposeTwice,
        Bug::PurgeBeforeSnapshotDurable,
        Bug::PurgeTooFar,
        Bug::ReadBeforeApply,
        Bug::ReadWithoutLeadership,
        Bug::RecoveredNotHardened,
        Bug::RehearsalAnswers,
        Bug::RemovedRemains,
        Bug::RepliesSwapped,
        Bug::ReuseIndexAfterTruncation,
        Bug::ScriptReadsClock,
        Bug::SegmentNameNotDurable,
        Bug::SkipNoop,
        Bug::SlotOwnedTwice,
        Bug::SnapshotWithoutMembership,
        Bug::SnapshotWithoutParts,
        Bug::SnapshotWithoutWaiters,
        Bug::TickAhead,
        Bug::TimeoutIsRefused,
        Bug::TornBatchTaken,
        Bug::VoteForShorterLog,
        Bug::VoteNotDurable,
        Bug::WatchIgnored,
    ];
}

/// 0, or the bug that is planted.
static PLANTED: AtomicU8 = AtomicU8::new(0);

/// Whether a bug that strikes once has struck.
static STRUCK: AtomicBool = AtomicBool::new(false);

/// Plants `bug` in this process for good.
///
/// # Panics
/// If this build cannot have one.
pub fn plant(bug: Bug) {
    if !POSSIBLE {
        panic!("this build can have no bug planted");
    }
    PLANTED.store(bug as u8, Ordering::Relaxed);
    STRUCK.store(false, Ordering::Relaxed);
}

/// Whether `bug` is planted.
#[inline(always)]
pub fn is_planted(bug: Bug) -> bool {
    POSSIBLE && PLANTED.load(Ordering::Relaxed) == bug as u8
}

/// Whether a bug that strikes once strikes now.
pub fn strikes() -> bool {
    !STRUCK.swap(true, Ordering::Relaxed)
}

/// What a replica's own clock says that a planted bug reads: later at every look, so never the same on two replicas.
pub fn own_clock_ms() -> u64 {
    static LOOKS: AtomicU64 = AtomicU64::new(0);
    LOOKS.fetch_add(1, Ordering::Relaxed)
}

/// An entry of the log, as [`Bug::OlderEntryMisread`] has it.
pub fn misread(payload: Payload) -> Payload {
    use quoris_engine::entry::Entry;
    let Ok(mut read) = wire::from_entry(payload.clone()) else { return payload };
    let EntryPayload::Normal(data) = &mut read.payload else { return payload };
    let mut entry = Entry::decode(data.0.clone()).unwrap_or_default();
    entry.stamp.iter_mut().for_each(|stamp| stamp.seed = 0);
    data.0 = entry.encode_to_vec().into();
    wire::entry(&read)
}
