//! What can be seen of a replica by those who compare replicas: tests, and people who look for a difference.
//!
//! It only looks. Nothing here changes a replica, waits for a peer, or promises freshness.

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{RaftLogReader, ServerState};

use crate::group::Group;
use crate::node::Node;
use crate::storage::LogStore;
use crate::types::GroupId;
use crate::wire;

/// How far a replica is, all at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The newest term it knows.
    pub term: u64,
    /// Whether it leads the group in this term.
    pub is_leader: bool,
    /// Whether it can go on no longer, or has been stopped.
    pub has_failed: bool,
    /// Index of the last entry in its log; 0 if there is none.
    pub last_index: u64,
    /// Index of the last entry it knows to be committed.
    pub committed: u64,
    /// Index of the last entry in its newest snapshot; 0 if there is none.
    pub snapshot: u64,
    /// Snapshots that leaders have sent, and that were not installed because its log had all that they cover.
    pub snapshots_not_needed: u64,
    /// How often a follower of this node was left without new entries for a moment, and how often it was sent them sooner, as it
    /// had come to be among those asked first.
    pub held_back: (u64, u64),
}

/// Which entry a log has at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryId {
    /// The entry's index.
    pub index: u64,
    /// The term of the leader that made it.
    pub term: u64,
    /// CRC-32 of its bytes: equal on all replicas.
    pub checksum: u32,
}

impl Group {
    /// How far this replica is.
    pub fn position(&self) -> Position {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        Position {
            term: metrics.current_term,
            is_leader: metrics.state == ServerState::Leader,
            has_failed: metrics.running_state.is_err(),
            last_index: metrics.last_log_index.unwrap_or(0),
            committed: metrics.local_committed.map_or(0, |id| id.index),
            snapshot: metrics.snapshot.map_or(0, |id| id.index),
            snapshots_not_needed: self.snapshots_not_needed.load(Ordering::Relaxed),
            held_back: self.thrifty.counts(),
        }
    }

    /// The index of the last entry applied, and the digest of the machine that it left. Costs as much as a snapshot.
    pub fn digest(&self) -> (u64, u32) {
        self.with_machine(|machine| (machine.applied(), machine.digest()))
    }
}

impl Node {
    /// Those entries of `range` that this node's log of `group` has, durable or not. Entries that are no longer in
    /// memory are read from disk.
    pub async fn entry_ids(&self, group: GroupId, range: Range<u64>) -> io::Result<Vec<EntryId>> {
        let mut store = LogStore::new(self.log.group(group));
        let entries = store.try_get_log_entries(range).await?;
        let id = |entry| {
            let checksum = wire::entry(&entry).checksum();
            EntryId { index: entry.log_id.index, term: entry.log_id.leader_id.term, checksum }
        };
        Ok(entries.into_iter().map(id).collect())
    }
}
