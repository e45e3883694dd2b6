//! An ordered map that big collections are made of: persistent, and counted.
//!
//! *Persistent*: a clone costs one pointer, and a change after it copies the nodes on the path to it, no more. A
//! snapshot or a transaction's undo can therefore hold on to a collection of millions of elements while writes go
//! on. *Counted*: each element's position is known, so that ranks, ranges by rank and random picks take O(log n).
//!
//! It is a B+-tree: entries in leaves, and above them nodes that hold for each child a lower bound and the number of
//! entries below it. Invariants: keys ascend; no key of a child is below its `low`, and every key of the children
//! before it is; no node but the root is empty. Nodes may be less full than in the textbook: a removal joins a
//! sparse node with a neighbour only if both fit into one, which is simpler than evening them out and keeps any two
//! neighbours that removals have touched at more than half.
//!
//! The order of the entries depends on the keys alone. The shape of the nodes depends on history, and must never be
//! observable: replicas rebuild trees from snapshots.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// The most entries of a leaf, or children of a node above. Wide nodes are shallow and waste little on headers; the
/// price is what one write copies after a clone. Tests take narrow ones, so that few entries make deep trees.
const MAX: usize = if cfg!(test) { 6 } else { 64 };

/// A node with fewer is joined with a neighbour if it can be.
const SPARSE: usize = MAX / 3;

/// The fullest node that joining makes: the next insertions should not split it again.
const MAX_JOINED: usize = MAX * 3 / 4;

/// Nodes grow by so many places at a time: memory counts more here than a few copies.
const GROWTH: usize = MAX / 6;

/// An ordered map from `K` to `V`, each at a position from 0 to `len - 1`.
///
/// Methods that end in `_by` take a function that says how a key compares to what is sought, and that must agree
/// with the order of keys, as in [`slice::binary_search_by`]: composite keys are found without being built.
#[derive(Debug)]
pub struct Tree<K, V> {
    root: Arc<Node<K, V>>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Node<K, V> {
    Leaf(Vec<(K, V)>),
    Inner(Vec<Child<K, V>>),
}

#[derive(Clone, Debug)]
struct Child<K, V> {
    low: K,
    len: usize,
    node: Arc<Node<K, V>>,
}

/// What an insertion did to a node.
enum Inserted<K, V> {
    Replaced(V),
    Added,
    /// The node was full: its upper part is now here.
    Split(Child<K, V>),
}

impl<K, V> Clone for Tree<K, V> {
    fn clone(&self) -> Tree<K, V> {
        Tree { root: Arc::clone(&self.root), len: self.len }
    }
}

impl<K, V> Default for Tree<K, V> {
    fn default() -> Tree<K, V> {
        Tree { root: Arc::new(Node::Leaf(Vec::new())), len: 0 }
    }
}

impl<K, V> Tree<K, V> {
    /// A map without entries.
    pub fn new() -> Tree<K, V> {
        Tree::default()
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry at `position`.
    pub fn at(&self, position: usize) -> Option<(&K, &V)> {
        self.leaf_at(position).first().map(split)
    }

    /// The entry with the lowest key.
    pub fn first(&self) -> Option<(&K, &V)> {
        self.at(0)
    }

    /// The entry with the highest key.
    pub fn last(&self) -> Option<(&K, &V)> {
        self.at(self.len.checked_sub(1)?)
    }

    /// The value of `key`.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_by(|k| k.borrow().cmp(key)).map(|(_, value)| value)
    }

    /// The entry whose key `order` calls equal.
    pub fn get_by(&self, mut order: impl FnMut(&K) -> Ordering) -> Option<(&K, &V)> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let i = entries.binary_search_by(|(key, _)| order(key)).ok()?;
                    return entries.get(i).map(split);
                }
                Node::Inner(children) => node = &children[child_by(children, &mut order)].node,
            }
        }
    }

    /// The position of `key`, or else the one it would be inserted at.
    pub fn rank<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.rank_by(|k| k.borrow().cmp(key))
    }

    /// The position of the key that `order` calls equal, or else of the first that it calls greater.
    pub fn rank_by(&self, mut order: impl FnMut(&K) -> Ordering) -> Result<usize, usize> {
        let (mut node, mut before) = (&*self.root, 0);
        loop {
            match node {
                Node::Leaf(entries) => {
                    let found = entries.binary_search_by(|(key, _)| order(key));
                    return found.map(|i| before + i).map_err(|i| before + i);
                }
                Node::Inner(children) => {
                    let i = child_by(children, &mut order);
                    before += children[..i].iter().map(|child| child.len).sum::<usize>();
                    node = &children[i].node;
                }
            }
        }
    }

    /// The entries in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.range(0..self.len)
    }

    /// The entries from `position` on, upwards.
    pub fn iter_from(&self, position: usize) -> Iter<'_, K, V> {
        self.range(position..self.len)
    }

    /// The entries from `position` on, downwards.
    pub fn rev_from(&self, position: usize) -> std::iter::Rev<Iter<'_, K, V>> {
        self.range(0..position.saturating_add(1)).rev()
    }

    /// The entries at `positions`, as far as there are any.
    pub fn range(&self, positions: Range<usize>) -> Iter<'_, K, V> {
        let end = positions.end.min(self.len);
        Iter { tree: self, positions: positions.start.min(end)..end, front: &[], back: &[] }
    }

    /// What `position`'s leaf holds from there on; nothing past the end.
    fn leaf_at(&self, position: usize) -> &[(K, V)] {
        let (leaf, i) = self.leaf(position);
        &leaf[i.min(leaf.len())..]
    }

    /// What `position`'s leaf holds up to it.
    fn leaf_through(&self, position: usize) -> &[(K, V)] {
        let (leaf, i) = self.leaf(position);
        &leaf[..leaf.len().min(i + 1)]
    }

    /// The leaf of `position`, and its place in it.
    fn leaf(&self, position: usize) -> (&[(K, V)], usize) {
        let (mut node, mut i) = (&*self.root, position);
        loop {
            match node {
                Node::Leaf(entries) => return (entries, i),
                Node::Inner(children) => {
                    let child;
                    (child, i) = child_at(children, i);
                    node = &children[child].node;
                }
            }
        }
    }
}

impl<K: Ord + Clone, V: Clone> Tree<K, V> {
    /// The map of `entries`; `None` unless their keys ascend, each different from the one before.
    pub fn from_sorted(entries: impl IntoIterator<Item = (K, V)>) -> Option<Tree<K, V>> {
        let mut leaves: Vec<Vec<(K, V)>> = Vec::new();
        let mut len = 0;
        for (key, value) in entries {
            if let Some((last, _)) = leaves.last().and_then(|leaf| leaf.last())
                && *last >= key
            {
                return None;
            }
            len += 1;
            match leaves.last_mut() {
                Some(leaf) if leaf.len() < MAX => push(leaf, (key, value)),
                _ => leaves.push(vec![(key, value)]),
            }
        }
        let mut level: Vec<Child<K, V>> =
            leaves.into_iter().map(|leaf| Child::of(Node::Leaf(leaf))).collect();
        while level.len() > 1 {
            let mut children = level.into_iter().peekable();
            let mut above = Vec::new();
            while children.peek().is_some() {
                above.push(Child::of(Node::Inner(children.by_ref().take(MAX).collect())));
            }
            level = above;
        }
        let root = level.pop().map_or_else(|| Arc::new(Node::Leaf(Vec::new())), |child| child.node);
        Some(Tree { root, len })
    }

    /// The value of `key`, to change.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.get_mut_by(|k| k.borrow().cmp(key))
    }

    /// The value of the key that `order` calls equal, to change.
    pub fn get_mut_by(&mut self, mut order: impl FnMut(&K) -> Ordering) -> Option<&mut V> {
        // Nothing is copied for a key that is not there.
        self.get_by(&mut order)?;
        let mut node = Arc::make_mut(&mut self.root);
        loop {
            match node {
                Node::Leaf(entries) => {
                    let i = entries.binary_search_by(|(key, _)| order(key)).ok()?;
                    return entries.get_mut(i).map(|(_, value)| value);
                }
                Node::Inner(children) => {
                    let i = child_by(children, &mut order);
                    node = Arc::make_mut(&mut children[i].node);
                }
            }
        }
    }

    /// Puts `value` at `key`; the value that was there. (The key that was there stays.)
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match Arc::make_mut(&mut self.root).insert(key, value, true) {
            Inserted::Replaced(before) => return Some(before),
            Inserted::Added => {}
            Inserted::Split(upper) => {
                let empty = Arc::new(Node::Leaf(Vec::new()));
                let lower = Child::of_shared(std::mem::replace(&mut self.root, empty));
                self.root = Arc::new(Node::Inner(vec![lower, upper]));
            }
        }
        self.len += 1;
        None
    }

    /// Removes `key`; its entry if it was there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        self.remove_by(|k| k.borrow().cmp(key))
    }

    /// Removes the key that `order` calls equal; its entry if it was there.
    pub fn remove_by(&mut self, order: impl FnMut(&K) -> Ordering) -> Option<(K, V)> {
        self.remove_at(self.rank_by(order).ok()?)
    }

    /// Removes the entry at `position`.
    pub fn remove_at(&mut self, position: usize) -> Option<(K, V)> {
        if position >= self.len {
            return None;
        }
        let removed = Arc::make_mut(&mut self.root).remove(position);
        self.len -= 1;
        while let Node::Inner(children) = &*self.root
            && let [only] = &children[..]
        {
            self.root = Arc::clone(&only.node);
        }
        if self.len == 0 {
            *self = Tree::new();
        }
        Some(removed)
    }
}

impl<K: Ord + Clone, V: Clone> Node<K, V> {
    /// Entries or children.
    fn size(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(children) => children.len(),
        }
    }

    /// `last`: there is no node to its right. Full nodes are halved, but for the last one when it grows at its end:
    /// keys that come in ascending order make full nodes.
    fn insert(&mut self, key: K, value: V, last: bool) -> Inserted<K, V> {
        match self {
            Node::Leaf(entries) => match entries.binary_search_by(|(k, _)| k.cmp(&key)) {
                Ok(i) => Inserted::Replaced(std::mem::replace(&mut entries[i].1, value)),
                Err(i) => match insert_or_split(entries, i, (key, value), last) {
                    None => Inserted::Added,
                    Some(upper) => Inserted::Split(Child::of(Node::Leaf(upper))),
                },
            },
            Node::Inner(children) => {
                let i = child_by(children, |low| low.cmp(&key));
                let last = last && i + 1 == children.len();
                let child = &mut children[i];
                if key < child.low {
                    child.low = key.clone();
                }
                match Arc::make_mut(&mut child.node).insert(key, value, last) {
                    Inserted::Split(upper) => {
                        child.len = child.len + 1 - upper.len;
                        match insert_or_split(children, i + 1, upper, last) {
                            None => Inserted::Added,
                            Some(upper) => Inserted::Split(Child::of(Node::Inner(upper))),
                        }
                    }
                    Inserted::Added => {
                        child.len += 1;
                        Inserted::Added
                    }
                    replaced => replaced,
                }
            }
        }
    }

    /// Removes the entry at `position`, which is there.
    fn remove(&mut self, position: usize) -> (K, V) {
        match self {
            Node::Leaf(entries) => {
                let removed = entries.remove(position);
                entries.shrink_to(entries.len() + 2 * GROWTH);
                removed
            }
            Node::Inner(children) => {
                let (i, position) = child_at(children, position);
                let child = &mut children[i];
                child.len -= 1;
                let removed = Arc::make_mut(&mut child.node).remove(position);
                if child.len == 0 {
                    children.remove(i);
                } else if child.node.size() < SPARSE {
                    join_with_neighbour(children, i);
                }
                removed
            }
        }
    }
}

impl<K: Ord + Clone, V: Clone> Child<K, V> {
    fn of(node: Node<K, V>) -> Child<K, V> {
        Child::of_shared(Arc::new(node))
    }

    /// Of a node that is not empty.
    fn of_shared(node: Arc<Node<K, V>>) -> Child<K, V> {
        let (low, len) = match &*node {
            Node::Leaf(entries) => (entries[0].0.clone(), entries.len()),
            Node::Inner(children) => {
                (children[0].low.clone(), children.iter().map(|child| child.len).sum::<usize>())
            }
        };
        Child { low, len, node }
    }
}

/// The child that holds what `order` seeks, if any does.
fn child_by<K, V>(children: &[Child<K, V>], mut order: impl FnMut(&K) -> Ordering) -> usize {
    children.partition_point(|child| order(&child.low).is_le()).saturating_sub(1)
}

/// The child that holds `position`, and the position within it; the last child if it is past all of them.
fn child_at<K, V>(children: &[Child<K, V>], mut position: usize) -> (usize, usize) {
    let last = children.len() - 1;
    for (i, child) in children[..last].iter().enumerate() {
        if position < child.len {
            return (i, position);
        }
        position -= child.len;
    }
    (last, position)
}

/// Inserts `item` at `i`; the upper part, to be made a node of its own, if there was no room.
fn insert_or_split<T>(items: &mut Vec<T>, i: usize, item: T, last: bool) -> Option<Vec<T>> {
    if items.len() < MAX {
        reserve(items);
        items.insert(i, item);
        return None;
    }
    if last && i == MAX {
        return Some(vec![item]);
    }
    let mut upper = items.split_off(MAX / 2);
    items.shrink_to(MAX / 2 + GROWTH);
    let (part, i) = if i <= MAX / 2 { (items, i) } else { (&mut upper, i - MAX / 2) };
    reserve(part);
    part.insert(i, item);
    Some(upper)
}

/// Joins child `i` with the one before or behind it, if one node can hold both.
fn join_with_neighbour<K: Ord + Clone, V: Clone>(children: &mut Vec<Child<K, V>>, i: usize) {
    for left in [i.wrapping_sub(1), i] {
        let Some([a, b]) = children.get(left..).and_then(|rest| rest.first_chunk()) else { continue };
        if a.node.size() + b.node.size() > MAX_JOINED {
            continue;
        }
        let right = children.remove(left + 1);
        let child = &mut children[left];
        child.len += right.len;
        match (Arc::make_mut(&mut child.node), Arc::unwrap_or_clone(right.node)) {
            (Node::Leaf(entries), Node::Leaf(more)) => entries.extend(more),
            (Node::Inner(children), Node::Inner(more)) => children.extend(more),
            _ => unreachable!("the leaves of a tree are all equally deep"),
        }
        return;
    }
}

fn push<T>(items: &mut Vec<T>, item: T) {
    reserve(items);
    items.push(item);
}

fn reserve<T>(items: &mut Vec<T>) {
    if items.len() == items.capacity() {
        items.reserve_exact(GROWTH);
    }
}

fn split<K, V>((key, value): &(K, V)) -> (&K, &V) {
    (key, value)
}

/// Entries at successive positions, from both ends.
#[derive(Debug)]
pub struct Iter<'a, K, V> {
    tree: &'a Tree<K, V>,
    /// Yet to be given.
    positions: Range<usize>,
    /// What is left of the leaf at the start of `positions`.
    front: &'a [(K, V)],
    /// What is left of the leaf at the end of `positions`.
    back: &'a [(K, V)],
}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Iter { tree: self.tree, positions: self.positions.clone(), front: self.front, back: self.back }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        if self.positions.is_empty() {
            return None;
        }
        if self.front.is_empty() {
            self.front = self.tree.leaf_at(self.positions.start);
        }
        self.positions.start += 1;
        self.front.split_off_first().map(split)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.positions.size_hint()
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.positions.is_empty() {
            return None;
        }
        self.positions.end -= 1;
        if self.back.is_empty() {
            self.back = self.tree.leaf_through(self.positions.end);
        }
        self.back.split_off_last().map(split)
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}

#[cfg(test)]
mod tests;
