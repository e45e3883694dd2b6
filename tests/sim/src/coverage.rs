//! Counts rare events, to show that runs reach what they should: a fault that never meets anything proves nothing.

use std::collections::BTreeMap;

/// Something worth reaching.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// An entry that a leader had not got committed was replaced by another's.
    ConflictTruncated,
    /// A leader was deposed with entries in flight.
    DeposedMidFlight,
    /// Two replicas, or two lives of one, were compared at the same index.
    DigestCompared,
    /// A node stopped because its disk failed.
    DiskFailed,
    /// A node lost its disk.
    DiskWiped,
    /// A node became leader of a group.
    LeaderElected,
    /// The power failed during an operation of the disk.
    PowerCutInOperation,
    /// A replica took over another one's snapshot.
    SnapshotInstalled,
    /// A replica wrote a snapshot, or installed one.
    SnapshotTaken,
    /// A write whose fate was unknown was seen later.
    UnknownSeen,
    /// A write whose fate was unknown was never seen.
    UnknownUnseen,
    /// A write was answered as certainly not applied.
    WriteRefused,
}

impl Event {
    /// Every event.
    pub const ALL: [Event; 12] = [
        Event::ConflictTruncated,
        Event::DeposedMidFlight,
        Event::DigestCompared,
        Event::DiskFailed,
        Event::DiskWiped,
        Event::LeaderElected,
        Event::PowerCutInOperation,
        Event::SnapshotInstalled,
        Event::SnapshotTaken,
        Event::UnknownSeen,
        Event::UnknownUnseen,
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
