//! The keys of a slot in memory: an array of them, and an index over it.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::{Held, Object};
use crate::value::Value;

/// The array grows by this part of its length.
const GROWTH: usize = 8;

/// So many places are kept free when keys go.
const SPARE: usize = 8;

/// Keys with their objects in order, and an index over them that holds places alone: with a thousand slots to a gigabyte of short
/// values, what a key costs besides its name and value is most of the memory there is to save.
#[derive(Clone, Debug)]
pub struct Table {
    entries: Vec<Held>,
    places: HashTable<u32>,
    hasher: FixedState,
}

impl Table {
    pub fn new(hash_seed: u64) -> Table {
        Table { entries: Vec::new(), places: HashTable::new(), hasher: FixedState::with_seed(hash_seed) }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn at(&self, place: usize) -> Option<&Held> {
        self.entries.get(place)
    }

    pub fn at_mut(&mut self, place: usize) -> &mut Object {
        &mut self.entries[place].object
    }

    /// The hash by which `key` is found.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Where `key` stands.
    pub fn place(&self, key: &[u8]) -> Option<usize> {
        let here = |&place: &u32| *self.entries[place as usize].key == *key;
        self.places.find(self.hash(key), here).map(|&place| place as usize)
    }

    /// Where `key` stands if it is here, without a look at it.
    pub fn likely_place(&self, key: &[u8]) -> Option<usize> {
        self.places.find(self.hash(key), |_| true).map(|&place| place as usize)
    }

    /// Adds a key that is not here.
    pub fn push(&mut self, held: Held) {
        self.index(&held.key, self.entries.len());
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(1 + self.entries.len() / GROWTH);
        }
        self.entries.push(held);
    }

    /// Removes what stands at `place`, which the last one takes.
    pub fn take(&mut self, place: usize) -> Held {
        self.unindex(place);
        let last = self.entries.len() - 1;
        if place < last {
            self.reindex(last, last as u32, place as u32);
        }
        let taken = self.entries.swap_remove(place);
        self.give_back_room();
        taken
    }

    /// Has two exchange their places.
    pub fn swap(&mut self, one: usize, other: usize) {
        const BETWEEN: u32 = u32::MAX;
        self.reindex(one, one as u32, BETWEEN);
        self.reindex(other, other as u32, one as u32);
        self.reindex(one, BETWEEN, other as u32);
        self.entries.swap(one, other);
    }

    /// Becomes `len` long, with `changed` at their places, which are in ascending order; each place that is new is among them.
    /// The values that were there are `gone`.
    pub fn take_over(&mut self, len: usize, changed: Vec<(usize, Held)>, mut gone: impl FnMut(Value)) {
        // Whoever goes leaves the index before anybody comes: a key may only have moved.
        let is_other =
            |(place, held): &&(usize, Held)| self.at(*place).is_some_and(|old| *old.key != *held.key);
        let replaced: Vec<usize> = changed.iter().filter(is_other).map(|(place, _)| *place).collect();
        replaced.iter().copied().chain(len..self.len()).for_each(|place| self.unindex(place));
        if len < self.len() {
            self.entries.drain(len..).for_each(|held| gone(held.object.value));
        }
        let mut replaced = replaced.into_iter().peekable();
        for (place, held) in changed {
            if place == self.entries.len() {
                self.push(held);
                continue;
            }
            if replaced.next_if_eq(&place).is_some() {
                self.index(&held.key, place);
            }
            gone(std::mem::replace(&mut self.entries[place], held).object.value);
        }
        self.give_back_room();
    }

    /// Enters `key` at `place`, where it need not stand yet.
    fn index(&mut self, key: &[u8], place: usize) {
        let place = u32::try_from(place).expect("fewer than 2^32 keys to a slot");
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash_at = |&place: &u32| hasher.hash_one(&*entries[place as usize].key);
        self.places.insert_unique(hasher.hash_one(key), place, hash_at);
    }

    fn unindex(&mut self, place: usize) {
        let hash = self.hash(&self.entries[place].key);
        let found = self.places.find_entry(hash, |&other| other == place as u32);
        found.expect("every key is in the index").remove();
    }

    /// The key that stands at `place`, and in the index at `from`, comes to `to` there.
    fn reindex(&mut self, place: usize, from: u32, to: u32) {
        let hash = self.hash(&self.entries[place].key);
        *self.places.find_mut(hash, |&other| other == from).expect("every key is in the index") = to;
    }

    fn give_back_room(&mut self) {
        if self.entries.capacity() > SPARE + 2 * self.entries.len() {
            self.entries.shrink_to(self.entries.len() + SPARE);
            let (entries, hasher) = (&self.entries, &self.hasher);
            self.places.shrink_to(0, |&place| hasher.hash_one(&*entries[place as usize].key));
        }
    }
}
