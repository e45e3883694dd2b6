//! What the log knows of one group, in memory: its small state, and where each of its entries is.
//!
//! The same rules run when an operation is accepted and when it is replayed at start, so that a restart
//! cannot end elsewhere. Nothing here does I/O.

use std::collections::VecDeque;

use bytes::Bytes;

use super::format::{Kind, Payload, Record};

/// Where an entry's bytes are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the segment.
    pub segment: u64,
    /// Where in the file the bytes begin.
    pub offset: u32,
    /// How many there are.
    pub len: u32,
    /// Their checksum, checked at every read.
    pub crc: u32,
}

/// That an entry is on disk now.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    /// The entry's index.
    pub index: u64,
    /// The id of its slot.
    pub id: u64,
    /// Where it is.
    pub place: Place,
}

/// One entry. It has a payload, or a place, or both.
#[derive(Debug)]
pub struct Slot {
    /// Tells an entry from a later one at the same index.
    pub id: u64,
    /// `None` until it is durable.
    pub place: Option<Place>,
    /// `None` once the cache let go of it.
    pub payload: Option<Payload>,
}

/// One group's part of the log.
#[derive(Debug, Default)]
pub struct Group {
    /// The last vote saved.
    pub vote: Option<Bytes>,
    /// The last committed position saved.
    pub committed: Option<Bytes>,
    /// Whether `committed` is newer than what is written.
    pub committed_dirty: bool,
    /// The last purged index, and what the caller said of it.
    pub purged: Option<(u64, Bytes)>,
    /// Index of the first of `entries`.
    first: u64,
    entries: VecDeque<Slot>,
}

impl Group {
    /// Index of the last entry, if there is any.
    pub fn last(&self) -> Option<u64> {
        (!self.entries.is_empty()).then(|| self.first + self.entries.len() as u64 - 1)
    }

    /// Index of the first entry, if there is any.
    pub fn first(&self) -> Option<u64> {
        (!self.entries.is_empty()).then_some(self.first)
    }

    /// The index the next entry must have; `None` if any will do.
    pub fn next(&self) -> Option<u64> {
        self.last().or(self.purged.as_ref().map(|(index, _)| *index)).map(|index| index + 1)
    }

    /// The entry at `index`.
    pub fn slot(&self, index: u64) -> Option<&Slot> {
        self.entries.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// The entry at `index`, if it is the one with this id.
    pub fn slot_mut(&mut self, index: u64, id: u64) -> Option<&mut Slot> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(at).filter(|slot| slot.id == id)
    }

    /// Adds an entry; the caller has checked that `index` follows the last one.
    pub fn push(&mut self, index: u64, slot: Slot) {
        match self.last() {
            Some(last) => assert_eq!(index, last + 1, "a log without gaps"),
            None => self.first = index,
        }
        self.entries.push_back(slot);
    }

    /// Does what `record` says; entries go through [`Group::push`].
    pub fn apply(&mut self, record: &Record) {
        // Only entries have heads.
        let bytes = record.payload.body.clone();
        match record.kind {
            Kind::Entry => unreachable!("entries are pushed"),
            Kind::TruncateAfter => {
                let keep = (record.index + 1).saturating_sub(self.first);
                self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
            }
            Kind::Clear => self.entries.clear(),
            Kind::Purge => self.purge(record.index, bytes),
            Kind::Reset => {
                self.entries.clear();
                self.purge(record.index, bytes);
            }
            Kind::Vote => self.vote = Some(bytes),
            Kind::Committed => self.committed = Some(bytes),
        }
    }

    fn purge(&mut self, index: u64, meta: Bytes) {
        // Purging never goes back: what is gone is gone.
        if self.purged.as_ref().is_some_and(|(purged, _)| *purged > index) {
            return;
        }
        let gone = (index + 1).saturating_sub(self.first).min(self.entries.len() as u64);
        self.entries.drain(..gone as usize);
        self.first = self.first.max(index + 1);
        self.purged = Some((index, meta));
    }

    /// Records that restore everything but the entries.
    pub fn small_state(&self, group: u32) -> Vec<Record> {
        let record =
            |kind, index, bytes: &Bytes| Record { group, kind, index, payload: bytes.clone().into() };
        let vote = self.vote.iter().map(|bytes| record(Kind::Vote, 0, bytes));
        let committed = self.committed.iter().map(|bytes| record(Kind::Committed, 0, bytes));
        let purged = self.purged.iter().map(|(index, meta)| record(Kind::Purge, *index, meta));
        vote.chain(committed).chain(purged).collect()
    }

    /// Where its oldest entry is; `None` if there is none, or it is not yet written.
    pub fn first_place(&self) -> Option<Place> {
        self.entries.front().and_then(|slot| slot.place)
    }
}
