//! One hash slot's keys: the unit that is shared until it changes, so that a snapshot or a move of the slot sees it as
//! it was without stopping anyone.
//!
//! Order is state: keys stand in a dense array, a new key at its end, and a removed key's place is taken by the
//! last one. Replicas, having applied the same entries, agree on it; snapshots keep it; and a walk from the end
//! to the start meets every key that is there all the while (whatever is removed meanwhile, only a key that the
//! walk has met, or one it is yet to meet, moves, and it moves towards the start). That is SCAN's cursor.
//!
//! **A copy shares the table.** While there is one, what changes stands beside the table (`Changes`); once there is none
//! any more, [`Slot::settle`] brings both together. To copy the whole table at its first change instead would
//! double the memory of a dataset while a snapshot of it is written, and keep others waiting for each copy.

mod changes;
mod table;

use std::sync::Arc;

use crate::value::Value;
use changes::Changes;
use table::Table;

pub use crate::key::Key;

/// `Object::expire_ms` of a key that does not expire.
pub const NEVER: u64 = u64::MAX;

/// A table of so few keys is copied whole. In debug builds, in which tests and simulations run with few keys, hardly one is.
const SMALL: usize = if cfg!(debug_assertions) { 1 } else { 8 };

/// So is one of whose keys this part has changed: what it takes besides grows no more then.
const MOST_OF: usize = 2;

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

/// The keys of one slot. A clone costs two pointers.
#[derive(Clone, Debug)]
pub struct Slot {
    table: Arc<Table>,
    /// `None`: all is as the table has it.
    changes: Option<Arc<Changes>>,
}

/// Where a change goes.
enum Edit<'a> {
    Table(&'a mut Table),
    Beside(&'a Table, &'a mut Changes),
}

impl Slot {
    /// An empty slot. `hash_seed` keeps clients from choosing keys that collide; it does not influence order.
    pub fn new(hash_seed: u64) -> Slot {
        Slot { table: Arc::new(Table::new(hash_seed)), changes: None }
    }

    /// How many keys, due ones included.
    pub fn len(&self) -> usize {
        self.changes.as_ref().map_or(self.table.len(), |changes| changes.len())
    }

    /// Whether it has no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn held(&self, place: usize) -> Option<&Held> {
        match &self.changes {
            None => self.table.at(place),
            Some(changes) => changes.at(&self.table, place),
        }
    }

    /// The key and object at `position` (0 to `len - 1`).
    pub fn at(&self, position: usize) -> Option<(&Key, &Object)> {
        self.held(position).map(Held::as_pair)
    }

    /// Keys and objects in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Key, &Object)> {
        (0..self.len()).map(|place| self.at(place).expect("each place below its length has a key"))
    }

    /// The object of `key`, due or not.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Object> {
        let place = self.place(key)?;
        self.held(place).map(|held| &held.object)
    }

    /// The object of `key`, due or not, to change.
    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Object> {
        self.place(key).map(|place| self.at_mut(place))
    }

    /// The same; `place` is where it stood.
    pub(crate) fn get_mut_near(&mut self, key: &[u8], place: usize) -> Option<&mut Object> {
        match self.at(place) {
            Some((at, _)) if **at == *key => Some(self.at_mut(place)),
            _ => self.get_mut(key),
        }
    }

    /// The object at `place`, to change.
    pub(crate) fn at_mut(&mut self, place: usize) -> &mut Object {
        match self.edit() {
            Edit::Table(table) => table.at_mut(place),
            Edit::Beside(table, changes) => changes.at_mut(table, place),
        }
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
        let held = Held { key, object };
        match self.edit() {
            Edit::Table(table) => table.push(held),
            Edit::Beside(table, changes) => changes.push(table, held),
        }
    }

    /// Removes `key`, whose place the last one takes; its object.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Object> {
        self.place(key).map(|place| self.take(place))
    }

    /// Removes what stands at `place`, which the last one takes; its object.
    pub(crate) fn take(&mut self, place: usize) -> Object {
        let held = match self.edit() {
            Edit::Table(table) => table.take(place),
            Edit::Beside(table, changes) => changes.take(table, place),
        };
        held.object
    }

    /// Undoes the insertion of `key`, the latest change of order that has not been undone.
    pub(crate) fn take_back_insertion(&mut self, key: &[u8]) {
        let last = self.len().checked_sub(1).and_then(|last| self.at(last));
        assert!(
            last.is_some_and(|(last, _)| **last == *key),
            "a new key stands at the end until a later change of order"
        );
        self.remove(key);
    }

    /// Undoes the removal of `key` from `place`, the latest change of order that has not been undone.
    pub(crate) fn take_back_removal(&mut self, key: Key, place: usize, object: Object) {
        let replaced = self.insert(key, object);
        assert!(replaced.is_none(), "a key that was removed is not there");
        let last = self.len() - 1;
        if place == last {
            return;
        }
        // What stands at its place came from the end, and goes back.
        match self.edit() {
            Edit::Table(table) => table.swap(place, last),
            Edit::Beside(table, changes) => changes.swap(table, place, last),
        }
    }

    /// Where `key` stands if it is here, without a look at it: to be trusted with nothing but a guess.
    pub(crate) fn likely_place(&self, key: &[u8]) -> Option<usize> {
        self.table.likely_place(key)
    }

    /// Where `key` stands.
    pub(crate) fn place(&self, key: &[u8]) -> Option<usize> {
        match &self.changes {
            None => self.table.place(key),
            Some(changes) => changes.place(&self.table, key),
        }
    }

    /// Whether the next change will be the first one beside the table.
    pub(crate) fn shares_all(&self) -> bool {
        !self.is_own() && self.changes.is_none() && self.table.len() > SMALL
    }

    /// Brings table and changes together, if nobody else needs the table. Whether nothing is left to be brought together. The values
    /// that have been replaced meanwhile are `gone`.
    pub(crate) fn settle(&mut self, gone: impl FnMut(Value)) -> bool {
        if self.changes.is_some() && self.is_own() {
            self.together(gone);
        }
        self.changes.is_none()
    }

    fn is_own(&self) -> bool {
        Arc::strong_count(&self.table) == 1
    }

    fn edit(&mut self) -> Edit<'_> {
        if self.changes.is_none() && self.is_own() {
            return Edit::Table(Arc::make_mut(&mut self.table));
        }
        self.edit_shared()
    }

    #[cold]
    fn edit_shared(&mut self) -> Edit<'_> {
        if self.changes.is_none() && self.table.len() <= SMALL {
            return Edit::Table(Arc::make_mut(&mut self.table));
        }
        let changed = self.changes.as_ref().map_or(0, |changes| changes.count());
        if changed * MOST_OF > self.table.len() && !self.is_own() {
            // Copies of values that others still have are gone in no time.
            return Edit::Table(self.together(drop));
        }
        let changes = self.changes.get_or_insert_with(|| Arc::new(Changes::of(&self.table)));
        Edit::Beside(&self.table, Arc::make_mut(changes))
    }

    /// Brings table and changes together, in a copy of the table if others need it.
    fn together(&mut self, gone: impl FnMut(Value)) -> &mut Table {
        let table = Arc::make_mut(&mut self.table);
        if let Some(changes) = self.changes.take() {
            let (len, changed) = Arc::unwrap_or_clone(changes).into_parts();
            table.take_over(len, changed, gone);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use foldhash::fast::FixedState;
    use indexmap::IndexMap;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_and_its_object_take_a_line_of_the_caches() {
        assert_eq!(size_of::<Held>(), 64);
    }

    type Model = IndexMap<Key, u64, FixedState>;

    fn object(version: usize) -> Object {
        Object { value: Value::string(b""), expire_ms: NEVER, version: version as u64 }
    }

    fn is_like(slot: &Slot, model: &Model) -> bool {
        let found = |n: u64| slot.get(n.to_string().as_bytes()).map(|object| object.version);
        (slot.len(), slot.is_empty()) == (model.len(), model.is_empty())
            && slot.iter().map(|(key, object)| (key, &object.version)).eq(model.iter())
            && (0..60).all(|n| found(n) == model.get(n.to_string().as_bytes()).copied())
    }

    proptest! {
        /// The map that does the same at more cost; and copies stay as they are, whatever becomes of the slot.
        #[test]
        fn behaves_as_an_index_map(ops in prop::collection::vec((0u64..60, 0u8..12), 0..400)) {
            let (mut slot, mut model) = (Slot::new(1), Model::default());
            let mut copies: Vec<(Slot, Model)> = Vec::new();
            for (step, (n, what)) in ops.into_iter().enumerate() {
                let key = Key::from(n.to_string().as_bytes());
                match what {
                    0 | 1 => {
                        let before = slot.remove(&key).map(|object| object.version);
                        prop_assert_eq!(before, model.swap_remove(&key));
                    }
                    2 => {
                        let held = slot.get_mut(&key).map(|object| object.version);
                        prop_assert_eq!(held, model.get(&key).copied());
                    }
                    3 => {
                        if let Some(place) = slot.place(&key) {
                            let object = slot.take(place);
                            slot.take_back_removal(key, place, object);
                        }
                    }
                    4 => copies.push((slot.clone(), model.clone())),
                    5 => copies.truncate(copies.len() / 2),
                    6 => drop(slot.settle(drop)),
                    _ => {
                        let before = slot.insert(key.clone(), object(step)).map(|object| object.version);
                        prop_assert_eq!(before, model.insert(key, step as u64));
                    }
                }
                prop_assert!(is_like(&slot, &model));
                prop_assert!(copies.iter().all(|(copy, model)| is_like(copy, model)));
            }
            drop(copies);
            prop_assert!(slot.settle(drop) && is_like(&slot, &model));
        }
    }

    /// A slot of `count` keys, and their names.
    fn full(count: usize) -> (Slot, Vec<Key>) {
        let keys: Vec<Key> = (0..count).map(|n| Key::from(n.to_string().as_bytes())).collect();
        let mut slot = Slot::new(1);
        keys.iter().for_each(|key| slot.push(key.clone(), object(0)));
        (slot, keys)
    }

    #[test]
    fn a_change_leaves_a_shared_table_where_it_is() {
        let (mut slot, keys) = full(100);
        let copy = slot.clone();
        slot.get_mut(&keys[50]).expect("it is there").version = 1;
        slot.remove(&keys[99]);
        slot.push(Key::from(&b"new"[..]), object(2));
        assert!(Arc::ptr_eq(&slot.table, &copy.table));
        assert_eq!(slot.changes.as_ref().map(|changes| changes.count()), Some(2));
        // As long as there is the copy.
        assert!(!slot.settle(drop));
        drop(copy);
        assert!(slot.settle(drop) && slot.table.len() == 100);
    }

    #[test]
    fn a_table_of_which_half_has_changed_is_copied() {
        let (mut slot, keys) = full(100);
        let copy = slot.clone();
        keys.iter().for_each(|key| slot.get_mut(key).expect("it is there").version = 1);
        assert!(slot.changes.is_none() && !Arc::ptr_eq(&slot.table, &copy.table));
    }

    #[test]
    fn what_has_been_replaced_is_handed_out() {
        let (mut slot, keys) = full(100);
        let copy = slot.clone();
        for key in &keys[..3] {
            slot.get_mut(key).expect("it is there").value = Value::string(&[b'x'; 100]);
        }
        slot.remove(&keys[3]);
        drop(copy);
        let mut gone = 0;
        assert!(slot.settle(|value| gone += usize::from(value.bytes() == 0)));
        // Its place was taken by the last one, whose own is no more.
        assert_eq!(gone, 3 + 2);
    }
}
