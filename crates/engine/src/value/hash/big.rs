//! A big hash: fields in a dense array with an index over it. A new field goes to the end, and a removed one's
//! place is taken by the last, as a slot does with its keys ([`crate::slot`] says what that is good for).

use std::collections::BTreeSet;

use foldhash::fast::FixedState;
use indexmap::IndexMap;

use super::Field;
use crate::slot::NEVER;

type Name = Box<[u8]>;

#[derive(Clone, Debug)]
pub(super) struct Big {
    fields: IndexMap<Name, Held, FixedState>,
    /// Exactly the fields that expire.
    deadlines: BTreeSet<(u64, Name)>,
    /// The sum of the fields' names and values, in bytes.
    text_bytes: usize,
}

#[derive(Clone, Debug)]
struct Held {
    value: Box<[u8]>,
    expire_ms: u64,
}

impl Big {
    pub(super) fn new(hash_seed: u64) -> Big {
        let fields = IndexMap::with_hasher(FixedState::with_seed(hash_seed));
        Big { fields, deadlines: BTreeSet::new(), text_bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn bytes(&self) -> usize {
        /// A place in the array and in its index, and two allocations.
        const FIELD_BYTES: usize = 80;
        /// A place in `deadlines`, whose names are copies (of no more than usual length).
        const DEADLINE_BYTES: usize = 64;
        self.text_bytes + FIELD_BYTES * self.fields.len() + DEADLINE_BYTES * self.deadlines.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.fields.iter().map(field_of)
    }

    pub(super) fn at(&self, position: usize) -> Option<Field<'_>> {
        self.fields.get_index(position).map(field_of)
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<Field<'_>> {
        self.fields.get_key_value(name).map(field_of)
    }

    pub(super) fn put(&mut self, name: &[u8], value: &[u8], expire_ms: u64) {
        let held = Held { value: Box::from(value), expire_ms };
        self.text_bytes += value.len();
        let before = match self.fields.get_mut(name) {
            Some(place) => {
                let before = std::mem::replace(place, held);
                self.text_bytes -= before.value.len();
                before.expire_ms
            }
            None => {
                self.text_bytes += name.len();
                self.fields.insert(Box::from(name), held);
                NEVER
            }
        };
        self.move_deadline(name, before, expire_ms);
    }

    pub(super) fn set_deadline(&mut self, name: &[u8], expire_ms: u64) {
        if let Some(held) = self.fields.get_mut(name) {
            let before = std::mem::replace(&mut held.expire_ms, expire_ms);
            self.move_deadline(name, before, expire_ms);
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        if let Some(held) = self.take(name) {
            self.move_deadline(name, held.expire_ms, NEVER);
        }
    }

    /// Removes due fields in the order of (deadline, name), at most `limit`. How many.
    pub(super) fn remove_due(&mut self, now_ms: u64, limit: usize) -> usize {
        let mut removed = 0;
        while removed < limit && self.earliest() <= now_ms {
            let Some((_, name)) = self.deadlines.pop_first() else { break };
            self.take(&name);
            removed += 1;
        }
        removed
    }

    pub(super) fn earliest(&self) -> u64 {
        self.deadlines.first().map_or(NEVER, |(at, _)| *at)
    }

    /// How many fields are due.
    pub(super) fn due(&self, now_ms: u64) -> usize {
        self.deadlines.iter().take_while(|(at, _)| *at <= now_ms).count()
    }

    /// Whether every field is due, at the cost of a look.
    pub(super) fn all_due(&self, now_ms: u64) -> bool {
        self.deadlines.len() == self.fields.len() && self.deadlines.last().is_none_or(|(at, _)| *at <= now_ms)
    }

    fn take(&mut self, name: &[u8]) -> Option<Held> {
        let held = self.fields.swap_remove(name)?;
        self.text_bytes -= name.len() + held.value.len();
        Some(held)
    }

    fn move_deadline(&mut self, name: &[u8], before: u64, after: u64) {
        if before == after {
            return;
        }
        if before != NEVER {
            self.deadlines.remove(&(before, Box::from(name)));
        }
        if after != NEVER {
            self.deadlines.insert((after, Box::from(name)));
        }
    }
}

fn field_of<'a>((name, held): (&'a Name, &'a Held)) -> Field<'a> {
    Field { name, value: &held.value, expire_ms: held.expire_ms }
}
