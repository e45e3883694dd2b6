//! A small sorted set: its elements one after the other in a single allocation, in their order.
//!
//! An element is its member's length (one byte), the member, and the score: whole numbers below [`WHOLE`] are one
//! byte; for any other, `WHOLE + n` is followed by the `n` upper bytes of its IEEE 754 form, the others being zero.
//! Scores that people write down take no more room that way than as text.

use std::ops::Range;

use super::{Bounds, Element, is_ascending};

const WHOLE: u8 = 240;

#[derive(Clone, Debug, Default)]
pub(super) struct Small {
    bytes: Vec<u8>,
    len: u16,
}

impl Small {
    /// `None` unless the elements ascend, are within the widest bounds and their members differ.
    pub(super) fn of_sorted(elements: &[Element]) -> Option<Small> {
        if elements.len() > Bounds::WIDEST.zset_members || !is_ascending(elements) {
            return None;
        }
        let mut members: Vec<&[u8]> = elements.iter().map(|element| element.member).collect();
        members.sort_unstable();
        let too_long = |member: &&[u8]| member.len() > Bounds::WIDEST.zset_bytes;
        if !members.is_sorted_by(|a, b| a < b) || members.iter().any(too_long) {
            return None;
        }
        let mut bytes = Vec::new();
        elements.iter().for_each(|element| encode(&mut bytes, *element));
        bytes.shrink_to_fit();
        Some(Small { bytes, len: elements.len() as u16 })
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Element<'_>> {
        self.places().map(|(_, element)| element)
    }

    /// Puts `element` in place of whatever score its member has.
    pub(super) fn put(&mut self, element: Element) {
        self.remove(element.member);
        let place = self.places().find(|(_, other)| other.order(&element).is_gt());
        let at = place.map_or(self.bytes.len(), |(place, _)| place.start);
        let mut encoded = Vec::with_capacity(10 + element.member.len());
        encode(&mut encoded, element);
        // Exact growth: memory counts more here than the copy of a few hundred bytes.
        self.bytes.reserve_exact(encoded.len());
        self.bytes.splice(at..at, encoded);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let (place, score) = self
            .places()
            .find(|(_, element)| element.member == member)
            .map(|(place, element)| (place, element.score))?;
        self.bytes.drain(place);
        self.len -= 1;
        Some(score)
    }

    pub(super) fn remove_range(&mut self, positions: Range<usize>) {
        let starts =
            |position| self.places().nth(position).map_or(self.bytes.len(), |(place, _)| place.start);
        let end = positions.end.min(self.len());
        if positions.start < end {
            let places = starts(positions.start)..starts(end);
            self.bytes.drain(places);
            self.len -= (end - positions.start) as u16;
        }
    }

    fn places(&self) -> impl Iterator<Item = (Range<usize>, Element<'_>)> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let (len, element) = decode(&self.bytes[start..])?;
            let place = start..start + len;
            start = place.end;
            Some((place, element))
        })
    }
}

fn encode(out: &mut Vec<u8>, element: Element) {
    out.push(element.member.len() as u8);
    out.extend_from_slice(element.member);
    let score = element.score;
    // This makes 0 of -0.
    if score >= 0.0 && score < f64::from(WHOLE) && score == libm::trunc(score) {
        out.push(score as u8);
        return;
    }
    let bits = score.to_bits();
    let upper = 8 - bits.trailing_zeros() as usize / 8;
    out.push(WHOLE + upper as u8);
    out.extend_from_slice(&bits.to_be_bytes()[..upper]);
}

/// The first element of `bytes` and its length in them; `None` at their end.
fn decode(bytes: &[u8]) -> Option<(usize, Element<'_>)> {
    let (&len, rest) = bytes.split_first()?;
    let (member, rest) = rest.split_at_checked(usize::from(len))?;
    let (&head, rest) = rest.split_first()?;
    let Some(upper) = head.checked_sub(WHOLE) else {
        return Some((bytes.len() - rest.len(), Element { member, score: f64::from(head) }));
    };
    let (upper, rest) = rest.split_at_checked(usize::from(upper))?;
    let mut bits = [0; 8];
    bits[..upper.len()].copy_from_slice(upper);
    let score = f64::from_bits(u64::from_be_bytes(bits));
    Some((bytes.len() - rest.len(), Element { member, score }))
}
