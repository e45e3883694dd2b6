//! A small hash: its fields one after the other in a single allocation, new ones at the end, in the order in
//! which they came.
//!
//! A field is its name's length, a deadline of eight bytes if it has one, the name, the value's length and the value. A length
//! is one byte, whose top bit says (of a name) that a deadline follows; [`LONG`] stands for one of four bytes behind it.

use std::ops::Range;

use super::Field;
use crate::slot::NEVER;

const TIMED: u8 = 0x80;
const LONG: u8 = 0x7f;

#[derive(Clone, Debug, Default)]
pub(super) struct Small {
    bytes: Vec<u8>,
    len: u16,
}

impl Small {
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.places().map(|(_, field)| field)
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<Field<'_>> {
        self.iter().find(|field| field.name == name)
    }

    pub(super) fn put(&mut self, name: &[u8], value: &[u8], expire_ms: u64) {
        let mut encoded = Vec::with_capacity(10 + name.len() + value.len());
        encode(&mut encoded, Field { name, value, expire_ms });
        match self.place(name) {
            Some(place) => {
                self.bytes.reserve_exact(encoded.len().saturating_sub(place.len()));
                self.bytes.splice(place, encoded);
            }
            None => {
                // Exact growth: memory counts more here than the copy of a few hundred bytes.
                self.bytes.reserve_exact(encoded.len());
                self.bytes.extend_from_slice(&encoded);
                self.len += 1;
            }
        }
    }

    pub(super) fn set_deadline(&mut self, name: &[u8], expire_ms: u64) {
        if let Some(value) = self.find(name).map(|field| field.value.to_vec()) {
            self.put(name, &value, expire_ms);
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        if let Some(place) = self.place(name) {
            self.bytes.drain(place);
            self.len -= 1;
        }
    }

    /// Removes due fields, at most `limit`, in their order here. How many.
    pub(super) fn remove_due(&mut self, now_ms: u64, limit: usize) -> usize {
        let due = self.places().filter(|(_, field)| !field.is_live(now_ms)).map(|(place, _)| place);
        let due: Vec<Range<usize>> = due.take(limit).collect();
        for place in due.iter().rev() {
            self.bytes.drain(place.clone());
        }
        self.len -= due.len() as u16;
        due.len()
    }

    fn place(&self, name: &[u8]) -> Option<Range<usize>> {
        self.places().find(|(_, field)| field.name == name).map(|(place, _)| place)
    }

    fn places(&self) -> impl Iterator<Item = (Range<usize>, Field<'_>)> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let (len, field) = decode(&self.bytes[start..])?;
            let place = start..start + len;
            start = place.end;
            Some((place, field))
        })
    }
}

fn encode(out: &mut Vec<u8>, field: Field) {
    let timed = field.expire_ms != NEVER;
    put_len(out, field.name.len(), if timed { TIMED } else { 0 });
    if timed {
        out.extend_from_slice(&field.expire_ms.to_le_bytes());
    }
    out.extend_from_slice(field.name);
    put_len(out, field.value.len(), 0);
    out.extend_from_slice(field.value);
}

fn put_len(out: &mut Vec<u8>, len: usize, flag: u8) {
    match u8::try_from(len) {
        Ok(short @ ..LONG) => out.push(short | flag),
        _ => {
            out.push(LONG | flag);
            out.extend_from_slice(&(len as u32).to_le_bytes());
        }
    }
}

fn take_len(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&head, rest) = bytes.split_first()?;
    match head & !TIMED {
        LONG => {
            let (len, rest) = rest.split_first_chunk()?;
            Some((u32::from_le_bytes(*len) as usize, rest))
        }
        short => Some((usize::from(short), rest)),
    }
}

/// The first field of `bytes` and its length in them; `None` at their end.
fn decode(bytes: &[u8]) -> Option<(usize, Field<'_>)> {
    let (&head, _) = bytes.split_first()?;
    let (name_len, mut rest) = take_len(bytes)?;
    let mut expire_ms = NEVER;
    if head & TIMED != 0 {
        let (deadline, after) = rest.split_first_chunk()?;
        (expire_ms, rest) = (u64::from_le_bytes(*deadline), after);
    }
    let (name, rest) = rest.split_at_checked(name_len)?;
    let (value_len, rest) = take_len(rest)?;
    let (value, rest) = rest.split_at_checked(value_len)?;
    Some((bytes.len() - rest.len(), Field { name, value, expire_ms }))
}
