//! A machine, and entries for it.

use bytes::Bytes;
use prost::Message as _;
use quoris_engine::entry::{Genesis, SlotRange};
use quoris_engine::machine::{Applied, BatchOutcome, Position, Replies};
use quoris_engine::{Batch, Call, Entry, Machine, Reply, SLOT_COUNT, Stamp};

/// Batches of an entry: what fifty connections send at once.
pub const BATCHES_PER_ENTRY: usize = 50;
const HASH_SEED: u64 = 1;

/// A group's machine that owns every slot, and its log's end.
pub struct Bank {
    pub machine: Machine,
    index: u64,
}

impl Bank {
    pub fn new() -> Bank {
        let mut bank = Bank { machine: Machine::new(HASH_SEED), index: 0 };
        let slots = vec![SlotRange { start: 0, end: u32::from(SLOT_COUNT) - 1 }];
        let genesis = Some(Genesis { cluster_id: "counts".to_string(), group: 1, slots, topology: None });
        bank.apply(Entry { genesis, ..Entry::default() }.encode_to_vec().into());
        bank
    }

    /// Applies an entry, as the replica that leads.
    pub fn apply(&mut self, entry: Bytes) -> Applied {
        self.index += 1;
        let at = Position { term: 1, index: self.index };
        self.machine.apply_bytes(at, entry, Replies::Wanted).expect("is an entry")
    }

    /// Applies `calls`, and makes sure that none fails.
    pub fn apply_all(&mut self, calls: &[Call]) {
        for entry in entries(calls) {
            for outcome in self.apply(entry).outcomes {
                let BatchOutcome::Ran(replies) = outcome else { panic!("nothing is watched") };
                let failed = replies.iter().find(|reply| matches!(reply, Reply::Error(_)));
                assert!(failed.is_none(), "{failed:?}");
            }
        }
    }
}

/// A call of words.
pub fn call<W: Into<Bytes>>(words: impl IntoIterator<Item = W>) -> Call {
    Call::new(words)
}

/// Each call a batch of its own, [`BATCHES_PER_ENTRY`] in an entry.
pub fn entries(calls: &[Call]) -> Vec<Bytes> {
    let encoded = |some: &[Call]| entry(some).encode_to_vec().into();
    calls.chunks(BATCHES_PER_ENTRY).map(encoded).collect()
}

/// One entry of such batches.
fn entry(calls: &[Call]) -> Entry {
    let batches = calls.iter().map(|call| Batch::of(vec![call.clone()])).collect();
    Entry { stamp: Some(stamp()), batches, ..Entry::default() }
}

/// An entry's stamp.
pub fn stamp() -> Stamp {
    Stamp { now_ms: 1_700_000_000_000, seed: 42, ..Stamp::default() }
}
