//! When keys were last made, told apart by a hash of their names: the version of a key that is absent.
//!
//! Who watches an absent key must learn that it was made, also if it is gone again by the time of EXEC (as in Redis). Noting
//! every key that ever was would take memory without bound, so keys share [`PLACES`] places. Two that share one are
//! taken for each other: an EXEC is then refused that Redis would run, which its client tries again; none is run that Redis would
//! refuse. Places are part of the state, hence of snapshots, and must come out alike in every build: the hash is CRC-32.

use std::sync::Arc;

/// A thousandth of the transactions that wait a millisecond meet another key's birth at 16,000 new keys a second.
const PLACES: usize = 16 * 1024;

/// When keys of each place were last made. Nothing until there was one.
#[derive(Clone, Debug, Default)]
pub struct Births(Option<Arc<Noted>>);

#[derive(Clone, Debug)]
struct Noted {
    /// For each place, the index of the last entry that made a key of it; 0 if none has.
    last: [u64; PLACES],
    /// A bit for each place that has one: a snapshot of few keys need not look at all places.
    some: [u64; PLACES / 64],
}

impl Noted {
    fn set(&mut self, place: usize, index: u64) -> u64 {
        let bit = 1 << (place % 64);
        match index {
            0 => self.some[place / 64] &= !bit,
            _ => self.some[place / 64] |= bit,
        }
        std::mem::replace(&mut self.last[place], index)
    }

    fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let words = (0..).step_by(64).zip(self.some);
        let places = words.flat_map(|(first, word)| Bits(word).map(move |bit| first + bit));
        places.map(|place| (place, self.last[place as usize]))
    }
}

/// The places of the bits that are set, ascending.
struct Bits(u64);

impl Iterator for Bits {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let bit = (self.0 != 0).then(|| self.0.trailing_zeros())?;
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

impl Births {
    /// When a key of `key`'s place was last made: the index of an entry, 0 if never.
    pub fn last(&self, key: &[u8]) -> u64 {
        self.0.as_ref().map_or(0, |noted| noted.last[place(key)])
    }

    /// Notes that entry `index` has made `key`; what was noted before, which [`Births::take_back`] puts back.
    pub fn note(&mut self, key: &[u8], index: u64) -> Birth {
        let place = place(key);
        let before = self.noted().set(place, index);
        Birth { place, before }
    }

    /// Undoes the latest [`Births::note`] that has not been undone.
    pub fn take_back(&mut self, birth: Birth) {
        self.noted().set(birth.place, birth.before);
    }

    /// The places that have a birth, ascending, and when.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.0.iter().flat_map(|noted| noted.iter())
    }

    /// What [`Births::iter`] gave, as two lists of one length; `None` if it cannot have.
    pub fn restored(places: &[u32], indexes: &[u64]) -> Option<Births> {
        let mut births = Births::default();
        if places.len() != indexes.len() || !places.is_sorted_by(|one, next| one < next) {
            return None;
        }
        for (place, index) in places.iter().zip(indexes) {
            let place = usize::try_from(*place).ok().filter(|place| *place < PLACES)?;
            births.noted().set(place, *index);
        }
        Some(births)
    }

    fn noted(&mut self) -> &mut Noted {
        let none = || Arc::new(Noted { last: [0; PLACES], some: [0; PLACES / 64] });
        Arc::make_mut(self.0.get_or_insert_with(none))
    }
}

/// A note that can be undone.
pub struct Birth {
    place: usize,
    before: u64,
}

fn place(key: &[u8]) -> usize {
    crc32fast::hash(key) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn births_are_noted_undone_and_restored() {
        let mut births = Births::default();
        assert_eq!(births.last(b"k"), 0);
        births.note(b"k", 3);
        births.note(b"l", 4);
        let shared = births.clone();
        let birth = births.note(b"k", 5);
        assert_eq!((births.last(b"k"), births.last(b"l"), shared.last(b"k")), (5, 4, 3));
        births.take_back(birth);
        assert_eq!(births.last(b"k"), 3);
        let first = births.note(b"m", 6);
        births.take_back(first);
        assert_eq!(births.iter().map(|(_, index)| index).sum::<u64>(), 7, "and nothing of m");
        let (places, indexes): (Vec<u32>, Vec<u64>) = births.iter().unzip();
        let again = Births::restored(&places, &indexes).expect("they are what it gave");
        assert!(again.iter().eq(births.iter()));
        assert!(Births::restored(&[PLACES as u32], &[1]).is_none());
        assert!(Births::restored(&[1, 1], &[1, 2]).is_none());
        assert!(Births::restored(&[1], &[]).is_none());
    }

    /// A place that moved with a build would make replicas of two builds differ.
    #[test]
    fn places_are_the_same_for_ever() {
        assert_eq!([place(b""), place(b"a"), place(b"key:1")], [0, 15939, 15340]);
    }
}
