//! Which slots a group serves, and those on their way from one group to another: state, as their keys are.
//!
//! A slot's *epochs* number the groups that serve it: 1 is that of the founding, and each move adds one. A move is entries of four
//! kinds in two logs. The old group *leaves* the slot: from there on it serves it no more, and keeps its keys as they are. Its
//! leader, once that is applied where it leads, *seals* it: nobody can read it there any longer. To the new group the keys
//! *arrive*, piece by piece; it serves the slot from the last piece on. Then the old group *forgets* it.
//!
//! Why a seal: a leader's reads need not wait for what is committed and not applied, for that has been acknowledged to nobody. But a
//! slot that has left is served elsewhere, and a follower may apply that it left before the leader does. The seal comes from a
//! leader that has; a later one applies it before its first read; an earlier one finds no quorum.
//!
//! Whoever drives a move may die anywhere and be followed by another, and anything may be said twice or late: what an entry does
//! depends on the epoch and the position in it, and what does not fit is nothing.
//!
//! Invariants: in each epoch at most one group serves a slot, for only the group that served it in the epoch before names the
//! next; a group that has served a slot takes it again in a later epoch alone, so nothing late brings old keys back; keys of
//! slots on their way count nowhere and do not expire.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};

use super::{Keyspace, deadline_of, object_bytes};
use crate::entry::{Arrive, Holding, LeavingState, SlotEpoch};
use crate::events::KeyEvent;
use crate::hash_slot::{SLOT_COUNT, SlotId, slot_of};
use crate::slot::{Key, NEVER, Object, Slot};
use crate::snapshot::{SHORT_OBJECT, put_object, take_objects};

/// Which group of a slot's this is, from 1 on.
pub type Epoch = u32;

/// What a group has of each slot.
#[derive(Clone)]
pub struct Ownership {
    /// For each slot the latest epoch in which it was served here, 0 if it never was.
    latest: Arc<[Tenure; SLOT_COUNT as usize]>,
    /// The slots served, as runs.
    served: Arc<Vec<RangeInclusive<SlotId>>>,
    /// The slots that are served or were, as runs, for snapshots; a view has none.
    holdings: Arc<Vec<Holding>>,
    leaving: BTreeMap<SlotId, Leaving>,
    arriving: BTreeMap<SlotId, Arriving>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Tenure {
    epoch: Epoch,
    served: bool,
}

/// A slot that has been given up, with its keys.
#[derive(Clone)]
struct Leaving {
    epoch: Epoch,
    to: u32,
    sealed: bool,
    keys: Slot,
}

/// A slot that is to be served, with the keys that have come.
#[derive(Clone)]
struct Arriving {
    epoch: Epoch,
    keys: Slot,
}

/// A slot that has been given up, for those who bring it on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The slot.
    pub slot: SlotId,
    /// In which epoch it is to be served.
    pub epoch: Epoch,
    /// By which group.
    pub to: u32,
    /// Whether it may be taken.
    pub sealed: bool,
}

impl Departure {
    /// The slot and the epoch, as entries name it.
    pub fn named(&self) -> SlotEpoch {
        SlotEpoch { slot: u32::from(self.slot), epoch: self.epoch }
    }
}

impl Ownership {
    pub(super) fn none() -> Ownership {
        /// Shared, for every script that runs makes one.
        static NONE: LazyLock<Arc<[Tenure; SLOT_COUNT as usize]>> =
            LazyLock::new(|| Arc::new([Tenure::default(); SLOT_COUNT as usize]));
        Ownership {
            latest: Arc::clone(&NONE),
            served: Arc::default(),
            holdings: Arc::default(),
            leaving: BTreeMap::new(),
            arriving: BTreeMap::new(),
        }
    }

    /// The same slots served, for a view, which sees nothing of those on their way.
    pub(super) fn view(&self) -> Ownership {
        let (latest, served) = (Arc::clone(&self.latest), Arc::clone(&self.served));
        Ownership { latest, served, ..Ownership::none() }
    }

    fn set(&mut self, tenures: impl Iterator<Item = (SlotId, Tenure)>) {
        let latest = Arc::make_mut(&mut self.latest);
        tenures.for_each(|(slot, tenure)| latest[usize::from(slot)] = tenure);
        self.put_in_runs();
    }

    /// Slots change their groups seldom, and snapshots and reads ask for runs of them often.
    fn put_in_runs(&mut self) {
        self.served = Arc::new(runs(&*self.latest, |tenure| tenure.served));
        let mut holdings: Vec<Holding> = Vec::new();
        for (slot, &Tenure { epoch, served }) in (0..).zip(self.latest.iter()).filter(|(_, t)| t.epoch > 0) {
            match holdings.last_mut() {
                Some(run) if (run.end + 1, run.epoch, run.served) == (slot, epoch, served) => run.end = slot,
                _ => holdings.push(Holding { start: slot, end: slot, epoch, served }),
            }
        }
        self.holdings = Arc::new(holdings);
    }

    /// The epoch in which `slot` is served here; `None` if it is not.
    pub fn epoch(&self, slot: SlotId) -> Option<Epoch> {
        let tenure = self.latest[usize::from(slot)];
        tenure.served.then_some(tenure.epoch)
    }

    /// The slots that are served, in ascending order.
    pub fn served(&self) -> &[RangeInclusive<SlotId>] {
        &self.served
    }

    /// The slots that have been given up and are still kept.
    pub fn leaving(&self) -> impl Iterator<Item = Departure> + '_ {
        self.leaving.iter().map(|(&slot, &Leaving { epoch, to, sealed, .. })| Departure {
            slot,
            epoch,
            to,
            sealed,
        })
    }

    /// Whether `slot` is served here in `epoch`, or has been, or in a later one.
    pub fn has_reached(&self, slot: SlotId, epoch: Epoch) -> bool {
        self.latest[usize::from(slot)].epoch >= epoch
    }

    /// How many keys of `slot` have come that is to be served in `epoch`; `None` if no piece of it is to come.
    pub fn awaits(&self, slot: SlotId, epoch: Epoch) -> Option<u64> {
        match self.arriving.get(&slot) {
            _ if self.has_reached(slot, epoch) || self.epoch(slot).is_some() => None,
            Some(arriving) => Some(arriving.keys.len() as u64).filter(|_| arriving.epoch == epoch),
            None => Some(0),
        }
    }

    /// The keys of slots on their way, those that leave before those that arrive.
    pub(crate) fn keys_under_way(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        let leaving = self.leaving.iter().map(|(slot, leaving)| (*slot, &leaving.keys));
        leaving.chain(self.arriving.iter().map(|(slot, arriving)| (*slot, &arriving.keys)))
    }

    /// For a snapshot, all but the keys.
    pub(crate) fn states(&self) -> (Vec<Holding>, Vec<LeavingState>, Vec<SlotEpoch>) {
        let leaving = self.leaving.iter().map(|(&slot, leaving)| LeavingState {
            slot: u32::from(slot),
            epoch: leaving.epoch,
            to: leaving.to,
            sealed: leaving.sealed,
        });
        let arriving = self.arriving.iter();
        let arriving =
            arriving.map(|(&slot, arriving)| SlotEpoch { slot: slot.into(), epoch: arriving.epoch });
        (self.holdings.to_vec(), leaving.collect(), arriving.collect())
    }

    /// What [`Ownership::states`] gave; the keys come after it. `None` if it cannot have.
    pub(crate) fn restored(
        hash_seed: u64,
        holdings: &[Holding],
        leaving: &[LeavingState],
        arriving: &[SlotEpoch],
    ) -> Option<Ownership> {
        let mut ownership = Ownership::none();
        let latest = Arc::make_mut(&mut ownership.latest);
        for run in holdings {
            let tenure = Tenure { epoch: run.epoch, served: run.served };
            let (start, end) = (slot_id(run.start)?, slot_id(run.end)?);
            if run.epoch == 0 {
                return None;
            }
            latest.get_mut(usize::from(start)..=usize::from(end))?.fill(tenure);
        }
        ownership.put_in_runs();
        let empty = || Slot::new(hash_seed);
        for &LeavingState { slot, epoch, to, sealed } in leaving {
            ownership.leaving.insert(slot_id(slot)?, Leaving { epoch, to, sealed, keys: empty() });
        }
        for &SlotEpoch { slot, epoch } in arriving {
            ownership.arriving.insert(slot_id(slot)?, Arriving { epoch, keys: empty() });
        }
        // Else nobody could tell whose keys follow.
        let apart = |slot: SlotId| {
            let served = ownership.epoch(slot).is_some();
            u8::from(served)
                + u8::from(ownership.leaving.contains_key(&slot))
                + u8::from(ownership.arriving.contains_key(&slot))
                <= 1
        };
        let mut under_way = ownership.leaving.keys().chain(ownership.arriving.keys());
        under_way.all(|slot| apart(*slot)).then_some(()).map(|()| ownership)
    }

    /// Where a snapshot's keys of `slot` go, if it is on its way.
    pub(super) fn under_way(&mut self, slot: SlotId) -> Option<&mut Slot> {
        let keys = match self.leaving.get_mut(&slot) {
            Some(leaving) => &mut leaving.keys,
            None => &mut self.arriving.get_mut(&slot)?.keys,
        };
        Some(keys)
    }
}

/// The slots of which `is` holds, as runs.
fn runs(tenures: &[Tenure], is: impl Fn(&Tenure) -> bool) -> Vec<RangeInclusive<SlotId>> {
    let mut runs: Vec<RangeInclusive<SlotId>> = Vec::new();
    for (slot, _) in (0..).zip(tenures).filter(|(_, tenure)| is(tenure)) {
        match runs.last_mut() {
            Some(run) if *run.end() + 1 == slot => *run = *run.start()..=slot,
            _ => runs.push(slot..=slot),
        }
    }
    runs
}

fn slot_id(number: u32) -> Option<SlotId> {
    SlotId::try_from(number).ok().filter(|slot| *slot < SLOT_COUNT)
}

impl Keyspace {
    /// What the group has of each slot.
    pub fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// The group is founded, and serves `slots`.
    pub(crate) fn found(&mut self, slots: impl Iterator<Item = SlotId>) {
        self.ownership.set(slots.map(|slot| (slot, Tenure { epoch: 1, served: true })));
        self.moved = true;
    }

    pub(crate) fn restore_ownership(&mut self, ownership: Ownership) {
        self.ownership = ownership;
    }

    /// Whether slots have come or gone since this was last asked; not state.
    pub(crate) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Gives up those of `slots` that are served in the epoch beside them, to group `to`. How many.
    pub(crate) fn leave(&mut self, to: u32, slots: &[SlotEpoch]) -> usize {
        let served =
            |slot: &SlotEpoch| slot_id(slot.slot).filter(|&id| self.ownership.epoch(id) == Some(slot.epoch));
        // Once each, whatever was asked: a slot that is given up twice would be empty the second time.
        let leaving: BTreeSet<SlotId> = slots.iter().filter_map(served).collect();
        for &slot in &leaving {
            let keys = self.detach(slot);
            let epoch = self.ownership.latest[usize::from(slot)].epoch + 1;
            self.ownership.leaving.insert(slot, Leaving { epoch, to, sealed: false, keys });
        }
        self.set_served(leaving.iter().map(|slot| (*slot, None)));
        self.waiters.leave(&leaving);
        if self.observed && !leaving.is_empty() {
            // What changes there from now on may be learnt late on this node.
            self.events.push(KeyEvent::AllChanged);
        }
        leaving.len()
    }

    /// Lets slots be taken that have been given up for the epochs beside them. How many.
    pub(crate) fn seal(&mut self, slots: &[SlotEpoch]) -> usize {
        let mut sealed = 0;
        for slot in slots {
            let left = slot_id(slot.slot).and_then(|id| self.ownership.leaving.get_mut(&id));
            if let Some(left) = left.filter(|left| left.epoch == slot.epoch && !left.sealed) {
                left.sealed = true;
                sealed += 1;
            }
        }
        self.moved |= sealed > 0;
        sealed
    }

    /// Takes a piece of a slot, and serves the slot if it is the last. Whether it was the next; an error if it is not what a
    /// snapshot has.
    pub(crate) fn arrive(&mut self, piece: &Arrive) -> Result<bool, &'static str> {
        let Some(slot) = slot_id(piece.slot) else { return Err("there is no such slot") };
        if piece.epoch == Epoch::MAX {
            return Err("no other epoch can follow");
        }
        if self.ownership.awaits(slot, piece.epoch) != Some(piece.position) {
            return Ok(false);
        }
        let objects = take_objects(piece.objects.clone()).ok_or(SHORT_OBJECT)?;
        if !self.can_arrive(slot, &objects) {
            return Err("a key is there twice, or in another slot");
        }
        // That it comes back says that it had arrived where it went.
        self.drop_left(slot);
        let empty = || Arriving { epoch: piece.epoch, keys: Slot::new(self.hash_seed) };
        let arriving = self.ownership.arriving.entry(slot).or_insert_with(empty);
        let keys = &mut arriving.keys;
        for (key, object) in objects {
            // The other group's versions mean nothing here.
            keys.insert(key, Object { version: self.version, ..object });
        }
        if piece.last {
            self.now_ms = self.now_ms.max(piece.now_ms);
            let Arriving { epoch, keys } = self.ownership.arriving.remove(&slot).expect("it is there");
            self.attach(slot, keys);
            self.set_served(std::iter::once((slot, Some(epoch))));
        }
        Ok(true)
    }

    /// Whether these are keys of `slot`, each of them once.
    fn can_arrive(&self, slot: SlotId, objects: &[(Key, Object)]) -> bool {
        let came = self.ownership.arriving.get(&slot);
        let is_new = |key: &Key| came.is_none_or(|arriving| arriving.keys.get(key).is_none());
        let distinct: BTreeSet<&Key> = objects.iter().map(|(key, _)| key).collect();
        distinct.len() == objects.len() && distinct.iter().all(|key| slot_of(key) == slot && is_new(key))
    }

    /// Drops what is kept of slots that have arrived in the epochs beside them. How many.
    pub(crate) fn forget(&mut self, slots: &[SlotEpoch]) -> usize {
        let mut forgotten = 0;
        for slot in slots {
            let left = slot_id(slot.slot).and_then(|id| Some((id, self.ownership.leaving.get(&id)?.epoch)));
            if let Some((id, epoch)) = left
                && epoch == slot.epoch
            {
                self.drop_left(id);
                forgotten += 1;
            }
        }
        forgotten
    }

    /// The next piece of a slot that has been given up, from its key `position` on, and where the one after it begins; `None` if it
    /// has not. The piece is closed once it has `bytes`; a single key may make it longer.
    pub fn piece(&self, slot: SlotId, position: u64, bytes: usize) -> Option<(Arrive, u64)> {
        let Leaving { epoch, ref keys, .. } = *self.ownership.leaving.get(&slot)?;
        let mut objects = bytes::BytesMut::new();
        let mut next = usize::try_from(position).ok()?;
        while objects.len() < bytes
            && let Some((key, object)) = keys.at(next)
        {
            put_object(&mut objects, key, object);
            next += 1;
        }
        let piece = Arrive {
            slot: u32::from(slot),
            epoch,
            position,
            objects: objects.freeze(),
            last: next >= keys.len(),
            now_ms: self.now_ms,
        };
        Some((piece, next as u64))
    }

    fn set_served(&mut self, epochs: impl Iterator<Item = (SlotId, Option<Epoch>)>) {
        let latest = Arc::clone(&self.ownership.latest);
        let tenure = |(slot, epoch): (SlotId, Option<Epoch>)| match epoch {
            Some(epoch) => (slot, Tenure { epoch, served: true }),
            None => (slot, Tenure { served: false, ..latest[usize::from(slot)] }),
        };
        let tenures: Vec<(SlotId, Tenure)> = epochs.map(tenure).collect();
        drop(latest);
        self.moved |= !tenures.is_empty();
        self.ownership.set(tenures.into_iter());
    }

    fn drop_left(&mut self, slot: SlotId) {
        if let Some(left) = self.ownership.leaving.remove(&slot) {
            self.garbage.take_slot(left.keys);
        }
    }

    /// Takes a slot's keys out of all that counts them.
    fn detach(&mut self, slot: SlotId) -> Slot {
        let keys = self.slots.replace(slot, Slot::new(self.hash_seed));
        for (key, object) in keys.iter() {
            self.count_out(key, object);
        }
        keys
    }

    fn attach(&mut self, slot: SlotId, keys: Slot) {
        for (key, object) in keys.iter() {
            self.count_in(key, object);
        }
        let earlier = self.slots.replace(slot, keys);
        assert!(earlier.is_empty(), "a slot that is not served has no keys");
    }

    fn count_out(&mut self, key: &Key, object: &Object) {
        self.key_count -= 1;
        self.bytes -= object_bytes(key, object);
        self.move_deadline(key, deadline_of(object), NEVER);
    }

    pub(super) fn count_in(&mut self, key: &Key, object: &Object) {
        self.key_count += 1;
        self.bytes += object_bytes(key, object);
        self.move_deadline(key, NEVER, deadline_of(object));
    }
}

#[cfg(test)]
mod tests;
