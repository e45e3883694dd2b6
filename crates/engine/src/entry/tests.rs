//! What is written and read by hand is what generated code writes and reads.

use bytes::Bytes;
use proptest::prelude::*;

use super::decode::Received;
use super::*;

impl From<Received> for Entry {
    fn from(received: Received) -> Entry {
        let batch = |of: decode::ReceivedBatch| Batch {
            calls: of.calls().map(|words| Call { args: words.to_vec() }).collect(),
            ..of.batch.clone()
        };
        Entry { batches: received.batches().map(batch).collect(), ..received.entry.clone() }
    }
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let words = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6);
    prop::collection::vec(words.prop_map(Call::new), 0..4)
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let batch = (calls(), 0u64..3, any::<bool>()).prop_map(|(calls, n, some)| Batch {
        calls,
        origin: n,
        watches: vec![Watch { key: "k".into(), version: n }; usize::from(some)],
        tracked: some,
        expire: vec!["e".into(); n as usize],
        moves: some
            .then(|| Box::new(Moves { forget: vec![SlotEpoch { slot: 1, epoch: 2 }], ..Moves::default() })),
        part: (n == 2).then(|| Box::new(Part { id: 1, bytes: "p".into(), ..Part::default() })),
        rights: (n == 1)
            .then(|| Box::new(UserState { name: "u".into(), rules: vec!["+get".into(); usize::from(some)] })),
        ..Batch::default()
    });
    prop::collection::vec(batch, 0..4)
}

fn entries() -> impl Strategy<Value = Entry> {
    let stamp = |now_ms| Stamp { now_ms, seed: 7, ..Stamp::default() };
    (batches(), prop::option::of(0u64..1000), any::<bool>()).prop_map(move |(batches, at, more)| Entry {
        stamp: at.map(stamp),
        batches,
        genesis: more.then(Genesis::default),
        check: more.then(Check::default),
        audit: more,
        version: u32::from(more),
    })
}

proptest! {
    /// Whatever has come of the bytes: other fields, fields out of order, garbage, the beginning alone.
    #[test]
    fn reads_what_generated_code_reads(
        some in prop::collection::vec(entries(), 1..3),
        end in any::<prop::sample::Index>(),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut bytes: Vec<u8> = some.iter().flat_map(Message::encode_to_vec).collect();
        if let Some((at, byte)) = damage && !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(end.index(bytes.len() + 1));
        }
        let bytes = Bytes::from(bytes);
        prop_assert_eq!(Received::decode(&bytes).ok().map(Entry::from), Entry::decode(bytes).ok());
    }

    #[test]
    fn writes_what_generated_code_writes(batches in batches(), now_ms in 0u64..1000) {
        let stamp = Stamp { now_ms, seed: 7, ..Stamp::default() };
        let entry = Entry { stamp: Some(stamp), batches, ..Entry::default() };
        let draft = Draft::from(entry.batches.clone());
        prop_assert_eq!(draft.calls(), entry.batches.iter().map(|batch| batch.calls.len()).sum::<usize>());
        prop_assert_eq!(encode(&stamp, [draft].iter()), entry.encode_to_vec());
        let each = entry.batches.iter().cloned().map(Draft::from).collect::<Vec<_>>();
        prop_assert_eq!(encode(&stamp, each.iter()), entry.encode_to_vec());
    }

    #[test]
    fn calls_become_batches_of_their_own(batches in batches(), origin in 0u64..2) {
        let calls: Vec<Call> = batches.into_iter().flat_map(|batch| batch.calls).collect();
        let apart = calls.iter().map(|call| Batch::of(vec![call.clone()]).by(origin)).collect();
        let draft = Draft::of_each(&calls, origin);
        prop_assert_eq!((draft.batches(), draft.calls()), (calls.len(), calls.len()));
        let entry = Entry { stamp: Some(Stamp::default()), batches: apart, ..Entry::default() };
        prop_assert_eq!(encode(&Stamp::default(), [draft].iter()), entry.encode_to_vec());
    }
}

#[test]
fn parts_are_the_batches_together() {
    let draft = Draft::of_each(&[Call::new(["SET", "k", "v"]), Call::new(["GET", "k"])], 0);
    let whole = encode(&Stamp::default(), [&draft].into_iter());
    let parts: Vec<Draft> = draft.in_parts(7, 10).collect();
    let entries = parts.iter().map(|part| encode(&Stamp::default(), [part].into_iter()));
    let entries: Vec<Entry> = entries.map(|bytes| Entry::decode(&bytes[..]).expect("an entry")).collect();
    assert!(entries.iter().all(|entry| entry.version == VERSION));
    let bytes = entries.iter().map(|entry| entry.batches[0].part.as_ref().expect("a part").bytes.clone());
    let head = encode(&Stamp::default(), std::iter::empty()).len();
    assert_eq!(bytes.collect::<Vec<_>>().concat(), &whole[head..]);
    let outcomes: Vec<usize> = parts.iter().map(Draft::batches).collect();
    assert_eq!(outcomes, [1, 1, 2]);
}

#[test]
fn words_are_not_copied() {
    let draft = Draft::of_each(&[Call::new(["SET"])], 0);
    let bytes = Bytes::from(encode(&Stamp::default(), [draft].iter()));
    let received = Received::decode(&bytes).expect("an entry");
    let words = received.calls().next().expect("a call");
    assert!(bytes.as_ptr_range().contains(&words[0].as_ptr()));
}
