//! Lists against a model: a vector of elements.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Push { side: Side, element: Vec<u8>, times: usize },
    Insert { at: usize, element: Vec<u8> },
    Replace { at: usize, element: Vec<u8> },
    Remove { at: usize, count: usize },
    Pop { side: Side, count: usize },
    Clone,
    ThroughSnapshot,
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Left), Just(Side::Right)]
}

/// Mostly short; some larger than a chunk, some with a length that takes two bytes.
fn element() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..12),
        1 => prop::collection::vec(any::<u8>(), 50..300),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let at = any::<usize>();
    prop_oneof![
        6 => (side(), element(), 1usize..20).prop_map(|(side, element, times)| Op::Push { side, element, times }),
        6 => (at, element()).prop_map(|(at, element)| Op::Insert { at, element }),
        3 => (at, element()).prop_map(|(at, element)| Op::Replace { at, element }),
        4 => (at, 0usize..6).prop_map(|(at, count)| Op::Remove { at, count }),
        1 => (at, 0usize..400).prop_map(|(at, count)| Op::Remove { at, count }),
        3 => (side(), 0usize..12).prop_map(|(side, count)| Op::Pop { side, count }),
        1 => Just(Op::Clone),
        1 => Just(Op::ThroughSnapshot),
    ]
}

type Model = Vec<Vec<u8>>;

fn apply(list: &mut ListValue, model: &mut Model, clones: &mut Vec<(ListValue, Model)>, op: &Op) {
    match op {
        Op::Push { side, element, times } => (0..*times).for_each(|_| {
            list.push(*side, element);
            match side {
                Side::Left => model.insert(0, element.clone()),
                Side::Right => model.push(element.clone()),
            }
        }),
        Op::Insert { at, element } => {
            let at = at % (model.len() + 1);
            list.insert(at, element);
            model.insert(at, element.clone());
        }
        Op::Replace { at, element } => {
            let at = at % (model.len() + 1);
            assert_eq!(list.replace(at, element), at < model.len());
            if let Some(place) = model.get_mut(at) {
                *place = element.clone();
            }
        }
        Op::Remove { at, count } => {
            let at = at % (model.len() + 1);
            list.remove(at..at + count);
            model.drain(at..(at + count).min(model.len()));
        }
        Op::Pop { side, count } => {
            let range = list.end(*side, *count);
            assert_eq!(range.len(), (*count).min(model.len()));
            list.remove(range.clone());
            model.drain(range);
        }
        Op::Clone => clones.push((list.clone(), model.clone())),
        Op::ThroughSnapshot => {
            let mut bytes = BytesMut::new();
            list.put_snapshot(&mut bytes);
            let again = ListValue::take_snapshot(&mut bytes.clone().freeze()).expect("what was just written");
            assert_eq!(again.bytes(), list.bytes());
            *list = again;
        }
    }
}

fn compare(list: &ListValue, model: &Model) {
    list.0.check(true);
    assert!(list.iter().eq(model.iter().map(|element| &element[..])));
    assert_eq!((list.len(), list.is_empty()), (model.len(), model.is_empty()));
}

proptest! {
    #[test]
    fn behaves_as_the_model(
        ops in prop::collection::vec(op(), 1..120),
        ranges in prop::collection::vec((any::<usize>(), 0usize..300), 4),
    ) {
        let (mut list, mut model, mut clones) = (ListValue::new(), Model::new(), Vec::new());
        for op in &ops {
            apply(&mut list, &mut model, &mut clones, op);
            compare(&list, &model);
        }
        for (start, count) in ranges {
            let start = start % (model.len() + 2);
            let end = (start + count).min(model.len());
            let expected = model.get(start..end).unwrap_or_default();
            prop_assert!(list.range(start..start + count).eq(expected.iter().map(|e| &e[..])));
            prop_assert!(list.range_rev(start..start + count).eq(expected.iter().rev().map(|e| &e[..])));
            prop_assert_eq!(list.range(start..start + count).len(), expected.len());
            prop_assert_eq!(list.get(start), model.get(start).map(|e| &e[..]));
        }
        // What was cloned has not changed.
        clones.iter().for_each(|(list, model)| compare(list, model));
    }
}

#[test]
fn a_list_that_is_pushed_to_has_full_chunks() {
    const ELEMENTS: usize = 2000;
    for side in [Side::Left, Side::Right] {
        let mut list = ListValue::new();
        (0..ELEMENTS).for_each(|_| list.push(side, b"1234"));
        // Six to a chunk and four to a node: six levels hold 6 * 4^5.
        assert!(list.0.check(true) <= 6, "{side:?}");
    }
}

#[test]
fn what_is_removed_one_by_one_leaves_no_thin_rope() {
    let mut list: ListValue = (0..5000u32).map(|i| i.to_le_bytes()).collect();
    let mut at = 0;
    while list.len() > 50 {
        at = (at + 7) % list.len();
        list.remove(at..at + 1);
    }
    assert!(list.0.check(true) <= 4);
}

#[test]
fn a_snapshot_that_is_cut_short_is_refused() {
    let list: ListValue = ["a", "", "ccc"].into_iter().collect();
    let mut bytes = BytesMut::new();
    list.put_snapshot(&mut bytes);
    let take = |bytes: &[u8]| ListValue::take_snapshot(&mut Bytes::copy_from_slice(bytes));
    assert!(take(&bytes).is_some());
    assert!((0..bytes.len()).all(|cut| take(&bytes[..cut]).is_none()));
}
