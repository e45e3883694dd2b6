//! Elements in the order of their names' hashes: what big hashes, sets and sorted sets look names up in.
//!
//! Invariant: the order is a function of the names alone, whatever happened before, and so is the same on every
//! replica, after every snapshot, in every version of quoris: [`hash`] must never change. A position in it is as
//! random as the hash, and a hash is a cursor that no insertion or removal makes invalid.
//!
//! Clients can choose names whose hashes are equal. They find each other in one step of a scan, and that is all:
//! equal hashes are ordered by name.

use std::cmp::Ordering;
use std::sync::Arc;

use super::Tree;
use super::tree::Iter;

/// An element's name, shared by the structures that refer to it.
pub type Name = Arc<[u8]>;

/// A map from names to `V` in the order of the names' hashes.
#[derive(Clone, Debug)]
pub struct ByName<V> {
    tree: Tree<Key, V>,
}

impl<V> Default for ByName<V> {
    fn default() -> ByName<V> {
        ByName { tree: Tree::new() }
    }
}

/// Ordered by hash, then by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    hash: u64,
    name: Name,
}

impl Key {
    /// The name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    fn cmp_to(&self, hash: u64, name: &[u8]) -> Ordering {
        self.hash.cmp(&hash).then_with(|| self.name[..].cmp(name))
    }
}

impl<V: Clone> ByName<V> {
    /// A map without elements.
    pub fn new() -> ByName<V> {
        ByName::default()
    }

    /// The map of `elements`, which may be in any order; `None` if a name is there twice.
    pub fn from_unsorted(elements: impl IntoIterator<Item = (Name, V)>) -> Option<ByName<V>> {
        let key = |(name, value): (Name, V)| (Key { hash: hash(&name), name }, value);
        let mut elements: Vec<(Key, V)> = elements.into_iter().map(key).collect();
        elements.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Some(ByName { tree: Tree::from_sorted(elements)? })
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// The element called `name`, and its name to share.
    pub fn get(&self, name: &[u8]) -> Option<(&Name, &V)> {
        let hash = hash(name);
        self.tree.get_by(|key| key.cmp_to(hash, name)).map(shown)
    }

    /// The element called `name`, to change.
    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut V> {
        let hash = hash(name);
        self.tree.get_mut_by(|key| key.cmp_to(hash, name))
    }

    /// Puts `value` at `name`; the value that was there.
    pub fn insert(&mut self, name: Name, value: V) -> Option<V> {
        self.tree.insert(Key { hash: hash(&name), name }, value)
    }

    /// Removes the element called `name`; what it was.
    pub fn remove(&mut self, name: &[u8]) -> Option<(Name, V)> {
        let hash = hash(name);
        self.tree.remove_by(|key| key.cmp_to(hash, name)).map(|(key, value)| (key.name, value))
    }

    /// The element at `position`, from 0 to `len - 1`.
    pub fn at(&self, position: usize) -> Option<(&Name, &V)> {
        self.tree.at(position).map(shown)
    }

    /// The elements in order.
    pub fn iter(&self) -> Elements<'_, V> {
        Elements(self.tree.iter())
    }

    /// A step of a scan: elements from `cursor` on, `count` of them (or a few less or more, for those with equal hashes
    /// stay together), and the cursor to go on with, 0 past the last. The first step's cursor is 0. Elements that are
    /// there from the first step to the last are met exactly once.
    pub fn scan(&self, cursor: u64, count: usize) -> (u64, Elements<'_, V>) {
        let start = self.position_of(cursor);
        let next = self.tree.at(start.saturating_add(count)).map(|(key, _)| key.hash);
        let (next, end) = match next {
            // At least as many have the first one's hash as the step may answer: past all of them.
            Some(hash) if self.position_of(hash) == start => {
                let end = self.position_of(hash + 1);
                (self.tree.at(end).map(|(key, _)| key.hash), end)
            }
            Some(hash) => (Some(hash), self.position_of(hash)),
            None => (None, self.len()),
        };
        (next.unwrap_or(0), Elements(self.tree.range(start..end)))
    }

    /// The position of the first element whose hash is not below `hash`.
    fn position_of(&self, hash: u64) -> usize {
        let order = |key: &Key| if key.hash < hash { Ordering::Less } else { Ordering::Greater };
        self.tree.rank_by(order).unwrap_or_else(|position| position)
    }
}

fn shown<'a, V>((key, value): (&'a Key, &'a V)) -> (&'a Name, &'a V) {
    (&key.name, value)
}

/// Elements in order.
#[derive(Clone, Debug)]
pub struct Elements<'a, V>(Iter<'a, Key, V>);

impl<'a, V> Iterator for Elements<'a, V> {
    type Item = (&'a Name, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(shown)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<V> ExactSizeIterator for Elements<'_, V> {}

/// The bits of a hash. Some clients read cursors as floating point numbers, which hold so many.
pub const HASH_BITS: u32 = 53;

/// A name's place in the order. Part of what replicas agree on: it must never change.
pub fn hash(name: &[u8]) -> u64 {
    let (words, rest) = name.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let words = words.iter().chain([&last]).map(|word| u64::from_le_bytes(*word));
    words.fold(name.len() as u64, |hash, word| mix(hash ^ word)) >> (u64::BITS - HASH_BITS)
}

/// SplitMix64's step (see [`crate::rng`]): one-to-one, and every bit of its argument moves about half of the result's.
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A change here is a change of state on every replica.
    #[test]
    fn hashes_are_for_ever() {
        assert_eq!(hash(b""), 7_956_156_453_446_585);
        assert_eq!(hash(b"a"), 3_455_021_245_007_044);
        assert_eq!(hash(b"12345678"), 8_598_015_791_261_826);
        assert_eq!(hash(b"member:123456789"), 6_711_695_572_290_383);
    }

    #[test]
    fn hashes_differ_and_fit_a_float() {
        let mut hashes: Vec<u64> = (0..100_000u32).map(|n| hash(n.to_string().as_bytes())).collect();
        hashes.extend((0..1000).map(|len| hash(&vec![0; len])));
        assert!(hashes.iter().all(|hash| *hash as f64 as u64 == *hash));
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 101_000);
        // Evenly spread: each sixteenth of the range has its share.
        for part in 0..16 {
            let count = hashes.iter().filter(|hash| **hash >> (HASH_BITS - 4) == part).count();
            assert!((5800..6800).contains(&count), "{count} hashes begin with {part}");
        }
    }

    fn name(n: u16) -> Name {
        Name::from(n.to_string().as_bytes())
    }

    proptest! {
        #[test]
        fn behaves_as_a_map(ops in prop::collection::vec((0u16..50, any::<bool>()), 0..200)) {
            let (mut map, mut model) = (ByName::new(), BTreeMap::new());
            // Clones, which must not change any more.
            let mut kept = Vec::new();
            for (step, (n, put)) in ops.into_iter().enumerate() {
                if step % 16 == 0 {
                    kept.push((map.clone(), model.clone()));
                }
                match put {
                    true => prop_assert_eq!(map.insert(name(n), step), model.insert(name(n), step)),
                    false => prop_assert_eq!(map.remove(&name(n)), model.remove_entry(&name(n))),
                }
                prop_assert_eq!(map.len(), model.len());
            }
            prop_assert!((0..60).all(|n| map.get(&name(n)) == model.get_key_value(&name(n))));
            prop_assert!(map.iter().eq((0..map.len()).filter_map(|i| map.at(i))));
            let again = ByName::from_unsorted(model).expect("different names");
            prop_assert!(map.iter().eq(again.iter()));
            for (map, model) in kept {
                prop_assert_eq!(map.len(), model.len());
                prop_assert!(map.iter().all(|element| model.get_key_value(element.0) == Some(element)));
            }
        }

        /// Whatever comes and goes meanwhile, what stays is met once.
        #[test]
        fn a_scan_meets_what_stays_once(steps in prop::collection::vec((0usize..5, 0u16..300, any::<bool>()), 1..50)) {
            let mut map = ByName::from_unsorted((0..100).map(|n| (name(n), ()))).expect("different names");
            let mut stayed: Vec<Name> = (0..100).map(name).collect();
            let (mut met, mut cursor) = (Vec::new(), 0);
            for (count, n, put) in steps.iter().cycle() {
                let (next, elements) = map.scan(cursor, count + 1);
                prop_assert!(elements.len() <= count + 1);
                met.extend(elements.map(|(name, _)| name.clone()));
                cursor = next;
                if cursor == 0 {
                    break;
                }
                if *put {
                    map.insert(name(*n), ());
                } else {
                    map.remove(&name(*n));
                    stayed.retain(|stays| *stays != name(*n));
                }
            }
            for stays in stayed {
                prop_assert_eq!(met.iter().filter(|name| **name == stays).count(), 1);
            }
        }
    }

    #[test]
    fn a_scan_gets_past_equal_hashes() {
        let key = |hash, n| (Key { hash, name: name(n) }, ());
        let tree =
            Tree::from_sorted([key(0, 1), key(0, 2), key(0, 3), key(5, 4), key(5, 5), key(5, 6), key(9, 7)]);
        let map = ByName { tree: tree.expect("in order") };
        for count in 1..9 {
            let (mut met, mut cursor) = (0, 0);
            loop {
                let (next, elements) = map.scan(cursor, count);
                assert!(elements.len() > 0);
                met += elements.len();
                assert!(next == 0 || next > cursor);
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!(met, 7);
        }
        assert!(ByName::from_unsorted([(name(1), ()), (name(1), ())]).is_none());
    }
}
