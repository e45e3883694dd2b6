//! Lists: a rope of packed chunks.
//!
//! A short list is a single chunk, its elements one after the other in one allocation. A longer one is a tree with
//! chunks for leaves, whose nodes know how many elements are below them: both ends and any index are found in
//! O(log n). Nodes are shared between clones, and a write copies only the path to the chunk that it changes: a snapshot
//! never makes a later write copy a long list whole.
//!
//! Only the elements and their order are state. How they are cut into chunks depends on how the list came about,
//! and nothing that a reader or another replica can see depends on that.

mod chunk;
mod rope;

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::snapshot::{put_bytes, take_bytes};
use rope::Node;

pub use rope::Iter;

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The head, where index 0 is.
    Left,
    /// The tail.
    Right,
}

/// A list value.
#[derive(Clone, Debug, Default)]
pub struct ListValue(Arc<Node>);

impl ListValue {
    /// A list without elements.
    pub fn new() -> ListValue {
        ListValue::default()
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no elements; the key is absent then.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it takes besides the object it stands in, in bytes: a function of its elements.
    pub fn bytes(&self) -> usize {
        /// A node, and what an allocation carries.
        const HEADER_BYTES: usize = 72;
        HEADER_BYTES + self.0.bytes()
    }

    /// The element at `index`.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.0.get(index)
    }

    /// The elements in order.
    pub fn iter(&self) -> Iter<'_> {
        self.range(0..self.len())
    }

    /// The elements at `range`, as far as there are any, in order.
    pub fn range(&self, range: Range<usize>) -> Iter<'_> {
        Iter::ascending(&self.0, range)
    }

    /// The elements at `range`, as far as there are any, from the last to the first.
    pub fn range_rev(&self, range: Range<usize>) -> Iter<'_> {
        Iter::descending(&self.0, range)
    }

    /// Inserts `element` before the one at `index`, at the end if there is none.
    pub fn insert(&mut self, index: usize, element: &[u8]) {
        let index = index.min(self.len());
        rope::insert(&mut self.0, index, element);
    }

    /// Adds `element` at an end.
    pub fn push(&mut self, side: Side, element: &[u8]) {
        match side {
            Side::Left => self.insert(0, element),
            Side::Right => self.insert(usize::MAX, element),
        }
    }

    /// Replaces the element at `index`. Whether there is one.
    pub fn replace(&mut self, index: usize, element: &[u8]) -> bool {
        let there = index < self.len();
        if there {
            self.remove(index..index + 1);
            self.insert(index, element);
        }
        there
    }

    /// Removes the elements at `range`, as far as there are any.
    pub fn remove(&mut self, range: Range<usize>) {
        let end = range.end.min(self.len());
        if range.start < end {
            rope::remove(&mut self.0, range.start..end);
        }
    }

    /// The range of the `count` elements at an end, or of as many as there are.
    pub fn end(&self, side: Side, count: usize) -> Range<usize> {
        let len = self.len();
        let count = count.min(len);
        match side {
            Side::Left => 0..count,
            Side::Right => len - count..len,
        }
    }

    /// Appends the list to a snapshot's chunk.
    pub(crate) fn put_snapshot(&self, out: &mut BytesMut) {
        out.put_u64_le(self.len() as u64);
        self.iter().for_each(|element| put_bytes(out, element));
    }

    /// Takes what [`ListValue::put_snapshot`] wrote; `None` if it is cut short.
    pub(crate) fn take_snapshot(from: &mut Bytes) -> Option<ListValue> {
        let mut list = ListValue::new();
        for _ in 0..from.try_get_u64_le().ok()? {
            list.push(Side::Right, &take_bytes(from)?);
        }
        Some(list)
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for ListValue {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> ListValue {
        let mut list = ListValue::new();
        elements.into_iter().for_each(|element| list.push(Side::Right, element.as_ref()));
        list
    }
}

#[cfg(test)]
mod tests;
