//! The keys of one group, at the machine's clock.
//!
//! Invariants: a key whose deadline is at or before [`Keyspace::now_ms`] is absent to every reader, whether or
//! not it has been removed yet; every change sets the key's version to the index of the entry being applied;
//! `deadlines` holds exactly the keys that have something to expire.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::error::CommandError;
use crate::hash_slot::{SLOT_COUNT, SlotId, slot_of};
use crate::slot::{Key, NEVER, Object, Slot};
use crate::value::{HashValue, StringValue, Value};

/// The keys of one group.
pub struct Keyspace {
    slots: Vec<Arc<Slot>>,
    owned: Vec<RangeInclusive<SlotId>>,
    deadlines: BTreeSet<(u64, Key)>,
    key_count: usize,
    now_ms: u64,
    version: u64,
    hash_seed: u64,
}

impl Keyspace {
    /// An empty keyspace that owns no slot.
    pub fn new(hash_seed: u64) -> Keyspace {
        let empty = Arc::new(Slot::new(hash_seed));
        Keyspace {
            slots: vec![empty; usize::from(SLOT_COUNT)],
            owned: Vec::new(),
            deadlines: BTreeSet::new(),
            key_count: 0,
            now_ms: 0,
            version: 0,
            hash_seed,
        }
    }

    /// The machine's clock: the latest stamp it has applied, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The index of the entry being applied.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Begins entry `index`: the clock never goes back.
    pub(crate) fn begin_entry(&mut self, index: u64, now_ms: u64) {
        self.version = index;
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// The slots this group serves, in ascending order.
    pub fn owned(&self) -> &[RangeInclusive<SlotId>] {
        &self.owned
    }

    pub(crate) fn set_owned(&mut self, owned: Vec<RangeInclusive<SlotId>>) {
        self.owned = owned;
    }

    /// Whether this group serves `slot`.
    pub fn owns(&self, slot: SlotId) -> bool {
        self.owned.iter().any(|range| range.contains(&slot))
    }

    /// How many keys there are (due ones that have not been removed yet included, as in Redis).
    pub fn len(&self) -> usize {
        self.key_count
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.key_count == 0
    }

    /// How many keys have something to expire.
    pub fn expiring(&self) -> usize {
        self.deadlines.len()
    }

    /// A slot's keys.
    pub fn slot(&self, slot: SlotId) -> &Arc<Slot> {
        &self.slots[usize::from(slot)]
    }

    /// The earliest deadline, in milliseconds since the Unix epoch.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Whether an object is visible at the machine's clock.
    pub fn is_live(&self, object: &Object) -> bool {
        object.expire_ms > self.now_ms
    }

    /// The object of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&Object> {
        self.slot(slot_of(key)).objects.get(key).filter(|object| self.is_live(object))
    }

    /// Whether `key` is there.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.get(key).is_some()
    }

    /// What WATCH remembers of `key`: its version, 0 if it is absent.
    pub fn version_of(&self, key: &[u8]) -> u64 {
        self.get(key).map_or(0, |object| object.version)
    }

    /// The string at `key`; `WrongType` if it holds something else.
    pub fn string(&self, key: &[u8]) -> Result<Option<&StringValue>, CommandError> {
        match self.get(key).map(|object| &object.value) {
            None => Ok(None),
            Some(Value::String(string)) => Ok(Some(string)),
            Some(_) => Err(CommandError::WrongType),
        }
    }

    /// The hash at `key`; `WrongType` if it holds something else.
    pub fn hash(&self, key: &[u8]) -> Result<Option<&HashValue>, CommandError> {
        match self.get(key).map(|object| &object.value) {
            None => Ok(None),
            Some(Value::Hash(hash)) => Ok(Some(hash)),
            Some(_) => Err(CommandError::WrongType),
        }
    }

    /// The object of `key`, to change; counts as a change of the key.
    /// Call [`Keyspace::deadline_changed`] after changing what is to expire.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut Object> {
        let (now_ms, version) = (self.now_ms, self.version);
        if !self.contains(key) {
            return None;
        }
        let object = self.slot_mut(key).objects.get_mut(key)?;
        debug_assert!(object.expire_ms > now_ms);
        object.version = version;
        Some(object)
    }

    /// Stores `value` at `key`, replacing whatever it held, to expire at `expire_ms` ([`NEVER`]: not at all).
    pub fn set(&mut self, key: &[u8], value: Value, expire_ms: u64) {
        let object = Object { value, expire_ms, version: self.version };
        let deadline = deadline_of(&object);
        let earlier = match self.slot_mut(key).objects.get_mut(key) {
            Some(place) => Some(std::mem::replace(place, object)),
            None => {
                self.slot_mut(key).objects.insert(Key::from(key), object);
                None
            }
        };
        let earlier_deadline = match &earlier {
            Some(earlier) => deadline_of(earlier),
            None => {
                self.key_count += 1;
                NEVER
            }
        };
        self.move_deadline(key, earlier_deadline, deadline);
    }

    /// Removes `key`; its object if it was there and live.
    pub fn remove(&mut self, key: &[u8]) -> Option<Object> {
        if !self.slot(slot_of(key)).objects.contains_key(key) {
            return None;
        }
        let object = self.slot_mut(key).objects.swap_remove(key)?;
        self.key_count -= 1;
        self.move_deadline(key, deadline_of(&object), NEVER);
        Some(object).filter(|object| self.is_live(object))
    }

    /// Changes `key`'s object by `change` and keeps the index of deadlines right. `None` if the key is absent.
    pub fn update<R>(&mut self, key: &[u8], change: impl FnOnce(&mut Object) -> R) -> Option<R> {
        let object = self.get_mut(key)?;
        let before = deadline_of(object);
        let result = change(object);
        let after = deadline_of(object);
        self.move_deadline(key, before, after);
        Some(result)
    }

    /// Removes every key.
    pub fn clear(&mut self) {
        let empty = Arc::new(Slot::new(self.hash_seed));
        self.slots.fill(empty);
        self.deadlines.clear();
        self.key_count = 0;
    }

    /// Removes what is due, at most `limit` keys, in the order of (deadline, key).
    pub(crate) fn remove_due(&mut self, limit: usize) {
        for _ in 0..limit {
            match self.deadlines.first() {
                Some((at, _)) if *at <= self.now_ms => {}
                _ => return,
            }
            let Some((_, key)) = self.deadlines.first().cloned() else { return };
            self.remove(&key);
        }
    }

    /// Whether `key` has something due at `now_ms` that the machine's clock has not reached: a read at that time
    /// must first move the clock, through the log.
    pub fn is_due(&self, key: &[u8], now_ms: u64) -> bool {
        self.get(key).is_some_and(|object| deadline_of(object) <= now_ms)
    }

    /// Puts back an object from a snapshot, in the snapshot's order.
    pub(crate) fn restore(&mut self, slot: SlotId, key: Key, object: Object) {
        let deadline = deadline_of(&object);
        if deadline != NEVER {
            self.deadlines.insert((deadline, key.clone()));
        }
        Arc::make_mut(&mut self.slots[usize::from(slot)]).objects.insert(key, object);
        self.key_count += 1;
    }

    fn slot_mut(&mut self, key: &[u8]) -> &mut Slot {
        Arc::make_mut(&mut self.slots[usize::from(slot_of(key))])
    }

    fn move_deadline(&mut self, key: &[u8], before: u64, after: u64) {
        if before == after {
            return;
        }
        if before != NEVER {
            self.deadlines.remove(&(before, Key::from(key)));
        }
        if after != NEVER {
            self.deadlines.insert((after, Key::from(key)));
        }
    }
}

/// When something of an object is due next: the key itself, or the earliest of a hash's fields.
fn deadline_of(object: &Object) -> u64 {
    object.expire_ms
}
