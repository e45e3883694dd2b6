//! All hash slots of a keyspace, in pages that are shared until they change: a copy costs a pointer for each page.
//!
//! A script that only reads runs on such a copy while the group goes on.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::hash_slot::{SLOT_COUNT, SlotId};
use crate::slot::Slot;
use crate::value::Value;

const SLOTS_PER_PAGE: usize = 128;

type Page = [Slot; SLOTS_PER_PAGE];

/// The slots, or none at all ([`Slots::none`]).
#[derive(Clone)]
pub struct Slots {
    pages: Vec<Arc<Page>>,
    /// The page that stands wherever no slot has ever been changed.
    blank: Option<Arc<Page>>,
    /// Those that have, or may have, changes beside their tables.
    unsettled: VecDeque<SlotId>,
}

impl Slots {
    /// Empty slots. `hash_seed`: see [`Slot::new`].
    pub fn new(hash_seed: u64) -> Slots {
        let empty = Slot::new(hash_seed);
        let blank: Arc<Page> = Arc::new(std::array::from_fn(|_| empty.clone()));
        let pages = vec![Arc::clone(&blank); usize::from(SLOT_COUNT) / SLOTS_PER_PAGE];
        Slots { pages, blank: Some(blank), unsettled: VecDeque::new() }
    }

    /// No slots, which must not be asked for one.
    pub fn none() -> Slots {
        Slots { pages: Vec::new(), blank: None, unsettled: VecDeque::new() }
    }

    /// A slot.
    pub fn get(&self, slot: SlotId) -> &Slot {
        &self.pages[usize::from(slot) / SLOTS_PER_PAGE][usize::from(slot) % SLOTS_PER_PAGE]
    }

    /// A slot to change. What shares it keeps what it had.
    pub fn get_mut(&mut self, slot: SlotId) -> &mut Slot {
        let page = Arc::make_mut(&mut self.pages[usize::from(slot) / SLOTS_PER_PAGE]);
        let place = &mut page[usize::from(slot) % SLOTS_PER_PAGE];
        if place.shares_all() {
            self.unsettled.push_back(slot);
        }
        place
    }

    /// Brings together what changed beside the tables of up to `count` slots, as far as nobody needs the tables any more. To be
    /// called now and then. The values that were replaced are `gone`.
    pub fn settle(&mut self, count: usize, mut gone: impl FnMut(Value)) {
        for _ in 0..count.min(self.unsettled.len()) {
            let Some(slot) = self.unsettled.pop_front() else { return };
            let page = Arc::get_mut(&mut self.pages[usize::from(slot) / SLOTS_PER_PAGE]);
            let settled = page.is_some_and(|page| page[usize::from(slot) % SLOTS_PER_PAGE].settle(&mut gone));
            if !settled {
                self.unsettled.push_back(slot);
            }
        }
    }

    /// Puts `content` where `slot` is; what was there.
    pub fn replace(&mut self, slot: SlotId, content: Slot) -> Slot {
        let page = Arc::make_mut(&mut self.pages[usize::from(slot) / SLOTS_PER_PAGE]);
        std::mem::replace(&mut page[usize::from(slot) % SLOTS_PER_PAGE], content)
    }

    /// Those from `slot` on, in ascending order.
    pub fn from(&self, slot: usize) -> impl Iterator<Item = &Slot> {
        let (page, rest) = (slot / SLOTS_PER_PAGE, slot % SLOTS_PER_PAGE);
        self.pages.iter().skip(page).flat_map(|page| page.iter()).skip(rest)
    }

    /// The first one from `slot` on that is not empty. Costs no look at slots that have never been changed.
    pub fn occupied(&self, slot: usize) -> Option<(SlotId, &Slot)> {
        let is_blank = |page: &Arc<Page>| self.blank.as_ref().is_some_and(|blank| Arc::ptr_eq(page, blank));
        let (first, mut skipped) = (slot / SLOTS_PER_PAGE, slot % SLOTS_PER_PAGE);
        for (page, number) in self.pages.get(first..)?.iter().zip(first..) {
            let skipped = std::mem::take(&mut skipped);
            if is_blank(page) {
                continue;
            }
            if let Some(place) = page[skipped..].iter().position(|held| !held.is_empty()) {
                let place = skipped + place;
                return Some(((number * SLOTS_PER_PAGE + place) as SlotId, &page[place]));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::{NEVER, Object};
    use crate::value::Value;

    fn insert(slots: &mut Slots, slot: SlotId) {
        let object = Object { value: Value::string(b"v"), expire_ms: NEVER, version: 1 };
        slots.get_mut(slot).insert(b"k"[..].into(), object);
    }

    #[test]
    fn a_copy_stays_as_it_is() {
        let mut slots = Slots::new(1);
        insert(&mut slots, 200);
        let copy = slots.clone();
        insert(&mut slots, 201);
        insert(&mut slots, SLOT_COUNT - 1);
        let full = |slots: &Slots| -> Vec<usize> {
            slots.from(0).enumerate().filter(|(_, slot)| !slot.is_empty()).map(|(i, _)| i).collect()
        };
        assert_eq!((full(&copy), full(&slots)), (vec![200], vec![200, 201, 16383]));
        let occupied = |slots: &Slots| -> Vec<SlotId> {
            let next = |id: &SlotId| slots.occupied(usize::from(*id) + 1).map(|(id, _)| id);
            std::iter::successors(slots.occupied(0).map(|(id, _)| id), next).collect()
        };
        assert_eq!((occupied(&copy), occupied(&slots)), (vec![200], vec![200, 201, 16383]));
        assert_eq!(occupied(&Slots::none()), []);
        assert_eq!(slots.occupied(202).map(|(id, _)| id), Some(16383));
        assert_eq!(slots.from(200).filter(|slot| !slot.is_empty()).count(), 3);
        assert_eq!(slots.from(201).filter(|slot| !slot.is_empty()).count(), 2);
    }
}
