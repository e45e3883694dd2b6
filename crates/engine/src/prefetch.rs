//! Brings what the keys of many calls need into the processor's caches, all at once.
//!
//! A key's object is found by following five pointers, each to memory that no cache holds when there are many keys: one
//! after the other, these loads take longer than everything else that a small command does. Loads that do not depend on
//! each other overlap. So the calls of an entry, or of a run of reads, are looked up in step, each step for all of them,
//! before the first one runs.
//!
//! It looks and changes nothing: whatever it guesses wrong costs time alone. The keys are taken to be each call's second
//! word, which for most commands is true.

use crate::entry::Call;
use crate::hash_slot::slot_of;
use crate::slot::Slot;
use crate::slots::Slots;

/// So many keys are looked up in step: enough to keep all of a processor's outstanding loads busy, and few enough that
/// the first is still in its caches when its call runs.
const IN_STEP: usize = 32;

/// Looks up the first keys of `calls`, unless there is but one.
pub fn prefetch<'a>(slots: &Slots, calls: impl Iterator<Item = &'a Call>) {
    let mut keys = calls.filter_map(|call| call.args.get(1)).map(|key| &key[..]).peekable();
    let mut first = keys.next();
    while keys.peek().is_some() || first.is_some() {
        let mut step: [(&[u8], Option<&Slot>, Option<usize>); IN_STEP] = [(&[], None, None); IN_STEP];
        let mut count = 0;
        for (key, place) in first.take().into_iter().chain(&mut keys).zip(&mut step) {
            place.0 = key;
            count += 1;
        }
        if count > 1 {
            look_up(slots, &mut step[..count]);
        }
    }
}

fn look_up<'a>(slots: &'a Slots, step: &mut [(&[u8], Option<&'a Slot>, Option<usize>)]) {
    let mut seen = 0;
    for (key, slot, _) in &mut *step {
        *slot = Some(slots.get(slot_of(key)));
    }
    for (_, slot, _) in &*step {
        seen += slot.map_or(0, Slot::len);
    }
    for (key, slot, place) in &mut *step {
        *place = slot.and_then(|slot| slot.likely_place(key));
    }
    let objects = || step.iter().filter_map(|(_, slot, place)| (*slot)?.at((*place)?));
    for (_, object) in objects() {
        seen += object.version as usize;
    }
    for (key, object) in objects() {
        seen += usize::from(key.first().copied().unwrap_or_default()) + object.value.peek();
    }
    // Else a compiler might see that nothing comes of it.
    std::hint::black_box(seen);
}
