//! What openraft asks of disk and machine: the log store over one group's part of the shared log, and the state
//! machine around the engine's.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, RwLock};

use futures::{Stream, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader, RaftSnapshotBuilder};
use prost::Message;
use quoris_engine::machine::{BatchOutcome, Replies};
use quoris_engine::snapshot::{Cursor, Restore};
use quoris_engine::waiters::WaiterId;
use quoris_engine::{Machine, Position, Reply};
use tokio::time::Instant;

use crate::consensus::{Applied, Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig, Vote};
use crate::limits;
use crate::log::{Done, GroupLog, LogEntry};
use crate::members::Members;
use crate::planted::{self, Bug, is_planted};
use crate::slot_map::SlotMap;
use crate::snapshot_store::{SnapshotFile, SnapshotStore};
use crate::trust::Trust;
use crate::types::{Effects, GroupId, Watcher};
use crate::wire;

/// A snapshot as openraft hands it around.
pub type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotFile>;

/// One group's log, as openraft wants it.
#[derive(Clone)]
pub struct LogStore {
    log: GroupLog,
}

impl LogStore {
    pub fn new(log: GroupLog) -> LogStore {
        LogStore { log }
    }

    /// Those entries of `range` that the log has.
    pub async fn read_entries(&mut self, range: std::ops::Range<u64>) -> io::Result<Vec<Entry>> {
        self.try_get_log_entries(range).await
    }
}

/// The vote that was last given to the log to be saved, durable or not: what anybody was granted is no newer.
pub fn stored_vote(log: &GroupLog) -> io::Result<Option<wire::proto::Vote>> {
    log.vote().map(wire::proto::Vote::decode).transpose().map_err(io::Error::other)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let entries = self.log.read(start..end).await?;
        entries.into_iter().map(|entry| Ok(wire::from_entry(entry.payload)?)).collect()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(stored_vote(&self.log)?.as_ref().map(wire::from_vote))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        /// Most bytes of entries sent to a peer at once.
        const MAX_BYTES: usize = 4 << 20;
        let mut bytes = 0;
        let mut entries = self.try_get_log_entries(start..end).await?;
        if entries.first().is_some_and(|first| first.log_id.index > start) {
            // Purged since openraft decided to send them (it forgets that a stream it has replaced still reads). What is
            // left would be sent as if it followed what the peer has, and leave a hole in the peer's log. Nothing at
            // all openraft takes for a heartbeat, which `PeerNetwork::check_goes_on` makes the end of the stream.
            return Ok(Vec::new());
        }
        let fits = |entry: &Entry| {
            let first = bytes == 0;
            bytes += match &entry.payload {
                EntryPayload::Normal(data) => data.0.len().max(1),
                _ => 1,
            };
            first || bytes <= MAX_BYTES
        };
        let keep = entries.iter().map(fits).take_while(|fits| *fits).count();
        entries.truncate(keep);
        Ok(entries)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.log.state().await?;
        let purged = match state.purged {
            Some((_, meta)) => Some(decode_log_id(meta)?),
            None => None,
        };
        let last = match state.last {
            Some(entry) => Some(wire::from_entry(entry.payload)?.log_id()),
            None => purged,
        };
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        if is_planted(Bug::VoteNotDurable) {
            return Ok(());
        }
        self.log.save_vote(wire::vote(vote).encode_to_vec().into()).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        match committed {
            Some(id) => self.log.save_committed(wire::log_id(&id).encode_to_vec().into()),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        self.log.committed().map(decode_log_id).transpose()
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let encode = |entry: Entry| LogEntry { index: entry.log_id.index, payload: wire::entry(&entry) };
        let entries = entries.into_iter().map(encode).collect();
        let mut done: Done = Box::new(move |result| callback.io_completed(result));
        if is_planted(Bug::AcknowledgeBeforeFsync) {
            done(Ok(()));
            done = Box::new(|_| ());
        }
        self.log.append(entries, done);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.log.truncate_after(last.map(|id| id.index)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let further = u64::from(is_planted(Bug::PurgeTooFar));
        self.log.purge(upto.index + further, wire::log_id(&upto).encode_to_vec().into()).await
    }
}

/// The entry's bytes as they are; where a planted bug asks for it, with a clock that differs between replicas, or
/// without calls on a replica that follows.
fn planted_divergence(bytes: &bytes::Bytes, index: u64, wanted: Replies, hash_seed: u64) -> bytes::Bytes {
    use quoris_engine::entry::Entry;
    /// By then the cluster is founded.
    const LOST_AFTER: u64 = 30;
    if ![Bug::ApplyDiverges, Bug::EntryLost, Bug::ScriptReadsClock].into_iter().any(is_planted) {
        return bytes.clone();
    }
    let mut entry = Entry::decode(bytes.clone()).unwrap_or_default();
    let mut calls = entry.batches.iter().flat_map(|batch| &batch.calls);
    let runs_script =
        calls.any(|call| call.args.first().is_some_and(|name| name.eq_ignore_ascii_case(b"eval")));
    let may_be_lost = index > LOST_AFTER && wanted == Replies::Unwanted && !entry.batches.is_empty();
    if is_planted(Bug::EntryLost) && may_be_lost && planted::strikes() {
        entry.batches.clear();
    }
    if let Some(stamp) = &mut entry.stamp {
        if is_planted(Bug::ApplyDiverges) {
            stamp.now_ms += hash_seed % 2;
        } else if is_planted(Bug::ScriptReadsClock) && runs_script {
            stamp.now_ms += planted::own_clock_ms();
        }
    }
    entry.encode_to_vec().into()
}

/// The waiters, the clock and a write in parts, in the message that a snapshot's first chunk holds.
const WAITERS_FIELD: u32 = 5;
const CLOCK_FIELD: u32 = 3;
const PARTS_FIELD: u32 = 18;

/// What a planted bug leaves out of snapshots.
fn planted_omission() -> Option<u32> {
    let without = |bug, field| is_planted(bug).then_some(field);
    without(Bug::SnapshotWithoutWaiters, WAITERS_FIELD).or(without(Bug::SnapshotWithoutParts, PARTS_FIELD))
}

/// A snapshot's first chunk, as a planted bug has it: without a field.
fn planted_loss(chunk: &bytes::Bytes, lost: u32) -> bytes::Bytes {
    use prost::encoding::{DecodeContext, decode_key, skip_field};
    const FORMAT_BYTES: usize = 1;
    let mut kept = chunk[..FORMAT_BYTES].to_vec();
    let mut rest = &chunk[FORMAT_BYTES..];
    while !rest.is_empty() {
        let field = rest;
        let (tag, kind) = decode_key(&mut rest).expect("a message of ours");
        skip_field(kind, tag, &mut rest, DecodeContext::default()).expect("a message of ours");
        if tag != lost {
            kept.extend_from_slice(&field[..field.len() - rest.len()]);
        }
    }
    kept.into()
}

/// Applies an entry of the log to a machine that stands beside the replica.
pub fn apply_entry(machine: &mut Machine, entry: &Entry) -> io::Result<()> {
    let at = Position { term: entry.log_id.leader_id.term, index: entry.log_id.index };
    match &entry.payload {
        EntryPayload::Normal(data) => {
            machine.apply_bytes(at, data.0.clone(), Replies::Unwanted).map_err(io::Error::other)?;
        }
        EntryPayload::Membership(_) | EntryPayload::Blank => drop(machine.skip(at)),
    }
    Ok(())
}

fn decode_log_id(bytes: bytes::Bytes) -> io::Result<LogId> {
    let id = wire::proto::LogId::decode(bytes).map_err(io::Error::other)?;
    Ok(wire::from_log_id(&id))
}

/// What a node knows of its cluster, and its replicas keep up to date.
#[derive(Clone)]
pub struct Picture {
    pub slots: Arc<SlotMap>,
    pub members: Members,
}

/// One group's machine and what openraft wants to know of it.
pub struct Replica {
    group: GroupId,
    machine: Arc<RwLock<Machine>>,
    snapshots: SnapshotStore,
    watcher: Arc<dyn Watcher>,
    trust: Arc<Trust>,
    picture: Picture,
    hash_seed: u64,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl Replica {
    /// A replica whose machine has applied nothing yet; openraft restores the newest snapshot at start.
    pub fn new(
        group: GroupId,
        machine: Arc<RwLock<Machine>>,
        snapshots: SnapshotStore,
        watcher: Arc<dyn Watcher>,
        trust: Arc<Trust>,
        picture: Picture,
        hash_seed: u64,
    ) -> Replica {
        let membership = StoredMembership::default();
        Replica { group, machine, snapshots, watcher, trust, picture, hash_seed, applied: None, membership }
    }

    fn apply_one(&mut self, entry: &Entry, wanted: Replies) -> io::Result<Applied> {
        let at = Position { term: entry.log_id.leader_id.term, index: entry.log_id.index };
        let began = Instant::now();
        let mut applied = match &entry.payload {
            EntryPayload::Normal(data) => {
                let bytes = planted_divergence(&data.0, at.index, wanted, self.hash_seed);
                let own_budget = is_planted(Bug::BudgetIsLocal).then(|| self.with_own_budget(&bytes));
                let mut machine = self.write_machine();
                let applied = match own_budget {
                    Some(entry) => machine.apply(at, &entry, wanted),
                    None => machine.apply_bytes(at, bytes, wanted).map_err(io::Error::other)?,
                };
                if applied.audit {
                    self.trust.audit(machine.snapshot());
                }
                applied
            }
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                self.skip(at)
            }
            EntryPayload::Blank => {
                let mut applied = self.skip(at);
                if is_planted(Bug::BlankIsMute) {
                    applied.served.clear();
                }
                if is_planted(Bug::NewTermNewClock) {
                    self.forget_clock()?;
                }
                applied
            }
        };
        self.applied = Some(entry.log_id);
        if applied.moved {
            self.tell_of_slots();
        }
        if applied.members {
            self.tell_of_members();
        }
        let outcomes = std::mem::take(&mut applied.outcomes);
        self.tell_watcher(&outcomes, applied, began);
        Ok(Applied(outcomes))
    }

    /// The entry as a planted bug has it: its scripts may do what this node allows. That is no part of its digest.
    fn with_own_budget(&self, bytes: &bytes::Bytes) -> quoris_engine::entry::Entry {
        let mut entry = quoris_engine::entry::Entry::decode(bytes.clone()).unwrap_or_default();
        if let Some(stamp) = &mut entry.stamp {
            stamp.script_instructions = self.watcher.conditions(self.group).script_instructions;
        }
        entry
    }

    /// The machine as a planted bug has it, on every replica alike: it does not know how late it is.
    fn forget_clock(&self) -> io::Result<()> {
        let snapshot = self.write_machine().snapshot();
        let mut restore = Restore::new(self.hash_seed);
        for (i, chunk) in snapshot.chunks().enumerate() {
            let chunk = if i == 0 { planted_loss(&chunk, CLOCK_FIELD) } else { chunk };
            restore.push(chunk).map_err(io::Error::other)?;
        }
        self.replace(restore.finish().map_err(io::Error::other)?);
        Ok(())
    }

    /// The founding membership is entry 0, where the machine itself begins.
    fn skip(&self, at: Position) -> quoris_engine::Applied {
        match at.index {
            0 => quoris_engine::Applied::default(),
            _ => self.write_machine().skip(at),
        }
    }

    /// Tells what an entry did that `began` to be applied then; `outcomes` are those of its batches.
    fn tell_watcher(&self, outcomes: &[BatchOutcome], applied: quoris_engine::Applied, began: Instant) {
        let blocked_in = |outcome: &BatchOutcome| match outcome {
            // A call that may block is alone in its batch.
            BatchOutcome::Ran(replies) => match replies[..] {
                [Reply::Blocked { id, .. }] => Some(id),
                _ => None,
            },
            BatchOutcome::WatchFailed | BatchOutcome::PartMissing => None,
        };
        let blocked: Vec<WaiterId> = outcomes.iter().filter_map(blocked_in).collect();
        let quoris_engine::Applied { served, events, expired, tick, garbage, users, .. } = applied;
        let told = !(blocked.is_empty() && served.is_empty() && events.is_empty());
        if told || users || expired > 0 || !garbage.is_empty() {
            let expiry = (expired > 0 && tick).then(|| began.elapsed());
            let effects = Effects { blocked, served, events, expired, expiry, garbage, users };
            self.watcher.applied(self.group, effects);
        }
    }

    fn replace(&self, mut machine: Machine) {
        {
            let mut place = self.write_machine();
            machine.observe(place.is_observed());
            *place = machine;
        }
        self.tell_of_slots();
        self.tell_of_members();
        self.watcher.replaced(self.group);
    }

    fn tell_of_slots(&self) {
        let machine = self.machine.read().expect("apply has panicked");
        self.picture.slots.learn(self.group, machine.keyspace().ownership());
    }

    fn tell_of_members(&self) {
        let machine = self.machine.read().expect("apply has panicked");
        if let Some(topology) = machine.topology() {
            self.picture.members.learn(topology);
        }
    }

    fn write_machine(&self) -> std::sync::RwLockWriteGuard<'_, Machine> {
        // A panic in apply ends the process (`main` aborts on it): there is no state to go on with.
        self.machine.write().expect("apply has panicked")
    }

    fn meta(&self) -> SnapshotMeta {
        let membership = match is_planted(Bug::SnapshotWithoutMembership) {
            true => StoredMembership::default(),
            false => self.membership.clone(),
        };
        SnapshotMeta { last_log_id: self.applied, last_membership: membership }
    }
}

impl RaftStateMachine<TypeConfig> for Replica {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let wanted = if responder.is_some() { Replies::Wanted } else { Replies::Unwanted };
            let applied = self.apply_one(&entry, wanted)?;
            if let Some(responder) = responder {
                responder.send(applied);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let state = Arc::new(self.machine.read().expect("apply has panicked").snapshot());
        SnapshotBuilder { snapshots: self.snapshots.clone(), meta: self.meta(), state: Some(state) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        let mut restore = Restore::new(self.hash_seed);
        let mut reader = snapshot.reader();
        while let Some(chunk) = reader.next().await? {
            restore = match chunk.len() > limits::BESIDE_BYTES {
                true => self.snapshots.beside(move || restored(restore, chunk)).await??,
                false => restored(restore, chunk)?,
            };
        }
        let machine = restore.finish().map_err(io::Error::other)?;
        let from_a_leader = !snapshot.is_current();
        self.snapshots.adopt(snapshot).await?;
        self.replace(machine);
        if from_a_leader {
            self.trust.restore();
        }
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let Some(snapshot) = self.snapshots.current() else { return Ok(None) };
        let meta = wire::proto::SnapshotMeta::decode(snapshot.meta()).map_err(io::Error::other)?;
        Ok(Some(openraft::Snapshot { meta: wire::from_snapshot_meta(&meta), snapshot }))
    }
}

/// What is restored, with one more chunk.
fn restored(mut restore: Restore, chunk: bytes::Bytes) -> io::Result<Restore> {
    restore.push(chunk).map_err(io::Error::other)?;
    Ok(restore)
}

/// A snapshot about to be written: the state was taken when this was made, which costs a pointer for each page of slots; the
/// machine goes on meanwhile.
pub struct SnapshotBuilder {
    snapshots: SnapshotStore,
    meta: SnapshotMeta,
    /// Until it has been written.
    state: Option<Arc<quoris_engine::snapshot::Snapshot>>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let meta = wire::snapshot_meta(&self.meta).encode_to_vec();
        let index = self.meta.last_log_id.map_or(0, |id| id.index);
        let mut writer = self.snapshots.write(index, meta.into()).await?;
        let state =
            self.state.take().ok_or_else(|| io::Error::other("this snapshot has been written before"))?;
        let mut at = Cursor::default();
        let mut omission = planted_omission();
        loop {
            // A chunk holds one object at least, however long that is.
            let whole = Arc::clone(&state);
            let (chunks, next) = self.snapshots.at_pace(move || some_chunks(&whole, at)).await?;
            if chunks.is_empty() {
                break;
            }
            at = next;
            for chunk in chunks {
                let chunk = match omission.take() {
                    Some(field) => planted_loss(&chunk, field),
                    None => chunk,
                };
                writer.push(chunk).await?;
            }
        }
        // What the machine has changed since then goes with it, which may take long.
        self.snapshots.at_pace(move || drop(state)).await?;
        let snapshot = writer.finish().await?;
        Ok(openraft::Snapshot { meta: self.meta.clone(), snapshot })
    }
}

/// The next chunks of a snapshot, a megabyte or so, and where those after them begin; none at its end.
fn some_chunks(state: &quoris_engine::snapshot::Snapshot, mut at: Cursor) -> (Vec<bytes::Bytes>, Cursor) {
    let (mut chunks, mut bytes) = (Vec::new(), 0);
    while bytes < limits::BESIDE_BYTES
        && let Some(chunk) = state.next_chunk(&mut at)
    {
        bytes += chunk.len();
        chunks.push(chunk);
    }
    (chunks, at)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::env::Rng;
    use crate::env::fake_disk::{FakeDisk, FakeDiskOptions};
    use crate::log::{LogOptions, SharedLog};

    struct AnyRng;

    impl Rng for AnyRng {
        fn next_u64(&self) -> u64 {
            7
        }
    }

    #[tokio::test]
    async fn entries_are_sent_from_the_first_on_or_not_at_all() {
        let disk = FakeDisk::new(1, FakeDiskOptions::default());
        let log = SharedLog::open(disk.mount(), Arc::new(AnyRng), Path::new("/log"), LogOptions::default());
        let log = log.expect("a fresh log").group(0);
        let entry = |index| {
            let entry = Entry::new(LogId::new_term_index(1, index), EntryPayload::Blank);
            LogEntry { index, payload: wire::entry(&entry) }
        };
        log.append((1..=4).map(entry).collect(), Box::new(|_| ()));
        log.purge(2, bytes::Bytes::new()).await.expect("a good disk");
        let mut store = LogStore::new(log);
        let indexes = |entries: Vec<Entry>| entries.iter().map(|e| e.log_id.index).collect::<Vec<_>>();
        assert_eq!(indexes(store.limited_get_log_entries(3, 5).await.expect("a readable log")), [3, 4]);
        assert!(store.limited_get_log_entries(2, 5).await.expect("a readable log").is_empty());
    }
}
