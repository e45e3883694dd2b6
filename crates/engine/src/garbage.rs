//! Big values that are gone from the keyspace and have yet to be freed.
//!
//! Freeing a collection takes time for each of its pieces, and a long string for each of its pages. What takes long is handed
//! out with the other effects of an entry, so that whoever applies it can let go of it where nobody waits: also what no client
//! has asked to be freed aside (DEL, an expiry), which is not counted, as Redis counts what UNLINK and FLUSHALL ASYNC give
//! away. Not state: no replica's machine depends on when, or whether, its own garbage is freed.

use crate::slot::Slot;
use crate::slots::Slots;
use crate::value::Value;

/// Values of no more pieces are freed on the spot (Redis: `LAZYFREE_THRESHOLD`).
const FEW_PIECES: usize = 64;

/// Values of fewer bytes that nobody has asked to be freed aside are freed on the spot.
const FEW_BYTES: usize = 256 << 10;

/// What an entry's calls gave away to be freed aside. To free it is to drop it.
#[derive(Default)]
pub struct Garbage {
    values: Vec<Value>,
    /// Those that do not count.
    unasked: Vec<Value>,
    keyspaces: Vec<(Slots, usize)>,
    slots: Vec<Slot>,
}

impl Garbage {
    /// Takes `value` if freeing it takes long.
    pub(crate) fn take_value(&mut self, value: Value) {
        if value.pieces() > FEW_PIECES {
            self.values.push(value);
        }
    }

    /// Takes `value`, which nobody has asked to be freed aside, if freeing it takes long all the same.
    pub(crate) fn take_unasked(&mut self, value: Value) {
        if value.bytes() >= FEW_BYTES {
            self.unasked.push(value);
        }
    }

    /// Takes all of a keyspace, of which `keys` count.
    pub(crate) fn take_all(&mut self, slots: Slots, keys: usize) {
        self.keyspaces.push((slots, keys));
    }

    /// Takes all of a slot that has gone to another group. No script does that, so it is never taken back.
    pub(crate) fn take_slot(&mut self, slot: Slot) {
        self.slots.push(slot);
    }

    /// Whether there is nothing to free.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
            && self.unasked.is_empty()
            && self.keyspaces.is_empty()
            && self.slots.is_empty()
    }

    /// How many objects there are to free, as Redis counts them.
    pub fn objects(&self) -> usize {
        let in_keyspaces = self.keyspaces.iter().map(|(_, keys)| keys).sum::<usize>();
        let in_slots = self.slots.iter().map(|slot| slot.len()).sum::<usize>();
        self.values.len() + in_keyspaces + in_slots
    }

    /// How far it has come, for [`Garbage::take_back`].
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.values.len(), self.unasked.len(), self.keyspaces.len())
    }

    /// What came after `mark` is not garbage after all.
    pub(crate) fn take_back(&mut self, Mark(values, unasked, keyspaces): Mark) {
        self.values.truncate(values);
        self.unasked.truncate(unasked);
        self.keyspaces.truncate(keyspaces);
    }
}

/// How much garbage there was at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark(usize, usize, usize);

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
