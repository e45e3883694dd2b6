//! Sorted sets against a model: a map from members to scores, sorted anew for every question.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Set {
        member: u16,
        long: bool,
        score: f64,
    },
    Remove {
        member: u16,
    },
    RemoveRange {
        from: usize,
        count: usize,
    },
    /// Keeps a clone, which must not change any more.
    Keep,
    ThroughSnapshot,
    Rebuild,
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-3i32..300).prop_map(f64::from),
        2 => (-20i32..20).prop_map(|n| f64::from(n) / 8.0),
        2 => any::<f64>().prop_filter("a number", |score| !score.is_nan()),
        1 => prop::sample::select(vec![0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, 1e-320, 239.0, 240.0, 1.1]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let member = 0u16..60;
    prop_oneof![
        9 => (member.clone(), prop::bool::weighted(0.01), score())
            .prop_map(|(member, long, score)| Op::Set { member, long, score }),
        3 => member.prop_map(|member| Op::Remove { member }),
        1 => (0usize..60, 0usize..20).prop_map(|(from, count)| Op::RemoveRange { from, count }),
        1 => Just(Op::Keep),
        1 => Just(Op::ThroughSnapshot),
        1 => Just(Op::Rebuild),
    ]
}

type Model = BTreeMap<Vec<u8>, f64>;

fn name(member: u16, long: bool) -> Vec<u8> {
    format!("{member}{}", if long { "m".repeat(Bounds::default().zset_bytes) } else { String::new() })
        .into_bytes()
}

fn sorted(model: &Model) -> Vec<Element<'_>> {
    let mut elements: Vec<Element> =
        model.iter().map(|(member, score)| Element { member, score: *score }).collect();
    elements.sort_by(Element::order);
    elements
}

fn apply(zset: &mut ZsetValue, model: &mut Model, op: &Op) {
    match op {
        Op::Set { member, long, score } => {
            let name = name(*member, *long);
            assert_eq!(zset.set(&name, *score, &Bounds::default()), model.insert(name, *score));
        }
        Op::Remove { member } => {
            let name = name(*member, false);
            assert_eq!(zset.remove(&name), model.remove(&name));
        }
        Op::RemoveRange { from, count } => {
            let gone: Vec<Vec<u8>> =
                sorted(model).iter().skip(*from).take(*count).map(|e| e.member.to_vec()).collect();
            model.retain(|member, _| !gone.contains(member));
            zset.remove_range(*from..from + count);
        }
        Op::Keep => {}
        Op::ThroughSnapshot => *zset = through_snapshot(zset),
        Op::Rebuild => {
            *zset = ZsetValue::of(zset.iter().rev().collect(), &Bounds::default());
        }
    }
}

fn through_snapshot(zset: &ZsetValue) -> ZsetValue {
    let mut bytes = BytesMut::new();
    zset.put_snapshot(&mut bytes);
    let again = ZsetValue::take_snapshot(&mut bytes.clone().freeze()).expect("what was just written");
    let mut rewritten = BytesMut::new();
    again.put_snapshot(&mut rewritten);
    assert_eq!(bytes, rewritten);
    assert_eq!(zset.bytes(), again.bytes());
    again
}

fn compare(zset: &ZsetValue, model: &Model) {
    let expected = sorted(model);
    assert_eq!(zset.iter().collect::<Vec<_>>(), expected);
    assert_eq!(zset.iter().rev().collect::<Vec<_>>(), expected.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(zset.len(), model.len());
    assert_eq!(zset.is_empty(), model.is_empty());
    for (rank, element) in expected.iter().enumerate() {
        assert_eq!(zset.score(element.member), Some(element.score));
        assert_eq!(zset.rank(element.member), Some((rank, element.score)));
        assert_eq!(zset.at(rank), Some(*element));
        assert_eq!(zset.count_while(|other| other.order(element).is_lt()), rank);
    }
    let middle = expected.len() / 2;
    assert_eq!(zset.range(1..middle).collect::<Vec<_>>(), expected[1.min(middle)..middle]);
    assert_eq!(zset.score(b"absent"), None);
    assert_eq!(zset.rank(b"absent"), None);
    assert_eq!(zset.at(model.len()), None);
    let (mut scanned, mut cursor) = (Vec::new(), 0);
    loop {
        let (next, elements) = zset.scan(cursor, 7);
        scanned.extend(elements);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    scanned.sort_by(Element::order);
    assert_eq!(scanned, expected);
}

proptest! {
    #[test]
    fn behaves_as_the_model(ops in prop::collection::vec(op(), 1..150), big: bool) {
        let (mut zset, mut model) = (ZsetValue::new(), Model::new());
        let mut kept = Vec::new();
        if big {
            zset.become_big();
        }
        for op in &ops {
            if let Op::Keep = op {
                kept.push((zset.clone(), model.clone()));
            }
            apply(&mut zset, &mut model, op);
            compare(&zset, &model);
        }
        kept.iter().for_each(|(zset, model)| compare(zset, model));
    }

    #[test]
    fn small_scores_are_exact(score in score()) {
        let mut zset = ZsetValue::new();
        zset.set(b"m", score, &Bounds::default());
        prop_assert!(zset.is_small());
        let held = zset.score(b"m").expect("just set");
        prop_assert_eq!(held.to_bits(), if score == 0.0 { 0 } else { score.to_bits() });
    }
}

#[test]
fn outgrows_its_small_form_at_the_limits() {
    let member = |i: usize| format!("{i:0width$}", width = Bounds::default().zset_bytes);
    let mut zset = ZsetValue::new();
    assert!(
        (0..Bounds::default().zset_members)
            .all(|i| zset.set(member(i).as_bytes(), i as f64, &Bounds::default()).is_none())
    );
    assert!(zset.is_small());
    zset.set(member(3).as_bytes(), 0.5, &Bounds::default());
    assert!(zset.is_small());
    let before: Vec<Vec<u8>> = zset.iter().map(|element| element.member.to_vec()).collect();
    zset.set(b"one more", f64::INFINITY, &Bounds::default());
    assert!(!zset.is_small());
    assert!(
        zset.iter().map(|element| element.member).eq(before.iter().map(|m| &m[..]).chain([&b"one more"[..]]))
    );

    let mut zset = ZsetValue::new();
    zset.set(&vec![b'm'; Bounds::default().zset_bytes + 1], 1.0, &Bounds::default());
    assert!(!zset.is_small());
}

/// Redis writes a small sorted set's whole scores as integers.
#[test]
fn minus_zero_is_for_big_ones() {
    let mut zset = ZsetValue::new();
    zset.set(b"m", -0.0, &Bounds::default());
    assert_eq!(zset.score(b"m").map(f64::to_bits), Some(0));
    zset.become_big();
    zset.set(b"n", -0.0, &Bounds::default());
    assert_eq!(zset.score(b"n").map(f64::to_bits), Some((-0.0f64).to_bits()));
    // The same place in the order, hence no change.
    zset.set(b"m", -0.0, &Bounds::default());
    assert_eq!(zset.score(b"m").map(f64::to_bits), Some(0));
    assert_eq!(zset.rank(b"m"), Some((0, 0.0)));
    assert_eq!(zset.rank(b"n"), Some((1, 0.0)));
}

#[test]
fn a_snapshot_of_no_sorted_set_is_refused() {
    let put = |big: u8, elements: &[(&[u8], f64)]| {
        let mut bytes = BytesMut::new();
        bytes.put_u8(big);
        bytes.put_u32_le(elements.len() as u32);
        for (member, score) in elements {
            put_bytes(&mut bytes, member);
            bytes.put_f64_le(*score);
        }
        bytes.freeze()
    };
    let take = |bytes: &Bytes| ZsetValue::take_snapshot(&mut bytes.clone());
    for big in [0, 1] {
        let good = put(big, &[(b"a", 1.0), (b"b", 1.0), (b"c", 2.0)]);
        assert!(take(&good).is_some());
        assert!((0..good.len()).all(|cut| take(&good.slice(..cut)).is_none()));
        assert!(take(&put(big, &[(b"b", 1.0), (b"a", 1.0)])).is_none());
        assert!(take(&put(big, &[(b"a", 2.0), (b"b", 1.0)])).is_none());
        assert!(take(&put(big, &[(b"a", 1.0), (b"a", 2.0)])).is_none());
        assert!(take(&put(big, &[(b"a", f64::NAN)])).is_none());
    }
    assert!(take(&put(2, &[(b"a", 1.0)])).is_none());
    assert!(take(&put(0, &[(&vec![b'm'; Bounds::WIDEST.zset_bytes + 1], 1.0)])).is_none());
}
