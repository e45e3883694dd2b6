//! Calls that block (BLPOP, XREADGROUP … BLOCK): who waits for which key, as state of the machine.
//!
//! A call that finds nothing becomes a *waiter* when its entry is applied, and a later entry that changes one of its keys
//! runs it again, on every replica alike, right behind the batch that made the change: nobody can take the element in
//! between, and whoever came first is served first. The leader knows the client behind a waiter's id and hands it the
//! answer; time-outs and clients that leave are entries too ([`crate::entry::Batch::cancel`]).
//!
//! Invariants: ids ascend in the order of arrival; waiters belong to one term. The clients of an older term's leader are no
//! longer known to anybody, so the first entry of a new term drops them all: an element is never given to nobody.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use indexmap::IndexSet;

use crate::entry::{Call, Waiter};
use crate::hash_slot::{SlotId, slot_of};

/// A blocked call's number within its group: 1, 2, 3, … in the order of arrival, never given twice.
pub type WaiterId = u64;

/// What a handler that cannot answer yet waits for ([`crate::Reply::Block`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Any of these keys' change may bring the answer.
    pub keys: Vec<Bytes>,
    /// What to run then: the call itself, with whatever depends on the moment (XREAD's `$`) filled in.
    pub call: Vec<Bytes>,
    /// How long the client waits, in milliseconds; `None`: for ever.
    pub timeout_ms: Option<u64>,
    /// Whether the call has something to say when a key is gone.
    pub wants_absence: bool,
}

/// The waiters of one group.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// The highest id that was ever given.
    last_id: WaiterId,
    by_id: BTreeMap<WaiterId, Waiter>,
    by_key: BTreeMap<Bytes, BTreeSet<WaiterId>>,
    /// Keys that somebody waits for and that have changed, in the order of their first change.
    changed: IndexSet<Bytes, foldhash::fast::FixedState>,
    /// Those whose slot has gone to another group, since they were last taken.
    left: Vec<(WaiterId, SlotId)>,
}

impl Waiters {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn last_id(&self) -> WaiterId {
        self.last_id
    }

    /// Makes a waiter of a call that blocks.
    pub(crate) fn add(&mut self, block: Block) -> WaiterId {
        let id = self.last_id + 1;
        let call = Some(Call { args: block.call });
        self.insert(Waiter { id, call, keys: block.keys, wants_absence: block.wants_absence });
        id
    }

    /// Puts back what a snapshot held.
    pub(crate) fn restore(&mut self, last_id: WaiterId, waiters: Vec<Waiter>) {
        waiters.into_iter().for_each(|waiter| self.insert(waiter));
        self.last_id = self.last_id.max(last_id);
    }

    fn insert(&mut self, waiter: Waiter) {
        self.last_id = self.last_id.max(waiter.id);
        for key in &waiter.keys {
            self.by_key.entry(key.clone()).or_default().insert(waiter.id);
        }
        self.by_id.insert(waiter.id, waiter);
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, id: WaiterId) -> bool {
        let Some(waiter) = self.by_id.remove(&id) else { return false };
        for key in &waiter.keys {
            if let Some(ids) = self.by_key.get_mut(key) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_key.remove(key);
                }
            }
        }
        true
    }

    pub(crate) fn get(&self, id: WaiterId) -> Option<&Waiter> {
        self.by_id.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.by_id.values()
    }

    /// Forgets everybody; their ids.
    pub(crate) fn clear(&mut self) -> Vec<WaiterId> {
        let dropped = self.by_id.keys().copied().collect();
        *self = Waiters { last_id: self.last_id, ..Waiters::default() };
        dropped
    }

    /// The group serves `slots` no more: who waits for keys of them is to be told.
    pub(crate) fn leave(&mut self, slots: &BTreeSet<SlotId>) {
        let slot =
            |waiter: &Waiter| waiter.keys.first().map(|key| slot_of(key)).filter(|slot| slots.contains(slot));
        let left: Vec<_> = self.iter().filter_map(|waiter| Some((waiter.id, slot(waiter)?))).collect();
        for (id, _) in &left {
            self.remove(*id);
        }
        self.left.extend(left);
    }

    /// Takes those whose slot has gone, and the slot.
    pub(crate) fn take_left(&mut self) -> Vec<(WaiterId, SlotId)> {
        std::mem::take(&mut self.left)
    }

    /// `key` has changed: its waiters are to be run again.
    pub(crate) fn key_changed(&mut self, key: &[u8]) {
        if let Some((key, _)) = self.by_key.get_key_value(key) {
            self.changed.insert(key.clone());
        }
    }

    /// Every key has changed.
    pub(crate) fn all_changed(&mut self) {
        self.changed.extend(self.by_key.keys().cloned());
    }

    /// Takes the next changed key, and those who wait for it in the order of their arrival.
    pub(crate) fn next_changed(&mut self) -> Option<(Bytes, Vec<WaiterId>)> {
        let key = self.changed.shift_remove_index(0)?;
        let ids = self.by_key.get(&key).map(|ids| ids.iter().copied().collect()).unwrap_or_default();
        Some((key, ids))
    }
}
