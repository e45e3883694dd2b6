//! A small set of names: one after the other in a single allocation, in the order of [`by_name`](crate::value::by_name).
//!
//! A member is the upper two bytes of its name's hash, the name's length (one byte) and the name. Most members that are
//! not the one looked for are told by their hash alone.

use std::cmp::Ordering;
use std::ops::Range;

use crate::value::by_name::{HASH_BITS, hash};

/// The most members of a packed set.
pub(super) const MAX_PACKED_MEMBERS: usize = 128;

/// The longest member of a packed set, in bytes.
pub(super) const MAX_PACKED_BYTES: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    len: u8,
}

impl Packed {
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether one more member that is called `name` has room.
    pub(super) fn fits(&self, name: &[u8]) -> bool {
        self.len() < MAX_PACKED_MEMBERS && name.len() <= MAX_PACKED_BYTES
    }

    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.place(name).is_ok()
    }

    /// The members in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.places().map(|(_, _, name)| name)
    }

    /// Adds `name`, which must fit. Whether it is new.
    pub(super) fn add(&mut self, name: &[u8]) -> bool {
        let Err(at) = self.place(name) else { return false };
        assert!(self.fits(name), "a packed set has room for what is added to it");
        // Exact growth: memory counts more here than the copy of a few hundred bytes.
        self.bytes.reserve_exact(3 + name.len());
        let head = upper(hash(name)).to_be_bytes().into_iter().chain([name.len() as u8]);
        self.bytes.splice(at..at, head.chain(name.iter().copied()));
        self.len += 1;
        true
    }

    /// Whether `name` was there.
    pub(super) fn remove(&mut self, name: &[u8]) -> bool {
        let Ok(place) = self.place(name) else { return false };
        self.bytes.drain(place);
        self.len -= 1;
        true
    }

    /// A step of a scan, as [`crate::value::ByName::scan`] takes it: its cursors are good in both.
    pub(super) fn scan(&self, cursor: u64, count: usize) -> (u64, Vec<&[u8]>) {
        let hashed = self.iter().map(|name| (hash(name), name));
        let left: Vec<(u64, &[u8])> = hashed.filter(|(hash, _)| *hash >= cursor).collect();
        let end = match left.get(count) {
            None => left.len(),
            Some((next, _)) => match left.partition_point(|(hash, _)| hash < next) {
                0 => left.partition_point(|(hash, _)| hash <= next),
                end => end,
            },
        };
        let next = left.get(end).map_or(0, |(hash, _)| *hash);
        (next, left[..end].iter().map(|(_, name)| *name).collect())
    }

    /// Where `name` is, or else where it would be inserted.
    fn place(&self, name: &[u8]) -> Result<Range<usize>, usize> {
        let hash_of_name = hash(name);
        for (place, head, other) in self.places() {
            let order = head.cmp(&upper(hash_of_name));
            match order.then_with(|| hash(other).cmp(&hash_of_name)).then_with(|| other.cmp(name)) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(place),
                Ordering::Greater => return Err(place.start),
            }
        }
        Err(self.bytes.len())
    }

    /// Each member's place, its hash's upper bytes, and its name.
    fn places(&self) -> impl Iterator<Item = (Range<usize>, u16, &[u8])> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let (&[high, low, len], rest) = self.bytes.get(start..)?.split_first_chunk()?;
            let name = rest.get(..usize::from(len))?;
            let place = start..start + 3 + name.len();
            start = place.end;
            Some((place, u16::from_be_bytes([high, low]), name))
        })
    }
}

fn upper(hash: u64) -> u16 {
    (hash >> (HASH_BITS - u16::BITS)) as u16
}
