//! One hash slot's keys: the unit that is copied on write, so that a snapshot or a move of the slot sees it as
//! it was without stopping anyone.
//!
//! Order is state: keys stand in a dense array, a new key at its end, and a removed key's place is taken by the
//! last one. Replicas, having applied the same entries, agree on it; snapshots keep it; and a walk from the end
//! to the start meets every key that is there all the while (whatever is removed meanwhile, only a key that the
//! walk has met, or one it is yet to meet, moves, and it moves towards the start). That is SCAN's cursor.

use foldhash::fast::FixedState;
use indexmap::IndexMap;

use crate::value::Value;

/// A key's name.
pub type Key = Box<[u8]>;

/// `Object::expire_ms` of a key that does not expire.
pub const NEVER: u64 = u64::MAX;

/// A key's value and what is known of the key.
#[derive(Clone, Debug)]
pub struct Object {
    /// What it holds.
    pub value: Value,
    /// When it is gone, in milliseconds since the Unix epoch; [`NEVER`] if it does not expire.
    pub expire_ms: u64,
    /// The log index of its last change: what WATCH compares.
    pub version: u64,
}

/// The keys of one slot.
#[derive(Clone, Debug)]
pub struct Slot {
    pub(crate) objects: IndexMap<Key, Object, FixedState>,
}

impl Slot {
    /// An empty slot. `hash_seed` keeps clients from choosing keys that collide; it does not influence order.
    pub fn new(hash_seed: u64) -> Slot {
        Slot { objects: IndexMap::with_hasher(FixedState::with_seed(hash_seed)) }
    }

    /// How many keys, due ones included.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether it has no keys.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The key and object at `position` (0 to `len - 1`).
    pub fn at(&self, position: usize) -> Option<(&Key, &Object)> {
        self.objects.get_index(position)
    }

    /// Keys and objects in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Key, &Object)> {
        self.objects.iter()
    }
}
