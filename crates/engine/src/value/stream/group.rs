//! Consumer groups: what of a stream was delivered to whom, and is not acknowledged yet.
//!
//! Invariant: an id is pending in the group if and only if it is pending with exactly one of its consumers, the one
//! that [`Pending::consumer`] names.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::id::StreamId;
use super::node::{put_id, take_id};
use super::{Counters, from};
use crate::snapshot::{put_bytes, take_bytes};
use crate::value::Tree;

/// A consumer's name.
pub type Name = Arc<[u8]>;

/// A delivery that is not acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// To whom.
    pub consumer: Name,
    /// When it was last delivered, in milliseconds since the Unix epoch.
    pub delivered_ms: u64,
    /// How often.
    pub deliveries: u64,
}

/// One who reads for a group.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// When it last asked for something, in milliseconds since the Unix epoch.
    pub seen_ms: u64,
    pending: Tree<StreamId, ()>,
}

impl Consumer {
    /// How many deliveries it has not acknowledged.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }
}

/// A group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Entries up to this one have been delivered.
    pub last_id: StreamId,
    /// How many entries had been added when the last one delivered was; `None` if nobody can tell.
    pub entries_read: Option<u64>,
    pending: Tree<StreamId, Pending>,
    consumers: Tree<Name, Consumer>,
}

impl Group {
    /// A group that has been given everything up to `last_id`.
    pub fn new(last_id: StreamId, entries_read: Option<u64>) -> Group {
        Group { last_id, entries_read, pending: Tree::new(), consumers: Tree::new() }
    }

    /// About what it takes in memory, in bytes: long names of consumers are not looked at.
    pub(super) fn bytes(&self) -> usize {
        const GROUP_BYTES: usize = 128;
        const CONSUMER_BYTES: usize = 128;
        // An id in each of two trees, and the delivery.
        const PENDING_BYTES: usize = 2 * size_of::<StreamId>() + size_of::<Pending>();
        GROUP_BYTES + self.consumers.len() * CONSUMER_BYTES + self.pending.len() * PENDING_BYTES
    }

    /// Its consumers by name.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = (&Name, &Consumer)> {
        self.consumers.iter()
    }

    /// The consumer `name`.
    pub fn consumer(&self, name: &[u8]) -> Option<&Consumer> {
        self.consumers.get(name)
    }

    /// Makes the consumer `name` if it is not there. Whether it made it.
    pub fn create_consumer(&mut self, name: &[u8], now_ms: u64) -> bool {
        if self.consumers.get(name).is_some() {
            return false;
        }
        let consumer = Consumer { seen_ms: now_ms, pending: Tree::new() };
        self.consumers.insert(Name::from(name), consumer);
        true
    }

    /// Notes that the consumer `name`, made if need be, has asked for something. Whether it was made.
    pub fn see_consumer(&mut self, name: &[u8], now_ms: u64) -> bool {
        match self.consumers.get_mut(name) {
            Some(consumer) => {
                consumer.seen_ms = now_ms;
                false
            }
            None => self.create_consumer(name, now_ms),
        }
    }

    /// Removes the consumer `name` and what is pending with it. How much that was; `None` if there is none such.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let (_, consumer) = self.consumers.remove(name)?;
        consumer.pending.iter().for_each(|(id, ())| drop(self.pending.remove(id)));
        Some(consumer.pending.len())
    }

    /// How many deliveries are not acknowledged.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// The delivery of `id`.
    pub fn pending(&self, id: StreamId) -> Option<&Pending> {
        self.pending.get(&id)
    }

    /// Deliveries from id `start` on.
    pub fn pending_from(&self, start: StreamId) -> impl Iterator<Item = (StreamId, &Pending)> {
        from(&self.pending, start)
    }

    /// The last delivery.
    pub fn last_pending(&self) -> Option<StreamId> {
        self.pending.last().map(|(id, _)| *id)
    }

    /// Deliveries to `consumer` from id `start` on.
    pub fn pending_of<'a>(
        &'a self,
        consumer: &'a Consumer,
        start: StreamId,
    ) -> impl Iterator<Item = (StreamId, &'a Pending)> {
        let held = |id: StreamId| self.pending.get(&id).expect("pending with a consumer, so in the group");
        from(&consumer.pending, start).map(move |(id, ())| (id, held(id)))
    }

    /// Notes that `id` is delivered to `consumer`, which is there, instead of to whom it was before.
    pub fn deliver(&mut self, id: StreamId, consumer: &[u8], delivered_ms: u64, deliveries: u64) {
        let held = self.consumers.get_by(|name| (**name).cmp(consumer));
        let name = held.map(|(name, _)| Arc::clone(name)).expect("made before anything is delivered");
        let pending = Pending { consumer: Arc::clone(&name), delivered_ms, deliveries };
        let before = self.pending.insert(id, pending).map(|pending| pending.consumer);
        if before.as_ref() == Some(&name) {
            return;
        }
        if let Some(before) = before {
            self.consumer_mut(&before).pending.remove(&id);
        }
        self.consumer_mut(&name).pending.insert(id, ());
    }

    /// Forgets the delivery of `id`. Whether there was one.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        match self.pending.remove(&id) {
            Some((_, pending)) => {
                self.consumer_mut(&pending.consumer).pending.remove(&id);
                true
            }
            None => false,
        }
    }

    fn consumer_mut(&mut self, name: &[u8]) -> &mut Consumer {
        self.consumers.get_mut(name).expect("who has something pending is there")
    }

    /// Moves on to `id`, an entry above the last one delivered, in a stream that stands at `counters`.
    pub fn advance(&mut self, id: StreamId, counters: &Counters) {
        match self.entries_read {
            Some(read) if !counters.has_gap_from(id) => self.entries_read = Some(read.wrapping_add(1)),
            _ if counters.entries_added > 0 => self.entries_read = counters.entries_up_to(id),
            _ => {}
        }
        self.last_id = id;
    }

    /// How many entries are yet to be delivered; `None` if nobody can tell.
    pub fn lag(&self, counters: &Counters) -> Option<i64> {
        if counters.entries_added == 0 {
            return Some(0);
        }
        let read = match self.entries_read {
            Some(read) if !counters.has_gap_from(self.last_id) => read,
            _ => counters.entries_up_to(self.last_id)?,
        };
        Some(counters.entries_added.wrapping_sub(read) as i64)
    }

    /// Appends the group to a snapshot's chunk.
    pub(super) fn put_snapshot(&self, out: &mut BytesMut) {
        put_id(out, self.last_id);
        out.put_u8(u8::from(self.entries_read.is_some()));
        out.put_u64_le(self.entries_read.unwrap_or(0));
        out.put_u32_le(self.consumers.len() as u32);
        for (name, consumer) in self.consumers.iter() {
            put_bytes(out, name);
            out.put_u64_le(consumer.seen_ms);
            out.put_u32_le(consumer.pending.len() as u32);
            for (id, pending) in self.pending_of(consumer, StreamId::MIN) {
                put_id(out, id);
                out.put_u64_le(pending.delivered_ms);
                out.put_u64_le(pending.deliveries);
            }
        }
    }

    /// Takes what [`Group::put_snapshot`] wrote; `None` if it is cut short or its parts do not agree.
    pub(super) fn take_snapshot(from: &mut Bytes) -> Option<Group> {
        let last_id = take_id(from)?;
        let known = from.try_get_u8().ok()? == 1;
        let entries_read = from.try_get_u64_le().ok()?;
        let mut group = Group::new(last_id, known.then_some(entries_read));
        for _ in 0..from.try_get_u32_le().ok()? {
            let name = take_bytes(from)?;
            if !group.create_consumer(&name, from.try_get_u64_le().ok()?) {
                return None;
            }
            for _ in 0..from.try_get_u32_le().ok()? {
                let id = take_id(from)?;
                if group.pending(id).is_some() {
                    return None;
                }
                let delivered_ms = from.try_get_u64_le().ok()?;
                group.deliver(id, &name, delivered_ms, from.try_get_u64_le().ok()?);
            }
        }
        Some(group)
    }
}
