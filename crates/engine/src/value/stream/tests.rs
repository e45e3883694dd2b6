//! Streams beside a list of entries, and groups beside a map of who owns what.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// So many entries, each so far above the last id, with fields of this kind.
    Append(u8, u64, u64, u8),
    /// The entry at this part of the whole.
    Remove(u16),
    Trim(Trim),
    /// XSETID to the last entry that is there.
    SetLastId,
    Clone,
}

fn step() -> impl Strategy<Value = Step> {
    let to = prop_oneof![
        (0u64..400).prop_map(TrimTo::Length),
        (0u64..60, 0u64..3).prop_map(|(ms, seq)| TrimTo::MinId(StreamId { ms, seq })),
    ];
    let trim = (to, any::<bool>(), prop::option::of(1u64..300));
    prop_oneof![
        6 => (1u8..120, 0u64..4, 0u64..3, 0u8..6).prop_map(|(n, ms, seq, kind)| Step::Append(n, ms, seq, kind)),
        6 => any::<u16>().prop_map(Step::Remove),
        2 => trim.prop_map(|(to, approximate, limit)| Step::Trim(Trim { to, approximate, limit })),
        1 => Just(Step::SetLastId),
        1 => Just(Step::Clone),
    ]
}

fn fields(kind: u8, i: u8) -> Vec<[Bytes; 2]> {
    let pair = |name: &'static str, len: usize| [Bytes::from(name), Bytes::from(vec![i; len])];
    match kind {
        0 | 1 => vec![pair("a", 3), pair("b", 0)],
        2 => vec![pair("a", 3), pair("c", 1)],
        3 => vec![pair("b", 3), pair("a", 200)],
        4 => vec![pair("a", 300)],
        _ => vec![pair("large", 5000)],
    }
}

type Model = BTreeMap<StreamId, Vec<[Bytes; 2]>>;

fn shown<'a>(entries: impl Iterator<Item = StreamEntry<'a>>) -> Vec<(StreamId, Vec<[Bytes; 2]>)> {
    let copy = Bytes::copy_from_slice;
    entries
        .map(|entry| (entry.id, entry.fields().map(|(name, value)| [copy(name), copy(value)]).collect()))
        .collect()
}

fn snapshot(stream: &StreamValue) -> Bytes {
    let mut out = BytesMut::new();
    stream.put_snapshot(&mut out);
    out.freeze()
}

fn check(stream: &StreamValue, model: &Model) {
    let all = (StreamId::MIN, StreamId::MAX);
    let expected: Vec<_> = model.iter().map(|(id, fields)| (*id, fields.clone())).collect();
    assert_eq!(shown(stream.range(all.0, all.1)), expected);
    let mut back = shown(stream.range_back(all.1, all.0));
    back.reverse();
    assert_eq!(back, expected);
    assert_eq!(stream.len(), model.len() as u64);
    assert_eq!(stream.counters().first_id, model.keys().next().copied().unwrap_or_default());
    assert_eq!(stream.last_entry_id(), model.keys().last().copied());
    let written = snapshot(stream);
    let restored = StreamValue::take_snapshot(&mut written.clone()).expect("what was just written");
    assert_eq!(restored.counters(), stream.counters());
    assert_eq!(snapshot(&restored), written);
    assert_eq!(restored.bytes(), stream.bytes());
}

fn check_group(group: &Group, owners: &BTreeMap<StreamId, Vec<u8>>, consumers: &BTreeSet<Vec<u8>>) {
    let pending = group.pending_from(StreamId::MIN).map(|(id, pending)| (id, pending.consumer.to_vec()));
    assert_eq!(pending.collect::<BTreeMap<_, _>>(), *owners);
    for (name, consumer) in group.consumers() {
        let ids: Vec<_> = group.pending_of(consumer, StreamId::MIN).map(|(id, _)| id).collect();
        let owned = owners.iter().filter(|(_, owner)| ***owner == **name).map(|(id, _)| *id);
        assert_eq!(ids, owned.collect::<Vec<_>>());
    }
    assert_eq!(group.consumers().len(), consumers.len());
}

/// The trim as Redis words it: exact ones remove just what they say, approximate ones whole nodes, no more than that.
fn trim(stream: &mut StreamValue, model: &mut Model, trim: &Trim) {
    let wanted = match trim.to {
        TrimTo::Length(max) => (model.len() as u64).saturating_sub(max),
        TrimTo::MinId(min) => model.range(..min).count() as u64,
    };
    let nodes = stream.node_count();
    let removed = stream.trim(trim);
    assert!(
        removed <= wanted.min(trim.limit.unwrap_or(u64::MAX)) || !trim.approximate,
        "{removed} of {wanted}"
    );
    match (trim.approximate, trim.limit) {
        (false, None) => assert_eq!(removed, wanted),
        (true, None) => {
            assert!(wanted - removed < Bounds::default().node_entries);
            assert!(removed == 0 || stream.node_count() < nodes);
        }
        _ => {}
    }
    for _ in 0..removed {
        model.pop_first();
    }
}

proptest! {
    #[test]
    fn a_stream_is_a_sorted_list(steps in prop::collection::vec(step(), 1..40), from in 0u64..80, to in 0u64..80) {
        let (mut stream, mut model) = (StreamValue::default(), Model::new());
        let mut earlier: Vec<(StreamValue, Model)> = Vec::new();
        let mut added = 0;
        for step in steps {
            match step {
                Step::Append(n, ms, seq, kind) => for i in 0..n {
                    let last = stream.counters().last_id;
                    let ms = if i % 16 == 0 { ms } else { 0 };
                    let id = StreamId { ms: last.ms + ms, seq: if ms > 0 { seq } else { last.seq + 1 + seq } };
                    stream.append(id, &fields(kind, i), &Bounds::default());
                    model.insert(id, fields(kind, i));
                    added += 1;
                },
                Step::Remove(part) => {
                    let ids: Vec<StreamId> = model.keys().copied().collect();
                    let at = usize::from(part) * (ids.len() + 3) / 65536;
                    let id = ids.get(at).or(ids.last()).copied().unwrap_or(StreamId::MAX);
                    prop_assert_eq!(stream.remove(id), model.remove(&id).is_some());
                    prop_assert!(!stream.remove(id));
                }
                Step::Trim(options) => trim(&mut stream, &mut model, &options),
                Step::SetLastId => stream.set_last_id(model.keys().last().copied().unwrap_or_default()),
                Step::Clone => earlier.push((stream.clone(), model.clone())),
            }
        }
        check(&stream, &model);
        prop_assert_eq!(stream.counters().entries_added, added);
        let (start, end) = (StreamId { ms: from, seq: 1 }, StreamId { ms: to, seq: 5 });
        let expected = model.iter().filter(|(id, _)| (start..=end).contains(*id)).map(|(id, _)| *id);
        let expected: Vec<StreamId> = expected.collect();
        prop_assert_eq!(stream.range(start, end).map(|entry| entry.id).collect::<Vec<_>>(), expected.clone());
        let mut back: Vec<StreamId> = stream.range_back(end, start).map(|entry| entry.id).collect();
        back.reverse();
        prop_assert_eq!(back, expected);
        earlier.iter().for_each(|(stream, model)| check(stream, model));
    }

    #[test]
    fn an_id_is_pending_with_one_consumer(steps in prop::collection::vec((0u8..4, 0u64..12, 0u8..4), 1..120)) {
        let mut group = Group::new(StreamId::MIN, None);
        let mut owners: BTreeMap<StreamId, Vec<u8>> = BTreeMap::new();
        let mut consumers: BTreeSet<Vec<u8>> = BTreeSet::new();
        // Clones, which must not change any more.
        let mut kept = Vec::new();
        for (step, (action, ms, consumer)) in steps.into_iter().enumerate() {
            if step % 16 == 0 {
                kept.push((group.clone(), owners.clone(), consumers.clone()));
            }
            let (id, name) = (StreamId { ms, seq: 0 }, vec![consumer]);
            match action {
                0 | 1 => {
                    prop_assert_eq!(group.see_consumer(&name, ms), consumers.insert(name.clone()));
                    group.deliver(id, &name, ms, 1);
                    owners.insert(id, name);
                }
                2 => prop_assert_eq!(group.acknowledge(id), owners.remove(&id).is_some()),
                _ => {
                    let held = owners.values().filter(|owner| **owner == name).count();
                    let there = consumers.remove(&name);
                    prop_assert_eq!(group.remove_consumer(&name), there.then_some(held));
                    owners.retain(|_, owner| *owner != name);
                }
            }
            check_group(&group, &owners, &consumers);
        }
        kept.iter().for_each(|(group, owners, consumers)| check_group(group, owners, consumers));
        let mut stream = StreamValue::default();
        stream.create_group(b"g", group);
        check(&stream, &Model::new());
    }
}

/// Redis's own suite relies on the sizes of nodes.
#[test]
fn an_approximate_trim_removes_whole_nodes() {
    let mut stream = StreamValue::default();
    for i in 1..=1000 {
        stream.append(StreamId { ms: i, seq: 0 }, &fields(0, 0)[..1], &Bounds::default());
        stream.trim(&Trim { to: TrimTo::Length(555), approximate: true, limit: Some(10_000) });
    }
    assert_eq!(stream.len(), 600);
    assert_eq!(stream.node_count(), 6);
}

#[test]
fn a_group_makes_a_stream_more_than_its_entries() {
    let mut stream = StreamValue::default();
    stream.append(StreamId { ms: 1, seq: 0 }, &fields(0, 0), &Bounds::default());
    assert!(!stream.has_groups());
    stream.create_group(b"g", Group::new(StreamId::MIN, None));
    assert!(stream.has_groups());
    assert!(stream.remove_group(b"g"));
    assert!(!stream.has_groups());
}

/// XSETID may go back to the last entry that is there; ids of deleted ones behind it are given again.
#[test]
fn an_id_that_was_deleted_may_come_again() {
    let id = |ms| StreamId { ms, seq: 0 };
    for entries in [3, Bounds::default().node_entries + 1] {
        let (mut stream, mut model) = (StreamValue::default(), Model::new());
        for ms in 1..=entries {
            stream.append(id(ms), &fields(0, 1), &Bounds::default());
            model.insert(id(ms), fields(0, 1));
        }
        for ms in entries - 1..=entries {
            assert!(stream.remove(id(ms)));
        }
        stream.set_last_id(id(entries - 2));
        for ms in entries - 1..=entries {
            stream.append(id(ms), &fields(2, 2), &Bounds::default());
            model.insert(id(ms), fields(2, 2));
        }
        check(&stream, &model);
        assert!(stream.remove(id(entries)) && !stream.remove(id(entries)));
    }
}
