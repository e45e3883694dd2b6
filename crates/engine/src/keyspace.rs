//! The keys of one group, at the machine's clock.
//!
//! Invariants: a key whose deadline is before [`Keyspace::now_ms`] is absent to every reader, whether or
//! not it has been removed yet, and so is a key whose value has nothing left; every change sets the key's version
//! to the index of the entry being applied, and a write that changes nothing leaves it; `deadlines` holds exactly
//! the keys that have something to expire; `bytes` is the sum over all keys, due ones included.
//!
//! WATCH compares versions. A key that was there cannot come back with the version it had, and one that was absent, came and
//! went again has another one, too ([`births`](crate::births)).

mod due;
pub mod ownership;
mod undo;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::acl::Refused;
use crate::births::Births;
use crate::error::CommandError;
use crate::events::{EventClass, KeyEvent};
use crate::garbage::Garbage;
use crate::hash_slot::{SlotId, slot_of};
use crate::prefetch::prefetch;
use crate::rng::Rng;
use crate::slot::{Key, NEVER, Object, Slot};
use crate::slots::Slots;
use crate::value::{Bounds, Collection, HashValue, StringValue, Value, ZsetValue};
use crate::waiters::Waiters;
use ownership::Ownership;
use undo::{Move, Undo};

/// The keys of one group.
pub struct Keyspace {
    slots: Slots,
    ownership: Ownership,
    deadlines: BTreeSet<(u64, Key)>,
    key_count: usize,
    bytes: usize,
    now_ms: u64,
    version: u64,
    /// Those of the entry being applied.
    bounds: Bounds,
    hash_seed: u64,
    pub(crate) waiters: Waiters,
    pub(crate) births: Births,
    /// What has happened since it was last taken; not state.
    events: Vec<KeyEvent>,
    /// Whether what happens to keys is noted there.
    observed: bool,
    /// Changes of keys so far; not state.
    changes: u64,
    /// Keys removed because they were due, since it was last taken; not state.
    expired: usize,
    /// What is to be freed aside, since it was last taken; not state.
    garbage: Garbage,
    /// Whether slots have come or gone, since it was last asked; not state.
    moved: bool,
    /// Whose batch is being applied, for `events`; not state.
    pub(crate) origin: u64,
    /// What a script that may have to be undone has changed so far.
    undo: Option<Box<Undo>>,
    /// Room for the next script's, from the last one.
    spare_undo: Option<Box<Undo>>,
    /// Whether it is one script's own, which leaves no trace.
    is_view: bool,
}

impl Keyspace {
    /// An empty keyspace that owns no slot.
    pub fn new(hash_seed: u64) -> Keyspace {
        Keyspace { slots: Slots::new(hash_seed), ..Keyspace::without_slots(hash_seed) }
    }

    fn without_slots(hash_seed: u64) -> Keyspace {
        Keyspace {
            slots: Slots::none(),
            ownership: Ownership::none(),
            deadlines: BTreeSet::new(),
            key_count: 0,
            bytes: 0,
            now_ms: 0,
            version: 0,
            bounds: Bounds::default(),
            hash_seed,
            waiters: Waiters::default(),
            births: Births::default(),
            events: Vec::new(),
            observed: false,
            changes: 0,
            expired: 0,
            garbage: Garbage::default(),
            moved: false,
            origin: 0,
            undo: None,
            spare_undo: None,
            is_view: false,
        }
    }

    /// A keyspace without slots, which must not be asked for a key: it stands in while a script has the real one.
    pub(crate) fn hollow() -> Keyspace {
        Keyspace::without_slots(0)
    }

    /// Notes that `event` (in Redis's words: `lpush`) happened to `key`, for keyspace notifications.
    pub fn notify(&mut self, class: EventClass, event: &'static str, key: &[u8]) {
        if self.observed {
            self.events.push(KeyEvent::Notice(class, event, Bytes::copy_from_slice(key)));
        }
    }

    /// Changes of keys that this replica has seen, for people.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Notes that a script has called a command.
    pub(crate) fn called(&mut self, words: Vec<Bytes>, failed: bool) {
        // All that is asked of a script on a view is whether it has read: it may call without end.
        if self.is_view && !(self.events.is_empty() && KeyEvent::is_read_by(&words)) {
            return;
        }
        self.events.push(KeyEvent::Called { words, failed });
    }

    /// Notes that a script has published `message`.
    pub(crate) fn publish(&mut self, channel: &Bytes, message: &Bytes, in_shard: bool) {
        if self.is_view {
            return;
        }
        self.events.push(KeyEvent::Publish { channel: channel.clone(), message: message.clone(), in_shard });
    }

    /// Notes that a script has called what `user` may not do.
    pub(crate) fn denied(&mut self, user: &Bytes, refused: Refused) {
        const OF_A_VIEW: usize = 8;
        if self.is_view && self.events.len() >= OF_A_VIEW {
            return;
        }
        self.events.push(KeyEvent::Denied { user: user.clone(), refused });
    }

    /// Begins or ends the noting of events.
    pub(crate) fn observe(&mut self, observe: bool) {
        self.observed = observe;
    }

    pub(crate) fn is_observed(&self) -> bool {
        self.observed
    }

    pub(crate) fn take_events(&mut self) -> Vec<KeyEvent> {
        /// For no more than so many room is made ahead.
        const EXPECTED: usize = 1024;
        // The next entry is likely to bring about as many.
        let room = Vec::with_capacity(self.events.len().min(EXPECTED));
        std::mem::replace(&mut self.events, room)
    }

    /// Notes that `keys` have been read by `origin`, who caches what it reads.
    pub(crate) fn read_by<'a>(&mut self, origin: u64, keys: impl Iterator<Item = &'a Bytes>) {
        if self.observed {
            self.events.extend(keys.map(|key| KeyEvent::Read { key: key.clone(), origin }));
        }
    }

    /// How many keys were removed because they were due, since this was last asked.
    pub(crate) fn take_expired(&mut self) -> usize {
        std::mem::take(&mut self.expired)
    }

    /// Looks after up to so many of the slots that have changed since a copy was made of them.
    pub(crate) fn settle(&mut self, slots: usize) {
        let garbage = &mut self.garbage;
        self.slots.settle(slots, |value| garbage.take_unasked(value));
    }

    /// What is to be freed aside.
    pub(crate) fn take_garbage(&mut self) -> Garbage {
        std::mem::take(&mut self.garbage)
    }

    /// Every change of a key passes here: whoever waits for it or has cached it must learn of it.
    fn changed(&mut self, key: &[u8]) {
        self.changes += 1;
        if !self.waiters.is_empty() {
            self.waiters.key_changed(key);
        }
        if self.observed {
            self.events.push(KeyEvent::Changed { key: Bytes::copy_from_slice(key), origin: self.origin });
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

    /// Up to which sizes values that are written now keep their compact forms.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Begins entry `index`: the clock never goes back.
    pub(crate) fn begin_entry(&mut self, index: u64, now_ms: u64, bounds: Bounds) {
        self.version = index;
        self.bounds = bounds;
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// The slots this group serves, in ascending order.
    pub fn owned(&self) -> &[RangeInclusive<SlotId>] {
        self.ownership.served()
    }

    /// Whether this group serves `slot`.
    pub fn owns(&self, slot: SlotId) -> bool {
        self.ownership.epoch(slot).is_some()
    }

    /// How many keys there are (due ones that have not been removed yet included, as in Redis).
    pub fn len(&self) -> usize {
        self.key_count
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.key_count == 0
    }

    /// About what the keys take in memory: names, values and a fixed sum for each key. What `maxmemory` is checked
    /// against: it moves with the content alone, not with an allocator.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many keys have something to expire.
    pub fn expiring(&self) -> usize {
        self.deadlines.len()
    }

    /// A slot's keys.
    pub fn slot(&self, slot: SlotId) -> &Slot {
        self.slots.get(slot)
    }

    /// All slots as they are now: costs a pointer for each page of them.
    pub fn share_slots(&self) -> Slots {
        self.slots.clone()
    }

    /// The earliest deadline, in milliseconds since the Unix epoch.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// How many keys `slot` holds (due ones included).
    pub fn count_in_slot(&self, slot: SlotId) -> usize {
        self.slot(slot).len()
    }

    /// Up to `count` keys of `slot`.
    pub fn keys_in_slot(&self, slot: SlotId, count: usize) -> impl Iterator<Item = &Key> {
        let live = |(key, object): (_, &Object)| self.is_live(object).then_some(key);
        self.slot(slot).iter().filter_map(live).take(count)
    }

    /// Every key that is there, in the order of slots, with its object.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Object)> {
        self.slots.from(0).flat_map(|slot| slot.iter()).filter(|(_, object)| self.is_live(object))
    }

    /// The `n`th key of all in the order of slots, due ones included, with its object if it is not due.
    pub fn nth(&self, mut n: usize) -> Option<(&Key, Option<&Object>)> {
        for slot in self.slots.from(0) {
            match slot.at(n) {
                Some((key, object)) => {
                    return Some((key, Some(object).filter(|object| self.is_live(object))));
                }
                None => n -= slot.len(),
            }
        }
        None
    }

    /// Up to `count` keys that are there and stand together, at a place that `rng` draws; `volatile`: those alone that
    /// expire, sought among so many more.
    pub fn sample<'a>(
        &'a self,
        rng: &mut Rng,
        count: usize,
        volatile: bool,
    ) -> impl Iterator<Item = (&'a Key, &'a Object)> {
        const LOOKED_AT: usize = 64;
        let (slot, place) = self.place_of(rng.below(self.len().max(1)));
        let from = self.slots.from(slot).flat_map(|slot| slot.iter()).skip(place);
        let around = from.chain(self.slots.from(0).flat_map(|slot| slot.iter()));
        let wanted = move |(_, object): &(&Key, &Object)| {
            self.is_live(object) && (!volatile || object.expire_ms != NEVER)
        };
        around.take(self.len().min(count * LOOKED_AT)).filter(wanted).take(count)
    }

    /// The slot of the `n`th key of all, and its place there.
    fn place_of(&self, mut n: usize) -> (usize, usize) {
        for (i, slot) in self.slots.from(0).enumerate() {
            if n < slot.len() {
                return (i, n);
            }
            n -= slot.len();
        }
        (0, 0)
    }

    /// The keys that expire, or of which something does, the earliest first.
    pub fn by_deadline(&self) -> impl Iterator<Item = (&Key, &Object)> {
        let object = |(_, key): &'_ (u64, Key)| self.slot(slot_of(key)).get(key);
        self.deadlines.iter().filter_map(move |entry| object(entry).map(|found| (&entry.1, found)))
    }

    /// Has what `calls` need at hand for when they run.
    pub(crate) fn prefetch<'a>(&'a self, calls: impl Iterator<Item = &'a [Bytes]>) {
        prefetch(&self.slots, calls);
    }

    /// Whether an object is visible at the machine's clock.
    pub fn is_live(&self, object: &Object) -> bool {
        object.expire_ms >= self.now_ms && !object.value.is_empty(self.now_ms)
    }

    /// The object of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&Object> {
        self.slot(slot_of(key)).get(key).filter(|object| self.is_live(object))
    }

    /// Whether `key` is there.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.get(key).is_some()
    }

    /// What WATCH remembers of `key`: its version, from [`ABSENT`] on if it is absent. No two groups that serve its slot one after
    /// the other have a version in common.
    pub fn version_of(&self, key: &[u8]) -> u64 {
        // What nobody serves has a version that nobody has.
        let moves = self.ownership.epoch(slot_of(key)).map_or(MOVES, |epoch| u64::from(epoch - 1) % MOVES);
        moves * PER_MOVE + self.version_here(key)
    }

    fn version_here(&self, key: &[u8]) -> u64 {
        match self.get(key) {
            None => ABSENT + self.births.last(key),
            // It has fields that are gone but not removed: changed, as late as anybody can tell.
            Some(object) if object.value.next_deadline_ms() < self.now_ms => self.version,
            Some(object) => object.version,
        }
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
        self.collection(key)
    }

    /// The sorted set at `key`; `WrongType` if it holds something else.
    pub fn zset(&self, key: &[u8]) -> Result<Option<&ZsetValue>, CommandError> {
        self.collection(key)
    }

    /// The collection at `key`; `WrongType` if it holds something else.
    pub fn collection<C: Collection>(&self, key: &[u8]) -> Result<Option<&C>, CommandError> {
        match self.get(key) {
            None => Ok(None),
            Some(object) => C::of(&object.value).map(Some).ok_or(CommandError::WrongType),
        }
    }

    /// A copy of this keyspace as it is now that shares its contents, for a script that leaves no trace. Of deadlines it knows
    /// those of its keys alone, not their order.
    pub(crate) fn view(&self) -> Keyspace {
        Keyspace {
            slots: self.slots.clone(),
            ownership: self.ownership.view(),
            key_count: self.key_count,
            bytes: self.bytes,
            now_ms: self.now_ms,
            version: self.version,
            bounds: self.bounds,
            is_view: true,
            ..Keyspace::without_slots(self.hash_seed)
        }
    }

    /// Where `key` stands, live or not.
    fn spot(&self, key: &[u8]) -> Option<Spot> {
        let slot = slot_of(key);
        let place = self.slots.get(slot).place(key)?;
        Some(Spot { slot, place })
    }

    fn live_spot(&self, key: &[u8]) -> Option<Spot> {
        self.spot(key).filter(|spot| self.is_live(self.at(*spot)))
    }

    fn at(&self, spot: Spot) -> &Object {
        let (_, object) = self.slots.get(spot.slot).at(spot.place).expect("a spot is where a key stands");
        object
    }

    fn at_mut(&mut self, spot: Spot) -> &mut Object {
        self.slots.get_mut(spot.slot).at_mut(spot.place)
    }

    /// Stores `value` at `key`, replacing whatever it held, to expire at `expire_ms` ([`NEVER`]: not at all;
    /// a time that has passed, or a value with nothing in it, leaves the key absent).
    pub fn set(&mut self, key: &[u8], value: Value, expire_ms: u64) {
        let mut object = Object { value, expire_ms, version: self.version };
        if !self.is_live(&object) {
            self.discard(key);
            return;
        }
        // It may be a copy of one that notes them.
        object.value.forget_changes();
        let spot = self.spot(key);
        self.remember(key, spot);
        match spot {
            Some(spot) => {
                let earlier = self.change(key, spot, |place| std::mem::replace(place, object));
                self.let_go(earlier.value);
            }
            None => self.insert(key, object),
        }
    }

    /// Stores a string of `bytes` as [`Keyspace::set`] does, in place of one of the same length if it can.
    pub fn set_string(&mut self, key: &[u8], bytes: &[u8], expire_ms: u64) {
        let same_length =
            |value: &Value| matches!(value, Value::String(old) if old.as_bytes().len() == bytes.len());
        match self.spot(key) {
            Some(spot) if expire_ms >= self.now_ms && same_length(&self.at(spot).value) => {
                self.remember(key, Some(spot));
                self.change(key, spot, |object| {
                    object.expire_ms = expire_ms;
                    object.value.replace_string(bytes);
                });
            }
            _ => self.set(key, Value::string(bytes), expire_ms),
        }
    }

    /// Puts `object` at `key`, which is not there.
    fn insert(&mut self, key: &[u8], object: Object) {
        self.bytes += object_bytes(key, &object);
        self.key_count += 1;
        self.move_deadline(key, NEVER, deadline_of(&object));
        self.slot_mut(key).push(Key::from(key), object);
        self.moved(|| Move::Inserted(Key::from(key)));
        self.born(key);
        self.notify(EventClass::NEW, "new", key);
        self.changed(key);
    }

    /// Removes `key`; its object if it was there and live.
    pub fn remove(&mut self, key: &[u8]) -> Option<Object> {
        self.take(key).filter(|object| self.is_live(object))
    }

    /// Removes `key`; its object, also if it has expired.
    fn take(&mut self, key: &[u8]) -> Option<Object> {
        // A look first: nothing is copied for a key that is not there.
        let spot @ Spot { slot, place } = self.spot(key)?;
        self.remember(key, Some(spot));
        let object = self.slots.get_mut(slot).take(place);
        self.moved(|| Move::Removed(Key::from(key), place));
        self.key_count -= 1;
        self.bytes -= object_bytes(key, &object);
        self.move_deadline(key, deadline_of(&object), NEVER);
        self.changed(key);
        Some(object)
    }

    /// Changes `key`'s object by `change`, which is certain to change it (look with [`Keyspace::get`] first).
    /// `None` if the key is absent. A change that leaves nothing, or an expiry that has passed, removes the key.
    pub fn update<R>(&mut self, key: &[u8], change: impl FnOnce(&mut Object) -> R) -> Option<R> {
        let spot = self.live_spot(key)?;
        self.remember(key, Some(spot));
        Some(self.change(key, spot, change))
    }

    /// Changes by `change` the object of `key`, which stands at `spot` and has been remembered.
    fn change<R>(&mut self, key: &[u8], spot: Spot, change: impl FnOnce(&mut Object) -> R) -> R {
        if !self.is_live(self.at(spot)) {
            self.born(key);
        }
        let (now_ms, version) = (self.now_ms, self.version);
        let object = self.at_mut(spot);
        let (before, bytes_before) = (deadline_of(object), object.value.bytes());
        let result = change(object);
        object.version = version;
        let (after, gone) = (deadline_of(object), object.expire_ms < now_ms || object.value.is_empty(now_ms));
        let bytes_after = object.value.bytes();
        self.bytes = self.bytes - bytes_before + bytes_after;
        self.move_deadline(key, before, after);
        match gone {
            true => drop(self.remove(key)),
            false => self.changed(key),
        }
        result
    }

    /// Notes that `key`, which was absent to readers, is there.
    fn born(&mut self, key: &[u8]) {
        // Nobody watches a key of a view, and its table is shared.
        if self.is_view {
            return;
        }
        let birth = self.births.note(key, self.version);
        if let Some(undo) = &mut self.undo {
            undo.births.push(birth);
        }
    }

    /// Edits the collection at `key`, an empty one if the key is absent; `WrongType` if it holds something else.
    /// The key is created by an edit that leaves elements and removed by one that leaves none.
    pub fn edit<C: Collection, R>(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(&mut C) -> Edit<R>,
    ) -> Result<R, CommandError> {
        if let Some(spot) = self.spot_of::<C>(key)? {
            return Ok(self.edit_there(key, spot, edit));
        }
        let mut collection = C::empty();
        let edit = edit(&mut collection);
        if edit.changed {
            self.set(key, collection.into_value(), NEVER);
        }
        Ok(edit.answer)
    }

    /// Edits the collection at `key`; `None` if the key is absent, `WrongType` if it holds something else.
    /// An edit that leaves no elements removes the key.
    pub fn edit_existing<C: Collection, R>(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(&mut C) -> Edit<R>,
    ) -> Result<Option<R>, CommandError> {
        let spot = self.spot_of::<C>(key)?;
        Ok(spot.map(|spot| self.edit_there(key, spot, edit)))
    }

    /// Where the collection at `key` stands; `WrongType` if it holds something else.
    fn spot_of<C: Collection>(&self, key: &[u8]) -> Result<Option<Spot>, CommandError> {
        match self.live_spot(key) {
            Some(spot) if C::of(&self.at(spot).value).is_none() => Err(CommandError::WrongType),
            spot => Ok(spot),
        }
    }

    /// Edits the collection of `key`, which stands at `spot`.
    fn edit_there<C: Collection, R>(
        &mut self,
        key: &[u8],
        spot: Spot,
        edit: impl FnOnce(&mut C) -> Edit<R>,
    ) -> R {
        self.remember_edit(key, spot);
        let (now_ms, version) = (self.now_ms, self.version);
        let object = self.at_mut(spot);
        let (before, bytes_before) = (deadline_of(object), object.value.bytes());
        let edit = edit(C::of_mut(&mut object.value).expect("the caller has seen its type"));
        if edit.changed {
            object.version = version;
        }
        let (after, gone) = (deadline_of(object), object.value.is_empty(now_ms));
        // An unseen edit changes them, too.
        let bytes_after = object.value.bytes();
        self.bytes = self.bytes - bytes_before + bytes_after;
        if edit.changed {
            self.move_deadline(key, before, after);
            match gone {
                true => drop(self.remove(key)),
                false => self.changed(key),
            }
        }
        edit.answer
    }

    /// Moves `from`'s object, expiry included, to `to`, whatever is there. Whether `from` was there.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> bool {
        match self.remove(from) {
            Some(object) => {
                self.set(to, object.value, object.expire_ms);
                true
            }
            None => false,
        }
    }

    /// Removes `key`, to be freed aside if that takes long. Whether it was there.
    pub fn unlink(&mut self, key: &[u8]) -> bool {
        let removed = self.remove(key);
        let was_there = removed.is_some();
        if let Some(object) = removed.filter(|_| !self.is_view) {
            self.garbage.take_value(object.value);
        }
        was_there
    }

    /// Removes `key`. Whether it was there.
    pub fn discard(&mut self, key: &[u8]) -> bool {
        let removed = self.remove(key);
        let was_there = removed.is_some();
        if let Some(object) = removed {
            self.let_go(object.value);
        }
        was_there
    }

    /// Frees a value, aside if that takes long.
    fn let_go(&mut self, value: Value) {
        if !self.is_view {
            self.garbage.take_unasked(value);
        }
    }

    /// Removes every key; `asked`: it was asked for that they are freed aside, which they are anyway.
    pub fn clear(&mut self, asked: bool) {
        let slots = std::mem::replace(&mut self.slots, Slots::new(self.hash_seed));
        if self.key_count > 0 && !self.is_view {
            self.garbage.take_all(slots.clone(), if asked { self.key_count } else { 0 });
        }
        let deadlines = std::mem::take(&mut self.deadlines);
        self.key_count = 0;
        self.bytes = 0;
        self.remember_all(slots, deadlines);
        self.waiters.all_changed();
        if self.observed {
            self.events.push(KeyEvent::AllChanged);
        }
    }

    /// Puts back an object from a snapshot, in the snapshot's order. Whether it can be there.
    pub(crate) fn restore(&mut self, slot: SlotId, key: Key, object: Object) -> bool {
        let right_slot = slot_of(&key) == slot;
        let earlier = match self.ownership.under_way(slot) {
            Some(keys) => keys.insert(key, object),
            None => {
                self.count_in(&key, &object);
                self.slots.get_mut(slot).insert(key, object)
            }
        };
        right_slot && earlier.is_none()
    }

    fn slot_mut(&mut self, key: &[u8]) -> &mut Slot {
        self.slots.get_mut(slot_of(key))
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

/// Where a key stands: until the next insertion into its slot, or removal from it.
#[derive(Clone, Copy)]
struct Spot {
    slot: SlotId,
    place: usize,
}

/// The least version of a key that is absent: more than any index. As an integer in a reply it is still positive.
pub const ABSENT: u64 = 1 << 62;

/// How much the versions of a slot's keys grow with each move of the slot: more than any index.
const PER_MOVE: u64 = 1 << 48;

/// After so many moves they begin anew.
const MOVES: u64 = ABSENT / PER_MOVE - 1;

/// What a key takes in memory, about: the fixed sum is its place in the slot's array and in the index over it.
pub fn object_bytes(key: &[u8], object: &Object) -> usize {
    const KEY_BYTES: usize = 88;
    KEY_BYTES + key.len() + object.value.bytes()
}

/// When something of an object is due next: the key itself, or the earliest of a hash's fields.
fn deadline_of(object: &Object) -> u64 {
    object.expire_ms.min(object.value.next_deadline_ms())
}

/// What an edit of a collection answers, and whether it changed the collection.
pub struct Edit<R> {
    answer: R,
    changed: bool,
}

impl<R> Edit<R> {
    /// An edit that changed something if `changed`.
    pub fn new(answer: R, changed: bool) -> Edit<R> {
        Edit { answer, changed }
    }

    /// An edit that changed something.
    pub fn changed(answer: R) -> Edit<R> {
        Edit::new(answer, true)
    }

    /// An edit that left everything as it was.
    pub fn unchanged(answer: R) -> Edit<R> {
        Edit::new(answer, false)
    }

    /// An edit that changed nothing which WATCH, caches or waiters look at: a consumer group's bookkeeping.
    pub fn unseen(answer: R) -> Edit<R> {
        Edit::new(answer, false)
    }
}

#[cfg(test)]
mod tests;
