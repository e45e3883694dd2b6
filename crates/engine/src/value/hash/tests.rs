//! Hashes against a model: a list of fields in the order in which they came.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Put { name: u16, long: bool, expire_in: Option<u64> },
    SetDeadline { name: u16, expire_in: Option<u64> },
    Remove { name: u16 },
    Advance { ms: u64 },
    RemoveDue { limit: usize },
    ThroughSnapshot,
}

/// Few names, so that they meet; now and then many fields at once, or a long value, so that hashes get big.
fn op() -> impl Strategy<Value = Op> {
    let name = 0u16..40;
    let expire_in = prop::option::of(1u64..50);
    prop_oneof![
        8 => (name.clone(), prop::bool::weighted(0.01), expire_in.clone())
            .prop_map(|(name, long, expire_in)| Op::Put { name, long, expire_in }),
        3 => (name.clone(), expire_in).prop_map(|(name, expire_in)| Op::SetDeadline { name, expire_in }),
        4 => name.prop_map(|name| Op::Remove { name }),
        2 => (0u64..30).prop_map(|ms| Op::Advance { ms }),
        1 => (0usize..5).prop_map(|limit| Op::RemoveDue { limit }),
        1 => Just(Op::ThroughSnapshot),
    ]
}

/// Name, value, deadline; due fields are dropped whenever the clock moves.
type Model = Vec<(Vec<u8>, Vec<u8>, u64)>;

fn name_of(name: u16) -> Vec<u8> {
    format!("field:{name}").into_bytes()
}

fn apply(hash: &mut HashValue, model: &mut Model, now_ms: &mut u64, step: usize, op: &Op) {
    let deadline = |expire_in: &Option<u64>, now_ms: u64| expire_in.map_or(NEVER, |ms| now_ms + ms);
    match op {
        Op::Put { name, long, expire_in } => {
            let (name, expire_ms) = (name_of(*name), deadline(expire_in, *now_ms));
            let value = if *long {
                vec![b'v'; Bounds::default().hash_bytes + 1]
            } else {
                step.to_string().into_bytes()
            };
            let new = hash.put(&name, &value, expire_ms, *now_ms, &Bounds::default());
            match model.iter_mut().find(|(n, ..)| *n == name) {
                Some(place) => {
                    assert!(!new);
                    *place = (name, value, expire_ms);
                }
                None => {
                    assert!(new);
                    model.push((name, value, expire_ms));
                }
            }
        }
        Op::SetDeadline { name, expire_in } => {
            let (name, expire_ms) = (name_of(*name), deadline(expire_in, *now_ms));
            if let Some(place) = model.iter_mut().find(|(n, ..)| *n == name) {
                place.2 = expire_ms;
                hash.set_deadline(&name, expire_ms);
            }
        }
        Op::Remove { name } => {
            let name = name_of(*name);
            let before = model.len();
            model.retain(|(n, ..)| *n != name);
            assert_eq!(hash.remove(&name, *now_ms), model.len() < before);
        }
        Op::Advance { ms } => {
            *now_ms += ms;
            model.retain(|(.., expire_ms)| expire_ms >= now_ms);
        }
        Op::RemoveDue { limit } => assert!(hash.remove_due(*now_ms, *limit) <= *limit),
        Op::ThroughSnapshot => {
            let mut bytes = BytesMut::new();
            hash.put_snapshot(&mut bytes);
            let again = HashValue::take_snapshot(&mut bytes.clone().freeze()).expect("what was just written");
            let mut rewritten = BytesMut::new();
            again.put_snapshot(&mut rewritten);
            assert_eq!(bytes, rewritten);
            *hash = again;
        }
    }
}

fn compare(hash: &HashValue, model: &Model, now_ms: u64) {
    let shown = hash.iter(now_ms).map(|f| (f.name.to_vec(), f.value.to_vec(), f.expire_ms));
    let (mut shown, mut expected): (Model, Model) = (shown.collect(), model.clone());
    shown.sort();
    expected.sort();
    assert_eq!(shown, expected);
    assert_eq!(hash.len(now_ms), model.len());
    assert_eq!(hash.is_empty(now_ms), model.is_empty());
    for (name, value, _) in model {
        assert_eq!(hash.get(name, now_ms).map(|field| field.value), Some(&value[..]));
    }
    assert_eq!(hash.next_deadline_ms(), hash.earliest());
    if let Repr::Big(big) = &hash.repr {
        let mut again = Big::default();
        big.iter().for_each(|field| again.put(field.name, field.value, field.expire_ms));
        assert_eq!(big.bytes(), again.bytes());
    }
    let held = (0..hash.positions()).filter(|&i| hash.at(i, now_ms).is_some()).count();
    assert_eq!(held, model.len());
}

proptest! {
    #[test]
    fn behaves_as_the_model(ops in prop::collection::vec(op(), 1..200), big: bool) {
        let (mut hash, mut model, mut now_ms) = (HashValue::new(), Model::new(), 1000);
        // Clones, which must not change any more.
        let mut kept = Vec::new();
        if big {
            hash.become_big();
        }
        for (step, op) in ops.iter().enumerate() {
            if step % 16 == 0 {
                kept.push((hash.clone(), model.clone(), now_ms));
            }
            apply(&mut hash, &mut model, &mut now_ms, step, op);
            compare(&hash, &model, now_ms);
        }
        kept.iter().for_each(|(hash, model, now_ms)| compare(hash, model, *now_ms));
        while hash.remove_due(now_ms, 3) > 0 {}
        prop_assert_eq!(hash.positions(), model.len());
        compare(&hash, &model, now_ms);
    }

    /// HSCAN's promise: every field that stays is met, whatever comes and goes between two steps.
    #[test]
    fn a_scan_meets_every_field_that_stays(
        rounds in prop::collection::vec((1usize..4, prop::collection::vec(op(), 0..8)), 1..30),
    ) {
        let (mut hash, mut model, mut now_ms) = (HashValue::new(), Model::new(), 1000);
        hash.become_big();
        for name in 0..40 {
            apply(&mut hash, &mut model, &mut now_ms, 0, &Op::Put { name, long: false, expire_in: None });
        }
        let mut stayed: Vec<Vec<u8>> = model.iter().map(|(name, ..)| name.clone()).collect();
        let mut met: Vec<Vec<u8>> = Vec::new();
        let mut cursor = 0;
        for (count, ops) in rounds.iter().cycle() {
            let (next, fields) = hash.scan(cursor, *count, now_ms);
            met.extend(fields.iter().map(|field| field.name.to_vec()));
            cursor = next;
            if cursor == 0 {
                break;
            }
            for op in ops {
                apply(&mut hash, &mut model, &mut now_ms, 0, op);
                stayed.retain(|name| model.iter().any(|(n, ..)| n == name));
            }
        }
        prop_assert!(stayed.iter().all(|name| met.contains(name)));
    }
}

#[test]
fn outgrows_its_small_form_at_the_limits() {
    let mut hash = HashValue::new();
    for i in 0..Bounds::default().hash_fields {
        hash.set(i.to_string().as_bytes(), &vec![b'v'; Bounds::default().hash_bytes], 0, &Bounds::default());
    }
    assert!(hash.is_small());
    hash.set(b"0", b"again", 0, &Bounds::default());
    assert!(hash.is_small());
    hash.set(b"one more", b"", 0, &Bounds::default());
    assert!(!hash.is_small());
    assert_eq!(hash.len(0), Bounds::default().hash_fields + 1);
    assert_eq!(hash.get(b"0", 0).map(|field| field.value), Some(&b"again"[..]));
}

/// What the big form is for: a snapshot's clone stays as it was, though writes go on.
#[test]
fn a_clone_of_a_big_hash_stays_as_it_was() {
    let mut hash = HashValue::new();
    for i in 0..2000 {
        hash.put(i.to_string().as_bytes(), b"v", 100 + i, 0, &Bounds::default());
    }
    let kept = hash.clone();
    hash.remove(b"7", 0);
    hash.set(b"8", b"other", 0, &Bounds::default());
    hash.remove_due(1000, 500);
    assert_eq!(kept.len(0), 2000);
    assert!((0..2000).all(|i| {
        let field = kept.get(i.to_string().as_bytes(), 0);
        field.is_some_and(|field| field.value == b"v" && field.expire_ms == 100 + i)
    }));
    assert_eq!(kept.next_deadline_ms(), 100);
}

#[test]
fn a_snapshot_of_no_hash_is_refused() {
    let mut bytes = BytesMut::new();
    let mut hash = HashValue::new();
    hash.set(b"a", b"1", 0, &Bounds::default());
    hash.put_snapshot(&mut bytes);
    let take = |bytes: &[u8]| HashValue::take_snapshot(&mut Bytes::copy_from_slice(bytes));
    assert!(take(&bytes).is_some());
    assert!((0..bytes.len()).all(|cut| take(&bytes[..cut]).is_none()));
    let mut unknown = bytes.to_vec();
    unknown[0] = 2;
    assert!(take(&unknown).is_none());
    // The same field twice.
    let mut twice = bytes.to_vec();
    twice[1] = 2;
    twice.extend_from_slice(&bytes[5..]);
    assert!(take(&twice).is_none());
}
