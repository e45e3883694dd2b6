//! All hash slots of a keyspace, in pages that are shared until they change: a copy costs a pointer for each page.
//!
//! A script that only reads runs on such a copy while the group goes on.

use std::sync::Arc;

use crate::hash_slot::{SLOT_COUNT, SlotId};
use crate::slot::Slot;

const SLOTS_PER_PAGE: usize = 128;

type Page = [Arc<Slot>; SLOTS_PER_PAGE];

/// The slots, or none at all ([`Slots::none`]).
#[derive(Clone)]
pub struct Slots {
    pages: Vec<Arc<Page>>,
    /// The page that stands wherever no slot has ever been changed.
    blank: Option<Arc<Page>>,
}

impl Slots {
    /// Empty slots. `hash_seed`: see [`Slot::new`].
    pub fn new(hash_seed: u64) -> Slots {
        let empty = Arc::new(Slot::new(hash_seed));
        let blank: Arc<Page> = Arc::new(std::array::from_fn(|_| Arc::clone(&empty)));
        let pages = vec![Arc::clone(&blank); usize::from(SLOT_COUNT) / SLOTS_PER_PAGE];
        Slots { pages, blank: Some(blank) }
    }

    /// No slots, which must not be asked for one.
    pub fn none() -> Slots {
        Slots { pages: Vec::new(), blank: None }
    }

    /// A slot.
    pub fn get(&self, slot: SlotId) -> &Arc<Slot> {
        &self.pages[usize::from(slot) / SLOTS_PER_PAGE][usize::from(slot) % SLOTS_PER_PAGE]
    }

    /// A slot to change. What shares it keeps what it had.
    pub fn get_mut(&mut self, slot: SlotId) -> &mut Slot {
        let page = Arc::make_mut(&mut self.pages[usize::from(slot) / SLOTS_PER_PAGE]);
        Arc::make_mut(&mut page[usize::from(slot) % SLOTS_PER_PAGE])
    }

    /// Puts `content` where `slot` is; what was there.
    pub fn replace(&mut self, slot: SlotId, content: Arc<Slot>) -> Arc<Slot> {
        let page = Arc::make_mut(&mut self.pages[usize::from(slot) / SLOTS_PER_PAGE]);
        std::mem::replace(&mut page[usize::from(slot) % SLOTS_PER_PAGE], content)
    }

    /// Those from `slot` on, in ascending order.
    pub fn from(&self, slot: usize) -> impl Iterator<Item = &Arc<Slot>> {
        let (page, rest) = (slot / SLOTS_PER_PAGE, slot % SLOTS_PER_PAGE);
        self.pages.iter().skip(page).flat_map(|page| page.iter()).skip(rest)
    }

    /// Those that are not empty, in ascending order. Costs no look at slots that have never been changed.
    pub fn occupied(&self) -> impl Iterator<Item = (SlotId, &Arc<Slot>)> {
        let is_blank = |page: &Arc<Page>| self.blank.as_ref().is_some_and(|blank| Arc::ptr_eq(page, blank));
        let ids = (0..SLOT_COUNT).step_by(SLOTS_PER_PAGE);
        let changed = ids.zip(&self.pages).filter(move |(_, page)| !is_blank(page));
        changed.flat_map(|(id, page)| (id..).zip(page.iter())).filter(|(_, slot)| !slot.is_empty())
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
        let occupied = |slots: &Slots| -> Vec<SlotId> { slots.occupied().map(|(id, _)| id).collect() };
        assert_eq!((occupied(&copy), occupied(&slots)), (vec![200], vec![200, 201, 16383]));
        assert_eq!(occupied(&Slots::none()), []);
        assert_eq!(slots.from(200).filter(|slot| !slot.is_empty()).count(), 3);
        assert_eq!(slots.from(201).filter(|slot| !slot.is_empty()).count(), 2);
    }
}
