//! A sorted map whose clones share its contents until one side changes them.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The map.
#[derive(Clone, Debug)]
pub(super) struct Ordered<K, V>(Arc<BTreeMap<K, V>>);

impl<K, V> Default for Ordered<K, V> {
    fn default() -> Ordered<K, V> {
        Ordered(Arc::default())
    }
}

impl<K: Ord + Clone, V: Clone> Ordered<K, V> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    pub(super) fn first(&self) -> Option<(&K, &V)> {
        self.0.first_key_value()
    }

    pub(super) fn last(&self) -> Option<(&K, &V)> {
        self.0.last_key_value()
    }

    /// What stood there before.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        Arc::make_mut(&mut self.0).insert(key, value)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        Arc::make_mut(&mut self.0).remove(key)
    }

    /// Everything from `start` on, in order.
    pub(super) fn iter_from(&self, start: K) -> impl Iterator<Item = (&K, &V)> {
        self.0.range(start..)
    }

    /// Everything up to `end`, from the last on.
    pub(super) fn iter_back_from(&self, end: K) -> impl Iterator<Item = (&K, &V)> {
        self.0.range(..=end).rev()
    }
}
