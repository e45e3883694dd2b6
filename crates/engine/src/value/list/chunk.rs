//! A chunk: elements one after the other in a single allocation, each with its length before it, seven bits to a
//! byte, the lowest first; the top bit says that another follows.

use std::ops::Range;

/// A chunk with more is cut in two. Tests take tiny ones, so that few elements make deep ropes.
const MAX_BYTES: usize = if cfg!(test) { 64 } else { 4096 };

/// A chunk with more elements is cut in two: an element is found by walking over those before it.
const MAX_LEN: usize = if cfg!(test) { 6 } else { 128 };

#[derive(Clone, Debug, Default)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    len: u32,
}

impl Chunk {
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        self.iter().nth(index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (len, after) = take_len(rest)?;
            let (element, after) = after.split_at_checked(len)?;
            rest = after;
            Some(element)
        })
    }

    /// Inserts `element` before the one at `index`. If the chunk is too full then, its upper part is the answer. A
    /// chunk that has grown at an end is cut there, so that what is pushed makes full chunks.
    pub(super) fn insert(&mut self, index: usize, element: &[u8]) -> Option<Chunk> {
        let place = self.offset(index);
        let mut head = [0; MAX_LEN_BYTES];
        let head = put_len(&mut head, element.len());
        let grown = head.len() + element.len();
        if self.bytes.capacity() - self.bytes.len() < grown {
            // Almost exact growth: memory counts more here than the copy of a few kilobytes.
            self.bytes.reserve_exact(grown + self.bytes.len() / 16);
        }
        if place == self.bytes.len() {
            self.bytes.extend_from_slice(head);
            self.bytes.extend_from_slice(element);
        } else {
            self.bytes.splice(place..place, head.iter().chain(element).copied());
        }
        self.len += 1;
        if self.len() == 1 || self.len() <= MAX_LEN && self.bytes.len() <= MAX_BYTES {
            return None;
        }
        Some(match index {
            0 => self.split_off(1),
            _ if index + 1 == self.len() => self.split_off(index),
            _ => self.split_off(self.middle()),
        })
    }

    pub(super) fn remove(&mut self, range: Range<usize>) {
        let start = self.offset(range.start);
        let end = start + offset(&self.bytes[start..], range.len());
        self.bytes.drain(start..end);
        self.len -= range.len() as u32;
        self.shrink();
    }

    pub(super) fn append(&mut self, other: &Chunk) {
        self.bytes.reserve_exact(other.bytes.len());
        self.bytes.extend_from_slice(&other.bytes);
        self.len += other.len;
    }

    fn split_off(&mut self, index: usize) -> Chunk {
        let upper = self.bytes.split_off(self.offset(index));
        let len = self.len - index as u32;
        self.len = index as u32;
        self.shrink();
        Chunk { bytes: upper, len }
    }

    /// The index that leaves about as many bytes on either side, and an element.
    fn middle(&self) -> usize {
        let mut before = 0;
        let half = self.iter().position(|element| {
            before += element.len() + 1;
            2 * before >= self.bytes.len()
        });
        half.unwrap_or(0).clamp(1, self.len() - 1)
    }

    fn shrink(&mut self) {
        let len = self.bytes.len();
        if self.bytes.capacity() > len + len / 2 + 64 {
            self.bytes.shrink_to(len + len / 16);
        }
    }

    fn offset(&self, index: usize) -> usize {
        if index == self.len() { self.bytes.len() } else { offset(&self.bytes, index) }
    }
}

/// Whether chunks of so many elements and bytes in all can be one, with room left.
pub(super) fn fit_together(len: usize, bytes: usize) -> bool {
    len <= MAX_LEN * 3 / 4 && bytes <= MAX_BYTES * 3 / 4
}

/// Enough for any length that fits into 35 bits.
const MAX_LEN_BYTES: usize = 5;

fn put_len(out: &mut [u8; MAX_LEN_BYTES], mut len: usize) -> &[u8] {
    let mut used = 0;
    loop {
        let more = len > 0x7f;
        out[used] = len as u8 & 0x7f | if more { 0x80 } else { 0 };
        used += 1;
        len >>= 7;
        if !more {
            return &out[..used];
        }
    }
}

/// The length at the start of `bytes`, and what follows it; `None` at their end.
fn take_len(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut len = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((len, &bytes[i + 1..]));
        }
    }
    None
}

/// How many bytes the first `count` elements take.
fn offset(bytes: &[u8], count: usize) -> usize {
    let mut rest = bytes;
    for _ in 0..count {
        let Some((len, after)) = take_len(rest) else { break };
        rest = &after[len..];
    }
    bytes.len() - rest.len()
}
