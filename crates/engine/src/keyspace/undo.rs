//! Taking back what a script has changed: what each changed key held, and how the order of keys has moved.

use std::collections::BTreeSet;

use foldhash::fast::FixedState;
use indexmap::IndexMap;

use super::{Keyspace, Spot, deadline_of};
use crate::births::Birth;
use crate::garbage::Mark;
use crate::hash_slot::slot_of;
use crate::slot::{Key, NEVER, Object};
use crate::slots::Slots;
use crate::value::Value;

impl Keyspace {
    /// From now on remembers what it was, until [`Keyspace::keep`] or [`Keyspace::roll_back`].
    pub(crate) fn begin_undo(&mut self) {
        let mut undo = self.spare_undo.take().unwrap_or_default();
        undo.events = self.events.len();
        undo.garbage = self.garbage.mark();
        undo.key_count = self.key_count;
        undo.bytes = self.bytes;
        self.undo = Some(undo);
    }

    /// What has changed stays.
    pub(crate) fn keep(&mut self) {
        let Some(mut undo) = self.undo.take() else { return };
        for (key, earlier) in &undo.journal {
            let Earlier::Noted { spot, .. } = earlier else { continue };
            if let Some(object) = self.slots.get_mut(spot.slot).get_mut_near(key, spot.place) {
                object.value.forget_changes();
            }
        }
        if undo.empty() {
            self.spare_undo = Some(undo);
        }
    }

    /// Everything is again as it was at [`Keyspace::begin_undo`], the order of keys in their slots included: another replica
    /// may have had no reason to roll back before it ran the same script.
    pub(crate) fn roll_back(&mut self) {
        let Some(undo) = self.undo.take() else { return };
        let mut undo = *undo;
        if let Some(before) = undo.cleared.take() {
            let Cleared { slots, deadlines, journal, moves } = *before;
            self.slots = slots;
            self.deadlines = deadlines;
            undo.journal = journal;
            undo.moves = moves;
        }
        for key in undo.journal.keys() {
            let now = self.slot(slot_of(key)).get(key).map_or(NEVER, deadline_of);
            self.move_deadline(key, now, NEVER);
        }
        for change in undo.moves.into_iter().rev() {
            match change {
                Move::Inserted(key) => self.slot_mut(&key).take_back_insertion(&key),
                Move::Removed(key, place) => {
                    // Its object comes from the journal below, or a further step back takes the key away again.
                    let object = Object { value: Value::string(b""), expire_ms: NEVER, version: 0 };
                    self.slot_mut(&key.clone()).take_back_removal(key, place, object);
                }
            }
        }
        for (key, earlier) in undo.journal {
            if !matches!(earlier, Earlier::Absent) {
                let place = self.slot_mut(&key).get_mut(&key).expect("a key that was there is there again");
                earlier.put_back(place);
                let deadline = deadline_of(place);
                self.move_deadline(&key, NEVER, deadline);
            }
            self.changed(&key);
        }
        for birth in undo.births.into_iter().rev() {
            self.births.take_back(birth);
        }
        self.key_count = undo.key_count;
        self.bytes = undo.bytes;
        self.events.truncate(undo.events);
        self.garbage.take_back(undo.garbage);
    }

    /// Remembers that the order of a slot's keys has changed.
    pub(super) fn moved(&mut self, change: impl FnOnce() -> Move) {
        if let Some(undo) = &mut self.undo
            && undo.cleared.is_none()
        {
            undo.moves.push(change());
        }
    }

    /// Remembers `key`'s object, which stands at `spot` if there is one, before a change of any kind.
    pub(super) fn remember(&mut self, key: &[u8], spot: Option<Spot>) {
        let Some(undo) = &mut self.undo else { return };
        if undo.cleared.is_some() {
            return;
        }
        match undo.journal.get_mut(key) {
            None => {
                let object = spot.and_then(|spot| self.slots.get(spot.slot).at(spot.place));
                let earlier = object.map_or(Earlier::Absent, |(_, object)| Earlier::Was(object.clone()));
                undo.journal.insert(Key::from(key), earlier);
            }
            Some(earlier @ Earlier::Noted { .. }) => {
                let spot = spot.expect("it is where its changes are noted");
                let object = self.slots.get_mut(spot.slot).at_mut(spot.place);
                let mut was = object.clone();
                object.value.forget_changes();
                std::mem::replace(earlier, Earlier::Absent).put_back(&mut was);
                *earlier = Earlier::Was(was);
            }
            Some(Earlier::Absent | Earlier::Was(_)) => {}
        }
    }

    /// Remembers `slots` and `deadlines`, which have just been everything.
    pub(super) fn remember_all(&mut self, slots: Slots, deadlines: BTreeSet<(u64, Key)>) {
        if let Some(undo) = &mut self.undo
            && undo.cleared.is_none()
        {
            let (journal, moves) = (std::mem::take(&mut undo.journal), std::mem::take(&mut undo.moves));
            undo.cleared = Some(Box::new(Cleared { slots, deadlines, journal, moves }));
        }
    }

    /// Remembers `key`'s object, which stands at `spot`, before an edit of its elements: by what the edit replaces, if its value can
    /// tell, which saves the copies of what a clone would share with it.
    pub(super) fn remember_edit(&mut self, key: &[u8], spot: Spot) {
        /// Beyond so many, a clone takes less memory.
        const MOST_NOTED: usize = 1000;
        let Some(undo) = &mut self.undo else { return };
        if undo.cleared.is_some() {
            return;
        }
        let object = self.slots.get_mut(spot.slot).at_mut(spot.place);
        match undo.journal.get(key) {
            None if object.value.note_changes() => {
                undo.journal.insert(Key::from(key), Earlier::Noted { version: object.version, spot });
            }
            Some(Earlier::Noted { .. }) if object.value.changes().is_some_and(|noted| noted < MOST_NOTED) => {
            }
            _ => self.remember(key, Some(spot)),
        }
    }
}

/// What to put back if a script is to leave no trace.
#[derive(Default)]
pub(super) struct Undo {
    /// Each changed key's object before its first change, in the order of those changes.
    journal: IndexMap<Key, Earlier, FixedState>,
    /// How the order of keys has changed since.
    moves: Vec<Move>,
    /// Which keys have been made.
    pub(super) births: Vec<Birth>,
    /// What FLUSHALL removed, if it was called.
    cleared: Option<Box<Cleared>>,
    key_count: usize,
    bytes: usize,
    /// How many events had been noted.
    events: usize,
    /// How much garbage there was.
    garbage: Mark,
}

impl Undo {
    /// Lets go of what it remembers. Whether its room is worth keeping.
    fn empty(&mut self) -> bool {
        const MOST_KEPT: usize = 256;
        self.journal.clear();
        self.moves.clear();
        self.births.clear();
        self.cleared = None;
        self.journal.capacity() + self.moves.capacity() + self.births.capacity() <= MOST_KEPT
    }
}

/// What a key held before its first change.
enum Earlier {
    /// Nothing.
    Absent,
    /// This.
    Was(Object),
    /// What its object still holds, but for the changes that its value has noted: nothing else of it has changed.
    Noted {
        /// The object's version.
        version: u64,
        /// Where it stood.
        spot: Spot,
    },
}

impl Earlier {
    /// Makes of `object`, which stands at the key, what was there.
    fn put_back(self, object: &mut Object) {
        match self {
            Earlier::Absent => {}
            Earlier::Was(was) => *object = was,
            Earlier::Noted { version, .. } => {
                object.value.take_back_changes();
                object.version = version;
            }
        }
    }
}

/// A change of the order of a slot's keys.
pub(super) enum Move {
    /// A new key at the end.
    Inserted(Key),
    /// A key gone from its place, which the last one took.
    Removed(Key, usize),
}

/// A keyspace as it was before it was cleared, and what had been changed by then.
struct Cleared {
    slots: Slots,
    deadlines: BTreeSet<(u64, Key)>,
    journal: IndexMap<Key, Earlier, FixedState>,
    moves: Vec<Move>,
}
