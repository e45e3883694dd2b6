//! Streams: entries in the order of their ids, and the consumer groups that read them.
//!
//! Entries stand in nodes ([`node`]) of a size within [`Bounds`]. The last node, which XADD
//! appends to, is held in place; the full ones before it, and whatever a group may hold many of, in trees that clones share.
//!
//! Invariants: ids ascend, and none is above `last_id`; `len` counts the entries that are not deleted and `first_id` is
//! the first of them (`0-0` if there is none); a stream may be empty and yet be there, as its groups and its last id
//! matter.

mod group;
mod id;
mod node;

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Bounds, Tree};
use crate::snapshot::{put_bytes, take_bytes};
use node::{Node, put_id, take_id};

pub use group::{Consumer, Group, Name, Pending};
pub use id::StreamId;
pub use node::StreamEntry;

/// The most bytes that a new node takes before it needs them.
const MAX_RESERVED_BYTES: usize = 4096;

/// What is known of a stream as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// How many entries there are.
    pub len: u64,
    /// The first entry's id; `0-0` if there is none.
    pub first_id: StreamId,
    /// The highest id that was ever given.
    pub last_id: StreamId,
    /// The highest id that XDEL has removed.
    pub max_deleted_id: StreamId,
    /// How many entries were ever added.
    pub entries_added: u64,
}

impl Counters {
    /// Whether an entry at or above `start` may be missing behind the first that is there.
    pub fn has_gap_from(&self, start: StreamId) -> bool {
        self.len > 0
            && self.max_deleted_id != StreamId::MIN
            && self.first_id <= self.max_deleted_id
            && start <= self.max_deleted_id
    }

    /// How many entries were added up to and with `id`; `None` if nobody can tell.
    pub fn entries_up_to(&self, id: StreamId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if id == self.last_id || self.len == 0 && id < self.last_id {
            return Some(self.entries_added);
        }
        let no_gaps = self.max_deleted_id == StreamId::MIN || self.max_deleted_id < self.first_id;
        if id > self.last_id || id > self.first_id || !no_gaps {
            return None;
        }
        let before_first = self.entries_added.wrapping_sub(self.len);
        Some(if id == self.first_id { before_first.wrapping_add(1) } else { before_first })
    }
}

/// What a trim leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimTo {
    /// So many entries.
    Length(u64),
    /// Entries from this id on.
    MinId(StreamId),
}

/// A trim: entries are removed from the first on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// Where it ends.
    pub to: TrimTo,
    /// Only whole nodes are removed.
    pub approximate: bool,
    /// No more than so many entries are removed.
    pub limit: Option<u64>,
}

impl Trim {
    /// Whether all of `node`, the first of a stream with `len` entries, is to go.
    fn covers(&self, node: &Node, len: u64) -> bool {
        match self.to {
            TrimTo::Length(max) => len - node.live() >= max,
            TrimTo::MinId(min) => node.last() < min,
        }
    }
}

/// A stream.
#[derive(Clone, Debug, Default)]
pub struct StreamValue {
    counters: Counters,
    /// By their first entry's id.
    full: Tree<StreamId, Arc<Node>>,
    /// What the full nodes take.
    full_bytes: usize,
    /// The last node; `None` if there is no node at all.
    tail: Option<Node>,
    groups: Tree<Box<[u8]>, Group>,
    /// What the groups take.
    group_bytes: usize,
}

impl StreamValue {
    /// What is known of it as a whole.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many entries there are.
    pub fn len(&self) -> u64 {
        self.counters.len
    }

    /// Whether there are no entries. The key is there all the same.
    pub fn is_empty(&self) -> bool {
        self.counters.len == 0
    }

    /// About what it takes in memory, in bytes.
    pub fn bytes(&self) -> usize {
        size_of::<StreamValue>()
            + self.full_bytes
            + self.tail.as_ref().map_or(0, |tail| tail.bytes())
            + self.group_bytes
    }

    /// How many nodes hold its entries.
    pub fn node_count(&self) -> usize {
        self.full.len() + usize::from(self.tail.is_some())
    }

    /// The id that an entry without one gets at `now_ms`; `None` after the last id there is.
    pub fn next_id(&self, now_ms: u64) -> Option<StreamId> {
        let last = self.counters.last_id;
        if now_ms > last.ms { Some(StreamId { ms: now_ms, seq: 0 }) } else { last.next() }
    }

    /// Appends an entry. `id` is above every id that was ever given.
    pub fn append(&mut self, id: StreamId, fields: &[[Bytes; 2]], bounds: &Bounds) {
        assert!(id > self.counters.last_id, "{id} is not above {}", self.counters.last_id);
        let bytes = fields.iter().map(|[name, value]| name.len() + value.len()).sum();
        match &mut self.tail {
            Some(tail) if tail.has_room(bytes, bounds) => tail.push(id, fields),
            tail => {
                // A stream that has filled a node is likely to fill another.
                let capacity = if tail.is_some() { bounds.node_bytes.min(MAX_RESERVED_BYTES) } else { 0 };
                if let Some(mut full) = tail.replace(Node::new(id, fields, capacity)) {
                    full.seal();
                    self.push_full(full);
                }
            }
        }
        let counters = &mut self.counters;
        counters.len += 1;
        counters.entries_added = counters.entries_added.wrapping_add(1);
        counters.last_id = id;
        if counters.len == 1 {
            counters.first_id = id;
        }
    }

    /// The entries from `start` to `end`, both included, in order.
    pub fn range(&self, start: StreamId, end: StreamId) -> impl Iterator<Item = StreamEntry<'_>> {
        // The node before may reach into the range.
        let at = count_through(&self.full, start).saturating_sub(1);
        let full = self.full.iter_from(at).map(|(_, node)| &**node);
        full.chain(&self.tail)
            .flat_map(Node::iter)
            .skip_while(move |entry| entry.id < start)
            .take_while(move |entry| entry.id <= end)
    }

    /// The entries from `end` back to `start`, both included.
    pub fn range_back(&self, end: StreamId, start: StreamId) -> impl Iterator<Item = StreamEntry<'_>> {
        let full = back_from(&self.full, end).map(|(_, node)| &**node);
        self.tail
            .iter()
            .chain(full)
            .flat_map(|node| node.iter().collect::<Vec<_>>().into_iter().rev())
            .skip_while(move |entry| entry.id > end)
            .take_while(move |entry| entry.id >= start)
    }

    /// The entry `id`.
    pub fn get(&self, id: StreamId) -> Option<StreamEntry<'_>> {
        self.range(id, id).next()
    }

    /// The id of the last entry.
    pub fn last_entry_id(&self) -> Option<StreamId> {
        self.range_back(StreamId::MAX, StreamId::MIN).next().map(|entry| entry.id)
    }

    /// Removes the entry `id`. Whether it was there.
    pub fn remove(&mut self, id: StreamId) -> bool {
        if self.counters.first_id > id || !self.remove_from_node(id) {
            return false;
        }
        self.counters.len -= 1;
        self.counters.max_deleted_id = self.counters.max_deleted_id.max(id);
        if id == self.counters.first_id {
            self.find_first();
        }
        true
    }

    /// A node whose last entry is removed goes with it.
    fn remove_from_node(&mut self, id: StreamId) -> bool {
        if let Some(tail) = self.tail.as_mut().filter(|tail| tail.first() <= id) {
            let removed = tail.remove(id);
            if removed && tail.live() == 0 {
                self.pop_tail();
            }
            return removed;
        }
        let Some(first) = back_from(&self.full, id).next().map(|(first, _)| first) else { return false };
        self.edit_full(first, |node| node.remove(id))
    }

    /// The node before the last becomes the last.
    fn pop_tail(&mut self) {
        let before = self.full.len().checked_sub(1).and_then(|last| self.take_full(last));
        self.tail = before.map(Arc::unwrap_or_clone);
    }

    /// Puts a full node behind the others.
    fn push_full(&mut self, node: Node) {
        self.full_bytes += node.bytes();
        self.full.insert(node.first(), Arc::new(node));
    }

    /// Removes the full node at `position`.
    fn take_full(&mut self, position: usize) -> Option<Arc<Node>> {
        let (_, node) = self.full.remove_at(position)?;
        self.full_bytes -= node.bytes();
        Some(node)
    }

    /// Flags entries of the full node `first` as deleted; a node that holds nothing any more is removed.
    fn edit_full<R: Default>(&mut self, first: StreamId, edit: impl FnOnce(&mut Node) -> R) -> R {
        let Some(node) = self.full.get_mut(&first).map(Arc::make_mut) else { return R::default() };
        let answer = edit(node);
        if node.live() == 0
            && let Ok(position) = self.full.rank(&first)
        {
            self.take_full(position);
        }
        answer
    }

    /// Removes entries from the first on. How many.
    pub fn trim(&mut self, trim: &Trim) -> u64 {
        let before = self.counters.len;
        loop {
            let len = self.counters.len;
            let Some(node) = self.full.first().map(|(_, node)| &**node).or(self.tail.as_ref()) else { break };
            let within_limit = trim.limit.is_none_or(|limit| before - len + node.live() <= limit);
            if matches!(trim.to, TrimTo::Length(max) if len <= max) || !within_limit {
                break;
            }
            if trim.covers(node, len) {
                self.counters.len -= node.live();
                if self.take_full(0).is_none() {
                    self.tail = None;
                }
                continue;
            }
            if !trim.approximate {
                self.counters.len -= self.trim_first_node(trim.to);
            }
            break;
        }
        let removed = before - self.counters.len;
        if removed > 0 {
            self.find_first();
        }
        removed
    }

    /// Removes some of the first node's entries, but not all. How many.
    fn trim_first_node(&mut self, to: TrimTo) -> u64 {
        let len = self.counters.len;
        let keep = |id: StreamId, removed: u64| match to {
            TrimTo::Length(max) => len - removed <= max,
            TrimTo::MinId(min) => id >= min,
        };
        match self.full.first().map(|(&first, _)| first) {
            Some(first) => self.edit_full(first, |node| node.remove_until(keep)),
            None => self.tail.as_mut().map_or(0, |tail| tail.remove_until(keep)),
        }
    }

    fn find_first(&mut self) {
        let first = self.range(StreamId::MIN, StreamId::MAX).next().map(|entry| entry.id);
        self.counters.first_id = first.unwrap_or_default();
    }

    /// Moves the highest id ever given; the caller has made sure that no entry is above it.
    pub fn set_last_id(&mut self, last_id: StreamId) {
        self.counters.last_id = last_id;
        // Entries to come may have the ids of deleted ones: those must not stand before them.
        while let Some(tail) = self.tail.as_mut().filter(|tail| tail.last() > last_id) {
            if tail.live() > 0 {
                tail.forget_deleted_end();
                assert!(tail.last() <= last_id, "an entry is above {last_id}");
            } else {
                self.pop_tail();
            }
        }
    }

    /// Sets how many entries were ever added.
    pub fn set_entries_added(&mut self, entries_added: u64) {
        self.counters.entries_added = entries_added;
    }

    /// Sets the highest id ever removed.
    pub fn set_max_deleted_id(&mut self, max_deleted_id: StreamId) {
        self.counters.max_deleted_id = max_deleted_id;
    }

    /// Whether it has consumer groups: what was delivered to them is lost with the stream, so it is never evicted.
    pub fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// The groups by name.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&**name, group))
    }

    /// The group `name`.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name)
    }

    /// Changes the group `name`; `None` if it is not there.
    pub fn edit_group<R>(&mut self, name: &[u8], edit: impl FnOnce(&mut Group) -> R) -> Option<R> {
        let group = self.groups.get_mut(name)?;
        let before = group.bytes();
        let answer = edit(group);
        self.group_bytes = self.group_bytes - before + group.bytes();
        Some(answer)
    }

    /// Puts a group under `name`, where none is.
    pub fn create_group(&mut self, name: &[u8], group: Group) {
        self.group_bytes += group.bytes();
        let earlier = self.groups.insert(Box::from(name), group);
        assert!(earlier.is_none(), "a group of this name is there");
    }

    /// Removes the group `name`. Whether it was there.
    pub fn remove_group(&mut self, name: &[u8]) -> bool {
        let removed = self.groups.remove(name);
        self.group_bytes -= removed.as_ref().map_or(0, |(_, group)| group.bytes());
        removed.is_some()
    }

    /// Its nodes, its groups and what is pending in them; of these the first stands for all.
    pub fn pieces(&self) -> usize {
        let pending = self.groups().next().map_or(0, |(_, group)| group.pending_count());
        self.node_count() + self.groups.len() * (1 + pending)
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.full.iter().map(|(_, node)| &**node).chain(&self.tail)
    }

    /// Appends the stream to a snapshot's chunk.
    pub(crate) fn put_snapshot(&self, out: &mut BytesMut) {
        put_id(out, self.counters.last_id);
        put_id(out, self.counters.max_deleted_id);
        out.put_u64_le(self.counters.entries_added);
        out.put_u32_le(self.node_count() as u32);
        self.nodes().for_each(|node| node.put_snapshot(out));
        out.put_u32_le(self.groups.len() as u32);
        for (name, group) in self.groups.iter() {
            put_bytes(out, name);
            group.put_snapshot(out);
        }
    }

    /// Takes what [`StreamValue::put_snapshot`] wrote; `None` if it is cut short or its parts do not agree.
    pub(crate) fn take_snapshot(from: &mut Bytes) -> Option<StreamValue> {
        let mut stream = StreamValue::default();
        stream.counters.last_id = take_id(from)?;
        stream.counters.max_deleted_id = take_id(from)?;
        stream.counters.entries_added = from.try_get_u64_le().ok()?;
        let mut last = None;
        for _ in 0..from.try_get_u32_le().ok()? {
            let node = Node::take_snapshot(from)?;
            if last.is_some_and(|last| last >= node.first()) {
                return None;
            }
            last = Some(node.last());
            stream.counters.len += node.live();
            if let Some(full) = stream.tail.replace(node) {
                stream.push_full(full);
            }
        }
        stream.find_first();
        for _ in 0..from.try_get_u32_le().ok()? {
            let name = take_bytes(from)?;
            if stream.group(&name).is_some() {
                return None;
            }
            stream.create_group(&name, Group::take_snapshot(from)?);
        }
        Some(stream)
    }
}

/// How many ids are not above `id`.
fn count_through<V>(tree: &Tree<StreamId, V>, id: StreamId) -> usize {
    tree.rank(&id).map_or_else(|before| before, |at| at + 1)
}

/// Everything from `id` on, upwards.
fn from<V>(tree: &Tree<StreamId, V>, id: StreamId) -> impl Iterator<Item = (StreamId, &V)> {
    tree.iter_from(tree.rank(&id).unwrap_or_else(|next| next)).map(|(id, value)| (*id, value))
}

/// Everything from `id` on, downwards.
fn back_from<V>(tree: &Tree<StreamId, V>, id: StreamId) -> impl Iterator<Item = (StreamId, &V)> {
    tree.range(0..count_through(tree, id)).rev().map(|(id, value)| (*id, value))
}

#[cfg(test)]
mod tests;
