//! Counts rare events, to show that runs reach what they should: a fault that never meets anything proves nothing.

use std::collections::BTreeMap;

/// Something worth reaching.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A blocked call was dropped by a new leader.
    BlockedDropped,
    /// A blocked call was given an element.
    BlockedServed,
    /// A blocked call's time was over.
    BlockedTimedOut,
    /// A call that may have blocked ended with its fate unknown.
    BlockedUnknown,
    /// A node's clock went back.
    ClockWentBack,
    /// An entry that a leader had not got committed was replaced by another's.
    ConflictTruncated,
    /// What a node had was damaged, and was set aside.
    DataSetAside,
    /// A key that had been written was gone, its deadline having passed.
    DeadlinePassed,
    /// A leader was deposed with entries in flight.
    DeposedMidFlight,
    /// Two replicas, or two lives of one, were compared at the same index.
    DigestCompared,
    /// A node stopped because its disk failed.
    DiskFailed,
    /// A node lost its disk.
    DiskWiped,
    /// A follower that was left without new entries was sent them sooner, as one that was asked first was late, or slower.
    FirstWasLate,
    /// A follower that no quorum needed was left without new entries for a moment.
    FollowerHeldBack,
    /// A forwarded call's fate became unknown because the node it went to was lost.
    ForwardLost,
    /// A leader made an entry while its clock was behind that of its log.
    LeaderBehindLog,
    /// The disk of a leader was slowed down, or told to fail.
    LeaderDiskFaulted,
    /// A node became leader of a group.
    LeaderElected,
    /// A group had a new leader while the node of one of its replicas was busy with a long script.
    LeaderElectedInScript,
    /// A leader was cut off from all other nodes.
    LeaderIsolated,
    /// A leader's process was killed, or its power failed.
    LeaderKilled,
    /// A leader was paused.
    LeaderPaused,
    /// A leader lost its disk.
    LeaderWiped,
    /// A node that led a group was taken out of the cluster.
    LeaderRemoved,
    /// A lock was held when somebody wanted to take it.
    LockHeld,
    /// A write was refused because its leader's log was full.
    LogFull,
    /// A call that changes the members ended with its fate unknown.
    MemberUnknown,
    /// A client was sent to another node.
    Moved,
    /// A node that had lost its disk voted again.
    NewcomerCaughtUp,
    /// A node that was made a member while the cluster ran voted.
    NodeJoined,
    /// A node was taken out of the cluster.
    NodeRemoved,
    /// Two nodes came back at each other's addresses.
    NodesExchanged,
    /// The power failed during an operation of the disk.
    PowerCutInOperation,
    /// The power failed while a node's data were being set aside.
    PowerCutInRejoin,
    /// The power of all nodes failed at once.
    PowerCutOfAll,
    /// A node that was taken out of the cluster stopped, or came back and was told so.
    RemovedStopped,
    /// A replica that started again began with a snapshot.
    RestoredFromSnapshot,
    /// A long script was acknowledged although its group had had another leader meanwhile.
    ScriptAcrossElection,
    /// A script used up its budget, and was undone.
    ScriptOverdrawn,
    /// A script that writes ended with its fate unknown.
    ScriptUnknown,
    /// A call that moved slots could not wait for their arrival.
    SlotMoveLate,
    /// A call that moved slots ended with its fate unknown.
    SlotMoveUnknown,
    /// Slots were moved to another group.
    SlotsMoved,
    /// A replica had a third snapshot in one life of its node.
    SnapshotGenerations,
    /// A replica took over another one's snapshot.
    SnapshotInstalled,
    /// A snapshot reached a replica whose log had all that it covers.
    SnapshotNotNeeded,
    /// A replica wrote a snapshot, or installed one.
    SnapshotTaken,
    /// Two nodes believed to lead the same group.
    StaleLeader,
    /// A transaction was acknowledged.
    TransactionAcknowledged,
    /// A transaction ended with its fate unknown.
    TransactionUnknown,
    /// A write whose fate was unknown was seen later.
    UnknownSeen,
    /// A write whose fate was unknown was never seen.
    UnknownUnseen,
    /// A transaction was given up because a watched key had changed.
    WatchFailed,
    /// A transaction was run because a watched key had not changed.
    WatchHeld,
    /// A write was answered as certainly not applied.
    WriteRefused,
}

impl Event {
    /// Every event.
    pub const ALL: [Event; 55] = [
        Event::BlockedDropped,
        Event::BlockedServed,
        Event::BlockedTimedOut,
        Event::BlockedUnknown,
        Event::ClockWentBack,
        Event::ConflictTruncated,
        Event::DataSetAside,
        Event::DeadlinePassed,
        Event::DeposedMidFlight,
        Event::DigestCompared,
        Event::DiskFailed,
        Event::DiskWiped,
        Event::FirstWasLate,
        Event::FollowerHeldBack,
        Event::ForwardLost,
        Event::LeaderBehindLog,
        Event::LeaderDiskFaulted,
        Event::LeaderElected,
        Event::LeaderElectedInScript,
        Event::LeaderIsolated,
        Event::LeaderKilled,
        Event::LeaderPaused,
        Event::LeaderWiped,
        Event::LeaderRemoved,
        Event::LockHeld,
        Event::LogFull,
        Event::MemberUnknown,
        Event::Moved,
        Event::NewcomerCaughtUp,
        Event::NodeJoined,
        Event::NodeRemoved,
        Event::NodesExchanged,
        Event::PowerCutInOperation,
        Event::PowerCutInRejoin,
        Event::PowerCutOfAll,
        Event::RemovedStopped,
        Event::RestoredFromSnapshot,
        Event::ScriptAcrossElection,
        Event::ScriptOverdrawn,
        Event::ScriptUnknown,
        Event::SlotMoveLate,
        Event::SlotMoveUnknown,
        Event::SlotsMoved,
        Event::SnapshotGenerations,
        Event::SnapshotInstalled,
        Event::SnapshotNotNeeded,
        Event::SnapshotTaken,
        Event::StaleLeader,
        Event::TransactionAcknowledged,
        Event::TransactionUnknown,
        Event::UnknownSeen,
        Event::UnknownUnseen,
        Event::WatchFailed,
        Event::WatchHeld,
        Event::WriteRefused,
    ];
}

/// How often each event came to pass.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<Event, u64>,
}

impl Coverage {
    /// Once more.
    pub fn count(&mut self, event: Event) {
        self.add(event, 1);
    }

    /// So many times more.
    pub fn add(&mut self, event: Event, times: u64) {
        *self.counts.entry(event).or_default() += times;
    }

    /// All that `other` has counted.
    pub fn add_all(&mut self, other: &Coverage) {
        other.counts.iter().for_each(|(event, times)| self.add(*event, *times));
    }

    /// How often.
    pub fn of(&self, event: Event) -> u64 {
        self.counts.get(&event).copied().unwrap_or(0)
    }

    /// `Event=count` for every event, separated by spaces.
    pub fn line(&self) -> String {
        let one = |event: &Event| format!("{event:?}={}", self.of(*event));
        Event::ALL.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    /// Adds what [`Coverage::line`] wrote; what it does not know it leaves out.
    pub fn add_line(&mut self, line: &str) {
        for word in line.split(' ') {
            let Some((name, count)) = word.split_once('=') else { continue };
            let event = Event::ALL.iter().find(|event| format!("{event:?}") == name);
            if let (Some(event), Ok(count)) = (event, count.parse()) {
                self.add(*event, count);
            }
        }
    }
}
