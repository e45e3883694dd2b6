//! One hash slot's keys: the unit that is copied on write, so that a snapshot or a move of the slot sees it as
//! it was without stopping anyone.
//!
//! Order is state: keys stand in a dense array, a new key at its end, and a removed key's place is taken by the
//! last one. Replicas, having applied the same entries, agree on it; snapshots keep it; and a walk from the end
//! to the start meets every key that is there all the while (whatever is removed meanwhile, only a key that the
//! walk has met, or one it is yet to meet, moves, and it moves towards the start). That is SCAN's cursor.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::value::Value;

pub use crate::key::Key;

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

/// A key with its object, in one line of the processor's caches.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Held {
    key: Key,
    object: Object,
}

impl Held {
    fn as_pair(&self) -> (&Key, &Object) {
        (&self.key, &self.object)
    }
}

/// The keys of one slot, and an index over them that holds places alone: with a thousand slots to a gigabyte of short
/// values, what a key costs besides its name and value is most of the memory there is to save.
#[derive(Clone, Debug)]
pub struct Slot {
    entries: Vec<Held>,
    places: HashTable<u32>,
    hasher: FixedState,
}

impl Slot {
    /// An empty slot. `hash_seed` keeps clients from choosing keys that collide; it does not influence order.
    pub fn new(hash_seed: u64) -> Slot {
        Slot { entries: Vec::new(), places: HashTable::new(), hasher: FixedState::with_seed(hash_seed) }
    }

    /// How many keys, due ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The key and object at `position` (0 to `len - 1`).
    pub fn at(&self, position: usize) -> Option<(&Key, &Object)> {
        self.entries.get(position).map(Held::as_pair)
    }

    /// Keys and objects in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Key, &Object)> {
        self.entries.iter().map(Held::as_pair)
    }

    /// The object of `key`, due or not.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Object> {
        self.place(key).map(|place| &self.entries[place].object)
    }

    /// The object of `key`, due or not, to change.
    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Object> {
        self.place(key).map(|place| self.at_mut(place))
    }

    /// The object at `place`, to change.
    pub(crate) fn at_mut(&mut self, place: usize) -> &mut Object {
        &mut self.entries[place].object
    }

    /// Puts `object` at `key`; the one that was there.
    pub(crate) fn insert(&mut self, key: Key, object: Object) -> Option<Object> {
        if let Some(place) = self.get_mut(&key) {
            return Some(std::mem::replace(place, object));
        }
        self.push(key, object);
        None
    }

    /// Puts `object` at `key`, which is not here.
    pub(crate) fn push(&mut self, key: Key, object: Object) {
        let place = u32::try_from(self.entries.len()).expect("fewer than 2^32 keys to a slot");
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash = hasher.hash_one(&key);
        self.places.insert_unique(hash, place, |&place| hasher.hash_one(&entries[place as usize].key));
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(1 + self.entries.len() / GROWTH);
        }
        self.entries.push(Held { key, object });
    }

    /// Removes `key`, whose place the last one takes; its object.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Object> {
        self.place(key).map(|place| self.take(place))
    }

    /// Removes what stands at `place`, which the last one takes; its object.
    pub(crate) fn take(&mut self, place: usize) -> Object {
        let hash = self.hasher.hash_one(&self.entries[place].key);
        let place = place as u32;
        let found = self.places.find_entry(hash, |&other| other == place).expect("every key is in the index");
        found.remove();
        let last = (self.entries.len() - 1) as u32;
        if place < last {
            let hash = self.hasher.hash_one(&self.entries[last as usize].key);
            let moved =
                self.places.find_mut(hash, |&other| other == last).expect("every key is in the index");
            *moved = place;
        }
        let Held { object, .. } = self.entries.swap_remove(place as usize);
        if self.entries.capacity() > SPARE + 2 * self.entries.len() {
            self.entries.shrink_to(self.entries.len() + SPARE);
            let (entries, hasher) = (&self.entries, &self.hasher);
            self.places.shrink_to(0, |&place| hasher.hash_one(&entries[place as usize].key));
        }
        object
    }

    /// Undoes the insertion of `key`, the latest change of order that has not been undone.
    pub(crate) fn take_back_insertion(&mut self, key: &[u8]) {
        let last = self.entries.last().is_some_and(|last| *last.key == *key);
        assert!(last, "a new key stands at the end until a later change of order");
        self.remove(key);
    }

    /// Undoes the removal of `key` from `place`, the latest change of order that has not been undone.
    pub(crate) fn take_back_removal(&mut self, key: Key, place: usize, object: Object) {
        let replaced = self.insert(key, object);
        assert!(replaced.is_none(), "a key that was removed is not there");
        let last = self.entries.len() - 1;
        if place == last {
            return;
        }
        // What stands at its place came from the end, and goes back. The two exchange their places in the index.
        const BETWEEN: u32 = u32::MAX;
        let hash = |place: usize| self.hasher.hash_one(&self.entries[place].key);
        let (other, own) = (hash(place), hash(last));
        let steps =
            [(own, last as u32, BETWEEN), (other, place as u32, last as u32), (own, BETWEEN, place as u32)];
        for (hash, from, to) in steps {
            let found =
                self.places.find_mut(hash, |&place| place == from).expect("every key is in the index");
            *found = to;
        }
        self.entries.swap(place, last);
    }

    /// Where `key` stands if it is here, without a look at it: to be trusted with nothing but a guess.
    pub(crate) fn likely_place(&self, key: &[u8]) -> Option<usize> {
        self.places.find(self.hasher.hash_one(key), |_| true).map(|&place| place as usize)
    }

    /// Where `key` stands.
    pub(crate) fn place(&self, key: &[u8]) -> Option<usize> {
        let here = |&place: &u32| *self.entries[place as usize].key == *key;
        self.places.find(self.hasher.hash_one(key), here).map(|&place| place as usize)
    }
}

/// The array grows by this part of its length.
const GROWTH: usize = 8;

/// So many places are kept free when keys go.
const SPARE: usize = 8;

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_and_its_object_take_a_line_of_the_caches() {
        assert_eq!(size_of::<Held>(), 64);
    }

    proptest! {
        /// The map that does the same at more cost.
        #[test]
        fn behaves_as_an_index_map(ops in prop::collection::vec((0u64..60, 0u8..5), 0..400)) {
            let mut slot = Slot::new(1);
            let mut model: IndexMap<Key, u64, FixedState> = IndexMap::default();
            for (step, (n, what)) in ops.into_iter().enumerate() {
                let (key, version) = (Key::from(n.to_string().as_bytes()), step as u64);
                let object = Object { value: Value::string(b""), expire_ms: NEVER, version };
                match what {
                    0 | 1 => {
                        let before = slot.remove(&key).map(|object| object.version);
                        prop_assert_eq!(before, model.swap_remove(&key));
                    }
                    2 => {
                        let held = slot.get_mut(&key).map(|object| object.version);
                        prop_assert_eq!(held, model.get(&key).copied());
                    }
                    _ => {
                        let before = slot.insert(key.clone(), object).map(|object| object.version);
                        prop_assert_eq!(before, model.insert(key, version));
                    }
                }
                prop_assert_eq!((slot.len(), slot.is_empty()), (model.len(), model.is_empty()));
                prop_assert!(slot.iter().map(|(key, object)| (key, &object.version)).eq(model.iter()));
                let found = |n: u64| slot.get(n.to_string().as_bytes()).map(|object| object.version);
                prop_assert!((0..60).all(|n| found(n) == model.get(n.to_string().as_bytes()).copied()));
            }
        }
    }
}
