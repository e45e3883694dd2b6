//! Brings what the keys of many calls need into the processor's caches, all at once.
//!
//! A key's object is found by following four pointers, each to memory that no cache holds when there are many keys: one
//! after the other, these loads take longer than everything else that a small command does. Loads that do not depend on
//! each other overlap. So the calls of an entry, or of a run of reads, are looked up in step, each step for all of them,
//! before the first one runs.
//!
//! It looks and changes nothing: whatever it guesses wrong costs time alone. The keys are taken to be each call's second
//! word, which for most commands is true.

use bytes::Bytes;

use crate::hash_slot::slot_of;
use crate::slot::Slot;
use crate::slots::Slots;

/// So many keys are looked up in step: enough to keep all of a processor's outstanding loads busy, and few enough that
/// the first is still in its caches when its call runs.
const IN_STEP: usize = 32;

/// A key on its way: what is known of it so far.
#[derive(Clone, Copy, Default)]
struct Sought<'a> {
    key: &'a [u8],
    slot: Option<&'a Slot>,
    place: Option<usize>,
}

/// Looks up the first keys of `calls`, unless there is but one.
pub fn prefetch<'a>(slots: &'a Slots, calls: impl Iterator<Item = &'a [Bytes]>) {
    let mut keys = calls.filter_map(|words| words.get(1));
    loop {
        let mut step = [Sought::default(); IN_STEP];
        let mut count = 0;
        // The keys second: a zip that has no room left must not have taken one.
        for (sought, key) in step.iter_mut().zip(&mut keys) {
            sought.key = key;
            count += 1;
        }
        if count < 2 {
            return;
        }
        look_up(slots, &mut step[..count]);
    }
}

fn look_up<'a>(slots: &'a Slots, step: &mut [Sought<'a>]) {
    let mut seen = 0;
    for sought in &mut *step {
        sought.slot = Some(slots.get(slot_of(sought.key)));
    }
    for sought in &*step {
        seen += sought.slot.map_or(0, Slot::len);
    }
    for sought in &mut *step {
        sought.place = sought.slot.and_then(|slot| slot.likely_place(sought.key));
    }
    let objects = || step.iter().filter_map(|sought| sought.slot?.at(sought.place?));
    for (_, object) in objects() {
        seen += object.version as usize;
    }
    for (key, object) in objects() {
        seen += usize::from(key.first().copied().unwrap_or_default()) + object.value.peek();
    }
    // Else a compiler might see that nothing comes of it.
    std::hint::black_box(seen);
}
