//! Sets against a model.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Add(Vec<u8>),
    AddMany(i64),
    Remove(Vec<u8>),
    RemoveAt(usize),
    Clone,
    ThroughSnapshot,
}

/// Few, so that they meet; of all widths; seldom such that are no integers.
fn member() -> impl Strategy<Value = Vec<u8>> {
    let of = |n: i64| n.to_string().into_bytes();
    prop_oneof![
        20 => (-20i64..20).prop_map(of),
        4 => (-4i64..4).prop_map(move |n| of(n * 10_000)),
        2 => (-4i64..4).prop_map(move |n| of(n * 1_000_000_000)),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX)].prop_map(of),
        1 => prop_oneof![Just("01"), Just("-0"), Just(""), Just("+1"), Just("name")]
            .prop_map(|text: &str| text.as_bytes().to_vec()),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => member().prop_map(Op::Add),
        1 => (0i64..1000).prop_map(Op::AddMany),
        8 => member().prop_map(Op::Remove),
        4 => any::<usize>().prop_map(Op::RemoveAt),
        1 => Just(Op::Clone),
        2 => Just(Op::ThroughSnapshot),
    ]
}

type Model = BTreeSet<Vec<u8>>;

fn through_snapshot(set: &SetValue) -> SetValue {
    let mut bytes = BytesMut::new();
    set.put_snapshot(&mut bytes);
    let again = SetValue::take_snapshot(&mut bytes.clone().freeze()).expect("what was just written");
    assert_eq!(again.bytes(), set.bytes());
    assert!(again.iter().eq(set.iter()), "order is a function of the members");
    again
}

fn apply(set: &mut SetValue, model: &mut Model, clones: &mut Vec<(SetValue, Model)>, op: &Op) {
    match op {
        Op::Add(member) => assert_eq!(set.add(member, &Bounds::default()), model.insert(member.clone())),
        Op::AddMany(first) => (*first..*first + 200).for_each(|n| {
            let member = n.to_string().into_bytes();
            assert_eq!(set.add(&member, &Bounds::default()), model.insert(member));
        }),
        Op::Remove(member) => assert_eq!(set.remove(member), model.remove(member)),
        Op::RemoveAt(position) => {
            let member = set.at(position % (set.len() + 1)).map(Cow::into_owned);
            assert_eq!(member.is_some(), position % (set.len() + 1) < model.len());
            if let Some(member) = member {
                assert!(set.remove(&member) && model.remove(&member));
            }
        }
        Op::Clone => clones.push((set.clone(), model.clone())),
        Op::ThroughSnapshot => *set = through_snapshot(set),
    }
}

fn compare(set: &SetValue, model: &Model) {
    let members: Vec<Member> = set.iter().collect();
    assert_eq!(members.iter().map(|member| member.to_vec()).collect::<Model>(), *model);
    assert_eq!((members.len(), set.len(), set.is_empty()), (model.len(), model.len(), model.is_empty()));
    assert!((0..=set.len()).filter_map(|i| set.at(i)).eq(members));
    assert!(model.iter().all(|member| set.contains(member)));
    assert!(!set.contains(b"absent") && !set.contains(b"77777"));
    let (mut scanned, mut cursor) = (Model::new(), 0);
    loop {
        let (next, met) = set.scan(cursor, 10);
        scanned.extend(met.into_iter().map(Cow::into_owned));
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(scanned, *model);
}

proptest! {
    #[test]
    fn behaves_as_the_model(ops in prop::collection::vec(op(), 1..120)) {
        let (mut set, mut model, mut clones) = (SetValue::new(), Model::new(), Vec::new());
        for op in &ops {
            apply(&mut set, &mut model, &mut clones, op);
            compare(&set, &model);
        }
        clones.iter().for_each(|(set, model)| compare(set, model));
    }
}

#[test]
fn integers_become_names_at_the_limits() {
    let most = Bounds::default().set_integers;
    let mut set = SetValue::of((0..most).map(|n| n.to_string()), &Bounds::default());
    assert_eq!(set.encoding(), "intset");
    assert!(!set.add(b"0", &Bounds::default()));
    assert_eq!(set.encoding(), "intset");
    assert!(set.add(b"-1", &Bounds::default()));
    assert_eq!(set.encoding(), "hashtable");
    (0..most).for_each(|n| assert!(set.remove(n.to_string().as_bytes())));
    assert_eq!(through_snapshot(&set).encoding(), "hashtable");
    for text in ["a", "01", "-0", "9223372036854775808", ""] {
        let set = SetValue::of(["1", text], &Bounds::default());
        assert_eq!((set.encoding(), set.len()), ("hashtable", 2), "{text:?}");
    }
}

#[test]
fn a_snapshot_of_no_set_is_refused() {
    for set in
        [SetValue::of(["1", "300000"], &Bounds::default()), SetValue::of(["a", "b"], &Bounds::default())]
    {
        let mut bytes = BytesMut::new();
        set.put_snapshot(&mut bytes);
        let take = |bytes: &[u8]| SetValue::take_snapshot(&mut Bytes::copy_from_slice(bytes));
        assert!(take(&bytes).is_some());
        assert!((0..bytes.len()).all(|cut| take(&bytes[..cut]).is_none()));
        let mut unknown = bytes.to_vec();
        unknown[0] = 2;
        assert!(take(&unknown).is_none());
        // The last member twice.
        let mut twice = bytes.to_vec();
        twice[1] = 3;
        let member = (bytes.len() - 9) / 2;
        twice.extend_from_slice(&bytes[bytes.len() - member..]);
        assert!(take(&twice).is_none());
    }
}
