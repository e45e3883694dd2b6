//! Sorted sets: members with scores, in the order of (score, member).
//!
//! Invariants: scores are never NaN; `-0` and `0` are the same place in the order. A sorted set starts out small and
//! becomes big when it outgrows its [`Bounds`], never the other way: Redis's OBJECT
//! ENCODING shows it. A small one knows no `-0`, which Redis's does not either.

mod big;
mod small;

use std::cmp::Ordering;
use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Bounds;
use crate::snapshot::{put_bytes, take_bytes};
use big::Big;
use small::Small;

/// A member as it stands in a sorted set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Element<'a> {
    /// Its name.
    pub member: &'a [u8],
    /// Its score.
    pub score: f64,
}

impl Element<'_> {
    /// The order of sorted sets.
    pub fn order(&self, other: &Element) -> Ordering {
        compare_scores(self.score, other.score).then_with(|| self.member.cmp(other.member))
    }
}

/// How scores are ordered: `-0` is `0`.
fn compare_scores(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).expect("a score is a number")
}

/// A sorted set value.
#[derive(Clone, Debug)]
pub struct ZsetValue(Repr);

#[derive(Clone, Debug)]
enum Repr {
    Small(Small),
    Big(Box<Big>),
}

impl Default for ZsetValue {
    fn default() -> ZsetValue {
        ZsetValue(Repr::Small(Small::default()))
    }
}

impl ZsetValue {
    /// A sorted set without members.
    pub fn new() -> ZsetValue {
        ZsetValue::default()
    }

    /// The sorted set of `elements`, which may be in any order, but whose members differ. It is small if it can be.
    pub fn of(elements: Vec<Element>, bounds: &Bounds) -> ZsetValue {
        ZsetValue::try_of(elements, bounds).expect("members differ")
    }

    /// The sorted set that `elements` make one after the other: those that come while it is still small lose the sign of
    /// `-0`, and keep having lost it when it becomes big.
    pub fn grown(mut elements: Vec<Element>, bounds: &Bounds) -> ZsetValue {
        let first = elements.iter().take(bounds.zset_members);
        let while_small = first.take_while(|element| element.member.len() <= bounds.zset_bytes).count();
        // This makes 0 of -0.
        elements[..while_small].iter_mut().for_each(|element| element.score += 0.0);
        ZsetValue::of(elements, bounds)
    }

    /// The sorted set of elements that come from outside, as [`ZsetValue::of`]; `None` if a member is there twice.
    pub fn try_of(mut elements: Vec<Element>, bounds: &Bounds) -> Option<ZsetValue> {
        elements.sort_unstable_by(Element::order);
        let small = elements.len() <= bounds.zset_members
            && elements.iter().all(|element| element.member.len() <= bounds.zset_bytes);
        ZsetValue::of_sorted(&elements, small)
    }

    /// `None` if a member is there twice, or the order is wrong, or a small sorted set cannot hold them.
    fn of_sorted(elements: &[Element], small: bool) -> Option<ZsetValue> {
        Some(ZsetValue(match small {
            true => Repr::Small(Small::of_sorted(elements)?),
            false => Repr::Big(Box::new(Big::of_sorted(elements)?)),
        }))
    }

    /// The name that OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Repr::Small(_) => "listpack",
            Repr::Big(_) => "skiplist",
        }
    }

    /// Whether one walk meets all members at once, so that a cursor into it has no meaning.
    pub fn is_small(&self) -> bool {
        matches!(self.0, Repr::Small(_))
    }

    /// What it takes besides the object it stands in, in bytes: a function of its elements and its form.
    pub fn bytes(&self) -> usize {
        /// The value itself and what its allocations carry besides their content.
        const HEADER_BYTES: usize = 64;
        HEADER_BYTES
            + match &self.0 {
                Repr::Small(small) => small.bytes(),
                Repr::Big(big) => big.bytes(),
            }
    }

    /// How many members.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Small(small) => small.len(),
            Repr::Big(big) => big.len(),
        }
    }

    /// Whether there are no members; the key is absent then.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The score of `member`.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.0 {
            Repr::Small(small) => small.iter().find(|element| element.member == member).map(|e| e.score),
            Repr::Big(big) => big.score(member),
        }
    }

    /// See [`super::Value::note_changes`].
    pub(super) fn note_changes(&mut self) -> bool {
        if let Repr::Big(big) = &mut self.0 {
            big.note_changes();
        }
        !self.is_small()
    }

    /// See [`super::Value::changes`].
    pub(super) fn changes(&self) -> Option<usize> {
        match &self.0 {
            Repr::Small(_) => None,
            Repr::Big(big) => big.changes(),
        }
    }

    /// See [`super::Value::forget_changes`].
    pub(super) fn forget_changes(&mut self) {
        if let Repr::Big(big) = &mut self.0 {
            big.forget_changes();
        }
    }

    /// See [`super::Value::take_back_changes`].
    pub(super) fn take_back_changes(&mut self) {
        if let Repr::Big(big) = &mut self.0 {
            big.take_back_changes();
        }
    }

    /// How many elements come before `member`, and its score.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match &self.0 {
            Repr::Small(small) => {
                let found = small.iter().enumerate().find(|(_, element)| element.member == member);
                found.map(|(rank, element)| (rank, element.score))
            }
            Repr::Big(big) => big.rank(member),
        }
    }

    /// The element at `position`, from 0 to `len - 1`.
    pub fn at(&self, position: usize) -> Option<Element<'_>> {
        match &self.0 {
            Repr::Small(small) => small.iter().nth(position),
            Repr::Big(big) => big.at(position),
        }
    }

    /// The elements in order.
    pub fn iter(&self) -> Elements<'_> {
        self.range(0..self.len())
    }

    /// The elements at `positions`, as far as there are any.
    pub fn range(&self, positions: Range<usize>) -> Elements<'_> {
        match &self.0 {
            Repr::Small(small) => {
                let taken = positions.end.saturating_sub(positions.start);
                let elements: Vec<Element> = small.iter().skip(positions.start).take(taken).collect();
                Elements::Small(elements.into_iter())
            }
            Repr::Big(big) => Elements::Big(big.range(positions)),
        }
    }

    /// How many elements at the start satisfy `before`, which must be true of none behind them: a big sorted set is
    /// searched by halves, and where these are is not state.
    pub fn count_while(&self, before: impl Fn(Element) -> bool) -> usize {
        match &self.0 {
            Repr::Small(small) => small.iter().take_while(|element| before(*element)).count(),
            Repr::Big(big) => big.count_while(before),
        }
    }

    /// A step of a scan of a big sorted set, as [`super::ByName::scan`] takes it; a small one is met whole.
    pub fn scan(&self, cursor: u64, count: usize) -> (u64, Vec<Element<'_>>) {
        match &self.0 {
            Repr::Small(small) => (0, small.iter().collect()),
            Repr::Big(big) => big.scan(cursor, count),
        }
    }

    /// Gives `member` the score `score`. The score it had.
    pub fn set(&mut self, member: &[u8], score: f64, bounds: &Bounds) -> Option<f64> {
        assert!(!score.is_nan(), "a score is a number");
        let before = self.score(member);
        let fits = member.len() <= bounds.zset_bytes && self.len() < bounds.zset_members;
        if before.is_none() && !fits {
            self.become_big();
        }
        if before != Some(score) {
            match &mut self.0 {
                Repr::Small(small) => small.put(Element { member, score }),
                Repr::Big(big) => big.put(Element { member, score }),
            }
        }
        before
    }

    /// Removes `member`. Its score if it was there.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match &mut self.0 {
            Repr::Small(small) => small.remove(member),
            Repr::Big(big) => big.remove(member),
        }
    }

    /// Removes the elements at `positions`, as far as there are any.
    pub fn remove_range(&mut self, positions: Range<usize>) {
        match &mut self.0 {
            Repr::Small(small) => small.remove_range(positions),
            Repr::Big(big) => big.remove_range(positions),
        }
    }

    fn become_big(&mut self) {
        if let Repr::Small(small) = &self.0 {
            let elements: Vec<Element> = small.iter().collect();
            let big = Big::of_sorted(&elements).expect("the elements of a sorted set are in order");
            self.0 = Repr::Big(Box::new(big));
        }
    }

    /// Appends the sorted set to a snapshot's chunk: whether it is big, then its elements in order.
    pub(crate) fn put_snapshot(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(!self.is_small()));
        out.put_u32_le(self.len() as u32);
        for element in self.iter() {
            put_bytes(out, element.member);
            out.put_f64_le(element.score);
        }
    }

    /// Takes what [`ZsetValue::put_snapshot`] wrote; `None` if it is cut short or no sorted set has such a form.
    pub(crate) fn take_snapshot(from: &mut Bytes) -> Option<ZsetValue> {
        let small = match from.try_get_u8().ok()? {
            0 => true,
            1 => false,
            _ => return None,
        };
        let mut elements: Vec<(Bytes, f64)> = Vec::new();
        for _ in 0..from.try_get_u32_le().ok()? {
            let element = (take_bytes(from)?, from.try_get_f64_le().ok()?);
            elements.push(element);
        }
        if elements.iter().any(|(_, score)| score.is_nan()) {
            return None;
        }
        let elements: Vec<Element> =
            elements.iter().map(|(member, score)| Element { member, score: *score }).collect();
        ZsetValue::of_sorted(&elements, small)
    }
}

/// Whether `elements` ascend, each different from the one before.
fn is_ascending(elements: &[Element]) -> bool {
    elements.is_sorted_by(|a, b| a.order(b).is_lt())
}

/// Elements in order, from both ends.
pub enum Elements<'a> {
    /// Of a small sorted set.
    Small(std::vec::IntoIter<Element<'a>>),
    /// Of a big one.
    Big(big::Elements<'a>),
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        match self {
            Elements::Small(elements) => elements.next(),
            Elements::Big(elements) => elements.next().map(big::shown),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Elements::Small(elements) => elements.size_hint(),
            Elements::Big(elements) => elements.size_hint(),
        }
    }
}

impl DoubleEndedIterator for Elements<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Elements::Small(elements) => elements.next_back(),
            Elements::Big(elements) => elements.next_back().map(big::shown),
        }
    }
}

impl ExactSizeIterator for Elements<'_> {}

#[cfg(test)]
mod tests;
