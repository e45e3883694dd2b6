//! What applying costs when the keys are more than the processor's caches hold: entries of fifty SETs to random ones of so
//! many keys, as a replica that follows applies them; prints the processor time of one, the median of five runs.
//!
//! ```sh
//! cargo run --release -p quoris-engine --example apply_cost [KEYS...]
//! ```

use bytes::Bytes;
use quoris_engine::entry::{Genesis, Message, SlotRange};
use quoris_engine::machine::{Position, Replies};
use quoris_engine::{Batch, Call, Entry, Machine, SLOT_COUNT, Stamp};

// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SETS_PER_ENTRY: u64 = 50;
const SETS_PER_RUN: u64 = 200_000;
const RUNS: u64 = 5;
const VALUE: [u8; 100] = [b'x'; 100];

fn main() {
    let given: Vec<u64> =
        std::env::args().skip(1).map(|word| word.parse().expect("a number of keys")).collect();
    let counts = if given.is_empty() { vec![1_000, 100_000, 1_000_000] } else { given };
    println!("     keys | ns per SET");
    for keys in counts {
        println!("{keys:9} | {:.0}", median_ns(keys));
    }
}

fn median_ns(keys: u64) -> f64 {
    let mut replica = Replica::new();
    let all: Vec<Bytes> = entries(0, keys, |n| n).collect();
    replica.apply(all);
    let mut times: Vec<f64> = (0..RUNS)
        .map(|run| {
            let scattered = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            let from = run * SETS_PER_RUN;
            let entries = entries(from, from + SETS_PER_RUN, |n| scattered(n) % keys).collect();
            let before = processor_ns();
            replica.apply(entries);
            (processor_ns() - before) / SETS_PER_RUN as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

struct Replica {
    machine: Machine,
    index: u64,
}

impl Replica {
    fn new() -> Replica {
        let slots = vec![SlotRange { start: 0, end: u32::from(SLOT_COUNT) - 1 }];
        let genesis = Some(Genesis { cluster_id: "cost".to_string(), slots, ..Genesis::default() });
        let mut replica = Replica { machine: Machine::new(1), index: 0 };
        replica.apply(vec![Entry { genesis, ..Entry::default() }.encode_to_vec().into()]);
        replica
    }

    fn apply(&mut self, entries: Vec<Bytes>) {
        for entry in entries {
            self.index += 1;
            let at = Position { term: 1, index: self.index };
            self.machine.apply_bytes(at, entry, Replies::Unwanted).expect("an entry");
        }
    }
}

/// SETs number `from` to `to`, of the keys that `key` tells.
fn entries(from: u64, to: u64, key: impl Fn(u64) -> u64) -> impl Iterator<Item = Bytes> {
    let set = move |n: u64| {
        let words = [Bytes::from("SET"), format!("key:{:012}", key(n)).into(), Bytes::from_static(&VALUE)];
        Batch::of(vec![Call::new(words)])
    };
    (from..to).step_by(SETS_PER_ENTRY as usize).map(move |first| {
        let batches = (first..to.min(first + SETS_PER_ENTRY)).map(&set).collect();
        let stamp = Some(Stamp { now_ms: 1_700_000_000_000, seed: first, ..Stamp::default() });
        Entry { stamp, batches, ..Entry::default() }.encode_to_vec().into()
    })
}

fn processor_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts it");
    text.split(' ').next().and_then(|word| word.parse().ok()).expect("a number")
}
