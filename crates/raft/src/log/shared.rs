//! What callers and the writer share: the groups' state, the queue of operations, and the news between them.
//!
//! An operation changes the state and joins the queue under one lock, so memory and disk see the same order.
//! The lock is never held across I/O or an `await`, and no callback runs under it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::format::{Kind, Payload, Record};
use super::group::{Group, Place, Placed, Slot};
use super::segment::Segment;
use super::{Done, LogEntry, LogOptions, LogUsage, MAX_WAITING_BYTES};
use crate::env::Disk;
use crate::env::offload::offload;
use crate::planted::{self, Bug, is_planted};
use crate::types::GroupId;

/// An operation on its way to the disk.
pub struct Op {
    /// The group it belongs to.
    pub group: GroupId,
    /// What it writes.
    pub records: Vec<Record>,
    /// Whom to tell.
    pub done: Done,
}

/// An operation in the queue; its entries' slots carry ids from `first_id` on.
pub struct Queued {
    /// The operation.
    pub op: Op,
    /// Id of its first entry's slot.
    pub first_id: u64,
}

/// What the lock guards.
pub struct Inner {
    /// The groups, as all accepted operations leave them.
    pub groups: BTreeMap<GroupId, Group>,
    /// Accepted and not yet taken by the writer.
    pub queue: Vec<Queued>,
    waiting_bytes: usize,
    next_id: u64,
    /// The segments entries may be in, oldest first.
    pub segments: VecDeque<Arc<Segment>>,
    /// Bytes of all files.
    pub bytes_used: u64,
    /// Bytes of those that are live.
    pub bytes_live: u64,
    /// Where the next batch goes: segment and offset.
    pub end: (u64, u64),
    /// Entries whose bytes are kept though they are on disk, oldest first.
    cached: VecDeque<(GroupId, u64, u64, usize)>,
    cached_bytes: usize,
    /// No more operations are accepted.
    pub closing: bool,
    /// The last batch has no seal behind it.
    pub unsealed: bool,
    /// It is to get one, unless another batch comes first.
    pub seal: bool,
}

/// The shared half of a log.
pub struct Shared {
    inner: Mutex<Inner>,
    /// Wakes the writer.
    pub work: Notify,
    /// What poisoned the log.
    pub failure: watch::Sender<Option<String>>,
    /// Whether the writer has ended.
    pub closed: watch::Sender<bool>,
    max_bytes: u64,
    full: AtomicBool,
    cache_bytes: usize,
}

impl Shared {
    /// Shared state over what recovery found.
    pub fn new(
        groups: BTreeMap<GroupId, Group>,
        segments: VecDeque<Arc<Segment>>,
        options: &LogOptions,
    ) -> Shared {
        let inner = Inner {
            groups,
            queue: Vec::new(),
            waiting_bytes: 0,
            // Recovered slots have id 0.
            next_id: 1,
            segments,
            bytes_used: 0,
            bytes_live: 0,
            end: (0, 0),
            cached: VecDeque::new(),
            cached_bytes: 0,
            closing: false,
            unsealed: false,
            seal: false,
        };
        Shared {
            inner: Mutex::new(inner),
            work: Notify::new(),
            failure: watch::Sender::new(None),
            closed: watch::Sender::new(false),
            max_bytes: options.max_bytes,
            full: AtomicBool::new(false),
            cache_bytes: options.cache_bytes,
        }
    }

    /// The state. A thread that panicked with it left nobody knows what: so does this one.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the log's state panics")
    }

    /// The error that poisoned the log, if one has.
    pub fn check(&self) -> io::Result<()> {
        match &*self.failure.borrow() {
            Some(reason) => Err(io::Error::other(reason.clone())),
            None => Ok(()),
        }
    }

    /// Whether the files take more than they should.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Notes what the files take now.
    pub fn note_use(&self, bytes_used: u64) {
        self.full.store(bytes_used > self.max_bytes, Ordering::Relaxed);
    }

    /// Lets the writer end once the queue is empty.
    pub fn close(&self) {
        self.lock().closing = true;
        self.work.notify_one();
    }

    /// Has the last batch sealed, unless another one follows it at once.
    pub fn seal(&self) {
        let mut inner = self.lock();
        inner.seal = inner.unsealed;
        if inner.seal {
            drop(inner);
            self.work.notify_one();
        }
    }

    /// Accepts an operation, or tells it why not.
    pub fn enqueue(&self, op: Op) {
        let mut inner = self.lock();
        // Under the lock: the writer poisons under it too, so that no operation is left in the queue for ever.
        let refused = self.check().err().or_else(|| inner.refuse(&op));
        if let Some(error) = refused {
            drop(inner);
            return (op.done)(Err(error));
        }
        inner.accept(op);
        drop(inner);
        self.work.notify_one();
    }

    /// The disk use, and who causes it.
    pub fn usage(&self) -> LogUsage {
        let inner = self.lock();
        let mut held: Vec<_> = inner
            .groups
            .iter()
            .filter_map(|(id, group)| Some((*id, inner.bytes_from(group.first_place()?))))
            .collect();
        held.sort_by_key(|(id, bytes)| (std::cmp::Reverse(*bytes), *id));
        let Inner { bytes_used, bytes_live, .. } = *inner;
        LogUsage { bytes_used, bytes_live, max_bytes: self.max_bytes, held }
    }

    /// Notes where an operation's entries have been written, and keeps their bytes as long as there is room.
    pub fn placed(&self, inner: &mut Inner, group: GroupId, entries: Vec<Placed>) {
        for Placed { index, id, place } in entries {
            let slot = inner.groups.get_mut(&group).and_then(|g| g.slot_mut(index, id));
            if let Some(slot) = slot {
                slot.place = Some(place);
                inner.cached.push_back((group, index, id, place.len as usize));
                inner.cached_bytes += place.len as usize;
            }
        }
        // An entry that is longer than the room stays until as much has come after it: it is about to be applied.
        while let Some((_, _, _, oldest)) = inner.cached.front()
            && inner.cached_bytes - oldest >= self.cache_bytes
            && let Some((group, index, id, len)) = inner.cached.pop_front()
        {
            inner.cached_bytes -= len;
            if let Some(slot) = inner.groups.get_mut(&group).and_then(|g| g.slot_mut(index, id)) {
                slot.payload = None;
            }
        }
    }
}

impl Inner {
    fn refuse(&self, op: &Op) -> Option<io::Error> {
        let bytes: usize = op.records.iter().map(Record::size).sum();
        if self.closing {
            return Some(io::Error::other("the log is closed"));
        }
        if self.waiting_bytes + bytes > MAX_WAITING_BYTES {
            return Some(io::Error::new(io::ErrorKind::OutOfMemory, "too many bytes wait for the log"));
        }
        let mut next = self.groups.get(&op.group).and_then(Group::next);
        for entry in op.records.iter().filter(|record| record.kind == Kind::Entry) {
            if next.is_some_and(|next| next != entry.index) {
                let message = format!("entry {} where {} comes next", entry.index, next.unwrap_or(0));
                return Some(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            next = Some(entry.index + 1);
        }
        None
    }

    fn accept(&mut self, op: Op) {
        let first_id = self.next_id;
        let group = self.groups.entry(op.group).or_default();
        for record in &op.records {
            if record.kind == Kind::Entry {
                let slot = Slot { id: self.next_id, place: None, payload: Some(record.payload.clone()) };
                group.push(record.index, slot);
                self.next_id += 1;
            } else {
                group.apply(record);
            }
            self.waiting_bytes += record.size();
        }
        self.queue.push(Queued { op, first_id });
    }

    /// Takes the queue.
    pub fn take_queue(&mut self) -> Vec<Queued> {
        self.waiting_bytes = 0;
        std::mem::take(&mut self.queue)
    }

    /// The oldest segment any group needs; `newest` if none needs an older one.
    pub fn oldest_needed(&self, newest: u64) -> u64 {
        let places = self.groups.values().filter_map(|group| group.first_place());
        places.map(|place| place.segment).min().unwrap_or(newest)
    }

    /// Takes out the segments below `oldest`, up to the first that a reader holds.
    pub fn take_free(&mut self, oldest: u64) -> Vec<Arc<Segment>> {
        let is_free =
            |segment: &Arc<Segment>| segment.header.segment < oldest && Arc::strong_count(segment) == 1;
        let count = self.segments.iter().take_while(|segment| is_free(segment)).count();
        self.segments.drain(..count).collect()
    }

    /// Bytes of log from `place` on.
    fn bytes_from(&self, place: Place) -> u64 {
        let newer = self.segments.iter().filter(|s| s.header.segment > place.segment);
        let first = if place.segment == self.end.0 { self.end.1 } else { self.len_of(place.segment) };
        let rest: u64 =
            newer.map(|s| if s.header.segment == self.end.0 { self.end.1 } else { s.header.len }).sum();
        first.saturating_sub(u64::from(place.offset)) + rest
    }

    fn len_of(&self, segment: u64) -> u64 {
        self.segment(segment).map_or(0, |segment| segment.header.len)
    }

    fn segment(&self, number: u64) -> Option<&Arc<Segment>> {
        let first = self.segments.front()?.header.segment;
        self.segments.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }
}

/// Where to get an entry from.
enum Source {
    Memory(Payload),
    Disk(Arc<Segment>, Place),
}

/// Reads the entries of `range` that the group has; only what the cache let go of costs disk work.
pub async fn read(
    shared: &Shared,
    disk: &dyn Disk,
    group: GroupId,
    range: Range<u64>,
) -> io::Result<Vec<LogEntry>> {
    let sources = find(shared, group, range)?;
    if sources.iter().all(|(_, source)| matches!(source, Source::Memory(_))) {
        return sources.into_iter().map(load).collect();
    }
    offload(disk, move || sources.into_iter().map(load).collect()).await?
}

fn find(shared: &Shared, group: GroupId, range: Range<u64>) -> io::Result<Vec<(u64, Source)>> {
    let inner = shared.lock();
    let Some(group) = inner.groups.get(&group) else { return Ok(Vec::new()) };
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(Vec::new()) };
    let mut sources = Vec::new();
    for index in range.start.max(first)..range.end.min(last + 1) {
        let slot = group.slot(index).expect("between first and last");
        let source = match (&slot.payload, slot.place) {
            (Some(payload), _) => Source::Memory(payload.clone()),
            (None, Some(place)) => {
                let segment = inner.segment(place.segment).expect("a needed segment is live");
                Source::Disk(segment.clone(), place)
            }
            (None, None) => unreachable!("payloads are kept until they are placed"),
        };
        sources.push((index, source));
    }
    Ok(sources)
}

fn load((index, source): (u64, Source)) -> io::Result<LogEntry> {
    let (segment, place) = match source {
        Source::Memory(payload) => return Ok(LogEntry { index, payload }),
        Source::Disk(segment, place) => (segment, place),
    };
    let mut bytes = vec![0; place.len as usize];
    let read = segment.file.read_at(&mut bytes, u64::from(place.offset))?;
    if read < bytes.len() || crc32fast::hash(&bytes) != place.crc {
        let message =
            format!("the log is damaged: {} at offset {}: entry", segment.path.display(), place.offset);
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let payload = Payload::from(Bytes::from(bytes));
    // The cache of a simulated node keeps all that this life of it has written.
    let misread = is_planted(Bug::OlderEntryMisread);
    Ok(LogEntry { index, payload: if misread { planted::misread(payload) } else { payload } })
}
