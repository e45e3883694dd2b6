//! Trees against `BTreeMap`, with clones that must stay as they were.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Name = Box<[u8]>;
type Model = BTreeMap<Name, u32>;

fn name(n: u16) -> Name {
    format!("{n:05}").as_bytes().into()
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u16),
    /// Ascending or descending runs make and unmake many nodes at once.
    InsertRun(u16, u16),
    InsertRunDown(u16, u16),
    Change(u16),
    Remove(u16),
    RemoveAt(prop::sample::Index),
    RemoveRun(prop::sample::Index, usize),
    /// Keeps a clone, which must not change any more.
    Keep,
    Rebuild,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0u16..600;
    let run = 1u16..60;
    prop_oneof![
        6 => key.clone().prop_map(Op::Insert),
        2 => (key.clone(), run.clone()).prop_map(|(from, count)| Op::InsertRun(from, count)),
        1 => (key.clone(), run).prop_map(|(from, count)| Op::InsertRunDown(from, count)),
        3 => key.clone().prop_map(Op::Change),
        4 => key.prop_map(Op::Remove),
        4 => any::<prop::sample::Index>().prop_map(Op::RemoveAt),
        2 => (any::<prop::sample::Index>(), 1usize..80).prop_map(|(at, count)| Op::RemoveRun(at, count)),
        1 => Just(Op::Keep),
        1 => Just(Op::Rebuild),
    ]
}

fn insert(tree: &mut Tree<Name, u32>, model: &mut Model, key: u16, value: u32) {
    assert_eq!(tree.insert(name(key), value), model.insert(name(key), value));
}

fn remove_at(tree: &mut Tree<Name, u32>, model: &mut Model, position: usize) {
    let expected = model.iter().nth(position).map(|(key, value)| (key.clone(), *value));
    assert_eq!(tree.remove_at(position), expected);
    expected.map(|(key, _)| model.remove(&key));
}

fn apply(tree: &mut Tree<Name, u32>, model: &mut Model, step: u32, op: &Op) {
    match op {
        Op::Insert(key) => insert(tree, model, *key, step),
        Op::InsertRun(from, count) => (*from..from + count).for_each(|key| insert(tree, model, key, step)),
        Op::InsertRunDown(from, count) => {
            (*from..from + count).rev().for_each(|key| insert(tree, model, key, step));
        }
        Op::Change(key) => {
            let (here, there) = (tree.get_mut(&name(*key)[..]), model.get_mut(&name(*key)));
            assert_eq!(here, there);
            if let (Some(here), Some(there)) = (here, there) {
                (*here, *there) = (step, step);
            }
        }
        Op::Remove(key) => {
            assert_eq!(tree.remove(&name(*key)[..]), model.remove_entry(&name(*key)));
        }
        Op::RemoveAt(at) if model.is_empty() => assert_eq!(tree.remove_at(at.index(9)), None),
        Op::RemoveAt(at) => remove_at(tree, model, at.index(model.len())),
        Op::RemoveRun(at, count) => {
            let at = at.index(model.len() + 1);
            (0..*count).for_each(|_| remove_at(tree, model, at));
        }
        Op::Keep => {}
        Op::Rebuild => {
            let entries: Vec<(Name, u32)> = tree.iter().map(|(key, value)| (key.clone(), *value)).collect();
            *tree = Tree::from_sorted(entries).expect("keys in order");
        }
    }
}

fn compare(tree: &Tree<Name, u32>, model: &Model) {
    assert_eq!(tree.len(), model.len());
    assert_eq!(tree.is_empty(), model.is_empty());
    assert!(tree.iter().eq(model.iter()));
    assert!(tree.iter().rev().eq(model.iter().rev()));
    assert_eq!(tree.first(), model.first_key_value());
    assert_eq!(tree.last(), model.last_key_value());
}

/// Also what takes longer to compare.
fn compare_all(tree: &Tree<Name, u32>, model: &Model) {
    compare(tree, model);
    for (position, entry) in model.iter().enumerate() {
        assert_eq!(tree.at(position), Some(entry));
        assert_eq!(tree.rank(&entry.0[..]), Ok(position));
        assert_eq!(tree.get(&entry.0[..]), Some(entry.1));
        assert_eq!(tree.iter_from(position).next(), Some(entry));
        assert_eq!(tree.rev_from(position).next(), Some(entry));
        assert_eq!(tree.rev_from(position).len(), position + 1);
    }
    for absent in (0..700).map(name).filter(|key| !model.contains_key(key)) {
        assert_eq!(tree.get(&absent[..]), None);
        assert_eq!(tree.rank(&absent[..]), Err(model.range(..absent).count()));
    }
    assert_eq!(tree.at(model.len()), None);
    assert_eq!(tree.iter_from(model.len() + 1).next(), None);
}

/// The invariants of the module's head.
fn check(tree: &Tree<Name, u32>) {
    fn depth(node: &Node<Name, u32>, low: Option<&Name>, is_root: bool) -> usize {
        assert!(node.size() <= MAX && (is_root || node.size() > 0));
        match node {
            Node::Leaf(entries) => {
                assert!(entries.is_sorted_by(|(a, _), (b, _)| a < b));
                assert!(entries.iter().all(|(key, _)| low.is_none_or(|low| low <= key)));
                1
            }
            Node::Inner(children) => {
                assert!(!is_root || children.len() > 1);
                assert!(children.iter().all(|child| low.is_none_or(|low| *low <= child.low)));
                let last = |child: &Child<Name, u32>| {
                    let node = Tree { root: Arc::clone(&child.node), len: child.len };
                    assert_eq!(node.iter().count(), child.len);
                    node.last().map(|(key, _)| key.clone())
                };
                assert!(children.iter().zip(&children[1..]).all(|(a, b)| last(a) < Some(b.low.clone())));
                let depths: Vec<usize> =
                    children.iter().map(|child| depth(&child.node, Some(&child.low), false)).collect();
                assert!(depths.iter().all(|depth| *depth == depths[0]));
                depths[0] + 1
            }
        }
    }
    depth(&tree.root, None, true);
}

proptest! {
    #[test]
    fn behaves_as_a_map(ops in prop::collection::vec(op(), 1..120)) {
        let (mut tree, mut model) = (Tree::new(), Model::new());
        let mut kept = Vec::new();
        for (step, op) in (0..).zip(&ops) {
            if let Op::Keep = op {
                kept.push((tree.clone(), model.clone()));
            }
            apply(&mut tree, &mut model, step, op);
            compare(&tree, &model);
            check(&tree);
        }
        compare_all(&tree, &model);
        for (tree, model) in &kept {
            compare(tree, model);
            check(tree);
        }
    }

    #[test]
    fn both_ends_of_a_range_meet(len in 0u16..80, from in 0usize..90, to in 0usize..90, turns: u128) {
        let tree = Tree::from_sorted((0..len).map(|n| (n, n))).expect("in order");
        let mut expected = (0..len).skip(from).take(to.saturating_sub(from));
        let mut range = tree.range(from..to);
        for turn in 0..100 {
            prop_assert_eq!(range.len(), expected.len());
            let (here, there) = match turns >> turn & 1 {
                0 => (range.next(), expected.next()),
                _ => (range.next_back(), expected.next_back()),
            };
            prop_assert_eq!(here.map(|(n, _)| *n), there);
        }
    }
}

#[test]
fn keys_out_of_order_are_refused() {
    assert!(Tree::from_sorted([(1, ()), (2, ())]).is_some());
    assert!(Tree::from_sorted([(2, ()), (1, ())]).is_none());
    assert!(Tree::from_sorted([(1, ()), (1, ())]).is_none());
    assert_eq!(Tree::<u8, ()>::from_sorted([]).map(|tree| tree.len()), Some(0));
}

/// What the structure is for: a write after a clone copies a path, not the whole.
#[test]
fn a_change_after_a_clone_leaves_most_nodes_shared() {
    fn nodes(node: &Arc<Node<u32, u32>>, into: &mut Vec<*const Node<u32, u32>>) {
        into.push(Arc::as_ptr(node));
        if let Node::Inner(children) = &**node {
            children.iter().for_each(|child| nodes(&child.node, into));
        }
    }
    let mut tree = Tree::from_sorted((0..10_000).map(|n| (2 * n, 0))).expect("in order");
    let kept = tree.clone();
    tree.insert(7001, 1);
    tree.remove(&9000);
    *tree.get_mut(&12_000).expect("is there") = 1;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    nodes(&kept.root, &mut before);
    nodes(&tree.root, &mut after);
    let copied = after.iter().filter(|node| !before.contains(node)).count();
    assert!(copied <= 3 * 8, "{copied} of {} nodes copied", after.len());

    // And without a clone, nothing is copied at all.
    drop(kept);
    let mut again = Vec::new();
    *tree.get_mut(&12_000).expect("is there") = 2;
    nodes(&tree.root, &mut again);
    assert_eq!(after, again);
}

#[test]
fn ascending_keys_fill_their_nodes() {
    let mut tree = Tree::new();
    assert!((0..1000).all(|n| tree.insert(n, ()).is_none()));
    let Node::Inner(children) = &*tree.root else { panic!("a leaf") };
    let mut node = &children[0].node;
    while let Node::Inner(children) = &**node {
        assert_eq!(children.len(), MAX);
        node = &children[0].node;
    }
    assert_eq!(node.size(), MAX);
}
