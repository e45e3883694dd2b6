//! Big values that are gone from the keyspace and have yet to be freed.
//!
//! Freeing a collection takes time for each of its pieces. What a client asks to be freed aside (UNLINK, FLUSHALL ASYNC) is
//! handed out with the other effects of an entry, so that whoever applies it can let go of it where nobody waits. Not state:
//! no replica's machine depends on when, or whether, its own garbage is freed.

use std::sync::Arc;

use crate::slot::Slot;
use crate::slots::Slots;
use crate::value::Value;

/// Values of no more pieces are freed on the spot (Redis: `LAZYFREE_THRESHOLD`).
const FEW_PIECES: usize = 64;

/// What an entry's calls gave away to be freed aside. To free it is to drop it.
#[derive(Default)]
pub struct Garbage {
    values: Vec<Value>,
    keyspaces: Vec<(Slots, usize)>,
    slots: Vec<Arc<Slot>>,
}

impl Garbage {
    /// Takes `value` if freeing it takes long.
    pub(crate) fn take_value(&mut self, value: Value) {
        if value.pieces() > FEW_PIECES {
            self.values.push(value);
        }
    }

    /// Takes all of a keyspace, which had `keys`.
    pub(crate) fn take_all(&mut self, slots: Slots, keys: usize) {
        self.keyspaces.push((slots, keys));
    }

    /// Takes all of a slot that has gone to another group. No script does that, so it is never taken back.
    pub(crate) fn take_slot(&mut self, slot: Arc<Slot>) {
        self.slots.push(slot);
    }

    /// How many objects there are to free, as Redis counts them.
    pub fn objects(&self) -> usize {
        let in_keyspaces = self.keyspaces.iter().map(|(_, keys)| keys).sum::<usize>();
        let in_slots = self.slots.iter().map(|slot| slot.len()).sum::<usize>();
        self.values.len() + in_keyspaces + in_slots
    }

    /// How far it has come, for [`Garbage::take_back`].
    pub(crate) fn mark(&self) -> (usize, usize) {
        (self.values.len(), self.keyspaces.len())
    }

    /// What came after `mark` is not garbage after all.
    pub(crate) fn take_back(&mut self, (values, keyspaces): (usize, usize)) {
        self.values.truncate(values);
        self.keyspaces.truncate(keyspaces);
    }
}

/// Two are alike that hold as many objects: what is gone is not compared.
impl PartialEq for Garbage {
    fn eq(&self, other: &Garbage) -> bool {
        self.objects() == other.objects()
    }
}

impl std::fmt::Debug for Garbage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Garbage({})", self.objects())
    }
}
