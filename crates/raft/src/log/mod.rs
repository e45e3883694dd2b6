//! The one log of a node: entries, votes and positions of all its groups in one stream of segment files.
//!
//! One stream means one fsync: whatever all groups have waiting becomes one batch, and while it is being made
//! durable the next one collects. Invariants:
//!
//! - an operation's callback says `Ok` only after an fsync that covers it;
//! - operations are written in the order they were accepted, so a crash leaves a prefix of them;
//! - a batch is begun only after its predecessor is durable: this is what lets [`recovery`] tell the torn
//!   last batch from damage;
//! - the first failed write or fsync is the last: it poisons the log for good, for after a failed fsync nobody
//!   knows what the disk holds.
//!
//! The log must never know what the bytes mean: not Raft's terms, not the engine's entries.

pub mod format;
mod group;
mod recovery;
mod segment;
mod shared;
mod spare;
#[cfg(test)]
mod tests;
mod writer;

use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::env::offload::offload;
use crate::env::{Disk, Rng};
use crate::planted::{Bug, is_planted};
use crate::types::GroupId;
use format::{Kind, Record};
use shared::{Op, Shared};

/// Most bytes of operations that may wait for the disk; what would exceed it is refused.
pub const MAX_WAITING_BYTES: usize = 1 << 30;

/// Called once with the fate of an operation, on the log's own thread: it must not block.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Sizes. Everything the log holds is bounded by these.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Length of a segment file. A batch that is longer gets a segment of its own.
    pub segment_bytes: u64,
    /// Most bytes of entries kept in memory for reading, besides those not yet written.
    pub cache_bytes: usize,
    /// Most unused segment files kept for recycling.
    pub max_spares: usize,
    /// Disk use above which [`SharedLog::is_full`] says so. The log itself goes on writing beyond it, because
    /// votes and purges must; the node stops proposing and takes a snapshot of the group that pins the log.
    pub max_bytes: u64,
    /// Whether there must already be a log: an empty directory is then an error, not a new log. Set it once the
    /// node has ever voted, so that a lost directory is not taken for a fresh node.
    pub must_exist: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            segment_bytes: 16 << 20,
            cache_bytes: 64 << 20,
            max_spares: 4,
            max_bytes: 1 << 30,
            must_exist: false,
        }
    }
}

impl LogOptions {
    fn segment_len(&self) -> u64 {
        self.segment_bytes.next_multiple_of(format::SECTOR).max(2 * format::SECTOR)
    }
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Bytes that were durable are not what was written.
    #[error(
        "the log is damaged: {file} at offset {offset}: {reason}. This node must not vote on what is left: \
         restore the file from the same disk, or run quoris rejoin with this node's settings"
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// There was a log, and it is gone.
    #[error(
        "no log in {dir}, though this node has had one: restore it, or run quoris rejoin with this node's settings"
    )]
    Missing {
        /// Where it should be.
        dir: PathBuf,
    },
    /// Written by a newer build.
    #[error("{file} has format {version}, newer than this build reads: start the newer build")]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its format.
        version: u32,
    },
    /// The disk failed or is full.
    #[error("cannot open the log: {file}: {source}")]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An entry of a group's log; the bytes are the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its index; indexes have no gaps.
    pub index: u64,
    /// Its content.
    pub bytes: Bytes,
}

/// What a group's log begins and ends with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogState {
    /// The last purged index, with what was given to [`GroupLog::purge`].
    pub purged: Option<(u64, Bytes)>,
    /// The last entry, if any is left.
    pub last: Option<LogEntry>,
}

/// How much disk the log takes, and because of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogUsage {
    /// Bytes of all its files.
    pub bytes_used: u64,
    /// Bytes of those that are live: the others wait to be used again.
    pub bytes_live: u64,
    /// [`LogOptions::max_bytes`].
    pub max_bytes: u64,
    /// For each group with entries on disk: the bytes of log from its oldest entry on, most first. Nothing
    /// before the first group's oldest entry is kept, so a snapshot and purge of that group frees segments.
    pub held: Vec<(GroupId, u64)>,
}

/// The log of a node. Its files are closed when the last handle, [`GroupLog`]s included, is dropped.
#[derive(Clone)]
pub struct SharedLog {
    handle: Arc<Handle>,
}

/// Ends the writer when the last owner is gone.
struct Handle {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl SharedLog {
    /// Opens the log in `dir`, or begins one, and starts its writer. Blocks while it replays.
    pub fn open(
        disk: Arc<dyn Disk>,
        rng: Arc<dyn Rng>,
        dir: &Path,
        options: LogOptions,
    ) -> Result<SharedLog, LogError> {
        let recovered = recovery::recover(&disk, &rng, dir, &options)?;
        let shared = Arc::new(Shared::new(recovered.groups, recovered.segments, &options));
        let maker = recovered.files.maker();
        let writer = writer::Writer::new(shared.clone(), recovered.files, recovered.end);
        disk.spawn_worker("log", Box::new(writer))
            .and_then(|()| disk.spawn_worker("log-spare", maker))
            .map_err(|source| LogError::Io { file: dir.to_path_buf(), source })?;
        Ok(SharedLog { handle: Arc::new(Handle { shared, disk }) })
    }

    /// One group's part of it.
    pub fn group(&self, group: GroupId) -> GroupLog {
        GroupLog { handle: self.handle.clone(), group }
    }

    /// The groups the log knows anything of.
    pub fn groups(&self) -> Vec<GroupId> {
        self.handle.shared.lock().groups.keys().copied().collect()
    }

    /// What poisoned the log, if anything has: the node must stop.
    pub fn failed(&self) -> Option<String> {
        self.handle.shared.failure.borrow().clone()
    }

    /// Tells when the log fails.
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.handle.shared.failure.subscribe()
    }

    /// Whether nothing should be proposed until snapshots have freed segments. Cheap.
    pub fn is_full(&self) -> bool {
        self.handle.shared.is_full()
    }

    /// Disk use.
    pub fn usage(&self) -> LogUsage {
        self.handle.shared.usage()
    }

    /// Bytes of all files of the log.
    pub fn bytes_used(&self) -> u64 {
        self.usage().bytes_used
    }

    /// Marks the end, if the log has come to rest, so that a flipped bit in the last batch will be noticed even if the
    /// node is not closed in order. To be called now and then.
    pub fn seal(&self) {
        self.handle.shared.seal();
    }

    /// Ready when all that was accepted before the call is durable.
    pub async fn flush(&self) -> io::Result<()> {
        let (tell, told) = oneshot::channel();
        // Operations are made durable in order, so one without records vouches for those before it.
        let done: Done = Box::new(move |result| drop(tell.send(result)));
        self.handle.shared.enqueue(Op { group: 0, records: Vec::new(), done });
        told.await.unwrap_or_else(|_| Err(io::Error::other("the log's writer is gone")))
    }

    /// Writes all that waits, then marks the end, so that even a flipped bit in the last batch will be noticed.
    /// Operations that come later fail.
    pub async fn close(&self) -> io::Result<()> {
        self.handle.shared.close();
        let mut closed = self.handle.shared.closed.subscribe();
        // The sender lives in `shared`, which `self` holds: waiting cannot fail.
        closed.wait_for(|closed| *closed).await.map_err(io::Error::other)?;
        self.handle.shared.check()
    }
}

/// One group's log. Cheap to clone.
///
/// The methods that return a future have enqueued their operation when they return: the future only waits.
#[derive(Clone)]
pub struct GroupLog {
    handle: Arc<Handle>,
    group: GroupId,
}

impl GroupLog {
    /// Adds `entries` after the last one; `done` is called when they are durable. Readers see them at once.
    ///
    /// `done` gets `InvalidInput`, and nothing is added, if an index does not follow its predecessor.
    pub fn append(&self, mut entries: Vec<LogEntry>, done: Done) {
        if is_planted(Bug::ReuseIndexAfterTruncation) {
            let last = self.handle.shared.lock().groups.get(&self.group).and_then(|group| group.last());
            entries.retain(|entry| last.is_none_or(|last| entry.index > last));
        }
        let record =
            |LogEntry { index, bytes }| Record { group: self.group, kind: Kind::Entry, index, bytes };
        let records = entries.into_iter().map(record).collect();
        self.handle.shared.enqueue(Op { group: self.group, records, done });
    }

    /// Runs `job`, which takes long, where the log reads its files.
    pub async fn beside<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        offload(&*self.handle.disk, job).await
    }

    /// Drops the entries after `index`, or all; ready when durable.
    pub fn truncate_after(&self, index: Option<u64>) -> impl Future<Output = io::Result<()>> + Send + use<> {
        match index {
            Some(_) if is_planted(Bug::ReuseIndexAfterTruncation) => {
                self.enqueue(Kind::TruncateAfter, u64::MAX - 1, Bytes::new())
            }
            Some(index) => self.enqueue(Kind::TruncateAfter, index, Bytes::new()),
            None => self.enqueue(Kind::Clear, 0, Bytes::new()),
        }
    }

    /// Drops the entries up to `upto`; `meta` comes back from [`GroupLog::state`]. Ready when durable. `upto` may
    /// lie past the last entry, and purging never goes back.
    pub fn purge(&self, upto: u64, meta: Bytes) -> impl Future<Output = io::Result<()>> + Send + use<> {
        self.enqueue(Kind::Purge, upto, meta)
    }

    /// Drops all entries and goes on after `purged`, as an installed snapshot demands; ready when durable.
    pub fn reset(&self, purged: u64, meta: Bytes) -> impl Future<Output = io::Result<()>> + Send + use<> {
        self.enqueue(Kind::Reset, purged, meta)
    }

    /// Replaces the vote; ready when durable.
    pub fn save_vote(&self, vote: Bytes) -> impl Future<Output = io::Result<()>> + Send + use<> {
        self.enqueue(Kind::Vote, 0, vote)
    }

    /// The last vote saved.
    pub fn vote(&self) -> Option<Bytes> {
        self.handle.shared.lock().groups.get(&self.group).and_then(|g| g.vote.clone())
    }

    /// Replaces the committed position. It rides along with the next batch: a crash may take it back.
    pub fn save_committed(&self, committed: Bytes) -> io::Result<()> {
        self.handle.shared.check()?;
        let mut inner = self.handle.shared.lock();
        let group = inner.groups.entry(self.group).or_default();
        group.committed = Some(committed);
        group.committed_dirty = true;
        Ok(())
    }

    /// The last purged index.
    pub fn purged(&self) -> Option<u64> {
        let inner = self.handle.shared.lock();
        inner.groups.get(&self.group)?.purged.as_ref().map(|(index, _)| *index)
    }

    /// The last committed position saved.
    pub fn committed(&self) -> Option<Bytes> {
        self.handle.shared.lock().groups.get(&self.group).and_then(|g| g.committed.clone())
    }

    /// What the log begins and ends with.
    pub async fn state(&self) -> io::Result<LogState> {
        let (purged, last) = {
            let inner = self.handle.shared.lock();
            let group = inner.groups.get(&self.group);
            (group.and_then(|g| g.purged.clone()), group.and_then(|g| g.last()))
        };
        let last = match last {
            Some(last) => self.read(last..last + 1).await?.pop(),
            None => None,
        };
        Ok(LogState { purged, last })
    }

    /// The entries of `range` that the log has, durable or not.
    pub async fn read(&self, range: Range<u64>) -> io::Result<Vec<LogEntry>> {
        shared::read(&self.handle.shared, &*self.handle.disk, self.group, range).await
    }

    fn enqueue(
        &self,
        kind: Kind,
        index: u64,
        bytes: Bytes,
    ) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let (tell, told) = oneshot::channel();
        let records = vec![Record { group: self.group, kind, index, bytes }];
        // Nobody may be waiting any more: then nobody needs to be told.
        let done: Done = Box::new(move |result| drop(tell.send(result)));
        self.handle.shared.enqueue(Op { group: self.group, records, done });
        async move { told.await.unwrap_or_else(|_| Err(io::Error::other("the log's writer is gone"))) }
    }
}
