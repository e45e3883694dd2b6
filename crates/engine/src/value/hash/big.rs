//! A big hash: fields in the order of their names' hashes ([`crate::value::by_name`]), so that a clone costs a pointer
//! and a write after it a path.

use std::cmp::Ordering;
use std::sync::Arc;

use super::Field;
use crate::slot::NEVER;
use crate::value::by_name::{ByName, Name};
use crate::value::tree::Tree;

#[derive(Clone, Debug, Default)]
pub(super) struct Big {
    fields: ByName<Held>,
    /// Exactly the fields that expire.
    deadlines: Tree<(u64, Name), ()>,
    /// The sum of the fields' names and values, in bytes.
    text_bytes: usize,
    /// What changes have replaced, the latest last, while that is noted.
    changes: Option<Vec<Change>>,
}

/// A field before it was changed; `None` if it was not there.
type Change = (Name, Option<Held>);

#[derive(Clone, Debug)]
struct Held {
    value: Arc<[u8]>,
    expire_ms: u64,
}

impl Big {
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn bytes(&self) -> usize {
        /// A place in the tree (whose nodes are two thirds full or better), and two allocations.
        const FIELD_BYTES: usize = 48 * 3 / 2 + 2 * 32;
        /// A place in `deadlines`, which shares the names.
        const DEADLINE_BYTES: usize = 24 * 3 / 2;
        self.text_bytes + FIELD_BYTES * self.fields.len() + DEADLINE_BYTES * self.deadlines.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.fields.iter().map(field_of)
    }

    pub(super) fn at(&self, position: usize) -> Option<Field<'_>> {
        self.fields.at(position).map(field_of)
    }

    pub(super) fn scan(&self, cursor: u64, count: usize) -> (u64, impl Iterator<Item = Field<'_>>) {
        let (next, fields) = self.fields.scan(cursor, count);
        (next, fields.map(field_of))
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<Field<'_>> {
        self.fields.get(name).map(field_of)
    }

    pub(super) fn put(&mut self, name: &[u8], value: &[u8], expire_ms: u64) {
        let name = match self.fields.get(name) {
            Some((known, _)) => known.clone(),
            None => Name::from(name),
        };
        self.text_bytes += value.len();
        let replaced = self.fields.insert(name.clone(), Held { value: Arc::from(value), expire_ms });
        let before = match &replaced {
            Some(before) => {
                self.text_bytes -= before.value.len();
                before.expire_ms
            }
            None => {
                self.text_bytes += name.len();
                NEVER
            }
        };
        if let Some(changes) = &mut self.changes {
            changes.push((name.clone(), replaced));
        }
        self.move_deadline(name, before, expire_ms);
    }

    pub(super) fn note_changes(&mut self) {
        self.changes = Some(Vec::new());
    }

    pub(super) fn forget_changes(&mut self) {
        self.changes = None;
    }

    pub(super) fn changes(&self) -> Option<usize> {
        self.changes.as_ref().map(Vec::len)
    }

    pub(super) fn take_back_changes(&mut self) {
        for (name, before) in self.changes.take().into_iter().flatten().rev() {
            match before {
                Some(held) => self.put(&name, &held.value, held.expire_ms),
                None => self.remove(&name),
            }
        }
    }

    pub(super) fn set_deadline(&mut self, name: &[u8], expire_ms: u64) {
        let Some(name) = self.fields.get(name).map(|(name, _)| name.clone()) else { return };
        let held = self.fields.get_mut(&name).expect("was found above");
        if let Some(changes) = &mut self.changes {
            changes.push((name.clone(), Some(held.clone())));
        }
        let before = std::mem::replace(&mut held.expire_ms, expire_ms);
        self.move_deadline(name, before, expire_ms);
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        if let Some((name, held)) = self.take(name) {
            self.move_deadline(name, held.expire_ms, NEVER);
        }
    }

    /// Removes due fields in the order of (deadline, name), at most `limit`. How many.
    pub(super) fn remove_due(&mut self, now_ms: u64, limit: usize) -> usize {
        let mut removed = 0;
        while removed < limit && self.earliest() < now_ms {
            let Some(((_, name), ())) = self.deadlines.remove_at(0) else { break };
            self.take(&name);
            removed += 1;
        }
        removed
    }

    pub(super) fn earliest(&self) -> u64 {
        self.deadlines.first().map_or(NEVER, |((at, _), ())| *at)
    }

    /// How many fields are due.
    pub(super) fn due(&self, now_ms: u64) -> usize {
        let order = |(at, _): &(u64, Name)| if *at < now_ms { Ordering::Less } else { Ordering::Greater };
        self.deadlines.rank_by(order).unwrap_or_else(|position| position)
    }

    /// Whether every field is due, at the cost of a look.
    pub(super) fn all_due(&self, now_ms: u64) -> bool {
        self.deadlines.len() == self.fields.len()
            && self.deadlines.last().is_none_or(|((at, _), ())| *at < now_ms)
    }

    fn take(&mut self, name: &[u8]) -> Option<(Name, Held)> {
        let (name, held) = self.fields.remove(name)?;
        self.text_bytes -= name.len() + held.value.len();
        if let Some(changes) = &mut self.changes {
            changes.push((name.clone(), Some(held.clone())));
        }
        Some((name, held))
    }

    fn move_deadline(&mut self, name: Name, before: u64, after: u64) {
        if before == after {
            return;
        }
        if before != NEVER {
            self.deadlines.remove(&(before, name.clone()));
        }
        if after != NEVER {
            self.deadlines.insert((after, name), ());
        }
    }
}

fn field_of<'a>((name, held): (&'a Name, &'a Held)) -> Field<'a> {
    Field { name, value: &held.value, expire_ms: held.expire_ms }
}
