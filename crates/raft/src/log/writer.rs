//! The one writer: turns what all groups have waiting into a batch, makes it durable, and tells.
//!
//! Driven by [`Disk::spawn_worker`](crate::env::Disk::spawn_worker) as wait, write, sync, finish. It alone
//! writes to the log's files.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;

use super::Done;
use super::format::{self, BATCH_HEADER, BatchHeader, Kind, RECORD_HEADER, Record, SECTOR};
use super::group::{Place, Placed};
use super::recovery::End;
use super::segment::Files;
use super::shared::{Inner, Queued, Shared};
use crate::env::disk::Worker;
use crate::planted::{Bug, is_planted};
use crate::types::GroupId;

/// The writer's half of a log.
pub struct Writer {
    shared: Arc<Shared>,
    files: Files,
    end: End,
    /// The batch's bytes, kept to be used again.
    buffer: Vec<u8>,
    /// What the batch in hand leaves to be told.
    flight: Flight,
}

/// A batch between `write` and `finish`.
#[derive(Default)]
struct Flight {
    done: Vec<Done>,
    placed: Vec<(GroupId, Vec<Placed>)>,
    closing: bool,
    /// Nothing comes after this round.
    last: bool,
    /// All there is to do is to seal the batch before.
    only_seals: bool,
    failed: Option<io::Error>,
}

impl Writer {
    /// A writer that goes on at `end`.
    pub fn new(shared: Arc<Shared>, files: Files, end: End) -> Writer {
        let writer = Writer { shared, files, end, buffer: Vec::new(), flight: Flight::default() };
        writer.publish(&mut writer.shared.lock());
        writer
    }

    fn publish(&self, inner: &mut Inner) {
        inner.bytes_used = self.files.bytes();
        inner.bytes_live = self.files.live_bytes();
        self.shared.note_use(inner.bytes_used);
        inner.end = (self.files.newest().header.segment, self.end.offset);
    }

    /// Takes the queue, with what else the batch must say.
    fn take(&mut self) -> (Vec<Queued>, Vec<Record>) {
        let shared = self.shared.clone();
        let mut inner = shared.lock();
        let ops = inner.take_queue();
        self.flight.closing = inner.closing;
        self.flight.only_seals = std::mem::take(&mut inner.seal) && ops.is_empty() && !inner.closing;
        if self.flight.only_seals {
            return (ops, Vec::new());
        }
        let wanted: usize = ops.iter().flat_map(|queued| &queued.op.records).map(Record::size).sum();
        let mut extra = Vec::new();
        for (id, group) in &mut inner.groups {
            if std::mem::take(&mut group.committed_dirty) {
                let bytes = group.committed.clone().expect("dirty because set");
                extra.push(Record { group: *id, kind: Kind::Committed, index: 0, payload: bytes.into() });
            }
        }
        let body_len = wanted + extra.iter().map(Record::size).sum::<usize>();
        if body_len > 0 {
            if self.end.offset == SECTOR || !self.fits(body_len) {
                // A segment's first batch ends with the small state of all groups, so that older segments are
                // needed for their entries only.
                extra = inner.groups.iter().flat_map(|(id, group)| group.small_state(*id)).collect();
            }
            self.end.oldest = inner.oldest_needed(self.files.newest().header.segment);
        }
        (ops, extra)
    }

    fn fits(&self, body_len: usize) -> bool {
        self.end.offset + format::batch_len(body_len) <= self.files.newest().header.len
    }

    fn write_batch(&mut self, ops: Vec<Queued>, extra: &[Record]) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.resize(BATCH_HEADER, 0);
        let mut entries = Vec::new();
        for Queued { op, mut first_id } in ops {
            for record in &op.records {
                if record.kind == Kind::Entry {
                    entries.push((
                        op.group,
                        record.index,
                        first_id,
                        buffer.len() + RECORD_HEADER,
                        record.payload.size(),
                    ));
                    first_id += 1;
                }
                record.encode_into(&mut buffer);
            }
            self.flight.done.push(op.done);
        }
        extra.iter().for_each(|record| record.encode_into(&mut buffer));
        let body_len = buffer.len() - BATCH_HEADER;
        if body_len == 0 {
            self.buffer = buffer;
            return Ok(());
        }
        if !self.fits(body_len) {
            self.rotate(body_len)?;
        }
        let segment = self.files.newest();
        let header = BatchHeader {
            seq: self.end.next_seq,
            oldest: self.end.oldest,
            body_len: body_len as u32,
            body_crc: crc32fast::hash(&buffer[BATCH_HEADER..]),
        };
        buffer.resize(format::batch_len(body_len) as usize, 0);
        header.encode_into(&mut buffer, segment.header.salt);
        segment.file.write_at(&buffer, self.end.offset)?;
        for (group, index, id, at, len) in entries {
            let crc = crc32fast::hash(&buffer[at..at + len]);
            let offset = (self.end.offset as usize + at) as u32;
            let place = Place { segment: segment.header.segment, offset, len: len as u32, crc };
            match self.flight.placed.last_mut() {
                Some((last, places)) if *last == group => places.push(Placed { index, id, place }),
                _ => self.flight.placed.push((group, vec![Placed { index, id, place }])),
            }
        }
        self.end.offset += buffer.len() as u64;
        self.end.next_seq += 1;
        self.buffer = buffer;
        Ok(())
    }

    fn rotate(&mut self, body_len: usize) -> io::Result<()> {
        let segment = self.files.begin(self.end.next_seq, format::batch_len(body_len))?;
        self.end.offset = SECTOR;
        self.shared.lock().segments.push_back(segment);
        Ok(())
    }

    /// Proves that the batch before was durable, in case its bytes are damaged later. Written when the log has come to
    /// rest; nobody waits for it, and no fsync follows but at the very end: it is on disk at once or a little later.
    fn seal(&self) -> io::Result<()> {
        let segment = self.files.newest();
        if self.end.offset + SECTOR > segment.header.len {
            return Ok(());
        }
        let seal = format::seal(self.end.next_seq, self.end.oldest, segment.header.salt);
        segment.file.write_at(&seal, self.end.offset)
    }

    /// What follows a durable batch and nobody waits for.
    fn tidy(&mut self) -> io::Result<()> {
        let free = self.shared.lock().take_free(self.end.oldest);
        self.files.release(free)?;
        if self.flight.closing {
            return Ok(());
        }
        // If it fails, it fails again when the file is needed, and counts.
        let _ = self.files.make_ahead(self.end.offset);
        Ok(())
    }

    /// Tells what a durable batch has brought, then tidies up.
    fn settle(&mut self) {
        let mut inner = self.shared.lock();
        for (group, places) in self.flight.placed.drain(..) {
            self.shared.placed(&mut inner, group, places);
        }
        self.publish(&mut inner);
        inner.unsealed = !self.flight.only_seals;
        drop(inner);
        self.flight.done.drain(..).for_each(|done| done(Ok(())));
        match self.tidy() {
            Ok(()) => self.publish(&mut self.shared.lock()),
            Err(error) => self.poison(error),
        }
    }

    fn poison(&mut self, error: io::Error) {
        let mut inner = self.shared.lock();
        let reason = match self.shared.check() {
            Err(first) => first.to_string(),
            Ok(()) => {
                let reason = format!("the log cannot be written and the node must stop: {error}");
                self.shared.failure.send_replace(Some(reason.clone()));
                reason
            }
        };
        let waiting = inner.take_queue();
        drop(inner);
        let in_flight = std::mem::take(&mut self.flight.done);
        for done in in_flight.into_iter().chain(waiting.into_iter().map(|queued| queued.op.done)) {
            done(Err(io::Error::other(reason.clone())));
        }
    }
}

impl Worker for Writer {
    fn wait(&mut self) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            loop {
                if *self.shared.closed.borrow() {
                    return false;
                }
                {
                    let inner = self.shared.lock();
                    if inner.closing || inner.seal || !inner.queue.is_empty() {
                        return true;
                    }
                }
                self.shared.work.notified().await;
            }
        })
    }

    fn write(&mut self) {
        self.flight = Flight::default();
        let (ops, extra) = self.take();
        let before = self.end.next_seq;
        let mut written = self.write_batch(ops, &extra);
        // A seal must not share an fsync with the batch it vouches for: a last batch gets its own round.
        self.flight.last = self.flight.closing && before == self.end.next_seq;
        if written.is_ok() && (self.flight.last || self.flight.only_seals) {
            written = self.seal();
        }
        let ignored = |error: &io::Error| {
            is_planted(Bug::FullDiskIgnored) && error.kind() == io::ErrorKind::StorageFull
        };
        self.flight.failed = written.err().filter(|error| !ignored(error));
    }

    fn sync(&mut self) {
        if self.flight.failed.is_none() && !self.flight.only_seals {
            let synced = self.files.newest().file.sync();
            self.flight.failed = synced.err().filter(|_| !is_planted(Bug::FsyncErrorIgnored));
        }
    }

    fn finish(&mut self) {
        if let Some(error) = self.flight.failed.take() {
            self.poison(error);
        } else {
            self.settle();
        }
        if self.flight.last || self.shared.check().is_err() {
            self.shared.closed.send_replace(true);
        }
    }
}
