//! The tree over a list's chunks.
//!
//! Invariants: all chunks are equally deep; no node but the root is empty; a child's `len` and `bytes` are those of
//! its node. A removal joins a node with a neighbour if one node can hold both with room left, which keeps the number of
//! nodes in proportion to the elements.

use std::ops::Range;
use std::sync::Arc;

use super::chunk::{Chunk, fit_together};

/// The most children of a node.
const MAX_CHILDREN: usize = if cfg!(test) { 4 } else { 32 };

#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Chunk),
    Inner(Vec<Child>),
}

#[derive(Clone, Debug)]
pub(super) struct Child {
    /// How many elements.
    len: usize,
    /// What its chunks hold, in bytes.
    bytes: usize,
    node: Arc<Node>,
}

impl Default for Node {
    fn default() -> Node {
        Node::Leaf(Chunk::default())
    }
}

impl Child {
    fn of(node: Arc<Node>) -> Child {
        Child { len: node.len(), bytes: node.bytes(), node }
    }

    /// Its node has changed.
    fn measure(&mut self) {
        (self.len, self.bytes) = (self.node.len(), self.node.bytes());
    }
}

impl Node {
    pub(super) fn len(&self) -> usize {
        match self {
            Node::Leaf(chunk) => chunk.len(),
            Node::Inner(children) => children.iter().map(|child| child.len).sum(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Node::Leaf(chunk) => chunk.bytes(),
            Node::Inner(children) => children.iter().map(|child| child.bytes).sum(),
        }
    }

    pub(super) fn get(&self, mut index: usize) -> Option<&[u8]> {
        let mut node = self;
        loop {
            match node {
                Node::Leaf(chunk) => return chunk.get(index),
                Node::Inner(children) => {
                    let (child, within) = child_at(children, index)?;
                    (node, index) = (&children[child].node, within);
                }
            }
        }
    }
}

/// The child that holds `index`, and the index within it; `None` past the end.
fn child_at(children: &[Child], mut index: usize) -> Option<(usize, usize)> {
    for (i, child) in children.iter().enumerate() {
        if index < child.len {
            return Some((i, index));
        }
        index -= child.len;
    }
    None
}

/// Inserts `element` before the one at `index`, which is at most the length.
pub(super) fn insert(root: &mut Arc<Node>, index: usize, element: &[u8]) {
    if let Some(upper) = insert_below(root, index, element) {
        let lower = std::mem::take(root);
        *root = Arc::new(Node::Inner(vec![Child::of(lower), upper]));
    }
}

/// The upper part of a node that was too full.
fn insert_below(node: &mut Arc<Node>, index: usize, element: &[u8]) -> Option<Child> {
    match Arc::make_mut(node) {
        Node::Leaf(chunk) => chunk.insert(index, element).map(|upper| Child::of(Arc::new(Node::Leaf(upper)))),
        Node::Inner(children) => {
            // Between two children, what is inserted goes to the end of the first.
            let (i, within) = match index.checked_sub(1) {
                None => (0, 0),
                Some(before) => {
                    let (i, within) = child_at(children, before)?;
                    (i, within + 1)
                }
            };
            let upper = insert_below(&mut children[i].node, within, element);
            children[i].measure();
            add_child(children, i + 1, upper?)
        }
    }
}

/// The upper part of `children`, as a node of its own, if they were full. As with chunks, a node that has grown at
/// an end is cut there.
fn add_child(children: &mut Vec<Child>, place: usize, child: Child) -> Option<Child> {
    children.insert(place, child);
    if children.len() <= MAX_CHILDREN {
        return None;
    }
    let cut = match place {
        1 => 1,
        MAX_CHILDREN => MAX_CHILDREN,
        _ => children.len() / 2,
    };
    Some(Child::of(Arc::new(Node::Inner(children.split_off(cut)))))
}

/// Removes the elements at `range`, all of which are there.
pub(super) fn remove(root: &mut Arc<Node>, range: Range<usize>) {
    if range.len() == root.len() {
        *root = Arc::default();
        return;
    }
    remove_below(root, range);
    while let Node::Inner(children) = &**root
        && let [only] = &children[..]
    {
        *root = Arc::clone(&only.node);
    }
}

/// Leaves at least one element.
fn remove_below(node: &mut Arc<Node>, range: Range<usize>) {
    let children = match Arc::make_mut(node) {
        Node::Leaf(chunk) => return chunk.remove(range),
        Node::Inner(children) => children,
    };
    let mut start = 0;
    children.retain_mut(|child| {
        let clip = |index: usize| index.clamp(start, start + child.len) - start;
        let part = clip(range.start)..clip(range.end);
        start += child.len;
        let stays = part.len() < child.len;
        if stays && !part.is_empty() {
            remove_below(&mut child.node, part);
            child.measure();
        }
        stays
    });
    // What is left of the children that were cut into stands around the gap.
    let seam = child_at(children, range.start).map_or(children.len() - 1, |(i, _)| i);
    join_if_sparse(children, seam);
    join_if_sparse(children, seam.saturating_sub(1));
}

/// Joins child `left` with the next one, if one node can hold both with room left.
fn join_if_sparse(children: &mut Vec<Child>, left: usize) {
    let Some([a, b]) = children.get(left..).and_then(|rest| rest.first_chunk()) else { return };
    let sparse = match (&*a.node, &*b.node) {
        (Node::Leaf(_), _) => fit_together(a.len + b.len, a.bytes + b.bytes),
        (Node::Inner(a), Node::Inner(b)) => a.len() + b.len() <= MAX_CHILDREN * 3 / 4,
        _ => false,
    };
    if !sparse {
        return;
    }
    let right = children.remove(left + 1);
    let child = &mut children[left];
    match (Arc::make_mut(&mut child.node), &*right.node) {
        (Node::Leaf(chunk), Node::Leaf(more)) => chunk.append(more),
        (Node::Inner(children), Node::Inner(more)) => children.extend_from_slice(more),
        _ => unreachable!("the chunks of a rope are all equally deep"),
    }
    child.measure();
}

/// A list's elements, one after the other in either direction.
#[derive(Debug)]
pub struct Iter<'a> {
    /// For each node on the way down, the children that are yet to be visited.
    above: Vec<std::slice::Iter<'a, Child>>,
    /// What is left of the chunk in hand, the next element last.
    elements: Vec<&'a [u8]>,
    /// How many elements are yet to come.
    left: usize,
    descending: bool,
}

impl<'a> Iter<'a> {
    pub(super) fn ascending(root: &'a Node, range: Range<usize>) -> Iter<'a> {
        Iter::start(root, range.start, range, false)
    }

    pub(super) fn descending(root: &'a Node, range: Range<usize>) -> Iter<'a> {
        let skipped = root.len().saturating_sub(range.end);
        Iter::start(root, skipped, range, true)
    }

    /// `skip`: how many elements to pass over, in the direction of the walk.
    fn start(root: &'a Node, mut skip: usize, range: Range<usize>, descending: bool) -> Iter<'a> {
        let left = range.end.min(root.len()).saturating_sub(range.start);
        let mut iter = Iter { above: Vec::new(), elements: Vec::new(), left, descending };
        if left == 0 {
            return iter;
        }
        let mut node = root;
        while let Node::Inner(children) = node {
            let mut rest = children.iter();
            while let Some(child) = step(&mut rest, descending) {
                if skip < child.len {
                    node = &child.node;
                    break;
                }
                skip -= child.len;
            }
            iter.above.push(rest);
        }
        iter.load(node);
        iter.elements.truncate(iter.elements.len() - skip);
        iter
    }

    fn load(&mut self, mut node: &'a Node) {
        loop {
            match node {
                Node::Leaf(chunk) => {
                    self.elements.extend(chunk.iter());
                    if !self.descending {
                        self.elements.reverse();
                    }
                    return;
                }
                Node::Inner(children) => {
                    let mut rest = children.iter();
                    let Some(first) = step(&mut rest, self.descending) else { return };
                    self.above.push(rest);
                    node = &first.node;
                }
            }
        }
    }
}

fn step<'a>(children: &mut std::slice::Iter<'a, Child>, descending: bool) -> Option<&'a Child> {
    if descending { children.next_back() } else { children.next() }
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        while self.elements.is_empty() {
            match step(self.above.last_mut()?, self.descending) {
                Some(child) => self.load(&child.node),
                None => drop(self.above.pop()),
            }
        }
        self.elements.pop()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
impl Node {
    /// What the module promises; the depth.
    pub(super) fn check(&self, root: bool) -> usize {
        match self {
            Node::Leaf(chunk) => {
                assert!(root || chunk.len() > 0);
                assert_eq!(chunk.iter().count(), chunk.len());
                1
            }
            Node::Inner(children) => {
                assert!(children.len() <= MAX_CHILDREN && children.len() > usize::from(root));
                let depths = children.iter().map(|child| {
                    assert_eq!((child.len, child.bytes), (child.node.len(), child.node.bytes()));
                    child.node.check(false)
                });
                let depths: Vec<usize> = depths.collect();
                assert!(depths.iter().all(|depth| *depth == depths[0]));
                depths[0] + 1
            }
        }
    }
}
