//! What has changed of a slot since its table came to be shared.

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};

use super::table::Table;
use super::{Held, Object};

/// What stands where the table, which stays as it is, has something else.
///
/// Below [`Changes::len`], each place has what is here, or else what the table has. So a key is where this says, or else where the
/// table says, if that is a place that still has what the table has.
#[derive(Clone, Debug)]
pub struct Changes {
    by_place: HashMap<u32, Held, FixedState>,
    /// The places of these keys, by the table's hash of them.
    places: HashTable<u32>,
    len: usize,
}

impl Changes {
    /// None yet.
    pub fn of(table: &Table) -> Changes {
        Changes { by_place: HashMap::default(), places: HashTable::new(), len: table.len() }
    }

    /// How many keys there are in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// How many places differ.
    pub fn count(&self) -> usize {
        self.by_place.len()
    }

    pub fn at<'a>(&'a self, table: &'a Table, place: usize) -> Option<&'a Held> {
        match self.by_place.get(&(place as u32)) {
            None if place < self.len => table.at(place),
            held => held,
        }
    }

    pub fn place(&self, table: &Table, key: &[u8]) -> Option<usize> {
        let here = |place: &u32| *self.by_place[place].key == *key;
        match self.places.find(table.hash(key), here) {
            Some(&place) => Some(place as usize),
            None => table
                .place(key)
                .filter(|place| *place < self.len && !self.by_place.contains_key(&(*place as u32))),
        }
    }

    pub fn at_mut(&mut self, table: &Table, place: usize) -> &mut Object {
        if !self.by_place.contains_key(&(place as u32)) {
            let held = table.at(place).expect("a place that has not changed is the table's").clone();
            self.put(table, place, held);
        }
        let held = self.by_place.get_mut(&(place as u32));
        &mut held.expect("it has just been put there").object
    }

    /// Adds a key that is not here.
    pub fn push(&mut self, table: &Table, held: Held) {
        self.put(table, self.len, held);
        self.len += 1;
    }

    /// Removes what stands at `place`, which the last one takes.
    pub fn take(&mut self, table: &Table, place: usize) -> Held {
        let taken = self.lift(table, place);
        let last = self.len - 1;
        if place < last {
            let moved = self.lift(table, last);
            self.put(table, place, moved);
        }
        self.len = last;
        taken
    }

    /// Has two exchange their places.
    pub fn swap(&mut self, table: &Table, one: usize, other: usize) {
        let (first, second) = (self.lift(table, one), self.lift(table, other));
        self.put(table, one, second);
        self.put(table, other, first);
    }

    /// For [`Table::take_over`].
    pub fn into_parts(self) -> (usize, Vec<(usize, Held)>) {
        let mut changed: Vec<_> =
            self.by_place.into_iter().map(|(place, held)| (place as usize, held)).collect();
        changed.sort_unstable_by_key(|(place, _)| *place);
        (self.len, changed)
    }

    /// Puts `held` where nothing is that differs.
    fn put(&mut self, table: &Table, place: usize, held: Held) {
        let place = u32::try_from(place).expect("fewer than 2^32 keys to a slot");
        let hash = table.hash(&held.key);
        self.by_place.insert(place, held);
        let by_place = &self.by_place;
        self.places.insert_unique(hash, place, |place| table.hash(&by_place[place].key));
    }

    /// What stands at `place`, where something else is to come, or nothing.
    fn lift(&mut self, table: &Table, place: usize) -> Held {
        let Some(held) = self.by_place.remove(&(place as u32)) else {
            return table.at(place).expect("a place that has not changed is the table's").clone();
        };
        let found = self.places.find_entry(table.hash(&held.key), |other| *other as usize == place);
        found.expect("every key is in the index").remove();
        held
    }
}
