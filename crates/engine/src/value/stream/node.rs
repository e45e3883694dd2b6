//! A run of a stream's entries, packed into one allocation.
//!
//! Entries of a stream mostly have the same fields, so a node holds the names of its first entry's fields once, and
//! an entry with the same names, in the same order, holds its values alone. Ids are held relative to the first.
//!
//! The bytes: how many fields the first entry has, and their names; then the entries, each a byte of flags, the
//! distance of its time from the first entry's, its number (the distance from the first entry's, if the time is
//! the same), the length of its body, and the body: with [`SAME_NAMES`] values only, else how many fields, and
//! names and values alternately. Numbers are LEB128; a string stands behind its length.
//!
//! An entry that is deleted is only flagged so, as in Redis: where nodes begin and end decides what an approximate
//! trim removes, and so it is part of the state.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::id::StreamId;
use crate::snapshot::{put_bytes, take_bytes};
use crate::value::Bounds;

const DELETED: u8 = 1;
const SAME_NAMES: u8 = 1 << 1;

/// An entry as it stands in a stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamEntry<'a> {
    /// Its id.
    pub id: StreamId,
    /// How many fields it has.
    pub field_count: usize,
    /// The names of the node's first entry, if this one has the same.
    names: Option<&'a [u8]>,
    body: &'a [u8],
}

impl<'a> StreamEntry<'a> {
    /// Its fields' names and values.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let (names, mut body, shared) = (self.names.unwrap_or_default(), self.body, self.names.is_some());
        let mut names = names;
        (0..self.field_count).map_while(move |_| {
            let name = if shared { take_text(&mut names)? } else { take_text(&mut body)? };
            Some((name, take_text(&mut body)?))
        })
    }
}

/// The run.
#[derive(Debug)]
pub(super) struct Node {
    first: StreamId,
    /// The last entry's id, deleted ones included.
    last: StreamId,
    /// How many entries are not deleted.
    live: u32,
    /// How many entries, deleted ones included.
    entries: u32,
    bytes: Vec<u8>,
}

impl Clone for Node {
    /// With room for as many entries: what is cloned before a change is mostly appended to.
    fn clone(&self) -> Node {
        let mut bytes = Vec::with_capacity(self.bytes.capacity());
        bytes.extend_from_slice(&self.bytes);
        Node { bytes, ..*self }
    }
}

impl Node {
    /// A node of one entry, with room for `capacity` bytes.
    pub(super) fn new(id: StreamId, fields: &[[Bytes; 2]], capacity: usize) -> Node {
        let mut bytes = Vec::with_capacity(capacity);
        put_number(&mut bytes, fields.len() as u64);
        fields.iter().for_each(|[name, _]| put_text(&mut bytes, name));
        let mut node = Node { first: id, last: id, live: 0, entries: 0, bytes };
        node.push(id, fields);
        node
    }

    /// The first entry's id, whether or not it is deleted.
    pub(super) fn first(&self) -> StreamId {
        self.first
    }

    /// The last entry's id, whether or not it is deleted.
    pub(super) fn last(&self) -> StreamId {
        self.last
    }

    /// How many entries are not deleted.
    pub(super) fn live(&self) -> u64 {
        u64::from(self.live)
    }

    /// What it takes in memory, in bytes, as a function of what it holds.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Node>() + self.bytes.len()
    }

    /// Whether an entry whose names and values take `bytes` may still join.
    pub(super) fn has_room(&self, bytes: usize, bounds: &Bounds) -> bool {
        u64::from(self.entries) < bounds.node_entries && self.bytes.len() + bytes < bounds.node_bytes
    }

    /// Gives back memory that was kept for entries to come.
    pub(super) fn seal(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Appends an entry; `id` is above every other.
    pub(super) fn push(&mut self, id: StreamId, fields: &[[Bytes; 2]]) {
        let same = self.has_names(fields);
        let text_len = |text: &Bytes| number_len(text.len() as u64) + text.len();
        let values: usize = fields.iter().map(|[_, value]| text_len(value)).sum();
        let names: usize = match same {
            true => 0,
            false => {
                number_len(fields.len() as u64) + fields.iter().map(|[name, _]| text_len(name)).sum::<usize>()
            }
        };
        let ms = id.ms - self.first.ms;
        let out = &mut self.bytes;
        out.push(if same { SAME_NAMES } else { 0 });
        put_number(out, ms);
        put_number(out, if ms == 0 { id.seq - self.first.seq } else { id.seq });
        put_number(out, (names + values) as u64);
        if !same {
            put_number(out, fields.len() as u64);
        }
        for [name, value] in fields {
            if !same {
                put_text(out, name);
            }
            put_text(out, value);
        }
        self.last = id;
        self.live += 1;
        self.entries += 1;
    }

    fn has_names(&self, fields: &[[Bytes; 2]]) -> bool {
        let mut names = self.bytes.as_slice();
        take_number(&mut names) == Some(fields.len() as u64)
            && fields.iter().all(|[name, _]| take_text(&mut names).is_some_and(|first| first == name))
    }

    /// The entries that are not deleted, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = StreamEntry<'_>> {
        self.walk().filter_map(|placed| (!placed.deleted).then_some(placed.entry))
    }

    /// Flags the entry `id` as deleted. Whether it was there.
    pub(super) fn remove(&mut self, id: StreamId) -> bool {
        let at = self.walk().take_while(|placed| placed.entry.id <= id).last();
        match at.filter(|placed| placed.entry.id == id && !placed.deleted).map(|placed| placed.at) {
            Some(at) => {
                self.flag(at);
                true
            }
            None => false,
        }
    }

    /// Flags entries as deleted from the first on, until `keep` says so of one: it is told the entry's id and how
    /// many were deleted before it. How many.
    pub(super) fn remove_until(&mut self, keep: impl Fn(StreamId, u64) -> bool) -> u64 {
        let mut places = Vec::new();
        for placed in self.walk() {
            if keep(placed.entry.id, places.len() as u64) {
                break;
            }
            if !placed.deleted {
                places.push(placed.at);
            }
        }
        places.iter().for_each(|&at| self.flag(at));
        places.len() as u64
    }

    /// Removes deleted entries behind the last that is not; there is one.
    pub(super) fn forget_deleted_end(&mut self) {
        let (mut entries, mut kept) = (0, (self.first, 0, self.bytes.len()));
        let mut walk = self.walk();
        while let Some(placed) = walk.next() {
            entries += 1;
            if !placed.deleted {
                kept = (placed.entry.id, entries, self.bytes.len() - walk.rest.len());
            }
        }
        let (last, entries, end) = kept;
        (self.last, self.entries) = (last, entries);
        self.bytes.truncate(end);
    }

    fn flag(&mut self, at: usize) {
        self.bytes[at] |= DELETED;
        self.live -= 1;
    }

    /// Every entry, deleted ones included.
    fn walk(&self) -> Walk<'_> {
        let mut rest = self.bytes.as_slice();
        let count = take_number(&mut rest).unwrap_or(0) as usize;
        let names = rest;
        // What is cut short (a damaged snapshot) ends the walk; `is_sound` tells.
        let whole = (0..count).all(|_| take_text(&mut rest).is_some());
        Walk { node: self, field_count: count, names, rest: if whole { rest } else { &[] } }
    }

    /// Appends the node to a snapshot's chunk.
    pub(super) fn put_snapshot(&self, out: &mut BytesMut) {
        put_id(out, self.first);
        put_id(out, self.last);
        out.put_u32_le(self.live);
        out.put_u32_le(self.entries);
        put_bytes(out, &self.bytes);
    }

    /// Takes what [`Node::put_snapshot`] wrote; `None` if it is cut short or its parts do not agree.
    pub(super) fn take_snapshot(from: &mut Bytes) -> Option<Node> {
        let (first, last) = (take_id(from)?, take_id(from)?);
        let (live, entries) = (from.try_get_u32_le().ok()?, from.try_get_u32_le().ok()?);
        let bytes = take_bytes(from)?.to_vec();
        Some(Node { first, last, live, entries, bytes }).filter(Node::is_sound)
    }

    fn is_sound(&self) -> bool {
        let mut walk = self.walk();
        let (mut live, mut entries, mut last) = (0, 0, None);
        for placed in walk.by_ref() {
            if last.is_some_and(|last| last >= placed.entry.id) {
                return false;
            }
            last = Some(placed.entry.id);
            live += u32::from(!placed.deleted);
            entries += 1;
        }
        walk.rest.is_empty() && last == Some(self.last) && (live, entries) == (self.live, self.entries)
    }
}

/// An entry and where it stands.
struct Placed<'a> {
    entry: StreamEntry<'a>,
    deleted: bool,
    at: usize,
}

struct Walk<'a> {
    node: &'a Node,
    field_count: usize,
    names: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Iterator for Walk<'a> {
    type Item = Placed<'a>;

    fn next(&mut self) -> Option<Placed<'a>> {
        let at = self.node.bytes.len() - self.rest.len();
        let mut rest = self.rest;
        let (&flags, after) = rest.split_first()?;
        rest = after;
        let first = self.node.first;
        let ms = take_number(&mut rest)?;
        let seq = take_number(&mut rest)?;
        let seq = if ms == 0 { first.seq.checked_add(seq)? } else { seq };
        let id = StreamId { ms: first.ms.checked_add(ms)?, seq };
        let mut body = take_text(&mut rest)?;
        let same = flags & SAME_NAMES != 0;
        let field_count = if same { self.field_count } else { take_number(&mut body)? as usize };
        self.rest = rest;
        let names = same.then_some(self.names);
        let entry = StreamEntry { id, field_count, names, body };
        Some(Placed { entry, deleted: flags & DELETED != 0, at })
    }
}

/// Appends an id to a snapshot's chunk.
pub(super) fn put_id(out: &mut BytesMut, id: StreamId) {
    out.put_u64_le(id.ms);
    out.put_u64_le(id.seq);
}

/// Takes what [`put_id`] wrote.
pub(super) fn take_id(from: &mut Bytes) -> Option<StreamId> {
    Some(StreamId { ms: from.try_get_u64_le().ok()?, seq: from.try_get_u64_le().ok()? })
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

fn take_number(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for (i, &byte) in from.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *from = &from[i + 1..];
            return Some(number);
        }
    }
    None
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text);
}

fn take_text<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_number(from)?).ok()?;
    let (text, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_as_many_bytes_as_foretold() {
        for bits in 0..=64u32 {
            let number = if bits == 0 { 0 } else { u64::MAX >> (64 - bits) };
            for number in [number, number.saturating_add(1)] {
                let mut bytes = Vec::new();
                put_number(&mut bytes, number);
                assert_eq!(bytes.len(), number_len(number), "{number}");
                assert_eq!(take_number(&mut bytes.as_slice()), Some(number));
            }
        }
        assert_eq!(take_number(&mut [0x80u8].as_slice()), None);
    }

    #[test]
    fn a_damaged_node_is_refused_and_never_panics() {
        let fields = [[Bytes::from("name"), Bytes::from("value")], [Bytes::from("n"), Bytes::from("v")]];
        let mut node = Node::new(StreamId { ms: 5, seq: 3 }, &fields, 0);
        node.push(StreamId { ms: 5, seq: 4 }, &fields[..1]);
        node.push(StreamId { ms: 9, seq: 1 }, &fields);
        assert!(node.remove(StreamId { ms: 5, seq: 4 }));
        let mut whole = BytesMut::new();
        node.put_snapshot(&mut whole);
        let whole = whole.freeze();
        let back = Node::take_snapshot(&mut whole.clone()).expect("what was just written");
        assert_eq!(back.iter().count(), 2);
        for len in 0..whole.len() {
            assert!(Node::take_snapshot(&mut whole.slice(..len)).is_none());
        }
        for at in 0..whole.len() {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 0x81;
            // Some damage gives another sound node; none may panic, here or when it is read.
            if let Some(node) = Node::take_snapshot(&mut Bytes::from(damaged)) {
                assert!(node.iter().all(|entry| entry.fields().count() <= entry.field_count));
            }
        }
    }
}
